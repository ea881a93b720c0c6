"""The real client, node and algorithm tools of vantage6 4.15.2 at our server: only with VSERVER_VANTAGE6_CLIENT.

`.ci/run` sets it. The programs of tests/real_client/ pass against a real server, too, but for what is better here.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
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


@pytest.mark.sqlite("the server is what is ended")
@pytest.mark.parametrize("end", [OurServer.kill, OurServer.stop])
def test_the_client_and_nodes_go_on_when_the_server_is_back(
    path: Path, tmp_path: Path, end: Callable[[OurServer], object]
) -> None:
    our_server.fill_with_root(path)
    with our_server.running(path, tmp_path) as first:
        consortium = Consortium(first.port, tmp_path, "plain")
        command = consortium.workflow(["check_restart"])
        with consortium.nodes(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as workflow:
            assert workflow.stdout is not None
            while workflow.stdout.readline().strip() != "posted":
                assert workflow.poll() is None
            end(first)
            with our_server.running(path, tmp_path, port=first.port) as second:
                rest = workflow.communicate(timeout=real_client.SECONDS)[0]
                assert workflow.returncode == 0, rest
                assert "Traceback" not in second.err
    assert process.vserver("-d", path, "check").status == 0


# As a person goes on after the lines that log in: what is made here, the shell has to show.
GOES_ON = """
id = client.organization.create("Nieuwe Kliniek", "", "", "", "NL", "kliniek.example")["id"]
roles = [each["id"] for each in client.role.list(name="Researcher")["data"]]
name = {"firstname": "B", "lastname": "N", "email": "bram@kliniek.example"}
client.user.create("bram", password="Sup3r-secret!", organization=id, roles=roles, rules=[], **name)
trial = client.collaboration.create(name="kliniek", organizations=[id, client.whoami.organization_id], encrypted=False)
for each in id, client.whoami.organization_id:
    assert client.node.create(trial["id"], organization=each)["api_key"]
task = client.task.create(collaboration=trial["id"], organizations=[id], name="first", image="i", description="",
    input_={"method": "m"})
print("made", task["id"])
"""


def test_the_lines_that_start_prints_and_that_the_page_has_log_the_real_client_in(tmp_path: Path) -> None:
    page = (process.ROOT / "docs" / "server.md").read_text()
    (of_page,) = re.findall(r"```\w*\n(from vantage6.client.*?)```", page, re.DOTALL)
    assert f"vantage6-client=={VERSION}" in page
    with our_server.running(None, tmp_path, "--demo") as server:
        printed = re.findall(r"^    (.+)$", server.err, re.MULTILINE)
        assert printed[0].startswith("from vantage6.client"), server.err
        real_client.run_code("\n".join(printed))
        assert "made" in real_client.run_code(of_page.replace("7601", str(server.port)) + GOES_ON)


VERSION = re.findall(r"^vantage6=(\S+)", (process.ROOT / ".ci" / "run").read_text(), re.MULTILINE)[0]
