"""Completions in place of a value in Python source: after `collaboration=`, `where(`, `sort(`, `search(`, `append(`.

They are source: a name in quotes, a variable, or a lookup. Python's builtins are none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import BooleanField
from vserverlib.entities.relations import Link, relations
from vserverlib.scanning import Token, scan
from vserverlib.terminal import completion, filter_completion
from vserverlib.terminal.completion import Inferred, Offer, Offers

HIDDEN = ("In", "Out", "exit", "quit", "open", "get_ipython")  # of IPython
Names = Mapping[str, Any]


def complete(before: str, namespace: Names) -> Offers | None:
    """Return the completions of a value at the end of `before`; None if IPython knows better."""
    raw = scan(before)
    tokens = [token for token in raw if token.kind in ("string", "name", "number", "op")]
    if not tokens or raw[-1].kind in ("comment", "string"):
        return None
    typed = raw[-1].text if raw[-1].kind == "name" else ""
    found = _values(tokens[:-1] if typed else tokens, namespace)
    if found is None:
        return None
    start = typed.casefold()
    return Offers(typed, [offer for offer in found if offer.text.lstrip('"').casefold().startswith(start)])


def _values(ahead: list[Token], namespace: Names) -> list[Offer] | None:
    """Return the values that can follow these tokens."""
    if not ahead or ahead[-1].text not in ("(", ",", "=", "["):
        return None
    if [token.text for token in ahead[-2:]] == ["=", "["]:
        ahead = ahead[:-1]  # of a list, the items are completed
    function, inside = completion.called(ahead, namespace)
    if function is None:
        return None
    if ahead[-1].text != "=":
        return _of_call(function, namespace)
    named = inside[:-1]
    return _of_argument(function, named[-1].text, namespace) if named and named[-1].kind == "name" else None


def _of_argument(function: Inferred, name: str, namespace: Names) -> list[Offer] | None:
    """Return the values of an argument `name=`."""
    if model := completion.filtered(function):
        return [*_of_filter(model, name), *_variables(namespace, lambda value: True)]
    if function.kind != "model":
        return None
    field = function.of._meta.fields.get(name)
    linked = {each.name: each.model for each in relations(function.of) if each.editable}
    model = field.rel_model if isinstance(field, Link) else linked.get(name)
    if model is not None:
        return _entities(model, namespace)
    return _constants() if isinstance(field, BooleanField) else None


def _of_filter(model: type[Entity], name: str) -> list[Offer]:
    """Return the values that a field is compared with."""
    if isinstance(model._meta.fields.get(name), BooleanField) or name == "complete":
        return _constants()
    return _quoted(filter_completion.values(model, name, "", completion.exact), name)


def _of_call(function: Inferred, namespace: Names) -> list[Offer] | None:
    """Return the values of an argument without a name."""
    if completion.filtered(function):
        return _variables(namespace, lambda value: True)
    texts = _variables(namespace, lambda value: isinstance(value, str))
    if model := completion.filtered(function, "sort"):
        return [*_quoted(filter_completion.in_order(model, "")[1], ""), *texts]
    if model := completion.filtered(function, "search"):
        return [*_quoted(completion.names_of(model, ""), model.noun), *texts]
    if function.kind == "method" and function.of.kind == "members" and function.name in ("append", "remove"):
        return _entities(function.of.of, namespace)
    field = completion.looked_up(function)
    return None if field is None else [*_quoted(completion.stored(field, ""), field.model.noun), *texts]


def _quoted(texts: Iterable[str], about: str) -> list[Offer]:
    return [Offer('"' + completion.as_source(text, '"') + '"', about) for text in texts]


def _constants() -> list[Offer]:
    return [Offer("True", ""), Offer("False", "")]


def _entities(model: type[Entity], namespace: Names) -> list[Offer]:
    """Return the variables that hold an entity of a model, and lookups of the others by their names."""
    held = _variables(namespace, lambda value: isinstance(value, model))
    if not hasattr(model, "get_by_name"):
        return held
    names = _quoted(completion.names_of(model, ""), model.noun)
    return [*held, *(Offer(f"db.{model.__name__}.get_by_name({name.text})", name.kind) for name in names)]


def _variables(namespace: Names, fits: Callable[[Any], bool]) -> list[Offer]:
    found = [name for name, value in namespace.items() if not name.startswith("_") and fits(value)]
    return [Offer(name, "") for name in found if name not in HIDDEN]
