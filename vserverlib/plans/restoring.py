"""The rows of a record, staged in TEMP tables of the server's database, to be written back under a short lock.

A record may have 100,000 rows: to read and convert them takes longer than a server waits for a lock. So each kind of
row (operation, table, columns) has a TEMP table, and each step writes a range of it with one statement. The steps go
back in time, so that each intermediate state existed before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from typing import Any, NamedTuple

from vserverlib.databases.connection import quoted
from vserverlib.plans import deleted_rows, records
from vserverlib.plans.plan import Refused
from vserverlib.plans.records import DELETE, INSERT, UPDATE, Record, Row
from vserverlib.plans.references import Link
from vserverlib.plans.server import CHUNK, Server, listed

KEY, NUMBER = "row key", "row number"  # columns of a TEMP table beside those of the server's table
RANGE = f"s.{quoted(NUMBER)} BETWEEN ? AND ?"


class Kind(NamedTuple):
    """Rows with the same operation in a record, table and columns. has_id: whether the table has an id."""

    operation: str
    table: str
    columns: tuple[str, ...]
    has_id: bool


class Step(NamedTuple):
    """Rows of a kind to write back at once: the first and last of their numbers."""

    kind: Kind
    first: int
    last: int


class Restoration:
    """The rows of a record, staged when it is created.

    last_values: of inserted and updated rows, by table and id. missing: tables and columns that the server lost.
    """

    def __init__(self, server: Server, record: Record) -> None:
        self._server = server
        self.last_values: dict[str, dict[int, dict[str, Any]]] = {}
        self.missing: list[str] = []
        self._steps: list[Step] = []
        self._counts: dict[Kind, int] = {}
        self._deleted: dict[str, set[int]] = {}
        for kind, alike in groupby(records.newest_first(record), key=_kind):
            if lacking := self._lacking(kind):
                self.missing.append(lacking)
                continue
            if kind not in self._counts:
                self._create(kind)
            while chunk := list(islice(alike, CHUNK)):
                self._stage(kind, chunk)
        for kind in self._counts:
            server.analyze(self._temp(kind))

    # Staging

    def _lacking(self, kind: Kind) -> str:
        """Return the table or column of a kind that the server no longer has; "" if it has all."""
        if not self._server.has(kind.table):
            return f"table {kind.table}"
        return next(
            (f"column {kind.table}.{name}" for name in kind.columns if not self._server.has(kind.table, name)), ""
        )

    def _name(self, kind: Kind) -> str:
        return f"restored {list(self._counts).index(kind)}"

    def _temp(self, kind: Kind) -> str:
        return self._server.temp(self._name(kind))

    def _create(self, kind: Kind) -> None:
        self._counts[kind] = 0
        types = self._server.schema.columns[kind.table]
        typed = (f"{quoted(name)} {'' if self._server.is_sqlite else types[name]}" for name in kind.columns)
        columns = ", ".join([f"{quoted(NUMBER)} INTEGER PRIMARY KEY", f"{quoted(KEY)} BIGINT", *typed])
        self._server.create_temp(self._name(kind), columns)

    def _stage(self, kind: Kind, rows: list[Row]) -> None:
        """Add rows to the TEMP table of their kind, and the steps that write them."""
        first = self._counts[kind]
        self._counts[kind] += len(rows)
        names = (NUMBER, KEY, *kind.columns)
        stored = [
            [number, None if row.id is None else int(row.id), *(self._param(value) for value in _values(row).values())]
            for number, row in enumerate(rows, first)
        ]
        self._insert(kind, names, stored)
        for row in rows:
            if row.id is not None:
                self._note_last_values(row)
        self._steps += _steps(kind, len(rows), first, is_single=self._is_single(kind))

    def _insert(self, kind: Kind, names: tuple[str, ...], rows: list[list[Any]]) -> None:
        if not self._server.is_sqlite:
            return self._server.bulk_insert(self._name(kind), names, rows)
        for marks, alike in groupby(rows, key=lambda row: ", ".join(map(self._server.placeholder, row))):
            self._server.run_many(f"INSERT INTO {self._temp(kind)} ({listed(names)}) VALUES ({marks})", alike)
        return None

    def _param(self, value: Any) -> Any:
        return self._server.param(value) if self._server.is_sqlite else value

    def _is_single(self, kind: Kind) -> bool:
        """Whether each row needs a step of its own: it is in a table without an id, or changes a unique column.

        A row may change twice in a unique column, which is cleared first.
        """
        unique = self._server.schema.unique.get(kind.table, set())
        return (kind.operation == UPDATE and not unique.isdisjoint(kind.columns)) or (
            kind.operation == INSERT and not kind.has_id
        )

    def _note_last_values(self, row: Row) -> None:
        """Note the values that a row had at the end. Rows come newest first."""
        id = int(row.id)
        if row.operation == DELETE:
            self._deleted.setdefault(row.table, set()).add(id)
        elif id not in self._deleted.get(row.table, ()):
            known = self.last_values.setdefault(row.table, {}).setdefault(id, {})
            known |= {name: value for name, value in (row.after or {}).items() if name not in known}

    # What is staged

    @property
    def tables(self) -> set[str]:
        """The tables to write."""
        return {kind.table for kind in self._counts}

    def bulk_links(self) -> dict[Link, int]:
        """Return the links to tables of which many inserted rows are deleted, with the number of rows."""
        found: dict[Link, int] = {}
        for kind, count in self._counts.items():
            if kind.operation == INSERT and kind.has_id and count >= deleted_rows.BULK:
                found |= dict.fromkeys(self._server.links_to(kind.table), count)
        return found

    def deleted(self) -> Iterator[tuple[str, str]]:
        """Return each table with deleted rows, and its TEMP table, whose column KEY has their ids."""
        yield from ((kind.table, self._temp(kind)) for kind in self._counts if kind.operation == DELETE and kind.has_id)

    def inserted(self) -> dict[str, set[int]]:
        """Return the ids of inserted rows, by table."""
        found: dict[str, set[int]] = {}
        for kind in self._counts:
            if kind.operation == INSERT and kind.has_id:
                ids = self._server.all(f"SELECT {quoted(KEY)} FROM {self._temp(kind)}")
                found.setdefault(kind.table, set()).update(id for (id,) in ids)
        return found

    def is_inserted(self, table: str, column: str, value: Any) -> bool:
        """Whether a row with this value was inserted into a table without an id."""
        return any(
            self._server.one(f"SELECT 1 FROM {self._temp(kind)} WHERE {quoted(column)} = ? LIMIT 1", [value])
            for kind in self._counts
            if kind.operation == INSERT and kind.table == table and column in kind.columns
        )

    def keyless_problems(self) -> Iterator[str]:
        """Return the tables without an id that have lost an inserted row."""
        for kind in self._counts:
            if kind.operation == INSERT and not kind.has_id:
                there = f"SELECT 1 FROM {quoted(kind.table)} AS t WHERE {self._same(kind)}"
                if self._server.one(f"SELECT 1 FROM {self._temp(kind)} AS s WHERE NOT EXISTS ({there}) LIMIT 1"):
                    yield _lost(kind.table)

    def _same(self, kind: Kind) -> str:
        """Return the condition that a row of the server, `t`, has the values of a staged one, `s`."""
        return " AND ".join(
            f"t.{quoted(name)} {self._server.null_safe_equals} s.{quoted(name)}" for name in kind.columns
        )

    # Writing back

    def write(self) -> None:
        """Write all rows back, in the open transaction. Raises Refused if an inserted row is lost."""
        write = {DELETE: self._write_deleted, UPDATE: self._write_updated, INSERT: self._delete_inserted}
        with self._server.with_indexes(self.bulk_links()):
            for step in self._steps:
                write[step.kind.operation](step)

    def _run(self, sql: str, step: Step) -> int:
        return int(self._server.run(sql, [step.first, step.last]).rowcount)

    def _write_deleted(self, step: Step) -> None:
        names = listed(step.kind.columns)
        rows = f"SELECT {names} FROM {self._temp(step.kind)} AS s WHERE {RANGE} ORDER BY s.{quoted(NUMBER)}"
        self._run(f"INSERT INTO {quoted(step.kind.table)} ({names}) {rows}", step)

    def _write_updated(self, step: Step) -> None:
        pairs = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in step.kind.columns)
        which = f"FROM {self._temp(step.kind)} AS s WHERE s.{quoted(KEY)} = t.id AND {RANGE}"
        self._run(f"UPDATE {quoted(step.kind.table)} AS t SET {pairs} {which}", step)

    def _delete_inserted(self, step: Step) -> None:
        table, temp = step.kind.table, f"{self._temp(step.kind)} AS s"
        if step.kind.has_id:
            self._run(
                f"DELETE FROM {quoted(table)} WHERE id IN (SELECT s.{quoted(KEY)} FROM {temp} WHERE {RANGE})", step
            )
            return
        place = self._server.row_locator
        found = (
            f"SELECT t.{place} FROM {quoted(table)} AS t JOIN {temp} ON {self._same(step.kind)} WHERE {RANGE} LIMIT 1"
        )
        if not self._run(f"DELETE FROM {quoted(table)} WHERE {place} = ({found})", step):
            raise Refused([_lost(table)])


def _lost(table: str) -> str:
    return f"a row of {table} that was added no longer exists, so this change cannot be undone"


def _values(row: Row) -> dict[str, Any]:
    """Return the values to stage: those to write back, or of an inserted row those to find it by."""
    return (row.after if row.operation == INSERT else row.before) or {}


def _kind(row: Row) -> Kind:
    return Kind(row.operation, row.table, tuple(_values(row)), row.id is not None)


def _steps(kind: Kind, number: int, first: int, *, is_single: bool) -> Iterator[Step]:
    """Return the steps that write a number of rows."""
    if is_single:
        yield from (Step(kind, at, at) for at in range(first, first + number))
    else:
        yield Step(kind, first, first + number - 1)
