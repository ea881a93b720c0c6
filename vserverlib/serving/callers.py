"""Who calls: the user, node or container of a token, with its rights, read anew from the database at each request."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.drivers import peewee
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
    kind too. only_collaboration: that of a node or a container; a user takes part in all those of the organization.
    task_id, image: of a container.
    """

    kind: str
    id: int
    name: str
    organization_id: int | None
    roles: tuple[Role, ...]
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
    """Return the caller of a token. A 401 if its user, node or task is gone, or the container's task has finished."""
    kind, subject = claims["client_type"], claims["sub"]
    if kind == CONTAINER:
        return _container(subject)
    entity = (User if kind == USER else Node).by_id(subject)
    if entity is None:
        raise Refusal(401, f"the {kind} of this token does not exist any more")
    return of_user(entity) if kind == USER else of_node(entity)


def of_user(user: User) -> Caller:
    """Return a user as a caller."""
    return Caller(USER, user.id, str(user.username), user.organization_id, permissions.of_user(user.roles))


def of_node(node: Node) -> Caller:
    """Return a node as a caller."""
    role = permissions.roles()[NODE_ROLE]
    return Caller(NODE, node.id, str(node.name), node.organization_id, (role,), node.collaboration_id)


def _container(subject: Mapping[str, Any]) -> Caller:
    node, task = Node.by_id(subject.get("node_id")), Task.by_id(subject.get("task_id"))
    if node is None or task is None or states.is_finished(task.id):
        raise Refusal(401, "the task of this token has finished, or does not exist any more")
    role, name = permissions.roles()[CONTAINER_ROLE], f"{node.name}, task {task.id}"
    return Caller(CONTAINER, node.id, name, node.organization_id, (role,), node.collaboration_id, task.id, task.image)
