"""`vserver start` as a process: where it listens, what it refuses before it reads anything, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import our_server, postgres, signing
from helpers.our_server import ANSWER_SECONDS, OurServer
from helpers.process import ROOT, python, vserver
from helpers.terminal import environment

from vserverlib.examples import demo
from vserverlib.serving.application import IN_MEMORY, MAX_BODY, MAX_LOG_IN, MAX_SMALL, MAX_VALUES

SERVER = ROOT / "tests" / "data" / "v4.15.2.sqlite"


@pytest.fixture
def served(example: Path, tmp_path: Path) -> Iterator[OurServer]:
    with our_server.running(example, tmp_path, "-v", XDG_DATA_HOME=os.environ["XDG_DATA_HOME"]) as server:
        yield server


def raw(server: OurServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Send a request with these headers and no others, and return its status and its JSON."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None and "Content_Length" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_request_is_checked_before_anything_is_read(served: OurServer) -> None:
    port, json_type = served.port, {"Content_Type": "application/json"}
    for host in (f"127.0.0.1:{port}", "localhost", f"[::1]:{port}", "192.0.2.7"):
        assert raw(served, "GET", "/api/version", Host=host) == (200, {"version": "4.15.2"}), host
    odd = ("localhost:80/evil", "localhost:x", "[::1]evil.example", "[::1", "localhost:80:80", "localhost:[")
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "localhost.evil", *odd):
        status, body = raw(served, "GET", "/api/version", Host=host)
        assert status == 400 and "--allowed-host" in body["msg"], host
        assert raw(served, "GET", "/socket.io/?EIO=4&transport=polling", Host=host)[0] == 400, host
    log_in = b'{"username": "anna.devries", "password": "wrong"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        status, body = raw(served, "POST", "/api/token/user", log_in, **({"Content_Type": kind} if kind else {}))
        assert status == 415 and "application/json" in body["msg"], kind
    for text in (b"{", b"[1", b"\xff\xfe", b'{"a": NaN}', b"[" * 60_000, b'"\\ud800'):
        assert raw(served, "POST", "/api/token/user", text, **json_type)[0] == 400, text[:20]
    for text in (b"[]", b"3", b"null", b'"x"', b'{"username": 3, "password": []}', b'{"username": "\\u0000"}'):
        assert raw(served, "POST", "/api/token/user", text, **json_type)[0] == 400, text
    status, body = raw(served, "POST", "/api/token/user", b"", Content_Length=str(MAX_LOG_IN + 1), **json_type)
    assert status == 413 and "64 KB" in body["msg"]
    bearer = {"Authorization": f"Bearer {signing.as_user(served, 1).token}"}
    assert (
        raw(served, "PATCH", "/api/organization/1", b"", Content_Length=str(MAX_SMALL + 1), **bearer, **json_type)[0]
        == 413
    )
    assert raw(served, "PATCH", "/api/run/1", b"", Content_Length=str(MAX_SMALL + 1), **bearer, **json_type)[0] == 401
    many = b'{"image": "i", "organizations": [' + b"{}," * MAX_VALUES + b"{}]}"
    status, body = raw(served, "POST", "/api/task", many, **bearer, **json_type)
    assert status == 400 and body["msg"] == "the body has more than 100,000 values"
    node = {"Authorization": f"Bearer {signing.as_node(served, 1).token}", **json_type}
    crowded = (
        b'{"result": [' + b"0," * MAX_VALUES + b"0]}",
        b'{"a": [' + b'"\\\\\\"",' * MAX_VALUES + b"0]}",
        b"{" + b'"a":"",' * 3 * MAX_VALUES + b'"a":""}',
    )
    for text in crowded:
        assert raw(served, "PATCH", "/api/run/1", text, **node)[0] == 400, text[:40]
    encoded = '{"result": "x"}'.encode("utf-16")
    assert raw(served, "PATCH", "/api/run/1", encoded, **node) == (400, {"msg": "the body is not JSON"})
    for length in (str(MAX_BODY + 1), "9" * 19):
        assert raw(served, "POST", "/api/task", b"", Content_Length=length, **bearer, **json_type)[0] == 413, length
    assert raw(served, "GET", "/api/nothing")[0] == raw(served, "GET", "/page")[0] == 404
    assert raw(served, "PUT", "/api/organization")[0] == raw(served, "OPTIONS", "/api/organization")[0] == 405
    headers = served.client().ask("GET", "version").headers
    assert "access-control-allow-origin" not in headers and "server" not in headers
    assert "Traceback" not in served.err


def test_a_body_in_chunks_is_counted(served: OurServer) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)) as connection:
        chunks = (b"x" * 4_000_000 for _ in range(MAX_BODY // 4_000_000 + 2))
        headers = headers_of(signing.as_user(served, 1))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", "/api/task", chunks, headers)
        assert connection.getresponse().status == 413


def test_a_body_that_cannot_be_kept_is_no_bug(served: OurServer) -> None:
    node, size = signing.as_node(served, 1), 2 * IN_MEMORY
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (size, size))
    answer = node.ask("PATCH", "run/1", {"result": "x" * 2 * size})
    assert answer.status == 503 and "cannot be kept" in answer.body["msg"] and "TMPDIR" in answer.body["msg"]
    assert node.ask("GET", "node/1").status == 200 and "Traceback" not in served.err


def half_a_request(server: OurServer) -> socket.socket:
    """Open a connection that never sends the rest of its head."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=120)
    connection.sendall(b"GET /api/version HTTP/1.1\r\n")
    return connection


def test_too_many_connections_are_one_line_and_others_wait(served: OurServer) -> None:
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (50, 50))
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(half_a_request(served))
        while "too many connections" not in served.err:
            assert served.process.poll() is None
            time.sleep(0.05)
    assert served.client().ask("GET", "version").status == 200
    assert len(served.err.splitlines()) < 20 and "Traceback" not in served.err


@pytest.mark.long
def test_a_connection_that_never_sends_a_whole_request_is_ended(served: OurServer) -> None:
    client = served.client()
    assert client.ask("GET", "version").status == 200
    with half_a_request(served) as connection:
        assert connection.recv(1) == b""
    assert client.ask("GET", "version").status == 200


def test_a_client_that_goes_within_its_request_is_no_bug(served: OurServer) -> None:
    start = b"POST /api/token/user HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(start)
    while "token/user" not in served.err:  # its line in the log
        assert served.client().ask("GET", "version").status == 200
    assert "Traceback" not in served.err and "token/user 400" in served.err


def test_the_log_has_a_line_a_request_and_no_secret(served: OurServer) -> None:
    client = signing.as_user(served, 1)
    client.ask("GET", "organization", query={"name": "\x1b[2J%"})
    for name in ("anna.devries", "Geheim-as-a-name-1", "\x1b[2Jodd"):
        served.client().ask("POST", "token/user", {"username": name, "password": "Geheim-wrong-1"})
    assert served.stop() == 0
    lines = served.err.splitlines()
    assert lines[-1] == "the server was stopped"
    (listed,) = [line for line in lines if "/api/organization" in line]
    assert " GET " in listed and " 200 anna.devries " in listed and "name=" in listed and "\x1b" not in served.err
    failed = [line.split()[3:5] for line in lines if "/api/token/user" in line]
    assert failed == [["401", "anna.devries"], ["401", "-"], ["401", "-"]]
    assert "Geheim" not in served.err and client.token not in served.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_in_order(example: Path, tmp_path: Path, number: int, status: int) -> None:
    with our_server.running(example, tmp_path, "-q") as server:
        assert server.client().ask("GET", "health").body == {"database": True}
        server.process.send_signal(number)
        assert server.process.wait(ANSWER_SECONDS) == status
        assert "the server was stopped" in server.err and "GET" not in server.err and "Traceback" not in server.err
    assert not Path(f"{example}-wal").exists()


def test_tokens_outlive_a_restart_and_the_secret_is_its_owners_alone(example: Path, tmp_path: Path) -> None:
    data = os.environ["XDG_DATA_HOME"]
    with our_server.running(example, tmp_path, XDG_DATA_HOME=data) as server:
        token = signing.as_user(server, 1).token
        (key,) = Path(data, "vserver").glob("server-*.key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 64
        for home in (data, str(tmp_path / "another")):
            second = vserver("-d", example, "start", "--port", "0", XDG_DATA_HOME=home)
            assert second.status == 1 and second.err.count("\n") == 1 and "served already" in second.err
    assert key.read_bytes() not in example.read_bytes()
    with our_server.running(example, tmp_path, XDG_DATA_HOME=data) as server:
        assert signing.with_token(server, token).ask("GET", "user/1").status == 200
    key.write_text("short")
    done = vserver("-d", example, "start", "--port", "0", XDG_DATA_HOME=data)
    assert done.status == 1 and key.name in done.err and "remove it" in done.err


def test_what_does_not_fit_is_one_line(example: Path, tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        cases: dict[tuple[str, ...], tuple[int, str]] = {
            ("-d", str(example), "start", "--port", port): (1, f"port {port} of 127.0.0.1 is taken"),
            ("-d", str(SERVER), "start", "--port", "0"): (1, "is the database of a vantage6 server, not of vserver"),
            ("-d", str(SERVER), "--write", "start"): (1, "start is not for --write"),
            ("--dry-run", "start"): (1, "start has no dry run"),
            ("-d", str(tmp_path / "none.db"), "start", "--port", "0"): (1, "there is no database"),
            ("-d", str(example), "start", "--demo"): (2, "--demo and -d"),
            ("start", "--demo", "--host", "0.0.0.0"): (2, "its passwords are public"),
            ("start", "--api-path", "api"): (2, "--api-path is a path"),
            ("start", "--api-path", "/socket.io/"): (2, "--api-path is a path"),
            ("start", "--allowed-host", "http://x"): (2, "is not the name of a host"),
            ("start", "-q", "-v"): (2, "exclude each other"),
            ("-d", str(example), "start", "--port", "0", "--host", "nowhere.invalid"): (
                1,
                "there is no host nowhere.invalid",
            ),
        }
        for words, (status, text) in cases.items():
            done = vserver(*words, cwd=tmp_path)
            assert (done.status, done.out) == (status, "") and text in done.err, (words, done)


def test_without_its_libraries_one_line_says_what_to_install(example: Path) -> None:
    for library in ("starlette", "uvicorn", "socketio", "jwt"):
        words = ["-d", str(example), "start"]
        code = f"import sys; sys.modules[{library!r}] = None; import vserver; vserver.main({words})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, (library, done.stderr)
        assert "starlette, uvicorn, python-socketio, PyJWT" in done.stderr and "pip install vserver" not in done.stderr


def test_without_a_place_for_the_secret_one_line_names_it(example: Path) -> None:
    done = vserver("-d", example, "start", "--port", "0", VSERVER_HOME="/dev/null/x")
    assert done.status == 1 and done.err.count("\n") == 1 and "/dev/null/x, set VSERVER_HOME" in done.err


def test_a_secret_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from vserverlib.serving import tokens\n"
        "with tokens.locked_secret('vserver.db', 'x'): pass\n"
    )
    done = python("-c", code, VSERVER_HOME=str(tmp_path / "full"))
    assert done.status == 1 and f"cannot be kept in {tmp_path / 'full'}, set VSERVER_HOME" in done.err.splitlines()[-1]


def test_the_demo_prints_its_log_ins_and_keeps_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "vserver", "start", "--demo", "--port", "0", "--api-path", "/v6/"]
    surroundings = environment(Path(os.environ["HOME"]))
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=surroundings, cwd=ROOT) as process:
        lines = iter(process.stderr or ())
        (found,) = (our_server.SERVING.search(next(lines)),)
        port = int(found[1] if found else 0)
        said = "".join(iter(lines.__next__, "    client.task.list()\n"))
        assert max(map(len, said.splitlines())) <= 80 and said.count("Demo-") == len(demo.USERS) + 1
        assert "  bram.hofstra       researcher                      Demo-Bram-1\n" in said
        assert f'UserClient("http://127.0.0.1", {port}, "/v6")' in said
        client = our_server.Client(port, "/v6")
        answer = client.ask("POST", "token/user", {"username": "anna.devries", "password": "Demo-Anna-1"})
        assert answer.status == 200 and answer.headers["jwt-token"] == answer.body["access_token"]
        client.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(ANSWER_SECONDS) == 0
    assert not list(Path(os.environ["HOME"]).rglob("server-*.key"))


def test_another_host_is_warned_about_and_answers_to_its_names(example: Path, tmp_path: Path) -> None:
    log, data = tmp_path / "err", {"XDG_DATA_HOME": os.environ["XDG_DATA_HOME"]}
    names = ("--host", "0.0.0.0", "--allowed-host", "V6.example.org")
    words = [sys.executable, "-m", "vserver", "-d", str(example), "start", "--port", "0", *names]
    with (
        log.open("w") as err,
        subprocess.Popen(words, stderr=err, cwd=ROOT, env=environment(tmp_path, **data)) as process,
    ):
        try:
            while "serving" not in log.read_text():
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            text = log.read_text()
            assert "plain text" in text.splitlines()[0] and "TLS" in text
            server = OurServer(process, int(text.rpartition("0.0.0.0:")[2].partition("/")[0]), log, example)
            assert raw(server, "GET", "/api/version", Host="v6.EXAMPLE.org:443")[0] == 200
            assert raw(server, "GET", "/api/version", Host="v7.example.org")[0] == 400
        finally:
            process.kill()


def test_a_second_server_on_postgresql_ends_with_a_line_whatever_its_home(url: str, tmp_path: Path) -> None:
    with our_server.running(url, tmp_path) as server:
        assert server.client().ask("GET", "health").body == {"database": True}
        done = vserver("-d", url, "start", "--port", "0", XDG_DATA_HOME=str(tmp_path / "another"))
        assert done.status == 1 and done.err.count("\n") == 1 and "served already" in done.err


def test_a_server_that_lost_its_connection_takes_the_lock_anew_or_ends_serving(
    url: str, tmp_path: Path, server: postgres.Server
) -> None:
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vserver%'"
    second = tmp_path / "second"
    second.mkdir()
    with our_server.running(url, tmp_path) as first:
        client = first.client()
        for _ in range(2):  # the lock is taken by the next request
            server.run(cut)
            assert client.ask("GET", "health").body == client.ask("GET", "health").body == {"database": True}
        assert "is served already" in vserver("-d", url, "start", "--port", "0", XDG_DATA_HOME=str(second)).err
        server.run(cut)
        with our_server.running(url, second, XDG_DATA_HOME=str(second)) as other:
            assert other.client().ask("GET", "health").body == {"database": True}
            client.ask("GET", "health")  # which finds the connection lost
            answer = client.ask("GET", "health")
            assert answer.status == 503 and "served by another server" in answer.body["msg"]


def test_while_postgresql_refuses_connections_the_answer_is_503(
    url: str, tmp_path: Path, server: postgres.Server
) -> None:
    name = url.partition("@/")[2].partition("?")[0]
    with our_server.running(url, tmp_path) as served:
        client = served.client()
        server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vserver%'")
        answers = [client.ask("GET", "health") for _ in range(3)]
        server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert {answer.status for answer in answers} == {503} and name not in answers[-1].body["msg"]
        assert f"{name}" in served.err and "cannot be reached" in served.err and "Traceback" not in served.err
        assert client.ask("GET", "health").status == 200


def test_a_lost_connection_to_postgresql_is_renewed(url: str, tmp_path: Path, server: postgres.Server) -> None:
    with our_server.running(url, tmp_path) as served:
        client = served.client()
        assert client.ask("GET", "health").status == 200
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'vserver%'")
        assert {client.ask("GET", "health").status for _ in range(3)} <= {200, 503}
        assert client.ask("GET", "health").body == {"database": True}


def test_a_log_that_nobody_reads_stops_nothing(example: Path) -> None:
    words = [sys.executable, "-m", "vserver", "-d", str(example), "start", "--port", "0"]
    home = environment(example.parent)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=home) as process:
        assert process.stderr is not None
        found = our_server.SERVING.search(process.stderr.readline())
        process.stderr.close()
        assert found is not None
        with contextlib.closing(our_server.Client(int(found[1]))) as client:
            assert [client.ask("GET", "health").status for _ in range(3)] == [200] * 3
        process.kill()


def test_a_database_that_was_moved_is_unavailable_until_it_is_back(served: OurServer, example: Path) -> None:
    client, away = signing.as_user(served, 1), example.with_name("away.db")
    os.rename(example, away)
    for method, body in (("GET", None), ("PATCH", {"firstname": "Bo"})):
        answer = client.ask(method, "user/2", body)
        assert answer.status == 503 and "vserver.db was moved" in answer.body["msg"], answer
    os.rename(away, example)
    assert client.ask("PATCH", "user/2", {"firstname": "Bo"}).status == 200
    example.unlink()
    assert client.ask("GET", "user/2").status == 503


def test_a_lock_of_another_program_stops_only_writes(served: OurServer, example: Path) -> None:
    client, other = signing.as_user(served, 1), signing.as_user(served, 1)
    with contextlib.closing(sqlite3.connect(example, isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        client._connection.request("PATCH", "/api/user/2", b'{"firstname": "Bo"}', headers_of(client))
        for _ in range(20):
            assert other.ask("GET", "user/2").body["firstname"] == "Bram"
        conn.execute("ROLLBACK")
        answer = client._connection.getresponse()
        assert answer.status == 200 and json.loads(answer.read())["firstname"] == "Bo"


def headers_of(client: our_server.Client) -> dict[str, str]:
    return {"Content-Type": "application/json", "Authorization": f"Bearer {client.token}"}


@pytest.mark.long
def test_after_ten_seconds_a_write_is_refused_and_names_the_holder(served: OurServer, example: Path) -> None:
    client = signing.as_user(served, 1)
    with contextlib.closing(sqlite3.connect(example, isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        answer = client.ask("PATCH", "user/2", {"firstname": "Bo"})
        assert answer.status == 503 and f"process {os.getpid()}" in answer.body["msg"]
    assert client.ask("GET", "user/2").body["firstname"] == "Bram"
