"""`vserver node` in a process of its own, beside a server of ours, and tasks for it; for tests of nodes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import models
from helpers.our_server import Client
from helpers.process import PROGRAM
from helpers.terminal import environment

SECONDS = 60.0
ENDED = ("completed", "failed", "crashed", "killed by user", "not allowed", "start failed")
IMAGE = "demo/test:1"
ALGORITHM = """
import json, os, sys, time

def add(first, second):
    return first + second

def fail():
    print("about to fail")
    raise ValueError("no such column")

def sleep(seconds, mark=None):
    print("asleep", flush=True)
    if mark:
        with open(mark, "a") as file:
            file.write("begun\\n")
    time.sleep(seconds)
    return "awake"

def note(folder, seconds):
    # a line in a file that is named by the run
    run = os.path.basename(os.environ["HOME"]).split("-")[1]
    with open(os.path.join(folder, run), "a") as file:
        print("computed", file=file)
    time.sleep(seconds)
    return int(run)

def wait_for(file):
    print("waiting", flush=True)
    while not os.path.exists(file):
        time.sleep(0.01)

def variables():
    return dict(os.environ)

def central(client):
    ids = [each["id"] for each in client.organization.list()]
    task = client.task.create(input_={"method": "part"}, organizations=ids)
    return sum(client.wait_for_results(task["id"]))

def part():
    return 2

def central_uneven(client):
    ids = [each["id"] for each in client.organization.list()]
    task = client.task.create(input_={"method": "uneven"}, organizations=ids)
    return sum(client.wait_for_results(task["id"]))

def uneven(client):
    if client.organization_id == 2:
        raise ValueError("at once")
    time.sleep(0.7)
    return 2
"""


class OurNode:
    """A running `vserver node`. err: what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log

    @property
    def err(self) -> str:
        return self._log.read_text(errors="replace")

    def until(self, text: str, times: int = 1) -> str:
        """Wait until it has printed a text so often, and return all that it has printed."""
        end = time.monotonic() + SECONDS
        while self.err.count(text) < times:
            assert self.process.poll() is None, f"the node ended with status {self.process.returncode}: {self.err}"
            assert time.monotonic() < end, f"{text!r} was not printed: {self.err}"
            time.sleep(0.02)
        return self.err

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it by a signal, and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextlib.contextmanager
def running(
    file: Path, options: Sequence[str] = (), log: Path | None = None, program: Sequence[str] = PROGRAM, **env: str
) -> Iterator[OurNode]:
    """Run `vserver node FILE`. log: for what it prints."""
    log = log or file.with_suffix(".log")
    command = [*program, "node", *options, str(file)]
    with log.open("wb") as err:
        process = subprocess.Popen(
            command, env=environment(Path(os.environ["HOME"]), **env), stdout=subprocess.DEVNULL, stderr=err
        )
    try:
        yield OurNode(process, log)
    finally:
        process.kill()
        process.wait()


class Federation:
    """A collaboration of organizations with a node each, in a database with the user root. keys: by organization."""

    def __init__(self, path: Path, organizations: int) -> None:
        self.keys: dict[int, str] = {}
        with contextlib.closing(models.connect(str(path))) as opened, opened.rule_checks(False):
            members = [models.Organization.by_id(1)]
            for number in range(2, organizations + 1):
                members.append(models.Organization(name=f"site {number}"))
                members[-1].save()
            trial = models.Collaboration(name="trial", encrypted=False, organizations=members)
            trial.save()
            for each in members:
                key = str(uuid.uuid4())
                models.Node(name=f"node {each.name}", organization=each, collaboration=trial, api_key=key).save()
                self.keys[each.id] = key

    def write(self, folder: Path, port: int, sites: Sequence[int] | None = None, **more: Any) -> Path:
        """Write a node's file, its algorithm and a CSV file for each site. more: keys of the file."""
        folder.mkdir(exist_ok=True)
        (folder / "algorithm.py").write_text(ALGORITHM)
        nodes = []
        for site in sites or self.keys:
            (folder / f"site{site}.csv").write_text("".join(f"{value}\n" for value in ("age", site, site * 10)))
            nodes.append({"api_key": self.keys[site], "databases": {"default": f"site{site}.csv"}})
        file = folder / "nodes.yaml"
        settings = {"server": f"http://127.0.0.1:{port}/api", "nodes": nodes}
        settings |= {"algorithms": {IMAGE: {"file": "algorithm.py"}}, **more}
        file.write_text(json.dumps(settings))  # JSON is YAML
        file.chmod(0o600)
        return file


def post(
    client: Client, method: str, *args: Any, sites: Sequence[int] = (1,), image: str = IMAGE, **kwargs: Any
) -> int:
    """Post a task, and return its id."""
    text = base64.b64encode(json.dumps({"method": method, "args": args, "kwargs": kwargs}).encode()).decode()
    organizations = [{"id": site, "input": text} for site in sites]
    body = {"name": method, "image": image, "collaboration_id": 1, "organizations": organizations}
    answer = client.ask("POST", "task", body | {"databases": [{"label": "default"}]})
    assert answer.status == 201, answer
    return int(answer.body["id"])


def runs_of(client: Client, task: int) -> list[dict[str, Any]]:
    """Return the runs of a task, in the order of the organizations."""
    found = client.ask("GET", "run", query={"task_id": task, "per_page": 100}).body["data"]
    return sorted(found, key=lambda run: run["organization"]["id"])


def until(client: Client, task: int, statuses: Sequence[str] = ENDED, log: str = "") -> list[dict[str, Any]]:
    """Wait until all runs of a task have one of some statuses, and a text in their logs; return them."""
    end = time.monotonic() + SECONDS
    while True:
        found = runs_of(client, task)
        if all(run["status"] in statuses and log in (run["log"] or "") for run in found):
            return found
        assert time.monotonic() < end, [(run["status"], run["log"]) for run in found]
        time.sleep(0.02)


def ended(client: Client, method: str, *args: Any, **options: Any) -> int:
    """Post a task, wait until its runs have ended, and return its id."""
    task = post(client, method, *args, **options)
    until(client, task)
    return task


def results_of(client: Client, task: int) -> list[Any]:
    """Return what the runs of a task returned, in the order of the organizations."""
    results = {run["id"]: place for place, run in enumerate(runs_of(client, task))}
    rows: list[Mapping[str, Any]] = client.ask("GET", "result", query={"task_id": task, "per_page": 100}).body["data"]
    found = sorted(rows, key=lambda row: results[row["run"]["id"]])
    return [json.loads(base64.b64decode(row["result"])) for row in found]


def folders() -> list[Path]:
    """Return the folders of runs in the home of this test, where nodes have run."""
    return [path for path in Path(os.environ["HOME"], ".local/share/vserver/nodes").iterdir() if path.is_dir()]


def processes() -> list[str]:
    """Return the command lines of the processes that nodes in the home of this test have started, and their own."""
    mine, found = f"{os.environ['HOME']}/".encode(), list[str]()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment, command = (Path("/proc", pid, name).read_bytes() for name in ("environ", "cmdline"))
        except OSError:  # it has ended
            continue
        if mine in environment.replace(b"\0", b"/") and b"\0start\0" not in command:
            found.append(command.replace(b"\0", b" ").decode())
    return found
