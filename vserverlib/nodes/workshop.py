"""Computes the jobs of nodes: each run in processes of its own.

A run gets a private folder, a clean environment and a process group, which are gone when it has ended, also if the node
was killed. fork_server.py starts and ends the processes, wrapper.py calls the algorithm; both are programs of the
algorithm's Python. Which jobs may run, and when, is the node's decision: a job that is started runs at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vserverlib import Error, printable
from vserverlib.nodes import endings, run_folders
from vserverlib.nodes.fork_server import BEGUN
from vserverlib.nodes.fork_servers import ForkServer, ForkServers
from vserverlib.nodes.jobs import Job, Limits, Outcome
from vserverlib.nodes.run_logs import RunLog

READ_SIZE = 65536  # bytes of a log at once
ATTEMPTS = 3  # to begin a run
START_SECONDS = 300.0  # in which a fork server imports slow libraries, and begins a run

OnLog = Callable[[str], None]
OnEnd = Callable[[Outcome], None]


class Running:
    """A run that was started. Its thread calls on_log with pieces of the log, and on_end once."""

    def __init__(self, job: Job, workshop: Workshop, on_log: OnLog, on_end: OnEnd) -> None:
        self._job, self._workshop, self._on_end = job, workshop, on_end
        self._log = RunLog(on_log)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._has_begun = self._is_killed = False
        self.thread = threading.Thread(target=self._work, name=f"run {job.run_id}", daemon=True)

    def kill(self) -> None:
        """End the run as "killed by user", unless it has ended."""
        with self._lock:
            self._is_killed = True
            if self._control is not None:
                with contextlib.suppress(OSError):  # the supervisor was killed
                    self._control.shutdown(socket.SHUT_WR if self._has_begun else socket.SHUT_RDWR)

    def _work(self) -> None:
        outcome = Outcome("unknown error", None, "")  # of a bug, such as an on_log that fails
        try:
            outcome = self._outcome()
        except Error as error:
            outcome = Outcome("start failed", None, self._log.end(str(error)))
        except OSError as error:  # a full disk, too many open files
            outcome = Outcome("start failed", None, self._log.end(f"the run cannot be started: {error}"))
        finally:
            self._workshop.forget(self)
            self._on_end(outcome)

    def _outcome(self) -> Outcome:
        """Compute the run. Raises an Error or an OSError if it cannot be started."""
        workshop = self._workshop
        with workshop.shared_folder(self._job), self._folder() as folder:
            run_folders.write_request(folder, workshop.request(self._job, folder))
            for _ in range(ATTEMPTS):  # a fork server may have been killed, or its environment has changed
                fork_server = workshop.fork_servers.of(self._job)
                outcome = self._tried(fork_server, folder)
                if outcome is not None:
                    return outcome
                workshop.fork_servers.retire(fork_server)
        raise Error(f"{printable(self._job.algorithm.python, 200)} does not start: {fork_server.complaint()}")

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = run_folders.create(self._workshop.root, self._job)
        try:
            yield folder
        finally:
            if not self._workshop.keep:
                shutil.rmtree(folder, ignore_errors=True)  # if there was no supervisor to do so

    def _tried(self, fork_server: ForkServer, folder: Path) -> Outcome | None:
        """Have a fork server compute the run; None if it does not begin."""
        control, theirs = socket.socketpair()
        read, write = os.pipe()
        with control, open(read, "rb", buffering=0) as log:
            with self._lock:
                self._control, self._has_begun = control, False
                is_killed = self._is_killed
            with theirs, open(write, "wb", buffering=0):
                if not is_killed:
                    fork_server.begin(folder, theirs.fileno(), write)
            try:
                ended = self._followed(control, log.fileno())
            finally:
                with self._lock:  # from here on, a kill comes too late
                    self._control, is_killed = None, self._is_killed
            if ended is None and not is_killed:
                return None
            outcome = self._judged({"ended": "order"} if is_killed else ended or {}, folder)
            control.shutdown(socket.SHUT_WR)  # the supervisor removes the folder, and ends
            with contextlib.suppress(OSError):
                control.recv(1)
            return outcome

    def _judged(self, ended: dict[str, Any], folder: Path) -> Outcome:
        status, remark = endings.described(ended, self._workshop.limits, self._log.tail)
        result = None
        if status == "completed":
            try:
                result = run_folders.result(folder)
            except Error as error:
                status, remark = "failed", str(error)
        return Outcome(status, result, self._log.end(remark))

    def _followed(self, control: socket.socket, log: int) -> dict[str, Any] | None:
        """Pass the log on until the run has ended.

        Returns what the supervisor says; nothing if it was killed; None if the run did not begin.
        """
        os.set_blocking(log, False)
        poll, said, is_open = select.poll(), b"", True
        for each in (control.fileno(), log):
            poll.register(each, select.POLLIN)
        deadline = time.monotonic() + START_SECONDS
        while is_open and len(said) <= len(BEGUN):
            ready = {number for number, _ in poll.poll(self._milliseconds_to_wait(deadline))}
            if log in ready and not self._read(log):
                poll.unregister(log)
            self._log.pass_on()
            if control.fileno() in ready:
                piece = control.recv(READ_SIZE)
                said, is_open = said + piece, bool(piece)
                with self._lock:
                    self._has_begun = bool(said)
            if not said and time.monotonic() > deadline:
                return None
        while self._read(log):
            pass
        if not said:
            return None
        return dict(json.loads(said[len(BEGUN) :] or "{}"))

    def _milliseconds_to_wait(self, deadline: float) -> float | None:
        waits = [] if self._has_begun else [max(0.0, deadline - time.monotonic())]
        log = self._log.seconds_to_wait()
        waits += [] if log is None else [log]
        return min(waits) * 1000 + 1 if waits else None

    def _read(self, log: int) -> bool:
        """Read some of the log. Returns whether there may be more now."""
        try:
            piece = os.read(log, READ_SIZE)
        except BlockingIOError:
            return False
        self._log.add(piece)
        return bool(piece)


class Workshop:
    """Computes runs in a private folder in `folder`, with limits.

    run_with: words before the command of each run, which then has a new interpreter. keep: leave the folders of runs.
    The nodes of a process share a workshop, and so the interpreters that are kept.
    """

    def __init__(self, folder: Path, limits: Limits, run_with: tuple[str, ...] = (), keep: bool = False) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="runs-", dir=folder))
        self.limits, self.keep, self._run_with = limits, keep, run_with
        self.fork_servers = ForkServers(self.root, keep=keep, forks=not run_with)
        self._running: set[Running] = set()
        self._users: Counter[Path] = Counter()  # runs by the folder that they share
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, job: Job, on_log: OnLog, on_end: OnEnd) -> Running:
        """Start a run. Another thread calls on_log with text as it comes, and on_end once, whatever happens.

        Raises a RuntimeError if there can be no more threads.
        """
        running = Running(job, self, on_log, on_end)
        with self._lock:
            if self._is_closed:
                running.kill()
            self._running.add(running)
        try:
            running.thread.start()
        except RuntimeError:  # no more threads: close() would wait for it
            self.forget(running)
            raise
        return running

    def forget(self, running: Running) -> None:
        """Forget a run that has ended."""
        with self._lock:
            self._running.discard(running)

    @contextlib.contextmanager
    def shared_folder(self, job: Job) -> Iterator[None]:
        """Have the folder that the runs of a job share; it stays after the block if there is something in it."""
        folder = run_folders.shared(self.root, job)
        with self._lock:
            folder.mkdir(0o700, exist_ok=True)
            self._users[folder] += 1
        try:
            yield
        finally:
            with self._lock:
                self._users[folder] -= 1
                if not self._users[folder]:
                    del self._users[folder]
                    with contextlib.suppress(OSError):  # it is not empty
                        folder.rmdir()

    def request(self, job: Job, folder: Path) -> dict[str, Any]:
        """Return what fork_server.py has to know of a run."""
        kind, target = run_folders.command(job)
        words = [*self._run_with, job.algorithm.python, run_folders.WRAPPER, kind, target]
        return {
            "command": words if self._run_with else [],
            "kind": kind,
            "target": target,
            "environment": run_folders.environment(job, self.root, folder),
            "seconds": self.limits.seconds,
            "memory": self.limits.memory,
            "keep": self.keep,
        }

    def close(self) -> None:
        """End all runs, wait until each on_end has been called, and remove the folder."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for each in running:
            each.kill()
        for each in running:
            each.thread.join()
        self.fork_servers.close()
        if not self.keep:
            shutil.rmtree(self.root, ignore_errors=True)
