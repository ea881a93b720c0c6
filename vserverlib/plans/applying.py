"""Apply a plan in one transaction, after a backup. Each row is verified before and after it is written.

The plan is computed without a lock. If the database changed meanwhile, the plan is computed again under the lock; if
the two plans differ, nothing is written and the person has to confirm the new plan.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

from vserverlib import Error, files, signals
from vserverlib.plans import conflicts, mapping, net_changes, planning, records, references, server_backups, sessions
from vserverlib.plans.execution import Execution
from vserverlib.plans.plan import START_AGAIN, Applied, ChangedMeanwhile, Plan
from vserverlib.plans.planning import PlannedWrites
from vserverlib.plans.row_ids import Ids, New
from vserverlib.plans.server import Server
from vserverlib.plans.sessions import Session
from vserverlib.transfer.sources import ProgressBar, no_progress_bar


def plan(session: Session, bar: ProgressBar = no_progress_bar) -> Plan:
    """Return the plan: what apply() would change now. Writes nothing. Raises Refused if it cannot be applied."""
    with _prepared(session, bar) as (_, planned):
        return planned.plan


def apply(
    session: Session, expected: Plan | None = None, *, backup: bool = True, bar: ProgressBar = no_progress_bar
) -> Applied:
    """Apply the changes of a working copy to its server's database, all or nothing.

    expected: the plan that a person confirmed; raises ChangedMeanwhile if the current plan differs. backup: back up the
    database first. Raises Error if there is nothing to apply, and Refused if the plan cannot be applied.
    """
    began = time.perf_counter()
    with _prepared(session, bar) as (server, planned):
        if not planned.plan:
            raise Error(f"nothing to apply: this working copy of {server.title} has no changes")
        _refuse_another(server, planned.plan, expected)
        with (
            records.numbered(server.identity, server.title) as number,
            server_backups.created(server, session.target, number, bar, wanted=backup) as kept,
            signals.finishing(),
            records.writing(server.identity, number, kept) as writer,
        ):
            applied, locked, ids = _write(server, session, planned, writer)
    notes = _note_applied(session, number, ids)
    path = records.folder(server.identity) / f"{number:04}.json"
    return Applied(applied, number, time.perf_counter() - began, locked, path, kept, notes)


@contextlib.contextmanager
def _prepared(session: Session, bar: ProgressBar) -> Iterator[tuple[Server, PlannedWrites]]:
    """Open the server's database and compute the plan of a working copy."""
    if session.why_ended:
        raise Error(session.why_ended)
    with (
        contextlib.closing(sessions.open_server(session.target, session.release)) as server,
        net_changes.read(session.database, session.since) as net,
    ):
        yield server, planning.compute_unlocked(server, net, session.changes, session.ids, session.header(server), bar)


def _refuse_another(server: Server, found: Plan, expected: Plan | None) -> None:
    if expected is not None and found != expected:
        raise ChangedMeanwhile(server.title, "the plan is different now")


def _write(
    server: Server, session: Session, planned: PlannedWrites, writer: records.RecordWriter
) -> tuple[Plan, float, dict[New, int]]:
    """Write in one transaction. Return the plan, the seconds that the lock was held, and the ids of new rows."""

    def compute_again() -> None:
        nonlocal planned
        version, header = server.version(), session.header(server)
        again = planning.compute(server, planned.net, session.changes, session.ids, header, planned.fingerprints)
        _refuse_another(server, again.plan, planned.plan)
        planned = dataclasses.replace(again, version=version)

    def prepare() -> None:
        if not server.keeps_temp_tables:
            compute_again()

    with server.writing(_tables(planned), prepare):
        began = time.perf_counter()
        if server.version() != planned.version:
            compute_again()
        execution = Execution(server, writer)
        execution.assign_ids(planned.writes.new_rows)
        plan = planned.plan.with_ids({(new.entity, new.id): id for new, id in execution.ids.items()})
        writer.begin(plan, planned.orphan_links)
        execution.run(planned)
        _verify(server, planned, session.ids.with_applied(execution.ids))
        writer.finish()
        signals.point_of_no_return()
    return plan, time.perf_counter() - began, execution.ids


def _tables(planned: PlannedWrites) -> set[str]:
    """Return the tables to lock: those written, and those that may refer to a deleted row."""
    links = [link for link in (*references.RULES, *planned.bulk_links) if link.to in planned.deleted.tables]
    return {*planned.writes.tables(), *planned.deleted.tables, *(link.table for link in links)}


def _verify(server: Server, planned: PlannedWrites, ids: Ids) -> None:
    """Read the written rows back with the importer's code. Raises Error, which rolls back, if one is wrong."""
    comparison = conflicts.Comparison(server, planned.reader, ids)
    problems = [*comparison.write_errors(planned.net.new), *comparison.write_errors(planned.net.changed)]
    for entity in mapping.ENTITIES:
        table = mapping.table_of(server, entity)
        if table in planned.deleted.tables and table in references.ORDER:
            key = server.key(table)
            left = f'SELECT 1 FROM "{table}" AS t JOIN {planned.deleted.temp(table)} AS g ON g.key = t.{key} LIMIT 1'
            problems += [f"deleted rows of {table} still exist"] if server.one(left) else []
    if problems:
        raise Error(f"{server.title} does not read back as written ({problems[0]}): nothing was changed")


def _note_applied(session: Session, number: int, ids: dict[New, Any]) -> tuple[str, ...]:
    """Start the next plan from the applied state, so that it contains only later changes.

    If that fails, as on a full disk, the session can plan nothing more: the note that is returned says so.
    """
    session.applied.append(number)
    session.ids.add(ids)
    session.changes.clear()
    try:
        conn = session.database.connection()
        (busy, *_) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        session.since = newest_change(conn)
        why = "it is in use" if busy else ""
    except (sqlite3.Error, Error) as error:
        why = files.reason(error)
    if why:
        session.why_ended = f"the working copy cannot plan more after change {number} ({why}): {START_AGAIN}"
    return (session.why_ended,) if why else ()


def newest_change(conn: Any) -> int:
    """Return the number of the newest change in a journal, or 0 if it is empty."""
    return int(conn.execute("SELECT COALESCE(MAX(id), 0) FROM change").fetchone()[0])
