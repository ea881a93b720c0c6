"""A database of ours as a source: its rows exactly as they are stored, and its used numbers.

It leaves out the journal, settings and computed columns. importer.py imports it; exchange.py exports it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
from vserverlib import files, hashing
from vserverlib.databases import connecting, texts
from vserverlib.drivers import peewee
from vserverlib.files import shown
from vserverlib.secret_columns import is_secret
from vserverlib.transfer.sources import ImportNotes, Origin, OwnSource, Row, SequenceState, Undecodable

IN_ORDER = ("organization", "collaboration", "member", "user", "node", "task", "result")  # of an export's rows


def _origin(table: str) -> Origin:
    return Origin(table, table, tuple(field.column_name for field in models.MODELS[table].stored_fields()))


ORIGINS = tuple(map(_origin, IN_ORDER))


@dataclasses.dataclass(frozen=True)
class VserverSource(OwnSource):
    """An open database of ours. with_hashes: include the hashes of passwords and API keys."""

    database: Any
    with_hashes: bool

    @property
    def about(self) -> str:
        """The name of the source in the journal."""
        return f"{self.database.title}, a database of vserver"

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The tables, in an order in which their rows can be written."""
        return ORIGINS

    @property
    def sequence_state(self) -> SequenceState:
        """The counters, the highest ids ever used, and, with hashes, the salt of API keys."""
        counters = dict(self._asked("SELECT name, value FROM counter"))
        given = {table: self.database.highest_id(table) for table in IN_ORDER}
        last_ids = {table: id for table, id in given.items() if id}
        salts = self._asked("SELECT value FROM setting WHERE name = 'key_salt'") if self.with_hashes else []
        return SequenceState(counters, last_ids, salts[0][0] if salts else None)

    def _asked(self, sql: str) -> list[Any]:
        found: list[Any] = self.database.execute_sql(sql).fetchall()
        return found

    def summary(self) -> str:
        """Return one line: the kind of source."""
        return f"{shown(self.database.path or self.database.title)} is a database of vserver"

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self._asked(f'SELECT COUNT(*) FROM "{table}"')[0][0])

    def rows(self, origin: Origin, notes: ImportNotes) -> Iterator[Row]:
        """Yield the rows of a table as they are stored, in the order of their ids."""
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
        """Do nothing: one transaction reads everything."""


@contextlib.contextmanager
def reading(database: Any, *, with_hashes: bool) -> Iterator[VserverSource]:
    """Read an open database in one transaction, as a source. with_hashes: even if the database hides them."""
    with contextlib.ExitStack() as stack:
        if database.is_sqlite:
            stack.enter_context(_any_text(database.connection()))
        stack.enter_context(database.reading())
        yield VserverSource(database, with_hashes)


@contextlib.contextmanager
def _any_text(conn: Any) -> Iterator[None]:
    before, conn.text_factory = conn.text_factory, _text
    try:
        yield
    finally:
        conn.text_factory = before


def _text(data: bytes) -> str | Undecodable:
    text = texts.text_or_bytes(data)
    return Undecodable(text) if isinstance(text, bytes) else text


@contextlib.contextmanager
def opened(path: Path) -> Iterator[VserverSource]:
    """Open a database file of ours as a source. One with an older schema is upgraded in a private copy."""
    with files.as_error(f"{shown(path)} cannot be read"):
        database = connecting.for_reading(path)
    with contextlib.closing(database), reading(database, with_hashes=True) as source:
        yield source
