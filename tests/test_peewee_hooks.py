"""What Peewee and its extensions find in entities, and methods that are asked for in the wrong place."""

from __future__ import annotations

import copy
import gc
import pickle
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from peewee import PREFETCH_TYPE, Load, prefetch
from playhouse.shortcuts import dict_to_model, model_to_dict, update_model_from_dict

import models as db
from vserverlib import Error, NotExecuted, NotFound, UsageError, hashing

pytestmark = pytest.mark.filterwarnings("ignore::vserverlib.CheckWarning")
WAYS = [PREFETCH_TYPE.WHERE, PREFETCH_TYPE.JOIN]


@pytest.fixture
def user(story: SimpleNamespace) -> Any:
    user = db.User(username="root", password="Geheim-123!", organization=story.iknl, last_seen="2026-03-01 09:00")
    user.save()
    return db.User.get(1)


# What Peewee's extensions give


@pytest.mark.parametrize("model", [*db.ENTITIES, db.Member], ids=lambda model: model.__name__)
def test_model_to_dict_gives_what_dicts_gives(model: Any, story: SimpleNamespace, user: Any) -> None:
    for entity in model.get():
        (row,) = model.select().where(model.id == entity.id).dicts()
        worked_out = {"state": entity.state} if model is db.Result else {}
        assert model_to_dict(entity, recurse=False) == row | worked_out


def test_model_to_dict_follows_links_and_lists(story: SimpleNamespace, user: Any) -> None:
    found = model_to_dict(user)
    assert found["organization"]["name"] == "IKNL" and found["password"] == hashing.MASK
    assert found["last_seen"] == user.last_seen
    (nested,) = model_to_dict(story.iknl, backrefs=True, max_depth=1)["users"]
    assert (nested["username"], nested["password"]) == ("root", hashing.MASK)
    assert model_to_dict(user, only=[db.User.password]) == {"password": hashing.MASK}


def test_a_model_is_made_and_changed_from_a_dict(story: SimpleNamespace, user: Any) -> None:
    made = dict_to_model(db.Task, {"name": "new", "collaboration": 1, "created_at": "2026-03-01"})
    made.save()
    assert db.Task.get(made.id).created_at.isoformat() == "2026-03-01T00:00:00+00:00"
    update_model_from_dict(user, {"firstname": "Anna", "organization": {"country": "NL"}})
    assert (user.firstname, user.organization.country) == ("Anna", "NL")
    with pytest.raises(Error, match="User.password is a mask"):
        dict_to_model(db.User, model_to_dict(user, recurse=False, exclude=[db.User.id]))


def test_what_an_entity_holds_for_peewee_is_decoded_and_masked(user: Any, story: SimpleNamespace) -> None:
    assert user.__data__["password"] == hashing.MASK and user.__data__["last_seen"] == user.last_seen
    assert story.results[0].__data__["state"] == "pending"
    with pytest.raises(AttributeError):
        user.__data__ = {}


def test_a_copy_has_no_hash_and_knows_the_password_all_the_same(user: Any, story: SimpleNamespace) -> None:
    for made in (copy.copy(user), copy.deepcopy(user), pickle.loads(pickle.dumps(user))):
        assert made == user and made.password == hashing.MASK and made.last_seen == user.last_seen
        assert user._stored["password"] not in str(made._stored)
        assert made.check_password("Geheim-123!") and made.organization.name == "IKNL"
    assert b"$2b$" not in pickle.dumps(user)
    changed = copy.copy(user)
    changed.firstname = "Anna"
    changed.save()
    assert user.firstname is None and db.User.get(1).check_password("Geheim-123!")


def test_a_pickle_has_no_plain_key(story: SimpleNamespace) -> None:
    story.node.api_key = "5e1a7c1e-0000-4000-8000-00000000c0de"
    assert b"5e1a7c1e" not in pickle.dumps(story.node)
    assert copy.copy(story.node).api_key == hashing.MASK


def test_what_a_join_gives_knows_the_password(user: Any) -> None:
    (joined,) = db.User.select(db.User, db.Organization).join(db.Organization)
    assert joined.check_password("Geheim-123!") and not joined.check_password("geheim")


def test_a_mask_is_never_written(user: Any, database: Any) -> None:
    made = copy.copy(user)
    user.delete()
    with pytest.raises(Error, match="password of user 1 .* is masked here"):
        made.save(force_insert=True)
    assert len(db.User.get()) == 0


# Methods of the class


WRITE = ("update", "insert", "insert_many", "insert_from", "replace", "replace_many", "create", "bulk_create")
WRITE += ("bulk_update", "get_or_create", "set_by_id", "delete_by_id")


def test_what_writes_for_the_class_is_refused_for_one_entity(story: SimpleNamespace) -> None:
    for name in WRITE:
        is_for = rf"^{name}\(\) is for the class Task, not for one task: .*t\.(save|delete)\(\)"
        with pytest.raises(Error, match=is_for):
            getattr(story.task, name)(name="x")
    assert [task.name for task in db.Task.get()] == ["average"]


def test_update_of_one_entity_names_the_field_that_was_meant(story: SimpleNamespace) -> None:
    with pytest.raises(Error, match=r"t\.name = …; t\.save\(\)"):
        story.task.update(name="x")
    with pytest.raises(Error, match=r"r\.status = …; r\.save\(\)"):
        story.results[0].update(status="failed").execute()


def test_they_do_what_they_say_for_the_class(story: SimpleNamespace) -> None:
    assert db.Task.update(name="one").where(db.Task.id == 1).execute() == 1
    db.Task.insert(name="two").execute()
    db.Task.insert_many([{"name": "three"}, {"name": "four"}]).execute()
    db.Task.insert_from(db.Task.select(db.Task.name).where(db.Task.id == 1), ["name"]).execute()
    assert db.Task.create(name="five").id == 6
    assert db.Task.get_or_create(name="five") == (db.Task.get(6), False)
    assert db.Task.set_by_id(6, {"name": "six", db.Task.image: "harbor/x"}) == 1
    assert db.Task.set_by_id(None, {"name": "seven"}) == 7
    two = db.Task.get(2)
    two.image = "harbor/two"
    assert db.Task.bulk_update([two], [db.Task.image]) == 1 and db.Task.get(2).image == "harbor/two"
    names = ["one", "two", "three", "four", "one", "six", "seven"]
    assert [task.name for task in db.Task.get()] == names and db.Task.get(6).image == "harbor/x"


def test_what_would_change_nothing_is_refused(story: SimpleNamespace) -> None:
    with pytest.raises(NotFound, match="no task 99"):
        db.Task.set_by_id(99, {"name": "x"})
    with pytest.raises(Error, match="was never saved"):
        db.Task.bulk_update([db.Task(name="x")], ["name"])
    for refused in (db.Task.update, db.Task.insert):
        with pytest.raises(Error, match='Task has no field "nme"; did you mean "name"'):
            refused(nme="x")


def test_a_query_that_is_dropped_before_it_is_executed_warns(story: SimpleNamespace) -> None:
    for make in (
        lambda: db.Task.update(name="x").where(db.Task.id == 1),
        lambda: db.Task.insert(name="x").on_conflict_ignore(),
        lambda: db.Task.insert_many([{"name": "x"}]),
    ):
        with pytest.warns(NotExecuted, match=r"nothing was changed by Task\..*call its execute\(\)") as caught:
            shown = repr(make())
        assert "not executed: call its execute()" in shown and len(caught) == 1


@pytest.mark.filterwarnings("error")
def test_a_query_that_was_executed_or_looked_at_does_not(story: SimpleNamespace) -> None:
    db.Task.update(name="x").where(db.Task.id == 1).execute()
    db.Task.update(name="y").where(db.Task.id == 1).sql()
    with pytest.raises(Error, match="would change every task"):
        db.Task.update(name="x").execute()
    gc.collect()


# prefetch() and with_related()


@pytest.mark.parametrize("way", WAYS)
def test_prefetch_reads_lists_by_one_query_each(story: SimpleNamespace, count_queries: list[str], way: int) -> None:
    (task,) = prefetch(db.Task.select(), db.Result, prefetch_type=way)
    assert len(count_queries) == 2
    assert list(task.results) == story.results and len(task.results) == 2 and task.results[1] == story.results[1]
    assert all(result.task is task and not result.is_dirty() for result in task.results)
    assert len(count_queries) == 2 and not task._unsaved()
    assert len(task.results.where(db.Result.organization == 1)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_prefetch_follows_links_through_several_levels(
    story: SimpleNamespace, count_queries: list[str], way: int
) -> None:
    (one,) = prefetch(db.Collaboration.select(), db.Task, db.Result, db.Organization, prefetch_type=way)
    found = [[(result.id, result.organization.name) for result in task.results] for task in one.tasks]
    assert (found, len(count_queries)) == ([[(1, "IKNL"), (2, "Oslo")]], 4)


@pytest.mark.parametrize("way", WAYS)
def test_prefetch_reads_links_to_one(story: SimpleNamespace, count_queries: list[str], way: int) -> None:
    found = prefetch(db.Result.select(), db.Task, db.Collaboration, prefetch_type=way)
    assert [(each.task.name, each.task.collaboration.name) for each in found] == [("average", "ROTTERDAM")] * 2
    assert len(count_queries) == 3 and not any(each.is_dirty() for each in found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ends", [(db.Collaboration, db.Organization), (db.Organization, db.Collaboration)])
def test_prefetch_takes_memberships_in_both_directions(story: SimpleNamespace, ends: Any, way: int) -> None:
    one, many = ends
    for entity in prefetch(one.select(), db.Member, many, prefetch_type=way):
        partners = list(getattr(entity, many.plural))
        assert partners == (list(many.get()))
        getattr(entity, many.plural).remove(partners[0])
        entity.save()
        assert list(getattr(one.get(entity.id), many.plural)) == partners[1:]


def test_prefetch_takes_parents_and_children(story: SimpleNamespace) -> None:
    db.Task(name="part", parent=story.task, collaboration=1).save()
    parts = db.Task.alias()
    first, part = prefetch(db.Task.select().order_by(db.Task.id), parts.select())
    assert [task.name for task in first.children] == ["part"] and list(part.children) == []


def test_a_list_that_was_prefetched_is_never_stale(story: SimpleNamespace, database: Any) -> None:
    (task,) = prefetch(db.Task.select(), db.Result.select().where(db.Result.id > 1))
    (iknl, _) = prefetch(db.Organization.select().order_by(db.Organization.id), db.User)
    assert [result.id for result in task.results] == [2] and list(iknl.users) == []
    with pytest.raises(ZeroDivisionError), database.atomic():
        db.Result(task=task, organization=1).save()
        assert [result.id for result in task.results] == [2, 3]
        1 / 0  # noqa: B018
    assert [result.id for result in task.results] == [2]
    db.User(username="root", organization=iknl).save()
    assert [user.username for user in iknl.users] == ["root"]


def test_with_related_reads_lists_and_links(story: SimpleNamespace, count_queries: list[str]) -> None:
    loads = (db.Task.collaboration, Load(db.Task.results).then(db.Result.organization))
    (task,) = db.Task.select().with_related(*loads)
    assert task.collaboration.name == "ROTTERDAM"
    assert [result.organization.name for result in task.results] == ["IKNL", "Oslo"] and len(count_queries) == 4


def test_a_list_cannot_be_assigned_by_hand(story: SimpleNamespace) -> None:
    for value in ([], story.results):
        with pytest.raises(Error, match="Task.results cannot be assigned: set .task of each result instead"):
            story.task.results = value


def test_models_of_others_are_prefetched_as_ever() -> None:
    class Author(peewee.Model):
        name = peewee.TextField()

    class Book(peewee.Model):
        author = peewee.ForeignKeyField(Author, backref="books")

    with closing(peewee.SqliteDatabase(":memory:")) as database, database.bind_ctx([Author, Book]):
        Author._meta.database.create_tables([Author, Book])
        Book.create(author=Author.create(name="a"))
        (author,) = prefetch(Author.select(), Book)
        assert [book.author.name for book in author.books] == ["a"]
        (author,) = Author.select().with_related(Author.books)
        assert len(author.books) == 1


def test_a_field_to_be_saved_alone_has_to_exist(story: SimpleNamespace) -> None:
    story.task.name = "another"
    with pytest.raises(UsageError, match='Task has no field "nam"; did you mean "name"'):
        story.task.save(only=["nam"])
    story.task.save(only=["name"])
    assert db.Task.get(story.task.id).name == "another"


# Errors


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: db.Task.get(name="nobody"), "no task with name='nobody': Task.get_or_none() returns None instead"),
        (lambda: db.Task.get(name="averagee"), "no task with name='averagee'; did you mean \"average\"?"),
        (lambda: db.Task.get(name="x", run_id=5), "no task with name='x', run_id=5: "),
        (lambda: db.Task.get(db.Task.name == "x"), "no task matches: "),
        (lambda: db.Task.select().where(db.Task.id == 99).get(), "no task matches: "),
        (lambda: db.Task.get_by_id(99), "no task 99: Task.get(99) returns None"),
        (lambda: db.Task[99], "no task 99: "),
    ],
)
def test_what_does_not_exist_is_one_line_of_ours_and_still_peewees_error(
    ask: Any, text: str, story: SimpleNamespace
) -> None:
    with pytest.raises(db.Task.DoesNotExist) as raised:
        ask()
    assert isinstance(raised.value, NotFound) and isinstance(raised.value, peewee.DoesNotExist)
    assert str(raised.value).startswith(text) and "\n" not in str(raised.value)
    assert db.Task.get_or_none(name="nobody") is None and db.Task.get_by_id(1) == story.task and 99 not in db.Task


def test_an_error_quotes_no_secret_that_was_looked_for(user: Any) -> None:
    for ask in (lambda: db.User.get(password="Geheim-456!"), lambda: db.User.get(db.User.password == "Geheim-456!")):
        with pytest.raises(db.User.DoesNotExist) as raised:
            ask()
        assert "Geheim" not in str(raised.value) and "$2b$" not in str(raised.value)


@pytest.mark.parametrize("name", ["job_id", "nmae"])
def test_an_unknown_attribute_of_a_class_has_the_hint_of_an_entity(name: str, story: SimpleNamespace) -> None:
    with pytest.raises(AttributeError) as of_class:
        getattr(db.Task, name)
    with pytest.raises(AttributeError) as of_entity:
        getattr(story.task, name)
    assert str(of_class.value) == str(of_entity.value) and name in str(of_class.value)
    assert any(hint in str(of_class.value) for hint in ("is run_id here", 'did you mean "name"?'))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: db.Organization.select().prefetch(db.Collaboration),
        lambda: prefetch(db.Organization.select(), db.Collaboration.select()),
        lambda: db.Organization.select().prefetch(db.Organization.collaborations),
        lambda: db.Organization.select().with_related(db.Organization.collaborations),
    ],
)
def test_memberships_cannot_be_prefetched_which_is_one_line(ask: Any, story: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match="collaborations of organizations.*use organization.collaborations of each$"):
        ask()
    with pytest.raises(UsageError, match="users of nodes.*by a query of their own"):
        db.Node.select().prefetch(db.User)
