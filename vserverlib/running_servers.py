"""Where the servers of this user run: each `vserver start` leaves a file in the application's folder until its end.

The file has the URL, the process and the secret that signs tokens, for `vserver run`. Only its owner can read it. The
server keeps it locked: a file without a lock is that of a killed server, and the next reader removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vserverlib import files, home

NAME = "running-{}.json"
IN_USE = "waiting for another vserver"
LONGEST = 10_000  # bytes of such a file


class RunningServer(NamedTuple):
    """A server that runs. place: the path or URL of its database, as a command line names it. secret: signs tokens."""

    url: str
    process: int
    place: str
    secret: str
    is_demo: bool = False


@contextlib.contextmanager
def announced(identity: str, server: RunningServer) -> Iterator[None]:
    """Leave the file of a server for this block. identity: of its database. Raises an OSError if that has no place."""
    path = home.folder() / NAME.format(identity)
    home.make_folder(path.parent)
    with files.draft_for(path) as draft, open(draft, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(server._asdict(), file)
        file.flush()
        with files.alone_in(path.parent, IN_USE):  # nobody removes it for the file that it replaces
            os.replace(draft, path)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def of_database(identity: str) -> RunningServer | None:
    """Return the server of a database; None if none runs."""
    try:
        return _read(home.folder() / NAME.format(identity))
    except OSError:
        return None


def demos() -> list[RunningServer]:
    """Return the servers of the example data, the newest first."""
    try:
        found = sorted(home.folder().glob(NAME.format("*")), key=os.path.getmtime, reverse=True)
    except OSError:
        return []
    return [server for path in found if (server := _read(path)) is not None and server.is_demo]


def _read(path: Path) -> RunningServer | None:
    """Return the server of a file. Removes the file of one that was killed; ignores a file that others can change."""
    with contextlib.suppress(OSError, ValueError, TypeError), open(_descriptor(path), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.geteuid() or found.st_mode & files.ACCESS_BY_OTHERS:
            return None
        if not _is_locked(file.fileno()):
            with files.alone_in(path.parent, IN_USE):
                if os.path.samestat(found, os.lstat(path)):  # and not that of a server that has started meanwhile
                    path.unlink()
            return None
        return RunningServer(**json.loads(file.read(LONGEST)))
    return None


def _descriptor(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
