"""Backups of SQLite databases: made while others write, verified, and restored.

A backup is one complete file, which can be opened or restored. SQLite's backup API makes it within one read
transaction, so it is a consistent snapshot.

Restoring writes *into* the database in one transaction, with the same API. So it happens completely or not at all, even
if the process is killed; and other programs that have the database open continue with the restored data, not with a
deleted file.

storage.py recognizes and opens files; files.py puts them in place.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from vserverlib import Damaged, Error, Locked, NotFound, files, signals
from vserverlib.databases import (
    connection,
    recording,
    registry,
    schemas,
    sqlite,
    sqlite_connections,
    sqlite_headers,
    storage,
)
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.sqlite import Sqlite
from vserverlib.drivers import peewee
from vserverlib.files import shown
from vserverlib.messages import notify

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last: the schema is not valid SQL

VALUE_FAULTS = ("NULL value in", "CHECK constraint", "value in")  # SQLite's messages on values that our tables forbid

HEADROOM = 1000  # ids that others may take between the last ones that a restore reads, and its lock
LAST_PAGE = 1  # the remaining pages at the last step, which commits

Counts = dict[str, int]  # rows by table


class FailedIntegrityCheck(Damaged):
    """SQLite finds a fault in a database, so its copy is not a backup: restore would refuse it.

    fault: SQLite's message; repair: the command that repairs it.
    """

    def __init__(self, path: Path, fault: str, remedy: str = "") -> None:
        self.fault, self.repair = fault, _repair(path, fault)
        remedy = remedy or f"use an earlier backup, or repair it: {self.repair}"
        super().__init__(f"{shown(path)} is damaged ({fault}): {remedy}")


class Backup(NamedTuple):
    """A backup: its path, its size (bytes), and whether the copied database is sound."""

    path: Path
    size: int
    is_sound: bool = True


# Making a backup


def make(path: Path, target: Path | None = None, *, force: bool = False) -> Backup:
    """Make a verified backup of a database, for its owner only, and return it. It is complete or does not exist.

    target: a file, or a folder; without one it is created beside the database, named after the time. Others may write
    meanwhile. Raises FailedIntegrityCheck if the database is damaged, another Error if the target exists, unless
    `force` replaces it; never the database itself, nor anything but a regular file.
    """
    storage.check(path)
    place = _place(path, target)
    files.refuse_place(place, path, force=force)
    with files.as_error(f"{shown(place)} cannot be created"), _copied(path, place) as draft:
        size = draft.stat().st_size
        files.move_into_place(draft, place, replace=force)
    return Backup(place, size)


def stream(path: Path, out: BinaryIO) -> None:
    """Write a verified backup of a database to a stream. It is first made in a private folder."""
    storage.check(path)
    with (
        files.as_error(f"{shown(path)} cannot be backed up"),
        files.temporary_folder() as folder,
        _copied(path, folder / "backup") as draft,
        open(draft, "rb") as file,
    ):
        try:
            shutil.copyfileobj(file, out)
            out.flush()
        except BrokenPipeError:  # an error here, because half a backup is useless
            raise Error(f"the backup of {shown(path)} was not read to its end: this is not a backup") from None


def keep(path: Path, kept: list[Backup], *, or_damaged: bool = False) -> None:
    """Make a verified backup beside a database that is about to be replaced or upgraded.

    kept: the list that gets the backup as soon as it exists, so that the caller can discard() it when interrupted.
    Raises FailedIntegrityCheck if restore would refuse it; or_damaged: keeps such a backup, marked as not sound. Opens
    the database with SQLite only: the caller holds its write lock, which reading the file otherwise would release.
    """
    place, is_sound = default_name(path), True
    with files.as_error(f"{shown(place)} cannot be created"), files.draft_for(place) as draft:
        try:
            _copy_verified(path, draft)
        except FailedIntegrityCheck:
            if not or_damaged:
                raise
            _copy(path, draft)
            is_sound = False
        signals.check()
        with signals.held():
            files.move_into_place(draft, place)
            kept.append(Backup(place, place.stat().st_size, is_sound))


@contextlib.contextmanager
def keeping_first(database: DatabaseMixin) -> Iterator[list[Backup]]:
    """A transaction that begins with a backup, added to this list; it is removed unless the transaction commits."""
    kept: list[Backup] = []
    with signals.finishing():
        try:
            with database.atomic():
                yield kept
                signals.point_of_no_return()
        except BaseException:
            discard(*kept)
            raise


def _repair(path: Path, fault: str) -> str:
    """Return the command of SQLite's own program that repairs a database with a given fault."""
    name = shlex.quote(shown(path))
    if "index" in fault:
        return f"sqlite3 {name} REINDEX"
    if any(words in fault for words in VALUE_FAULTS):
        return f"sqlite3 {name}, to set values that the table allows"
    if "reelist" in fault:
        return f"sqlite3 {name} \"VACUUM INTO 'NEW'\""
    return f"sqlite3 {name} .recover | sqlite3 NEW, to recover the readable part"


def default_name(path: Path) -> Path:
    """Return an unused name for a backup beside a database."""
    return files.dated_name(path.parent, path.stem, ".db")


def _place(path: Path, target: Path | None) -> Path:
    if target is None:
        return default_name(path)
    return files.dated_name(target, path.stem, ".db") if target.is_dir() else target


# Copying and verifying


@contextlib.contextmanager
def _copied(path: Path, beside: Path) -> Iterator[Path]:
    """A verified private copy of a database, at the end removed unless it was moved to its destination."""
    with files.draft_for(beside) as draft:
        _copy_verified(path, draft)
        yield draft


def _copy_verified(path: Path, draft: Path) -> None:
    """Copy a snapshot of a database; raise FailedIntegrityCheck if restore would refuse the copy."""
    try:
        _verify(draft, path, _copy(path, draft, _count))
    except FailedIntegrityCheck:
        raise
    except (Damaged, peewee.DatabaseError, sqlite3.DatabaseError) as error:
        fault = error.__cause__ or error if isinstance(error, Damaged) else error
        if not _is_damage(fault):
            raise
        raise FailedIntegrityCheck(path, files.reason(fault)) from error


def _copy(path: Path, draft: Path, count: Callable[[sqlite3.Connection], Counts] = lambda conn: {}) -> Counts:
    """Copy a snapshot of a database, and return its row counts at that moment."""
    with (
        contextlib.closing(storage.reader(path)) as source,
        contextlib.closing(sqlite_connections.connect(draft)) as target,
    ):
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):  # the copy is complete, or discarded
            target.execute(f"PRAGMA {pragma}")
        with source.atomic():
            source.execute_sql("SELECT 1 FROM sqlite_master").fetchone()  # begins the read transaction
            rows = count(source.connection())
            sqlite_connections.Connection.backup(source.connection(), target)  # a reader's own hides the hashes
    return rows


def refuse_damaged(copy: Path, original: Path) -> None:
    """Raise FailedIntegrityCheck, for the original, if its copy is damaged."""
    _verify(copy, original)


def _count(conn: sqlite3.Connection) -> Counts:
    tables = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL %'")
    counted = ((name, conn.execute(f"SELECT COUNT(*) FROM {connection.quoted(name)}")) for (name,) in tables.fetchall())
    return {name: found.fetchone()[0] for name, found in counted}


def _verify(file: Path, original: Path, rows: Counts | None = None) -> None:
    """Raise an Error unless a copy is a sound database of ours with the given row counts."""
    with contextlib.closing(sqlite_headers.immutable(file)) as conn:
        fault = _fault(conn)
        if fault:
            raise FailedIntegrityCheck(original, fault)
        if rows is not None and _count(conn) != rows:
            raise Error(f"the copy of {shown(original)} does not have all of its rows: nothing was changed; try again")


def _fault(conn: sqlite3.Connection) -> str:
    """Return the first fault of a database, "" without one."""
    try:
        (found,) = conn.execute("PRAGMA integrity_check(1)").fetchone()
        (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return files.reason(error)
    if application_id != storage.APPLICATION_ID:
        return "it is not a database of vserver"
    return "" if found == "ok" else " ".join(str(found).replace("*** in database main ***", "").split())[:100]


def _is_damage(error: BaseException) -> bool:
    """Whether an error means that a file is damaged, and not only unreadable at the moment."""
    found = (getattr(each, "sqlite_errorcode", 0) & 0xFF for each in (error, error.__cause__, error.__context__))
    return any(code in DAMAGED for code in found)


# Restoring a backup


@contextlib.contextmanager
def verified(file: Path, path: Path) -> Iterator[Path]:
    """A sound copy of a backup, upgraded to this release's schema, beside the database at `path` that it will replace.

    Raises an Error if the backup is not ours, damaged, or newer than this release. The backup is not changed.
    """
    if not os.path.lexists(file):
        raise NotFound(f"there is no file {shown(file)}: name a backup")
    storage.check(file)
    if path.exists() and path.samefile(file):
        raise Error(f"{shown(file)} is the database itself: name a backup of it")
    if not path.parent.is_dir():
        raise Error(f"the folder {shown(path.parent)} does not exist: create it first")
    with contextlib.ExitStack() as stack:
        with files.as_error(f"{shown(file)} cannot be restored"):
            draft = stack.enter_context(files.draft_for(path))
            _copy_verified(file, draft)
            if schemas.migrate_copy(draft, file):
                notify(f"{shown(file)} has an older schema: an upgraded copy is restored", "yellow")
        yield draft


def restore(path: Path, draft: Path) -> Backup | None:
    """Replace a database's content with a verified copy, and return the backup of its previous content.

    None if there was no database. One transaction; other programs that have it open then see the restored data.
    """
    if not os.path.lexists(path):
        with files.as_error(f"{shown(path)} cannot be restored"):
            files.move_into_place(draft, path)
        return None
    if not storage.is_open(path):
        storage.check_ours(path)
    database = Sqlite(str(storage.refuse_other_names(path)), path=path)
    with signals.finishing():
        with files.as_error(f"{shown(path)} cannot be restored, and was not changed"), contextlib.closing(database):
            kept = _replaced(database, draft)
        database = Sqlite(str(path.absolute()), path=path, recorder=recording.Recorder())
        with contextlib.closing(database):
            recording.record_restore(database, kept.path)
            write_back(database)
    return kept


def _replaced(database: Sqlite, draft: Path) -> Backup:
    try:
        return _replace(database, draft)
    except (Damaged, peewee.DatabaseError, sqlite3.DatabaseError) as error:
        if not any(word in str(error) for word in ("malformed", "not a database")):
            raise
        name = shown(database.path)
        away = f"move it away, with {name}-wal and {name}-shm if they exist, and restore again"
        raise Damaged(f"{name} is too damaged to be written to, and was not changed: {away}") from error


def _replace(database: Sqlite, draft: Path) -> Backup:
    database.execute_sql("PRAGMA journal_mode = WAL")  # in which others can read during the restore
    with database.atomic():
        _same_pages(draft, database)  # waits for the lock, and reports its holder
    given = {table: last + HEADROOM for table, last in _given_ids(database.connection()).items()}
    _raise_last_ids(draft, given)
    kept, started, left = list[Backup](), time.monotonic(), LAST_PAGE + 1

    @signals.callback
    def progress(status: int, remaining: int, total: int) -> None:
        """Called after each page. The first page has taken the write lock."""
        nonlocal left
        left = remaining
        if status in BUSY and time.monotonic() - started > connection.LOCK_TIMEOUT:
            raise Locked(f"{database.title} is locked by {database.lock_holder()}: try again later")
        if status not in BUSY and not kept:
            keep(database.path, kept, or_damaged=True)
            _refuse_new_ids(database, kept[0], given)
        (signals.check if left > LAST_PAGE else signals.point_of_no_return)()

    try:
        with contextlib.closing(sqlite_headers.immutable(draft)) as source:
            source.backup(database.connection(), pages=1, progress=progress, sleep=sqlite.LOCK_STEP)
    except BaseException as error:
        if left > LAST_PAGE or isinstance(error, Exception):  # otherwise everything may have been written
            discard(*kept)
        raise
    _settle_last_ids(database, kept[0])
    return kept[0]


def _same_pages(draft: Path, database: Sqlite) -> None:
    """Give a copy the page size of the database that it will replace: SQLite requires it."""
    (size,) = database.execute_sql("PRAGMA page_size").fetchone()
    with contextlib.closing(sqlite_connections.connect(draft)) as conn:
        if conn.execute("PRAGMA page_size").fetchone() != (size,):
            for statement in ("PRAGMA journal_mode = DELETE", f"PRAGMA page_size = {size}", "VACUUM"):
                conn.execute(statement)


def _given_ids(conn: sqlite3.Connection) -> Counts:
    """Return the highest ids that tables have given, as far as they can be read: the file may be damaged."""
    found = Counts()
    for table in registry.WITH_IDS:
        for query in (f"SELECT MAX(seq) FROM sqlite_sequence WHERE name = '{table}'", f'SELECT MAX(id) FROM "{table}"'):
            with contextlib.suppress(sqlite3.DatabaseError):
                (last,) = conn.execute(query).fetchone()
                if isinstance(last, int) and last < connection.MAX_ID - HEADROOM:  # else no id would be left
                    found[table] = max(last, found.get(table, 0))
    return found


def _raise_last_ids(draft: Path, given: Counts) -> None:
    """Have a copy give no id again that the database which it will replace has given."""
    with contextlib.closing(Sqlite(str(draft), path=draft, pragmas={"synchronous": "OFF"})) as copy, copy.atomic():
        for table, last in given.items():
            copy.raise_last_id(table, last)


def _settle_last_ids(database: Sqlite, kept: Backup) -> None:
    """Take the headroom back, unless others have used it: the backup has the last ids of the moment of the lock."""
    with (
        contextlib.suppress(Error, peewee.DatabaseError, sqlite3.DatabaseError),  # a gap in the ids harms nobody
        contextlib.closing(sqlite_headers.immutable(kept.path)) as before,
        database.atomic(),
    ):
        for table, last in _given_ids(before).items():
            (highest,) = database.execute_sql(f'SELECT MAX(id) FROM "{table}"').fetchone()
            database.set_last_id(table, max(last, highest or 0))


def _refuse_new_ids(database: Sqlite, kept: Backup, given: Counts) -> None:
    """Raise an Error if other programs have used up the headroom, which is now in the copy."""
    with contextlib.closing(sqlite_headers.immutable(kept.path)) as conn:
        if any(last > given.get(table, 0) for table, last in _given_ids(conn).items()):
            raise Locked(f"{database.title} was written by another program meanwhile: try again")


def discard(*backups: Backup) -> None:
    """Remove backups that are not needed, because nothing was changed."""
    with signals.held():
        for backup in backups:
            backup.path.unlink(missing_ok=True)


def write_back(database: Sqlite) -> None:
    """Write the log into the database file, as far as other readers allow."""
    with contextlib.suppress(sqlite3.Error):
        database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
