"""The logs of runs, line by line as nodes send them: collected, and written once a second.

The whole log comes with the end of a run and replaces these lines, except if the run was killed.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NamedTuple

from vserverlib.serving import runs
from vserverlib.serving.callers import Caller
from vserverlib.serving.desk import Busy
from vserverlib.serving.runs import MAX_LOG
from vserverlib.serving.server import Server

WRITE_EVERY = 1.0  # seconds


class Lines(NamedTuple):
    """What the algorithm of a node has printed."""

    node: Caller
    text: str


class RunLogs:
    """Lines that are not in the database yet, by run. Lives in the event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lines: dict[int, Lines] = {}
        self._writing: asyncio.Task[None] | None = None

    def add(self, run_id: int, node: Caller, text: str) -> None:
        """Have some lines appended to the log of a run."""
        before = self._lines[run_id].text if run_id in self._lines else ""
        self._lines[run_id] = Lines(node, runs.joined(before, text.replace("\0", ""))[-MAX_LOG:])
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_soon())

    async def _write_soon(self) -> None:
        while self._lines:
            await asyncio.sleep(WRITE_EVERY)
            await self.flush()
        self._writing = None

    async def flush(self) -> None:
        """Write the lines that wait. If the database is locked, they wait on."""
        lines, self._lines = self._lines, {}
        try:
            if lines:
                await self._server.desk.write(partial(_append, lines))
        except Busy:
            newer, self._lines = self._lines, lines
            for id, (node, text) in newer.items():
                self.add(id, node, text)


def _append(lines: dict[int, Lines]) -> None:
    for run_id, (node, text) in lines.items():
        runs.append_log(run_id, text, node)
