"""A connection to a PostgreSQL server that leaves nothing behind: each of its statements runs in a transaction.

A pooler in front of a server (PgBouncer) may give each transaction another session of the server's, and that session
to another client afterwards. So nothing is set for a session: a transaction begins with all settings, and ends with
them. Nothing is prepared, and no cursor outlives its transaction. A statement that has no transaction gets one, in the
same round trip.

Read-only is held by the server. Before each statement the transaction is made read-only and gets a snapshot, after
which the server lets no statement make it anything else; and each statement is sent alone, so that the server refuses
a second one. In the end it is rolled back, so that what was set in it is gone too. READING is not what keeps the rows:
it refuses what the server allows a read-only transaction (COPY to a program), and a COMMIT, which would keep settings.

It owns the transactions that nobody began by hand. What is set, and who looks while a statement waits, is
postgres.py's.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from vserverlib.databases.postgresql.lock_timeout import TAGGED, Connection

QUERIES = ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN")
READING = (*QUERIES, "SAVEPOINT", "RELEASE", "ROLLBACK")
BEGINNING = ("BEGIN", "START")
SEAL = "SELECT set_config('transaction_read_only', 'on', true)"
REFUSED_ALONE = (psycopg.errors.ActiveSqlTransaction, psycopg.errors.SyntaxError)  # no transaction; two statements
BLANK = re.compile(r"[\s(]+|--[^\r\n]*")
logging.getLogger("psycopg").addHandler(logging.NullHandler())  # an error in a pipeline is raised, and not told twice
COMMENT = re.compile(r"/\*|\*/")  # which PostgreSQL lets nest


class Session(Connection):
    """A connection in autocommit mode, all of whose statements run in transactions with these settings.

    settings: what set_config() takes. is_read_only: see above. is_pooled: a pooler stands between this program and the
    server, which then needs the tag to find the transaction that is ours.
    """

    settings: Mapping[str, str] = {}
    is_read_only = is_pooled = False
    tag = 0
    look_at: Callable[[Any], object] = staticmethod(bool)  # is called with a cursor that has a result

    def is_idle(self) -> bool:
        """Whether no transaction is open."""
        return self.pgconn.transaction_status in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def note_pooler(self, backend: int) -> None:
        """Be told the process of the server that has answered: behind a pooler it is not the one it logged in to."""
        self.is_pooled = backend != self.info.backend_pid
        self.tag = random.getrandbits(31) if self.is_pooled else 0

    # Transactions

    def open_transaction(self, mode: str = "") -> None:
        """Begin a transaction with the settings, in one round trip. mode: as BEGIN has it."""
        try:
            self._plain(f"BEGIN {self._mode(mode)}; {self._opening()}")
        except BaseException:
            self.abandon()
            raise

    def commit(self) -> None:
        """End the transaction; in a read-only session with all that was set in it."""
        super().rollback() if self.is_read_only else super().commit()

    def abandon(self) -> None:
        """Roll back the transaction, if one is open and the server can be reached."""
        if not self.closed and not self.is_idle():
            self.rollback()

    @contextmanager
    def in_transaction(self) -> Iterator[None]:
        """The transaction that is open, or else one for what is inside."""
        if not self.is_idle():
            if self.is_read_only:
                self._plain(SEAL)
            yield
            return
        self.open_transaction()
        try:
            yield
        except BaseException:
            self.abandon()
            raise
        self.commit()

    def _mode(self, mode: str = "") -> str:
        return f"{mode} READ ONLY" if self.is_read_only and "READ ONLY" not in mode else mode

    def _opening(self) -> str:
        """Return the statement that a transaction begins with."""
        settings = {**self.settings, **({"transaction_read_only": "on"} if self.is_read_only else {})}
        calls = [f"set_config({self._text(name)}, {self._text(value)}, true)" for name, value in settings.items()]
        if self.is_pooled:
            calls.append(f"pg_advisory_xact_lock_shared({TAGGED}, {self.tag})")
        return f"SELECT {', '.join(calls)}"

    def _text(self, value: str) -> str:
        return psycopg.sql.Literal(value).as_string(self)

    def _plain(self, sql: str) -> None:
        psycopg.Cursor(self, row_factory=psycopg.rows.tuple_row).execute(sql)

    # Statements

    def run(self, sql: str, execute: Callable[[], object]) -> None:
        """Run a statement by calling `execute`, in a transaction."""
        word = first_word(sql)
        if word not in READING:
            self.refuse_read_only(word[:20] or "this")
        if not self.is_idle():
            self._run_within(execute)
        elif self.is_read_only:
            self._run_alone(execute)
        elif word in BEGINNING:
            execute()
            self._plain(self._opening())
        else:
            self._run_writing(execute, is_query=word in QUERIES)

    def refuse_read_only(self, what: str) -> None:
        """Raise what the server says where it refuses a write, in a read-only session."""
        if self.is_read_only:
            raise psycopg.errors.ReadOnlySqlTransaction(f"cannot execute {what} in a read-only session")

    def _run_within(self, execute: Callable[[], object]) -> None:
        if not self.is_read_only or self.pgconn.transaction_status == TransactionStatus.INERROR:
            execute()
            return
        with self.pipeline():
            self._plain(SEAL)  # again: a transaction that another one was chained to has no snapshot yet
            execute()

    def _run_alone(self, execute: Callable[[], object]) -> None:
        """Run one statement in a transaction of its own, all in one round trip."""
        try:
            with self.pipeline():
                self._plain(f"BEGIN {self._mode()}")
                self._plain(self._opening())
                execute()
                self._plain("ROLLBACK" if self.is_read_only else "COMMIT")
        except BaseException:
            self.abandon()
            raise

    def _run_writing(self, execute: Callable[[], object], is_query: bool) -> None:
        """Run a statement that may write: several in one text, too, or what takes no transaction, such as VACUUM."""
        try:
            if is_query:
                return self._run_alone(execute)
            with self.in_transaction():
                execute()
        except REFUSED_ALONE as error:
            if is_query:
                return self._run_writing(execute, is_query=False)
            if not isinstance(error, psycopg.errors.ActiveSqlTransaction):
                raise
            execute()
        return None


class Cursor(psycopg.Cursor[Any]):
    """A cursor to which a % in SQL without parameters is a %: psycopg looks for marks only where there are any."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        once, conn = partial(super().execute, query, params or None, **{**options, "prepare": False}), _session(self)
        conn.run(_text(query, conn), once)
        conn.look_at(self)
        return self

    def executemany(self, query: Any, params_seq: Iterable[Any], **options: Any) -> None:
        conn = _session(self)
        conn.refuse_read_only("executemany")
        with conn.in_transaction():
            super().executemany(query, params_seq, **options)

    def copy(self, statement: Any, params: Any = None, **options: Any) -> Any:
        _session(self).refuse_read_only("COPY")
        return super().copy(statement, params, **options)

    def stream(self, query: Any, params: Any = None, **options: Any) -> Any:
        _session(self).refuse_read_only("stream")
        return super().stream(query, params, **options)


class ServerCursor(psycopg.ServerCursor[Any]):
    """A cursor that the server keeps, until the transaction ends that is open."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        if _session(self).is_idle():
            raise psycopg.ProgrammingError("a cursor of the server's ends with its transaction: begin one first")
        with _session(self).in_transaction():
            super().execute(query, params or None, **options)
        _session(self).look_at(self)
        return self


def _session(cursor: Any) -> Session:
    conn: Session = cursor.connection
    return conn


def first_word(sql: str) -> str:
    """Return the first word of a statement in capitals, comments and brackets aside; "" where there is none."""
    at = 0
    while (blank := BLANK.match(sql, at)) or sql.startswith("/*", at):
        at = blank.end() if blank else _end_of_comment(sql, at)
    return (re.match(r"\w*", sql[at:]) or [""])[0].upper()


def _end_of_comment(sql: str, at: int) -> int:
    depth = 0
    for mark in COMMENT.finditer(sql, at):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(sql)


def _text(query: Any, conn: Session) -> str:
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    return query.as_string(conn) if hasattr(query, "as_string") else str(query)
