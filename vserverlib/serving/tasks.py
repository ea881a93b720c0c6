"""The calls about tasks: listing, posting, deleting, and their status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models import Collaboration, Node, Result, Task
from vserverlib.drivers import peewee
from vserverlib.entities import deleting
from vserverlib.entities.progress import COMPLETED, FAILURE, STATES
from vserverlib.serving import encryption, kills, posted, rows, states
from vserverlib.serving.answers import Answer, message, page_of
from vserverlib.serving.callers import CONTAINER, Caller
from vserverlib.serving.permissions import COLLABORATION, CREATE, DELETE, GLOBAL, VIEW
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import ID, OBJECTS, TEXT, Field, Request, read
from vserverlib.serving.tables import RESULT, TASK
from vserverlib.serving.task_shapes import tasks_shown

RESOURCE = "task"
NEW = {
    "name": Field(TEXT),
    "description": Field(TEXT),
    "image": Field(TEXT, needed=True),
    "collaboration_id": Field(ID),
    "study_id": Field(ID),
    "store_id": Field(ID),
    "organizations": Field(OBJECTS, needed=True),
    "databases": Field(OBJECTS, nullable=True),
}
ORGANIZATION = {"id": Field(ID, needed=True), "input": Field(TEXT, nullable=True)}


def list_(request: Request) -> Answer:
    """List the tasks that the caller may see."""
    query = rows.visible(request, RESOURCE, Task)
    query = rows.equal(
        query,
        request,
        {
            "collaboration_id": Task.collaboration,
            "init_org_id": Task.initiator,
            "parent_id": Task.parent,
            "job_id": Task.run_id,
        },
    )
    for field in (Task.name, Task.image, Task.description, Task.database):
        query = rows.like(query, request, field)
    query = rows.between(query, request, {"created": Task.created_at})
    query = _more_filters(request, query)
    return page_of(request, query, lambda found: tasks_shown(request, found, request.included))


def _more_filters(request: Request, query: Any) -> Any:
    """Filter by the user, the status, whether a user posted it; studies and stores have no tasks."""
    if (user := request.number("init_user_id")) is not None:
        query = query.where(Task.id.in_(TASK.select(TASK.id).where(TASK.init_user_id == user)))
    if request.asked("is_user_created") is not None:
        query = query.where(Task.parent.is_null(request.flag("is_user_created")))
    if (status := request.asked("status")) is not None:
        query = query.where(_has_status(status))
    if request.number("study_id") is not None or request.number("store_id") is not None:
        query = query.none()
    return query


def _has_status(status: str) -> Any:
    """Return the condition of tasks with a run of a status; completed: with no other ones."""
    of_task = RESULT.select(RESULT.id).where(RESULT.task_id == Task.id)
    if status == COMPLETED:
        return ~peewee.fn.EXISTS(of_task.where(RESULT.state != COMPLETED))
    column = RESULT.state if status in STATES and status != FAILURE else RESULT.status
    return peewee.fn.EXISTS(of_task.where(column == status))


def get(request: Request) -> Answer:
    """Return one task."""
    task = rows.one(request, RESOURCE, VIEW, Task)
    return Answer(tasks_shown(request, [task], request.included)[0])


def status(request: Request) -> Answer:
    """Return the status of one task."""
    task = rows.one(request, RESOURCE, VIEW, Task)
    return Answer({"status": states.of_task(states.runs_of([task.id])[task.id])})


def delete(request: Request) -> Answer:
    """Kill a task and its subtasks, and delete them with their runs."""
    task = rows.by_id(Task, request.id("task"))
    delete_one(request, task)
    return message(f"Task id={task.id} successfully deleted")


def delete_one(request: Request, task: Task) -> None:
    """Kill a task and its subtasks, and delete them with their runs. A 401 if the caller lacks the right."""
    if Task.by_id(task.id) is None:
        return  # it was a subtask of one that is deleted
    request.who.require(RESOURCE, DELETE, task)
    kills.announce(request, task, kills.unfinished(kills.family(task)))
    deleting.delete([task], dependents=True)


# Posting


def create(request: Request) -> Answer:
    """Post a task: a run for each organization, whose node is notified. A container posts a subtask of its task."""
    given = read(request.fields, NEW)
    if "study_id" in given or "store_id" in given:
        raise Refusal(400, "this server has no studies and no algorithm stores: leave out study_id and store_id")
    caller = request.who
    parent = _parent(caller, given) if caller.kind == CONTAINER else None
    collaboration = _collaboration(caller, given)
    inputs = _inputs(collaboration, given["organizations"])
    given["databases"] = posted.read(given.get("databases", ()))
    task = _saved(caller, given, collaboration, parent)
    poster = caller.id if parent is None else posted.of_task(parent.id).init_user_id
    posted.write(task.id, poster, given["databases"])
    for organization, text in inputs.items():
        Result(task=task, organization=organization, input=text).save()
    request.emit("new_task", {"id": task.id, "parent_id": task.parent_id}, f"collaboration_{collaboration.id}")
    return Answer(tasks_shown(request, [task])[0], 201)


def _parent(caller: Caller, given: dict[str, Any]) -> Task:
    """Return the task of a container that posts a subtask. A 401 if the image or the collaboration is another."""
    parent = rows.by_id(Task, caller.task_id, 401)
    if given["image"] != parent.image:
        raise Refusal(401, f"a container can post tasks of its own image only, {parent.image}")
    if given.get("collaboration_id", parent.collaboration_id) != parent.collaboration_id:
        raise Refusal(401, f"a container can post tasks in its own collaboration only, {parent.collaboration_id}")
    given["collaboration_id"] = parent.collaboration_id
    return parent


def _collaboration(caller: Caller, given: dict[str, Any]) -> Collaboration:
    """Return the collaboration of a new task. A 401 if the caller may not post tasks in it."""
    if "collaboration_id" not in given:
        raise Refusal(400, "Request body is incorrect", {"collaboration_id": ["Missing data for required field."]})
    collaboration = rows.by_id(Collaboration, given["collaboration_id"])
    is_mine = collaboration.id in caller.collaborations
    if caller.kind != CONTAINER and not (
        caller.may(RESOURCE, CREATE, GLOBAL) or (is_mine and caller.may(RESOURCE, CREATE, COLLABORATION))
    ):
        raise lacking()
    if caller.organization_id not in collaboration.get_organization_ids():
        raise Refusal(400, f"organization {caller.organization_id}, yours, is not in {collaboration.named()}")
    return collaboration


def _inputs(collaboration: Collaboration, given: Sequence[dict[str, Any]]) -> dict[int, str]:
    """Return the inputs by organization. A 400 if one is no member, has no node, or an input that does not fit."""
    wanted = [read(each, ORGANIZATION) for each in given]
    ids = [each["id"] for each in wanted]
    if not ids or len(set(ids)) < len(ids):
        raise Refusal(400, "organizations names each organization once, and at least one")
    if strangers := sorted(set(ids) - set(collaboration.get_organization_ids())):
        raise Refusal(400, f"organizations that are not in {collaboration.named()}: {_words(strangers)}")
    nodes = Node.select(Node.organization).where(Node.collaboration == collaboration.id).tuples()
    if without := sorted(set(ids) - {id for (id,) in nodes}):
        raise Refusal(400, f"organizations without a node in {collaboration.named()}: {_words(without)}")
    found = {each["id"]: each.get("input", "") for each in wanted}
    for text in found.values():
        encryption.require(text, bool(collaboration.encrypted))
    return found


def _words(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


def _saved(caller: Caller, given: dict[str, Any], collaboration: Collaboration, parent: Task | None) -> Task:
    texts = {name: given.get(name) for name in ("name", "description", "image")}
    labels = posted.labels(given["databases"])
    task = Task(**texts, collaboration=collaboration, parent=parent, database=labels, initiator=caller.organization_id)
    task.save()
    return task
