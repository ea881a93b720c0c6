"""The calls about users and their roles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from models import Organization, Task, User
from vserverlib import Error, hashing, pluralize, printable
from vserverlib.entities.roles import USER_ROLES
from vserverlib.entities.rule_sql import LONGEST_NAME
from vserverlib.serving import permissions, rows, tasks
from vserverlib.serving.answers import Answer, Links, Shown, page_of, time
from vserverlib.serving.callers import USER, Caller
from vserverlib.serving.permissions import COLLABORATION, CREATE, DELETE, EDIT, GLOBAL, ORGANIZATION, VIEW, Role
from vserverlib.serving.refusals import Refusal, lacking
from vserverlib.serving.requests import ID, IDS, TEXT, Field, Request, read
from vserverlib.serving.server import Server
from vserverlib.serving.tables import TASK

RESOURCE = "user"
TEXTS = ("username", "firstname", "lastname", "email")
SHAPE = {
    **{name: Field(TEXT) for name in TEXTS},
    "organization_id": Field(ID),
    "roles": Field(IDS),
    "rules": Field(IDS),
}
NEW = {**SHAPE, "username": Field(TEXT, needed=True), "password": Field(TEXT, needed=True)}


def shown(links: Links, users: Iterable[User]) -> list[Shown]:
    """Return users as the API shows them."""
    return [
        {
            "id": each.id,
            **{name: getattr(each, name) for name in TEXTS},
            "type": USER,
            "ip": each.ip,
            "last_seen": time(each.last_seen),
            "status": each.status,
            "organization": links.one("organization", each.organization_id),
            "roles": links.many("role", "user_id", each.id),
            "rules": links.many("rule", "user_id", each.id),
            "otp_secret": None,
            "last_email_failed_login_sent": None,
            "last_email_recover_password_sent": None,
        }
        for each in users
    ]


def list_(request: Request) -> Answer:
    """List the users that the caller may see."""
    query = rows.visible(request, RESOURCE, User)
    for name in TEXTS:
        query = rows.like(query, request, getattr(User, name))
    query = rows.equal(query, request, {"organization_id": User.organization})
    query = rows.between(query, request, {"last_seen": User.last_seen})
    if (collaboration := request.number("collaboration_id")) is not None:
        query = query.where(User.organization.in_(rows.members_of(request, collaboration)))
    query = _with_rights(request, query)
    links = Links(request)
    return page_of(request, query, lambda found: shown(links, found))


def _with_rights(request: Request, query: Any) -> Any:
    """Filter by a role or a rule: roles are text, so all users are read."""
    role, rule = request.number("role_id"), request.number("rule_id")
    if role is None and rule is None:
        return query
    known = {id: permissions.of_user(text) for id, text in User.select(User.id, User.roles).tuples()}
    right = next((each.right for each in permissions.rules() if each.id == rule), None)
    ids = [
        id
        for id, found in known.items()
        if (role is None or any(each.id == role for each in found))
        and (rule is None or right in permissions.rights_of(found))
    ]
    return query.where(User.id.in_(ids)) if ids else query.none()


def get(request: Request) -> Answer:
    """Return one user."""
    return _answer(request, rows.one(request, RESOURCE, VIEW, User))


def _answer(request: Request, user: User, status: int = 200) -> Answer:
    return Answer(shown(Links(request), [user])[0], status)


# Changing


async def create(request: Request, server: Server) -> Answer:
    """Create a user with a password and roles."""
    given = read(request.fields, NEW)
    password = given.pop("password")
    refuse_weak("password", password)
    await server.desk.read(lambda: _require_creating(request, given))
    given["password"] = await server.hashing.make_hash(password)
    return await server.write(request, lambda: _create(request, dict(given)))


def refuse_weak(name: str, password: str) -> None:
    """Raise a 400 for a password that is weak, or that cannot be hashed."""
    try:
        hashing.check_plain(name, password)
        weakness = hashing.weakness_of_password(password)
        fault = f"Password is too weak: {weakness}." if weakness else ""
    except Error as error:
        fault = f"{error}."
    if fault:
        raise Refusal(400, "Request body is incorrect", {name: [fault]})


def _require_creating(request: Request, given: dict[str, Any]) -> Organization:
    caller = request.who
    organization = rows.by_id(Organization, given.get("organization_id", caller.organization_id))
    if not (
        caller.may(RESOURCE, CREATE, GLOBAL)
        or (caller.may(RESOURCE, CREATE, COLLABORATION) and organization.id in caller.partners)
        or (caller.may(RESOURCE, CREATE, ORGANIZATION) and organization.id == caller.organization_id)
    ):
        raise lacking()
    _given_roles(caller, given)
    _refuse_taken(given)  # before a hash is computed
    return organization


def _refuse_taken(given: dict[str, Any], user: User | None = None) -> None:
    """Raise a 400 for a long name, or for a name or an address of another user, of whom it says nothing."""
    if len(given.get("username", "")) > LONGEST_NAME:
        fault = f"Length must be at most {LONGEST_NAME}."
        raise Refusal(400, "Request body is incorrect", {"username": [fault]})
    for field in (User.username, User.email):
        value = given.get(field.name)
        other = None if value is None else User.first_where(field == value)
        if other is not None and (user is None or other.id != user.id):
            raise Refusal(400, f'the {field.name} "{printable(value)}" is taken: choose another')


def _create(request: Request, given: dict[str, Any]) -> Answer:
    given["organization"] = _require_creating(request, given)
    given.pop("organization_id", None)
    user = User(**_with_names(request.who, given))
    user.save()
    return _answer(request, user, 201)


def _with_names(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the names of roles in place of their ids."""
    found = _given_roles(caller, given)
    rest = {name: value for name, value in given.items() if name not in ("roles", "rules")}
    return rest if found is None else {**rest, "roles": ", ".join(role.name for role in found) or None}


def _given_roles(caller: Caller, given: dict[str, Any]) -> Sequence[Role] | None:
    """Return the roles that a body gives, None without any. A 401 for one with more rights than the caller has."""
    if given.get("rules"):
        raise Refusal(400, "this server gives rights by roles only: leave out rules")
    if "roles" not in given:
        return None
    found = [_role(id) for id in dict.fromkeys(given["roles"])]
    _refuse_more(caller, found)
    return found


def _role(id: int) -> Role:
    role = permissions.role_by_id(id)
    if role is None or role.name not in USER_ROLES:
        known = ", ".join(f"{permissions.roles()[name].id} ({name})" for name in USER_ROLES)
        raise Refusal(400, f"there is no role {id} for users: there are {known}")
    return role


def _refuse_more(caller: Caller, found: Sequence[Role]) -> None:
    """Raise a 401 if some roles have more rights than the caller."""
    if not permissions.rights_of(tuple(found)) <= caller.rights:
        raise Refusal(401, "You cannot give or take rights that you do not have yourself")


def update(request: Request) -> Answer:
    """Change fields or roles of a user; nobody changes one's own roles."""
    given, caller = read(request.fields, SHAPE), request.who
    user = rows.one(request, RESOURCE, EDIT, User)
    if request.fields.get("password") is not None:  # ignoring it would look as if it had been changed
        raise Refusal(400, "a password is changed by PATCH password/change, or by: vserver passwd USERNAME")
    if "roles" in given:
        if caller.id == user.id:
            raise Refusal(401, "You cannot change your own roles")
        _refuse_more(caller, permissions.of_user(user.roles))
    organization = given.pop("organization_id", user.organization_id)
    if organization != user.organization_id:
        if not caller.may(RESOURCE, EDIT, GLOBAL):
            raise lacking()
        user.organization = rows.by_id(Organization, organization, 400)
    _refuse_taken(given, user)
    rows.assign(user, _with_names(caller, given))
    user.save()
    return _answer(request, user)


def delete(request: Request) -> Answer:
    """Delete a user, with the tasks that the user has created if delete_dependents is true."""
    user = rows.one(request, RESOURCE, DELETE, User)
    created = list(Task.select().where(Task.id.in_(TASK.select(TASK.id).where(TASK.init_user_id == user.id))))
    if created and not request.flag("delete_dependents"):
        how = "delete them first, or use delete_dependents=true"
        raise Refusal(400, f"user id={user.id} has created {pluralize(len(created), 'task')}: {how}")
    for task in created:
        tasks.delete_one(request, task)
    return rows.delete(request, user, "User")
