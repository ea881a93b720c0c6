"""Whether a server's file still shows what a record says was applied to it: it may be restored, renamed or copied.

Reads files only, without a lock and without creating a file beside them, so a file that is being written to has no
answer; nor has a large record.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from vserverlib import Error, files, home
from vserverlib.databases import sqlite_headers
from vserverlib.databases.connection import quoted
from vserverlib.plans import records
from vserverlib.plans.records import DELETE, INSERT, Record
from vserverlib.plans.references import SERVER_UPDATED

LARGEST = 4 << 20  # bytes of a record to compare
APPLIED, GONE = "applied", "gone"  # all rows are as it left them, or as they were before
LOGS = ("-wal", "-journal")  # files beside a file that is being written to
FILE = "file:"  # the start of a file's identity
Values = dict[str, Any] | None
Net = dict[tuple[str, int], tuple[Values, Values]]  # by table and id: values before and after, None without a row


def state(record: Record, path: Path) -> str:
    """Return whether all rows of a record are as it left them in a file, or as they were before; "" for neither."""
    try:
        if record.path.stat().st_size > LARGEST or any(_size(f"{files.real(path)}{end}") for end in LOGS):
            return ""
        with contextlib.closing(sqlite_headers.immutable(files.real(path))) as conn:
            conn.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            found = [_compared(conn, table, id, *both) for (table, id), both in _net(record).items()]
    except (OSError, sqlite3.Error, Error):
        return ""
    known = {each for each in found if each}
    return known.pop() if len(known) == 1 and "" not in found else ""


def _size(path: str) -> int:
    return os.stat(path).st_size if os.path.exists(path) else 0


def _net(record: Record) -> Net:
    """Return the net changes of the rows with an id, without columns that the server updates all the time."""
    found: Net = {}
    for row in records.rows(record):
        if row.id is None:
            continue
        key = row.table, int(row.id)
        before, after = _kept(row.table, row.before), _kept(row.table, row.after)
        was, now = found.get(key, (None if row.operation == INSERT else {}, {}))
        was = was if was is None else {**(before or {}), **was}
        now = None if row.operation == DELETE or now is None else {**now, **(after or {})}
        found[key] = was, now
    return found


def _kept(table: str, values: Values) -> Values:
    return values and {name: value for name, value in values.items() if name not in SERVER_UPDATED.get(table, ())}


def _compared(conn: sqlite3.Connection, table: str, id: int, before: Values, after: Values) -> str:
    names = list((before if after is None else after) or ())
    columns = ", ".join(map(quoted, names)) or "1"
    row = conn.execute(f"SELECT {columns} FROM {quoted(table)} WHERE id = ?", [id]).fetchone()
    now = None if row is None else dict(zip(names, row, strict=False))
    is_applied, is_gone = _is_same(now, after), _is_same(now, before)
    return "" if is_applied == is_gone else APPLIED if is_applied else GONE


def _is_same(now: Values, values: Values) -> bool:
    if now is None or values is None:
        return now is values
    return all(name not in now or now[name] == value for name, value in values.items())


# A file that was renamed or copied


def adopt(path: Path, identity: str) -> Path | None:
    """Give a file that was renamed the records of its former name. Return the file that it is a copy of, or None.

    A file without records is taken for a renamed or copied one if it shows all that was applied to another last.
    """
    place = records.folder(identity)
    if records.in_folder(place):
        return None
    for folder in home.own_entries(place.parent, records.FOLDER_NAME):
        former = _former_name(folder, path)
        if former is not None and former.exists():
            return former
        if former is not None:
            with contextlib.suppress(OSError):
                os.rename(folder, place)
                return None
    return None


def _former_name(folder: Path, path: Path) -> Path | None:
    """Return the file that a folder has the records of, if this file shows its newest one."""
    with contextlib.suppress(Error):  # a damaged record
        newest = next(iter(records.in_folder(folder)), None)
        if newest is None or not newest.identity.startswith(FILE) or state(newest, path) != APPLIED:
            return None
        if any(row.operation != DELETE for row in records.rows(newest)):  # missing rows are no evidence
            return Path(newest.identity.removeprefix(FILE))
    return None
