"""Which entity is meant: words for kinds, ids, names, references; near ones for what nobody has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.process import python, vserver

import models
from models import Node, Organization, Result, Task, User
from vserverlib import Error, NotFound, UsageError
from vserverlib.entities import finding
from vserverlib.queries import kinds


@pytest.mark.parametrize("word", ["organizations", "organization", "Organizations", "ORGANIZATION"])
def test_an_entity_is_found_by_its_singular_and_plural(word: str) -> None:
    assert kinds.kind(word) is Organization


def test_an_unknown_entity_suggests_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match='no entity "taks"; did you mean "task'):
        kinds.kind("taks")
    with pytest.raises(UsageError, match='no entity "xyz": there are organizations, users, collaborations, nodes'):
        kinds.kind("xyz")


def test_one_is_found_by_id_and_by_name(consortium: Any) -> None:
    assert finding.one(Organization, "2").id == 2
    assert finding.one(Organization, "Klinikum Grünwalde").id == 3
    assert finding.one(User, "anna.devries").id == 1
    assert finding.one(Result, "7").id == 7


def test_a_name_of_digits_is_found_where_no_id_is_meant(database: Any) -> None:
    Organization(name="2024").save()
    assert finding.one(Organization, "2024").id == 1


@pytest.mark.parametrize(
    ("model", "word", "message"),
    [
        (Organization, "Klinikum", 'no organization "Klinikum"; did you mean "Klinikum Grünwalde"?'),
        (User, "anna.devris", 'no user "anna.devris"; did you mean "anna.devries"?'),
        (Node, "zzz", 'no node "zzz"'),
        (Task, "999", "no task 999"),
        (Task, "99999999999999999999", "no task 99999999999999999999"),
        (Result, "first", 'no result "first": results have no names, give an id'),
    ],
)
def test_an_unknown_name_is_an_error_with_a_similar_one(model: Any, word: str, message: str, consortium: Any) -> None:
    with pytest.raises(NotFound) as caught:
        finding.one(model, word)
    assert str(caught.value) == message


def test_the_error_for_an_ambiguous_name_lists_the_ids(consortium: Any) -> None:
    ids = ", ".join(str(task.id) for task in Task.get().where(Task.name == "Missing values"))
    with pytest.raises(Error, match=f'several tasks are called "Missing values": give the id, one of {ids}$'):
        finding.one(Task, "Missing values")
    for _ in range(20):
        Organization(name="same").save()
    with pytest.raises(Error, match="6, 7, 8, 9, 10, 11, 12, 13, 14, 15, …$"):
        finding.one(Organization, "same")


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_a_reference_finds_what_it_was_made_of(model: Any, consortium: Any) -> None:
    assert finding.one(model, finding.reference(model, 2)).id == 2
    assert finding.one(model, f"{model.plural}/2").id == 2


def test_no_name_can_stand_in_for_a_reference(database: Any) -> None:
    for name in ("task/3", "task/1", "third"):
        Task(name=name).save()
    assert finding.one(Task, "task/3").name == "third"
    with pytest.raises(NotFound, match="no task 9$"):
        finding.one(Task, "task/9")
    assert finding.one(Task, "task/1").name == "task/3", "the id, not the name"


def test_a_name_with_a_slash_is_a_name(database: Any) -> None:
    Organization(name="Bergen/Oslo").save()
    Organization(name="node/1").save()
    assert finding.one(Organization, "Bergen/Oslo").id == 1
    assert finding.one(Organization, "node/1").id == 2, "a reference to another kind is none"


NAMES = ["003", "+3", " 3 ", "3 ", "3.0", "1_000", "٣", "³", "0x3", "-0", "00", "1e3", "task/003", "3\n"]


@pytest.mark.parametrize("name", NAMES)
def test_what_no_list_prints_as_an_id_is_a_name(name: str, database: Any) -> None:
    for each in ("a", "b", "c"):
        Organization(name=each).save()
    with pytest.raises(NotFound):
        finding.one(Organization, name)
    Organization(name=name).save()
    assert finding.one(Organization, name).name == name
    assert finding.one(Organization, name, to_change=True).name == name
    assert [each.name for each in User.where(organization=name)] == []
    User(username="u", organization=4).save()
    assert [each.username for each in User.where(organization=name)] == ["u"]


@pytest.mark.parametrize("id", ["003", "+3", " 3 ", "-0", "3.0", "٣"])
def test_get_and_links_take_ids_as_lists_print_them_only(id: str, consortium: Any) -> None:
    assert Task.get("3").id == 3
    with pytest.raises(Error, match="takes an id"):
        Task.get(id)
    with pytest.raises(Error, match="parent"):
        Task.get(1).parent = id


def test_a_word_that_is_an_id_and_a_name_is_not_changed(database: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "1", "3"):
        Organization(name=name).save()
    with pytest.raises(Error) as caught:
        finding.one(Organization, "1", to_change=True)
    both = '"1" is the id of one organization and the name of organization/2'
    assert str(caught.value) == f"{both}: write organization/1 or organization/2"
    assert finding.one(Organization, "3", to_change=True).id == 3, "its own name"
    assert capsys.readouterr().err == ""
    assert finding.one(Organization, "1").name == "first"
    assert capsys.readouterr().err == f"{both}: organization/1 is shown\n"
    User(username="u", organization=1).save()
    assert len(User.where("organization=1")) == 1
    assert capsys.readouterr().err == f"{both}: the id is meant\n"


def test_the_commands_that_change_take_no_name_for_an_id(tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    code = """
a = db.Organization(name="A"); a.save(); c = db.Collaboration(name="C", organizations=[a]); c.save()
for name in ("n1", "n2", "n3", "003", "2"):
    db.Node(name=name, organization=a, collaboration=c).save()
for name in ("x", "0002"):
    db.Organization(name=name).save()
"""
    assert vserver("-d", file, "init").status == vserver("-d", file, "shell", "-q", "-c", code).status == 0
    keys = "import sqlite3,sys; print(*[row[0] is not None for row in sqlite3.connect(sys.argv[1]).execute(%r)])"
    assert vserver("-d", file, "apikey", "003").status == 0
    asked = python("-c", keys % "select api_key from node order by id", file)
    assert asked.out == "False False False True False\n", "the key of node 4, which is called so"
    refused = vserver("-d", file, "apikey", "2")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == 'Error: "2" is the id of one node and the name of node/5: write node/2 or node/5\n'
    assert vserver("-d", file, "delete", "organization", "0002").status == 0
    left = vserver("-d", file, "list", "organizations", "-o", "name")
    assert left.out == "organization/1\norganization/2\n"
    assert 'no task "0001"' in vserver("-d", file, "wait", "0001").err
    assert '"003" is not an id' in vserver("-d", file, "undo", "--change", "003").err
