"""Restoring a dump into a database on a server: a backup and the replacement, in one transaction.

The transaction takes the write lock at its beginning, and then a lock on the tables against other programs: so nobody
writes between the backup and the restore. The tables stay, and with them the privileges of other roles, the dependent
objects of other programs, and open sessions. They are created again only if they have a newer schema than the dump, or
if some are missing.

archives.py reads dumps; backups.py restores SQLite files.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from vserverlib import Damaged, files
from vserverlib.databases import backups, connection, recording, registry, schemas
from vserverlib.databases.backups import Backup
from vserverlib.databases.postgresql import archives, dumps, servers
from vserverlib.databases.postgresql.archives import Dump
from vserverlib.progress_callback import Advance, ticker


class Restored(NamedTuple):
    """The result of a restore. kept: the backup of the previous content, None if there was none.

    made_anew: the tables were dropped and created again, so privileges on them are lost; upgraded: the dump was older.
    """

    kept: Backup | None
    made_anew: bool
    upgraded: bool


def replaces(url: str) -> bool:
    """Return whether a restore would replace anything; raise an Error if nothing can be restored."""
    with contextlib.closing(servers.reached(url)) as database:
        if not servers.is_ours(servers.tables(database)):
            return False
        schemas.refuse_newer(database.title, schemas.version_of(database))
    dumps.about(url).refuse_lack()
    return True


def restore(url: str, dump: Dump, advance: Advance = bool) -> Restored:
    """Replace a database's content with a dump's, and keep a backup of it in the current folder.

    advance: called from time to time with the number of rows written. Raises an Error if anything fails; the database
    is then unchanged, and no backup is kept.
    """
    with contextlib.closing(servers.reached(url)) as database:
        cannot = files.as_error(f"{database.title} cannot be restored, and was not changed")
        with cannot, backups.keeping_first(database) as kept:
            return _replace(database, url, dump, kept, advance)


def _replace(database: Any, url: str, dump: Dump, kept: list[Backup], advance: Advance) -> Restored:
    database.wait_at_most(connection.LOCK_TIMEOUT)
    wanted, schema = len(dump.migrations), 0
    if servers.is_ours(servers.tables(database)):
        schema = schemas.version_of(database)
        schemas.refuse_newer(database.title, schema)
        database.execute_sql(f"LOCK TABLE {_listed(_ours(database))} IN SHARE ROW EXCLUSIVE MODE")
        archives.keep(url, kept)
    made_anew = schema > wanted or (schema == wanted and set(_ours(database)) != dump.tables)  # or some are missing
    given = _given_ids(database) if made_anew else {}  # a sequence that stays is never set lower
    if made_anew:
        _drop_tables(database)
    if made_anew or schema < wanted:
        schemas.apply(database, dump.migrations[-1])
    _fill(database, dump, advance)
    if wanted < schemas.NEWEST:
        schemas.apply(database)
    for table, last in given.items():
        _set_last_id(database, table, last)
    if kept:
        recording.record_restore(database, kept[0].path)
    return Restored(kept[0] if kept else None, made_anew, wanted < schemas.NEWEST)


def _ours(database: Any) -> list[str]:
    found = servers.tables(database)
    return [table for table in servers.TABLES if table in found]


def _given_ids(database: Any) -> dict[str, int]:
    """Return the highest ids that tables have given: the restored ones must not give them again."""
    return {table: database.highest_id(table) for table in _ours(database) if table in registry.WITH_IDS}


def _drop_tables(database: Any) -> None:
    """Drop our tables, because schemas cannot be downgraded. Fails if other objects depend on them."""
    database.execute_sql(f"DROP TABLE {_listed(_ours(database))}")
    database.execute_sql(f"DROP FUNCTION IF EXISTS {_listed(servers.FUNCTIONS)}")


def _fill(database: Any, dump: Dump, advance: Advance) -> None:
    """Replace the rows of the tables with those of a dump."""
    ours, tick = _ours(database), ticker(advance)
    if lacking := set(ours) - dump.tables:
        message = ", ".join(sorted(lacking))
        raise Damaged(f"{files.shown(dump.path)} lacks the rows of {message}: it is not a backup of a whole database")
    database.execute_sql(f"TRUNCATE {_listed(ours)}")
    with recording.without_records(database), contextlib.closing(dump.parts()) as parts:
        for part in parts:
            if part.highest is None:
                database.load(part.table, part.columns, map(tick, part.rows))
            else:
                _set_last_id(database, part.table, part.highest)


def _set_last_id(database: Any, table: str, last: int) -> None:
    """Have a table give ids above `last` and all earlier ones; above `last` alone if no id would be left."""
    given = database.highest_id(table)
    database.set_last_id(table, last if given >= connection.MAX_ID else max(given, last))


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)
