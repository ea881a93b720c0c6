"""Times pruning old tasks with their results against plain sqlite3 deleting the same rows.

    python benchmarks/prune.py

Both work on copies of a database of 20,000 tasks with four results each. vserver deletes in batches, with pauses in
which others can write; plain sqlite3 deletes everything in one transaction, which locks them out.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Goal, clock, drop_triggers, heading, in_turns, ratio, report, verdict

import models
from vserverlib.databases import storage
from vserverlib.entities import bulk_deleting, forgetting
from vserverlib.examples import simulation

TASKS, ORGANIZATIONS = 20_000, 12
ROUNDS = 5
WHERE = "finished_at<-1h"
LABELS = ("prune, recorded in the journal", "prune --forget", "sqlite3, recorded", "sqlite3, not recorded")
FINISHED = """
SELECT task_id FROM result GROUP BY task_id
HAVING COUNT(*) = COUNT(CASE WHEN state IN ('completed', 'failed') THEN 1 END) AND MAX(finished_at) < ?
"""


def filled(path: Path) -> Path:
    """Create a database of tasks."""
    storage.create(path)
    with contextlib.closing(models.connect(path)) as database:
        simulation.fill(database, TASKS, ORGANIZATIONS, lambda done: None)
        database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def pruned(path: Path, forget: bool) -> float:
    """Time counting and deleting a copy's tasks, as `vserver prune` does."""
    with copied(path) as copy, contextlib.closing(models.connect(copy)) as database:
        return clock(functools.partial(prune, database, forget))


def prune(database: object, forget: bool) -> None:
    wanted = bulk_deleting.finished([WHERE], forget)
    counted = bulk_deleting.count(database, wanted)
    if forget:
        forgetting.overwrite_deleted(database)
    bulk_deleting.Batches(database, wanted).delete(counted.last)


def deleted(path: Path, recorded: bool) -> float:
    """Time plain SQL that deletes the same rows of a copy, with the same pragmas."""
    with copied(path) as copy:
        if not recorded:
            drop_triggers(copy)
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as conn:
            for pragma in ("foreign_keys = 1", "synchronous = FULL", "journal_mode = WAL"):
                conn.execute(f"PRAGMA {pragma}")
            return clock(functools.partial(delete, conn))


def delete(conn: sqlite3.Connection) -> None:
    conn.execute("BEGIN IMMEDIATE")
    before = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 3600))
    conn.execute("CREATE TEMP TABLE doomed (id INTEGER PRIMARY KEY)")
    conn.execute(f"INSERT INTO doomed {FINISHED}", [before])
    conn.execute(KEPT)
    conn.execute("DELETE FROM result WHERE task_id IN (SELECT id FROM doomed)")
    conn.execute("DELETE FROM task WHERE id IN (SELECT id FROM doomed)")
    conn.execute("COMMIT")


KEPT = """
DELETE FROM doomed WHERE id IN (
    WITH RECURSIVE kept(id) AS (
        SELECT parent_id FROM task WHERE parent_id IS NOT NULL AND id NOT IN (SELECT id FROM doomed)
        UNION SELECT t.parent_id FROM kept JOIN task t ON t.id = kept.id WHERE t.parent_id IS NOT NULL
    ) SELECT id FROM kept
)"""


@contextlib.contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of a database, deleted at the end."""
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    yield copy
    for each in path.parent.glob("*.copy*"):
        each.unlink()


def main() -> int:
    """Run the benchmark; return 1 if a goal is missed."""
    heading(f"deleting the finished ones of {TASKS:,} tasks with four results each")
    with tempfile.TemporaryDirectory() as folder:
        path = filled(Path(folder) / "tasks.db")
        with copied(path) as copy, contextlib.closing(models.connect(copy)) as database:
            prune(database, False)
            left = models.Task.select().count()
        with copied(path) as copy, contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as conn:
            delete(conn)
            assert conn.execute("SELECT COUNT(*) FROM task").fetchone() == (left,)
        timed = [functools.partial(pruned, path, forget) for forget in (False, True)]
        timed += [functools.partial(deleted, path, recorded) for recorded in (True, False)]
        times = in_turns(ROUNDS, *timed)
    for label, seconds in zip(LABELS, times, strict=True):
        report(label, seconds)
    recorded, forgotten, plain, unrecorded = times
    return verdict(
        [
            Goal("prune, to sqlite3 deleting the same, both recorded", ratio(recorded, plain), 2.5),
            Goal("prune --forget, to sqlite3 without a journal", ratio(forgotten, unrecorded), 8),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
