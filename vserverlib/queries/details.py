"""Details of one entity beside its own fields, for its panel.

These are the results and the related tasks of a task, the participants of a collaboration, and the results that are
awaited from an organization or a node. Each takes a fixed number of queries, which read no more rows than the panel
shows. terminal/panels.py displays them.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import models
from models import Node, Organization, Result, Task
from vserverlib.drivers import peewee
from vserverlib.entities import filters, progress
from vserverlib.entities.fields import as_integer
from vserverlib.queries import listing
from vserverlib.queries.columns import COLUMNS, Column, table_columns
from vserverlib.queries.listing import Page, Row
from vserverlib.queries.sights import WHOLE, Sight

LANES = 20  # results of a task, or organizations of a collaboration
CHILDREN = 10
AWAITED = 5  # results awaited from an organization or a node
MOST_ANCESTORS = 20  # also ends the query if the parents of a damaged database form a cycle
LEFT_ALONE = "vserver start hands it to no node, because it was not posted: vserver run posts tasks"
POSTED = peewee.Table("task", ("id", "init_user_id"))
FAMILY_COLUMNS = ("id", "name", "progress", "status")
LOG_LINES = 5  # lines at the end of a log
LOG_LENGTH = 2_000  # characters of these

Moment = datetime.datetime | None


class Lane(NamedTuple):
    """One result of a task: its organization, its status and its times."""

    result_id: int
    name: str | None
    organization_id: int | None
    status: str | None
    complete: bool
    assigned_at: Moment
    started_at: Moment
    finished_at: Moment

    def waited(self, now: datetime.datetime) -> datetime.timedelta | None:
        """Return how long it waited to be started, until `now` if it still waits; None if that is unknown."""
        end = self.started_at or self.finished_at or (None if self.complete else now)
        return end - self.assigned_at if end and self.assigned_at else None

    def ran(self, now: datetime.datetime) -> datetime.timedelta | None:
        """Return how long it ran, until `now` if it still runs; None if it never started."""
        end = self.finished_at or (None if self.complete else now)
        return end - self.started_at if end and self.started_at else None


class Lanes(NamedTuple):
    """The first results of a task: unfinished ones first if there are too many to show. total: of all results."""

    lanes: list[Lane]
    total: int


class Family(NamedTuple):
    """The ancestors of a task, the oldest first, and its first children. total: of all children."""

    ancestors: list[Row]
    children: list[Row]
    total: int


class Participant(NamedTuple):
    """An organization of a collaboration, and its node there; node_id is None if it has none."""

    organization_id: int
    organization: str | None
    node_id: int | None
    node: str | None
    status: str | None
    last_seen: Any


class Participants(NamedTuple):
    """The first organizations of a collaboration, their total, and the number of tasks with each status."""

    participants: list[Participant]
    total: int
    tasks: dict[str, int]


class AwaitedResults(NamedTuple):
    """A page of unfinished results, the oldest first. since: when the oldest was assigned."""

    page: Page
    since: Moment


# Tasks


def lanes(task: Task) -> Lanes:
    """Return the first results of a task. At most two queries."""
    unfinished_first = peewee.Case(None, [(progress.UNFINISHED_RESULTS, 0)], 1)
    page = listing.page(task.results.order_by(unfinished_first, Result.id), 0, LANES, table_columns(Result))
    rows = page.rows if page.total > len(page.rows) else sorted(page.rows, key=lambda row: row["id"])
    return Lanes([lane(row) for row in rows], page.total)


def is_left_alone(task: Task, states: Collection[Any]) -> bool:
    """Whether a task waits for nodes that never get it, because it was saved and not posted. At most one query.

    states: of its results. False in a copy of a server's database: that server may hand it out.
    """
    database = models.database
    if task.id is None or database.is_view or database.mode == "plan":
        return False
    if states and progress.PENDING not in states:
        return False
    row = database.execute(POSTED.select(POSTED.init_user_id).where(POSTED.id == task.id)).fetchone()
    return row is not None and row[0] is None


def lane(row: Row) -> Lane:
    """Return a row of results as a lane."""
    times = [_moment(row[name]) for name in ("assigned_at", "started_at", "finished_at")]
    return Lane(row["id"], row["organization"], row["organization_id"], row["status"], row["complete"], *times)


def _moment(value: Any) -> Moment:
    """Return a time, or None for any other value, which another program may have stored."""
    return value if isinstance(value, datetime.datetime) else None


def log_ends(ids: Collection[int]) -> dict[int, list[str]]:
    """Return the last lines of the logs of some results, by their ids; of those that have a log. At most one query."""
    if not ids:
        return {}
    is_sqlite = models.database.is_sqlite
    end = peewee.fn.SUBSTR(Result.log, -LOG_LENGTH) if is_sqlite else peewee.fn.RIGHT(Result.log, LOG_LENGTH)
    rows = models.database.execute(Result.select(Result.id, end).order_by().where(progress.among(Result.id, ids)))
    return {id: lines for id, text in rows if (lines := _log_end(text))}


def _log_end(log: Any) -> list[str]:
    """Return the last lines of a log; [] without one."""
    return str(log or "").rstrip()[-LOG_LENGTH:].splitlines()[-LOG_LINES:]


def family(task: Task, sight: Sight = WHOLE) -> Family:
    """Return the ancestors and children of a task that are seen. At most four queries."""
    columns = [column for column in COLUMNS[Task] if column.name in FAMILY_COLUMNS]
    children = listing.page(task.children if sight.is_whole else _children(task, sight), 0, CHILDREN, columns)
    return Family(ancestors(task, columns, sight), children.rows, children.total)


def _children(task: Task, sight: Sight) -> Any:
    return sight.narrowed(Task.select().where(Task.parent == task.id).order_by(Task.id))


def ancestors(task: Task, columns: Sequence[Column], sight: Sight = WHOLE) -> list[Row]:
    """Return the ancestors of a task that are seen, the oldest first. At most two queries."""
    ids = _ancestor_ids(task)
    query = sight.narrowed(Task.select().where(Task.id.in_(ids)))
    found = {row["id"]: row for row in listing.rows(query, columns)} if ids else {}
    return [found[id] for id in ids if id in found]


def _ancestor_ids(task: Task) -> list[int]:
    """Return the ids of a task's ancestors, the oldest first, each once. One query."""
    if task.parent_id is None:
        return []
    rows = models.database.execute_sql(ANCESTORS.format(param=models.database.param), [task.parent_id, MOST_ANCESTORS])
    return [id for (id,) in reversed(list(dict.fromkeys(rows.fetchall()))) if id != task.id]


ANCESTORS = """
WITH RECURSIVE above(id, parent_id, step) AS (
    SELECT id, parent_id, 1 FROM task WHERE id = {param}
    UNION ALL SELECT task.id, task.parent_id, step + 1 FROM task JOIN above ON task.id = above.parent_id
    WHERE step < {param}
) SELECT id FROM above ORDER BY step
"""


# Collaborations


def participants(collaboration: Any) -> Participants:
    """Return the organizations and nodes of a collaboration, and the statuses of its tasks. At most four queries."""
    members = list(collaboration.organizations)
    shown = members[:LANES]
    nodes: dict[int, Node] = {}
    for node in collaboration.get_nodes_from_organizations([each.id for each in shown]).order_by(Node.id.desc()):
        nodes[node.organization_id] = node
    found = [_participant(each, nodes.get(each.id)) for each in shown]
    return Participants(found, len(members), statuses(collaboration))


def _participant(organization: Organization, node: Any) -> Participant:
    known = (None, None, None, None) if node is None else (node.id, node.name, node.status, node.last_seen)
    return Participant(organization.id, organization.name, *known)


def statuses(collaboration: Any) -> dict[str, int]:
    """Return the number of tasks of a collaboration with each status. One query, which reads all of its tasks."""
    status = filters.value(Task, "status").expression
    counted = collaboration.tasks.order_by().select(status, peewee.fn.COUNT(peewee.SQL("*"))).group_by(peewee.SQL("1"))
    return {**dict.fromkeys(progress.TASK_STATUSES, 0), **dict(models.database.execute(counted).fetchall())}


# Organizations and nodes


def awaited_results(entity: Any) -> AwaitedResults:
    """Return the first unfinished results of an organization or of a node. At most two queries."""
    page = listing.page(awaited(entity).order_by(Result.assigned_at, Result.id), 0, AWAITED, table_columns(Result))
    return AwaitedResults(page, next((since for row in page.rows if (since := _moment(row["assigned_at"]))), None))


def awaited(entity: Any) -> Any:
    """Return the query for the unfinished results of an organization or of a node."""
    is_node = isinstance(entity, Node)
    organization, collaboration = as_integer(entity.organization_id if is_node else entity.id), None
    found = Result.where(progress.UNFINISHED_RESULTS) if organization is not None else Result.get().none()
    found = found.where(Result.organization == organization)
    if is_node:
        collaboration = as_integer(entity.collaboration_id)
        mine = Task.select(peewee.SQL("1")).where(Task.id == Result.task, Task.collaboration == collaboration)
        found = found.where(peewee.fn.EXISTS(mine))
    return found


def moments(lanes: Sequence[Lane]) -> list[datetime.datetime]:
    """Return all times of some results."""
    times = ((lane.assigned_at, lane.started_at, lane.finished_at) for lane in lanes)
    return [moment for each in times for moment in each if moment is not None]
