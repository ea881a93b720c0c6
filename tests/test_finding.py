"""Which entity is meant: words for kinds, ids, names, references; near ones for what nobody has."""

from __future__ import annotations

from typing import Any

import pytest

import models
from models import Node, Organization, Result, Task, User
from vserverlib import Error, NotFound, UsageError
from vserverlib.queries import finding


@pytest.mark.parametrize("word", ["organizations", "organization", "Organizations", "ORGANIZATION"])
def test_an_entity_is_found_by_its_singular_and_plural(word: str) -> None:
    assert finding.kind(word) is Organization


def test_an_unknown_entity_suggests_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match='no entity "taks"; did you mean "task'):
        finding.kind("taks")
    with pytest.raises(UsageError, match='no entity "xyz": there are organizations, users, collaborations, nodes'):
        finding.kind("xyz")


def test_one_is_found_by_id_and_by_name(consortium: Any) -> None:
    assert finding.one(Organization, "2").id == 2
    assert finding.one(Organization, "Klinikum Grünwalde").id == 3
    assert finding.one(User, "anna.devries").id == 1
    assert finding.one(Result, "7").id == 7


def test_a_name_of_digits_is_found_where_no_id_is_meant(database: Any) -> None:
    Organization(name="2024").save()
    assert finding.one(Organization, "2024").id == 1


@pytest.mark.parametrize(
    ("model", "word", "told"),
    [
        (Organization, "Klinikum", 'no organization "Klinikum"; did you mean "Klinikum Grünwalde"?'),
        (User, "anna.devris", 'no user "anna.devris"; did you mean "anna.devries"?'),
        (Node, "zzz", 'no node "zzz"'),
        (Task, "999", "no task 999"),
        (Task, "99999999999999999999", "no task 99999999999999999999"),
        (Result, "first", 'no result "first": results have no names, give an id'),
    ],
)
def test_an_unknown_one_is_told_with_a_near_name(model: Any, word: str, told: str, consortium: Any) -> None:
    with pytest.raises(NotFound) as caught:
        finding.one(model, word)
    assert str(caught.value) == told


def test_a_name_that_several_have_tells_their_ids(consortium: Any) -> None:
    ids = ", ".join(str(task.id) for task in Task.get().where(Task.name == "Missing values"))
    with pytest.raises(Error, match=f'several tasks are called "Missing values": say which by its id, {ids}$'):
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
