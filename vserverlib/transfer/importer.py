"""Imports a source in one transaction, into an empty database, or merges it into one with entities.

Rows are streamed, so memory does not grow with the source. The report lists everything that could not be kept as it
was: rows left out, links to missing rows, changed values, runs with new ids.

This module owns the transaction. values.py converts the values, writing.py writes the rows, merging.py compares them
with existing rows. detection.py opens a source.
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
from vserverlib.databases import backups, connecting, recording, server_origin, storage
from vserverlib.databases.postgresql import archives, dumps, servers
from vserverlib.entities import checks, rules
from vserverlib.progress_callback import Advance, ticker
from vserverlib.queries import inspection
from vserverlib.transfer import merging, values, writing
from vserverlib.transfer.import_report import Count, ImportReport, Refused
from vserverlib.transfer.sources import NeedsCredentials, Origin, Row, Source
from vserverlib.transfer.values import FindHash, ValueConverter
from vserverlib.transfer.writing import ROWS_PER_CALL, Writer

CACHE_KIB = 64 * 1024  # memory of the database during an import: SQLite's pages, PostgreSQL's sorts
MISFIT_RULE = "DBF004"  # breaks for a value of another type than its column
Target = Path | str  # a file, or the URL of a PostgreSQL database
Confirm = Callable[[ImportReport], object]


# Rows


def total(source: Source) -> int:
    """Return the number of rows in a source."""
    return sum(source.count(origin.table) for origin in source.origins)


class ImportJob(NamedTuple):
    """A source and the options of its import.

    strict: refuse a source if a row cannot be kept or breaks a rule. hashes, any_type: see ValueConverter.
    """

    source: Source
    advance: Advance
    strict: bool = False
    hashes: bool = True
    any_type: bool = True

    @property
    def omissions(self) -> merging.Omissions:
        """The columns that the source leaves out."""
        return merging.Omissions(self.source.made_up, self.source.defaults)

    def collect(self, database: Any, report: ImportReport, prefix: str = "", stored: FindHash | None = None) -> None:
        """Write all rows into the tables with this prefix, and add to the report."""
        if self.hashes and isinstance(self.source, NeedsCredentials):
            self.source.generate_credentials(database)
        tick = ticker(self.advance)
        for origin in self.source.origins:
            self._collect_table(database, report, origin, prefix, stored, tick)
        for table, count in self.source.orphan_rows(report).items():
            read = self.source.count(table)
            report.tables.append(Count(table, read, read - count, count))
        report.unmapped_tables, report.lost = self.source.unmapped_tables(), self.source.lost_columns()
        report.tables += [Count(table, count, 0, count) for table, count in report.unmapped_tables.items()]
        self.source.refuse_changed()
        self.advance(total(self.source))

    def _collect_table(
        self,
        database: Any,
        report: ImportReport,
        origin: Origin,
        prefix: str,
        stored: FindHash | None,
        tick: Callable[[Row], Row],
    ) -> None:
        options = {"hashes": self.hashes, "any_type": self.any_type}
        exactly = self.source.sequence_state is not None and self.any_type
        converter = ValueConverter(origin, report, **options, stored=stored, exactly=exactly)
        writer, before = Writer(database, origin, report, prefix), (report.left_out.total, report.doubled.total)
        found = self.source.rows(origin, report)
        if not prefix:  # a merge sets defaults in new rows only
            found = values.with_defaults(found, origin, self.source.defaults.get(origin.entity, {}))
        rows, kept = map(tick, converter.converted(found)), 0
        while chunk := list(itertools.islice(rows, ROWS_PER_CALL)):
            kept += writer.write(chunk)
        left_out, doubled = report.left_out.total - before[0], report.doubled.total - before[1]
        report.refused[origin.entity] += left_out
        report.tables.append(Count(origin.table, kept + left_out + doubled, kept, left_out + doubled))

    def write(self, database: Any) -> ImportReport:
        """Write all rows into empty tables. Call it in a transaction."""
        recording.defer_links(database)
        server_origin.note(database, self.source.server)
        report = ImportReport()
        self.collect(database, report)
        report.links.update(writing.empty_links(database, report))
        if self.source.sequence_state is None:
            writing.advance_sequences(database)
        else:
            writing.continue_from(database, self.source.sequence_state)
        for table in writing.without_free_ids(database):
            report.values[f"{table}.id, the highest possible number, so no row can be added"] = 1
        self.judge(database, report, checks.everywhere)
        return report

    def misfits(self, database: Any, report: ImportReport, scope: Callable[[str], str]) -> Iterator[checks.Finding]:
        """Find values of another type than their column, which only SQLite can store.

        An import of another program's source notes each value that it keeps, so no note means no such value.
        """
        may_have_some = self.source.sequence_state or any(done.endswith(values.KEPT_AS_IS) for done in report.values)
        if database.is_sqlite and may_have_some:
            for id, message in inspection.misfits(database, scope):
                yield checks.finding(MISFIT_RULE, id, None, message)

    def judge(self, database: Any, report: ImportReport, scope: Callable[[str], str]) -> None:
        """Count the rules that imported rows break, then deliver generated credentials, right before the commit.

        Raises Refused if the import is strict and a rule is broken or something could not be kept.
        """
        asked = [rule for rule in rules.RULES if rule.when != rules.AT_SAVE]
        report.breaches = checks.count(database, asked, scope)
        if misfits := sum(1 for _ in self.misfits(database, report, scope)):
            report.breaches[MISFIT_RULE] = misfits
        if self.strict:
            grave = [rule for rule in asked if rule.level != rules.INFO and rule.code in report.breaches]
            for finding in checks.of_tables(database, grave, scope):
                report.broken.add(finding.text)
            for finding in self.misfits(database, report, scope):
                report.broken.add(finding.text)
            if report.left_out or report.lost_values or report.broken:
                raise Refused(report)
        if self.hashes and isinstance(self.source, NeedsCredentials):
            self.source.deliver_credentials()


# A whole database


def run(
    source: Source,
    target: Target,
    advance: Advance = bool,
    *,
    replace: bool = False,
    strict: bool = False,
    hashes: bool = True,
) -> ImportReport:
    """Import a source into an empty or new database, a file or a URL, in one transaction, and return the report.

    replace: delete the present entities first; a backup keeps them. hashes: see ValueConverter. Raises an Error if
    there are entities already, or the source is damaged or changes meanwhile; Refused if the import is strict and a
    row or value cannot be kept, or breaks a rule.
    """
    job = ImportJob(source, advance, strict, hashes, any_type=isinstance(target, Path))
    if _exists(target):
        return _fill_existing(job, target, replace)
    return _create_file(job, target) if isinstance(target, Path) else _create_on_server(job, target)


def dry_run(
    source: Source, target: Target, advance: Advance = bool, *, replace: bool = False, strict: bool = False
) -> ImportReport:
    """Return the report of an import into a temporary database."""
    if _exists(target):
        if not replace:
            with contextlib.closing(connecting.connect(target, read_only=True)) as database:
                _refuse_filled(database)
    elif isinstance(target, Path):
        files.refuse_taken(target)
    with files.temporary_folder() as folder:
        job = ImportJob(source, advance, strict, hashes=False, any_type=isinstance(target, Path))
        return _fill_new(job, storage.create(folder / "dry-run"), os.path.basename(target))


def merge(
    source: Source,
    target: Target,
    advance: Advance = bool,
    *,
    strict: bool = False,
    dry: bool = False,
    confirm: Confirm | None = None,
) -> ImportReport:
    """Merge a source into a database and return the report. An empty database gets an import instead.

    confirm: called with the plan before the merge writes; it raises an Error to cancel. dry: merge into a temporary
    copy, or on PostgreSQL in a transaction that is rolled back. Raises the errors of run().
    """
    if _exists(target):
        is_file = isinstance(target, Path)
        with contextlib.closing(connecting.connect(target, sandbox=dry and is_file)) as database:
            if models.is_filled():
                job = ImportJob(source, advance, strict, any_type=is_file)
                return _merge_into(job, database, None if dry else confirm, dry and not is_file)
    return (dry_run if dry else run)(source, target, advance, strict=strict)


def merge_into(source: Source, database: Any, advance: Advance = bool, *, strict: bool = False) -> ImportReport:
    """Merge a source into an open file of ours and return the report; an empty one too, row by row."""
    return _merge_into(ImportJob(source, advance, strict), database, None, dry=False)


def _exists(target: Target) -> bool:
    return os.path.lexists(target) if isinstance(target, Path) else servers.has_tables(target)


def _refuse_filled(database: Any) -> None:
    if models.is_filled():
        remedy = "add to them with --merge, replace them with --replace, or name a new database with -d"
        raise Error(f"{database.title} has entities already: {remedy}")


def _create_file(job: ImportJob, target: Path) -> ImportReport:
    """Create a database file from a source. It appears under its name when it is complete."""
    files.refuse_taken(target)
    cannot = f"{files.shown(target)} cannot be created"
    with contextlib.ExitStack() as stack:
        with files.as_error(cannot):
            draft = stack.enter_context(files.draft_for(target))
            draft.unlink()
            storage.create(draft)
        report = _fill_new(job, draft, target.name)
        with files.as_error(cannot):
            signals.point_of_no_return()
            files.move_into_place(draft, target)
    return dataclasses.replace(report, created=True)


def _create_on_server(job: ImportJob, url: str) -> ImportReport:
    """Create and fill the tables on a PostgreSQL server, in one transaction."""
    reports = list[ImportReport]()

    def fill(database: Any) -> None:
        connecting.bind(database)
        with recording.bulk_change(database, f"imported {job.source.about}"):
            reports.append(job.write(database))
        signals.point_of_no_return()

    servers.create(url, fill=fill)
    return dataclasses.replace(reports[0], created=True)


def _fill_new(job: ImportJob, file: Path, title: str) -> ImportReport:
    """Import into a new database that no other program knows yet."""
    with contextlib.closing(connecting.connect(file)) as database:
        database.title = printable(title)
        database.execute_sql("PRAGMA synchronous = OFF")  # the file gets its name when it is complete
        _set_cache(database)
        with recording.bulk_change(database, f"imported {job.source.about}"), database.fetching():
            return job.write(database)


def _fill_existing(job: ImportJob, target: Target, replace: bool) -> ImportReport:
    """Import into an existing database. replace: delete its entities first."""
    about = f"imported {job.source.about}" + (", replacing everything" if replace else "")
    if replace and not isinstance(target, Path):
        dumps.about(target).refuse_lack()
    with contextlib.closing(connecting.connect(target)) as database:
        _set_cache(database)
        with backups.keeping_first(database) as kept:
            if not replace:
                _refuse_filled(database)
            if replace or isinstance(target, Path):
                _back_up(target, kept)
            named = str(kept[0].path.absolute()) if kept else None
            with recording.bulk_change(database, about, named), database.fetching():
                writing.clear(database)
                writing.renew_key_salt(database)
                report = job.write(database)
    return dataclasses.replace(report, backup=kept[0].path if kept else None)


def _back_up(target: Target, kept: list[backups.Backup]) -> None:
    """Make a backup before an import. Raises backups.Damaged if the backup could not be restored."""
    if not isinstance(target, Path):
        return archives.keep(target, kept)
    try:
        return backups.keep(target, kept)
    except backups.FailedIntegrityCheck as error:
        new = addresses.command("NEW", "import", "SOURCE")
        remedy = f"repair it ({error.repair}), or import into a new database: {new}"
        message = f"its backup could not be restored, so nothing was imported; {remedy}"
        raise backups.FailedIntegrityCheck(target, error.fault, message) from error


def _set_cache(database: Any) -> None:
    """Give the connection CACHE_KIB of memory."""
    if not database.is_sqlite:
        database.set_in_each(work_mem=CACHE_KIB)
        return
    for schema in ("main", "temp"):
        database.execute_sql(f"PRAGMA {schema}.cache_size = -{CACHE_KIB}")


def _merge_into(job: ImportJob, database: Any, confirm: Confirm | None, dry: bool) -> ImportReport:
    """Collect the rows of a source, compare them with the present rows, and write new and changed rows.

    No lock is held while `confirm` waits for an answer. If a row changes meanwhile, nothing is written.
    """
    _set_cache(database)
    with database.with_temp_tables():
        return _merge_tables(job, database, confirm, dry)


def _merge_tables(job: ImportJob, database: Any, confirm: Confirm | None, dry: bool) -> ImportReport:
    report, seen = ImportReport(), None
    with database.reading(), database.fetching():
        merging.prepare(database)
        job.collect(database, report, merging.PREFIX, partial(_password_hash, database))
    if confirm is not None:
        with database.reading():
            seen = merging.newest_change(database)
            report.plan = merging.plan(database, report, job.omissions)
        if report.has_news:
            confirm(report)
    with database.atomic() as transaction:
        database.take_write_lock()
        if confirm is None:
            report.plan = merging.plan(database, report, job.omissions)
        elif merging.newest_change(database) != seen:
            raise Error(f"{database.title} was changed by another program meanwhile: nothing was imported; try again")
        _apply(job, database, report)
        if dry:
            transaction.rollback()
        else:
            writing.advance_sequences(database)
            signals.point_of_no_return()
    return report


def _apply(job: ImportJob, database: Any, report: ImportReport) -> None:
    """Write the plan of a merge, as one change in the journal."""
    if report.has_news:
        with recording.one_change(database, None, f"merged {job.source.about}") as report.change:
            recording.defer_links(database)
            if job.source.server is not None:
                server_origin.note(database, job.source.server)
            merging.apply(database, job.omissions)
    job.judge(database, report, merging.imported)


def _password_hash(database: Any, username: str) -> str | None:
    """Return the password hash of a user."""
    row = database.execute_sql(f'SELECT password FROM "user" WHERE username = {database.param}', [username]).fetchone()
    return row[0] if row else None
