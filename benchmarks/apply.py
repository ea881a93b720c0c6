"""Planning and applying changes to a server's database, compared with plain sqlite3 reading the same rows once.

python benchmarks/apply.py

One plan deletes a collaboration with 20,000 tasks and 60,000 runs, and leaves 5,000 and 15,000. Another changes 20
rows. The times do not include the copy, the backup and bcrypt.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from measure import PROJECT, Goal, clock, heading, report, verdict

import models
from vserverlib.plans import reverting, working_copy

SAMPLE = PROJECT / "tests" / "data" / "v4.15.2.sqlite"
TASKS, STAY, RUNS, CHANGED, ROUNDS = 20_000, 5_000, 3, 20, 3
MADE = "2026-03-01 09:00:00.000000"
TABLES = ("run", "task", "taskdatabase", "algorithmport")
TASK = (
    "INSERT INTO task (id, name, collaboration_id, job_id, parent_id, init_org_id, created_at) VALUES (?,?,?,?,?,?,?)"
)
RUN = """
INSERT INTO run (id, input, task_id, organization_id, result, assigned_at, finished_at, status)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def fill(path: Path, tasks: int, stay: int) -> Path:
    """Copy the sample; add tasks with runs to the collaboration that is deleted, and to another one."""
    shutil.copy(SAMPLE, path)
    path.chmod(0o600)
    with contextlib.closing(sqlite3.connect(path)) as conn, conn:
        numbers = range(tasks + stay)
        rows = ((100 + n, f"t{n}", 2 if n < tasks else 1, n, 99 + n if n % 3 else None, 2, MADE) for n in numbers)
        conn.executemany(TASK, rows)
        conn.executemany(
            "INSERT INTO taskdatabase (task_id, database) VALUES (?, 'default')", ((100 + n,) for n in numbers)
        )
        runs = range(RUNS * (tasks + stay))
        values = ("aW4wMA==" * 10, "b3V0MDA=" * 20, MADE, MADE, "completed")
        conn.executemany(RUN, ((1000 + n, values[0], 100 + n // RUNS, 1 + n % 2, *values[1:]) for n in runs))
    return path


def scanned(path: Path) -> float:
    """Time reading all rows of the tables once."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return clock(lambda: [sum(1 for _ in conn.execute(f"SELECT * FROM {table}")) for table in TABLES])


def deleted(path: Path) -> tuple[float, float, float]:
    """Time planning a deletion, and how long applying and undoing it hold the lock."""
    with contextlib.closing(working_copy.opened(path)) as copy:
        models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
        seconds, locked = clock(copy.plan), copy.apply(backup=False).locked
    return seconds, locked, reverting.apply(path, backup=False).locked


def changed(path: Path) -> tuple[float, float]:
    """Time planning and applying a few changed rows, and how long that holds the lock."""
    with contextlib.closing(working_copy.opened(path)) as copy:
        with copy.rule_checks(False):
            for task in models.Task.select().limit(CHANGED):
                task.description = "changed"
                task.save()
        seconds = clock(copy.plan)
        applied = copy.apply(backup=False)
        return seconds + applied.seconds, applied.locked


def main() -> int:
    heading(f"a plan that deletes {TASKS:,} tasks with {RUNS * TASKS:,} runs; one that changes {CHANGED} rows")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VSERVER_HOME"] = str(Path(folder, "home"))
        whole = fill(Path(folder, "whole.sqlite"), TASKS, STAY)
        files = [Path(shutil.copy(whole, Path(folder, f"{number}.sqlite"))) for number in range(ROUNDS)]
        scans = [scanned(whole) for _ in range(ROUNDS)]
        few = [changed(file) for file in files]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        many = [deleted(file) for file in files]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / before
    plans, locks, undo_locks = ([each[at] for each in many] for at in (0, 1, 2))
    small, small_locks = ([each[at] for each in few] for at in (0, 1))
    report("plain sqlite3, reading the rows once", scans)
    report("planning the deletion", plans)
    report("holding the lock for it", locks)
    report("holding the lock to undo it", undo_locks)
    report(f"{CHANGED} changed rows, planned and applied", small)
    report("holding the lock for them", small_locks)
    scan = min(scans)
    return verdict(
        [
            Goal("planning the deletion, to reading the rows once", min(plans) / scan, 40),
            Goal("the lock of the deletion, to reading the rows once", min(locks) / scan, 15),
            Goal("the lock of its undo, to reading the rows once", min(undo_locks) / scan, 5),
            Goal(f"{CHANGED} changed rows, to reading the rows once", min(small) / scan, 1),
            Goal("memory with the deletion, to memory without", memory, 1.3),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
