"""SQLite connections whose statements a signal can end, with the signal's exception instead of SQLite's error.

SQLite does not know Python's signals. While a statement runs it calls our progress handler, in which Python notices
signals. Then SQLite ends the statement with SQLITE_INTERRUPT, which error handlers would take for damage or ignore. So
every statement, fetch and copy goes through this module, which raises the signal's exception instead.

connect() opens every connection, Peewee's too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vserverlib import signals

PROGRESS_STEPS = 10_000  # virtual machine steps between two checks for a signal: under a millisecond
PAGES_PER_STEP = 2000  # pages copied between two checks


@signals.callback
def _check_signal() -> bool:
    """Return whether to end the statement. The call itself lets Python notice a signal."""
    return signals.is_due()


@signals.callback
def _check_during_copy(status: int, remaining: int, total: int) -> None:
    """Raise a signal, which ends the copy; after a complete copy it is raised later."""
    if status != sqlite3.SQLITE_DONE:
        signals.check()


def _is_interrupted(error: sqlite3.Error) -> bool:
    """Whether a signal ended the statement. Errors that Python itself raises have no code."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _malformed() -> sqlite3.DatabaseError:
    """Return the error for a message of SQLite that Python cannot decode, because it quotes a damaged file."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


class Cursor(sqlite3.Cursor):
    """A cursor whose statements and fetches raise the exception of a signal.

    Each method deletes `self` on an error: the traceback refers to the frame, which would keep a closed database open.
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
        except UnicodeDecodeError as error:
            del self
            raise _malformed() from error

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
    """A connection whose statements a signal can end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_progress_handler(_check_signal, PROGRESS_STEPS)

    def cursor(self, factory: Callable[[sqlite3.Connection], Any] = Cursor) -> Any:  # type: ignore[override]
        return super().cursor(factory)

    # sqlite3's methods would create a plain sqlite3.Cursor

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
        """Copy the database to another connection; progress: see sqlite3. If a signal ends it, nothing is copied."""
        signals.check()
        super().backup(target, pages=pages or PAGES_PER_STEP, progress=progress or _check_during_copy, **options)


def connect(file: str | Path, **options: Any) -> Connection:
    """Open a SQLite file; options: those of sqlite3.connect()."""
    return sqlite3.connect(file, factory=Connection, **options)
