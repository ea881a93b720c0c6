"""The calls about collaborations and the organizations in them."""

from __future__ import annotations

from collections.abc import Iterable

from models import Collaboration, Organization
from vserverlib.serving import organizations, rows
from vserverlib.serving.answers import Answer, Links, Shown, page_of
from vserverlib.serving.permissions import CREATE, DELETE, EDIT, GLOBAL, VIEW
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import FLAG, ID, IDS, TEXT, Field, Request, read
from vserverlib.serving.tables import MEMBER

RESOURCE = "collaboration"
SHAPE = {"name": Field(TEXT), "encrypted": Field(FLAG), "organization_ids": Field(IDS)}
NEW = {**SHAPE, "name": Field(TEXT, needed=True), "organization_ids": Field(IDS, needed=True)}
ONE = {"id": Field(ID, needed=True)}


def shown(links: Links, collaborations: Iterable[Collaboration]) -> list[Shown]:
    """Return collaborations as the API shows them."""
    return [
        {
            "id": each.id,
            "name": each.name,
            "encrypted": bool(each.encrypted),
            **{
                name: links.many(kind, "collaboration_id", each.id)
                for name, kind in (
                    ("organizations", "organization"),
                    ("nodes", "node"),
                    ("tasks", "task"),
                    ("algorithm_stores", "algorithmstore"),
                    ("studies", "study"),
                )
            },
        }
        for each in collaborations
    ]


def list_(request: Request) -> Answer:
    """List the collaborations that the caller may see."""
    query = rows.visible(request, RESOURCE, Collaboration)
    query = rows.like(query, request, Collaboration.name)
    if request.asked("encrypted") is not None:
        query = query.where(Collaboration.encrypted == request.flag("encrypted"))
    if (organization := request.number("organization_id")) is not None:
        theirs = MEMBER.select(MEMBER.collaboration_id).where(MEMBER.organization_id == organization)
        query = query.where(Collaboration.id.in_(theirs))
    if request.number("algorithm_store_id") is not None:  # there are no stores
        query = query.none()
    links = Links(request)
    return page_of(request, query, lambda found: shown(links, found))


def _answer(request: Request, collaboration: Collaboration) -> Answer:
    return Answer(shown(Links(request), [collaboration])[0])


def get(request: Request) -> Answer:
    """Return one collaboration."""
    return _answer(request, rows.one(request, RESOURCE, VIEW, Collaboration))


def create(request: Request) -> Answer:
    """Create a collaboration of some organizations."""
    given = read(request.fields, NEW)
    if not request.who.may(RESOURCE, CREATE, GLOBAL):
        raise lacking()
    collaboration = Collaboration()
    _assign(collaboration, given)
    collaboration.save()
    return _answer(request, collaboration)


def _assign(collaboration: Collaboration, given: dict[str, object]) -> None:
    ids = given.pop("organization_ids", None)
    rows.assign(collaboration, given)
    if isinstance(ids, list):
        collaboration.organizations = [rows.by_id(Organization, id, 400) for id in dict.fromkeys(ids)]


def update(request: Request) -> Answer:
    """Change the name, the encryption or the organizations of a collaboration."""
    given = read(request.fields, SHAPE)
    collaboration = rows.one(request, RESOURCE, EDIT, Collaboration)
    _assign(collaboration, given)
    collaboration.save()
    return _answer(request, collaboration)


def delete(request: Request) -> Answer:
    """Delete a collaboration, with its dependents if delete_dependents is true."""
    return rows.delete(request, rows.one(request, RESOURCE, DELETE, Collaboration), "Collaboration")


def add_organization(request: Request) -> Answer:
    """Add an organization to a collaboration, and return all that are in it."""
    id = read(request.fields, ONE)["id"]
    collaboration = rows.one(request, RESOURCE, EDIT, Collaboration)
    organization = rows.by_id(Organization, id)
    if organization not in collaboration.organizations:
        collaboration.organizations.append(organization)
        collaboration.save()
    return _members(request, collaboration)


def remove_organization(request: Request) -> Answer:
    """Remove an organization from a collaboration, and return the others."""
    id = read(request.fields, ONE)["id"]
    collaboration = rows.one(request, RESOURCE, EDIT, Collaboration)
    organization = rows.by_id(Organization, id)
    if organization not in collaboration.organizations:
        raise Refusal(400, f"{organization.named()} is not in {collaboration.named()}")
    collaboration.organizations.remove(organization)
    collaboration.save()
    return _members(request, collaboration)


def _members(request: Request, collaboration: Collaboration) -> Answer:
    return Answer(organizations.shown(Links(request), collaboration.organizations))
