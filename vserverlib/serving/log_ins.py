"""Logging in: tokens of users, nodes and containers; lock-outs after wrong passwords; changing one's password."""

from __future__ import annotations

import datetime
from typing import Any

import models
from models import Node, User
from vserverlib.entities import fields
from vserverlib.serving import callers, presence
from vserverlib.serving.answers import Answer, Links
from vserverlib.serving.callers import NODE, USER
from vserverlib.serving.permissions import names_of
from vserverlib.serving.refusals import Refusal
from vserverlib.serving.requests import TEXT, Field, Request, read
from vserverlib.serving.server import Server
from vserverlib.serving.tables import LOCK_OUT

MOST_FAILURES, LOCKED_FOR = 5, datetime.timedelta(minutes=15)
FAILED = "Failed to login"  # for all reasons alike
LONGEST_NAME = 1000  # characters
CREDENTIALS = {"username": Field(TEXT, needed=True), "password": Field(TEXT, needed=True), "mfa_code": Field(TEXT)}


# Users


async def of_user(request: Request, server: Server) -> Answer:
    """Log a user in with a password. After five failures, refuse all passwords for 15 minutes."""
    given = read(request.fields, CREDENTIALS)
    id, stored = await server.desk.read(lambda: _stored(given["username"]))
    is_right = await server.hashing.matches(given["password"], stored)
    if id is None:
        raise Refusal(401, FAILED)
    caller = await server.desk.write(lambda: _logged_in(id, stored, is_right, request.peer))
    if caller is None:
        raise Refusal(401, FAILED)
    return tokens(request, server, USER, caller)


def _stored(username: str) -> tuple[int | None, str | None]:
    """Return the id of a user, and the hash of the password; no hash if the user is locked out."""
    user = User.first_where(User.username == username)
    if user is None:
        return None, None
    return user.id, None if _is_locked_out(user.id) else user.stored_hash("password")


def _is_locked_out(id: int) -> bool:
    failures, last = _failures(id)
    return failures >= MOST_FAILURES and last is not None and fields.now() - last < LOCKED_FOR


def _failures(id: int) -> tuple[int, datetime.datetime | None]:
    """Return the number of failed log-ins since the last success, and when the last was."""
    query = LOCK_OUT.select(LOCK_OUT.failures, LOCK_OUT.last_at).where(LOCK_OUT.user_id == id)
    row = models.database.execute(query).fetchone()
    return (0, None) if row is None else (row[0], MOMENT.decode(row[1]))


MOMENT = fields.UTCDateTimeField()


def _logged_in(id: int, stored: str | None, is_right: bool, peer: str) -> Any:
    """Note a log-in, and return the caller; None if it failed. The hash that was compared must still be the user's."""
    user = User.by_id(id)
    if user is None:
        return None
    if not is_right or stored != user.stored_hash("password") or _is_locked_out(id):
        if stored is not None:
            _count_failure(id)
        return None
    models.database.execute(LOCK_OUT.delete().where(LOCK_OUT.user_id == id))
    presence.write("user", id, presence.ONLINE, peer)
    return callers.of_user(user)


def _count_failure(id: int) -> None:
    """Count a failed log-in. After a lock-out has ended, the count begins anew."""
    failures, last = _failures(id)
    number = 1 if last is None or failures >= MOST_FAILURES else failures + 1
    models.database.execute(LOCK_OUT.delete().where(LOCK_OUT.user_id == id))
    row = {"user_id": id, "failures": number, "last_at": MOMENT.clean(fields.now())}
    models.database.execute(LOCK_OUT.insert([row]))


def tokens(request: Request, server: Server, kind: str, caller: Any, status: int = 200) -> Answer:
    """Return the tokens of a user or a node."""
    links = Links(request)
    access = server.signer.access(kind, caller.id, names_of(caller.roles))
    value = {
        "access_token": access,
        "refresh_token": server.signer.refresh(kind, caller.id),
        "refresh_url": f"{links.base}/token/refresh",
        f"{kind}_url": f"{links.base}/{kind}/{caller.id}",
    }
    return Answer(value, status, {"jwt-token": access} if request.path.endswith(f"/token/{kind}") else {})


def refresh(request: Request) -> Answer:
    """Return new tokens for a refresh token."""
    caller = request.who
    return tokens(request, request.server, caller.kind, caller)


__all__ = ["NODE", "Node", "of_user", "refresh", "tokens"]
