"""Which columns hold hashes of secrets: a definition, below everything that hides or masks them.

It depends on no import and can never be empty. A Secret field that does not stand here is refused when its model is
defined, and a test holds the list against the models and the migrations.
"""

from __future__ import annotations

JOURNAL = ("record", "secrets")  # the table and column with the hashes that were replaced
SECRET_COLUMNS = frozenset({("user", "password"), ("node", "api_key"), JOURNAL})

# A view, a copy or a renamed table of another program has the same columns in a table of another name.
_NAMES = frozenset(column for _, column in SECRET_COLUMNS)

# Tables of SQLite's own that give the bytes of other tables: pages, records, samples of an index (after ANALYZE).
_RAW = frozenset({("sqlite_dbpage", "data"), ("sqlite_dbdata", "value"), ("sqlite_stat4", "sample")})


def is_secret(table: str | None, column: str | None) -> bool:
    """Whether a column that SQLite reads may hold hashes, whatever its table is called: SQL ignores the case."""
    name = (column or "").lower()
    return name in _NAMES or ((table or "").lower(), name) in _RAW
