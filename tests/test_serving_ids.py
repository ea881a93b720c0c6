"""A token is never another's: of whoever gets the id of its user, node or task, however that comes about."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from helpers import our_server, signing
from helpers.our_server import Client, OurServer
from helpers.process import vserver

import models

PASSWORD = "Geheim-1234!"
TOKENS = ("user", "node", "container", "refresh")


@pytest.fixture
def served(address: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OurServer]:
    if "://" in address:  # pg_dump and pg_restore
        request.getfixturevalue("programs")
    with contextlib.closing(models.connect(address)) as database, database.rule_checks(False):
        north = models.Organization(name="North")
        north.save()
        models.Collaboration(name="study", encrypted=False, organizations=[north]).save()
        quick = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        models.User(username="root", password=quick, roles="Root", organization=north).save()
    data = str(Path.home() / "data")
    with our_server.running(address, tmp_path, XDG_DATA_HOME=data) as server:
        yield server
        assert "Traceback" not in server.err


def run(server: OurServer, *words: str | Path, given: str = "") -> str:
    done = vserver("-d", str(server.address), *words, given=given)
    assert done.status == 0, done
    return done.out


def newcomers(server: OurServer, name: str) -> dict[str, int]:
    """Have the first user create a user, a node and a task over the API, and return their ids."""
    root = signing.as_user(server, 1)
    user = {"username": name, "password": PASSWORD, "organization_id": 1, "roles": [1]}
    task = {"name": "t", "image": "i", "collaboration_id": 1, "organizations": [{"id": 1, "input": ""}]}
    asked = {"user": user, "node": {"collaboration_id": 1, "name": name}, "task": task}
    answers = {kind: root.ask("POST", kind, body) for kind, body in asked.items()}
    assert {answer.status for answer in answers.values()} == {201}, answers
    return {kind: answer.body["id"] for kind, answer in answers.items()}


def clients(server: OurServer, name: str, ids: dict[str, int]) -> dict[str, Client]:
    """Return clients with tokens of a user who has logged in, a node, and a container of a task."""
    found = {
        "user": server.client(),
        "node": signing.as_node(server, ids["node"]),
        "container": signing.as_container(server, ids["node"], ids["task"]),
    }
    found["user"].log_in(name, PASSWORD)
    return found | {"refresh": signing.with_token(server, found["user"].refresh_token)}


def statuses(asking: dict[str, Client]) -> dict[str, int]:
    """Return the status that each token gives."""
    found = {kind: asking[kind].ask("GET", "organization/1").status for kind in TOKENS[:3]}
    return found | {"refresh": asking["refresh"].ask("POST", "token/refresh").status}


ALIVE, ENDED = dict.fromkeys(TOKENS, 200), dict.fromkeys(TOKENS, 401)


def test_after_a_restore_an_old_token_is_nobodys(served: OurServer, tmp_path: Path) -> None:
    run(served, "backup", tmp_path / "empty.bak")
    first = newcomers(served, "eve")
    old = clients(served, "eve", first)
    assert statuses(old) == ALIVE
    run(served, "restore", tmp_path / "empty.bak", "--yes")
    assert statuses(old) == ENDED
    second = newcomers(served, "bob")
    assert all(second[kind] > first[kind] for kind in first)
    assert statuses(old) == ENDED and statuses(clients(served, "bob", second)) == ALIVE
    ended = run(served, "list", "users", "-o", "json")
    assert [user["username"] for user in json.loads(ended)] == ["root", "bob"]


def test_a_row_that_is_written_with_an_old_id_does_not_get_the_old_tokens(served: OurServer, tmp_path: Path) -> None:
    first = newcomers(served, "eve")
    old = clients(served, "eve", first)
    run(served, "delete", "task", str(first["task"]), "--dependents", "--yes")
    run(served, "delete", "node", str(first["node"]), "--yes")
    run(served, "delete", "user", str(first["user"]), "--yes")
    code = (
        f'db.User(id={first["user"]}, username="bob", organization=1, roles="Root").save()\n'
        f'db.Node(id={first["node"]}, name="eve", organization=1, collaboration=1).save()\n'
        f'db.Task(id={first["task"]}, name="t", image="i", initiator=1, collaboration=1).save()\n'
        f"db.Result(task={first['task']}, organization=1).save()\n"
    )
    run(served, "shell", "-c", code)
    assert statuses(old) == ENDED


def test_another_users_name_or_another_key_ends_the_tokens(served: OurServer) -> None:
    old = clients(served, "eve", newcomers(served, "eve"))
    root = signing.as_user(served, 1)
    assert root.ask("PATCH", "user/2", {"firstname": "Eve"}).status == 200
    assert root.ask("PATCH", "node/1", {"name": "another"}).status == 200
    assert statuses(old) == ALIVE
    assert root.ask("PATCH", "user/2", {"username": "eva"}).status == 200
    run(served, "apikey", "1")
    assert statuses(old) == ENDED


@pytest.mark.parametrize("is_empty", [False, True])
def test_after_an_import_of_another_consortium_all_have_to_log_in_again(
    served: OurServer, tmp_path: Path, is_empty: bool
) -> None:
    ids = newcomers(served, "eve")
    old = clients(served, "eve", ids)
    others = tmp_path / "others.json"
    run(served, "export", others, "--force")
    if is_empty:
        for entity in ("task", "node", "user", "collaboration", "organization"):
            run(served, "delete", entity, "--where", "id>0", "--dependents", "--yes")
    run(served, "import", *([] if is_empty else ["--replace", "--yes"]), others)
    with contextlib.closing(models.connect(str(served.address))) as database, database.rule_checks(False):
        assert models.User.by_id(ids["user"]).username == "eve"
    assert statuses(old) == ENDED
    root = signing.as_user(served, 1)
    assert root.ask("DELETE", f"node/{ids['node']}").status == 200
    node = root.ask("POST", "node", {"collaboration_id": 1, "name": "new"}).body
    assert served.client().log_in_node(node["api_key"]).body["node_url"] == f"/api/node/{node['id']}"
