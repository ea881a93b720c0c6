"""Completions in Python source about entities: fields, relations, methods, states and stored names.

The types of expressions are inferred from the models, so that completing an attribute evaluates nothing and runs no
SQL. Only a name inside quotes, as in `get_by_name("`, is read from the database. value_completion.py completes values
without quotes. All other source is left to IPython; matcher.py passes the completions to it.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise, takewhile
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple

from vserverlib import UsageError
from vserverlib.drivers import peewee
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import BooleanField, Id, IntegerField, Secret, Text, UTCDateTimeField
from vserverlib.entities.lists import EntityList
from vserverlib.entities.peewee_hooks import instance_only
from vserverlib.entities.relations import Link, MemberList, relations
from vserverlib.scanning import Token, scan, string_parts
from vserverlib.terminal import filter_completion

MOST_NAMES = 50  # names from the database

# The public methods of the base class. New ones are added here.
OF_MODEL = ["get", "where", "search", "sort", "exists", "help"]
OF_ENTITY = ["save", "delete", "history", "check", "help"]
OF_LIST = ["where", "search", "sort", "order_by", "limit", "count", "index"]
GIVE_LISTS = ("where", "search", "sort", "order_by", "limit")  # when called on a list or a model
OF_MEMBERS = ["append", "extend", "remove", "clear", "count", "index"]

_LOOKUP = re.compile(r"(?:get_by_|find_by_|getBy)(?P<field>\w+)|(?P<taken>\w+)_exists")
_TYPES: tuple[tuple[type, type], ...] = (
    (Text, str),
    (BooleanField, bool),
    (IntegerField, int),
    (Id, int),
    (UTCDateTimeField, datetime.datetime),
)


class Offer(NamedTuple):
    """A completion, and its description in the menu."""

    text: str
    kind: str


class Offers(NamedTuple):
    """Completions in their order, which replace the text `typed` before the cursor."""

    typed: str
    offers: list[Offer]


class Inferred(NamedTuple):
    """The inferred type of an expression.

    kind: model, entity, list, members, method, field, type, texts, plain or unknown. of: its model, owner or value;
    of texts, which a function takes: their fields by the names of its arguments, "" for the first.
    """

    kind: str
    of: Any = None
    name: str = ""


UNKNOWN = Inferred("unknown")  # an attribute of an entity that does not exist


def complete(before: str, namespace: Mapping[str, Any]) -> Offers | None:
    """Return the completions at the end of `before`; None if it is not about entities."""
    raw = scan(before)
    tokens = [token for token in raw if token.kind in ("string", "name", "number", "op")]
    if not tokens or raw[-1].kind == "comment":
        return None
    if raw[-1].kind == "string" and not string_parts(raw[-1].text)[3]:
        return _in_string(tokens, namespace)
    typed = raw[-1].text if raw[-1].kind == "name" else ""
    ahead = tokens[:-1] if typed else tokens
    if ahead and ahead[-1].text == ".":
        return _starting_with(typed, _attributes(_infer(ahead[:-1], namespace)))
    found = _starting_with(typed, _keywords(ahead, namespace))
    return found if found is not None and found.offers else None  # else it is a value: see value_completion.py


def _starting_with(typed: str, offers: Iterable[Offer] | None) -> Offers | None:
    return None if offers is None else Offers(typed, [offer for offer in offers if offer.text.startswith(typed)])


# Inference


def _infer(tokens: list[Token], namespace: Mapping[str, Any]) -> Inferred | None:
    """Return the type of the expression that these tokens end in; None if it is not about entities."""
    start = _start(tokens)
    known = ChainMap(_loops(tokens[:start], namespace), namespace)  # type: ignore[arg-type]
    return _parsed(tokens[start:], known)


def _parsed(tokens: list[Token], namespace: Mapping[str, Any]) -> Inferred | None:
    try:
        return _infer_node(ast.parse(" ".join(token.text for token in tokens), mode="eval").body, namespace)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _loops(tokens: list[Token], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of loop variables: `for task in db.Task.get()`, in a comprehension or a statement."""
    found: dict[str, Any] = {}
    words = [token.text for token in tokens]
    for at in range(len(words) - 3):
        if words[at] == "for" and words[at + 2] == "in":
            over = takewhile(lambda token: token.text not in ("if", ":", "for"), tokens[at + 3 :])
            found[words[at + 1]] = _item(_parsed(list(over), namespace), ast.Constant(0))
    return found


def _start(tokens: list[Token]) -> int:
    """Return the first token of the primary expression (calls, indexes and attributes of a name) at the end."""
    at = len(tokens) - 1
    while at >= 0:
        if tokens[at].text in (")", "]"):
            at = _opening(tokens, at)
            if at > 0 and (tokens[at - 1].kind == "name" or tokens[at - 1].text in (")", "]")):
                at -= 1
                continue
        if at > 1 and tokens[at - 1].text == ".":
            at -= 2
            continue
        break
    return max(at, 0)


def _opening(tokens: list[Token], at: int) -> int:
    """Return the opening bracket that matches the one at a token, or that is still open there, else -1."""
    depth = 0
    while at >= 0:
        depth += (tokens[at].text in (")", "]", "}")) - (tokens[at].text in ("(", "[", "{"))
        if depth <= 0 and tokens[at].text in ("(", "[", "{"):
            return at
        at -= 1
    return -1


def _infer_node(node: ast.AST, namespace: Mapping[str, Any]) -> Inferred | None:
    if isinstance(node, ast.Name):
        return _of_value(namespace.get(node.id))
    if isinstance(node, ast.Attribute):
        return _attribute(_infer_node(node.value, namespace), node.attr)
    if isinstance(node, ast.Call):
        return _called(_infer_node(node.func, namespace), bool(node.args or node.keywords))
    if isinstance(node, ast.Subscript):
        return _item(_infer_node(node.value, namespace), node.slice)
    return None


def _of_value(value: Any) -> Inferred | None:
    if isinstance(value, Inferred):
        return value
    if isinstance(value, type) and issubclass(value, Entity):
        return Inferred("model", value)
    if isinstance(value, Entity):
        return Inferred("entity", type(value))
    if isinstance(value, EntityList):
        return Inferred("list", value.model)
    if isinstance(value, MemberList):
        return Inferred("members", value.partner)
    if isinstance(value, FunctionType) and hasattr(value, "texts"):
        return Inferred("texts", value.texts)
    return (
        Inferred("plain", value) if type(value) in (list, tuple, dict) or isinstance(value, SimpleNamespace) else None
    )


def _attribute(owner: Inferred | None, name: str) -> Inferred | None:
    if owner is None:
        return None
    if owner.kind == "plain":
        return _of_value(vars(owner.of).get(name)) if isinstance(owner.of, SimpleNamespace) else None
    if name in (offer.text for offer in _attributes(owner) or () if offer.kind == "function"):
        return Inferred("method", owner, name)
    if owner.kind == "model":
        return Inferred("field", owner.of, name)
    return _linked(owner.of, name) if owner.kind == "entity" else UNKNOWN


def _linked(model: type[Entity], name: str) -> Inferred:
    field = model._meta.fields.get(name)
    if isinstance(field, Link):
        return Inferred("entity", field.rel_model)
    for relation in relations(model):
        if relation.name == name:
            return Inferred("members" if relation.editable else "list", relation.model)
    return next((Inferred("type", python) for kind, python in _TYPES if isinstance(field, kind)), UNKNOWN)


def _called(function: Inferred | None, with_arguments: bool) -> Inferred | None:
    if function is None or function.kind == "model":
        return function and Inferred("entity", function.of)
    if function.kind != "method":
        return UNKNOWN
    owner, name = function.of, function.name
    if name in GIVE_LISTS and owner.kind in ("list", "model"):
        return Inferred("list", owner.of)
    if owner.kind == "model" and name == "get":
        return Inferred("entity" if with_arguments else "list", owner.of)
    finds = owner.kind == "model" and name.startswith(("get_by", "find_by", "getBy"))
    return Inferred("entity", owner.of) if finds else UNKNOWN


def _item(owner: Inferred | None, index: ast.expr) -> Inferred | None:
    if owner is None:
        return None
    if owner.kind in ("list", "members"):
        return Inferred("list" if isinstance(index, ast.Slice) else "entity", owner.of)
    if owner.kind == "plain" and not isinstance(owner.of, SimpleNamespace):
        with contextlib.suppress(ValueError, LookupError, TypeError):
            return _of_value(owner.of[ast.literal_eval(index)])
    return UNKNOWN


# Attributes


def _attributes(owner: Inferred | None) -> list[Offer] | None:
    """Return the attributes of an expression; None if IPython knows better."""
    if owner is None:
        return None
    of_kind: dict[str, Callable[[Any], list[Offer]]] = {
        "model": lambda model: _functions(methods(model)) + fields(model),
        "entity": _of_entity,
        "list": lambda _: _functions(OF_LIST),
        "members": lambda _: _functions(OF_MEMBERS),
        "type": lambda kind: [Offer(name, "function") for name in dir(kind) if not name.startswith("_")],
        "plain": _of_plain,
    }
    return of_kind[owner.kind](owner.of) if owner.kind in of_kind else []


def _of_entity(model: type[Entity]) -> list[Offer]:
    computed = [Offer(name, "computed") for name in _own(model, property)]
    return fields(model) + _relations(model) + computed + _functions(methods(model, of_entity=True))


def _of_plain(value: Any) -> list[Offer]:
    names = vars(value) if isinstance(value, SimpleNamespace) else dir(type(value))
    return [Offer(name, "") for name in names if not name.startswith("_")]


def fields(model: type[Entity]) -> list[Offer]:
    """Return the fields of a model, and the type of each."""
    return [Offer(field.name, field.takes) for field in model.stored_fields()]


def _relations(model: type[Entity]) -> list[Offer]:
    return [Offer(relation.name, relation.model.plural) for relation in relations(model)]


def _functions(names: Iterable[str]) -> list[Offer]:
    return [Offer(name, "function") for name in names]


def methods(model: type[Entity], of_entity: bool = False) -> list[str]:
    """Return the public methods of a model, or of one entity."""
    if of_entity:
        return _own(model, (FunctionType, instance_only)) + OF_ENTITY
    return _own(model, (classmethod, staticmethod)) + OF_MODEL


def _own(model: type[Entity], kinds: Any) -> list[str]:
    """Return the public attributes of these kinds that only this model has."""
    classes = [cls for cls in model.__mro__ if issubclass(cls, Entity) or not issubclass(Entity, cls)]
    found = [name for cls in classes for name, value in vars(cls).items() if isinstance(value, kinds)]
    public = [name for name in dict.fromkeys(found) if not name.startswith("_")]
    return [name for name in public if not hasattr(Entity, name)]


def called(ahead: list[Token], namespace: Mapping[str, Any]) -> tuple[Inferred | None, list[Token]]:
    """Return the function whose open brackets these tokens end in, or None, and the tokens inside."""
    opened = _opening(ahead, len(ahead) - 1)
    if opened < 1 or ahead[opened].text != "(":
        return None, []
    return _infer(ahead[:opened], namespace), ahead[opened + 1 :]


def _keywords(ahead: list[Token], namespace: Mapping[str, Any]) -> list[Offer] | None:
    """Return the `field=` that a constructor, or where(), still takes; None elsewhere."""
    if not ahead or ahead[-1].text not in ("(", ","):
        return None
    function, inside = called(ahead, namespace)
    if model := filtered(function):
        found = [Offer(name, about) for name, about in filter_completion.fields(model, "").items()]
    elif function is not None and function.kind == "model":
        editable = [Offer(each.name, each.model.plural) for each in relations(function.of) if each.editable]
        found = [offer for offer in fields(function.of) + editable if offer.text != "id"]
    else:
        return None
    given = {name.text for name, mark in pairwise(inside) if mark.text == "="}
    return [Offer(f"{offer.text}=", offer.kind) for offer in found if offer.text not in given]


def filtered(function: Inferred | None, name: str = "where") -> Any:
    """Return the model whose where(), or other method of lists, a function is; None for all others."""
    if function is None or function.kind != "method" or function.name != name:
        return None
    return function.of.of if function.of.kind in ("model", "list") else None


# Inside quotes


def _in_string(tokens: list[Token], namespace: Mapping[str, Any]) -> Offers | None:
    """Return the completions of a text: a name to look up, a filter, a sort order, or a value to compare with."""
    prefix, quote, typed, _ = string_parts(tokens[-1].text)
    if len(tokens) < 2 or "f" in prefix.lower():
        return None
    text = _evaluated(prefix, quote, typed)
    found: tuple[str, dict[str, str]] | None = "", {}
    with contextlib.suppress(UsageError):  # there is no such field
        found = _texts(tokens[:-1], text, namespace)
    if found is None:
        return None
    before, words = found
    rest = text[len(before) :].casefold()
    fitting = [word for word in words if word.casefold().startswith(rest)]
    return Offers(typed, [Offer(as_source(before + word, quote), words[word]) for word in fitting])


def _texts(ahead: list[Token], typed: str, namespace: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
    """Return the part of a text that stays, and the completions of the rest; None if IPython knows better."""
    mark = ahead[-1].text
    if mark in ("==", "!="):
        field = _infer(ahead[:-1], namespace)
        return _values(field.of, field.name, typed) if field is not None and field.kind == "field" else None
    if mark == "[" and ahead[-2].text == "=":  # of a list, the items are completed
        ahead, mark = ahead[:-1], "="
    function, _ = called(ahead, namespace) if mark in ("(", ",", "=") else (None, [])
    if function is not None and function.kind == "texts":
        field = function.of.get("" if mark == "(" else ahead[-2].text)
        return "", {} if field is None else dict.fromkeys(stored(field, typed), field.model.noun)
    if (model := filtered(function)) and mark == "=":
        return _values(model, ahead[-2].text, typed)
    if model:
        return filter_completion.in_filter(model, typed, exact)
    if function is not None and function.kind == "model" and mark == "=":
        before, words = filter_completion.in_assignment(function.of, f"{ahead[-2].text}={typed}", exact, ("=",))
        return before.partition("=")[2], words
    if model := filtered(function, "sort"):
        return filter_completion.in_order(model, typed)
    if model := filtered(function, "search"):
        return "", names_of(model, typed)
    return _names(function, typed) if mark == "(" else None


def _values(model: type[Entity], name: str, typed: str) -> tuple[str, dict[str, str]]:
    return "", dict.fromkeys(filter_completion.values(model, name, typed, exact), name)


def names_of(model: type[Entity], start: str) -> dict[str, str]:
    """Return the names of entities that begin so, ignoring case; none of a model without names."""
    field = model.name_field()
    return {} if field is None else dict.fromkeys(stored(field, start), model.noun)


def _names(function: Inferred | None, typed: str) -> tuple[str, dict[str, str]] | None:
    """Return the fields for exists(), or the stored names for a lookup by name."""
    if function is None or function.kind != "method" or function.of.kind not in ("model", "entity"):
        return None
    model = function.of.of
    if function.name == "exists":
        return "", {field.name: field.takes for field in model.stored_fields() if not isinstance(field, Secret)}
    field = looked_up(function)
    return None if field is None else ("", dict.fromkeys(stored(field, typed), model.noun))


def looked_up(function: Inferred) -> Any:
    """Return the field that a method of a class finds entities by, such as get_by_name(); None for other functions."""
    lookup = _LOOKUP.fullmatch(function.name)
    if function.kind != "method" or function.of.kind not in ("model", "entity") or lookup is None:
        return None
    field = function.of.of._meta.fields.get((lookup["field"] or lookup["taken"]).lower())
    return None if isinstance(field, Secret) else field


def exact(field: Any, start: str) -> list[str]:
    """Return values of an indexed text field that begin so, case-sensitively."""
    return stored(field, start, exact=True)


def stored(field: Any, start: str, exact: bool = False) -> list[str]:
    """Return values of a text field that begin so, in alphabetical order, at most 50. One query.

    exact: case-sensitively, by the index, which finds the next value however many rows have the same one.
    """
    if exact:
        return [value for value in _steps(field, start) if value.startswith(start)]
    query = field.model.select(field).where(field.startswith(start)).distinct().order_by(field).limit(MOST_NAMES)
    return [value for (value,) in query.tuples() if value]


def _steps(field: Any, start: str) -> list[str]:
    """Return the first values of a text field from `start` on, each found in the index from the one before it."""
    own = field.model.alias()
    first = field.model.select(peewee.fn.MIN(field).alias("value")).where(field >= start)
    found = first.cte("found", recursive=True, columns=("value",))
    column = getattr(own, field.name)
    following = own.select(peewee.fn.MIN(column)).where(column > found.c.value)
    query = found.union_all(found.select(following).where(found.c.value.is_null(False)))
    rows = query.select_from(query.c.value).limit(MOST_NAMES).tuples()
    return [value for (value,) in rows.execute(field.model._meta.database) if isinstance(value, str) and value]


def ids(model: type[Entity], start: str) -> dict[int, str | None]:
    """Return ids that begin with these digits, with names, at most 50. One query of the index for each length."""
    name = model.name_field()
    found: dict[int, str | None] = {}
    for low, high in _ranges(start, model.select(peewee.fn.MAX(model.id)).scalar() or 0):
        asked = (model.id, name) if name else (model.id, peewee.Value(None))
        rows = model.select(*asked).where(model.id.between(low, high)).order_by(model.id)
        found.update(rows.limit(MOST_NAMES - len(found)).tuples())
    return found


def _ranges(start: str, highest: int) -> Iterator[tuple[int, int]]:
    """Return the ranges of numbers that begin with these digits: 12, 120 to 129, and so on up to the highest."""
    if not start:
        yield 1, highest
    elif start.isascii() and start.isdigit() and start[0] != "0" and len(start) < 20:
        low, high = int(start), int(start)
        while low <= highest:
            yield low, high
            low, high = low * 10, high * 10 + 9


def _evaluated(prefix: str, quote: str, typed: str) -> str:
    with contextlib.suppress(SyntaxError, ValueError):
        return str(ast.literal_eval(prefix + quote + typed + quote))
    return typed


def as_source(value: str, quote: str) -> str:
    """Return a value as Python source between these quotes: unprintable characters become escapes."""
    plain = value.replace("\\", "\\\\").replace(quote[0], "\\" + quote[0])
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in plain)
