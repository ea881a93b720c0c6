"""What a read-only session on PostgreSQL hides: the values of rows that are, or hold, hashes of secrets.

The server says of each column of a result which column of which table it is, through joins, subqueries and aliases. One
that has the name of a secret column reads as NULL, in whatever table, view or copy. Of a view, an expression and the
server's own statistics it does not say where a value is from: there a value is looked at, and reads as NULL if it holds
a hash. A value that an expression has changed (substr(), md5()) is not recognized: the boundary is the role's rights,
see docs/security.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from vserverlib.databases.postgresql.sessions import Cursor, Session
from vserverlib.hashing import holds_hash
from vserverlib.secret_columns import is_secret

# Of each column of some tables: its name, and whether its values are those of a table.
COLUMNS = """
SELECT a.attrelid::bigint, a.attnum::int, a.attname::text,
    c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attrelid = ANY(%s)
"""
HOLD_NO_TEXT = frozenset({16, 20, 21, 23, 26, 700, 701, 1082, 1114, 1184, 1700})  # numbers of types (pg_type.dat)
SHOWN, LOOKED_AT, HIDDEN = range(3)

Place = tuple[int, int]  # the number of a table and of its column (pg_attribute); a zero among them: of neither
Make = Callable[[Any], tuple[Any, ...]]


class Hiding:
    """Makes the rows of one connection. What it knows of a column it has asked for by the column's own number.

    So tables that were created anew while the session is open are hidden as those were that they replace.
    """

    def __init__(self) -> None:
        self._known: dict[Place, int] = {}

    def look_at(self, cursor: Any) -> None:
        """Ask for the columns that a result comes from, unless they are known: before its rows are read."""
        places = _origins(cursor.pgresult) if cursor.pgresult is not None else []
        unknown = {place for place in places if all(place)} - self._known.keys()
        if unknown:
            self._known |= dict.fromkeys(unknown, LOOKED_AT)  # those of dropped tables stay that
            self._learn(cursor.connection, {table for table, _ in unknown})

    def _learn(self, conn: Session, tables: set[int]) -> None:
        rows = Cursor(conn, row_factory=psycopg.rows.tuple_row).execute(COLUMNS, [list(tables)]).fetchall()
        for table, column, name, is_of_table in rows:
            kind = HIDDEN if is_secret(None, name) else SHOWN if is_of_table else LOOKED_AT
            self._known[table, column] = kind

    def row_factory(self, cursor: Any) -> Make:
        """Return what makes the rows of a cursor. look_at() comes after psycopg has asked for this."""
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
            SHOWN if result.ftype(at) in HOLD_NO_TEXT else self._known.get(place, LOOKED_AT)
            for at, place in enumerate(_origins(result))
        ]
        if not any(kinds):
            return tuple
        return lambda values: tuple([_seen(value, kind) for value, kind in zip(values, kinds, strict=True)])


def _origins(result: Any) -> list[Place]:
    return [(result.ftable(at), result.ftablecol(at)) for at in range(result.nfields)]


def _seen(value: Any, kind: int) -> Any:
    return value if kind == SHOWN else None if kind == HIDDEN or holds_hash(value) else value
