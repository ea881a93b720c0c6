"""Hiding the hashes of secrets in a read-only session on PostgreSQL.

The server reports the table and column of each column in a result, through joins, subqueries and aliases. A column with
the name of a secret column reads as NULL, in any table, view or copy. For views, expressions and the server's
statistics it does not report the origin of a value, so there each value is checked, and reads as NULL if it holds a
hash. A value that an expression has changed (substr(), md5()) is not recognized: for that, restrict the privileges of
the role, see docs/security.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from vserverlib.databases.postgresql.sessions import Cursor, Session
from vserverlib.hashing import holds_hash
from vserverlib.secret_columns import is_secret

# For each column of some tables: its name, and whether it belongs to a user's table, not to a view or the catalog.
COLUMNS = """
SELECT a.attrelid::bigint, a.attnum::int, a.attname::text,
    c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attrelid = ANY(%s)
"""
HOLD_NO_TEXT = frozenset({16, 20, 21, 23, 26, 700, 701, 1082, 1114, 1184, 1700})  # type oids (pg_type.dat)
VISIBLE, CHECKED, HIDDEN = range(3)  # a column's values: shown, shown unless one holds a hash, never shown

Place = tuple[int, int]  # a table's oid and a column's number (pg_attribute); 0: the origin is unknown
Make = Callable[[Any], tuple[Any, ...]]


class SecretHider:
    """Builds the rows of one connection. It identifies columns by their catalog numbers.

    So a table that is created again during the session is hidden like the one that it replaces.
    """

    def __init__(self) -> None:
        self._known: dict[Place, int] = {}

    def learn_columns(self, cursor: Any) -> None:
        """Look up the columns of a result that are still unknown, before its rows are read."""
        places = _origins(cursor.pgresult) if cursor.pgresult is not None else []
        unknown = {place for place in places if all(place)} - self._known.keys()
        if unknown:
            self._known |= dict.fromkeys(unknown, CHECKED)  # columns of dropped tables stay so
            self._learn(cursor.connection, {table for table, _ in unknown})

    def _learn(self, conn: Session, tables: set[int]) -> None:
        rows = Cursor(conn, row_factory=psycopg.rows.tuple_row).execute(COLUMNS, [list(tables)]).fetchall()
        for table, column, name, is_of_table in rows:
            kind = HIDDEN if is_secret(None, name) else VISIBLE if is_of_table else CHECKED
            self._known[table, column] = kind

    def row_factory(self, cursor: Any) -> Make:
        """Return the row factory for a cursor. psycopg calls this before learn_columns()."""
        result, made = cursor.pgresult, list[Make]()
        if result is None:
            return tuple

        def make(values: Any) -> tuple[Any, ...]:
            if not made:
                made.append(self._maker(result))
            return made[0](values)

        return make

    def _maker(self, result: Any) -> Make:
        kinds = [
            VISIBLE if result.ftype(at) in HOLD_NO_TEXT else self._known.get(place, CHECKED)
            for at, place in enumerate(_origins(result))
        ]
        if not any(kinds):
            return tuple
        return lambda values: tuple([_seen(value, kind) for value, kind in zip(values, kinds, strict=True)])


def _origins(result: Any) -> list[Place]:
    return [(result.ftable(at), result.ftablecol(at)) for at in range(result.nfields)]


def _seen(value: Any, kind: int) -> Any:
    return value if kind == VISIBLE else None if kind == HIDDEN or holds_hash(value) else value
