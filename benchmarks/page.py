"""Times the page of `vserver start`: what a reading costs, and how soon fifty open pages have a change.

python benchmarks/page.py
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from measure import PROJECT, Goal, clock, heading, in_turns, ratio, report, verdict

sys.path.insert(0, str(PROJECT / "tests"))
from helpers import our_server, visitor

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.queries import dashboard, overview
from vserverlib.queries.sights import WHOLE, Sight

TASKS, ROUNDS = 100_000, 5
PAGES, CHANGES = 50, 5
MOST_MEGABYTES = 90
PASSWORD = "Benchmark-1234"


def fill(path: Path) -> None:
    """Fill a new database with a made-up consortium of two collaborations, and a user."""
    command = [sys.executable, "-m", "vserver", "-d", str(path), "demo", "--tasks", str(TASKS)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    with contextlib.closing(models.connect(str(path))) as database, database.rule_checks(False):
        other = Collaboration(name="other", organizations=Organization.get().limit(2))
        other.save()
        User(username="anna", password=PASSWORD, roles="Root", email="a@x.example", organization=1).save()


def of_half() -> Sight:
    """Return the sight of a user who takes part in one collaboration."""
    tasks = Task.select(Task.id).where(Task.collaboration == 1)
    conditions = {Collaboration: Collaboration.id == 1, Task: Task.collaboration == 1, Node: Node.collaboration == 1}
    return Sight({**conditions, Result: Result.task.in_(tasks)})


def readings(path: Path) -> Iterator[Goal]:
    """Compare a reading of the page with the overview of the terminal."""
    with contextlib.closing(models.connect(str(path), read_only=True)) as database:

        def page(sight: Sight) -> float:
            return clock(lambda: dashboard.dashboard(database, sight))

        base, whole, half = in_turns(
            ROUNDS,
            lambda: clock(lambda: overview.overview(database)),
            functools.partial(page, WHOLE),
            functools.partial(page, of_half()),
        )
    report("overview", base)
    report("a reading of the page", whole)
    report("a reading for a user who sees one collaboration", half)
    yield Goal("a reading, to the overview", ratio(whole, base), 1.2)
    yield Goal("a reading of one collaboration, to the overview", ratio(half, base), 4)


class Watching:
    """An open page in a thread: when it last showed a name."""

    def __init__(self, port: int, cookie: str) -> None:
        self.visitor = visitor.Visitor(port)
        self.visitor.cookie, self.shown = cookie, dict[str, float]()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            for _, data in self.visitor.events():
                for name in re.findall(r"change \d+ of \d+", data):
                    self.shown.setdefault(name, time.monotonic())
                self.shown.setdefault("open", time.monotonic())


def spread(server: our_server.OurServer, number: int) -> list[float]:
    """Return the seconds after which the last of some open pages has each change."""
    client = server.client()
    client.log_in("anna", PASSWORD)
    first = visitor.Visitor(server.port)
    first.log_in("anna", PASSWORD)
    watching = [Watching(server.port, first.cookie) for _ in range(number)]
    _wait(watching, "open")
    seconds = []
    for change in range(CHANGES):
        began = time.monotonic()
        assert client.ask("PATCH", "organization/1", {"name": f"change {change} of {number}"}).status == 200
        seconds.append(_wait(watching, f"change {change} of {number}") - began)
    return seconds


def _wait(watching: list[Watching], name: str) -> float:
    while not all(name in each.shown for each in watching):
        time.sleep(0.005)
    return max(each.shown[name] for each in watching)


def goals(folder: Path) -> Iterator[Goal]:
    """Measure and yield the goals."""
    path = folder / "vserver.db"
    fill(path)
    yield from readings(path)
    with our_server.running(path, folder, "-q") as server:
        one, many = spread(server, 1), spread(server, PAGES)
        report("a change is on one open page after", one)
        report(f"a change is on {PAGES} open pages after", many)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
    megabytes = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    print(f"  memory with {PAGES} open pages: {megabytes:.1f} MB")
    yield Goal(f"a change on {PAGES} pages, to one", sum(many) / sum(one), 2)
    yield Goal(f"memory with {PAGES} open pages, to {MOST_MEGABYTES} MB", megabytes / MOST_MEGABYTES, 1)


def main() -> int:
    heading(f"the page, {TASKS:,} tasks")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HOME": folder, "VSERVER_HOME": str(Path(folder, "home"))}
        return verdict(list(goals(Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
