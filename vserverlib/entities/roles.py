"""The names of the roles of vantage6 4.15, as `user.roles` holds them: which a text names, and which nobody knows.

serving/permissions.py has their rules.
"""

from __future__ import annotations

from typing import Any

CONTAINER_ROLE, NODE_ROLE = "container", "node"
# In the order of their ids.
DEFAULT_ROLES = {
    "Root": "Super role",
    CONTAINER_ROLE: "Role for running computation containers",
    NODE_ROLE: "Role for nodes",
    "Viewer": "Can view resources of the own organization and collaborations",
    "Researcher": "Can create and view tasks",
    "Organization Admin": "Can manage the own organization",
    "Collaboration Admin": "Can manage the own collaborations",
}
USER_ROLES = tuple(name for name in DEFAULT_ROLES if name not in (CONTAINER_ROLE, NODE_ROLE))
_BY_FOLDED_NAME = {name.casefold(): name for name in DEFAULT_ROLES}


def words(text: Any) -> list[str]:
    """Return the names in a text, separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()] if isinstance(text, str) else []


def names_in(text: Any) -> list[str]:
    """Return the default roles that a text names, in any case; each once, in their order there."""
    found = (_BY_FOLDED_NAME.get(word.casefold()) for word in words(text))
    return list(dict.fromkeys(name for name in found if name is not None))
