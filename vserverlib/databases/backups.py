"""Copies of a database: made while others write, verified, and put back.

A backup is one file that is complete in itself: whoever has it can open it, or restore it. It is made by SQLite's
backup interface within one reading transaction, so that it is the database of one moment.

Restoring writes *into* the database, in one transaction, by the same interface. So it is there as a whole or not at
all, whoever is killed when; and others that have the database open go on in what was restored, not in a deleted file.

It owns copies. Whether a file is ours, and opening one, is storage.py's; where a file is put, and how, is files.py's.
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
from vserverlib.databases import connection, recording, schemas, sqlite, sqlite_connections, sqlite_headers, storage
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.sqlite import Sqlite
from vserverlib.drivers import peewee
from vserverlib.files import shown
from vserverlib.messages import notify

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last: a schema that is no SQL

OF_VALUES = ("NULL value in", "CHECK constraint", "value in")  # what SQLite says of rows that no table of ours takes

LAST = 1  # pages that are left to be copied when the next step commits

Counts = dict[str, int]  # rows by table


class FailedIntegrityCheck(Damaged):
    """A database is damaged, so a copy of it is no backup: restore would refuse it.

    fault: what SQLite finds; repair: what is typed to repair it.
    """

    def __init__(self, path: Path, fault: str, remedy: str = "") -> None:
        self.fault, self.repair = fault, _repair(path, fault)
        remedy = remedy or f"use an earlier backup, or repair it: {self.repair}"
        super().__init__(f"{shown(path)} is damaged ({fault}): {remedy}")


class Backup(NamedTuple):
    """A backup: where it is, how large (bytes), and whether what was copied is sound."""

    path: Path
    size: int
    is_sound: bool = True


# Making one


def make(path: Path, target: Path | None = None, *, force: bool = False) -> Backup:
    """Make a verified backup of a database, readable by its owner alone, and return it. Complete, or not there at all.

    target: a file, or a folder to make it in; without one it is made beside the database, named by the time. Others may
    write meanwhile. Raises an Error where the database is damaged, or there is a file already unless `force` replaces
    it: never the database itself, nor what is no file.
    """
    storage.check(path)
    place = _place(path, target)
    files.refuse_place(place, path, force=force)
    with files.as_error(f"{shown(place)} cannot be made"), _copied(path, place) as draft:
        size = draft.stat().st_size
        files.put(draft, place, replace=force)
    return Backup(place, size)


def stream(path: Path, out: BinaryIO) -> None:
    """Write a verified backup of a database to a stream. It is made in a private folder first."""
    storage.check(path)
    with (
        files.as_error(f"{shown(path)} cannot be backed up"),
        files.passing_folder() as folder,
        _copied(path, folder / "backup") as draft,
        open(draft, "rb") as file,
    ):
        try:
            shutil.copyfileobj(file, out)
            out.flush()
        except BrokenPipeError:  # told, though a list that is read in part ends in silence: such a backup is none
            raise Error(f"the backup of {shown(path)} was not read to its end: what was read is no backup") from None


def keep(path: Path, kept: list[Backup], *, or_damaged: bool = False) -> None:
    """Make a backup beside a database that is about to be changed as a whole, verified as restoring verifies one.

    kept: it is put into this list as soon as it is there, so that who is interrupted then can discard() it. Raises
    Damaged where restoring would refuse it; or_damaged: keeps it all the same, and says so. Opens the database by
    SQLite only: the caller holds its write lock, which reading the file would end.
    """
    place, is_sound = default_name(path), True
    with files.as_error(f"{shown(place)} cannot be made"), files.unfinished(place) as draft:
        try:
            _copy_verified(path, draft)
        except FailedIntegrityCheck:
            if not or_damaged:
                raise
            _copy(path, draft)
            is_sound = False
        signals.check()
        with signals.held():
            files.put(draft, place)
            kept.append(Backup(place, place.stat().st_size, is_sound))


@contextlib.contextmanager
def keeping_first(database: DatabaseMixin) -> Iterator[list[Backup]]:
    """A transaction that begins with a backup, which is put into this list: gone again unless it is committed."""
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
    """Return what is typed to repair a database that has this fault: by SQLite's own program."""
    name = shlex.quote(shown(path))
    if "index" in fault:
        return f"sqlite3 {name} REINDEX"
    if any(words in fault for words in OF_VALUES):
        return f"sqlite3 {name}, to give the rows values that the table takes"
    if "reelist" in fault:
        return f"sqlite3 {name} \"VACUUM INTO 'NEW'\""
    return f"sqlite3 {name} .recover | sqlite3 NEW, for what can be read of it"


def default_name(path: Path) -> Path:
    """Return the name of a backup beside a database, one that is not taken."""
    return files.dated(path.parent, path.stem, ".db")


def _place(path: Path, target: Path | None) -> Path:
    if target is None:
        return default_name(path)
    return files.dated(target, path.stem, ".db") if target.is_dir() else target


# Copying and verifying


@contextlib.contextmanager
def _copied(path: Path, beside: Path) -> Iterator[Path]:
    """A verified copy of a database in a private file beside a place; gone at the end unless it was put there."""
    with files.unfinished(beside) as draft:
        _copy_verified(path, draft)
        yield draft


def _copy_verified(path: Path, draft: Path) -> None:
    """Copy what a database holds at one moment; raise Damaged where restoring would refuse such a copy."""
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
    """Copy what a database holds at one moment, and return the counts of its rows at that moment."""
    with (
        contextlib.closing(storage.reader(path)) as source,
        contextlib.closing(sqlite_connections.connect(draft)) as target,
    ):
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):  # the copy is complete, or thrown away
            target.execute(f"PRAGMA {pragma}")
        with source.atomic():
            source.execute_sql("SELECT 1 FROM sqlite_master").fetchone()  # from here on it is one moment
            rows = count(source.connection())
            sqlite_connections.Connection.backup(source.connection(), target)  # with the hashes, which a reader hides
    return rows


def refuse_damaged(copy: Path, original: Path) -> None:
    """Raise Damaged where a copy is damaged, as the database that it was made of then is."""
    _verify(copy, original)


def _count(conn: sqlite3.Connection) -> Counts:
    tables = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL %'")
    counted = ((name, conn.execute(f"SELECT COUNT(*) FROM {connection.quoted(name)}")) for (name,) in tables.fetchall())
    return {name: found.fetchone()[0] for name, found in counted}


def _verify(file: Path, original: Path, rows: Counts | None = None) -> None:
    """Raise an Error unless a copy is a sound database of ours, with the rows that it was made of."""
    with contextlib.closing(sqlite_headers.immutable(file)) as conn:
        fault = _fault(conn)
        if fault:
            raise FailedIntegrityCheck(original, fault)
        if rows is not None and _count(conn) != rows:
            raise Error(f"the copy of {shown(original)} has not all of its rows: nothing was changed; try again")


def _fault(conn: sqlite3.Connection) -> str:
    """Return what is wrong with a database, "" where nothing is."""
    try:
        (found,) = conn.execute("PRAGMA integrity_check(1)").fetchone()
        (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return files.reason(error)
    if application_id != storage.APPLICATION_ID:
        return "it is no database of vserver"
    return "" if found == "ok" else " ".join(str(found).replace("*** in database main ***", "").split())[:100]


def _is_damage(error: BaseException) -> bool:
    """Whether an error says that a file is damaged, and not that it could not be read now."""
    found = (getattr(each, "sqlite_errorcode", 0) & 0xFF for each in (error, error.__cause__, error.__context__))
    return any(code in DAMAGED for code in found)


# Putting one back


@contextlib.contextmanager
def verified(file: Path, path: Path) -> Iterator[Path]:
    """A sound copy of a backup, of the schema of this release, beside the database at `path` that it is to replace.

    Raises an Error where the backup is none of ours, damaged, or newer than this release. It is not changed.
    """
    if not os.path.lexists(file):
        raise NotFound(f"there is no file {shown(file)}: name a backup")
    storage.check(file)
    if path.exists() and path.samefile(file):
        raise Error(f"{shown(file)} is the database itself: name a backup of it")
    if not path.parent.is_dir():
        raise Error(f"the folder {shown(path.parent)} does not exist: make it first")
    with contextlib.ExitStack() as stack:
        with files.as_error(f"{shown(file)} cannot be restored"):
            draft = stack.enter_context(files.unfinished(path))
            _copy_verified(file, draft)
            if schemas.migrate_copy(draft, file):
                notify(f"{shown(file)} is of an older schema: what is restored is an upgraded copy", "yellow")
        yield draft


def restore(path: Path, draft: Path) -> Backup | None:
    """Have a database hold what a verified copy holds, and return the backup of what it held before.

    None where there was no database. In one transaction, after which others that have it open see what was restored.
    """
    if not os.path.lexists(path):
        with files.as_error(f"{shown(path)} cannot be restored"):
            files.put(draft, path)
        return None
    if not storage.is_open(path):
        storage.check_ours(path)
    database = Sqlite(str(storage.refuse_other_names(path)), path=path)
    with signals.finishing():
        with files.as_error(f"{shown(path)} cannot be restored, and is as it was"), contextlib.closing(database):
            kept = _replaced(database, draft)
        _put_on_record(path, kept)
    return kept


def _replaced(database: Sqlite, draft: Path) -> Backup:
    try:
        return _replace(database, draft)
    except (Damaged, peewee.DatabaseError, sqlite3.DatabaseError) as error:
        if not any(word in str(error) for word in ("malformed", "not a database")):
            raise
        name = shown(database.path)
        away = f"move it away, with {name}-wal and {name}-shm if they are there, and restore again"
        raise Damaged(f"{name} is too damaged to be written into, and is as it was: {away}") from error


def _put_on_record(path: Path, kept: Backup) -> None:
    """Have the journal that was restored say so: what it has from before is not what the database held just now."""
    database = Sqlite(str(path.absolute()), path=path, recorder=recording.Recorder())
    with contextlib.closing(database):
        with recording.one_change(database, recording.BULK_WORK, "restored a backup", str(kept.path.absolute())):
            pass
        write_back(database)


def _replace(database: Sqlite, draft: Path) -> Backup:
    database.execute_sql("PRAGMA journal_mode = WAL")  # in which others may read while it is written
    with database.atomic():
        _same_pages(draft, database)  # waits for the lock, and tells for whom
    kept, started, left = list[Backup](), time.monotonic(), LAST + 1

    @signals.callback
    def progress(status: int, remaining: int, total: int) -> None:
        """Be called after each page, the first of which has taken the lock: from then on nobody else writes."""
        nonlocal left
        left = remaining
        if status in BUSY and time.monotonic() - started > connection.LOCK_WAIT:
            raise Locked(f"{database.title} is locked by {database.writer()}: try again later")
        if status not in BUSY and not kept:
            keep(database.path, kept, or_damaged=True)
        (signals.check if left > LAST else signals.point_of_no_return)()

    try:
        with contextlib.closing(sqlite_headers.immutable(draft)) as source:
            source.backup(database.connection(), pages=1, progress=progress, sleep=sqlite.LOCK_STEP)
    except BaseException as error:
        if left > LAST or isinstance(error, Exception):  # else it may be that all of it was written
            discard(*kept)
        raise
    return kept[0]


def _same_pages(draft: Path, database: Sqlite) -> None:
    """Give a copy the size of pages of the database that it is to replace: SQLite takes no other."""
    (size,) = database.execute_sql("PRAGMA page_size").fetchone()
    with contextlib.closing(sqlite_connections.connect(draft)) as conn:
        if conn.execute("PRAGMA page_size").fetchone() != (size,):
            for statement in ("PRAGMA journal_mode = DELETE", f"PRAGMA page_size = {size}", "VACUUM"):
                conn.execute(statement)


def discard(*backups: Backup) -> None:
    """Remove backups of what then was not changed after all."""
    with signals.held():
        for backup in backups:
            backup.path.unlink(missing_ok=True)


def write_back(database: Sqlite) -> None:
    """Have the log be written to the file itself, as far as others that read from it allow."""
    with contextlib.suppress(sqlite3.Error):
        database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
