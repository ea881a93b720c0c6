"""What is computed of a class is a field of queries: it takes, refuses and gives what a stored one of its type does."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from helpers.process import answers

import models as db
from vserverlib import Error

UTC = datetime.UTC
DONE = datetime.datetime(2026, 3, 1, 10, 2, 44, tzinfo=UTC)
COMPUTED = (
    db.Task.status,
    db.Task.complete,
    db.Task.progress,
    db.Task.finished_at,
    db.Result.complete,
    db.Result.state,
)
GOOD = {
    "Task.status": ("failed", "empty"),
    "Task.complete": (True, False, 1, 0),
    "Task.progress": (0.5, 1, "0.25"),
    "Task.finished_at": (DONE, DONE.date(), "2026-03-01T10:02:44Z", "2026-03-01 10:02", "2026"),
    "Result.complete": (True, False),
    "Result.state": ("pending", "completed"),
}
BAD = {
    "Task.status": ("faild", "", 1, True, DONE, b"failed"),
    "Task.complete": ("true", "yes", 2, DONE),
    "Task.progress": ("half", True, float("nan"), "1e999", DONE),
    "Task.finished_at": ("05-02-2026", "yesterday", "", 5, 2.5, True),
    "Result.complete": ("false", 7),
    "Result.state": ("complete", "crashed", 0),
}
OPERATORS = {
    "==": lambda field, value: field == value,
    "!=": lambda field, value: field != value,
    "<": lambda field, value: field < value,
    "<=": lambda field, value: field <= value,
    ">": lambda field, value: field > value,
    ">=": lambda field, value: field >= value,
    "in": lambda field, value: field.in_([value]),
    "<<": lambda field, value: field << [value],
    "not in": lambda field, value: field.not_in([value]),
    "between": lambda field, value: field.between(value, value),
}


@pytest.fixture
def ended(story: SimpleNamespace, database: Any) -> SimpleNamespace:
    """The story, whose task is complete; and another task without results."""
    for result in story.results:
        result.started_at = result.finished_at = DONE
        result.save()
    with database.rule_checks(False):
        db.Task(name="empty", collaboration=story.collaboration, image="x").save()
    return story


def rows(field: Any, condition: Any) -> int:
    return int(field.model.select().where(condition).count())


@pytest.mark.parametrize("field", COMPUTED, ids=str)
def test_a_value_of_its_type_is_taken_and_another_refused(ended: SimpleNamespace, field: Any) -> None:
    for operator, compared in OPERATORS.items():
        for value in GOOD[str(field)]:
            assert 0 <= rows(field, compared(field, value)) <= 2, (operator, value)
        for value in BAD[str(field)]:
            with pytest.raises(Error, match=f"{field} takes "):
                pytest.fail(f"{operator} {value!r}: {rows(field, compared(field, value))} rows")


def test_conditions_find_what_they_say(ended: SimpleNamespace) -> None:
    task = db.Task
    times = (task.finished_at == text for text in ("2026-03-01T10:02:44Z", "2026-03-01", "2026-03-01 10:02", DONE))
    for condition in (*times, task.status == "completed", task.complete == 1, task.progress == 1, task.progress > 0.5):
        assert [each.id for each in task.select().where(condition)] == [ended.task.id]
    for condition in (task.finished_at > "2026-02-28", task.finished_at < DONE + datetime.timedelta(seconds=1)):
        assert [each.id for each in task.select().where(condition)] == [ended.task.id]
    for condition in (task.finished_at > "2026-03-01", task.finished_at < "2026-03-01"):
        assert len(task.select().where(condition)) == 0
    assert len(task.where(task.finished_at.is_null())) == 1 == len(task.where(task.progress.is_null()))
    assert len(task.where(task.status.contains("omple"))) == 1 == len(task.where(task.status.startswith("emp")))
    assert len(task.where(task.status ** "%ED")) == 1 == len(task.where(task.status.endswith("eted")))


def test_the_near_one_is_suggested(ended: SimpleNamespace) -> None:
    with pytest.raises(Error, match='Task.status takes one of .*, not "faild"; did you mean "failed"'):
        db.Task.where(db.Task.status == "faild").count()


def test_a_query_gives_decoded_values(ended: SimpleNamespace, database: Any) -> None:
    task, names = db.Task, ("name", "status", "complete", "finished_at")
    query = task.select(*(getattr(task, name) for name in names)).order_by(task.id)
    expected = [("average", "completed", True, DONE), ("empty", "empty", False, None)]
    assert list(query.tuples()) == expected
    assert list(query.dicts()) == [dict(zip(names, row, strict=True)) for row in expected]
    assert [tuple(getattr(each, name) for name in names) for each in query] == expected
    assert [tuple(getattr(each, name) for name in names) for each in query.namedtuples()] == expected
    assert task.select(task.finished_at).order_by(task.id).scalar() == DONE
    assert task.select(peewee.fn.MAX(task.finished_at)).scalar() == DONE
    assert task.select(task.finished_at.alias("ended")).order_by(task.id).dicts()[0] == {"ended": DONE}
    assert task.select(peewee.fn.MIN(task.progress), peewee.fn.MAX(task.progress)).tuples()[0] == (1, 1)
    assert task.select(task.id, task.status).order_by(task.id)[1].status == "empty"
    inner = task.select(task.id, task.status, peewee.fn.LOWER(task.status).alias("lower")).alias("inner")
    outer = peewee.Select([inner], [inner.c.status, inner.c.lower]).order_by(inner.c.id)
    assert list(outer.execute(database)) == [{"status": text, "lower": text} for text in ("completed", "empty")]


def test_what_is_computed_is_grouped_ordered_and_cased_by(ended: SimpleNamespace) -> None:
    task, result = db.Task, db.Result
    counted = task.select(task.status, peewee.fn.COUNT(task.id)).group_by(task.status).order_by(task.status)
    assert list(counted.tuples()) == [("completed", 1), ("empty", 1)]
    for field in COMPUTED:
        model = field.model
        grouped = model.select(field, peewee.fn.COUNT(model.id)).group_by(field)
        assert sum(count for _, count in grouped.tuples()) == model.select().count()
        assert len(list(model.select().order_by(field.desc(), model.id))) == model.select().count()
    cased = peewee.Case(None, [(task.status == "empty", "nothing")], "something")
    assert list(task.select(cased).order_by(task.id).tuples()) == [("something",), ("nothing",)]
    joined = result.select().join(task).where(task.status == "completed", result.complete == True)  # noqa: E712
    assert joined.count() == 2


def test_an_alias_has_what_is_computed_too(ended: SimpleNamespace) -> None:
    other = db.Task.alias()
    inner = other.select(other.id).where(other.status == "completed", other.finished_at == "2026-03-01")
    assert [task.id for task in db.Task.where(db.Task.id.in_(inner))] == [ended.task.id]
    assert list(other.select(other.status).order_by(other.id).tuples()) == [("completed",), ("empty",)]
    with pytest.raises(Error, match="takes one of"):
        other.select().where(other.status == "faild").count()
    result = db.Result.alias()
    with pytest.raises(Error, match="takes one of"):
        result.select().where(result.state == "complete").count()


def test_what_is_computed_cannot_be_assigned(ended: SimpleNamespace) -> None:
    for name in ("status", "complete", "finished_at", "progress"):
        with pytest.raises(Error, match="cannot be (set|assigned)"):
            setattr(ended.task, name, None)


def test_a_process_refuses_and_finds_alike(example: Any, tmp_path: Any) -> None:
    asked = "print(db.Task.select().where({}).count())"
    found = answers(
        {
            "day": asked.format('db.Task.finished_at > "05-02-2026"'),
            "json": asked.format('db.Task.finished_at == "2026-02-02T09:19:34Z"'),
            "near": asked.format('db.Task.status == "faild"'),
            "scalar": "print(type(db.Task.select(db.Task.finished_at).order_by(db.Task.id).scalar()).__name__)",
        },
        example,
        tmp_path,
        "--read-only",
    )
    assert found["day"].startswith('Error: Task.finished_at takes a time, not "05-02-2026"')
    assert found["json"] == "1\n" and found["scalar"] == "datetime\n"
    assert found["near"].endswith('did you mean "failed"?\n')
