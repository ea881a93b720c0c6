"""The columns of each entity in tables, JSON and CSV, as data.

A column has the sources that it reads (fields, names of linked entities, counts), the function that computes its value,
its kind, and its meaning. listing.py reads sources; views.py and formats.py display kinds.
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

# The JSON Schema (draft 2020-12) of each kind, without null.
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
    """One column.

    kind: one of JSON_TYPES; long is a text of many lines. sources: the arguments of read(), which returns the value.
    rank: 1 is in every table, 2 and more while there is room, 0 in none. about: its meaning in a few words.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    read: Callable[..., Any]
    rank: int = 0
    about: str = ""


def same(value: Any) -> Any:
    """Return the value itself: most columns have one source, unchanged."""
    return value


def _own(field: Any, about: str, rank: int = 0, kind: str = "") -> Column:
    """Return the column of a field."""
    kinds = {Id: "id", IntegerField: "number", BooleanField: "flag", UTCDateTimeField: "time"}
    return Column(field.name, kind or kinds.get(type(field), "text"), (field.name,), same, rank, about)


def _link(field: Any, about: str, rank: int = 0) -> tuple[Column, Column]:
    """Return the two columns of a link: the id and the name of the linked entity."""
    id, name = field.object_id_name, field.name
    own = Column(id, "id", (id,), same, about=f"the id of {about}")
    return own, Column(name, "text", (name,), same, rank, f"the name of {about}")


def _size(name: str, rank: int = 0) -> Column:
    """Return the column with the size of a relation."""
    return Column(name, "number", (name,), same, rank, f"the number of its {name.replace('_', ' ')}")


def _from_counts(name: str, kind: str, about: str, rank: int = 0) -> Column:
    """Return a column that is computed from the counts of a task's results."""
    return Column(name, kind, ("counts",), lambda counts: getattr(counts, name), rank, about)


def _status(status: str | None, state: str) -> str | None:
    """Return the status of a result: the failure that was stored, or what its times say."""
    return status if state == progress.FAILURE else state


def _is_finished(state: str) -> bool:
    return state in (progress.COMPLETED, progress.FAILURE)


def _finished_at(counts: progress.Counts, last: Any) -> Any:
    return last if counts.complete else None


COLUMNS: dict[type[Entity], tuple[Column, ...]] = {
    Organization: (
        _own(Organization.id, "set at the first save, never reused", 1),
        _own(Organization.name, "need not be unique", 1),
        _own(Organization.domain, "its internet domain", 4),
        _own(Organization.country, "in full", 2),
        _size("collaborations", 3),
        _size("users", 3),
        _size("nodes", 3),
        _own(Organization.address1, "street and number", 6),
        _own(Organization.address2, "town", 6),
        _own(Organization.zipcode, "a text: it may begin with 0", 5),
        _own(Organization.public_key, "encrypts results for it, as PEM", kind="long"),
    ),
    User: (
        _own(User.id, "set at the first save, never reused", 1),
        _own(User.username, "for logging in; unique", 1),
        _own(User.firstname, "first name", 2),
        _own(User.lastname, "last name", 2),
        _own(User.email, "e-mail address; unique", 4),
        _own(User.roles, "names of roles, separated by commas", 3),
        *_link(User.organization, "the organization it belongs to", 2),
        _own(User.status, "online or offline, as the server wrote it", 5),
        _own(User.last_seen, "when the server last saw the user", 5),
        _own(User.ip, "the IP address at that time", 6),
    ),
    Collaboration: (
        _own(Collaboration.id, "set at the first save, never reused", 1),
        _own(Collaboration.name, "unique", 1),
        _own(Collaboration.encrypted, "whether input and results must be encrypted", 1),
        _size("organizations", 2),
        _size("nodes", 2),
        _size("tasks", 2),
    ),
    Node: (
        _own(Node.id, "set at the first save, never reused", 1),
        _own(Node.name, "for people", 1),
        *_link(Node.organization, "the organization it belongs to", 2),
        *_link(Node.collaboration, "the collaboration whose tasks it runs", 2),
        _own(Node.status, "online or offline, as the server wrote it", 3),
        _own(Node.last_seen, "when the server last saw the node", 4),
        _own(Node.ip, "the IP address at that time", 5),
    ),
    Task: (
        _own(Task.id, "set at the first save, never reused", 1),
        _own(Task.name, "for people; need not be unique", 1),
        Column("progress", "progress", ("counts",), same, 1, "done / total; null without results"),
        _from_counts("status", "state", f"one of {', '.join(progress.TASK_STATUSES)}", 1),
        _from_counts("done", "number", "the number of finished results: completed and failed ones"),
        _from_counts("total", "number", "the number of results"),
        _from_counts("complete", "flag", "whether it is finished: it has results, all of them finished"),
        *_link(Task.collaboration, "the collaboration it runs in", 2),
        *_link(Task.initiator, "the organization that created it", 3),
        _own(Task.created_at, "when it was created", 4),
        Column("finished_at", "time", ("counts", "last"), _finished_at, 6, "when its last result finished; else null"),
        _own(Task.run_id, "shared by the tasks of one run", 5),
        *_link(Task.parent, "the task whose computation created it"),
        _own(Task.image, "the container image that is run", 7),
        _own(Task.database, "the label of the database on the nodes", 8),
        _own(Task.description, "for people", kind="long"),
    ),
    Result: (
        _own(Result.id, "set at the first save, never reused", 1),
        *_link(Result.task, "the task it belongs to", 2),
        *_link(Result.organization, "the organization that computes it", 1),
        Column("status", "state", ("status", "state"), _status, 1, f"{', '.join(progress.STATES[:3])}, or the failure"),
        Column("complete", "flag", ("state",), _is_finished, about="whether it is finished: completed or failed"),
        _own(Result.assigned_at, "when it was assigned", 3),
        _own(Result.started_at, "when its computation started", 4),
        _own(Result.finished_at, "when its computation finished", 3),
        _own(Result.input, "the input of the computation", kind="long"),
        _own(Result.result, "the output of the computation", kind="long"),
        _own(Result.log, "the log of the computation", kind="long"),
    ),
    Member: (
        _own(Member.id, "set when it is saved", 1),
        *_link(Member.organization, "the organization", 1),
        *_link(Member.collaboration, "the collaboration", 1),
    ),
}

# The columns of a list with entities of several models.
MIXED = (
    Column("entity", "text", ("noun",), same, 1),
    Column("id", "id", ("id",), same, 1),
    Column("name", "text", ("label",), same, 1),
)


def table_columns(model: Any) -> tuple[Column, ...]:
    """Return the columns that are read for a table: all without long texts."""
    return tuple(column for column in COLUMNS[model] if column.kind != "long")


def reference(model: Any) -> Column:
    """Return the column with an unambiguous word for an entity: task/12."""
    return Column("reference", "text", ("id",), functools.partial(finding.reference, model))


# Columns of --fields


def known(model: Any) -> tuple[Column, ...]:
    """Return all columns with a simple name: those of COLUMNS, other names of filters, and sizes of relations."""
    names = {column.name for column in COLUMNS[model]}
    sizes = {relation.name: _size(relation.name) for relation in relations(model)}
    more = (sizes.get(name) or _at(model, name) for name in filters.names(model) if name not in names)
    return (*COLUMNS[model], *more)


def _at(model: Any, path: str) -> Column:
    """Return the column of a path of filters, such as a field of a linked entity."""
    value = filters.value(model, path)
    return Column(path, "state" if value.choices else value.kind, (path,), same)


def chosen(model: Any, text: str) -> tuple[Column, ...]:
    """Return the columns of a list of names, such as "id,name,initiator.country", in its order.

    Raises a UsageError for an unknown name, with a similar one, and for an empty list.
    """
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise UsageError(f'"{printable(text)}" names no field: write such as --fields id,name')
    names = {column.name: column for column in known(model)}
    return tuple(_chosen(model, word, names) for word in words)


def _chosen(model: Any, word: str, names: dict[str, Column]) -> Column:
    return (names.get(word) or _at(model, word))._replace(rank=1)


def described(columns: Iterable[Column]) -> list[dict[str, str]]:
    """Return the name, the JSON type, and the meaning of each column, as rows."""
    return [{"field": each.name, "type": _type(each.kind), "about": each.about} for each in columns]


def _type(kind: str) -> str:
    found = JSON_TYPES[kind]
    return "time" if found.get("format") == "date-time" else str(found["type"])


def schema(model: Any) -> dict[str, Any]:
    """Return the JSON Schema of one entity, as `list -o json` prints it."""
    return {**object_schema(COLUMNS[model]), "description": model.about}


def object_schema(columns: Iterable[Column]) -> dict[str, Any]:
    """Return the JSON Schema of a row."""
    columns = tuple(columns)
    return {
        "type": "object",
        "properties": {column.name: _property(column) for column in columns},
        "required": [column.name for column in columns],
        "additionalProperties": False,
    }


def _property(column: Column) -> dict[str, Any]:
    found = dict(JSON_TYPES[column.kind])
    if column.name != "id":
        found["type"] = [found["type"], "null"]
    return {**found, "description": column.about}
