"""Backups of a server's database, made before a plan is applied: whole, private, and only the last few are kept.

A file is copied by SQLite's backup interface, because this process has it open: reading it would end SQLite's locks.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from vserverlib import files, home, signals
from vserverlib.databases import sqlite_connections
from vserverlib.databases.postgresql import dumps
from vserverlib.files import shown
from vserverlib.plans import records
from vserverlib.plans.server import Server
from vserverlib.progress_callback import Advance
from vserverlib.transfer.sources import ProgressBar

KEPT = 5  # backups of each database
PAGES = 200  # that are copied in one step, during which the server waits
PAUSE = 0.001  # seconds between two steps, in which the server can write
PATIENCE = 5.0  # seconds after which a database that is written to all the time is copied at once
NAME = re.compile(r"\d{4,}\.(db|dump)")


class BeganAgain(Exception):
    """A copy that began again and again, as the server wrote meanwhile."""


def make(server: Server, target: Path | str, number: int, bar: ProgressBar) -> Path:
    """Make a backup of a server's database, and return its file. Raises an Error if it cannot be made."""
    folder = records.own_folder(server.identity)
    place = folder / f"{number:04}.{'db' if isinstance(target, Path) else 'dump'}"
    with files.as_error(f"the backup {shown(place)} cannot be made"):
        if isinstance(target, Path):
            _copy(target, place, bar)
        else:
            dumps.make_of_server(target, place)
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
    """Copy in steps, between which the server writes; anew after each of its writes, and in the end at once."""
    began = time.monotonic()

    @signals.callback
    def progress(status: int, remaining: int, total: int) -> None:
        signals.check()
        advance(total - remaining)
        if remaining > total // 2 and time.monotonic() - began > PATIENCE:
            raise BeganAgain

    try:
        source.backup(target, pages=PAGES, progress=progress, sleep=PAUSE)
    except BeganAgain:
        source.backup(target)


def _prune(folder: Path) -> None:
    """Remove all but the newest backups."""
    for old in sorted(home.own_entries(folder, NAME), reverse=True)[KEPT:]:
        with contextlib.suppress(OSError):
            old.unlink()


def discard(backup: Path | None) -> None:
    """Remove a backup of what then was not changed."""
    if backup is not None:
        with contextlib.suppress(OSError):
            backup.unlink()


@contextlib.contextmanager
def made(server: Server, target: Path | str, number: int, bar: ProgressBar, *, wanted: bool) -> Iterator[Path | None]:
    """A backup for what comes in the block, gone again if that fails; None if none is wanted."""
    backup = make(server, target, number, bar) if wanted else None
    try:
        yield backup
    except BaseException:
        discard(backup)
        raise
