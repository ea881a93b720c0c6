"""The arguments of an algorithm's method, as people type them: KEY=VALUE, or a JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vserverlib import UsageError, printable
from vserverlib.entities.assignments import FILE, text_of_file


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Return the values of KEY=VALUE words: of JSON where that parses, else the text; @FILE: of a file, @@ for an @.

    Raises a UsageError for a word without a key, or a key that comes twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key.isidentifier():
            raise UsageError(f'"{printable(word)}" is no KEY=VALUE: KEY is the name of an argument, such as column=age')
        if key in found:
            raise UsageError(f"{printable(key)} is given twice: leave one out")
        found[key] = _value(key, text)
    return found


def _value(key: str, text: str) -> Any:
    if text.startswith(FILE):
        text = text[1:] if text[1:].startswith(FILE) else text_of_file(key, text[1:])
    try:
        return from_json(text)
    except ValueError:
        return text


def from_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises a ValueError for any other text, and for NaN."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(name: str) -> Any:
    raise ValueError(name)


def of_object(text: bytes) -> dict[str, Any]:
    """Return the arguments of a JSON object. Raises a UsageError for anything else."""
    try:
        found = from_json(text)
    except ValueError as error:
        raise UsageError(f"stdin is not JSON ({printable(error)}): give an object of arguments") from None
    if not isinstance(found, dict):
        raise UsageError('stdin is no JSON object: give one of arguments, such as {"column": "age"}')
    return found
