"""A server's own database, open to be changed: one small interface, whichever program keeps it.

SQL is SQLite's and PostgreSQL's in common, with a ? for each parameter. Values of rows are read in two ways: as the
importer reads them (`as_read`), and exactly, to be written again (`as_stored`). Nothing but TEMP tables is ever made.

It owns what both have in common. Files are sqlite_server.py's, databases on a server postgres_server.py's.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vserverlib.databases.connection import quoted
from vserverlib.plans.references import Link

LOCK_WAIT = 10.0  # seconds that a lock of others is waited for
CHUNK = 1000  # rows that are read at once


class Shape(NamedTuple):
    """The tables of a database: {table: {column: its type}}, {table: columns that are unique}, and its foreign keys.

    required: {table: columns that take no NULL}.
    """

    columns: dict[str, dict[str, str]]
    unique: dict[str, set[str]]
    required: dict[str, set[str]]
    links: set[Link]


class Server(abc.ABC):
    """The database of a server, open.

    title: its name in messages. identity: file or host, port and name, without a password. release: of vantage6. place:
    the column with the place of a row, for tables without an id; same: the operator that compares NULL, too.
    is_writing: whether the transaction is open.
    """

    is_sqlite: bool
    place: str
    same: str
    title: str
    identity: str
    release: int
    shape: Shape
    is_writing = False

    # Implemented by each kind of database

    @abc.abstractmethod
    def run(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """Run a statement, and return its cursor."""

    @abc.abstractmethod
    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each of many rows."""

    def fill(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write many rows into a table, or a TEMP table, in one go."""
        marks = ", ".join("?" for _ in columns)
        self.many(f"INSERT INTO {quoted(table)} ({listed(columns)}) VALUES ({marks})", rows)

    @abc.abstractmethod
    def note_size(self, name: str) -> None:
        """Have the database know how large a TEMP table has become, if it plans queries by that."""

    @abc.abstractmethod
    def fingerprint(self, table: str, temp: str) -> Any:
        """Return a value that differs as soon as a row in a TEMP table is changed."""

    def indexed(self, links: Iterable[Link]) -> contextlib.AbstractContextManager[Any]:
        """Return a block in which rows are found quickly by these links; within the transaction."""
        return contextlib.nullcontext()

    def slow(self, links: Mapping[Link, int]) -> float:
        """Return for how many seconds others are locked out by deleting so many rows that links may lead to."""
        return 0.0

    def stream(self, sql: str, width: int) -> Iterator[Sequence[Any]]:
        """Give the rows of a query with so many columns as they come: memory does not grow with them."""
        yield from self.run(sql)

    @abc.abstractmethod
    def as_read(self, table: str, alias: str) -> list[str]:
        """Return the SQL of the columns of a table, as the importer reads them."""

    @abc.abstractmethod
    def as_stored(self, table: str, alias: str) -> list[str]:
        """Return the SQL of the columns of a table, so that the same values can be written again."""

    @abc.abstractmethod
    def param(self, value: Any) -> Any:
        """Return a value of ours (None, a number, a text, bytes, a bool, a time in UTC as text) as it is sent."""

    @abc.abstractmethod
    def next_ids(self, table: str, count: int) -> list[int]:
        """Return ids for new rows. SQLite: to be asked before anything is deleted, so that none is given again."""

    @abc.abstractmethod
    def version(self) -> Any:
        """Return a value that differs as soon as another connection has written."""

    def time_zone(self) -> str:
        """Return the time zone in which the database takes times; "" if it knows none."""
        return ""

    @abc.abstractmethod
    def reading(self) -> contextlib.AbstractContextManager[Any]:
        """Return a block for reading, which holds no server up for long."""

    @abc.abstractmethod
    def writing(self, tables: Iterable[str]) -> contextlib.AbstractContextManager[Any]:
        """Return the one transaction, which locks out others that write to these tables; rolled back on any error."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection."""

    def mark(self, value: Any) -> str:
        """Return the mark of a parameter that param() has made."""
        return "?"

    # Queries

    def all(self, sql: str, params: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        return list(self.run(sql, params).fetchall())

    def one(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """Return the first row of a query, or None."""
        return next(iter(self.all(sql, params)), None)

    def has(self, table: str, column: str = "") -> bool:
        """Whether a table, or a column of one, is there."""
        return table in self.shape.columns and (not column or column in self.shape.columns[table])

    def key(self, table: str) -> str:
        """Return the column by which rows of a table go: its id, or else where they are."""
        return "id" if self.has(table, "id") else self.place

    def links_to(self, table: str) -> Iterator[Link]:
        """Return all links to a table: foreign keys of the database."""
        return (link for link in sorted(self.shape.links) if link.to == table)

    # Tables of this session's own

    def keep(self, name: str, columns: str) -> None:
        """Make a TEMP table anew."""
        self.run(f"DROP TABLE IF EXISTS {self.temp(name)}")
        self.run(f"CREATE TEMP TABLE {quoted(name)} ({columns}){self.passing}")

    passing = ""  # the end of the statement that makes a TEMP table

    @abc.abstractmethod
    def temp(self, name: str) -> str:
        """Return the SQL name of a TEMP table."""


def listed(names: Iterable[str]) -> str:
    """Return the SQL of names, with commas."""
    return ", ".join(map(quoted, names))
