"""The calls about roles and rules. There are the default roles only, and nobody changes them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from models import User
from vserverlib.serving import permissions, rows
from vserverlib.serving.answers import Answer, Links, Shown, page_of_values
from vserverlib.serving.permissions import Role, Rule
from vserverlib.serving.refusals import not_found
from vserverlib.serving.requests import Request


def shown(links: Links, roles: Iterable[Role]) -> list[Shown]:
    """Return roles as the API shows them."""
    return [
        {
            "id": each.id,
            "name": each.name,
            "description": each.description,
            "is_default_role": True,
            "organization": None,
            "rules": links.many("rule", "role_id", each.id),
            "users": links.many("user", "role_id", each.id),
        }
        for each in roles
    ]


def _rules_shown(links: Links, rules: Iterable[Rule]) -> list[Shown]:
    return [
        {
            "id": each.id,
            "name": each.resource,
            "operation": each.operation,
            "scope": each.scope,
            "description": each.description,
            "users": links.many("user", "rule_id", each.id),
        }
        for each in rules
    ]


def _is_like(pattern: str | None, text: str) -> bool:
    """Whether a text matches a pattern with %, ignoring case; any text without a pattern."""
    if pattern is None:
        return True
    plain = pattern.lower().translate({ord(char): f"[{char}]" for char in "[*?"})
    return re.fullmatch(fnmatch.translate(plain.replace("%", "*")), text.lower()) is not None  # fnmatch keeps too many


def _of_user(request: Request) -> tuple[Role, ...] | None:
    """Return the roles of the user that the query names, None without one."""
    id = request.number("user_id")
    if id is None:
        return None
    user = rows.by_id(User, id)
    request.who.require("user", permissions.VIEW, user)
    return permissions.of_user(user.roles)


def list_(request: Request) -> Answer:
    """List the default roles. They belong to no organization, so organization_id needs include_root."""
    roles, of_user = tuple(permissions.roles().values()), _of_user(request)
    if request.number("organization_id") is not None and not request.flag("include_root"):
        roles = ()
    pattern, rule = rows.pattern(request, "name"), request.number("rule_id")
    right = next((each.right for each in permissions.rules() if each.id == rule), None)
    found = [
        role
        for role in (roles if of_user is None else of_user)
        if _is_like(pattern, role.name) and (rule is None or right in role.rights)
    ]
    return page_of_values(request, shown(Links(request), found))


def get(request: Request) -> Answer:
    """Return one role."""
    id = request.id("role")
    role = permissions.role_by_id(id)
    if role is None:
        raise not_found("role", id)
    return Answer(shown(Links(request), [role])[0])


def list_rules(request: Request) -> Answer:
    """List the rules: of a role or a user, if the query names one."""
    role, of_user = request.number("role_id"), _of_user(request)
    found = list(permissions.rules())
    if role is not None:
        named = permissions.role_by_id(role)
        found = [rule for rule in found if named is not None and rule.right in named.rights]
    if of_user is not None:
        found = [rule for rule in found if rule.right in permissions.rights_of(of_user)]
    asked = {name: rows.pattern(request, name) for name in ("name", "operation", "scope")}
    found = [
        rule for rule in found if all(_is_like(asked[name], text) for name, text in zip(asked, rule.right, strict=True))
    ]
    return page_of_values(request, _rules_shown(Links(request), found))


def get_rule(request: Request) -> Answer:
    """Return one rule."""
    id = request.id("rule")
    found = [rule for rule in permissions.rules() if rule.id == id]
    if not found:
        raise not_found("rule", id)
    return Answer(_rules_shown(Links(request), found)[0])
