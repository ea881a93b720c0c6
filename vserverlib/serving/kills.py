"""Killing tasks: their unfinished runs, and those of their subtasks; and having nodes end containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models import Node, Result, Task
from vserverlib.entities import progress
from vserverlib.serving import rows, states
from vserverlib.serving.answers import Answer, message
from vserverlib.serving.callers import Caller
from vserverlib.serving.permissions import COLLABORATION, GLOBAL, ORGANIZATION, SEND
from vserverlib.serving.presence import ONLINE
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import ID, Field, Request, read

RESOURCE = "event"
ONE = {"id": Field(ID, needed=True)}


def _may_send(caller: Caller, collaboration: int | None, organization: int | None) -> bool:
    """Whether a caller may end the tasks of an organization in a collaboration."""
    return (
        caller.may(RESOURCE, SEND, GLOBAL)
        or (caller.may(RESOURCE, SEND, COLLABORATION) and collaboration in caller.collaborations)
        or (caller.may(RESOURCE, SEND, ORGANIZATION) and organization == caller.organization_id)
    )


def kill_task(request: Request) -> Answer:
    """End the unfinished runs of a task and of its subtasks. A 400 if it has finished."""
    task = rows.by_id(Task, read(request.fields, ONE)["id"])
    if not _may_send(request.who, task.collaboration_id, task.initiator_id):
        raise lacking()
    found = unfinished(family(task))
    if not found:
        raise Refusal(400, f"task {task.id} has finished already")
    announce(request, task, found)
    for run in found:
        states.end(run, states.KILLED)
        announce_status(request, run, run.task)
    return message(f"task {task.id} is killed, with {len(found)} unfinished runs")


def family(task: Task) -> list[int]:
    """Return the ids of a task and of all that descend from it."""
    found, last = {task.id}, {task.id}
    while last:
        children = Task.select(Task.id).where(Task.parent.in_(sorted(last))).tuples()
        last = {id for (id,) in children} - found
        found |= last
    return sorted(found)


def unfinished(task_ids: Sequence[int]) -> list[Result]:
    """Return the unfinished runs of some tasks."""
    return list(Result.select().where(Result.task.in_(list(task_ids)), progress.UNFINISHED_RESULTS))


def announce(request: Request, task: Task, found: Sequence[Result]) -> None:
    """Have the nodes end the containers of some runs."""
    if found:
        runs = [{"task_id": run.task_id, "run_id": run.id, "organization_id": run.organization_id} for run in found]
        data = {"kill_list": runs, "collaboration_id": task.collaboration_id}
        request.emit("kill_containers", data, f"collaboration_{task.collaboration_id}")


def announce_status(request: Request, run: Result, task: Task) -> None:
    """Have everybody in the collaboration know the status of a run that the server has ended."""
    place = (Node.collaboration == task.collaboration_id) & (Node.organization == run.organization_id)
    node = Node.first_where(place)
    data: dict[str, Any] = {
        "status": run.status,
        "run_id": run.id,
        "task_id": task.id,
        "job_id": task.run_id,
        "collaboration_id": task.collaboration_id,
        "node_id": None if node is None else node.id,
        "organization_id": run.organization_id,
        "parent_id": task.parent_id,
    }
    request.emit("algorithm_status_change", data, f"collaboration_{task.collaboration_id}")


def kill_node_tasks(request: Request) -> Answer:
    """Have a node end all its containers. A 400 if it is not online."""
    node = rows.by_id(Node, read(request.fields, ONE)["id"])
    if not _may_send(request.who, node.collaboration_id, node.organization_id):
        raise lacking()
    if node.status != ONLINE:
        raise Refusal(400, f"node {node.id} is not online: it has no containers to end")
    data = {"node_id": node.id, "collaboration_id": node.collaboration_id}
    request.emit("kill_containers", data, f"collaboration_{node.collaboration_id}")
    return message(f"node {node.id} was asked to end all its containers")
