"""The columns of a task that the models do not have: who posted it, its databases with their parameters (tables.py)."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import models
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.requests import is_plain
from vserverlib.serving.tables import TASK

Databases = list[dict[str, Any]]  # [{"label": text, "parameters": {...}}]


class Posted(NamedTuple):
    """Who posted a task; None if it did not come over the API. databases: None for the same reason."""

    init_user_id: int | None
    databases: Databases | None


def of_tasks(ids: Collection[int]) -> dict[int, Posted]:
    """Return this of some tasks, by id. One query."""
    query = TASK.select(TASK.id, TASK.init_user_id, TASK.databases).where(TASK.id.in_(sorted(ids)))
    rows = models.database.execute(query) if ids else ()
    return {id: Posted(user, _parsed(text)) for id, user, text in rows}


def _parsed(text: Any) -> Databases | None:
    """Return the databases that a column has; None for what only another program stores there."""
    try:
        found = json.loads(text)
        return [{"label": each["label"], "parameters": dict(each["parameters"])} for each in found]
    except (ValueError, TypeError, KeyError):
        return None


def of_task(id: int) -> Posted:
    """Return this of one task."""
    return of_tasks([id]).get(id, Posted(None, None))


def write(task_id: int, user_id: int | None, databases: Databases) -> None:
    """Write this of a new task."""
    values = {TASK.init_user_id: user_id, TASK.databases: json.dumps(databases, ensure_ascii=False)}
    models.database.execute(TASK.update(values).where(TASK.id == task_id))


def databases_of(task: Any, posted: Posted) -> Databases:
    """Return the databases of a task; of one that did not come over the API, the names in its text."""
    if posted.databases is not None:
        return posted.databases
    labels = [label.strip() for label in (task.database or "").split(",") if label.strip()]
    return [{"label": label, "parameters": {}} for label in labels]


def read(given: Any) -> Databases:
    """Return the databases of a body: [{"label": ..., further parameters}]. A 400 if they do not fit."""
    found = []
    for each in given:
        label = each.get("label")
        if not isinstance(label, str) or not label.strip() or not is_plain(each):
            raise Refusal(400, "Request body is incorrect", {"databases": ["Each has a label, a text."]})
        found.append({"label": label, "parameters": {name: value for name, value in each.items() if name != "label"}})
    return found


def labels(databases: Databases) -> str | None:
    """Return the text for task.database: the labels."""
    return ", ".join(each["label"] for each in databases) or None
