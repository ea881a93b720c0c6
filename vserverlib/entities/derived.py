"""What is computed of a task and of a result, as fields of queries: status, complete, how many, how far, when.

It owns how a query asks for it; what it means is progress.py's. A task's are probes of the index (task_id, state), row
by row, so that a page of a million tasks costs what a page costs. Constants are written out, not passed as parameters:
PostgreSQL takes two expressions with parameters for different ones, in GROUP BY for one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

from vserverlib.drivers import peewee
from vserverlib.entities import progress
from vserverlib.entities.choices import Choice, Share
from vserverlib.entities.fields import BooleanField, IntegerField, UTCDateTimeField, ValidatedField
from vserverlib.entities.progress import RESULT, literal, literals


class ComputedField(ValidatedField):
    """A field that is an expression: it takes and gives the values that a stored field of its type does.

    model: the model that it is computed of, or an alias of one.
    """

    is_computed = True
    is_named = True  # by AS, where a query selects it, so that an outer one can ask for it

    def __init__(self, model: Any, name: str, expression: Any) -> None:
        super().__init__(null=True)
        self.model, self.name, self.expression = model, name, expression
        self.column_name = self.safe_name = name

    def alias(self, alias: str | None = None) -> Any:
        bare = copy.copy(self)
        bare.is_named = False
        return peewee.Alias(bare, alias) if alias else self

    def __sql__(self, ctx: Any) -> Any:
        ctx.sql(self.expression)
        is_part = ctx.scope != peewee.SCOPE_SOURCE or ctx.state.in_function or ctx.state.in_expr
        return ctx if is_part or not self.is_named else ctx.literal(" AS ").sql(peewee.Entity(self.name))


class ComputedChoice(ComputedField, Choice):
    """A status."""

    options = progress.TASK_STATUSES


class ComputedFlag(ComputedField, BooleanField):
    """A truth value."""


class ComputedNumber(ComputedField, IntegerField):
    """How many there are."""


class ComputedShare(ComputedField, Share):
    """How far something is."""


class ComputedTime(ComputedField, UTCDateTimeField):
    """A time."""


FIELDS: dict[str, type[ComputedField]] = {
    "text": ComputedChoice,
    "flag": ComputedFlag,
    "number": ComputedNumber,
    "share": ComputedShare,
    "time": ComputedTime,
}


def field(model: Any, name: str) -> ComputedField:
    """Return what is computed of a model, or of an alias of one, under a name, as a field of its type."""
    found = DERIVED[model.noun][name]
    return FIELDS[found.kind](model, name, found.expression(model))


YES, NO = peewee.SQL("TRUE"), peewee.SQL("FALSE")


def _has(task_id: Any, *states: str) -> Any:
    some = RESULT.select(peewee.SQL("1")).where((RESULT.task_id == task_id) & RESULT.state.in_(literals(*states)))
    return peewee.fn.EXISTS(some)


def _complete(task_id: Any) -> Any:
    unfinished = _has(task_id, progress.PENDING, progress.ACTIVE)
    return peewee.Case(None, [(unfinished, NO), (_has(task_id, progress.COMPLETED, progress.FAILURE), YES)], NO)


def _status(task_id: Any) -> Any:
    order = (progress.FAILURE, progress.ACTIVE, progress.PENDING, progress.COMPLETED)
    return peewee.Case(None, [(_has(task_id, state), literal(state)) for state in order], literal(progress.EMPTY))


def _number(index: int, task_id: Any) -> Any:
    return RESULT.select(progress.columns()[index]).where(RESULT.task_id == task_id)


def _progress(task_id: Any) -> Any:
    total, done = progress.columns()[:2]
    share = done.cast("DOUBLE PRECISION") / peewee.fn.NULLIF(total, peewee.SQL("0"))
    return RESULT.select(share).where(RESULT.task_id == task_id)


def _finished_at(task_id: Any) -> Any:
    return peewee.Case(None, [(_complete(task_id), progress.last_finished(task_id))])


def _finished(model: Any) -> Any:
    return peewee.Case(None, [(model.state.in_(literals(progress.COMPLETED, progress.FAILURE)), YES)], NO)


class Meaning(NamedTuple):
    """What is computed: of which kind it is, and the expression of it in a query of a model."""

    kind: str
    expression: Callable[[Any], Any]


DERIVED: dict[str, dict[str, Meaning]] = {
    "task": {
        "status": Meaning("text", lambda task: _status(task.id)),
        "complete": Meaning("flag", lambda task: _complete(task.id)),
        "total": Meaning("number", lambda task: _number(0, task.id)),
        "done": Meaning("number", lambda task: _number(1, task.id)),
        "progress": Meaning("share", lambda task: _progress(task.id)),
        "finished_at": Meaning("time", lambda task: _finished_at(task.id)),
    },
    "result": {"complete": Meaning("flag", _finished)},
}
