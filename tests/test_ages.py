"""Ages and times are typed the same everywhere: 2d and -2d, 5m, ISO times."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest
from helpers.process import vserver

from vserverlib import UsageError
from vserverlib.entities import ages, fields

KINDS = ["sqlite"]
DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize("text", ["2d", "-2d", " - 2 d ", "48h", "2880m", "-172800s"])
def test_an_age_has_a_minus_or_none(text: str) -> None:
    assert ages.duration(text) == 2 * DAY
    for found in (ages.past(text), ages.span(text).first, ages.span(text).last):
        assert abs(fields.now() - found - 2 * DAY) < datetime.timedelta(minutes=1)
    assert ages.timeout(text) == 2 * 86400


@pytest.mark.parametrize("text", ["2", "2y", "+2d", "d", "--2d", "1.5d", "2d3h", "9999999d", "2٢d"])
def test_anything_else_is_no_age(text: str) -> None:
    assert ages.duration(text) is None


@pytest.mark.parametrize("given", ["2d", "-2d", "2026-02-03", "2026-02-03T11:02", "2026-02-03 11:02 +01:00", "today"])
def test_every_place_takes_the_same_texts(given: str, example: Path) -> None:
    for words in (
        ("log", "--since", given),
        ("list", "tasks", "--where", f"created_at>{given}"),
        ("shell", "-q", "-c", f"len(db.Task.where('created_at>{given}')), db.log(since='{given}')"),
        ("shell", "-q", "-c", f"from vserverlib import api; api.log(since='{given}')"),
        ("log", "--prune", given, "--yes"),
        ("wait", "1", "--timeout", given),
    ):
        done = vserver(*words, cwd=example.parent)
        assert done.status == 0, (words, done)


@pytest.mark.parametrize("given", ["2x", "yesterday", "2026-13-01", "", "\x1b[31m"])
def test_every_place_refuses_the_same_texts_with_a_remedy(given: str, example: Path) -> None:
    for words in (
        ("log", "--since", given),
        ("list", "tasks", "--where", f"created_at>{given}"),
        ("log", "--prune", given, "--yes"),
        ("wait", "1", "--timeout", given),
    ):
        done = vserver(*words, cwd=example.parent)
        assert (done.status, done.out) == (2, "") and "2026-03-01" in done.err and "\x1b" not in done.err, (words, done)


def test_a_timeout_in_seconds_minutes_or_until_a_time(example: Path) -> None:
    assert ages.timeout("60") == 60 and ages.timeout("0.5") == 0.5 and ages.timeout("5m") == 300
    assert ages.timeout("2020-01-01") == ages.timeout("now") == 0
    soon = (fields.now() + datetime.timedelta(seconds=2)).isoformat(" ")
    assert 0 < ages.timeout(soon) <= 2
    for bad in ("-1", "nan", "x"):
        with pytest.raises(UsageError, match=f'invalid timeout "{bad}"'):
            ages.timeout(bad)
    began = time.monotonic()
    assert vserver("wait", "11", "--timeout", "1s", cwd=example.parent).status == 3
    assert time.monotonic() - began > 1
