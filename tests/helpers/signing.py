"""Clients of a server in a process of its own whose tokens a test signs itself: a log-in takes 0.3 seconds.

The secret is read from the file in which the server keeps it, and the marks of users and nodes from its database.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from helpers.our_server import Client, OurServer
from vserverlib.entities import timestamps
from vserverlib.serving.callers import CONTAINER, NODE, USER, mark
from vserverlib.serving.tokens import Signer
from vserverlib.transfer import copying

SALT = "SELECT value FROM setting WHERE name = 'key_salt'"
VALUES = {
    USER: 'SELECT username FROM "user" WHERE id = {}',
    NODE: "SELECT api_key FROM node WHERE id = {}",
    CONTAINER: "SELECT created_at FROM task WHERE id = {}",
}


def signer() -> Signer:
    """Return what signs the tokens of the one server that this test's home has a secret of."""
    (key,) = (Path(os.environ["HOME"]) / "data" / "vserver").glob("server-*.key")
    return Signer(key.read_bytes())


def access(signer: Signer, address: str | Path | None, kind: str, id: int) -> str:
    """Return an access token of a user or a node."""
    return signer.access(kind, id, mark(*_of(address, {kind: id})))


def refresh(signer: Signer, address: str | Path | None, kind: str, id: int) -> str:
    """Return a refresh token of a user or a node."""
    return signer.refresh(kind, id, mark(*_of(address, {kind: id})))


def container(signer: Signer, address: str | Path | None, node: int, task: int) -> str:
    """Return the token of a container of a task, at a node."""
    salt, key, created_at = _of(address, {NODE: node, CONTAINER: task})
    moment = created_at and timestamps.as_utc(created_at)
    subject = {"client_type": CONTAINER, "node_id": node, "task_id": task}
    return signer.container(subject, mark(mark(salt, key), moment))


def _of(address: str | Path | None, ids: dict[str, int]) -> list[Any]:
    """Return the salt of a database, and a value of each row, None if it does not exist."""
    queries = [SALT, *(VALUES[kind].format(id) for kind, id in ids.items() if id < 2**63)]
    with copying.source(str(address)) as database:
        rows = [database.execute_sql(query).fetchone() for query in queries]
    return [row and row[0] for row in rows]


def with_token(server: OurServer, token: str) -> Client:
    """Return a client with a token."""
    client = server.client()
    client.token = token
    return client


def as_user(server: OurServer, id: int) -> Client:
    return with_token(server, access(signer(), server.address, USER, id))


def as_node(server: OurServer, id: int) -> Client:
    return with_token(server, access(signer(), server.address, NODE, id))


def as_container(server: OurServer, node: int, task: int) -> Client:
    return with_token(server, container(signer(), server.address, node, task))
