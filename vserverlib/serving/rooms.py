"""Who connects to the web sockets, in which rooms, and which runs are a node's. For jobs of the desk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models import Result
from vserverlib.serving import callers, posted, presence
from vserverlib.serving.callers import CONTAINER, NODE, Caller
from vserverlib.serving.permissions import COLLABORATION, GLOBAL, ORGANIZATION
from vserverlib.serving.refusals import Refusal

EVERYBODY, EVERYTHING, NODES = "everybody", "everything", "all_nodes"  # rooms, besides those of collaborations


def of(collaboration_id: int, organization_id: int | None = None) -> str:
    """Return the room of a collaboration, or of one organization in it."""
    room = f"collaboration_{collaboration_id}"
    return room if organization_id is None else f"{room}_organization_{organization_id}"


def arrived(claims: Mapping[str, Any], peer: str | None) -> tuple[Caller, frozenset[str]]:
    """Return who connects, with the rooms, and write that it is online. A Refusal if it is gone, or a container."""
    caller, rooms = _who(claims)
    presence.write(caller.kind, caller.id, presence.ONLINE, peer)
    return caller, rooms


def all_left(left: Iterable[tuple[str, int]]) -> None:
    """Write that some users and nodes have gone offline."""
    for kind, id in left:
        presence.write(kind, id, presence.OFFLINE)


def _who(claims: Mapping[str, Any]) -> tuple[Caller, frozenset[str]]:
    if claims["client_type"] == CONTAINER:
        raise Refusal(401, "the web sockets are not for a container")
    caller = callers.of_token(claims)
    return caller, _rooms(caller)


def renewed(claims: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Caller, frozenset[str]] | None]:
    """Return who some connections are now, with the rooms; None for those that are gone."""
    found: dict[str, tuple[Caller, frozenset[str]] | None] = {}
    for sid, each in claims.items():
        try:
            found[sid] = _who(each)
        except Refusal:
            found[sid] = None
    return found


def node_rooms(node: Caller) -> list[str]:
    """Return the rooms of a node's collaboration, and of its organization in it."""
    if node.only_collaboration is None:
        return []
    return [of(node.only_collaboration), of(node.only_collaboration, node.organization_id)]


def _rooms(caller: Caller) -> frozenset[str]:
    """Return the rooms of a node, or those that a user may receive events of."""
    if caller.kind == NODE:
        return frozenset({EVERYBODY, NODES, *node_rooms(caller)})
    if caller.may("event", "receive", GLOBAL):
        return frozenset({EVERYBODY, EVERYTHING})
    rooms = {EVERYBODY}
    if caller.may("event", "receive", COLLABORATION):
        rooms |= {of(id) for id in caller.collaborations}
    elif caller.may("event", "receive", ORGANIZATION):
        rooms |= {of(id, caller.organization_id) for id in caller.collaborations}
    return frozenset(rooms)


def own_run(node: Caller, id: int) -> dict[str, Any] | None:
    """Return the ids of a run for events, if a node computes it."""
    run = Result.by_id(id)
    if run is None or run.organization_id != node.organization_id or run.task is None:
        return None
    task = run.task
    if task.collaboration_id != node.only_collaboration or posted.of_task(task.id).init_user_id is None:
        return None
    return {
        "run_id": run.id,
        "task_id": task.id,
        "job_id": task.run_id,
        "collaboration_id": task.collaboration_id,
        "node_id": node.id,
        "organization_id": run.organization_id,
        "parent_id": task.parent_id,
    }
