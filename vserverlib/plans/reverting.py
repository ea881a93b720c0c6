"""Undo an applied plan: write the old values of each row back, in reverse order, if the row was not changed since.

Rows are restored from the record, whatever their table. Columns that the server updates all the time, such as when a
node was last seen, do not prevent an undo. The record of an undo has no rows: they are in the record that it undid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from vserverlib import Error, printable, signals
from vserverlib.databases.connection import quoted
from vserverlib.plans import record_states, records, references, server_backups, sessions
from vserverlib.plans.change import CHANGED, DELETED, NEW, Change, Field
from vserverlib.plans.plan import Applied, ChangedMeanwhile, Plan, Refused
from vserverlib.plans.records import DELETE, INSERT, UPDATE, Record, RecordWriter, Row
from vserverlib.plans.server import CHUNK, Server, listed
from vserverlib.plans.sessions import Target
from vserverlib.transfer.sources import ProgressBar, no_progress_bar

INVERSE = {NEW: DELETED, DELETED: NEW, CHANGED: CHANGED}


def log(target: Target) -> list[Record]:
    """Return the plans that were applied to a server's database, newest first. Reads only."""
    identity = sessions.identity(target)
    if isinstance(target, Path):
        record_states.adopt(target, identity)
    return records.applied_plans(identity)


def copied_from(target: Target) -> Path | None:
    """Return the file with records that a file without any is a copy of; None if it is none."""
    return record_states.adopt(target, sessions.identity(target)) if isinstance(target, Path) else None


def marked(target: Target, found: list[Record]) -> list[Record]:
    """Return records with a mark on those that a server's file no longer shows, as after restoring a backup."""
    if not isinstance(target, Path):
        return found
    return [record._replace(gone=_is_gone(target, record)) for record in found]


def _is_gone(target: Path, record: Record) -> bool:
    return record.reverted_by is None and record_states.state(record, target) == record_states.GONE


def plan(target: Target, number: int | None = None) -> Plan:
    """Return the plan that undoes an applied plan: the one with a number, or the newest that was not undone.

    Writes nothing. Raises Error if there is nothing to undo, and Refused if a row was changed since.
    """
    with _opened(target, number) as (server, record):
        UndoCheck(server, record).refuse()
        return _inverse_plan(server, record)


def apply(
    target: Target,
    number: int | None = None,
    expected: Plan | None = None,
    *,
    backup: bool = True,
    bar: ProgressBar = no_progress_bar,
) -> Applied:
    """Undo an applied plan, all or nothing. expected: the plan that a person confirmed. Raises the errors of plan()."""
    began = time.perf_counter()
    with _opened(target, number) as (server, record):
        check = UndoCheck(server, record)
        check.refuse()
        found = _inverse_plan(server, record)
        if expected is not None and found != expected:
            raise ChangedMeanwhile(server.title, "another change would be undone")
        new = records.next_number(server.identity)
        with (
            server_backups.created(server, target, new, bar, wanted=backup) as kept,
            signals.finishing(),
            records.writing(server.identity, new, kept) as writer,
        ):
            locked = _write(check, found, writer)
        path = records.folder(server.identity) / f"{new:04}.json"
        return Applied(found, new, time.perf_counter() - began, locked, path, kept)


@contextlib.contextmanager
def _opened(target: Target, number: int | None) -> Iterator[tuple[Server, Record]]:
    known = log(target)
    record = records.find(known, sessions.target_title(target), number)
    if isinstance(target, Path) and _is_gone(target, record):
        gone = f"{sessions.target_title(target)} no longer shows change {record.number}, as after restoring a backup"
        raise Error(f"{gone}: there is nothing to undo; --change N undoes another one")
    if record.reverted_by is not None:
        undo = f"change {record.reverted_by}"
        raise Error(f"change {record.number} of {record.server} was undone by {undo}: undo {undo} to apply it again")
    with contextlib.closing(sessions.open_server(target, record.release)) as server:
        yield server, record


def _write(check: UndoCheck, plan: Plan, writer: RecordWriter) -> float:
    server, record = check.server, check.record
    with server.writing({row.table for row in records.rows(record)}):
        began = time.perf_counter()
        if server.version() != check.version:
            check = check if server.is_sqlite else UndoCheck(server, record)  # whose TEMP tables were dropped
            check.refuse()
        writer.begin(plan, {})
        _write_back(server, record)
        _refuse_reasons(check.dangling())
        writer.finish()
        signals.point_of_no_return()
    return time.perf_counter() - began


def _refuse_reasons(reasons: Iterable[str]) -> None:
    if found := list(dict.fromkeys(reasons)):
        raise Refused(found)


# The plan


def _inverse_plan(server: Server, record: Record) -> Plan:
    """Return the plan that undoes a record."""
    changes = tuple(_inverse(change) for change in reversed(record.plan["changes"]))
    now = datetime.datetime.now(datetime.UTC)
    folder = records.folder(server.identity)
    return Plan(server.title, server.release, now, changes, (), folder, reverts=record.number)


def _inverse(change: dict[str, Any]) -> Change:
    kind = INVERSE[change["kind"]]
    fields = [Field(**field) for field in change["fields"]] if kind == CHANGED else []
    return Change(
        kind,
        change["entity"],
        change["id"],
        change["noun"],
        _title(change),
        tuple(dataclasses.replace(field, old=field.new, new=field.old, note="") for field in fields),
        tuple(change["dependents"].items()),
        tuple(change["theirs"].items()),
        server_id=change["id"] if kind == NEW else None,
    )


def _title(change: dict[str, Any]) -> str:
    """Return the title of a row with its id on the server."""
    here, there = (f"{change['noun']} {change[id]} " for id in ("id", "server_id"))
    title = str(change["title"])
    return there + title.removeprefix(here) if change["server_id"] is not None and title.startswith(here) else title


# Whether it can be undone


class UndoCheck:
    """Checks whether the rows of a record are unchanged since it was applied."""

    def __init__(self, server: Server, record: Record) -> None:
        self.server, self.record, self.version = server, record, server.version()
        self._last_values: dict[tuple[str, int], dict[str, Any]] = {}  # values of inserted and updated rows
        self._inserted: dict[str, set[int]] = {}
        self._inserted_keyless: list[Row] = []  # inserted rows of tables without an id
        self._deleted: set[str] = set()
        self._is_collected = False

    def refuse(self) -> None:
        """Raise Refused if the record cannot be undone."""
        with contextlib.nullcontext() if self.server.is_writing else self.server.reading():
            _refuse_reasons(self.problems())

    def problems(self) -> Iterator[str]:
        """Return the reasons why the record cannot be undone."""
        if not self._is_collected:
            self._collect()
        if lacking := next((table for table in self._tables() if not self.server.has(table)), None):
            yield f"{self.server.title} no longer has the table {lacking}, so this change cannot be undone"
            return
        for (table, id), values in self._last_values.items():
            yield from self._row_problems(table, id, values)
        for row in self._inserted_keyless:
            if not self._exists(row):
                yield f"a row of {row.table} that was added no longer exists, so this change cannot be undone"
        for table in sorted(self._deleted):
            found = self.server.all(
                f"SELECT t.id FROM {quoted(table)} AS t JOIN {self._temp(table)} AS b ON b.key = t.id"
            )
            yield from (f"{table} {id} exists again: delete it first" for (id,) in found[:CHUNK])
        yield from self._reference_problems()

    def _tables(self) -> set[str]:
        return {table for table, _ in self._last_values} | self._deleted | {row.table for row in self._inserted_keyless}

    def _temp(self, table: str) -> str:
        return self.server.temp(f"restored {table}")

    def _collect(self) -> None:
        """Read the record, and collect the last values of each row."""
        rows, self._is_collected = iter(records.rows(self.record)), True
        while chunk := list(islice(rows, CHUNK)):
            for row in chunk:
                self._collect_row(row)
            self._collect_deleted([row for row in chunk if row.operation == DELETE and row.id is not None])

    def _collect_row(self, row: Row) -> None:
        if row.id is None:
            if row.operation == INSERT:
                self._inserted_keyless.append(row)
        elif row.operation == DELETE:
            self._last_values.pop((row.table, int(row.id)), None)
        else:
            self._last_values.setdefault((row.table, int(row.id)), {}).update(row.after or {})
            if row.operation == INSERT:
                self._inserted.setdefault(row.table, set()).add(int(row.id))

    def _collect_deleted(self, rows: list[Row]) -> None:
        for table in sorted({row.table for row in rows} - self._deleted):
            self.server.create_temp(f"restored {table}", "key INTEGER PRIMARY KEY")
            self._deleted.add(table)
        for table in sorted({row.table for row in rows}):
            ids = [(int(row.id),) for row in rows if row.table == table]
            self.server.bulk_insert(f"restored {table}", ("key",), ids)

    def _row_problems(self, table: str, id: int, values: dict[str, Any]) -> Iterator[str]:
        names = list(self.server.schema.columns[table])
        columns = ", ".join(self.server.as_stored(table, "t"))
        row = self.server.one(f"SELECT {columns} FROM {quoted(table)} AS t WHERE t.id = ?", [id])
        if row is None:
            yield f"{table} {id} no longer exists, so this change cannot be undone"
            return
        now = dict(zip(names, row, strict=True))
        for name, left in values.items():
            if name in references.SERVER_UPDATED.get(table, ()) or now.get(name) == left:
                continue
            if name in ("password", "api_key", "otp_secret"):
                yield f"{table} {id}: its {name} was changed since: change it by hand"
            else:
                found = f"is {_shown(now.get(name))} now, and was {_shown(left)} when the change was applied"
                yield f"{table} {id}: {name} {found}: change it by hand"

    def _exists(self, row: Row) -> bool:
        found, values = _found(self.server, row)
        return self.server.one(found, values) is not None

    def _reference_problems(self) -> Iterator[str]:
        """Return the inserted rows that other rows refer to."""
        for table, ids in self._inserted.items():
            for link in sorted({*references.RULES, *self.server.schema.links}):
                if link.to != table or not self.server.has(link.table, link.column) or link.column == "id":
                    continue
                among = ", ".join(map(str, sorted(ids)))
                place = "id" if self.server.has(link.table, "id") else link.column
                sql = f"SELECT {quoted(place)}, {quoted(link.column)} FROM {quoted(link.table)}"
                for id, to in self.server.all(f"{sql} WHERE {quoted(link.column)} IN ({among})"):
                    if not self._is_own(link.table, link.column, id, to):
                        name = f"{link.table} {id}" if place == "id" else link.table
                        yield f"{table} {to}: {name} refers to it: delete that first"

    def _is_own(self, table: str, column: str, id: int, to: int) -> bool:
        """Whether the plan itself wrote this link to an inserted row."""
        if self.server.has(table, "id"):
            return column in self._last_values.get((table, id), {})
        return any(
            row.table == table and int((row.after or {}).get(column) or 0) == to for row in self._inserted_keyless
        )

    def dangling(self) -> Iterator[str]:
        """Return the restored rows whose links have become orphans."""
        for table in sorted(self._deleted):
            for link in sorted({*references.RULES, *self.server.schema.links}):
                if link.table == table and self.server.has(link.table, link.column) and self.server.has(link.to):
                    yield from self._dangling(table, link)

    def _dangling(self, table: str, link: references.Link) -> Iterator[str]:
        column = f"t.{quoted(link.column)}"
        sql = f"""SELECT t.id, {column} FROM {quoted(table)} AS t JOIN {self._temp(table)} AS b ON b.key = t.id
            LEFT JOIN {quoted(link.to)} AS o ON o.id = {column} WHERE {column} IS NOT NULL AND o.id IS NULL"""
        known = self.record.orphan_links.get(f"{table}.{link.column}", ())
        for id, to in self.server.all(sql):
            if to not in known:
                yield f"{table} {id}: its {link.to} {to} no longer exists, so this change cannot be undone"


def _found(server: Server, row: Row) -> tuple[str, list[Any]]:
    """Return the query, with its parameters, that finds one row with exactly these values."""
    names = list(server.schema.columns[row.table])
    places = server.as_stored(row.table, "t")
    values = row.after or {}
    same = [
        f"{place} {server.null_safe_equals} {server.placeholder(values.get(name))}"
        for name, place in zip(names, places, strict=True)
    ]
    sql = f"SELECT t.{server.row_locator} FROM {quoted(row.table)} AS t WHERE {' AND '.join(same)} LIMIT 1"
    return sql, [values.get(name) for name in names]


def _shown(value: Any) -> str:
    return "empty" if value is None else f'"{printable(value, 60)}"' if isinstance(value, str) else str(value)


# Writing back


def _write_back(server: Server, record: Record) -> None:
    """Write all rows back in reverse order, so that each intermediate state existed before."""

    def alike(row: Row) -> tuple[str, str, tuple[str, ...]]:
        return row.operation, row.table, tuple(row.before or ()) if row.operation == UPDATE else ()

    write = {DELETE: _insert, UPDATE: _update, INSERT: _delete}
    for (operation, table, _), rows in groupby(records.newest_first(record), key=alike):
        while chunk := list(islice(rows, CHUNK)):
            write[operation](server, table, chunk)


def _insert(server: Server, table: str, rows: list[Row]) -> None:
    names = list(rows[0].before or ())
    values = [[_param(server, (row.before or {})[name]) for name in names] for row in rows]
    if not server.is_sqlite:
        return server.bulk_insert(table, names, values)
    for marks, alike in groupby(values, key=lambda row: ", ".join(map(server.placeholder, row))):
        server.run_many(f"INSERT INTO {quoted(table)} ({listed(names)}) VALUES ({marks})", alike)
    return None


def _update(server: Server, table: str, rows: list[Row]) -> None:
    names = list(rows[0].before or ())
    values = [[*(_param(server, (row.before or {})[name]) for name in names), int(row.id)] for row in rows]
    for marks, alike in groupby(values, key=lambda row: list(map(server.placeholder, row[:-1]))):
        pairs = ", ".join(f"{quoted(name)} = {mark}" for name, mark in zip(names, marks, strict=True))
        server.run_many(f"UPDATE {quoted(table)} SET {pairs} WHERE id = ?", alike)


def _delete(server: Server, table: str, rows: list[Row]) -> None:
    for row in rows:
        if row.id is not None:
            server.run(f"DELETE FROM {quoted(table)} WHERE id = ?", [int(row.id)])
            continue
        found, values = _found(server, row)
        place = server.one(found, values)
        if place is None:
            raise Refused([f"a row of {table} that was added no longer exists, so this change cannot be undone"])
        server.run(f"DELETE FROM {quoted(table)} WHERE {server.row_locator} = ?", place)


def _param(server: Server, value: Any) -> Any:
    return server.param(value) if server.is_sqlite else value
