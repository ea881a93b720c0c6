"""Upgrading a database of an earlier release to the schema of this one.

The upgrade holds the database's write lock, so that only one of several programs does it. It makes a backup first
(beside the file; for a server in the current folder), and is one transaction. schemas.py applies the migrations.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vserverlib import OutdatedSchema, addresses, files, pluralize
from vserverlib.databases import backups, schemas, storage
from vserverlib.databases.backups import Backup
from vserverlib.databases.connection import LOCK_TIMEOUT
from vserverlib.databases.postgresql import archives, dumps, servers
from vserverlib.databases.sqlite import Sqlite
from vserverlib.files import shown

if TYPE_CHECKING:
    from vserverlib.databases.postgresql.postgres import Postgres


class Upgraded(NamedTuple):
    """The result of an upgrade: the database, its schema before and after, and the backup if one was made."""

    name: str
    before: int
    after: int
    backup: Backup | None

    def summary(self) -> str:
        """Return it in one line."""
        done = f"{self.name} was upgraded from schema {self.before} to {self.after}"
        return done if self.backup is None else f"{done}; the previous state is kept in {shown(self.backup.path)}"


class Step(NamedTuple):
    """A migration that is due, and its description in one line."""

    name: str
    message: str


class Trial(NamedTuple):
    """The preview of an upgrade: the schema before, the steps, the number of rows written, the time (seconds).

    backup: the path that the backup would have, if one is made; size: its bytes, None if only pg_dump knows; tried: how
    the trial was made.
    """

    before: int
    steps: list[Step]
    rows: int
    seconds: float
    backup: Path | None
    size: int | None
    tried: str

    def summary(self) -> str:
        """Return it in one line."""
        tried = f"schema {self.before} to {schemas.NEWEST}, tried {self.tried}"
        took = f"{pluralize(self.rows, 'row')} written, including the journal's, in {self.seconds:.1f} s"
        if self.backup is None:
            return f"{tried}: {took}; without a backup"
        size = "" if self.size is None else f" of {self.size:,} bytes"
        return f"{tried}: {took}; a backup{size} would be made first, such as {shown(self.backup)}"


def due(url: str | os.PathLike[str]) -> tuple[int, list[str]]:
    """Return a database's schema and the names of the migrations that it lacks. Writes nothing."""
    if addresses.is_url(url):
        with contextlib.closing(servers.opened(os.fspath(url), read_only=True, of_any_release=True)) as opened:
            schema = schemas.version_of(opened)
        return schema, schemas.due(schema)
    path = storage.as_path(url)
    storage.check(path)
    with contextlib.closing(storage.reader(path)) as database, files.as_error(f"{shown(path)} cannot be read"):
        schema = schemas.version_of(database)
    return schema, schemas.due(schema)


def description_of(migration: str) -> str:
    """Return the first line of a migration's docstring."""
    import ast

    message = ast.get_docstring(ast.parse((schemas.MIGRATIONS / f"{migration}.py").read_text())) or ""
    return message.partition("\n")[0]


def trial(url: str | os.PathLike[str], *, backup: bool = True) -> Trial:
    """Return a preview of an upgrade. Raises an Error if it fails.

    It runs on a private copy, which is removed, or on a server in a transaction that is rolled back. The rows are those
    that the migrations write, without their own entries in schema_migration.
    """
    return _trial_on_server(os.fspath(url), backup) if addresses.is_url(url) else _trial(storage.as_path(url), backup)


def _trial(path: Path, backup: bool) -> Trial:
    before, names = due(path)
    with files.as_error(f"{shown(path)} cannot be upgraded"), _copied(path) as copy:
        size = copy.stat().st_size
        if backup:
            with _remedy_added(path):
                backups.refuse_damaged(copy, path)
        with contextlib.closing(schemas.for_migration(copy, path)) as database:
            counter, began = database.connection(), time.monotonic()
            schemas.migrate(database)
            rows, seconds = counter.total_changes - len(names), time.monotonic() - began
    place = backups.default_name(path) if backup else None
    return Trial(before, _steps(names), rows, seconds, place, size, "on a private copy")


def _steps(names: list[str]) -> list[Step]:
    return [Step(name, description_of(name)) for name in names]


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    copy = storage.private_copy(path)
    try:
        yield copy
    finally:
        files.remove_folder(copy.parent)


def upgrade(url: str | os.PathLike[str], *, backup: bool = True) -> Upgraded | None:
    """Upgrade a database. Return the result; None if it was current, or another program upgraded it meanwhile.

    backup: whether to make one first. Raises an Error if anything fails, also for a damaged database, whose backup
    would be useless; the database is then unchanged.
    """
    if addresses.is_url(url):
        return _upgrade_on_server(os.fspath(url), backup)
    path = storage.as_path(url)
    storage.check(path)
    database = schemas.for_migration(storage.refuse_other_names(path), path)
    with files.as_error(f"{shown(path)} cannot be upgraded, and was not changed"), contextlib.closing(database):
        return _upgrade(database, backup)


def _upgrade(database: Sqlite, backup: bool) -> Upgraded | None:
    with backups.keeping_first(database) as kept:
        before = schemas.version_of(database)
        if before >= schemas.NEWEST:
            return None
        if backup:
            with _remedy_added(database.path):
                backups.keep(database.path, kept)
        schemas.migrate(database)
    backups.write_back(database)
    return Upgraded(shown(database.path), before, schemas.NEWEST, kept[0] if kept else None)


@contextlib.contextmanager
def _remedy_added(path: Path) -> Iterator[None]:
    """Add how to upgrade a damaged database to the error that refuses it."""
    try:
        yield
    except backups.FailedIntegrityCheck as error:
        remedy = f"repair it ({error.repair}), restore an earlier backup, or upgrade without one"
        message = f"its backup could not be restored, so it was not upgraded; {remedy}"
        command = addresses.command(shown(path), *NO_BACKUP)
        raise backups.FailedIntegrityCheck(path, error.fault, f"{message}: {command}") from error


# On a server


def _upgrade_on_server(url: str, backup: bool) -> Upgraded | None:
    with _opened_for_upgrade(url) as database:
        if backup and database.is_pooled and schemas.version_of(database) < schemas.NEWEST:
            _refuse_lack(url)  # before the transaction takes what may be the only session
        with backups.keeping_first(database) as kept:
            before = schemas.version_of(database)
            if before >= schemas.NEWEST:
                return None
            if backup:
                _refuse_lack(url)
                _keep_there(url, kept)
            database.wait_at_most(LOCK_TIMEOUT)
            schemas.apply(database)
    return Upgraded(database.title, before, schemas.NEWEST, kept[0] if kept else None)


@contextlib.contextmanager
def _opened_for_upgrade(url: str) -> Iterator[Postgres]:
    cannot = files.as_error(f"{addresses.shown(url)} cannot be upgraded, and was not changed")
    with contextlib.closing(servers.opened(url, of_any_release=True)) as database, cannot:
        yield database


def _refuse_lack(url: str) -> str:
    """Return the server's name of a database; raise an Error with a remedy if pg_dump cannot back it up."""
    about = dumps.about(url)
    if (why := about.lack()) is not None:
        name = addresses.shown(url)
        remedy = f"{about.remedy}; or make a backup yourself, then: {addresses.command(name, *NO_BACKUP)}"
        raise OutdatedSchema(
            f"{name} is of an older release, and needs a backup before it is upgraded, but {why}: {remedy}"
        )
    return about.name


def _keep_there(url: str, kept: list[Backup]) -> None:
    try:
        archives.keep(url, kept)
    except archives.UnusableDump as error:
        command = addresses.command(addresses.shown(url), *NO_BACKUP)
        remedy = f"make a backup yourself, then: {command}"
        raise archives.UnusableDump(f"{error}, so it was not upgraded: {remedy}") from error


def _trial_on_server(url: str, backup: bool) -> Trial:
    place = dumps.place_of(_refuse_lack(url)) if backup else None
    with _opened_for_upgrade(url) as database:
        before = schemas.version_of(database)
        rows, seconds = _tried(database)
    names, tried = schemas.due(before), "in a transaction that was rolled back"
    return Trial(before, _steps(names), rows - len(names), seconds, place, None, tried)


class _TrialEnded(Exception):
    """Ends the transaction of a trial."""


def _tried(database: Postgres) -> tuple[int, float]:
    """Apply the due migrations in a transaction, roll it back, and return the rows written and the seconds it took."""
    began = time.monotonic()
    with contextlib.suppress(_TrialEnded), database.atomic():
        database.wait_at_most(LOCK_TIMEOUT)
        schemas.apply(database)
        (rows,) = database.execute_sql(WRITTEN).fetchone()
        seconds = time.monotonic() - began
        raise _TrialEnded
    return rows, seconds


NO_BACKUP = ("upgrade", "--no-backup")
WRITTEN = """
SELECT COALESCE(SUM(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_xact_user_tables
"""
