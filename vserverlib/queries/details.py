"""What is told of one entity beside its own fields.

That is the lanes and the family of a task, the posts of a collaboration, and what an organization or a node owes.
Each is read by a number of queries that does not depend on how much there is, and no more of it than is shown. How it
looks is panels.py's.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import models
from models import Node, Organization, Result, Task
from vserverlib.drivers import peewee
from vserverlib.entities import filters, progress
from vserverlib.entities.fields import as_integer
from vserverlib.queries import listing
from vserverlib.queries.columns import COLUMNS, in_tables
from vserverlib.queries.listing import Page, Row

LANES = 20  # results of a task, and organizations of a collaboration, that are shown
CHILDREN = 10
OWED = 5  # results that are told of those that an organization owes
MOST_STEPS = 20  # tasks that are followed from a task to its parents: a damaged database may lead around in a ring
FAMILY = ("id", "name", "progress", "status")

Moment = datetime.datetime | None


class Lane(NamedTuple):
    """One result on its way: who is to deliver it, how that stands, and the times of it."""

    name: str | None
    organization_id: int | None
    status: str | None
    complete: bool
    assigned_at: Moment
    started_at: Moment
    finished_at: Moment

    def waited(self, now: datetime.datetime) -> datetime.timedelta | None:
        """Return how long it waited to be taken up, until `now` if it still does; None where that is not known."""
        end = self.started_at or self.finished_at or (None if self.complete else now)
        return end - self.assigned_at if end and self.assigned_at else None

    def ran(self, now: datetime.datetime) -> datetime.timedelta | None:
        """Return how long it was computed, until `now` if it still is; None where it never began."""
        end = self.finished_at or (None if self.complete else now)
        return end - self.started_at if end and self.started_at else None


class Lanes(NamedTuple):
    """The first results of a task, those not finished first where there are more than can be shown."""

    lanes: list[Lane]
    total: int


class Family(NamedTuple):
    """The tasks that a task came from, the first one first, and the first of those that it led to."""

    ancestors: list[Row]
    children: list[Row]
    total: int


class Post(NamedTuple):
    """An organization in a collaboration, and its node there; node_id None where it has none."""

    organization_id: int
    organization: str | None
    node_id: int | None
    node: str | None
    status: str | None
    last_seen: Any


class Posts(NamedTuple):
    """The first organizations of a collaboration, how many there are, and how many tasks have each status."""

    posts: list[Post]
    total: int
    tasks: dict[str, int]


class Owed(NamedTuple):
    """The results that are waited for, the oldest first, as a page of them."""

    page: Page
    since: Moment


# Tasks


def lanes(task: Task) -> Lanes:
    """Return how each organization is on with a task. At most two queries."""
    unfinished_first = peewee.Case(None, [(progress.UNFINISHED_RESULTS, 0)], 1)
    page = listing.page(task.results.order_by(unfinished_first, Result.id), 0, LANES, in_tables(Result))
    rows = page.rows if page.total > len(page.rows) else sorted(page.rows, key=lambda row: row["id"])
    return Lanes([_lane(row) for row in rows], page.total)


def _lane(row: Row) -> Lane:
    times = [_moment(row[name]) for name in ("assigned_at", "started_at", "finished_at")]
    return Lane(row["organization"], row["organization_id"], row["status"], row["complete"], *times)


def _moment(value: Any) -> Moment:
    """Return a time; None for what another program has stored in its place."""
    return value if isinstance(value, datetime.datetime) else None


def family(task: Task) -> Family:
    """Return the tasks around a task. At most four queries."""
    columns = [column for column in COLUMNS[Task] if column.name in FAMILY]
    children = listing.page(task.children, 0, CHILDREN, columns)
    ids = _ancestors(task)
    found = {row["id"]: row for row in listing.rows(Task.select().where(Task.id.in_(ids)), columns)} if ids else {}
    return Family([found[id] for id in ids if id in found], children.rows, children.total)


def _ancestors(task: Task) -> list[int]:
    """Return the ids of a task's parents, the first one first, each once. One query."""
    if task.parent_id is None:
        return []
    rows = models.database.execute_sql(ANCESTORS.format(param=models.database.param), [task.parent_id, MOST_STEPS])
    return [id for (id,) in reversed(list(dict.fromkeys(rows.fetchall()))) if id != task.id]


ANCESTORS = """
WITH RECURSIVE above(id, parent_id, step) AS (
    SELECT id, parent_id, 1 FROM task WHERE id = {param}
    UNION ALL SELECT task.id, task.parent_id, step + 1 FROM task JOIN above ON task.id = above.parent_id
    WHERE step < {param}
) SELECT id FROM above ORDER BY step
"""


# Collaborations


def posts(collaboration: Any) -> Posts:
    """Return who takes part in a collaboration, by which node, and how its tasks are. At most four queries."""
    members = list(collaboration.organizations)
    shown = members[:LANES]
    nodes: dict[int, Node] = {}
    for node in collaboration.get_nodes_from_organizations([each.id for each in shown]).order_by(Node.id.desc()):
        nodes[node.organization_id] = node
    return Posts([_post(each, nodes.get(each.id)) for each in shown], len(members), _statuses(collaboration))


def _post(organization: Organization, node: Any) -> Post:
    known = (None, None, None, None) if node is None else (node.id, node.name, node.status, node.last_seen)
    return Post(organization.id, organization.name, *known)


def _statuses(collaboration: Any) -> dict[str, int]:
    """Return how many tasks of a collaboration have each status. One query, that looks at each of its tasks."""
    status = filters.value(Task, "status").expression
    counted = collaboration.tasks.order_by().select(status, peewee.fn.COUNT(peewee.SQL("*"))).group_by(peewee.SQL("1"))
    return {**dict.fromkeys(progress.TASK_STATUSES, 0), **dict(models.database.execute(counted).fetchall())}


# Organizations and nodes


def owed(entity: Any) -> Owed:
    """Return the results that an organization, or a node of one, is to deliver. At most two queries."""
    is_node = isinstance(entity, Node)
    organization, collaboration = as_integer(entity.organization_id if is_node else entity.id), None
    waited_for = Result.where(progress.UNFINISHED_RESULTS) if organization is not None else Result.get().none()
    waited_for = waited_for.where(Result.organization == organization)
    if is_node:
        collaboration = as_integer(entity.collaboration_id)
        mine = Task.select(peewee.SQL("1")).where(Task.id == Result.task, Task.collaboration == collaboration)
        waited_for = waited_for.where(peewee.fn.EXISTS(mine))
    page = listing.page(waited_for.order_by(Result.assigned_at, Result.id), 0, OWED, in_tables(Result))
    return Owed(page, next((since for row in page.rows if (since := _moment(row["assigned_at"]))), None))


def moments(lanes: Sequence[Lane]) -> list[datetime.datetime]:
    """Return all times of some lanes."""
    times = ((lane.assigned_at, lane.started_at, lane.finished_at) for lane in lanes)
    return [moment for each in times for moment in each if moment is not None]
