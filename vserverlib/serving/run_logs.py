"""The logs of runs, line by line as nodes send them: collected, and written once a second.

The whole log comes with the end of a run and replaces these lines, except if the run was killed.
"""

from __future__ import annotations

import asyncio
from functools import partial

from models import Result
from vserverlib.serving.desk import Busy
from vserverlib.serving.server import Server
from vserverlib.serving.states import KILLED

MAX_LOG = 1_000_000  # characters
WRITE_EVERY = 1.0  # seconds


def cut(log: str | None) -> str | None:
    """Return a log, or its beginning if it is too long."""
    return log if log is None else log[:MAX_LOG]


class RunLogs:
    """Lines that are not in the database yet. Lives in the event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lines: dict[int, str] = {}
        self._writing: asyncio.Task[None] | None = None

    def add(self, run_id: int, text: str) -> None:
        """Have some lines appended to the log of a run."""
        self._lines[run_id] = _joined(self._lines.get(run_id, ""), text.replace("\0", ""))[:MAX_LOG]
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_soon())

    async def _write_soon(self) -> None:
        while self._lines:
            await asyncio.sleep(WRITE_EVERY)
            await self.flush()
        self._writing = None

    async def flush(self) -> None:
        """Write the lines that wait. They wait on if the database is locked."""
        lines, self._lines = self._lines, {}
        try:
            if lines:
                await self._server.desk.write(partial(append, lines))
        except Busy:
            for id, text in self._lines.items():
                lines[id] = _joined(lines.get(id, ""), text)[:MAX_LOG]
            self._lines = lines


def _joined(log: str, text: str) -> str:
    return f"{log}\n{text}" if log and not log.endswith("\n") else log + text


def append(lines: dict[int, str]) -> None:
    """Append lines to the logs of runs that have not ended, or were killed. In the thread of the desk."""
    for run in Result.select().where(Result.id.in_(sorted(lines))):
        log = run.log or ""
        if (run.finished_at is None or run.status == KILLED) and len(log) < MAX_LOG:
            Result.update(log=cut(_joined(log, lines[run.id]))).where(Result.id == run.id).execute()
