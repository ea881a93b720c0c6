"""Rows as text for programs: JSON, JSON lines, CSV.

Numbers, booleans and null stay what they are in JSON, times are ISO 8601 in UTC; no text holds a character that a
terminal would obey. It owns how rows are written; which rows, and what is in them, is listing.py's.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vserverlib.progress import Counts

Row = dict[str, Any]

RUNS_IN_A_SPREADSHEET = ("=", "+", "-", "@", "\t", "\r")  # what a cell begins with that is taken for a formula (OWASP)


def as_json(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Return the lines of a JSON list of rows, one row on each: numbers, booleans and null stay, times are ISO 8601."""
    opened = False
    for row in rows:
        yield (",\n" if opened else "[\n") + to_json(row, plain_ascii)
        opened = True
    yield "\n]\n" if opened else "[]\n"


def to_json(row: Row, plain_ascii: bool = False, indent: int | None = None) -> str:
    """Return one row as a JSON object, without a character that a terminal would obey."""
    plain = {name: _plain(value) for name, value in row.items()}
    text = json.dumps(plain, ensure_ascii=plain_ascii, indent=indent)
    return text if text.isprintable() else "".join(_escaped(char) for char in text)


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value, odd ones that other programs have stored among them."""
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Counts):
        return value.done / value.total if value.total else None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(char: str) -> str:
    if char.isprintable() or char == "\n":
        return char
    return "\\u007f" if char == "\x7f" else json.dumps(char)[1:-1]


def as_json_lines(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Return each row as a JSON object on a line of its own."""
    return (to_json(row, plain_ascii) + "\n" for row in rows)


def as_csv(rows: Iterable[Row], plain_ascii: bool = False) -> Iterator[str]:
    """Return the lines of a CSV, the names of the columns first; nothing at all without rows.

    There is no null in CSV: it is the empty field. A text that a spreadsheet would run gets a ' in front.
    """
    for number, row in enumerate(rows):
        if not number:
            yield _csv_line(row)
        yield _csv_line([_cell(_plain(value)) for value in row.values()])


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    text = "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in value)
    return f"'{text}" if text.startswith(RUNS_IN_A_SPREADSHEET) else text


Writer = Callable[[Iterable[Row], bool], Iterator[str]]

WRITERS: dict[str, Writer] = {"json": as_json, "jsonl": as_json_lines, "csv": as_csv}
