"""Viewing the database of a vantage6 server: through a private copy, which is the result of importing it.

A copy is created once for each state of a file and its log, or of a PostgreSQL database, and kept in the application's
folder, for its owner alone. It holds no secrets: in the place of a password or a key it has a mask that nothing fits
(hashing.UNKNOWN). It never changes, and the least recently used copies are removed. A copy that cannot be kept, or
whose source is written to all the time, is removed when its session ends.

The state of a file is what the system reports of it and its log (device, inode, size, times) and SQLite's count of
changes. A copy is kept only if any change since would show in it.

It owns the copies. Finding a source is detection.py's, importing it importer.py's, opening a copy opening/opener.py's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vserverlib import Error, files, home, pluralize, printable
from vserverlib.databases import (
    recognition,
    schemas,
    server_accounts,
    snapshots,
    sqlite_connections,
    sqlite_headers,
    storage,
)
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown
from vserverlib.transfer import detection
from vserverlib.transfer.sources import ProgressBar, no_progress_bar

if TYPE_CHECKING:
    from vserverlib.transfer.import_report import ImportReport
    from vserverlib.transfer.sources import Source

KEPT = 8  # copies
LARGEST = 4 << 30  # bytes that all copies may take; the newest is kept, however large
ABANDONED = 24 * 3600.0  # seconds after which nobody works on a draft any more
ROOM, SPARE = 3, 2 << 20  # the space that a copy needs: times the size of a source, for its log too; bytes of tables
NOWHERE = Path(os.devnull) / "servers"  # nothing can be there
DRAFT, COPY = ".making-", "a private copy"  # the folder of a draft, and its name in messages
KEPT_NAME = re.compile(r"[0-9a-f]{32}(-[0-9a-f]{32})?\.db")  # the second half: until release 1.1
DRAFT_NAME = re.compile(re.escape(DRAFT) + r"[a-z0-9_]{8}")
IN_DRAFT = re.compile(rf"{COPY}(-wal|-shm|-journal)?|\.{COPY}\..*\.new(-wal|-shm|-journal)?")
COUNTER = slice(24, 28)  # the place of SQLite's count of changes in a file
WHAT, OMISSIONS = "look_what", "look_less"  # settings of a copy: its source, and what differs from it


class Copy(NamedTuple):
    """A copy: its file, and whether it is kept. If not, its folder is removed with the session."""

    file: Path
    is_kept: bool


# Viewing


def view(name: Path | str, bar: ProgressBar = no_progress_bar) -> Copy:
    """Return a copy of the current content of a server's database, by its file or its URL; create it if necessary.

    bar: shows the progress. Raises an Error if the database cannot be read.
    """
    if isinstance(name, Path):
        return _view(name, bar)
    with servers.open_snapshot(name) as database:
        key = _key_of(database)
        found = _find(key)
        return Copy(found, is_kept=True) if found else _copy_database(database, key, bar)


def _view(path: Path, bar: ProgressBar) -> Copy:
    with files.as_error(f"{shown(path)} cannot be viewed"):
        found = _find(_key(path))
        return Copy(found, is_kept=True) if found else _copy_file(path, _settled_key(path), bar)


def open_without_waiting(name: Path | str) -> Copy:
    """Return an existing copy; raise an Error without one."""
    if isinstance(name, Path):
        with files.as_error(f"{shown(name)} cannot be viewed"):
            found = _find(_key(name))
    else:
        with servers.open_snapshot(name) as database:
            found = _find(_key_of(database))
    if found is None:
        raise Error(f"{printable(name, 200)} was not viewed yet")
    return Copy(found, is_kept=True)


def summary(name: str, copy: Copy, sandbox: bool) -> str:
    """Return one line about a copy that is open in place of the database that the user named."""
    with contextlib.closing(sqlite_headers.immutable(copy.file)) as conn:
        kept = dict(conn.execute("SELECT name, value FROM setting WHERE name IN (?, ?)", (WHAT, OMISSIONS)).fetchall())
    way = "a private copy of it, thrown away at the end" if sandbox else "a read-only view of it through a private copy"
    return f"{name} is {kept[WHAT]}: this is {way}{kept[OMISSIONS]} (import it with: {recognition.import_line(name)})"


def refuse_view(database: Any, name: str) -> None:
    """Raise an Error if the open database is a copy, which holds no hashes."""
    if database.execute_sql(f"SELECT 1 FROM setting WHERE name = '{WHAT}'").fetchone():
        remedy = f"import it first ({recognition.import_line(name)}), or leave out --with-hashes"
        raise Error(f"{printable(name, 200)} is only viewed, through a copy that holds no hashes: {remedy}")


# Recognizing a source


def _key(path: Path, state: snapshots.State | None = None) -> str:
    """Return the name of the copy of a file in its current state. No copy of an earlier state has that name."""
    file = files.real(path)
    state = state or snapshots.state(file)
    with open(file, "rb") as opened:
        counter = opened.read(COUNTER.stop)[COUNTER]
    return _digest(f"{state} {counter.hex()}")


def _settled_key(path: Path) -> str:
    """Return the name of the copy of a file in a state that any change ends; "" if it is written to all the time.

    Within the clock's resolution two changes have the same time, so a file that was just changed has no such state.
    """
    state = snapshots.settled(files.real(path))
    is_ahead = max(changed for *_, changed in state) > time.time_ns()  # by the clock of a file server
    return "" if is_ahead or snapshots.unsettled(state) else _key(path, state)


def _key_of(database: Any) -> str:
    """Return the name of the copy of a PostgreSQL database in its current state."""
    from vserverlib.transfer import vantage6_postgres

    return _digest(vantage6_postgres.state(database))


def _digest(state: str) -> str:
    return hashlib.sha256(f"{_own_code()} {state}".encode()).hexdigest()[:32]


@functools.cache
def _own_code() -> str:
    """Return what changes with each version of the code, of which every part may influence a copy."""
    here = Path(__file__).parents[1]
    found = [here.parent / "models.py", *sorted(here.rglob("*.py"))]
    return f"{schemas.NEWEST} {[(file.stat().st_size, file.stat().st_mtime_ns) for file in found]}"


# The copies that are kept


def _folder() -> Path:
    try:
        return home.folder() / "servers"
    except OSError:  # a user who is only a number, as in a container: no copy is kept
        return NOWHERE


def _find(key: str) -> Path | None:
    """Return the copy of this name, and keep it for longer; remove one that is cut off."""
    for file in home.own_entries(_folder(), KEPT_NAME):
        if file.stem != key:
            continue
        if _is_sound(file):
            with contextlib.suppress(OSError):  # a folder that cannot be written
                os.utime(file)
            return file
        _remove(file)
    return None


def _is_sound(file: Path) -> bool:
    """Whether a copy is a database of ours with all its pages, by its header."""
    try:
        header, size = storage.check_ours(file)
        sqlite_headers.refuse_cut_off(file, header, size)
    except (Error, OSError):
        return False
    return True


def _prune() -> None:
    """Remove the least recently used copies, and drafts of processes that were killed."""
    size = 0
    for place, file in enumerate(filter(_is_copy, _by_age(KEPT_NAME))):
        size += _size(file)
        if place >= KEPT or (place and size > LARGEST):
            _remove(file)
    for draft in _by_age(DRAFT_NAME):
        if _changed(draft) < time.time() - ABANDONED:
            _remove_draft(draft)


def _by_age(name: re.Pattern[str]) -> list[Path]:
    return sorted(home.own_entries(_folder(), name), key=_changed, reverse=True)


def _is_copy(file: Path) -> bool:
    """Whether a file is a database of ours by its header, too, not only by its name."""
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        header = sqlite_headers.read_header(opened.read(100))
        return header is not None and header.application_id == storage.APPLICATION_ID
    return False


def _remove_draft(draft: Path) -> None:
    """Remove our files of a draft, and then its folder if it is empty."""
    for file in home.own_entries(draft, IN_DRAFT):
        _remove(file)
    with contextlib.suppress(OSError):
        draft.rmdir()


def _changed(file: Path) -> float:
    with contextlib.suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _size(file: Path) -> int:
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


# Creating a copy


def _copy_file(path: Path, key: str, bar: ProgressBar) -> Copy:
    """Create a copy of a file. It is kept under this name if the file did not change meanwhile."""
    size = sum(size for _, _, size, *_ in snapshots.state(files.real(path)))
    with _draft(size) as draft:
        with detection.opened(str(path)) as source:
            key = key if key == _key(path) else ""  # else it may be of a later state
            _import(source, shown(path), draft, bar)
        return _keep(draft, key)


def _copy_database(database: Any, key: str, bar: ProgressBar) -> Copy:
    """Create a copy of a PostgreSQL database, and keep it under this name."""
    from vserverlib.transfer import vantage6_postgres

    (size,) = database.execute_sql("SELECT pg_database_size(current_database())").fetchone()
    with _draft(size) as draft:
        with vantage6_postgres.opened(database, bar) as source:
            _import(source, database.title, draft, bar)
        return _keep(draft, key)


@contextlib.contextmanager
def _draft(size: int) -> Iterator[Path]:
    """The place of a new copy, of a source of this size. It is removed if that fails."""
    folder = _place(size)
    try:
        yield folder / COPY
    except BaseException:
        files.remove_folder(folder)
        raise


def _place(size: int) -> Path:
    """Return a new folder for a copy: in the application's folder, or if that has no room in the system's."""
    with contextlib.suppress(OSError):
        home.own_folder(_folder())
        if shutil.disk_usage(_folder()).free > ROOM * size + SPARE:
            return files.private_folder(_folder(), DRAFT)
    return files.private_folder()


def _keep(draft: Path, key: str) -> Copy:
    """Move a copy to where copies are kept, in one step, unless it has no name or a file that is not ours has it."""
    place = _folder() / f"{key}.db"
    if not key or draft.parent.parent != _folder() or (os.path.lexists(place) and _find(key) is None):
        return Copy(draft, is_kept=False)
    os.replace(draft, place)
    files.remove_folder(draft.parent)
    _prune()
    return Copy(place, is_kept=True)


def _import(source: Source, name: str, draft: Path, bar: ProgressBar) -> None:
    from vserverlib.transfer import importer, vantage6

    what = source.summary().removeprefix(f"{name} is ")
    with bar("rows", importer.total(source)) as advance:
        outcome = importer.run(source, draft, advance, hashes=False)
    _finish(
        draft, what, _omissions(outcome), source.accounts() if isinstance(source, vantage6.Vantage6Source) else None
    )


def _finish(draft: Path, what: str, less: str, accounts: Any) -> None:
    """Write the name of its source into a copy, and make it one file. It has no journal, since a server keeps none."""
    with contextlib.closing(sqlite_connections.connect(draft)) as conn:
        with conn:
            conn.execute("DELETE FROM change")
            conn.execute("DELETE FROM sqlite_sequence WHERE name = 'change'")
            conn.executemany("INSERT INTO setting (name, value) VALUES (?, ?)", [(WHAT, what), (OMISSIONS, less)])
            server_accounts.note(conn, accounts)
        conn.execute("PRAGMA journal_mode = DELETE").fetchone()


def _omissions(outcome: ImportReport) -> str:
    """Return in short what differs from the source; an import, or its dry run, reports it in full."""
    gone = {
        "row": outcome.left_out.total + outcome.doubled.total,
        "table": len(outcome.unmapped_tables),
        "column": len(outcome.lost),
        "broken link": sum(outcome.links.values()),
    }
    changed = {"id": outcome.renumbered.total, "value": sum(outcome.values.values())}
    return _counted("left out", gone) + _counted("changed", changed)


def _counted(done: str, counts: dict[str, int]) -> str:
    parts = ", ".join(pluralize(count, what) for what, count in counts.items() if count)
    return f"; {done}: {parts}" if parts else ""
