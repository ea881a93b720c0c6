"""The fork servers of a workshop: interpreters that have imported slow libraries, and fork for each run.

There is one for each algorithm, Python and environment, started with its first run. They execute fork_server.py.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from vserverlib import Error, printable
from vserverlib.nodes import run_folders
from vserverlib.nodes.fork_server import END
from vserverlib.nodes.jobs import Job

PROGRAM = str(Path(__file__).with_name("fork_server.py"))
END_SECONDS = 2.0  # in which the process ends after it has closed its sockets
MAX_COMPLAINT = 2000  # bytes of a failed fork server's output
Key = tuple[object, ...]


class ForkServers:
    """The fork servers of a workshop. forks: runs are forked from them; otherwise each executes a command."""

    def __init__(self, root: Path, *, keep: bool, forks: bool) -> None:
        self._root, self._keep, self._forks = root, keep, forks
        self._servers: dict[Key, ForkServer] = {}
        self._retired: list[ForkServer] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def of(self, job: Job) -> ForkServer:
        """Return the fork server for a job; start it before the first one. Raises an Error if that fails."""
        key: Key = (job.algorithm, *sorted(job.environment.items())) if self._forks else ()
        with self._lock:
            if key not in self._servers:
                self._servers[key] = self._started(job, self._root / f"fork-server-{next(self._numbers)}.log")
            return self._servers[key]

    def _started(self, job: Job, log: Path) -> ForkServer:
        python = job.algorithm.python if self._forks else sys.executable
        kind, target = run_folders.command(job) if self._forks else ("command", "")
        words = [python, PROGRAM, str(self._root), "keep" if self._keep else "remove", kind, target]
        environment = {**run_folders.inherited(), "HOME": str(self._root), **job.environment}
        try:
            return ForkServer(words, environment, log)
        except OSError as error:
            raise Error(f'the Python "{printable(python, 200)}" cannot be started: {error.strerror}') from None

    def retire(self, server: ForkServer) -> None:
        """Have a fork server start no more runs. It ends when its runs have ended."""
        with self._lock:
            self._servers = {key: each for key, each in self._servers.items() if each is not server}
            server.retire()
            self._retired.append(server)
            for each in [each for each in self._retired if each.has_ended()]:
                each.close()
                self._retired.remove(each)

    def close(self) -> None:
        """End all fork servers, when all runs have ended."""
        with self._lock:
            for each in (*self._servers.values(), *self._retired):
                each.close()


class ForkServer:
    """A fork server, which may still be importing."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        self._socket, theirs = socket.socketpair()
        try:
            with theirs, open(log, "ab") as output:
                self._process = subprocess.Popen(
                    words, stdin=theirs.fileno(), stdout=output, stderr=output, env=environment, start_new_session=True
                )
        except BaseException:
            self._socket.close()
            raise

    def begin(self, folder: Path, control: int, log: int) -> None:
        """Have a run begin. If the fork server does not do so, it closes the control socket."""
        with contextlib.suppress(OSError):  # it has ended
            socket.send_fds(self._socket, [os.fsencode(folder)], [control, log])

    def complaint(self) -> str:
        """Return why it has begun no run: the last line that it has printed, if it has ended."""
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "packages are being installed, or its imports do not end"
        with contextlib.suppress(OSError):
            text = self._log.read_bytes()[-MAX_COMPLAINT:].decode(errors="replace")
            if text.strip():
                return printable(text.strip().splitlines()[-1], 200)
        return f"it ended with status {status}"

    def retire(self) -> None:
        """Let it end with its last run. Without the message it would remove all folders."""
        with contextlib.suppress(OSError):
            self._socket.send(END)
            self._socket.shutdown(socket.SHUT_RDWR)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
