"""Deleting: dependents are listed before and after, and no whole table is deleted by accident."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peewee
import pytest
from click.testing import CliRunner, Result
from helpers.terminal import Terminal, environment, shell_at

import models as db
import vserver
from vserverlib import Error
from vserverlib.entities import deleting
from vserverlib.terminal import trees, views

UNDO = "undo it with: vserver undo --change"


@pytest.fixture(autouse=True)
def _place(kind: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "postgres":
        monkeypatch.setenv("VSERVER_DATABASE", address)


def run(*words: str) -> Result:
    """Run a command on the story's database, which it opens by itself."""
    return CliRunner().invoke(vserver.main, words, prog_name="vserver")


def counts() -> list[int]:
    return [model.select().count() for model in (*db.ENTITIES, db.Member)]


def drawn(plan: deleting.Plan, width: int = 80) -> str:
    return views.render(trees.PlanTree(plan), width=width, color=False)


# What hangs on it


def test_a_plan_counts_each_entity_once_however_it_is_linked(story: SimpleNamespace) -> None:
    for name in ("child", "grandchild"):
        parent = db.Task.get_by_name("child") or story.task
        db.Task(name=name, parent=parent, collaboration=story.collaboration, initiator=story.iknl).save()
    along = deleting.planned([story.iknl]).dependents()
    assert {model.__name__: len(ids) for model, ids in along.items()} == {
        "Member": 1, "Node": 1, "Task": 3, "Result": 2,
    }  # fmt: skip
    along = deleting.planned([story.task]).dependents()
    assert {model.__name__: len(ids) for model, ids in along.items()} == {"Task": 2, "Result": 2}


def test_a_named_entity_is_not_a_dependent_of_the_others(story: SimpleNamespace) -> None:
    child = db.Task(name="child", parent=story.task, collaboration=story.collaboration)
    child.save()
    for result in story.results:
        result.delete()
    deleting.delete([story.task, child])
    assert len(db.Task.get()) == 0


def test_tasks_in_a_ring_have_an_end(story: SimpleNamespace) -> None:
    child = db.Task(name="child", parent=story.task)
    child.save()
    story.task.parent = child
    story.task.save()
    assert deleting.planned([child]).dependents()[db.Task] == {story.task.id}
    child.delete(dependents=True)
    assert len(db.Task.get()) == 0 == len(db.Result.get())


def test_planning_takes_no_query_for_each_entity(story: SimpleNamespace, count_queries: list[str]) -> None:
    def asked() -> int:
        count_queries.clear()
        deleting.planned([story.iknl])
        return len(count_queries)

    few = asked()
    for number in range(30):
        db.Task(name=f"task {number}", initiator=story.iknl, collaboration=story.collaboration).save()
    assert asked() == few < 20


# As a tree


def test_a_tree_names_the_first_and_counts_the_rest(story: SimpleNamespace) -> None:
    for number in range(16):
        db.Task(name=f"task {number}", initiator=story.iknl, collaboration=story.collaboration).save()
    lines = drawn(deleting.planned([story.iknl])).splitlines()
    assert lines[0] == 'organization 1 "IKNL"'
    text = "\n".join(lines)
    assert "17 tasks (created_tasks)" in text and '1 "average"' in text and "… 12 more" in text
    assert "1 membership" in text and '1 "IKNL node"' in text and "2 results" in text
    assert len(lines) < 20


def test_no_list_is_cut_to_say_that_one_more_is_left_out(story: SimpleNamespace) -> None:
    for number in range(5):
        db.Task(name=f"task {number}", initiator=story.iknl, collaboration=story.collaboration).save()
    text = drawn(deleting.planned([story.iknl]))
    assert "6 tasks" in text and '"task 4"' in text and "more" not in text


def test_untrusted_names_are_text_in_a_tree_and_fit_its_width(story: SimpleNamespace) -> None:
    story.task.name = "[red]\x1b[2J\n├── all is well\u202e" + "x" * 200
    story.task.save()
    text = drawn(deleting.planned([story.iknl]))
    assert "\x1b" not in text and "\u202e" not in text and "[red]" in text
    assert max(map(len, text.splitlines())) <= 80
    assert not any(line.endswith("all is well") for line in text.splitlines())


# By the command


def test_the_command_refuses_with_the_counts_and_the_option(story: SimpleNamespace) -> None:
    before = counts()
    result = run("delete", "organization", "IKNL")
    assert result.exit_code == 1 and result.stdout == ""
    assert re.fullmatch(r'Error: organization 1 "IKNL" still has .*2 results.*: --dependents .*\n', result.stderr)
    assert counts() == before


@pytest.mark.sqlite("until the command takes a URL")
def test_the_command_deletes_entities_without_dependents_without_asking(story: SimpleNamespace) -> None:
    result = run("delete", "node", "IKNL node")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f'deleted node 1 "IKNL node"; {UNDO} 8\n')


@pytest.mark.sqlite("until the command takes a URL")
def test_without_a_terminal_dependents_need_yes(story: SimpleNamespace) -> None:
    before = counts()
    result = run("delete", "task", "1", "--dependents")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and "--yes" in result.stderr
    assert counts() == before
    result = run("delete", "task", "1", "--dependents", "--yes")
    assert result.stderr == f'deleted task 1 "average", and with it 2 results; {UNDO} 8\n'
    assert result.exit_code == 0
    assert len(db.Task.get()) == len(db.Result.get()) == 0


@pytest.mark.sqlite("until the command takes a URL")
def test_several_are_one_transaction(story: SimpleNamespace) -> None:
    db.Organization(name="third").save()
    for words in (("third", "IKNL"), ("third", "4711"), ("3", "nobody")):
        assert run("delete", "organizations", *words).exit_code == 1
        assert len(db.Organization.get()) == 3
    result = run("delete", "results", "1", "2")
    assert result.stderr == f"deleted 2 results; {UNDO} 9\n"
    assert len(db.Result.get()) == 0


def test_a_dry_run_shows_the_tree_as_data_and_writes_nothing(story: SimpleNamespace) -> None:
    before = counts()
    for options in ((), ("--dependents",), ("--yes", "--dependents")):
        result = run("delete", "organization", "1", "--dry-run", *options)
        assert ("refuses this without --dependents" in result.stderr) == (not options)
        assert result.exit_code == 0 and '1 "average"' in result.stdout
    assert counts() == before


def test_what_has_changed_since_it_was_shown_is_not_deleted(story: SimpleNamespace) -> None:
    plan = deleting.planned([story.task])
    db.Result(task=story.task).save()
    with pytest.raises(Error, match='the dependents of task 1 "average" have changed meanwhile: nothing was deleted'):
        deleting.delete([story.task], True, expected=plan)
    assert len(db.Result.get()) == 3


@pytest.mark.sqlite("until the command takes a URL")
@pytest.mark.parametrize(("key", "left"), [("\r", 1), ("n\r", 1), ("y\r", 0)])
def test_at_a_terminal_it_shows_the_tree_and_asks(story: SimpleNamespace, tmp_path: Path, key: str, left: int) -> None:
    command = [sys.executable, "-m", "vserver", "delete", "organization", "Oslo", "--dependents"]
    terminal = Terminal(command, environment(tmp_path))
    terminal.wait_for(r"\[y/N\]: *\Z")
    assert "1 membership" in terminal.text and len(db.Result.get()) == 2
    terminal.send(key)
    terminal.wait_for("nothing was changed" if left else 'deleted organization 2 "Oslo", and with it ')
    assert terminal.leave() == (1 if left else 0)
    assert len(db.Organization.get()) == 1 + left


def test_at_a_terminal_what_takes_nothing_along_goes_without_a_question(
    story: SimpleNamespace, address: str, tmp_path: Path
) -> None:
    environ = environment(tmp_path) | {"VSERVER_DATABASE": address}
    terminal = Terminal([sys.executable, "-m", "vserver", "delete", "node", "IKNL node"], environ)
    assert terminal.wait_for_end() == 0
    output = " ".join(terminal.text.splitlines())
    assert "[y/N]" not in output and output.startswith('deleted node 1 "IKNL node"; undo it with: vserver ')
    assert len(db.Node.get()) == 0


def test_the_shell_prints_deleted_dependents_in_one_line(story: SimpleNamespace, database: Any, path: Path) -> None:
    database.close()
    with shell_at(path, path.parent) as at_prompt:
        shown = at_prompt.enter("db.Task.get(1).delete(dependents=True)").replace("\n", " ")  # wrapped at a blank
        assert 'deleted task 1 "average", and with it 2 results' in shown and "db.undo(change=" in shown
        assert at_prompt.enter("db.Node.get(1).delete()").startswith('deleted node 1 "IKNL node"; undo it with')


# A whole table, by accident


WIPES: dict[str, Callable[[Any], Any]] = {
    "Task.delete()": lambda database: db.Task.delete().execute(),
    "Task.delete_instance()": lambda database: db.Task.delete_instance(),  # type: ignore[call-arg]
    "Task.truncate_table()": lambda database: db.Task.truncate_table(),
    "Task.drop_table()": lambda database: db.Task.drop_table(),
    "Member.delete()": lambda database: db.Member.delete().execute(),
    "Task.alias().delete()": lambda database: db.Task.alias().delete().execute(),
    "database.drop_tables()": lambda database: database.drop_tables([db.Result, db.Task]),
    "ModelDelete": lambda database: peewee.ModelDelete(db.Task).execute(),
    "Delete": lambda database: peewee.Delete(db.Task._meta.table).execute(database),
    "Table.delete()": lambda database: peewee.Table("task").delete().execute(database),
    "database.execute(ModelDelete)": lambda database: database.execute(peewee.ModelDelete(db.Task)),
    "Task.update()": lambda database: db.Task.update(name="x").execute(),
    "ModelUpdate": lambda database: peewee.ModelUpdate(db.Task, {db.Task.name: "x"}).execute(),
    "Table.update()": lambda database: peewee.Table("task").update({"name": "x"}).execute(database),
}


def test_no_query_of_peewees_empties_or_changes_a_whole_table(story: SimpleNamespace, database: Any) -> None:
    for way, wipe in WIPES.items():
        with pytest.raises(Error, match=r"this would (delete|change) every|belongs to one"):
            wipe(database)
        assert (len(db.Task.get()), len(db.Node.get()), db.Task.get(1).name) == (1, 1, "average"), way
        assert len(db.Result.get()) == 2 == db.Member.select().count(), way


def test_peewees_other_names_for_deleting_one_do_as_delete_does(story: SimpleNamespace) -> None:
    for way in (lambda: db.Task.delete_by_id(1), story.task.delete_instance, lambda: db.Task.__delitem__(1)):
        with pytest.raises(Error, match='task 1 "average" still has 2 results'):
            way()
    with pytest.raises(Error, match="no task 7: nothing was deleted"):
        db.Task.delete_by_id(7)
    db.Node.delete_by_id(1)
    story.task.delete_instance(recursive=True)
    assert counts() == [2, 0, 1, 0, 0, 0, 2]


def test_a_condition_says_which(story: SimpleNamespace, database: Any) -> None:
    assert peewee.ModelDelete(db.Result).where(db.Result.id == 1).execute() == 1
    assert len(db.Result.get()) == 1


def test_one_word_names_what_is_deleted(path: Path, story: SimpleNamespace) -> None:
    assert run("delete", "result/2").exit_code == 0 and [result.id for result in db.Result.get()] == [1]
    done = run("delete", "result")
    assert done.exit_code == 2 and "which result?" in done.stderr
