"""Undo an applied plan: write the old values of each row back, in reverse order, if the row was not changed since.

Rows are restored from the record, whatever their table. Columns that the server updates all the time, such as when a
node was last seen, do not prevent an undo. The record of an undo has no rows: they are in the record that it undid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vserverlib import Error, printable, signals
from vserverlib.databases.connection import quoted
from vserverlib.plans import notes, record_states, records, references, restoring, server_backups, sessions
from vserverlib.plans.change import CHANGED, DELETED, NEW, Change, Field
from vserverlib.plans.plan import Applied, ChangedMeanwhile, Plan, Refused
from vserverlib.plans.records import Record, RecordWriter
from vserverlib.plans.restoring import Restoration
from vserverlib.plans.server import CHUNK, Server
from vserverlib.plans.sessions import Target
from vserverlib.transfer.sources import ProgressBar, no_progress_bar

KEY = quoted(restoring.KEY)
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
    with _opened(target, number) as check:
        return check.plan


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
    with _opened(target, number) as check:
        server, found = check.server, check.plan
        if expected is not None and found != expected:
            raise ChangedMeanwhile(server.title, "another change would be undone")
        with (
            records.numbered(server.identity, server.title) as new,
            server_backups.created(server, target, new, bar, wanted=backup) as kept,
            signals.finishing(),
            records.writing(server.identity, new, kept) as writer,
        ):
            locked = _write(check, found, writer)
        path = records.folder(server.identity) / f"{new:04}.json"
        return Applied(found, new, time.perf_counter() - began, locked, path, kept)


@contextlib.contextmanager
def _opened(target: Target, number: int | None) -> Iterator[UndoCheck]:
    known = log(target)
    record = records.find(known, sessions.target_title(target), number)
    if isinstance(target, Path) and _is_gone(target, record):
        gone = f"{sessions.target_title(target)} no longer shows change {record.number}, as after restoring a backup"
        raise Error(f"{gone}: there is nothing to undo; --change N undoes another one")
    if record.reverted_by is not None:
        undo = f"change {record.reverted_by}"
        raise Error(f"change {record.number} of {record.server} was undone by {undo}: undo {undo} to apply it again")
    with contextlib.closing(sessions.open_server(target, record.release)) as server:
        yield UndoCheck(server, record, [each for each in known if each.number > record.number])


def _write(check: UndoCheck, plan: Plan, writer: RecordWriter) -> float:
    """Write in one transaction. Return the seconds that the lock was held."""
    server, version = check.server, check.version
    with server.writing(check.rows.tables, check.prepare):
        began = time.perf_counter()
        if server.version() != version:
            check.refuse()
        writer.begin(plan, {})
        check.rows.write()
        _refuse_reasons(check.dangling())
        writer.finish()
        signals.point_of_no_return()
    return time.perf_counter() - began


def _refuse_reasons(reasons: Iterable[str]) -> None:
    if found := list(dict.fromkeys(reasons)):
        raise Refused(found)


# The plan


def _inverse_plan(server: Server, record: Record, rows: Restoration) -> Plan:
    """Return the plan that undoes a record, whose rows are staged."""
    changes = tuple(_inverse(change) for change in reversed(record.plan["changes"]))
    now = datetime.datetime.now(datetime.UTC)
    folder = records.folder(server.identity)
    said = (*notes.of_undo(server, changes, rows.inserted()), *notes.of_lock(server, rows.bulk_links()))
    return Plan(server.title, server.release, now, changes, said, folder, reverts=record.number)


def _inverse(change: dict[str, Any]) -> Change:
    kind, id = INVERSE[change["kind"]], change["id"] if change["server_id"] is None else change["server_id"]
    fields = [Field(**field) for field in change["fields"]] if kind == CHANGED else []
    return Change(
        kind,
        change["entity"],
        id,
        change["noun"],
        _title(change),
        tuple(dataclasses.replace(field, old=field.new, new=field.old, note="") for field in fields),
        tuple(change["dependents"].items()),
        tuple(change["theirs"].items()),
        server_id=id if kind == NEW else None,
    )


def _title(change: dict[str, Any]) -> str:
    """Return the title of a row with its id on the server."""
    here, there = (f"{change['noun']} {change[id]} " for id in ("id", "server_id"))
    title = str(change["title"])
    return there + title.removeprefix(here) if change["server_id"] is not None and title.startswith(here) else title


# Whether it can be undone


class UndoCheck:
    """Checks whether the rows of a record are unchanged since it was applied. Raises Refused if not.

    later: the records after it, newest first. rows: the staged rows. plan: the plan that undoes it.
    """

    def __init__(self, server: Server, record: Record, later: Iterable[Record]) -> None:
        self.server, self.record, self.later, self.version = server, record, later, server.version()
        with server.reading():
            self.rows = Restoration(server, record)
            self.refuse()
            self.plan = _inverse_plan(server, record, self.rows)

    def prepare(self) -> None:
        """Stage the rows again in the transaction that writes, if its TEMP tables are those of no other one."""
        if not self.server.keeps_temp_tables:
            self.rows = Restoration(self.server, self.record)

    def refuse(self) -> None:
        """Raise Refused if the record cannot be undone."""
        _refuse_reasons(self.problems())

    def problems(self) -> Iterator[str]:
        """Return the reasons why the record cannot be undone."""
        if self.rows.missing:
            yield f"{self.server.title} no longer has the {self.rows.missing[0]}, so this change cannot be undone"
            return
        for table, rows in self.rows.last_values.items():
            rest = iter(rows.items())
            while chunk := dict(islice(rest, CHUNK)):
                yield from self._value_problems(table, chunk)
        yield from self.rows.keyless_problems()
        for table, temp in self.rows.deleted():
            found = self.server.all(f"SELECT t.id FROM {quoted(table)} AS t JOIN {temp} AS b ON b.{KEY} = t.id")
            yield from (f"{table} {id} exists again: delete it first" for (id,) in found[:CHUNK])
        yield from self._reference_problems()

    def _value_problems(self, table: str, last_values: dict[int, dict[str, Any]]) -> Iterator[str]:
        """Return the rows of a table that are missing or have other values than the record left them, by id."""
        names = list(self.server.schema.columns[table])
        columns, among = ", ".join(self.server.as_stored(table, "t")), ", ".join(map(str, last_values))
        rows = self.server.all(f"SELECT t.id, {columns} FROM {quoted(table)} AS t WHERE t.id IN ({among})")
        found = {id: dict(zip(names, row, strict=True)) for id, *row in rows}
        for id, values in last_values.items():
            if id in found:
                yield from self._row_problems(table, id, found[id], values)
            else:
                yield f"{table} {id} no longer exists, so this change cannot be undone"

    def _row_problems(self, table: str, id: int, now: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
        for name, left in values.items():
            if name in references.SERVER_UPDATED.get(table, ()) or now.get(name) == left:
                continue
            if name in ("password", "api_key", "otp_secret"):
                yield f"{table} {id}: its {name} was changed since: {self._remedy(table, id)}"
            else:
                found = f"is {_shown(now.get(name))} now, and was {_shown(left)} when the change was applied"
                yield f"{table} {id}: {name} {found}: {self._remedy(table, id)}"

    def _remedy(self, table: str, id: int) -> str:
        number = self._changed_later.get((table, id))
        return "change it by hand" if number is None else f"undo change {number} first, or change it by hand"

    @functools.cached_property
    def _changed_later(self) -> dict[tuple[str, int], int]:
        """The newest later plan in effect that wrote a row, by table and id."""
        found: dict[tuple[str, int], int] = {}
        for record in self.later:
            for row in records.rows(record) if record.reverted_by is None else ():
                if row.id is not None:
                    found.setdefault((row.table, int(row.id)), record.number)
        return found

    def _reference_problems(self) -> Iterator[str]:
        """Return the inserted rows that other rows refer to."""
        for table, ids in self.rows.inserted().items():
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
            return column in self.rows.last_values.get(table, {}).get(id, {})
        return self.rows.is_inserted(table, column, to)

    def dangling(self) -> Iterator[str]:
        """Return the restored rows whose links have become orphans."""
        for table, temp in self.rows.deleted():
            for link in sorted({*references.RULES, *self.server.schema.links}):
                if link.table == table and self.server.has(link.table, link.column) and self.server.has(link.to):
                    yield from self._dangling(table, temp, link)

    def _dangling(self, table: str, temp: str, link: references.Link) -> Iterator[str]:
        column = f"t.{quoted(link.column)}"
        sql = f"""SELECT t.id, {column} FROM {quoted(table)} AS t JOIN {temp} AS b ON b.{KEY} = t.id
            LEFT JOIN {quoted(link.to)} AS o ON o.id = {column} WHERE {column} IS NOT NULL AND o.id IS NULL"""
        known = self.record.orphan_links.get(f"{table}.{link.column}", ())
        for id, to in self.server.all(sql):
            if to not in known:
                yield f"{table} {id}: its {link.to} {to} no longer exists, so this change cannot be undone"


def _shown(value: Any) -> str:
    return "empty" if value is None else f'"{printable(value, 60)}"' if isinstance(value, str) else str(value)
