"""What a role on a PostgreSQL server lacks, and the line by which the owner of the tables grants it.

It owns those lines. docs/scale.md has them for whole roles: one that reads, one that writes, one that sees no hashes.
"""

from __future__ import annotations

from vserverlib import Error, printable
from vserverlib.databases.connection import quoted

READING = {
    "schema": "USAGE ON SCHEMA",
    "table": "SELECT ON ALL TABLES IN SCHEMA",
    "sequence": "SELECT ON ALL SEQUENCES IN SCHEMA",
}
WRITING = {
    **READING,
    "table": "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA",
    "sequence": "SELECT, USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA",
}
SCHEMA = "public"  # where tables are, unless somebody has put them elsewhere


def lacking(title: str, said: str, role: str, *, to_read: bool) -> Error:
    """Return the error that a role may not do something. said: what PostgreSQL says of it."""
    rights = READING if to_read else WRITING
    kind = next((kind for kind in rights if f"for {kind} " in said), None)
    granted = f"have its owner run: GRANT {rights[kind]} {SCHEMA} TO {quoted(printable(role))}" if kind else ""
    line = granted or "have the right granted"
    return Error(f"{title}: the role may not do this ({said}): {line}")
