"""How far a task is: the states of a result and of a task, and grouped queries that tell them for a whole list.

* a result has failed when its status is one of FAILED; else it is completed, active or pending as its times say. The
  database computes this by itself (the column result.state), whoever writes the row. A blank text that another program
  has written counts as no time, and any other text that is no time only if the status says the same: what a time is,
  timestamps.is_time() decides, and migration 0003 in SQL;
* a result has finished when it is completed or has failed; a task is complete when it has results and all have;
* a task's status is empty without results, else the first of failed, active, pending, completed that one of its
  results is in.

The status texts are vantage6's (vantage6-common, globals and task_status, releases 4.15 and 5.0).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

from vserverlib.drivers import peewee
from vserverlib.entities import timestamps

PENDING, ACTIVE, COMPLETED, FAILURE, EMPTY = "pending", "active", "completed", "failed", "empty"
FAILED = (
    "failed",
    "start failed",
    "non-existing Docker image",
    "crashed",
    "killed by user",
    "not allowed",
    "unknown error",
    "dataframe not found",
    "depended on failed task",
    "unexpected output",
)
STATUSES = (PENDING, "initializing", ACTIVE, COMPLETED, *FAILED)  # what a server writes as the status of a result
STATES = (PENDING, ACTIVE, COMPLETED, FAILURE)
TASK_STATUSES = (EMPTY, *STATES)

UNFINISHED_RESULTS = peewee.SQL("state IN ('pending', 'active')")  # word by word what the partial index says

RESULT = peewee.Table("result", ("id", "task_id", "organization_id", "finished_at", "state"))
BLANK = "\t\n\v\f\r "  # what a text is made of that holds nothing
MOST_IDS = 10_000  # ids in one IN (…); a longer list asks for the range that holds them


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """The results of one task: how many there are, have finished, have failed, are active."""

    total: int = 0
    done: int = 0
    failed: int = 0
    active: int = 0

    @property
    def complete(self) -> bool:
        return 0 < self.total == self.done

    @property
    def status(self) -> str:
        if not self.total:
            return EMPTY
        if self.failed:
            return FAILURE
        if self.active:
            return ACTIVE
        return COMPLETED if self.done == self.total else PENDING

    @property
    def share(self) -> float | None:
        """Return which part has finished, from 0 to 1; None without results."""
        return self.done / self.total if self.total else None

    @staticmethod
    @functools.lru_cache(maxsize=10_000)  # most tasks have the counts of others
    def unpacked(text: str) -> Counts:
        """Return the counts that packed() made one text of."""
        return Counts(*map(int, text.split()))


NO_RESULTS = Counts()


def state_of(status: str | None, started_at: object, finished_at: object) -> str:
    """Return the state of a result, as the database computes it of what is stored."""
    if status in FAILED:
        return FAILURE
    if _has_come(finished_at, status == COMPLETED):
        return COMPLETED
    return ACTIVE if _has_come(started_at, status == ACTIVE) else PENDING


def _has_come(stored: object, is_confirmed: bool) -> bool:
    """Whether a value in the place of a time tells that something happened: a time does; another text if confirmed."""
    return timestamps.is_time(stored) or (is_confirmed and isinstance(stored, str) and stored.strip(BLANK) != "")


def follow(status: str | None, started_at: object, finished_at: object) -> str:
    """Return the status of a result: a failure stays as it is told, anything else is what the times say."""
    return status if status in FAILED else state_of(status, started_at, finished_at)


def literal(state: str) -> Any:
    """Return a state as SQL: PostgreSQL takes two expressions that have parameters for different ones (GROUP BY)."""
    return peewee.SQL(f"'{state}'")


def literals(*states: str) -> Any:
    """Return states as SQL has a list of them."""
    return peewee.EnclosedNodeList([literal(state) for state in states])


def columns(result: Any = RESULT) -> tuple[Any, ...]:
    """Return the expressions of Counts, less the task's id, over the results of a group."""
    state, one = result.state, peewee.SQL("1")
    wanted = (state.in_(literals(COMPLETED, FAILURE)), state == literal(FAILURE), state == literal(ACTIVE))
    return (peewee.fn.COUNT(result.id), *(peewee.fn.COUNT(peewee.Case(None, [(each, one)])) for each in wanted))


# Of what another program has stored in place of times, none is the last.
LAST = peewee.fn.MAX(peewee.Case(None, [(timestamps.dated(RESULT.finished_at), RESULT.finished_at)]))


def read_counts(database: Any, ids: Collection[int]) -> dict[int, Counts]:
    """Return the counts of the tasks with these ids that have results, by one query."""
    query = RESULT.select(RESULT.task_id, *columns()).where(among(RESULT.task_id, ids)).group_by(RESULT.task_id)
    alike: dict[tuple[int, ...], Counts] = {}  # most tasks have the counts of others: one object for all of these
    found = {}
    with database.fetching():
        for row in database.execute(query):
            counts = row[1:]
            found[row[0]] = alike.get(counts) or alike.setdefault(counts, Counts(*counts))
    return found


def read_finished(database: Any, ids: Collection[int]) -> dict[int, Any]:
    """Return when the last result of the tasks with these ids finished, as the database tells it, by one query."""
    last = RESULT.select(RESULT.task_id, LAST).where(among(RESULT.task_id, ids))
    with database.fetching():
        return dict(database.execute(last.group_by(RESULT.task_id)))


def packed(task_id: Any) -> Any:
    """Return the counts of one task as one text, for a query over tasks: one look at the index for each of them.

    Counts.unpacked() reads it. An expression for each count took half as long again over a million tasks.
    """
    total, *others = (number.cast("TEXT") for number in columns())
    for number in others:
        total = total.concat(" ").concat(number)
    return RESULT.select(total).where(RESULT.task_id == task_id)


def last_finished(task_id: Any) -> Any:
    """Return when the last result of one task finished, for a query over tasks."""
    return RESULT.select(LAST).where(RESULT.task_id == task_id)


def among(column: Any, ids: Collection[int]) -> Any:
    """Return a condition for one query, however many ids: the ids themselves, or the range that holds them."""
    if len(ids) <= MOST_IDS:
        return column.in_(sorted(ids))
    return column.between(min(ids), max(ids))
