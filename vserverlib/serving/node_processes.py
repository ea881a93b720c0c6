"""The process of the nodes that `vserver start` runs beside the server: `vserver node`, whose lines join the log.

It is in a session of its own, so that Ctrl-C at the terminal reaches the server alone, which ends the nodes first: they
then report how their runs ended. Its standard input is a pipe of the server: it ends with that, so a killed server
leaves no nodes behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vserverlib import addresses
from vserverlib.messages import notify

PATIENCE = 10.0  # seconds that the nodes have at the end
COMMAND = (sys.executable, "-P", "-m", "vserverlib", "node", "--beside")  # -P: no module of the current folder
HERE = str(Path(__file__).parents[2])  # where our modules are, installed or not


class NodeProcesses:
    """The nodes of some files, in one process. options: of `vserver node`."""

    def __init__(self, nodes_files: Sequence[Path], options: Sequence[str] = ()) -> None:
        self._files, self._options = nodes_files, options
        self._process: subprocess.Popen[bytes] | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self, url: str) -> None:
        """Start the nodes of a server; nothing without files. Call it in the event loop."""
        if self._files:
            command = [*COMMAND, url, *self._options, "--", *map(str, self._files)]
            path = os.pathsep.join(filter(None, (HERE, os.environ.get("PYTHONPATH"))))
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**_without_database(os.environ), "PYTHONPATH": path},
                start_new_session=True,
            )
            self._watching = asyncio.ensure_future(self._report_end())

    async def _report_end(self) -> None:
        """Say that the nodes have ended, unless the server ends them."""
        assert self._process is not None
        status = await asyncio.to_thread(self._process.wait)
        notify(f"the nodes beside the server have ended with status {status}; the server goes on", "yellow")

    async def end(self) -> None:
        """Terminate the nodes, and wait for them; kill them if they do not end."""
        if self._process is None or self._watching is None:
            return
        self._watching.cancel()
        if self._process.poll() is None:
            self._process.terminate()  # SIGINT is ignored in what a script starts with &
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, PATIENCE)
        self.kill()
        self._process.wait()

    def kill(self) -> None:
        """End the nodes at once: at the second Ctrl-C."""
        if self._process is not None:
            self._process.kill()


def _without_database(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the address of the server's database, and PostgreSQL's variables (PGPASSWORD)."""
    dropped = [name for name in environment if name.startswith("PG") or name == addresses.VARIABLE]
    return {name: value for name, value in environment.items() if name not in dropped}
