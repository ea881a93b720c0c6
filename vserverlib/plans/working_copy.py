"""The private working copy of a server's database: an import of it, with hashes, that is changed in its place.

It has our rules, journal and undo, and is removed with its session; the next session removes the copy of a killed one.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from vserverlib import Error, addresses, files, home, named
from vserverlib.databases import connecting, sqlite_connections, storage
from vserverlib.databases.recording import Recorder
from vserverlib.databases.sqlite import Sqlite
from vserverlib.plans import applying, mapping, writes
from vserverlib.plans.plan import Applied, Plan, Refused
from vserverlib.plans.sessions import Session, Target
from vserverlib.plans.writes import ServerChange
from vserverlib.transfer import detection, importer, vantage6
from vserverlib.transfer.sources import ProgressBar, no_progress_bar

MODE = "plan"
FOLDER, PREFIX, COPY = "working", "copy-", "copy.db"
HOLDING, HELD = "holding", "held"  # the file whose lock says that a session goes on
NAME = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")
PRAGMAS = {"wal_autocheckpoint": 0, "synchronous": "OFF"}  # the file itself stays as it was copied: see net_changes.py
OLDEST = 3  # the release of which a database can be changed


class WorkingCopy(Sqlite):
    """A working copy, open: a database of ours that knows its server."""

    session: Session
    applying: Callable[[], None]  # shows a person the plan, asks and applies it: of commands/plan_session.py

    def plan(self) -> Plan:
        """Return the plan: the changes that apply() would make now. Writes nothing; raises a Refused."""
        return applying.plan(self.session)

    def apply(self, plan: Plan | None = None, *, backup: bool = True, bar: ProgressBar = no_progress_bar) -> Applied:
        """Apply the changes to the server's database, all or nothing: see applying.apply()."""
        return applying.apply(self.session, plan, backup=backup, bar=bar)

    def unlock(self, user: Any) -> None:
        """Lift the lock-out of a user after wrong passwords. Part of the plan; undo() does not see it."""
        self._change(user, writes.UNLOCK)

    def reset_two_factor(self, user: Any) -> None:
        """Have a user set up two-factor authentication anew. Part of the plan; undo() does not see it."""
        self._change(user, writes.RESET_TWO_FACTOR)

    def _change(self, user: Any, what: str) -> None:
        if self.session.release >= mapping.KEYCLOAK_FROM:
            reason = f"in release {self.session.release} it is kept by Keycloak: do it there"
            raise Refused([f"{named('user', user.id, user.username)}: {what}: {reason}"])
        change = ServerChange(user.id, what, named("user", user.id, user.username))
        if change not in self.session.changes:
            self.session.changes.append(change)


def opened(target: Target, bar: ProgressBar = no_progress_bar) -> WorkingCopy:
    """Copy a server's database, have the models use the copy, and return it. A database that was open is closed.

    bar: shows how far the copy is. Raises an Error if it cannot be read, or is of a release that is not changed.
    """
    folder, held = _place()
    try:
        copied_at = datetime.datetime.now(datetime.UTC)
        with detection.opened(str(target), bar) as source:
            release = _refuse_unfit(source)
            with bar("rows", importer.total(source)) as advance:
                importer.run(source, folder / COPY, advance)
        return _bound(target, folder, held, Session(target, release, copied_at))
    except BaseException:
        _remove(folder, held)
        raise


def _bound(target: Target, folder: Path, held: Any, session: Session) -> WorkingCopy:
    copy = folder / COPY
    with contextlib.closing(sqlite_connections.connect(copy)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        session.since = applying.newest_change(conn)
    path, title = (target, None) if isinstance(target, Path) else (copy, addresses.shown(target))
    database = WorkingCopy(str(copy), path=path, mode=MODE, title=title, pragmas=PRAGMAS, recorder=Recorder())
    database.session, session.database = session, database
    database.at_close.append(lambda: _remove(folder, held))
    return connecting.bind(database)


# What can be changed


def _refuse_unfit(source: Any) -> int:
    """Return the release of a source; raise a Refused if it is not a server's, or of one that can only be viewed."""
    if not isinstance(source, vantage6.Vantage6Source):
        raise Error(f"{source.summary()}: not a vantage6 server's, so it needs no plan")
    if source.release < OLDEST:
        raise Refused(
            [f"{source.title}: a database of release {source.release} can only be viewed: upgrade the server"]
        )
    if missing := list(_missing(source)):
        remedy = "it is of a release before 3.11, and can only be viewed: upgrade the server"
        raise Refused([f"{source.title} has no column {missing[0]}: {remedy}"])
    if {"result", "run"} <= source.columns.keys() and source.count("result"):
        remedy = (
            "runs have other ids in a copy, so it can only be viewed; move the rows of result away if they are unused"
        )
        raise Refused([f"{source.title} has results of release 3 beside runs of release 4: {remedy}"])
    return int(source.release)


def _missing(source: vantage6.Vantage6Source) -> Iterator[str]:
    """Return the columns that every release which can be changed has, and this one lacks."""
    for origin in source.origins:
        for name in origin.columns:
            of = [known.rpartition(".") for known in vantage6.NAMES[origin.table][name]]
            tables = [table or origin.table for table, _, _ in of]
            if source.release >= mapping.KEYCLOAK_FROM or tables[0] in ("names", "databases"):
                continue
            if not any(column in source.columns.get(table or origin.table, ()) for table, _, column in of):
                yield f"{origin.table}.{name}"


# The folder


def _place() -> tuple[Path, IO[bytes] | None]:
    """Return a new private folder, and the file whose lock holds it; remove the copies of killed sessions."""
    with contextlib.suppress(OSError):
        parent = home.own_folder(home.folder() / FOLDER)
        _remove_abandoned(parent)
        folder = files.private_folder(parent, PREFIX)
        return folder, _hold(folder)
    folder = files.private_folder()
    return folder, None


def _hold(folder: Path) -> IO[bytes] | None:
    """Lock a file of a new folder for as long as this process lives, and return it; None without such locks."""
    file = open(folder / HOLDING, "wb")  # noqa: SIM115  # until the session ends
    if not _is_locked(file):
        file.close()
        return None
    os.rename(folder / HOLDING, folder / HELD)  # under this name it is locked, or its session is no more
    return file


def _is_locked(file: IO[bytes]) -> bool:
    """Whether this process gets the lock of a file that is open."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows; or another process has it
        return False
    return True


def _remove_abandoned(parent: Path) -> None:
    """Remove the working copies whose sessions are no more."""
    for folder in home.own_entries(parent, NAME):
        with contextlib.suppress(OSError), open(folder / HELD, "rb") as file:
            if _is_locked(file):
                files.remove_folder(folder)


def _remove(folder: Path, held: Any) -> None:
    if held is not None:
        held.close()
    files.remove_folder(folder)


def target_of(name: str | os.PathLike[str]) -> Target:
    """Return the file, or the URL, that a person names."""
    return os.fspath(name) if addresses.is_url(name) else storage.as_path(name)
