"""Chooses the user, the collaboration and the organizations of a task: a choice that is left open has to be unique.

The server checks everything again. Here, a wrong name or several candidates are one line before anything is posted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import models
from models import Collaboration, Node, Organization, User
from vserverlib import Error, printable
from vserverlib.entities import finding
from vserverlib.serving import permissions
from vserverlib.serving.permissions import COLLABORATION, CREATE, GLOBAL
from vserverlib.serving.presence import ONLINE
from vserverlib.serving.tables import MEMBER

MAY_POST = frozenset({("task", CREATE, COLLABORATION), ("task", CREATE, GLOBAL)})
MOST_NAMED = 10  # candidates in a message


class Wanted(NamedTuple):
    """The choices of the caller, as ids or names. everywhere: all organizations with a node; by default, the user's."""

    user: str | None = None
    collaboration: str | None = None
    organizations: tuple[str, ...] = ()
    everywhere: bool = False


class Choice(NamedTuple):
    """The user, the collaboration, and the organizations that run the task, with their nodes in the same order."""

    user: Any
    collaboration: Any
    organizations: list[Any]
    nodes: list[Any]


class _Place(NamedTuple):
    """A collaboration, the ids of its members, and its nodes by the id of their organization."""

    collaboration: Any
    members: set[int]
    nodes: dict[int, Any]


class _Candidate(NamedTuple):
    """A user who may post in a place, and the ids of the organizations that would run it."""

    user: Any
    place: _Place
    ids: list[int]

    @property
    def can_run(self) -> bool:
        """Whether all of these organizations are members with a node."""
        return bool(self.ids) and self.place.members & self.place.nodes.keys() >= {*self.ids}

    @property
    def is_online(self) -> bool:
        """Whether all of their nodes are online."""
        return all(self.place.nodes[id].status == ONLINE for id in self.ids)


def choose(wanted: Wanted) -> Choice:
    """Return the choice. Raises an Error that names the candidates, or the missing part. At most eight queries."""
    organizations = [finding.one(Organization, word) for word in wanted.organizations]
    candidates = _candidates(wanted, list(dict.fromkeys(each.id for each in organizations)))
    able = [each for each in candidates if each.can_run]
    if not able:
        raise _unable(organizations, candidates)
    user, place, ids = _only_user(_in_one_collaboration(able))
    found = {each.id: each for each in Organization.select().where(Organization.id.in_(ids))}
    return Choice(user, place.collaboration, [found[id] for id in ids], [place.nodes[id] for id in ids])


def _candidates(wanted: Wanted, organizations: list[int]) -> list[_Candidate]:
    """Return each user who may post, in each collaboration of its organization. Raises an Error if there are none."""
    users, places = _users(wanted.user), _places(wanted.collaboration)
    pairs = [(user, place) for place in places for user in users if user.organization_id in place.members]
    if not pairs:
        raise _nobody(wanted, users, places)
    if wanted.everywhere:
        return [_Candidate(user, place, sorted(place.members & place.nodes.keys())) for user, place in pairs]
    return [_Candidate(user, place, organizations or [user.organization_id]) for user, place in pairs]


def _users(word: str | None) -> list[Any]:
    """Return the users who may post tasks, or the named one. Raises an Error if that one may not."""
    asked = list(User.select().order_by(User.id)) if word is None else [finding.one(User, word)]
    able = [user for user in asked if MAY_POST & permissions.rights_of(permissions.of_user(user.roles))]
    if not able:
        who = "no user" if word is None else asked[0].named()
        raise Error(
            f"{who} may not post tasks: give one the role Researcher, with: vserver set user … roles+=Researcher"
        )
    return able


def _places(word: str | None) -> list[_Place]:
    """Return the collaborations without encryption, or the named one. Raises an Error if that is encrypted."""
    asked = list(Collaboration.select().order_by(Collaboration.id)) if word is None else [_plain(word)]
    found = {each.id: _Place(each, set(), {}) for each in asked if not each.encrypted}
    for collaboration, organization in models.database.execute(
        MEMBER.select(MEMBER.collaboration_id, MEMBER.organization_id)
    ):
        if collaboration in found:
            found[collaboration].members.add(organization)
    for node in Node.select().order_by(Node.id.desc()):
        if node.collaboration_id in found:
            found[node.collaboration_id].nodes[node.organization_id] = node
    return list(found.values())


def _plain(word: str) -> Any:
    found = finding.one(Collaboration, word)
    if found.encrypted:
        raise Error(f"{found.named()} is encrypted: post with vantage6's client, which encrypts the input")
    return found


def _in_one_collaboration(able: list[_Candidate]) -> list[_Candidate]:
    """Return the candidates of the only collaboration, or of the only one whose nodes are online."""
    for left in (able, [each for each in able if each.is_online]):
        if len({each.place.collaboration.id for each in left}) == 1:
            return left
    names = dict.fromkeys(each.place.collaboration.name for each in able)
    raise Error(f"several collaborations fit: choose a collaboration, one of {_listed(names)}")


def _only_user(able: list[_Candidate]) -> _Candidate:
    if len(able) > 1:
        raise Error(f"several users may post it: choose a user, one of {_listed(each.user.username for each in able)}")
    return able[0]


# Messages


def _nobody(wanted: Wanted, users: Sequence[Any], places: Sequence[_Place]) -> Error:
    """Return the error if no user who may post tasks belongs to one of these collaborations."""
    if not places:
        return Error("there is no collaboration without encryption: create one, with: vserver create collaboration …")
    where = (
        places[0].collaboration.named() if wanted.collaboration is not None else "a collaboration without encryption"
    )
    who = f"{users[0].named()} does not belong" if wanted.user is not None else "no user who may post tasks belongs"
    return Error(f"{who} to an organization in {where}: choose another user or collaboration")


def _unable(organizations: Sequence[Any], candidates: Sequence[_Candidate]) -> Error:
    """Return the error if some of the organizations that would run a task are no members, or have no node."""
    places = {each.place.collaboration.id: each.place for each in candidates}
    where = "any collaboration" if len(places) > 1 else candidates[0].place.collaboration.named()
    have = _names({id for place in places.values() for id in place.members & place.nodes.keys()})
    remedy = f"choose organizations, of {_listed(have)}" if have else "create nodes, with: vserver create node …"
    if not organizations:
        return Error(f"the user's organization has no node in {where}: {remedy}")
    names = ", ".join(each.named() for each in organizations)
    return Error(f"{names} {'has' if len(organizations) == 1 else 'have'} no node in {where}: {remedy}")


def _names(ids: set[int]) -> list[str]:
    return [each.name for each in Organization.select().where(Organization.id.in_(sorted(ids))).limit(MOST_NAMED + 1)]


def _listed(names: Iterable[Any]) -> str:
    every = [f'"{printable(name)}"' for name in names]
    return ", ".join(every[:MOST_NAMED]) + (", …" if len(every) > MOST_NAMED else "")
