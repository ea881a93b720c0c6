"""A connection to a PostgreSQL server that leaves no session state: each statement runs in a transaction.

A pooler in front of the server (PgBouncer) may run each transaction in a different session, and give that session to
another client afterwards. So nothing is set for a session: a transaction begins with all settings, which end with it.
Nothing is prepared, and no cursor outlives its transaction. A statement outside a transaction gets one, in the same
round trip.

The server enforces read-only. Before each statement the transaction is made read-only and takes a snapshot, after which
it cannot be made writable again; and each statement is sent alone, so that the server refuses a second one. In the end
it is rolled back, which also drops settings made in it. READING does not protect the rows: it refuses what the server
allows in a read-only transaction (COPY to a program), and COMMIT, which would keep settings.

It owns implicit transactions. postgres.py owns the settings, and the callback while a statement waits.
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

from vserverlib.databases.postgresql.lock_timeout import TAG_CLASS, Connection

QUERIES = ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN")
READING = (*QUERIES, "SAVEPOINT", "RELEASE", "ROLLBACK")
# Every command of PostgreSQL (src/include/parser/kwlist.h): other words are mistakes, not writes.
COMMANDS = frozenset(
    (
        *(
            "ABORT",
            "ALTER",
            "ANALYSE",
            "ANALYZE",
            "BEGIN",
            "CALL",
            "CHECKPOINT",
            "CLOSE",
            "CLUSTER",
            "COMMENT",
            "COMMIT",
            "COPY",
        ),
        *("CREATE", "DEALLOCATE", "DECLARE", "DELETE", "DISCARD", "DO", "DROP", "END", "EXECUTE", "EXPLAIN", "FETCH"),
        *("GRANT", "IMPORT", "INSERT", "LISTEN", "LOAD", "LOCK", "MERGE", "MOVE", "NOTIFY", "PREPARE", "REASSIGN"),
        *("REFRESH", "REINDEX", "REPACK", "RESET", "REVOKE", "SECURITY", "SET", "START", "TRUNCATE", "UNLISTEN"),
        *("UPDATE", "VACUUM", "WAIT"),
    )
)
BEGINNING = ("BEGIN", "START")
SEAL = "SELECT set_config('transaction_read_only', 'on', true)"
REFUSED_ALONE = (
    psycopg.errors.ActiveSqlTransaction,
    psycopg.errors.SyntaxError,
)  # in a transaction; several
BLANK = re.compile(r"[\s(]+|--[^\r\n]*")
logging.getLogger("psycopg").addHandler(logging.NullHandler())  # pipeline errors are raised, not logged
COMMENT = re.compile(r"/\*|\*/")  # nestable in PostgreSQL


class Session(Connection):
    """A connection in autocommit mode whose statements all run in transactions with these settings.

    settings: for set_config(). is_read_only: see above. is_pooled: a pooler stands between this program and the server,
    so a tag identifies our transaction there.
    """

    settings: Mapping[str, str] = {}
    is_read_only = is_pooled = False
    tag = 0
    on_result: Callable[[Any], object] = staticmethod(bool)  # called with a cursor that has a result

    def is_idle(self) -> bool:
        """Whether no transaction is open."""
        return self.pgconn.transaction_status in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def note_pooler(self, backend: int) -> None:
        """Note whether the answering server process differs from the one at login: then a pooler is between."""
        self.is_pooled = backend != self.info.backend_pid
        self.tag = random.getrandbits(31) if self.is_pooled else 0

    # Transactions

    def open_transaction(self, mode: str = "") -> None:
        """Begin a transaction with the settings, in one round trip. mode: the options of BEGIN."""
        try:
            self._plain(f"BEGIN {self._mode(mode)}; {self._opening()}")
        except BaseException:
            self.abandon()
            raise

    def commit(self) -> None:
        """End the transaction; in a read-only session roll it back, with all settings made in it."""
        super().rollback() if self.is_read_only else super().commit()

    def abandon(self) -> None:
        """Roll back the open transaction, if the server can be reached."""
        if not self.closed and not self.is_idle():
            self.rollback()

    @contextmanager
    def in_transaction(self) -> Iterator[None]:
        """The open transaction, or else one for this block."""
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
        """Return the first statement of a transaction."""
        settings = {**self.settings, **({"transaction_read_only": "on"} if self.is_read_only else {})}
        calls = [f"set_config({self._text(name)}, {self._text(value)}, true)" for name, value in settings.items()]
        if self.is_pooled:
            calls.append(f"pg_advisory_xact_lock_shared({TAG_CLASS}, {self.tag})")
        return f"SELECT {', '.join(calls)}"

    def _text(self, value: str) -> str:
        return psycopg.sql.Literal(value).as_string(self)

    def _plain(self, sql: str) -> None:
        psycopg.Cursor(self, row_factory=psycopg.rows.tuple_row).execute(sql)

    # Statements

    def run(self, sql: str, execute: Callable[[], object]) -> None:
        """Execute a statement in a transaction by calling `execute`."""
        word = first_word(sql)
        if self.is_read_only and word not in READING:
            if word not in COMMANDS:
                raise psycopg.errors.SyntaxError(f'syntax error at or near "{word[:20]}"')
            self.refuse_read_only(word)
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
        """In a read-only session, raise the server's error for a write."""
        if self.is_read_only:
            raise psycopg.errors.ReadOnlySqlTransaction(f"cannot execute {what} in a read-only session")

    def _run_within(self, execute: Callable[[], object]) -> None:
        if not self.is_read_only or self.pgconn.transaction_status == TransactionStatus.INERROR:
            execute()
            return
        with self.pipeline():
            self._plain(SEAL)  # again, because after AND CHAIN the new transaction has no snapshot yet
            execute()

    def _run_alone(self, execute: Callable[[], object]) -> None:
        """Execute one statement in its own transaction, in one round trip."""
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
        """Execute a statement that may write.

        It may also be several in one text, or one that forbids a transaction, such as VACUUM.
        """
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
    """A cursor that takes % literally in SQL without parameters, because psycopg parses marks only with parameters."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        once, conn = partial(super().execute, query, params or None, **{**options, "prepare": False}), _session(self)
        conn.run(_text(query, conn), once)
        conn.on_result(self)
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
    """A server-side cursor, which ends with the open transaction."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        if _session(self).is_idle():
            raise psycopg.ProgrammingError("a server-side cursor ends with its transaction: begin one first")
        with _session(self).in_transaction():
            super().execute(query, params or None, **options)
        _session(self).on_result(self)
        return self


def _session(cursor: Any) -> Session:
    conn: Session = cursor.connection
    return conn


def first_word(sql: str) -> str:
    """Return the first word of a statement in capitals, without comments and brackets; "" without a word."""
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
