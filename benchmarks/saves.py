"""A thousand saves of tasks, one by one, against plain sqlite3 inserts that are as durable.

python benchmarks/saves.py
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import tempfile
from pathlib import Path

from measure import Goal, clock, heading, in_turns, ratio, told, verdict

import models
from vserverlib import storage

SAVES = 1_000
ROUNDS = 7
INSERT = """
INSERT INTO task (name, description, image, collaboration_id, run_id, "database", initiator_id, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
MADE = "2026-03-01 09:00:00.000000+00:00"
FIELDS = ("average age", "the mean over all sites", "registry.example/average:2")


def fill(path: Path) -> Path:
    """Make a database with what a task needs."""
    storage.create(path)
    with contextlib.closing(models.connect(path)):
        iknl = models.Organization(name="IKNL")
        iknl.save()
        models.Collaboration(name="AB", organizations=[iknl]).save()
    return path


def saved(path: Path, ask: bool = True) -> float:
    """Time the saves of tasks made as the user guide makes them, with or without asking the rules."""
    with contextlib.closing(models.connect(path)) as database, database.asking(ask):
        iknl, collaboration = models.Organization.get(1), models.Collaboration.get(1)
        return clock(lambda: [save(run, iknl, collaboration) for run in range(SAVES)])


def save(run: int, initiator: models.Organization, collaboration: models.Collaboration) -> None:
    name, description, image = FIELDS
    task = models.Task(
        name=name,
        description=description,
        image=image,
        collaboration=collaboration,
        run_id=run,
        database="default",
        initiator=initiator,
    )
    task.save()


def inserted(path: Path) -> float:
    """Time plain inserts, each in a transaction of its own, with the same pragmas."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for pragma in ("foreign_keys = 1", "recursive_triggers = 1", "synchronous = FULL", "journal_mode = WAL"):
            conn.execute(f"PRAGMA {pragma}")
        return clock(lambda: [insert(conn, run) for run in range(SAVES)])


def insert(conn: sqlite3.Connection, run: int) -> None:
    conn.execute("BEGIN IMMEDIATE")
    conn.execute(INSERT, (*FIELDS, 1, run, "default", 1, MADE))
    conn.execute("COMMIT")


def main() -> int:
    heading(f"{SAVES:,} saves of tasks")
    with tempfile.TemporaryDirectory() as folder:
        ours, free, plain = (fill(Path(folder, name)) for name in ("ours", "free", "plain"))
        timed = in_turns(ROUNDS, lambda: saved(ours), lambda: saved(free, ask=False), lambda: inserted(plain))
    mine, unasked, theirs = timed
    told("Task(…).save()", mine)
    told("the same, without asking the rules", unasked)
    told("plain sqlite3, BEGIN IMMEDIATE … COMMIT each", theirs)
    goals = [Goal("saves one by one, to plain sqlite3", ratio(mine, theirs), 2.0)]
    return verdict([*goals, Goal("with the rules, to without", ratio(mine, unasked), 1.3)])


if __name__ == "__main__":
    sys.exit(main())
