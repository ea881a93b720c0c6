"""A SQLite database opened for reading: in place if that leaves nothing behind, otherwise as a consistent copy.

To read a database in WAL mode, SQLite creates files beside it. That takes write permission; and if these files belong
to another user, the database's owner can no longer write. So a user who cannot write both the file and its folder reads

* in place, with the files that another user's program has created there; or without such files
* a private copy, which is renewed when the file changes, so that a long session is never stale.

It owns opening a file for reading. storage.py recognizes files; snapshots.py owns the lock and the copy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vserverlib import Error, files, mounts
from vserverlib.databases import snapshots, sqlite, sqlite_connections
from vserverlib.databases.sqlite import Sqlite
from vserverlib.files import shown

SPACE_TO_READ = 65536  # bytes: twice the size of the log's index, which SQLite creates beside a database
UNREADABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)


class Reader(Sqlite):
    """A database opened for reading in the best way that its permissions allow.

    copied: creates the private copy to read instead of the file; without it, a copy is made only if the file cannot be
    read in place. in_place_only: raise an Error rather than copy, and leave nothing behind.
    """

    def __init__(
        self, path: Path, *, copied: Callable[[], Path] | None = None, in_place_only: bool = False, **options: Any
    ) -> None:
        self.source, self.copied, self.in_place_only = files.real(path), copied, in_place_only
        self._known: snapshots.State | None = None  # the source's state when it was copied
        self._held: int | None = None  # a descriptor of the source that holds SQLite's lock
        self._turn, self._earlier = 0, list[Callable[[], object]]()
        super().__init__(str(self.source), path=path, mode="read-only", **options)

    def _connect(self) -> sqlite3.Connection:
        self._known, self._held = None, None
        if self.copied is not None:
            return self._copied(self.copied)
        other_names = files.other_names(self.source)
        if sqlite.is_open(self.source) or (_may_write_beside(self.source) and not other_names):
            return self._in_place()
        if self.in_place_only:
            raise Error(f"{shown(self.path)} cannot be read in place")
        if _is_bare(self.source) and mounts.is_on_read_only_disk(self.source):
            self._known = snapshots.state(self.source)
            return self._opened(self.source, "immutable=1")
        return self._by_lock(other_names)

    # In place

    def _in_place(self) -> sqlite3.Connection:
        if not os.path.exists(f"{self.source}-wal") and _may_write_beside(self.source):
            self.at_close.append(partial(_tidy, self.source))  # also for a damaged file, which cannot be opened
        return self._opened(self.source)

    def _opened(self, file: Path, how: str = "mode=ro") -> sqlite3.Connection:
        self.database = f"{file.as_uri()}?{how}"
        conn: sqlite3.Connection = super()._connect()
        return conn

    # Under SQLite's lock

    def _by_lock(self, other_names: str) -> sqlite3.Connection:
        """Open the file in place if possible, else a consistent copy; in WAL mode the lock is kept."""
        descriptor = os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for _ in range(snapshots.TRIES):
                if not snapshots.lock(descriptor):
                    raise sqlite.busy()
                if (conn := self._attempt(descriptor, other_names)) is not None:
                    return conn
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        raise snapshots.changing(self.path)

    def _attempt(self, descriptor: int, other_names: str) -> sqlite3.Connection | None:
        self._refuse_others(descriptor, other_names)
        if not other_names and self._is_ready(descriptor) and (conn := self._tried()) is not None:
            snapshots.unlock(descriptor)  # SQLite holds it now, as long as it needs it
            self.at_close.append(partial(sqlite.close_unless_open, descriptor))
            return conn
        known, folder = snapshots.settled(self.source), files.private_folder()
        try:
            with files.as_error(f"{shown(self.path)} cannot be copied to {shown(folder)}"):
                copy = snapshots.copy(self.source, folder, descriptor)
            self._refuse_others(descriptor, other_names)
            if snapshots.state(self.source) != known:
                files.remove_folder(folder)
                return None
            conn = self._of_copy(copy)
        except BaseException:
            files.remove_folder(folder)
            raise
        self._known, self._held = known, descriptor if other_names else None
        if not snapshots.is_wal(descriptor):
            snapshots.unlock(descriptor)  # in rollback mode it would block writers
        self.at_close.append(partial(sqlite.close_unless_open, descriptor))
        return conn

    def _is_ready(self, descriptor: int) -> bool:
        """Whether SQLite can read in place: in WAL mode another program has created the files beside it."""
        sides = [f"{self.source}{ending}" for ending in ("-wal", "-shm")]
        return not snapshots.is_wal(descriptor) or all(os.access(side, os.R_OK) for side in sides)

    def _tried(self) -> sqlite3.Connection | None:
        try:
            conn = self._opened(self.source)
            with _closed_on_error(conn):
                conn.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in UNREADABLE or sqlite.is_temporary(error.sqlite_errorcode):
                raise
            return None
        return conn

    def _refuse_others(self, descriptor: int, other_names: str) -> None:
        """Raise an Error if a file is open under another of its names, whose log is not visible here."""
        if other_names and snapshots.others_lock(descriptor) is not False:
            message = f"{other_names}, and a program has it open, perhaps by another one"
            raise Error(f"{shown(self.path)} {message}: its changes would not be visible here; end it first")

    # A copy

    def _copied(self, made: Callable[[], Path]) -> sqlite3.Connection:
        self._known = snapshots.state(self.source)
        return self._of_copy(made())

    def _of_copy(self, copy: Path) -> sqlite3.Connection:
        self.at_close.append(weakref.finalize(self, files.remove_folder, copy.parent))
        if os.path.exists(f"{copy}-journal"):  # left by a killed program: rolled back in the copy
            with contextlib.closing(sqlite_connections.connect(copy)) as conn:
                conn.execute("SELECT 1 FROM sqlite_master").fetchone()
        return self._opened(copy)

    # Following the file

    def version(self) -> Any:
        self.refresh("SELECT")
        return self._turn, super().version()

    def refresh(self, kind: str) -> None:
        """Between transactions, renew the copy if the file has changed."""
        if self._known is None:
            return super().refresh(kind)
        try:
            if self._held is not None:
                self._refuse_others(self._held, files.other_names(self.source))
            now = snapshots.state(self.source)
        except FileNotFoundError:
            return self.warn_moved(sqlite.GONE)
        if now[0][:2] != self._known[0][:2]:
            return self.warn_moved(sqlite.REPLACED)
        if now != self._known:
            self._follow()
        return None

    def _follow(self) -> None:
        """Open the current file. Cursors on the earlier copy stay valid until the next change."""
        for end in reversed(self._earlier):
            end()
        earlier, known, held = self.connection(), self._known, self._held
        self._earlier, self.at_close = [*self.at_close, earlier.close], []
        self._state.reset()
        try:
            self.connect()
        except BaseException:
            for end in reversed(self.at_close):
                end()
            self._state.set_connection(earlier)
            self.at_close, self._earlier = self._earlier[:-1], []
            self._known, self._held = known, held
            raise
        self._turn += 1
        self.cached.clear()
        self.invalidate()

    def close(self) -> bool:
        closed = super().close()
        while self._earlier:
            self._earlier.pop()()
        return closed


@contextlib.contextmanager
def _closed_on_error(conn: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        conn.close()
        raise


def _may_write_beside(file: Path) -> bool:
    """Whether SQLite can create, and finally remove, its files beside a database."""
    if not (writable(file) and writable(file.parent)):
        return False
    disk = os.statvfs(file.parent)
    return disk.f_bavail * disk.f_frsize >= SPACE_TO_READ


def writable(path: Path) -> bool:
    """Whether this user can write to a file or folder, considering its mount."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _is_bare(file: Path) -> bool:
    return not any(os.path.exists(f"{file}{ending}") for ending in files.LOG_SUFFIXES)


def _tidy(file: Path) -> None:
    """Have SQLite remove the empty log that a reader leaves: only a writer that closes last can."""
    log = Path(f"{file}-wal")
    with contextlib.suppress(OSError, sqlite3.Error):
        if log.stat().st_size == 0:
            with contextlib.closing(sqlite_connections.connect(f"{file.as_uri()}?mode=rw", uri=True)) as conn:
                conn.execute("SELECT 1 FROM sqlite_master").fetchone()
