"""Writes and reads our own export: all rows of a database of ours as JSON Lines.

The first line is the head: the version of the format, the number of rows of each table, and the used numbers. Each
other line is a row under the name of its table, in the order of `vserver_source.ORIGINS`, without NULL columns::

    {"vserver": "export", "version": 1, "hashes": false, "rows": {"organization": 1, …}, "counters": {"run_id": 7}, …}
    {"organization": {"id": 1, "name": "IKNL", "country": "Netherlands"}}

Values are as the database stores them. Types that JSON lacks are an object of one pair: {"blob": "6c6f67"} for bytes
and {"text": "c328"} for a text that is not UTF-8, both in hexadecimal; {"real": "inf"} for a number that is not finite.

This module owns the format. Rows are streamed, so memory does not grow with them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from models import MODELS
from vserverlib import Error, files, hashing, printable
from vserverlib.entities import fields
from vserverlib.files import shown
from vserverlib.progress_callback import Advance, ticker
from vserverlib.queries import formats
from vserverlib.transfer.sources import ImportNotes, Origin, OwnSource, Row, SequenceState, Source, Undecodable
from vserverlib.transfer.vserver_source import ORIGINS

VERSION = 1  # of the format: a reader refuses a newer one
KIND = "export"  # the value of "vserver" in the head
MAX_HEAD_BYTES = 65536
MAX_LINE_BYTES = 2**30  # more than a text in SQLite can have
JSON_TYPES = frozenset((str, int, type(None)))  # of nearly all values; JSON has the same types
REMEDY = "export it again"


# Export


def export(source: Source, target: Path, *, with_hashes: bool, force: bool = False, advance: Advance = bool) -> None:
    """Write a source to a file that only its owner can read. The file is complete, or not written."""
    with files.new_text_file(target, replace=force) as file:
        file.writelines(lines(source, with_hashes=with_hashes, advance=advance))


def lines(source: Source, *, with_hashes: bool, advance: Advance = bool) -> Iterator[str]:
    """Yield the lines of an export."""
    yield from formats.as_json_lines([_head(source, with_hashes)])
    yield from formats.as_json_lines(map(ticker(advance), _rows(source)))


def _head(source: Source, with_hashes: bool) -> dict[str, Any]:
    sequence_state = source.sequence_state or SequenceState({}, {})
    return {
        "vserver": KIND,
        "version": VERSION,
        "made_at": fields.iso(fields.now()),
        "hashes": with_hashes,
        "rows": {origin.table: source.count(origin.table) for origin in source.origins},
        "counters": sequence_state.counters,
        "last_ids": sequence_state.last_ids,
        **({"key_salt": sequence_state.key_salt} if with_hashes else {}),
    }


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    for origin in source.origins:
        places = _boolean_places(origin)
        for row in source.rows(origin, ImportNotes()):
            if places:
                row = tuple(bool(value) if at in places and value in (0, 1) else value for at, value in enumerate(row))
            if not JSON_TYPES.issuperset(map(type, row)):
                row = tuple(map(_to_json, row))
            pairs = zip(origin.columns, row, strict=True)
            yield {origin.table: {name: value for name, value in pairs if value is not None}}


def _boolean_places(origin: Origin) -> set[int]:
    """Return the places of boolean columns. SQLite stores 0 and 1; PostgreSQL and JSON have true and false."""
    columns = MODELS[origin.entity]._meta.columns
    return {at for at, name in enumerate(origin.columns) if isinstance(columns[name], fields.BooleanField)}


def _to_json(value: Any) -> Any:
    """Return a value of a rarer type as JSON has it."""
    if isinstance(value, Undecodable):
        return {"text": value.hex()}
    if isinstance(value, bytes | memoryview):
        return {"blob": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": repr(value)}
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(" ", "microseconds")
    return value


# Import


@dataclasses.dataclass(frozen=True)
class ExportSource(OwnSource):
    """An export as a source. counts: rows by table, from the head. starts: the beginning of each table."""

    path: Path
    named: Path  # the name for messages; `path` may be a copy
    counts: dict[str, int]
    has_hashes: bool
    sequence_state: SequenceState
    state: tuple[int, ...]
    starts: dict[str, tuple[int, int]]  # byte and number of the first line, of the tables read so far

    @property
    def about(self) -> str:
        """The name of the source in the journal."""
        return f"{printable(self.named.name)}, an export of vserver"

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The tables, in an order in which their rows can be written."""
        return ORIGINS

    def summary(self) -> str:
        """Return one line: the kind of source, and whether it lacks hashes."""
        without = "" if self.has_hashes else " without hashes: its users have no passwords, its nodes no API keys"
        return f"{shown(self.named)} is an export of vserver{without}"

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return self.counts[table]

    def rows(self, origin: Origin, notes: ImportNotes) -> Iterator[Row]:
        """Yield the rows of a table. Raises an Error for a line that is not a row of it."""
        with files.as_error(f"{shown(self.named)} cannot be read"), open(self.path, "rb") as file:
            first = self._go_to(origin, file)
            for number in range(first, first + self.counts[origin.table]):
                yield _read(self._line(file, number, origin), self._place(number), origin)
            self._note_end(origin, file)

    def _go_to(self, origin: Origin, file: BinaryIO) -> int:
        """Go to the first row of a table, and return the number of its line."""
        at = ORIGINS.index(origin)
        if origin.table not in self.starts:
            for _ in self.rows(ORIGINS[at - 1], ImportNotes()):
                pass
        byte, number = self.starts[origin.table]
        file.seek(byte)
        return number

    def _note_end(self, origin: Origin, file: BinaryIO) -> None:
        """Remember where the next table begins. Raises an Error if there are lines after the last table."""
        following = ORIGINS.index(origin) + 1
        number = self.starts[origin.table][1] + self.counts[origin.table]
        if following < len(ORIGINS):
            self.starts[ORIGINS[following].table] = (file.tell(), number)
        elif file.read(MAX_HEAD_BYTES).strip():  # empty lines are allowed
            raise Error(f"{self._place(number)}: the head counts no more rows: {REMEDY}")

    def _line(self, file: BinaryIO, number: int, origin: Origin) -> bytes:
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            message = f"{self.counts[origin.table]:,} of {origin.table}"
            raise Error(f"{shown(self.named)} is truncated: its head counts more rows ({message}): {REMEDY}")
        if len(line) == MAX_LINE_BYTES:
            raise Error(f"{self._place(number)} is longer than {MAX_LINE_BYTES:,} bytes: {REMEDY}")
        return line

    def _place(self, number: int) -> str:
        return f"{shown(self.named)}, line {number}"

    def refuse_changed(self) -> None:
        """Raise an Error if the file was written to since it was opened."""
        if _state(self.path) != self.state:
            raise Error(f"{shown(self.named)} was written to while it was read: nothing was imported; try again")


@contextlib.contextmanager
def opened(plain: Path, named: Path | None = None) -> Iterator[ExportSource]:
    """Open an export as a source. Raises an Error if the head is invalid or of a newer version of the format.

    named: the name for messages, if `plain` is a copy.
    """
    path = named or plain
    with files.as_error(f"{shown(path)} cannot be read"), open(plain, "rb") as file:
        line = file.readline(MAX_HEAD_BYTES)
    head = _parsed(line, f"{shown(path)}, line 1")
    version = head.get("version")
    if isinstance(version, int) and version > VERSION:
        known = f"(format {version}, this release reads {VERSION})"
        raise Error(f"{shown(path)} was exported by a newer vserver {known}: upgrade vserver")
    counts = _numbers(head, "rows")
    if head.get("vserver") != KIND or version != VERSION or counts is None or counts.keys() != TABLES:
        raise Error(f"{shown(path)}, line 1: not the head of a vserver export: {REMEDY}")
    sequence_state = SequenceState(_numbers(head, "counters") or {}, _last_ids(head), _salt(head))
    start = {ORIGINS[0].table: (len(line), 2)}
    yield ExportSource(plain, path, counts, head.get("hashes") is True, sequence_state, _state(plain), start)


TABLES = {origin.table for origin in ORIGINS}


def _numbers(head: dict[str, Any], name: str) -> dict[str, int] | None:
    """Return the numbers that the head has under a name, None if it has anything else."""
    found = head.get(name)
    if not isinstance(found, dict) or not all(type(each) is int and each >= 0 for each in found.values()):
        return None
    return found


def _last_ids(head: dict[str, Any]) -> dict[str, int]:
    found = _numbers(head, "last_ids") or {}
    return {table: id for table, id in found.items() if table in TABLES}


def _salt(head: dict[str, Any]) -> str | None:
    salt = head.get("key_salt")
    return salt if isinstance(salt, str) and hashing.is_hash(salt + "." * 31) else None


def _state(path: Path) -> tuple[int, ...]:
    stat = os.stat(path)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


# A line


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    """Return the JSON object on a line. Raises an Error if the line is not one."""
    try:
        found = DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        fault = printable(getattr(error, "msg", "") or error, 100)
        message = f"{place}: invalid JSON ({fault}): an export has one object on each line"
        raise Error(f"{message}, as jq -c writes it; or {REMEDY}") from None
    if not isinstance(found, dict):
        raise Error(f"{place}: not a JSON object: {REMEDY}")
    return found


def _read(line: bytes, place: str, origin: Origin) -> Row:
    """Return the values of a row, in the order of its columns."""
    values = _parsed(line, place).get(origin.table)
    if not isinstance(values, dict):
        raise Error(f"{place}: not a row of {origin.table}, which the head of the file announces: {REMEDY}")
    if not values.keys() <= set(origin.columns):
        name = next(name for name in values if name not in origin.columns)
        raise Error(f'{place}: {origin.table} has no column "{printable(name)}": {REMEDY}')
    row = tuple(map(values.get, origin.columns))
    if b"\\u" not in line and JSON_TYPES.issuperset(map(type, row)):
        return row
    return tuple(_from_json(name, value, place) for name, value in zip(origin.columns, row, strict=True))


def _from_json(name: str, value: Any, place: str) -> Any:
    """Return a value as it was stored. Raises an Error for JSON that stands for no value."""
    try:
        if isinstance(value, str):
            value.encode()
        if isinstance(value, dict):
            ((kind, text),) = value.items()
            return DECODERS[kind](text)
        if isinstance(value, list):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise Error(f'{place}: "{name}" has a value that a database cannot store: {REMEDY}') from None
    return value


DECODERS: dict[str, Callable[[str], Any]] = {
    "text": lambda text: Undecodable(bytes.fromhex(text)),
    "blob": bytes.fromhex,
    "real": float,
}


def _parse_int(digits: str) -> int:
    number = int(digits)
    if len(digits) > 18 and not -(2**63) <= number < 2**63:
        raise ValueError("a number of more than 64 bits")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


DECODER = json.JSONDecoder(parse_int=_parse_int, parse_constant=_refuse_constant)
