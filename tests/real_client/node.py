"""vantage6's own node, with its Docker manager replaced by subprocesses of this interpreter.

Run by VSERVER_VANTAGE6_CLIENT, an interpreter with vantage6-node: `node.py SETTINGS`, a JSON object with the keys port,
api_key, proxy_port, folder, table (a CSV file) and private_key (a path, or null for no encryption). The node prints its
log to stdout, with the line "Init complete" when it waits for tasks, and runs until it is killed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import vantage6.node as node_package
from socketio.exceptions import BadNamespaceError
from vantage6.common.task_status import TaskStatus
from vantage6.node.docker.docker_manager import KilledRun, Result

HERE = Path(__file__).parent
PROGRAM = "from vantage6.algorithm.tools.wrap import wrap_algorithm; wrap_algorithm()"
log = logging.getLogger("node")


class Run:
    """A run of an algorithm in a subprocess, whose output goes to the server line by line."""

    def __init__(self, manager: Subprocesses, run_id: int, task: dict[str, Any], input_: bytes, token: str) -> None:
        self.run_id, self.task_id = run_id, task["id"]
        self.parent_id = (task.get("parent") or {}).get("id")
        self.folder = manager.folder / f"run_{run_id}"
        self.folder.mkdir(exist_ok=True)  # a node starts a run again whose result it could not announce
        files = {"input": input_, "token": token.encode(), "output": b""}
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        variables = {
            "INPUT_FILE": self.folder / "input",
            "OUTPUT_FILE": self.folder / "output",
            "TOKEN_FILE": self.folder / "token",
            "TEMPORARY_FOLDER": self.folder,
            "HOST": "http://127.0.0.1",
            "PORT": manager.proxy_port,
            "API_PATH": "",
            "USER_REQUESTED_DATABASE_LABELS": ",".join(each["label"] for each in task["databases"]),
            "DEFAULT_DATABASE_URI": manager.table,
            "DEFAULT_DATABASE_TYPE": "csv",
            "DB_LABELS": "default",
        }
        env = {name: _encoded(str(value)) for name, value in variables.items()}
        env |= {
            "PKG_NAME": "demo_average",
            "PYTHONPATH": str(HERE),
            "PATH": os.environ["PATH"],
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-P", "-c", PROGRAM]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self.is_killed = False
        threading.Thread(target=self._follow, args=(manager,), daemon=True).start()

    def _follow(self, manager: Subprocesses) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)
            about = {
                "run_id": self.run_id,
                "task_id": self.task_id,
                "collaboration_id": manager.client.collaboration_id,
            }
            with contextlib.suppress(BadNamespaceError):  # not connected: the whole log follows at the end
                manager.socket.emit("algorithm_log", {**about, "log": line}, namespace="/tasks")
        self.process.wait()
        if not self.is_killed:
            manager.finished.put(self)

    def result(self) -> Result:
        has_failed = self.process.returncode != 0
        return Result(
            run_id=self.run_id,
            task_id=self.task_id,
            logs="".join(self.lines),
            data=(self.folder / "output").read_bytes(),
            status=TaskStatus.CRASHED if has_failed else TaskStatus.COMPLETED,
            parent_id=self.parent_id,
        )


def _encoded(text: str) -> str:
    return base64.b32encode(text.encode()).decode().replace("=", "!")


class Subprocesses:
    """What the node asks of its Docker manager."""

    def __init__(self, ctx: Any, client: Any, tasks_dir: Path, **_: Any) -> None:
        self.client, self.folder = client, Path(tasks_dir)
        self.proxy_port, self.table = ctx.settings["proxy_port"], ctx.settings["table"]
        self.finished: queue.Queue[Run] = queue.Queue()
        self.runs: dict[int, Run] = {}
        self.socket: Any = None

    def run(self, run_id: int, task_info: dict, docker_input: bytes, token: str, socketIO: Any, **_: Any) -> Any:  # noqa: N803
        self.socket = socketIO
        self.runs[run_id] = Run(self, run_id, task_info, docker_input, token)
        return TaskStatus.ACTIVE, None

    def get_result(self) -> Result:
        run = self.finished.get()
        self.runs.pop(run.run_id, None)
        self.client.request("port", params={"run_id": run.run_id}, method="DELETE")
        return run.result()

    def is_running(self, run_id: int) -> bool:
        return run_id in self.runs

    def kill_tasks(self, org_id: int, kill_list: list[dict] | None = None) -> list[KilledRun]:
        wanted = [each["run_id"] for each in kill_list or () if each["organization_id"] == org_id]
        killed = [self.runs.pop(id) for id in (wanted if kill_list else list(self.runs)) if id in self.runs]
        for run in killed:
            run.is_killed = True
            run.process.kill()
        return [KilledRun(run.run_id, run.task_id, run.parent_id) for run in killed]

    def get_column_names(self, label: str, type_: str) -> list[str]:
        return Path(self.table).read_text().splitlines()[0].split(",")

    def create_volume(self, name: str) -> None: ...

    def cleanup(self) -> None:
        self.kill_tasks(0)


class Network:
    """Stands in for the network of Docker, and does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def create_network(self, **_: Any) -> None: ...


class Context(SimpleNamespace):
    """The settings of a node, as its command reads them from a file."""

    def docker_temporary_volume_name(self, job: int) -> str:
        return f"job_{job}"

    def get_data_file(self, name: str) -> str:
        return name


def context(settings: dict[str, Any]) -> Context:
    folder = Path(settings["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    key = settings["private_key"]
    config = {
        "server_url": "http://127.0.0.1",
        "port": settings["port"],
        "api_path": "/api",
        "api_key": settings["api_key"],
        "encryption": {"enabled": key is not None, "private_key": key},
        "databases": [{"label": "default", "type": "csv", "uri": settings["table"]}],
        "policies": {"allowed_algorithms": ["demo/average:1"]},
        "logging": {"level": "INFO"},
    }
    return Context(
        config=config,
        settings=settings,
        name="node",
        data_dir=folder,
        running_in_docker=False,
        docker_network_name="none",
        proxy_log_file=folder / "proxy.log",
    )


def main(settings: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")
    os.environ |= {"PROXY_SERVER_HOST": "127.0.0.1", "PROXY_SERVER_PORT": str(settings["proxy_port"])}
    node_package.check_docker_running = lambda: None
    node_package.running_in_docker = lambda: False
    node_package.NetworkManager = Network
    node_package.DockerClient = SimpleNamespace(from_env=lambda: None)
    node_package.DockerManager = Subprocesses
    node_package.run(context(settings))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
