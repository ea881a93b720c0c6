"""The real vantage6 4.15.2 client, node and algorithm tools, in the environment that `.ci/run` makes for them.

VSERVER_VANTAGE6_CLIENT names its interpreter. tests/real_client/ has the programs that it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers.our_server import ROOT_NAME, ROOT_PASSWORD

PYTHON = os.environ.get("VSERVER_VANTAGE6_CLIENT", "")
PROGRAMS = Path(__file__).parent.parent / "real_client"
SECONDS = 300  # that a program may take
READY = "Waiting for new tasks"  # in the log of a node
AGES = ((30, 40), (50,))  # the table of each organization


def run(program: str, *words: object) -> str:
    """Run a program to its end and return what it printed. It must succeed."""
    return _succeeded([str(PROGRAMS / program), *map(str, words)])


def run_code(code: str, *words: object) -> str:
    """Run some lines of Python, and return what they printed. They must succeed."""
    return _succeeded(["-c", code, *map(str, words)])


def _succeeded(words: Sequence[str]) -> str:
    command = [PYTHON, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


class Consortium:
    """A collaboration of two organizations on a running server, with private keys if it is encrypted."""

    def __init__(self, port: int, folder: Path, kind: str) -> None:
        made = json.loads(run("consortium.py", port, ROOT_NAME, ROOT_PASSWORD, kind).splitlines()[-1])
        self.port, self.folder = port, folder
        self.collaboration, self.organizations = made["collaboration"], made["organizations"]
        is_encrypted = kind == "encrypted"
        self.private_keys = [_private_key(folder / f"{id}.pem") if is_encrypted else None for id in range(len(AGES))]

    @contextlib.contextmanager
    def nodes(self) -> Iterator[None]:
        """Run the nodes of both organizations, and wait until they are connected."""
        with contextlib.ExitStack() as stack:
            logs = [stack.enter_context(self._node(number)) for number in range(len(AGES))]
            for log in logs:
                _wait_for(log)
            yield

    @contextlib.contextmanager
    def _node(self, number: int) -> Iterator[Path]:
        table, log = self.folder / f"{number}.csv", self.folder / f"node-{number}.log"
        table.write_text("".join(f"{line}\n" for line in ("age", *AGES[number])))
        settings = {
            "port": self.port,
            "api_key": self.organizations[number]["api_key"],
            "proxy_port": _free_port(),
            "folder": str(self.folder / f"node-{number}"),
            "table": str(table),
            "private_key": self.private_keys[number],
        }
        command = [PYTHON, str(PROGRAMS / "node.py"), json.dumps(settings)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield log
        finally:
            process.kill()
            process.wait()

    def workflow(self, checks: Sequence[str] = (), megabytes: int = 1) -> list[str]:
        """Return the command that does what a researcher does."""
        settings: dict[str, Any] = {
            "port": self.port,
            "collaboration": self.collaboration,
            "organizations": [each["id"] for each in self.organizations],
            "private_key": self.private_keys[0],
            "ages": AGES,
            "megabytes": megabytes,
            "checks": checks,
        }
        return [PYTHON, str(PROGRAMS / "workflow.py"), json.dumps(settings)]


def _private_key(path: Path) -> str:
    run("private_key.py", path)
    return str(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(log: Path) -> None:
    end = time.monotonic() + SECONDS
    while READY not in (text := log.read_text(errors="replace")):
        assert time.monotonic() < end, text
        time.sleep(0.1)
