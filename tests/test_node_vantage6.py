"""`vserver node` works for a real vantage6 4.15.2 server: only with VSERVER_VANTAGE6, which CI sets."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import our_node, vantage6_server
from helpers.our_node import ALGORITHM, ENDED, IMAGE, SECONDS
from helpers.vantage6_server import Vantage6Server

pytestmark = pytest.mark.vantage6
SITES = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Vantage6Server]:
    """A server with a new database, in which the user root has logged in."""
    with vantage6_server.running(f"sqlite:///{tmp_path / 'server.sqlite'}", tmp_path) as started:
        assert started.log_in("root", "root").status == 200
        yield started


def made(server: Vantage6Server, path: str, **fields: Any) -> dict[str, Any]:
    answer = server.ask("POST", path, fields)
    assert answer.status in (200, 201), answer
    return dict(answer.body)


def write_nodes(server: Vantage6Server, folder: Path) -> tuple[Path, int, list[int]]:
    """Create a collaboration of three organizations; write a file of their nodes. Return it, and the ids of both."""
    home = server.get("organization").body["data"][0]["id"]
    sites = [home, *(made(server, "organization", name=f"site {number}")["id"] for number in range(2, SITES + 1))]
    trial = made(server, "collaboration", name="trial", organization_ids=sites, encrypted=False)["id"]
    keys = [made(server, "node", organization_id=site, collaboration_id=trial)["api_key"] for site in sites]
    (folder / "algorithm.py").write_text(ALGORITHM)
    (folder / "site.csv").write_text("age\n1\n")
    nodes = [{"api_key": key, "databases": {"default": "site.csv"}} for key in keys]
    algorithms = {IMAGE: {"file": "algorithm.py"}}
    file = folder / "nodes.yaml"
    file.write_text(json.dumps({"server": server.base, "nodes": nodes, "algorithms": algorithms}))
    file.chmod(0o600)
    return file, trial, sites


def post(server: Vantage6Server, trial: int, sites: list[int], method: str, *args: Any, image: str = IMAGE) -> int:
    text = base64.b64encode(json.dumps({"method": method, "args": args, "kwargs": {}}).encode()).decode()
    organizations = [{"id": site, "input": text} for site in sites]
    task = made(
        server,
        "task",
        name=method,
        image=image,
        collaboration_id=trial,
        organizations=organizations,
        databases=[{"label": "default"}],
    )
    return int(task["id"])


def until(server: Vantage6Server, task: int, statuses: tuple[str, ...] = ENDED) -> list[dict[str, Any]]:
    end = time.monotonic() + SECONDS
    while True:
        found = server.get(f"run?task_id={task}").body["data"]
        if all(run["status"] in statuses for run in found):
            return list(found)
        assert time.monotonic() < end, [(run["status"], run["log"]) for run in found]
        time.sleep(0.2)


def results(server: Vantage6Server, task: int) -> list[Any]:
    rows = server.get(f"result?task_id={task}").body["data"]
    return [json.loads(base64.b64decode(row["result"])) for row in rows]


def test_nodes_of_ours_compute_for_a_real_server(server: Vantage6Server, tmp_path: Path) -> None:
    file, trial, sites = write_nodes(server, tmp_path)
    with our_node.running(file) as node:
        node.until(f"{SITES} nodes online")
        task = post(server, trial, sites, "add", 1, 2)
        assert {run["status"] for run in until(server, task)} == {"completed"}
        assert results(server, task) == [3] * SITES

        central = post(server, trial, sites[:1], "central")
        assert [run["status"] for run in until(server, central)] == ["completed"]
        assert results(server, central) == [2 * SITES]

        (crashed,) = until(server, post(server, trial, sites[:1], "fail"))
        assert crashed["status"] == "crashed" and "no such column" in crashed["log"]
        (refused,) = until(server, post(server, trial, sites[:1], "add", image="demo/other:1"))
        assert refused["status"] == "not allowed" and IMAGE in refused["log"]

        endless = post(server, trial, sites[:1], "sleep", 3600)
        until(server, endless, ("active",))
        answer = server.ask("POST", "kill/task", {"id": endless})
        assert answer.status == 200, answer
        node.until("killed by user")
        assert [run["status"] for run in until(server, endless)] == ["killed by user"]

        begun = post(server, trial, sites[:1], "sleep", 3600)
        until(server, begun, ("active",))
        node.kill()
    with our_node.running(file) as node:
        (run,) = until(server, begun)
        assert run["status"] == "failed" and "stopped" in run["log"]
        assert node.stop() == 0 and "Traceback" not in node.err
