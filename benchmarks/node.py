"""Times `vserver node`: from the request that posts a task to its results, and many runs at once.

    VSERVER_VANTAGE6_CLIENT=PYTHON python benchmarks/node.py

`vserver start` and one `vserver node` with three nodes run beside it; the client is this process on loopback. The
algorithm needs nothing but Python. PYTHON is the interpreter of an environment with vantage6-algorithm-tools 4.15.2,
with which the first run of a node is timed; without it, that is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from measure import PROJECT, Goal, clock, heading, in_turns, ratio, report, verdict

sys.path.insert(0, str(PROJECT / "tests"))
from helpers import our_node, our_server
from helpers.our_server import Client

from vserverlib.databases import storage

SITES = (1, 2, 3)
ROUNDS = 11
MOST_SECONDS, MOST_SECONDS_CENTRAL = 0.5, 1.5
FEW, MANY = 20, 80
PAUSE = 0.01  # seconds between two looks
PYTHON = os.environ.get("VSERVER_VANTAGE6_CLIENT", "")
IMPORTS = "import vantage6.algorithm.tools.wrap, vantage6.algorithm.tools.decorators"  # what a first run imports


def computed(client: Client, method: str, *args: object) -> float:
    """Return the seconds from posting a task for the first site to its result."""

    def compute() -> None:
        task = our_node.post(client, method, *args)
        while client.ask("GET", f"task/{task}/status").body["status"] != "completed":
            time.sleep(PAUSE)
        our_node.results_of(client, task)

    return clock(compute)


def at_once(client: Client, number: int) -> float:
    """Return the seconds in which some tasks, all posted at once, complete; and see that each has."""

    def compute() -> None:
        tasks = [our_node.post(client, "add", index, 1, sites=[SITES[index % len(SITES)]]) for index in range(number)]
        while client.ask("GET", "run", query={"state": "open", "per_page": 1}).headers["total-count"] != "0":
            time.sleep(PAUSE)
        found.extend(tasks)

    found: list[int] = []
    took = clock(compute)
    assert [our_node.results_of(client, task) for task in found] == [[index + 1] for index in range(number)]
    return took


def few(client: Client) -> float:
    """Return the mean of several small bursts, which together last as long as a large one on a busy machine."""
    times = MANY // FEW
    return sum(at_once(client, FEW) for _ in range(times)) / times


def first(file: Path, client: Client) -> float:
    """Return the seconds of the first run of a node, which starts the interpreter that later ones share."""
    with our_node.running(file) as node:
        node.until("online")
        return computed(client, "add", 1, 2)


def bare() -> float:
    """Return the seconds of a Python that imports the same."""
    return clock(lambda: subprocess.run([PYTHON, "-c", IMPORTS], check=True))


def goals(folder: Path) -> Iterator[Goal]:
    """Measure and yield the goals."""
    path = storage.create(folder / "vserver.db")
    our_server.fill_with_root(path)
    federation = our_node.Federation(path, len(SITES))
    with our_server.running(path, folder, "-q") as server:
        client = server.client()
        client.log_in()
        file = federation.write(folder / "sites", server.port)
        with our_node.running(file):
            trivial, central = in_turns(
                ROUNDS, partial(computed, client, "add", 1, 2), partial(computed, client, "central")
            )
            report("a trivial task, from its post to its result", trivial)
            report(f"a central one with {len(SITES)} partial runs", central)
            small, large = in_turns(3, partial(few, client), partial(at_once, client, MANY))
            report(f"{FEW} runs at once", small)
            report(f"{MANY} runs at once", large)
        yield Goal(f"a trivial task, to {MOST_SECONDS} s", min(trivial) / MOST_SECONDS, 1)
        yield Goal(f"a central task, to {MOST_SECONDS_CENTRAL} s", min(central) / MOST_SECONDS_CENTRAL, 1)
        yield Goal(f"{MANY} runs at once, to {FEW}", ratio(large, small), 4)
        if PYTHON:
            federation.write(folder / "sites", server.port, python=PYTHON)
            firsts, pythons = in_turns(5, partial(first, file, client), bare)
            report("the first run of a node, with vantage6's tools", firsts)
            report("python -c that imports the same", pythons)
            yield Goal("the first run of a node, to a Python that imports the same", ratio(firsts, pythons), 1.3)


def main() -> int:
    heading(f"vserver node, {len(SITES)} nodes in a process")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HOME": folder, "VSERVER_HOME": str(Path(folder, "home"))}
        return verdict(list(goals(Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
