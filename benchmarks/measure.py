"""Shared by the benchmarks: timing in turns, and comparing figures with goals.

A goal is a ratio of two times that were measured in turns in the same run, so it holds on any machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
os.environ["VSERVER_PLAIN_STARTS"] = "1"  # a program of tests/helpers starts as everybody's does, not by a fork

Timed = Callable[[], float]  # runs something once, returns the seconds


class Goal(NamedTuple):
    """A comparison, its ratio, and the limit of the ratio. least: the limit is a minimum."""

    what: str
    ratio: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        return self.ratio >= self.limit if self.least else self.ratio <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.least else "at most"
        return f"{self.what:<66} {self.ratio:7.2f}  {word:>8} {self.limit:5.2f}  {'ok' if self.met else 'MISSED'}"


def clock(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes, without the time to free its result."""
    began = time.perf_counter()
    _answer = call()
    return time.perf_counter() - began


def in_turns(rounds: int, *timed: Timed) -> list[list[float]]:
    """Time each in turns, after one uncounted round; return the seconds of each round."""
    for each in timed:
        each()
    found = [[each() for each in timed] for _ in range(rounds)]
    return [list(column) for column in zip(*found, strict=True)]


def ratio(seconds: list[float], baseline: list[float]) -> float:
    """Return the ratio of the best times: a disturbance only makes a run slower."""
    return min(seconds) / min(baseline)


def drop_triggers(path: Path) -> None:
    """Delete the triggers that write the journal."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        conn.executescript(";".join(f'DROP TRIGGER "{name}"' for name in names))


def heading(title: str) -> None:
    """Print a title, the versions, and whether psycopg is installed, which Peewee imports."""
    driver = "with" if importlib.util.find_spec("psycopg") else "without"
    print(f"{title}\nPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {driver} psycopg")


def report(label: str, seconds: list[float]) -> None:
    """Print the best and the median of measured times."""
    print(f"  {label:<56} best {min(seconds) * 1000:8.1f} ms   median {statistics.median(seconds) * 1000:8.1f} ms")


def verdict(goals: list[Goal]) -> int:
    """Print the goals, and return the exit status: 1 if one is missed."""
    print(*goals, sep="\n")
    return 0 if all(goal.met for goal in goals) else 1
