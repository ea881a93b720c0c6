"""An algorithm with vantage6's own tools: what the runs of node.py call. Module of VSERVER_VANTAGE6_CLIENT."""

import time
from typing import Any

from vantage6.algorithm.client import AlgorithmClient
from vantage6.algorithm.tools.decorators import algorithm_client, data
from vantage6.algorithm.tools.util import info


@data(1)
def partial(table: Any, column: str) -> dict[str, float]:
    info(f"sum of {column}")
    return {"sum": float(table[column].sum()), "count": len(table)}


@algorithm_client
def central(client: AlgorithmClient, column: str, port: int | None = None) -> dict[str, Any]:
    """An average over all organizations, by a subtask; and all other methods of AlgorithmClient but VPN.

    port: of the server, for the one method that fails in the node's proxy; None if results are encrypted.
    """
    members = client.organization.list()
    ids = [each["id"] for each in members]
    assert client.organization.get(ids[0])["name"] == members[0]["name"]
    assert client.collaboration.get()["id"] == client.collaboration_id
    assert client.study.list() == []
    input_ = {"method": "partial", "kwargs": {"column": column}}
    subtask = client.task.create(organizations=ids, name="part", input_=input_)
    parts = client.wait_for_results(task_id=subtask["id"])
    task = client.task.get(subtask["id"])
    assert task["status"] == "completed" and task["parent"]["id"], task
    runs = client.run.from_task(subtask["id"])
    assert {each["status"] for each in runs} == {"completed"}, runs
    assert client.run.get(runs[0]["id"])["id"] == runs[0]["id"]
    assert client.result.from_task(subtask["id"]) == parts
    if port:
        straight = AlgorithmClient(token=client.token, host="http://127.0.0.1", port=port, path="/api")
        assert straight.result.get(runs[0]["id"]) in parts
    return {"average": sum(each["sum"] for each in parts) / sum(each["count"] for each in parts), "parts": len(parts)}


def slow() -> None:
    """Run until it is killed."""
    info("running")
    time.sleep(600)


def nap(seconds: int) -> str:
    time.sleep(seconds)
    return "rested"


def crash() -> None:
    raise ValueError("as it is meant to")


def large(megabytes: int) -> str:
    return "x" * (megabytes << 20)
