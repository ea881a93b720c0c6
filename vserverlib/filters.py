"""Filters: what a person types to say which entities are meant, as conditions of a query.

    FIELD OPERATOR VALUE        status=failed   name~average   created_at>-2d   organization.country=NL

The operators are = != < <= > >= and ~ (contains, ignoring case). A field is one of the entity, one of a linked entity
(`initiator.country`), the link itself (by id or name), or what is worked out: a task's status, complete, done, total,
progress and finished_at, a result's state, and how many a relation has (`nodes=0`). `null` means that there is no
value; nothing at all (`name=`) is the empty text; quotes take a value as it stands (`name="null"`).

`!=` is the opposite of `=`: a row without a value is not equal to any. Otherwise a row without a value fits nothing.

It owns the language. Raises a UsageError for what is none of it, a NotFound error for a name that nobody has.
"""

from __future__ import annotations

import datetime
import functools
import operator
import re
from typing import Any, NamedTuple

from vserverlib import NotFound, UsageError, inert, near, progress
from vserverlib.drivers import peewee
from vserverlib.fields import LARGEST, Flag, Instant, Secret, Whole, WorkedOut, as_utc, now, whole
from vserverlib.progress import RESULT
from vserverlib.relations import BackrefAccessor, Link, Memberships

FORM = re.compile(r"\s*([\w.]+)\s*(!=|<=|>=|=|<|>|~)\s?(.*)", re.DOTALL)
AGE = re.compile(r"-\s*(\d{1,6})\s*([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
YES, NO = ("true", "yes", "1"), ("false", "no", "0")
ORDERED = ("<", "<=", ">", ">=")
MOST_NAMES = 10_000  # names that are looked through for a near one
DAY = re.compile(r"\d{4}-\d\d-\d\d")


class Filter(NamedTuple):
    """A filter taken apart. value: None for null."""

    path: str
    operator: str
    value: str | None


def parse(text: str) -> Filter:
    """Return the parts of a filter."""
    found = FORM.fullmatch(text)
    if found is None:
        form = "FIELD OPERATOR VALUE, such as status=failed or name~average"
        raise UsageError(f'"{inert(text)}" is no filter: write {form}')
    path, operator, value = found.groups()
    if value == "null":
        return Filter(path, operator, None)
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return Filter(path, operator, value[1:-1] if quoted else value)


def condition(model: Any, text: str) -> Any:
    """Return the condition that a filter means for a model."""
    asked = parse(text)
    equal = asked._replace(operator="=") if asked.operator == "!=" else asked
    found = _condition(model, asked.path.split("."), equal)
    return found if equal is asked else _opposite(found)


def searched(model: Any, text: str) -> Any:
    """Return the condition that a text is contained, ignoring case, in any text of an entity or the name of a link."""
    fields = [field for field in model.stored_fields() if isinstance(field, peewee.TextField | Link)]
    found = [_contains(field, text) for field in fields if not isinstance(field, Secret)]
    return functools.reduce(operator.or_, [one for one in found if one is not None])


def order(model: Any, text: str) -> list[Any]:
    """Return the terms that a list of fields, those with a minus downwards, orders by; the id at the end."""
    terms = [_term(model, word.strip()) for word in text.split(",") if word.strip()]
    return [*terms, model.id]


def names(model: Any) -> list[str]:
    """Return what can be asked for: the fields, links and what is worked out."""
    fields = [field.name for field in model._meta.sorted_fields if not isinstance(field, Secret)]
    relations = [name for name in dir(model) if isinstance(getattr(model, name), Memberships | BackrefAccessor)]
    return list(dict.fromkeys([*fields, *DERIVED.get(model.noun, ()), *relations]))


# Which field


def _condition(model: Any, path: list[str], asked: Filter) -> Any:
    name, *rest = path
    field = model._meta.combined.get(name)
    if rest:
        if not isinstance(field, Link):
            links = [link.name for link in model._meta.refs]
            raise UsageError(f'{model.noun} has no link "{inert(name)}"{near(name, links)}')
        target = field.rel_model
        return field.in_(target.select(target.id).where(_condition(target, rest, asked)))
    if isinstance(field, Link) and name == field.name:
        return _of_link(field, asked)
    return _of_value(_value(model, name), asked)


class Value(NamedTuple):
    """Something that can be compared: an expression, and what kind of value it has."""

    expression: Any
    kind: str
    name: str
    choices: tuple[str, ...] = ()


def _value(model: Any, name: str) -> Value:
    field = model._meta.combined.get(name)
    derived = DERIVED.get(model.noun, {}).get(name)
    if derived:
        kind, expression = derived
        return Value(expression(model), kind, name, progress.TASK_STATUSES if name == "status" else ())
    relation = getattr(model, name, None)
    if isinstance(relation, Memberships | BackrefAccessor):
        return Value(_count(model, relation), "number", name)
    if field is None or isinstance(field, Secret):
        raise UsageError(f'{model.noun} has no field "{inert(name)}"{near(name, names(model))}')
    kinds = {Flag: "flag", Instant: "time"}
    kind = "number" if isinstance(field, Whole | Link) else kinds.get(type(field), "text")
    choices = progress.STATES if isinstance(field, WorkedOut) else ()
    return Value(field, kind, name, choices)


def _count(model: Any, relation: Any) -> Any:
    link = relation.mine if isinstance(relation, Memberships) else relation.field
    other = link.model.alias()
    return other.select(peewee.fn.COUNT(other.id)).where(getattr(other, link.name) == model.id)


# What is worked out of a task: probes of the index (task_id, state), row by row


def _has(task_id: Any, *states: str) -> Any:
    some = RESULT.select(peewee.SQL("1")).where((RESULT.task_id == task_id) & RESULT.state.in_(states))
    return peewee.fn.EXISTS(some)


def _complete(task_id: Any) -> Any:
    unfinished = _has(task_id, progress.PENDING, progress.ACTIVE)
    return peewee.Case(None, [(unfinished, 0), (_has(task_id, progress.COMPLETED, progress.FAILURE), 1)], 0)


def _status(task_id: Any) -> Any:
    order = (progress.FAILURE, progress.ACTIVE, progress.PENDING, progress.COMPLETED)
    return peewee.Case(None, [(_has(task_id, state), state) for state in order], progress.EMPTY)


def _number(index: int, task_id: Any) -> Any:
    return RESULT.select(progress.columns()[index]).where(RESULT.task_id == task_id)


def _progress(task_id: Any) -> Any:
    total, done = progress.columns()[:2]
    share = done.cast("REAL") / peewee.fn.NULLIF(total, 0)
    return RESULT.select(share).where(RESULT.task_id == task_id)


def _finished_at(task_id: Any) -> Any:
    return peewee.Case(None, [(_complete(task_id) == 1, progress.last_finished(task_id))])


def _finished(model: Any) -> Any:
    return peewee.Case(None, [(model.state.in_((progress.COMPLETED, progress.FAILURE)), 1)], 0)


# What is worked out of an entity: its kind, and the expression of it in a query of the model.
DERIVED: dict[str, dict[str, tuple[str, Any]]] = {
    "task": {
        "status": ("text", lambda task: _status(task.id)),
        "complete": ("flag", lambda task: _complete(task.id)),
        "total": ("number", lambda task: _number(0, task.id)),
        "done": ("number", lambda task: _number(1, task.id)),
        "progress": ("number", lambda task: _progress(task.id)),
        "finished_at": ("time", lambda task: _finished_at(task.id)),
    },
    "result": {"complete": ("flag", _finished)},
}


# What is compared with it


def _of_value(value: Value, asked: Filter) -> Any:
    if asked.value is None:
        return _null(value.expression, asked)
    if asked.operator == "~":
        if value.kind != "text":
            raise UsageError(f"{value.name} is a {value.kind}: ~ (contains) asks for a text")
        return _contains(value.expression, asked.value)
    reader = {"number": _as_number, "flag": _as_flag, "time": _as_time, "text": _as_text}[value.kind]
    if value.kind == "time" and asked.operator == "=" and DAY.fullmatch(asked.value):
        day = as_utc(reader(value, asked))
        return (value.expression >= _stored(day)) & (value.expression < _stored(day + datetime.timedelta(days=1)))
    return _compared(value.expression, asked.operator, reader(value, asked))


def _compared(left: Any, operator: str, right: Any) -> Any:
    compare = {"=": "EQ", "<": "LT", "<=": "LTE", ">": "GT", ">=": "GTE"}[operator]
    return peewee.Expression(left, getattr(peewee.OP, compare), peewee.Value(right, converter=False))


def _null(expression: Any, asked: Filter) -> Any:
    if asked.operator != "=":
        raise UsageError(f"{asked.path}{asked.operator}null asks nothing: null is compared by = and != only")
    return peewee.Expression(expression, peewee.OP.IS, None)


def _opposite(found: Any) -> Any:
    """Return what holds where a condition does not, be it for want of a value."""
    return peewee.Case(None, [(found, 0)], 1) == 1


def _as_number(value: Value, asked: Filter) -> float:
    text = asked.value or ""
    number = whole(text)
    if number is not None and abs(number) > LARGEST:
        raise UsageError(f"{value.name} has at most 64 bits: {inert(text)} is too large")
    if number is not None:
        return number
    try:
        return float(text)
    except ValueError:
        raise UsageError(f'{value.name} is a number, not "{inert(text)}"') from None


def _as_flag(value: Value, asked: Filter) -> int:
    text = (asked.value or "").lower()
    if asked.operator != "=" or text not in YES + NO:
        raise UsageError(f'{value.name} is true or false: write {value.name}=true, not "{inert(asked.value)}"')
    return int(text in YES)


def _as_text(value: Value, asked: Filter) -> str:
    text = asked.value or ""
    if value.choices and text not in value.choices:
        known = ", ".join(value.choices)
        raise UsageError(f'{value.name} is one of {known}, not "{inert(text)}"{near(text, value.choices)}')
    return text


def _as_time(value: Value, asked: Filter) -> str:
    text = (asked.value or "").strip()
    try:
        return _stored(_moment(text))
    except (ValueError, OverflowError):
        raise UsageError(f'{value.name} is a time, not "{inert(text)}": write {FORMS} -2d (s, m, h, d, w)') from None


FORMS = "2026-03-01, 2026-03-01T09:30 (UTC) or an age such as"


def _moment(text: str) -> datetime.datetime:
    age = AGE.fullmatch(text)
    return now() - datetime.timedelta(**{UNITS[age[2]]: int(age[1])}) if age else as_utc(text)


def past(text: str) -> datetime.datetime:
    """Return the moment that a time means, or an age, which needs no minus here: 90d."""
    given = text.strip()
    try:
        return _moment(f"-{given}" if AGE.fullmatch(f"-{given}") else given)
    except (ValueError, OverflowError):
        raise UsageError(f'"{inert(text)}" is no time: write {FORMS} 2d (s, m, h, d, w)') from None


def _stored(moment: datetime.datetime) -> str:
    return moment.isoformat(" ", "microseconds")


def _contains(expression: Any, text: str) -> Any:
    """Return the condition that a text is contained, ignoring the case of ASCII letters (LIKE knows no other)."""
    if not isinstance(expression, Link):
        return expression.contains(text)
    target, name = expression.rel_model, _name_field(expression.rel_model)
    return name and expression.in_(target.select(target.id).where(name.contains(text)))


# Links


def _of_link(link: Any, asked: Filter) -> Any:
    if asked.value is None:
        return _null(link, asked)
    if asked.operator == "~":
        found = _contains(link, asked.value)
        if found is None:
            raise UsageError(f"{link.rel_model.plural} have no names: {link.name} is compared by = and != with an id")
        return found
    if asked.operator in ORDERED:
        raise UsageError(f"{link.name} is a link: it is compared by =, != and ~ only")
    id = whole(asked.value)
    return link == (id if id is not None else _id_of(link.rel_model, asked.value))


def _id_of(model: Any, name: str) -> Any:
    """Return the ids of the entities of a name, as a query; a NotFound error, with a near name, for none."""
    field = _name_field(model)
    if field is None:
        raise UsageError(f'{model.plural} have no names: give an id, not "{inert(name)}"')
    if model.first_where(field == name) is None:
        rows = model.select(field).where(field.is_null(False)).limit(MOST_NAMES).tuples()
        raise NotFound(f'no {model.noun} "{inert(name)}"{near(name, (text for (text,) in rows))}')
    return model.select(model.id).where(field == name)


def _name_field(model: Any) -> Any:
    return model._meta.fields.get("username") or model._meta.fields.get("name")


def _by_name(field: Any) -> Any:
    """Return the name of what a link leads to, or the field itself; None where there are no names."""
    if not isinstance(field, Link):
        return field
    target = field.rel_model.alias()
    name = _name_field(field.rel_model)
    return name and target.select(getattr(target, name.name)).where(target.id == field)


def _term(model: Any, word: str) -> Any:
    name = word.removeprefix("-")
    field = model._meta.combined.get(name)
    expression = _by_name(field) if isinstance(field, Link) and name == field.name else _value(model, name).expression
    return (peewee.Desc if word.startswith("-") else peewee.Asc)(expression)
