"""Times the user guide's comprehension for complete tasks, over 100,000 tasks with 3 results each.

    python benchmarks/complete.py

Compared with plain sqlite3 that fetches the same columns and a grouped count (the faster of two queries and one join),
with a query for each task (timed over fewer tasks, and scaled), and with itself over twice the tasks.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import sys
import tempfile
from pathlib import Path

from measure import Goal, clock, heading, in_turns, ratio, report, verdict

import models
from vserverlib.databases import storage

TASKS = 100_000
RESULTS = 3
ONE_BY_ONE = 2_000  # tasks with a query each
ROUNDS = 7

COLUMNS = ", ".join(field.column_name for field in models.Task._meta.sorted_fields)
CONSTANT = ("the mean over all sites", "registry.example/average:2", 1, "default", 1)
TASK = """
INSERT INTO task (id, name, description, image, collaboration_id, "database", initiator_id, run_id, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
RESULT = """
INSERT INTO result (input, task_id, organization_id, assigned_at, started_at, finished_at, status)
VALUES ('{}', ?, ?, ?, ?, ?, ?)
"""
MADE = "2026-03-01 09:00:00.000000+00:00"


def fill(path: Path, tasks: int) -> Path:
    """Create a database of tasks: every third has an unfinished result, every seventh a failed one."""
    storage.create(path)
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("INSERT INTO organization (id, name) VALUES (1, 'A'), (2, 'B'), (3, 'C')")
        conn.execute("INSERT INTO collaboration (id, name, encrypted) VALUES (1, 'AB', 0)")
        conn.executemany("INSERT INTO member (organization_id, collaboration_id) VALUES (?, 1)", [(1,), (2,), (3,)])
        rows = ((id, f"task {id}", *CONSTANT, id, MADE) for id in range(1, tasks + 1))
        conn.executemany(TASK, rows)
        conn.executemany(RESULT, (row for id in range(1, tasks + 1) for row in results(id)))
    return path


def results(task: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [(task, org, MADE, MADE, MADE, "completed") for org in range(1, RESULTS + 1)]
    if task % 3 == 0:
        rows[2] = (task, 3, MADE, None, None, "pending")
    if task % 7 == 0:
        rows[1] = (task, 2, MADE, MADE, None, "crashed")
    return rows


def guide(path: Path) -> float:
    """Time the statement of the user guide."""
    db = models
    with contextlib.closing(models.connect(path)):
        return clock(lambda: [task for task in db.Task.get() if task.complete])


def plain(path: Path) -> float:
    """Time plain sqlite3: the tasks, and a grouped count of their results."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return clock(lambda: plainly(conn))


def plainly(conn: sqlite3.Connection) -> list[tuple[object, ...]]:
    grouped = "SELECT task_id, COUNT(*), COUNT(finished_at) FROM result GROUP BY task_id"
    counts = {id: (total, done) for id, total, done in conn.execute(grouped)}
    tasks = conn.execute(f"SELECT {COLUMNS} FROM task ORDER BY id").fetchall()
    return [task for task in tasks if 0 < counts.get(task[0], (0, 0))[0] == counts[task[0]][1]]


def joined(path: Path) -> float:
    """Time plain sqlite3: the tasks joined with the grouped count."""
    grouped = "SELECT task_id, COUNT(*) AS total, COUNT(finished_at) AS done FROM result GROUP BY task_id"
    query = f"SELECT {COLUMNS}, total, done FROM task LEFT JOIN ({grouped}) ON task_id = id ORDER BY id"
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return clock(lambda: [row for row in conn.execute(query).fetchall() if row[-1] == row[-2]])


def one_by_one(path: Path) -> float:
    """Time a query for each of ONE_BY_ONE tasks, and scale it to all tasks."""
    with contextlib.closing(models.connect(path)):
        tasks = list(models.Task.get()[:ONE_BY_ONE])
        return clock(lambda: [task for task in tasks if asked(task)]) * TASKS / len(tasks)


def asked(task: models.Task) -> bool:
    return all(result.complete for result in task.results)


def timings(once: Path, twice: Path) -> list[list[float]]:
    ways = [(guide, once), (plain, once), (joined, once), (one_by_one, once), (guide, twice)]
    return in_turns(ROUNDS, *(functools.partial(way, path) for way, path in ways))


def main() -> int:
    heading(f"{TASKS:,} tasks with {RESULTS} results each")
    with tempfile.TemporaryDirectory() as folder:
        found = timings(fill(Path(folder, "once"), TASKS), fill(Path(folder, "twice"), 2 * TASKS))
    mine, theirs, join, single, double = found
    report("[task for task in db.Task.get() if task.complete]", mine)
    report("plain sqlite3, the tasks and a grouped count", theirs)
    report("plain sqlite3, the same as one joined query", join)
    report("a query per task (scaled)", single)
    report("the comprehension over twice the tasks", double)
    return verdict(
        [
            Goal("the comprehension, to plain sqlite3", ratio(mine, min(theirs, join, key=min)), 2.5),
            Goal("a query per task, to the comprehension", ratio(single, mine), 15, least=True),
            Goal("twice the tasks, to once", ratio(double, mine), 2.3),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
