"""The columns that hold hashes of secrets: one definition for everything that hides or masks them.

It is a constant, so it can never be empty. A Secret field that is missing here is refused when its model is defined,
and a test compares the list with the models and the migrations.
"""

from __future__ import annotations

JOURNAL = ("record", "secrets")  # the journal's table and column with replaced hashes
SECRET_COLUMNS = frozenset({("user", "password"), ("node", "api_key"), JOURNAL})

# Views, copies and renamed tables have the same columns under another table name.
_NAMES = frozenset(column for _, column in SECRET_COLUMNS)

# SQLite's own tables that expose bytes of other tables: pages, records, index samples (after ANALYZE).
_RAW = frozenset({("sqlite_dbpage", "data"), ("sqlite_dbdata", "value"), ("sqlite_stat4", "sample")})


def is_secret(table: str | None, column: str | None) -> bool:
    """Whether a column may hold hashes, in whatever table. SQL ignores the case of names."""
    name = (column or "").lower()
    return name in _NAMES or ((table or "").lower(), name) in _RAW
