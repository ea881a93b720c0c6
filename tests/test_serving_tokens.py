"""Tokens: signing and reading them, which are refused; logging in, locking out, and changing passwords."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bcrypt
import jwt
import pytest
from helpers import our_server, signing
from helpers.our_server import Client, OurServer
from helpers.process import vserver

import models
from vserverlib.databases import storage
from vserverlib.serving import callers, hashing_room, log_ins, starting
from vserverlib.serving.callers import CONTAINER, NODE, USER
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.requests import Request
from vserverlib.serving.server import Server
from vserverlib.serving.tokens import ACCESS, REFRESH, Signer, new_secret

SECRET = b"0" * 64
SIGNER = Signer(SECRET)
PASSWORD, OTHER = "Geheim-1234!", "Anders-5678!"
KEY, FOREIGN_KEY = str(uuid.uuid4()), str(uuid.uuid4())
CLAIMS = {"sub", "client_type", "type", "iat", "nbf", "exp", "jti", "roles", "fresh", "csrf", "mark"}


def forged(secret: bytes = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """Return an access token of user 1 with other claims; None leaves one out."""
    claims = jwt.decode(SIGNER.access(USER, 1, "mark"), options={"verify_signature": False}) | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm)


def status_of(token: str, type: str = ACCESS) -> int:
    try:
        SIGNER.read(token, type)
    except Refusal as refusal:
        return refusal.status
    return 200


def test_tokens_have_the_claims_that_clients_read() -> None:
    claims = SIGNER.read(SIGNER.access(USER, 7, "mark", ("Root",)))
    assert claims.keys() == CLAIMS and claims["sub"] == 7 and claims["roles"] == ["Root"]
    assert claims["exp"] - claims["iat"] == 6 * 3600 and claims["client_type"] == USER and claims["type"] == ACCESS
    claims = SIGNER.read(SIGNER.refresh(NODE, 3, "mark"), REFRESH)
    assert claims["exp"] - claims["iat"] == 48 * 3600 and claims["client_type"] == NODE
    claims = SIGNER.read(SIGNER.container({"task_id": 2}, "mark"))
    assert "exp" not in claims and claims["sub"] == {"task_id": 2} and claims["client_type"] == CONTAINER
    assert SIGNER.access(USER, 7, "mark") != SIGNER.access(USER, 7, "mark")


def test_a_token_that_is_not_ours_or_of_another_type_is_refused() -> None:
    now = int(time.time())
    assert status_of(forged()) == 200
    assert status_of(forged(exp=now - 1)) == 401
    assert status_of(SIGNER.refresh(USER, 1, "mark")) == status_of(SIGNER.access(USER, 1, "mark"), REFRESH) == 422
    odd = {
        "another secret": forged(new_secret()),
        "another algorithm": forged(b"0" * 64, "HS512"),
        "no signature": forged(algorithm="none", secret=None),  # type: ignore[arg-type]
        "not yet valid": forged(nbf=now + 3600),
        "no expiry": forged(exp=None),
        "a text as expiry": forged(exp="never"),
        "no type": forged(type=None),
        "an unknown kind": forged(client_type="root"),
        "no kind": forged(client_type=None),
        "a list as kind": forged(client_type=["user"]),
        "a text as subject": forged(sub="1"),
        "a flag as subject": forged(sub=True),
        "an object as subject of a user": forged(sub={"task_id": 1}),
        "a number as subject of a container": forged(client_type=CONTAINER),
        "no subject": forged(sub=None),
        "no mark": forged(mark=None),
        "a number as mark": forged(mark=1),
        "a cut one": forged()[:-3],
        "three dots": "..",
        "nothing": "x",
        "another alphabet": "é.é.é",
    }
    assert {name: status_of(token) for name, token in odd.items()} == dict.fromkeys(odd, 422)


# A server


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with users, nodes and a task over the API; hashes with the fewest rounds."""
    path = storage.create(tmp_path_factory.mktemp("tokens") / "vserver.db", bcrypt.gensalt(4).decode())
    with contextlib.closing(models.connect(path)) as database, database.rule_checks(False):
        north = models.Organization(name="North")
        north.save()
        together = models.Collaboration(name="study", encrypted=False)
        together.organizations = [north]
        together.save()
        quick = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        for name in ("anna", "bram", "cleo", "dirk"):
            models.User(username=name, password=quick, roles="Root", organization=north).save()
        models.User(username="never", organization=north).save()
        models.Node(name="ours", organization=north, collaboration=together, api_key=KEY).save()
        foreign = bcrypt.hashpw(FOREIGN_KEY.encode(), bcrypt.gensalt(4)).decode()
        models.Node(name="theirs", organization=north, collaboration=together, api_key=foreign).save()
        task = models.Task(name="t", image="i", initiator=north, collaboration=together)
        task.save()
        models.Result(task=task, organization=north, input="").save()
        database.execute_sql("UPDATE task SET init_user_id = 1, databases = '[]'")
    return path


@pytest.fixture
def served(filled: Path, tmp_path: Path) -> Iterator[OurServer]:
    path = tmp_path / "vserver.db"
    path.write_bytes(filled.read_bytes())
    with our_server.running(path, tmp_path, XDG_DATA_HOME=str(Path.home() / "data")) as server:
        yield server


def logged_in(server: OurServer, name: str, password: str = PASSWORD) -> int:
    return server.client().ask("POST", "token/user", {"username": name, "password": password}).status


def test_a_token_ends_with_what_it_is_of(served: Any) -> None:
    user, node = signing.as_user(served, 2), signing.as_node(served, 2)
    container = signing.as_container(served, 1, 1)
    assert user.ask("GET", "user/2").status == node.ask("GET", "node/2").status == 200
    assert container.ask("GET", "task/1").status == 200
    other = signing.as_container(served, 1, 999)
    assert other.ask("GET", "task/1").status == signing.as_container(served, 999, 1).ask("GET", "task/1").status == 401
    root = signing.as_user(served, 1)
    assert root.ask("DELETE", "user/2").status == root.ask("DELETE", "node/2").status == 200
    assert user.ask("GET", "user/2").status == node.ask("GET", "node/2").status == 401
    assert root.ask("POST", "kill/task", {"id": 1}).status == 200
    assert container.ask("GET", "task/1").status == 401
    refresh = signing.with_token(served, signing.refresh(signing.signer(), served.address, USER, 2))
    assert refresh.ask("POST", "token/refresh").status == 401
    assert served.client().ask("GET", "user/1").status == 401
    assert signing.as_user(served, 2**70).ask("GET", "user/1").status == 401


def test_rights_are_read_anew_at_each_request(served: Any) -> None:
    client = signing.as_user(served, 2)
    assert client.ask("POST", "organization", {"name": "Oslo"}).status == 201
    with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
        conn.execute("UPDATE user SET roles = 'viewer' WHERE id = 2")
    assert client.ask("POST", "organization", {"name": "Lyon"}).status == 401
    assert client.ask("GET", "organization/1").status == 200


def test_a_log_in_gives_tokens_and_a_refresh_gives_new_ones(served: Any) -> None:
    client = served.client()
    answer = client.log_in("anna", PASSWORD)
    assert answer.headers["jwt-token"] == answer.body["access_token"] and answer.body["user_url"] == "/api/user/1"
    assert client.ask("POST", "token/refresh", token=client.token).status == 422
    fresh = client.ask("POST", "token/refresh", token=client.refresh_token)
    assert fresh.status == 200 and "jwt-token" not in fresh.headers
    assert client.ask("GET", "user/1", token=fresh.body["access_token"]).body["username"] == "anna"
    node = served.client()
    assert node.log_in_node(KEY).body["node_url"] == "/api/node/1"
    assert node.ask("GET", "node/1").body["last_seen"] is not None
    assert served.client().ask("POST", "token/node", {"api_key": str(uuid.uuid4())}).status == 401
    assert served.client().ask("POST", "token/node", {"api_key": "no-uuid"}).status == 400
    for name, password in (("nobody", PASSWORD), ("never", PASSWORD), ("anna", ""), ("anna", "x" * 100), ("", "")):
        assert logged_in(served, name, password) == 401, name
    assert logged_in(served, "anna\x00") == 400


def test_a_key_that_another_server_hashed_is_found_and_hashed_anew(served: Any) -> None:
    assert served.client().log_in_node(FOREIGN_KEY).body["node_url"] == "/api/node/2"
    with contextlib.closing(sqlite3.connect(served.address)) as conn:
        ours, theirs = (hash for (hash,) in conn.execute("SELECT api_key FROM node ORDER BY id"))
    assert ours[:29] == theirs[:29]
    assert served.client().log_in_node(FOREIGN_KEY).body["node_url"] == "/api/node/2"


def test_a_key_that_is_replaced_during_a_log_in_stays_replaced(story: Any) -> None:
    before = bcrypt.hashpw(FOREIGN_KEY.encode(), bcrypt.gensalt(4)).decode()
    story.node.api_key = KEY
    story.node.save()
    assert log_ins._rehashed(story.node.id, before, before) is None
    assert models.Node.by_id(story.node.id).check_key(KEY)


def test_searches_for_a_key_wait_for_each_other_and_leave_a_thread_for_log_ins() -> None:
    async def searches() -> None:
        room, now = hashing_room.HashingRoom(), 0

        async def search() -> None:
            nonlocal now
            async with room.search():
                now += 1
                assert now == 1
                await room.matches("key", None)
                now -= 1

        done = await asyncio.gather(*(search() for _ in range(hashing_room.MAX_SEARCHES + 3)), return_exceptions=True)
        refused = [each for each in done if each is not None]
        assert len(refused) == 3 and all(isinstance(each, Refusal) and each.status == 429 for each in refused)
        await search()
        room.end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing_room, "DUMMY", bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode())
        asyncio.run(searches())


# Commands, and what they print of a user who is locked out.
LOCKED_OUT = {
    ("show", "user", "anna"): r"log-in +locked out until \d\d:\d\d UTC: 5 wrong passwords, the last at",
    ("overview",): "\nlocked out after wrong passwords: anna\n",
    ("overview", "-o", "json"): r'"locked_out": \[\s*{\s*"id": 1,\s*"username": "anna"',
    ("check", "--rule", "USR007"): "USR007 info.*(\n.*)*unlock anna",
}


def test_five_wrong_passwords_lock_a_user_out_until_unlock(served: Any) -> None:
    assert [logged_in(served, "anna", "wrong") for _ in range(4)] == [401] * 4
    assert logged_in(served, "anna") == 200  # which forgets the four
    assert [logged_in(served, "anna", "wrong") for _ in range(5)] == [401] * 5
    answer = served.client().ask("POST", "token/user", {"username": "anna", "password": PASSWORD})
    assert answer.status == 401 and answer.body == {"msg": "Failed to login"}
    assert logged_in(served, "bram") == 200
    shown = {words: vserver("-d", served.address, *words).out for words in LOCKED_OUT}
    assert all(re.search(text, shown[words]) for words, text in LOCKED_OUT.items()), shown
    done = vserver("-d", served.address, "unlock", "anna")
    assert done.status == 0 and "can log in again" in done.err and logged_in(served, "anna") == 200
    assert [logged_in(served, "cleo", "wrong") for _ in range(5)] == [401] * 5 and logged_in(served, "cleo") == 401
    with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
        conn.execute("UPDATE lock_out SET last_at = datetime('now', '-16 minutes') || '.000000+00:00'")
    assert logged_in(served, "cleo", "wrong") == 401
    assert re.search("log-in +1 wrong password, the last at", vserver("-d", served.address, "show", "user", "cleo").out)
    assert logged_in(served, "cleo") == 200
    assert [logged_in(served, "dirk", "wrong") for _ in range(5)] == [401] * 5
    assert vserver("-d", served.address, "passwd", "dirk", "--stdin", given=OTHER).status == 0
    assert logged_in(served, "dirk", OTHER) == 200
    assert "lock_out" not in vserver("-d", served.address, "log").out


@pytest.mark.long
def test_guesses_at_once_do_not_get_around_the_lock_out(served: Any) -> None:
    slow = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(11)).decode()
    with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
        conn.execute("UPDATE user SET password = ? WHERE id = 1", [slow])
    clients = [served.client() for _ in range(12)]
    for number, client in enumerate(clients, 1):  # all are read before the first hash is computed; the last is right
        body = {"username": "anna", "password": PASSWORD if number == len(clients) else "wrong"}
        headers = {"Content-Type": "application/json"}
        client._connection.request("POST", "/api/token/user", json.dumps(body), headers)
    assert [client._connection.getresponse().status for client in clients] == [401] * len(clients)


def test_a_password_is_changed_by_those_who_know_it(served: Any) -> None:
    client = served.client()
    client.log_in("anna", PASSWORD)

    def change(current: str, new: str) -> Any:
        return client.ask("PATCH", "password/change", {"current_password": current, "new_password": new})

    weak = change(PASSWORD, "weak")
    assert weak.status == 400 and list(weak.body["errors"]) == ["new_password"]
    long = change(PASSWORD, "Aa1!" + "x" * 80)
    assert long.status == 400 and "84 bytes" in str(long.body["errors"]) and "weak" not in str(long.body["errors"])
    assert change("wrong", OTHER).status == 401
    assert change(PASSWORD, OTHER).status == 200
    assert logged_in(served, "anna") == 401 and logged_in(served, "anna", OTHER) == 200
    log = vserver("-d", served.address, "log").out
    assert "anna (API)" in log and OTHER not in log and "changed, not shown" in log
    assert [change("wrong", PASSWORD).status for _ in range(5)] == [401] * 5 and change(OTHER, PASSWORD).status == 401


def test_who_calls_is_read_anew_after_a_hash(story: Any, address: str) -> None:
    """Calls that hash for 0.3 seconds take several transactions: meanwhile another user may get the id."""
    models.User(username="anna", organization=story.iknl, roles="Root").save()
    options = starting.Options("127.0.0.1", 0, "/api", is_demo=True)  # without a secret in a file

    async def call(server: Server) -> str:
        anna = await server.desk.read(lambda: callers.of_user(models.User.get_by_username("anna")))
        request = Request("POST", "/api/user", {}, [], None, anna, {"client_type": USER, "sub": 1, "mark": anna.mark})
        assert await server.write(request, lambda: request.who.name) == "anna"
        await server.desk.write(lambda: models.User.update(roles="Viewer").where(models.User.id == 1).execute())
        assert await server.write(request, lambda: request.who.roles[0].name) == "Viewer"
        await server.desk.write(lambda: models.User.update(username="another").where(models.User.id == 1).execute())
        with pytest.raises(Refusal) as refused:
            await server.write(request, lambda: pytest.fail("another user's request"))
        return f"{refused.value.status}"

    with starting.running(lambda: models.connect(address), options) as server:
        assert asyncio.run(call(server)) == "401"


@pytest.mark.long
def test_many_log_ins_at_once_are_answered_or_put_off_and_reading_goes_on(served: Any) -> None:
    slow = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(9)).decode()
    with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
        conn.execute("UPDATE user SET password = ? WHERE id = 1", [slow])
    clients = [Client(served.port) for _ in range(100)]
    ask = {"username": "anna", "password": PASSWORD}
    with ThreadPoolExecutor(100) as threads:
        asked = [threads.submit(client.ask, "POST", "token/user", ask) for client in clients]
        reader = signing.as_user(served, 2)
        assert reader.ask("GET", "user/2").status == 200
        found = [each.result() for each in asked]
    assert {answer.status for answer in found} <= {200, 429} and [a.status for a in found].count(200) >= 50
    assert all("again" in answer.body["msg"] for answer in found if answer.status == 429)
    for client in clients:
        client.close()
