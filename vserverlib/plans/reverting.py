"""Undoing an applied plan: each row that it wrote is written back, in reverse order, if it is as the plan left it.

It knows no entities: rows are written back as the record has them, in any table. Columns that the server writes all
the time, such as when a node was seen last, do not prevent an undo. The record of an undo has no rows: they are in the
record that it has undone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any

from vserverlib import Error, printable, signals
from vserverlib.databases.connection import quoted
from vserverlib.plans import mapping, records, references, server_backups, sessions
from vserverlib.plans.change import CHANGED, DELETED, NEW, Change, Field
from vserverlib.plans.plan import Applied, ChangedMeanwhile, Plan, Refused
from vserverlib.plans.records import DELETE, INSERT, UPDATE, Log, Record, Row
from vserverlib.plans.server import CHUNK, Server, listed
from vserverlib.plans.sessions import Target
from vserverlib.transfer.sources import ProgressBar, no_progress_bar

INVERSE = {NEW: DELETED, DELETED: NEW, CHANGED: CHANGED}
NOTED = {  # columns that a server writes all the time, by table
    mapping.AUTHENTICATABLE: {"ip", "last_seen", "status"},
    "user": {
        "failed_login_attempts",
        "last_login_attempt",
        "last_email_failed_login_sent",
        "last_email_recover_password_sent",
    },
}


def log(target: Target) -> list[Record]:
    """Return the plans that were applied to a server's database, newest first. Reads only."""
    return records.of(sessions.identity(target))


def plan(target: Target, number: int | None = None) -> Plan:
    """Return the plan that undoes an applied one: the newest that was not undone, unless a number is given.

    Writes nothing. Raises an Error if nothing is left to undo, a Refused if a row is not as it left it.
    """
    with _opened(target, number) as (server, record):
        Check(server, record).refuse()
        return _inverted(server, record)


def apply(
    target: Target,
    number: int | None = None,
    expected: Plan | None = None,
    *,
    backup: bool = True,
    bar: ProgressBar = no_progress_bar,
) -> Applied:
    """Undo an applied plan, all or nothing. expected: the plan that a person has seen. Raises what plan() does."""
    began = time.perf_counter()
    with _opened(target, number) as (server, record):
        check = Check(server, record)
        check.refuse()
        found = _inverted(server, record)
        if expected is not None and found != expected:
            raise ChangedMeanwhile([f"{server.title}: another change would be undone by now: look again"])
        new = records.next_number(server.identity)
        with (
            server_backups.made(server, target, new, bar, wanted=backup) as kept,
            signals.finishing(),
            records.written(server.identity, new, kept) as written,
        ):
            locked = _write(check, found, written)
        path = records.folder(server.identity) / f"{new:04}.json"
        return Applied(found, new, time.perf_counter() - began, locked, path, kept)


@contextlib.contextmanager
def _opened(target: Target, number: int | None) -> Iterator[tuple[Server, Record]]:
    identity = sessions.identity(target)
    record = records.one(identity, sessions.titled(target), number)
    if record.reverted_by is not None:
        raise Error(f"change {record.number} of {record.server} was undone by change {record.reverted_by}")
    with contextlib.closing(sessions.opened(target, record.release)) as server:
        yield server, record


def _write(check: Check, plan: Plan, log: Log) -> float:
    server, record = check.server, check.record
    with server.writing({row.table for row in records.rows(record)}):
        began = time.perf_counter()
        if server.version() != check.version:
            check = check if server.is_sqlite else Check(server, record)  # whose TEMP tables are gone
            check.refuse()
        log.begin(plan, {})
        _write_back(server, record)
        _refuse_reasons(check.dangling())
        log.finish()
        signals.point_of_no_return()
    return time.perf_counter() - began


def _refuse_reasons(reasons: Iterable[str]) -> None:
    if found := list(dict.fromkeys(reasons)):
        raise Refused(found)


# The plan


def _inverted(server: Server, record: Record) -> Plan:
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
    """Return the title of a row with its id at the server."""
    here, there = (f"{change['noun']} {change[id]} " for id in ("id", "server_id"))
    title = str(change["title"])
    return there + title.removeprefix(here) if change["server_id"] is not None and title.startswith(here) else title


# Whether it can be undone


class Check:
    """Whether the rows of a record are as it left them."""

    def __init__(self, server: Server, record: Record) -> None:
        self.server, self.record, self.version = server, record, server.version()
        self._left: dict[tuple[str, int], dict[str, Any]] = {}  # rows that it made or changed, and their values
        self._made: dict[str, set[int]] = {}
        self._alone: list[Row] = []  # that it made, in tables without an id
        self._deleted: set[str] = set()
        self._is_collected = False

    def refuse(self) -> None:
        """Raise a Refused if it cannot be undone."""
        with contextlib.nullcontext() if self.server.is_writing else self.server.reading():
            _refuse_reasons(self.problems())

    def problems(self) -> Iterator[str]:
        """Return why it cannot be undone."""
        if not self._is_collected:
            self._collect()
        if lacking := next((table for table in self._tables() if not self.server.has(table)), None):
            yield f"{self.server.title} has no table {lacking} any more"
            return
        for (table, id), values in self._left.items():
            yield from self._as_left(table, id, values)
        for row in self._alone:
            if not self._is_there(row):
                yield f"a row of {row.table} that was made is not there any more"
        for table in sorted(self._deleted):
            found = self.server.all(
                f"SELECT t.id FROM {quoted(table)} AS t JOIN {self._temp(table)} AS b ON b.key = t.id"
            )
            yield from (f"{table} {id} is there again" for (id,) in found[:CHUNK])
        yield from self._referred()

    def _tables(self) -> set[str]:
        return {table for table, _ in self._left} | self._deleted | {row.table for row in self._alone}

    def _temp(self, table: str) -> str:
        return self.server.temp(f"back {table}")

    def _collect(self) -> None:
        """Read the record, and note the values that each row was left with."""
        rows, self._is_collected = iter(records.rows(self.record)), True
        while chunk := list(islice(rows, CHUNK)):
            for row in chunk:
                self._note(row)
            self._note_deleted([row for row in chunk if row.done == DELETE and row.id is not None])

    def _note(self, row: Row) -> None:
        if row.id is None:
            if row.done == INSERT:
                self._alone.append(row)
        elif row.done == DELETE:
            self._left.pop((row.table, int(row.id)), None)
        else:
            self._left.setdefault((row.table, int(row.id)), {}).update(row.after or {})
            if row.done == INSERT:
                self._made.setdefault(row.table, set()).add(int(row.id))

    def _note_deleted(self, rows: list[Row]) -> None:
        for table in sorted({row.table for row in rows} - self._deleted):
            self.server.keep(f"back {table}", "key INTEGER PRIMARY KEY")
            self._deleted.add(table)
        for table in sorted({row.table for row in rows}):
            ids = [(int(row.id),) for row in rows if row.table == table]
            self.server.fill(f"back {table}", ("key",), ids)

    def _as_left(self, table: str, id: int, values: dict[str, Any]) -> Iterator[str]:
        names = list(self.server.shape.columns[table])
        columns = ", ".join(self.server.as_stored(table, "t"))
        row = self.server.one(f"SELECT {columns} FROM {quoted(table)} AS t WHERE t.id = ?", [id])
        if row is None:
            yield f"{table} {id} is not there any more"
            return
        now = dict(zip(names, row, strict=True))
        for name, left in values.items():
            if name in NOTED.get(table, ()) or now.get(name) == left:
                continue
            if name in ("password", "api_key", "otp_secret"):
                yield f"{table} {id}: its {name} was changed there since"
            else:
                yield f"{table} {id}: {name} is {_shown(now.get(name))} there by now, and was left as {_shown(left)}"

    def _is_there(self, row: Row) -> bool:
        found, values = _found(self.server, row)
        return self.server.one(found, values) is not None

    def _referred(self) -> Iterator[str]:
        """Return which rows that it made others refer to by now."""
        for table, ids in self._made.items():
            for link in sorted({*references.FATES, *self.server.shape.links}):
                if link.to != table or not self.server.has(link.table, link.column) or link.column == "id":
                    continue
                among = ", ".join(map(str, sorted(ids)))
                place = "id" if self.server.has(link.table, "id") else link.column
                sql = f"SELECT {quoted(place)}, {quoted(link.column)} FROM {quoted(link.table)}"
                for id, to in self.server.all(f"{sql} WHERE {quoted(link.column)} IN ({among})"):
                    if not self._is_own(link.table, link.column, id, to):
                        yield f"{table} {to}: {link.table}{'' if place != 'id' else f' {id}'} refers to it by now"

    def _is_own(self, table: str, column: str, id: int, to: int) -> bool:
        """Whether a row that refers to one that it made is the plan's own, too: made, or its link was changed."""
        if self.server.has(table, "id"):
            return column in self._left.get((table, id), {})
        return any(row.table == table and int((row.after or {}).get(column) or 0) == to for row in self._alone)

    def dangling(self) -> Iterator[str]:
        """Return which rows that came back have links that lead nowhere by now."""
        for table in sorted(self._deleted):
            for link in sorted({*references.FATES, *self.server.shape.links}):
                if link.table == table and self.server.has(link.table, link.column) and self.server.has(link.to):
                    yield from self._dangling(table, link)

    def _dangling(self, table: str, link: references.Link) -> Iterator[str]:
        column = f"t.{quoted(link.column)}"
        sql = f"""SELECT t.id, {column} FROM {quoted(table)} AS t JOIN {self._temp(table)} AS b ON b.key = t.id
            LEFT JOIN {quoted(link.to)} AS o ON o.id = {column} WHERE {column} IS NOT NULL AND o.id IS NULL"""
        known = self.record.nowhere.get(f"{table}.{link.column}", ())
        for id, to in self.server.all(sql):
            if to not in known:
                yield f"{table} {id}: there is no {link.to} {to} any more"


def _found(server: Server, row: Row) -> tuple[str, list[Any]]:
    """Return the query, with its values, that finds where one row with just these values is."""
    names = list(server.shape.columns[row.table])
    places = server.as_stored(row.table, "t")
    values = row.after or {}
    same = [f"{place} {server.same} {server.mark(values.get(name))}" for name, place in zip(names, places, strict=True)]
    sql = f"SELECT t.{server.place} FROM {quoted(row.table)} AS t WHERE {' AND '.join(same)} LIMIT 1"
    return sql, [values.get(name) for name in names]


def _shown(value: Any) -> str:
    return "empty" if value is None else f'"{printable(value, 60)}"' if isinstance(value, str) else str(value)


# Writing back


def _write_back(server: Server, record: Record) -> None:
    """Write all rows back, in the reverse order: so each state in between is one that was there before."""

    def alike(row: Row) -> tuple[str, str, tuple[str, ...]]:
        return row.done, row.table, tuple(row.before or ()) if row.done == UPDATE else ()

    write = {DELETE: _insert, UPDATE: _update, INSERT: _delete}
    for (done, table, _), rows in groupby(records.newest_first(record), key=alike):
        while chunk := list(islice(rows, CHUNK)):
            write[done](server, table, chunk)


def _insert(server: Server, table: str, rows: list[Row]) -> None:
    names = list(rows[0].before or ())
    values = [[_param(server, (row.before or {})[name]) for name in names] for row in rows]
    if not server.is_sqlite:
        return server.fill(table, names, values)
    for marks, alike in groupby(values, key=lambda row: ", ".join(map(server.mark, row))):
        server.many(f"INSERT INTO {quoted(table)} ({listed(names)}) VALUES ({marks})", alike)
    return None


def _update(server: Server, table: str, rows: list[Row]) -> None:
    names = list(rows[0].before or ())
    values = [[*(_param(server, (row.before or {})[name]) for name in names), int(row.id)] for row in rows]
    for marks, alike in groupby(values, key=lambda row: list(map(server.mark, row[:-1]))):
        pairs = ", ".join(f"{quoted(name)} = {mark}" for name, mark in zip(names, marks, strict=True))
        server.many(f"UPDATE {quoted(table)} SET {pairs} WHERE id = ?", alike)


def _delete(server: Server, table: str, rows: list[Row]) -> None:
    for row in rows:
        if row.id is not None:
            server.run(f"DELETE FROM {quoted(table)} WHERE id = ?", [int(row.id)])
            continue
        found, values = _found(server, row)
        place = server.one(found, values)
        if place is None:
            raise Refused([f"a row of {table} that was made is not there any more"])
        server.run(f"DELETE FROM {quoted(table)} WHERE {server.place} = ?", place)


def _param(server: Server, value: Any) -> Any:
    return server.param(value) if server.is_sqlite else value
