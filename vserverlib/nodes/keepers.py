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
from vserverlib.nodes.keeper import ACCEPTED, END, STALE

KEEPER = str(Path(__file__).with_name("keeper.py"))
ATTEMPTS = 3  # to start a run
MAX_COMPLAINT = 2000  # bytes of what a keeper that failed has printed
Key = tuple[object, ...]


class Keepers:
    """The keepers of a workshop. forks: runs are forked from them; otherwise each executes a command."""

    def __init__(self, root: Path, *, keep: bool, forks: bool) -> None:
        self._root, self._keep, self._forks = root, keep, forks
        self._keepers: dict[Key, _Keeper] = {}
        self._retired: list[_Keeper] = []  # which may still have runs
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def begin(self, job: Job, folder: Path, control: int, log: int) -> None:
        """Have a run begin in its folder, with its control socket and log pipe. Raises an Error if it cannot."""
        for _ in range(ATTEMPTS):  # it may have been killed, or something was installed in its environment
            keeper = self._of(job)
            answer = keeper.begin(folder, control, log)
            if answer == ACCEPTED:
                return
            self._drop(keeper)
        reason = "packages are being installed" if answer == STALE else keeper.complaint()
        raise Error(f"{printable(job.algorithm.python, 200)} does not start: {reason}")

    def _drop(self, keeper: _Keeper) -> None:
        with self._lock:
            self._keepers = {key: each for key, each in self._keepers.items() if each is not keeper}
            self._retired.append(keeper)
        keeper.close()

    def _of(self, job: Job) -> _Keeper:
        key: Key = (job.algorithm, *sorted(job.environment.items())) if self._forks else ()
        with self._lock:
            if key not in self._keepers:
                log = self._root / f"keeper-{next(self._numbers)}.log"
                self._keepers[key] = self._started(job, log)
            return self._keepers[key]

    def _started(self, job: Job, log: Path) -> _Keeper:
        python = job.algorithm.python if self._forks else sys.executable
        kind, target = run_folders.command(job) if self._forks else ("command", "")
        words = [python, KEEPER, str(self._root), "keep" if self._keep else "remove", kind, target]
        environment = {**run_folders.inherited(), "HOME": str(self._root), **job.environment}
        try:
            return _Keeper(words, environment, log)
        except OSError as error:
            raise Error(f'the Python "{printable(python, 200)}" cannot be started: {error.strerror}') from None

    def close(self) -> None:
        """End all keepers, and wait for them."""
        with self._lock:
            for each in self._keepers.values():
                each.close()
            for each in (*self._keepers.values(), *self._retired):
                each.wait()


class _Keeper:
    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        self._log, self._lock = log, threading.Lock()
        self._socket, theirs = socket.socketpair()
        try:
            with theirs, open(log, "ab") as output:
                self._process = subprocess.Popen(
                    words, stdin=theirs.fileno(), stdout=output, stderr=output, env=environment, start_new_session=True
                )
        except BaseException:
            self._socket.close()
            raise

    def begin(self, folder: Path, control: int, log: int) -> bytes:
        """Have a run begin, and return the keeper's answer, when it has imported what it imports; none if it ended."""
        try:
            with self._lock:
                socket.send_fds(self._socket, [os.fsencode(folder)], [control, log])
                return self._socket.recv(1)
        except OSError:
            return b""

    def complaint(self) -> str:
        """Return the last line that the keeper has printed."""
        self.wait()
        with contextlib.suppress(OSError):
            text = self._log.read_bytes()[-MAX_COMPLAINT:].decode(errors="replace")
            if text.strip():
                return printable(text.strip().splitlines()[-1], 200)
        return f"it ended with status {self._process.returncode}"

    def close(self) -> None:
        """Have the keeper end; without this message it would remove all folders."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.send(END)
        self._socket.close()

    def wait(self) -> None:
        self._process.wait()
