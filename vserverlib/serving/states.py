"""The states of tasks and runs as vantage6 4.15 names them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import models
from models import Result
from vserverlib.entities.fields import now
from vserverlib.entities.progress import ACTIVE, COMPLETED, FAILURE, PENDING
from vserverlib.serving.tables import RESULT

KILLED = "killed by user"
ENDED = (COMPLETED, FAILURE)  # states of a result


class Run(NamedTuple):
    """The row of a result, as far as the state of its task needs it."""

    task_id: int
    organization_id: int
    status: str
    state: str
    finished_at: Any


def runs_of(task_ids: Collection[int]) -> dict[int, list[Run]]:
    """Return the runs of some tasks, by task. One query."""
    columns = (RESULT.task_id, RESULT.organization_id, RESULT.status, RESULT.state, RESULT.finished_at)
    query = RESULT.select(*columns).where(RESULT.task_id.in_(sorted(task_ids)))
    found: dict[int, list[Run]] = {id: [] for id in task_ids}
    for row in models.database.execute(query) if task_ids else ():
        found[row[0]].append(Run(*row))
    return found


def of_task(runs: Collection[Run]) -> str:
    """Return the state of a task: the first of failed, active, pending, completed that a run has.

    A failure is that of all failed runs if they share one. Without runs, a task is completed.
    """
    failures = {run.status for run in runs if run.state == FAILURE}
    if failures:
        return failures.pop() if len(failures) == 1 else FAILURE
    states = {run.state for run in runs}
    return next((state for state in (ACTIVE, PENDING) if state in states), COMPLETED)


def finished_at(runs: Collection[Run]) -> Any:
    """Return when a task completed, as stored; None if it has not, or failed."""
    if not runs or any(run.state != COMPLETED for run in runs):
        return None
    return max(str(run.finished_at) for run in runs)


def save(run: Result) -> None:
    """Save a run as a node or a kill has left it. No rule refuses that: nothing would be better for it."""
    with models.database.rule_checks(False):
        run.save()


def end(run: Result, status: str, log: str | None = None) -> None:
    """End a run with a failure, and save it. One that has not started has no time of its end."""
    run.status, run.log = status, run.log if log is None else log
    run.finished_at = None if run.started_at is None else now()
    save(run)


def runs_at(task_id: int, organization_id: int | None) -> list[Run]:
    """Return the runs of a task at an organization: one at most, of a task over the API. One query."""
    return [run for run in runs_of([task_id])[task_id] if run.organization_id == organization_id]


def has_ended(runs: Collection[Run]) -> bool:
    """Whether all runs have ended; True without any."""
    return all(run.state in ENDED for run in runs)
