"""Filters: conditions of a query, as text that people type.

    FIELD OPERATOR VALUE        status=failed   name~average   created_at>-2d   organization.country=NL

The operators are = != < <= > >= and ~ (contains, ignoring case). A field is a field of the entity or of a linked entity
(`initiator.country`), a link (by id or name), a computed field (a task's status, complete, done, total, progress and
finished_at, a result's state), or the size of a relation (`nodes=0`). The value `null` means no value, an empty value
(`name=`) the empty text; a quoted value is taken literally (`name="null"`).

`!=` is the opposite of `=`, so it matches rows without a value. The other operators do not match them.

This module defines the language: the paths of names that can be compared, sorted by and shown. It raises a UsageError
for a filter that is not part of it, and NotFound for a name that no entity has.
"""

from __future__ import annotations

import datetime
import functools
import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from vserverlib import UsageError, did_you_mean, printable, vantage6_names
from vserverlib.databases import case_folding
from vserverlib.drivers import peewee
from vserverlib.entities import ages, fields, finding, progress, timestamps
from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.computed_fields import COMPUTED_FIELDS
from vserverlib.entities.fields import BooleanField, IntegerField, Secret, UTCDateTimeField, as_integer, is_64_bit
from vserverlib.entities.progress import RESULT
from vserverlib.entities.relations import BackrefAccessor, Link, Memberships, relations
from vserverlib.entities.timestamps import Span
from vserverlib.entities.typed_values import NO, YES, encodable, literal

FORM = re.compile(r"\s*([\w.]+)\s*([!=<>~]+)\s?(.*)", re.DOTALL)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
DIGITS = re.compile(r"[-+]?\d+", re.ASCII)
ORDERED = ("<", "<=", ">", ">=")
EQUAL = ("=", "!=")
OPERATORS = {  # by the kind of value
    "any": (*EQUAL, *ORDERED, "~"),
    "state": EQUAL,
    "flag": EQUAL,
    "link": (*EQUAL, "~"),
    "number": (*EQUAL, *ORDERED),
    "share": (*EQUAL, *ORDERED),
    "time": (*EQUAL, *ORDERED),
    "text": (*EQUAL, *ORDERED, "~"),
}
KIND_NAMES = {"flag": "true or false", "number": "a number", "share": "a number", "time": "a time", "text": "a text"}
MOST_FILTERS = 50  # in one query: SQLite refuses conditions nested 100 deep
MOST_LINKS = 5  # in a path
LONGEST_TEXT = 1000  # characters of a filter


class Filter(NamedTuple):
    """The parts of a filter. value: None for null. quoted: whether it was in quotes, so that blanks count."""

    path: str
    operator: str
    value: str | None
    quoted: bool = False


def parse(text: str) -> Filter:
    """Return the parts of a filter. Raises a UsageError if it is malformed."""
    found = FORM.fullmatch(text)
    if found is None:
        form = "FIELD OPERATOR VALUE, such as status=failed or name~average"
        raise UsageError(f'"{printable(text)}" is not a filter: write {form}')
    path, operator, value = found.groups()
    if operator not in OPERATORS["any"]:
        known = " ".join(OPERATORS["any"])
        raise UsageError(f'"{operator}" is not an operator: use one of {known}; quote a value that begins with one')
    return Filter(path, operator, *literal(value))


def conditions(model: Any, filters: Sequence[Any]) -> list[Any]:
    """Return the conditions of filters for a model; conditions of Peewee's stay as they are."""
    if len(filters) > MOST_FILTERS:
        raise UsageError(f"{len(filters)} filters are too many for one query: give {MOST_FILTERS} at most")
    return [_read(model, each) for each in filters]


def _read(model: Any, given: Any) -> Any:
    if isinstance(given, str):
        return condition(model, given)
    if not isinstance(given, peewee.Node):
        why = "the compared attribute is not a field; " if isinstance(given, bool) else ""
        raise UsageError(f'{printable(repr(given))} is not a filter: {why}write a text, such as where("status=failed")')
    return given


def equal(model: Any, name: str, value: Any) -> Any:
    """Return the condition that a field has a value: where(status="failed")."""
    return condition(model, f"{name}={_as_typed(name, value)}")


def _as_typed(name: str, value: Any) -> str:
    """Return a value as a person types it in a filter."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return YES[0] if value else NO[0]
    if isinstance(value, str):
        return f'"{value}"'
    number = value if isinstance(value, float) else as_integer(value)
    if number is not None:
        return fields.short_repr(number)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ", "microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, peewee.Model):
        if not value.is_saved:
            raise value.not_saved(name)
        return finding.reference(value, value.id)
    raise UsageError(f"{name} is compared with one value, not {printable(repr(value))}: write a condition of Peewee's")


def condition(model: Any, text: str) -> Any:
    """Return the condition of a filter for a model."""
    asked = parse(_checked_text(text))
    equal = asked._replace(operator="=") if asked.operator == "!=" else asked
    found = _condition(model, asked.path.split("."), equal)
    return found if equal is asked else _opposite(found)


def searched(model: Any, text: str) -> Any:
    """Return the condition that any text of an entity, or the name of a link, contains a text, ignoring case."""
    if not isinstance(text, str):
        raise UsageError(f'search takes a text, not {printable(repr(text))}: write search("…")')
    text = _checked_text(text)
    texts = [field for field in model.stored_fields() if isinstance(field, peewee.TextField | Link)]
    found = [_contains(field, text) for field in texts if not isinstance(field, Secret)]
    return functools.reduce(operator.or_, [one for one in found if one is not None])


def order(model: Any, text: str) -> list[Any]:
    """Return the ORDER BY terms for a list of fields; a minus sorts in descending order. The id is the last term."""
    if not isinstance(text, str):
        raise UsageError(f"{printable(repr(text))} is not text: name fields to sort by, such as sort('-created_at')")
    terms = [_term(model, word.strip()) for word in _checked_text(text).split(",") if word.strip()]
    if not terms:
        raise UsageError(f'"{printable(text)}" names no field to sort by: write such as -created_at')
    return [*terms, model.id]


def names(model: Any) -> list[str]:
    """Return the names that can be compared and shown: fields, links, computed fields and relations."""
    own = [field.name for field in model._meta.sorted_fields if not isinstance(field, Secret)]
    found = (relation.name for relation in relations(model))
    return list(dict.fromkeys([*own, *COMPUTED_FIELDS.get(model.noun, ()), *found]))


def _checked_text(text: str) -> str:
    """Return the text. Raises a UsageError if it is too long, or cannot be encoded for a database."""
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"{len(text):,} characters are too many to look for: give {LONGEST_TEXT:,} at most")
    return encodable(text)


# Completion


def operators(model: Any, path: str) -> tuple[str, ...]:
    """Return the operators that a field can be compared with."""
    return OPERATORS["link"] if _led_to(model, path) else value(model, path).operators


def choices(model: Any, path: str) -> tuple[str, ...]:
    """Return the known values of a field, if they are few. A result may also have other statuses."""
    found = value(model, path)
    if found.kind == "flag":
        return YES[0], NO[0]
    is_status = path.rpartition(".")[2] == "status" and not found.choices and model.noun == "result"
    return progress.STATUSES if is_status else found.choices


def indexed(model: Any, path: str) -> Any:
    """Return the indexed text field that a path is compared with (for a link, the name), or None."""
    links, _, name = path.rpartition(".")
    owner, target = _led_to(model, links) if links else model, _led_to(model, path)
    field = target.name_field() if target else owner._meta.fields.get(name)
    is_text = isinstance(field, peewee.TextField) and not isinstance(field, Secret)
    return field if is_text and (field.index or field.unique) else None


def written(text: str) -> str:
    """Return a text as the value of a filter: quoted if it would be taken for something else, such as null."""
    return text if parse(f"_={text}").value == text else f'"{text}"'


def _led_to(model: Any, path: str) -> Any:
    """Return the model that a path of links leads to, or None if it ends in another field."""
    for name in path.split("."):
        field = model._meta.combined.get(name) if model else None
        model = field.rel_model if isinstance(field, Link) and field.name == name else None
    return model


# Fields


def _condition(model: Any, path: list[str], asked: Filter) -> Any:
    name, *rest = path
    if len(path) > MOST_LINKS + 1:
        raise UsageError(f"{printable(asked.path)} follows {len(path) - 1} links: use {MOST_LINKS} at most")
    if rest and asked.value is None:
        return _null(_at_the_end(model, asked.path), asked)
    if rest:
        link = _link(model, name)
        target = link.rel_model
        return link.in_(target.select(target.id).where(_condition(target, rest, asked)))
    field = model._meta.combined.get(name)
    if isinstance(field, Link) and name == field.name:
        return _of_link(field, asked)
    found = _of_value(_value(model, name), asked)
    narrower = _narrower(model, name, asked)
    return found if narrower is None else narrower & found


def _at_the_end(model: Any, path: str) -> Value:
    """Return the value at the end of a path: of a link, the id. It is NULL if a link on the way is NULL."""
    start, _, name = path.rpartition(".")
    owner = _led_to(model, start)
    field = owner._meta.fields.get(name) if owner is not None else None
    return value(model, f"{start}.{field.object_id_name}" if isinstance(field, Link) else path)


def _narrower(model: Any, name: str, asked: Filter) -> Any:
    """Return a condition that SQLite should test first, or None: it holds wherever the filter does.

    The index of the few unfinished results answers it.
    """
    waits = asked.operator == "=" and asked.value in (progress.PENDING, progress.ACTIVE)
    if model.noun == "task" and name == "status" and waits:
        return model.id.in_(RESULT.select(RESULT.task_id).where(progress.UNFINISHED_RESULTS))
    if model.noun == "result" and name == "state" and waits:
        found = progress.UNFINISHED_RESULTS & (model.state == asked.value)
        return found & _from_first(model, found)
    return None


def _link(model: Any, name: str) -> Any:
    """Return the field of a link. Raises a UsageError, with a similar name, for an unknown one."""
    field = model._meta.combined.get(name)
    if isinstance(getattr(model, name, None), Memberships | BackrefAccessor):
        raise UsageError(f"{model.noun} has many {name}: compare their number, {name}>0, or list {name} instead")
    if not isinstance(field, Link):
        links = [link.name for link in model._meta.refs]
        meant = vantage6_names.field(model.noun, name) or did_you_mean(name, links)
        raise UsageError(f'{model.noun} has no link "{printable(name)}"{meant}')
    return getattr(model, field.name)


class Value(NamedTuple):
    """An expression that can be compared or shown.

    kind: number (an integer), share (a fraction), flag, time, or text. choices: the only values of a text, if any.
    """

    expression: Any
    kind: str
    name: str
    choices: tuple[str, ...] = ()

    @property
    def operators(self) -> tuple[str, ...]:
        return OPERATORS["state" if self.choices else self.kind]

    @property
    def description(self) -> str:
        return f"one of {', '.join(self.choices)}" if self.choices else KIND_NAMES[self.kind]


def value(model: Any, path: str) -> Value:
    """Return the value of a path, such as `initiator.country`, in a query of a model; of a link alone, the name.

    model: a model, or an alias of one.
    """
    name, dot, rest = path.partition(".")
    if path.count(".") > MOST_LINKS:
        raise UsageError(f"{printable(path)} follows {path.count('.')} links: use {MOST_LINKS} at most")
    field = model._meta.combined.get(name)
    if dot:
        link = _link(model, name)
        target = link.rel_model.alias()
        found = value(target, rest)
        return found._replace(expression=target.select(found.expression).where(target.id == link), name=path)
    named = isinstance(field, Link) and name == field.name and field.rel_model.name_field()
    return value(model, f"{name}.{named.name}") if named else _value(model, name)


def _value(model: Any, name: str) -> Value:
    field = model._meta.combined.get(name)
    computed = COMPUTED_FIELDS.get(model.noun, {}).get(name)
    if computed:
        kind, expression = computed
        return Value(expression(model), kind, name, progress.TASK_STATUSES if name == "status" else ())
    relation = getattr(model, name, None)
    if isinstance(relation, Memberships | BackrefAccessor):
        return Value(_count(model, relation), "number", name)
    if isinstance(field, Secret):
        raise UsageError(f"{field} is a secret: it cannot be shown or searched for")
    if field is None:
        meant = vantage6_names.field(model.noun, name) or did_you_mean(name, names(model))
        raise UsageError(f'{model.noun} has no field "{printable(name)}"{meant}')
    kinds = {BooleanField: "flag", UTCDateTimeField: "time"}
    kind = "number" if isinstance(field, IntegerField | Link) else kinds.get(type(field), "text")
    choices = progress.STATES if isinstance(field, GeneratedField) else ()
    return Value(getattr(model, field.name), kind, name, choices)


def _count(model: Any, relation: Any) -> Any:
    link = relation.mine if isinstance(relation, Memberships) else relation.field
    other = link.model.alias()
    return other.select(peewee.fn.COUNT(other.id)).where(getattr(other, link.name) == model.id)


# Comparisons


def _of_value(value: Value, asked: Filter) -> Any:
    if asked.value is None:
        return _null(value, asked)
    if asked.operator not in value.operators:
        known = " ".join(value.operators)
        raise UsageError(f"{value.name} is {value.description}: compare it with {known}, not {asked.operator}")
    if asked.operator == "~":
        return _contains(value.expression, asked.value)
    if value.kind == "time":
        found = timestamps.compared(value.expression, asked.operator, _as_span(value, asked))
        return _with_index(value.expression, found) if asked.operator in ("=", ">", ">=") else found
    found = _compared(value.expression, asked.operator, READERS[value.kind](value, asked))
    return _with_index(value.expression, found) if asked.operator in (">", ">=") else found


def _with_index(expression: Any, found: Any) -> Any:
    """Return a condition, for an indexed field together with a bound on the id that SQLite can use."""
    indexed = isinstance(expression, peewee.Field) and (expression.index or expression.unique)
    return found & _from_first(expression.model, found) if indexed else found


def _from_first(model: Any, found: Any) -> Any:
    """Return the condition that the id is not below the lowest id that matches a condition, which an index answers.

    So SQLite, asked for the first page of recent rows, does not scan from the first row. Adding 0 makes it look up that
    id in the index.
    """
    return model.id >= model.select(peewee.fn.MIN(model.id + 0)).where(found)


def _compared(left: Any, operator: str, right: Any) -> Any:
    compare = {"=": "EQ", "<": "LT", "<=": "LTE", ">": "GT", ">=": "GTE"}[operator]
    return peewee.Expression(left, getattr(peewee.OP, compare), peewee.Value(right, converter=False))


def _null(value: Value, asked: Filter) -> Any:
    """Return the condition that there is no value, or, for a time, no valid time."""
    if asked.operator != "=":
        raise UsageError(f"{asked.path}{asked.operator}null matches nothing: compare null with = or !=")
    if value.kind == "time":
        return _opposite(timestamps.dated(value.expression))
    return peewee.Expression(value.expression, peewee.OP.IS, None)


def _opposite(found: Any) -> Any:
    """Return the condition that holds wherever another is false or NULL."""
    return peewee.Case(None, [(found, 0)], 1) == 1


def _as_number(value: Value, asked: Filter) -> float:
    text = (asked.value or "").strip()
    number = int(text) if DIGITS.fullmatch(text) else None
    if number is not None and not is_64_bit(number):
        raise _too_large(value.name, text)
    if number is None and not NUMBER.fullmatch(text):
        raise UsageError(f'{value.name} is a number, not "{printable(text)}"')
    return float(text) if number is None else number


def _too_large(name: str, text: str) -> UsageError:
    return UsageError(f"{name} has at most 64 bits: {printable(text)} is too large")


def _as_flag(value: Value, asked: Filter) -> bool:
    text = (asked.value or "").strip().lower()
    if text not in YES + NO:
        raise UsageError(f'{value.name} is true or false: write {value.name}=true, not "{printable(asked.value)}"')
    return text in YES


def _as_text(value: Value, asked: Filter) -> str:
    text = asked.value or ""
    if value.choices:
        text = text.strip()
    if value.choices and text not in value.choices:
        meant = did_you_mean(text, value.choices)
        raise UsageError(f'{value.name} is {value.description}, not "{printable(text)}"{meant}')
    return text


def _as_span(value: Value, asked: Filter) -> Span:
    text = (asked.value or "").strip()
    try:
        return ages.span(text)
    except (ValueError, OverflowError):
        raise UsageError(f'{value.name} is a time, not "{printable(text)}": write {ages.FORMS}') from None


def _contains(expression: Any, text: str) -> Any:
    """Return the condition that an expression, or the name of a link, contains a text, ignoring case."""
    if not isinstance(expression, Link):
        return case_folding.contains(expression, text, is_sqlite=_is_sqlite(expression.model))
    target, name = expression.rel_model, expression.rel_model.name_field()
    return name and expression.in_(target.select(target.id).where(_contains(name, text)))


READERS = {"number": _as_number, "share": _as_number, "flag": _as_flag, "text": _as_text}


# Links


def _of_link(link: Any, asked: Filter) -> Any:
    if asked.value is None:
        return _null(Value(link, "number", asked.path), asked)
    if asked.operator == "~":
        found = _contains(link, asked.value)
        if found is None:
            raise UsageError(f"{link.rel_model.plural} have no names: compare {link.name} with an id, by = or !=")
        return found
    if asked.operator in ORDERED:
        raise UsageError(f"{link.name} is a link: compare it with =, != or ~")
    if DIGITS.fullmatch(asked.value) and not is_64_bit(int(asked.value)):
        raise _too_large(link.name, asked.value)
    id = finding.id_meant(link.rel_model, asked.value if asked.quoted else asked.value.strip())
    if not is_64_bit(id or 0):
        raise _too_large(link.name, asked.value)
    return link == (id if id is not None else _id_of(link.rel_model, asked.value))


def _id_of(model: Any, name: str) -> Any:
    """Return a query for the ids of entities with a name. Raises NotFound, with a similar name, without a match."""
    field = model.name_field()
    if field is None:
        raise UsageError(f'{model.plural} have no names: give an id, not "{printable(name)}"')
    if model.first_where(field == name) is None:
        raise finding.unknown(model, name)
    return model.select(model.id).where(field == name)


def _term(model: Any, word: str) -> Any:
    """Return an ORDER BY term. NULL comes first in ascending order and last in descending order, as SQLite does it."""
    expression, is_down = value(model, word.removeprefix("-")).expression, word.startswith("-")
    nulls = None if _is_sqlite(model) else "last" if is_down else "first"
    return (peewee.Desc if is_down else peewee.Asc)(expression, nulls=nulls)


def _is_sqlite(model: Any) -> bool:
    database = getattr(model._meta.database, "obj", model._meta.database)
    return database is None or bool(database.is_sqlite)  # None: no database is open, the order is only checked
