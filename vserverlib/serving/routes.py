"""The table of all calls: the application, the OpenAPI document, docs/server.md and the tests read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from vserverlib.serving import (
    collaborations,
    kills,
    log_ins,
    nodes,
    organizations,
    others,
    roles,
    runs,
    tasks,
    users,
)
from vserverlib.serving.callers import CONTAINER, NODE, USER
from vserverlib.serving.permissions import CREATE, DELETE, EDIT, SEND, VIEW
from vserverlib.serving.requests import Shape

NOBODY, ANYBODY, USERS, NODES = (), (USER, NODE, CONTAINER), (USER,), (NODE,)
READ, WRITE, STEPS = "read", "write", "steps"  # how the desk runs a function
LIST, REFRESH, REFUSED, LARGE = "list", "refresh", "refused", "large"
DEPENDENTS = ("delete_dependents",)
SEEN = ("last_seen_from", "last_seen_till")


class Route(NamedTuple):
    """A call. path: after the API's path, with {id} for an id.

    how: READ and WRITE are one transaction; STEPS is a coroutine. callers: the kinds of tokens that may call it;
    NOBODY: it needs no token. right: (resource, operation) that the caller needs in some scope; for which rows, the
    function says. takes: the fields of the body. query: names of the query. kind: LIST has pages, REFRESH takes a
    refresh token, REFUSED is not supported, LARGE takes bodies with inputs or results.
    """

    method: str
    path: str
    function: Callable[..., Any]
    how: str = READ
    callers: tuple[str, ...] = ANYBODY
    right: tuple[str, str] | None = None
    takes: Shape | None = None
    query: tuple[str, ...] = ()
    kind: str = ""

    @property
    def summary(self) -> str:
        """Its description, in one sentence."""
        return (self.function.__doc__ or "").partition("\n")[0]


LOG_INS = (
    Route("POST", "token/user", log_ins.of_user, STEPS, NOBODY, takes=log_ins.CREDENTIALS),
    Route("POST", "token/node", log_ins.of_node, STEPS, NOBODY, takes=log_ins.KEY),
    Route("POST", "token/refresh", log_ins.refresh, READ, (USER, NODE), kind=REFRESH),
    Route("POST", "token/container", log_ins.of_container, READ, NODES, takes=log_ins.OF_CONTAINER),
    Route("PATCH", "password/change", log_ins.change_password, STEPS, USERS, takes=log_ins.PASSWORDS),
)

ORGANIZATIONS = (
    Route(
        "GET", "organization", organizations.list_, READ, ANYBODY, ("organization", VIEW),
        query=("name", "country", "collaboration_id", "study_id"), kind=LIST,
    ),
    Route("GET", "organization/{id}", organizations.get, READ, ANYBODY, ("organization", VIEW)),
    Route("POST", "organization", organizations.create, WRITE, USERS, ("organization", CREATE), organizations.NEW),
    Route(
        "PATCH", "organization/{id}", organizations.update, WRITE, (USER, NODE), ("organization", EDIT),
        organizations.SHAPE,
    ),
    Route(
        "DELETE", "organization/{id}", organizations.delete, WRITE, USERS, ("organization", DELETE), query=DEPENDENTS
    ),
)  # fmt: skip

COLLABORATIONS = (
    Route(
        "GET", "collaboration", collaborations.list_, READ, ANYBODY, ("collaboration", VIEW),
        query=("name", "encrypted", "organization_id", "algorithm_store_id"), kind=LIST,
    ),
    Route("GET", "collaboration/{id}", collaborations.get, READ, ANYBODY, ("collaboration", VIEW)),
    Route("POST", "collaboration", collaborations.create, WRITE, USERS, ("collaboration", CREATE), collaborations.NEW),
    Route(
        "PATCH", "collaboration/{id}", collaborations.update, WRITE, USERS, ("collaboration", EDIT),
        collaborations.SHAPE,
    ),
    Route(
        "DELETE", "collaboration/{id}", collaborations.delete, WRITE, USERS, ("collaboration", DELETE),
        query=DEPENDENTS,
    ),
    Route(
        "POST", "collaboration/{id}/organization", collaborations.add_organization, WRITE, USERS,
        ("collaboration", EDIT), collaborations.ONE,
    ),
    Route(
        "DELETE", "collaboration/{id}/organization", collaborations.remove_organization, WRITE, USERS,
        ("collaboration", EDIT), collaborations.ONE,
    ),
)  # fmt: skip

NODES_AND_USERS = (
    Route(
        "GET", "node", nodes.list_, READ, ANYBODY, ("node", VIEW),
        query=("name", "organization_id", "collaboration_id", "status", "ip", *SEEN), kind=LIST,
    ),
    Route("GET", "node/{id}", nodes.get, READ, ANYBODY, ("node", VIEW)),
    Route("POST", "node", nodes.create, STEPS, USERS, ("node", CREATE), nodes.NEW),
    Route("PATCH", "node/{id}", nodes.update, WRITE, (USER, NODE), ("node", EDIT), nodes.SHAPE),
    Route("DELETE", "node/{id}", nodes.delete, WRITE, USERS, ("node", DELETE)),
    Route(
        "GET", "user", users.list_, READ, USERS, ("user", VIEW),
        query=(*users.TEXTS, "organization_id", "collaboration_id", "role_id", "rule_id", *SEEN), kind=LIST,
    ),
    Route("GET", "user/{id}", users.get, READ, USERS, ("user", VIEW)),
    Route("POST", "user", users.create, STEPS, USERS, ("user", CREATE), users.NEW),
    Route("PATCH", "user/{id}", users.update, WRITE, USERS, ("user", EDIT), users.SHAPE),
    Route("DELETE", "user/{id}", users.delete, WRITE, USERS, ("user", DELETE), query=DEPENDENTS),
)  # fmt: skip

ROLES = (
    Route(
        "GET", "role", roles.list_, READ, USERS, ("role", VIEW),
        query=("name", "organization_id", "include_root", "user_id", "rule_id"), kind=LIST,
    ),
    Route("GET", "role/{id}", roles.get, READ, USERS, ("role", VIEW)),
    Route(
        "GET", "rule", roles.list_rules, READ, USERS,
        query=("name", "operation", "scope", "role_id", "user_id"), kind=LIST,
    ),
    Route("GET", "rule/{id}", roles.get_rule, READ, USERS),
)  # fmt: skip

TASKS = (
    Route(
        "GET", "task", tasks.list_, READ, ANYBODY, ("task", VIEW),
        query=(
            "name", "image", "description", "database", "status", "collaboration_id", "init_org_id", "init_user_id",
            "parent_id", "job_id", "study_id", "store_id", "is_user_created", "include", "created_from", "created_till",
        ),
        kind=LIST,
    ),
    Route("GET", "task/{id}", tasks.get, READ, ANYBODY, ("task", VIEW), query=("include",)),
    Route("GET", "task/{id}/status", tasks.status, READ, ANYBODY, ("task", VIEW)),
    Route("POST", "task", tasks.create, WRITE, (USER, CONTAINER), takes=tasks.NEW, kind=LARGE),
    Route("DELETE", "task/{id}", tasks.delete, WRITE, USERS, ("task", DELETE)),
    Route("POST", "kill/task", kills.kill_task, WRITE, USERS, ("event", SEND), kills.ONE),
    Route("POST", "kill/node/tasks", kills.kill_node_tasks, WRITE, USERS, ("event", SEND), kills.ONE),
    Route(
        "GET", "run", runs.list_, READ, ANYBODY, ("run", VIEW),
        query=(
            "task_id", "organization_id", "node_id", "state", "status", "log", "include", "assigned_from",
            "assigned_till", "started_from", "started_till", "finished_from", "finished_till",
        ),
        kind=LIST,
    ),
    Route("GET", "run/{id}", runs.get, READ, ANYBODY, ("run", VIEW), query=("include",)),
    Route("PATCH", "run/{id}", runs.update, WRITE, NODES, takes=runs.PATCH, kind=LARGE),
    Route(
        "GET", "result", runs.list_results, READ, ANYBODY, ("run", VIEW),
        query=("task_id", "organization_id", "node_id"), kind=LIST,
    ),
    Route("GET", "result/{id}", runs.get_result, READ, ANYBODY, ("run", VIEW)),
)  # fmt: skip

OTHERS = (
    Route("GET", "version", others.version, READ, NOBODY),
    Route("GET", "health", others.health, READ, NOBODY),
    Route("GET", "blobstream/status", others.blob_status),
    Route("GET", "study", others.nothing, kind=LIST),
    Route("GET", "study/{id}", others.no_such),
    Route("GET", "algorithmstore", others.nothing, kind=LIST),
    Route("GET", "algorithmstore/{id}", others.no_such),
    Route("GET", "port", others.nothing, kind=LIST),
    Route("DELETE", "port", others.ports_deleted, callers=NODES, query=("run_id",)),
)

REFUSED_CALLS = tuple(
    Route(method, path, others.unsupported, callers=NOBODY if path.startswith("recover") else ANYBODY, kind=REFUSED)
    for method, path in (
        ("POST", "role"),
        ("PATCH", "role/{id}"),
        ("DELETE", "role/{id}"),
        ("POST", "role/{id}/rule/{rule_id}"),
        ("DELETE", "role/{id}/rule/{rule_id}"),
        ("POST", "study"),
        ("PATCH", "study/{id}"),
        ("DELETE", "study/{id}"),
        ("POST", "study/{id}/organization"),
        ("DELETE", "study/{id}/organization"),
        ("POST", "algorithmstore"),
        ("PATCH", "algorithmstore/{id}"),
        ("DELETE", "algorithmstore/{id}"),
        ("POST", "recover/lost"),
        ("POST", "recover/reset"),
        ("POST", "recover/node"),
        ("POST", "recover/2fa/lost"),
        ("POST", "recover/2fa/reset"),
        ("GET", "vpn"),
        ("POST", "vpn/update"),
        ("GET", "vpn/algorithm/addresses"),
        ("POST", "port"),
        ("POST", "blobstream"),
        ("GET", "blobstream/{id}"),
        ("DELETE", "blobstream/{id}"),
    )
)

ROUTES: tuple[Route, ...] = (
    *LOG_INS,
    *ORGANIZATIONS,
    *COLLABORATIONS,
    *NODES_AND_USERS,
    *ROLES,
    *TASKS,
    *OTHERS,
    *REFUSED_CALLS,
)
