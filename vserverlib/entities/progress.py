"""Progress: the states of a result and of a task, and grouped queries that read them for a whole list.

* A result is failed if its status is one of FAILED; otherwise its times say whether it is completed, active or pending.
  The database computes this in the column result.state, whichever program writes the row. A blank text in place of a
  time counts as no time; any other text that is not a time counts only if the status agrees. timestamps.is_time()
  defines times, and migration 0003 does so in SQL.
* A result is finished if it is completed or failed. A task is finished (`complete`) if it has results and all of them
  are finished.
* A task without results is empty. Otherwise its status is the first of failed, active, pending, completed that any of
  its results has: so a failed task may still wait for other results.

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
KILLED = "killed by user"
FAILED = (
    FAILURE,
    "start failed",
    "non-existing Docker image",
    "crashed",
    KILLED,
    "not allowed",
    "unknown error",
    "dataframe not found",
    "depended on failed task",
    "unexpected output",
)
STATUSES = (PENDING, "initializing", ACTIVE, COMPLETED, *FAILED)  # that a server writes for a result
STATES = (PENDING, ACTIVE, COMPLETED, FAILURE)
TASK_STATUSES = (EMPTY, *STATES)

UNFINISHED_RESULTS = peewee.SQL("state IN ('pending', 'active')")  # literally the condition of the partial index

RESULT = peewee.Table("result", ("id", "task_id", "organization_id", "finished_at", "state"))
BLANK = "\t\n\v\f\r "  # the characters of a blank text
MOST_IDS = 10_000  # ids in one IN (…); a longer list becomes the range that contains them


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of results of one task: all, finished (done), failed, active."""

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
        """Return the finished fraction of the results, from 0 to 1; None without results."""
        return self.done / self.total if self.total else None

    @staticmethod
    @functools.lru_cache(maxsize=10_000)  # most tasks have the same counts as others
    def unpacked(text: str) -> Counts:
        """Return the counts from the text that packed() selects."""
        return Counts(*map(int, text.split()))


NO_RESULTS = Counts()


def state_of(status: str | None, started_at: object, finished_at: object) -> str:
    """Return the state of a result, as the database computes it from stored values."""
    if status in FAILED:
        return FAILURE
    if _has_come(finished_at, status == COMPLETED):
        return COMPLETED
    return ACTIVE if _has_come(started_at, status == ACTIVE) else PENDING


def _has_come(stored: object, is_confirmed: bool) -> bool:
    """Whether a stored value means that its moment has come: a time does, another text only if the status agrees."""
    return timestamps.is_time(stored) or (is_confirmed and isinstance(stored, str) and stored.strip(BLANK) != "")


def follow(status: str | None, started_at: object, finished_at: object) -> str:
    """Return the status to store for a result: a failure is kept, anything else is what the times say."""
    return status if status in FAILED else state_of(status, started_at, finished_at)


def literal(state: str) -> Any:
    """Return a state as SQL: in GROUP BY, PostgreSQL treats two expressions with parameters as different."""
    return peewee.SQL(f"'{state}'")


def literals(*states: str) -> Any:
    """Return a list of states as SQL."""
    return peewee.EnclosedNodeList([literal(state) for state in states])


def columns(result: Any = RESULT) -> tuple[Any, ...]:
    """Return the expressions for the fields of Counts over a group of results."""
    state, one = result.state, peewee.SQL("1")
    wanted = (state.in_(literals(COMPLETED, FAILURE)), state == literal(FAILURE), state == literal(ACTIVE))
    return (peewee.fn.COUNT(result.id), *(peewee.fn.COUNT(peewee.Case(None, [(each, one)])) for each in wanted))


# Values of other programs that are not times are ignored.
LAST = peewee.fn.MAX(peewee.Case(None, [(timestamps.dated(RESULT.finished_at), RESULT.finished_at)]))


def read_counts(database: Any, ids: Collection[int]) -> dict[int, Counts]:
    """Return the counts, by id, of the tasks with these ids that have results. One query."""
    query = RESULT.select(RESULT.task_id, *columns()).where(among(RESULT.task_id, ids)).group_by(RESULT.task_id)
    alike: dict[tuple[int, ...], Counts] = {}  # tasks with equal counts share one object
    found = {}
    with database.fetching():
        for row in database.execute(query):
            counts = row[1:]
            found[row[0]] = alike.get(counts) or alike.setdefault(counts, Counts(*counts))
    return found


def read_finished(database: Any, ids: Collection[int]) -> dict[int, Any]:
    """Return when the last result of each of these tasks finished, by id, as stored. One query."""
    last = RESULT.select(RESULT.task_id, LAST).where(among(RESULT.task_id, ids))
    with database.fetching():
        return dict(database.execute(last.group_by(RESULT.task_id)))


def packed(task_id: Any) -> Any:
    """Return the counts of one task as one text, for a query over tasks: one look-up in the index for each task.

    Counts.unpacked() reads it. Four expressions took half as long again over a million tasks.
    """
    total, *others = (number.cast("TEXT") for number in columns())
    for number in others:
        total = total.concat(" ").concat(number)
    return RESULT.select(total).where(RESULT.task_id == task_id)


def last_finished(task_id: Any) -> Any:
    """Return the expression for when the last result of one task finished, for a query over tasks."""
    return RESULT.select(LAST).where(RESULT.task_id == task_id)


def among(column: Any, ids: Collection[int]) -> Any:
    """Return the condition that a column is one of these ids; for many ids, in the range that contains them."""
    if len(ids) <= MOST_IDS:
        return column.in_(sorted(ids))
    return column.between(min(ids), max(ids))
