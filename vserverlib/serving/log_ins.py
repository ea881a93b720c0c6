"""Logging in: tokens of users, nodes and containers; lock-outs after wrong passwords; changing one's password."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

import models
from models import Node, Task, User
from vserverlib.entities import lock_outs
from vserverlib.serving import callers, posted, presence, rows, states, users
from vserverlib.serving.answers import Answer, Links, message
from vserverlib.serving.callers import CONTAINER, NODE, USER, Caller
from vserverlib.serving.permissions import names_of
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.requests import ID, TEXT, Field, Request, read
from vserverlib.serving.server import Server

LONGEST_UUID = 45  # characters: urn:uuid: and 36 more
FAILED = "Failed to login"  # for all reasons alike
CREDENTIALS = {
    "username": Field(TEXT, needed=True),
    "password": Field(TEXT, needed=True),
    "mfa_code": Field(TEXT, nullable=True),
}
KEY = {"api_key": Field(TEXT, needed=True)}
OF_CONTAINER = {"task_id": Field(ID, needed=True), "image": Field(TEXT, needed=True)}
PASSWORDS = {"current_password": Field(TEXT, needed=True), "new_password": Field(TEXT, needed=True)}


def _tokens(request: Request, caller: Caller, header: bool = True) -> Answer:
    """Return the tokens of a user or a node. header: with the access token in a header, as at a log-in."""
    base, signer = Links(request).base, request.server.signer
    access = signer.access(caller.kind, caller.id, caller.mark, names_of(caller.roles))
    value = {
        "access_token": access,
        "refresh_token": signer.refresh(caller.kind, caller.id, caller.mark),
        "refresh_url": f"{base}/token/refresh",
        f"{caller.kind}_url": f"{base}/{caller.kind}/{caller.id}",
    }
    return Answer(value, 200, {"jwt-token": access} if header else {})


def refresh(request: Request) -> Answer:
    """Return new tokens for a refresh token."""
    return _tokens(request, request.who, header=False)


# Users


async def of_user(request: Request, server: Server) -> Answer:
    """Log a user in with a password. After five failures, refuse all passwords for 15 minutes."""
    request.caller, _ = await identified(request, server, request.fields)
    return _tokens(request, request.caller)


async def identified(request: Request, server: Server, fields: Mapping[str, Any]) -> tuple[Caller, str]:
    """Return the user of a name and a password, and the hash of that. A 401 if they are wrong, which counts."""
    given = read(fields, CREDENTIALS)
    id, stored = await server.desk.read(lambda: _stored(given["username"]))
    request.tried = "" if id is None else given["username"]
    is_right = await server.hashing.matches(given["password"], stored)
    caller = await server.write(request, lambda: _logged_in(id, stored, is_right))
    if caller is None or stored is None:
        raise Refusal(401, FAILED)
    return caller, stored


def _stored(username: str) -> tuple[int | None, str | None]:
    """Return the id of a user, and the hash of the password; no hash if the user is locked out."""
    user = User.first_where(User.username == username)
    if user is None:
        return None, None
    return user.id, None if lock_outs.is_locked_out(user.id) else user.stored_hash("password")


def _logged_in(id: int | None, stored: str | None, is_right: bool) -> Caller | None:
    """Note a log-in, and return the caller; None if it failed. The hash that was compared must still be the user's."""
    user = None if id is None else User.by_id(id)
    if user is None or stored is None:
        lock_outs.write_nothing()
        return None
    if not is_right or stored != user.stored_hash("password") or lock_outs.is_locked_out(user.id):
        lock_outs.count(user.id)
        return None
    lock_outs.lift(user.id)
    presence.write(USER, user.id)
    return callers.of_user(user)


async def change_password(request: Request, server: Server) -> Answer:
    """Change one's own password. A wrong current one counts as a failed log-in."""
    given, caller = read(request.fields, PASSWORDS), request.who
    users.refuse_weak("new_password", given["new_password"])
    id, stored = await server.desk.read(lambda: _stored(rows.by_id(User, caller.id, 401).username))
    is_right = await server.hashing.matches(given["current_password"], stored)
    if await server.write(request, lambda: _logged_in(id, stored, is_right)) is None:
        raise Refusal(401, "Your current password is not correct")
    hashed = await server.hashing.make_hash(given["new_password"])
    return await server.write(request, lambda: _with_password(caller.id, hashed))


def _with_password(id: int, hashed: str) -> Answer:
    user = rows.by_id(User, id)
    user.password = hashed
    user.save()
    return message("The password has been changed")


# Nodes


async def of_node(request: Request, server: Server) -> Answer:
    """Log a node in with its API key: one hash, however many nodes there are."""
    key = read(request.fields, KEY)["api_key"]
    if not _is_uuid(key):
        raise Refusal(400, "an API key is a UUID")
    salt = await server.key_salt()
    hashed = await server.hashing.make_hash(key, salt)
    caller = await server.desk.write(lambda: _node_of(Node.first_where(Node.api_key == hashed)))
    caller = caller or await _of_foreign_hash(server, key, salt, hashed)
    if caller is None:
        raise Refusal(401, FAILED)
    request.caller = caller
    return _tokens(request, caller)


def _is_uuid(key: str) -> bool:
    """Whether a text is a UUID. uuid alone takes texts with any number of hyphens, too long for bcrypt."""
    try:
        return len(key) <= LONGEST_UUID and uuid.UUID(key).int >= 0
    except ValueError:
        return False


def _node_of(node: Any) -> Caller | None:
    """Note the log-in of a node, and return it as a caller; None without one."""
    if node is None:
        return None
    presence.write(NODE, node.id)
    return callers.of_node(node)


async def _of_foreign_hash(server: Server, key: str, salt: str, hashed: str) -> Caller | None:
    """Find a node whose key another server has hashed, with a salt of its own, and hash it with ours."""
    async with server.hashing.search():
        for id, stored in await server.desk.read(lambda: _foreign_hashes(salt)):
            if await server.hashing.matches(key, stored):
                return await server.desk.write(partial(_rehashed, id, stored, hashed))
    return None


def _foreign_hashes(salt: str) -> list[tuple[int, str]]:
    foreign = ~Node.api_key.startswith(salt) & Node.api_key.is_null(False)
    return [(node.id, node.stored_hash("api_key")) for node in Node.select().where(foreign).order_by(Node.id)]


def _rehashed(id: int, stored: str, hashed: str) -> Caller | None:
    """Note the log-in of a node, and store the hash of its key; None if it has another key meanwhile."""
    node = Node.by_id(id)
    if node is None or node.stored_hash("api_key") != stored:
        return None
    node.api_key = hashed
    with models.database.rule_checks(False):  # the key is the same
        node.save()
    return _node_of(node)


# Containers


def of_container(request: Request) -> Answer:
    """Return a token for a container of a task, to its node. It ends with the run of that node."""
    given, caller = read(request.fields, OF_CONTAINER), request.who
    task = rows.by_id(Task, given["task_id"], 400)
    if task.collaboration_id != caller.only_collaboration or given["image"] != task.image:
        raise Refusal(401, "the image or the collaboration is not that of the task")
    more, runs = posted.of_task(task.id), states.runs_at(task.id, caller.organization_id)
    if more.init_user_id is None or not runs:
        raise Refusal(401, f"task {task.id} has no run for this node")
    if states.has_ended(runs):
        raise Refusal(400, f"the run of task {task.id} for this node has ended already")
    subject = {
        "client_type": CONTAINER,
        "node_id": caller.id,
        "organization_id": caller.organization_id,
        "collaboration_id": caller.only_collaboration,
        "study_id": None,
        "store_id": None,
        "task_id": task.id,
        "image": task.image,
        "databases": [{"label": each["label"], **each["parameters"]} for each in posted.databases_of(task, more)],
    }
    mark = callers.mark_of_container(rows.by_id(Node, caller.id), task)
    return Answer({"container_token": request.server.signer.container(subject, mark)})
