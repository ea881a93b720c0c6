"""An open database, whichever program keeps it: its transactions, what objects read of it, and who writes.

Two things are added to Peewee's database:

* Objects that a transaction changed are put back when it, or a savepoint around them, is rolled back.
* What was read earlier is told when a write has made it doubtful.

What happens between a query and SQLite is sqlite.py's business, between a query and a PostgreSQL server postgres.py's.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from vserverlib import Error, printable, signals
from vserverlib.drivers import peewee
from vserverlib.messages import notify
from vserverlib.secret_columns import SECRET_COLUMNS

LOCK_WAIT = 60.0  # seconds until a wait for a lock is given up
LOCK_TOLD = 1.0  # seconds until it is told
READS = ("SELECT", "PRAGMA", "EXPLAI", "SAVEPO", "RELEAS", "BEGIN", "COMMIT")
WRITES = ("INSERT", "UPDATE", "DELETE", "REPLAC")


class Invalidated(Protocol):
    """Something read earlier that a write makes doubtful."""

    def invalidate(self, task_id: int | None = None) -> None:
        """Forget what was read of one task, or of everything."""


class Savepoint(peewee._savepoint):
    """A savepoint that puts back the objects saved since it when it is rolled back."""

    db: DatabaseMixin

    def _begin(self) -> None:
        self.mark = len(self.db.undo)
        super()._begin()

    def rollback(self, begin: bool = True) -> None:
        try:
            super().rollback(begin)
        except peewee.DatabaseError as error:
            if not self.db.has_rolled_back(error):
                raise
            self.db.put_back(0)  # all of the transaction: a full disk, or a lost connection, for one
        else:
            self.db.put_back(self.mark)


class DatabaseMixin(peewee.Database):
    """What SQLite's and PostgreSQL's databases share: mixed into Peewee's.

    title: what the prompt and messages call it; mode: "read-write", "read-only" or "sandbox"; path: the file that the
    user named, None where it is none. hidden: (table, column) pairs that this session reads as NULL: in a read-only one
    those of SECRET_COLUMNS, which follows from the mode and is nobody's to forget. patience: seconds that a lock is
    waited for; None: LOCK_WAIT. strict: what would be saved with a warning is refused. asks_rules: whether a save asks
    the rules at all.
    """

    is_sqlite: bool
    path: Path | None
    is_view = False  # whether it is a copy of a server's database, which nobody writes to
    to_write = "open it without --read-only"  # what is to be done for a read-only session to change something

    def open_as(self, title: str, mode: str, patience: float | None, path: Path | None) -> None:
        """Say what is opened, and how: before Peewee's own __init__()."""
        self.title, self.mode, self.patience, self.path = printable(title, 200), mode, patience, path
        self.hidden = SECRET_COLUMNS if mode == "read-only" else frozenset()
        self.undo: list[Callable[[], None]] = []
        self.readings: weakref.WeakSet[Invalidated] = weakref.WeakSet()
        self.cached: dict[str, Any] = {}  # settings of this database, read once
        self.at_close: list[Callable[[], object]] = []
        self._foreseen = False
        self.writes = 0  # how often this session has written, or has taken that back
        self.strict, self.asks_rules = False, True

    # What each of the two does in its own way

    def run(self, kind: str, sql: str, params: Any, **options: Any) -> Any:
        """Run a statement, and return its cursor. kind: the first letters of its first word, in capitals."""
        raise NotImplementedError

    def use_ids_after(self, table: str, last: int) -> None:
        """Have the next new row of a table get an id above `last`."""
        raise NotImplementedError

    def explain(self, error: peewee.DatabaseError) -> None:
        """Raise what a person can act on in place of an error of the database, where we know better."""
        raise NotImplementedError

    def taken(self, error: Exception) -> list[str]:
        """Return the columns of which an error says that their values are another row's; none where it does not."""
        raise NotImplementedError

    def needs_transaction(self, sql: str) -> bool:
        """Whether a write is to get a transaction of its own."""
        raise NotImplementedError

    def has_rolled_back(self, error: peewee.DatabaseError) -> bool:
        """Whether an error says that the database has rolled back all of the transaction by itself."""
        raise NotImplementedError

    @property
    def last_change(self) -> int | None:
        """Return what the journal calls the newest change that this session has committed; None before the first."""
        raise NotImplementedError

    def version(self) -> Any:
        """Return what is another value when another connection has written."""
        raise NotImplementedError

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """For reading the rows of a cursor: Ctrl-C ends that too."""
        yield

    def rows(self, query: Any) -> Generator[Any]:
        """Run a query, and give its rows as they come: memory does not grow with them. Open until the last."""
        return self.streamed(*self.get_sql_context().sql(query).query())

    def streamed(self, sql: str, params: Any = None) -> Generator[Any]:
        """Run SQL, and give its rows as they come, as rows() does."""
        with self.fetching():
            for row in self.execute_sql(sql, params):  # noqa: UP028  # that would close what is left half read, late
                yield row

    def can_retry(self, error: Exception) -> bool:
        """Whether reading again will do after an error."""
        return False

    def reading(self) -> AbstractContextManager[Any]:
        """Return a transaction that writes nothing but what is this session's own (TEMP), and holds up nobody."""
        raise NotImplementedError

    @contextmanager
    def with_tables(self) -> Iterator[None]:
        """For transactions that share tables of this session's own (TEMP)."""
        yield

    def lock_out_others(self) -> None:
        """Get the lock of who writes, in a transaction that may have begun without it."""

    def highest_id(self, table: str) -> int:
        """Return the highest id that a table has ever given, 0 where it has given none: none is given again."""
        raise NotImplementedError

    def advance_sequence(self, table: str) -> None:
        """Have a table give higher ids than those that are there: what SQLite does by itself after an id was given."""

    def catch_up(self) -> bool:
        """Whether what was refused can be tried once more: for an id that is taken, and will not be given again."""
        return False

    def marked(self, sql: str) -> str:
        """Return SQL of ours, which has a ? for each parameter and no other, with the marks of this database."""
        return sql if self.param == "?" else sql.replace("%", "%%").replace("?", self.param)

    # Modes

    @contextmanager
    def hashes_visible(self) -> Iterator[None]:
        """For queries of ours that ask whether a hash is there, and give none back."""
        hidden, self.hidden = self.hidden, frozenset()
        try:
            yield
        finally:
            self.hidden = hidden

    @contextmanager
    def rule_checks(self, on: bool = True) -> Iterator[None]:
        """Save in a `with` block without asking the rules, rule_checks(False), or with asking them again."""
        before, self.asks_rules = self.asks_rules, on
        try:
            yield
        finally:
            self.asks_rules = before

    @property
    def place(self) -> str:
        """Return what the prompt calls the database: of one on a server user, host and name, anna@db.example.org/v6."""
        return self.title.partition("://")[2].partition("?")[0] or self.title

    @property
    def read_only(self) -> bool:
        return self.mode == "read-only"

    def refuse_read_only(self, what: str) -> None:
        """Raise an Error where this session cannot do `what`."""
        if self.read_only:
            raise Error(f"{what} is not available here: {self.title} is open read-only; {self.to_write}")

    # Queries

    def execute(self, query: Any, **options: Any) -> Any:
        refuse_whole_table(query)
        return super().execute(query, **options)

    def _execute_cursor(self, sql: str, params: Any = None, **options: Any) -> Any:
        signals.check()
        kind = sql.lstrip()[:6].upper().strip(" ;")
        if kind not in READS:
            self.writes += 1
            if not self._foreseen:
                self.invalidate()
        if kind in WRITES and self.needs_transaction(sql):
            return self._execute_alone(sql, params, options)
        try:
            return self.run(kind, sql, params, **options)
        except OverflowError as error:
            raise Error("a number in a query has more than 64 bits: give one that a database can hold") from error

    def _execute_alone(self, sql: str, params: Any, options: dict[str, Any]) -> Any:
        """Run a statement in a transaction of its own."""
        try:
            with self.atomic():
                return self._execute_cursor(sql, params, **options)
        except peewee.IntegrityError:
            if not self.catch_up():
                raise
        with self.atomic():
            return self._execute_cursor(sql, params, **options)

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows into a table by one call. Within a transaction; what was read is not forgotten for it."""
        names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join(self.param for _ in columns)
        try:
            with peewee.__exception_wrapper__:
                self.cursor().executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', rows)
        except peewee.DatabaseError as error:
            self.explain(error)
            raise

    @contextmanager
    def without_invalidation(self) -> Iterator[None]:
        """For writes whose effect on what was read the caller takes care of: nothing is forgotten for them."""
        before, self._foreseen = self._foreseen, True
        try:
            yield
        finally:
            self._foreseen = before

    def savepoint(self) -> Savepoint:
        return Savepoint(self)

    # What was read, and what was changed

    def invalidate(self, task_id: int | None = None) -> None:
        """Tell all that was read that a write has made it doubtful: of one task, or altogether."""
        for reading in list(self.readings):
            reading.invalidate(task_id)

    def invalidate_tasks(self, task_ids: set[int] | None) -> None:
        """Tell which tasks a foreseen write touched; None: it could be any."""
        for task_id in (None,) if task_ids is None else task_ids:
            self.invalidate(task_id)

    def put_back(self, mark: int) -> None:
        """Undo, last first, what objects remembered since `mark`: the database has forgotten it too."""
        while len(self.undo) > mark:
            self.undo.pop()()
        self.cached.clear()
        self.writes += 1
        self.invalidate()

    def on_rollback(self, restore: Callable[[], None]) -> None:
        """Have `restore` called if the transaction, or the savepoint that is open now, is rolled back."""
        self.undo.append(restore)

    def close(self) -> bool:
        with signals.held():
            closed: bool = super().close()
            while self.at_close:  # also where a damaged file could not be opened
                self.at_close.pop()()
        return closed

    def rollback(self) -> None:
        try:
            super().rollback()
        except peewee.DatabaseError as error:
            if not self.has_rolled_back(error):  # a full disk, or a lost connection, for one
                raise
        finally:
            self.put_back(0)

    def writer(self) -> str:
        """Return who holds the lock of who writes, as far as that is told."""
        raise NotImplementedError

    def wait_on(self, since: float, reported: bool, who: Callable[[], str] | None = None) -> bool:
        """Look whether a lock is to be waited for any longer, since a time.monotonic(), and return whether it is told.

        For whom (who, or the writer) is told once, after a second; an Error ends what takes too long.
        """
        waited, who = time.monotonic() - since, who or self.writer
        if waited > (LOCK_WAIT if self.patience is None else self.patience):
            raise Error(f"{self.title} is locked by {who()} since {waited:.0f} s: try again later")
        if waited > LOCK_TOLD and not reported:
            notify(f"waiting for {who()}, which is writing to {self.title} (Ctrl-C: give up)", "yellow")
            return True
        return reported


def refuse_whole_table(query: Any) -> None:
    """Raise an Error for a query of Peewee's that would delete, or change, every row of a table by accident.

    A condition that is no expression is none: what was compared is nothing that a query knows, and gave True or False.
    """
    if isinstance(query, peewee.Delete | peewee.Update) and not isinstance(query._where, peewee.Node):
        verb, model = "delete" if isinstance(query, peewee.Delete) else "change", getattr(query, "model", None)
        what = (
            f"row of {printable(query.table)}" if model is None else getattr(model, "noun", f"row of {model.__name__}")
        )
        whole = "" if model is None else f", all by {model.__name__}.id > 0"
        raise Error(f"this would {verb} every {what}: say which by .where(…){whole}")


def quoted(name: str) -> str:
    """Return the name of a table, a column or a role as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
