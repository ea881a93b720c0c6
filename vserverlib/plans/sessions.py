"""The server of a working copy: its database, its release, and the ids of rows that this session applied."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

from vserverlib import addresses, files, printable
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown
from vserverlib.plans import records
from vserverlib.plans.ids import Ids
from vserverlib.plans.planning import About
from vserverlib.plans.server import Server
from vserverlib.plans.writes import ServerChange

Target = Path | str  # a file, or the URL of a database on a server


@dataclasses.dataclass
class Session:
    """The memory of a working copy.

    target: the server's database; release: of vantage6; copied_at: when its rows were copied; since: the newest change
    of the copy's journal then. changes: changes without a field of ours. ids: of rows that were applied. database: the
    working copy, open.
    """

    target: Target
    release: int
    copied_at: datetime.datetime
    database: Any = None
    since: int = 0
    ids: Ids = dataclasses.field(default_factory=Ids)
    changes: list[ServerChange] = dataclasses.field(default_factory=list)

    def about(self, server: Server) -> About:
        """Return the parts of a plan that do not depend on its rows."""
        return About(server.title, self.copied_at, records.folder(server.identity))


def opened(target: Target, release: int) -> Server:
    """Open a server's database to be changed; an Error if this user may not."""
    if isinstance(target, Path):
        from vserverlib.plans.sqlite_server import SqliteServer

        return SqliteServer(target, release)
    from vserverlib.plans.postgres_server import PostgresServer

    return PostgresServer(target, release)


def identity(target: Target) -> str:
    """Return the identity of a server's database: the real path of its file; or host, port and name."""
    if isinstance(target, Path):
        return f"file:{files.real(target)}"
    from vserverlib.plans import postgres_server

    with servers.open_snapshot(target) as database:
        return postgres_server.identity(database)


def titled(target: Target) -> str:
    """Return the name of a server's database in messages."""
    return shown(target) if isinstance(target, Path) else printable(addresses.shown(target), 200)
