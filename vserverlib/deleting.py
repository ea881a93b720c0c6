"""Deleting an entity: what hangs on it, and taking that along.

What hangs on an entity is what its links are followed back from, over all steps, as vantage6's API does it since 4.0:
organization → users, nodes, memberships, results, the tasks it initiated; collaboration → nodes, memberships, tasks;
task → results, child tasks.
"""

from __future__ import annotations

from typing import Any

from vserverlib import Error
from vserverlib.drivers import peewee
from vserverlib.orm import Entity

Plan = dict[type[Entity], set[int]]


def dependents(entity: Entity) -> Plan:
    """Return the ids of all that hangs on an entity, by model, itself left out."""
    plan: Plan = {}
    fresh: list[tuple[type[Entity], set[int]]] = [(type(entity), {entity.id})]
    while fresh:
        model, ids = fresh.pop()
        for link in model._meta.backrefs:
            known = plan.setdefault(link.model, set())
            found = _ids(link.model, _among(link.column_name, ids)) - known
            found.discard(entity.id if isinstance(entity, link.model) else 0)
            if found:
                known |= found
                fresh.append((link.model, found))
    return {model: ids for model, ids in plan.items() if ids}


def delete(entity: Entity, along: bool = False) -> None:
    """Delete an entity, and all that hangs on it where `along` says so; one transaction."""
    model, database = type(entity), entity._meta.database
    if entity.id is None:
        raise Error(f"{entity.named()} is not in the database: there is nothing to delete")
    with database.atomic():
        if model.by_id(entity.id) is None:
            raise Error(f"{entity.named()} does not exist (any more): it was deleted meanwhile")
        plan = dependents(entity)
        if plan and not along:
            raise Error(f"{entity.named()} still has {counted(plan)}: delete(dependents=True) takes them along")
        if not plan and entity.touched_tasks() is not None:
            return _delete_one(entity)
        plan.setdefault(model, set()).add(entity.id)
        for each in reversed(peewee.sort_models(list(plan))):
            peewee.ModelDelete(each).where(_among("id", plan[each])).execute()
    return None


def counted(plan: Plan) -> str:
    """Return what a plan takes along, in words: "2 nodes, 1 membership"."""
    return ", ".join(f"{len(ids):,} {m.plural if len(ids) > 1 else m.noun}" for m, ids in plan.items())


def _delete_one(entity: Entity) -> None:
    database = entity._meta.database
    with database.foreseen():
        peewee.ModelDelete(type(entity)).where(type(entity).id == entity.id).execute()
    database.forget_tasks(entity.touched_tasks())


def _ids(model: type[Entity], condition: Any) -> set[int]:
    return {id for (id,) in model.select(model.id).where(condition).tuples()}


def _among(column: str, ids: set[int]) -> Any:
    """Return the condition that a column is one of these ids: written out, for no database takes so many parameters."""
    return peewee.SQL(f"{column} IN ({', '.join(map(str, sorted(ids)))})")
