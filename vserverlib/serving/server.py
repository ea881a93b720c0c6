"""The parts of a running server that functions of routes and the web sockets share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from vserverlib.entities import fields
from vserverlib.serving import callers
from vserverlib.serving.desk import Desk
from vserverlib.serving.hashing_room import HashingRoom
from vserverlib.serving.presence import NodeBook
from vserverlib.serving.requests import Request
from vserverlib.serving.tokens import Signer

Found = TypeVar("Found")


@dataclass
class Server:
    """A running server. hosts: names in the Host header that are accepted besides numeric addresses and localhost.

    level: 0: log only errors; 1: a line for each request; 2: with its query, and events.
    closing: end the web sockets and the event streams of pages.
    """

    desk: Desk
    signer: Signer
    api_path: str
    hosts: frozenset[str] = frozenset()
    level: int = 1
    hashing: HashingRoom = field(default_factory=HashingRoom)
    nodes: NodeBook = field(default_factory=NodeBook)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def key_salt(self) -> str:
        """Return the salt of the API keys."""
        return await self.desk.read(lambda: fields.key_salt(self.desk.database))

    async def write(self, request: Request, run: Callable[[], Found]) -> Found:
        """Have the desk run a function that writes, for the caller of a request, whom it reads anew."""

        def run_anew() -> Found:
            if request.token:
                request.caller = callers.of_token(request.token)
            return run()

        return await self.desk.write(run_anew, actor=request.actor, events=request.events)
