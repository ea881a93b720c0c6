"""Back up a server's database before a plan is applied. Backups are private, and only the last five are kept.

A file is copied with SQLite's backup API: this process has the file open, and closing another handle to it would
release SQLite's locks.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from vserverlib import Error, files, home, signals
from vserverlib.databases import sqlite_connections
from vserverlib.databases.postgresql import dumps
from vserverlib.files import shown
from vserverlib.plans import records
from vserverlib.plans.server import Server
from vserverlib.progress_callback import Advance
from vserverlib.transfer.sources import ProgressBar

KEPT = 5  # backups of each database
PAGES = 200  # to copy in one step, during which the server cannot write
PAUSE = 0.001  # seconds between two steps, in which it can
BUSY_SECONDS = 5.0  # seconds after which a busy database is copied in one step
WITHOUT = "--no-backup before the command applies the plan without one"
NAME = re.compile(r"\d{4,}\.(db|dump)")


class CopyRestarted(Exception):
    """A copy that was restarted again and again because the server wrote."""


def create(server: Server, target: Path | str, number: int, bar: ProgressBar) -> Path:
    """Create a backup of a server's database, and return its file. Raises Error if that fails."""
    folder = records.create_folder(server.identity)
    place = folder / f"{number:04}.{'db' if isinstance(target, Path) else 'dump'}"
    try:
        with files.as_error(f"the backup {shown(place)} cannot be created"):
            if isinstance(target, Path):
                _copy(target, place, bar)
            else:
                dumps.make_of_server(target, place)
    except Error as error:
        raise Error(f"{error}; nothing was written; {WITHOUT}") from error
    _prune(folder)
    return place


def _copy(path: Path, place: Path, bar: ProgressBar) -> None:
    with files.draft_for(place) as draft, contextlib.ExitStack() as stack:
        uri = f"{files.real(path).absolute().as_uri()}?mode=ro"
        source = stack.enter_context(contextlib.closing(sqlite_connections.connect(uri, uri=True)))
        target = stack.enter_context(contextlib.closing(sqlite_connections.connect(draft)))
        (pages,) = source.execute("PRAGMA page_count").fetchone()
        with bar("pages of the backup", pages) as advance:
            _step_by_step(source, target, advance)
        target.close()
        files.move_into_place(draft, place)


def _step_by_step(source: sqlite3.Connection, target: sqlite3.Connection, advance: Advance) -> None:
    """Copy in steps, so that the server can write in between; SQLite restarts the copy after each write."""
    began = time.monotonic()

    @signals.callback
    def progress(status: int, remaining: int, total: int) -> None:
        signals.check()
        advance(total - remaining)
        if remaining > total // 2 and time.monotonic() - began > BUSY_SECONDS:
            raise CopyRestarted

    try:
        source.backup(target, pages=PAGES, progress=progress, sleep=PAUSE)
    except CopyRestarted:
        source.backup(target)


def _prune(folder: Path) -> None:
    """Remove all but the newest backups."""
    for old in sorted(home.own_entries(folder, NAME), reverse=True)[KEPT:]:
        with contextlib.suppress(OSError):
            old.unlink()


def discard(backup: Path | None) -> None:
    """Remove a backup, if there is one."""
    if backup is not None:
        with contextlib.suppress(OSError):
            backup.unlink()


@contextlib.contextmanager
def created(
    server: Server, target: Path | str, number: int, bar: ProgressBar, *, wanted: bool
) -> Iterator[Path | None]:
    """Create a backup for the block, which is removed if the block fails; None if it is not wanted."""
    backup = create(server, target, number, bar) if wanted else None
    try:
        yield backup
    except BaseException:
        discard(backup)
        raise
