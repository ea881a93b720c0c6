"""Deleting by filters: counted before, in batches that lock nobody out, one line undoes all of them."""

from __future__ import annotations

import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.process import Ended, start, vserver
from helpers.terminal import Terminal, environment

import models as db
from vserverlib import Error
from vserverlib.entities import bulk_deleting, deleting, filters, journal, undoing
from vserverlib.entities.bulk_deleting import Batches, Wanted

LONG_AGO = "2001-01-01"


@pytest.fixture
def run(address: str, tmp_path: Path) -> Callable[..., Ended]:
    """Run a command on the database of the test, as a process of its own."""
    return lambda *words, **more: vserver("-d", address, *words, cwd=tmp_path, **more)


@pytest.fixture
def old(story: SimpleNamespace) -> SimpleNamespace:
    """The story, with a finished task, a failed one, and a finished parent of a child that is awaited."""
    story.done = task(story, "done")
    story.failed = task(story, "failed", status="crashed")
    story.parent = task(story, "parent")
    story.child = task(story, "child", parent=story.parent, finished_at=None)
    return story


def task(story: Any, name: str, finished_at: str | None = LONG_AGO, status: str | None = None, **fields: Any) -> Any:
    made = db.Task(name=name, image="i", collaboration=story.collaboration, initiator=story.iknl, **fields)
    made.save()
    for each in (story.iknl, story.oslo):
        times = {"assigned_at": LONG_AGO, "started_at": LONG_AGO, "finished_at": finished_at}
        result = db.Result(task=made, organization=each, input="in", result="out", log="log", **times)
        if status:
            result.status = status
        result.save()
    return made


def names() -> set[str]:
    return {task.name for task in db.Task.get()}


def counts() -> list[int]:
    return [model.select().count() for model in (*db.ENTITIES, db.Member)]


def everything(database: Any) -> dict[str, list[Any]]:
    """Return all rows of all tables but the journal's."""
    tables = [model._meta.table_name for model in (*db.ENTITIES, db.Member)]
    return {table: database.execute_sql(f'SELECT * FROM "{table}" ORDER BY id').fetchall() for table in tables}


def undo_line(text: str) -> list[str]:
    """Return the words, after `vserver -d …`, of the line that a command printed to undo it."""
    return shlex.split(text.split("with: vserver ")[1].splitlines()[0])[2:]


# prune


def test_finished_and_failed_tasks_go_and_a_tree_goes_whole_or_stays(old: Any, run: Any, database: Any) -> None:
    before = everything(database)
    planned = run("prune", "tasks", "--where", "finished_at<-90d", "--dry-run")
    assert planned.status == 0 and "2 tasks, and with them 4 results" in planned.out
    assert re.search("kept: 1 task ", planned.out) and "--forget" in planned.out
    assert everything(database) == before
    done = run("prune", "tasks", "--where", "finished_at<-90d", "--yes")
    assert done.status == 0 and done.out == "" and "deleted 2 tasks, 4 results" in done.err
    assert names() == {"average", "parent", "child"}
    assert run(*undo_line(done.err), "--yes").status == 0
    assert everything(database) == before


def test_what_was_counted_is_what_is_deleted(old: Any, database: Any) -> None:
    wanted = bulk_deleting.finished(["finished_at<-90d"])
    counted = bulk_deleting.count(database, wanted)
    assert (counted.number, counted.dependents, counted.kept) == (2, {db.Result: 4}, 1)
    batches = Batches(database, wanted)
    batches.delete(counted.last)
    assert batches.done == {db.Task: 2, db.Result: 4}


def test_a_whole_tree_goes_and_a_ring_ends(old: Any, database: Any) -> None:
    db.Result.update(finished_at=db.Result.finished_at.clean(LONG_AGO)).where(db.Result.task == old.child.id).execute()
    db.Task.update(parent=old.child.id).where(db.Task.id == old.parent.id).execute()
    wanted = bulk_deleting.finished(["finished_at<-90d"])
    counted = bulk_deleting.count(database, wanted)
    assert counted.number == 4 and counted.kept == 0
    Batches(database, wanted).delete(counted.last)
    assert names() == {"average"}


def test_a_task_that_got_a_child_since_it_was_counted_stays(old: Any, database: Any) -> None:
    wanted = bulk_deleting.finished(["name=done"])
    counted = bulk_deleting.count(database, wanted)
    db.Task(name="late", parent=old.done, collaboration=old.collaboration).save()
    Batches(database, wanted).delete(counted.last)
    assert {"done", "late"} <= names()


def test_a_task_created_since_it_was_counted_stays(old: Any, database: Any) -> None:
    wanted = bulk_deleting.finished(["finished_at<-90d"])
    counted = bulk_deleting.count(database, wanted)
    task(old, "late")
    Batches(database, wanted).delete(counted.last)
    assert "late" in names() and "done" not in names()


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_any_size_of_batch_deletes_the_same(batch: int, old: Any, database: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(bulk_deleting, "FIRST_SIZE", batch)
    monkeypatch.setattr(bulk_deleting, "LARGEST_SIZE", batch)
    for number in range(4):
        task(old, f"task {number}", parent=old.done if number % 2 else None)
    before = everything(database)
    wanted = bulk_deleting.finished(["finished_at<-90d"])
    batches = Batches(database, wanted)
    batches.delete(bulk_deleting.count(database, wanted).last)
    assert names() == {"average", "parent", "child"} and batches.done == {db.Task: 6, db.Result: 12}
    assert len(batches.changes) == len(set(batches.changes)) > (batch < 3)
    undoing.undo_changes(database, batches.changes)
    assert everything(database) == before


def test_emptied_results_keep_their_record_as_servers_do(old: Any, run: Any, database: Any) -> None:
    db.Result.update(input=None).where(db.Result.task == old.failed.id).execute()
    before = everything(database)
    words = ("prune", "tasks", "--where", "finished_at<-90d", "--results-only")
    planned = run(*words, "--dry-run")
    assert planned.status == 0 and "6 results of 3 tasks" in planned.out
    done = run(*words, "--yes")
    assert done.status == 0 and "emptied 6 results" in done.err
    rows = {(result.input, result.result, result.log) for result in old.done.results}
    assert rows == {("", "", "log")} and old.done.complete
    assert {(result.input, result.result) for result in old.failed.results} == {(None, "")}
    assert {result.result for result in old.child.results} == {"out"}
    assert "nothing to empty" in run(*words, "--yes").err
    assert run(*undo_line(done.err), "--yes").status == 0
    assert everything(database) == before


def in_journal(database: Any, text: str) -> int:
    sql = f"SELECT COUNT(*) FROM record WHERE changes LIKE {database.param}"
    return int(database.execute_sql(sql, [f"%{text}%"]).fetchone()[0])


def test_what_is_forgotten_is_not_in_the_journal_and_cannot_be_undone(old: Any, run: Any, database: Any) -> None:
    old.done.description = "a secret of Mrs Jansen"
    old.done.save()
    assert in_journal(database, "Jansen") == 1
    done = run("prune", "tasks", "--where", "name=done", "--forget", "--yes")
    assert done.status == 0 and "undo" not in done.err.splitlines()[-1]
    assert "done" not in names() and in_journal(database, "Jansen") == 0
    for entity, id in [("task", old.done.id), ("result", 3)]:
        assert not list(db_log(database, entity, id))
    last = database.execute_sql("SELECT MAX(id) FROM change").fetchone()[0]
    refused = run("undo", "--change", str(last), "--yes")
    assert refused.status == 1 and "deleted 1 task" in refused.err and "cannot be restored" in refused.err
    db.Organization(name="next").save()  # the triggers are back
    assert list(db_log(database, "organization", db.Organization.get_by_name("next").id))


def test_undo_after_forgetting_names_the_older_change_and_does_not_take_it(old: Any, run: Any, database: Any) -> None:
    db.Organization(name="before").save()
    older = database.last_change
    assert run("prune", "tasks", "--where", "name=done", "--forget", "--yes").status == 0
    refused = run("undo", "--yes")
    assert refused.status == 1 and re.search(
        "change \\d+ deleted 1 task.*for good, which cannot be undone", refused.err
    )
    assert f"--change {older} (change={older}) undoes the one before it" in refused.err
    assert db.Organization.get_by_name("before") is not None
    assert run("undo", "--change", str(older), "--yes").status == 0
    db.Organization(name="after").save()
    assert run("undo", "--yes").status == 0  # the newest one is another
    assert "cannot be undone" in run("undo", "2", "--yes").err


def db_log(database: Any, entity: str, id: int) -> Any:
    return journal.log(database, entity, id)


def test_forgotten_results_are_out_of_the_journal_and_other_fields_stay(old: Any, run: Any, database: Any) -> None:
    result = old.done.results[0]
    result.input = "Jansen"
    result.save()
    result.log = "another log"
    result.save()
    assert in_journal(database, "Jansen") == 1
    done = run("prune", "tasks", "--where", "name=done", "--results-only", "--forget", "--yes")
    assert done.status == 0 and in_journal(database, "Jansen") == 0 and in_journal(database, "another log") == 1
    assert db.Result.get(result.id).input == "" and db.Result.get(result.id).log == "another log"


def test_forgotten_rows_are_overwritten_in_the_file(path: Path, story: Any, database: Any, tmp_path: Path) -> None:
    done = task(story, "done", description="Jansen" * 500)
    database.close()
    assert b"JansenJansen" in path.read_bytes()
    assert vserver("-d", path, "prune", "tasks", "--where", f"id={done.id}", "--forget", "--yes").status == 0
    files = [each for each in path.parent.iterdir() if each.name.startswith(path.name)]
    assert not any(b"JansenJansen" in each.read_bytes() for each in files)


MISTAKES: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("prune", "tasks"), 2, "--where"),
    (("prune", "nodes", "--where", "id=1"), 2, "delete nodes --where"),
    (("prune", "tsks", "--where", "id=1"), 2, 'no entity "tsks"'),
    (("prune", "tasks", "--where", "finished<-90d"), 2, 'no field "finished"'),
    (("prune", "tasks", "--where", "finished_at<-90x"), 2, "-90x"),
    (("prune", "tasks", "--where", "name=\x1b[2J\n"), 0, "no tasks match"),
    (("prune", "tasks", "--where", "collaboration=NOBODY"), 1, 'no collaboration "NOBODY"'),
    (("prune", "tasks", "--where", "finished_at<-90d"), 1, "--yes"),
    (("prune", "tasks", "--where", "name=average", "--yes"), 0, "no tasks match"),  # it is not finished
    (("prune", "tasks", "--where", "name=parent", "--yes"), 0, "kept: 1 task above"),
    (("delete", "task", "1", "--where", "id=1"), 2, "--where"),
    (("delete", "task/1", "--where", "id=1"), 2, "--where"),
    (("delete", "task", "1", "--forget"), 2, "--where"),
    (("delete", "tasks", "--where", "name=done", "--yes"), 1, "1 task still has 2 results: --dependents"),
    (("delete", "organizations", "--where", "id>0", "--yes"), 1, "2 organizations still have"),
    (("delete", "nodes", "--where", "id=77", "--yes"), 0, "no nodes match"),
)


def test_bad_input_is_one_line_and_deletes_nothing(old: Any, run: Any, database: Any) -> None:
    before = everything(database)
    for words, status, message in MISTAKES:
        done = run(*words)
        assert done.status == status and message in done.err, done
        assert "Traceback" not in done.err and "\x1b" not in done.err, done
        assert everything(database) == before, words


def test_a_read_only_look_can_count(path: Path, old: Any, database: Any) -> None:
    path.chmod(0o444)
    planned = vserver("-d", path, "prune", "tasks", "--where", "finished_at<-90d", "--dry-run")
    assert planned.status == 0 and "2 tasks" in planned.out


# delete --where


def test_matching_results_are_deleted_and_restored(old: Any, run: Any, database: Any) -> None:
    before = everything(database)
    done = run("delete", "results", "--where", "state=failed", "--yes")
    assert done.status == 0 and "deleted 2 results" in done.err
    assert everything(database)["result"] != before["result"]
    assert run(*undo_line(done.err), "--yes").status == 0
    assert everything(database) == before


@pytest.mark.parametrize("filter", ["collaborations --where id>0", "organizations --where country=Netherlands"])
def test_dependents_go_in_batches_before_and_one_line_restores_all(
    filter: str, old: Any, run: Any, database: Any
) -> None:
    before = everything(database)
    words = ("delete", *filter.split(), "--dependents")
    planned = run(*words, "--dry-run").out
    done = run(*words, "--yes")
    assert done.status == 0 and "--session" in done.err
    numbers = sorted(re.findall(r"\d+ \w+", planned.splitlines()[0]))
    assert numbers == sorted(re.findall(r"\d+ \w+", re.search("deleted (.*) in ", done.err)[1]))
    assert run(*undo_line(done.err), "--yes").status == 0
    assert everything(database) == before


@pytest.mark.parametrize("model", [*db.ENTITIES])
def test_the_counts_are_those_of_a_plan(model: Any, old: Any, database: Any) -> None:
    db.User(username="anna", organization=old.iknl).save()
    ids = [entity.id for entity in model.get()]
    plan = deleting.planned_ids(model, ids)
    counted = bulk_deleting.count(database, Wanted(model, tuple(filters.conditions(model, ["id>0"])), dependents=True))
    assert counted.number == len(ids) and counted.last == max(ids)
    assert counted.dependents == {each: len(found) for each, found in plan.dependents().items()}


def test_new_dependents_stop_it_and_the_batches_before_stay(story: Any, database: Any) -> None:
    story.results[0].delete()
    wanted = Wanted(db.Task, (db.Task.id > 0,))
    with pytest.raises(Error, match="1 task got 1 result meanwhile"):
        Batches(database, wanted).delete(99)
    assert names() == {"average"}


# At a terminal, and while others write


def test_the_question_shows_the_counts_and_an_empty_answer_deletes_nothing(
    old: Any, database: Any, address: str, tmp_path: Path
) -> None:
    before = everything(database)
    command = [sys.executable, "-m", "vserver", "-d", address, "prune", "tasks", "--where", "finished_at<-90d"]
    terminal = Terminal(command, environment(tmp_path))
    terminal.wait_for(r"\[y/N\]: *\Z")
    said = " ".join(terminal.text.split())
    assert "to delete: 2 tasks, and with them 4 results kept: 1 task" in said and "Delete these?" in said
    terminal.send("\r")
    terminal.wait_for("nothing was changed")
    assert terminal.leave() == 1
    assert everything(database) == before


def many(path: Path, tasks: int) -> None:
    assert vserver("-d", path, "demo", "--tasks", str(tasks), seconds=120).status == 0


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A database of 3,000 tasks."""
    many(tmp_path / "big.db", 3000)
    return tmp_path / "big.db"


@pytest.mark.long
def test_other_writers_have_their_turn_and_ctrl_c_says_how_to_go_on_and_undo(big: Path) -> None:
    with closing(sqlite3.connect(big, timeout=60, isolation_level=None)) as other:
        before = other.execute("SELECT COUNT(*), SUM(id) FROM task").fetchone()
        words = ("-m", "vserver", "-d", str(big), "prune", "tasks", "--where", "finished_at<-1m", "--yes")
        with start([sys.executable, *words], stderr=subprocess.PIPE, text=True) as pruning:
            turns = 0
            while pruning.poll() is None and len(set(changes(other))) < 3:
                write(other)
                turns += 1
                time.sleep(0.01)
            pruning.send_signal(signal.SIGINT)
            said = pruning.stderr.read() if pruning.stderr else ""
        assert pruning.returncode == 130 and "Traceback" not in said
        assert turns > 3  # the other writer has its turn between batches
        assert "stopped: deleted" in said and "go on with: vserver -d" in said
        assert 0 < other.execute("SELECT COUNT(*) FROM task").fetchone()[0] < before[0]
        again = shlex.split(said.split("go on with: vserver ")[1].splitlines()[0])
        assert vserver(*again, "--yes", seconds=120).status == 0
        sessions = other.execute("SELECT session FROM change WHERE kind IS NULL GROUP BY 1 ORDER BY MAX(id) DESC")
        for (session,) in sessions.fetchall():
            assert vserver("-d", big, "undo", "--session", session, "--yes", seconds=120).status == 0
        assert other.execute("SELECT COUNT(*), SUM(id) FROM task").fetchone() == before


def write(other: sqlite3.Connection) -> None:
    """Take the lock, as another writer."""
    other.execute("BEGIN IMMEDIATE")
    other.execute("COMMIT")


def changes(other: sqlite3.Connection) -> list[int]:
    return [id for (id,) in other.execute("SELECT id FROM change")]
