"""Writes the rows of a source into tables: many at once, or one by one if the database refuses a row.

The tables are those of the entities, or a merge's temporary tables, whose names begin with `prefix`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from models import MODELS
from vserverlib import hashing, printable
from vserverlib.drivers import peewee
from vserverlib.entities import fields
from vserverlib.transfer.sources import ImportNotes, Origin, Row, SequenceState

ROWS_PER_CALL = 1000
ROW_ERRORS = (peewee.IntegrityError, peewee.DataError)  # one row is refused, the others can be written


class Writer:
    """Writes the rows of one origin, and notes the rows that cannot be kept."""

    def __init__(self, database: Any, origin: Origin, notes: ImportNotes, prefix: str = "") -> None:
        self._database, self._origin, self._notes, self._prefix = database, origin, notes, prefix
        self._table = prefix + origin.entity
        self._id = origin.columns.index("id") if "id" in origin.columns else None
        # A membership has only its two links. In a database of ours it also has an id, and may lack a link, which is
        # kept; a merge could not match it.
        is_pair = origin.entity == "member" and (self._id is None or bool(prefix))
        links = MODELS[origin.entity]._meta.refs if is_pair else ()
        self._partners = [(link.name, origin.columns.index(link.column_name)) for link in links]

    def write(self, rows: list[Row]) -> int:
        """Write rows, and return the number of rows that were kept."""
        known = [(noun, at, self._known(noun, {row[at] for row in rows})) for noun, at in self._partners]
        fitting = [row for row in rows if not self._is_left_out(row, self._missing(row, known))]
        try:
            with self._database.savepoint():
                self._database.insert_many(self._table, self._origin.columns, fitting)
        except ROW_ERRORS:
            return sum(map(self._write_one, fitting))
        return len(fitting)

    def _known(self, noun: str, ids: Collection[Any]) -> set[Any]:
        """Return the ids of existing rows among `ids`."""
        marks = ", ".join(self._database.param for _ in ids)
        sql = f'SELECT id FROM "{self._prefix}{noun}" WHERE id IN ({marks})'
        return {id for (id,) in self._database.execute_sql(sql, list(ids)).fetchall()} if ids else set()

    def _missing(self, row: Row, known: list[tuple[str, int, set[Any]]]) -> str:
        """Return which required value a row lacks, or "" if it can be written."""
        for noun, at, ids in known:
            if row[at] not in ids:
                return f"it has no {noun}" if row[at] is None else f"there is no {noun} {printable(row[at])}"
        return "it has no id" if self._id is not None and row[self._id] is None else ""

    def _write_one(self, row: Row) -> bool:
        try:
            with self._database.savepoint():
                self._database.insert_many(self._table, self._origin.columns, [row])
        except ROW_ERRORS as error:
            return not self._is_left_out(row, self._reason(row, error))
        return True

    def _reason(self, row: Row, error: Exception) -> str:
        """Return why the database refused a row, with the value if it is taken."""
        values, names = dict(zip(self._origin.columns, row, strict=True)), self._database.conflicting_columns(error)
        if not names or not set(names) <= values.keys():
            return printable(error)
        if names == ["id"]:
            return f"another {self._origin.entity} has its id"
        if len(names) > 1:
            return "it exists already"
        return taken_value(names[0], values[names[0]])

    def _is_left_out(self, row: Row, reason: str) -> bool:
        """Note a row if there is a reason to leave it out, and return whether there is."""
        if reason:
            self._notes.left_out.add(f"{self._origin.table} {self._named(row)} is left out: {reason}")
        return bool(reason)

    def _named(self, row: Row) -> str:
        if self._partners:
            return "of " + " in ".join(_side(noun, row[at]) for noun, at in self._partners)
        id = None if self._id is None else row[self._id]
        return "without an id" if id is None else printable(id)


def _side(noun: str, id: object) -> str:
    return f"no {noun}" if id is None else f"{noun} {printable(id)}"


def taken_value(name: str, value: object) -> str:
    """Return why a row with another row's unique value cannot be kept."""
    return f'its {name} "{printable(value)}" is taken'


# After all rows are written


def empty_links(database: Any, notes: ImportNotes) -> dict[str, int]:
    """Set links to missing rows to NULL, note each, and return the numbers by table and column."""
    found = {}
    for table, model in MODELS.items():
        for link in model._meta.refs:
            name, to = link.column_name, link.rel_model._meta.table_name
            nowhere = f'NOT EXISTS (SELECT 1 FROM "{to}" AS other WHERE other.id = "{table}"."{name}")'
            lost = f'"{name}" IS NOT NULL AND {nowhere}'
            if count := note_lost(database, notes, link, table, lost):
                database.execute_sql(f'UPDATE "{table}" SET "{name}" = NULL WHERE {lost}')
                found[f"{table}.{name}"] = count
    return found


def note_lost(database: Any, notes: ImportNotes, link: Any, table: str, lost: str) -> int:
    """Note the links of a table for which the SQL condition `lost` holds, and return their number."""
    noun, name, to = link.model._meta.table_name, link.column_name, link.rel_model._meta.table_name
    before = notes.lost_values.total
    for id, value in database.streamed(f'SELECT id, "{name}" FROM "{table}" WHERE {lost} ORDER BY id'):
        notes.lost_values.add(f"{noun} {id}: {name} {value}: there is no {to} {value}, it is empty now")
    return notes.lost_values.total - before


def clear(database: Any) -> None:
    """Delete every row of every entity."""
    for table in reversed(MODELS):
        database.execute_sql(f'DELETE FROM "{table}"')


def renew_key_salt(database: Any) -> None:
    """Give a database without rows a new salt of API keys, like a new one: the tokens of `vserver start` end."""
    database.execute_sql(f"UPDATE setting SET value = {database.param} WHERE name = 'key_salt'", [hashing.new_salt()])
    database.cached.clear()


def advance_sequences(database: Any) -> None:
    """Make new ids and run ids start above those of the rows."""
    for table in MODELS:
        database.advance_sequence(table)
    highest = f"(SELECT COALESCE(MAX(CAST(run_id AS BIGINT)), 0) FROM task WHERE run_id < {fields.LARGEST_INTEGER})"
    database.execute_sql(f"UPDATE counter SET value = {highest} WHERE name = 'run_id' AND value < {highest}")


def without_free_ids(database: Any) -> list[str]:
    """Return the tables in which no id is left for a new row."""
    return [table for table in MODELS if database.highest_id(table) >= fields.LARGEST_INTEGER]


def continue_from(database: Any, sequence_state: SequenceState) -> None:
    """Continue ids, counters and the salt of API keys where a database of ours was."""
    param = database.param
    for name, value in sequence_state.counters.items():
        counted = f"UPDATE counter SET value = {param} WHERE name = {param} AND value < {param}"
        database.execute_sql(counted, [value, name, value])
    for table, id in sequence_state.last_ids.items():
        database.raise_last_id(table, id)
    if sequence_state.key_salt is not None:
        database.execute_sql(f"UPDATE setting SET value = {param} WHERE name = 'key_salt'", [sequence_state.key_salt])
        database.cached.clear()
