"""A database of ours as a source: its rows exactly as they are stored, and what it has beside them.

It owns which tables and columns that are. What becomes of rows is importer.py's, or exchange.py's where they are
written to a file. The journal, settings of a session and what is worked out stay where they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models  # it is what there are tables for
from vserverlib import files, hashing, printable
from vserverlib.databases import connecting
from vserverlib.drivers import peewee
from vserverlib.files import shown
from vserverlib.secret_columns import is_secret
from vserverlib.transfer.sources import Notes, Origin, Row, SequenceState, Undecodable, WhollyOurs

IN_ORDER = ("organization", "collaboration", "member", "user", "node", "task", "result")  # in which they can be written


def _origin(table: str) -> Origin:
    return Origin(table, table, tuple(field.column_name for field in models.MODELS[table].stored_fields()))


ORIGINS = tuple(map(_origin, IN_ORDER))


@dataclasses.dataclass(frozen=True)
class Database(WhollyOurs):
    """A database of ours that is open, for reading. with_hashes: whether those of secrets are read."""

    database: Any
    with_hashes: bool

    @property
    def about(self) -> str:
        """Return what the journal says was imported."""
        return f"{self.database.title}, a database of vserver"

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The tables, in an order in which their rows can be written."""
        return ORIGINS

    @property
    def beside(self) -> SequenceState:
        """Return the counters, the highest ids that were given, and with hashes the salt of keys."""
        counters = dict(self._asked("SELECT name, value FROM counter"))
        given = {table: self.database.highest_id(table) for table in IN_ORDER}
        last_ids = {table: id for table, id in given.items() if id}
        salts = self._asked("SELECT value FROM setting WHERE name = 'key_salt'") if self.with_hashes else []
        return SequenceState(counters, last_ids, salts[0][0] if salts else None)

    def _asked(self, sql: str) -> list[Any]:
        found: list[Any] = self.database.execute_sql(sql).fetchall()
        return found

    def summary(self) -> str:
        """Return what it is, in a line."""
        return f"{printable(self.database.path or self.database.title, 200)} is a database of vserver"

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self._asked(f'SELECT COUNT(*) FROM "{table}"')[0][0])

    def rows(self, origin: Origin, notes: Notes) -> Iterator[Row]:
        """Return the rows of a table as they are stored, as they come, by their ids."""
        table = peewee.Table(origin.table, origin.columns)
        query = table.select(
            *(self._shown(origin.table, getattr(table, name), name) for name in origin.columns)
        ).order_by(table.id)
        with self.database.hashes_visible():
            yield from self.database.rows(query)

    def _shown(self, table: str, column: Any, name: str) -> Any:
        """Return the expression of a column: without hashes, a secret is NULL unless it is in Keycloak."""
        if self.with_hashes or not is_secret(table, name):
            return column
        return peewee.Case(None, [(column == hashing.KEYCLOAK, column)])

    def refuse_changed(self) -> None:
        """Do nothing: it is read in one transaction, and so as it was at one moment."""


@contextlib.contextmanager
def reading(database: Any, *, with_hashes: bool) -> Iterator[Database]:
    """Have a database that is open be a source, as it is at this moment. with_hashes: also where it hides them."""
    with contextlib.ExitStack() as stack:
        if database.is_sqlite:
            stack.enter_context(_any_text(database.connection()))
        stack.enter_context(database.reading())
        yield Database(database, with_hashes)


@contextlib.contextmanager
def _any_text(conn: Any) -> Iterator[None]:
    before, conn.text_factory = conn.text_factory, _text
    try:
        yield
    finally:
        conn.text_factory = before


def _text(data: bytes) -> str | Undecodable:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Undecodable(data)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Database]:
    """Open a database of ours to be imported, of an older schema as a private copy; an Error where it cannot be."""
    with files.as_error(f"{shown(path)} cannot be read"):
        database = connecting.for_reading(path)
    with contextlib.closing(database), reading(database, with_hashes=True) as source:
        yield source
