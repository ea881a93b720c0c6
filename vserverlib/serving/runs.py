"""The calls about runs and results.

A node receives the runs of tasks that were posted over the API only (`task.init_user_id` is set): rows of save(), of
imports and of the example are never handed out, nor failed.
"""

from __future__ import annotations

from typing import Any

import models
from models import Node, Result, Task
from vserverlib.entities import fields, progress
from vserverlib.entities.progress import FAILED, STATUSES
from vserverlib.serving import kills, posted, rows, states
from vserverlib.serving.answers import Answer, page_of
from vserverlib.serving.callers import NODE
from vserverlib.serving.permissions import VIEW
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import TEXT, Field, Request, moment, read
from vserverlib.serving.tables import RESULT, TASK
from vserverlib.serving.task_shapes import require_small, results_shown, runs_shown

RESOURCE = "run"
PATCH = {name: Field(TEXT) for name in ("started_at", "finished_at", "log", "result", "status")}
MAX_LOG = 1024 * 1024  # characters; of a longer log, the end is kept
CUT = "[the beginning of this log was cut off]\n"
SIBLING_FAILED = "not started, because another run of this task failed\n"
MOMENT = fields.UTCDateTimeField()
OPEN = "open"  # the state that is neither completed nor failed


# Listing


def list_(request: Request) -> Answer:
    """List the runs that the caller may see, newest first; a node lists its own."""
    query = _listed(request)
    query = rows.equal(query, request, {"status": Result.status})
    query = rows.like(query, request, Result.log)
    times = {"assigned": Result.assigned_at, "started": Result.started_at, "finished": Result.finished_at}
    query = rows.between(query, request, times)
    state = request.asked("state")
    if state is not None:
        if state != OPEN:
            raise Refusal(400, f"state can be {OPEN} only")
        query = query.where(progress.UNFINISHED_RESULTS)
    return page_of(request, query, lambda found: runs_shown(request, found), require_small)


def list_results(request: Request) -> Answer:
    """List the results that the caller may see, newest first."""
    return page_of(request, _listed(request), lambda found: results_shown(request, found), require_small)


def _listed(request: Request) -> Any:
    query = rows.visible(request, RESOURCE, Result).order_by(Result.id.desc())
    query = rows.equal(query, request, {"task_id": Result.task, "organization_id": Result.organization})
    if (task := request.number("task_id")) is not None:
        rows.by_id(Task, task, 400)  # an empty list would look as if it had no results yet
    if (node := request.number("node_id")) is not None:
        query = _of_node(query, rows.by_id(Node, node, 400))
    if request.who.kind == NODE:
        query = query.where(Result.task.in_(TASK.select(TASK.id).where(TASK.init_user_id.is_null(False))))
    return query


def _of_node(query: Any, node: Node) -> Any:
    """Filter by the node that computes a run: that of its organization in the collaboration of its task."""
    tasks = TASK.select(TASK.id).where(TASK.collaboration_id == node.collaboration_id)
    return query.where((Result.organization == node.organization_id) & Result.task.in_(tasks))


def get(request: Request) -> Answer:
    """Return one run."""
    return Answer(runs_shown(request, [rows.one(request, RESOURCE, VIEW, Result)])[0])


def get_result(request: Request) -> Answer:
    """Return one result."""
    return Answer(results_shown(request, [rows.one(request, RESOURCE, VIEW, Result)])[0])


# A node reports how its run is


def update(request: Request) -> Answer:
    """Write the state, the log or the result of a run: its node does, until the run has ended.

    A field that is not sent is emptied, but for the status and started_at.
    """
    given = read(request.fields, PATCH)
    if (status := given.get("status", progress.PENDING)) not in STATUSES:
        raise Refusal(400, f"a run has no status {status!r}: there are {', '.join(STATUSES)}")
    run = rows.by_id(Result, request.id("run"))
    _require_own(request, run)
    if run.complete:
        raise Refusal(400, f"run {run.id} has ended ({run.status}): it cannot be changed any more")
    _refuse_second_start(run, given)
    _assign(run, given)
    states.save(run)
    room = f"collaboration_{request.who.only_collaboration}"
    request.emit("status_update", {"run_id": run.id}, room)
    if run.status in FAILED:
        _fail_siblings(request, run)
    return Answer(runs_shown(request, [run])[0])


def _require_own(request: Request, run: Result) -> None:
    """Raise a 401 unless a run is for the node that asks, and was posted over the API."""
    caller, task = request.who, run.task
    is_mine = run.organization_id == caller.home and task is not None
    if not is_mine or task.collaboration_id not in caller.collaborations:
        raise lacking()
    if posted.of_task(task.id).init_user_id is None:
        raise Refusal(401, f"task {task.id} was not posted over the API: no node computes it")


def _refuse_second_start(run: Result, given: dict[str, Any]) -> None:
    """Raise a 400 if a run that has started starts at another time: two processes have the key of this node."""
    if (
        run.started_at is not None
        and "started_at" in given
        and moment("started_at", given["started_at"]) != run.started_at
    ):
        raise Refusal(400, f"run {run.id} has started already: run the key of a node in one process only")


def _assign(run: Result, given: dict[str, Any]) -> None:
    """Assign the fields that a node has sent. The status follows the times, as everywhere in our databases."""
    times = {name: moment(name, given[name]) for name in ("started_at", "finished_at") if name in given}
    status = given.get("status", run.status)
    if status in (*FAILED, progress.COMPLETED):
        times.setdefault("finished_at", fields.now())
    if status == progress.ACTIVE and run.started_at is None:
        times.setdefault("started_at", fields.now())
    run.finished_at = times.get("finished_at")
    run.started_at = times.get("started_at", run.started_at)
    run.result, run.log = given.get("result"), cut(given["log"]) if "log" in given else None
    run.status = progress.follow(status, run._stored["started_at"], run._stored["finished_at"])


def cut(log: str) -> str:
    """Return a log, or its end if it is longer than MAX_LOG."""
    return log if len(log) <= MAX_LOG else CUT + log[len(CUT) - MAX_LOG :]


def joined(log: str, text: str) -> str:
    """Return a log with more text, on a line of its own."""
    return f"{log}\n{text}" if log and not log.endswith("\n") else log + text


def _fail_siblings(request: Request, run: Result) -> None:
    """End the runs of the same task that have not started: they would compute in vain."""
    waiting = Result.select().where((Result.task == run.task_id) & (Result.state == progress.PENDING))
    for each in list(waiting):
        states.end(each, progress.FAILURE, SIBLING_FAILED)
        kills.announce_status(request, each, run.task)


def append_log(run_id: int, text: str, node: Any) -> None:
    """Add the output of an algorithm to the log of a run, if it is the node's and has not ended but by a kill.

    For the web sockets, within a job of the desk. The journal does not record it: the whole log comes at the end.
    """
    run = Result.by_id(run_id)
    if run is None or run.organization_id != node.organization_id or run.task is None:
        return
    if run.complete and run.status != states.KILLED:
        return
    if run.task.collaboration_id == node.only_collaboration and posted.of_task(run.task_id).init_user_id is not None:
        values = {RESULT.log: cut(joined(run.log or "", text)), RESULT.logged_at: MOMENT.clean(fields.now())}
        models.database.execute(RESULT.update(values).where(RESULT.id == run_id))
