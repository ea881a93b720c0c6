"""Connections that keep a server from accepting others: those that never send a whole request, and too many at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from typing import Any

from vserverlib.messages import notify

HEAD_PATIENCE = 30.0  # seconds that a connection may wait for the end of the head of its request
REPORT_EVERY = 10.0  # seconds
NONE_LEFT = (errno.EMFILE, errno.ENFILE)


async def end_idle(connections: set[Any]) -> None:
    """End the connections that wait for the head of a request for too long. Runs until it is cancelled.

    connections: uvicorn's. Its own timer is for connections that have sent nothing since their last answer.
    """
    waiting = set[Any]()
    while True:
        await asyncio.sleep(HEAD_PATIENCE)
        for each in waiting & (now := {each for each in connections if _is_in_head(each)}):
            each.transport.close()
        waiting = now


def _is_in_head(connection: Any) -> bool:
    if not hasattr(connection, "cycle"):  # a web socket
        return False
    has_answered = connection.cycle is None or connection.cycle.response_complete
    return has_answered and connection.timeout_keep_alive_task is None


class Reporter:
    """What the event loop calls with errors that nobody awaits."""

    def __init__(self) -> None:
        self._reported = -REPORT_EVERY

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if getattr(context.get("exception"), "errno", None) not in NONE_LEFT:
            loop.default_exception_handler(context)
        elif time.monotonic() - self._reported >= REPORT_EVERY:
            self._reported = time.monotonic()
            with contextlib.suppress(OSError):  # nobody reads the log any more
                notify("too many connections are open (see: ulimit -n): others wait", "yellow")
