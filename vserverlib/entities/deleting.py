"""Deleting entities and their dependents.

Dependents are all entities whose links lead to a deleted one, directly or through others, as in vantage6's API since
4.0: organization → users, nodes, memberships, results, the tasks it initiated; collaboration → nodes, memberships,
tasks; task → results, child tasks.

A plan is a tree of models, not of entities: a few branches with ids, and one query for each, however many dependents
there are. terminal/trees.py displays it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vserverlib import Error, pluralize
from vserverlib.drivers import peewee
from vserverlib.entities.orm import EntityBase, after_delete, before_delete

REMEDY = "delete(dependents=True) deletes them too"  # at the prompt

Ids = dict[type[EntityBase], set[int]]


class Branch(NamedTuple):
    """Dependents of one model that are deleted because of one of their links, and their own dependents."""

    link: Any
    ids: list[int]
    branches: list[Branch]

    @property
    def model(self) -> type[EntityBase]:
        """The model of these dependents."""
        model: type[EntityBase] = self.link.model
        return model


class Plan(NamedTuple):
    """The entities to delete, all of one model, and their dependents."""

    model: type[EntityBase]
    named: list[str]  # how messages name the entities
    ids: list[int]
    branches: list[Branch]
    change: int | None = None  # the number of the change in the journal, once it is committed

    def dependents(self) -> Ids:
        """Return the ids of all dependents, by model."""
        found: Ids = {}
        for branch in _all_branches(self.branches):
            found.setdefault(branch.model, set()).update(branch.ids)
        return found

    def by_model(self) -> Ids:
        """Return the ids of all entities to delete, in an order that leaves no link to a deleted one."""
        ids = self.dependents()
        ids.setdefault(self.model, set()).update(self.ids)
        return {model: ids[model] for model in reversed(peewee.sort_models(list(ids)))}

    def summary(self) -> str:
        """Return the deleted entities in one line."""
        dependents = self.dependents()
        also = f", and with {'it' if len(self.ids) == 1 else 'them'} {counts(dependents)}" if dependents else ""
        return f"deleted {self.subject()}{also}"

    def subject(self) -> str:
        """Return the name of the deleted entity, or the number of several."""
        is_named = len(self.ids) == 1 and self.named
        return self.named[0] if is_named else pluralize(len(self.ids), self.model.noun, self.model.plural)

    def __repr__(self) -> str:
        """Return what the shell shows after delete(dependents=True), with the command that undoes it."""
        return self.summary() + ("" if self.change is None else f"; undo it with: db.undo(change={self.change})")


# Planning


def planned(entities: Sequence[EntityBase]) -> Plan:
    """Return the plan to delete these entities, all of one model. Writes nothing."""
    named = {entity.id: entity.named() for entity in entities}
    return planned_ids(type(entities[0]), named, [named[id] for id in sorted(named)])


def planned_ids(model: type[EntityBase], ids: Iterable[int], named: Sequence[str] = ()) -> Plan:
    """Return the plan to delete the entities of a model with these ids. Writes nothing. named: in order of the ids."""
    chosen = sorted(ids)
    return Plan(model, [*named], chosen, _branches(model, set(chosen), {model: set(chosen)}))


def _branches(model: type[EntityBase], ids: set[int], known: Ids) -> list[Branch]:
    """Return the dependents of some entities that are not yet in the plan. known: all ids in the plan, which grow."""
    found = []
    for link in model._meta.backrefs:
        fresh = _dependents(link, ids, known.setdefault(link.model, set()))
        if fresh:
            found.append(Branch(link, sorted(fresh), _branches(link.model, fresh, known)))
    return found


def _dependents(link: Any, ids: set[int], known: set[int]) -> set[int]:
    """Return the ids of entities that link to some ids; through a link to its own model, all generations."""
    found, last = set[int](), ids
    while last:
        last = ids_of(link.model, among(link.column_name, last)) - known
        known |= last
        found |= last
        if link.model is not link.rel_model:
            break
    return found


def _all_branches(branches: Iterable[Branch]) -> Iterator[Branch]:
    for branch in branches:
        yield branch
        yield from _all_branches(branch.branches)


def counts(dependents: Ids) -> str:
    """Return the numbers of dependents in words: "2 nodes, 1 membership"."""
    return ", ".join(pluralize(len(ids), model.noun, model.plural) for model, ids in dependents.items())


# Deleting


def delete(
    entities: Sequence[EntityBase], dependents: bool = False, *, remedy: str = REMEDY, expected: Plan | None = None
) -> Plan:
    """Delete entities of one model in one transaction, and their dependents if `dependents`. Return the plan.

    Raises an Error if one was never saved or does not exist, if they have dependents that are not to be deleted (the
    message ends with the remedy), or if their dependents are not those of the expected plan.
    """
    database = entities[0]._meta.database
    with database.atomic():
        for entity in entities:
            _require(entity)
        plan = planned(entities)
        if plan.branches and not dependents:
            verb = "has" if len(plan.ids) == 1 else "have"
            raise Error(f"{plan.subject()} still {verb} {counts(plan.dependents())}: {remedy}")
        if expected is not None and plan.dependents() != expected.dependents():
            raise Error(f"the dependents of {plan.subject()} have changed meanwhile: nothing was deleted; try again")
        for hook in before_delete:
            hook(plan)
        _execute(entities, plan)
    done = plan if database.in_transaction() else plan._replace(change=database.last_change)
    for hook in after_delete:
        hook(done)
    return done


def _require(entity: EntityBase) -> None:
    if entity.id is None:
        raise Error(f"{entity.named()} is not in the database: there is nothing to delete")
    if type(entity).by_id(entity.id) is None:
        raise Error(f"{entity.named()} does not exist (any more): it was deleted meanwhile")


def _execute(entities: Sequence[EntityBase], plan: Plan) -> None:
    if len(entities) == 1 and not plan.branches and entities[0].affected_tasks() is not None:
        _delete_one(entities[0])
    else:
        execute(plan)


def execute(plan: Plan) -> None:
    """Delete the entities of a plan, in the open transaction."""
    for model, ids in plan.by_model().items():
        peewee.ModelDelete(model).where(among("id", ids)).execute()


def _delete_one(entity: EntityBase) -> None:
    database = entity._meta.database
    with database.without_invalidation():
        peewee.ModelDelete(type(entity)).where(type(entity).id == entity.id).execute()
    database.invalidate_tasks(entity.affected_tasks())


def ids_of(model: type[EntityBase], *conditions: Any) -> set[int]:
    """Return the ids of the entities that match all conditions, without an entity for each."""
    rows = model._meta.database.execute(model.select(model.id).where(*conditions)).fetchall()
    return {id for (id,) in rows}


def among(column: str, ids: set[int]) -> Any:
    """Return the condition that a column has one of these ids, without parameters: databases limit their number."""
    return peewee.SQL(f"{column} IN ({', '.join(map(str, sorted(ids)))})")
