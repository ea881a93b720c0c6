"""What there is to say of each entity: the columns of tables, JSON and CSV, once, as data.

Each column tells what it needs (fields, names of linked entities, counts), what it makes of that, of which kind that
is, and what it means. How a need is read is listing.py's, how a kind looks views.py's and formats.py's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from models import Collaboration, Member, Node, Organization, Result, Task, User
from vserverlib import UsageError, printable
from vserverlib.entities import filters, finding, progress
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import BooleanField, Id, IntegerField, UTCDateTimeField
from vserverlib.entities.relations import relations

FIXED = ("id", "number", "flag", "time", "state", "progress")  # kinds whose values a table never cuts

# What a kind of column is in JSON, null aside, as JSON Schema says it (json-schema.org, draft 2020-12).
JSON_TYPES: dict[str, dict[str, Any]] = {
    "id": {"type": "integer"},
    "number": {"type": "integer"},
    "share": {"type": "number"},
    "text": {"type": "string"},
    "long": {"type": "string"},
    "flag": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "state": {"type": "string"},
    "progress": {"type": "number", "minimum": 0, "maximum": 1},
}


class Column(NamedTuple):
    """One thing that is said of an entity.

    kind: one of JSON_TYPES; long is a text of many lines. needs: the sources that read() makes the value of.
    rank: 1 is in every table, 2 and more while there is room, 0 in none. about: what it means, in a few words.
    """

    name: str
    kind: str
    needs: tuple[str, ...]
    read: Callable[..., Any]
    rank: int = 0
    about: str = ""


def same(value: Any) -> Any:
    """Return a value as it is: what most columns do."""
    return value


def _own(field: Any, about: str, rank: int = 0, kind: str = "") -> Column:
    """Say a field as it is."""
    kinds = {Id: "id", IntegerField: "number", BooleanField: "flag", UTCDateTimeField: "time"}
    return Column(field.name, kind or kinds.get(type(field), "text"), (field.name,), same, rank, about)


def _link(field: Any, about: str, rank: int = 0) -> tuple[Column, Column]:
    """Say a link twice: as the id and as the name of what it leads to."""
    id, name = field.object_id_name, field.name
    own = Column(id, "id", (id,), same, about=f"the id of {about}")
    return own, Column(name, "text", (name,), same, rank, f"the name of {about}")


def _counted(name: str, rank: int = 0) -> Column:
    """Say how many a relation has."""
    return Column(name, "number", (name,), same, rank, f"how many {name.replace('_', ' ')} it has")


def _counts(name: str, kind: str, about: str, rank: int = 0) -> Column:
    """Say one of the figures of a task's results."""
    return Column(name, kind, ("counts",), lambda counts: getattr(counts, name), rank, about)


def _told(status: str | None, state: str) -> str | None:
    """Return the status of a result: which failure it is, or what its times say, whoever wrote the row."""
    return status if state == progress.FAILURE else state


def _has_finished(state: str) -> bool:
    return state in (progress.COMPLETED, progress.FAILURE)


def _last(counts: progress.Counts, last: Any) -> Any:
    return last if counts.complete else None


COLUMNS: dict[type[Entity], tuple[Column, ...]] = {
    Organization: (
        _own(Organization.id, "given at the first save, never twice", 1),
        _own(Organization.name, "what it is called; several may have the same name", 1),
        _own(Organization.domain, "its internet domain", 4),
        _own(Organization.country, "in full", 2),
        _counted("collaborations", 3),
        _counted("users", 3),
        _counted("nodes", 3),
        _own(Organization.address1, "street and number", 6),
        _own(Organization.address2, "town", 6),
        _own(Organization.zipcode, "a text: it may begin with 0", 5),
        _own(Organization.public_key, "what results for it are encrypted with, as PEM", kind="long"),
    ),
    User: (
        _own(User.id, "given at the first save, never twice", 1),
        _own(User.username, "the log-in; no two have the same", 1),
        _own(User.firstname, "what people call them", 2),
        _own(User.lastname, "what people call them", 2),
        _own(User.email, "no two have the same", 4),
        _own(User.roles, "names of roles, separated by commas", 3),
        *_link(User.organization, "the organization it belongs to", 2),
        _own(User.status, "online or offline, as the server wrote it", 5),
        _own(User.last_seen, "when the server saw it last", 5),
        _own(User.ip, "from where that was", 6),
    ),
    Collaboration: (
        _own(Collaboration.id, "given at the first save, never twice", 1),
        _own(Collaboration.name, "no two have the same", 1),
        _own(Collaboration.encrypted, "whether input and results are to be encrypted", 1),
        _counted("organizations", 2),
        _counted("nodes", 2),
        _counted("tasks", 2),
    ),
    Node: (
        _own(Node.id, "given at the first save, never twice", 1),
        _own(Node.name, "what it is called", 1),
        *_link(Node.organization, "the organization whose machine it is", 2),
        *_link(Node.collaboration, "the collaboration whose tasks it runs", 2),
        _own(Node.status, "online or offline, as the server wrote it", 3),
        _own(Node.last_seen, "when the server saw it last", 4),
        _own(Node.ip, "from where that was", 5),
    ),
    Task: (
        _own(Task.id, "given at the first save, never twice", 1),
        _own(Task.name, "for people; several may have the same name", 1),
        Column("progress", "progress", ("counts",), same, 1, "done / total; null without results"),
        _counts("status", "state", f"one of {', '.join(progress.TASK_STATUSES)}", 1),
        _counts("done", "number", "how many results have finished, failed ones too"),
        _counts("total", "number", "how many results there are"),
        _counts("complete", "flag", "whether there are results, and all have finished"),
        *_link(Task.collaboration, "the collaboration it is run in", 2),
        *_link(Task.initiator, "the organization that asked for it", 3),
        _own(Task.created_at, "when it was made", 4),
        Column("finished_at", "time", ("counts", "last"), _last, 6, "when the last result finished; null before"),
        _own(Task.run_id, "tasks of one run share it", 5),
        *_link(Task.parent, "the task whose computation asked for it"),
        _own(Task.image, "the container image that is run", 7),
        _own(Task.database, "the label of the database on the nodes", 8),
        _own(Task.description, "for people", kind="long"),
    ),
    Result: (
        _own(Result.id, "given at the first save, never twice", 1),
        *_link(Result.task, "the task it belongs to", 2),
        *_link(Result.organization, "the organization that is to deliver it", 1),
        Column("status", "state", ("status", "state"), _told, 1, f"{', '.join(progress.STATES[:3])}, or the failure"),
        Column("complete", "flag", ("state",), _has_finished, about="whether it was delivered or has failed"),
        _own(Result.assigned_at, "when it was handed out", 3),
        _own(Result.started_at, "when its computation began", 4),
        _own(Result.finished_at, "when its computation ended", 3),
        _own(Result.input, "what the node is given", kind="long"),
        _own(Result.result, "what came back", kind="long"),
        _own(Result.log, "what the computation printed", kind="long"),
    ),
    Member: (
        _own(Member.id, "given when it is saved", 1),
        *_link(Member.organization, "the organization that takes part", 1),
        *_link(Member.collaboration, "the collaboration", 1),
    ),
}

# What is said of entities of several kinds.
MIXED = (
    Column("entity", "text", ("noun",), same, 1),
    Column("id", "id", ("id",), same, 1),
    Column("name", "text", ("label",), same, 1),
)


def in_tables(model: Any) -> tuple[Column, ...]:
    """Return the columns that are read for a table: all but the long ones."""
    return tuple(column for column in COLUMNS[model] if column.kind != "long")


def reference(model: Any) -> Column:
    """Return the column of what a command takes for one entity without any doubt: task/12."""
    return Column("reference", "text", ("id",), functools.partial(finding.reference, model))


# Columns that somebody asks for


def known(model: Any) -> tuple[Column, ...]:
    """Return all that can be asked for by one name: the columns, what filters know besides, how many others it has."""
    said = {column.name for column in COLUMNS[model]}
    counted = {relation.name: _counted(relation.name) for relation in relations(model)}
    more = (counted.get(name) or _at(model, name) for name in filters.names(model) if name not in said)
    return (*COLUMNS[model], *more)


def _at(model: Any, path: str) -> Column:
    """Return the column of what filters know by a path: a field of a linked entity, for one."""
    value = filters.value(model, path)
    return Column(path, "state" if value.choices else value.kind, (path,), same)


def chosen(model: Any, text: str) -> tuple[Column, ...]:
    """Return the columns of a list of names, such as "id,name,initiator.country", in its order.

    Raises a UsageError, which names the one meant, for a name that is none, and for a list without any.
    """
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise UsageError(f'"{printable(text)}" names no field: write such as --fields id,name')
    names = {column.name: column for column in known(model)}
    return tuple(_chosen(model, word, names) for word in words)


def _chosen(model: Any, word: str, names: dict[str, Column]) -> Column:
    return (names.get(word) or _at(model, word))._replace(rank=1)


def described(columns: Iterable[Column]) -> list[dict[str, str]]:
    """Return the name, the type in JSON, and the meaning of columns, as rows."""
    return [{"field": each.name, "type": _type(each.kind), "about": each.about} for each in columns]


def _type(kind: str) -> str:
    found = JSON_TYPES[kind]
    return "time" if found.get("format") == "date-time" else str(found["type"])


def schema(model: Any) -> dict[str, Any]:
    """Return the JSON Schema of one entity, as `list -o json` and `show -o json` print it."""
    columns = COLUMNS[model]
    return {
        "type": "object",
        "description": model.about,
        "properties": {column.name: _property(column) for column in columns},
        "required": [column.name for column in columns],
        "additionalProperties": False,
    }


def _property(column: Column) -> dict[str, Any]:
    found = dict(JSON_TYPES[column.kind])
    if column.name != "id":
        found["type"] = [found["type"], "null"]
    return {**found, "description": column.about}
