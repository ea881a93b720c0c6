"""Clients of a server in a process of its own whose tokens a test signs itself: a log-in takes 0.3 seconds.

The secret is read from the file in which the server keeps it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from helpers.our_server import Client, OurServer
from vserverlib.serving.callers import CONTAINER, NODE, USER
from vserverlib.serving.tokens import Signer


def signer() -> Signer:
    """Return what signs the tokens of the one server that this test's home has a secret of."""
    (key,) = (Path(os.environ["HOME"]) / "data" / "vserver").glob("server-*.key")
    return Signer(key.read_bytes())


def with_token(server: OurServer, token: str) -> Client:
    """Return a client with a token."""
    client = server.client()
    client.token = token
    return client


def as_user(server: OurServer, id: int) -> Client:
    return with_token(server, signer().access(USER, id))


def as_node(server: OurServer, id: int) -> Client:
    return with_token(server, signer().access(NODE, id))


def as_container(server: OurServer, node: int, task: int, **more: Any) -> Client:
    """Return a client with the token of a container of a task, at a node."""
    subject = {"client_type": CONTAINER, "node_id": node, "task_id": task, **more}
    return with_token(server, signer().container(subject))
