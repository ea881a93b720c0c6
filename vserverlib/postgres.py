"""An open PostgreSQL database: one connection, made anew where it was dropped; what a read-only session may; locks.

It owns what happens between a query and the server (psycopg 3). Which databases there are, and whether one is ours, is
servers.py's. The values of rows are the same as SQLite's: a time is a text in UTC, a sum of whole numbers is one.

* Who writes has an advisory lock until the transaction ends, as SQLite has one writer: so what the rules see at a save
  is what is there at its commit, and numbers of changes are in the order of time.
* A dropped connection is told, and made anew for the next statement; a transaction that it ended is an error.
* Read-only is a setting of the session on the server. A column that is hidden reads as NULL wherever a query gives it
  as it is; an expression over it is not known. The real boundary is the role's rights: see docs/security.md.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus

from vserverlib import Error, inert, rights
from vserverlib.connection import Opened
from vserverlib.drivers import peewee
from vserverlib.messages import tell
from vserverlib.patience import BLOCKER, Connection, program
from vserverlib.reaching import Unreachable, unreachable
from vserverlib.recording import Recorder

LOCK = 0x76736572  # "vser": the number of the advisory lock that who writes has
LOCK_STEP = 0.1  # seconds between two tries to get it
IN_HASTE = {"connect_timeout": 2}  # seconds: for Tab, which waits for no lock either
NO_WAIT = "10ms"  # how long such a one waits for the locks of others
FETCHED = 1000  # rows that a long query fetches at once
READING = ("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN", "FETCH", "SAVEPOINT", "RELEASE", "ROLLBACK")
ESCAPES = ("set_config", "transaction_read_only", "session_authorization", "dblink", "pg_read_file", "lo_export")
SETTINGS = {"timezone": "UTC", "datestyle": "ISO, YMD", "client_encoding": "UTF8", "intervalstyle": "iso_8601"}
AT_ONE_MOMENT = "REPEATABLE READ"  # the isolation of who only reads, and waits for nobody
BOOL, TEXT = 16, 25  # types, by their number (pg_type.dat)
PLAIN = (BOOL, 17, 20, 21, 23, 700, 701)  # those that SQLite has, too: bytea, int8, int2, int4, float4, float8

TAKEN = re.compile(r"Key \(([^)]+)\)=\(.*\) already exists", re.DOTALL)

# SQLSTATE (PostgreSQL's manual, appendix A)
READ_ONLY, NO_RIGHT, NO_ROOM = "25006", "42501", ("53100", "53200")
CANCELED, DEADLOCK, NO_LOCK = "57014", "40P01", "55P03"

WRITER = """
SELECT a.application_name, a.usename, a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objid = %s AND l.granted AND l.database = (
    SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1
"""
USE_IDS_AFTER = """
SELECT setval(pg_get_serial_sequence('"{0}"', 'id'), %s, %s)
"""
PLACES = """
SELECT c.oid, a.attnum FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = %s AND a.attname = %s
"""
# An id that was given by hand is not known to the sequence that gives the others.
HIGHEST_ID = """
SELECT COALESCE(pg_sequence_last_value(sequence), 0), has_sequence_privilege(sequence, 'SELECT')
FROM (SELECT pg_get_serial_sequence('"{table}"', 'id')::regclass AS sequence)
"""
GO_ON = """
SELECT setval(pg_get_serial_sequence('"{table}"', 'id')::regclass, MAX(id)) FROM "{table}"
HAVING MAX(id) > COALESCE(pg_sequence_last_value(pg_get_serial_sequence('"{table}"', 'id')::regclass), 0)
"""


class Adapter(peewee.Psycopg3Adapter):
    """What Peewee knows of psycopg, which it has not imported."""

    txn_idle, txn_inerror = TransactionStatus.IDLE, TransactionStatus.INERROR
    txn_unknown = TransactionStatus.UNKNOWN

    def check_driver(self) -> None:
        pass


class InstantText(Loader):
    """Reads a time as the text that SQLite keeps: 2026-03-01 09:00:00.000000+00:00."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        if not text.endswith("+00"):  # before the year 1, or infinity
            return text
        whole, _, fraction = text[:-3].partition(".")
        return f"{whole}.{fraction:0<6}+00:00"


class WholeNumber(Loader):
    """Reads a sum of whole numbers as one: to PostgreSQL it is numeric."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text or not text.lstrip("-").isdigit() else int(text)


class AnyText(Loader):
    """Reads a text, and as bytes one that is none in UTF-8: a database without an encoding (SQL_ASCII) may hold it."""

    def load(self, data: Any) -> str | bytes:
        try:
            return bytes(data).decode()
        except UnicodeDecodeError:
            return bytes(data)


class Flag(Loader):
    """Reads a truth value as SQLite keeps it."""

    def load(self, data: Any) -> int:
        return int(bytes(data) == b"t")


class Cursor(psycopg.Cursor[Any]):
    """A cursor to which a % in SQL without parameters is a %: psycopg looks for marks only where there are any."""

    is_single: bool | None = None

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        return super().execute(query, params or None, **{**options, "prepare": self.is_single})


class SingleStatement(Cursor):
    """A cursor that takes one statement at a time: what is prepared is one, and a second would not be looked at."""

    is_single = True


class Postgres(Opened, peewee.PostgresqlDatabase):
    """One PostgreSQL database, open.

    url: what libpq is given, as it is; it may hold a password, and is shown to nobody. name: the URL without it.
    recorder: tells the journal who writes. The rest is said in Opened.
    """

    field_types: ClassVar = {
        **peewee.PostgresqlDatabase.field_types,
        "AUTO": "BIGINT GENERATED BY DEFAULT AS IDENTITY",
        "INT": "BIGINT",
        "INSTANT": "TIMESTAMPTZ",
        "TEXT": 'TEXT COLLATE "C"',  # the order of SQLite's: that of the bytes
    }
    psycopg2_adapter = psycopg3_adapter = Adapter
    is_sqlite = False
    path = None

    def __init__(
        self,
        url: str,
        name: str,
        *,
        mode: str = "read-write",
        hidden: frozenset[tuple[str, str]] = frozenset(),
        patience: float | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.open_as(name, mode, hidden, patience, None)
        self.recorder = recorder
        self._dial: Callable[..., Connection] = lambda **options: _connected(url, options)  # shows no password
        self._numbers, self._readers = itertools.count(1), 0
        self._given_up: Error | None = None  # of a statement that has waited too long, and is cancelled
        self._secret: set[tuple[int, int]] = set()
        super().__init__(name)

    # The connection

    def _connect(self) -> Any:
        try:
            conn = self._dial(**(IN_HASTE if self.patience == 0 else {}))
        except psycopg.Error as error:
            raise unreachable(self.title, str(error)) from error
        conn.look = self._look
        conn.adapters.register_loader("timestamptz", InstantText)
        conn.adapters.register_loader("numeric", WholeNumber)
        settings = dict(SETTINGS)
        if self.read_only:
            settings["default_transaction_read_only"] = "on"
        if self.patience == 0:
            settings["lock_timeout"] = NO_WAIT
        if self.recorder is not None:
            settings |= {"vserver.actor": self.recorder.actor, "vserver.session": self.recorder.session}
        set_all = ", ".join("set_config(%s, %s, false)" for _ in settings)
        conn.execute(f"SELECT {set_all}", list(itertools.chain.from_iterable(settings.items())))
        conn.row_factory, conn.cursor_factory = self._row_factory, SingleStatement if self.read_only else Cursor
        self._secret = {tuple(row) for pair in self.hidden for row in conn.execute(PLACES, pair).fetchall()}
        return conn

    def _row_factory(self, cursor: Any) -> Callable[[Any], Any]:
        """Return what makes the rows of a cursor: with nothing in the place of what is hidden."""
        result = cursor.pgresult
        if not self.hidden or result is None:
            return tuple
        columns = range(result.nfields)
        places = {at for at in columns if (result.ftable(at), result.ftablecol(at)) in self._secret}
        if not places:
            return tuple
        return lambda values: tuple([None if at in places else value for at, value in enumerate(values)])

    def is_lost(self) -> bool:
        """Whether the server, or the network, has ended the connection."""
        conn = self._state.conn
        return conn is not None and (conn.closed or conn.pgconn.transaction_status == TransactionStatus.UNKNOWN)

    def _dial_again(self) -> None:
        with self._lock:
            self._state.reset()
        self.put_back(0)
        try:
            self.connect()
        except Unreachable as error:
            raise unreachable(self.title, str(error.__cause__), was_lost=True) from error
        tell(f"the connection to {self.title} was lost: it was made anew", "yellow")

    def is_connection_usable(self) -> bool:
        return not self.is_lost() and bool(super().is_connection_usable())

    # Queries

    def run(self, kind: str, sql: str, params: Any, **options: Any) -> Any:
        if self.read_only:
            self._refuse_escape(sql)
        try:
            return self._run(sql, params, options)
        except peewee.DatabaseError as error:
            if not self.is_lost():
                self.explain(error)
                raise
            self._refuse_in_transaction(error)
            self._dial_again()
        return self._run(sql, params, options)  # a read: a write has a transaction, and begins with BEGIN

    def _run(self, sql: str, params: Any, options: Any) -> Any:
        return super(Opened, self)._execute_cursor(sql, params, **options)

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows into a table by one COPY. Within a transaction; what was read is not forgotten for it."""
        names = ", ".join(f'"{name}"' for name in columns)
        with self._told(), self.cursor().copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)
        if columns[0] == "id":
            self.go_on(table)

    def copied_out(self, query: str, kinds: Sequence[int]) -> Iterator[Any]:
        """Give the rows of a query as they come, by one COPY, with the values that SQLite would keep.

        kinds: the number of the type of each column; what is neither a number, nor bytes, nor a truth value is a text.
        """
        cursor = self.connection().cursor()
        cursor.adapters.register_loader(TEXT, AnyText)
        cursor.adapters.register_loader(BOOL, Flag)
        with self._told(), cursor.copy(f"COPY ({query}) TO STDOUT") as copy:
            copy.set_types([kind if kind in PLAIN else TEXT for kind in kinds])
            yield from copy.rows()

    def load(self, table: str, columns: Sequence[str], lines: Iterable[bytes]) -> None:
        """Write rows into a table by one COPY, each a line as pg_dump writes it. Within a transaction."""
        names = ", ".join(f'"{name}"' for name in columns)
        with self._told(), self.cursor().copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
            for line in lines:
                copy.write(line)

    def wait_at_most(self, seconds: float) -> None:
        """Have what waits for others' locks on tables fail after so long, until the transaction ends."""
        self.execute_sql(f"SET LOCAL lock_timeout = {round(seconds * 1000)}")

    def use_ids_after(self, table: str, last: int) -> None:
        self._fetch_one(USE_IDS_AFTER.format(table), [max(last, 1), last > 0])

    def taken(self, error: Exception) -> list[str]:
        detail = getattr(getattr(error.__cause__ or error.__context__, "diag", None), "message_detail", None)
        found = TAKEN.match(detail or "")
        return [name.strip(' "') for name in found[1].split(",")] if found else []

    def stands_alone(self, sql: str) -> bool:
        """Whether a write is to get a transaction of its own: so that it has the lock of who writes."""
        return not self.read_only and not self.transaction_depth() and self._is_idle()

    def _is_idle(self) -> bool:
        status = self.connection().pgconn.transaction_status
        return bool(status in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN))

    def rows(self, query: Any) -> Generator[Any]:
        limit = getattr(query, "_limit", None)
        is_short = limit is not None and limit <= FETCHED
        return (row for row in self.execute(query)) if is_short else super().rows(query)

    def streamed(self, sql: str, params: Any = None) -> Generator[Any]:
        """Run SQL, and give its rows as they come: by a cursor of the server's. Anew where the connection was lost."""
        is_given = False
        try:
            for row in self._rows_there(sql, params):
                is_given = True
                yield row
        except peewee.DatabaseError as error:
            if not self.is_lost():
                raise
            self._refuse_in_transaction(error)
            if is_given:
                raise Error(f"the connection to {self.title} was lost while it was read: try again") from error
            self._dial_again()
            yield from self._rows_there(sql, params)

    def _rows_there(self, sql: str, params: Any) -> Iterator[Any]:
        began = time.perf_counter()
        with self._for_reading() as is_held, self._told(), self._held_there(is_held) as cursor:
            cursor.execute(sql, params or None)
            self._notify_hooks(sql, params, began, None)
            yield from cursor

    @contextmanager
    def _held_there(self, is_held: bool) -> Iterator[Any]:
        """A cursor of the server's."""
        with self.connection().cursor(name=f"rows_{next(self._numbers)}", withhold=is_held) as cursor:
            cursor.itersize = FETCHED
            yield cursor

    @contextmanager
    def _for_reading(self) -> Iterator[bool]:
        """A transaction for a cursor of the server's; gives whether the server has to hold the rows without one.

        Only a read-only session begins one: in another, a save would end it.
        """
        conn = self.connection()
        if not self.read_only or (self._is_idle() is False and not self._readers):
            yield bool(self._is_idle())
            return
        if not self._readers:
            conn.execute("BEGIN READ ONLY")
        self._readers += 1
        try:
            yield False
        finally:
            self._readers -= 1
            if not self._readers and not conn.closed and not self.is_lost():  # closed: what is read was left half read
                conn.execute("ROLLBACK")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Have what psycopg raises become what Peewee raises, explained."""
        try:
            with peewee.__exception_wrapper__:
                yield
        except peewee.DatabaseError as error:
            self.explain(error)
            raise

    # Ids, and many rows

    def highest_id(self, table: str) -> int:
        highest, is_known = self.execute_sql(HIGHEST_ID.format(table=table)).fetchone()
        if not is_known:  # some releases say nothing, others that it is not to be known
            raise self._lacking(f"permission denied for sequence {table}_id_seq")
        return int(highest)

    def go_on(self, table: str) -> None:
        with self.foreseen():
            self.execute_sql(GO_ON.format(table=table))

    # Transactions

    def reading(self) -> Any:
        return self.atomic(AT_ONE_MOMENT)

    def begin(self, isolation_level: Any = None) -> None:
        with self._ended_by_ctrl_c():
            self._begin(isolation_level)
        if not self.read_only and isolation_level != AT_ONE_MOMENT:
            try:
                self._lock_out_others()
            except BaseException:
                self.rollback()
                raise

    def _begin(self, isolation_level: Any) -> None:
        if self.is_lost():
            self._dial_again()
        try:
            super().begin(isolation_level)
        except peewee.DatabaseError:
            if not self.is_lost():
                raise
            self._dial_again()
            super().begin(isolation_level)

    @contextmanager
    def _ended_by_ctrl_c(self) -> Iterator[None]:
        """Roll back a transaction that Ctrl-C found between open and shut: Peewee does so for other exceptions."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.is_lost() and not self._is_idle():
                self.rollback()
            raise

    def _lock_out_others(self) -> None:
        """Get the lock of who writes: it is waited for in short steps, and told."""
        waited_since, told = time.monotonic(), False
        while not self._fetch_one("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])[0]:
            told = self.wait_on(waited_since, told)
            time.sleep(LOCK_STEP)

    def writer(self) -> str:
        """Return who has the lock of who writes, as far as the server tells."""
        found = self._fetch_one(WRITER, [LOCK])
        return program(*found) if found else "another"

    def _look(self, since: float, told: bool) -> bool:
        """Have a statement that waits for others be told, and cancel it in the end; return whether it is told.

        Who has the lock is asked over another connection: this one is busy.
        """
        conn = self._state.conn
        try:
            with self._dial(**IN_HASTE) as other:
                found = other.execute(BLOCKER, [conn.info.backend_pid]).fetchone()
        except psycopg.Error:
            return told
        if found is None:  # it works
            return False
        try:
            return self.wait_on(since, told, lambda: program(*found))
        except Error as error:
            self._given_up = error
            conn.cancel_safe()
            return told

    def _fetch_one(self, sql: str, params: Any) -> Any:
        with self._told():
            return self.connection().execute(sql, params).fetchone()

    def commit(self) -> None:
        try:
            with self._told(), self._ended_by_ctrl_c():
                super().commit()
        except peewee.DatabaseError as error:
            if self.is_lost():
                raise Error(
                    f"the connection to {self.title} was lost at the commit: look whether it is there"
                ) from error
            raise
        self.undo.clear()

    def has_rolled_back(self, error: peewee.DatabaseError) -> bool:
        return self.is_lost()

    @property
    def last_change(self) -> int | None:
        """Return what the journal calls the newest change that this session has committed; None before the first."""
        if self.recorder is None:
            return None
        row = self._fetch_one("SELECT MAX(id) FROM change WHERE session = %s", [self.recorder.session])
        return row[0]  # type: ignore[no-any-return]

    def version(self) -> str:
        """Return which transactions have ended: the newest change is none, for one with an earlier may end later."""
        return str(self.execute_sql("SELECT pg_current_snapshot()").fetchone()[0])

    # What went wrong

    def _refuse_in_transaction(self, error: Exception) -> None:
        if self.transaction_depth() or self._readers:
            raise Error(f"the connection to {self.title} was lost: nothing of the transaction is there") from error

    def _refuse_escape(self, sql: str) -> None:
        """Raise an Error for a statement that could end what makes a session read-only."""
        first = sql.lstrip("( \n\t").split(None, 1)[0].upper().strip(";") if sql.strip() else ""
        if first not in READING or any(word in sql.lower() for word in ESCAPES):
            remedy = f"{self.to_write} to change it"
            raise Error(f"{self.title} is open read-only ({inert(first, 20)}): {remedy}")

    def _lacking(self, said: str) -> Error:
        return rights.lacking(self.title, said, self.connection().info.user, to_read=self.read_only)

    def explain(self, error: peewee.DatabaseError) -> None:
        """Raise what a person can act on in place of what PostgreSQL says, where we know better; else shorten it."""
        state = getattr(error.__cause__ or error.__context__, "sqlstate", None)
        said = _said(error)
        if state == READ_ONLY and self.read_only:
            raise Error(f"{self.title} is open read-only ({said}): {self.to_write} to change it") from error
        if state == READ_ONLY:
            raise Error(f"{self.title} takes no changes ({said}): a replica, or set so; try --read-only") from error
        if state == NO_RIGHT:
            raise self._lacking(said) from error
        if state in NO_ROOM:
            raise Error(f"{self.title} could not be written ({said}): nothing was changed; make room") from error
        if state == CANCELED and self._given_up is not None:
            given_up, self._given_up = self._given_up, None
            raise given_up from error
        if state in (DEADLOCK, NO_LOCK):
            raise Error(f"{self.title}: others hold what this needs ({said}): try again later") from error
        error.args = (said,)


def _connected(url: str, options: dict[str, Any]) -> Connection:
    return Connection.connect(url, fallback_application_name="vserver", autocommit=True, **options)


def _said(error: BaseException) -> str:
    """Return what PostgreSQL says of an error, in a line."""
    cause = error.__cause__ or error.__context__ or error
    diagnosis = getattr(cause, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(cause)
    return inert(" ".join(text.split()), 300)
