"""Nodes and their server are killed at random moments: each run ends once, with the right result or as failed."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers import our_node, our_server
from helpers.our_node import Federation, OurNode
from helpers.our_server import Client, OurServer

pytestmark = pytest.mark.long
REPETITIONS = int(os.environ.get("VSERVER_REPETITIONS", "50"))
SITES = (1, 2, 3)


class Pair:
    """A node's process and a server's, each of which can be killed and started again."""

    def __init__(self, federation: Federation, path: Path, folder: Path) -> None:
        self._federation, self._path, self._folder = federation, path, folder
        self._of_server, self._of_node = contextlib.ExitStack(), contextlib.ExitStack()
        self.server = self._serve(0)
        self.file = federation.write(folder / "sites", self.server.port, limits={"parallel": 2})
        self.node = self._run()

    def _serve(self, port: int) -> OurServer:
        return self._of_server.enter_context(our_server.running(self._path, self._folder, "-q", port=port))

    def _run(self) -> OurNode:
        log = self._folder / f"node-{time.monotonic_ns()}.log"
        return self._of_node.enter_context(our_node.running(self.file, log=log))

    def client(self) -> Client:
        client = self.server.client()
        client.log_in()
        return client

    def kill_server(self) -> None:
        port = self.server.port
        self._of_server.close()
        self.server = self._serve(port)

    def kill_node(self) -> None:
        self._of_node.close()
        self.node = self._run()

    def close(self) -> None:
        self._of_node.close()
        self._of_server.close()


def test_each_run_ends_once_however_node_and_server_are_killed(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    notes = tmp_path / "notes"
    notes.mkdir()
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    with contextlib.closing(Pair(Federation(path, len(SITES)), path, tmp_path)) as pair:
        tasks = []
        for _ in range(REPETITIONS):
            tasks.append(our_node.post(pair.client(), "note", str(notes), chance.random() / 4, sites=SITES))
            time.sleep(chance.random() / 2)
            chance.choice([pair.kill_node, pair.kill_server])()
        client = pair.client()
        found = [run for task in tasks for run in our_node.until(client, task)]
        assert len(found) == len(tasks) * len(SITES)
        computed = {int(each.name): each.read_text().count("computed") for each in notes.iterdir()}
        for run in found:
            about = f"seed {seed}: {run}"
            if run["status"] == "completed":
                assert computed[run["id"]] == 1, about
            else:
                assert run["status"] == "failed" and computed.get(run["id"], 0) <= 1, about
                assert "stopped" in run["log"] or "another run of this task failed" in run["log"], about
        for task in tasks:
            runs = our_node.runs_of(client, task)
            if all(run["status"] == "completed" for run in runs):
                assert our_node.results_of(client, task) == [run["id"] for run in runs], f"seed {seed}"
        assert pair.node.stop() == 0
    counted = Counter(run["status"] for run in found)
    assert counted["completed"] > 0, counted
    assert our_node.folders() == [] and our_node.processes() == []
