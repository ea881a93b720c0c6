"""Numbers of 64 bits, and beyond: refused in a line everywhere; and run ids, of which none is given twice."""

from __future__ import annotations

import json
import operator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.process import answers
from helpers.process import vserver as process

import models as db
import vserver
from vserverlib import Error, UsageError
from vserverlib.entities import journal, undoing
from vserverlib.entities.fields import LARGEST_INTEGER, SMALLEST_INTEGER

TOO_LARGE = (2**63, SMALLEST_INTEGER - 1, 2**64, 10**30, 10**5000, str(2**63), str(2**64))
NO_NUMBERS = (1.5, float("nan"), Decimal(5), "\u00b2", "\uff11\uff12", "5.0", "", "0x10", "9" * 5000, b"5", [1, "x"])
FIELDS = ("run_id", "parent", "collaboration", "initiator", "id")


class Index:
    """A whole number of another library, as numpy has them."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


@pytest.mark.parametrize("name", FIELDS)
def test_a_number_of_more_than_64_bits_is_refused(story: SimpleNamespace, name: str) -> None:
    for value in TOO_LARGE:
        check_too_large(story, name, value)


def check_too_large(story: SimpleNamespace, name: str, value: Any) -> None:
    field, column = getattr(db.Task, name), db.Task.alias()
    if name != "id":
        with pytest.raises(Error, match="it has more than 64 bits"):
            setattr(story.task, name, value)
    for compare in (operator.eq, operator.ne, operator.lt, operator.ge):
        with pytest.raises(Error, match="it has more than 64 bits"):
            db.Task.select().where(compare(field, value)).count()
    for condition in (field.in_([1, value]), field.between(1, value), getattr(column, name) == value):
        with pytest.raises(Error, match="it has more than 64 bits"):
            db.Task.select().where(condition).count()
    if not isinstance(value, int) or value < 10**1000:
        for text in (f"{name}={value}", f"{name}!={value}"):
            with pytest.raises(UsageError, match=f"{name} has at most 64 bits"):
                db.Task.where(text)
    with pytest.raises(Error):
        db.Task.where(**{name: value}).count()
    story.task.save()


@pytest.mark.parametrize("name", FIELDS[:2])
def test_anything_but_a_whole_number_is_refused(story: SimpleNamespace, name: str) -> None:
    for value in NO_NUMBERS:
        with pytest.raises(Error, match=f"{name} takes"):
            setattr(story.task, name, value)
        with pytest.raises(Error, match=f"{name} takes"):
            db.Task.select().where(getattr(db.Task, name) == value).count()


def test_numbers_of_64_bits_are_taken(story: SimpleNamespace) -> None:
    for number in (LARGEST_INTEGER, SMALLEST_INTEGER, 0, -1, Index(7)):
        story.task.run_id = number
        story.task.save()
        assert db.Task.get(1).run_id == operator.index(number)
        assert len(db.Task.where(run_id=number)) == 1 == len(db.Task.where(db.Task.run_id == number))
        assert len(db.Task.where(f"run_id={operator.index(number)}")) == 1
    assert db.Task.get(SMALLEST_INTEGER) is None and db.Task.get(Index(1)).id == 1


def test_ids_of_more_than_64_bits_are_nobodys(story: SimpleNamespace, database: Any) -> None:
    for id in (2**63, -(2**63) - 1, 2**64, 10**5000):
        assert db.Task.get(id) is None and db.Task.by_id(id) is None
        with pytest.raises(Error):
            db.Task.delete_by_id(id)
        with pytest.raises(Error, match="no change"):
            undoing.undo(database, change=id)
        with pytest.raises(Error, match="is not an id"):
            journal.log(database, "task", id)
        with pytest.raises(Error):
            undoing.undo(database, id)
    with pytest.raises(Error, match="takes an id"):
        db.Task.get("9" * 5000)
    with pytest.raises(Error, match="limit is the highest number"):
        journal.log(database, limit=2**64)
    assert db.Task.get()[2**64 :] == [] and len(db.Task.get()[: 2**64]) == 1


@pytest.mark.sqlite
def test_a_number_of_an_expression_is_refused_in_a_line(story: SimpleNamespace, database: Any) -> None:
    for query in (db.Task.select().where(db.Task.run_id + 1 == 2**64), db.Task.select().limit(2**64)):
        with pytest.raises(Error, match="more than 64 bits"):
            list(query)
    with pytest.raises(Error, match="more than 64 bits"):
        database.execute_sql("SELECT ?", [2**64])


WORDS = (
    ("list", "tasks", "--where", "collaboration=99999999999999999999"),
    ("list", "tasks", "--where", "collaboration=999999999999999999999999999999"),
    ("list", "tasks", "--where", "parent=task/99999999999999999999"),
    ("list", "tasks", "--where", "run_id=999999999999999999999999999999"),
    ("list", "tasks", "--where", "initiator.id=99999999999999999999"),
    ("list", "tasks", "--where", "results>99999999999999999999"),
    ("list", "tasks", "--limit", "99999999999999999999"),
    ("list", "tasks", "--page", "9" * 5000),
    ("show", "task", "99999999999999999999"),
    ("show", "task", "9" * 900),
    ("show", "task", "--", "-9223372036854775809"),
    ("wait", "99999999999999999999"),
    ("log", "--entity", "task/99999999999999999999"),
    ("delete", "task", "99999999999999999999", "--yes"),
    ("undo", "--change", "99999999999999999999"),
    ("undo", "99999999999999999999"),
)


def test_a_command_refuses_it_in_a_line(address: str, story: SimpleNamespace) -> None:
    for words in WORDS:
        done = CliRunner().invoke(vserver.main, ["-d", address, *words], prog_name="vserver")
        assert isinstance(done.exception, SystemExit) and done.exit_code in (1, 2, 4) and done.stdout == "", words
        assert "Error: " in done.stderr, words


def test_a_process_refuses_it_in_a_line(example: Any, tmp_path: Any) -> None:
    done = process("-d", example, *WORDS[0])
    assert (done.status, done.out) == (2, "")
    assert done.err == "Error: collaboration has at most 64 bits: 99999999999999999999 is too large\n"
    saved = {"parent": "t = db.Task.get(1)\nt.parent = 2**64\nt.save()", "raw": "db.Task.get(1).run_id = 10**5000"}
    found = answers(saved, example, tmp_path)
    assert found["parent"] == "Error: Task.parent takes a Task, not 18446744073709551616: it has more than 64 bits\n"
    assert found["raw"].startswith("Error: Task.run_id takes a whole number, not a number of 16,610 bits")


# Run ids


ODD = ("'abc'", "'7x'", "''", "x'37'", "3.5", "1e30", "9e999", "-5", "9223372036854775807")


@pytest.mark.sqlite
@pytest.mark.parametrize("odd", ODD)
def test_no_run_id_is_given_twice_whatever_a_task_has(story: SimpleNamespace, database: Any, odd: str) -> None:
    database.execute_sql(f"UPDATE task SET run_id = {odd}")
    ids = [db.Task.next_run_id() for _ in range(3)]
    assert len(set(ids)) == 3 and all(isinstance(id, int) and 1 < id < 100 for id in ids)
    child = db.Task(name="child", parent=story.task.id, collaboration=story.collaboration, image="x")
    with database.rule_checks(False):
        child.save()
    assert child.run_id not in ids and isinstance(child.run_id, int)


@pytest.mark.sqlite
@pytest.mark.parametrize("odd", ["'abc'", "''", "x'37'", "-5", "3.5", "'NaN'", None])
def test_no_run_id_is_given_twice_whatever_the_counter_has(story: SimpleNamespace, database: Any, odd: Any) -> None:
    story.task.run_id = 41
    story.task.save()
    database.execute_sql("DELETE FROM counter" if odd is None else f"UPDATE counter SET value = {odd}")
    assert [db.Task.next_run_id() for _ in range(3)] == [42, 43, 44]


def test_a_counter_row_that_is_missing_is_created_again(story: SimpleNamespace, database: Any) -> None:
    database.execute_sql("DELETE FROM counter")
    assert [db.Task.next_run_id() for _ in range(3)] == [2, 3, 4]
    story.task.run_id = LARGEST_INTEGER
    story.task.save()
    assert [db.Task.next_run_id() for _ in range(2)] == [5, 6]


def test_no_run_id_is_given_where_none_is_left(story: SimpleNamespace, database: Any) -> None:
    story.task.run_id = LARGEST_INTEGER - 1
    story.task.save()
    for _ in range(2):
        with pytest.raises(Error, match="no run_id is left"):
            db.Task.next_run_id()


def test_a_run_id_that_is_not_a_number_is_found_and_not_used(example: Any, tmp_path: Any) -> None:
    saved = (
        "database.execute_sql(\"update task set run_id = 'abc' where id = 3\")\n"
        "print([db.Task.next_run_id() for _ in range(3)])"
    )
    ids = json.loads(answers({"ids": saved}, example, tmp_path)["ids"])
    assert ids == [ids[0], ids[0] + 1, ids[0] + 2] and ids[0] > 1
    done = process("-d", example, "check", "--rule", "DBF004")
    assert done.status == 1 and 'task 3: its run_id is "abc", which is not a whole number' in done.out + done.err
