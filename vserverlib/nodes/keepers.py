"""The keepers of a workshop: interpreters that have imported what is slow, and fork for each run.

There is one for each algorithm, Python and environment, started with its first run. keeper.py is what they execute.
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
from vserverlib.nodes.jobs import Job
from vserverlib.nodes.keeper import END

KEEPER = str(Path(__file__).with_name("keeper.py"))
END_SECONDS = 2.0  # in which the process ends after it has closed its sockets
MAX_COMPLAINT = 2000  # bytes of what a keeper that failed has printed
Key = tuple[object, ...]


class Keepers:
    """The keepers of a workshop. forks: runs are forked from them; otherwise each executes a command."""

    def __init__(self, root: Path, *, keep: bool, forks: bool) -> None:
        self._root, self._keep, self._forks = root, keep, forks
        self._keepers: dict[Key, Keeper] = {}
        self._retired: list[Keeper] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def of(self, job: Job) -> Keeper:
        """Return the keeper for a job, and start it if there is none. Raises an Error if that fails."""
        key: Key = (job.algorithm, *sorted(job.environment.items())) if self._forks else ()
        with self._lock:
            if key not in self._keepers:
                self._keepers[key] = self._started(job, self._root / f"keeper-{next(self._numbers)}.log")
            return self._keepers[key]

    def _started(self, job: Job, log: Path) -> Keeper:
        python = job.algorithm.python if self._forks else sys.executable
        kind, target = run_folders.command(job) if self._forks else ("command", "")
        words = [python, KEEPER, str(self._root), "keep" if self._keep else "remove", kind, target]
        environment = {**run_folders.inherited(), "HOME": str(self._root), **job.environment}
        try:
            return Keeper(words, environment, log)
        except OSError as error:
            raise Error(f'the Python "{printable(python, 200)}" cannot be started: {error.strerror}') from None

    def retire(self, keeper: Keeper) -> None:
        """Have a keeper start no more runs. It ends when its runs have ended."""
        with self._lock:
            self._keepers = {key: each for key, each in self._keepers.items() if each is not keeper}
            keeper.retire()
            self._retired.append(keeper)
            for each in [each for each in self._retired if each.has_ended()]:
                each.close()
                self._retired.remove(each)

    def close(self) -> None:
        """End all keepers, when all runs have ended."""
        with self._lock:
            for each in (*self._keepers.values(), *self._retired):
                each.close()


class Keeper:
    """A keeper, which may still be importing."""

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
        """Have a run begin. If the keeper does not do so, it closes the control socket."""
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
