"""The pages that `vserver start` serves: who gets in, what is seen, how it follows changes, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from helpers import our_server, process
from helpers.our_server import OurServer
from helpers.visitor import SECONDS, Visitor
from starlette.requests import Request as HttpRequest

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.entities.lock_outs import MOST_FAILURES
from vserverlib.serving.board import Board, Wanted, key, sight
from vserverlib.serving.browser import FORM, POLICY, _form
from vserverlib.serving.callers import of_user
from vserverlib.serving.desk import Desk
from vserverlib.serving.live import GONE, LOST, Live, as_event
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.sessions import MAX_SESSIONS, Sessions

HTTP = pytest.mark.sqlite("about requests, whatever the database")
PASSWORD = "Geheim-1234!"
ROLES = {"root": "Root", "admin": "Collaboration Admin", "researcher": "researcher", "viewer": "Viewer", "none": "odd"}
ANNA, BRAM = "root", "researcher"


def fill() -> None:
    """Two collaborations of two organizations each, which share one; a task in each, and a user of each role."""
    for name in ("North", "South", "Secret-org"):
        Organization(name=name, country="NL").save()
    for name, ids in (("open", (1, 2)), ("Secret-collaboration", (2, 3))):
        together = Collaboration(name=name, encrypted=False, organizations=[Organization.by_id(id) for id in ids])
        together.save()
        for id in ids:
            Node(name=f"{name} node {id}", organization=id, collaboration=together).save()
        task = Task(name=f"{name} task", image="i", collaboration=together, initiator=ids[1])
        task.save()
        for id in ids:
            Result(task=task, organization=id, log=f"{name} log").save()
    for name, roles in ROLES.items():
        User(username=name, roles=roles, organization=1, password=PASSWORD, email=f"{name}@north.example").save()


@pytest.fixture
def filled(address: str) -> str:
    with contextlib.closing(models.connect(address)) as database, database.rule_checks(False):
        fill()
    return address


@pytest.fixture
def served(filled: str, tmp_path: Path) -> Iterator[OurServer]:
    with our_server.running(filled, tmp_path, XDG_DATA_HOME=os.environ["XDG_DATA_HOME"]) as server:
        yield server
        assert "Traceback" not in server.err and PASSWORD not in server.err


def entered(server: OurServer, username: str = ANNA) -> Visitor:
    visitor = Visitor(server.port)
    assert visitor.log_in(username, PASSWORD).status == 303
    return visitor


@HTTP
def test_a_log_in_gives_a_cookie_and_a_log_out_ends_it(served: OurServer) -> None:
    visitor = Visitor(served.port)
    for path, to in (("/", "/"), ("/page/task/1", "/page/task/1"), ("/page/task/1?big", "/page/task/1%3Fbig")):
        sent = visitor.get(path)
        assert (sent.status, sent.headers["location"], sent.text) == (303, f"/page/log-in?to={to}", "")
    assert 'name="to" value="/page/task/1?big"' in visitor.get("/page/log-in?to=/page/task/1%3Fbig").text
    assert visitor.get("/page/events").status == 401
    linked = visitor.get("/page/task/1?big", Sec_Fetch_Site="cross-site")
    assert linked.status == 200 and 'content="0; url=/page/task/1?big"' in linked.text and "Secret" not in linked.text
    done = visitor.log_in(ANNA, PASSWORD, "/page/task/1?big")
    assert (done.status, done.headers["location"]) == (303, "/page/task/1?big")
    attributes = done.headers["set-cookie"].split("; ")
    assert attributes[0].startswith(f"vserver_{served.port}=") and attributes[1:] == [
        "Path=/",
        "HttpOnly",
        "SameSite=Strict",
    ]
    page = visitor.get("/")
    assert page.status == 200 and "Secret-collaboration task" in page.text and f">{ANNA}<" in page.text
    assert 'class="big"' in visitor.get("/page/task/1?big").text
    assert visitor.get("/page/log-in").headers["location"] == "/"
    assert visitor.get("/page/task/99").status == visitor.get("/page/task/x").status == 404
    stolen = visitor.cookie
    assert visitor.post("/page/log-out").headers["location"] == "/page/log-in" and visitor.cookie == ""
    visitor.cookie = stolen
    assert visitor.get("/").status == 303
    secure = Visitor(served.port).log_in(ANNA, PASSWORD, Origin=f"https://127.0.0.1:{served.port}")
    assert secure.headers["set-cookie"].endswith("; Secure")
    assert f"GET / 200 {ANNA}" in served.err and f"POST /page/log-in 303 {ANNA}" in served.err
    assert stolen.partition("=")[2] not in served.err and "page.css" not in served.err


@HTTP
def test_every_answer_forbids_what_others_could_add(served: OurServer) -> None:
    visitor = entered(served)
    for path in (
        "/",
        "/page/task/1",
        "/page/task/99",
        "/page/log-in",
        "/page/page.css",
        "/page/page.js",
        "/page/icon.svg",
    ):
        headers = visitor.get(path).headers
        assert headers["content-security-policy"] == POLICY and headers["x-frame-options"] == "DENY", path
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] in ("no-store", "no-cache")
        assert not [name for name in headers if name.startswith("access-control")] and "server" not in headers
    assert "unsafe" not in POLICY and "default-src 'none'" in POLICY and "*" not in POLICY
    assert visitor.get("/", Host="evil.example").status == 400
    assert visitor.get("/page/log-in", Host="evil.example").status == 400


@HTTP
def test_a_form_of_another_page_is_refused(served: OurServer) -> None:
    evil: list[dict[str, str]] = [
        {"Origin": "http://evil.example"},
        {"Origin": f"http://127.0.0.1:{served.port + 1}"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Origin": f"http://anna@127.0.0.1:{served.port}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none", "Origin": ""},
    ]
    visitor = entered(served)
    for headers in evil:
        assert Visitor(served.port).log_in(ANNA, PASSWORD, **headers).status == 403, headers
        assert visitor.post("/page/log-out", **headers).status == 403, headers
    assert visitor.get("/").status == 200
    assert Visitor(served.port).log_in(ANNA, PASSWORD, Origin="", Sec_Fetch_Site="same-origin").status == 303
    for body, status in ((b"x" * 17_000, 413), (b"a=1&" * 50, 400), (b"\xff", 400), (b"username=%00&password=x", 400)):
        assert visitor.post("/page/log-in", body).status == status, body[:20]
    assert visitor.post("/page/log-in", b"{}", Content_Type="application/json").status == 415
    assert visitor.get("/page/log-out").status == 405


@HTTP
def test_a_log_in_leads_to_pages_of_ours_only(served: OurServer) -> None:
    for to in (
        "http://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/page/log-out",
        "/page/task/1\r\nX: y",
        "x",
        "",
    ):
        assert Visitor(served.port).log_in(ANNA, PASSWORD, to).headers["location"] == "/", to
        assert "evil" not in Visitor(served.port).get(f"/page/log-in?to={quote(to)}").text


@HTTP
def test_a_wrong_password_counts_for_the_api_too(served: OurServer) -> None:
    visitor, texts = Visitor(served.port), set()
    for name in ("nobody", *[BRAM] * MOST_FAILURES):
        failed = visitor.log_in(name, "wrong")
        assert failed.status == 401 and not visitor.cookie
        texts.add(failed.text.replace(name, ""))
    texts.add(visitor.log_in(BRAM, PASSWORD).text.replace(BRAM, ""))
    assert len(texts) == 1 and "wrong name or password" in texts.pop()
    body = {"username": BRAM, "password": PASSWORD}
    assert served.client().ask("POST", "token/user", body, token="").status == 401
    for _ in range(MOST_FAILURES):
        served.client().ask("POST", "token/user", {"username": "viewer", "password": "x"}, token="")
    assert visitor.log_in("viewer", PASSWORD).status == 401 and visitor.log_in(ANNA, PASSWORD).status == 303


@HTTP
def test_a_cookie_is_no_token_and_a_token_no_cookie(served: OurServer) -> None:
    visitor, client = entered(served), served.client()
    client.log_in(ANNA, PASSWORD)
    assert visitor.get("/api/task").status == 401
    assert visitor.get("/api/task", Authorization=f"Bearer {visitor.cookie.partition('=')[2]}").status == 422
    visitor.cookie = f"vserver_{served.port}={client.token}"
    assert visitor.get("/").status == 303
    assert visitor.get("/", Authorization=f"Bearer {client.token}").status == 303


def test_a_new_password_a_deleted_user_and_new_roles_act_at_once(served: OurServer, filled: str) -> None:
    anna, bram, viewer = entered(served, ANNA), entered(served, BRAM), entered(served, "viewer")
    assert bram.get("/page/task/2").status == 404
    script = """
db.User.get_by_username("root").password = "Another-1234!"
anna = db.User.get_by_username("root"); anna.password = "Another-1234!"; anna.save()
bram = db.User.get_by_username("researcher"); bram.roles = "Root"; bram.save()
db.User.get_by_username("viewer").delete()
"""
    assert process.vserver("-d", filled, "shell", "-c", script).status == 0
    assert anna.get("/").status == viewer.get("/").status == 303
    assert bram.get("/page/task/2").status == 200


def test_each_role_sees_what_the_api_shows(served: OurServer) -> None:
    for name in ROLES:
        visitor, client = entered(served, name), served.client()
        client.log_in(name, PASSWORD)
        overview = visitor.get("/").text
        assert ("Secret" in overview) == (name == "root"), name
        assert ("South" in overview) == (name != "none") != ("let you see nothing" in overview), name
        for id in (1, 2):
            page, status = visitor.get(f"/page/task/{id}"), client.ask("GET", f"task/{id}").status
            assert (page.status == 200) == (status == 200), (name, id)
            assert "Secret" not in page.text or name == "root"
            assert ("open log" in page.text) == (id == 1 and name != "none"), (name, id)
        if name in ("root", "researcher"):
            rows = client.ask("GET", "task").body["data"]
            assert {f"/page/task/{row['id']}" for row in rows} == set(re.findall(r'href="(/page/task/\d+)"', overview))


def test_an_open_page_follows_changes_of_the_shell_and_of_the_api(served: OurServer, filled: str) -> None:
    visitor, other = entered(served), entered(served, BRAM)
    overview, task, of_other = visitor.events(), visitor.events("?task=1"), other.events("?big")
    assert [next(each)[0] for each in (overview, task, of_other)] == ["page"] * 3
    finish = "r = db.Result.get({}); r.started_at = r.finished_at = '2026-01-01'; r.save()"
    assert process.vserver("-d", filled, "shell", "-c", finish.format(1)).status == 0
    for stream in (overview, task, of_other):
        assert any("1/2" in data for name, data in stream if name == "page")
    client = served.client()
    client.log_in(ANNA, PASSWORD)
    assert client.ask("DELETE", "task/1").status == 200
    assert any(name == "gone" for name, _ in task)
    assert any("open task" not in data for _, data in of_other)
    visitor.post("/page/log-out")
    assert any(name == "gone" for name, _ in overview)
    assert served.stop() == 0  # with an open stream
    assert "the server was stopped" in served.err


def test_a_form_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vserverlib.serving.browser.FORM_PATIENCE", 0)
    headers = [(b"content-type", FORM.encode())]

    async def silence() -> Any:
        return await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": "/page/log-in", "query_string": b"", "headers": headers}
    with pytest.raises(Refusal) as refused:
        asyncio.run(asyncio.wait_for(_form(HttpRequest(scope, silence)), SECONDS))
    assert refused.value.status == 408 and "seconds" in refused.value.message


# Fifty at once, without a network


@contextlib.contextmanager
def desk(address: str) -> Iterator[Desk]:
    started = Desk(lambda: models.connect(address))
    started.start()
    try:
        yield started
    finally:
        started.end()


def logged_in(sessions: Sessions, desk: Desk, ids: list[int]) -> Any:
    return desk.read(lambda: [sessions.start(id, User.by_id(id).stored_hash("password")) for id in ids])


def save_result(id: int) -> None:
    result = Result.by_id(id)
    result.finished_at = "2026-01-01"
    result.save()


@HTTP
def test_fifty_watchers_cost_one_reading_for_each_change(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vserverlib.serving.live.MAX_OF_USER", 50)

    async def watched(desk: Desk) -> list[int]:
        sessions = Sessions()
        board = Board(desk, sessions)
        live = Live(desk, board, lambda reading, moment, query: f"{reading.figures.overview.organizations}{query}")
        *of_root, of_bram = await logged_in(sessions, desk, [1] * 50 + [3])
        streams = [live.stream(Wanted(each), "") for each in of_root]
        readings, seen = [], []
        for change in (None, 1, 2):
            if change is not None:
                await desk.write(lambda id=change: save_result(id))
            seen.append(set(await asyncio.gather(*(anext(each) for each in streams))))
            readings.append(board.count)
        assert [len(each) for each in seen] == [1, 1, 1] and len(set.union(*seen)) == 3
        with pytest.raises(Refusal, match="50 open pages"):
            live.stream(Wanted(of_root[0]), "")
        live.stream(Wanted(of_bram), "")  # another user
        for each in of_root[1:]:
            sessions.end(each.secret)
        await desk.write(lambda: save_result(3))
        assert await anext(streams[1]) == GONE
        assert [each async for each in streams[1]] == []
        live.stream(Wanted(of_root[0]), "")
        await live.close()
        return readings

    with desk(filled) as opened:
        assert asyncio.run(watched(opened)) == [1, 2, 3]


@HTTP
def test_a_page_is_told_while_the_database_cannot_be_read(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vserverlib.serving.live.AFTER_ERROR", 0.1)

    async def watched(desk: Desk) -> list[str]:
        sessions = Sessions()
        live = Live(desk, Board(desk, sessions), lambda *_: "all")
        stream = live.stream(Wanted(*await logged_in(sessions, desk, [1])), "")
        texts = [await anext(stream)]
        for old, new in ((filled, f"{filled}.moved"), (f"{filled}.moved", filled)):
            Path(old).rename(new)
            texts.append(await anext(stream))
        await live.close()
        return texts

    with desk(filled) as opened:
        assert asyncio.run(asyncio.wait_for(watched(opened), SECONDS)) == [as_event("all"), LOST, as_event("all")]


def test_users_who_may_see_the_same_share_a_reading(filled: str) -> None:
    with contextlib.closing(models.connect(filled)):
        keys = {user.username: key(sight(of_user(user))) for user in User.get()}
    assert keys["researcher"] == keys["viewer"] and keys["root"] == ()
    assert len(set(keys.values())) == 4


@HTTP
def test_a_costly_reading_is_not_repeated_at_once(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(desk: Desk) -> list[tuple[int, bool]]:
        sessions = Sessions()
        board = Board(desk, sessions)
        wanted = Wanted((await logged_in(sessions, desk, [1]))[0])
        found = []
        for pace in (10, 1_000_000_000, 0):
            monkeypatch.setattr("vserverlib.serving.board.PACE", pace)
            await desk.write(lambda: save_result(1))
            each = await desk.read(partial(board.read, wanted))
            found.append((board.count, each.is_stale))
        return found

    with desk(filled) as opened:
        assert asyncio.run(read(opened)) == [(1, False), (1, True), (2, False)]


def test_sessions_end_and_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions()
    first = sessions.start(1, "hash")
    assert sessions.find(first.secret) == first and sessions.find("x") is sessions.find(None) is None
    for _ in range(MAX_SESSIONS):
        last = sessions.start(2, "hash")
    assert sessions.find(first.secret) is None and sessions.find(last.secret) == last
    monkeypatch.setattr("vserverlib.serving.sessions.LIFETIME", -1.0)
    assert sessions.find(sessions.start(3, "hash").secret) is None


# The command


@HTTP
def test_start_opens_its_page(filled: str, tmp_path: Path) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f"#!{sys.executable}\nimport sys\nopen({str(opened)!r}, 'w').write(sys.argv[1])\n")
    browser.chmod(0o700)
    with our_server.running(filled, tmp_path, "--open", BROWSER=str(browser)) as server:
        while not opened.exists() or not opened.read_text():
            assert server.client().ask("GET", "version").status == 200
        assert opened.read_text() == f"http://127.0.0.1:{server.port}/"
        assert f"its page is http://127.0.0.1:{server.port}/\n" in server.err
    with our_server.running(filled, tmp_path, "--open", BROWSER=str(tmp_path / "none")) as server:
        while "no browser was found: open http" not in server.err:
            assert server.client().ask("GET", "version").status == 200
    for path in ("/page", "/page/x", "/socket.io/"):
        done = process.vserver("-d", filled, "start", "--port", "0", "--api-path", path)
        assert done.status == 2 and path in done.err
