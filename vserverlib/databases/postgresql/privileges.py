"""The privileges that a role on a PostgreSQL server lacks, and the GRANT that the tables' owner can run.

docs/scale.md has the grants for whole roles: one that reads, one that writes, one that sees no hashes.
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
SCHEMA = "public"  # the usual schema of the tables


def lacking(title: str, said: str, role: str, *, to_read: bool) -> Error:
    """Return the error that a role lacks a privilege. said: PostgreSQL's message."""
    privileges = READING if to_read else WRITING
    kind = next((kind for kind in privileges if f"for {kind} " in said), None)
    granted = f"have its owner run: GRANT {privileges[kind]} {SCHEMA} TO {quoted(printable(role))}" if kind else ""
    line = granted or "have the privilege granted"
    return Error(f"{title}: the role lacks a privilege ({said}): {line}")
