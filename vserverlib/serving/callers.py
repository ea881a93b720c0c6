"""Who calls: the user, node or container of a token, with its rights, read anew from the database at each request.

A token has a mark of its user, node or task besides the id. Ids are never reused, but an import, a restore, or another
program may write a row with any id: a token whose mark is not that of the row is refused.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.drivers import peewee
from vserverlib.entities.fields import key_salt
from vserverlib.entities.roles import CONTAINER_ROLE, NODE_ROLE
from vserverlib.serving import permissions, states
from vserverlib.serving.permissions import COLLABORATION, GLOBAL, ORGANIZATION, OWN, Right, Role
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.tables import MEMBER, TASK

USER, NODE, CONTAINER = "user", "node", "container"
SCOPES = (GLOBAL, COLLABORATION, ORGANIZATION, OWN)
NO_ID = -1


@dataclass(frozen=True)
class Caller:
    """Who calls. roles: with their rules.

    kind: USER, NODE or CONTAINER; id: of that user or node, or of the container's node. name: of that; title has the
    kind too. mark: what its tokens have to bear. only_collaboration: that of a node or a container; a user takes part
    in all those of the organization. task_id, image: of a container.
    """

    kind: str
    id: int
    name: str
    organization_id: int | None
    roles: tuple[Role, ...]
    mark: str
    only_collaboration: int | None = None
    task_id: int | None = None
    image: str | None = None

    @property
    def title(self) -> str:
        """The name for the journal and the log: no node can pass for a user, whose name has no space."""
        return self.name if self.kind == USER else f"{self.kind} {self.name}"

    @functools.cached_property
    def rights(self) -> frozenset[Right]:
        """The rights of its roles: (resource, operation, scope)."""
        return permissions.rights_of(self.roles)

    def may(self, resource: str, operation: str, scope: str) -> bool:
        """Whether it has a right."""
        return (resource, operation, scope) in self.rights

    def may_any(self, resource: str, operation: str) -> bool:
        """Whether it has a right in any scope."""
        return any(self.may(resource, operation, scope) for scope in SCOPES)

    @functools.cached_property
    def collaborations(self) -> frozenset[int]:
        """The ids of the collaborations that it takes part in. One query, for a user."""
        if self.kind != USER:
            return frozenset(() if self.only_collaboration is None else (self.only_collaboration,))
        mine = MEMBER.select(MEMBER.collaboration_id).where(MEMBER.organization_id == self.home)
        return _ids(mine)

    @functools.cached_property
    def partners(self) -> frozenset[int]:
        """The ids of its own organization, and of those in its collaborations. One query."""
        theirs = MEMBER.select(MEMBER.organization_id).where(among(MEMBER.collaboration_id, self.collaborations))
        return _ids(theirs) | frozenset(() if self.organization_id is None else (self.organization_id,))

    @property
    def home(self) -> int:
        """The id of its organization; one that no organization has if it has none, as NULL would match rows without."""
        return NO_ID if self.organization_id is None else self.organization_id

    # Rows

    def condition(self, resource: str, operation: str, model: Any) -> Any:
        """Return the condition of the rows of a model that it may see or change; None: all. A 401 if it may none."""
        scopes = [scope for scope in SCOPES if self.may(resource, operation, scope)]
        if not scopes:
            raise lacking()
        if GLOBAL in scopes:
            return None
        return functools.reduce(peewee.Expression.__or__, [_ROWS[model, scope](self) for scope in scopes])

    def require(self, resource: str, operation: str, entity: Any) -> None:
        """Raise a 401 unless it may see or change an entity. One query."""
        model, condition = type(entity), self.condition(resource, operation, type(entity))
        if condition is not None and not model.select().where((model.id == entity.id) & condition).exists():
            raise lacking()


def _ids(query: Any) -> frozenset[int]:
    return frozenset(id for (id,) in models.database.execute(query) if id is not None)


def among(column: Any, ids: frozenset[int]) -> Any:
    """Return the condition that a column is one of some ids."""
    return column.in_(sorted(ids)) if ids else (column == NO_ID)


def _tasks(condition: Any) -> Any:
    return TASK.select(TASK.id).where(condition)


def _posted_by(caller: Caller) -> Any:
    return _tasks(TASK.init_user_id == (caller.id if caller.kind == USER else NO_ID))


# The rows in a scope, for a caller.
_ROWS: dict[tuple[Any, str], Callable[[Caller], Any]] = {
    (Organization, COLLABORATION): lambda caller: among(Organization.id, caller.partners),
    (Organization, ORGANIZATION): lambda caller: Organization.id == caller.home,
    (Collaboration, COLLABORATION): lambda caller: among(Collaboration.id, caller.collaborations),
    (Collaboration, ORGANIZATION): lambda caller: among(Collaboration.id, caller.collaborations),
    (User, COLLABORATION): lambda caller: among(User.organization, caller.partners),
    (User, ORGANIZATION): lambda caller: User.organization == caller.home,
    (User, OWN): lambda caller: User.id == (caller.id if caller.kind == USER else NO_ID),
    (Node, COLLABORATION): lambda caller: among(Node.collaboration, caller.collaborations),
    (Node, ORGANIZATION): lambda caller: Node.organization == caller.home,
    (Task, COLLABORATION): lambda caller: among(Task.collaboration, caller.collaborations),
    (Task, ORGANIZATION): lambda caller: Task.initiator == caller.home,
    (Task, OWN): lambda caller: Task.id.in_(_posted_by(caller)),
    (Result, COLLABORATION): lambda caller: Result.task.in_(
        _tasks(among(TASK.collaboration_id, caller.collaborations))
    ),
    (Result, ORGANIZATION): lambda caller: Result.organization == caller.home,
    (Result, OWN): lambda caller: Result.task.in_(_posted_by(caller)),
}


# From a token


def of_token(claims: Mapping[str, Any]) -> Caller:
    """Return the caller of a token. A 401 if its user, node or task is gone, or the container's run has ended."""
    kind, subject = claims["client_type"], claims["sub"]
    if kind == CONTAINER:
        found = _container(subject)
    else:
        entity = (User if kind == USER else Node).by_id(subject)
        found = None if entity is None else of_user(entity) if kind == USER else of_node(entity)
    if found is None or found.mark != claims["mark"]:
        raise Refusal(401, f"the {kind} of this token does not exist any more: log in again")
    return found


def mark(salt: str, *values: object) -> str:
    """Return the mark of a row: of the salt of its database, and of values that another row does not have."""
    return hashlib.sha256(json.dumps([salt, *map(str, values)]).encode()).hexdigest()


def mark_of_user(user: User) -> str:
    """Return the mark of a user: it changes with the username, so this ends the tokens."""
    return mark(key_salt(models.database), user.username)


def mark_of_node(node: Node) -> str:
    """Return the mark of a node: it changes with the API key, so this ends the tokens."""
    return mark(key_salt(models.database), node.stored_hash("api_key"))


def mark_of_container(node: Node, task: Task) -> str:
    """Return the mark of a container."""
    return mark(mark_of_node(node), task.created_at)


def of_user(user: User) -> Caller:
    """Return a user as a caller."""
    return Caller(
        USER, user.id, str(user.username), user.organization_id, permissions.of_user(user.roles), mark_of_user(user)
    )


def of_node(node: Node) -> Caller:
    """Return a node as a caller."""
    role = permissions.roles()[NODE_ROLE]
    return Caller(
        NODE, node.id, str(node.name), node.organization_id, (role,), mark_of_node(node), node.collaboration_id
    )


def _container(subject: Mapping[str, Any]) -> Caller | None:
    node, task = Node.by_id(subject.get("node_id")), Task.by_id(subject.get("task_id"))
    if node is None or task is None:
        return None
    if states.has_ended(states.runs_at(task.id, node.organization_id)):
        raise Refusal(401, "the run of this token has ended, or does not exist any more")
    return Caller(
        CONTAINER,
        node.id,
        f"{node.name}, task {task.id}",
        node.organization_id,
        (permissions.roles()[CONTAINER_ROLE],),
        mark_of_container(node, task),
        node.collaboration_id,
        task.id,
        task.image,
    )
