"""What is worked out of a task and of a result, as expressions of a query: status, complete, how many, how far, when.

It owns how a query asks for it; what it means is progress.py's. A task's are probes of the index (task_id, state), row
by row, so that a page of a million tasks costs what a page costs.
"""

from __future__ import annotations

from typing import Any

from vserverlib.databases.drivers import peewee
from vserverlib.entities import progress
from vserverlib.entities.progress import RESULT


def expression(model: Any, name: str) -> Any:
    """Return what is worked out of a model under a name, in a query of it."""
    return DERIVED[model.noun][name][1](model)


def _has(task_id: Any, *states: str) -> Any:
    some = RESULT.select(peewee.SQL("1")).where((RESULT.task_id == task_id) & RESULT.state.in_(states))
    return peewee.fn.EXISTS(some)


def _complete(task_id: Any) -> Any:
    unfinished = _has(task_id, progress.PENDING, progress.ACTIVE)
    return peewee.Case(None, [(unfinished, False), (_has(task_id, progress.COMPLETED, progress.FAILURE), True)], False)


def _status(task_id: Any) -> Any:
    order = (progress.FAILURE, progress.ACTIVE, progress.PENDING, progress.COMPLETED)
    return peewee.Case(None, [(_has(task_id, state), state) for state in order], progress.EMPTY)


def _number(index: int, task_id: Any) -> Any:
    return RESULT.select(progress.columns()[index]).where(RESULT.task_id == task_id)


def _progress(task_id: Any) -> Any:
    total, done = progress.columns()[:2]
    share = done.cast("DOUBLE PRECISION") / peewee.fn.NULLIF(total, 0)
    return RESULT.select(share).where(RESULT.task_id == task_id)


def _finished_at(task_id: Any) -> Any:
    return peewee.Case(None, [(_complete(task_id), progress.last_finished(task_id))])


def _finished(model: Any) -> Any:
    return peewee.Case(None, [(model.state.in_((progress.COMPLETED, progress.FAILURE)), True)], False)


# What is worked out of an entity: its kind, and the expression of it in a query of the model.
DERIVED: dict[str, dict[str, tuple[str, Any]]] = {
    "task": {
        "status": ("text", lambda task: _status(task.id)),
        "complete": ("flag", lambda task: _complete(task.id)),
        "total": ("number", lambda task: _number(0, task.id)),
        "done": ("number", lambda task: _number(1, task.id)),
        "progress": ("share", lambda task: _progress(task.id)),
        "finished_at": ("time", lambda task: _finished_at(task.id)),
    },
    "result": {"complete": ("flag", _finished)},
}
