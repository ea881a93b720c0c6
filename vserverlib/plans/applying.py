"""Applying a plan: a backup and a record first, then one transaction, of which each row is verified before and after.

The plan is made without the lock, and under it only again if somebody wrote meanwhile. If it is another one then,
nothing is written: a person has to look at it again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from vserverlib import Error, signals
from vserverlib.plans import conflicts, mapping, net_changes, planning, records, references, server_backups, sessions
from vserverlib.plans.execution import Execution
from vserverlib.plans.ids import Ids, New
from vserverlib.plans.plan import Applied, ChangedMeanwhile, Plan
from vserverlib.plans.planning import Work
from vserverlib.plans.server import Server
from vserverlib.plans.sessions import Session
from vserverlib.transfer.sources import ProgressBar, no_progress_bar


def plan(session: Session) -> Plan:
    """Return what applying would change now. Writes nothing; raises a Refused."""
    with _prepared(session) as (_, work):
        return work.plan


def apply(
    session: Session, expected: Plan | None = None, *, backup: bool = True, bar: ProgressBar = no_progress_bar
) -> Applied:
    """Apply the changes of a working copy to its server's database, all or nothing.

    expected: the plan that a person has confirmed; a ChangedMeanwhile is raised if it is another one by now. backup:
    make one first. Raises an Error if there is nothing to apply, and a Refused.
    """
    began = time.perf_counter()
    with _prepared(session) as (server, work):
        if not work.plan:
            raise Error(f"nothing to apply: no row of {server.title} was changed here")
        _refuse_another(server, work.plan, expected)
        number = records.next_number(server.identity)
        with (
            server_backups.made(server, session.target, number, bar, wanted=backup) as kept,
            signals.finishing(),
            records.written(server.identity, number, kept) as log,
        ):
            applied, locked, ids = _write(server, session, work, log)
    _note_applied(session, ids)
    path = records.folder(server.identity) / f"{number:04}.json"
    return Applied(applied, number, time.perf_counter() - began, locked, path, kept)


@contextlib.contextmanager
def _prepared(session: Session) -> Iterator[tuple[Server, Work]]:
    """The server's database, open, and the work that the plan of a working copy is."""
    with (
        contextlib.closing(sessions.opened(session.target, session.release)) as server,
        net_changes.read(session.database, session.since) as net,
    ):
        work = planning.settled(server, net, session.changes, session.ids, session.about(server))
        try:
            yield server, work
        finally:
            work.judge.close()


def _refuse_another(server: Server, found: Plan, expected: Plan | None) -> None:
    if expected is not None and found != expected:
        raise ChangedMeanwhile([f"{server.title} was changed meanwhile, and the plan is another one now: look again"])


def _write(server: Server, session: Session, work: Work, log: records.Log) -> tuple[Plan, float, dict[New, int]]:
    """Write in the one transaction; return what, for how many seconds others were locked out, and ids of new rows."""
    with server.writing(_tables(work)):
        began = time.perf_counter()
        if server.version() != work.version:
            about = session.about(server)
            again = planning.made(server, work.net, session.changes, session.ids, about, work.fingerprints)
            _refuse_another(server, again.plan, work.plan)
            work = again
        execution = Execution(server, log)
        execution.give_ids(work.writes.fresh)
        plan = work.plan.with_ids({(new.entity, new.id): id for new, id in execution.ids.items()})
        log.begin(plan, work.nowhere)
        execution.run(work)
        _verify(server, work, session.ids.with_applied(execution.ids))
        log.finish()
        signals.point_of_no_return()
    return plan, time.perf_counter() - began, execution.ids


def _tables(work: Work) -> set[str]:
    """Return the tables to lock: the written ones, and the ones that may refer to a deleted row."""
    links = [link for link in (*references.FATES, *work.many) if link.to in work.gone.tables]
    return {*work.writes.tables(), *work.gone.tables, *(link.table for link in links)}


def _verify(server: Server, work: Work, ids: Ids) -> None:
    """Read each written row again, by the importer's code; an Error, with all rolled back, if it is not as meant."""
    comparison = conflicts.Comparison(server, work.judge, ids)
    problems = [*comparison.written(work.net.new), *comparison.written(work.net.changed)]
    for entity in mapping.ENTITIES:
        table = mapping.table_of(server, entity)
        if table in work.gone.tables and table in references.ORDER:
            key = server.key(table)
            left = f'SELECT 1 FROM "{table}" AS t JOIN {work.gone.temp(table)} AS g ON g.key = t.{key} LIMIT 1'
            problems += [f"rows of {table} are still there"] if server.one(left) else []
    if problems:
        raise Error(f"{server.title} does not read back as it was written ({problems[0]}): nothing was changed")


def _note_applied(session: Session, ids: dict[New, Any]) -> None:
    """Make the applied state the new beginning of the copy: the next plan has later changes only."""
    session.ids.add(ids)
    session.changes.clear()
    conn = session.database.connection()
    (busy, *_) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise Error("it was applied, but the working copy is in use: begin a new session")
    session.since = newest_change(conn)


def newest_change(conn: Any) -> int:
    """Return the number of the newest change in a journal, 0 for an empty one."""
    return int(conn.execute("SELECT COALESCE(MAX(id), 0) FROM change").fetchone()[0])
