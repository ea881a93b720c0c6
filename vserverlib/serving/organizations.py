"""The calls about organizations."""

from __future__ import annotations

from collections.abc import Iterable

from models import Organization
from vserverlib.serving import rows
from vserverlib.serving.answers import Answer, Links, Shown, encoded_key, page_of
from vserverlib.serving.permissions import CREATE, DELETE, EDIT, GLOBAL, VIEW
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import TEXT, Field, Request, read

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
        query = query.where(Organization.id.in_(rows.members_of(request, collaboration)))
    if request.number("study_id") is not None:  # there are no studies
        query = query.none()
    links = Links(request)
    return page_of(request, query, lambda found: shown(links, found))


def _answer(request: Request, organization: Organization, status: int = 200) -> Answer:
    return Answer(shown(Links(request), [organization])[0], status)


def get(request: Request) -> Answer:
    """Return one organization."""
    return _answer(request, rows.one(request, RESOURCE, VIEW, Organization))


def create(request: Request) -> Answer:
    """Create an organization."""
    given = read(request.fields, NEW)
    if not request.who.may(RESOURCE, CREATE, GLOBAL):
        raise lacking()
    organization = Organization(**given)
    organization.save()
    return _answer(request, organization, 201)


def update(request: Request) -> Answer:
    """Change fields of an organization; its public key only for its own users and nodes."""
    given = read(request.fields, SHAPE)
    organization = rows.one(request, RESOURCE, EDIT, Organization)
    if "public_key" in given and organization.id != request.who.organization_id:
        raise lacking()
    rows.assign(organization, given)
    organization.save()
    return _answer(request, organization)


def delete(request: Request) -> Answer:
    """Delete an organization, with its dependents if delete_dependents is true."""
    organization = rows.one(request, RESOURCE, DELETE, Organization)
    if organization.id == request.who.organization_id:
        raise Refusal(400, "You cannot delete your own organization: have somebody of another one do it")
    return rows.delete(request, organization, "Organization")
