"""The JSON Schemas of named tuples: `why` and `check` with `-o json`. columns.py has those of entities."""

from __future__ import annotations

import types
import typing
from typing import Any

from vserverlib.entities.checks import Finding
from vserverlib.queries.why import Why

TYPES: dict[Any, str] = {int: "integer", str: "string", bool: "boolean", types.NoneType: "null"}
TIME = {"type": ["string", "null"], "description": "a time, or a text that another program stored in its place"}


def answers() -> dict[str, dict[str, Any]]:
    """Return the schema of each answer by its name: why, and finding for an item of check."""
    return {"why": of_tuple(Why), "finding": of_tuple(Finding)}


def of_tuple(kind: Any) -> dict[str, Any]:
    """Return the schema of a named tuple as an object, with a property for each field."""
    hints = typing.get_type_hints(kind)
    return {
        "type": "object",
        "properties": {name: _of(hints[name]) for name in kind._fields},
        "required": list(kind._fields),
        "additionalProperties": False,
        "description": (kind.__doc__ or "").partition("\n")[0],
    }


def _of(hint: Any) -> dict[str, Any]:
    """Return the schema of a type: plain, optional, a list of such or of named tuples; Any is a time."""
    if hint is Any:
        return TIME
    if typing.get_origin(hint) is list:
        (item,) = typing.get_args(hint)
        return {"type": "array", "items": of_tuple(item) if hasattr(item, "_fields") else _of(item)}
    found = [TYPES[each] for each in typing.get_args(hint) or (hint,)]
    return {"type": found if len(found) > 1 else found[0]}
