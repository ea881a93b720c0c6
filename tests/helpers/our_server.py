"""`vserver start` in a process of its own, and a client that logs in and asks; for tests of the server."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import models
from helpers.process import PROGRAM, start
from helpers.terminal import environment

ANSWER_SECONDS = 180
ROOT_NAME, ROOT_PASSWORD = "root", "root"
SERVING = re.compile(r" at http://127\.0\.0\.1:(\d+)(/\S*)?")
JSON = "application/json"


class Answer(NamedTuple):
    """An answer: its status, its JSON (or text), and its headers with names in small letters."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Client:
    """Asks a server at a port of loopback over one connection, as a user or node that has logged in."""

    def __init__(self, port: int, api_path: str = "/api") -> None:
        self.port, self._api_path = port, api_path
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        self.token = self.refresh_token = ""

    def ask(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None, token: str | None = None
    ) -> Answer:
        """Send a request. path: after the API's path. token: another than that of the log-in; empty: none."""
        return self.ask_text(method, path, None if body is None else json.dumps(body), query, token)

    def ask_text(
        self, method: str, path: str, body: str | None, query: Mapping[str, Any] | None = None, token: str | None = None
    ) -> Answer:
        """Send a request whose body is a text, which may be JSON that Python does not write."""
        bearer = self.token if token is None else token
        headers = {"Content-Type": JSON} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        url = f"{self._api_path}/{path}" + (f"?{urlencode(query)}" if query else "")
        self._connection.request(method, url, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        is_json = found.get("content-type", "").startswith(JSON)
        return Answer(answer.status, json.loads(text) if is_json else text.decode(errors="replace"), found)

    def log_in(self, username: str = ROOT_NAME, password: str = ROOT_PASSWORD) -> Answer:
        """Log a user in."""
        return self._logged_in("token/user", {"username": username, "password": password})

    def log_in_node(self, api_key: str) -> Answer:
        """Log a node in."""
        return self._logged_in("token/node", {"api_key": api_key})

    def _logged_in(self, path: str, body: Mapping[str, str]) -> Answer:
        answer = self.ask("POST", path, body, token="")
        assert answer.status == 200, answer
        self.token, self.refresh_token = answer.body["access_token"], answer.body["refresh_token"]
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class OurServer:
    """A running `vserver start`. err: what it has printed so far; address: of its database, None for a demo."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, address: str | Path | None) -> None:
        self.process, self.port, self._log, self.address = process, port, log, address
        self._clients: list[Client] = []

    @property
    def err(self) -> str:
        return self._log.read_text(errors="replace")

    def client(self) -> Client:
        """Return a client that is not logged in. It is closed at the end."""
        self._clients.append(Client(self.port))
        return self._clients[-1]

    def close(self) -> None:
        """End the process and the connections of its clients."""
        self.kill()
        for each in self._clients:
            each.close()

    def kill(self) -> None:
        """End the process without a chance to tidy up, and wait for it."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End the process as Ctrl-C does, and return its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(ANSWER_SECONDS)


@contextlib.contextmanager
def running(database: str | Path | None, folder: Path, *words: str, port: int = 0, **env: str) -> Iterator[OurServer]:
    """Serve a database on a port of loopback. None: that which the words name. folder: for the log.

    words: more options of `start`.
    """
    log = folder / "server.log"
    chosen = [] if database is None else ["-d", str(database)]
    command = [*PROGRAM, *chosen, "start", "--port", str(port), *words]
    with log.open("wb") as err:
        variables = environment(Path(os.environ["HOME"]), **env)
        process = start(command, env=variables, stdout=subprocess.DEVNULL, stderr=err)
    try:
        with contextlib.closing(OurServer(process, _port(process, log), log, database)) as server:
            yield server
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until the server says where it is, and return its port."""
    with log.open() as said:
        text = ""
        while (found := SERVING.search(text)) is None:
            text += said.read()
            if process.poll() is not None and SERVING.search(text) is None:
                raise RuntimeError(f"the server ended with status {process.returncode}: {text}{said.read()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
    return int(found[1])


def fill_with_root(address: str | Path, name: str = "root") -> None:
    """Give a new database an organization with the user `root`, as vserver's real counterpart has after its start."""
    with contextlib.closing(models.connect(str(address))) as database, database.rule_checks(False):
        organization = models.Organization(name=name)
        organization.save()
        models.User(
            username=ROOT_NAME, password=ROOT_PASSWORD, roles="Root", email="root@domain.ext", organization=organization
        ).save()
