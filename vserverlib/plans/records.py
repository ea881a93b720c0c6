"""Records of the plans that were applied to servers' databases, from which they can be undone.

A record is a file of JSON lines. The first has the plan, the time and the actor. Each other line is a written row with
its values before and after, in the order of the statements. Records may contain hashes, so only their owner can read
them. reverting.py undoes a plan.
"""

from __future__ import annotations

import array
import contextlib
import datetime
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from vserverlib import Error, files, home
from vserverlib.databases.recording import Recorder
from vserverlib.files import shown
from vserverlib.plans.plan import Plan

FOLDER = "applied"
FOLDER_NAME = re.compile("[0-9a-f]{16}")  # of the records of one database
NAME = re.compile(r"(\d{4,})\.json")
NUMBERED = re.compile(r"\d{4,}\.(json|db|dump)")  # records and backups
DRAFT = re.compile(rf"\.{NUMBERED.pattern}\.{files.DRAFT}(-journal|-wal|-shm)?")
UPDATE, INSERT, DELETE = "update", "insert", "delete"
INVERSE = {UPDATE: UPDATE, INSERT: DELETE, DELETE: INSERT}
FORMAT = 1
HEAD = (
    "number", "actor", "server", "identity", "release", "summary", "plan", "reverts", "backup", "orphan_links",
)  # fmt: skip
PER_ACCOUNT = "each account keeps its own records, by the path of the file or the address of the database"


class Record(NamedTuple):
    """An applied plan.

    number: among the plans applied to its database. at: in UTC. reverts: the number of the plan that it undid;
    reverted_by: the number of the plan that undid it. orphan_links: of deleted rows, ids by table and column.
    identity: of the database. gone: whether the database no longer shows it, as after restoring a backup.
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
    orphan_links: dict[str, list[int]]
    path: Path
    identity: str
    gone: bool = False


class Row(NamedTuple):
    """A written row: operation, table, id, and the values before and after; for an update, of the changed columns."""

    operation: str
    table: str
    id: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def folder(identity: str) -> Path:
    """Return the folder with the records of a server's database. Creates nothing."""
    with files.as_error("the folder of backups and records cannot be found"):
        return home.folder() / FOLDER / hashlib.sha256(identity.encode()).hexdigest()[:16]


def create_folder(identity: str) -> Path:
    """Create that folder for its owner only, if it is missing, and return it."""
    place = folder(identity)
    with files.as_error(f"{shown(place)} cannot be created"):
        home.own_folder(place.parent)
        return home.own_folder(place)


def applied_plans(identity: str) -> list[Record]:
    """Return the plans that were applied to a server's database, newest first. Reads only."""
    return in_folder(folder(identity))


def in_folder(place: Path) -> list[Record]:
    """Return the records in a folder, newest first."""
    paths = sorted(home.own_entries(place, NAME), key=_number, reverse=True) if place.is_dir() else []
    found = [_read(path) for path in paths]
    reverted = {record.reverts: record.number for record in reversed(found) if record.reverts is not None}
    return [record._replace(reverted_by=reverted.get(record.number)) for record in found]


def find(known: list[Record], server: str, number: int | None) -> Record:
    """Return the record with a number, or the newest one that can be undone. Raises Error if there is none."""
    if number is not None:
        found = next((record for record in known if record.number == number), None)
        if found is None:
            there = ", ".join(str(record.number) for record in known[:5])
            remedy = f"choose one of {there}" if known else PER_ACCOUNT
            raise Error(f"no change {number} of {server} is on record: {remedy}")
        return found
    for record in known:
        if record.reverts is None and record.reverted_by is None:
            return record
    if known:
        raise Error(f"nothing to undo: all changes of {server} that are on record were undone already")
    raise Error(f"nothing to undo: no change of {server} is on record: {PER_ACCOUNT}")


def rows(record: Record) -> Iterator[Row]:
    """Return the rows that a plan wrote, in order. The rows of an undo come from the record that it undid."""
    if record.reverts is not None:
        yield from map(_inverse, newest_first(_reverted(record)))
        return
    with files.as_error(f"{shown(record.path)} cannot be read"), open(record.path, encoding="utf-8") as file:
        next(file)
        for line in file:
            yield _row(record, line)


def newest_first(record: Record) -> Iterator[Row]:
    """Return the rows that a plan wrote, in reverse order."""
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
            yield _row(record, file.readline())


def _row(record: Record, line: str | bytes) -> Row:
    try:
        return decoded(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise _invalid(record.path) from error


def _invalid(path: Path) -> Error:
    return Error(f"{shown(path)} is not a valid record of an applied plan: move it away")


def _reverted(record: Record) -> Record:
    """Return the record that an undo undid."""
    return _read(record.path.with_name(f"{record.reverts:04}.json"))


def _inverse(row: Row) -> Row:
    """Return the inverse of a row."""
    return Row(INVERSE[row.operation], row.table, row.id, row.after, row.before)


def decoded(line: Sequence[Any]) -> Row:
    """Return the row of a decoded JSON line."""
    operation, table, id, before, after = line
    return Row(operation, table, id, _decoded(before), _decoded(after))


def _number(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _read(path: Path) -> Record:
    with files.as_error(f"{shown(path)} cannot be read"), open(path, encoding="utf-8") as file:
        try:
            head = json.loads(file.readline())
            at = datetime.datetime.fromisoformat(head["at"])
            return Record(at=at, reverted_by=None, path=path, **{name: head[name] for name in HEAD})
        except (ValueError, KeyError, TypeError) as error:
            raise _invalid(path) from error


# Writing a record


@contextlib.contextmanager
def numbered(identity: str, server: str) -> Iterator[int]:
    """Yield the number of the next applied plan, for a block that backs the database up and applies it.

    Waits for another session of this account. Removes the drafts of records and backups that a killed one left.
    """
    place = create_folder(identity)
    with files.alone_in(place, f"waiting for another session that applies a plan to {server} (Ctrl-C: give up)"):
        for draft in home.own_entries(place, DRAFT):
            draft.unlink(missing_ok=True)
        yield 1 + max(map(_number, home.own_entries(place, NUMBERED)), default=0)


class RecordWriter:
    """Writes a record. Call begin() first."""

    def __init__(self, file: IO[str], place: Path, identity: str, backup: Path | None) -> None:
        self._file, self._place, self._identity, self._backup = file, place, identity, backup
        self._is_in_place = False

    def begin(self, plan: Plan, orphan_links: dict[str, list[int]]) -> None:
        """Write the first line. orphan_links: see Record."""
        head = {
            "format": FORMAT,
            "number": _number(self._place),
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "actor": Recorder().actor,
            "server": plan.server,
            "identity": self._identity,
            "release": plan.release,
            "summary": plan.summary,
            "reverts": plan.reverts,
            "backup": None if self._backup is None else str(self._backup),
            "orphan_links": orphan_links,
            "plan": plan.as_json(),
        }
        self._file.write(f"{json.dumps(head)}\n")

    def add(self, operation: str, table: str, id: Any, before: Any, after: Any) -> None:
        """Write a row: see Row."""
        line = json.dumps([operation, table, id, _encoded(before), _encoded(after)], separators=(",", ":"))
        self._file.write(f"{line}\n")

    def finish(self) -> None:
        """Put the record in place, flushed to disk."""
        self._file.flush()
        files.move_into_place(Path(self._file.name), self._place)
        self._is_in_place = True

    def discard(self) -> None:
        """Remove the record, if this put it in place."""
        if self._is_in_place:
            self._place.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(identity: str, number: int, backup: Path | None) -> Iterator[RecordWriter]:
    """Create a record, in place and complete just before the server's transaction commits, removed if that fails."""
    place = create_folder(identity) / f"{number:04}.json"
    try:
        with files.draft_for(place) as draft, open(draft, "w", encoding="utf-8", newline="\n") as file:
            writer = RecordWriter(file, place, identity, backup)
            try:
                yield writer
            except BaseException:
                writer.discard()
                raise
    except OSError as error:
        raise Error(f"{shown(place)} cannot be written: {files.reason(error)}; nothing was changed") from error


def _encoded(values: dict[str, Any] | None) -> Any:
    if values is None:
        return None
    return {name: {"blob": value.hex()} if isinstance(value, bytes) else value for name, value in values.items()}


def _decoded(values: dict[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    return {name: bytes.fromhex(value["blob"]) if isinstance(value, dict) else value for name, value in values.items()}
