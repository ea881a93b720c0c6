"""What is said of each entity: the columns, how few queries they take, odd data, which entity a word means, JSON."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.other_program import raw

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.drivers import peewee
from vserverlib.queries import columns, formats, listing

HOSTILE = 'a\x1b[31mb\r\n\t\x7f\x9b\u202e\u200b\U000e0041[red]\u00e9\u6f22\U0001f916"\\'


@pytest.fixture
def queries(consortium: Any) -> list[str]:
    """The SQL that was run on the example data since."""
    seen: list[str] = []
    consortium.query_hooks.append(lambda event: seen.append(event.sql))
    return seen


# Columns


def test_a_link_is_said_as_id_and_as_name(story: SimpleNamespace) -> None:
    (row,) = listing.page(Node.get()).rows
    assert (row["organization_id"], row["organization"]) == (story.iknl.id, "IKNL")
    assert (row["collaboration_id"], row["collaboration"]) == (story.collaboration.id, "ROTTERDAM")


def test_relations_are_counted(story: SimpleNamespace) -> None:
    (row,) = listing.page(Collaboration.get()).rows
    assert (row["organizations"], row["nodes"], row["tasks"]) == (2, 1, 1)
    assert [row["nodes"] for row in listing.page(Organization.get()).rows] == [1, 0]


def progress_of(task: Task) -> tuple[Any, ...]:
    row = next(row for row in listing.page(Task.get()).rows if row["id"] == task.id)
    return row["done"], row["total"], row["complete"], row["status"], row["finished_at"]


def test_a_task_says_how_far_it_is(story: SimpleNamespace) -> None:
    task, (first, second) = story.task, story.results
    moment = datetime.datetime(2026, 3, 1, 9, 30, tzinfo=datetime.UTC)
    assert progress_of(task) == (0, 2, False, "pending", None)
    first.started_at = first.finished_at = moment
    first.save()
    second.started_at = moment
    second.save()
    assert progress_of(task) == (1, 2, False, "active", None)
    second.finished_at = moment + datetime.timedelta(hours=1)
    second.save()
    assert progress_of(task) == (2, 2, True, "completed", moment + datetime.timedelta(hours=1))
    second.status = "killed by user"
    second.save()
    assert progress_of(task)[3] == "failed"
    empty = Task(name="empty")
    empty.save()
    assert progress_of(empty) == (0, 0, False, "empty", None)


def test_a_result_says_which_failure_it_is_and_else_what_its_times_say(story: SimpleNamespace) -> None:
    database = models.database
    raw(database, "UPDATE result SET status = NULL, finished_at = '2026-03-01 10:00:00+00:00' WHERE id = 1")
    raw(database, "UPDATE result SET status = 'crashed' WHERE id = 2")
    said = [(row["status"], row["complete"]) for row in listing.page(Result.get()).rows]
    assert said == [("completed", True), ("crashed", True)]


# Few queries


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_a_page_is_one_query_and_the_total_one_more(model: Any, consortium: Any, queries: list[str]) -> None:
    page = listing.page(model.get(), 0, 2)
    assert len(page.rows) == 2 and page.total > 2
    assert len(queries) == 2


def test_a_list_that_fits_on_its_page_needs_no_count(consortium: Any, queries: list[str]) -> None:
    page = listing.page(Organization.get(), 0, 6)
    assert (len(page.rows), page.total, len(queries)) == (5, 5, 1)
    assert listing.page(Organization.get(), 5, 5).total == 5
    assert listing.page(Organization.get(), 50, 5).total == 5


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_entities_in_memory_say_the_same_as_the_database(model: Any, consortium: Any) -> None:
    everything = columns.COLUMNS[model]
    stored = listing.page(model.get(), 0, 100, everything).rows
    assert listing.of_entities(list(model.get()), everything) == stored
    assert listing.page([*model.get()], 0, 100, everything).rows == stored


@pytest.mark.parametrize("number", [2, 20])
def test_a_list_of_entities_got_one_by_one_takes_one_query(number: int, consortium: Any, queries: list[str]) -> None:
    tasks = [Task.get(id) for id in range(1, number + 1)]
    queries.clear()
    page = listing.page(tasks)
    assert [row["id"] for row in page.rows] == list(range(1, number + 1))
    assert all(row["collaboration"] for row in page.rows)
    assert len(queries) == 1


def test_a_list_that_was_read_is_not_read_again(consortium: Any, queries: list[str]) -> None:
    tasks = Task.get().where(Task.id <= 3)
    for task in tasks:
        task.name = "renamed"
    queries.clear()
    assert [row["name"] for row in listing.page(tasks).rows] == ["renamed"] * 3
    assert len(queries) == 1


def test_conditions_order_joins_and_limits_of_a_query_are_kept(consortium: Any) -> None:
    query = Task.select().join(Collaboration).where(Collaboration.name.startswith("Rare")).order_by(Task.id.desc())
    page = listing.page(query, 1, 2)
    assert [row["id"] for row in page.rows] == [23, 22] and page.total == 4
    assert {row["collaboration"] for row in page.rows} == {"Rare tumours [pilot]"}
    assert listing.page(Task.get().limit(3), 2, 5).total == 3
    grouped = Task.select().join(Result).group_by(Task.id).having(peewee.fn.COUNT(Result.id) > 3)
    assert {row["total"] for row in listing.page(grouped).rows} == {4}


def test_a_query_of_some_columns_shows_those(consortium: Any) -> None:
    page = listing.page(Task.select(Task.name, (Task.id * 2).alias("twice")).order_by(Task.id), 0, 2)
    assert page.rows == [{"name": "Age at diagnosis", "twice": 2}, {"name": "Kaplan-Meier survival", "twice": 4}]


def test_all_rows_come_page_by_page_from_one_query(consortium: Any, queries: list[str]) -> None:
    pages = list(listing.pages(Task.get(), 10, columns.table_columns(Task)))
    assert [(page.first, len(page.rows), page.total) for page in pages] == [(0, 10, 24), (10, 10, 24), (20, 4, 24)]
    assert len(queries) == 2
    (empty,) = listing.pages(Task.get().where(Task.id < 0), 10, columns.table_columns(Task))
    assert (empty.rows, empty.total) == ([], 0)


# In memory


def test_unsaved_changes_are_said(story: SimpleNamespace) -> None:
    other = Organization(name="Bergen")
    other.save()
    node = Node.get(story.node.id)
    node.name, node.organization = "moved", other
    collaboration = Collaboration.get(1)
    collaboration.organizations.append(other)
    assert listing.of_entities([node])[0]["organization"] == "Bergen"
    assert listing.of_entities([collaboration])[0]["organizations"] == 3


def test_an_entity_that_was_never_saved_is_said_without_a_query(database: Any, count_queries: list[str]) -> None:
    new = Task(name="new", initiator=Organization(name="Oslo"))
    (row,) = listing.of_entities([new])
    assert (row["id"], row["name"], row["initiator"], row["status"]) == (None, "new", "Oslo", "empty")
    assert listing.of_entities([Organization(name="x")])[0]["users"] == 0
    (row,) = listing.of_entities([User(username="x")])
    assert (row["organization_id"], row["organization"]) == (None, None)
    assert not count_queries


def test_entities_of_several_kinds_and_other_things_have_a_table_too(story: SimpleNamespace) -> None:
    page = listing.page([story.iknl, story.results[0], "text", None])
    assert page.model is None
    assert [(row["entity"], row["id"]) for row in page.rows] == [
        ("organization", 1),
        ("result", 1),
        ("str", None),
        ("NoneType", None),
    ]


# Odd data


@pytest.fixture
def odd(path: Path, story: SimpleNamespace) -> Any:
    """A database with rows that other programs have written."""
    database = models.database
    for sql, values in {
        "INSERT INTO organization (id, name, country) VALUES (90, ?, ?)": (b"\xff\x00", 2.5),
        "INSERT INTO collaboration (id, name, encrypted) VALUES (90, 'c', 'maybe')": (),
        "INSERT INTO user (id, username, organization_id, last_seen) VALUES (90, NULL, 55, '0000')": (),
        "INSERT INTO node (id, organization_id, collaboration_id) VALUES (90, 55, 'abc')": (),
        "INSERT INTO task (id, collaboration_id, parent_id, run_id) VALUES (90, 77, 66, 'x')": (),
        "UPDATE task SET created_at = 'yesterday' WHERE id = 90": (),
        "INSERT INTO task (id, name, created_at) VALUES (91, 'infinite', ?)": (float("inf"),),
        "INSERT INTO result (id, task_id, organization_id, finished_at, status) VALUES (90, 90, 55, 'late', 'odd')": (),
        "INSERT INTO result (id) VALUES (91)": (),
    }.items():
        raw(database, sql, *values)
    return database


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_odd_rows_are_said_as_they_are(model: Any, odd: Any) -> None:
    rows = listing.page(model.get(), 0, 100, columns.COLUMNS[model]).rows
    assert 90 in [row["id"] for row in rows]
    assert listing.of_entities(list(model.get()), columns.COLUMNS[model]) == rows
    assert json.loads("".join(formats.as_json(rows)))


def test_a_link_that_leads_nowhere_keeps_its_id(odd: Any) -> None:
    row = listing.page(Task.get().where(Task.id == 90)).rows[0]
    assert (row["collaboration_id"], row["collaboration"], row["parent_id"], row["parent"]) == (77, None, 66, None)
    assert (row["created_at"], row["run_id"]) == ("yesterday", "x")


def test_invalid_utf_8_does_not_break_the_list(path: Path, story: SimpleNamespace) -> None:
    raw(models.database, "UPDATE organization SET name = CAST(x'41ff42' AS TEXT) WHERE id = 2")
    assert [row["name"] for row in listing.page(Organization.get()).rows] == ["IKNL", "A\ufffdB"]
    assert [organization.name for organization in Organization.get()] == ["IKNL", "A\ufffdB"]


# JSON


def from_json(query: Any) -> Any:
    return json.loads("".join(formats.as_json(listing.rows(query))))


def test_json_keeps_types_and_has_times_in_utc(story: SimpleNamespace) -> None:
    story.task.created_at = "2026-03-01 10:00+02:00"
    story.task.save()
    (task,) = from_json(Task.get())
    assert task["created_at"] == "2026-03-01T08:00:00Z"
    assert (task["id"], task["complete"], task["progress"], task["description"]) == (1, False, 0.0, None)
    (collaboration,) = from_json(Collaboration.get())
    assert collaboration["encrypted"] is False
    assert from_json(Task.get().where(Task.id < 0)) == []


def test_json_has_one_schema_for_an_entity(consortium: Any) -> None:
    for model in models.ENTITIES:
        names = [column.name for column in columns.COLUMNS[model]]
        (one,) = listing.of_entities([model.get(1)], columns.COLUMNS[model])
        assert all(list(row) == names for row in [*from_json(model.get()), json.loads(formats.to_json(one))])


@pytest.mark.parametrize("plain_ascii", [False, True])
@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_json_gives_a_hostile_text_back_but_no_escape_to_the_terminal(plain_ascii: bool, output: str) -> None:
    (line,) = formats.as_json_lines([{"name": HOSTILE}], plain_ascii)
    text = line if output == "jsonl" else formats.to_json({"name": HOSTILE}, plain_ascii)
    assert json.loads(text) == {"name": HOSTILE}
    assert all(char.isprintable() or char == "\n" for char in text)
    assert plain_ascii is text.isascii()


def test_json_is_valid_whatever_is_stored() -> None:
    row = {"a": float("inf"), "b": float("nan"), "c": b"\xffa", "d": 2**60}
    parsed = json.loads(formats.to_json(row), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert parsed == {"a": "inf", "b": "nan", "c": "\ufffda", "d": 2**60}


def test_json_of_a_list_has_one_row_on_each_line(consortium: Any) -> None:
    lines = "".join(formats.as_json(listing.rows(Organization.get()))).splitlines()
    assert lines[0] == "[" and lines[-1] == "]" and len(lines) == 7
    assert json.loads(lines[1].rstrip(","))["id"] == 1
