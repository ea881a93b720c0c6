"""Bringing a database that an earlier release wrote to the schema of this one.

Under the write lock of the database, so that of several programs that open it at once one does it; after a backup
beside it; in one transaction. What a migration does is its own business; which there are, and applying them, is
storage.py's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vserverlib import backups, counted, files, servers, storage
from vserverlib.backups import Backup
from vserverlib.files import shown
from vserverlib.sqlite import Sqlite


class Upgraded(NamedTuple):
    """What was done: to which database, from which schema to which, and the backup of what it was before."""

    path: Path
    before: int
    after: int
    backup: Backup

    def told(self) -> str:
        """Return it in one line."""
        done = f"{shown(self.path)} was upgraded from schema {self.before} to {self.after}"
        return f"{done}; as it was it is kept in {shown(self.backup.path)}"


class Step(NamedTuple):
    """A migration that is due, and what it changes, in one line."""

    name: str
    told: str


class Trial(NamedTuple):
    """What an upgrade would do: from which schema on, by which steps; how many rows it writes, how long it takes (s).

    backup: where that of what it was before would be; size: of the database, in bytes.
    """

    before: int
    steps: list[Step]
    rows: int
    seconds: float
    backup: Path
    size: int

    def told(self) -> str:
        """Return it in one line."""
        tried = f"schema {self.before} to {storage.SCHEMA}, tried on a private copy"
        took = f"{counted(self.rows, 'row')} written, those of the journal too, in {self.seconds:.1f} s"
        return f"{tried}: {took}; first a backup is made, of {self.size:,} bytes, such as {shown(self.backup)}"


def due(url: str | os.PathLike[str]) -> tuple[int, list[str]]:
    """Return the schema of a database, and the names of the migrations that it lacks. Writes nothing."""
    if servers.is_url(url):
        with contextlib.closing(servers.opened(os.fspath(url), read_only=True)) as opened:
            schema = storage.schema_of(opened)
        return schema, storage.due(schema)
    path = storage.as_path(url)
    storage.check(path)
    with contextlib.closing(storage.reader(path)) as database, files.told(f"{shown(path)} cannot be read"):
        schema = storage.schema_of(database)
    return schema, storage.due(schema)


def trial(path: Path) -> Trial:
    """Return what an upgrade would do: it is done to a private copy, which is thrown away. Raises an Error if it fails.

    The rows are those that the migrations write; each also notes that it was done, which is not counted.
    """
    before, names = due(path)
    with files.told(f"{shown(path)} cannot be upgraded"), _copied(path) as copy:
        size = copy.stat().st_size
        with contextlib.closing(storage.for_migration(copy, path)) as database:
            counter, began = database.connection(), time.monotonic()
            storage.migrate(database)
            rows, seconds = counter.total_changes - len(names), time.monotonic() - began
    steps = [Step(name, storage.told_of(name)) for name in names]
    return Trial(before, steps, rows, seconds, backups.default_name(path), size)


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    copy = storage.as_it_is(path)
    try:
        yield copy
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


def upgrade(path: Path) -> Upgraded | None:
    """Upgrade a database, and return what was done; None where it needed nothing, or another program did it meanwhile.

    Raises an Error where that fails; the database is then as it was.
    """
    storage.check(path)
    database = storage.for_migration(path, path)
    with files.told(f"{shown(path)} cannot be upgraded, and is as it was"), contextlib.closing(database):
        return _upgrade(database)


def _upgrade(database: Sqlite) -> Upgraded | None:
    kept = list[Backup]()
    try:
        with database.atomic():
            before = storage.schema_of(database)
            if before >= storage.SCHEMA:
                return None
            kept.append(backups.keep(database.path))
            storage.migrate(database)
    except Exception:
        backups.discard(*kept)
        raise
    backups.write_back(database)
    return Upgraded(database.path, before, storage.SCHEMA, kept[0])
