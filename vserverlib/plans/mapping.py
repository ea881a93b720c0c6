"""The place and the name of our columns in a server's database: the importer's table, read backwards.

A column of ours has one or more there, the newest first: the first that exists is written, and a value that is emptied
is emptied in all of them, because the importer reads the newest that has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from vserverlib import printable
from vserverlib.databases.registry import registry
from vserverlib.entities import fields
from vserverlib.plans.server import Server
from vserverlib.transfer import vantage6

LARGEST = 2**31 - 1  # a server's whole number
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00")
UTC = "+00:00"  # the end of a time of ours: a server's has none
MEMBER = "Member"
ENTITIES = ("organization", "user", "collaboration", "member", "node", "task", "result")  # by their tables here
JOINED = ("user", "node")  # they share their ids with the rows of `authenticatable`
AUTHENTICATABLE = "authenticatable"
HEARTBEAT = ("ip", "last_seen", "status")  # columns of users and nodes that a server writes all the time
SETS = {("user", "roles"), ("task", "database")}  # texts of names, whose order means nothing
KEYCLOAK_FROM = 5  # the release that keeps passwords, keys and persons elsewhere
SINCE_RUN = 4  # the release that calls a result a run

LABELS = {  # words for columns in plans
    "organization_id": "organization",
    "collaboration_id": "collaboration",
    "parent_id": "parent",
    "task_id": "task",
    "initiator_id": "initiator",
    "api_key": "API key",
    "public_key": "public key",
    "last_seen": "last seen",
    "created_at": "created",
    "assigned_at": "assigned",
    "started_at": "started",
    "finished_at": "finished",
}
THEIR_LABELS = {  # since a release
    (4, "run_id"): "job_id",
    (4, "initiator_id"): "init_org",
    (5, "input"): "arguments",
}


class Place(NamedTuple):
    """A column of a server's table."""

    table: str
    column: str


class Unfit(Exception):
    """A value that a server's column does not take; its text says why."""


def table_of(server: Server, entity: str) -> str:
    """Return the server's table for an entity of ours, by its table here."""
    if entity == "member":
        return MEMBER
    return "run" if entity == "result" and server.has("run") else entity


def columns(entity: str) -> tuple[str, ...]:
    """Return our columns of an entity that an import fills, without its id."""
    origin = next(origin for origin in vantage6.ORIGINS if origin.entity == entity)
    return tuple(name for name in origin.columns if name != "id")


def places(server: Server, entity: str, column: str) -> list[Place]:
    """Return where a column of ours is there, the newest first; nothing if it has no place."""
    table = table_of(server, entity)
    parts = (name.rpartition(".") for name in vantage6.NAMES[table][column])
    return [Place(of or table, name) for of, _, name in parts if server.has(of or table, name)]


def written(server: Server, entity: str, column: str, value: Any) -> Iterator[tuple[Place, Any]]:
    """Return where a value of ours is written, and as what. Raises Unfit if the server cannot hold it."""
    found = places(server, entity, column)
    for place in found[:1] if value is not None else found:
        yield place, as_theirs(server, entity, column, value)


def as_theirs(server: Server, entity: str, column: str, value: Any) -> Any:
    """Return a stored value of ours as the server's own rows have it."""
    field = registry[entity]._meta.columns[column]
    if value is None:
        return None
    if isinstance(field, fields.UTCDateTimeField):
        return server.param(_time(value))
    if isinstance(field, fields.BooleanField):
        return server.param(bool(value))
    if isinstance(value, int):
        return server.param(_whole(value))
    if not isinstance(value, str):
        raise Unfit("it is not a text")
    text = _text(value)
    return server.param(text.encode() if isinstance(field, fields.PublicKey) else text)


def _time(value: Any) -> str:
    if not isinstance(value, str) or not TIME.fullmatch(value):
        raise Unfit(f'"{printable(value)}" is not a time')
    return value.removesuffix(UTC)


def _whole(value: int) -> int:
    if abs(value) > LARGEST:
        raise Unfit(f"{value} is too large, the highest is {LARGEST}")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise Unfit("it holds a NUL character, which no server keeps")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit(f'"{printable(value)}" is not UTF-8') from None
    return value


# Words


def noun(release: int, entity: str) -> str:
    """Return a release's word for an entity."""
    return "run" if entity == "result" and release >= SINCE_RUN else str(registry[entity].noun)


def plural(noun: str) -> str:
    """Return the plural of such a noun."""
    return f"{noun}s"


def label(release: int, column: str) -> str:
    """Return a release's word for a column of ours."""
    newest = max((since for since, name in THEIR_LABELS if name == column and since <= release), default=0)
    return THEIR_LABELS[newest, column] if newest else LABELS.get(column, column)


def names(value: Any) -> list[str]:
    """Return the names in a text of names, each once, in their order."""
    found = (name.strip() for name in str(value or "").split(","))
    return list(dict.fromkeys(name for name in found if name))


def is_same(entity: str, column: str, one: Any, other: Any) -> bool:
    """Whether two values of a column mean the same."""
    if (entity, column) in SETS:
        return sorted(names(one)) == sorted(names(other))
    return bool(one == other)
