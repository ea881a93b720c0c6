"""Importing a source: every row that can be kept, in one transaction, into an empty database, or beside what it holds.

Rows are read and written as they come, so memory does not grow with the source. What cannot be kept as it was is part
of the outcome: rows that are left out, links that led nowhere, values that were changed, runs that got new ids.

It owns the transaction. A source is sources.py's, finding one detection.py's; what becomes of values, values.py's;
how rows are written, writing.py's; what is the same in a database that has entities, merging.py's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import models
from vserverlib import Error, addresses, files, printable, signals
from vserverlib.databases import backups, connecting, recording, storage
from vserverlib.databases.postgresql import archives, dumps, servers
from vserverlib.entities import checks, rules
from vserverlib.progress_callback import Advance, ticker
from vserverlib.queries import inspection
from vserverlib.transfer import merging, values, writing
from vserverlib.transfer.import_report import Count, Outcome, Refused
from vserverlib.transfer.sources import NeedsCredentials, Source
from vserverlib.transfer.values import Keeper, Stored
from vserverlib.transfer.writing import CHUNK, Writer

CACHE = 64 * 1024  # KiB that the database may use while rows are written: SQLite for pages, PostgreSQL for a sort
MISFIT = "DBF004"  # the rule that is broken by a value which is kept, and is none of its kind
Target = Path | str  # a file, or the URL of a database on a server
Confirm = Callable[[Outcome], object]


# Rows


def total(source: Source) -> int:
    """Return how many rows there are to import."""
    return sum(source.count(origin.table) for origin in source.origins)


class Work(NamedTuple):
    """What an import is about. strict: what cannot be kept, or breaks a rule, is refused. hashes, loose: see Keeper."""

    source: Source
    advance: Advance
    strict: bool = False
    hashes: bool = True
    loose: bool = True

    @property
    def unsaid(self) -> merging.Unsaid:
        """What the source says nothing of."""
        return merging.Unsaid(self.source.made_up, self.source.defaults)

    def collect(self, database: Any, outcome: Outcome, prefix: str = "", stored: Stored | None = None) -> None:
        """Write all rows into the tables of this prefix, and note what becomes of them."""
        if self.hashes and isinstance(self.source, NeedsCredentials):
            self.source.complete(database)
        tick = ticker(self.advance)
        exactly = self.source.beside is not None and self.loose
        for origin in self.source.origins:
            keeper = Keeper(origin, outcome, hashes=self.hashes, loose=self.loose, stored=stored, exactly=exactly)
            writer, before = Writer(database, origin, outcome, prefix), (outcome.left_out.total, outcome.doubled.total)
            found = self.source.rows(origin, outcome)
            if not prefix:  # else a merge gives them to new rows alone
                found = values.completed(found, origin, self.source.defaults.get(origin.entity, {}))
            rows, kept = map(tick, keeper.kept(found)), 0
            while chunk := list(itertools.islice(rows, CHUNK)):
                kept += writer.write(chunk)
            left_out, doubled = outcome.left_out.total - before[0], outcome.doubled.total - before[1]
            outcome.refused[origin.entity] += left_out
            outcome.tables.append(Count(origin.table, kept + left_out + doubled, kept, left_out + doubled))
        for table, count in self.source.orphan_rows(outcome).items():
            read = self.source.count(table)
            outcome.tables.append(Count(table, read, read - count, count))
        outcome.unmapped_tables, outcome.lost = self.source.unmapped_tables(), self.source.lost_columns()
        outcome.tables += [Count(table, count, 0, count) for table, count in outcome.unmapped_tables.items()]
        self.source.refuse_changed()
        self.advance(total(self.source))

    def write(self, database: Any) -> Outcome:
        """Write all rows into tables that are empty. Within a transaction."""
        recording.defer_links(database)
        outcome = Outcome()
        self.collect(database, outcome)
        outcome.links.update(writing.empty_links(database, outcome))
        if self.source.beside is None:
            writing.count_on(database)
        else:
            writing.advance_sequence(database, self.source.beside)
        for table in writing.used_up(database):
            outcome.values[f"{table}.id, the highest that there can be, so that no other can be added"] = 1
        self.judge(database, outcome, checks.everywhere)
        return outcome

    def misfits(self, database: Any, outcome: Outcome, scope: Callable[[str], str]) -> Iterator[checks.Finding]:
        """Find the values that are none of their kind: columns of a server take none.

        Looked for where one was kept, or may have been: a database of ours had it before, so that is asked if strict.
        """
        may_be = self.strict if self.source.beside else any(done.endswith(values.KEPT) for done in outcome.values)
        if database.is_sqlite and may_be:
            for id, message in inspection.misfits(database, scope):
                yield checks.finding(MISFIT, id, None, message)

    def judge(self, database: Any, outcome: Outcome, scope: Callable[[str], str]) -> None:
        """Count the rules that imported rows break; strict: an error where any do, or a row could not be kept.

        Where there is none, secrets that were made are handed out: it is the last thing before all is committed.
        """
        asked = [rule for rule in rules.RULES if rule.when != rules.AT_SAVE]
        outcome.breaches = checks.count(database, asked, scope)
        if misfits := sum(1 for _ in self.misfits(database, outcome, scope)):
            outcome.breaches[MISFIT] = misfits
        if self.strict:
            grave = [rule for rule in asked if rule.level != rules.INFO and rule.code in outcome.breaches]
            for finding in checks.of_tables(database, grave, scope):
                outcome.broken.add(finding.text)
            for finding in self.misfits(database, outcome, scope):
                outcome.broken.add(finding.text)
            if outcome.left_out or outcome.lost_values or outcome.broken:
                raise Refused(outcome)
        if self.hashes and isinstance(self.source, NeedsCredentials):
            self.source.hand_out()


# A whole database


def run(
    source: Source,
    target: Target,
    advance: Advance = bool,
    *,
    replace: bool = False,
    strict: bool = False,
    hashes: bool = True,
) -> Outcome:
    """Import a source into an empty database, by its path or URL, made where there is none; return what became of it.

    In one transaction; what a database held before is kept in a backup. replace: take out what is there. hashes: see
    Keeper. Raises an Error where there are entities already, the source is damaged, or was written to meanwhile; and
    Refused where `strict` finds what cannot be kept, or breaks a rule.
    """
    work = Work(source, advance, strict, hashes, loose=isinstance(target, Path))
    if _is_there(target):
        return _into(work, target, replace)
    return _made(work, target) if isinstance(target, Path) else _made_there(work, target)


def dry_run(
    source: Source, target: Target, advance: Advance = bool, *, replace: bool = False, strict: bool = False
) -> Outcome:
    """Return what an import would do: it is done in a private database, which is thrown away."""
    if _is_there(target):
        if not replace:
            with contextlib.closing(connecting.connect(target, read_only=True)) as database:
                _refuse_filled(database)
    elif isinstance(target, Path):
        files.refuse_taken(target)
    with files.temporary_folder() as folder:
        work = Work(source, advance, strict, hashes=False, loose=isinstance(target, Path))
        return _filled(work, storage.create(folder / "dry-run"), os.path.basename(target))


def merge(
    source: Source,
    target: Target,
    advance: Advance = bool,
    *,
    strict: bool = False,
    dry: bool = False,
    confirm: Confirm | None = None,
) -> Outcome:
    """Merge a source into a database, and return what became of it; into one that is empty, it is imported.

    confirm: is called with the plan before anything is written, and raises an Error where it is not to be. dry: do it
    in a private copy, which is thrown away, or on a server in a transaction that is rolled back. See run() for what
    else is raised.
    """
    if _is_there(target):
        is_file = isinstance(target, Path)
        with contextlib.closing(connecting.connect(target, sandbox=dry and is_file)) as database:
            if models.is_filled():
                work = Work(source, advance, strict, loose=is_file)
                return _merged(work, database, None if dry else confirm, dry and not is_file)
    return (dry_run if dry else run)(source, target, advance, strict=strict)


def _is_there(target: Target) -> bool:
    return os.path.lexists(target) if isinstance(target, Path) else servers.has_tables(target)


def _refuse_filled(database: Any) -> None:
    if models.is_filled():
        remedy = "--merge adds to them, --replace takes them out, or name a database by -d that is not there yet"
        raise Error(f"{database.title} has entities already: {remedy}")


def _made(work: Work, target: Path) -> Outcome:
    """Make a database of a source beside its place, and put it there when it is whole."""
    files.refuse_taken(target)
    cannot = f"{files.shown(target)} cannot be made"
    with contextlib.ExitStack() as stack:
        with files.as_error(cannot):
            draft = stack.enter_context(files.draft_for(target))
            draft.unlink()
            storage.create(draft)
        outcome = _filled(work, draft, target.name)
        with files.as_error(cannot):
            signals.point_of_no_return()
            files.put(draft, target)
    return dataclasses.replace(outcome, made=True)


def _made_there(work: Work, url: str) -> Outcome:
    """Make the tables in a database on a server, and fill them, in one transaction."""
    made = list[Outcome]()

    def fill(database: Any) -> None:
        connecting.bind(database)
        with recording.bulk_change(database, f"imported {work.source.about}"):
            made.append(work.write(database))
        signals.point_of_no_return()

    servers.create(url, fill=fill)
    return dataclasses.replace(made[0], made=True)


def _filled(work: Work, file: Path, title: str) -> Outcome:
    """Import into a database that is new, and nobody else's yet."""
    with contextlib.closing(connecting.connect(file)) as database:
        database.title = printable(title)
        database.execute_sql("PRAGMA synchronous = OFF")  # it is put in its place when it is whole, or not at all
        _give_room(database)
        with recording.bulk_change(database, f"imported {work.source.about}"), database.fetching():
            return work.write(database)


def _into(work: Work, target: Target, replace: bool) -> Outcome:
    """Import into a database that is there; replace: in the place of all that it holds."""
    about = f"imported {work.source.about}" + (", in the place of all that was there" if replace else "")
    if replace and not isinstance(target, Path):
        dumps.about(target).refuse_lack()
    with contextlib.closing(connecting.connect(target)) as database:
        _give_room(database)
        with backups.keeping_first(database) as kept:
            if not replace:
                _refuse_filled(database)
            if replace or isinstance(target, Path):
                _keep(target, kept)
            named = str(kept[0].path.absolute()) if kept else None
            with recording.bulk_change(database, about, named), database.fetching():
                writing.clear(database)
                outcome = work.write(database)
    return dataclasses.replace(outcome, backup=kept[0].path if kept else None)


def _keep(target: Target, kept: list[backups.Backup]) -> None:
    """Make a backup of what an import replaces; an Error, with a way on, where it could not be restored."""
    if not isinstance(target, Path):
        return archives.keep(target, kept)
    try:
        return backups.keep(target, kept)
    except backups.FailedIntegrityCheck as error:
        elsewhere = addresses.command("NEW", "import", "SOURCE")
        remedy = f"repair it ({error.repair}), or import into a new one: {elsewhere}"
        message = f"restore would refuse its backup, so nothing was imported; {remedy}"
        raise backups.FailedIntegrityCheck(target, error.fault, message) from error


def _give_room(database: Any) -> None:
    """Have a session use more memory than it would for a few rows."""
    if not database.is_sqlite:
        database.set_in_each(work_mem=CACHE)
        return
    for schema in ("main", "temp"):
        database.execute_sql(f"PRAGMA {schema}.cache_size = -{CACHE}")


def _merged(work: Work, database: Any, confirm: Confirm | None, dry: bool) -> Outcome:
    """Collect the rows of a source, compare them with those that are there, and write what is new or another.

    Somebody who is asked holds up nobody else: if one changes a row meanwhile, it is told, and nothing is written.
    """
    _give_room(database)
    with database.with_temp_tables():
        return _merged_within(work, database, confirm, dry)


def _merged_within(work: Work, database: Any, confirm: Confirm | None, dry: bool) -> Outcome:
    outcome, seen = Outcome(), None
    with database.reading(), database.fetching():
        merging.prepare(database)
        work.collect(database, outcome, merging.PREFIX, partial(_password, database))
    if confirm is not None:
        with database.reading():
            seen = merging.newest_change(database)
            outcome.plan = merging.plan(database, outcome, work.unsaid)
        if outcome.has_news:
            confirm(outcome)
    with database.atomic() as transaction:
        database.take_write_lock()
        if confirm is None:
            outcome.plan = merging.plan(database, outcome, work.unsaid)
        elif merging.newest_change(database) != seen:
            raise Error(f"{database.title} was changed by others meanwhile: nothing was imported; try again")
        _apply(work, database, outcome)
        if dry:
            transaction.rollback()
        else:
            writing.count_on(database)
            signals.point_of_no_return()
    return outcome


def _apply(work: Work, database: Any, outcome: Outcome) -> None:
    """Write what a merge has planned, as one change on record."""
    if outcome.has_news:
        with recording.one_change(database, None, f"merged {work.source.about}") as outcome.change:
            recording.defer_links(database)
            merging.apply(database, work.unsaid)
    work.judge(database, outcome, merging.imported)


def _password(database: Any, username: str) -> str | None:
    """Return the hash of the password that a user has."""
    row = database.execute_sql(f'SELECT password FROM "user" WHERE username = {database.param}', [username]).fetchone()
    return row[0] if row else None
