"""The default roles of vantage6 4.15 and their rules, as data; and which rows a caller may see or change.

A rule is a resource, an operation and a scope. Roles are names in `user.roles`, separated by commas, in any case; an
unknown name grants nothing, and `vserver check` reports it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from vserverlib.entities.roles import CONTAINER_ROLE, DEFAULT_ROLES, NODE_ROLE, names_in

OPERATIONS = {"V": "view", "E": "edit", "C": "create", "D": "delete", "R": "receive", "S": "send"}
SCOPES = {"g": "global", "c": "collaboration", "o": "organization", "w": "own"}
VIEW, EDIT, CREATE, DELETE, SEND = "view", "edit", "create", "delete", "send"
GLOBAL, COLLABORATION, ORGANIZATION, OWN = SCOPES.values()

# By resource: the operations with their scopes of Root, Collaboration Admin, Organization Admin, Researcher, Viewer,
# container, node. Root has every rule that there is.
TABLE = """
collaboration | Vgo Egc Cg Dgc          | Vo Ec           | Vo             | Vo       | Vo       | Vo  | Vo
event         | Rgco Sgco               | Rco Sco         | Rco So         | Rco      | Rco      |     |
node          | Vgco Egco Cgco Dgco     | Vco Eo Cco Dc   | Vco Eo Co      | Vco      | Vco      | Vo  | Vo Eo
organization  | Vgco Egco Cg Dg         | Vgco Eco        | Vco Eo         | Vco      | Vco      | Vco | Vco Eo
port          | Vgo                     | Vo              | Vo             | Vo       | Vo       | Vo  | Vo
role          | Vgco Egco Cgco Dgco     | Vco Eo Co Do    | Vo Eo Co Do    | Vo       | Vo       |     |
run           | Vgcow                   | Vc              | Vc             | Vc       | Vc       | Vc  | Vc
study         | Vgco Egco Cgc Dgco      | Vco Ec Cc Dc    | Vo             | Vo       | Vo       | Vo  | Vo
task          | Vgcow Cgc Dgcow         | Vc Cc Do        | Vc             | Vc Cc Do | Vc       | Vc  | Vc
user          | Vgco Egcow Cgco Dgcow   | Vco Ecow Cco Dow | Vo Eow Co Dow | Vo Ew Dw | Vo Ew Dw |     |
"""
COLUMNS = (
    "Root",
    "Collaboration Admin",
    "Organization Admin",
    "Researcher",
    "Viewer",
    CONTAINER_ROLE,
    NODE_ROLE,
)  # of TABLE

Right = tuple[str, str, str]  # resource, operation, scope


class Rule(NamedTuple):
    """A rule with its id, as the API lists it."""

    id: int
    resource: str
    operation: str
    scope: str

    @property
    def right(self) -> Right:
        return self.resource, self.operation, self.scope

    @property
    def description(self) -> str:
        """One sentence, for people."""
        of_scope = {
            GLOBAL: "of every organization",
            COLLABORATION: "in your collaborations",
            ORGANIZATION: "of your organization",
            OWN: "of your own",
        }
        return f"{self.operation.capitalize()} {self.resource}s {of_scope[self.scope]}"


class Role(NamedTuple):
    """A default role with its id and its rules."""

    id: int
    name: str
    description: str
    rights: frozenset[Right]


@functools.cache
def table() -> dict[str, dict[str, str]]:
    """Return the rules by resource and role, as letters."""
    rows = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
    return {resource: dict(zip(COLUMNS, cells, strict=True)) for resource, *cells in rows}


def _rights(role: str) -> list[Right]:
    return [
        (resource, OPERATIONS[word[0]], SCOPES[letter])
        for resource, cells in table().items()
        for word in cells[role].split()
        for letter in word[1:]
    ]


@functools.cache
def rules() -> tuple[Rule, ...]:
    """Return every rule, with ids from 1."""
    return tuple(Rule(id, *right) for id, right in enumerate(_rights("Root"), 1))


@functools.cache
def roles() -> dict[str, Role]:
    """Return the default roles by name, with ids from 1."""
    return {
        name: Role(id, name, about, frozenset(_rights(name)))
        for id, (name, about) in enumerate(DEFAULT_ROLES.items(), 1)
    }


def role_by_id(id: int) -> Role | None:
    """Return the role with an id, or None."""
    return next((role for role in roles().values() if role.id == id), None)


def of_user(text: Any) -> tuple[Role, ...]:
    """Return the known roles that a user's `roles` names, without those of nodes and containers."""
    return tuple(roles()[name] for name in names_in(text) if name not in (NODE_ROLE, CONTAINER_ROLE))


def rights_of(found: tuple[Role, ...]) -> frozenset[Right]:
    """Return all rights of some roles."""
    return frozenset().union(*(role.rights for role in found))


def names_of(found: tuple[Role, ...]) -> tuple[str, ...]:
    """Return the names of some roles."""
    return tuple(role.name for role in found)
