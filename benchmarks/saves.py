"""Times a thousand saves of tasks, one by one, against plain sqlite3 inserts that are as durable.

    python benchmarks/saves.py

Also measures the share of the rules, and of the journal by dropping its triggers.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import sys
import tempfile
from pathlib import Path

from measure import Goal, clock, drop_triggers, heading, in_turns, ratio, report, verdict

import models
from vserverlib.databases import storage

SAVES = 1_000
LABELS = ("Task(…).save(), without rules and journal", "with the rules", "with the journal", "with both, as usual")
ROUNDS = 7
INSERT = """
INSERT INTO task (name, description, image, collaboration_id, run_id, "database", initiator_id, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
MADE = "2026-03-01 09:00:00.000000+00:00"
FIELDS = ("average age", "the mean over all sites", "registry.example/average:2")


def fill(path: Path, journal: bool = False) -> Path:
    """Create a database with an organization and a collaboration, with or without the triggers of the journal."""
    storage.create(path)
    if not journal:
        drop_triggers(path)
    with contextlib.closing(models.connect(path)):
        iknl = models.Organization(name="IKNL")
        iknl.save()
        models.Collaboration(name="AB", organizations=[iknl]).save()
    return path


def saved(path: Path, check_rules: bool) -> float:
    """Time saves as the user guide has them, with or without the rules."""
    with contextlib.closing(models.connect(path)) as database, database.rule_checks(check_rules):
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
    """Time plain inserts, one transaction each, with the same pragmas."""
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
        names = ("free", "asked", "recorded", "both")
        free, asked, recorded, both = (fill(Path(folder, name), journal=name in names[2:]) for name in names)
        plain = fill(Path(folder, "plain"))
        ways = ((free, False), (asked, True), (recorded, False), (both, True))
        timed = [functools.partial(saved, path, ask) for path, ask in ways]
        *mine, theirs = in_turns(ROUNDS, *timed, lambda: inserted(plain))
    for label, seconds in zip(LABELS, mine, strict=True):
        report(label, seconds)
    report("plain sqlite3, BEGIN IMMEDIATE … COMMIT each", theirs)
    alone, with_rules, with_journal, with_both = mine
    return verdict(
        [
            Goal("saves, to plain sqlite3", ratio(with_both, theirs), 3.0),
            Goal("saves without rules and journal, to plain sqlite3", ratio(alone, theirs), 2.0),
            Goal("saves with the rules, to saves without", ratio(with_rules, alone), 1.3),
            Goal("saves with the journal, to saves without", ratio(with_journal, alone), 1.5),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
