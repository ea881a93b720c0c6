"""Writing the journal: the name of a session, the begin and end of a change, and bulk work as one entry.

Triggers in the database (migration 0002) record the rows in the transaction that writes them, for every program. Our
sessions add what a SQLite trigger cannot know: their name, by a TEMP trigger that no other program sees; and that all
rows of a transaction are one change, by keeping it `open` until the commit.

It owns the SQL for both kinds of databases. journal.py reads the journal, undoing.py undoes changes.
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

CLOSED, OPEN = 0, 1  # change.open: ended; rows are still added
# change.kind; NULL for ordinary changes. PRUNE deleted old changes, FORGET deleted rows for good.
UNDO, BULK_WORK, PRUNE, FORGET = "undo", "bulk", "prune", "forget"
# Migration 0004: an update of these tables that changes last_seen, and no more than the others, is not recorded.
SEEN, PRESENCE = ("node", "user"), ("ip", "last_seen", "status")
MAX_ACTOR = 120  # characters of an actor's name

NAMED = """
CREATE TEMP TRIGGER vserver_name AFTER INSERT ON main.change BEGIN
    UPDATE change SET actor = vserver_actor(), session = {session}, open = vserver_begun(NEW.id) WHERE id = NEW.id;
END
"""
NEW_CHANGE = "INSERT INTO change (at, kind, about, backup) VALUES (?, ?, ?, ?)"
CLOSE = f"UPDATE change SET open = {CLOSED} WHERE id >= ? AND open > {CLOSED}"
NEWEST = "SELECT MAX(id) FROM change WHERE id >= ?"
TRIGGERS = "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger' AND name GLOB 'journal_*'"
DEFER_LINKS = "PRAGMA defer_foreign_keys = ON"

# In PostgreSQL a setting of the transaction holds the number of the change.
POSTGRES_NEW_CHANGE = """
INSERT INTO change (at, kind, about, backup, actor, session, open) VALUES (%s, %s, %s, %s, %s, %s, 0) RETURNING id
"""
POSTGRES_SET = "SELECT set_config(%s, %s, true)"
POSTGRES_DEFER_LINKS = "SET CONSTRAINTS ALL DEFERRED"
NUMBER, RECORDING = "vserver.change", "vserver.recording"  # settings that the triggers of migration 0002 read


class Recorder:
    """A session in the journal: its name, and the begin and end of its changes.

    actor: VSERVER_ACTOR, or else the system's user name; a server sets it for each request. session: eight characters,
    new each time. last: the newest change that this session has committed, None before the first.
    """

    def __init__(self) -> None:
        self.actor = actor()
        self.session = base64.b32encode(os.urandom(5)).decode().lower()
        self.last: int | None = None
        self._first: int | None = None  # the first change of the open transaction
        self._newest: int | None = None
        self._is_ours = False  # whether our own begin() opened the transaction

    def introduce(self, conn: sqlite3.Connection) -> None:
        """Register the session's name on a new connection. Writes nothing to the file."""
        conn.create_function("vserver_begun", 1, self._begun)
        conn.create_function("vserver_actor", 0, self._actor)
        conn.execute(NAMED.format(session=_quoted(self.session)))

    @signals.callback
    def _actor(self) -> str:
        return self.actor

    @signals.callback
    def _begun(self, id: int) -> int | None:
        """Return the value of `open` for a new change: NULL within a transaction that was begun in SQL."""
        if self._is_ours:
            self._first = self._first or id
            return OPEN
        self.last = id
        return None

    def begin(self) -> None:
        """Note that a transaction has begun."""
        self._is_ours = True

    def close(self, conn: sqlite3.Connection) -> None:
        """Close the changes of the transaction that is about to be committed."""
        if self._first is not None:
            conn.execute(CLOSE, [self._first])
            (self._newest,) = conn.execute(NEWEST, [self._first]).fetchone()

    def end(self, committed: bool) -> None:
        """Note that the transaction has ended."""
        if committed and self._newest is not None:
            self.last = self._newest
        self._first = self._newest = None
        self._is_ours = False


def actor() -> str:
    """Return the name of this process in the journal."""
    return printable(os.environ.get("VSERVER_ACTOR") or user_name(), MAX_ACTOR)


def user_name() -> str:
    """Return the system's name of the user that runs this process."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # not POSIX, or a user without a name, as in a container
        return os.environ.get("USERNAME") or f"user {getattr(os, 'getuid', lambda: '?')()}"


def sign(database: Any) -> None:
    """Have the rest of a transaction recorded under our name, in a session that was opened without a recorder.

    Such a session fills a new file with changes of other sessions, under their names.
    """
    if database.recorder is None:
        recorder = Recorder()
        recorder.begin()
        recorder.introduce(database.connection())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def one_change(database: Any, kind: str | None, about: str, backup: str | None = None) -> Iterator[int]:
    """A transaction or savepoint whose rows are one change with a description. Yields its id."""
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
    _set(database, NUMBER, "")  # later rows of this transaction are another change


def _set(database: Any, setting: str, value: str) -> None:
    """Set what the PostgreSQL triggers read, until the transaction or savepoint ends."""
    database.execute_sql(POSTGRES_SET, [setting, value])


@contextmanager
def bulk_change(database: Any, about: str, backup: str | None = None) -> Iterator[int]:
    """A transaction of bulk work whose rows are not recorded. One entry describes it; yields its id.

    backup: the file that restores the previous state, if there is one. Such a change cannot be undone otherwise.
    """
    with one_change(database, BULK_WORK, about, backup) as id, unrecorded(database):
        yield id


def record_restore(database: Any, kept: Path) -> None:
    """Add an entry to a restored journal: its earlier entries do not describe what the database held before. Writes."""
    with one_change(database, BULK_WORK, "restored a backup", str(kept.absolute())):
        pass


def unrecorded(database: Any) -> Any:
    """A part of a transaction whose rows are not recorded."""
    return _without_triggers(database.connection()) if database.is_sqlite else without_records(database)


@contextmanager
def without_records(database: Any) -> Iterator[None]:
    """A part of a PostgreSQL transaction whose rows are not recorded."""
    _set(database, RECORDING, "off")
    yield
    _set(database, RECORDING, "on")


@contextmanager
def _without_triggers(conn: sqlite3.Connection) -> Iterator[None]:
    """A part of a SQLite transaction without the triggers: dropped and created again, so a rollback restores them.

    A condition in each trigger would be no alternative: SQLite would then log each row for undo, which takes twice the
    time.
    """
    found = conn.execute(TRIGGERS).fetchall()
    for name, _ in found:
        conn.execute(f'DROP TRIGGER main."{name}"')
    yield
    for _, sql in found:
        conn.execute(sql)


def defer_links(database: Any) -> None:
    """Check foreign keys only at the end of the transaction, so that rows can be inserted in any order."""
    if database.is_sqlite:
        database.connection().execute(DEFER_LINKS)
    else:
        database.execute_sql(POSTGRES_DEFER_LINKS)
