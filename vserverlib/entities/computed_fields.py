"""The computed fields of tasks and results in queries: status, complete, total, done, progress, finished_at.

progress.py defines their meaning; this module has their SQL. Those of a task look into the index (task_id, state) for
each row, so a page of a million tasks costs as much as any page. Constants are part of the SQL: PostgreSQL treats
two expressions with parameters as different, for example in GROUP BY.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

from vserverlib.drivers import peewee
from vserverlib.entities import progress
from vserverlib.entities.choices import Choice, FractionField
from vserverlib.entities.fields import BooleanField, IntegerField, UTCDateTimeField, ValidatedField
from vserverlib.entities.progress import RESULT, literal, literals


class ComputedField(ValidatedField):
    """A field that is an expression. It accepts and returns the values that a stored field of its type does.

    model: a model, or an alias of one.
    """

    is_computed = True
    is_named = True  # by AS if a query selects it, so that an outer query can refer to it

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
    """A computed status."""

    options = progress.TASK_STATUSES


class ComputedBoolean(ComputedField, BooleanField):
    """A computed truth value."""


class ComputedInteger(ComputedField, IntegerField):
    """A computed number."""


class ComputedFraction(ComputedField, FractionField):
    """A computed fraction."""


class ComputedDateTime(ComputedField, UTCDateTimeField):
    """A computed time."""


FIELD_TYPES: dict[str, type[ComputedField]] = {
    "text": ComputedChoice,
    "flag": ComputedBoolean,
    "number": ComputedInteger,
    "share": ComputedFraction,
    "time": ComputedDateTime,
}


def computed_field(model: Any, name: str) -> ComputedField:
    """Return the computed field with a name, for queries of a model or of an alias of one."""
    found = COMPUTED_FIELDS[model.noun][name]
    return FIELD_TYPES[found.kind](model, name, found.expression(model))


YES, NO = peewee.SQL("TRUE"), peewee.SQL("FALSE")


def _has(task_id: Any, *states: str) -> Any:
    some = RESULT.select(peewee.SQL("1")).where((RESULT.task_id == task_id) & RESULT.state.in_(literals(*states)))
    return peewee.fn.EXISTS(some)


def _task_complete(task_id: Any) -> Any:
    unfinished = _has(task_id, progress.PENDING, progress.ACTIVE)
    return peewee.Case(None, [(unfinished, NO), (_has(task_id, progress.COMPLETED, progress.FAILURE), YES)], NO)


def _status(task_id: Any) -> Any:
    order = (progress.FAILURE, progress.ACTIVE, progress.PENDING, progress.COMPLETED)
    return peewee.Case(None, [(_has(task_id, state), literal(state)) for state in order], literal(progress.EMPTY))


def _number(index: int, task_id: Any) -> Any:
    return RESULT.select(progress.columns()[index]).where(RESULT.task_id == task_id)


def _progress(task_id: Any) -> Any:
    total, done = progress.columns()[:2]
    fraction = done.cast("DOUBLE PRECISION") / peewee.fn.NULLIF(total, peewee.SQL("0"))
    return RESULT.select(fraction).where(RESULT.task_id == task_id)


def _finished_at(task_id: Any) -> Any:
    return peewee.Case(None, [(_task_complete(task_id), progress.last_finished(task_id))])


def _result_complete(model: Any) -> Any:
    return peewee.Case(None, [(model.state.in_(literals(progress.COMPLETED, progress.FAILURE)), YES)], NO)


class Definition(NamedTuple):
    """A computed field: its type, a key of FIELD_TYPES, and a function that returns its SQL for a model."""

    kind: str
    expression: Callable[[Any], Any]


COMPUTED_FIELDS: dict[str, dict[str, Definition]] = {
    "task": {
        "status": Definition("text", lambda task: _status(task.id)),
        "complete": Definition("flag", lambda task: _task_complete(task.id)),
        "total": Definition("number", lambda task: _number(0, task.id)),
        "done": Definition("number", lambda task: _number(1, task.id)),
        "progress": Definition("share", lambda task: _progress(task.id)),
        "finished_at": Definition("time", lambda task: _finished_at(task.id)),
    },
    "result": {"complete": Definition("flag", _result_complete)},
}
