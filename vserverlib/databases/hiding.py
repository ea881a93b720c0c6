"""Which columns of a result a read-only session on PostgreSQL does not show: those that hold hashes of secrets.

The server says of each column of a result from which column of which table it comes, through joins, subqueries and
aliases. A view is a table of its own there, so its definition is described in turn. Of an expression, a UNION among
them, the server says nothing: it is shown. So this keeps hashes from those who do not look for them, and is no
boundary: docs/security.md has that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from psycopg.pq import ExecStatus

from vserverlib.databases.sessions import Cursor, Session

Places = set[tuple[int, int]]  # columns, by the number of their table and their own (pg_attribute)
ROW = psycopg.rows.tuple_row

# By name, in whatever schema: a query may name any.
COLUMNS = """
SELECT c.oid::bigint, COALESCE(array_agg(a.attnum::int) FILTER (WHERE (c.relname, a.attname) IN ({pairs})), '{{}}')
FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.oid = ANY(%s) GROUP BY c.oid
"""
VIEWS = "SELECT oid::bigint, pg_get_viewdef(oid) FROM pg_class WHERE oid = ANY(%s) AND relkind IN ('v', 'm')"


class Hiding:
    """What is known of the tables that results come from. pairs: the (table, column) pairs that are hidden."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = sorted(pairs)
        self._names = {name for _, name in self._pairs}
        self._hidden: dict[int, set[int]] = {}  # numbers of columns, by that of each table that was looked at

    def look_at(self, cursor: Any) -> None:
        """Ask for the tables that a result comes from, unless they are known: before its rows are read."""
        origins = _origins(cursor.pgresult) if self._pairs and cursor.pgresult is not None else []
        if unknown := {table for table, _ in origins if table} - self._hidden.keys():
            self._learn(cursor.connection, unknown)

    def row_factory(self, cursor: Any) -> Callable[[Any], Any]:
        """Return what makes the rows of a cursor: with None in the place of what is hidden."""
        result = cursor.pgresult
        if not self._pairs or result is None:
            return tuple
        origins, made = _origins(result), list[Callable[[Any], Any]]()

        def make(values: Any) -> Any:
            if not made:  # at the first row: look_at() comes after this factory was asked
                made.append(self._without(origins))
            return made[0](values)

        return make

    def _without(self, origins: list[tuple[int, int]]) -> Callable[[Any], Any]:
        places = {at for at, (table, column) in enumerate(origins) if table and column in self._hidden[table]}
        if not places:
            return tuple
        return lambda values: tuple([None if at in places else value for at, value in enumerate(values)])

    def _learn(self, conn: Session, tables: set[int]) -> None:
        pairs = ", ".join("(%s, %s)" for _ in self._pairs)
        names = [name for pair in self._pairs for name in pair]
        self._hidden |= {table: set() for table in tables}
        for table, columns in _asked(conn, COLUMNS.format(pairs=pairs), [*names, list(tables)]):
            self._hidden[table] = set(columns)
        for view, definition in _asked(conn, VIEWS, [list(tables)]):
            self._hidden[view] |= self._of_view(conn, definition)

    def _of_view(self, conn: Session, definition: str) -> set[int]:
        """Return the columns of a view that come from hidden ones: its own definition is described by the server."""
        described = _described(conn, definition)
        if unknown := {table for table, _ in described if table} - self._hidden.keys():
            self._learn(conn, unknown)
        return {at for at, (table, column) in enumerate(described, 1) if column in self._hidden.get(table, ())}


def _origins(result: Any) -> list[tuple[int, int]]:
    return [(result.ftable(at), result.ftablecol(at)) for at in range(result.nfields)]


def _asked(conn: Session, sql: str, values: list[Any]) -> list[Any]:
    return list(Cursor(conn, row_factory=ROW).execute(sql, values).fetchall())


def _described(conn: Session, sql: str) -> list[tuple[int, int]]:
    """Return from where the columns of a query come, which is not run; nothing where the server does not tell."""
    found = list[tuple[int, int]]()
    with conn.in_transaction(), conn.transaction():
        if conn.pgconn.prepare(b"", sql.encode()).status != ExecStatus.COMMAND_OK:
            raise psycopg.Rollback
        found += _origins(conn.pgconn.describe_prepared(b""))
    return found
