"""Bringing a database that an earlier release wrote to the schema of this one.

Under the write lock of the database, so that of several programs that open it at once one does it; after a backup
beside it; in one transaction. What a migration does is its own business; which there are, and applying them, is
storage.py's.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from vserverlib import backups, files, servers, storage
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
