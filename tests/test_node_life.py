"""The life of a node: real processes of `vserver node` and `vserver start`."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import our_node, our_server, process, runs
from helpers.our_node import IMAGE, Federation
from helpers.our_server import Client, OurServer
from helpers.socket_io import Socket

ASLEEP = 3600  # seconds: as good as for ever


@pytest.fixture
def federation(path: Path) -> Federation:
    our_server.fill_with_root(path)
    return Federation(path, 3)


@pytest.fixture
def serving(federation: Federation, path: Path, tmp_path: Path) -> Iterator[OurServer]:
    with our_server.running(path, tmp_path, "-q") as started:
        yield started


@pytest.fixture
def client(serving: OurServer) -> Client:
    found = serving.client()
    found.log_in()
    return found


@pytest.fixture
def file(federation: Federation, serving: OurServer, tmp_path: Path) -> Path:
    """The file of the nodes of all three sites."""
    return federation.write(tmp_path / "sites", serving.port)


def statuses(client: Client, task: int) -> list[str]:
    return [run["status"] for run in our_node.until(client, task)]


def test_runs_complete_crash_and_are_refused(client: Client, serving: OurServer, file: Path) -> None:
    with our_node.running(file) as node:
        said = node.until("3 nodes online")
        assert "with your rights" in said and "container" in said
        task = our_node.post(client, "add", 1, second=2, sites=(1, 2, 3))
        assert statuses(client, task) == ["completed"] * 3
        assert our_node.results_of(client, task) == [3, 3, 3]
        node.until(f"of task {task}: {IMAGE} add completed", times=3)

        (run,) = our_node.until(client, our_node.post(client, "fail"))
        assert run["status"] == "crashed" and run["log"].index("about to fail") < run["log"].index("no such column")
        node.until("crashed")
        assert "no such column" in node.err

        other = our_node.post(client, "add", 1, 2, sites=(1, 2), image="demo/other:1")
        refused = our_node.until(client, other)
        assert {run["status"] for run in refused} <= {"not allowed", "failed"}  # failed: a sibling of one that is not
        assert any(IMAGE in run["log"] and "demo/other:1" in run["log"] for run in refused)

        (run,) = our_node.until(client, our_node.post(client, "variables"))
        (variables,) = our_node.results_of(client, run["task"]["id"])
        assert not Path(variables["HOME"]).exists()
        assert federation_keys_are_hidden(file, variables)
        assert node.stop() == 0 and "Traceback" not in node.err
    assert our_node.folders() == [] and our_node.processes() == []


def federation_keys_are_hidden(file: Path, variables: dict[str, str]) -> bool:
    """Whether no API key is in some variables, in what the node printed, or in its command line."""
    shown = json.dumps(variables) + file.with_suffix(".log").read_text()
    return not any(node["api_key"] in shown for node in json.loads(file.read_text())["nodes"])


def test_a_killed_task_ends_its_processes_and_keeps_its_log(client: Client, file: Path) -> None:
    with our_node.running(file) as node:
        node.until("online")
        task = our_node.post(client, "sleep", ASLEEP, sites=(1, 2))
        our_node.until(client, task, ["active"], log="asleep")
        assert any("fork_server" in each for each in our_node.processes())
        assert client.ask("POST", "kill/task", {"id": task}).status == 200
        node.until("killed by user", times=2)
        assert statuses(client, task) == ["killed by user"] * 2
        assert all("asleep" in run["log"] for run in our_node.runs_of(client, task))

        task = our_node.post(client, "sleep", ASLEEP, sites=(1,))
        our_node.until(client, task, ["active"], log="asleep")
        assert client.ask("POST", "kill/node/tasks", {"id": 1}).status == 200
        assert statuses(client, task) == ["killed by user"]

        task = our_node.post(client, "sleep", ASLEEP, sites=(1,))
        our_node.until(client, task, ["active"], log="asleep")
        assert client.ask("DELETE", f"task/{task}").status == 200
        node.until("killed by user", times=4)
        assert node.stop() == 0


def test_a_run_that_takes_too_long_fails(federation: Federation, client: Client, file: Path) -> None:
    federation.write(file.parent, client.port, limits={"seconds": 1})
    with our_node.running(file) as node:
        node.until("online")
        (run,) = our_node.until(client, our_node.post(client, "sleep", ASLEEP))
        assert run["status"] == "failed" and "exceeded 1 s" in run["log"]


def test_a_node_that_was_killed_fails_its_run_and_computes_what_waits(
    federation: Federation, client: Client, file: Path, tmp_path: Path
) -> None:
    federation.write(file.parent, client.port, sites=[1], limits={"parallel": 1})
    mark = tmp_path / "mark"
    with our_node.running(file) as node:
        node.until("online")
        begun = our_node.post(client, "sleep", ASLEEP, mark=str(mark))
        our_node.until(client, begun, ["active"], log="asleep")
        waiting = our_node.post(client, "add", 1, 2)
        node.kill()
    later = our_node.post(client, "add", 3, 4)
    with our_node.running(file) as node:
        (run,) = our_node.until(client, begun)
        assert run["status"] == "failed" and "stopped" in run["log"]
        assert statuses(client, waiting) == statuses(client, later) == ["completed"]
        assert our_node.results_of(client, later) == [7]
        assert mark.read_text() == "begun\n"
        assert node.stop() == 0
    assert our_node.folders() == [] and our_node.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_is_stopped_ends_its_run_as_failed(client: Client, file: Path, number: signal.Signals) -> None:
    with our_node.running(file) as node:
        node.until("online")
        task = our_node.post(client, "sleep", ASLEEP)
        our_node.until(client, task, ["active"], log="asleep")
        status = node.stop(number)
        assert status == (0 if number == signal.SIGINT else -number)
    (run,) = our_node.runs_of(client, task)
    assert run["status"] == "failed" and "stopped" in run["log"]
    assert our_node.folders() == [] and our_node.processes() == []
    assert client.ask("GET", "node/1").body["status"] != "online"


def test_results_wait_for_a_server_that_was_killed(
    serving: OurServer, client: Client, file: Path, path: Path, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    with our_node.running(file) as node:
        node.until("online")
        task = our_node.post(client, "wait_for", str(release), sites=(1, 2, 3))
        our_node.until(client, task, ["active"], log="waiting")
        serving.kill()
        (secret,) = Path(os.environ["HOME"]).rglob("server-*.key")
        secret.unlink()  # so that all tokens are invalid
        node.until("does not answer")
        release.touch()
        runs.until(lambda: len(our_node.processes()) == 2)  # the node and its fork server
        with our_server.running(path, tmp_path, "-q", port=serving.port) as again:
            client = again.client()
            client.log_in()
            assert statuses(client, task) == ["completed"] * 3
            node.until("completed", times=3)
            assert statuses(client, our_node.post(client, "add", 1, 2)) == ["completed"]
            assert node.err.count("does not answer") == 1 and "Traceback" not in node.err
            assert node.stop() == 0


class Ailing(http.server.ThreadingHTTPServer):
    """Stands before a server; while it is ill, it answers a node that delivers an outcome with 500."""

    is_ill = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.port, self.polls = port, set[socket.socket]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def heal(self) -> None:
        """Be well, and end the long polls of nodes, which then ask anew."""
        self.is_ill = False
        for poll in list(self.polls):
            with contextlib.suppress(OSError):  # it has ended
                poll.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None: ...


class Passing(http.server.BaseHTTPRequestHandler):
    server: Ailing

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = 500, b"{}"
        if "websocket" not in self.path and not (self.server.is_ill and b'"finished_at"' in body):
            if "socket.io" in self.path:
                self.server.polls.add(self.connection)
            behind = http.client.HTTPConnection("127.0.0.1", self.server.port)
            behind.request(self.command, self.path, body, dict(self.headers))
            found = behind.getresponse()
            status, answer = found.status, found.read()
            behind.close()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = pass_on  # noqa: N815 - as the library calls them

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_result_waits_for_a_server_that_answers_with_errors(
    federation: Federation, client: Client, file: Path
) -> None:
    with Ailing(client.port) as server:
        with our_node.running(federation.write(file.parent, server.server_port, sites=[1])) as node:
            node.until("online")
            first = our_node.post(client, "add", 1, 2)
            node.until(f"did not store that run 1 of task {first}")
            assert [run["status"] for run in our_node.runs_of(client, first)] == ["active"]
            assert "completed in" not in node.err
            server.heal()
            assert statuses(client, first) == ["completed"] and our_node.results_of(client, first) == [3]
            node.until("completed in")
            server.is_ill = True
            last = our_node.post(client, "add", 3, 4)
            node.until(f"did not store that run 2 of task {last}")
            server.is_ill = False
            assert node.stop() == 0
        assert statuses(client, last) == ["completed"] and our_node.results_of(client, last) == [7]
        server.shutdown()


def test_a_kill_that_the_node_missed_counts_when_it_is_back(
    serving: OurServer, client: Client, file: Path, path: Path, tmp_path: Path
) -> None:
    with our_node.running(file) as node:
        node.until("online")
        task = our_node.post(client, "sleep", ASLEEP)
        our_node.until(client, task, ["active"], log="asleep")
        os.kill(node.process.pid, signal.SIGSTOP)
        serving.kill()
        with our_server.running(path, tmp_path, "-q", port=serving.port) as again:
            client = again.client()
            client.log_in()
            assert client.ask("POST", "kill/task", {"id": task}).status == 200
            os.kill(node.process.pid, signal.SIGCONT)
            node.until("killed by user")
            assert node.stop() == 0
    assert our_node.processes() == []


def test_a_node_runs_once_and_a_wrong_key_ends_the_command(
    federation: Federation, client: Client, file: Path, tmp_path: Path
) -> None:
    with our_node.running(file) as node:
        node.until("3 nodes online")
        second = process.vserver("node", file)
        assert second.status == 1 and "another process" in second.err and "Traceback" not in second.err
        task = our_node.post(client, "add", 1, 2)
        assert statuses(client, task) == ["completed"]
        assert node.stop() == 0
    assert list(Path(os.environ["HOME"]).rglob("*.lock")) == []
    federation.keys[2] = "00000000-0000-4000-8000-000000000000"
    done = process.vserver("node", federation.write(tmp_path / "wrong", client.port))
    assert done.status == 1 and "node 2 of" in done.err and "api_key" in done.err and "Traceback" not in done.err
    assert federation.keys[2] not in done.err
    done = process.vserver(
        "node", federation.write(tmp_path / "path", client.port, server=f"http://127.0.0.1:{client.port}")
    )
    assert done.status == 1 and "no API" in done.err


def test_a_node_of_another_home_computes_no_run_again(client: Client, file: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    for folder in (notes, tmp_path / "other"):
        folder.mkdir()
    other = {"log": tmp_path / "other.log", "HOME": str(tmp_path / "other")}
    with our_node.running(file) as node, our_node.running(file, **other) as second:  # type: ignore[arg-type]
        for each in (node, second):
            each.until("online")
        for _ in range(3):
            task = our_node.post(client, "note", str(notes), 0.1, sites=(1, 2, 3))
            assert statuses(client, task) == ["completed"] * 3
        assert node.stop() == second.stop() == 0
        assert [each.read_text() for each in notes.iterdir()] == ["computed\n"] * 9
        assert (node.err + second.err).count("completed in") == 9


def test_an_encrypted_collaboration_is_refused(client: Client, file: Path) -> None:
    assert client.ask("PATCH", "collaboration/1", {"encrypted": True}).status == 200
    done = process.vserver("node", file)
    assert done.status == 1 and "encrypted" in done.err and "trial" in done.err


@pytest.mark.long
def test_what_a_task_asks_for_changes_nothing_outside(client: Client, file: Path) -> None:
    """Paths in the names of methods and databases, an input that is no JSON, and one of megabytes."""
    with our_node.running(file) as node:
        node.until("online")
        for method in ("../../x", "os.system", "__import__", "\x1b[31m", "a" * 100_000):
            (run,) = our_node.until(client, our_node.post(client, method))
            assert run["status"] == "crashed", run
        for text in ("bm8gSlNPTg==", "W10=", "bnVsbA==", ""):
            body = {"name": "x", "image": IMAGE, "collaboration_id": 1, "organizations": [{"id": 1, "input": text}]}
            answer = client.ask("POST", "task", body | {"databases": [{"label": "../../../x"}, {"label": "PATH=x"}]})
            assert answer.status == 201, answer
            (run,) = our_node.until(client, answer.body["id"])
            assert run["status"] == "crashed", run
        task = our_node.post(client, "add", "a" * 5_000_000, "b")
        assert statuses(client, task) == ["completed"]
        assert our_node.results_of(client, task) == ["a" * 5_000_000 + "b"]
        assert "\x1b" not in node.err and "a" * 200 not in node.err and "Traceback" not in node.err
        assert node.stop() == 0


def test_a_central_run_never_blocks_its_partial_ones(federation: Federation, client: Client, file: Path) -> None:
    federation.write(file.parent, client.port, limits={"parallel": 1})
    with our_node.running(file) as node:
        node.until("online")
        tasks = [our_node.post(client, "central", sites=(site,)) for site in (1, 2, 3)]
        for task in tasks:
            assert statuses(client, task) == ["completed"]
            assert our_node.results_of(client, task) == [6]
        assert node.stop() == 0


def test_a_central_run_waits_for_all_its_partial_ones_also_if_one_fails(client: Client, file: Path) -> None:
    with our_node.running(file) as node:
        node.until("online")
        task = our_node.post(client, "central_uneven", sites=(1,))
        assert statuses(client, task) == ["completed"]
        assert our_node.results_of(client, task) == [4]
        assert node.stop() == 0


def test_events_tell_what_a_node_has_and_how_its_runs_are(client: Client, file: Path) -> None:
    watching = Socket(client.port, client.token)
    with our_node.running(file) as node:
        node.until("online")
        task = our_node.post(client, "fail")
        for status in ("active", "crashed"):
            event = watching.until("algorithm_status_change", task_id=task, status=status)
            assert event["organization_id"] == 1 and event["parent_id"] is None
        assert "about to fail" in watching.until("algorithm_log", task_id=task)["log"]
        config = {entry["key"]: entry["value"] for entry in client.ask("GET", "node/1").body["config"]}
        assert config["allowed_algorithms"] == IMAGE and config["columns_default"] == "age"
        assert config["database_labels"] == "default" and config["db_type_default"] == "csv"
        assert client.ask("GET", "node/1").body["status"] == "online"
    watching.vanish()
