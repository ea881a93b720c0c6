"""Connections to SQLite files on which a signal ends a statement, and never as an error of SQLite's.

SQLite knows nothing of Python's signals. It calls a function of ours while a statement runs (set_progress_handler),
which lets Python see them. Where one has come, SQLite ends the statement with an error, SQLITE_INTERRUPT, that whoever
handles errors would take for damage, or pass over. So each statement, each row that is fetched, and each copy goes
through here, where that error becomes the exception of the signal.

Every connection of ours is opened by connect(), Peewee's too. What is done with one is its caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vserverlib import signals

PROGRESS_STEPS = 10_000  # virtual machine steps between two looks for a signal: under a millisecond
COPIED = 2000  # pages that are copied between two looks


@signals.callback
def _look() -> bool:
    """Return whether the statement is to end. Being called at all is what lets Python see a signal."""
    return signals.is_due()


@signals.callback
def _look_amid_copying(status: int, remaining: int, total: int) -> None:
    """Raise a signal that has come, which ends the copy; of one that is complete, it is raised later."""
    if status != sqlite3.SQLITE_DONE:
        signals.check()


def _is_interrupted(error: sqlite3.Error) -> bool:
    """Whether an error says that a signal has ended a statement. Errors that Python raises itself have no code."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


class Cursor(sqlite3.Cursor):
    """A cursor whose statements and rows are ended by a signal as anything else is.

    A frame is part of the traceback of an error: if one held a cursor, a database that is closed would stay open.
    """

    def execute(self, *args: Any) -> Any:
        signals.check()
        try:
            return super().execute(*args)
        except sqlite3.Error as error:
            del self
            if _is_interrupted(error):
                raise signals.interrupted() from None
            raise

    def executemany(self, *args: Any) -> Any:
        signals.check()
        try:
            return super().executemany(*args)
        except sqlite3.Error as error:
            del self
            if _is_interrupted(error):
                raise signals.interrupted() from None
            raise

    def executescript(self, *args: Any) -> Any:
        signals.check()
        try:
            return super().executescript(*args)
        except sqlite3.Error as error:
            del self
            if _is_interrupted(error):
                raise signals.interrupted() from None
            raise

    def fetchone(self) -> Any:
        try:
            return super().fetchone()
        except sqlite3.Error as error:
            del self
            if _is_interrupted(error):
                raise signals.interrupted() from None
            raise

    def fetchmany(self, *args: Any, **options: Any) -> Any:
        try:
            return super().fetchmany(*args, **options)
        except sqlite3.Error as error:
            del self
            if _is_interrupted(error):
                raise signals.interrupted() from None
            raise

    def fetchall(self) -> Any:
        try:
            return super().fetchall()
        except sqlite3.Error as error:
            del self
            if _is_interrupted(error):
                raise signals.interrupted() from None
            raise

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except sqlite3.Error as error:
            del self
            if _is_interrupted(error):
                raise signals.interrupted() from None
            raise


class Connection(sqlite3.Connection):
    """A connection all of whose statements are ended by a signal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_progress_handler(_look, PROGRESS_STEPS)

    def cursor(self, factory: Callable[[sqlite3.Connection], Any] = Cursor) -> Any:  # type: ignore[override]
        return super().cursor(factory)

    # sqlite3's own would make a cursor of its own kind

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return self.cursor().executescript(*args)

    def backup(
        self,
        target: sqlite3.Connection,
        *,
        pages: int | None = None,
        progress: Callable[[int, int, int], object] | None = None,
        **options: Any,
    ) -> None:
        """Copy the database to another connection; progress: see sqlite3. Where a signal ends it, nothing is copied."""
        signals.check()
        super().backup(target, pages=pages or COPIED, progress=progress or _look_amid_copying, **options)


def connect(file: str | Path, **options: Any) -> Connection:
    """Open a file of SQLite; options: those of sqlite3.connect()."""
    return sqlite3.connect(file, factory=Connection, **options)
