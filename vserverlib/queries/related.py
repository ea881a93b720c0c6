"""What `show -o json` and `-o yaml` print of one entity: its row of a list, and the rows that belong to it.

The nested rows stand under `related`, with the names and types of list columns. They are those of the panel, but all of
them. RELATED describes them, for the schema too.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import as_integer, now
from vserverlib.queries import columns, details, listing
from vserverlib.queries.columns import COLUMNS, Column, same
from vserverlib.queries.listing import Row


def _of(model: type[Entity], *names: str) -> tuple[Column, ...]:
    found = {column.name: column for column in COLUMNS[model]}
    return tuple(found[name] for name in names)


def _more(name: str, kind: str, about: str) -> Column:
    return Column(name, kind, (name,), same, about=about)


OF_NODE = (
    _more("node_id", "id", "the id of its node in this collaboration"),
    _more("node", "text", "the name of that node"),
    _more("node_status", "text", "online or offline, as the server wrote it"),
    _more("node_last_seen", "time", "when the server last saw that node"),
)
SPANS = (
    _more("waited", "share", "seconds from its assignment to its start, or until now"),
    _more("ran", "share", "seconds from its start to its end, or until now; null if it never started"),
)
RESULTS = _of(
    Result, "id", "organization_id", "organization", "status", "complete", "assigned_at", "started_at", "finished_at"
)
FAMILY = _of(Task, "id", "name", "status", "done", "total", "complete")
AWAITED = _of(Result, "id", "task_id", "task", "organization_id", "organization", "status", "assigned_at", "started_at")
NODES = _of(Node, "id", "name", "organization_id", "organization", "collaboration_id", "collaboration")
NODES += _of(Node, "status", "last_seen")

# The columns of the nested rows, by entity and name. `tasks` of a collaboration are numbers by status, no rows.
RELATED: dict[type[Entity], dict[str, tuple[Column, ...]]] = {
    Organization: {
        "awaited": AWAITED,
        "collaborations": _of(Collaboration, "id", "name", "encrypted"),
        "users": _of(User, "id", "username", "firstname", "lastname"),
        "nodes": NODES,
    },
    User: {},
    Collaboration: {"organizations": (*_of(Organization, "id", "name"), *OF_NODE), "nodes": NODES},
    Node: {"awaited": AWAITED},
    Task: {"results": (*RESULTS, *SPANS, *OF_NODE), "parents": FAMILY, "children": FAMILY},
    Result: {},
}


def document(entity: Any) -> dict[str, Any]:
    """Return an entity as a row with its related rows. The number of queries does not depend on their number."""
    (row,) = listing.of_entities([entity], COLUMNS[type(entity)])
    return {**row, "related": READERS[type(entity)](entity)}


def schema(model: type[Entity]) -> dict[str, Any]:
    """Return the JSON Schema of document()."""
    found = columns.schema(model)
    nested = {name: {"type": "array", "items": columns.object_schema(RELATED[model][name])} for name in RELATED[model]}
    if model is Collaboration:
        number = {"type": "integer", "minimum": 0}
        nested["tasks"] = {"type": "object", "description": "tasks by status", "additionalProperties": number}
    related = {"type": "object", "properties": nested, "required": list(nested), "additionalProperties": False}
    found["properties"]["related"] = related
    found["required"] = [*found["required"], "related"]
    return found


# The related rows of each entity

LISTED = ("collaborations", "users", "nodes")  # of an organization


def _of_organization(organization: Organization) -> dict[str, Any]:
    return {
        "awaited": _rows(details.awaited(organization), AWAITED),
        **{name: _rows(getattr(organization, name), RELATED[Organization][name]) for name in LISTED},
    }


def _of_collaboration(collaboration: Collaboration) -> dict[str, Any]:
    nodes = _rows(collaboration.nodes, NODES)
    members = _rows(collaboration.organizations, _of(Organization, "id", "name"))
    by_organization = _by_organization(nodes)
    return {
        "organizations": [{**row, **_node(by_organization.get(row["id"]))} for row in members],
        "nodes": nodes,
        "tasks": details.statuses(collaboration),
    }


def _of_node(node: Node) -> dict[str, Any]:
    return {"awaited": _rows(details.awaited(node), AWAITED)}


def _of_task(task: Task) -> dict[str, Any]:
    moment, results = now(), _rows(task.results, RESULTS)
    collaboration = as_integer(task.collaboration_id)  # another program may have stored a text
    query = Node.get().none() if collaboration is None else Node.where(Node.collaboration == collaboration)
    nodes = _by_organization(_rows(query, NODES))
    return {
        "results": [{**row, **_spans(row, moment), **_node(nodes.get(row["organization_id"]))} for row in results],
        "parents": details.ancestors(task, FAMILY),
        "children": _rows(task.children, FAMILY),
    }


def _by_organization(nodes: Sequence[Row]) -> dict[Any, Row]:
    """Return the node of each organization: the oldest if there are several, as in the panel."""
    return {node["organization_id"]: node for node in reversed(nodes)}


def _rows(entities: Any, wanted: Sequence[Column]) -> list[Row]:
    """Return all rows of a relation or a query, by id."""
    found = listing.page(entities, 0, listing.EVERY, wanted).rows
    return sorted(found, key=lambda row: row["id"])


def _node(row: Row | None) -> Row:
    values: Iterable[Any] = (None,) * len(OF_NODE)
    if row is not None:
        values = (row["id"], row["name"], row["status"], row["last_seen"])
    return dict(zip((column.name for column in OF_NODE), values, strict=True))


def _spans(row: Row, moment: datetime.datetime) -> Row:
    """Return how many seconds a result waited and ran."""
    lane = details.lane(row)
    lengths = {"waited": lane.waited(moment), "ran": lane.ran(moment)}
    return {name: None if length is None else length.total_seconds() for name, length in lengths.items()}


READERS: dict[type[Entity], Callable[[Any], dict[str, Any]]] = {
    Organization: _of_organization,
    User: lambda user: {},
    Collaboration: _of_collaboration,
    Node: _of_node,
    Task: _of_task,
    Result: lambda result: {},
}
