"""What the page of a database shows: the overview, the newest tasks and the nodes, as far as somebody may see them.

A fixed number of queries. pages/ displays it.
"""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from models import Collaboration, Node, Result, Task
from vserverlib.entities import filters, progress
from vserverlib.entities.fields import now
from vserverlib.queries import listing, overview
from vserverlib.queries.columns import COLUMNS
from vserverlib.queries.listing import Page
from vserverlib.queries.overview import Overview
from vserverlib.queries.sights import WHOLE, Sight

RUNNING, FINISHED, NODES = 20, 10, 60  # rows
TASK_COLUMNS = ("id", "name", "progress", "status", "collaboration_id", "collaboration", "created_at", "finished_at")
NODE_COLUMNS = ("id", "name", "organization_id", "organization", "status", "last_seen")


class Dashboard(NamedTuple):
    """The figures of one moment. unfinished, finished: the newest such tasks. nodes: by name."""

    moment: datetime.datetime
    overview: Overview
    unfinished: Page
    finished: Page
    nodes: Page


def dashboard(database: Any, sight: Sight = WHOLE) -> Dashboard:
    """Return the figures in one sight. The overview and at most four small queries more. Does not write."""
    with database.reading():
        found = overview.overview(database, sight)
        awaited = Result.select(Result.task).where(progress.UNFINISHED_RESULTS)
        finished = filters.value(Task, "complete").expression
        done = sum(each.done for each in found.collaborations)
        nodes = sight.narrowed(Node.select()).sort("name")
        pages = (
            _page(_newest(sight).where(Task.id.in_(awaited)), RUNNING, TASK_COLUMNS, _unfinished(found)),
            _page(_newest(sight).where(finished), FINISHED, TASK_COLUMNS, done),
        )
        sight.hide_names([row for page in pages for row in page.rows], {"collaboration": Collaboration})
        return Dashboard(now(), found, *pages, _page(nodes, NODES, NODE_COLUMNS, found.entities[Node.plural]))


def _newest(sight: Sight) -> Any:
    return sight.narrowed(Task.select().order_by(Task.id.desc()))


def _unfinished(found: Overview) -> int:
    """Return the number of tasks that wait for results."""
    return sum(each.total - each.done for each in found.collaborations) - found.tasks[progress.EMPTY]


def _page(query: Any, size: int, names: tuple[str, ...], total: int) -> Page:
    """Return the first rows of a list whose total is known."""
    columns = tuple(column for column in COLUMNS[query.model] if column.name in names)
    return Page(query.model, columns, list(listing.rows(query.limit(size), columns)), 0, total)
