"""Bringing a database that an earlier release wrote to the schema of this one.

Under the write lock of the database, so that of several programs that open it at once one does it; after a backup,
beside a file, or in the current folder of a database on a server; in one transaction. What a migration does is its own
business; which there are, and applying them, is schemas.py's.
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
from vserverlib.databases.connection import LOCK_WAIT
from vserverlib.databases.postgresql import archives, dumps, servers
from vserverlib.databases.sqlite import Sqlite
from vserverlib.files import shown

if TYPE_CHECKING:
    from vserverlib.databases.postgresql.postgres import Postgres


class Upgraded(NamedTuple):
    """What was done: to which database, from which schema to which, and the backup of what it was before, if any."""

    name: str
    before: int
    after: int
    backup: Backup | None

    def summary(self) -> str:
        """Return it in one line."""
        done = f"{self.name} was upgraded from schema {self.before} to {self.after}"
        return done if self.backup is None else f"{done}; as it was it is kept in {shown(self.backup.path)}"


class Step(NamedTuple):
    """A migration that is due, and what it changes, in one line."""

    name: str
    message: str


class Trial(NamedTuple):
    """What an upgrade would do: from which schema on, by which steps; how many rows it writes, how long it takes (s).

    backup: where that of what it was before would be, if one is made; size: its bytes, None where only pg_dump will
    tell; tried: how that was done.
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
        took = f"{pluralize(self.rows, 'row')} written, those of the journal too, in {self.seconds:.1f} s"
        if self.backup is None:
            return f"{tried}: {took}; no backup is made"
        size = "" if self.size is None else f", of {self.size:,} bytes"
        return f"{tried}: {took}; first a backup is made{size}, such as {shown(self.backup)}"


def due(url: str | os.PathLike[str]) -> tuple[int, list[str]]:
    """Return the schema of a database, and the names of the migrations that it lacks. Writes nothing."""
    if addresses.is_url(url):
        with contextlib.closing(servers.opened(os.fspath(url), read_only=True, of_any_release=True)) as opened:
            schema = schemas.of(opened)
        return schema, schemas.due(schema)
    path = storage.as_path(url)
    storage.check(path)
    with contextlib.closing(storage.reader(path)) as database, files.as_error(f"{shown(path)} cannot be read"):
        schema = schemas.of(database)
    return schema, schemas.due(schema)


def told_of(migration: str) -> str:
    """Return what a migration changes, in one line: the first of its docstring."""
    import ast

    message = ast.get_docstring(ast.parse((schemas.MIGRATIONS / f"{migration}.py").read_text())) or ""
    return message.partition("\n")[0]


def trial(url: str | os.PathLike[str], *, backup: bool = True) -> Trial:
    """Return what an upgrade would do. Raises an Error if it fails.

    It is done to a private copy, which is thrown away; or on a server, and taken back. The rows are those that the
    migrations write; each also notes that it was done, which is not counted.
    """
    return _trial_on_server(os.fspath(url), backup) if addresses.is_url(url) else _trial(storage.as_path(url), backup)


def _trial(path: Path, backup: bool) -> Trial:
    before, names = due(path)
    with files.as_error(f"{shown(path)} cannot be upgraded"), _copied(path) as copy:
        size = copy.stat().st_size
        if backup:
            with _with_a_way_on(path):
                backups.refuse_damaged(copy, path)
        with contextlib.closing(schemas.for_migration(copy, path)) as database:
            counter, began = database.connection(), time.monotonic()
            schemas.migrate(database)
            rows, seconds = counter.total_changes - len(names), time.monotonic() - began
    place = backups.default_name(path) if backup else None
    return Trial(before, _steps(names), rows, seconds, place, size, "on a private copy")


def _steps(names: list[str]) -> list[Step]:
    return [Step(name, told_of(name)) for name in names]


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    copy = storage.as_it_is(path)
    try:
        yield copy
    finally:
        files.remove_folder(copy.parent)


def upgrade(url: str | os.PathLike[str], *, backup: bool = True) -> Upgraded | None:
    """Upgrade a database, and return what was done; None where it needed nothing, or another program did it meanwhile.

    backup: whether one is made first. Raises an Error where that fails, also of a damaged database, whose backup would
    be refused when it is needed; the database is then as it was.
    """
    if addresses.is_url(url):
        return _upgrade_on_server(os.fspath(url), backup)
    path = storage.as_path(url)
    storage.check(path)
    database = schemas.for_migration(storage.refuse_other_names(path), path)
    with files.as_error(f"{shown(path)} cannot be upgraded, and is as it was"), contextlib.closing(database):
        return _upgrade(database, backup)


def _upgrade(database: Sqlite, backup: bool) -> Upgraded | None:
    with backups.keeping_first(database) as kept:
        before = schemas.of(database)
        if before >= schemas.NEWEST:
            return None
        if backup:
            with _with_a_way_on(database.path):
                backups.keep(database.path, kept)
        schemas.migrate(database)
    backups.write_back(database)
    return Upgraded(shown(database.path), before, schemas.NEWEST, kept[0] if kept else None)


@contextlib.contextmanager
def _with_a_way_on(path: Path) -> Iterator[None]:
    """Have a damaged database not be upgraded, and the person be told how to go on."""
    try:
        yield
    except backups.FailedIntegrityCheck as error:
        remedy = f"repair it ({error.repair}), restore an earlier backup, or go on without one"
        message = f"restore would refuse its backup, so it is not upgraded; {remedy}"
        command = addresses.command(shown(path), *NO_BACKUP)
        raise backups.FailedIntegrityCheck(path, error.fault, f"{message}: {command}") from error


# On a server


def _upgrade_on_server(url: str, backup: bool) -> Upgraded | None:
    with _to_be_upgraded(url) as database:
        if backup and database.is_pooled and schemas.of(database) < schemas.NEWEST:
            _refuse_lack(url)  # before a transaction has its session: there may be no other for this
        with backups.keeping_first(database) as kept:
            before = schemas.of(database)
            if before >= schemas.NEWEST:
                return None
            if backup:
                _refuse_lack(url)
                _keep_there(url, kept)
            database.wait_at_most(LOCK_WAIT)
            schemas.apply(database)
    return Upgraded(database.title, before, schemas.NEWEST, kept[0] if kept else None)


@contextlib.contextmanager
def _to_be_upgraded(url: str) -> Iterator[Postgres]:
    cannot = files.as_error(f"{addresses.shown(url)} cannot be upgraded, and is as it was")
    with contextlib.closing(servers.opened(url, of_any_release=True)) as database, cannot:
        yield database


def _refuse_lack(url: str) -> str:
    """Return what the server calls a database; an Error that says what can be done where pg_dump cannot back it up."""
    about = dumps.about(url)
    if (why := about.lack()) is not None:
        name = addresses.shown(url)
        remedy = f"{about.remedy}; or make one by your own means, and then: {addresses.command(name, *NO_BACKUP)}"
        raise OutdatedSchema(
            f"{name} is of an older release, and needs a backup before it is upgraded, but {why}: {remedy}"
        )
    return about.name


def _keep_there(url: str, kept: list[Backup]) -> None:
    try:
        archives.keep(url, kept)
    except archives.Unusable as error:
        command = addresses.command(addresses.shown(url), *NO_BACKUP)
        remedy = f"make one by your own means, and then: {command}"
        raise archives.Unusable(f"{error}, so it is not upgraded: {remedy}") from error


def _trial_on_server(url: str, backup: bool) -> Trial:
    place = dumps.place_of(_refuse_lack(url)) if backup else None
    with _to_be_upgraded(url) as database:
        before = schemas.of(database)
        rows, seconds = _tried(database)
    names, tried = schemas.due(before), "in a transaction that was taken back"
    return Trial(before, _steps(names), rows - len(names), seconds, place, None, tried)


class _TakenBack(Exception):
    """Ends a transaction that was only a trial."""


def _tried(database: Postgres) -> tuple[int, float]:
    """Do what is due in a transaction, take it back, and return how many rows it wrote, and the seconds it took."""
    began = time.monotonic()
    with contextlib.suppress(_TakenBack), database.atomic():
        database.wait_at_most(LOCK_WAIT)
        schemas.apply(database)
        (rows,) = database.execute_sql(WRITTEN).fetchone()
        seconds = time.monotonic() - began
        raise _TakenBack
    return rows, seconds


NO_BACKUP = ("upgrade", "--no-backup")
WRITTEN = """
SELECT COALESCE(SUM(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_xact_user_tables
"""
