"""Looking at the database of a vantage6 server: through a private copy, which is what an import of it gives.

A copy is made once for what a file holds, its log included, or a PostgreSQL database at one moment, and kept in the
application's folder, for its owner alone. It holds no secrets: where there is a password or a key, it has a mask that
nothing fits (hashing.UNKNOWN). It is never changed, and the least recently used ones are removed. Where none can be
kept, one is made that is gone when its session ends.

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
from vserverlib.databases import recognition, schemas, snapshots, sqlite_connections, sqlite_headers, storage
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown
from vserverlib.transfer import detection
from vserverlib.transfer.sources import Bar, no_bar

if TYPE_CHECKING:
    from vserverlib.transfer.import_report import Outcome
    from vserverlib.transfer.sources import Source

KEPT = 8  # copies
LARGEST = 4 << 30  # bytes that all copies may take; the newest is kept, however large
NOTES = 4 * KEPT  # files that are known again by what the system tells of them
BIG = 32 << 20  # bytes of a file that takes long to read as a whole: 20 ms
SETTLED = 3.0  # seconds since a file was changed, from which on another change has another time, on any file system
ABANDONED = 24 * 3600.0  # seconds after which nobody is at work on a draft any more
ROOM, SPARE = 3, 2 << 20  # what making a copy takes: times the size of a source, for its log too; bytes of empty tables
TRIES = 3  # where a server writes meanwhile
DRAFT, COPY = ".making-", "a private copy"  # the folder of a draft, and the name that messages have for it
KEPT_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.db")  # the source, by its digest, and the copy's own
NOTE_NAME = re.compile(r"[0-9a-f]{32}\.seen")
DRAFT_NAME = re.compile(re.escape(DRAFT) + r"[a-z0-9_]{8}")
IN_DRAFT = re.compile(rf"{COPY}(-wal|-shm|-journal)?|\.{COPY}\..*\.new(-wal|-shm|-journal)?")
WHAT, LESS = "look_what", "look_less"  # settings of a copy: what it is of, and what is not as it was

Stats = tuple[tuple[int, ...], ...]


class Copy(NamedTuple):
    """A copy: its file, and whether it is kept. Else its folder is to be removed."""

    file: Path
    is_kept: bool


class Changed(Error):
    """The source was written to while it was copied."""


# What there is to look at


def look(name: Path | str, bar: Bar = no_bar) -> Copy:
    """Return a copy of what the database of a server holds now, by its file or its URL; one is made unless it is there.

    bar: shows how far the copy is. Raises an Error where it cannot be read, or a file is written to again and again.
    """
    return _look(name, bar) if isinstance(name, Path) else _look_there(name, bar)


def _look(path: Path, bar: Bar) -> Copy:
    for left in reversed(range(TRIES)):
        before = _stats(path)
        try:
            with files.as_error(f"{shown(path)} cannot be looked at"):
                key = _key(path, before)
                found = _find(key)
                return Copy(found, is_kept=True) if found else _make(path, key, before, bar)
        except Error:
            if not left or _stats(path) == before:
                raise
    raise AssertionError


def _look_there(url: str, bar: Bar) -> Copy:
    with servers.open_snapshot(url) as database:
        key = _key_of(database)
        found = _find(key)
        return Copy(found, is_kept=True) if found else _make_there(database, key, bar)


def open_without_waiting(name: Path | str) -> Copy:
    """Return a copy that is there already; an Error where that takes making one, or reading a big file."""
    found = _seen(name) if isinstance(name, Path) else _seen_there(name)
    if found is None:
        raise Error(f"{printable(name, 200)} was not looked at yet")
    return Copy(found, is_kept=True)


def _seen(path: Path) -> Path | None:
    with files.as_error(f"{shown(path)} cannot be looked at"):
        stats = _stats(path)
        key = _noted(_note(stats)) or ("" if _is_big(stats) else _digest(path))
        return _find(key) if key else None


def _seen_there(url: str) -> Path | None:
    with servers.open_snapshot(url) as database:
        return _find(_key_of(database))


def summary(name: str, copy: Copy, sandbox: bool) -> str:
    """Return what a person should know of a copy that is open in place of what they named, in a line."""
    with contextlib.closing(sqlite_headers.immutable(copy.file)) as conn:
        kept = dict(conn.execute("SELECT name, value FROM setting WHERE name IN (?, ?)", (WHAT, LESS)).fetchall())
    way = "a private copy of it, thrown away at the end" if sandbox else "a read-only look at it through a private copy"
    return f"{name} is {kept[WHAT]}: this is {way}{kept[LESS]} (import it with: {recognition.import_line(name)})"


def refuse_look(database: Any, name: str) -> None:
    """Raise an Error where what is open is a copy, which holds no hashes."""
    if database.execute_sql(f"SELECT 1 FROM setting WHERE name = '{WHAT}'").fetchone():
        remedy = f"import it first ({recognition.import_line(name)}), or leave out --with-hashes"
        raise Error(f"{printable(name, 200)} is only looked at, through a copy that holds no hashes: {remedy}")


# Knowing a source again


def _stats(path: Path) -> Stats:
    """Return what the system tells of a file and its logs: where they are, their sizes, when they were changed."""
    return snapshots.settled(files.real(path))


def _key_of(database: Any) -> str:
    """Return what the copy of a server's database is called: by what tells that nothing was written to it since."""
    from vserverlib.transfer import vantage6_postgres

    return hashlib.sha256(f"{_ourselves()} {vantage6_postgres.state(database)}".encode()).hexdigest()[:32]


def _is_big(stats: Stats) -> bool:
    return sum(size for _, _, size, *_ in stats) >= BIG


def _key(path: Path, stats: Stats) -> str:
    """Return what the copy of a source is called. A big one that was not changed since is known without reading it."""
    note = _note(stats) if _is_big(stats) else None
    if note and (key := _noted(note)):
        return key
    began = time.time()
    key = _digest(path)
    if note and _is_settled(stats, began) and _stats(path) == stats:
        with contextlib.suppress(OSError):
            home.own_folder(note.parent)
            home.own_file(note).write_text(key)
    return key


def _is_settled(stats: Stats, at: float) -> bool:
    """Whether any change that came after this time would show: two changes within a tick have the same time."""
    newest = max(time for _, _, _, *times in stats for time in times)
    return newest / 1e9 < at - SETTLED


def _note(stats: Stats) -> Path:
    """Return the file that keeps by what name the copy of such a source is called."""
    return _folder() / f"{hashlib.sha256(f'{_ourselves()} {stats}'.encode()).hexdigest()[:32]}.seen"


def _noted(note: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not home.is_own_folder(note.parent):
            return ""
        key = note.read_text()
        return key if len(key) == 32 and key.isalnum() else ""
    return ""


def _digest(path: Path) -> str:
    """Return what stands for all that a source holds, and for the code that makes a copy of it."""
    found = hashlib.sha256(_ourselves().encode())
    for ending in ("", *files.LOGS):
        part = Path(f"{files.real(path)}{ending}")
        if part.is_file():
            found.update(f"{ending}:{_content(part)}".encode())
    return found.hexdigest()[:32]


def _content(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _ourselves() -> str:
    """Return what stands for this release: its code, of which every part may have its part in a copy."""
    here, found = Path(__file__).parents[1], hashlib.sha256(str(schemas.NEWEST).encode())
    for file in (here.parent / "models.py", *sorted(here.rglob("*.py"))):
        found.update(file.read_bytes())
    return found.hexdigest()


# The copies that are kept


def _folder() -> Path:
    return home.folder() / "servers"


def _find(key: str) -> Path | None:
    """Return the copy of this name, and keep it for longer; a damaged one is removed."""
    for file in home.own_entries(_folder(), KEPT_NAME):
        if not file.name.startswith(key):
            continue
        if _is_sound(file):
            with contextlib.suppress(OSError):  # a folder that cannot be written
                os.utime(file)
            return file
        with contextlib.suppress(OSError):
            file.unlink()
    return None


def _is_sound(file: Path) -> bool:
    """Whether a copy is what was made: its name tells its digest. Of a big one only beginning and size are seen."""
    try:
        header, size = storage.check_ours(file)
        sqlite_headers.refuse_cut_off(file, header, size)
        return size >= BIG or file.stem.endswith(f"-{_content(file)[:32]}")
    except (Error, OSError):
        return False


def _prune() -> None:
    """Remove the copies that were not looked at for longest, and what was left by those who were ended at work."""
    size = 0
    for place, file in enumerate(filter(_is_copy, _by_age(KEPT_NAME))):
        size += _size(file)
        if place >= KEPT or (place and size > LARGEST):
            _remove(file)
    for file in [note for note in _by_age(NOTE_NAME) if _noted(note)][NOTES:]:
        _remove(file)
    for draft in _by_age(DRAFT_NAME):
        if _changed(draft) < time.time() - ABANDONED:
            _remove_draft(draft)


def _by_age(name: re.Pattern[str]) -> list[Path]:
    return sorted(home.own_entries(_folder(), name), key=_changed, reverse=True)


def _is_copy(file: Path) -> bool:
    """Whether a file is a database of ours by its header, and not only by its name."""
    with contextlib.suppress(OSError), open(file, "rb") as opened:
        header = sqlite_headers.read_header(opened.read(100))
        return header is not None and header.application_id == storage.APPLICATION_ID
    return False


def _remove_draft(draft: Path) -> None:
    """Remove a draft: what we put there, and then the folder, if nothing else is in it."""
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


# Making one


def _make(path: Path, key: str, before: Stats, bar: Bar) -> Copy:
    """Make a copy of a file, and keep it under its name."""
    with _draft(sum(size for _, _, size, *_ in before)) as draft:
        with detection.opened(str(path)) as source:
            _import(source, shown(path), draft, bar)
        if _stats(path) != before:
            raise Changed(f"{shown(path)} was written to while it was read: try again, or stop its server first")
        return _keep(draft, key)


def _make_there(database: Any, key: str, bar: Bar) -> Copy:
    """Make a copy of a server's database, and keep it under its name."""
    from vserverlib.transfer import vantage6_postgres

    (size,) = database.execute_sql("SELECT pg_database_size(current_database())").fetchone()
    with _draft(size) as draft:
        with vantage6_postgres.opened(database, bar) as source:
            _import(source, database.title, draft, bar)
        return _keep(draft, key)


@contextlib.contextmanager
def _draft(size: int) -> Iterator[Path]:
    """A place to make a copy in, of a source of this size; gone where that fails."""
    folder = _place(size)
    try:
        yield folder / COPY
    except BaseException:
        files.remove_folder(folder)
        raise


def _place(size: int) -> Path:
    """Return a new folder to make a copy in: the application's, or where it has no room the system's."""
    with contextlib.suppress(OSError):
        home.own_folder(_folder())
        if shutil.disk_usage(_folder()).free > ROOM * size + SPARE:
            return files.private_folder(_folder(), DRAFT)
    return files.private_folder()


def _keep(draft: Path, key: str) -> Copy:
    """Keep a copy that is made where copies are kept. It is there as a whole or not at all, whoever else makes one.

    Unless another process was first: two that come at the same moment may both be kept.
    """
    if draft.parent.parent != _folder():
        return Copy(draft, is_kept=False)
    place = _find(key)
    if place is None:
        place = _folder() / f"{key}-{_content(draft)[:32]}.db"
        if os.path.lexists(place):  # by that name, but none of ours
            return Copy(draft, is_kept=False)
        os.replace(draft, place)
    files.remove_folder(draft.parent)
    _prune()
    return Copy(place, is_kept=True)


def _import(source: Source, name: str, draft: Path, bar: Bar) -> None:
    from vserverlib.transfer import importer

    what = source.summary().removeprefix(f"{name} is ")
    with bar("rows", importer.total(source)) as advance:
        outcome = importer.run(source, draft, advance, hashes=False)
    _finish(draft, what, _less(outcome))


def _finish(draft: Path, what: str, less: str) -> None:
    """Have a copy tell what it is of, and be one file. It has no journal: a server keeps none."""
    with contextlib.closing(sqlite_connections.connect(draft)) as conn:
        with conn:
            conn.execute("DELETE FROM change")
            conn.execute("DELETE FROM sqlite_sequence WHERE name = 'change'")
            conn.executemany("INSERT INTO setting (name, value) VALUES (?, ?)", [(WHAT, what), (LESS, less)])
        conn.execute("PRAGMA journal_mode = DELETE").fetchone()


def _less(outcome: Outcome) -> str:
    """Return in short what is not as it was in the source; an import, or its dry run, tells it in full."""
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
