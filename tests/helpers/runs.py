"""Runs of algorithms in a workshop, without a node: for tests of their surroundings and ends."""

from __future__ import annotations

import base64
import contextlib
import gc
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vserverlib.nodes.jobs import Algorithm, Database, Job, Limits, Outcome
from vserverlib.nodes.workshop import Running, Workshop

SECONDS = 60.0  # that a test waits for a run
IDENTITY = {
    "task_id": 1,
    "node_id": 7,
    "organization_id": 2,
    "collaboration_id": 3,
    "image": "demo/own:1",
    "databases": [],
}


def token(identity: Mapping[str, Any]) -> str:
    """Return a container's token, without a valid signature."""
    claims = base64.urlsafe_b64encode(json.dumps({"sub": identity}).encode()).decode().rstrip("=")
    return f"e30.{claims}.none"


class Started:
    """A run that was started. pieces: of its log; outcomes: one at its end."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.outcomes: list[Outcome] = []
        self.running: Running
        self._changed = threading.Condition()

    def on_log(self, piece: str) -> None:
        with self._changed:
            self.pieces.append(piece)
            self._changed.notify_all()

    def on_end(self, outcome: Outcome) -> None:
        with self._changed:
            self.outcomes.append(outcome)
            self._changed.notify_all()

    def until_logged(self, text: str) -> None:
        """Wait for a text in the log."""
        self._until(lambda: text in "".join(self.pieces))

    def outcome(self) -> Outcome:
        """Wait for the end."""
        self._until(lambda: bool(self.outcomes))
        return self.outcomes[0]

    def _until(self, is_so: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_so, SECONDS), f"log {self.pieces[-5:]}, outcomes {self.outcomes}"


class Bench:
    """A workshop, and the file of an algorithm whose text a test changes."""

    def __init__(self, folder: Path, workshop: Workshop, python: str = sys.executable) -> None:
        self.folder, self.workshop, self.python = folder, workshop, python
        self.file = folder / "algorithm.py"
        self.environment: dict[str, str] = {}
        self.databases: dict[str, Database] = {}
        self._numbers = itertools.count(1)

    def start(self, method: str, *args: Any, **kwargs: Any) -> Started:
        """Start a method of the file."""
        given = json.dumps({"method": method, "args": args, "kwargs": kwargs}).encode()
        return self.start_job(self.job(input=given))

    def run(self, method: str, *args: Any, **kwargs: Any) -> Outcome:
        """Run a method of the file to its end."""
        return self.start(method, *args, **kwargs).outcome()

    def job(self, **changes: Any) -> Job:
        """Return a job of the file, which asks for all databases."""
        requested = [{"label": label} for label in self.databases]
        job = Job(
            next(self._numbers), 1, 1, Algorithm(self.python, file=str(self.file)), b"{}", token(IDENTITY),
            ("http://127.0.0.1", 1, "/api"), requested, self.databases, self.environment,
        )  # fmt: skip
        return job._replace(**changes)

    def start_job(self, job: Job) -> Started:
        started = Started()
        started.running = self.workshop.start(job, started.on_log, started.on_end)
        return started

    def csv(self, label: str, text: str) -> None:
        """Give the node a database."""
        path = self.folder / f"{label}.csv"
        path.write_text(text)
        self.databases[label] = Database(str(path), "csv")


@contextlib.contextmanager
def bench(
    folder: Path,
    code: str = "",
    *,
    python: str = sys.executable,
    seconds: float = SECONDS,
    memory: int = 0,
    run_with: tuple[str, ...] = (),
    keep: bool = False,
) -> Iterator[Bench]:
    """Open a workshop, and close it at the end; then no folder of it is left, nor a descriptor of this process."""
    gc.collect()  # what earlier tests left behind would close its descriptors meanwhile
    descriptors = {*os.listdir("/dev/fd")}
    place = folder / "workshop"
    place.mkdir(exist_ok=True)
    workshop = Workshop(place, Limits(seconds, memory, 4), run_with, keep)
    made = Bench(folder, workshop, python)
    made.file.write_text(code)
    try:
        yield made
    finally:
        workshop.close()
    assert keep or not any(place.iterdir())
    assert {*os.listdir("/dev/fd")} <= descriptors


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so that no event announces, such as the end of another program's processes."""
    end, pause = time.monotonic() + SECONDS, threading.Event()
    while not is_so():
        assert time.monotonic() < end
        pause.wait(0.02)


def processes_with(mark: str) -> list[int]:
    """Return the processes that have a text in their environment or command."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                texts = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if mark.encode() in texts and state != "Z":
                    found.append(int(entry.name))
    return found
