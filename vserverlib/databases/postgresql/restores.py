"""A dump put back into a database on a server: all that was there kept first, then replaced, in one transaction.

The transaction has the lock of who writes from its beginning, and then one on the tables, for other programs: so nobody
writes between the backup that is kept and the restoring. Tables stay where they are, and with them the rights that
other roles have, what other programs have made of them, and the sessions that have them open; only those of a newer
schema than the dump's, or of which some are lost, are made anew.

What a dump is, is archives.py's; files of SQLite are restored by backups.py.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from vserverlib import Damaged, files
from vserverlib.databases import backups, connection, recording, schemas
from vserverlib.databases.backups import Backup
from vserverlib.databases.postgresql import archives, dumps, servers
from vserverlib.databases.postgresql.archives import Dump
from vserverlib.progress_callback import Advance, ticker


class Restored(NamedTuple):
    """What was done. kept: the backup of what was there, None where nothing was.

    made_anew: tables were taken out, and made again, so that rights on them are gone; upgraded: the dump was older.
    """

    kept: Backup | None
    made_anew: bool
    upgraded: bool


def replaces(url: str) -> bool:
    """Return whether a database has what a restore would replace; an Error where nothing can be restored into it."""
    with contextlib.closing(servers.reached(url)) as database:
        if not servers.is_ours(servers.tables(database)):
            return False
        schemas.refuse_newer(database.title, schemas.of(database))
    dumps.about(url).refuse_lack()
    return True


def restore(url: str, dump: Dump, advance: Advance = bool) -> Restored:
    """Have a database hold what a dump holds, and what it held be kept in the current folder.

    advance: is called from time to time with how many rows are written.
    Raises an Error where that fails; the database is then as it was, and nothing is kept.
    """
    with contextlib.closing(servers.reached(url)) as database:
        cannot = files.as_error(f"{database.title} cannot be restored, and is as it was")
        with cannot, backups.keeping_first(database) as kept:
            return _replace(database, url, dump, kept, advance)


def _replace(database: Any, url: str, dump: Dump, kept: list[Backup], advance: Advance) -> Restored:
    database.wait_at_most(connection.LOCK_WAIT)
    wanted, schema = len(dump.migrations), 0
    if servers.is_ours(servers.tables(database)):
        schema = schemas.of(database)
        schemas.refuse_newer(database.title, schema)
        database.execute_sql(f"LOCK TABLE {_listed(_ours(database))} IN SHARE ROW EXCLUSIVE MODE")  # for other programs
        archives.keep(url, kept)
    made_anew = schema > wanted or (schema == wanted and set(_ours(database)) != dump.tables)  # or some are lost
    if made_anew:
        _take_out(database)
    if made_anew or schema < wanted:
        schemas.apply(database, dump.migrations[-1])
    _fill(database, dump, advance)
    if wanted < schemas.NEWEST:
        schemas.apply(database)
    if kept:
        _put_on_record(database, kept[0])
    return Restored(kept[0] if kept else None, made_anew, wanted < schemas.NEWEST)


def _put_on_record(database: Any, kept: Backup) -> None:
    """Have the journal that was restored say so: what it has from before is not what the database held just now."""
    with recording.one_change(database, recording.BULK_WORK, "restored a backup", str(kept.path.absolute())):
        pass


def _ours(database: Any) -> list[str]:
    found = servers.tables(database)
    return [table for table in servers.TABLES if table in found]


def _take_out(database: Any) -> None:
    """Take out our tables: there is no way back from a schema to an earlier one. Nothing goes that needs them."""
    database.execute_sql(f"DROP TABLE {_listed(_ours(database))}")
    database.execute_sql(f"DROP FUNCTION IF EXISTS {_listed(servers.FUNCTIONS)}")


def _fill(database: Any, dump: Dump, advance: Advance) -> None:
    """Have the tables hold the rows of a dump, and no others."""
    ours, tick = _ours(database), ticker(advance)
    if lacking := set(ours) - dump.tables:
        message = ", ".join(sorted(lacking))
        raise Damaged(f"{files.shown(dump.path)} lacks the rows of {message}: it is no backup of a whole database")
    database.execute_sql(f"TRUNCATE {_listed(ours)}")
    with recording.without_records(database), contextlib.closing(dump.parts()) as parts:
        for part in parts:
            if part.highest is None:
                database.load(part.table, part.columns, map(tick, part.rows))
            else:
                database.use_ids_after(part.table, part.highest)


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)
