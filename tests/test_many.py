"""Many at once: processes that write to one file, and readers among them.

No write is lost, none waits for a reader, and no reader for a writer. `pytest -m long` has them write more.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.process import start
from helpers.terminal import environment, shell_at

import models as db
from vserverlib import Error

KINDS = ["sqlite"]  # it is about files

PROCESSES = 8
SAVES = 40  # of each process
MANY_SAVES = 500
BEGIN = "import sys, json, warnings, models\nwarnings.simplefilter('ignore')\ndatabase = models.connect('vserver.db')\n"
READY = "print('ready', flush=True)\nsys.stdin.readline()\n"

# Each task is made with two results, as one change; a run id is drawn beside it; each third task is deleted again.
WORK = """
worker, count = sys.argv[1], int(sys.argv[2])
made, drawn, gone, changes = {}, [], [], {}
for number in range(count):
    task = models.Task(name=f"{worker}/{number}")
    with database.atomic():
        task.save()
        models.Result(task=task).save()
        models.Result(task=task).save()
    made[task.id], changes[database.last_change] = task.run_id, ["insert", task.id]
    drawn.append(models.Task.next_run_id())
    if number % 3 == 0:
        task.delete(dependents=True)
        gone.append(task.id)
        changes[database.last_change] = ["delete", task.id]
json.dump([database.recorder.session, made, drawn, gone, changes], sys.stdout)
"""
# Each statement of another program is a change of its own.
STRANGER = """
import sqlite3
other = sqlite3.connect("vserver.db", isolation_level=None, timeout=60)
for number in range(int(sys.argv[2])):
    other.execute("INSERT INTO organization (name) VALUES ('a stranger'), ('another')")
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def at_once(folder: Path, programs: Iterable[tuple[str, ...]]) -> list[tuple[int, str, str]]:
    """Run programs, each with its arguments, from the same moment on; return their exit status, output and errors."""
    with ExitStack() as stack:
        running = []
        for code, *words in programs:
            command = [sys.executable, "-c", BEGIN + READY + code, *words]
            pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            started = start(command, cwd=folder, env=environment(folder), text=True, **pipes)
            running.append(stack.enter_context(started))
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate() for process in running]
        return [(process.returncode, *output) for process, output in zip(running, outputs, strict=True)]


@pytest.fixture
def watcher(path: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that watches the tasks meanwhile; what it tells is not read, so that it comes to a halt."""
    command = [sys.executable, "-m", "vserver", "watch"]
    env = environment(tmp_path)
    with start(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("count", [SAVES, pytest.param(MANY_SAVES, marks=pytest.mark.long)])
def test_many_processes_that_save_draw_run_ids_and_delete_lose_nothing(
    story: SimpleNamespace, database: Any, path: Path, watcher: Any, count: int
) -> None:
    reading = db.Task.get().iterator()  # a reader that does not come to its end
    next(reading)
    programs = [(WORK, str(worker), str(count)) for worker in range(PROCESSES)]
    ended = at_once(path.parent, [*programs, (STRANGER, "", str(count))])
    assert [status for status, *_ in ended] == [0] * (PROCESSES + 1), ended
    printed = [line for *_, errors in ended for line in errors.splitlines()]
    assert all(line.startswith("waiting for ") for line in printed)  # more than a second, on a slow machine
    reports = [json.loads(output) for _, output, _ in ended[:-1]]
    assert watcher.poll() is None
    reading.close()
    hold_tasks(reports, count)
    hold_journal(reports, path, count)
    assert len(db.Organization.where("name~another")) == count


def hold_tasks(reports: list[Any], count: int) -> None:
    """Hold that what each process made is there, unless it deleted it, and that no number was given twice."""
    made = {int(id): run_id for _, ids, *_ in reports for id, run_id in ids.items()}
    gone = {id for *_, gone, _ in reports for id in gone}
    drawn = [number for _, _, drawn, *_ in reports for number in drawn]
    assert len(made) == PROCESSES * count
    numbers = [1, *made.values(), *drawn]  # 1 is the story's
    assert sorted(numbers) == list(range(1, 2 * PROCESSES * count + 2))
    tasks = list(db.Task.get())
    assert {task.id: task.run_id for task in tasks} == {1: 1} | {id: made[id] for id in made.keys() - gone}
    assert {task.progress for task in tasks} == {(0, 2)}
    assert len(db.Result.get()) == 2 * len(tasks)


def hold_journal(reports: list[Any], path: Path, count: int) -> None:
    """Hold that each change is one process's, and has all rows of one of its transactions and no other."""
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        assert conn.execute("SELECT COUNT(*) FROM change WHERE open > 0").fetchone() == (0,)
        for session, _, _, _, changes in reports:
            query = (
                "SELECT c.id, op, entity, COALESCE(json_extract(changes, '$.task_id[0]'), "
                "json_extract(changes, '$.task_id[1]'), entity_id) FROM change c JOIN record r ON r.change_id = c.id "
                "WHERE session = ?"
            )
            found = Counter(conn.execute(query, [session]).fetchall())
            assert found == Counter(
                (int(change), op, entity, id)
                for change, (op, id) in changes.items()
                for entity in ("task", "result", "result")
            )
        rows = "SELECT COUNT(*) FROM change c JOIN record r ON r.change_id = c.id"
        strangers = f"{rows} WHERE actor IS NULL GROUP BY c.id"
        assert conn.execute(strangers).fetchall() == [(2,)] * count


# Rules

SECOND_NODE = """
from vserverlib import CheckError
database.strict = True
organization, collaboration = models.Organization.get(2), models.Collaboration.get(1)
try:
    models.Node(name="Oslo " + sys.argv[1], organization=organization, collaboration=collaboration).save()
    print("made")
except CheckError as error:
    print(*(breach.code for breach in error.breaches))
"""


def test_of_eight_that_make_the_same_node_at_once_one_succeeds(story: SimpleNamespace, path: Path) -> None:
    """The rules are asked when the lock for writing is held, and so see what the others have made."""
    ended = at_once(path.parent, [(SECOND_NODE, str(number)) for number in range(PROCESSES)])
    assert sorted(output for _, output, _ in ended) == ["NOD003\n"] * (PROCESSES - 1) + ["made\n"]
    assert len(db.Node.where(db.Node.organization == 2)) == 1


def test_a_name_that_eight_take_at_once_is_given_to_one(story: SimpleNamespace, path: Path) -> None:
    code = (
        "import vserverlib\ntry:\n    models.User(username='root').save()\n    print('made')\n"
        "except vserverlib.Error as error:\n    print(error)\n"
    )
    ended = at_once(path.parent, [(code,)] * PROCESSES)
    printed = Counter(output for _, output, _ in ended)
    assert printed == {"made\n": 1, 'the username "root" is taken by user 1 "root": choose another\n': PROCESSES - 1}


# A session that is left open


def elsewhere(path: Path, sql: str) -> None:
    """Write as another program, which does not wait for a lock."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        other.execute(sql)


def test_a_session_left_open_sees_what_others_wrote_since(story: SimpleNamespace, path: Path) -> None:
    tasks, task, members = db.Task.get(), db.Task.get(1), story.collaboration.organizations
    assert [each.complete for each in tasks] == [False] and not task.complete and len(members) == 2
    elsewhere(path, "UPDATE result SET finished_at = '2026-03-01 12:00:00.000000+00:00'")
    elsewhere(path, "INSERT INTO organization (name) VALUES ('third')")
    elsewhere(path, "INSERT INTO member (organization_id, collaboration_id) VALUES (3, 1)")
    elsewhere(path, "UPDATE task SET name = 'median'")
    assert [each.complete for each in db.Task.get()] == [True] and task.complete
    assert [each.name for each in db.Task.get()] == ["median"] and db.Task.get(1).status == "completed"
    assert len(story.collaboration.organizations) == 3 and len(db.Organization.get()) == 3


def test_a_shell_that_is_left_open_blocks_no_writer_and_sees_what_it_wrote(
    story: SimpleNamespace, path: Path, tmp_path: Path
) -> None:
    with shell_at(path, tmp_path) as terminal:
        assert terminal.enter("reading = db.Organization.get().iterator(); next(reading).name") == "Out[1]: 'IKNL'"
        elsewhere(path, "INSERT INTO organization (name) VALUES ('third')")
        assert terminal.enter("len(db.Organization.get())") == "Out[2]: 2"
        assert terminal.enter("[each.name for each in reading]") == "Out[3]: ['Oslo']"
        assert terminal.enter("len(db.Organization.get())") == "Out[4]: 3"


def test_a_half_read_list_that_keeps_its_own_session_from_writing_is_reported(
    story: SimpleNamespace, path: Path
) -> None:
    """It sees the database as it was when it began: SQLite lets nobody write on the ground of that."""
    reading = db.Organization.get().iterator()
    next(reading)
    db.Organization(name="nobody else has written yet").save()
    elsewhere(path, "INSERT INTO organization (name) VALUES ('a stranger')")
    organization = db.Organization(name="late")
    with pytest.raises(Error, match=r"^vserver\.db was changed .* iterator\(\)"):
        organization.save()
    assert organization.id is None
    assert [each.name for each in reading] == ["Oslo", "nobody else has written yet"]
    organization.save()
    assert [each.name for each in db.Organization.get()][-2:] == ["a stranger", "late"]
