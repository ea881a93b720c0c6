"""The state of a session that changes a server's database, and how to open that database."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

from vserverlib import addresses, files, printable
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown
from vserverlib.plans import records
from vserverlib.plans.planning import PlanHeader
from vserverlib.plans.row_ids import Ids
from vserverlib.plans.server import Server
from vserverlib.plans.writes import ServerChange

Target = Path | str  # a file, or the URL of a database on a server


@dataclasses.dataclass
class Session:
    """The state of a working copy.

    target: the server's database. release: of vantage6. copied_at: when it was copied, in UTC. database: the working
    copy, open. since: the newest change of its journal when it was copied or last applied. ids: of applied new rows.
    changes: server-only changes. applied: the numbers of applied plans. why_ended: why it can plan nothing more.
    """

    target: Target
    release: int
    copied_at: datetime.datetime
    database: Any = None
    since: int = 0
    ids: Ids = dataclasses.field(default_factory=Ids)
    changes: list[ServerChange] = dataclasses.field(default_factory=list)
    applied: list[int] = dataclasses.field(default_factory=list)
    why_ended: str = ""

    def header(self, server: Server) -> PlanHeader:
        """Return the parts of a plan that do not depend on its changes."""
        return PlanHeader(server.title, self.copied_at, records.folder(server.identity))


def open_server(target: Target, release: int) -> Server:
    """Open a server's database for writing. Raises Error if this user may not write to it."""
    if isinstance(target, Path):
        from vserverlib.plans.sqlite_server import SqliteServer

        return SqliteServer(target, release)
    from vserverlib.plans.postgres_server import PostgresServer

    return PostgresServer(target, release)


def identity(target: Target) -> str:
    """Return the identity of a server's database: the real path of its file, or host, port and name."""
    if isinstance(target, Path):
        return f"file:{files.real(target)}"
    from vserverlib.plans import postgres_server

    with servers.open_snapshot(target) as database:
        return postgres_server.identity(database)


def target_title(target: Target) -> str:
    """Return the name of a server's database in messages."""
    return shown(target) if isinstance(target, Path) else printable(addresses.shown(target), 200)
