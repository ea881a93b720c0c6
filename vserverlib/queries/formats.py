"""Rows as text for programs: JSON, JSON lines, CSV, YAML, references.

JSON keeps numbers, booleans and null; times are ISO 8601 in UTC; no text contains a character that controls a terminal.
listing.py reads the rows.
"""

from __future__ import annotations

import csv
import datetime
import functools
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from vserverlib.entities.fields import iso
from vserverlib.entities.progress import Counts

Row = dict[str, Any]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes such a cell for a formula (OWASP)

ONE_LINE = 10**9  # characters: YAML does not wrap shorter lines
DOCUMENT_END = "...\n"  # in YAML
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can hold, but neither YAML nor UTF-8


class Formatter(Protocol):
    """A function that writes rows as lines of text. plain_ascii: for an output without other characters."""

    def __call__(self, rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]: ...


# JSON


def as_json(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Yield the lines of a JSON list, one for each row."""
    opened = False
    for line in as_json_lines(rows, plain_ascii):
        yield (",\n" if opened else "[\n") + line[:-1]
        opened = True
    yield "\n]\n" if opened else "[]\n"


def as_json_lines(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Yield each row as a JSON object on a line."""
    encode = _encoder(plain_ascii, None).encode
    for row in rows:
        try:
            text = encode(row)
        except ValueError:  # infinity or NaN, which JSON does not have
            text = encode(_finite(row))
        yield (text if text.isprintable() else _all_escaped(text)) + "\n"


def to_json(value: Any, plain_ascii: bool = False) -> str:
    """Return a row, or a structure with rows, as indented JSON."""
    return _all_escaped(_encoder(plain_ascii, 2).encode(_finite(value)))


@functools.cache
def _encoder(plain_ascii: bool, indent: int | None) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=plain_ascii, indent=indent, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """Return a value as one that JSON can hold, also bytes, which other programs may have stored."""
    if isinstance(value, datetime.datetime):
        return iso(value)
    if isinstance(value, Counts):
        return value.share
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    """Return a value with a text in place of each infinity and NaN."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _all_escaped(text: str) -> str:
    return text if text.replace("\n", "").isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable() or char == "\n":
        return char
    return json.dumps(char)[1:-1]


# YAML


def as_yaml(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Yield the lines of a YAML list of rows."""
    row = None
    for row in rows:
        yield to_yaml([row], plain_ascii)
    if row is None:
        yield "[]\n"


def to_yaml(value: Any, plain_ascii: bool = False) -> str:
    """Return a row, or a structure with rows, as YAML. Ambiguous texts, such as NO or 0123, are quoted."""
    import yaml

    encoded = SURROGATE.sub(lambda half: f"\\\\u{ord(half[0]):x}", _encoder(False, None).encode(_finite(value)))
    plain = json.loads(encoded)
    text: str = yaml.dump(plain, Dumper=_dumper(), sort_keys=False, allow_unicode=not plain_ascii, width=ONE_LINE)
    if not text.replace("\n", "").isprintable():
        text = yaml.dump(plain, Dumper=_dumper(), sort_keys=False, allow_unicode=False, width=ONE_LINE)
    # PyYAML ends the document after a text that ends in an empty line, but more rows may follow.
    return text.removesuffix(DOCUMENT_END) if text.endswith(f"\n{DOCUMENT_END}") else text


@functools.cache
def _dumper() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C if available: ten times as fast
    dumper: Any = type("Dumper", (base,), {})
    dumper.add_representer(str, _as_lines)
    return dumper


def _as_lines(dumper: Any, text: str) -> Any:
    """Write a text with line breaks as a block of lines."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


# References


def as_names(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Yield the `reference` of each row, such as task/12, which other commands accept."""
    return (f"{row['reference']}\n" for row in rows)


# CSV


def as_csv(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Yield the lines of a CSV file, the names of the columns first; nothing without rows.

    Null is the empty field. A text that a spreadsheet would run as a formula starts with a '.
    """
    for number, row in enumerate(rows):
        if not number:
            yield _csv_line(row)
        yield _csv_line([_cell(value, plain_ascii) for value in row.values()])


def _is_plain(char: str, plain_ascii: bool) -> bool:
    return char.isascii() and char.isprintable() if plain_ascii else char.isprintable()


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _cell(value: Any, plain_ascii: bool) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return value
    value = value if isinstance(value, str) else _plain(value)
    if not isinstance(value, str):
        return value
    text = "".join(char if char in "\n\t" or _is_plain(char, plain_ascii) else json.dumps(char)[1:-1] for char in value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


WRITERS: dict[str, Formatter] = {
    "json": as_json,
    "jsonl": as_json_lines,
    "csv": as_csv,
    "yaml": as_yaml,
    "name": as_names,
}
DOCUMENTS: dict[str, Callable[..., str]] = {"json": to_json, "yaml": to_yaml}
