"""Finding the rows that a request is about, as far as its caller may see or change them; common filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import models
from models import Collaboration
from vserverlib.entities import deleting
from vserverlib.entities.entity import Entity
from vserverlib.entities.relations import Link
from vserverlib.serving.answers import Answer, message
from vserverlib.serving.permissions import VIEW
from vserverlib.serving.refusals import Refusal, not_found
from vserverlib.serving.requests import Request
from vserverlib.serving.tables import MEMBER

Row = TypeVar("Row", bound=Entity)

LONGEST_PATTERN = 200  # characters: LIKE takes long for many %


def visible(request: Request, resource: str, model: Any) -> Any:
    """Return the entities that the caller may see, oldest first. A 401 if it may see none."""
    condition = request.who.condition(resource, VIEW, model)
    query = model.select().order_by(model.id)
    return query if condition is None else query.where(condition)


def members_of(request: Request, collaboration: int) -> Any:
    """Return the ids of the organizations in a collaboration, as a query; none if the caller may not see it."""
    visible_ = request.who.condition("collaboration", VIEW, Collaboration)
    found = MEMBER.select(MEMBER.organization_id).where(MEMBER.collaboration_id == collaboration)
    if visible_ is None:
        return found
    ids = Collaboration.select(Collaboration.id).where(visible_)
    return found.where(MEMBER.collaboration_id.in_(ids))


def one(request: Request, resource: str, operation: str, model: type[Row]) -> Row:
    """Return the entity whose id is in the path. A 404 if there is none, a 401 if the caller lacks the right."""
    found = by_id(model, request.id(model.noun))
    request.who.require(resource, operation, found)
    return found


def by_id(model: type[Row], id: int | None, status: int = 404) -> Row:
    """Return the entity with an id. A 404, or another status, if there is none."""
    found: Row | None = model.by_id(id)
    if found is None:
        refusal = not_found(model.noun, id)
        raise Refusal(status, refusal.message)
    return found


# Filters


def pattern(request: Request, name: str) -> str | None:
    """Return a text of the query with % for any characters, None without one; a 400 for a long one."""
    found = request.asked(name)
    if found is not None and len(found) > LONGEST_PATTERN:
        raise Refusal(400, f"{name} is longer than {LONGEST_PATTERN} characters")
    return found


def like(query: Any, request: Request, field: Any) -> Any:
    """Filter by a text with % for any characters, if the request asks for that."""
    pattern_ = pattern(request, field.name)
    if pattern_ is None:
        return query
    if not models.database.is_sqlite:
        pattern_ = pattern_.replace("\\", r"\\")  # PostgreSQL takes a backslash for the beginning of an escape
    return query.where(field**pattern_)


def equal(query: Any, request: Request, fields: Mapping[str, Any]) -> Any:
    """Filter by equal values, if the request asks for that: of links by id. fields: by the names in the query."""
    for name, field in fields.items():
        value = request.number(name) if isinstance(field, Link) or field.name in NUMBERS else request.asked(name)
        if value is not None:
            query = query.where(field == value)
    return query


NUMBERS = ("id", "run_id")


def between(query: Any, request: Request, fields: Mapping[str, Any]) -> Any:
    """Filter by times, if the request asks for that. fields: by the beginning of the names: NAME_from, NAME_till."""
    for name, field in fields.items():
        if (first := request.moment(f"{name}_from")) is not None:
            query = query.where(field >= first)
        if (last := request.moment(f"{name}_till")) is not None:
            query = query.where(field <= last)
    return query


# Changing


def assign(entity: Any, given: Mapping[str, Any]) -> None:
    """Assign the fields of a body to an entity, without saving it."""
    for name, value in given.items():
        setattr(entity, name, value)


def delete(request: Request, entity: Any, what: str) -> Answer:
    """Delete an entity, with its dependents if the request asks for that. A 400 if it has some and does not."""
    with_dependents = request.flag("delete_dependents")
    deleting.delete([entity], with_dependents, remedy="delete_dependents=true deletes them too")
    return message(f"{what} id={entity.id} successfully deleted")
