"""Times as text: a text means all that it leaves open; what is printed anywhere is taken by filters."""

from __future__ import annotations

import datetime
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.process import vserver as process

import models as db
import vserver
from vserverlib import Error, UsageError
from vserverlib.entities import ages, fields, timestamps

STORED = "2026-02-03 10:02:44.123456+00:00"
AROUND = (  # what the time of a task is, and those before and after it
    "2025-12-31 23:59:59.999999+00:00",
    "2026-02-02 23:59:59.999999+00:00",
    "2026-02-03 10:01:59.999999+00:00",
    STORED,
    "2026-02-03 10:03:00.000000+00:00",
    "2026-02-04 00:00:00.000000+00:00",
    "2026-03-01 00:00:00.000000+00:00",
    "2027-01-01 00:00:00.000000+00:00",
)
SPANS = {  # the numbers of the first and the last of these that a text means
    "2026": (1, 6),
    "2026-02": (1, 5),
    "2026-02-03": (2, 4),
    "2026-02-03 10": (2, 4),
    "2026-02-03T10:02": (3, 3),
    "2026-02-03 10:02": (3, 3),
    "2026-02-03 10:02:44": (3, 3),
    "2026-02-03 10:02:44 UTC": (3, 3),
    "2026-02-03T10:02:44Z": (3, 3),
    "2026-02-03 10:02:44.1": (3, 3),
    "2026-02-03T10:02:44.123456Z": (3, 3),
    "2026-02-03 11:02 +01:00": (3, 3),
    "2026-02-03T05:02-0500": (3, 3),
    "20260203": (2, 4),
}
NO_TIMES = (
    *("05-02-2026", "2026-13-01", "2026-02-30", "2026-02-03 24:00", "2026-02-03 10:60", "", "0000-01-01", "null "),
    *("2026-02-03 10:02 +25:00", "9999-12-31 23:59:59-12:00", "\uff12\uff10\uff12\uff16-02-03", "tomorrow", "1e9"),
)


@pytest.fixture
def tasks(database: Any) -> list[Any]:
    """Tasks that were made at these times, in this order."""
    found = [db.Task(name=f"task {number}", created_at=at) for number, at in enumerate(AROUND)]
    with database.rule_checks(False):
        for task in found:
            task.save()
    return found


def fit(first: int, last: int) -> dict[str, list[int]]:
    """Return by operator the numbers of the tasks that fit, where these are meant."""
    everyone = list(range(len(AROUND)))
    return {
        "=": everyone[first : last + 1],
        "!=": everyone[:first] + everyone[last + 1 :],
        "<": everyone[:first],
        "<=": everyone[: last + 1],
        ">": everyone[last + 1 :],
        ">=": everyone[first:],
    }


def test_a_text_means_all_of_it_with_every_operator(tasks: list[Any]) -> None:
    for text in SPANS:
        check_operators(text)


def check_operators(text: str) -> None:
    column = db.Task.created_at
    for operator, numbers in fit(*SPANS[text]).items():
        expected = [f"task {number}" for number in numbers]
        assert [task.name for task in db.Task.where(f"created_at{operator}{text}").sort("id")] == expected, (
            operator,
            text,
        )
        compared = {
            "=": column == text,
            "!=": column != text,
            "<": column < text,
            "<=": column <= text,
            ">": column > text,
            ">=": column >= text,
        }
        assert [task.name for task in db.Task.where(compared[operator]).sort("id")] == expected, (operator, text)


def test_other_forms_of_a_condition_mean_all_of_it_too(tasks: list[Any]) -> None:
    column, day = db.Task.created_at, datetime.date(2026, 2, 3)
    assert len(db.Task.where(created_at="2026-02-03")) == len(db.Task.where(created_at=day)) == 3
    assert len(db.Task.where(column == day)) == 3 and len(db.Task.where(column > day)) == 3
    assert len(db.Task.where(column.between("2026-02-02", "2026-02-03"))) == 4
    assert len(db.Task.where(column.in_(["2026-02-03", "2027", AROUND[0]]))) == 5
    assert len(db.Task.where(column.not_in(["2026-02-03", "2027", AROUND[0]]))) == 3
    moment = datetime.datetime(2026, 2, 3, 10, 2, 44, tzinfo=datetime.UTC)
    assert len(db.Task.where(created_at=moment)) == 0 == len(db.Task.where(column == moment))  # exactly
    assert len(db.Task.where(created_at=moment.replace(microsecond=123456))) == 1
    assert db.Task.where(column == None).count() == 0 and db.Task.where(column.is_null(False)).count() == 8  # noqa: E711
    assert db.Task.alias().created_at.between("2026", "2026") is not None


def test_an_invalid_time_is_refused(story: SimpleNamespace) -> None:
    for text in NO_TIMES:
        with pytest.raises(UsageError, match="created_at is a time, not"):
            db.Task.where(f'created_at<"{text}"')
        with pytest.raises(Error, match=r"Task\.created_at takes a time, not"):
            db.Task.created_at < text  # noqa: B015  # it is refused when it is written
        with pytest.raises(Error, match=r"Task\.created_at takes a time, not"):
            story.task.created_at = text


def test_what_is_assigned_is_one_moment(story: SimpleNamespace) -> None:
    for text in ("2026", "2026-02", "now", "today", "-2d"):
        with pytest.raises(Error, match="takes a time"):
            story.task.created_at = text
    for text in ("2026-02-03 10:02:44 UTC", "2026-02-03T10:02:44Z", "2026-02-03 11:02:44 +01:00"):
        story.task.created_at = text
        assert story.task.created_at == datetime.datetime(2026, 2, 3, 10, 2, 44, tzinfo=datetime.UTC)


def test_today_and_now_are_times(story: SimpleNamespace) -> None:
    assert len(db.Task.where("created_at<=now")) == 1 == len(db.Task.where("created_at>=-1h"))
    assert ages.past("today").time() == datetime.time() and ages.past("now") <= fields.now()


def test_the_end_of_time_is_within_it(tasks: list[Any]) -> None:
    tasks[0].created_at = timestamps.LATEST
    tasks[0].save()
    assert len(db.Task.where("created_at=9999")) == 1 == len(db.Task.where("created_at=9999-12-31 23:59"))
    assert len(db.Task.where("created_at<=9999-12")) == 8 and len(db.Task.where("created_at>9999-12-31")) == 0
    assert len(db.Task.where("created_at>=0001")) == 8 and len(db.Task.where("created_at<0001-01-01")) == 0


@pytest.mark.sqlite
def test_an_invalid_time_is_before_and_after_nothing(tasks: list[Any], database: Any) -> None:
    for number, odd in enumerate(("''", "' '", "'yesterday'", "x'00'", "'0'")):
        database.execute_sql(f"UPDATE task SET created_at = {odd} WHERE id = {tasks[number].id}")
    assert len(db.Task.where("created_at>0001")) == 3 == len(db.Task.where("created_at<9999"))
    assert len(db.Task.where("created_at=null")) == 5 and len(db.Task.where("created_at!=null")) == 3
    assert len(db.Task.where(db.Task.created_at > "0002")) == 3 == len(db.Task.where(db.Task.created_at < "9999"))


def run(*words: str) -> str:
    done = CliRunner().invoke(vserver.main, list(words), prog_name="vserver")
    assert done.exit_code == 0, done.stderr
    return str(done.stdout)


def test_every_time_that_is_printed_finds_its_row(address: str, tasks: list[Any], database: Any) -> None:
    tasks[0].created_at = "0907-02-03 10:02:44"  # four digits of a year, as of any other
    tasks[0].save()
    for task in (tasks[0], tasks[3]):
        printed = {
            re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d", run("-d", address, "list", "tasks", "--where", f"id={task.id}")),
            re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", run("-d", address, "show", "task", str(task.id))),
        }
        texts = [found[0] for found in printed if found]
        texts.append(json.loads(run("-d", address, "show", "task", str(task.id), "-o", "json"))["created_at"])
        assert len(texts) == 3
        for text in texts:
            assert run("-d", address, "list", "tasks", "--where", f"created_at={text}", "-o", "name") == (
                f"task/{task.id}\n"
            ), text


def test_a_filter_of_a_process_takes_what_is_printed(example: Any) -> None:
    for text in ("2026-02-03 10:02", "2026-02-03 10:02:44 UTC", "2026-02-03T10:02:44Z"):
        assert process("-d", example, "list", "tasks", "--where", f"created_at={text}", "-o", "name").out == "task/2\n"
    day = process("-d", example, "list", "tasks", "--where", "created_at<=2026-02-03", "-o", "name").out
    assert "task/2\n" in day
    log = process("-d", example, "log", "--since", "2026-02-03 10:02:44 UTC")
    assert log.status == 0 and log.err == "nothing is recorded\n"


@pytest.mark.parametrize("text", ["2026-W06", "2026W06"])
def test_a_week_means_all_of_it(text: str) -> None:
    first, last = timestamps.span(text)
    assert (f"{first:%Y-%m-%d %H:%M}", f"{last:%Y-%m-%d %H:%M:%S}") == ("2026-02-02 00:00", "2026-02-08 23:59:59")
