"""What the page of a database shows: the overview, the newest tasks and the nodes, as far as somebody may see them.

A fixed number of queries. pages/ displays it.
"""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from models import Node, Result, Task
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
    """Return the figures in one sight. Does not write."""
    with database.reading():
        awaited = Result.select(Result.task).where(progress.UNFINISHED_RESULTS, Result.task.is_null(False))
        finished = filters.value(Task, "complete").expression
        return Dashboard(
            now(),
            overview.overview(database, sight),
            _page(sight.narrowed(_newest().where(Task.id.in_(awaited))), RUNNING, TASK_COLUMNS),
            _first(sight.narrowed(_newest().where(finished)), FINISHED, TASK_COLUMNS),
            _page(sight.narrowed(Node.select()).sort("name"), NODES, NODE_COLUMNS),
        )


def _newest() -> Any:
    return Task.select().order_by(Task.id.desc())


def _page(query: Any, size: int, names: tuple[str, ...]) -> Page:
    return listing.page(query, 0, size, _columns(query, names))


def _first(query: Any, size: int, names: tuple[str, ...]) -> Page:
    """Return the first rows without their total, which would read all tasks."""
    columns = _columns(query, names)
    rows = list(listing.rows(query.limit(size), columns))
    return Page(query.model, columns, rows, 0, len(rows))


def _columns(query: Any, names: tuple[str, ...]) -> Any:
    return tuple(column for column in COLUMNS[query.model] if column.name in names)
