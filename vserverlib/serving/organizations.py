"""What is asked of organizations."""

from __future__ import annotations

from collections.abc import Iterable

from models import Organization
from vserverlib.serving import rows
from vserverlib.serving.answers import Answer, Links, Shown, encoded_key, page_of
from vserverlib.serving.permissions import VIEW
from vserverlib.serving.requests import TEXT, Field, Request
from vserverlib.serving.tables import MEMBER

RESOURCE = "organization"
TEXTS = ("name", "domain", "address1", "address2", "zipcode", "country")
SHAPE = {**{name: Field(TEXT) for name in TEXTS}, "public_key": Field(TEXT)}
NEW = {**SHAPE, "name": Field(TEXT, needed=True)}


def shown(links: Links, organizations: Iterable[Organization]) -> list[Shown]:
    """Return organizations as the API shows them."""
    return [
        {
            "id": each.id,
            **{name: getattr(each, name) for name in TEXTS},
            "public_key": encoded_key(each.public_key),
            **{
                f"{kind}s": links.many(kind, name, each.id)
                for kind, name in (
                    ("collaboration", "organization_id"),
                    ("node", "organization_id"),
                    ("user", "organization_id"),
                    ("task", "init_org_id"),
                    ("run", "organization_id"),
                )
            },
            "studies": links.many("study", "organization_id", each.id),
        }
        for each in organizations
    ]


def list_(request: Request) -> Answer:
    """List the organizations that the caller may see."""
    query = rows.visible(request, RESOURCE, Organization)
    query = rows.like(query, request, Organization.name)
    query = rows.equal(query, request, {"country": Organization.country})
    if (collaboration := request.number("collaboration_id")) is not None:
        members = MEMBER.select(MEMBER.organization_id).where(MEMBER.collaboration_id == collaboration)
        query = query.where(Organization.id.in_(members))
    if request.number("study_id") is not None:  # there are no studies
        query = query.none()
    links = Links(request)
    return page_of(request, query, lambda found: shown(links, found))


def get(request: Request) -> Answer:
    """Return one organization."""
    found = rows.one(request, RESOURCE, VIEW, Organization)
    return Answer(shown(Links(request), [found])[0])
