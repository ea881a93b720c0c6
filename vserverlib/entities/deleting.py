"""Deleting entities: what hangs on them, and taking that along.

What hangs on an entity is what its links are followed back from, over all steps, as vantage6's API does it since 4.0:
organization → users, nodes, memberships, results, the tasks it initiated; collaboration → nodes, memberships, tasks;
task → results, child tasks.

A plan is a tree of kinds, not of entities: however much hangs on one, it is a few branches with a number of ids each,
and making it takes a query for each. How it looks is trees.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vserverlib import Error
from vserverlib import pluralize as in_words
from vserverlib.drivers import peewee
from vserverlib.entities.orm import EntityBase

ALONG = "delete(dependents=True) takes them along"  # the remedy at the prompt

Ids = dict[type[EntityBase], set[int]]


class Branch(NamedTuple):
    """Those of one kind that go along because of a link of theirs, and what goes along because of them."""

    link: Any
    ids: list[int]
    branches: list[Branch]

    @property
    def model(self) -> type[EntityBase]:
        """Return of which kind they are."""
        model: type[EntityBase] = self.link.model
        return model


class Plan(NamedTuple):
    """What a deletion comes to: the entities that were named, all of one kind, and what hangs on them."""

    model: type[EntityBase]
    named: list[str]  # what messages call them
    ids: list[int]
    branches: list[Branch]
    change: int | None = None  # what the journal calls the deletion, once it is committed

    def along(self) -> Ids:
        """Return the ids of all that hangs on them, by model."""
        found: Ids = {}
        for branch in _every(self.branches):
            found.setdefault(branch.model, set()).update(branch.ids)
        return found

    def summary(self) -> str:
        """Return in one line what such a deletion has done."""
        along = self.along()
        also = f", and with {'it' if len(self.ids) == 1 else 'them'} {pluralize(along)}" if along else ""
        return f"deleted {self.subject()}{also}"

    def subject(self) -> str:
        """Return what is deleted: one by its name, several by how many they are."""
        return self.named[0] if len(self.ids) == 1 else f"{len(self.ids):,} {self.model.plural}"

    def __repr__(self) -> str:
        """Return what the shell shows of delete(dependents=True): also how it is taken back."""
        return self.summary() + ("" if self.change is None else f"; take it back with: db.undo(change={self.change})")


# Planning


def planned(entities: Sequence[EntityBase]) -> Plan:
    """Return what deleting these entities, all of one kind, comes to. Writes nothing."""
    model, ids = type(entities[0]), sorted({entity.id for entity in entities})
    named = {entity.id: entity.named() for entity in entities}
    return Plan(model, [named[id] for id in ids], ids, _branches(model, set(ids), {model: set(ids)}))


def _branches(model: type[EntityBase], ids: set[int], known: Ids) -> list[Branch]:
    """Return what hangs on some entities and is not known to go along yet."""
    found = []
    for link in model._meta.backrefs:
        fresh = _hanging(link, ids, known.setdefault(link.model, set()))
        if fresh:
            found.append(Branch(link, sorted(fresh), _branches(link.model, fresh, known)))
    return found


def _hanging(link: Any, ids: set[int], known: set[int]) -> set[int]:
    """Return who has a link to some entities; where that is to its own kind, over all generations: one branch."""
    found, last = set[int](), ids
    while last:
        last = _ids(link.model, _among(link.column_name, last)) - known
        known |= last
        found |= last
        if link.model is not link.rel_model:
            break
    return found


def _every(branches: Iterable[Branch]) -> Iterator[Branch]:
    for branch in branches:
        yield branch
        yield from _every(branch.branches)


def pluralize(along: Ids) -> str:
    """Return what goes along in words: "2 nodes, 1 membership"."""
    return ", ".join(in_words(len(ids), model.noun, model.plural) for model, ids in along.items())


# Deleting


def delete(
    entities: Sequence[EntityBase], along: bool = False, *, remedy: str = ALONG, expected: Plan | None = None
) -> Plan:
    """Delete entities of one kind, and all that hangs on them where `along` says so; one transaction. Return the plan.

    Raises an Error where one was never saved or is gone, where something hangs on them and is not to go along (which
    ends with the remedy), or where that is more or less than what was expected.
    """
    database = entities[0]._meta.database
    with database.atomic():
        for entity in entities:
            _require(entity)
        plan = planned(entities)
        if plan.branches and not along:
            verb = "has" if len(plan.ids) == 1 else "have"
            raise Error(f"{plan.subject()} still {verb} {pluralize(plan.along())}: {remedy}")
        if expected is not None and plan.along() != expected.along():
            raise Error(f"what hangs on {plan.subject()} has changed meanwhile: nothing was deleted; look again")
        _execute(entities, plan)
    return plan if database.in_transaction() else plan._replace(change=database.last_change)


def _require(entity: EntityBase) -> None:
    if entity.id is None:
        raise Error(f"{entity.named()} is not in the database: there is nothing to delete")
    if type(entity).by_id(entity.id) is None:
        raise Error(f"{entity.named()} does not exist (any more): it was deleted meanwhile")


def _execute(entities: Sequence[EntityBase], plan: Plan) -> None:
    if len(entities) == 1 and not plan.branches and entities[0].affected_tasks() is not None:
        return _delete_one(entities[0])
    going = plan.along()
    going.setdefault(plan.model, set()).update(plan.ids)
    for model in reversed(peewee.sort_models(list(going))):
        peewee.ModelDelete(model).where(_among("id", going[model])).execute()
    return None


def _delete_one(entity: EntityBase) -> None:
    database = entity._meta.database
    with database.without_invalidation():
        peewee.ModelDelete(type(entity)).where(type(entity).id == entity.id).execute()
    database.invalidate_tasks(entity.affected_tasks())


def _ids(model: type[EntityBase], condition: Any) -> set[int]:
    return {id for (id,) in model.select(model.id).where(condition).tuples()}


def _among(column: str, ids: set[int]) -> Any:
    """Return the condition that a column is one of these ids: written out, for no database takes so many parameters."""
    return peewee.SQL(f"{column} IN ({', '.join(map(str, sorted(ids)))})")
