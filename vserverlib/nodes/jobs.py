"""Stand-in for the interface, until the branch `wrapper` brings it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Algorithm(NamedTuple):
    """Stand-in."""

    python: str
    package: str = ""
    file: str = ""


class Database(NamedTuple):
    """Stand-in."""

    uri: str
    type: str


class Limits(NamedTuple):
    """Stand-in."""

    seconds: float
    memory: int
    parallel: int


class Job(NamedTuple):
    """Stand-in."""

    run_id: int
    task_id: int
    job_id: int
    algorithm: Algorithm
    input: bytes
    token: str
    server: tuple[str, int, str]
    requested: list[dict[str, Any]]
    databases: Mapping[str, Database]
    environment: Mapping[str, str]


class Outcome(NamedTuple):
    """Stand-in."""

    status: str
    result: bytes | None
    log: str


CODE = """
import json, sys, runpy
given = json.load(open(sys.argv[2]))
module = runpy.run_path(sys.argv[1])
found = module[given["method"]](*given.get("args", ()), **given.get("kwargs", {}))
json.dump(found, open(sys.argv[3], "w"))
"""


class Running:
    """Stand-in."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self.killed = process, False

    def kill(self) -> None:
        self.killed = True
        os.killpg(self._process.pid, signal.SIGKILL)


class Workshop:
    """Stand-in."""

    def __init__(self, folder: Path, limits: Limits, run_with: tuple[str, ...], keep: bool) -> None:
        self._folder = folder
        self._running: list[Running] = []

    def start(self, job: Job, on_log: Callable[[str], None], on_end: Callable[[Outcome], None]) -> Running:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / "input").write_bytes(job.input)
        command = [job.algorithm.python, "-c", CODE, job.algorithm.file, str(folder / "input"), str(folder / "output")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        running = Running(process)
        self._running.append(running)
        threading.Thread(target=self._wait, args=(running, process, folder, on_log, on_end)).start()
        return running

    def _wait(self, running: Running, process: Any, folder: Path, on_log: Any, on_end: Any) -> None:
        log = ""
        for line in process.stdout:
            log += line.decode()
            on_log(line.decode())
        status = "completed" if process.wait() == 0 else "killed by user" if running.killed else "crashed"
        result = (folder / "output").read_bytes() if status == "completed" else None
        shutil.rmtree(folder)
        on_end(Outcome(status, result, log))

    def close(self) -> None:
        for each in self._running:
            if each._process.poll() is None:
                each.kill()
