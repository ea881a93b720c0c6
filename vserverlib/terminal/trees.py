"""The plan of a deletion as a tree, for its preview and its question. deleting.py makes the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.text import Text
from rich.tree import Tree

from vserverlib.entities.deleting import Branch, Plan
from vserverlib.queries import listing
from vserverlib.terminal.views import Look

NAMED = 5  # entities of a branch that are named; a sixth is named too, instead of "1 more"


class PlanTree:
    """A plan as a tree: the named entities, their dependents, and the dependents of those."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look, plan = Look(options.encoding), self.plan
        tree = Tree(_line(plan.subject(), look, "bold"))
        if len(plan.ids) > 1:
            _add(tree, plan.named, len(plan.ids), look)
        _grow(tree, plan.branches, look)
        yield tree


def _grow(tree: Tree, branches: Iterable[Branch], look: Look) -> None:
    for branch in branches:
        twig = tree.add(_line(_title(branch), look, "bold"))
        _add(twig, _names(branch), len(branch.ids), look)
        _grow(twig, branch.branches, look)


def _title(branch: Branch) -> str:
    """Return the number of dependents, and their role if it is more than their name: 2 tasks (children)."""
    role = branch.link.backref
    is_named = role[0] in "+!" or role == branch.model.plural
    return listing.pluralize(len(branch.ids), branch.model) + ("" if is_named else f" ({role})")


def _names(branch: Branch) -> list[str]:
    """Return the names of the first dependents; none for an entity without a name field."""
    model: Any = branch.model
    if model.name_field() is None:
        return []
    shown = branch.ids[: _room(len(branch.ids))]
    found = model.select().where(model.id.in_(shown)).order_by(model.id)
    return [entity.named().removeprefix(f"{model.noun} ") for entity in found]


def _add(tree: Tree, names: list[str], count: int, look: Look) -> None:
    room = _room(count)
    for name in names[:room]:
        tree.add(_line(name, look))
    if names and count > room:
        tree.add(_line(f"{look.more} {count - room:,} more", look, "dim"))


def _room(count: int) -> int:
    return NAMED if count > NAMED + 1 else count


def _line(text: str, look: Look, style: str = "") -> Text:
    return Text(look.safe(text), style, no_wrap=True, overflow=look.overflow)
