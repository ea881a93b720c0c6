"""Opens any database: one of ours, a vantage6 server's as a private copy, or the example data.

databases.connecting opens databases of ours; transfer.vantage6_snapshots copies a server's database.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import models  # noqa: F401  # a database is opened for the models, so they have to be defined
from vserverlib import Error, UsageError, addresses, files
from vserverlib.databases import connecting, recognition, storage
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.postgresql import servers
from vserverlib.databases.sqlite import Sqlite
from vserverlib.databases.sqlite_readers import Reader
from vserverlib.files import shown
from vserverlib.messages import notify

if TYPE_CHECKING:
    from vserverlib.transfer.vantage6_snapshots import Copy


def connect(
    url: str | os.PathLike[str] = addresses.DEFAULT,
    *,
    read_only: bool = False,
    sandbox: bool = False,
    write: bool = False,
) -> DatabaseMixin:
    """Open a database for the models, close the one that was open before, and return it.

    url: the path of a file, sqlite:///PATH, or postgresql://…. The database of a vantage6 server needs read_only or
    sandbox, and is read through a private copy. read_only: every write is an Error. sandbox: writes go to a private
    copy, which is deleted at the end. write: changes of a server's database are planned, and written by apply(). An
    older schema is upgraded, after a backup; nothing else is written. Raises an Error if the database does not exist,
    or is locked, damaged or not supported.
    """
    if write and (read_only or sandbox):
        raise UsageError(f"write and {'read_only' if read_only else 'sandbox'} exclude each other: choose one")
    try:
        return connecting.connect(url, read_only=read_only, sandbox=sandbox)
    except recognition.Vantage6Database:
        if write:
            return _working_copy(url)
        if not (read_only or sandbox):
            raise
    return _view(os.fspath(url) if addresses.is_url(url) else storage.as_path(url), sandbox)


def connect_for_session(
    url: str | os.PathLike[str] = addresses.DEFAULT, *, read_only: bool = False, sandbox: bool = False
) -> DatabaseMixin:
    """Open a database as connect() does; a vantage6 server's, which cannot be written to, for reading."""
    try:
        return connect(url, read_only=read_only, sandbox=sandbox)
    except recognition.Vantage6Database:
        return connect(url, read_only=True)


def open_without_waiting(url: str | os.PathLike[str]) -> DatabaseMixin:
    """Open a database for reading, for the models, and return it, without waiting for a lock and without a copy.

    Raises an Error if that is not possible, and the errors of connect().
    """
    name = os.fspath(url) if addresses.is_url(url) else storage.as_path(url)
    try:
        if isinstance(name, str):
            return connecting.bind(servers.opened(name, read_only=True, lock_timeout=0.0))
        storage.check(name)
    except recognition.Vantage6Database:
        from vserverlib.transfer import vantage6_snapshots  # few databases are a server's

        return _opened_copy(name, vantage6_snapshots.open_without_waiting(name))
    return connecting.bind(Reader(name, in_place_only=True, lock_timeout=0.0))


def is_of_server(url: str | os.PathLike[str]) -> bool:
    """Whether a path or URL is the database of a vantage6 server. False if it cannot be read. Writes nothing."""
    try:
        if addresses.is_url(url):
            servers.opened(os.fspath(url), read_only=True, of_any_release=True).close()
        else:
            storage.check_ours(storage.as_path(url))
    except recognition.Vantage6Database:
        return True
    except (Error, OSError):
        return False  # opening it reports the error
    return False


def demo(*, read_only: bool = False, sandbox: bool = False) -> Sqlite:
    """Open a temporary copy of the example data, and return it."""
    from vserverlib.examples import demo as example_data

    copy = files.make_private(files.private_folder() / "demo")
    example_data.write_temporary(copy)
    if read_only:
        database = storage.open_read_only(f"{copy.as_uri()}?mode=ro", Path("demo"))
        storage.remove_at_close(database, copy.parent)
        return connecting.bind(database)
    return connecting.bind(storage.private_database(copy, Path("demo"), "sandbox" if sandbox else "read-write", "demo"))


def _working_copy(url: str | os.PathLike[str]) -> DatabaseMixin:
    """Open a working copy of the database of a vantage6 server, whose changes can be applied to it."""
    from vserverlib.plans import working_copy  # few databases are a server's
    from vserverlib.plans.plan import Plan
    from vserverlib.terminal import display, live_display, plan_screen

    display.register(Plan, plan_screen.Screen)
    return working_copy.opened(working_copy.target_of(url), live_display.progress_bar)


def _view(name: Path | str, sandbox: bool) -> Sqlite:
    """Open a copy of a vantage6 server's database, by its file or URL, and notify the user."""
    from vserverlib.terminal import live_display
    from vserverlib.transfer import vantage6_snapshots  # few databases are a server's

    copy = vantage6_snapshots.view(name, live_display.progress_bar)
    notify(
        vantage6_snapshots.summary(shown(name) if isinstance(name, Path) else addresses.shown(name), copy, sandbox),
        "yellow",
    )
    return _opened_copy(name, copy, sandbox)


def _opened_copy(name: Path | str, copy: Copy, sandbox: bool = False) -> Sqlite:
    path, title = (name, None) if isinstance(name, Path) else (copy.file, addresses.shown(name))
    if sandbox:
        database = storage.sandbox(copy.file, path, title)
    else:
        database = storage.open_read_only(f"{copy.file.as_uri()}?immutable=1", path, title=title)
    database.is_view = True
    line = addresses.command(title or shown(path), "--write", "shell")
    database.write_remedy = f"open it with --write ({line})"
    if not copy.is_kept:
        storage.remove_at_close(database, copy.file.parent)
    return connecting.bind(database)
