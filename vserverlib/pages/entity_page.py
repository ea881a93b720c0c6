"""One entity as a page: its fields, and what the terminal's panel shows below them; of a task, also why it waits."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from markupsafe import Markup

import models
from models import Collaboration, Node, Organization, Result, Task
from vserverlib.entities import progress
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import now
from vserverlib.entities.progress import Counts
from vserverlib.pages import drawing, rendering
from vserverlib.pages.rendering import LOOK
from vserverlib.queries import details, why
from vserverlib.queries.details import AwaitedResults, Family, Lane, Lanes, Participants
from vserverlib.queries.sights import WHOLE, Sight
from vserverlib.queries.why import Awaited, Why
from vserverlib.terminal import why_report
from vserverlib.terminal.panels import Fields, Item


class EntityFigures(NamedTuple):
    """An entity and what belongs to it, of one moment. None: it has no such part."""

    moment: datetime.datetime
    entity: Entity
    fields: Fields
    lanes: Lanes | None = None
    logs: Mapping[int, list[str]] = {}
    family: Family | None = None
    why: Why | None = None
    participants: Participants | None = None
    awaited: AwaitedResults | None = None


def read(entity: Entity) -> EntityFigures:
    """Return the figures of any entity. Does not write."""
    with models.database.reading():
        if isinstance(entity, Task):
            return read_task(entity)
        found = EntityFigures(now(), entity, Fields(entity))
        if isinstance(entity, Collaboration):
            return found._replace(participants=details.participants(entity))
        return found._replace(awaited=details.awaited_results(entity)) if _is_awaited(entity) else found


def _is_awaited(entity: Entity) -> bool:
    return isinstance(entity, Organization | Node)


def read_task(task: Task, sight: Sight = WHOLE) -> EntityFigures:
    """Return the figures of a task, in one sight: the names of what is not seen become ids, and it is not counted.

    For an open transaction.
    """
    found = EntityFigures(
        now(),
        task,
        Fields(task),
        lanes=details.lanes(task),
        family=details.family(task, sight),
        why=why.why(models.database, task),
    )
    found = found._replace(logs=details.log_ends([each.result_id for each in found.lanes.lanes] if found.lanes else []))
    return found if sight.is_whole else _narrowed(found, sight)


def _narrowed(found: EntityFigures, sight: Sight) -> EntityFigures:
    """Return the figures of a task as a sight has them."""
    reasons, lanes, family = found.why, found.lanes, found.family
    if reasons is None or lanes is None or family is None:
        return found
    listed: list[Any] = [*lanes.lanes, *reasons.awaited, *reasons.failed]
    results = sight.seen(Result, {each.result_id for each in listed})
    names = sight.seen(Organization, {each.organization_id for each in listed if each.organization_id is not None})
    nodes = sight.seen(Node, {each.node_id for each in reasons.awaited if each.node_id is not None})
    children = sight.seen(Task, {each.id for each in reasons.children})
    counts = _counts(found.entity, sight)
    sight.hide_names([found.fields.row], LINKS)
    _recount(found.fields, counts, family.total)
    kept = [_without_name(each, names) for each in lanes.lanes if each.result_id in results]
    return found._replace(
        lanes=Lanes(kept, counts.total),
        logs={id: lines for id, lines in found.logs.items() if id in results},
        why=reasons._replace(
            finished=counts.done,
            total=counts.total,
            awaited=[
                _without_name(_without_node(each, names, nodes), names)
                for each in reasons.awaited
                if each.result_id in results
            ],
            failed=[_without_name(each, names) for each in reasons.failed if each.result_id in results],
            children=[each for each in reasons.children if each.id in children],
        ),
    )


LINKS = {"collaboration": Collaboration, "initiator": Organization, "parent": Task}


def _counts(task: Any, sight: Sight) -> Counts:
    """Return the numbers of a task's results that are seen. One query."""
    query = Result.select(*progress.columns(Result)).where(Result.task == task.id).order_by()
    return Counts(*models.database.execute(sight.narrowed(query)).fetchone())


def _recount(fields: Fields, counts: Counts, children: int) -> None:
    """Put the numbers of what is seen into the lines of a task."""
    fields.row.update(progress=counts, done=counts.done, total=counts.total)
    totals = {"results": counts.total, "children": children}
    fields.items = [
        item if item.page is None else item._replace(page=item.page._replace(total=totals[item.name]))
        for item in fields.items
    ]


def _without_name(each: Any, seen: set[Any]) -> Any:
    """Return a lane or a result without the name of its organization, if that is not seen."""
    if each.organization_id in seen:
        return each
    return each._replace(name=None) if isinstance(each, Lane) else each._replace(organization=None)


def _without_node(each: Awaited, organizations: set[Any], nodes: set[Any]) -> Awaited:
    """Return a result without its node if that is not seen, and without the words about what is not seen."""
    if each.node_id is not None and each.node_id not in nodes:
        each = each._replace(node_id=None, node=None, last_seen=None, obstacles=[])
    return each if each.organization_id in {None, *organizations} else each._replace(obstacles=[])


# As HTML


def main(found: EntityFigures, title: str, link: str | None = None, query: str = "") -> Markup:
    """Return the main part. link: the address before the id of a task; None: tasks are no links. query: after it."""
    lanes = found.lanes.lanes if found.lanes else []
    return rendering.main_part(
        "entity.html",
        found=found,
        title=title,
        heading=name(found),
        lines=[_line(found.fields, item) for item in found.fields.items],
        state="" if found.why is None else why_report.state(found.why),
        left_alone=details.LEFT_ALONE,
        time_line=drawing.time_line(lanes, found.moment),
        link=link,
        query=query,
    )


def name(found: EntityFigures) -> str:
    """Return the heading, which is also the name of the page."""
    entity = found.entity
    return entity.named() if entity.name_field() else f"{entity.noun} {entity.id}"


def _line(fields: Fields, item: Item) -> tuple[str, str, Any]:
    """Return a line: its name, how it is displayed, and its value."""
    if item.column is not None:
        shown = fields.row[item.column.name]
        if isinstance(shown, Counts):
            return item.name, "progress", shown
        if item.column.kind == "state" and shown is not None:
            return item.name, "state", shown
    return item.name, "text", fields.shown(item, LOOK).plain.splitlines()
