"""Writing a plan's rows by as few statements as can be, in an order that immediate foreign keys allow.

First it empties unique values and circular links of rows that change or are deleted. Then it inserts, parents first;
updates; and deletes, children first. Each row goes into the record before it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from vserverlib import Error
from vserverlib.databases.connection import quoted
from vserverlib.plans import describing, records, references
from vserverlib.plans.gone import Gone
from vserverlib.plans.ids import New
from vserverlib.plans.planning import Work
from vserverlib.plans.records import Log
from vserverlib.plans.server import Server, listed
from vserverlib.plans.writes import Insert, Update, Writes


class Execution:
    """Writes within the transaction that is open. ids: what new rows got."""

    def __init__(self, server: Server, log: Log) -> None:
        self._server, self._log = server, log
        self.ids: dict[New, int] = {}

    def run(self, work: Work) -> None:
        """Write all of a plan, whose new rows have their ids."""
        self._empty_first(work.writes, work.gone)
        for insert in work.writes.inserts:
            self._insert(insert)
        for update in work.writes.updates:
            self.update(update)
        with self._server.indexed(work.many):
            for table in reversed(references.ORDER):
                if table in work.gone.tables:
                    self._delete(table, work.gone.temp(table))

    def give_ids(self, fresh: Iterable[New]) -> None:
        """Give new rows their ids, before anything is deleted: none is given again."""
        by_table: dict[str, list[New]] = {}
        for new in fresh:
            if new.entity != "member":
                by_table.setdefault(describing.id_table(new.entity), []).append(new)
        for table, rows in by_table.items():
            self.ids |= zip(rows, self._server.next_ids(table, len(rows)), strict=True)

    # First

    def _empty_first(self, writes: Writes, gone: Gone) -> None:
        for link in references.CIRCULAR:
            if link.table in gone.tables and self._server.has(link.table, link.column):
                self._empty(link.table, link.column, gone.temp(link.table))
        for link in gone.links:
            self._empty(link.table, link.column, gone.emptied(link))
        for table, name in sorted(_contested(self._server, writes, gone)):
            if table in gone.tables:
                self._empty(table, name, gone.temp(table))
            for update in writes.updates:
                if update.table == table and update.values.get(name) is not None:
                    self.update(Update(table, update.id, {name: None}))

    def _empty(self, table: str, column: str, temp: str) -> None:
        """Empty a column of the rows whose ids a TEMP table has."""
        name = quoted(column)
        which = f"t.id IN (SELECT key FROM {temp}) AND t.{name} IS NOT NULL"
        found = f"SELECT t.id, {self._stored(table, column)} FROM {quoted(table)} AS t WHERE {which}"
        for id, value in self._server.stream(found, 2):
            self._log.add(records.UPDATE, table, id, {column: value}, {column: None})
        self._server.run(f"UPDATE {quoted(table)} AS t SET {name} = NULL WHERE {which}")

    def _stored(self, table: str, column: str) -> str:
        return self._server.as_stored(table, "t")[list(self._server.shape.columns[table]).index(column)]

    # Rows

    def _insert(self, insert: Insert) -> None:
        values = {name: self.ids[value] if isinstance(value, New) else value for name, value in insert.values.items()}
        self.insert(insert.table, values)

    def insert(self, table: str, values: dict[str, Any]) -> None:
        """Write a new row."""
        marks = ", ".join(map(self._server.mark, values.values()))
        sql = f"INSERT INTO {quoted(table)} ({listed(values)}) VALUES ({marks})"
        if self._server.has(table, "id"):
            self._server.run(sql, list(values.values()))
            place, key = "id", values["id"]
        else:
            place = self._server.place
            (key,) = self._server.one(f"{sql} RETURNING {place}", list(values.values()))
        self._log.add(records.INSERT, table, values.get("id"), None, self._row(table, place, key))

    def _row(self, table: str, place: str, key: Any) -> dict[str, Any]:
        columns = ", ".join(self._server.as_stored(table, "t"))
        row = self._server.one(f"SELECT {columns} FROM {quoted(table)} AS t WHERE t.{place} = ?", [key])
        return dict(zip(self._server.shape.columns[table], row, strict=True))

    def update(self, update: Update) -> None:
        """Write new values of a row."""
        table, names = update.table, list(update.values)
        values = [self.ids[value] if isinstance(value, New) else value for value in update.values.values()]
        before = self._row(table, "id", update.id)
        pairs = ", ".join(
            f"{quoted(name)} = {self._server.mark(value)}" for name, value in zip(names, values, strict=True)
        )
        done = self._server.run(f"UPDATE {quoted(table)} SET {pairs} WHERE id = ?", [*values, update.id])
        if done.rowcount != 1:
            raise Error(f"{table} {update.id} is not there any more: nothing was changed; look again")
        after = self._row(table, "id", update.id)
        self._log.add(
            records.UPDATE,
            table,
            update.id,
            {name: before[name] for name in names},
            {name: after[name] for name in names},
        )

    def _delete(self, table: str, temp: str) -> None:
        """Delete the rows whose keys a TEMP table has."""
        key, names = self._server.key(table), list(self._server.shape.columns[table])
        which = f"t.{key} IN (SELECT key FROM {temp})"
        columns = ", ".join(self._server.as_stored(table, "t"))
        at = names.index("id") if "id" in names else None
        for row in self._server.stream(f"SELECT {columns} FROM {quoted(table)} AS t WHERE {which}", len(names)):
            id = None if at is None else row[at]
            self._log.add(records.DELETE, table, id, dict(zip(names, row, strict=True)), None)
        self._server.run(f"DELETE FROM {quoted(table)} AS t WHERE {which}")


def _contested(server: Server, writes: Writes, gone: Gone) -> set[tuple[str, str]]:
    """Return the unique columns in which a row gets a value that another one may have to give up first."""
    rows: list[Insert | Update] = [*writes.inserts, *writes.updates]
    written = Counter((each.table, name) for each in rows for name in server.shape.unique[each.table] & {*each.values})
    found = {place for place, count in written.items() if count > 1 or place[0] in gone.tables}
    return {(table, name) for table, name in found if name != "id" and name not in server.shape.required[table]}
