"""The plans that were applied to servers' databases: a private record of each, by which it can be undone.

A record is a file of JSON lines. The first has the plan, the time and the actor; each of the others is a row that was
written, with its values before and after, in the order of the statements. It may hold hashes: it is its owner's
alone. Undoing is reverting.py's.
"""

from __future__ import annotations

import array
import contextlib
import datetime
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from vserverlib import Error, files, home
from vserverlib.databases.recording import Recorder
from vserverlib.files import shown
from vserverlib.plans.plan import Plan

FOLDER = "applied"
NAME = re.compile(r"(\d{4,})\.json")
UPDATE, INSERT, DELETE = "update", "insert", "delete"
INVERSE = {UPDATE: UPDATE, INSERT: DELETE, DELETE: INSERT}
FORMAT = 1


class Record(NamedTuple):
    """A plan that was applied: its number at its server, when (UTC) and by whom, in a line, and as data.

    reverts: the number of the plan that it has undone; reverted_by: that of the one by which it was undone. nowhere:
    ids in links of deleted rows that led nowhere, by table and column.
    """

    number: int
    at: datetime.datetime
    actor: str
    server: str
    release: int
    summary: str
    plan: dict[str, Any]
    reverts: int | None
    reverted_by: int | None
    backup: str | None
    nowhere: dict[str, list[int]]
    path: Path


class Row(NamedTuple):
    """A row that was written: how, its table and id, and the values before and after: of an update those written."""

    done: str
    table: str
    id: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def folder(identity: str) -> Path:
    """Return the folder with the records of a server's database. Creates nothing."""
    with files.as_error("there is no place for backups and records"):
        return home.folder() / FOLDER / hashlib.sha256(identity.encode()).hexdigest()[:16]


def own_folder(identity: str) -> Path:
    """Make that folder, its owner's alone, unless it is there."""
    place = folder(identity)
    with files.as_error(f"{shown(place)} cannot be made"):
        home.own_folder(place.parent)
        return home.own_folder(place)


def of(identity: str) -> list[Record]:
    """Return the plans that were applied to a server's database, newest first. Reads only."""
    place = folder(identity)
    paths = sorted(home.own_entries(place, NAME), reverse=True) if place.is_dir() else []
    found = [_read(path) for path in paths]
    reverted = {record.reverts: record.number for record in reversed(found) if record.reverts is not None}
    return [record._replace(reverted_by=reverted.get(record.number)) for record in found]


def one(identity: str, server: str, number: int | None) -> Record:
    """Return the record of a number, or else the newest one that was not undone; an Error if it is missing."""
    known = of(identity)
    if number is not None:
        found = next((record for record in known if record.number == number), None)
        if found is None:
            there = ", ".join(str(record.number) for record in known[:5]) or "none"
            raise Error(f"there is no change {number} of {server} on record: there are {there}")
        return found
    for record in known:
        if record.reverts is None and record.reverted_by is None:
            return record
    raise Error(f"nothing is left to be undone: no change of {server} is on record that was not undone")


def rows(record: Record) -> Iterator[Row]:
    """Return the rows that a plan wrote, in the order in which they were written: those of an undo are another's."""
    if record.reverts is not None:
        yield from map(_inverse, newest_first(_reverted(record)))
        return
    with files.as_error(f"{shown(record.path)} cannot be read"), open(record.path, encoding="utf-8") as file:
        next(file)
        for line in file:
            yield decoded(json.loads(line))


def newest_first(record: Record) -> Iterator[Row]:
    """Return the rows that a plan wrote, the last first."""
    if record.reverts is not None:
        yield from map(_inverse, rows(_reverted(record)))
        return
    with files.as_error(f"{shown(record.path)} cannot be read"), open(record.path, "rb") as file:
        file.readline()
        places = array.array("Q")
        while file.peek(1):
            places.append(file.tell())
            file.readline()
        for place in reversed(places):
            file.seek(place)
            yield decoded(json.loads(file.readline()))


def _reverted(record: Record) -> Record:
    """Return the record of the plan that an undo has undone."""
    return _read(record.path.with_name(f"{record.reverts:04}.json"))


def _inverse(row: Row) -> Row:
    """Return the row that undoes a row."""
    return Row(INVERSE[row.done], row.table, row.id, row.after, row.before)


def decoded(line: Sequence[Any]) -> Row:
    """Return the row of a line."""
    done, table, id, before, after = line
    return Row(done, table, id, _decoded(before), _decoded(after))


def next_number(identity: str) -> int:
    """Return the number of the plan that is applied next."""
    known = of(identity)
    return known[0].number + 1 if known else 1


def _read(path: Path) -> Record:
    with files.as_error(f"{shown(path)} cannot be read"), open(path, encoding="utf-8") as file:
        try:
            head = json.loads(file.readline())
            at = datetime.datetime.fromisoformat(head["at"])
            names = ("number", "actor", "server", "release", "summary", "plan", "reverts", "backup", "nowhere")
            return Record(at=at, reverted_by=None, path=path, **{name: head[name] for name in names})
        except (ValueError, KeyError, TypeError) as error:
            raise Error(f"{shown(path)} is not a record of an applied plan: move it away") from error


# Writing one


class Log:
    """A record that is being written: begin() first."""

    def __init__(self, file: IO[str], number: int, backup: Path | None) -> None:
        self._file, self._number, self._backup = file, number, backup

    def begin(self, plan: Plan, nowhere: dict[str, list[int]]) -> None:
        """Write the first line. nowhere: see Record."""
        head = {
            "format": FORMAT,
            "number": self._number,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "actor": Recorder().actor,
            "server": plan.server,
            "release": plan.release,
            "summary": plan.summary,
            "reverts": plan.reverts,
            "backup": None if self._backup is None else str(self._backup),
            "nowhere": nowhere,
            "plan": plan.as_json(),
        }
        self._file.write(f"{json.dumps(head)}\n")

    def add(self, done: str, table: str, id: Any, before: Any, after: Any) -> None:
        """Add a row: see Row."""
        line = json.dumps([done, table, id, _encoded(before), _encoded(after)], separators=(",", ":"))
        self._file.write(f"{line}\n")

    def finish(self) -> None:
        """Have all of it be on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())


@contextlib.contextmanager
def written(identity: str, number: int, backup: Path | None) -> Iterator[Log]:
    """Write a record, which is in its place before the server's transaction ends, and removed if that fails."""
    place = own_folder(identity) / f"{number:04}.json"
    with files.as_error(f"{shown(place)} cannot be made"):
        files.refuse_taken(place)
        files.make_private(place)
    try:
        with open(place, "w", encoding="utf-8", newline="\n") as file:
            yield Log(file, number, backup)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


def _encoded(values: dict[str, Any] | None) -> Any:
    if values is None:
        return None
    return {name: {"blob": value.hex()} if isinstance(value, bytes) else value for name, value in values.items()}


def _decoded(values: dict[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    return {name: bytes.fromhex(value["blob"]) if isinstance(value, dict) else value for name, value in values.items()}
