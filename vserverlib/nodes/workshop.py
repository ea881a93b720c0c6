"""Computes the jobs of nodes: each run in processes of its own.

A run gets a private folder, a clean environment and a process group, which are gone when it has ended, also if the node
was killed. keeper.py starts and ends the processes, wrapper.py calls the algorithm; both are programs of the
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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vserverlib import Error
from vserverlib.nodes import endings, run_folders
from vserverlib.nodes.jobs import Job, Limits, Outcome
from vserverlib.nodes.keepers import Keepers
from vserverlib.nodes.run_logs import RunLog

READ_SIZE = 65536  # bytes of a log at once
KILL = b"k"

OnLog = Callable[[str], None]
OnEnd = Callable[[Outcome], None]


class Running:
    """A run that was started. Its thread calls on_log with pieces of the log, and on_end once."""

    def __init__(self, job: Job, workshop: Workshop, on_log: OnLog, on_end: OnEnd) -> None:
        self._job, self._workshop, self._on_end = job, workshop, on_end
        self._log = RunLog(on_log)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._is_killed = False
        self.thread = threading.Thread(target=self._work, name=f"run {job.run_id}", daemon=True)

    def kill(self) -> None:
        """End the run as "killed by user", unless it has ended."""
        with self._lock:
            self._is_killed = True
            if self._control is not None:
                with contextlib.suppress(OSError):
                    self._control.send(KILL)

    def _work(self) -> None:
        try:
            outcome = self._outcome()
        except Error as error:
            outcome = Outcome("start failed", None, self._log.end(str(error)))
        except OSError as error:  # a full disk, too many open files
            outcome = Outcome("start failed", None, self._log.end(f"the run cannot be started: {error}"))
        self._workshop.forget(self)
        self._on_end(outcome)

    def _outcome(self) -> Outcome:
        """Compute the run. Raises an Error or an OSError if it cannot be started."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._workshop.shared_folder(self._job))
            folder = run_folders.create(self._workshop.root, self._job)
            stack.callback(self._remove, folder)
            run_folders.write_request(folder, self._workshop.request(self._job, folder))
            control, log = self._started(folder, stack)
            ended = self._followed(control, log)
            outcome = self._judged(ended, folder)
            with self._lock:
                self._control = None
            control.shutdown(socket.SHUT_WR)  # the supervisor removes the folder, and ends
            with contextlib.suppress(OSError):
                control.recv(1)
        return outcome

    def _judged(self, ended: dict[str, Any], folder: Path) -> Outcome:
        limits, result = self._workshop.limits, None
        status, remark = endings.described(ended, limits, self._log.tail, self._is_killed)
        if status == "completed":
            try:
                result = run_folders.result(folder)
            except Error as error:
                status, remark = "failed", str(error)
        return Outcome(status, result, self._log.end(remark))

    def _remove(self, folder: Path) -> None:
        if not self._workshop.keep:
            shutil.rmtree(folder, ignore_errors=True)  # if there was no supervisor to do so

    def _started(self, folder: Path, stack: contextlib.ExitStack) -> tuple[socket.socket, int]:
        """Start the run, and return its control socket and the pipe with its log."""
        control, theirs = socket.socketpair()
        stack.enter_context(control)
        read, write = os.pipe()
        stack.callback(os.close, read)
        try:
            with self._lock:
                self._control = control
                if self._is_killed:
                    control.send(KILL)
            self._workshop.keepers.begin(self._job, folder, theirs.fileno(), write)
        finally:
            theirs.close()
            os.close(write)
        return control, read

    def _followed(self, control: socket.socket, log: int) -> dict[str, Any]:
        """Pass the log on until the run has ended, and return what the supervisor says; nothing if it was killed."""
        os.set_blocking(log, False)
        poll = select.poll()
        for each in (control.fileno(), log):
            poll.register(each, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll(self._log.milliseconds_to_wait())}
            if log in ready and not self._read(log):
                poll.unregister(log)
            self._log.pass_on()
            if control.fileno() in ready:
                break
        ended = control.recv(READ_SIZE)
        while self._read(log):
            pass
        return dict(json.loads(ended)) if ended else {}

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
        self.keepers = Keepers(self.root, keep=keep, forks=not run_with)
        self._running: set[Running] = set()
        self._users: Counter[Path] = Counter()  # runs by the folder that they share
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self, job: Job, on_log: OnLog, on_end: OnEnd) -> Running:
        """Start a run. Another thread calls on_log with text as it comes, and on_end once, whatever happens."""
        running = Running(job, self, on_log, on_end)
        with self._lock:
            if self._is_closed:
                running.kill()
            self._running.add(running)
        running.thread.start()
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
        """Return what keeper.py has to know of a run."""
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
        self.keepers.close()
        if not self.keep:
            shutil.rmtree(self.root, ignore_errors=True)
