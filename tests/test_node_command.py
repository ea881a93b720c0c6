"""`vserver node` as a command: its words, its files, and that edits count at once."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import our_node, our_server
from helpers.our_node import Federation
from helpers.process import PROGRAM, python, vserver
from helpers.terminal import environment

WITHOUT = (
    "import runpy, sys; sys.modules[{!r}] = None; runpy.run_module('vserver', run_name='__main__', alter_sys=True)"
)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("node", 2, "FILE"),
        ("node -q -v x", 2, "exclude"),
        ("node --init --make-environment x", 2, "exclude"),
        ("node --make-environment x y", 2, "one"),
        ("node gone.yaml", 1, "gone.yaml"),
        ("node --make-environment taken", 1, "taken"),
        ("node taken", 1, "taken"),
    ],
)
def test_words_that_do_not_fit_are_one_line(words: str, status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    done = vserver(*words.split(), cwd=tmp_path)
    assert (done.status, done.out) == (status, "") and said in done.err and "Traceback" not in done.err


def test_an_example_is_written_that_names_what_is_missing(tmp_path: Path) -> None:
    done = vserver("node", "--init", "nodes.yaml", cwd=tmp_path)
    assert done.status == 0 and "vserver node nodes.yaml" in done.err
    assert (tmp_path / "nodes.yaml").stat().st_mode & 0o777 == 0o600
    again = vserver("node", "--init", "nodes.yaml", cwd=tmp_path)
    assert again.status == 1 and "nodes.yaml" in again.err and "exists" in again.err
    refused = vserver("node", "nodes.yaml", cwd=tmp_path)
    assert refused.status == 1 and "nodes.yaml:5:" in refused.err and "api_key" in refused.err


def test_without_its_libraries_one_line_says_what_to_install(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    file = Federation(path, 1).write(tmp_path / "sites", 1)
    for library in ("socketio", "requests"):
        done = python("-c", WITHOUT.format(library), "node", file)
        assert done.status == 1 and "python-socketio, requests" in done.err and library in done.err
        assert "Traceback" not in done.err


def test_without_web_sockets_events_come_by_long_polling(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    federation = Federation(path, 2)
    with our_server.running(path, tmp_path, "-q") as server:
        client = server.client()
        client.log_in()
        file = federation.write(tmp_path / "sites", server.port)
        with our_node.running(file, program=[sys.executable, "-c", WITHOUT.format("websocket")]) as node:
            node.until("online")
            assert our_node.results_of(client, our_node.ended(client, "add", 1, 2, sites=(1, 2))) == [3, 3]
            task = our_node.post(client, "sleep", 3600)
            our_node.until(client, task, ["active"], log="asleep")
            assert client.ask("POST", "kill/task", {"id": task}).status == 200
            node.until("killed by user")
            assert node.stop() == 0


def test_a_server_that_is_not_there_is_waited_for(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    federation = Federation(path, 1)
    with our_server.running(path, tmp_path, "-q") as server:
        port = server.port
    with our_node.running(federation.write(tmp_path / "sites", port)) as node:
        said = node.until("does not answer")
        assert f":{port}/api" in said and "refused" in said
        with our_server.running(path, tmp_path, "-q", port=port):
            node.until("1 node online")
            assert node.stop() == 0
    with our_node.running(federation.write(tmp_path / "sites", port)) as node:
        node.until("does not answer")
        assert node.stop(signal.SIGTERM) == -signal.SIGTERM
    assert our_node.folders() == []


def test_edits_of_code_and_data_count_at_once_and_are_reported(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    federation = Federation(path, 1)
    with our_server.running(path, tmp_path, "-q") as server:
        client = server.client()
        client.log_in()
        file = federation.write(tmp_path / "sites", server.port)
        code, data = file.parent / "algorithm.py", file.parent / "site1.csv"
        code.write_text("def first(rows):\n    return rows[0]['age']\n")
        with our_node.running(file, options=["--watch"]) as node:
            node.until("online")
            assert our_node.results_of(client, our_node.ended(client, "first")) == [1]
            data.write_text("age\n5\n")
            node.until("site1.csv has changed")
            assert our_node.results_of(client, our_node.ended(client, "first")) == [5]
            code.write_text("def first(rows):\n    return -rows[0]['age']\n")
            node.until("algorithm.py has changed")
            assert our_node.results_of(client, our_node.ended(client, "first")) == [-5]
            assert node.stop() == 0


def test_kept_folders_stay_and_those_of_a_killed_process_are_removed(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    federation = Federation(path, 1)
    with our_server.running(path, tmp_path, "-q") as server:
        client = server.client()
        client.log_in()
        file = federation.write(tmp_path / "sites", server.port)
        with our_node.running(file, options=["--keep"]) as node:
            node.until("online")
            our_node.ended(client, "add", 1, 2)
            assert node.stop() == 0
        (kept,) = our_node.folders()
        assert kept.stat().st_mode & 0o777 == 0o700 and str(kept) in node.err
        assert [each.read_text() for each in kept.rglob("output")] == ["3"]
        with our_node.running(file) as node:
            node.until("online")
            node.kill()
        with our_node.running(file) as node:
            node.until("online")
            assert len(our_node.folders()) == 2
            assert node.stop() == 0
        assert our_node.folders() == [kept]


def test_ctrl_c_at_a_terminal_ends_nodes_and_runs(path: Path, tmp_path: Path) -> None:
    """The whole group gets the signal, as at a terminal."""
    our_server.fill_with_root(path)
    federation = Federation(path, 1)
    with our_server.running(path, tmp_path, "-q") as server:
        client = server.client()
        client.log_in()
        file = federation.write(tmp_path / "sites", server.port)
        with file.with_suffix(".log").open("wb") as log:
            command = [*PROGRAM, "node", str(file)]
            env = environment(Path(os.environ["HOME"]))
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            task = our_node.post(client, "sleep", 3600)
            our_node.until(client, task, ["active"], log="asleep")
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(our_node.SECONDS) == 0
        finally:
            process.kill()
            process.wait()
        (run,) = our_node.runs_of(client, task)
        assert run["status"] == "failed" and "stopped" in run["log"]
    assert our_node.folders() == [] and our_node.processes() == []


class Strange(http.server.BaseHTTPRequestHandler):
    """Answers every request with 200 and JSON that no vantage6 server sends."""

    def do_POST(self) -> None:  # as the library calls it
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.answer)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.mark.parametrize("answer", [b"[]", b"<html>", b'{"access_token": "x", "refresh_token": 1}', b"null", b"\xff"])
def test_a_server_of_something_else_is_refused_in_one_line(path: Path, tmp_path: Path, answer: bytes) -> None:
    our_server.fill_with_root(path)
    federation = Federation(path, 1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Strange) as strange:
        strange.answer = answer  # type: ignore[attr-defined]
        threading.Thread(target=strange.serve_forever, daemon=True).start()
        done = vserver("node", federation.write(tmp_path / "sites", strange.server_port))
        strange.shutdown()
    assert done.status == 1 and f":{strange.server_port}" in done.err and "Traceback" not in done.err
