"""How the journal is written: who a session is, where a change begins and ends, and bulk work that is one entry.

The rows are recorded by triggers in the database (migration 0002), in the transaction that writes them, whichever
program that is. What SQLite does not tell a trigger, a session of ours adds: its name, by a TEMP trigger, which no
other program sees; and that all rows of one transaction are one change, by holding it `open` until the commit.

It owns the SQL for that, of each kind of database. Reading is journal.py's, taking back undoing.py's.
"""

from __future__ import annotations

import base64
import datetime
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vserverlib import printable, signals

CLOSED, OPEN = 0, 1  # change.open: it has ended; rows are added to it
UNDO, BULK_WORK, PRUNE = "undo", "bulk", "prune"  # change.kind, NULL where rows were changed
LONGEST_NAME = 120  # characters of an actor's name

NAMED = """
CREATE TEMP TRIGGER vserver_name AFTER INSERT ON main.change BEGIN
    UPDATE change SET actor = {actor}, session = {session}, open = vserver_begun(NEW.id) WHERE id = NEW.id;
END
"""
NEW_CHANGE = "INSERT INTO change (at, kind, about, backup) VALUES (?, ?, ?, ?)"
CLOSE = f"UPDATE change SET open = {CLOSED} WHERE id >= ? AND open > {CLOSED}"
NEWEST = "SELECT MAX(id) FROM change WHERE id >= ?"
TRIGGERS = "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND name GLOB 'journal_*'"
DEFER_LINKS = "PRAGMA defer_foreign_keys = ON"

# In PostgreSQL a change is the transaction's setting of this name, and a setting ends with a transaction.
POSTGRES_NEW_CHANGE = """
INSERT INTO change (at, kind, about, backup, actor, session, open) VALUES (%s, %s, %s, %s, %s, %s, 0) RETURNING id
"""
POSTGRES_SET = "SELECT set_config(%s, %s, true)"
POSTGRES_DEFER_LINKS = "SET CONSTRAINTS ALL DEFERRED"
NUMBER, RECORDING = "vserver.change", "vserver.recording"  # settings that migration 0002 looks at


class Recorder:
    """One session, as the journal knows it: who, and where its changes begin and end.

    actor: VSERVER_ACTOR, or else the user of the operating system. session: eight characters, new each time.
    last: the newest change that this session has committed, None before the first.
    """

    def __init__(self) -> None:
        self.actor = printable(os.environ.get("VSERVER_ACTOR") or user_name(), LONGEST_NAME)
        self.session = base64.b32encode(os.urandom(5)).decode().lower()
        self.last: int | None = None
        self._first: int | None = None  # of the changes that the transaction has begun
        self._newest: int | None = None
        self._is_ours = False  # whether a transaction is open whose end we shall see

    def introduce(self, conn: sqlite3.Connection) -> None:
        """Have a new connection tell who it is. Writes nothing to the file."""
        conn.create_function("vserver_begun", 1, self._begun)
        conn.execute(NAMED.format(actor=_quoted(self.actor), session=_quoted(self.session)))

    @signals.callback
    def _begun(self, id: int) -> int | None:
        """Return the `open` of a change that was begun: NULL in a transaction that somebody began by hand."""
        if self._is_ours:
            self._first = self._first or id
            return OPEN
        self.last = id
        return None

    def begin(self) -> None:
        """Be told that a transaction has begun."""
        self._is_ours = True

    def close(self, conn: sqlite3.Connection) -> None:
        """End the changes of the transaction that is about to be committed."""
        if self._first is not None:
            conn.execute(CLOSE, [self._first])
            (self._newest,) = conn.execute(NEWEST, [self._first]).fetchone()

    def end(self, committed: bool) -> None:
        """Be told that the transaction has ended."""
        if committed and self._newest is not None:
            self.last = self._newest
        self._first = self._newest = None
        self._is_ours = False


def user_name() -> str:
    """Return the name of the user that this process runs as."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # no POSIX; a user without a name, as in a container
        return os.environ.get("USERNAME") or f"user {getattr(os, 'getuid', lambda: '?')()}"


def sign(database: Any) -> None:
    """Have what comes next in a transaction have our name on record, in a session that was opened to have none.

    Such a one fills a new file with changes that others have made, and have put their names to.
    """
    if database.recorder is None:
        recorder = Recorder()
        recorder.begin()
        recorder.introduce(database.connection())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def one_change(database: Any, kind: str | None, about: str, backup: str | None = None) -> Iterator[int]:
    """A transaction, or a savepoint, whose rows are one change that says what it is about. Gives its id."""
    at = datetime.datetime.now(datetime.UTC).isoformat(" ", "microseconds")
    begun = _begun if database.is_sqlite else _begun_in_postgres
    with database.atomic(), begun(database, [at, kind, about, backup]) as id:
        yield id


@contextmanager
def _begun(database: Any, values: list[Any]) -> Iterator[int]:
    conn = database.connection()
    id = conn.execute(NEW_CHANGE, values).lastrowid
    yield id
    conn.execute(CLOSE, [id])


@contextmanager
def _begun_in_postgres(database: Any, values: list[Any]) -> Iterator[int]:
    recorder = database.recorder
    who = [recorder.actor, recorder.session] if recorder is not None else [None, None]
    (id,) = database.execute_sql(POSTGRES_NEW_CHANGE, [*values, *who]).fetchone()
    _set(database, NUMBER, str(id))
    yield id
    _set(database, NUMBER, "")  # what comes later in this transaction is a change of its own


def _set(database: Any, setting: str, value: str) -> None:
    """Set what the triggers in PostgreSQL look at, until the transaction, or the savepoint, ends."""
    database.execute_sql(POSTGRES_SET, [setting, value])


@contextmanager
def suspended(database: Any, about: str, backup: str | None = None) -> Iterator[int]:
    """For bulk work: a transaction whose rows are not recorded one by one. One entry says what it did; gives its id.

    backup: the file that takes it back, where there is one. Nothing else does: such a change cannot be undone.
    """
    with one_change(database, BULK_WORK, about, backup) as id, not_row_by_row(database):
        yield id


def record_restore(database: Any, kept: Path) -> None:
    """Record in a restored journal that the rows before are not those of this database. kept: the backup of them."""
    with one_change(database, BULK_WORK, "restored a backup", str(kept.absolute())):
        pass


def not_row_by_row(database: Any) -> Any:
    """Return part of a transaction whose rows are not recorded."""
    return _without_triggers(database.connection()) if database.is_sqlite else without_records(database)


@contextmanager
def without_records(database: Any) -> Iterator[None]:
    """Part of a transaction in PostgreSQL of which the journal keeps nothing."""
    _set(database, RECORDING, "off")
    yield
    _set(database, RECORDING, "on")


@contextmanager
def _without_triggers(conn: sqlite3.Connection) -> Iterator[None]:
    """Part of a transaction without the triggers: dropped and made anew in it, so that a rollback brings them back.

    A condition in each trigger instead would have SQLite keep what it needs to undo each row: twice the time.
    """
    found = conn.execute(TRIGGERS).fetchall()
    for name, _ in found:
        conn.execute(f'DROP TRIGGER main."{name}"')
    yield
    for _, sql in found:
        conn.execute(sql)


def defer_links(database: Any) -> None:
    """Have links be looked at when the transaction ends, so that rows can come back in any order."""
    if database.is_sqlite:
        database.connection().execute(DEFER_LINKS)
    else:
        database.execute_sql(POSTGRES_DEFER_LINKS)
