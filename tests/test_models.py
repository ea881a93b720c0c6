"""The entities: what they hold, how they are found, saved, linked and deleted."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from helpers import dangling_links
from helpers.other_program import raw
from playhouse.schema_diff import diff_models

import models as db
from vserverlib import Error, NotFound, NotObeyed, UsageError
from vserverlib.entities import journal
from vserverlib.entities.fields import now
from vserverlib.entities.progress import FAILED, STATES, STATUSES

PEM = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqsample\n-----END PUBLIC KEY-----\n"


@pytest.mark.sqlite("reads SQLite's own tables; the next test does so for PostgreSQL")
def test_models_and_migrations_make_the_same_tables(database: Any) -> None:
    # SQLite's table_info, which diff_models reads, leaves out the columns that it works out: table_xinfo has them.
    dropped = [f"drop column {table}.{name}" for table, names in OF_SERVER.items() for name in sorted(names)]
    found = str(diff_models(database, [*db.ENTITIES, db.Member])).splitlines()
    assert sorted(found) == ["add column result.state", *sorted(dropped), "drop index task.task_init_user_id"]
    for model in (*db.ENTITIES, db.Member):
        rows = database.execute_sql(f'PRAGMA table_xinfo("{model._meta.table_name}")')
        stored = {row[1]: row[2].removesuffix(" GENERATED ALWAYS") for row in rows}
        context = database.get_sql_context()
        found = {f.column_name: f.ddl_datatype(context).sql for f in model._meta.sorted_fields}
        assert stored == found | OF_SERVER.get(model._meta.table_name, {})


# See server_columns.py.
OF_SERVER = {"task": {"init_user_id": "BIGINT", "databases": "TEXT"}, "result": {"logged_at": "TEXT"}}
COLUMNS = """
SELECT table_name, column_name, data_type, collation_name, is_nullable, is_identity
FROM information_schema.columns WHERE table_schema = current_schema() AND table_name IN ({})
"""


def test_models_and_migrations_make_the_same_tables_in_postgresql(url: str) -> None:
    entities = [*db.ENTITIES, db.Member]
    asked = COLUMNS.format(", ".join(f"'{model._meta.table_name}'" for model in entities))
    with contextlib.closing(db.connect(url)) as database:
        migrated = {row for row in database.execute_sql(asked) if row[1] not in OF_SERVER.get(row[0], {})}
        database.execute_sql("CREATE SCHEMA anew")
        database.execute_sql("SET search_path = anew")
        database.create_tables(entities)
        assert set(database.execute_sql(asked)) == migrated


def test_the_journal_reads_what_its_migration_made(database: Any) -> None:
    for table in (journal.CHANGE, journal.RECORD, journal.UNDOING):
        stored = {column.name for column in database.get_columns(table.__name__)}
        assert set(table._columns) == stored - {"open", "counted"}


@pytest.mark.sqlite("PostgreSQL's triggers record whole rows, whatever columns there are")
def test_every_column_that_can_be_written_is_journalled(database: Any) -> None:
    for model in (*db.ENTITIES, db.Member):
        table = model._meta.table_name
        sql = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
        triggers = dict(database.execute_sql(sql, [table]).fetchall())
        assert set(triggers) == {f"journal_{table}_{event}" for event in ("insert", "update", "delete")}
        for field in model.stored_fields()[1:]:
            for name, text in triggers.items():
                assert f"'{field.column_name}'" in text or f'"{field.column_name}":[' in text, name


def test_the_database_works_out_the_same_state_as_the_models(story: SimpleNamespace) -> None:
    times = (None, now())
    for status in (None, "odd", *STATUSES):
        for started, finished in itertools.product(times, times):
            values = {"task": 1, "organization": 1, "status": status, "started_at": started, "finished_at": finished}
            db.Result.insert(values).execute()
    stored = dict(db.Result.select(db.Result.id, db.Result.state).tuples())
    assert len(stored) == 2 + 4 * (len(STATUSES) + 2) and set(stored.values()) == set(STATES)
    assert {result.id: result.state for result in db.Result.get()} == stored
    assert len(db.Result.get().where(db.Result.state == "failed")) == 4 * len(FAILED)
    with pytest.raises(UsageError, match="state of a result cannot be set: it is computed"):
        story.results[0].state = "failed"


def test_every_link_is_a_foreign_key(database: Any) -> None:
    for model in (*db.ENTITIES, db.Member):
        keys = {key.column for key in database.get_foreign_keys(model._meta.table_name)}
        assert keys == {link.column_name for link in model._meta.refs}


# Finding


def test_get_without_an_id_gives_all_in_the_order_of_their_ids(story: SimpleNamespace) -> None:
    assert [each.id for each in db.Organization.get()] == [1, 2]


@pytest.mark.parametrize("id", [1, "1"])
def test_get_takes_an_id_or_its_digits(story: SimpleNamespace, id: Any) -> None:
    assert db.Organization.get(id) == story.iknl


@pytest.mark.parametrize("id", [99, -1, 0, 2**63, 2**70])
def test_get_gives_none_for_an_id_that_does_not_exist(story: SimpleNamespace, id: int) -> None:
    assert db.Organization.get(id) is None


@pytest.mark.parametrize("id", ["IKNL", None, True, 1.0, "", "٣", b"1", [1], "--5"])
def test_get_refuses_an_invalid_id(story: SimpleNamespace, id: Any) -> None:
    with pytest.raises(Error, match="takes an id, a whole number, not"):
        db.Organization.get(id)


def test_get_passes_conditions_on_to_peewee(story: SimpleNamespace) -> None:
    assert db.Organization.get(db.Organization.name == "Oslo") == story.oslo
    with pytest.raises(peewee.DoesNotExist):
        db.Organization.get(db.Organization.name == "Bergen")


@pytest.mark.parametrize("model", [db.Organization, db.Collaboration, db.Node, db.Task])
def test_get_by_name_gives_the_oldest_or_none(story: SimpleNamespace, model: Any) -> None:
    first = model.get(1)
    if model is not db.Collaboration:
        model(name=first.name).save()
    assert model.get_by_name(first.name).id == model.find_by_name(first.name).id == 1
    assert model.get_by_name("no such name") is None


def test_users_are_found_by_name_and_email(story: SimpleNamespace) -> None:
    db.User(username="root", email="root@iknl.nl", organization=story.iknl).save()
    assert db.User.getByUsername("root") == db.User.get_by_username("root") == db.User.get_by_email("root@iknl.nl")
    assert db.User.get_by_email("nobody") is None
    assert db.User.username_exists("root") and not db.User.username_exists("admin")


def test_an_unknown_user_name_suggests_a_near_one(story: SimpleNamespace) -> None:
    db.User(username="alice").save()
    with pytest.raises(NotFound, match='^no user "alicia"; did you mean "alice"\\?$'):
        db.User.getByUsername("alicia")


def test_exists_asks_for_a_value_in_a_field(story: SimpleNamespace) -> None:
    assert db.Organization.exists("name", "IKNL") and not db.Organization.exists("name", "Bergen")
    assert db.Task.exists("collaboration", story.collaboration) and db.Task.exists("parent", None)
    assert db.Collaboration.name_exists("ROTTERDAM")
    with pytest.raises(UsageError, match='no field "nam"; did you mean "name"'):
        db.Organization.exists("nam", "IKNL")
    with pytest.raises(UsageError, match="is a secret"):
        db.User.exists("password", "x")


def test_to_insert_what_is_there_is_refused_and_leaves_it_as_it_was(story: SimpleNamespace) -> None:
    with pytest.raises(Error, match='organization 1 "IKNL" was refused'):
        story.iknl.save(force_insert=True)
    with pytest.raises(Error, match="was refused"):
        db.Organization.bulk_create([db.Organization.get(2)])
    story.iknl.country = "NL"
    story.iknl.save()
    rows = [(each.id, each.name, each.country) for each in db.Organization.get()]
    assert rows == [(1, "IKNL", "NL"), (2, "Oslo", "Norway")]


# Fields


def test_an_unknown_field_is_an_error_that_names_the_one_meant(database: Any) -> None:
    with pytest.raises(UsageError, match='Organization has no field "adress1"; did you mean "address1"'):
        db.Organization(adress1="x")
    organization = db.Organization(name="IKNL")
    with pytest.raises(UsageError, match='no field "naam"; did you mean "name"'):
        organization.naam = "x"
    with pytest.raises(UsageError, match="cannot be (set|assigned)"):
        organization.save = 1


@pytest.mark.sqlite("it is refused before anything is asked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: db.Collaboration(encrypted="maybe"), 'Collaboration.encrypted takes True or False, not "maybe"'),
        (lambda: db.Collaboration(encrypted="false"), "without quotes"),
        (lambda: db.Collaboration(encrypted=2), "takes True or False, not 2"),
        (lambda: db.Task(run_id="x"), 'Task.run_id takes a whole number, not "x"'),
        (lambda: db.Task(run_id=1.5), "takes a whole number, not 1.5"),
        (lambda: db.Task(run_id=True), "takes a whole number, not True"),
        (lambda: db.Task(run_id=2**63), "more than 64 bits"),
        (lambda: db.Result(finished_at="yesterday"), 'Result.finished_at takes a time, not "yesterday"'),
        (lambda: db.Result(finished_at=1700000000), "takes a time"),
        (lambda: db.Result(finished_at="2026-02-30"), "takes a time"),
        (lambda: db.Organization(zipcode=5612), 'takes text, not 5612: write "5612"'),
        (lambda: db.Organization(name="a\0b"), "NUL"),
        (lambda: db.Organization(name="\udc80"), "surrogate"),
        (lambda: db.Organization(id="one"), 'Organization.id takes a whole number, not "one"'),
        (lambda: db.Node(organization="IKNL"), 'takes an Organization, not "IKNL": Organization.get_by_name("IKNL")'),
        (lambda: db.Node(organization=db.Collaboration()), "takes an Organization, not <Collaboration"),
        (lambda: db.Organization("IKNL"), "takes fields by name"),
        (lambda: db.Collaboration(organizations="IKNL"), r"takes a list, not \"IKNL\": put it in \[ \]"),
        (lambda: db.Collaboration(organizations=[1]), "takes organizations, not 1"),
        (lambda: setattr(db.Organization(), "users", []), r"set \.organization of each user"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_when_it_is_given(database: Any, make: Any, message: str) -> None:
    with pytest.raises(Error) as raised:
        make()
    assert message.replace("\\", "") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", ["<b>[red]", "a\nb\x1b[31m", "日本 Île", "", "x" * 100_000, "' OR 1=1 --"])
def test_any_other_text_is_kept_as_it_is(database: Any, value: str) -> None:
    db.Organization(name=value).save()
    assert db.Organization.get(1).name == value


def test_times_are_kept_in_utc_and_read_back_with_their_zone(story: SimpleNamespace) -> None:
    result = story.results[0]
    result.started_at = "2026-03-01T10:00:00+02:00"
    result.finished_at = datetime.datetime(2026, 3, 1, 9, 30)
    result.save()
    again = db.Result.get(result.id)
    assert again.started_at == datetime.datetime(2026, 3, 1, 8, 0, tzinfo=datetime.UTC)
    assert again.finished_at == datetime.datetime(2026, 3, 1, 9, 30, tzinfo=datetime.UTC)
    database = story.task._meta.database
    stored = database.execute_sql(
        database.with_parameter_marks("SELECT started_at FROM result WHERE id = ?"), [result.id]
    )
    assert stored.fetchone() == ("2026-03-01 08:00:00.000000+00:00",)


def test_a_date_is_its_midnight(story: SimpleNamespace) -> None:
    story.node.last_seen = datetime.date(2026, 3, 1)
    assert story.node.last_seen == datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def test_a_public_key_reads_back_as_pem_however_it_was_given(database: Any) -> None:
    import base64

    for given in (PEM, PEM.encode(), base64.b64encode(PEM.encode()).decode()):
        organization = db.Organization(public_key=given)
        organization.save()
        assert db.Organization.get(organization.id).public_key == PEM
    odd = db.Organization(public_key="no key at all")
    odd.save()
    assert db.Organization.get(odd.id).public_key == "no key at all"


def test_booleans_read_back_as_booleans(story: SimpleNamespace) -> None:
    assert db.Collaboration.get(1).encrypted is False
    db.Collaboration(name="default").save()
    assert db.Collaboration.get_by_name("default").encrypted is True


# Saving


def test_a_task_gets_its_time_and_run_id_when_it_is_saved(story: SimpleNamespace) -> None:
    before = now()
    task = db.Task(name="later", collaboration=story.collaboration)
    assert task.created_at is None and task.run_id is None
    task.save()
    assert before <= db.Task.get(task.id).created_at <= now()
    assert task.run_id == story.task.run_id + 1


def test_a_subtask_gets_the_run_id_of_its_parent(story: SimpleNamespace) -> None:
    child = db.Task(name="child", parent=story.task)
    child.save()
    assert child.run_id == story.task.run_id
    assert story.task.children == [child] and child.parent == story.task


def test_a_run_id_is_never_given_twice_and_stays_above_those_written_by_hand(story: SimpleNamespace) -> None:
    drawn = [db.Task.next_run_id() for _ in range(3)]
    db.Task(name="by hand", run_id=1000).save()
    drawn.append(db.Task.next_run_id())
    assert drawn == [2, 3, 4, 1001]


def test_a_run_id_drawn_in_a_transaction_that_is_rolled_back_returns(story: SimpleNamespace, database: Any) -> None:
    with pytest.raises(ZeroDivisionError), database.atomic():
        first = db.Task.next_run_id()
        raise ZeroDivisionError
    assert db.Task.next_run_id() == first


def test_run_ids_drawn_by_two_processes_are_all_different(story: SimpleNamespace, path: Path) -> None:
    code = "import models\nmodels.connect()\nprint(*[models.Task.next_run_id() for _ in range(150)])"
    root = str(Path(db.__file__).parent)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=path.parent, env={"PYTHONPATH": root}, text=True, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    drawn = [int(word) for process in started for word in process.communicate()[0].split()]
    assert len(drawn) == len(set(drawn)) == 300


def test_a_result_gets_the_time_of_saving_and_a_status_that_follows_its_times(story: SimpleNamespace) -> None:
    result = story.results[0]
    assert result.assigned_at is not None and result.status == "pending" and not result.complete
    result.started_at = now()
    result.save()
    assert result.status == "active"
    result.finished_at = now()
    result.save()
    assert db.Result.get(result.id).status == "completed" and result.complete


@pytest.mark.parametrize("text", ["failed", "start failed", "non-existing Docker image", "crashed", "killed by user"])
def test_a_failure_stays_one_and_has_finished(story: SimpleNamespace, text: str) -> None:
    result = story.results[0]
    result.status = text
    result.save()
    assert db.Result.get(result.id).status == text
    assert result.complete and story.task.status == "failed" and story.task.progress == (1, 2)


def test_a_status_that_contradicts_the_times_is_reported_and_not_kept(story: SimpleNamespace) -> None:
    story.results[0].status = "completed"
    with pytest.warns(NotObeyed, match='"completed" was given, but it follows the times, which say "pending"'):
        story.results[0].save()
    assert story.results[0].status == "pending"


def test_a_status_that_is_refused_leaves_a_failure_as_it_was(story: SimpleNamespace) -> None:
    result = story.results[0]
    result.status, result.started_at, result.finished_at = "crashed", now(), now()
    result.save()
    result.status = "pending"
    with pytest.warns(NotObeyed, match='"pending" was given, but the times do not say so: it stays "crashed"'):
        result.save()
    assert db.Result.get(result.id).status == "crashed"


def test_a_save_of_another_field_leaves_the_status_of_another_program(story: SimpleNamespace) -> None:
    result = story.results[0]
    raw(db.database, "UPDATE result SET status = 'initializing', started_at = assigned_at")
    result = db.Result.get(result.id)
    result.log = "started"
    result.save()
    assert db.Result.get(result.id).status == "initializing"


def test_only_changed_fields_are_written(story: SimpleNamespace) -> None:
    mine, theirs = db.Organization.get(1), db.Organization.get(1)
    theirs.country = "Norway"
    theirs.save()
    mine.domain = "iknl.nl"
    mine.save()
    assert (db.Organization.get(1).country, db.Organization.get(1).domain) == ("Norway", "iknl.nl")


def test_saving_what_was_not_changed_writes_nothing(story: SimpleNamespace, count_queries: list[str]) -> None:
    db.Organization.get(1).save()
    assert [sql for sql in count_queries if not sql.startswith("SELECT")] == []


def test_a_link_to_what_was_never_saved_says_which_to_save_first(database: Any) -> None:
    node = db.Node(name="node", organization=db.Organization(name="IKNL"))
    with pytest.raises(Error, match=r'^organization "IKNL" \(not saved\), the organization of node "node" .* save'):
        node.save()
    collaboration = db.Collaboration(name="c", organizations=[db.Organization(name="IKNL")])
    with pytest.raises(Error, match=r'organization "IKNL" \(not saved\)'):
        collaboration.save()
    assert len(db.Collaboration.get()) == 0 and collaboration.id is None


def test_a_link_takes_over_the_id_that_the_entity_got_meanwhile(database: Any) -> None:
    organization = db.Organization(name="IKNL")
    user = db.User(username="root", organization=organization)
    organization.save()
    user.save()
    assert db.User.get(1).organization == organization and user.organization_id == 1


def test_a_link_to_what_was_deleted_names_it(story: SimpleNamespace) -> None:
    gone = db.Organization(name="gone")
    gone.save()
    gone.delete()
    with pytest.raises(Error, match=r"^organization 3, the organization of user \"x\" .* does not exist"):
        db.User(username="x", organization=gone).save()
    with pytest.raises(Error, match="organization 77"):
        db.User(username="x", organization=77).save()
    assert len(db.User.get()) == 0


def test_a_name_that_is_taken_is_refused_and_the_object_is_as_before(story: SimpleNamespace) -> None:
    collaboration = db.Collaboration(name="ROTTERDAM", organizations=[story.iknl])
    with pytest.raises(Error, match='^the name "ROTTERDAM" is taken by collaboration 1 "ROTTERDAM": choose another$'):
        collaboration.save()
    assert collaboration.id is None and collaboration.organizations == [story.iknl]
    collaboration.name = "KYOTO"
    collaboration.save()
    assert db.Collaboration.get(collaboration.id).organizations == [story.iknl]


def test_an_id_that_was_given_by_hand_is_never_given_again(database: Any) -> None:
    db.Organization(id=7, name="x").save()
    db.Organization.get(7).delete()
    new = db.Organization(name="new")
    new.save()
    assert new.id == 8


def test_a_change_that_fails_can_be_corrected_and_saved(story: SimpleNamespace) -> None:
    db.Collaboration(name="KYOTO").save()
    story.collaboration.name = "KYOTO"
    with pytest.raises(Error, match="is taken"):
        story.collaboration.save()
    assert db.Collaboration.get(1).name == "ROTTERDAM"
    story.collaboration.name = "OSAKA"
    story.collaboration.save()
    assert db.Collaboration.get(1).name == "OSAKA"


def test_a_rollback_around_a_save_puts_the_object_back(story: SimpleNamespace, database: Any) -> None:
    organization = db.Organization(name="new")
    with pytest.raises(ZeroDivisionError), database.atomic():
        organization.save()
        raise ZeroDivisionError
    assert organization.id is None
    organization.save()
    assert db.Organization.get(organization.id).name == "new"


def test_a_savepoint_puts_back_only_what_was_saved_in_it(story: SimpleNamespace, database: Any) -> None:
    kept, lost = db.Organization(name="kept"), db.Organization(name="lost")
    with database.atomic():
        kept.save()
        with pytest.raises(ZeroDivisionError), database.atomic():
            lost.save()
            raise ZeroDivisionError
    assert kept.id is not None and lost.id is None and not db.Organization.exists("name", "lost")


def test_saving_a_row_that_was_deleted_meanwhile_is_an_error(story: SimpleNamespace) -> None:
    other = db.Node.get(story.node.id)
    other.delete()
    story.node.name = "renamed"
    with pytest.raises(Error, match='node 1 "renamed" was deleted meanwhile: nothing was saved'):
        story.node.save()
    assert story.node.is_dirty()


def test_an_id_is_never_given_twice(database: Any) -> None:
    first = db.Organization(name="first")
    first.save()
    first.delete()
    second = db.Organization(name="second")
    second.save()
    assert second.id == 2


def test_an_id_stays_what_it_is(story: SimpleNamespace) -> None:
    with pytest.raises(Error, match="keeps its id"):
        story.iknl.id = 7


def test_bulk_queries_check_values_and_spare_the_whole_table(story: SimpleNamespace) -> None:
    with pytest.raises(Error, match="this would change every task"):
        db.Task.update(name="x").execute()
    with pytest.raises(Error, match="takes a time"):
        db.Result.update(finished_at="never").where(db.Result.id == 1).execute()
    assert db.Task.update(name="x").where(db.Task.id == 1).execute() == 1
    with pytest.raises(Error, match=r"delete\(\) belongs to one Task"):
        db.Task.delete()
    for wipe in (db.Task.truncate_table, db.Task.drop_table):
        with pytest.raises(Error, match="this would delete every task"):
            wipe()
    assert len(db.Task.get()) == 1


def test_the_other_ways_of_peewee_to_make_rows_work(story: SimpleNamespace) -> None:
    made = db.User.create(username="made", password="Geheim-123!")
    again, is_new = db.User.get_or_create(username="made")
    assert again == made and not is_new and db.User.get_or_create(username="other")[1]
    db.User.bulk_create([db.User(username=f"bulk {n}", password="Geheim-123!") for n in range(3)])
    assert len(db.User.get()) == 5 and db.User.get_by_username("bulk 2").check_password("Geheim-123!")


# Relations


def test_relations_read_as_the_guide_reads_them(story: SimpleNamespace) -> None:
    iknl, collaboration = db.Organization.get(1), db.Collaboration.get(1)
    assert iknl.collaborations[0] == collaboration and iknl.nodes == [story.node]
    assert iknl.created_tasks == [story.task] and iknl.results == [story.results[0]] and iknl.users == []
    assert collaboration.organizations == [story.iknl, story.oslo]
    assert collaboration.tasks == [story.task] and collaboration.nodes == [story.node]
    assert story.task.results == story.results and story.results[0].node == story.node
    assert story.results[1].node is None
    assert collaboration.get_organization_ids() == [1, 2] and collaboration.get_task_ids() == [1]
    assert collaboration.get_nodes_from_organizations([1, 2]) == [story.node]
    assert collaboration.get_node_from_organization(story.iknl) == story.node
    assert collaboration.get_node_from_organization(story.oslo) is None
    assert story.task.results_for_node(story.node) == [story.results[0]]


def test_an_entity_that_was_never_saved_has_nothing(story: SimpleNamespace) -> None:
    db.User(username="orphan").save()
    assert db.Organization().users == [] and db.Task().results == [] and db.Task().status == "empty"


def test_memberships_are_written_by_save_and_not_before(story: SimpleNamespace) -> None:
    third = db.Organization(name="third")
    third.save()
    story.collaboration.organizations.append(third)
    story.collaboration.organizations.remove(story.oslo)
    assert story.collaboration.organizations == [story.iknl, third]
    assert db.Collaboration.get(1).organizations == [story.iknl, story.oslo]
    story.collaboration.save()
    assert db.Collaboration.get(1).organizations == [story.iknl, third]
    assert third.collaborations == [story.collaboration] and story.oslo.collaborations == []


def test_memberships_can_be_changed_from_the_side_of_the_organization(story: SimpleNamespace) -> None:
    kyoto = db.Collaboration(name="KYOTO")
    kyoto.save()
    story.oslo.collaborations.extend([kyoto])
    story.oslo.collaborations.remove(story.collaboration)
    story.oslo.save()
    assert kyoto.organizations == [story.oslo] and story.collaboration.organizations == [story.iknl]
    new = db.Organization(name="new", collaborations=[kyoto])
    new.save()
    assert kyoto.organizations == [story.oslo, new]


def test_a_save_of_memberships_leaves_alone_what_others_changed(story: SimpleNamespace) -> None:
    third = db.Organization(name="third")
    third.save()
    mine, theirs = db.Collaboration.get(1), db.Collaboration.get(1)
    assert len(mine.organizations) == len(theirs.organizations) == 2
    theirs.organizations.append(third)
    theirs.save()
    mine.organizations.remove(story.oslo)
    mine.save()
    assert mine.organizations == [story.iknl, third]


def test_assigning_memberships_replaces_them(story: SimpleNamespace) -> None:
    story.collaboration.organizations = [story.oslo]
    story.collaboration.save()
    assert db.Collaboration.get(1).organizations == [story.oslo]
    with pytest.raises(Error, match="takes organizations"):
        story.collaboration.organizations = [story.iknl, "Oslo"]
    assert story.collaboration.organizations == [story.oslo]


def test_a_membership_is_there_once_however_often_it_is_added(story: SimpleNamespace) -> None:
    story.collaboration.organizations.extend([story.iknl, story.iknl])
    story.collaboration.save()
    assert story.collaboration.organizations == [story.iknl, story.oslo]
    assert db.Member.select().count() == 2


def test_a_failed_save_keeps_the_changes_of_memberships(story: SimpleNamespace) -> None:
    db.Collaboration(name="KYOTO").save()
    story.collaboration.name = "KYOTO"
    story.collaboration.organizations.remove(story.oslo)
    with pytest.raises(Error):
        story.collaboration.save()
    assert len(db.Collaboration.get(1).organizations) == 2
    story.collaboration.name = "OSAKA"
    story.collaboration.save()
    assert db.Collaboration.get(1).organizations == [story.iknl]


def test_equality_and_hash_are_by_entity_and_id(story: SimpleNamespace) -> None:
    assert db.Organization.get(1) == story.iknl and hash(db.Organization.get(1)) == hash(story.iknl)
    assert db.Organization.get(1) != db.Collaboration.get(1)
    assert story.iknl in db.Collaboration.get(1).organizations
    assert db.Organization() != db.Organization()
    unsaved = db.Organization()
    assert unsaved == unsaved


# Deleting


def test_delete_is_refused_with_the_counts_of_dependents(story: SimpleNamespace) -> None:
    with pytest.raises(Error) as raised:
        story.iknl.delete()
    message = str(raised.value)
    assert message.startswith('organization 1 "IKNL" still has ') and "delete(dependents=True)" in message
    for part in ("1 membership", "1 node", "1 task", "2 results"):
        assert part in message
    assert len(db.Organization.get()) == 2 and len(db.Result.get()) == 2


def test_delete_with_dependents_leaves_nothing_pointing_nowhere(story: SimpleNamespace, database: Any) -> None:
    child = db.Task(name="child", parent=story.task, collaboration=story.collaboration, initiator=story.oslo)
    child.save()
    story.iknl.delete(dependents=True)
    assert db.Organization.get() == [story.oslo] and db.Collaboration.get() == [story.collaboration]
    assert (len(db.Task.get()), len(db.Result.get()), len(db.Node.get()), db.Member.select().count()) == (0, 0, 0, 1)
    assert dangling_links.broken(database) == []


def test_what_was_never_saved_or_is_gone_cannot_be_deleted(story: SimpleNamespace) -> None:
    with pytest.raises(Error, match="nothing to delete"):
        db.User(username="x").delete()
    story.node.delete()
    with pytest.raises(Error, match="does not exist"):
        story.node.delete()


# What is said of them


def test_help_prints_fields_types_and_relations(capsys: pytest.CaptureFixture[str]) -> None:
    db.Task.help()
    db.User.help()
    printed = capsys.readouterr().out
    for part in ("run_id", "a whole number", "created_at", "a time", "parent", "a Task", "results", "children"):
        assert part in printed
    assert "the first that holds: empty, failed, active" in printed and printed.count("\nComputed\n") == 1
    assert "stored hashed, never shown" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_repr_survives_broken_links_and_hostile_names(database: Any) -> None:
    for entity in (db.Result(), db.Task(), db.User(), db.Organization(name="\x1b[31m[red]\n\u202e")):
        entity.save()
        assert repr(entity).isprintable() and "\x1b" not in repr(entity)


def test_without_a_database_the_error_has_the_remedy() -> None:
    code = "from models import Organization\ntry: Organization.get(1)\nexcept Exception as error: print(error)"
    root = str(Path(db.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == 'no database is open: call connect("vserver.db") first\n'


def test_saving_and_listing_warn_of_nothing(story: SimpleNamespace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        db.Task(name="quiet", image="average", collaboration=story.collaboration).save()
        assert len(list(db.Task.get())) == 2
