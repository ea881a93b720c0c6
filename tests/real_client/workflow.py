"""What a researcher does with running nodes: tasks that finish, crash, are killed, and have subtasks.

Run by VSERVER_VANTAGE6_CLIENT: `workflow.py SETTINGS`, a JSON object with the keys port, collaboration, organizations
(ids), private_key (a path, or null for no encryption), ages (the column of each organization), megabytes (of a large
result) and checks (names of functions, or null for CHECKS). A failed assertion ends it with a traceback.
"""

import json
import sys
import time
from typing import Any

from consortium import PASSWORD, RESEARCHER
from user_client import connected
from vantage6.client import UserClient

IMAGE = "demo/average:1"
SECONDS_TO_RUN = 60


def create(client: UserClient, organizations: list[int], method: str, **kwargs: Any) -> int:
    input_ = {"method": method, "kwargs": kwargs}
    made = client.task.create(
        organizations=organizations, name=method, image=IMAGE, description="", input_=input_, databases="default"
    )
    return int(made["id"])


def finished(client: UserClient, task: int) -> list[dict[str, Any]]:
    client.wait_for_results(task, interval=0.2)
    return list(client.run.from_task(task)["data"])


def until(client: UserClient, task: int, status: str, text: str = "") -> dict[str, Any]:
    """Wait for the status of a task's only run, and for a text in its log."""
    end = time.monotonic() + SECONDS_TO_RUN
    while time.monotonic() < end:
        (run,) = client.run.from_task(task)["data"]
        if run["status"] == status and text in (run["log"] or ""):
            return dict(run)
        time.sleep(0.2)
    raise AssertionError(f"after {SECONDS_TO_RUN} s the run is {run}")


def check_parts(client: UserClient, settings: dict[str, Any]) -> None:
    task = create(client, settings["organizations"], "partial", column="age")
    runs = finished(client, task)
    assert {each["status"] for each in runs} == {"completed"}, runs
    assert all("sum of age" in each["log"] for each in runs)
    results = [json.loads(each["result"]) for each in client.result.from_task(task)["data"]]
    assert sorted(each["sum"] for each in results) == sorted(sum(ages) for ages in settings["ages"]), results
    detail = client.task.get(task)
    assert detail["status"] == "completed" and detail["finished_at"], detail


def check_subtask(client: UserClient, settings: dict[str, Any]) -> None:
    port = None if settings["private_key"] else settings["port"]
    task = create(client, settings["organizations"][:1], "central", column="age", port=port)
    (run,) = finished(client, task)
    assert run["status"] == "completed", run["log"]
    (result,) = [json.loads(each["result"]) for each in client.result.from_task(task)["data"]]
    ages = [age for each in settings["ages"] for age in each]
    assert result == {"average": sum(ages) / len(ages), "parts": len(settings["ages"])}, result
    (subtask,) = client.task.list(parent=task)["data"]
    assert subtask["job_id"] == client.task.get(task)["job_id"]
    assert subtask["init_user"]["id"] == client.whoami.id_


def check_crash(client: UserClient, settings: dict[str, Any]) -> None:
    (run,) = finished(client, create(client, settings["organizations"][:1], "crash"))
    assert run["status"] == "crashed" and "as it is meant to" in run["log"], run


def check_kill(client: UserClient, settings: dict[str, Any]) -> None:
    task = create(client, settings["organizations"][:1], "slow")
    until(client, task, "active", "running")  # the log comes line by line
    client.task.kill(task)
    assert until(client, task, "killed by user")["finished_at"]
    node = next(
        each["id"]
        for each in client.node.list(is_online=True)["data"]
        if each["organization"]["id"] == settings["organizations"][0]
    )
    task = create(client, settings["organizations"][:1], "slow")
    until(client, task, "active", "running")
    client.node.kill_tasks(node)
    until(client, task, "killed by user")


def check_nodes(client: UserClient, settings: dict[str, Any]) -> None:
    nodes = client.node.list(collaboration=settings["collaboration"], is_online=True)["data"]
    assert len(nodes) == len(settings["organizations"])
    config = {(each["key"], each["value"]) for each in client.node.get(nodes[0]["id"])["config"]}
    assert ("allowed_algorithms", IMAGE) in config and ("columns_default", "age") in config, config


def check_large(client: UserClient, settings: dict[str, Any]) -> None:
    task = create(client, settings["organizations"][:1], "large", megabytes=settings["megabytes"])
    finished(client, task)
    (result,) = client.result.from_task(task)["data"]
    assert len(json.loads(result["result"])) == settings["megabytes"] << 20


def check_restart(client: UserClient, settings: dict[str, Any]) -> None:
    """Post a task, and go on when the server is back that somebody ends and starts again after `posted`."""
    task = create(client, settings["organizations"], "nap", seconds=5)
    for run in client.run.from_task(task)["data"]:
        assert run["status"] != "completed"
    print("posted", flush=True)
    runs = finished(client, task)
    assert {each["status"] for each in runs} == {"completed"}, runs
    check_parts(client, settings)


CHECKS = (check_nodes, check_parts, check_subtask, check_crash, check_kill, check_large)


def main(settings: dict[str, Any]) -> None:
    client = connected(settings["port"], RESEARCHER, PASSWORD)
    client.setup_encryption(settings["private_key"])
    client.setup_collaboration(settings["collaboration"])
    for check in [globals()[name] for name in settings["checks"]] if settings["checks"] else CHECKS:
        begin = time.monotonic()
        check(client, settings)
        print(f"{check.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
