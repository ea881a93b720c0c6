"""How things stand: what runs, what waits for whom, what failed, in a few grouped queries and no stored counter.

It owns the figures of `vserver overview`. How they look is overview_screen.py's.
"""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

import models
from vserverlib.drivers import peewee
from vserverlib.entities import progress, timestamps
from vserverlib.entities.checks import Last, last
from vserverlib.entities.fields import now
from vserverlib.entities.progress import RESULT

LISTS = ("collaborations", "organizations", "unseen")
UNSEEN = datetime.timedelta(hours=24)  # a node that was not seen for so long is told


class Share(NamedTuple):
    """How far the tasks of a collaboration are, or the results that an organization is to deliver."""

    id: int | None
    name: str | None
    total: int
    done: int
    failed: int
    since: datetime.datetime | None = None  # organizations: the oldest result that has not finished was assigned then


class Unseen(NamedTuple):
    """A node that was not seen for long, or never (last_seen None; a text that is no time is what the table holds)."""

    id: int
    name: str | None
    last_seen: Any


class Overview(NamedTuple):
    """All of it. Collaborations come with the most to do first, organizations with who is waited for longest."""

    entities: dict[str, int]  # how many there are, by the plural
    tasks: dict[str, int]  # how many tasks have each status
    collaborations: list[Share]  # in tasks
    organizations: list[Share]  # in results
    unseen: list[Unseen]
    check: Last | None  # what the last check of the database found


def overview(database: Any) -> Overview:
    """Return how things stand, at one moment. Eight queries, of which two go through all results, whatever there is."""
    with database.reading():
        try:
            return _overview(database)
        except Exception as error:
            if not database.can_retry(error):
                raise
            return _overview(database)


def _overview(database: Any) -> Overview:
    statuses = _statuses(database)
    return Overview(
        entities=counts(database),
        tasks={status: sum(found.get(status, 0) for found in statuses.values()) for status in progress.TASK_STATUSES},
        collaborations=_collaborations(statuses),
        organizations=sorted(_organizations(database), key=_by_wait),
        unseen=_unseen(),
        check=last(database),
    )


def as_data(found: Overview) -> dict[str, Any]:
    """Return it as what JSON and YAML can hold, but for the times."""
    lists = {name: [each._asdict() for each in getattr(found, name)] for name in LISTS}
    return {**found._asdict(), **lists, "check": found.check and found.check._asdict()}


def counts(database: Any) -> dict[str, int]:
    """Return how many entities there are, by the plural of their name. One query."""
    tables = (model._meta.table_name for model in models.ENTITIES)
    columns = ", ".join(f'(SELECT COUNT(*) FROM "{table}")' for table in tables)
    row = database.execute_sql(f"SELECT {columns}").fetchone()
    return dict(zip((model.plural for model in models.ENTITIES), row, strict=True))


Statuses = dict[int | None, dict[str, int]]  # by the id of the collaboration: how many tasks have each status


def _statuses(database: Any) -> Statuses:
    """Return how many tasks have each status, by collaboration: one look at the results, in order of tasks."""
    total, done, failed, active = progress.columns()
    named = (total.alias("total"), done.alias("done"), failed.alias("failed"), active.alias("active"))
    grouped = RESULT.select(RESULT.task_id, *named).group_by(RESULT.task_id).alias("c")
    status = peewee.Case(
        None,
        [
            (grouped.c.failed > 0, progress.FAILURE),
            (grouped.c.active > 0, progress.ACTIVE),
            (grouped.c.done == grouped.c.total, progress.COMPLETED),
        ],
        progress.PENDING,
    )
    task = peewee.Table("task", ("id", "collaboration_id"))
    # CROSS: SQLite is to go through the results in order and look up tasks, not to sort a million groups first.
    joined = peewee.Join(grouped, task, peewee.JOIN.CROSS, None)
    query = peewee.Select([joined], [task.collaboration_id, status, peewee.fn.COUNT(peewee.SQL("*"))])
    query = query.where(task.id == grouped.c.task_id).group_by(peewee.SQL("1"), peewee.SQL("2"))
    return _with_empty_ones(database, database.execute(query))


def _with_empty_ones(database: Any, rows: Any) -> Statuses:
    """Return the rows by collaboration, and the tasks without results, which are all that is missing."""
    found: Statuses = {}
    with database.fetching():
        for collaboration, status, count in rows:
            found.setdefault(collaboration, {})[status] = count
        everything = "SELECT collaboration_id, COUNT(*) FROM task GROUP BY collaboration_id"
        for collaboration, count in database.execute_sql(everything):
            known = found.setdefault(collaboration, {})
            known[progress.EMPTY] = count - sum(known.values())
    return found


def _collaborations(statuses: Statuses) -> list[Share]:
    names = _names(models.Collaboration)
    shares = []
    for id in [*names, *(id for id in statuses if id not in names)]:
        found = statuses.get(id, {})
        done = found.get(progress.COMPLETED, 0) + found.get(progress.FAILURE, 0)
        shares.append(Share(id, names.get(id), sum(found.values()), done, found.get(progress.FAILURE, 0)))
    return sorted(shares, key=lambda share: (share.done - share.total, *_by_id(share.id)))


def _organizations(database: Any) -> list[Share]:
    names = _names(models.Organization)
    by_state: dict[int | None, dict[str, int]] = {id: {} for id in names}
    for id, state, count in database.execute_sql("SELECT organization_id, state, COUNT(*) FROM result GROUP BY 1, 2"):
        by_state.setdefault(id, {})[state] = count
    since = dict(database.execute_sql(WAITED_FOR).fetchall())
    return [_share(id, names.get(id), found, since.get(id)) for id, found in by_state.items()]


WAITED_FOR = f"""
SELECT organization_id, MIN(CASE WHEN {timestamps.HOLDS_TIME.format("assigned_at")} THEN assigned_at END)
FROM result WHERE state IN ('pending', 'active') GROUP BY 1
"""


def _by_wait(share: Share) -> tuple[Any, ...]:
    return share.since is None, str(share.since), share.done - share.total, *_by_id(share.id)


def _by_id(id: Any) -> tuple[bool, Any]:
    """Return what to sort by an id: another program may have stored a text in its place."""
    is_number = id is None or isinstance(id, int | float)
    return not is_number, (id or 0) if is_number else str(id)


def _share(id: int | None, name: str | None, states: dict[str, int], since: Any) -> Share:
    failed = states.get(progress.FAILURE, 0)
    done = failed + states.get(progress.COMPLETED, 0)
    moment = models.Result.assigned_at.decode(since)
    known = moment if isinstance(moment, datetime.datetime) else None
    return Share(id, name, sum(states.values()), done, failed, known)


def _unseen() -> list[Unseen]:
    """Return the nodes that were not seen for long, those that never were, as far as that is a time, first."""
    node = models.Node
    seen = peewee.Case(None, [(timestamps.dated(node.last_seen), 1)], 0)
    found = node.select().where((seen == 0) | (node.last_seen < now() - UNSEEN))
    return [Unseen(each.id, each.name, each.last_seen) for each in found.sort("last_seen")]


def _names(model: Any) -> dict[int | None, str | None]:
    return dict(model.select(model.id, model.name).order_by(model.id).tuples())
