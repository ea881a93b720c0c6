"""Every call, asked by every role and kind of caller, about its own, its partners' and foreign rows.

Two collaborations: 1 of North and South, 2 of South and East. The callers are of North, so South is a partner and East
is foreign. The expected answers follow from the table of permissions and the scopes of each row.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import bcrypt
import pytest
from helpers import our_server, signing
from helpers.our_server import Client, OurServer

import models
from vserverlib.databases import storage
from vserverlib.entities.roles import USER_ROLES
from vserverlib.serving import permissions
from vserverlib.serving.callers import CONTAINER, NODE, USER
from vserverlib.serving.routes import LIST, NOBODY, REFRESH, REFUSED, ROUTES, Route

NORTH, SOUTH, EAST = 1, 2, 3
CALLERS = (*USER_ROLES, "unknown")  # user 1, 2, ... of North
G, C, O, W = permissions.GLOBAL, permissions.COLLABORATION, permissions.ORGANIZATION, permissions.OWN  # noqa: E741
MEMBERS = {1: (NORTH, SOUTH), 2: (SOUTH, EAST)}
PASSWORD = bcrypt.hashpw(b"Geheim-1234!", bcrypt.gensalt(4)).decode()
POSTER = 1 + CALLERS.index("Researcher")  # who has posted task 1

# By resource: the scopes that each row is in, for a caller of North, by id.
ROWS: dict[str, dict[int, set[str]]] = {
    "organization": {NORTH: {G, C, O}, SOUTH: {G, C}, EAST: {G}},
    "collaboration": {1: {G, C, O}, 2: {G}},
    "node": {1: {G, C, O}, 2: {G, C}, 3: {G}, 4: {G}},
    "user": {**{id: {G, C, O} for id in range(1, len(CALLERS) + 1)}, 101: {G, C}, 102: {G}},
    "task": {1: {G, C, O}, 2: {G, C}, 3: {G}},
    "run": {1: {G, C, O}, 2: {G, C}, 3: {G, C, O}, 4: {G}},
}
LISTS = {"organization": "organization", "collaboration": "collaboration", "node": "node", "user": "user"}
LISTS |= {"task": "task", "run": "run", "result": "run"}  # the resource of each list


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurServer]:
    folder = tmp_path_factory.mktemp("permissions")
    path = storage.create(folder / "vserver.db", bcrypt.gensalt(4).decode())
    with contextlib.closing(models.connect(path)) as database, database.rule_checks(False):
        _fill()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        with our_server.running(path, folder, XDG_DATA_HOME=str(folder / "data")) as server:
            server.signer = signing.signer()  # type: ignore[attr-defined]
            yield server


def _fill() -> None:
    hospitals = [models.Organization(name=name) for name in ("North", "South", "East")]
    for each in hospitals:
        each.save()
    for id, members in MEMBERS.items():
        together = models.Collaboration(name=f"study {id}", encrypted=False)
        together.organizations = [hospitals[member - 1] for member in members]
        together.save()
        for member in members:
            models.Node(name=f"node {id}.{member}", organization=member, collaboration=id).save()
    for role in CALLERS:
        name = role.replace(" ", ".")
        models.User(username=name, roles=role, organization=NORTH, password=PASSWORD).save()
    for id, organization in ((101, SOUTH), (102, EAST)):
        models.User(id=id, username=f"u{id}", organization=organization).save(force_insert=True)
    for initiator, collaboration, asked in ((NORTH, 1, (NORTH, SOUTH)), (SOUTH, 1, (NORTH,)), (EAST, 2, (EAST,))):
        task = models.Task(name="t", image="i", initiator=initiator, collaboration=collaboration)
        task.save()
        for organization in asked:
            models.Result(task=task, organization=organization, input="").save()
    models.database.execute_sql("UPDATE task SET init_user_id = ?, databases = '[]' WHERE id = 1", [POSTER])


def client_of(server: Any, kind: str, id: int) -> Client:
    if kind == CONTAINER:
        return signing.with_token(server, signing.container(server.signer, server.address, 1, 1))
    return signing.with_token(server, signing.access(server.signer, server.address, kind, id))


def caller_of(server: Any, role: str) -> Client:
    """Return a user of North with a role, or the node or container of North."""
    if role in (NODE, CONTAINER):
        return client_of(server, role, 1)
    return client_of(server, USER, 1 + CALLERS.index(role))


def scopes(role: str, resource: str, operation: str) -> set[str]:
    """Return the scopes in which a role may do something."""
    known = permissions.roles().get(role)
    return {right[2] for right in (known.rights if known else ()) if right[:2] == (resource, operation)}


def is_in(role: str, resource: str, id: int, found: set[str]) -> set[str]:
    """Return the scopes that a row is in, for a caller of North: also `own`."""
    own = {
        "user": role in CALLERS and id == 1 + CALLERS.index(role),
        "task": role == "Researcher" and id == 1,
        "run": role == "Researcher" and id in (1, 2),
    }
    return found | ({W} if own.get(resource) else set())


def allowed(role: str, resource: str, operation: str, id: int) -> bool:
    return bool(scopes(role, resource, operation) & is_in(role, resource, id, ROWS[resource][id]))


ALL = (*CALLERS, NODE, CONTAINER)


def kind_of(role: str) -> str:
    return role if role in (NODE, CONTAINER) else USER


# What is listed and shown


@pytest.mark.parametrize("role", ALL)
def test_a_list_has_the_rows_that_the_role_may_see(served: OurServer, role: str) -> None:
    client = caller_of(served, role)
    for path, resource in LISTS.items():
        answer = client.ask("GET", path, query={"per_page": 100})
        expected = {id for id in ROWS[resource] if allowed(role, resource, "view", id)}
        route = next(each for each in ROUTES if (each.method, each.path) == ("GET", path))
        if kind_of(role) not in route.callers or not scopes(role, resource, "view"):
            assert answer.status == 401, path
            continue
        if resource == "run" and role == NODE:
            expected &= {1, 2}  # those of tasks that were posted over the API
        assert {row["id"] for row in answer.body["data"]} == expected, path


@pytest.mark.parametrize("role", ALL)
def test_a_row_is_shown_to_those_who_may_see_it(served: OurServer, role: str) -> None:
    client = caller_of(served, role)
    for path, resource in LISTS.items():
        for id in ROWS[resource]:
            status = client.ask("GET", f"{path}/{id}").status
            route = next(each for each in ROUTES if (each.method, each.path) == ("GET", f"{path}/{{id}}"))
            may = kind_of(role) in route.callers and allowed(role, resource, "view", id)
            assert status == (200 if may else 401), (path, id)
    for id in ROWS["task"]:
        status = client.ask("GET", f"task/{id}/status").status
        assert status == (200 if allowed(role, "task", "view", id) else 401), id


# What is changed. The bodies and queries change nothing when they are allowed: 200 or 400 in place of 401.

EDITS = {"organization": "organization", "collaboration": "collaboration", "node": "node", "user": "user"}


@pytest.mark.parametrize("role", ALL)
def test_a_row_is_changed_by_those_who_may(served: OurServer, role: str) -> None:
    client = caller_of(served, role)
    for path, resource in EDITS.items():
        for id in ROWS[resource]:
            edited = client.ask("PATCH", f"{path}/{id}", {}).status
            deleted = client.ask("DELETE", f"{path}/{id}", query={"delete_dependents": "neither"}).status
            for method, operation, status, done in (("PATCH", "edit", edited, 200), ("DELETE", "delete", deleted, 400)):
                route = next(each for each in ROUTES if (each.method, each.path) == (method, f"{path}/{{id}}"))
                may = kind_of(role) in route.callers and allowed(role, resource, operation, id)
                assert status == (done if may else 401), (method, path, id)


@pytest.mark.parametrize("role", ALL)
def test_members_are_changed_by_those_who_may_edit_the_collaboration(served: OurServer, role: str) -> None:
    client = caller_of(served, role)
    for id in ROWS["collaboration"]:
        may = kind_of(role) == USER and allowed(role, "collaboration", "edit", id)
        for method in ("POST", "DELETE"):
            assert client.ask(method, f"collaboration/{id}/organization", {"id": 999}).status == (404 if may else 401)


@pytest.mark.parametrize("role", ALL)
def test_rows_are_created_by_those_who_may(served: OurServer, role: str) -> None:
    client, is_user = caller_of(served, role), kind_of(role) == USER
    is_root = is_user and scopes(role, "organization", "create") == {G}
    assert client.ask("POST", "organization", {"name": "North"}).status == (400 if is_root else 401)
    is_root = is_user and scopes(role, "collaboration", "create") == {G}
    taken = {"name": "study 1", "organization_ids": [NORTH]}
    assert client.ask("POST", "collaboration", taken).status == (400 if is_root else 401)
    for organization, found in ROWS["organization"].items():
        user = {"username": "Root", "password": "Geheim-1234!", "organization_id": organization}
        may = is_user and bool(scopes(role, "user", "create") & found)
        assert client.ask("POST", "user", user).status == (400 if may else 401), organization
    for collaboration, members in MEMBERS.items():
        for organization in members:
            node = {"collaboration_id": collaboration, "organization_id": organization}
            here = {G} | ({C} if collaboration == 1 else set()) | ({O} if organization == NORTH else set())
            may = is_user and bool(scopes(role, "node", "create") & here)
            assert client.ask("POST", "node", node).status == (400 if may else 401), node


@pytest.mark.parametrize("role", ALL)
def test_tasks_are_posted_by_those_who_may(served: OurServer, role: str) -> None:
    client = caller_of(served, role)
    for collaboration, found in ROWS["collaboration"].items():
        task = {"image": "i", "collaboration_id": collaboration, "organizations": [{"id": 999}]}
        may = bool(scopes(role, "task", "create") & found) or (role == CONTAINER and collaboration == 1)
        assert client.ask("POST", "task", task).status == (400 if may else 401), collaboration


@pytest.mark.parametrize("role", ALL)
def test_tasks_are_deleted_by_those_who_may(served: Any, role: str) -> None:
    client = caller_of(served, role)
    for id, initiator, collaboration in ((1, NORTH, 1), (2, SOUTH, 1), (3, EAST, 2)):
        with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
            sql = "INSERT INTO task (name, image, initiator_id, collaboration_id) VALUES ('x', 'i', ?, ?) RETURNING id"
            (copy,) = conn.execute(sql, [initiator, collaboration]).fetchone()
        found = ROWS["task"][id]
        may = kind_of(role) == USER and bool(scopes(role, "task", "delete") & found)
        assert client.ask("DELETE", f"task/{copy}").status == (200 if may else 401), id
        with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
            conn.execute("DELETE FROM task WHERE id = ?", [copy])


@pytest.mark.parametrize("role", ALL)
def test_tasks_and_nodes_are_killed_by_those_who_may(served: Any, role: str) -> None:
    client, may_send = caller_of(served, role), scopes(role, "event", "send")
    for id, initiator, collaboration in ((1, NORTH, 1), (2, SOUTH, 1), (3, EAST, 2)):
        with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
            sql = "INSERT INTO task (name, image, initiator_id, collaboration_id) VALUES ('x', 'i', ?, ?) RETURNING id"
            (without_runs,) = conn.execute(sql, [initiator, collaboration]).fetchone()
        may = kind_of(role) == USER and bool(may_send & ROWS["task"][id])
        assert client.ask("POST", "kill/task", {"id": without_runs}).status == (400 if may else 401), id
        with contextlib.closing(sqlite3.connect(served.address)) as conn, conn:
            conn.execute("DELETE FROM task WHERE id = ?", [without_runs])
    for id, found in ROWS["node"].items():
        may = kind_of(role) == USER and bool(may_send & found)
        assert client.ask("POST", "kill/node/tasks", {"id": id}).status == (400 if may else 401), id  # not online


# Kinds of callers


def path_of(route: Route) -> str:
    return route.path.replace("{id}", "1").replace("{rule_id}", "1")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_call_is_for_its_kinds_of_callers_and_needs_a_token(served: Any, route: Route) -> None:
    body = {} if route.takes is not None else None
    without = served.client().ask(route.method, path_of(route), body)
    assert (without.status == 401) == (route.callers != NOBODY), without
    for kind in {USER, NODE, CONTAINER} - set(route.callers or (USER, NODE, CONTAINER)):
        answer = client_of(served, kind, 1).ask(route.method, path_of(route), body)
        expected = (401, 422) if route.kind == REFRESH else (401,)  # an access token in place of a refresh token
        assert answer.status in expected, (kind, answer)
    if route.kind == REFUSED:
        answer = client_of(served, USER, 1).ask(route.method, path_of(route), {})
        assert answer.status == 501 and answer.body["msg"].count(".") <= 1


def test_every_list_has_pages_and_every_other_call_has_none() -> None:
    listed = {route.path for route in ROUTES if route.kind == LIST}
    assert listed == {*LISTS, "role", "rule", "study", "algorithmstore", "port"}


# Giving rights


@pytest.mark.parametrize("role", CALLERS)
def test_nobody_gives_more_than_they_have(served: OurServer, role: str) -> None:
    client, mine = caller_of(served, role), permissions.roles().get(role)
    for name in USER_ROLES:
        given = permissions.roles()[name]
        user = {"username": "Root", "password": "Geheim-1234!", "organization_id": NORTH, "roles": [given.id]}
        may = mine is not None and bool(scopes(role, "user", "create")) and given.rights <= mine.rights
        assert client.ask("POST", "user", user).status == (400 if may else 401), name


def test_nobody_changes_their_own_roles_or_takes_those_of_a_mightier_one(served: OurServer) -> None:
    root, admin = caller_of(served, "Root"), caller_of(served, "Organization Admin")
    assert root.ask("PATCH", "user/1", {"roles": [4]}).status == 401
    assert admin.ask("PATCH", "user/1", {"roles": []}).status == 401
    viewer, unknown = 1 + CALLERS.index("Viewer"), 1 + CALLERS.index("unknown")
    assert admin.ask("PATCH", f"user/{unknown}", {"roles": [permissions.roles()["Viewer"].id]}).status == 200
    assert root.ask("GET", "role", query={"user_id": unknown}).body["data"][0]["name"] == "Viewer"
    assert viewer != unknown and admin.ask("PATCH", f"user/{unknown}", {"roles": []}).status == 200


def test_only_its_own_users_and_nodes_change_a_public_key(served: OurServer) -> None:
    key = {"public_key": "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUlJCi0tLS0tRU5EIFBVQkxJQyBLRVktLS0tLQo="}
    root, node = caller_of(served, "Root"), caller_of(served, NODE)
    assert root.ask("PATCH", f"organization/{SOUTH}", key).status == 401
    assert node.ask("PATCH", f"organization/{SOUTH}", key).status == 401
    assert node.ask("PATCH", f"organization/{NORTH}", key).body["public_key"] == key["public_key"]


def test_a_user_moves_to_another_organization_only_by_root(served: OurServer) -> None:
    admin, root = caller_of(served, "Organization Admin"), caller_of(served, "Root")
    viewer = 1 + CALLERS.index("Viewer")
    assert admin.ask("PATCH", f"user/{viewer}", {"organization_id": SOUTH}).status == 401
    assert root.ask("PATCH", f"user/{viewer}", {"organization_id": 999}).status == 400


def test_the_members_of_a_foreign_collaboration_are_not_told(served: OurServer) -> None:
    foreign = [id for id, members in MEMBERS.items() if NORTH not in members]
    for role, is_seen in (("Researcher", False), ("Organization Admin", False), ("Root", True)):
        client = caller_of(served, role)
        for id, members in MEMBERS.items():
            found = client.ask("GET", "organization", query={"collaboration_id": id}).body["data"]
            assert bool(found) == (is_seen or id not in foreign), (role, id, members)
    assert foreign


def test_a_taken_address_does_not_say_whose_it_is(served: OurServer) -> None:
    root, admin = caller_of(served, "Root"), caller_of(served, "Organization Admin")
    assert root.ask("PATCH", "user/102", {"email": "east@example.org"}).status == 200
    viewer = 1 + CALLERS.index("Viewer")
    new = {"username": "nina", "password": "Geheim-1234!", "email": "east@example.org"}
    for answer in (admin.ask("POST", "user", new), admin.ask("PATCH", f"user/{viewer}", {"email": new["email"]})):
        assert answer.status == 400 and "is taken" in answer.body["msg"] and "102" not in answer.body["msg"]
    assert root.ask("PATCH", "user/102", {"email": "east@example.org"}).status == 200  # its own


def test_there_are_86_rules_and_the_seven_default_roles() -> None:
    assert len(permissions.rules()) == 86 and len(permissions.roles()) == 7
    assert {rule.right for rule in permissions.rules()} == permissions.roles()["Root"].rights
