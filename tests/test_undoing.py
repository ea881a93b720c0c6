"""Taking changes back: what comes back, in which order, what is refused, and that it is a change itself."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from helpers import dangling_links
from hypothesis import given
from hypothesis import strategies as st

import models as db
from vserverlib import Error, NotFound, UsageError, hashing
from vserverlib.databases import recording, storage
from vserverlib.entities import journal
from vserverlib.entities.undoing import plan, undo

Tables = dict[str, list[Any]]
GONE = "node {} was deleted since change {}"


def tables(database: Any) -> Tables:
    """Return all rows of all tables of entities, hashes included, with the types that they are stored with."""
    exact = "typeof({0}), CAST({0} AS BLOB)" if database.is_sqlite else "{0}"
    found = {}
    for model in (*db.ENTITIES, db.Member):
        names = [f'"{field.column_name}"' for field in model._meta.sorted_fields]
        columns = ", ".join(exact.format(name) for name in names)
        rows = database.execute_sql(f'SELECT {columns} FROM "{model._meta.table_name}" ORDER BY id')
        found[model._meta.table_name] = rows.fetchall()
    return found


def change_task(story: SimpleNamespace, name: str) -> None:
    story.task.name = name
    story.task.save()


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        yield conn


# What comes back


def test_an_insert_is_undone(story: SimpleNamespace, database: Any) -> None:
    before = tables(database)
    db.Task(name="mistake", collaboration=story.collaboration).save()
    done = undo(database)
    assert tables(database) == before and done.rows == 1
    assert str(done) == f"change {done.change} undid change {done.change - 1}: 1 row"


def test_an_update_is_undone(story: SimpleNamespace, database: Any) -> None:
    before = tables(database)
    story.task.name, story.task.description, story.task.parent = None, "x", None
    story.task.save()
    undo(database)
    assert tables(database) == before


def test_a_membership_is_undone(story: SimpleNamespace, database: Any) -> None:
    before = tables(database)
    story.collaboration.organizations.remove(story.oslo)
    story.collaboration.save()
    assert len(story.collaboration.organizations) == 1
    undo(database)
    assert tables(database) == before and list(story.collaboration.organizations) == [story.iknl, story.oslo]


@pytest.mark.parametrize("noun", ["iknl", "collaboration", "task"])
def test_a_delete_with_dependents_brings_back_all_of_it_with_the_same_ids(
    noun: str, story: SimpleNamespace, database: Any
) -> None:
    db.User(username="root", password="Geheim-123!", organization=story.iknl).save()
    db.Task(name="child", parent=story.task, collaboration=story.collaboration).save()
    before = tables(database)
    getattr(story, noun).delete(dependents=True)
    assert tables(database) != before
    undo(database)
    assert tables(database) == before
    assert dangling_links.broken(database) == []


def test_bulk_queries_are_undone(story: SimpleNamespace, database: Any) -> None:
    before = tables(database)
    db.Task.insert_many([{"name": str(number)} for number in range(1500)]).execute()
    db.Task.update(name="all", image=None).where(db.Task.id > 0).execute()
    assert undo(database, 2).rows == 3001
    assert tables(database) == before


def test_changes_of_another_program_are_undone_exactly(
    story: SimpleNamespace, database: Any, other: sqlite3.Connection
) -> None:
    other.execute("UPDATE task SET name = CAST(x'61ff00' AS TEXT), image = x'00ff', run_id = 0.1, database = ''")
    before = tables(database)
    other.execute("UPDATE task SET name = 'x', image = 'x', run_id = 9e999, database = NULL")
    changed = tables(database)
    other.execute("PRAGMA foreign_keys = OFF")
    other.execute("DELETE FROM task")
    undo(database)
    assert tables(database) == changed
    undo(database)
    assert tables(database) == before


def test_the_undo_of_a_password_restores_the_hash(story: SimpleNamespace, database: Any) -> None:
    user = db.User(username="root", password="Geheim-123!", organization=story.iknl)
    user.save()
    user.password = "Anders-123!"
    user.save()
    undo(database)
    assert db.User.get(1).check_password("Geheim-123!")
    user = db.User.get(1)
    user.delete()
    undo(database)
    assert db.User.get(1).check_password("Geheim-123!")


def test_a_row_that_got_another_id_gets_its_old_one(database: Any, other: sqlite3.Connection) -> None:
    db.Organization(name="x", country="NL").save()
    before = tables(database)
    other.execute("UPDATE organization SET id = 7")
    undo(database)
    assert tables(database) == before


def test_what_a_session_has_read_is_forgotten(story: SimpleNamespace, database: Any) -> None:
    tasks, results = db.Task.get(), story.task.results
    assert [task.complete for task in tasks] == [False] and len(results) == 2
    db.Result.update(finished_at="2026-03-01").where(db.Result.id > 0).execute()
    assert [task.complete for task in tasks] == [True]
    undo(database)
    assert [task.complete for task in tasks] == [False]


def test_an_id_that_came_back_is_not_given_again(database: Any) -> None:
    database.execute_sql("INSERT INTO organization (id) VALUES (7)")  # as another program may
    db.Organization.get(7).delete()
    undo(database)
    new = db.Organization(name="new")
    new.save()
    assert new.id == 8


# Which changes


def test_undo_twice_goes_back_two_changes(story: SimpleNamespace, database: Any) -> None:
    for name in ("a", "b", "c"):
        change_task(story, name)
    seen = []
    for _ in range(3):
        undo(database)
        seen.append(db.Task.get(1).name)
    assert seen == ["b", "a", "average"]


def test_an_undo_can_be_undone_and_that_too(story: SimpleNamespace, database: Any) -> None:
    change_task(story, "a")
    first = undo(database)
    second = undo(database, change=first.change)
    assert db.Task.get(1).name == "a"
    undo(database, change=second.change)
    assert db.Task.get(1).name == "average"
    undo(database, change=undo(database, change=first.change + 2).change)
    assert db.Task.get(1).name == "average"


def test_after_an_undo_was_undone_plain_undo_takes_back_the_change_again(story: SimpleNamespace, database: Any) -> None:
    change_task(story, "a")
    undo(database, change=undo(database).change)
    undo(database)
    assert db.Task.get(1).name == "average"


def test_a_change_is_undone_once(story: SimpleNamespace, database: Any) -> None:
    change_task(story, "a")
    done = undo(database)
    with pytest.raises(Error, match=f"change {done.undone[0]} is already undone, by change {done.change}"):
        undo(database, change=done.undone[0])


def test_one_change_in_the_middle_is_undone(story: SimpleNamespace, database: Any) -> None:
    change_task(story, "a")
    number = database.last_change
    story.task.image = "x"
    story.task.save()
    undo(database, change=number)
    assert (db.Task.get(1).name, db.Task.get(1).image) == ("average", "x")


def test_a_whole_session_is_undone_with_its_undos(path: Path, story: SimpleNamespace, database: Any) -> None:
    before = tables(database)
    with contextlib.closing(db.connect(path)) as later:
        db.Task(name="a").save()
        db.Task.update(name="b").where(db.Task.id > 0).execute()
        undo(later)
        db.Organization.get(2).delete(dependents=True)
        session = later.recorder.session
    with contextlib.closing(db.connect(path)) as last:
        done = undo(last, session=session)
        assert tables(last) == before
        assert len(done.undone) == 4
        undo(last, change=done.change)
        assert tables(last) != before
        undo(last, session=session)
        assert tables(last) == before
        with pytest.raises(Error, match="all changes of the session .* are already undone"):
            undo(last, session=session)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"count": 99}, Error, "99 changes cannot be undone: the journal has 7 in effect"),
        ({"count": 0}, UsageError, '"0" is not a number of changes'),
        ({"count": "x"}, UsageError, '"x" is not a number of changes'),
        ({"change": 99}, NotFound, "the journal has no change 99"),
        ({"change": 2**70}, NotFound, "the journal has no change "),
        ({"change": "\x1b[2J"}, NotFound, r"the journal has no change \\x1b\[2J"),
        ({"session": "nobody's"}, NotFound, 'no change of a session "nobody\'s"'),
        ({"count": 1, "change": 2}, UsageError, "choose one"),
    ],
)
def test_what_is_not_there_is_refused(
    asked: dict[str, Any], error: type[Error], message: str, story: SimpleNamespace, database: Any
) -> None:
    before = len(journal.log(database, limit=1000))
    with pytest.raises(error, match=message):
        undo(database, **asked)
    assert len(journal.log(database, limit=1000)) == before


def test_an_empty_journal_says_so(database: Any) -> None:
    with pytest.raises(Error, match="1 change cannot be undone: the journal has no change"):
        undo(database)


def test_bulk_work_is_refused_with_the_backup_that_takes_it_back(database: Any) -> None:
    db.Organization(name="a").save()
    with recording.bulk_change(database, "import of x", "before.db"):
        db.Organization(name="b").save()
    with pytest.raises(Error, match=r"was bulk work \(import of x\).* undo it with: vserver -d .* restore before.db"):
        undo(database)
    undo(database, change=1)
    assert [each.name for each in db.Organization.get()] == ["b"]


def test_a_read_only_session_takes_nothing_back(path: Path, story: SimpleNamespace) -> None:
    with contextlib.closing(db.connect(path, read_only=True)) as database, pytest.raises(Error, match="read-only"):
        undo(database)


# What has changed since


def test_what_has_changed_since_is_refused_with_both_values(story: SimpleNamespace, database: Any) -> None:
    change_task(story, "a\x1b[2J")
    number = database.last_change
    change_task(story, "b")
    before = tables(database), len(journal.log(database, limit=99))
    output = rf'task 1 was changed since change {number}: its name was "a\\x1b\[2J" then, and is "b" now: use --force'
    with pytest.raises(Error, match=output):
        undo(database, change=number)
    assert (tables(database), len(journal.log(database, limit=99))) == before
    undo(database, change=number, force=True)
    assert db.Task.get(1).name == "average"


def test_a_password_that_has_changed_since_is_refused_without_a_hash(story: SimpleNamespace, database: Any) -> None:
    user = db.User(username="root", password="one")
    user.save()
    user.password = "two"
    user.save()
    with pytest.raises(Error, match="user 1 was changed since change 8: its password is different now") as raised:
        undo(database, change=8)
    assert "$2b$" not in str(raised.value)


def test_a_new_row_that_has_got_more_since_is_refused(story: SimpleNamespace, database: Any) -> None:
    task = db.Task(name="a")
    task.save()
    number = database.last_change
    task.description = "worth keeping"
    task.save()
    with pytest.raises(Error, match='its description was empty then, and is "worth keeping" now'):
        undo(database, change=number)
    undo(database, change=number, force=True)
    assert db.Task.get(task.id) is None


def test_a_row_that_is_gone_is_refused_and_left_out_by_force(story: SimpleNamespace, database: Any) -> None:
    with database.atomic():
        story.node.name, story.task.name = "a", "a"
        story.node.save()
        story.task.save()
    number = database.last_change
    story.node.delete()
    with pytest.raises(Error, match=f"node 1 was deleted since change {number}"):
        undo(database, change=number)
    done = undo(database, change=number, force=True)
    assert (done.rows, list(done.left_out), db.Task.get(1).name) == (1, [GONE.format(1, number)], "average")
    assert str(done).endswith(": 1 row, 1 left out")
    assert done.summary().splitlines()[1:] == [f"left out: {GONE.format(1, number)}"]


def test_force_names_the_first_rows_that_it_leaves_out_and_counts_the_others(database: Any) -> None:
    with database.atomic():
        for number in range(30):
            db.Node(name=str(number)).save()
    number = database.last_change
    db.Node.delete_by_id(30)
    with database.atomic():
        for id in range(1, 24):
            db.Node.delete_by_id(id)
    done = undo(database, change=number, force=True)
    assert (done.rows, done.left_out.total, db.Node.get()) == (6, 24, [])
    output = [f"left out: {GONE.format(id, number)}" for id in (30, *range(23, 4, -1))]
    assert list(done.left_out.summary()) == [*output, "and 4 more"]


def test_an_undo_that_would_do_nothing_is_refused_and_not_on_record(story: SimpleNamespace, database: Any) -> None:
    db.Node.update(name="a").where(db.Node.id > 0).execute()
    number = database.last_change
    story.node.delete()
    changes = database.last_change
    with pytest.raises(Error, match=f"^nothing is left to undo: {GONE.format(1, number)}$"):
        undo(database, change=number, force=True)
    assert journal.log(database)[0].change == changes and not database.in_transaction()


def test_a_row_that_is_there_again_is_refused(story: SimpleNamespace, database: Any) -> None:
    before = tables(database)
    story.node.delete()
    number = database.last_change
    db.Node(id=1, name="another").save()
    with pytest.raises(Error, match=f"node 1, which change {number} deleted, exists again"):
        undo(database, change=number)
    undo(database, change=number, force=True)
    assert tables(database) == before


def test_what_others_are_linked_to_since_stays(story: SimpleNamespace, database: Any) -> None:
    organization = db.Organization(name="new")
    organization.save()
    number = database.last_change
    db.User(username="root", organization=organization).save()
    for force in (False, True):
        with pytest.raises(Error, match="user 1 is linked to organization 3, which would not exist"):
            undo(database, change=number, force=force)
    assert db.Organization.get(3) is not None


def test_what_was_linked_to_something_gone_does_not_come_back_alone(story: SimpleNamespace, database: Any) -> None:
    story.node.delete()
    number = database.last_change
    story.collaboration.delete(dependents=True)
    with pytest.raises(Error, match="node 1 is linked to collaboration 1, which would not exist"):
        undo(database, change=number)


def test_a_name_that_is_taken_meanwhile_is_refused_in_one_line(story: SimpleNamespace, database: Any) -> None:
    user = db.User(username="root")
    user.save()
    user.delete()
    number = database.last_change
    db.User(username="root").save()
    taken = 'the username "root" is now taken by user 2 "root": change that username first'
    for force in (False, True):
        with pytest.raises(Error, match=f"^change {number} cannot be undone, {taken}$"):
            undo(database, change=number, force=force)
    assert not database.in_transaction()
    later = db.User.get(2)
    later.username = "admin"
    later.save()
    assert undo(database, change=number).rows == 1


def test_a_membership_that_is_there_again_is_named(story: SimpleNamespace, database: Any) -> None:
    story.collaboration.organizations.remove(story.oslo)
    story.collaboration.save()
    number = database.last_change
    story.oslo.collaborations.append(story.collaboration)
    story.oslo.save()
    expected = "membership 3 of organization 2 in collaboration 1 exists now: delete it first"
    with pytest.raises(Error, match=f"^change {number} cannot be undone, {expected}$"):
        undo(database, change=number)


def test_names_that_changed_places_come_back(database: Any) -> None:
    with database.atomic():
        for name in ("a", "b"):
            db.User(username=name).save()
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        db.User.update(username=new).where(db.User.username == old).execute()
    assert undo(database, 3).rows == 3
    assert [user.username for user in db.User.get()] == ["a", "b"]


def test_an_undo_inside_of_a_transaction_can_be_rolled_back_with_it(story: SimpleNamespace, database: Any) -> None:
    before = tables(database)
    with contextlib.suppress(ZeroDivisionError), database.atomic():
        undo(database)
        raise ZeroDivisionError
    assert tables(database) == before and plan(database) == [7]


# Anything at all

TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "update", "delete", "member", "bulk", "parent", "undo", "rollback", "transaction"]),
        st.integers(0, 9),
        st.integers(0, 9),
        TEXTS,
    ),
    max_size=25,
)
MAKERS = (
    lambda name: db.Organization(name=name),
    lambda name: db.User(firstname=name, organization=next(iter(db.Organization.get()), None)),
    lambda name: db.Collaboration(encrypted=False, organizations=list(db.Organization.get()[:2])),
    lambda name: db.Task(name=name, collaboration=next(iter(db.Collaboration.get()), None), run_id=1),
    lambda name: db.Result(input=name, task=next(iter(db.Task.get()), None)),
)


def step(database: Any, kind: str, first: int, second: int, text: str | None) -> None:
    """Do something with the entities."""
    model = db.ENTITIES[first % 6]
    entities = list(model.get())
    entity = entities[second % len(entities)] if entities else None
    if kind == "insert":
        MAKERS[first % len(MAKERS)](text).save()
    elif kind == "undo":
        undo(database)
    elif kind == "bulk":
        db.Task.update(image=text).where(db.Task.id > second).execute()
    elif kind in ("rollback", "transaction"):
        with database.atomic():
            db.Organization(name=text).save()
            step(database, "delete", first, second, text)
            if kind == "rollback":
                raise ZeroDivisionError
    elif kind == "parent" and db.Task.get():
        db.Task.get()[0].parent = db.Task.get()[0]
        db.Task.update(parent=second).where(db.Task.id == first).execute()
    elif entity is not None and kind == "delete":
        entity.delete(dependents=True)
    elif entity is not None and kind == "update":
        setattr(entity, {"result": "log", "user": "roles"}.get(model.noun, "name"), text)
        entity.save()
    elif kind == "member" and db.Collaboration.get():
        collaboration = db.Collaboration.get()[0]
        collaboration.organizations = list(db.Organization.get()[: second % 3])
        collaboration.save()


@contextlib.contextmanager
def another(kind: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """One more database, new and empty, and open."""
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            target = str(storage.create(Path(folder, "x.db"), hashing.new_salt()))
        else:
            target = stack.enter_context(request.getfixturevalue("server").database())
        yield stack.enter_context(contextlib.closing(db.connect(target)))


@pytest.mark.hypothesis
def test_undo_of_all_that_was_done_leads_to_where_it_began(kind: str, request: pytest.FixtureRequest) -> None:
    @given(steps=STEPS)
    def goes_back(steps: list[Any]) -> None:
        with another(kind, request) as database:
            start = [tables(database)]
            for one in steps:
                with contextlib.suppress(Error, ZeroDivisionError, peewee.PeeweeException):
                    step(database, *one)
            end = tables(database)
            if database.last_change is None:
                return
            done = undo(database, session=database.recorder.session)
            assert [tables(database)] == start
            undo(database, change=done.change)
            assert tables(database) == end

    goes_back()
