"""Opening whatever a person names: a database of ours, or a vantage6 server's through a private copy; the example data.

Opening our own databases is databases.connecting's; the copies of a server's database are transfer.foreign's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import models  # noqa: F401  # they have to be defined before a database is opened for them
from vserverlib import addresses, files
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
    """Open a database as connecting.connect() does; a vantage6 server's too, which is read through a private copy.

    write: of a server's, the copy can be planned and applied: see working_copy.WorkingCopy. Without it, a
    recognition.Vantage6Database is raised if a server's is to be written to.
    """
    try:
        return connecting.connect(url, read_only=read_only, sandbox=sandbox)
    except recognition.Vantage6Database:
        if write and not (read_only or sandbox):
            return _working_copy(url)
        if not (read_only or sandbox):
            raise
    return _look(os.fspath(url) if addresses.is_url(url) else storage.as_path(url), sandbox)


def open_without_waiting(url: str | os.PathLike[str]) -> DatabaseMixin:
    """Open a database for reading, have the models use it, and return it, if that can be done at once.

    No lock is waited for, nothing is copied, and nothing stays behind. Raises an Error as connect() does.
    """
    name = os.fspath(url) if addresses.is_url(url) else storage.as_path(url)
    try:
        if isinstance(name, str):
            return connecting.bind(servers.opened(name, read_only=True, patience=0.0))
        storage.check(name)
    except recognition.Vantage6Database:
        from vserverlib.transfer import vantage6_snapshots  # few databases are a server's

        return _opened_copy(name, vantage6_snapshots.open_without_waiting(name))
    return connecting.bind(Reader(name, in_place_only=True, patience=0.0))


def demo(*, read_only: bool = False, sandbox: bool = False) -> Sqlite:
    """Open a private throw-away copy of the example data, and return it."""
    from vserverlib.examples import demo as example_data

    copy = files.make_private(files.private_folder() / "demo")
    example_data.write(copy)
    if read_only:
        database = storage.open_read_only(f"{copy.as_uri()}?mode=ro", Path("demo"))
        storage.remove_at_close(database, copy.parent)
        return connecting.bind(database)
    return connecting.bind(storage.throw_away(copy, Path("demo"), "sandbox" if sandbox else "read-write", "demo"))


def _working_copy(url: str | os.PathLike[str]) -> DatabaseMixin:
    """Open a working copy of the database of a vantage6 server, whose changes can be applied to it."""
    from vserverlib.plans import working_copy  # few databases are a server's
    from vserverlib.plans.plan import Plan
    from vserverlib.terminal import display, live_display, plan_screen

    display.register(Plan, plan_screen.Screen)
    return working_copy.opened(working_copy.target_of(url), live_display.progress_bar)


def _look(name: Path | str, sandbox: bool) -> Sqlite:
    """Open a copy of the database of a vantage6 server, by its file or URL, and say so."""
    from vserverlib.terminal import live_display
    from vserverlib.transfer import vantage6_snapshots  # few databases are a server's

    copy = vantage6_snapshots.look(name, live_display.progress_bar)
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
    database.to_write = f"import it ({recognition.import_line(title or shown(path))})"
    if not copy.is_kept:
        storage.remove_at_close(database, copy.file.parent)
    return connecting.bind(database)
