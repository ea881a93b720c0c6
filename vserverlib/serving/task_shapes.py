"""The shapes of tasks, runs and results, which contain each other. A few queries each, however many there are.

A run and a result are the same row of `result`: the run has its state, the result its output.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import models
from models import Node, Result, Task
from vserverlib.drivers import peewee
from vserverlib.serving import posted, states
from vserverlib.serving.answers import Links, Shown, time
from vserverlib.serving.presence import OFFLINE
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.requests import Request
from vserverlib.serving.tables import RESULT, TASK

MAX_ANSWER = 256 * 1024 * 1024  # characters of inputs, results and logs
SIZE = sum((peewee.fn.COALESCE(peewee.fn.LENGTH(text), 0) for text in (RESULT.input, RESULT.result, RESULT.log)), 0)


def tasks_shown(request: Request, tasks: Sequence[Task], include: Collection[str] = ()) -> list[Shown]:
    """Return tasks as the API shows them; include: runs, results. A query for each kind of rows, not for each task."""
    ids, links = [task.id for task in tasks], Links(request)
    found, more = states.runs_of(ids), posted.of_tasks(ids)
    lists = {kind: _by_task(request, ids, kind) for kind in ("runs", "results") if kind in include}
    return [_task_shown(links, task, found[task.id], more[task.id]) | _lists(links, lists, task.id) for task in tasks]


def _task_shown(links: Links, task: Task, found: Collection[states.Run], more: posted.Posted) -> Shown:
    return {
        "id": task.id,
        "name": task.name,
        "description": task.description,
        "image": task.image,
        "job_id": task.run_id,
        "created_at": time(task.created_at),
        "finished_at": time(Result.finished_at.decode(states.finished_at(found))),
        "status": states.of_task(found),
        "collaboration": links.one("collaboration", task.collaboration_id),
        "init_org": links.one("organization", task.initiator_id),
        "init_user": links.one("user", more.init_user_id),
        "parent": links.one("task", task.parent_id),
        "study": None,
        "algorithm_store": None,
        "children": links.many("task", "parent_id", task.id),
        "databases": [
            {"label": each["label"], "parameters": json.dumps(each["parameters"])}
            for each in posted.databases_of(task, more)
        ],
    }


def _lists(links: Links, lists: dict[str, dict[int, list[Shown]]], id: int) -> Shown:
    kinds = {"runs": "run", "results": "result"}
    return {
        name: lists[name].get(id, []) if name in lists else links.many(kind, "task_id", id)
        for name, kind in kinds.items()
    }


def _by_task(request: Request, ids: Sequence[int], kind: str) -> dict[int, list[Shown]]:
    """Return the runs or results of some tasks, by task. kind: runs, results."""
    query = Result.select().where(Result.task.in_(ids)).order_by(Result.id)
    require_small(query)
    found = list(query) if ids else []
    shapes = runs_shown(request, found) if kind == "runs" else results_shown(request, found)
    lists: dict[int, list[Shown]] = {}
    for each, shape in zip(found, shapes, strict=True):
        lists.setdefault(each.task_id, []).append(shape)
    return lists


def require_small(query: Any) -> None:
    """Raise a 400 if the runs or results of a query are too much for one answer. One query."""
    ids = query.select(Result.id)
    asked = RESULT.select(peewee.fn.SUM(SIZE)).where(RESULT.id.in_(ids))
    size = models.database.execute(asked).fetchone()[0] or 0
    if size > MAX_ANSWER:
        raise Refusal(400, f"the answer would have {size >> 20:,} MB: ask for fewer with per_page, or one by one")


def runs_shown(request: Request, found: Sequence[Result]) -> list[Shown]:
    """Return runs as the API shows them. include=task: with their tasks. A few queries, however many runs."""
    links, nodes = Links(request), _nodes(found)
    tasks = _tasks(request, found) if "task" in request.included else {}
    return [
        {
            "id": each.id,
            "input": each.input,
            "assigned_at": time(each.assigned_at),
            "started_at": time(each.started_at),
            "finished_at": time(each.finished_at),
            "status": each.status,
            "log": each.log,
            "cleanup_at": None,
            "blob_storage_used": False,
            "ports": [],
            "organization": links.one("organization", each.organization_id),
            "task": tasks.get(each.task_id) or links.one("task", each.task_id),
            "results": links.one("result", each.id),
            "node": nodes.get(each.id),
        }
        for each in found
    ]


def _nodes(found: Sequence[Result]) -> dict[int, Shown]:
    """Return the nodes that compute some runs, by run. Two queries."""
    ids = sorted({each.task_id for each in found if each.task_id is not None})
    query = TASK.select(TASK.id, TASK.collaboration_id).where(TASK.id.in_(ids))
    collaborations = dict(models.database.execute(query).fetchall()) if ids else {}
    nodes = Node.select().where(Node.collaboration.in_(sorted({*collaborations.values()} - {None}))) if ids else []
    by_place = {(node.collaboration_id, node.organization_id): node for node in reversed(list(nodes))}
    places = {each.id: (collaborations.get(each.task_id), each.organization_id) for each in found}
    return {
        id: {"id": node.id, "name": node.name, "ip": node.ip, "status": node.status or OFFLINE}
        for id, place in places.items()
        if (node := by_place.get(place)) is not None
    }


def _tasks(request: Request, found: Sequence[Result]) -> dict[int, Shown]:
    """Return the tasks of some runs, by id, without their lists of runs."""
    ids = sorted({each.task_id for each in found if each.task_id is not None})
    shapes = tasks_shown(request, list(Task.select().where(Task.id.in_(ids)))) if ids else []
    return {each["id"]: {name: value for name, value in each.items() if name != "runs"} for each in shapes}


def results_shown(request: Request, found: Sequence[Result]) -> list[Shown]:
    """Return results as the API shows them."""
    links = Links(request)
    return [
        {
            "id": each.id,
            "result": each.result,
            "cleanup_at": None,
            "blob_storage_used": False,
            "run": links.one("run", each.id),
            "task": links.one("task", each.task_id),
        }
        for each in found
    ]
