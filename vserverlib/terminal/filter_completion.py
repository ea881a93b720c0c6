"""Completions inside filters, sort orders and assignments, for the command line and for the prompt.

Fields and states are known without a database; only names are read from it, by the caller's `stored`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vserverlib import UsageError

Stored = Callable[[Any, str], list[str]]  # (field, start) → the values of an indexed field that begin so


def fields(model: Any, path: str) -> dict[str, str]:
    """Return the fields at the end of a path, with descriptions: of the model, or of the one that its links lead to."""
    from vserverlib.queries import columns

    links, _, _ = path.rpartition(".")
    for name in links.split(".") if links else ():
        model = {link.name: link.rel_model for link in model._meta.refs}.get(name)
        if model is None:
            return {}
    start = f"{links}." if links else ""
    return {start + column.name: column.about for column in columns.known(model)}


def in_filter(model: Any, typed: str, stored: Stored) -> tuple[str, dict[str, str]]:
    """Return the part of a filter that stays, and the completions of the rest with descriptions.

    Completed are a field, the operators of a whole field, and the values to compare with.
    """
    from vserverlib.entities import filters

    if found := filters.FORM.fullmatch(typed):
        return typed[: found.start(3)], dict.fromkeys(_written(model, found[1], found[3], stored), "")
    known = fields(model, typed)
    ends = filters.operators(model, typed) if typed in known else ()
    longer = {f"{name}=": about for name, about in known.items() if name != typed}
    return "", {**{typed + end: "" for end in ends}, **longer}


def _written(model: Any, path: str, typed: str, stored: Stored) -> list[str]:
    """Return values as a filter takes them: in quotes if they would be misread, or if a quote was typed."""
    from vserverlib.entities import filters

    if choices := filters.choices(model, path):
        return list(choices)
    return _quoted(typed, lambda start: values(model, path, start, stored))


def _quoted(typed: str, names: Callable[[str], list[str]]) -> list[str]:
    """Return names in quotes if they would be misread, or if a quote was typed. names: returns those that begin so."""
    from vserverlib.entities import filters

    quote = typed[:1] if typed[:1] in ("'", '"') else ""
    found = names(typed.removeprefix(quote))
    return [f"{quote}{name}{quote}" if quote else filters.written(name) for name in found]


def values(model: Any, path: str, typed: str, stored: Stored) -> list[str]:
    """Return the states of a field, or the names in its index that begin so; [] for any other field."""
    from vserverlib.entities import filters

    if choices := filters.choices(model, path):
        return list(choices)
    field = filters.indexed(model, path)
    return [] if field is None else stored(field, typed)


def in_order(model: Any, typed: str) -> tuple[str, dict[str, str]]:
    """Return the part of a sort order (a,-b) that stays, and the completions of its last field."""
    before, comma, path = typed.rpartition(",")
    minus = "-" if path.startswith("-") else ""
    given = {word.strip(" -") for word in before.split(",")}
    found = fields(model, path.removeprefix("-"))
    return before + comma + minus, {name: about for name, about in found.items() if name not in given}


# Assignments


def in_assignment(model: Any, typed: str, stored: Stored, signs: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return the part of an assignment that stays, and the completions of the rest with descriptions.

    signs: of lists. Completed are a field with its sign, and then its values: states, names of entities, roles.
    """
    from vserverlib.entities import assignments
    from vserverlib.entities.relations import relations

    if found := assignments.FORM.fullmatch(typed):
        return _assigned(model, found[1], typed[: found.start(3)], found[3], stored)
    about = fields(model, "") | {each.name: f"its {each.model.plural}" for each in relations(model)}
    ends = {name: signs if assignments.is_list(model, name) else signs[:1] for name in assignments.settable(model)}
    return "", {f"{name}{end}": about.get(name, "") for name in ends for end in ends[name]}


def _assigned(model: Any, name: str, before: str, typed: str, stored: Stored) -> tuple[str, dict[str, str]]:
    """Return completions of a value; in a list of the last of several."""
    from vserverlib.entities import assignments, filters

    try:
        assignments.require(model, assignments.Assignment(name, before.removeprefix(name), None))
    except UsageError:
        return before, {}
    if assignments.is_list(model, name) and "," in typed:
        first, comma, typed = typed.rpartition(",")
        before += first + comma
    target = assignments.target(model, name)
    if target is not None:
        field = target.name_field()
        words = _quoted(typed, lambda start: stored(field, start) if field else [])
        return before, dict.fromkeys(words, target.noun)
    if (model.noun, name) in assignments.TEXT_LISTS:
        return before, dict.fromkeys(assignments.stored_names(model, name), "")
    field = model._meta.fields.get(name)
    return before, dict.fromkeys(filters.choices(model, field.name), "") if field is not None else {}
