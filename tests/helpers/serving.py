"""A server in a process of its own, as `vserver start` runs it, and a client that speaks HTTP to it.

Tests log in with passwords where that is what they are about (0.3 seconds each). Otherwise they sign tokens with the
secret that the server keeps in its home: see Serving.as_user().
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.process import ROOT
from helpers.terminal import environment
from vserverlib.serving.callers import CONTAINER, NODE, USER
from vserverlib.serving.tokens import Signer

SECONDS = 30.0  # that an answer may take


@dataclass(frozen=True)
class Answered:
    """An answer: its status, its headers with names in lower case, and its JSON value."""

    status: int
    headers: dict[str, str]
    value: Any

    @property
    def message(self) -> str:
        return str(self.value["msg"])

    @property
    def data(self) -> list[dict[str, Any]]:
        """The rows of a list."""
        found: list[dict[str, Any]] = self.value["data"]
        return found

    @property
    def ids(self) -> list[int]:
        """The ids of the rows of a list, in order."""
        return sorted(row["id"] for row in self.data)


class Client:
    """Speaks HTTP to a server, with a token. Keeps its connection."""

    def __init__(self, port: int, base: str, token: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self.base, self.token = base, token

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, **query: Any
    ) -> Answered:
        """Ask for a path below the API's. body: a JSON value, or bytes. query: in the path."""
        given = {"Content-Type": "application/json"} if body is not None else {}
        if self.token:
            given["Authorization"] = f"Bearer {self.token}"
        payload = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        text = f"{self.base}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            self.connection.request(method, text, payload, {**given, **(headers or {})})
            answer = self.connection.getresponse()
            read = answer.read()
        except http.client.HTTPException:
            self.connection.close()
            raise
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, names, json.loads(read) if read else None)

    def get(self, path: str, **query: Any) -> Answered:
        return self.ask("GET", path, **query)

    def post(self, path: str, body: Any = None) -> Answered:
        return self.ask("POST", path, body)

    def patch(self, path: str, body: Any) -> Answered:
        return self.ask("PATCH", path, body)

    def delete(self, path: str, body: Any = None, **query: Any) -> Answered:
        return self.ask("DELETE", path, body, **query)


@dataclass
class Serving:
    """A server that runs. lines: what it has printed until it answered."""

    process: subprocess.Popen[str]
    port: int
    base: str
    home: Path
    lines: list[str] = field(default_factory=list)

    def client(self, token: str = "") -> Client:
        return Client(self.port, self.base, token)

    @property
    def signer(self) -> Signer:
        """Signs tokens with the server's own secret."""
        (key,) = (self.home / "data" / "vserver").glob("server-*.key")
        return Signer(key.read_bytes())

    def as_user(self, id: int) -> Client:
        return self.client(self.signer.access(USER, id))

    def as_node(self, id: int) -> Client:
        return self.client(self.signer.access(NODE, id))

    def as_container(self, node: int, task: int, **more: Any) -> Client:
        subject = {"client_type": CONTAINER, "node_id": node, "task_id": task, **more}
        return self.client(self.signer.container(subject))

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """End it by a signal, and return its status and what else it has printed."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, rest


ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)(\S*)")


@contextlib.contextmanager
def serving(database: str | Path, home: Path, *options: str, **env: str) -> Iterator[Serving]:
    """Start `vserver -d DATABASE start`, wait until it answers, and end it. home: keeps its secret."""
    home.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "vserver", "-d", str(database), "start", "--port", "0", *options]
    surroundings = environment(home, XDG_DATA_HOME=str(home / "data"), **env)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=surroundings, cwd=ROOT)
    try:
        lines = []
        for line in process.stderr or ():
            lines.append(line)
            if found := ADDRESS.search(line):
                yield Serving(process, int(found[1]), found[2], home, lines)
                break
        else:
            raise AssertionError(f"it ended with {process.wait()}: {''.join(lines)}")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
