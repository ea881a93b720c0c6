"""Map our columns to columns of a server's database: the reverse of the importer's mapping.

A column of ours may have several columns on the server, the newest first. The first that exists is written. NULL is
written to all of them, because the importer reads the newest one that has a value.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

from vserverlib import printable
from vserverlib.databases.registry import registry
from vserverlib.entities import fields
from vserverlib.plans.server import Server
from vserverlib.transfer import vantage6

LARGEST = 2**31 - 1  # of a server's INTEGER column
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00")
UTC = "+00:00"  # the suffix of our times; a server's have none
MEMBER = "Member"
ENTITIES = (
    "organization",
    "user",
    "collaboration",
    "member",
    "node",
    "task",
    "result",
)  # by our tables, in the order of plans
TABLES = ("role", "Permission")  # of every server, beside those of entities
AUTHENTICATED = ("user", "node")  # they share their ids with rows of `authenticatable`
AUTHENTICATABLE = "authenticatable"
HEARTBEAT = ("ip", "last_seen", "status")  # columns of users and nodes that a server updates all the time
NAME_LISTS = {("user", "roles"), ("task", "database")}  # comma-separated names, in any order
KEYCLOAK_FROM = 5  # the release that moved accounts to Keycloak
SINCE_RUN = 4  # the release that calls a result a run

LABELS = {  # names of columns in plans
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
RELEASE_LABELS = {  # of servers since a release
    (4, "run_id"): "job_id",
    (4, "initiator_id"): "init_org",
    (5, "input"): "arguments",
}


class Place(NamedTuple):
    """A column of a server's table."""

    table: str
    column: str


class InvalidValue(Exception):
    """A value that a server's column cannot hold; the text says why."""


def table_of(server: Server, entity: str) -> str:
    """Return the server's table for one of our tables."""
    if entity == "member":
        return MEMBER
    return "run" if entity == "result" and server.has("run") else entity


def missing_table(release: int, tables: Container[str]) -> str:
    """Return a table that every server of a release has, but this one lacks; "" if it has all."""
    result = "run" if release >= SINCE_RUN else "result"
    names = (MEMBER if name == "member" else result if name == "result" else name for name in ENTITIES)
    return next((name for name in (*names, AUTHENTICATABLE, *TABLES) if name not in tables), "")


def columns(entity: str) -> tuple[str, ...]:
    """Return the columns of an entity that an import fills, without the id."""
    origin = next(origin for origin in vantage6.ORIGINS if origin.entity == entity)
    return tuple(name for name in origin.columns if name != "id")


def places(server: Server, entity: str, column: str) -> list[Place]:
    """Return the server's columns for a column of ours, the newest first; an empty list if there are none."""
    table = table_of(server, entity)
    parts = (name.rpartition(".") for name in vantage6.NAMES[table][column])
    return [Place(of or table, name) for of, _, name in parts if server.has(of or table, name)]


def server_values(server: Server, entity: str, column: str, value: Any) -> Iterator[tuple[Place, Any]]:
    """Return the server's columns and values to write for a value of ours. Raises InvalidValue."""
    found = places(server, entity, column)
    for place in found[:1] if value is not None else found:
        yield place, server_value(server, entity, column, value)


def server_value(server: Server, entity: str, column: str, value: Any) -> Any:
    """Return a stored value of ours as the server stores it. Raises InvalidValue if it cannot."""
    field = registry[entity]._meta.columns[column]
    if value is None:
        return None
    if isinstance(field, fields.UTCDateTimeField):
        return server.param(_time(value))
    if isinstance(field, fields.BooleanField):
        return server.param(bool(value))
    if isinstance(value, int):
        return server.param(_integer(value))
    if not isinstance(value, str):
        raise InvalidValue("the value is not text")
    text = _text(value)
    return server.param(text.encode() if isinstance(field, fields.PublicKey) else text)


def _time(value: Any) -> str:
    if not isinstance(value, str) or not TIME.fullmatch(value):
        raise InvalidValue(f'"{printable(value)}" is not a valid time')
    return value.removesuffix(UTC)


def _integer(value: int) -> int:
    if abs(value) > LARGEST:
        raise InvalidValue(f"{value} is out of range: the largest value is {LARGEST}")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise InvalidValue("the text contains a NUL character, which a server cannot store")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f'"{printable(value)}" is not valid UTF-8') from None
    return value


# Terms of a release


def noun(release: int, entity: str) -> str:
    """Return the noun for an entity in a release."""
    return "run" if entity == "result" and release >= SINCE_RUN else str(registry[entity].noun)


def plural(noun: str) -> str:
    """Return the plural of a noun."""
    return f"{noun}s"


def label(release: int, column: str) -> str:
    """Return the name of a column of ours in a release."""
    newest = max((since for since, name in RELEASE_LABELS if name == column and since <= release), default=0)
    return RELEASE_LABELS[newest, column] if newest else LABELS.get(column, column)


def split_names(value: Any) -> list[str]:
    """Return the names in a comma-separated text, without duplicates, in their order."""
    found = (name.strip() for name in str(value or "").split(","))
    return list(dict.fromkeys(name for name in found if name))


def is_same(entity: str, column: str, one: Any, other: Any) -> bool:
    """Whether two values of a column mean the same."""
    if (entity, column) in NAME_LISTS:
        return sorted(split_names(one)) == sorted(split_names(other))
    return bool(one == other)
