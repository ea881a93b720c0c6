"""Deleting what the journal has of some rows: no undo restores them afterwards.

journal.py deletes whole changes by their age. Here, changes that have no record left are deleted too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vserverlib.entities.deleting import among
from vserverlib.entities.journal import CHANGE, RECORD, UNDOING


def overwrite_deleted(database: Any) -> None:
    """Have SQLite overwrite deleted rows in the file with zeros. PostgreSQL reuses their space after a vacuum."""
    if database.is_sqlite:
        database.execute_sql("PRAGMA secure_delete = ON")


def forget_rows(database: Any, table: str, ids: Collection[int]) -> None:
    """Delete all records of these rows, in the open transaction."""
    _delete(database, _of(table, ids))


def forget_fields(database: Any, table: str, ids: Collection[int], names: Collection[str]) -> None:
    """Delete the values of these fields from all records of these rows, in the open transaction."""
    which = ", ".join(map(str, sorted(ids)))
    if database.is_sqlite:
        without = f"json_remove(changes, {', '.join(repr(f'$.{name}') for name in names)})"
    else:
        without = "(changes::jsonb - ARRAY[{}])::text".format(", ".join(map(repr, names)))
    database.execute_sql(f"UPDATE record SET changes = {without} WHERE entity = '{table}' AND entity_id IN ({which})")
    _delete(database, _of(table, ids) & (RECORD.op == "update") & (RECORD.changes == "{}"))


def _of(table: str, ids: Collection[int]) -> Any:
    return (RECORD.entity == table) & among("entity_id", set(ids))


def _delete(database: Any, condition: Any) -> None:
    """Delete records, and the ordinary changes that have no record left."""
    changes = {id for (id,) in database.execute(RECORD.select(RECORD.change_id).where(condition).distinct())}
    database.execute(RECORD.delete().where(condition))
    left = {
        id for (id,) in database.execute(RECORD.select(RECORD.change_id).where(among("change_id", changes)).distinct())
    }
    kinds = CHANGE.select(CHANGE.id).where(among("id", changes - left), CHANGE.kind.is_null())
    gone = {id for (id,) in database.execute(kinds)}
    if gone:
        database.execute(UNDOING.delete().where(among("undone_id", gone)))
        database.execute(CHANGE.delete().where(among("id", gone)))


def _changes(database: Any, condition: Any) -> set[int]:
    """Return the changes of the records that match a condition."""
    return {id for (id,) in database.execute(RECORD.select(RECORD.change_id).where(condition).distinct())}
