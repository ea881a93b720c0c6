"""Read rows of a server's database with the importer's code, so that they compare with rows of the working copy.

The rows are copied into an SQLite database in memory that has the server's tables, and imported from there. This works
the same for every release, and for SQLite and PostgreSQL.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vserverlib import hashing
from vserverlib.databases.connection import quoted
from vserverlib.databases.registry import registry
from vserverlib.entities.fields import Secret
from vserverlib.plans import mapping
from vserverlib.plans.plan import Conflict
from vserverlib.plans.server import CHUNK, Server, listed
from vserverlib.transfer import values, vantage6
from vserverlib.transfer.sources import ImportNotes, Origin

Values = Mapping[str, Any]
EXTRA_TABLES = {  # tables that are read with an entity, and the column by which they refer to it
    "user": (("authenticatable", "id"), ("Permission", "user_id")),
    "node": (("authenticatable", "id"),),
    "task": (("taskdatabase", "task_id"),),
}
INDIRECT_TABLES = (  # tables that those refer to: entity, (table, column), target
    ("user", ("Permission", "role_id"), "role"),
    ("task", ("taskdatabase", "dataframe_id"), "dataframe"),
)


class RowReader:
    """Reads rows by their ids on the server. Links have the ids of the server, too."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._conn = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._conn.close)  # also if this plan is refused, or computed again
        for table, columns in server.schema.columns.items():
            self._conn.execute(f"CREATE TABLE {quoted(table)} ({listed(columns)})")
        source = vantage6.source_of(self._conn, server.title, server.title)
        if source.release != server.release and not source.is_opened:
            found = f"is a database of release {source.release} now, and was one of release {server.release}"
            raise Conflict([f"{server.title} {found}"])
        self._source = dataclasses.replace(source, release=server.release, is_opened=False)

    def rows(self, entity: str, ids: Iterable[int]) -> dict[int, Values]:
        """Return the rows with these ids that exist, as an import would write them, by id."""
        found: dict[int, Values] = {}
        rest = sorted(set(ids))
        for at in range(0, len(rest), CHUNK):
            found |= self._read(entity, rest[at : at + CHUNK])
        return found

    def _read(self, entity: str, ids: Sequence[int]) -> dict[int, Values]:
        table = mapping.table_of(self._server, entity)
        self._copy(table, "id", ids)
        for extra, column in EXTRA_TABLES.get(entity, ()):
            if self._server.has(extra):
                self._copy(extra, column, ids)
        for of, by, indirect in INDIRECT_TABLES:
            if of == entity and self._server.has(indirect) and self._server.has(*by):
                self._copy_named(indirect, *by)
        return self._as_imported(next(origin for origin in self._source.origins if origin.table == table))

    def _copy(self, table: str, column: str, ids: Sequence[int]) -> None:
        """Copy the rows of a server's table whose column has one of these ids into memory."""
        self._conn.execute(f"DELETE FROM {quoted(table)}")
        if not ids:
            return
        columns = ", ".join(self._server.as_read(table, "t"))
        among = ", ".join(map(str, map(int, ids)))
        rows = self._server.run(f"SELECT {columns} FROM {quoted(table)} AS t WHERE t.{quoted(column)} IN ({among})")
        marks = ", ".join("?" for _ in self._server.schema.columns[table])
        self._conn.executemany(f"INSERT INTO {quoted(table)} VALUES ({marks})", map(_storable, rows))

    def _copy_named(self, table: str, by: str, column: str) -> None:
        """Copy the rows that a column of another table refers to."""
        sql = f"SELECT DISTINCT {quoted(column)} FROM {quoted(by)} WHERE {quoted(column)} IS NOT NULL"
        self._copy(table, "id", [id for (id,) in self._conn.execute(sql).fetchall()])

    def _as_imported(self, origin: Origin) -> dict[int, Values]:
        notes = ImportNotes()
        converter = values.ValueConverter(origin, notes, hashes=False, any_type=True)
        rows = values.with_defaults(
            self._source.rows(origin, notes), origin, self._source.defaults.get(origin.entity, {})
        )
        found: dict[int, Any] = {}
        for row in converter.converted(rows):
            read = dict(zip(origin.columns, row, strict=True))
            found[read.pop("id")] = read
        for column in _secrets(origin):
            place = mapping.places(self._server, origin.entity, column)
            asked = f"SELECT id, {quoted(column)} FROM {quoted(origin.table)}" if place else "SELECT 1, 2 WHERE 0"
            for id, stored in self._conn.execute(asked):
                found[id][column] = stored or None
        return found


def _secrets(origin: Origin) -> Iterator[str]:
    columns = registry[origin.entity]._meta.columns
    return (name for name in origin.columns if isinstance(columns[name], Secret))


def _storable(row: Sequence[Any]) -> Sequence[Any]:
    """Return a row with text that is not UTF-8 as bytes, as the importer expects it."""
    with contextlib.suppress(UnicodeEncodeError):
        for value in row:
            if isinstance(value, str):
                value.encode()
        return row
    return [value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in row]


def is_same_secret(base: str | None, stored: str | None) -> bool:
    """Whether a stored secret is the copied one. A secret stored as plain text is hashed anew in each copy."""
    if base is None or stored is None:
        return base is stored
    return base == stored or not hashing.is_hash(stored)
