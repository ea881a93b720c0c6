"""Tokens: JSON web tokens (HS256) of users, nodes and containers, and the secret that signs them.

The secret of each database is in a file of the application's folder, readable by its owner only, never in the
database. The file is locked while a server runs, so a second one on the same database is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt

from vserverlib import Error, files, home
from vserverlib.entities import fields
from vserverlib.serving.callers import CONTAINER, NODE, USER
from vserverlib.serving.refusals import Refusal

ACCESS, REFRESH = "access", "refresh"
ACCESS_HOURS, REFRESH_HOURS = 6, 48  # a node refreshes 10 minutes before the end
RUN_HOURS = 0.1  # `vserver run` posts one task
ALGORITHM = "HS256"
SECRET_BYTES = 32
NEEDED = ["sub", "iat", "nbf", "jti", "type", "client_type", "mark"]
# `sub` is a number or an object, as the clients read it; PyJWT would take only text.
CHECKS = {"require": NEEDED, "verify_sub": False, "verify_aud": False, "verify_iss": False}


class Signer:
    """Signs tokens with a secret, and reads them back."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def access(self, kind: str, id: int, mark: str, roles: tuple[str, ...] = ()) -> str:
        """Return an access token of a user or a node. mark: see callers.py."""
        return self._signed(kind, ACCESS, id, mark, roles, ACCESS_HOURS)

    def refresh(self, kind: str, id: int, mark: str) -> str:
        """Return a refresh token of a user or a node."""
        return self._signed(kind, REFRESH, id, mark, (), REFRESH_HOURS)

    def run(self, user_id: int, mark: str, by: str) -> str:
        """Return the token with which `vserver run` posts a task for a user. by: whom the journal names beside."""
        return self._signed(USER, ACCESS, user_id, mark, (), RUN_HOURS, via=f"vserver run by {by}")

    def container(self, subject: Mapping[str, Any], mark: str) -> str:
        """Return the token of a container. It has no expiry: it ends with its run."""
        return self._signed(CONTAINER, ACCESS, dict(subject), mark, ("container",), None)

    def _signed(
        self, kind: str, type: str, subject: Any, mark: str, roles: tuple[str, ...], hours: float | None, **more: str
    ) -> str:
        now = int(time.time())
        claims = {
            "sub": subject,
            "mark": mark,
            "client_type": kind,
            "type": type,
            "iat": now,
            "nbf": now,
            "jti": str(uuid.uuid4()),
            "fresh": False,
            "csrf": str(uuid.uuid4()),
            "roles": list(roles),
            **more,
        }
        if hours is not None:
            claims["exp"] = now + int(hours * 3600)
        return jwt.encode(claims, self.secret, ALGORITHM)

    def read(self, token: str, type: str = ACCESS) -> dict[str, Any]:
        """Return the claims of a token. A 401 for one that has expired, a 422 for one that is not ours or of this type.

        Whether its user, node or run is still the same is for callers.py to say.
        """
        try:
            claims: dict[str, Any] = jwt.decode(token, self.secret, [ALGORITHM], options=CHECKS)  # type: ignore[arg-type]
        except jwt.ExpiredSignatureError:
            raise Refusal(401, "Token has expired") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
            raise Refusal(422, "Signature verification failed") from None
        if claims["type"] != type:
            raise Refusal(422, f"Only {type} tokens are allowed")
        if claims["client_type"] not in (USER, NODE, CONTAINER) or not _is_whole(claims):
            raise Refusal(422, "Signature verification failed")
        return claims


def _is_whole(claims: Mapping[str, Any]) -> bool:
    """Whether subject and mark are of the right type, and all but containers' tokens have an expiry."""
    subject = claims["sub"]
    if not isinstance(claims["mark"], str):
        return False
    if claims["client_type"] == CONTAINER:
        return isinstance(subject, dict)
    return isinstance(subject, int) and not isinstance(subject, bool) and "exp" in claims


# The secret


def identity(database: Any) -> str:
    """Return what tells a database from others: its place, and the salt that it was created with. One query."""
    key_salt = fields.key_salt(database)
    place = (
        os.path.realpath(getattr(database, "source", None) or database.file) if database.is_sqlite else database.title
    )
    return hashlib.sha256(f"{place}\n{key_salt}".encode(errors="surrogateescape")).hexdigest()[:32]


@contextlib.contextmanager
def locked_secret(title: str, identity: str) -> Iterator[bytes]:
    """Give the secret of a database, which is created if there is none, and lock its file within this block.

    Raises an Error if another server has it locked, or if the file cannot be read.
    """
    with files.as_error("the secret of the server has no place, without VSERVER_HOME"):
        folder = home.folder()
    unkept = f"the secret of the server cannot be kept in {folder}, set VSERVER_HOME to another folder"
    with files.as_error(unkept):
        path = home.own_file(folder / f"server-{identity}.key")
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _lock(descriptor, title)
        with files.as_error(unkept):
            secret = _read_or_create(descriptor, path)
        yield secret
    finally:
        os.close(descriptor)


def _lock(descriptor: int, title: str) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise served_already(title) from None


def served_already(title: str) -> Error:
    """Return the error for a database that another server has."""
    return Error(f"{title} is served already: end that server first, or serve another database")


def _read_or_create(descriptor: int, path: Path) -> bytes:
    found = os.read(descriptor, 1000)
    if not found:
        found = secrets.token_hex(SECRET_BYTES).encode()
        os.write(descriptor, found)
        os.fsync(descriptor)
    if len(found) != 2 * SECRET_BYTES:
        raise Error(f"{path} is damaged: remove it; all users and nodes then have to log in again")
    return found


def new_secret() -> bytes:
    """Return a secret for a server that keeps none."""
    return secrets.token_hex(SECRET_BYTES).encode()
