"""What a read-only session on PostgreSQL hides: the values of rows that are, or hold, hashes of secrets.

The server says of each column of a result which column of which table it is. One that has the name of a secret column
reads as NULL, in whatever table, view or copy. Of a view, an expression and the server's own statistics it does not say
where a value is from: there a value is looked at, and reads as NULL if it holds a hash. A value that an expression has
changed (hex(), substr()) is not recognized: the boundary is the role's rights, see docs/security.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vserverlib.databases.secret_columns import is_secret
from vserverlib.entities.hashing import holds_hash

# Of a column: its name, and whether its values are those of a table.
COLUMN = b"""
SELECT a.attname, c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attrelid = $1 AND a.attnum = $2
"""
HOLD_NO_TEXT = frozenset({16, 20, 21, 23, 26, 700, 701, 1082, 1114, 1184, 1700})  # numbers of types (pg_type.dat)
SHOWN, LOOKED_AT, HIDDEN = range(3)

Make = Callable[[Any], tuple[Any, ...]]


class Hiding:
    """Makes the rows of one connection. What it knows of a column it has asked for by the column's own number.

    So tables that were created anew while the session is open are hidden as those were that they replace.
    """

    def __init__(self, pgconn: Any) -> None:
        self._pgconn = pgconn
        self._known: dict[tuple[int, int], int] = {}

    def rows_of(self, result: Any) -> Make:
        """Return what makes the rows of a result."""
        kinds = [self._kind(result, at) for at in range(result.nfields)]
        if not any(kinds):
            return tuple

        def make(values: Any) -> tuple[Any, ...]:
            return tuple([_seen(value, kind) if kind else value for value, kind in zip(values, kinds, strict=True)])

        return make

    def _kind(self, result: Any, at: int) -> int:
        if result.ftype(at) in HOLD_NO_TEXT:
            return SHOWN
        place = result.ftable(at), result.ftablecol(at)
        if not all(place):
            return LOOKED_AT
        if place not in self._known:
            self._known[place] = self._asked(*place)
        return self._known[place]

    def _asked(self, table: int, column: int) -> int:
        """Ask the server for a column, by libpq itself: psycopg's connection is about to give the rows of a result."""
        found = self._pgconn.exec_params(COLUMN, [str(table).encode(), str(column).encode()])
        name, is_of_table = found.get_value(0, 0), found.get_value(0, 1)  # None where there is no such row
        if name is None:
            return LOOKED_AT
        if is_secret(None, name.decode()):
            return HIDDEN
        return SHOWN if is_of_table == b"t" else LOOKED_AT


def _seen(value: Any, kind: int) -> Any:
    return None if kind == HIDDEN or holds_hash(value) else value
