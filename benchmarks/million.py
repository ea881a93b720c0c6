"""Times everyday commands, and writing a very long list, on a million tasks.

    python benchmarks/million.py [TASKS]

A database of TASKS tasks (default: 1,000,000) with four results each is compared with one of 1,000 tasks, one process
for each command. `overview` is compared with plain sqlite3 counting the same, `list --all -o jsonl` with plain sqlite3
and json.dumps, and its memory with that for 10,000 tasks.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import PROJECT, Goal, Timed, clock, drop_triggers, heading, in_turns, ratio, report, verdict

import models
from vserverlib.databases import storage
from vserverlib.examples import simulation
from vserverlib.queries import overview

TASKS, FEW, SOME = 1_000_000, 1_000, 10_000
ORGANIZATIONS = 12
INSERTS, ROWS_PER_TRANSACTION = 400_000, 100_000  # of results, by plain executemany
ROUNDS, SLOW_ROUNDS = 7, 3

VSERVER = "import vserver; vserver.main()"
CONSTANT_TIME = (  # commands whose time should not depend on the number of tasks
    "list tasks",
    "show task 8",
    "show organization 1",
    "list tasks --sort -created_at",
    "list tasks --where collaboration=1",
    "list tasks --where run_id=77",
    "list tasks --where created_at>-2d",
    "list results --where task=8",
)
# The figures of `vserver overview`, as an expert would query them.
COUNTS = (
    """SELECT task.collaboration_id, failed > 0, active > 0, done = total, COUNT(*) FROM (
        SELECT task_id, COUNT(*) AS total, COUNT(CASE WHEN state IN ('completed', 'failed') THEN 1 END) AS done,
            COUNT(CASE WHEN state = 'failed' THEN 1 END) AS failed,
            COUNT(CASE WHEN state = 'active' THEN 1 END) AS active
        FROM result GROUP BY task_id
    ) CROSS JOIN task ON task.id = task_id GROUP BY 1, 2, 3, 4""",
    "SELECT organization_id, state, COUNT(*) FROM result GROUP BY 1, 2",
    "SELECT organization_id, MIN(assigned_at) FROM result WHERE state IN ('pending', 'active') GROUP BY 1",
    "SELECT collaboration_id, COUNT(*) FROM task GROUP BY 1",
    "SELECT id, name, last_seen FROM node WHERE last_seen IS NULL OR last_seen < '2026'",
    "SELECT (SELECT COUNT(*) FROM task), (SELECT COUNT(*) FROM result), (SELECT COUNT(*) FROM user)",
)
# The columns of `list tasks --all`.
ROWS = """
SELECT task.id, task.name, total, done, failed, active, task.collaboration_id, collaboration.name, task.initiator_id,
    organization.name, task.created_at, finished_at, task.run_id, task.parent_id, parent.name, task.image,
    task."database", task.description
FROM task LEFT JOIN collaboration ON collaboration.id = task.collaboration_id
    LEFT JOIN organization ON organization.id = task.initiator_id LEFT JOIN task AS parent ON parent.id = task.parent_id
    LEFT JOIN (
        SELECT task_id, COUNT(*) AS total, COUNT(CASE WHEN state IN ('completed', 'failed') THEN 1 END) AS done,
            COUNT(CASE WHEN state = 'failed' THEN 1 END) AS failed,
            COUNT(CASE WHEN state = 'active' THEN 1 END) AS active, MAX(finished_at) AS finished_at
        FROM result GROUP BY task_id
    ) ON task_id = task.id
ORDER BY task.id
"""


def filled(path: Path, tasks: int) -> float:
    """Create a database of tasks, and return the seconds that filling it took."""
    storage.create(path)
    with contextlib.closing(models.connect(path)) as database:
        return clock(lambda: simulation.fill(database, tasks, ORGANIZATIONS))


def inserted(source: Path) -> float:
    """Return the result rows per second that plain executemany inserts into the same table."""
    names = ", ".join(simulation.RESULT)
    sql = f"INSERT INTO result ({names}) VALUES ({', '.join('?' * len(simulation.RESULT))})"
    with contextlib.closing(sqlite3.connect(source)) as conn:
        rows = conn.execute(f"SELECT {names} FROM result LIMIT {INSERTS}").fetchall()
    drop_triggers(storage.create(source.with_name("plain.db")))
    with contextlib.closing(sqlite3.connect(source.with_name("plain.db"))) as conn:
        chunks = [rows[at : at + ROWS_PER_TRANSACTION] for at in range(0, len(rows), ROWS_PER_TRANSACTION)]
        return len(rows) / clock(lambda: [_insert(conn, sql, chunk) for chunk in chunks])


def _insert(conn: sqlite3.Connection, sql: str, rows: list[tuple[object, ...]]) -> None:
    with conn:
        conn.executemany(sql, rows)


def run(path: Path, command: str, out: int = subprocess.DEVNULL) -> None:
    words = [sys.executable, "-c", VSERVER, "-d", str(path), *command.split()]
    subprocess.run(words, cwd=PROJECT, stdout=out, stderr=subprocess.DEVNULL, check=True)


def process(path: Path, command: str) -> Timed:
    """Return a function that times a command from start to end."""
    return lambda: clock(lambda: run(path, command))


def peak(path: Path, command: str) -> int:
    """Return the peak memory of a command, in KiB."""
    words = [sys.executable, "-c", VSERVER, "-d", str(path), *command.split()]
    process = subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return os.wait4(process.pid, 0)[2].ru_maxrss


def count_plainly(path: Path) -> float:
    """Time plain sqlite3 with the queries of the overview."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        return clock(lambda: [conn.execute(sql).fetchall() for sql in COUNTS])


def overviewed(path: Path) -> float:
    with contextlib.closing(models.connect(path, read_only=True)) as database:
        return clock(lambda: overview.overview(database))


def dumped(path: Path, sql: str) -> float:
    """Time plain sqlite3 and json.dumps writing rows to os.devnull."""
    with contextlib.closing(sqlite3.connect(path)) as conn, open(os.devnull, "w") as out:
        return clock(lambda: _dump(conn.execute(sql), out))


def _dump(cursor: sqlite3.Cursor, out: object) -> None:
    names = [column[0] for column in cursor.description]
    for row in cursor:
        print(json.dumps(dict(zip(names, row, strict=True))), file=out)  # type: ignore[call-overload]


def goals(many: Path, few: Path, some: Path) -> Iterator[Goal]:
    """Measure and yield the goals."""
    for command in CONSTANT_TIME:
        ours, baseline = in_turns(ROUNDS, process(many, command), process(few, command))
        report(command, ours)
        yield Goal(f"{command}, to the same on {FEW:,} tasks", ratio(ours, baseline), 1.5)
    ours, plain = in_turns(SLOW_ROUNDS, functools.partial(overviewed, many), functools.partial(count_plainly, many))
    report("overview", ours)
    report("plain sqlite3, the same counts", plain)
    yield Goal("overview, to plain sqlite3", ratio(ours, plain), 2)
    listing, bare = "list tasks --all -o jsonl", "SELECT * FROM task"
    rows = [process(many, listing), *(functools.partial(dumped, many, sql) for sql in (ROWS, bare))]
    ours, same, tasks = in_turns(SLOW_ROUNDS, *rows)
    report(listing, ours)
    report("plain sqlite3 and json.dumps, the same content", same)
    report("plain sqlite3 and json.dumps, the columns of the table alone", tasks)
    yield Goal(f"{listing}, to plain sqlite3 and json.dumps", ratio(ours, same), 3)
    yield Goal(f"{listing}: memory, to that for {SOME:,} tasks", peak(many, listing) / peak(some, listing), 1.3)


def main() -> int:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    heading(f"{tasks:,} tasks")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many, few, some = (folder / word for word in ("many.db", "few.db", "some.db"))
        seconds = filled(many, tasks)
        filled(few, FEW)
        filled(some, SOME)
        with contextlib.closing(sqlite3.connect(many)) as conn:
            (results,) = conn.execute("SELECT COUNT(*) FROM result").fetchone()
        plain, ours = inserted(many), results / seconds
        print(f"  result rows per second: plain executemany {plain:,.0f}; demo {ours:,.0f}, with their tasks")
        first = Goal("result rows of plain executemany, to those of demo", plain / ours, 4)
        return verdict([first, *goals(many, few, some)])


if __name__ == "__main__":
    sys.exit(main())
