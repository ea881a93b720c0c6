"""The real client, node and algorithm tools of vantage6 4.15.2 at our server: only with VSERVER_VANTAGE6_CLIENT.

`.ci/run` sets it. The programs of tests/real_client/ pass against a real server, too, but for what is better here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import our_server, process, real_client
from helpers.our_server import ROOT_NAME, ROOT_PASSWORD, OurServer
from helpers.real_client import Consortium

pytestmark = pytest.mark.vantage6_client


@pytest.fixture
def serving(address: str, tmp_path: Path) -> Iterator[OurServer]:
    """A server on a database with the user `root`."""
    our_server.fill_with_root(address)
    with our_server.running(address, tmp_path) as started:
        yield started
        assert "Traceback" not in started.err, started.err


def test_the_user_client_can_call_all_that_is_served(serving: OurServer) -> None:
    real_client.run("user_client.py", serving.port, ROOT_NAME, ROOT_PASSWORD)


@pytest.mark.parametrize("encryption", ["plain", "encrypted"])
def test_real_nodes_run_the_tasks_of_the_real_client(serving: OurServer, encryption: str, tmp_path: Path) -> None:
    consortium = Consortium(serving.port, tmp_path, encryption)
    with consortium.nodes():
        command = consortium.workflow()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=real_client.SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.sqlite("the server is what is killed")
def test_the_client_and_nodes_go_on_after_the_server_was_killed(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    with our_server.running(path, tmp_path) as first:
        consortium = Consortium(first.port, tmp_path, "plain")
        command = consortium.workflow(["check_restart"])
        with consortium.nodes(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as workflow:
            assert workflow.stdout is not None
            while workflow.stdout.readline().strip() != "posted":
                assert workflow.poll() is None
            first.kill()
            with our_server.running(path, tmp_path, port=first.port) as second:
                rest = workflow.communicate(timeout=real_client.SECONDS)[0]
                assert workflow.returncode == 0, rest
                assert "Traceback" not in second.err
    assert process.vserver("-d", path, "check").status == 0
