"""A real vantage6 4.15.2 server beside vserver, on the same database: only with VSERVER_VANTAGE6, which CI sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import vantage6_server
from helpers.process import vserver
from helpers.vantage6_server import Vantage6Server

pytestmark = pytest.mark.vantage6
DATA = Path(__file__).parent / "data"
ROOT = ("root", "root")  # the server creates this user at its first start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "v4.15.2.sqlite", tmp_path / "server.sqlite"))


@pytest.fixture
def server(file: Path) -> Iterator[Vantage6Server]:
    """A server that runs on the sample."""
    with vantage6_server.running(f"sqlite:///{file}", file.parent) as started:
        yield started


def test_a_database_is_viewed_while_its_server_runs(server: Vantage6Server, file: Path) -> None:
    assert server.log_in(*ROOT).status == 200
    shown = json.loads(vserver("-d", file, "list", "organizations", "-o", "json", "--all").out)
    answer = server.get("organization?per_page=100")
    assert answer.status == 200, answer
    theirs = answer.body["data"]
    assert {each["name"] for each in shown} >= {each["name"] for each in theirs} != set()
