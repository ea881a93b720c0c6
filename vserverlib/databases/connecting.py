"""Creating and opening a database of ours, in a file or on a server, and binding the models to it.

It upgrades a database of an earlier release. opening/opener.py also opens vantage6 servers' databases and the example
data.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TypeVar

from vserverlib import Error, OutdatedSchema, addresses, files, signals, tracebacks
from vserverlib.databases import current, schemas, storage
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.postgresql import servers
from vserverlib.databases.sqlite import Sqlite
from vserverlib.files import shown
from vserverlib.messages import notify

AnyDatabase = TypeVar("AnyDatabase", bound=DatabaseMixin)


def bind(database: AnyDatabase) -> AnyDatabase:
    """Bind the models to a database of ours, and return it. Closes the database that was open before."""
    earlier = current.database.obj
    if earlier is not None and earlier.in_transaction():
        raise Error(f"{earlier.title} has a transaction open: end it before another database is opened")
    try:
        database.connect(reuse_if_open=True)
        database.execute_sql("SELECT 1 FROM setting").fetchone()
        schemas.refuse_newer(database.path or database.title, schemas.version_of(database))  # as the log has it
    except Exception as error:
        database.close()
        if isinstance(error, Error):
            raise
        raise Error(f"{shown(database.path or database.title)} cannot be opened: {files.reason(error)}") from error
    if earlier is not None and not earlier.is_closed():
        earlier.close()
    current.database.initialize(database)
    tracebacks.install()
    return database


def create(url: str | os.PathLike[str]) -> str:
    """Create a new, empty database: a file, or the tables in a PostgreSQL database. Return its name."""
    return servers.create(os.fspath(url)) if addresses.is_url(url) else str(storage.create(storage.as_path(url)))


def connect(
    url: str | os.PathLike[str] = addresses.DEFAULT, *, read_only: bool = False, sandbox: bool = False
) -> DatabaseMixin:
    """Open a database, bind the models to it, and return it. Closes the database that was open before.

    url: the path of a file, sqlite:///PATH, or postgresql://… (which has no sandbox). A file of an older schema is
    upgraded, after a backup; in a read-only session or a sandbox a private copy is. An older database on a server
    cannot be opened read-only. Raises NotFound, NotADatabase (for a vantage6 server's database its subclass
    recognition.Vantage6Database), Damaged, OutdatedSchema, NewerSchema, Locked or another Error; then nothing was
    changed.
    """
    if addresses.is_url(url):
        return _on_server(os.fspath(url), read_only=read_only, sandbox=sandbox)
    path = storage.as_path(url)
    is_older = storage.check(path) < schemas.NEWEST
    if sandbox:
        return bind(storage.sandbox(path, path))
    if read_only:
        return bind(for_reading(path))
    writer = storage.read_write(path)
    if is_older:
        _upgrade(path)
    return bind(writer)


def _on_server(url: str, *, read_only: bool, sandbox: bool) -> DatabaseMixin:
    is_reading = read_only or sandbox
    try:
        database = servers.opened(url, read_only=is_reading)
    except OutdatedSchema:
        if is_reading:
            raise
        _upgrade(url)
        database = servers.opened(url)
    if sandbox:
        database.close()
        message = "copy it to a file first, and open that: vserver copy"
        raise Error(f"a sandbox is a private copy of a file, so a PostgreSQL database has none: {message}")
    return bind(database)


def for_reading(path: Path) -> Sqlite:
    """Return a database for reading, not opened yet, with this release's schema: if it is older, an upgraded copy."""
    is_older = storage.check(path) < schemas.NEWEST
    return storage.upgraded_copy(path) if is_older and _is_older(path) else storage.reader(path)


def _upgrade(url: str | Path) -> None:
    from vserverlib.databases import upgrades  # rarely needed

    with signals.finishing():
        if done := upgrades.upgrade(url):
            notify(done.summary(), "yellow")


def _is_older(path: Path) -> bool:
    """Whether a database with an older schema in its header has not been upgraded in the log alone."""
    with contextlib.closing(storage.reader(path)) as database:
        return schemas.version_of(database) < schemas.NEWEST
