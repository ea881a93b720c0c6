"""The part of an open database that SQLite and PostgreSQL share: transactions, cached reads, waiting for locks.

It adds two things to Peewee's database:

* If a transaction or a savepoint is rolled back, the objects that it changed are restored.
* A write invalidates earlier reads that may have changed.

sqlite.py owns what happens between a query and SQLite, postgres.py what happens between a query and a server.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from vserverlib import Error, Locked, ReadOnly, printable, signals
from vserverlib.databases.recording import MAX_ACTOR
from vserverlib.drivers import peewee
from vserverlib.messages import notify
from vserverlib.secret_columns import SECRET_COLUMNS

LOCK_TIMEOUT = 60.0  # seconds until a wait for a lock fails
LOCK_NOTICE = 1.0  # seconds until a wait for a lock is reported
READS = ("SELECT", "PRAGMA", "EXPLAI", "SAVEPO", "RELEAS", "BEGIN", "COMMIT")
WRITES = ("INSERT", "UPDATE", "DELETE", "REPLAC")
MAX_ID = 2**63 - 1  # the highest id of both kinds of databases


class Invalidated(Protocol):
    """Something read earlier that a write can make stale."""

    def invalidate(self, task_id: int | None = None) -> None:
        """Drop the cached reads of one task, or all."""


class Savepoint(peewee._savepoint):
    """A savepoint that, when rolled back, restores the objects saved since it began."""

    db: DatabaseMixin

    def _begin(self) -> None:
        self.mark = len(self.db.rollback_actions)
        super()._begin()

    def rollback(self, begin: bool = True) -> None:
        try:
            super().rollback(begin)
        except peewee.DatabaseError as error:
            if not self.db.has_rolled_back(error):
                raise
            self.db.restore_objects(0)  # the whole transaction, such as after a full disk or a lost connection
        else:
            self.db.restore_objects(self.mark)


class DatabaseMixin(peewee.Database):
    """The shared part of SQLite's and PostgreSQL's databases, mixed into Peewee's classes.

    title: the name in the prompt and in messages; mode: "read-write", "read-only" or "sandbox"; path: the file that the
    user named, None on a server. hidden: the (table, column) pairs that this session reads as NULL: in read-only mode
    SECRET_COLUMNS, set here so that no caller can forget it. lock_timeout: seconds to wait for a lock; None:
    LOCK_TIMEOUT. strict: refuse saves that would cause warnings. asks_rules: check the rules on each save.
    """

    is_sqlite: bool
    path: Path | None
    recorder: Any  # a Recorder; None in a read-only session
    is_view = False  # whether it is a copy of a server's database, which nobody writes to
    write_remedy = "open it without --read-only"  # the remedy for a write in a read-only session
    why_nothing_to_undo = ""  # the message of an undo that reaches bulk work; "" for the default

    def init_mixin(self, title: str, mode: str, lock_timeout: float | None, path: Path | None) -> None:
        """Set the title, mode, lock timeout and path: before Peewee's own __init__()."""
        self.title, self.mode, self.lock_timeout, self.path = printable(title, 200), mode, lock_timeout, path
        self.hidden = SECRET_COLUMNS if mode == "read-only" else frozenset()
        self.rollback_actions: list[Callable[[], None]] = []
        self.cached_reads: weakref.WeakSet[Invalidated] = weakref.WeakSet()
        self.cached: dict[str, Any] = {}  # settings of this database, each read once
        self.at_close: list[Callable[[], object]] = []
        self._no_invalidation = False
        self.writes = 0  # the number of writes and rollbacks of this session
        self.strict, self.asks_rules = False, True

    # Implemented by each kind of database

    def run(self, kind: str, sql: str, params: Any, **options: Any) -> Any:
        """Execute a statement and return its cursor. kind: the first six letters of the statement, in capitals."""
        raise NotImplementedError

    def written_id(self, entity: Any) -> int:
        """Return the id of an entity in the database that its changes go to: a working copy's go to a server."""
        return int(entity.id)

    def refuse_unplannable(self, entity: Any, *names: str) -> None:
        """Raise an Error if an entity cannot be created, or these fields of it cannot be changed, by a plan."""

    def unlock(self, user: Any, *, two_factor: bool = False) -> bool:
        """Plan that a user of a vantage6 server is unlocked. Returns whether it is planned: only by a working copy."""
        return False

    def is_in_place(self) -> bool:
        """Whether the name of the database still leads to what is open."""
        return True

    def set_last_id(self, table: str, last: int) -> None:
        """Have the next new row of a table get an id above `last`."""
        raise NotImplementedError

    def raise_last_id(self, table: str, last: int) -> None:
        """Have the next new row of a table get an id above `last`, and above each that the table has ever given."""
        self.set_last_id(table, max(last, self.highest_id(table)))

    def explain(self, error: peewee.DatabaseError) -> None:
        """Raise an Error with a remedy in place of a database error, if one is known."""
        raise NotImplementedError

    def conflicting_columns(self, error: Exception) -> list[str]:
        """Return the columns whose uniqueness an error says is violated; none for other errors."""
        raise NotImplementedError

    def needs_transaction(self, sql: str) -> bool:
        """Whether a write needs a transaction of its own."""
        raise NotImplementedError

    def has_rolled_back(self, error: peewee.DatabaseError) -> bool:
        """Whether an error means that the database has already rolled back the whole transaction."""
        raise NotImplementedError

    @property
    def last_change(self) -> int | None:
        """Return the journal's number of this session's newest committed change; None before the first."""
        raise NotImplementedError

    def sign_as(self, actor: str) -> None:
        """Have the rest of the open transaction recorded under another name."""
        self.recorder.actor = printable(actor, MAX_ACTOR)

    def version(self) -> Any:
        """Return a value that differs after another connection has written."""
        raise NotImplementedError

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Fetch the rows of a cursor within this block, so that Ctrl-C ends that too."""
        yield

    def rows(self, query: Any) -> Generator[Any]:
        """Run a query and yield its rows as they arrive, in constant memory. Open until the last row."""
        return self.streamed(*self.get_sql_context().sql(query).query())

    def streamed(self, sql: str, params: Any = None) -> Generator[Any]:
        """Run SQL and yield its rows as rows() does."""
        with self.fetching():
            for row in self.execute_sql(sql, params):  # noqa: UP028  # `yield from` would close a half-read cursor late
                yield row

    def can_retry(self, error: Exception) -> bool:
        """Whether the read can be retried after an error."""
        return False

    def reading(self) -> AbstractContextManager[Any]:
        """Return a transaction that writes at most TEMP tables, and blocks nobody."""
        raise NotImplementedError

    @contextmanager
    def with_temp_tables(self) -> Iterator[None]:
        """Share TEMP tables between the transactions in this block."""
        yield

    def take_write_lock(self) -> None:
        """Take the write lock within a transaction that may have begun without it."""

    def highest_id(self, table: str) -> int:
        """Return the highest id that a table has ever given, 0 if none."""
        raise NotImplementedError

    def advance_sequence(self, table: str) -> None:
        """Have a table's next ids follow its existing ones. SQLite does so by itself."""

    def catch_up(self) -> bool:
        """Whether a refused write can be retried: its id was taken, and the next one will not be."""
        return False

    def with_parameter_marks(self, sql: str) -> str:
        """Return our own SQL, whose only ? are parameters, with the parameter marks of this database."""
        return sql if self.param == "?" else sql.replace("%", "%%").replace("?", self.param)

    # Modes

    @contextmanager
    def hashes_visible(self) -> Iterator[None]:
        """Allow reading hashes within this block, for our queries that return none of them."""
        hidden, self.hidden = self.hidden, frozenset()
        try:
            yield
        finally:
            self.hidden = hidden

    @contextmanager
    def rule_checks(self, on: bool = True) -> Iterator[None]:
        """Switch the rule checks of saves off (False) or on within this block."""
        before, self.asks_rules = self.asks_rules, on
        try:
            yield
        finally:
            self.asks_rules = before

    @property
    def place(self) -> str:
        """Return the database's name in the prompt; on a server user, host and name: anna@db.example.org/v6."""
        return self.title.partition("://")[2].partition("?")[0] or self.title

    @property
    def read_only(self) -> bool:
        return self.mode == "read-only"

    def refuse_read_only(self, what: str) -> None:
        """Raise ReadOnly if this session is read-only. what: the refused function."""
        if self.read_only:
            raise ReadOnly(f"{what} is not available here: {self.title} is open read-only; {self.write_remedy}")

    # Queries

    def execute(self, query: Any, **options: Any) -> Any:
        refuse_whole_table(query)
        return super().execute(query, **options)

    def _execute_cursor(self, sql: str, params: Any = None, **options: Any) -> Any:
        signals.check()
        kind = sql.lstrip()[:6].upper().strip(" ;")
        if kind not in READS:
            self.writes += 1
            if not self._no_invalidation:
                self.invalidate()
        if kind in WRITES and self.needs_transaction(sql):
            return self._execute_alone(sql, params, options)
        try:
            return self.run(kind, sql, params, **options)
        except OverflowError as error:
            raise Error("a number in a query has more than 64 bits: give one that a database can store") from error

    def _execute_alone(self, sql: str, params: Any, options: dict[str, Any]) -> Any:
        """Execute a statement in a transaction of its own."""
        try:
            with self.atomic():
                return self._execute_cursor(sql, params, **options)
        except peewee.IntegrityError:
            if not self.catch_up():
                raise
        with self.atomic():
            return self._execute_cursor(sql, params, **options)

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert rows into a table with one call, in the open transaction. Does not invalidate cached reads."""
        names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join(self.param for _ in columns)
        try:
            with peewee.__exception_wrapper__:
                self.cursor().executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', rows)
        except peewee.DatabaseError as error:
            self.explain(error)
            raise

    @contextmanager
    def without_invalidation(self) -> Iterator[None]:
        """Within this block writes do not invalidate cached reads: the caller does."""
        before, self._no_invalidation = self._no_invalidation, True
        try:
            yield
        finally:
            self._no_invalidation = before

    def is_in_transaction(self) -> bool:
        """Whether the connection has a transaction open that can be rolled back, as the database itself reports."""
        raise NotImplementedError

    @contextmanager
    def rolled_back_by_ctrl_c(self) -> Iterator[None]:
        """Roll back a transaction that Ctrl-C interrupted at its begin or commit. Peewee handles other exceptions."""
        try:
            yield
        except KeyboardInterrupt:
            if self.is_in_transaction():
                self.rollback()
            raise

    def savepoint(self) -> Savepoint:
        return Savepoint(self)

    # Cached reads and changed objects

    def invalidate(self, task_id: int | None = None) -> None:
        """Have everything read earlier be dropped: of one task, or all."""
        for reading in list(self.cached_reads):
            reading.invalidate(task_id)

    def invalidate_tasks(self, task_ids: set[int] | None) -> None:
        """Invalidate the cached reads of some tasks; None: all."""
        for task_id in (None,) if task_ids is None else task_ids:
            self.invalidate(task_id)

    def restore_objects(self, mark: int) -> None:
        """Restore, last first, the objects that were changed since `mark`, because the database rolled back."""
        while len(self.rollback_actions) > mark:
            self.rollback_actions.pop()()
        self.cached.clear()
        self.writes += 1
        self.invalidate()

    def on_rollback(self, restore: Callable[[], None]) -> None:
        """Call `restore` if the open transaction or savepoint is rolled back."""
        self.rollback_actions.append(restore)

    def close(self) -> bool:
        with signals.held():
            closed: bool = super().close()
            while self.at_close:  # also after failing to open a damaged file
                self.at_close.pop()()
        return closed

    def rollback(self) -> None:
        try:
            super().rollback()
        except peewee.DatabaseError as error:
            if not self.has_rolled_back(error):  # such as a full disk or a lost connection
                raise
        finally:
            self.restore_objects(0)

    def lock_holder(self) -> str:
        """Return who holds the write lock, as far as it is known."""
        raise NotImplementedError

    def check_lock_wait(self, since: float, reported: bool, who: Callable[[], str] | None = None) -> bool:
        """Check on a wait for a lock: print who holds it, once, and raise Locked after the timeout.

        since: the time.monotonic() of its start. reported: whether it was printed; returns the new value. who: returns
        the holder of the lock, instead of the write lock's.
        """
        waited, who = time.monotonic() - since, who or self.lock_holder
        if waited > (LOCK_TIMEOUT if self.lock_timeout is None else self.lock_timeout):
            raise Locked(f"{self.title} is locked by {who()} for {waited:.0f} s: try again later")
        if waited > LOCK_NOTICE and not reported:
            notify(f"waiting for {who()}, which is writing to {self.title} (Ctrl-C: give up)", "yellow")
            return True
        return reported


def refuse_whole_table(query: Any) -> None:
    """Raise an Error if a Peewee query would delete or change every row of a table by accident.

    A condition that is not an expression does not count: a comparison of two other values gave True or False.
    """
    if isinstance(query, peewee.Delete | peewee.Update) and not isinstance(query._where, peewee.Node):
        verb, model = "delete" if isinstance(query, peewee.Delete) else "change", getattr(query, "model", None)
        what = (
            f"row of {printable(query.table)}" if model is None else getattr(model, "noun", f"row of {model.__name__}")
        )
        whole = "" if model is None else f", or all with {model.__name__}.id > 0"
        raise Error(f"this would {verb} every {what}: choose some with .where(…){whole}")


def no_ids_left(title: str, table: str, reset: str) -> Error:
    """Return the error that a table has used up its ids. reset: the SQL that continues after the highest one there."""
    message = f"no id is left for a new {table}, as {MAX_ID}, the highest, was used"
    remedy = f"leave that row out of an import, or delete it and run: {reset}"
    return Error(f"{title} could not be written: {message}; {remedy}")


def quoted(name: str) -> str:
    """Return the name of a table, column or role as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
