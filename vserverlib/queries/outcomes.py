"""The outcome of a task: the decoded result and the log of each of its runs."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from models import Organization, Result, Task
from vserverlib import payloads
from vserverlib.drivers import peewee
from vserverlib.entities import finding


class Run(NamedTuple):
    """A run of a task. id: of the result. result: decoded from JSON; a text if it is encrypted or not JSON."""

    id: int
    organization: str | None
    state: str
    status: str | None
    result: Any
    log: str | None


class Outcome(NamedTuple):
    """A task and its runs, in the order of their ids."""

    task_id: int
    runs: list[Run]

    @property
    def results(self) -> list[Any]:
        """The results of the runs; None for each that has not completed."""
        return [run.result for run in self.runs]


def of_task(id: int) -> Outcome:
    """Return the runs of a task. Two queries. Raises NotFound if it was deleted."""
    if Task.by_id(id) is None:
        raise finding.unknown(Task, str(id))
    columns = (Result.id, Organization.name, Result.state, Result.status, Result.result, Result.log)
    query = (
        Result.select(*columns).join(Organization, peewee.JOIN.LEFT_OUTER).where(Result.task == id).order_by(Result.id)
    )
    runs = [
        Run(run_id, organization, state, status, decoded(result), log)
        for run_id, organization, state, status, result, log in query.tuples()
    ]
    return Outcome(id, runs)


def decoded(stored: Any) -> Any:
    """Return the value of a stored result; None for an empty one, the text itself if it is not base64 of JSON."""
    if not isinstance(stored, str) or not stored:
        return stored or None
    text = payloads.readable(stored)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def as_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the runs as rows for programs."""
    return [{"task_id": outcome.task_id, **run._asdict()} for run in outcome.runs]
