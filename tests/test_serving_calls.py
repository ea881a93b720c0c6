"""What calls do to the database: what is refused leaves nothing, what is done is in the journal and can be undone."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import sqlite3
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import our_server, signing
from helpers.our_server import Client, OurServer
from helpers.process import vserver

import models
from vserverlib.serving import task_shapes
from vserverlib.serving.callers import USER
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.routes import LIST, NOBODY, REFUSED, ROUTES, STEPS, Route
from vserverlib.serving.runs import CUT, MAX_LOG

NORTH, SOUTH, EAST = 1, 2, 3
PLAIN, SEALED = 1, 2  # collaborations
INPUT = base64.b64encode(json.dumps({"method": "average"}).encode()).decode()
ENCRYPTED = "a2V5$aXY=$dGV4dA=="
PEM = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n"
ROOT, RESEARCHER = 1, 2


def fill() -> None:
    """Three organizations, in a collaboration without and one with encryption, and a task that nobody posted."""
    for name in ("North", "South", "East"):
        models.Organization(name=name, public_key=PEM).save()
    for name, encrypted in (("plain", False), ("sealed", True)):
        together = models.Collaboration(name=name, encrypted=encrypted)
        together.organizations = models.Organization.get().limit(2)
        together.save()
        for organization in (NORTH, SOUTH):
            models.Node(name=f"{name} {organization}", organization=organization, collaboration=together).save()
    for name, role in (("anna", "root"), ("bram", "researcher")):
        models.User(username=name, roles=role, organization=NORTH, password="Geheim-1234!").save()
    task = models.Task(name="by hand", image="i", initiator=NORTH, collaboration=PLAIN)
    task.save()
    models.Result(task=task, organization=NORTH, input=INPUT).save()


@pytest.fixture
def served(address: str, tmp_path: Path) -> Iterator[Any]:
    with contextlib.closing(models.connect(address)) as database, database.rule_checks(False):
        fill()
    with our_server.running(address, tmp_path, XDG_DATA_HOME=os.environ["XDG_DATA_HOME"]) as server:
        yield server
        assert "Traceback" not in server.err


@pytest.fixture
def root(served: OurServer) -> Client:
    return signing.as_user(served, ROOT)


def posted(client: Client, ids: tuple[int, ...] = (NORTH, SOUTH), **changes: Any) -> Any:
    inputs = [{"id": id, "input": INPUT} for id in ids]
    body = {"name": "t", "image": "i", "collaboration_id": PLAIN, "organizations": inputs} | changes
    return client.ask("POST", "task", {name: value for name, value in body.items() if value is not None})


def rows_of(server: Any, what: str) -> Any:
    return json.loads(vserver("-d", server.address, "list", what, "-o", "json").out)


# Tasks and runs


def test_a_task_that_does_not_fit_is_refused_and_leaves_nothing(served: Any, root: Client) -> None:
    refused: dict[str, dict[str, Any]] = {
        "no member": {"organizations": [{"id": NORTH, "input": INPUT}, {"id": EAST, "input": INPUT}]},
        "nobody": {"organizations": []},
        "twice": {"organizations": [{"id": NORTH, "input": INPUT}] * 2},
        "no id": {"organizations": [{"input": INPUT}]},
        "text as id": {"organizations": [{"id": "1", "input": INPUT}]},
        "unreadable": {"organizations": [{"id": NORTH, "input": ENCRYPTED}]},
        "no base64": {"organizations": [{"id": NORTH, "input": "{}"}]},
        "readable in an encrypted one": {"collaboration_id": SEALED},
        "no image": {"image": None},
        "blank image": {"image": " "},
        "a number as image": {"image": 3},
        "a study": {"study_id": 1},
        "a store": {"store_id": 1},
        "no collaboration": {"collaboration_id": None},
        "databases without a label": {"databases": [{"query": "SELECT 1"}]},
        "databases as text": {"databases": "default"},
        "a NUL": {"name": "a\0b"},
    }
    for name, changes in refused.items():
        answer = posted(root, **changes)
        assert answer.status == 400 and answer.body["msg"], name
    assert posted(root, collaboration_id=999).status == 404
    root.ask("DELETE", "node/2")
    assert "without a node" in posted(root).body["msg"]
    assert [task["name"] for task in rows_of(served, "tasks")] == ["by hand"] and len(rows_of(served, "results")) == 1
    sealed = [{"id": NORTH, "input": ENCRYPTED}]
    assert posted(root, collaboration_id=SEALED, organizations=sealed).status == 201


def test_a_run_goes_from_its_node_to_its_result(served: Any, root: Client) -> None:
    databases = [{"label": "default", "query": "SELECT 1"}, {"label": "b"}]
    task = posted(root, databases=databases).body
    assert task["status"] == "pending" and task["init_user"]["id"] == ROOT and task["job_id"] == 2
    given = [{"label": "default", "parameters": '{"query": "SELECT 1"}'}, {"label": "b", "parameters": "{}"}]
    assert task["databases"] == given
    north, south = signing.as_node(served, 1), signing.as_node(served, 2)
    asked = {"state": "open", "node_id": 1, "include": "task"}
    (run,) = north.ask("GET", "run", query=asked).body["data"]
    assert run["task"]["id"] == task["id"] and "runs" not in run["task"] and run["input"] == INPUT
    path = f"run/{run['id']}"
    assert south.ask("PATCH", path, {"status": "active"}).status == root.ask("PATCH", path, {}).status == 401
    assert north.ask("PATCH", path, {"status": "odd"}).status == 400
    assert north.ask("PATCH", path, {"started_at": "yesterday"}).status == 400
    started = north.ask("PATCH", path, {"started_at": "2026-11-28T10:00:00.5+00:00"}).body
    assert (started["started_at"], started["status"]) == ("2026-11-28T10:00:00.500000", "active")
    assert north.ask("PATCH", path, {"started_at": "2026-11-28T10:00:00.5"}).status == 200  # an answer was lost
    second = north.ask("PATCH", path, {"started_at": "2026-11-28T10:00:00.6", "status": "active"})
    assert second.status == 400 and "one process only" in second.body["msg"]
    token = north.ask("POST", "token/container", {"task_id": task["id"], "image": "i"})
    assert token.status == 200
    assert north.ask("POST", "token/container", {"task_id": task["id"], "image": "j"}).status == 401
    assert north.ask("POST", "token/container", {"task_id": 999, "image": "i"}).status == 400
    north.ask("PATCH", path, {"status": "active"})
    done = {"result": "e30=", "log": "fine", "status": "completed", "finished_at": "2026-11-28T10:00:01+00:00"}
    assert north.ask("PATCH", path, done).body["finished_at"] == "2026-11-28T10:00:01"
    assert north.ask("PATCH", path, done).status == 400
    (result,) = [row for row in root.ask("GET", "result", query={"task_id": task["id"]}).body["data"] if row["result"]]
    assert result["result"] == "e30=" and result["run"]["id"] == run["id"]
    assert north.ask("DELETE", "port", query={"run_id": run["id"]}).status == 200
    assert root.ask("GET", f"task/{task['id']}/status").body == {"status": "pending"}


def test_subtasks_belong_to_their_task(served: Any, root: Client) -> None:
    task = posted(root, (NORTH,)).body
    container = signing.as_container(served, 1, task["id"])
    sub = posted(container, (SOUTH,)).body
    assert (sub["parent"]["id"], sub["job_id"], sub["init_user"]["id"]) == (task["id"], task["job_id"], ROOT)
    assert posted(container, (SOUTH,), image="another").status == 401
    assert posted(container, (SOUTH,), collaboration_id=SEALED).status == 401
    assert posted(container, (SOUTH,), collaboration_id=None).status == 201
    waiting = signing.as_node(served, 2).ask("GET", "run", query={"state": "open", "node_id": 2})
    assert len(waiting.body["data"]) == 2
    assert root.ask("POST", "kill/task", {"id": task["id"]}).status == 200
    statuses = {row["status"] for row in root.ask("GET", "run", query={"per_page": 100}).body["data"] if row["id"] > 1}
    assert statuses == {"killed by user"}
    assert root.ask("GET", "task", query={"is_user_created": 0}).body["data"][0]["parent"]["id"] == task["id"]
    assert root.ask("DELETE", f"task/{task['id']}").status == 200 and len(rows_of(served, "tasks")) == 1


def test_rows_that_were_not_posted_are_never_handed_out_nor_failed(served: Any, root: Client) -> None:
    node = signing.as_node(served, 1)
    assert node.ask("GET", "run").body["data"] == []
    assert node.ask("PATCH", "run/1", {"status": "failed"}).status == 401
    assert node.ask("POST", "token/container", {"task_id": 1, "image": "i"}).status == 401
    assert root.ask("GET", "run/1").body["status"] == "pending"
    assert vserver("-d", served.address, "shell", "-c", TWO_MORE).status == 0
    assert node.ask("GET", "run", query={"state": "open"}).body["data"] == []


TWO_MORE = """
task = db.Task(name="saved", image="i", initiator=1, collaboration=1)
task.save()
db.Result(task=task, organization=1, input="").save()
"""


def test_a_failed_run_ends_those_that_have_not_started(served: Any, root: Client) -> None:
    task = posted(root).body["id"]
    first, second = sorted(row["id"] for row in root.ask("GET", "run", query={"task_id": task}).body["data"])
    node = signing.as_node(served, 1)
    node.ask("PATCH", f"run/{first}", {"started_at": "2026-11-28T10:00:00"})
    crashed = node.ask("PATCH", f"run/{first}", {"status": "crashed", "log": "x" * (MAX_LOG + 10), "result": ""}).body
    assert len(crashed["log"]) == MAX_LOG and crashed["log"].startswith(CUT) and crashed["finished_at"]
    sibling = root.ask("GET", f"run/{second}").body
    assert sibling["status"] == "failed" and "another run" in sibling["log"]
    assert root.ask("GET", f"task/{task}").body["status"] == "failed"
    assert root.ask("POST", "kill/task", {"id": task}).status == 400


def test_a_log_with_many_commas_and_quotes_is_one_value(served: Any, root: Client) -> None:
    posted(root, (NORTH,))
    log = '[{"a": 1, "b\\\\": [2, 3]}]\n' * 20_000
    answer = signing.as_node(served, 1).ask("PATCH", "run/2", {"status": "active", "log": log})
    assert answer.status == 200 and answer.body["log"] == log


def test_the_token_of_a_container_ends_with_its_run(served: Any, root: Client) -> None:
    task, north = posted(root).body["id"], signing.as_node(served, 1)
    mine, others = signing.as_container(served, 1, task), signing.as_container(served, 2, task)
    run = min(row["id"] for row in root.ask("GET", "run", query={"task_id": task}).body["data"])
    north.ask("PATCH", f"run/{run}", {"status": "active"})
    assert mine.ask("GET", "task").status == others.ask("GET", "task").status == 200
    north.ask("PATCH", f"run/{run}", {"status": "completed", "result": "", "log": ""})
    assert mine.ask("GET", "task").status == 401 and others.ask("GET", "task").status == 200
    again = {"task_id": task, "image": "i"}
    assert north.ask("POST", "token/container", again).status == 400
    assert signing.as_node(served, 2).ask("POST", "token/container", again).status == 200


def test_lists_are_filtered_and_paged(served: Any, root: Client) -> None:
    for number in range(1, 4):
        posted(root, name=f"task {number}")
    page = root.ask("GET", "task", query={"name": "task%", "page": 2, "per_page": 2})
    assert [row["name"] for row in page.body["data"]] == ["task 3"]
    assert page.headers["total-count"] == "3" and page.body["links"]["previous"].endswith("page=1&per_page=2")
    assert "next" not in page.body["links"] and page.body["links"]["last"].startswith("/api/task?name=task%25&page=2")
    assert root.ask("GET", "task", query={"page": 9}).body["data"] == []
    for query in ({"page": 0}, {"page": "x"}, {"per_page": -1}, {"page": "1.5"}, {"collaboration_id": "x"}):
        assert root.ask("GET", "task", query=query).status == 400, query
    counts = {
        "init_user_id=1": 3, "init_user_id=2": 0, "job_id=2": 1, "collaboration_id=2": 0, "status=pending": 4,
        "status=completed": 0, "status=failed": 0, "parent_id=1": 0, "created_from=2026-01-01": 4, "image=i": 4,
        "created_till=2026-01-01": 0, "study_id=1": 0, "description=x": 0,
    }  # fmt: skip
    for text, number in counts.items():
        name, _, value = text.partition("=")
        assert int(root.ask("GET", "task", query={name: value}).headers["total-count"]) == number, text
    assert len(root.ask("GET", "run", query={"organization_id": SOUTH, "per_page": 2000}).body["data"]) == 3
    assert len(root.ask("GET", "organization", query={"collaboration_id": PLAIN}).body["data"]) == 2
    assert len(root.ask("GET", "collaboration", query={"encrypted": "true"}).body["data"]) == 1
    assert len(root.ask("GET", "rule", query={"per_page": 2000, "role_id": 5}).body["data"]) == 17
    assert [row["username"] for row in root.ask("GET", "user", query={"role_id": 1}).body["data"]] == ["anna"]
    assert len(root.ask("GET", "role", query={"organization_id": 1, "include_root": True}).body["data"]) == 7
    include = root.ask("GET", "task/2", query={"include": "runs,results"}).body
    assert len(include["runs"]) == len(include["results"]) == 2


def test_a_backslash_in_a_filter_is_a_backslash(served: Any, root: Client) -> None:
    posted(root, name="a\\b")
    for pattern, number in (("a\\b", 1), ("a\\%", 1), ("%\\", 0), ("a\\\\b", 0)):
        assert root.ask("GET", "task", query={"name": pattern}).headers["total-count"] == str(number), pattern


# The journal


def test_what_users_do_is_in_the_journal_and_undone(served: Any, root: Client) -> None:
    assert root.ask("POST", "organization", {"name": "Oslo"}).status == 201
    assert root.ask("PATCH", "organization/4", {"country": "Norway"}).status == 200
    task = posted(signing.as_user(served, RESEARCHER)).body["id"]
    entries = json.loads(vserver("-d", served.address, "log", "-o", "json").out)
    assert {entry["actor"] for entry in entries} >= {"anna (API)", "bram (API)"}
    change = max(entry["change"] for entry in entries if entry["actor"] == "anna (API)")
    assert vserver("-d", served.address, "undo", "--change", str(change), "--yes").status == 0
    assert root.ask("GET", "organization/4").body["country"] is None
    change = max(entry["change"] for entry in entries if entry["actor"] == "bram (API)")
    assert vserver("-d", served.address, "undo", "--change", str(change), "--yes").status == 0
    assert root.ask("GET", f"task/{task}").status == 404
    assert posted(root).status == 201 and root.ask("DELETE", f"task/{task + 1}").status == 200
    assert vserver("-d", served.address, "undo", "--yes").status == 0
    assert root.ask("GET", f"task/{task + 1}").body["init_user"]["id"] == ROOT
    assert len(signing.as_node(served, 1).ask("GET", "run", query={"node_id": 1}).body["data"]) == 1


def test_a_node_cannot_pass_for_a_user_in_the_journal(served: Any, root: Client) -> None:
    assert root.ask("PATCH", "node/1", {"name": "anna"}).status == 200
    assert signing.as_node(served, 1).ask("PATCH", f"organization/{NORTH}", {"country": "Norway"}).status == 200
    last = json.loads(vserver("-d", served.address, "log", "--limit", "1", "-o", "json").out)[0]
    assert last["actor"] == "node anna (API)"


def test_presence_is_not_in_the_journal_and_an_undo_ignores_it(served: Any, root: Client) -> None:
    node = root.ask("POST", "node", {"collaboration_id": PLAIN, "organization_id": NORTH, "name": "x"})
    assert node.status == 400 and "NOD003" in node.body["msg"]
    assert root.ask("DELETE", "node/1").status == 200
    made = root.ask("POST", "node", {"collaboration_id": PLAIN, "name": "new"}).body
    client = served.client()
    client.log_in_node(made["api_key"])
    assert client.ask("GET", f"node/{made['id']}").body["last_seen"] is not None
    entries = json.loads(vserver("-d", served.address, "log", "-o", "json").out)
    assert all("last_seen" not in entry["changes"] for entry in entries if entry["op"] == "update")
    assert vserver("-d", served.address, "undo", "--yes").status == 0
    assert root.ask("GET", f"node/{made['id']}").status == 404


def test_a_refused_change_leaves_nothing_and_says_which_rule(served: Any, root: Client) -> None:
    before = vserver("-d", served.address, "log", "-o", "json").out
    for method, path, body in (
        ("POST", "organization", {"name": "North"}),
        ("POST", "organization", {"name": "12"}),
        ("POST", "organization", {}),
        ("POST", "user", {"username": "1x", "password": "Geheim-1234!"}),
        ("POST", "user", {"username": "eva", "password": "Geheim-1234!", "email": "no"}),
        ("POST", "user", {"username": "eva", "password": "Geheim-1234!", "roles": [3]}),
        ("POST", "user", {"username": "anna", "password": "Geheim-1234!"}),
        ("PATCH", "user/2", {"password": "Geheim-5678!"}),
        ("POST", "collaboration", {"name": "x", "organization_ids": [999]}),
        ("PATCH", "organization/1", {"name": "South"}),
        ("PATCH", "organization/1", {"country": None}),
        ("PATCH", "node/1", {"name": " "}),
        ("GET", "run?task_id=999", None),
        ("GET", "result?task_id=999", None),
        ("GET", "run?node_id=999", None),
        ("GET", "role?name=" + "x" * 300, None),
        ("DELETE", "organization/1?delete_dependents=true", None),
        ("DELETE", "organization/2?delete_dependents=False", None),
        ("DELETE", "organization/2", None),
        ("DELETE", "collaboration/1?delete_dependents=0", None),
        ("DELETE", "collaboration/1/organization", {"id": SOUTH}),
        ("POST", "kill/node/tasks", {"id": 1}),
    ):
        answer = root.ask(method, path, body)
        assert answer.status == 400 and answer.body["msg"], (method, path, body, answer)
    assert vserver("-d", served.address, "log", "-o", "json").out == before
    assert root.ask("DELETE", "organization/2?delete_dependents=True").status == 200
    assert [node["organization_id"] for node in rows_of(served, "nodes")] == [NORTH, NORTH]


def test_the_shell_sees_what_is_done_over_the_api(served: Any, root: Client) -> None:
    root.ask("POST", "organization", {"name": "Oslo"})
    root.ask("POST", "user", {"username": "kari", "password": "Geheim-1234!", "organization_id": 4, "roles": [5, 4]})
    code = "u = db.User.get_by_username('kari'); print(u.roles, u.organization.name, u.check_password('Geheim-1234!'))"
    assert vserver("-d", served.address, "shell", "-c", code).out == "Researcher, Viewer Oslo True\n"


# Nothing is a bug


@pytest.mark.sqlite("which stores any value in any column")
def test_a_row_with_bytes_in_it_does_not_hide_the_others(served: Any, root: Client) -> None:
    task, odd = posted(root).body["id"], "CAST(x'ff00' AS BLOB)"
    changes = [
        f"UPDATE organization SET name = {odd}, public_key = {odd} WHERE id = 3",
        f"UPDATE user SET firstname = {odd}, last_seen = {odd} WHERE id = 2",
        f"UPDATE collaboration SET name = {odd} WHERE id = 2",
        f"UPDATE node SET name = {odd}, ip = {odd} WHERE id = 3",
        f"UPDATE task SET description = {odd}, databases = '{{' WHERE id = {task}",
        "UPDATE task SET databases = '[3]' WHERE id = 1",
        f"UPDATE result SET log = {odd}, input = {odd} WHERE task_id = {task}",
    ]
    with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
        conn.execute("PRAGMA ignore_check_constraints = on")
        for statement in changes:
            conn.execute(statement)
    lists = ("organization", "user", "collaboration", "node", "task", "task?include=runs", "run?include=task", "result")
    for path in (*lists, "organization/3", "node/3", f"task/{task}", "task/1"):
        assert root.ask("GET", path).status == 200, path
    assert "\ufffd" in root.ask("GET", "organization/3").body["name"]


def test_what_json_cannot_say_again_is_refused(served: Any, root: Client) -> None:
    body = {"image": "i", "collaboration_id": PLAIN, "organizations": [{"id": NORTH, "input": INPUT}]}
    for value in ("[" * 900 + "]" * 900, "1e999", "[{}, -1e999]"):
        for name, each in (("databases", {"label": "d"}), ("organizations", {"id": NORTH, "input": INPUT})):
            text = json.dumps({**body, name: [{**each, "more": "MORE"}]}).replace('"MORE"', value)
            assert root.ask_text("POST", "task", text).status == 400, (name, value)
    assert len(root.ask("GET", "task").body["data"]) == 1


def test_a_name_that_an_index_of_postgresql_does_not_take_is_refused(served: Any, root: Client) -> None:
    name = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))  # it cannot be compressed
    answer = posted(root, name=name)
    if "://" in str(served.address):
        assert (
            answer.status == 400
            and "too long for PostgreSQL" in answer.body["msg"]
            and "shorten it" in answer.body["msg"]
        )
    else:
        assert answer.status == 201
    for path, body in (("organization", {"name": name}), ("user", {"username": name, "password": "Geheim-1234!"})):
        assert root.ask("POST", path, body).status == 400, path


def test_a_key_that_bcrypt_would_not_take_is_refused(served: Any) -> None:
    for key in ("-" * 90 + "0" * 32, "urn:uuid:" * 9 + "0" * 32, "0" * 31, ""):
        assert served.client().ask("POST", "token/node", {"api_key": key}, token="").status == 400, key


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)])
def test_no_input_is_a_bug(served: Any, root: Client, every: bool) -> None:
    odd: tuple[Any, ...] = (None, "", "x", -1, 0, 2**63, 10**24, 1.5, True, [], [None], {}, "\ud800", "a\0", "%" * 300)
    ids = ("0", "-1", "x", "1.5", "9" * 24, str(2**63 - 1), str(2**63), "%00", "1%20", "%C3%A9", "+1", "%EF%BC%91")
    texts = (
        "",
        "x",
        "0",
        "-1",
        "1" * 24,
        "%",
        "\0",
        "a" * 300,
        "2026-13-45",
        "9999-12-31T23:59:59-14:00",
        "\x1b[2J",
        "x\\",
    )
    node, nobody = signing.as_node(served, 1), served.client()
    is_file = not served.address.startswith(
        "postgresql"
    )  # PostgreSQL refuses more; test_serving_openapi.py asks a file
    for route in ROUTES[:: 1 if every else 5 if is_file else 3]:
        who = nobody if route.callers == NOBODY else root if USER in route.callers else node
        asked = questions(route, ids, texts, odd)
        found = [(who.ask(route.method, path, body, query).status, path, body, query) for path, body, query in asked]
        worst = max(found, key=lambda each: each[0])
        assert worst[0] < 500 or (worst[0] == 501 and route.kind == REFUSED), worst


def questions(route: Route, ids: Any, texts: Any, odd: Any) -> Iterator[tuple[str, Any, dict[str, str]]]:
    """Yield paths, bodies and queries of a call. Calls that compute a hash are asked less often."""
    for id in ids if "{" in route.path and route.how != STEPS else ("2",):
        yield route.path.replace("{id}", id).replace("{rule_id}", "1"), None, {}
    path = route.path.replace("{id}", "2").replace("{rule_id}", "1")
    for name in (*route.query, *(("page", "per_page") if route.kind == LIST else ())):
        yield from ((path, None, {name: text}) for text in texts)
    for name in route.takes or ():
        yield from ((path, {name: value}, {}) for value in (odd if route.how != STEPS else odd[:3]))
    if route.takes is not None:
        yield from ((path, value, {}) for value in odd)


def test_an_answer_is_not_larger_than_memory(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_shapes, "MAX_ANSWER", 1000)
    for result in story.results:
        result.result = "x" * 600
        result.save()
    query = models.Result.select().order_by(models.Result.id.desc())
    task_shapes.require_small(query.limit(1).offset(1))
    task_shapes.require_small(query.none())
    with pytest.raises(Refusal, match="ask for fewer with per_page"):
        task_shapes.require_small(query.limit(10).offset(0))
