"""Rows as text for programs: JSON, JSON lines, CSV, YAML, references.

Numbers, booleans and null stay what they are in JSON, times are ISO 8601 in UTC; no text holds a character that a
terminal would obey. It owns how rows are written; which rows, and what is in them, is listing.py's.
"""

from __future__ import annotations

import csv
import datetime
import functools
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from vserverlib.entities.fields import iso
from vserverlib.entities.progress import Counts

Row = dict[str, Any]

RUNS_IN_A_SPREADSHEET = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that is taken for a formula (OWASP)

ONE_LINE = 10**9  # characters of a text in YAML that is not broken into lines
END = "...\n"  # the line that ends a document in YAML


class Formatter(Protocol):
    """What writes rows as lines of text. plain_ascii: for an output that knows no other characters."""

    def __call__(self, rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]: ...


# JSON


def as_json(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Return the lines of a JSON list of rows, one row on each: numbers, booleans and null stay, times are ISO 8601."""
    opened = False
    for line in as_json_lines(rows, plain_ascii):
        yield (",\n" if opened else "[\n") + line[:-1]
        opened = True
    yield "\n]\n" if opened else "[]\n"


def as_json_lines(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Return each row as a JSON object on a line of its own, without a character that a terminal would obey."""
    encode = _encoder(plain_ascii, None).encode
    for row in rows:
        try:
            text = encode(row)
        except ValueError:  # a number that JSON has not
            text = encode(_finite(row))
        yield (text if text.isprintable() else _all_escaped(text)) + "\n"


def to_json(value: Any, plain_ascii: bool = False) -> str:
    """Return a row, or anything that holds rows, as JSON for one reader: over several lines."""
    return _all_escaped(_encoder(plain_ascii, 2).encode(_finite(value)))


@functools.cache
def _encoder(plain_ascii: bool, indent: int | None) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=plain_ascii, indent=indent, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value, odd ones that other programs have stored among them."""
    if isinstance(value, datetime.datetime):
        return iso(value)
    if isinstance(value, Counts):
        return value.share
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    """Return a value with a text in place of each number that is none, such as infinity."""
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
    """Return the lines of a YAML list of rows."""
    row = None
    for row in rows:
        yield to_yaml([row], plain_ascii)
    if row is None:
        yield "[]\n"


def to_yaml(value: Any, plain_ascii: bool = False) -> str:
    """Return a row, or anything that holds rows, as YAML, without a character that a terminal would obey.

    What a reader would take for something else, such as NO or 0123, is in quotes.
    """
    import yaml

    plain = json.loads(_encoder(plain_ascii, None).encode(_finite(value)))
    text: str = yaml.dump(plain, Dumper=_dumper(), sort_keys=False, allow_unicode=not plain_ascii, width=ONE_LINE)
    if not text.replace("\n", "").isprintable():
        text = yaml.dump(plain, Dumper=_dumper(), sort_keys=False, allow_unicode=False, width=ONE_LINE)
    # A text that ends in an empty line has PyYAML end the document, but what is written next may belong to it.
    return text.removesuffix(END) if text.endswith(f"\n{END}") else text


@functools.cache
def _dumper() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C, where it was built: ten times as fast
    dumper: Any = type("Dumper", (base,), {})
    dumper.add_representer(str, _as_lines)
    return dumper


def _as_lines(dumper: Any, text: str) -> Any:
    """Write a text of several lines as such."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


# References


def as_names(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Return each row as what other commands take for it: rows with a `reference` alone, such as task/12."""
    return (f"{row['reference']}\n" for row in rows)


# CSV


def as_csv(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Return the lines of a CSV, the names of the columns first; nothing at all without rows.

    There is no null in CSV: it is the empty field. A text that a spreadsheet would run gets a ' in front.
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
    return f"'{text}" if text.startswith(RUNS_IN_A_SPREADSHEET) else text


WRITERS: dict[str, Formatter] = {
    "json": as_json,
    "jsonl": as_json_lines,
    "csv": as_csv,
    "yaml": as_yaml,
    "name": as_names,
}
DOCUMENTS: dict[str, Callable[..., str]] = {"json": to_json, "yaml": to_yaml}
