"""Write the rows of a plan with few statements, in an order that immediate foreign keys allow.

First it clears unique values and circular links of rows that change or are deleted. Then it inserts rows, parents
first, updates rows, and deletes rows, children first. Each row is added to the record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from vserverlib.databases.connection import quoted
from vserverlib.plans import describing, records, references
from vserverlib.plans.deleted_rows import DeletedRows
from vserverlib.plans.plan import Conflict
from vserverlib.plans.planning import PlannedWrites
from vserverlib.plans.records import RecordWriter
from vserverlib.plans.row_ids import New
from vserverlib.plans.server import Server, listed
from vserverlib.plans.writes import Insert, Update, Writes


class Execution:
    """Writes in the open transaction. ids: the ids of new rows on the server."""

    def __init__(self, server: Server, writer: RecordWriter) -> None:
        self._server, self._writer = server, writer
        self.ids: dict[New, int] = {}

    def run(self, planned: PlannedWrites) -> None:
        """Write all rows of a plan. Call assign_ids() first."""
        self._clear_first(planned.writes, planned.deleted)
        for insert in planned.writes.inserts:
            self._insert(insert)
        for update in planned.writes.updates:
            self.update(update)
        with self._server.with_indexes(planned.bulk_links):
            for table in reversed(references.ORDER):
                if table in planned.deleted.tables:
                    self._delete(table, planned.deleted.temp(table))

    def assign_ids(self, new_rows: Iterable[New]) -> None:
        """Assign ids to new rows. Call this before rows are deleted, so that no id is reused."""
        by_table: dict[str, list[New]] = {}
        for new in new_rows:
            if new.entity != "member":
                by_table.setdefault(describing.id_table(new.entity), []).append(new)
        for table, rows in by_table.items():
            self.ids |= zip(rows, self._server.next_ids(table, len(rows)), strict=True)

    # Clearing values

    def _clear_first(self, writes: Writes, deleted: DeletedRows) -> None:
        for link in references.CIRCULAR:
            if link.table in deleted.tables and self._server.has(link.table, link.column):
                self._set_null(link.table, link.column, deleted.temp(link.table))
        for link in deleted.cleared_links:
            self._set_null(link.table, link.column, deleted.cleared(link))
        for table, name in sorted(_conflicting_columns(self._server, writes, deleted)):
            if table in deleted.tables:
                self._set_null(table, name, deleted.temp(table))
            for update in writes.updates:
                if update.table == table and update.values.get(name) is not None:
                    self.update(Update(table, update.id, {name: None}))

    def _set_null(self, table: str, column: str, temp: str) -> None:
        """Set a column to NULL in the rows whose ids are in a TEMP table."""
        name = quoted(column)
        which = f"t.id IN (SELECT key FROM {temp}) AND t.{name} IS NOT NULL"
        found = f"SELECT t.id, {self._stored(table, column)} FROM {quoted(table)} AS t WHERE {which}"
        for id, value in self._server.stream(found, 2):
            self._writer.add(records.UPDATE, table, id, {column: value}, {column: None})
        self._server.run(f"UPDATE {quoted(table)} AS t SET {name} = NULL WHERE {which}")

    def _stored(self, table: str, column: str) -> str:
        return self._server.as_stored(table, "t")[list(self._server.schema.columns[table]).index(column)]

    # Rows

    def _insert(self, insert: Insert) -> None:
        values = {name: self.ids[value] if isinstance(value, New) else value for name, value in insert.values.items()}
        self.insert(insert.table, values)

    def insert(self, table: str, values: dict[str, Any]) -> None:
        """Insert a row."""
        marks = ", ".join(map(self._server.placeholder, values.values()))
        sql = f"INSERT INTO {quoted(table)} ({listed(values)}) VALUES ({marks})"
        if self._server.has(table, "id"):
            self._server.run(sql, list(values.values()))
            place, key = "id", values["id"]
        else:
            place = self._server.row_locator
            (key,) = self._server.one(f"{sql} RETURNING {place}", list(values.values()))
        self._writer.add(records.INSERT, table, values.get("id"), None, self._row(table, place, key))

    def _row(self, table: str, place: str, key: Any) -> dict[str, Any]:
        columns = ", ".join(self._server.as_stored(table, "t"))
        row = self._server.one(f"SELECT {columns} FROM {quoted(table)} AS t WHERE t.{place} = ?", [key])
        return dict(zip(self._server.schema.columns[table], row, strict=True))

    def update(self, update: Update) -> None:
        """Update a row."""
        table, names = update.table, list(update.values)
        values = [self.ids[value] if isinstance(value, New) else value for value in update.values.values()]
        before = self._row(table, "id", update.id)
        pairs = ", ".join(
            f"{quoted(name)} = {self._server.placeholder(value)}" for name, value in zip(names, values, strict=True)
        )
        cursor = self._server.run(f"UPDATE {quoted(table)} SET {pairs} WHERE id = ?", [*values, update.id])
        if cursor.rowcount != 1:
            raise Conflict([f"{table} {update.id} no longer exists on the server"])
        after = self._row(table, "id", update.id)
        self._writer.add(
            records.UPDATE,
            table,
            update.id,
            {name: before[name] for name in names},
            {name: after[name] for name in names},
        )

    def _delete(self, table: str, temp: str) -> None:
        """Delete the rows whose keys are in a TEMP table."""
        key, names = self._server.key(table), list(self._server.schema.columns[table])
        which = f"t.{key} IN (SELECT key FROM {temp})"
        columns = ", ".join(self._server.as_stored(table, "t"))
        at = names.index("id") if "id" in names else None
        for row in self._server.stream(f"SELECT {columns} FROM {quoted(table)} AS t WHERE {which}", len(names)):
            id = None if at is None else row[at]
            self._writer.add(records.DELETE, table, id, dict(zip(names, row, strict=True)), None)
        self._server.run(f"DELETE FROM {quoted(table)} AS t WHERE {which}")


def _conflicting_columns(server: Server, writes: Writes, deleted: DeletedRows) -> set[tuple[str, str]]:
    """Return the unique columns in which a row may get a value that another row of the plan still has."""
    rows: list[Insert | Update] = [*writes.inserts, *writes.updates]
    written = Counter((each.table, name) for each in rows for name in server.schema.unique[each.table] & {*each.values})
    found = {place for place, count in written.items() if count > 1 or place[0] in deleted.tables}
    return {(table, name) for table, name in found if name != "id" and name not in server.schema.required[table]}
