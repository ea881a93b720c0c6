"""The private working copy of a server's database: an import with hashes, in which changes are prepared.

It has rules, journal and undo like any database of ours. It is removed when its session ends; the next session removes
the copy of a session that was killed.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from vserverlib import Error, addresses, files, home
from vserverlib.databases import connecting, recording, server_accounts, sqlite_connections, storage
from vserverlib.databases.recording import Recorder
from vserverlib.databases.sqlite import Sqlite
from vserverlib.entities import orm
from vserverlib.plans import applying, mapping, refusals, writes
from vserverlib.plans.plan import Applied, Plan, Refused
from vserverlib.plans.sessions import Session, Target
from vserverlib.plans.writes import ServerChange
from vserverlib.transfer import detection, importer, vantage6
from vserverlib.transfer.sources import ProgressBar, no_progress_bar

MODE = "plan"
FOLDER, PREFIX, COPY = "working", "copy-", "copy.db"
NEW_LOCK, LOCK = "new-lock", "lock"  # a file that is locked while its session runs
NAME = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
# Changes stay in the WAL, so that the file keeps the copied state: see net_changes.py.
PRAGMAS = {"wal_autocheckpoint": 0, "synchronous": "OFF"}
LEFT_OUT = re.compile(r" AND NOT \(\(OLD\.last_seen.*")  # the end of a trigger's condition, by migration 0004
OLDEST = 3  # the first release whose databases can be changed


class WorkingCopy(Sqlite):
    """A working copy, open: a database of ours, with the session of its server."""

    session: Session
    guard: refusals.Guard
    when_applied: list[Callable[[], None]]  # called after the plan was applied, not after a no
    applying: Callable[[], None]  # shows a person the plan, asks and applies it: of commands/plan_session.py

    def plan(self, *, bar: ProgressBar = no_progress_bar) -> Plan:
        """Return the plan: the changes that apply() would make now. Writes nothing. Raises Refused."""
        self._refuse_closed()
        return applying.plan(self.session, bar)

    def apply(self, plan: Plan | None = None, *, backup: bool = True, bar: ProgressBar = no_progress_bar) -> Applied:
        """Apply the changes to the server's database, all or nothing: see applying.apply()."""
        self._refuse_closed()
        return applying.apply(self.session, plan, backup=backup, bar=bar)

    def _refuse_closed(self) -> None:
        if not os.path.exists(self.database):
            raise Error("this working copy was closed, and its changes are gone: connect again")

    def written_id(self, entity: Any) -> int:
        """Return the id of an entity on the server, as far as it was applied."""
        return self.session.ids.theirs(entity._meta.table_name, entity.id)

    def refuse_unplannable(self, entity: Any, *names: str) -> None:
        self.guard.refuse(entity, names, is_new=not names)

    def unlock(self, user: Any, *, two_factor: bool = False) -> bool:
        """Unlock a user, and reset two-factor authentication. Part of the plan; undo() does not undo it."""
        changes = (writes.UNLOCK, writes.RESET_TWO_FACTOR) if two_factor else (writes.UNLOCK,)
        if self.session.release >= mapping.KEYCLOAK_FROM:
            reason = f"Keycloak manages this in release {self.session.release}: do it there"
            raise Refused([f"{user.named()}: {' and '.join(changes)}: {reason}"])
        for what in changes:
            change = ServerChange(user.id, what, user.named())
            if change not in self.session.changes:
                self.session.changes.append(change)
        for hook in orm.after_unlock:
            hook(user)
        return True


def opened(target: Target, bar: ProgressBar = no_progress_bar) -> WorkingCopy:
    """Copy a server's database, bind the models to the copy, and return it. Closes the database that was open.

    bar: the progress bar. Raises Error if the database cannot be read, and Refused if its release cannot be changed.
    """
    folder, lock = _create_folder()
    try:
        copied_at = datetime.datetime.now(datetime.UTC)
        with detection.opened(str(target), bar) as source:
            release = _refuse_unsupported(source)
            with bar("rows", importer.total(source)) as advance:
                importer.run(source, folder / COPY, advance)
            accounts = source.accounts() if isinstance(source, vantage6.Vantage6Source) else None
        with contextlib.closing(sqlite_connections.connect(folder / COPY)) as conn, conn:
            server_accounts.note(conn, accounts)
        return _bound(target, folder, lock, Session(target, release, copied_at))
    except BaseException:
        _remove(folder, lock)
        raise


def _bound(target: Target, folder: Path, lock: Any, session: Session) -> WorkingCopy:
    copy = folder / COPY
    with contextlib.closing(sqlite_connections.connect(copy)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        session.since = applying.newest_change(conn)
        _record_presence(conn)
    path, title = (target, None) if isinstance(target, Path) else (copy, addresses.shown(target))
    database = WorkingCopy(str(copy), path=path, mode=MODE, title=title, pragmas=PRAGMAS, recorder=Recorder())
    database.session, session.database, database.when_applied = session, database, []
    undo = addresses.command(title or files.shown(target), "--write", "undo")
    database.why_nothing_to_undo = f"this session has no more changes to undo; an applied plan is undone with: {undo}"
    connecting.bind(database)
    database.guard = refusals.Guard(database, session.release)
    database.at_close += [lambda: _remove(folder, lock), database.guard.close]
    return database


def _record_presence(conn: Any) -> None:
    """Have the copy's journal record when users and nodes were seen, which it leaves out elsewhere: it is the plan."""
    for table in recording.SEEN:
        name = f"journal_{table}_update"
        (sql,) = conn.execute("SELECT sql FROM sqlite_master WHERE name = ?", [name]).fetchone()
        conn.execute(f'DROP TRIGGER "{name}"')
        conn.execute(LEFT_OUT.sub("", sql, count=1))


# What can be changed


def refuse_old_file(path: Path) -> None:
    """Raise Refused if the file of a server is of a release that can only be viewed."""
    with detection.opened(str(path)) as source:
        _refuse_unsupported(source)


def _refuse_unsupported(source: Any) -> int:
    """Return the release of a source. Raises Error if it is not a server's, Refused if it can only be viewed."""
    if not isinstance(source, vantage6.Vantage6Source):
        raise Error(
            f"{source.summary()}: not a vantage6 server's database, so it needs no plan: open it without --write"
        )
    if source.release < OLDEST:
        raise Refused(
            [f"{source.title}: a database of release {source.release} can only be viewed: upgrade the server"]
        )
    if table := mapping.missing_table(source.release, source.columns):
        raise Refused([f"{source.title} has no table {table}: without it, it can only be viewed: restore a backup"])
    if missing := list(_missing(source)):
        remedy = "databases before release 3.11 can only be viewed: upgrade the server"
        raise Refused([f"{source.title} has no column {missing[0]}: {remedy}"])
    if {"result", "run"} <= source.columns.keys() and source.count("result"):
        remedy = "runs would get new ids, so it can only be viewed; remove the rows of result if they are unused"
        raise Refused([f"{source.title} has both results of release 3 and runs of release 4: {remedy}"])
    return int(source.release)


def _missing(source: vantage6.Vantage6Source) -> Iterator[str]:
    """Return the columns that a source lacks although all supported releases have them."""
    for origin in source.origins:
        for name in origin.columns:
            of = [known.rpartition(".") for known in vantage6.NAMES[origin.table][name]]
            tables = [table or origin.table for table, _, _ in of]
            if source.release >= mapping.KEYCLOAK_FROM or tables[0] in ("names", "databases"):
                continue
            if not any(column in source.columns.get(table or origin.table, ()) for table, _, column in of):
                yield f"{origin.table}.{name}"


# The folder


def _create_folder() -> tuple[Path, IO[bytes] | None]:
    """Create a private folder, and return it with its locked file. Removes the copies of killed sessions."""
    with contextlib.suppress(OSError):
        parent = home.own_folder(home.folder() / FOLDER)
        _remove_abandoned(parent)
        folder = files.private_folder(parent, PREFIX)
        return folder, _lock(folder)
    folder = files.private_folder()
    return folder, None


def _lock(folder: Path) -> IO[bytes] | None:
    """Lock a file in a new folder until this process ends, and return it; None if locks are not supported."""
    file = open(folder / NEW_LOCK, "wb")  # noqa: SIM115  # until the session ends
    if not _is_locked(file):
        file.close()
        return None
    os.rename(folder / NEW_LOCK, folder / LOCK)  # under this name it is locked, or its session has ended
    return file


def _is_locked(file: IO[bytes]) -> bool:
    """Try to lock an open file; return whether that succeeded."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows; or another process has it
        return False
    return True


def _remove_abandoned(parent: Path) -> None:
    """Remove the working copies of sessions that were killed."""
    for folder in home.own_entries(parent, NAME):
        with contextlib.suppress(OSError), open(folder / LOCK, "rb") as file:
            if _is_locked(file):
                files.remove_folder(folder)


def _remove(folder: Path, lock: Any) -> None:
    if lock is not None:
        lock.close()
    files.remove_folder(folder)


def target_of(name: str | os.PathLike[str]) -> Target:
    """Return the file or URL that a name refers to."""
    return os.fspath(name) if addresses.is_url(name) else storage.as_path(name)
