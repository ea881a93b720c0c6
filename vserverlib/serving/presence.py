"""Which nodes and users are connected, and the configuration that each node reports. Kept in memory.

sockets writes it. The database has `ip`, `last_seen` and `status` of nodes and users: written when one comes or goes,
and else once a minute at most; a change of these alone is not in the journal.
"""

from __future__ import annotations

import time
from typing import Any

from models import Node, User
from vserverlib.entities.fields import now

ONLINE, OFFLINE = "online", "offline"
WRITE_EVERY = 60.0  # seconds
TABLES = {"node": Node, "user": User}


class NodeBook:
    """The configuration that each connected node has reported, by its id, and when presence was last written."""

    def __init__(self) -> None:
        self.configurations: dict[int, list[dict[str, str]]] = {}
        self._written: dict[tuple[str, int], float] = {}

    def configuration(self, node_id: int) -> list[dict[str, str]]:
        """Return the configuration of a node: [{"key": ..., "value": ...}]; empty if it is not connected."""
        return self.configurations.get(node_id, [])

    def is_due(self, kind: str, id: int) -> bool:
        """Whether the presence of a user or node was not written for a minute. Says so once."""
        moment = time.monotonic()
        if moment - self._written.get((kind, id), -WRITE_EVERY) < WRITE_EVERY:
            return False
        self._written[kind, id] = moment
        return True


def write(kind: str, id: int, status: str | None = None, ip: str | None = None) -> None:
    """Write that a user or node was seen now, in the open transaction. kind: "user" or "node". None: as it was."""
    model: Any = TABLES[kind]
    given = {"status": status, "ip": ip}
    values = {"last_seen": now(), **{name: value for name, value in given.items() if value is not None}}
    model.update(**values).where(model.id == id).execute()


def is_anybody_online() -> bool:
    """Whether a user or node is online in the database: at a start, because the last server was killed."""
    return any(model.select().where(model.status == ONLINE).exists() for model in TABLES.values())


def set_all_offline() -> None:
    """Write that nobody is connected, in the open transaction."""
    for model in TABLES.values():
        model.update(status=OFFLINE).where(model.status == ONLINE).execute()
