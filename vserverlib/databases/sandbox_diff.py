"""The difference between a sandbox and the database that it was copied from, row by row."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib.databases.registry import registry
from vserverlib.databases.sqlite import Sqlite


class Change(NamedTuple):
    """The numbers of rows of a table that differ between a sandbox and its original."""

    table: str
    inserted: int
    changed: int
    deleted: int


def report(database: Sqlite) -> list[Change]:
    """Return the changes of a sandbox, by table: rows inserted, changed and deleted. Writes nothing."""
    pristine = Path(database.database)
    conn = database.connection()
    conn.execute("ATTACH ? AS pristine", [f"{pristine.as_uri()}?immutable=1"])  # without the log: the original state
    try:
        found = [Change(table, *_differences(conn, model._meta)) for table, model in registry.items()]
    finally:
        conn.execute("DETACH pristine")
    return [change for change in found if change.inserted or change.changed or change.deleted]


def _differences(conn: sqlite3.Connection, meta: Any) -> tuple[int, int, int]:
    table = f'"{meta.table_name}"'
    new, old = (", ".join(f'{side}."{f.column_name}"' for f in meta.sorted_fields) for side in ("new", "old"))
    both = f"FROM main.{table} AS new JOIN pristine.{table} AS old ON old.id = new.id"
    only = "SELECT COUNT(*) FROM {0}.{2} WHERE id NOT IN (SELECT id FROM {1}.{2})"
    (inserted,) = conn.execute(only.format("main", "pristine", table)).fetchone()
    (deleted,) = conn.execute(only.format("pristine", "main", table)).fetchone()
    (changed,) = conn.execute(f"SELECT COUNT(*) {both} WHERE ({new}) IS NOT ({old})").fetchone()
    return inserted, changed, deleted
