"""The database of a vantage6 server, opened for writing: one interface for SQLite and PostgreSQL.

The SQL is common to both, with a ? for each parameter. Rows are read in two ways: as the importer reads them
(`as_read`), and exactly, so that they can be restored (`as_stored`). Only TEMP tables are ever created.

sqlite_server.py and postgres_server.py implement the interface.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vserverlib.databases.connection import quoted
from vserverlib.plans.references import Link

LOCK_WAIT = 10.0  # seconds to wait for a lock
CHUNK = 1000  # rows to read at once


class Schema(NamedTuple):
    """The schema of a database.

    columns: {table: {column: type}}. unique: {table: unique columns}. required: {table: NOT NULL columns}. links: its
    foreign keys.
    """

    columns: dict[str, dict[str, str]]
    unique: dict[str, set[str]]
    required: dict[str, set[str]]
    links: set[Link]


class Server(abc.ABC):
    """The database of a server, open.

    title: its name in messages. identity: its file, or host, port and name, without password. release: of vantage6.
    row_locator: the column that locates a row in tables without an id. null_safe_equals: the operator that also
    compares NULL. is_writing: whether the block of writing() is open. keeps_temp_tables: whether TEMP tables outlast a
    transaction.
    """

    is_sqlite: bool
    keeps_temp_tables: bool
    row_locator: str
    null_safe_equals: str
    title: str
    identity: str
    release: int
    schema: Schema
    is_writing = False

    # Implemented by each kind of database

    @abc.abstractmethod
    def run(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """Run a statement and return its cursor."""

    @abc.abstractmethod
    def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each of some rows."""

    def bulk_insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert many rows into a table or a TEMP table."""
        marks = ", ".join("?" for _ in columns)
        self.run_many(f"INSERT INTO {quoted(table)} ({listed(columns)}) VALUES ({marks})", rows)

    @abc.abstractmethod
    def analyze(self, name: str) -> None:
        """Update the statistics of a TEMP table, if the database plans queries by them."""

    @abc.abstractmethod
    def fingerprint(self, table: str, temp: str) -> Any:
        """Return a value that changes when a row of a table is changed whose key is in a TEMP table."""

    def with_indexes(self, links: Iterable[Link]) -> contextlib.AbstractContextManager[Any]:
        """Return a block in which these links have indexes. Call it in the block of writing()."""
        return contextlib.nullcontext()

    def unindexed_seconds(self, links: Mapping[Link, int]) -> float:
        """Estimate for how many seconds a deletion holds the lock because links have no index. links: rows of each."""
        return 0.0

    def stream(self, sql: str, width: int) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query one by one, in constant memory. width: the number of columns."""
        yield from self.run(sql)

    @abc.abstractmethod
    def as_read(self, table: str, alias: str) -> list[str]:
        """Return the SQL of the columns of a table, as the importer reads them."""

    @abc.abstractmethod
    def as_stored(self, table: str, alias: str) -> list[str]:
        """Return the SQL of the columns of a table, in a form that can be written back exactly."""

    @abc.abstractmethod
    def param(self, value: Any) -> Any:
        """Convert a value (None, number, text, bytes, bool; times are UTC text) to a parameter."""

    @abc.abstractmethod
    def next_ids(self, table: str, count: int) -> list[int]:
        """Return ids for new rows. On SQLite, call this before rows are deleted, so that no id is reused."""

    @abc.abstractmethod
    def version(self) -> Any:
        """Return a value that changes when another connection writes."""

    def time_zone(self) -> str:
        """Return the time zone of the database; "" if it has none."""
        return ""

    @abc.abstractmethod
    def reading(self) -> contextlib.AbstractContextManager[Any]:
        """Return a block for reading that does not block writers."""

    @abc.abstractmethod
    def writing(
        self, tables: Iterable[str], prepare: Callable[[], None] = lambda: None
    ) -> contextlib.AbstractContextManager[Any]:
        """Return the writing transaction. It locks these tables against other writers, and rolls back on any error.

        prepare: called before it takes the lock, where TEMP tables last until its end.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def placeholder(self, value: Any) -> str:
        """Return the SQL placeholder of a parameter from param()."""
        return "?"

    # Queries

    def all(self, sql: str, params: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        return list(self.run(sql, params).fetchall())

    def one(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """Return the first row of a query, or None."""
        return next(iter(self.all(sql, params)), None)

    def has(self, table: str, column: str = "") -> bool:
        """Whether a table, or a column of it, exists."""
        return table in self.schema.columns and (not column or column in self.schema.columns[table])

    def key(self, table: str) -> str:
        """Return the key of a table: id, or `row_locator` if it has no id."""
        return "id" if self.has(table, "id") else self.row_locator

    def links_to(self, table: str) -> Iterator[Link]:
        """Return the foreign keys that refer to a table."""
        return (link for link in sorted(self.schema.links) if link.to == table)

    # TEMP tables

    def create_temp(self, name: str, columns: str) -> None:
        """Create an empty TEMP table; an old one is dropped."""
        self.run(f"DROP TABLE IF EXISTS {self.temp(name)}")
        self.run(f"CREATE TEMP TABLE {quoted(name)} ({columns}){self.temp_table_suffix}")

    temp_table_suffix = ""  # the end of the statement that creates a TEMP table

    @abc.abstractmethod
    def temp(self, name: str) -> str:
        """Return the SQL name of a TEMP table."""


def listed(names: Iterable[str]) -> str:
    """Return quoted names, separated by commas."""
    return ", ".join(map(quoted, names))
