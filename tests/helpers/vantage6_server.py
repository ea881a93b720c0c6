"""A real vantage6 4.15.2 server on loopback, for tests that `.ci/run` gives an environment with it.

VSERVER_VANTAGE6 names the interpreter of that environment. The server is its own development server, with its own
models and API, unchanged except for one thing: it relies on Python 3.10's format() of text enumerations, so on 3.11 we
give its enumerations that format.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PYTHON = os.environ.get("VSERVER_VANTAGE6", "")
SECONDS_TO_START = 60
ANSWER_SECONDS = 30
LOGGING = {
    "level": "WARNING",
    "use_console": True,
    "backup_count": 1,
    "max_size": 1024,
    "format": "%(message)s",
    "datefmt": "%H:%M:%S",
    "file": "server.log",
    "loggers": [],
}
PROGRAM = """
import sys
from vantage6.common.task_status import TaskStatus
from vantage6.server.default_roles import DefaultRole
from vantage6.server.model.rule import Operation, Scope
for each in (DefaultRole, Operation, Scope, TaskStatus):
    each.__format__ = lambda self, spec: format(self.value, spec)
from vantage6.server import run_dev_server, run_server
run_dev_server(run_server(sys.argv[1], system_folders=False), host="127.0.0.1", port=int(sys.argv[2]))
"""


class Answer(NamedTuple):
    """The status of an HTTP answer, and its JSON."""

    status: int
    body: Any


class Vantage6Server:
    """A running server; `process` can be killed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.log = process, log
        self.base = f"http://127.0.0.1:{port}/api"
        self._token = ""

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request as the logged-in user. An error status is an answer, too."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                return Answer(answer.status, json.loads(answer.read() or "null"))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read() or "null"))

    def get(self, path: str) -> Answer:
        """Send a GET request."""
        return self.ask("GET", path)

    def log_in(self, username: str, password: str) -> Answer:
        """Log a user in: following requests are that user's."""
        self._token = ""
        answer = self.ask("POST", "token/user", {"username": username, "password": password})
        self._token = answer.body.get("access_token", "") if isinstance(answer.body, dict) else ""
        return answer


@contextlib.contextmanager
def running(uri: str, folder: Path) -> Iterator[Vantage6Server]:
    """Run a server on a database, given by SQLAlchemy's URI. folder: for its settings and its log."""
    port = _free_port()
    config = folder / "server.json"  # JSON is YAML
    config.write_text(json.dumps(_settings(uri, port)))
    log = folder / "output.log"
    with log.open("wb") as output:
        command = [PYTHON, "-c", PROGRAM, str(config), str(port)]
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Vantage6Server(process, port, log)
        _wait_for(server)
        yield server
    finally:
        process.kill()
        process.wait()


def _settings(uri: str, port: int) -> dict[str, Any]:
    return {
        "description": "a server of the tests",
        "ip": "127.0.0.1",
        "port": port,
        "api_path": "/api",
        "uri": uri.replace("@/", "@localhost/"),  # a URI without a host is a file to it; ?host= counts
        "allow_drop_all": False,
        "jwt_secret_key": "a secret of the tests, long enough for HS256",
        "logging": LOGGING,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(server: Vantage6Server) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and server.process.poll() is None:
        with contextlib.suppress(OSError):
            if server.get("version").status == 200:
                return
        time.sleep(0.1)
    sys.stderr.write(server.log.read_text(errors="replace"))
    raise RuntimeError("the vantage6 server did not start: its output is above")
