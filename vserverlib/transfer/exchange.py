"""Our own export: everything that a database of ours holds, in JSON that any program can read, and back.

A file of JSON Lines. Its first line is the head: what it is and of which version, how many rows of each table follow,
and what the database has beside rows. Each other line is a row, under the name of its table, in the order of
`ours.ORIGINS`; a column that is empty is left out::

    {"vserver": "export", "version": 1, "hashes": false, "rows": {"organization": 1, …}, "counters": {"run_id": 7}, …}
    {"organization": {"id": 1, "name": "IKNL", "country": "Netherlands"}}

Values are as the database stores them. What JSON has no form for is an object of one pair: {"blob": "6c6f67"} bytes and
{"text": "c328"} a text that is no UTF-8, both hexadecimal, {"real": "inf"} a number without an end.

It owns that format. Rows are read and written one by one, so memory does not grow with them.
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
from vserverlib.transfer.sources import Notes, Origin, Row, SequenceState, Source, Undecodable, WhollyOurs
from vserverlib.transfer.vserver_source import ORIGINS

VERSION = 1  # of the format: a reader refuses a newer one
KIND = "export"  # what the head says that the file is
HEAD = 65536  # bytes that a head may have
LONGEST = 2**30  # bytes of a line: a text that SQLite takes has fewer
PLAIN = frozenset((str, int, type(None)))  # the types of nearly all values: JSON holds them as they are
REMEDY = "export it again"


# Out


def export(source: Source, target: Path, *, with_hashes: bool, force: bool = False, advance: Advance = bool) -> None:
    """Write everything to a file, readable by its owner alone. Complete, or not there at all."""
    with files.written(target, replace=force) as file:
        file.writelines(lines(source, with_hashes=with_hashes, advance=advance))


def lines(source: Source, *, with_hashes: bool, advance: Advance = bool) -> Iterator[str]:
    """Return the lines of an export, as they come."""
    yield from formats.as_json_lines([_head(source, with_hashes)])
    yield from formats.as_json_lines(map(ticker(advance), _rows(source)))


def _head(source: Source, with_hashes: bool) -> dict[str, Any]:
    beside = source.beside or SequenceState({}, {})
    return {
        "vserver": KIND,
        "version": VERSION,
        "made_at": fields.iso(fields.now()),
        "hashes": with_hashes,
        "rows": {origin.table: source.count(origin.table) for origin in source.origins},
        "counters": beside.counters,
        "last_ids": beside.last_ids,
        **({"key_salt": beside.key_salt} if with_hashes else {}),
    }


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    for origin in source.origins:
        flags = _flags(origin)
        for row in source.rows(origin, Notes()):
            if flags:
                row = tuple(bool(value) if at in flags and value in (0, 1) else value for at, value in enumerate(row))
            if not PLAIN.issuperset(map(type, row)):
                row = tuple(map(_written, row))
            pairs = zip(origin.columns, row, strict=True)
            yield {origin.table: {name: value for name, value in pairs if value is not None}}


def _flags(origin: Origin) -> set[int]:
    """Return where columns of truths are: SQLite stores 0 and 1, PostgreSQL and JSON have true and false."""
    columns = MODELS[origin.entity]._meta.columns
    return {at for at, name in enumerate(origin.columns) if isinstance(columns[name], fields.BooleanField)}


def _written(value: Any) -> Any:
    """Return what JSON holds of a value of another type than most."""
    if isinstance(value, Undecodable):
        return {"text": value.hex()}
    if isinstance(value, bytes | memoryview):
        return {"blob": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": repr(value)}
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(" ", "microseconds")
    return value


# In


@dataclasses.dataclass(frozen=True)
class Export(WhollyOurs):
    """An export, as a source. counts: how many rows its head tells; starts: where the rows of a table begin."""

    path: Path
    named: Path  # what it is called by, of which `path` may be a copy
    counts: dict[str, int]
    has_hashes: bool
    beside: SequenceState
    state: tuple[int, ...]
    starts: dict[str, tuple[int, int]]  # byte and number of the first line: of those tables that were come to

    @property
    def about(self) -> str:
        """Return what the journal says was imported."""
        return f"{printable(self.named.name)}, an export of vserver"

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The tables, in an order in which their rows can be written."""
        return ORIGINS

    def summary(self) -> str:
        """Return what it is, in a line."""
        without = "" if self.has_hashes else ", made without hashes: its users and nodes have no passwords and keys"
        return f"{shown(self.named)} is an export of vserver{without}"

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return self.counts[table]

    def rows(self, origin: Origin, notes: Notes) -> Iterator[Row]:
        """Return the rows of a table, one line after the other; an Error where one is none."""
        with files.as_error(f"{shown(self.named)} cannot be read"), open(self.path, "rb") as file:
            first = self._go_to(origin, file)
            for number in range(first, first + self.counts[origin.table]):
                yield _read(self._line(file, number, origin), self._place(number), origin)
            self._note_end(origin, file)

    def _go_to(self, origin: Origin, file: BinaryIO) -> int:
        """Go to the first row of a table, and return the number of its line."""
        at = ORIGINS.index(origin)
        if origin.table not in self.starts:
            for _ in self.rows(ORIGINS[at - 1], Notes()):
                pass
        byte, number = self.starts[origin.table]
        file.seek(byte)
        return number

    def _note_end(self, origin: Origin, file: BinaryIO) -> None:
        """Keep where the next table begins; behind the last one there is nothing more."""
        following = ORIGINS.index(origin) + 1
        number = self.starts[origin.table][1] + self.counts[origin.table]
        if following < len(ORIGINS):
            self.starts[ORIGINS[following].table] = (file.tell(), number)
        elif file.read(HEAD).strip():  # an empty line more is nothing
            raise Error(f"{self._place(number)} is one more than its head tells of: {REMEDY}")

    def _line(self, file: BinaryIO, number: int, origin: Origin) -> bytes:
        line = file.readline(LONGEST)
        if not line:
            message = f"{self.counts[origin.table]:,} of {origin.table}"
            raise Error(f"{shown(self.named)} ends before all rows that its head tells of ({message}): it is cut off")
        if len(line) == LONGEST:
            raise Error(f"{self._place(number)} is longer than {LONGEST:,} bytes: {REMEDY}")
        return line

    def _place(self, number: int) -> str:
        return f"{shown(self.named)}, line {number}"

    def refuse_changed(self) -> None:
        """Raise an Error where the file was written to since it was opened."""
        if _state(self.path) != self.state:
            raise Error(f"{shown(self.named)} was written to while it was read: nothing was imported; try again")


@contextlib.contextmanager
def opened(plain: Path, named: Path | None = None) -> Iterator[Export]:
    """Open an export to be imported; an Error where it is none, or of a newer version than this release knows.

    named: the file that it is called by, of which `plain` may be a copy.
    """
    path = named or plain
    with files.as_error(f"{shown(path)} cannot be read"), open(plain, "rb") as file:
        line = file.readline(HEAD)
    head = _parsed(line, f"{shown(path)}, line 1")
    version = head.get("version")
    if isinstance(version, int) and version > VERSION:
        known = f"(version {version}, this release knows {VERSION})"
        raise Error(f"{shown(path)} was exported by a newer vserver {known}: upgrade vserver")
    counts = _numbers(head, "rows")
    if head.get("vserver") != KIND or version != VERSION or counts is None or counts.keys() != TABLES:
        raise Error(f"{shown(path)} has no head that an export of vserver has: {REMEDY}")
    beside = SequenceState(_numbers(head, "counters") or {}, _last_ids(head), _salt(head))
    start = {ORIGINS[0].table: (len(line), 2)}
    yield Export(plain, path, counts, head.get("hashes") is True, beside, _state(plain), start)


TABLES = {origin.table for origin in ORIGINS}


def _numbers(head: dict[str, Any], name: str) -> dict[str, int] | None:
    """Return the whole numbers that the head has under a name; None where it has anything else."""
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
    """Return the object that a line is; an Error where it is none."""
    try:
        found = DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        fault = printable(getattr(error, "msg", "") or error, 100)
        message = f"{place} is no JSON ({fault}): an export has one object on each line"
        raise Error(f"{message}, which jq -c writes; or {REMEDY}") from None
    if not isinstance(found, dict):
        raise Error(f"{place} is no object: {REMEDY}")
    return found


def _read(line: bytes, place: str, origin: Origin) -> Row:
    """Return the values of a row, in the order of its columns."""
    values = _parsed(line, place).get(origin.table)
    if not isinstance(values, dict):
        raise Error(f"{place} is no row of {origin.table}, as the head of the file has it: {REMEDY}")
    if not values.keys() <= set(origin.columns):
        name = next(name for name in values if name not in origin.columns)
        raise Error(f'{place}: {origin.table} has no column "{printable(name)}": {REMEDY}')
    row = tuple(map(values.get, origin.columns))
    if b"\\u" not in line and PLAIN.issuperset(map(type, row)):
        return row
    return tuple(_value(name, value, place) for name, value in zip(origin.columns, row, strict=True))


def _value(name: str, value: Any, place: str) -> Any:
    """Return a value as it was stored; an Error where nothing is stored like it."""
    try:
        if isinstance(value, str):
            value.encode()
        if isinstance(value, dict):
            ((kind, text),) = value.items()
            return KINDS[kind](text)
        if isinstance(value, list):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise Error(f'{place}: "{name}" is no value that a database holds: {REMEDY}') from None
    return value


KINDS: dict[str, Callable[[str], Any]] = {
    "text": lambda text: Undecodable(bytes.fromhex(text)),
    "blob": bytes.fromhex,
    "real": float,
}


def _whole(digits: str) -> int:
    number = int(digits)
    if len(digits) > 18 and not -(2**63) <= number < 2**63:
        raise ValueError("a number of more than 64 bits")
    return number


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no number")


DECODER = json.JSONDecoder(parse_int=_whole, parse_constant=_refused)
