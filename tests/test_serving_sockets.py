"""The web sockets of the server: who receives which events, presence, what nodes report, and what is refused."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from helpers import our_server
from helpers.our_server import Client, OurServer
from helpers.socket_io import CLOSE, TRANSPORTS, Gone, Socket

import models

KEYS = {name: f"00000000-0000-4000-8000-00000000000{number}" for number, name in enumerate(("noord", "oslo", "lyon"))}
PASSWORD = "Sup3r-secret!"  # no secret
INPUT = base64.b64encode(b"{}").decode()
SECONDS = 180.0
REPORTED = {
    "encryption": False,
    "allowed_algorithms": ["demo/average:1"],
    "database_types": {"db_type_default": "csv"},
}


def fill(path: str | Path) -> None:
    """Noord and Oslo have nodes in a collaboration, Lyon in another one; each has a user with another role."""
    our_server.fill_with_root(path)
    roles = {"noord": "Researcher", "oslo": "Viewer", "lyon": "Researcher"}
    with contextlib.closing(models.connect(str(path))) as database, database.rule_checks(False):
        organizations = {name: models.Organization(name=name) for name in KEYS}
        for name, organization in organizations.items():
            organization.save()
            user = {"username": name, "password": PASSWORD, "email": f"{name}@x.example", "roles": roles[name]}
            models.User(organization=organization, **user).save()
        for name, members in {"trial": ("noord", "oslo"), "other": ("lyon",)}.items():
            of = [organizations[each] for each in members]
            collaboration = models.Collaboration(name=name, encrypted=False, organizations=of)
            collaboration.save()
            for each in members:
                place = {"organization": organizations[each], "collaboration": collaboration}
                models.Node(name=f"node of {each}", api_key=KEYS[each], **place).save()


@pytest.fixture(scope="module")
def filled(_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of this module, which its tests share."""
    import shutil

    from vserverlib import hashing

    path = Path(shutil.copy(_made, tmp_path_factory.mktemp("sockets") / "vserver.db"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "ROUNDS", 4)
        patch.setenv("HOME", str(path.parent))
        patch.delenv("VSERVER_HOME", raising=False)
        patch.delenv("XDG_DATA_HOME", raising=False)
        fill(path)
    return path


@pytest.fixture(scope="module")
def serving(filled: Path) -> Iterator[OurServer]:
    home = str(filled.parent)  # not that of the user who runs the tests
    with our_server.running(filled, filled.parent, HOME=home, XDG_DATA_HOME=home) as started:
        yield started
        assert "Traceback" not in started.err, started.err


def user(server: OurServer, name: str) -> Client:
    client = server.client()
    client.log_in(name, PASSWORD)
    return client


def node(server: OurServer, name: str) -> Client:
    client = server.client()
    client.log_in_node(KEYS[name])
    return client


@contextlib.contextmanager
def connected(server: OurServer, client: Client, transport: str = "polling") -> Iterator[Socket]:
    socket = Socket(server.port, client.token, transport)
    try:
        yield socket
    finally:
        with contextlib.suppress(Gone, OSError):
            socket.leave()


def posted(server: OurServer, *organizations: int) -> tuple[int, list[dict[str, Any]]]:
    """Post a task to organizations, and return its id and runs."""
    client = user(server, "noord")
    of = [{"id": id, "input": INPUT} for id in organizations]
    body = {"name": "n", "image": "demo/average:1", "collaboration_id": 1, "organizations": of}
    answer = client.ask("POST", "task", body | {"databases": []})
    assert answer.status == 201, answer
    found = client.ask("GET", "run", query={"task_id": answer.body["id"]}).body["data"]
    return answer.body["id"], sorted(found, key=lambda run: run["organization"]["id"])


def eventually(holds: Any) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def barrier(server: OurServer, socket: Socket) -> list[tuple[str, Any]]:
    """Return all events that a socket got until a task that is posted now is announced to it."""
    task, _ = posted(server, 2)
    socket.until("new_task", id=task)
    return socket.events


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_node_gets_its_tasks_and_its_collaboration_hears_what_it_does(serving: OurServer, transport: str) -> None:
    noord = node(serving, "noord")
    with (
        connected(serving, noord, transport) as socket,
        connected(serving, node(serving, "oslo"), transport) as partner,
    ):
        socket.until("sync")
        task, runs = posted(serving, 2, 3)
        assert (
            socket.until("new_task", id=task) == {"id": task, "parent_id": None} == partner.until("new_task", id=task)
        )
        mine = runs[0]["id"]
        socket.emit("algorithm_status_change", {"run_id": mine, "status": "active", "task_id": 999, "node_id": 999})
        heard = partner.until("algorithm_status_change", run_id=mine)
        expected = {"status": "active", "task_id": task, "node_id": 1, "organization_id": 2, "collaboration_id": 1}
        assert expected.items() <= heard.items()
        socket.emit("algorithm_log", {"run_id": mine, "log": "a line"})
        socket.emit("algorithm_log", {"run_id": mine, "log": "a second line\n"})
        assert partner.until("algorithm_log", log="a line") == {"run_id": mine, "task_id": task, "log": "a line"}
        eventually(lambda: noord.ask("GET", f"run/{mine}").body["log"] == "a line\na second line\n")
        noord.ask("PATCH", f"run/{mine}", {"status": "active", "started_at": "2026-11-28T06:07:52+00:00"})
        assert partner.until("status_update", run_id=mine)


def test_what_a_node_reports_about_the_runs_of_others_is_dropped(serving: OurServer) -> None:
    with connected(serving, node(serving, "noord")) as noord, connected(serving, node(serving, "lyon")) as lyon:
        _, runs = posted(serving, 2, 3)
        theirs = {"run_id": runs[1]["id"], "collaboration_id": 1, "log": "x\n", "status": "failed"}
        nonsense: list[Any] = [None, [], "x", {}, {"run_id": "1"}, {"run_id": 2**80}, {"run_id": True}, {"run_id": -1}]
        for socket in noord, lyon:
            for event in "algorithm_log", "algorithm_status_change", "node_info_update", "ping", "no such event":
                for data in [theirs, {**theirs, "status": 1, "log": 1}, *nonsense]:
                    socket.emit(event, data)
        seen = barrier(serving, noord)
        assert not [name for name, _ in seen if name in ("algorithm_log", "algorithm_status_change")], seen
        oslo = node(serving, "oslo")
        assert oslo.ask("GET", f"run/{runs[1]['id']}").body["log"] is None
        lyon.emit("ping")
        assert not [name for name, _ in lyon.events if name in ("new_task", "algorithm_log")], "another collaboration"


def test_users_follow_the_collaborations_that_they_may(serving: OurServer) -> None:
    root = serving.client()
    root.log_in()
    with contextlib.ExitStack() as stack:
        of = {name: stack.enter_context(connected(serving, user(serving, name))) for name in KEYS}
        of["root"] = stack.enter_context(connected(serving, root))
        task, _ = posted(serving, 2)
        for name in "noord", "oslo", "root":
            assert of[name].until("new_task", id=task)
            of[name].emit("algorithm_status_change", {"run_id": 1, "status": "failed"})  # not for users to say
        with connected(serving, node(serving, "lyon")):
            assert of["lyon"].until("node-online")["name"] == of["root"].until("node-online")["name"] == "node of lyon"
        assert all(name != "new_task" for name, _ in of["lyon"].events)


def test_presence_follows_the_connection_and_the_configuration_goes_with_it(serving: OurServer) -> None:
    root = serving.client()
    root.log_in()

    def shown() -> dict[str, Any]:
        return dict(root.ask("GET", "node/2").body)

    with connected(serving, root) as watching:
        first, second = (Socket(serving.port, node(serving, "oslo").token) for _ in range(2))
        first.emit("node_info_update", REPORTED)
        eventually(lambda: shown()["config"])
        assert shown()["config"] == [
            {"key": "encryption", "value": "false"},
            {"key": "allowed_algorithms", "value": "demo/average:1"},
            {"key": "db_type_default", "value": "csv"},
        ]
        assert shown()["status"] == "online" and shown()["ip"] == "127.0.0.1"
        first.leave()
        watching.until("node-online")
        assert shown()["status"] == "online", "it has another connection"
        second.leave()
        assert watching.until("node-offline", id=2) == {"id": 2, "name": "node of oslo", "org_id": 3}
        eventually(lambda: shown()["status"] == "offline")
        assert shown()["config"] == []


def test_pings_write_when_a_node_was_seen_once_a_minute(serving: OurServer) -> None:
    root = serving.client()
    root.log_in()
    with connected(serving, node(serving, "oslo")) as socket:
        socket.until("sync")
        before = root.ask("GET", "node/2").body["last_seen"]
        for _ in range(20):
            socket.emit("ping")
        assert root.ask("GET", "node/2").body["last_seen"] == before


@pytest.mark.long
def test_a_silent_node_is_offline_after_65_seconds_and_rights_are_read_anew(path: Path, tmp_path: Path) -> None:
    """A node that only answers Engine.IO is silent.

    After a minute, a user without the role hears nothing, and connections with an expired token, or of a deleted node,
    are ended.
    """
    fill(path)
    with our_server.running(path, tmp_path) as server:
        root = server.client()
        root.log_in()
        silent, gone = (Socket(server.port, node(server, name).token) for name in ("oslo", "lyon"))
        watching, demoted = Socket(server.port, root.token), Socket(server.port, user(server, "noord").token)
        (key,) = Path(os.environ["HOME"]).rglob("server-*.key")
        claims = jwt.decode(root.token, options={"verify_signature": False, "verify_sub": False})
        expiring = Socket(server.port, jwt.encode({**claims, "exp": int(time.time()) + 20}, key.read_bytes(), "HS256"))
        (id,) = (each["id"] for each in root.ask("GET", "user").body["data"] if each["username"] == "noord")
        assert root.ask("PATCH", f"user/{id}", {"roles": []}).status == 200
        assert root.ask("DELETE", "node/3").status == 200
        began = time.monotonic()
        expiring.until("expired_token", 90)
        expiring.until_gone()
        watching.until("node-offline", 90, id=2)
        assert time.monotonic() - began > 60
        assert root.ask("GET", "node/2").body["status"] == "offline"
        gone.until_gone()
        silent.emit("ping")
        watching.until("node-online", id=2)
        assert root.ask("GET", "node/2").body["status"] == "online"
        heard = demoted.until_pings(2)
        assert "node-online" not in heard and "node-offline" not in heard, heard
        for socket in silent, gone, expiring, watching, demoted:
            socket.vanish()


def test_a_connection_without_a_valid_token_gets_one_event_and_is_ended(serving: OurServer, filled: Path) -> None:
    good = node(serving, "noord")
    claims = jwt.decode(good.token, options={"verify_signature": False, "verify_sub": False})
    (key,) = filled.parent.rglob("server-*.key")

    def signed(secret: bytes = key.read_bytes(), **changed: Any) -> str:
        return jwt.encode({**claims, **changed}, secret, "HS256")

    expired = signed(exp=int(time.time()) - 5)
    forged = signed(b"another secret that is as long as it takes")
    gone = signed(sub=99)
    container = signed(client_type="container", sub={"node_id": 1, "task_id": 1})
    events = {expired: "expired_token"}
    events |= dict.fromkeys((forged, gone, container, good.refresh_token, "no token"), "invalid_token")
    sockets = {token: Socket(serving.port, token) for token in events}
    for token, event in events.items():
        sockets[token].until(event)
        sockets[token].emit("node_info_update", REPORTED)
        sockets[token].emit("ping")
    posted(serving, 2)
    for socket in sockets.values():
        socket.until_gone()
        assert socket.events == []
        socket.vanish()
    with pytest.raises(Gone, match="401"):
        Socket(serving.port, None)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/socket.io/?EIO=3&transport=polling", None),
        ("GET", "/socket.io/?EIO=4&transport=polling&sid=nobody", None),
        ("POST", "/socket.io/?EIO=4&transport=polling&sid=nobody", "4x"),
        ("GET", "/socket.io/?EIO=4&transport=carrier-pigeon", None),
        ("GET", "/socket.io/?EIO=4&transport=websocket", None),
        ("PUT", "/socket.io/?EIO=4&transport=polling", None),
        ("GET", "/socket.io/?EIO=4&transport=polling&j=x", None),
        ("GET", "/socket.io", None),
        ("GET", "/socket.io/%00", None),
    ],
)
def test_odd_requests_are_refused(serving: OurServer, method: str, path: str, body: str | None) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", serving.port, timeout=SECONDS)) as connection:
        connection.request(method, path, body, {"Authorization": f"Bearer {node(serving, 'noord').token}"})
        assert 400 <= connection.getresponse().status < 500


def test_a_connection_needs_a_token_whatever_its_query_looks_like(serving: OurServer) -> None:
    for query in ("", "&sid=", "&xsid=1", "&x=sid=1"):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", serving.port, timeout=SECONDS)) as connection:
            connection.request("GET", f"/socket.io/?EIO=4&transport=polling{query}")
            assert connection.getresponse().status == 401, query


NO_PACKETS = (
    "x",
    "9",
    "4",
    "42",
    "42/tasks,",
    "42/tasks,{",
    "42/tasks,[]",
    "42/tasks,[1]",
    "4\0",
    "451-[",
    "b",
    "\x1e" * 50,
)


@pytest.mark.parametrize("packet", [*NO_PACKETS, "4" + "x" * 2_000_000], ids=lambda packet: ascii(packet[:10]))
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_packet_that_is_none_ends_nothing_but_its_connection(serving: OurServer, transport: str, packet: str) -> None:
    socket = Socket(serving.port, SIGNED.setdefault(serving.port, node(serving, "noord").token), transport)
    with contextlib.suppress(Gone):
        socket.send(packet)
        socket.emit("ping")
    socket.vanish()
    assert serving.client().ask("GET", "version").status == 200


SIGNED: dict[int, str] = {}


def test_a_web_page_of_another_origin_cannot_connect(serving: OurServer) -> None:
    headers = {"Authorization": f"Bearer {node(serving, 'noord').token}", "Origin": "https://evil.example"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", serving.port, timeout=SECONDS)) as connection:
        connection.request("GET", "/socket.io/?EIO=4&transport=polling", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 400 and "access-control-allow-origin" not in dict(answer.getheaders())


def test_the_end_sets_all_offline_and_does_not_wait_for_long_polls(path: Path, tmp_path: Path) -> None:
    fill(path)
    with our_server.running(path, tmp_path) as server:
        socket = Socket(server.port, node(server, "oslo").token)
        _, runs = posted(server, 3)
        socket.emit("algorithm_log", {"run_id": runs[0]["id"], "log": "the last line\n"})
        socket.until("new_task")
        socket.poll()
        assert server.client().ask("GET", "version").status == 200
        assert server.stop() == 128 + signal.SIGINT or server.process.returncode == 0, server.err
        assert "graceful" not in server.err, "uvicorn has cancelled the poll"
        assert socket.until_gone() != CLOSE, "real nodes would not connect again"
        socket.vanish()
        assert "Traceback" not in server.err, server.err
    with contextlib.closing(models.connect(str(path))):
        assert models.Node.by_id(2).status == "offline"
        assert models.Result.by_id(runs[0]["id"]).log == "the last line\n"


def test_a_node_that_was_online_when_the_server_was_killed_is_offline_after_the_next_start(
    path: Path, tmp_path: Path
) -> None:
    fill(path)
    with our_server.running(path, tmp_path) as server:
        socket = Socket(server.port, node(server, "oslo").token)
        socket.until("node-online", id=2)
        server.kill()
        socket.vanish()
    with our_server.running(path, tmp_path) as server:
        client = server.client()
        client.log_in()
        assert client.ask("GET", "node/2").body["status"] == "offline"


def test_the_journal_does_not_record_presence_and_lines_of_logs(address: str, tmp_path: Path) -> None:
    fill(address)
    with our_server.running(address, tmp_path) as server:
        _, runs = posted(server, 3)
        before = changes(address)
        socket = Socket(server.port, node(server, "oslo").token)
        socket.emit("ping")
        socket.emit("algorithm_log", {"run_id": runs[0]["id"], "log": "a line\n"})
        client = user(server, "oslo")
        eventually(lambda: client.ask("GET", f"run/{runs[0]['id']}").body["log"] == "a line\n")
        socket.leave()
        server.stop()
    assert changes(address) == before


def changes(address: str) -> int:
    with contextlib.closing(models.connect(address)) as database:
        return int(database.execute_sql("SELECT count(*) FROM change").fetchone()[0])
