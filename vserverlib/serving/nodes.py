"""The calls about nodes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from models import Collaboration, Node, Organization
from vserverlib.serving import rows
from vserverlib.serving.answers import Answer, Links, Shown, page_of, time
from vserverlib.serving.callers import Caller
from vserverlib.serving.permissions import COLLABORATION, CREATE, DELETE, EDIT, GLOBAL, ORGANIZATION, VIEW
from vserverlib.serving.presence import OFFLINE
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import FLAG, ID, TEXT, Field, Request, read
from vserverlib.serving.server import Server

RESOURCE = "node"
SHAPE = {"name": Field(TEXT), "clear_ip": Field(FLAG)}
NEW = {"name": Field(TEXT), "collaboration_id": Field(ID, needed=True), "organization_id": Field(ID)}


def shown(request: Request, nodes: Iterable[Node]) -> list[Shown]:
    """Return nodes as the API shows them."""
    links, book = Links(request), request.server.nodes
    return [
        {
            "id": each.id,
            "name": each.name,
            "type": "node",
            "ip": each.ip,
            "last_seen": time(each.last_seen),
            "status": each.status or OFFLINE,
            "organization": links.one("organization", each.organization_id),
            "collaboration": links.one("collaboration", each.collaboration_id),
            "config": book.configuration(each.id),
        }
        for each in nodes
    ]


def list_(request: Request) -> Answer:
    """List the nodes that the caller may see."""
    query = rows.visible(request, RESOURCE, Node)
    query = rows.like(query, request, Node.name)
    query = rows.equal(
        query,
        request,
        {
            "organization_id": Node.organization,
            "collaboration_id": Node.collaboration,
            "status": Node.status,
            "ip": Node.ip,
        },
    )
    query = rows.between(query, request, {"last_seen": Node.last_seen})
    return page_of(request, query, lambda found: shown(request, found))


def get(request: Request) -> Answer:
    """Return one node."""
    return Answer(shown(request, [rows.one(request, RESOURCE, VIEW, Node)])[0])


async def create(request: Request, server: Server) -> Answer:
    """Create a node; the answer has its API key, once."""
    given, key = read(request.fields, NEW), str(uuid.uuid4())
    await server.desk.read(lambda: _require_creating(request, given))
    hashed = await server.hashing.make_hash(key, await server.key_salt())
    return await server.write(request, lambda: _create(request, given, key, hashed))


def _require_creating(request: Request, given: dict[str, Any]) -> tuple[Collaboration, Organization]:
    caller = request.who
    collaboration = rows.by_id(Collaboration, given["collaboration_id"])
    organization = rows.by_id(Organization, given.get("organization_id", caller.organization_id))
    if not _may_create(caller, collaboration.id, organization.id):
        raise lacking()
    return collaboration, organization


def _may_create(caller: Caller, collaboration: int, organization: int) -> bool:
    is_mine = collaboration in caller.collaborations
    return (
        caller.may(RESOURCE, CREATE, GLOBAL)
        or (is_mine and caller.may(RESOURCE, CREATE, COLLABORATION))
        or (is_mine and caller.may(RESOURCE, CREATE, ORGANIZATION) and organization == caller.organization_id)
    )


def _create(request: Request, given: dict[str, Any], key: str, hashed: str) -> Answer:
    collaboration, organization = _require_creating(request, given)
    name = given.get("name") or f"{organization.name} - {collaboration.name} Node"
    node = Node(name=name, organization=organization, collaboration=collaboration, api_key=hashed)
    node.save()
    return Answer({**shown(request, [node])[0], "api_key": key}, 201)


def update(request: Request) -> Answer:
    """Change the name of a node, or forget its IP address."""
    given = read(request.fields, SHAPE)
    if not given.get("name", "x").strip():
        raise Refusal(400, "Request body is incorrect", {"name": ["Name cannot be empty."]})
    node = rows.one(request, RESOURCE, EDIT, Node)
    if given.pop("clear_ip", False):
        node.ip = None
    rows.assign(node, given)
    node.save()
    return Answer(shown(request, [node])[0])


def delete(request: Request) -> Answer:
    """Delete a node."""
    return rows.delete(request, rows.one(request, RESOURCE, DELETE, Node), "Node")
