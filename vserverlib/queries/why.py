"""Why a task is not finished: whom it waits for, and what failed, in one answer.

A fixed number of queries, however many results the task has. terminal/why_report.py displays it.
"""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from models import Member, Node, Organization, Result, Task
from vserverlib.entities import finding, progress
from vserverlib.entities.fields import as_integer
from vserverlib.queries import details

NEXT = 5  # tasks that descend from a task

Moment = datetime.datetime | None

# Inputs and results are left out, which may have megabytes each.
COLUMNS = (
    Result.id,
    Result.organization,
    Result.state,
    Result.status,
    Result.assigned_at,
    Result.started_at,
    Result.finished_at,
)


class Awaited(NamedTuple):
    """A result that is not finished. since: when it was assigned, or started if it is active.

    node_id: None if the organization has no node in the collaboration; last_seen: None if that was never seen; a text
    if another program stored no time. obstacles: what keeps the result from finishing, in words.
    """

    result_id: int
    organization_id: int | None
    organization: str | None
    state: str
    since: Any
    node_id: int | None
    node: str | None
    last_seen: Any
    obstacles: list[str]


class Failed(NamedTuple):
    """A result that failed. log: the last lines of its log."""

    result_id: int
    organization_id: int | None
    organization: str | None
    status: str | None
    finished_at: Any
    log: list[str]


class Child(NamedTuple):
    """A child task that is not finished."""

    id: int
    name: str | None
    status: str


class Why(NamedTuple):
    """Why a task is not finished. finished, total: numbers of results. children: unfinished child tasks, the first.

    left_alone: whether no node gets it, because it was saved and not posted.
    """

    id: int
    name: str | None
    status: str
    complete: bool
    finished: int
    total: int
    created_at: Any
    collaboration_id: int | None
    collaboration: str | None
    encrypted: bool | None
    left_alone: bool
    awaited: list[Awaited]
    failed: list[Failed]
    children: list[Child]


def why(database: Any, task: Any) -> Why:
    """Return why a task is not finished, as it is at one moment. task: a Task, its id or its name. Does not write.

    Raises NotFound if there is no such task.
    """
    with database.reading():
        try:
            return _why(_task(task))
        except Exception as error:
            if not database.can_retry(error):
                raise
            return _why(_task(task))


def _task(task: Any) -> Task:
    if isinstance(task, Task) and not task.is_saved:
        raise task.not_saved("task to explain")
    found: Task = finding.one(Task, f"task/{task.id}" if isinstance(task, Task) else str(task))
    return found


def _why(task: Task) -> Why:
    counts, collaboration = task.counts, task.collaboration
    results = list(Result.select(*COLUMNS).where(Result.task == task.id).sort("assigned_at"))
    find = _organizations(results).get
    awaited = [result for result in results if result.state in (progress.PENDING, progress.ACTIVE)]
    failed = [result for result in results if result.state == progress.FAILURE]
    nodes, members, logs = _nodes(task), _members(task), details.log_ends([each.id for each in failed])
    return Why(
        id=task.id,
        name=task.name,
        status=task.status,
        complete=task.complete,
        finished=counts.done,
        total=counts.total,
        created_at=task.created_at,
        collaboration_id=task.collaboration_id,
        collaboration=None if collaboration is None else collaboration.name,
        encrypted=None if collaboration is None else collaboration.encrypted,
        left_alone=details.is_left_alone(task, [each.state for each in results]),
        awaited=[_awaited(each, find(each.organization_id), nodes, members, collaboration) for each in awaited],
        failed=[_failed(each, find(each.organization_id), logs.get(each.id, [])) for each in failed],
        children=_children(task),
    )


def _organizations(results: list[Result]) -> dict[int, Organization]:
    """Return the organizations of results, by id."""
    ids = sorted({id for each in results if (id := as_integer(each.organization_id)) is not None})
    return {each.id: each for each in Organization.where(progress.among(Organization.id, ids))} if ids else {}


def _nodes(task: Task) -> dict[int, Node]:
    """Return the nodes of the task's collaboration by organization, the oldest if there are several."""
    found = Node.where(Node.collaboration == task.collaboration_id) if task.collaboration_id is not None else ()
    return {node.organization_id: node for node in reversed(list(found))}


def _members(task: Task) -> set[int]:
    """Return the ids of the organizations in the task's collaboration."""
    query = Member.select(Member.organization).where(Member.collaboration == task.collaboration_id)
    return {id for (id,) in query.tuples()} if task.collaboration_id is not None else set()


def _awaited(
    result: Result, organization: Any, nodes: dict[int, Node], members: set[int], collaboration: Any
) -> Awaited:
    id = result.organization_id
    node = nodes.get(id)
    return Awaited(
        result_id=result.id,
        organization_id=id,
        organization=None if organization is None else organization.name,
        state=result.state,
        since=result.started_at if result.state == progress.ACTIVE else result.assigned_at,
        node_id=None if node is None else node.id,
        node=None if node is None else node.name,
        last_seen=None if node is None else node.last_seen,
        obstacles=[*_obstacles(id, organization, node, id in members, collaboration)],
    )


def _obstacles(id: Any, organization: Any, node: Any, is_member: bool, collaboration: Any) -> list[str]:
    """Return what keeps a result from finishing, in words."""
    if id is None:
        return ["the result has no organization"]
    if organization is None:
        return ["the organization does not exist"]
    if collaboration is None:
        return ["the task has no collaboration, so no node receives it"]
    found = [] if is_member else ["the organization is not in the collaboration"]
    found += [] if node is not None else ["the organization has no node in the collaboration"]
    is_locked = collaboration.encrypted and not organization.public_key
    return [*found, *(["the collaboration is encrypted, but the organization has no public key"] if is_locked else [])]


def _failed(result: Result, organization: Any, log: list[str]) -> Failed:
    name = None if organization is None else organization.name
    return Failed(result.id, result.organization_id, name, result.status, result.finished_at, log)


def _children(task: Task) -> list[Child]:
    found = Task.where(Task.parent == task.id).where("complete=false").limit(NEXT)
    return [Child(each.id, each.name, each.status) for each in found]


def as_data(found: Why) -> dict[str, Any]:
    """Return the answer as dictionaries and lists; times stay datetimes."""
    lists = {name: [each._asdict() for each in getattr(found, name)] for name in ("awaited", "failed", "children")}
    return {**found._asdict(), **lists}
