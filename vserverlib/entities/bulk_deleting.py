"""Deleting the entities that match filters, and emptying old results, in batches.

Each batch is a transaction that takes about BATCH seconds, so that nobody waits long for the lock. It reads a few ids,
checks within the transaction that these still match, and leaves no part of a task behind. All batches are changes of
one session, which one undo of that session undoes.

The journal keeps what a batch deletes. With `forget`, it does not, and loses its earlier entries of these rows too.

deleting.py deletes the entities of one batch, with their dependents.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from vserverlib import Error, pluralize
from vserverlib.databases import recording
from vserverlib.databases.registry import registry
from vserverlib.drivers import peewee
from vserverlib.entities import deleting, filters, forgetting

BATCH = 0.3  # seconds that a batch should take
PAUSE = 0.12  # seconds between two batches: programs that wait for the lock try again every 0.1 seconds
FIRST_SIZE, LARGEST_SIZE = 200, 20_000  # entities of a batch
LOWEST_ID = -(2**63)
EMPTIED = ("input", "result")  # fields of a result
FULL = " OR ".join(f"{name} <> ''" for name in EMPTIED)
RESULT = peewee.Table("result", ("task_id", *EMPTIED))


class Wanted(NamedTuple):
    """What to delete: the entities of a model that match all conditions.

    dependents: also delete their dependents. whole_trees: leave out a task if a task that descends from it does not
    match. forget: also delete what the journal has of them.
    """

    model: Any
    where: tuple[Any, ...]
    dependents: bool = False
    whole_trees: bool = False
    forget: bool = False


class Counted(NamedTuple):
    """The number of entities to delete, of their dependents by model, and of matching ones that stay.

    last: the highest id to delete, so that no entity is deleted that is created later.
    """

    number: int
    dependents: dict[Any, int]
    kept: int
    last: int


def finished(texts: Sequence[str], forget: bool = False) -> Wanted:
    """Return the finished tasks that match all filters, to be deleted with their results. Failed ones count too."""
    model = registry["task"]
    where = filters.conditions(model, ["complete=true", *texts])
    return Wanted(model, tuple(where), dependents=True, whole_trees=True, forget=forget)


def finished_with_results(texts: Sequence[str], forget: bool = False) -> Wanted:
    """Return the finished tasks that match all filters and have a result with an input or a result."""
    wanted = finished(texts, forget)
    full = RESULT.select(1).where((RESULT.task_id == wanted.model.id) & ((RESULT.input != "") | (RESULT.result != "")))
    return wanted._replace(where=(*wanted.where, peewee.fn.EXISTS(full)), whole_trees=False)


# Counting


def count(database: Any, wanted: Wanted) -> Counted:
    """Count what would be deleted, with one query. Reads no ids and writes nothing."""
    matching, parameters = _matching(wanted)
    tables, numbers = _closure(wanted.model), _numbers(wanted.model)
    if wanted.whole_trees:
        tables, numbers = WHOLE_TREES, {registry["result"]: RESULTS_OF_TASKS}
    columns = ", ".join(f"({sql})" for sql in ("SELECT COUNT(*) FROM matching", NUMBER, LAST, *numbers.values()))
    sql = f"WITH RECURSIVE matching(id) AS ({matching}), {tables} SELECT {columns}"
    found, number, last, *counts = database.execute_sql(sql, parameters).fetchone()
    dependents = {model: each for model, each in zip(numbers, counts, strict=True) if each}
    return Counted(number, dependents, found - number, last or 0)


def _matching(wanted: Wanted) -> tuple[str, Any]:
    """Return the SQL, and its parameters, of the ids that match."""
    query = wanted.model.select(wanted.model.id).where(*wanted.where)
    found: tuple[str, Any] = wanted.model._meta.database.get_sql_context().sql(query).query()
    return found


NUMBER, LAST = "SELECT COUNT(*) FROM roots", "SELECT MAX(id) FROM roots"
RESULTS_OF_TASKS = "SELECT COUNT(*) FROM result WHERE task_id IN (SELECT id FROM tasks)"
# Tasks stay that do not match, and all tasks above them. EXCEPT, because PostgreSQL is slow at NOT IN of many.
WHOLE_TREES = """
kept(id) AS (
    SELECT parent_id FROM task WHERE parent_id IS NOT NULL AND id IN (
        SELECT id FROM task WHERE parent_id IS NOT NULL EXCEPT SELECT id FROM matching
    )
    UNION SELECT t.parent_id FROM kept JOIN task t ON t.id = kept.id WHERE t.parent_id IS NOT NULL
),
roots(id) AS (SELECT id FROM matching EXCEPT SELECT id FROM kept), tasks(id) AS (SELECT id FROM roots)"""


def _closure(model: Any) -> str:
    """Return the tables `roots`, the matching entities, and `tasks`: roots, tasks that depend on them, and theirs."""
    seeds = [f"SELECT id FROM task WHERE {link} IN (SELECT id FROM roots)" for link in _links(model, "task")]
    seeds = ["SELECT id FROM roots"] if model is registry["task"] else seeds or ["SELECT id FROM task WHERE 1 = 0"]
    first = f"SELECT id FROM ({' UNION '.join(seeds)}) AS seeds"
    below = "SELECT t.id FROM task t JOIN tasks ON t.parent_id = tasks.id"
    return f"roots(id) AS (SELECT id FROM matching), tasks(id) AS ({first} UNION {below})"


def _numbers(model: Any) -> dict[Any, str]:
    """Return the SQL that counts dependents, by their model."""
    found = {}
    for table, other in registry.items():
        among = [f"{link} IN (SELECT id FROM roots)" for link in _links(model, table)]
        if table == "result" and (model is registry["task"] or _links(model, "task")):
            among.append("task_id IN (SELECT id FROM tasks)")
        if among and table != "task":
            found[other] = f'SELECT COUNT(*) FROM "{table}" WHERE {" OR ".join(among)}'
        elif among:
            minus = " - (SELECT COUNT(*) FROM roots)" if model is other else ""
            found[other] = f"SELECT COUNT(*){minus} FROM tasks"
    return found


def _links(model: Any, table: str) -> list[str]:
    """Return the columns of a table that link to a model."""
    return [link.column_name for link in model._meta.backrefs if link.model is registry[table]]


def count_full_results(database: Any, wanted: Wanted) -> int:
    """Return the number of results, of the tasks that match, that have an input or a result."""
    matching, parameters = _matching(wanted)
    sql = f"SELECT COUNT(*) FROM result WHERE task_id IN ({matching}) AND ({FULL})"
    return int(database.execute_sql(sql, parameters).fetchone()[0])


# Batches


class Batches:
    """Deletes, batch by batch; the numbers of what is done, also after an error or Ctrl-C.

    done: the number of deleted or emptied rows, by model. changes: the numbers of the changes in the journal. advance:
    called with the number of entities of the model that were tried.
    """

    def __init__(self, database: Any, wanted: Wanted, advance: Callable[[int], object] = lambda number: None) -> None:
        self.database, self.wanted, self.advance = database, wanted, advance
        self.done, self.changes, self.tried = Counter[Any](), list[int](), 0
        self.sizes: dict[Any, int] = {}  # entities of the next batch, by model

    @property
    def session(self) -> str:
        """The name of the session in the journal, all of whose changes are these batches in a command."""
        return str(self.database.recorder.session)

    def delete(self, last: int) -> None:
        """Delete all entities that match, up to the id `last`. Writes, in one transaction for each batch.

        Raises an Error if an entity has dependents that are not wanted: the batches before it stay.
        """
        self._delete(self.wanted, last)

    def empty_results(self, last: int) -> None:
        """Empty the inputs and results of the tasks that match, up to the id `last`, as servers' clean-up does.

        Texts become empty, a missing one stays missing; the log, the times and the status stay. Writes.
        """
        for ids in self._ids(self.wanted, last):
            with self._batch(self.wanted.model):
                self._empty(_still_matching(self.wanted, ids))

    def _delete(self, wanted: Wanted, last: int) -> None:
        for ids in self._ids(wanted, last):
            for link in _with_many(wanted.model) if wanted.dependents else ():
                below = Wanted(link.model, (deleting.among(link.column_name, set(ids)),), dependents=True)
                self._delete(below._replace(forget=wanted.forget), _last(below.model))
            with self._batch(wanted.model):
                plan = deleting.planned_ids(wanted.model, _still_matching(wanted, ids))
                self._execute(wanted, _without_kept(wanted, plan) if wanted.whole_trees else plan)

    def _ids(self, wanted: Wanted, last: int) -> Iterator[list[int]]:
        """Yield the ids that match, some at a time. They are read without a lock."""
        model, above = wanted.model, LOWEST_ID
        while above < last:
            query = model.select(model.id).where(*wanted.where, model.id > above, model.id <= last)
            some = query.order_by(model.id).limit(self.sizes.get(model, FIRST_SIZE))
            ids = [id for (id,) in self.database.execute(some).fetchall()]
            if not ids:
                return
            yield ids
            above = ids[-1]
            if model is self.wanted.model:
                self.tried += len(ids)
                self.advance(self.tried)

    @contextmanager
    def _batch(self, model: Any) -> Iterator[None]:
        """One transaction. The time it takes decides on the size of the next one."""
        if self.changes:
            time.sleep(PAUSE)
        before = self.database.last_change
        try:
            with self.database.atomic():
                began = time.monotonic()  # the lock is ours now
                yield
        finally:  # Ctrl-C may come right after the commit
            change = self.database.last_change
            self.changes += [change] if change not in (None, before) else []
        size, took = self.sizes.get(model, FIRST_SIZE), max(time.monotonic() - began, 0.001)
        self.sizes[model] = max(1, min(LARGEST_SIZE, size * 2, int(size * BATCH / took)))

    def _execute(self, wanted: Wanted, plan: deleting.Plan) -> None:
        if plan.branches and not wanted.dependents:
            new = deleting.counts(plan.dependents())
            raise Error(f"{plan.subject()} got {new} meanwhile: --dependents deletes them too")
        if not plan.ids:
            return
        by_model = plan.by_model()
        if wanted.forget:
            with recording.one_change(self.database, recording.FORGET, f"{plan.summary()} for good"):
                with recording.unrecorded(self.database):
                    deleting.execute(plan)
                for model, ids in by_model.items():
                    forgetting.forget_rows(self.database, model._meta.table_name, ids)
        else:
            deleting.execute(plan)
        self._on_commit(Counter({model: len(ids) for model, ids in by_model.items()}))

    def _empty(self, tasks: set[int]) -> None:
        ids = {id for (id,) in self.database.execute_sql(FULL_RESULTS.format(", ".join(map(str, tasks)) or "NULL"))}
        if not ids:
            return
        sql = f"UPDATE result SET {EMPTYING} WHERE id IN ({', '.join(map(str, ids))})"
        if self.wanted.forget:
            about = f"emptied {pluralize(len(ids), 'result')} for good"
            with recording.one_change(self.database, recording.FORGET, about):
                with recording.unrecorded(self.database):
                    self.database.execute_sql(sql)
                forgetting.forget_fields(self.database, "result", ids, EMPTIED)
        else:
            self.database.execute_sql(sql)
        self._on_commit(Counter({registry["result"]: len(ids)}))

    def _on_commit(self, numbers: Counter[Any]) -> None:
        """Count what a batch deletes, unless it is rolled back."""
        self.done += numbers
        self.database.on_rollback(lambda: self.done.subtract(numbers))


FULL_RESULTS = f"SELECT id FROM result WHERE task_id IN ({{}}) AND ({FULL})"
EMPTYING = ", ".join(f"{name} = CASE WHEN {name} IS NOT NULL THEN '' END" for name in EMPTIED)


def _still_matching(wanted: Wanted, ids: Collection[int]) -> set[int]:
    return deleting.ids_of(wanted.model, deleting.among("id", set(ids)), *wanted.where)


def _with_many(model: Any) -> list[Any]:
    """Return the links to a model from tasks and results, which may be many: they are deleted in batches first."""
    many = (registry["task"], registry["result"])
    return [] if model in many else [link for link in model._meta.backrefs if link.model in many]


def _last(model: Any) -> int:
    return int(model.select(peewee.fn.MAX(model.id)).scalar() or 0)


def _without_kept(wanted: Wanted, plan: deleting.Plan) -> deleting.Plan:
    """Return the plan without the tasks above one that does not match."""
    task = wanted.model
    tasks = plan.dependents().get(task, set()) | {*plan.ids}
    if tasks == {*plan.ids}:
        return plan
    among = deleting.among("id", tasks)
    matching = _still_matching(wanted, tasks)
    parents = dict(task.select(task.id, task.parent).where(among).tuples())
    kept, above = set[int](), tasks - matching
    while above:
        kept |= above
        above = {parents[id] for id in above if parents.get(id) in tasks} - kept
    return deleting.planned_ids(task, {*plan.ids} - kept) if kept else plan
