"""The figures of `vserver overview`: what runs, who is waited for, what failed, from a few grouped queries.

terminal/overview_screen.py displays them.
"""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any, NamedTuple

import models
from vserverlib.drivers import peewee
from vserverlib.entities import lock_outs, progress, timestamps
from vserverlib.entities.checks import Last, last
from vserverlib.entities.fields import now
from vserverlib.entities.lock_outs import LockedOut
from vserverlib.entities.progress import RESULT
from vserverlib.queries.sights import WHOLE, Sight

LISTS = ("collaborations", "organizations", "unseen", "locked_out")
UNSEEN_AFTER = datetime.timedelta(hours=24)
EVERY_ROW = peewee.fn.COUNT(peewee.SQL("*"))
# Values of other programs that are no times are ignored.
ASSIGNED = models.Result.assigned_at
FIRST_ASSIGNED = peewee.fn.MIN(peewee.Case(None, [(timestamps.dated(ASSIGNED), ASSIGNED)]))


class Share(NamedTuple):
    """The tasks of a collaboration, or the results of an organization: all, finished (done) and failed ones.

    A task is failed as soon as one of its results is, also while others are awaited: failed tasks need not be finished.
    """

    id: int | None
    name: str | None
    total: int
    done: int
    failed: int
    since: datetime.datetime | None = None  # of an organization: when its oldest unfinished result was assigned


class Unseen(NamedTuple):
    """A node that was not seen recently. last_seen: None for never; a text if another program stored no time."""

    id: int
    name: str | None
    last_seen: Any


class Overview(NamedTuple):
    """All figures. Collaborations with most unfinished tasks and organizations waited for longest come first."""

    entities: dict[str, int]  # the number of entities, by plural
    tasks: dict[str, int]  # the number of tasks with each status
    collaborations: list[Share]  # tasks
    organizations: list[Share]  # results
    unseen: list[Unseen]
    locked_out: list[LockedOut]  # users whom `vserver start` refuses
    check: Last | None  # the summary of the last check


def overview(database: Any, sight: Sight = WHOLE) -> Overview:
    """Return the figures of one moment. A fixed number of queries, two of which scan all results that are seen.

    sight: which rows count. The last check and who is locked out are of the whole database only.
    """
    with database.reading():
        try:
            return _overview(database, sight)
        except Exception as error:
            if not database.can_retry(error):
                raise
            return _overview(database, sight)


def _overview(database: Any, sight: Sight) -> Overview:
    tasks = _tasks(database, sight)
    return Overview(
        entities=counts(database, sight),
        tasks={status: sum(each.statuses[status] for each in tasks.values()) for status in progress.TASK_STATUSES},
        collaborations=_collaborations(tasks, sight),
        organizations=sorted(_organizations(database, sight), key=_by_wait),
        unseen=_unseen(sight),
        locked_out=lock_outs.locked_out() if sight.is_whole else [],
        check=last(database) if sight.is_whole else None,
    )


def as_data(found: Overview) -> dict[str, Any]:
    """Return the figures as dictionaries and lists; times stay datetimes."""
    lists = {name: [each._asdict() for each in getattr(found, name)] for name in LISTS}
    return {**found._asdict(), **lists, "check": found.check and found.check._asdict()}


def counts(database: Any, sight: Sight = WHOLE) -> dict[str, int]:
    """Return the number of entities that are seen, by plural. One query."""
    numbers = [_counted(model, sight) for model in models.ENTITIES]
    row = database.execute(peewee.Select(columns=numbers)).fetchone()
    return dict(zip((model.plural for model in models.ENTITIES), row, strict=True))


def _counted(model: Any, sight: Sight) -> Any:
    return sight.narrowed(model.select(EVERY_ROW).order_by())


class _Tasks:
    """The tasks of one collaboration: the number with each status, and the number of finished ones."""

    def __init__(self) -> None:
        self.statuses, self.finished = Counter[str](), 0


def _tasks(database: Any, sight: Sight) -> dict[int | None, _Tasks]:
    """Return the tasks of each collaboration, by its id: one scan of the results, in order of tasks."""
    total, done, failed, active = progress.columns()
    named = (total.alias("total"), done.alias("done"), failed.alias("failed"), active.alias("active"))
    results, seen = RESULT.select(RESULT.task_id, *named), sight.ids(models.Task)
    grouped = (results if seen is None else results.where(RESULT.task_id.in_(seen))).group_by(RESULT.task_id).alias("c")
    status = peewee.Case(
        None,
        [
            (grouped.c.failed > 0, progress.FAILURE),
            (grouped.c.active > 0, progress.ACTIVE),
            (grouped.c.done == grouped.c.total, progress.COMPLETED),
        ],
        progress.PENDING,
    )
    finished = peewee.Case(None, [(grouped.c.done == grouped.c.total, 1)], 0)
    task = peewee.Table("task", ("id", "collaboration_id"))
    # CROSS makes SQLite scan the results in order and look up tasks, instead of sorting a million groups first.
    joined = peewee.Join(grouped, task, peewee.JOIN.CROSS, None)
    query = peewee.Select([joined], [task.collaboration_id, status, finished, EVERY_ROW])
    query = query.where(task.id == grouped.c.task_id).group_by(*map(peewee.SQL, "123"))
    return _with_empty_ones(database, database.execute(query), sight)


def _with_empty_ones(database: Any, rows: Any, sight: Sight) -> dict[int | None, _Tasks]:
    """Return rows of (collaboration, status, finished, count) by collaboration, with the tasks without results."""
    found: dict[int | None, _Tasks] = {}
    with database.fetching():
        for collaboration, status, finished, count in rows:
            tasks = found.setdefault(collaboration, _Tasks())
            tasks.statuses[status] += count
            tasks.finished += count if finished else 0
        everything = models.Task.select(models.Task.collaboration, EVERY_ROW).order_by().group_by(peewee.SQL("1"))
        for collaboration, count in database.execute(sight.narrowed(everything)):
            statuses = found.setdefault(collaboration, _Tasks()).statuses
            statuses[progress.EMPTY] = count - statuses.total()
    return found


def _collaborations(tasks: dict[int | None, _Tasks], sight: Sight) -> list[Share]:
    names = _names(models.Collaboration, sight)
    shares = []
    for id in [*names, *(id for id in tasks if id not in names)]:
        found = tasks.get(id, _Tasks())
        statuses = found.statuses
        shares.append(Share(id, names.get(id), statuses.total(), found.finished, statuses[progress.FAILURE]))
    return sorted(shares, key=lambda share: (share.done - share.total, *_by_id(share.id)))


def _organizations(database: Any, sight: Sight) -> list[Share]:
    result, names = models.Result, _names(models.Organization, sight)
    by_state: dict[int | None, dict[str, int]] = {id: {} for id in names}
    counted = result.select(result.organization, result.state, EVERY_ROW).order_by().group_by(*map(peewee.SQL, "12"))
    for id, state, count in database.execute(sight.narrowed(counted)):
        by_state.setdefault(id, {})[state] = count
    waited_for = result.select(result.organization, FIRST_ASSIGNED).order_by().where(progress.UNFINISHED_RESULTS)
    since = dict(database.execute(sight.narrowed(waited_for).group_by(peewee.SQL("1"))).fetchall())
    return [_share(id, names.get(id), found, since.get(id)) for id, found in by_state.items()]


def _by_wait(share: Share) -> tuple[Any, ...]:
    return share.since is None, str(share.since), share.done - share.total, *_by_id(share.id)


def _by_id(id: Any) -> tuple[bool, Any]:
    """Return a sort key for an id, which may be a text that another program has stored."""
    is_number = id is None or isinstance(id, int | float)
    return not is_number, (id or 0) if is_number else str(id)


def _share(id: int | None, name: str | None, states: dict[str, int], since: Any) -> Share:
    failed = states.get(progress.FAILURE, 0)
    done = failed + states.get(progress.COMPLETED, 0)
    moment = models.Result.assigned_at.decode(since)
    known = moment if isinstance(moment, datetime.datetime) else None
    return Share(id, name, sum(states.values()), done, failed, known)


def _unseen(sight: Sight) -> list[Unseen]:
    """Return the nodes that were not seen recently, never-seen ones first."""
    node = models.Node
    seen = peewee.Case(None, [(timestamps.dated(node.last_seen), 1)], 0)
    found = sight.narrowed(node.select().where((seen == 0) | (node.last_seen < now() - UNSEEN_AFTER)))
    return [Unseen(each.id, each.name, each.last_seen) for each in found.sort("last_seen")]


def _names(model: Any, sight: Sight) -> dict[int | None, str | None]:
    return dict(sight.narrowed(model.select(model.id, model.name).order_by(model.id)).tuples())
