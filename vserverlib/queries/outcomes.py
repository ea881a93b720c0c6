"""The outcome of a task: the decoded result and the log of each of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from models import Organization, Result, Task
from vserverlib import payloads
from vserverlib.drivers import peewee
from vserverlib.entities import finding

DEEPEST = 100  # lists within lists that are decoded: writers of JSON and YAML fail after some hundreds


class Run(NamedTuple):
    """A run of a task. id: of the result. result: from JSON; a text if encrypted, not JSON, or nested too deeply."""

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
    """Return the value of a stored result; None for an empty one, the text if it is not base64 of JSON or too deep."""
    if not isinstance(stored, str) or not stored:
        return stored or None
    text = payloads.readable(stored)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if _is_deep(found) else found


def _is_deep(value: Any) -> bool:
    """Whether a value has more than DEEPEST lists or objects within each other."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [each for one in level for each in _parts(one)]
    return bool(level)


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def as_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the runs as rows for programs."""
    return [{"task_id": outcome.task_id, **run._asdict()} for run in outcome.runs]
