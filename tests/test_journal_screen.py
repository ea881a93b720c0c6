"""The journal as commands and as the shell show it, and undo as a command."""

from __future__ import annotations

import contextlib
import json
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from helpers.terminal import Terminal, environment
from helpers.typed import run

import models as db
import shell
from vserverlib import Error, UsageError
from vserverlib.entities import journal
from vserverlib.entities.undoing import undo
from vserverlib.terminal import completion, journal_screen, views

VSERVER = [sys.executable, "-c", "import vserver; vserver.main()"]


def vserver(path: Path, *words: str, **env: str) -> Result:
    """Run a command on a database in the folder that it is in."""
    with contextlib.chdir(path.parent):
        return run(path.name, *words, env=env)


@pytest.fixture
def recorded(path: Path, story: SimpleNamespace, database: Any) -> Path:
    """A database in which task 1 was renamed, and user 1 got another password."""
    story.task.name = "[red]median\x1b[2J"
    story.task.save()
    user = db.User(username="root", password="Geheim-123!")
    user.save()
    user.password = "Anders-123!"
    user.save()
    database.close()
    return path


def rows(path: Path, *words: str) -> list[dict[str, Any]]:
    done = vserver(path, "log", "-o", "json", *words)
    assert done.exit_code == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# vserver log


def test_the_log_shows_field_by_field_newest_first(recorded: Path) -> None:
    text = vserver(recorded, "log", "--limit", "3").stdout
    assert "password  changed, not shown" in text
    assert "  changed task 1\n    name  average → [red]median\\x1b[2J\n" in text
    assert text.index("changed user 1") < text.index("created user 1") < text.index("changed task 1")


def test_json_has_all_records_with_the_types_of_show(recorded: Path) -> None:
    found = rows(recorded)
    assert list(found[0]) == [
        "id", "change", "at", "actor", "session", "entity", "entity_id", "op", "changes", "about",
    ]  # fmt: skip
    assert [row["change"] for row in found] == sorted((row["change"] for row in found), reverse=True)
    assert found[0]["changes"] == {"password": ["changed", "changed"]} and found[0]["at"].endswith("Z")
    (made,) = [row for row in found if row["entity"] == "collaboration"]
    assert made["changes"] == {"name": [None, "ROTTERDAM"], "encrypted": [None, False]} and made["op"] == "insert"
    (task,) = [row for row in found if (row["entity"], row["op"]) == ("task", "insert")]
    assert task["changes"]["created_at"][1].endswith("Z") and task["changes"]["collaboration_id"] == [None, 1]
    assert len(vserver(recorded, "log", "-o", "jsonl").stdout.splitlines()) == len(found)


def test_the_log_is_filtered(recorded: Path) -> None:
    session = rows(recorded)[0]["session"]
    assert {row["entity"] for row in rows(recorded, "--entity", "memberships")} == {"membership"}
    assert [row["op"] for row in rows(recorded, "--entity", "task", "--id", "1")] == ["update", "insert"]
    assert len(rows(recorded, "--session", session)) == len(rows(recorded, "--since", "1h")) == len(rows(recorded))
    assert (
        rows(recorded, "--actor", "nobody") == rows(recorded, "--since", "0s") == rows(recorded, "--session", "x") == []
    )
    assert len(rows(recorded, "--limit", "2")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--entity", "tsk"], 'no entity "tsk"; did you mean "task"?'),
        (["--id", "1"], "an id needs an entity"),
        (["--entity", "task", "--id", str(2**70)], "is not an id"),
        (["--since", "yesterday"], '"yesterday" is not a time: write 2026-03-01'),
        (["--prune", "90", "--yes"], '"90" is not a time'),
        (["--all", "--limit", "2"], "leave out --limit and --page"),
        (["--change", "0"], '"0" is not an id'),
        (["--change", "003"], '"003" is not an id'),
        (["--entity", "task", "--id", "1_0"], '"1_0" is not an id'),
    ],
)
def test_what_means_nothing_is_a_usage_error(words: list[str], message: str, recorded: Path) -> None:
    done = vserver(recorded, "log", *words)
    assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_log_fits_the_terminal(columns: int, recorded: Path) -> None:
    lines = vserver(recorded, "log", "--all", COLUMNS=str(columns)).stdout.splitlines()
    assert lines and max(map(len, lines)) <= columns


def test_no_secret_and_no_hash_is_in_any_output(recorded: Path) -> None:
    for words in (["log", "--all"], ["log", "-o", "json"], ["undo", "2", "--yes"]):
        done = vserver(recorded, *words)
        assert not any(secret in done.stdout + done.stderr for secret in ("$2b$", "Geheim", "Anders"))


def test_the_log_can_be_read_where_nothing_can_be_written(recorded: Path) -> None:
    folder = recorded.parent
    before = recorded.read_bytes()
    recorded.chmod(0o400)
    assert vserver(recorded, "log").exit_code == 0
    assert recorded.read_bytes() == before and folder.exists()


def test_prune_forgets_what_is_older_and_says_who_did_it(recorded: Path) -> None:
    refused = vserver(recorded, "log", "--prune", "0s")
    assert refused.exit_code == 1 and "--yes skips the question" in refused.stderr
    assert "deleted 0 changes" in vserver(recorded, "log", "--prune", "1d", "--yes").stderr
    assert "deleted 10 changes" in vserver(recorded, "log", "--prune", "0s", "--yes", VSERVER_ACTOR="anna").stderr
    (entry,) = rows(recorded)
    assert (entry["op"], entry["actor"], entry["entity"]) == ("prune", "anna", None)
    assert entry["about"].startswith("pruned 10 changes before ")
    assert "the journal has no change" in vserver(recorded, "undo", "--yes").stderr
    with closing(db.connect(recorded)) as database:
        left = [database.execute_sql(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("record", "undoing")]
        assert left == [0, 0]


def test_the_log_is_read_page_by_page(recorded: Path) -> None:
    every = rows(recorded)
    assert len(every) == 12
    pages = [rows(recorded, "--limit", "3", "--page", str(page)) for page in (1, 2, 3, 4)]
    assert [row for page in pages for row in page] == every
    assert "9 more: --page 2, or --all" in vserver(recorded, "log", "--limit", "3").stderr
    assert "2 more: --page 3, or --all" in vserver(recorded, "log", "--limit", "5", "--page", "2").stderr
    for words in (["--page", "4"], ["--page", "2", "--limit", "6"]):
        assert vserver(recorded, "log", "--limit", "3", *words).stderr == ""
    assert "there is no page 5: the last page is 4" in vserver(recorded, "log", "--limit", "3", "--page", "5").stderr


def test_the_log_of_some_changes_is_asked_by_their_numbers(recorded: Path) -> None:
    assert [row["change"] for row in rows(recorded, "--change", "9", "--change", "2")] == [9, 2]
    assert "nothing is recorded" in vserver(recorded, "log", "--change", "99").stderr


def test_a_single_change_is_in_the_singular(database: Any, path: Path) -> None:
    db.Organization(name="x").save()
    assert repr(journal.log(database)) == "<1 entry of the journal>"
    with pytest.raises(Error, match="2 changes cannot be undone: the journal has 1"):
        undo(database, 2)
    database.close()
    assert vserver(path, "log", "--prune", "0s", "--yes").stderr == "deleted 1 change from the journal\n"
    assert rows(path)[0]["about"].startswith("pruned 1 change before ")


# vserver undo


def test_undo_reports_each_row_that_it_leaves_out(recorded: Path) -> None:
    with closing(db.connect(recorded)) as database:
        db.Task.insert_many([{"name": str(number)} for number in range(23)]).execute()
        number = database.last_change
        db.Task.delete_by_id(24)
        db.Task.delete_by_id(2)
    done = vserver(recorded, "undo", "--change", str(number), "--yes", "--force")
    summary, *left_out = done.stderr.splitlines()
    assert summary.startswith(f"change {number + 3} undid change {number}: 21 rows, 2 left out; undo it with:")
    assert left_out == [f"left out: task {id} was deleted since change {number}" for id in (24, 2)]


def test_what_an_undo_would_take_back_is_counted_and_can_be_read_on(recorded: Path) -> None:
    with closing(db.connect(recorded)) as database:
        db.Task.insert_many([{"name": str(number)} for number in range(21)]).execute()
        number = database.last_change
    terminal = Terminal([*VSERVER, "-d", str(recorded), "undo"], environment(recorded.parent), columns=200, lines=200)
    screen = terminal.wait_for(rf"Undo change {number}\? \[y/N\]:")
    command = f"log --change {number} --page 2"
    assert screen.count("created task") == 20 and f"1 more row: see vserver -d {recorded} {command}" in screen
    terminal.send("\r")
    assert terminal.leave() == 1
    assert vserver(recorded, *command.split()).stdout.count("created task") == 1


def test_undo_without_a_terminal_needs_yes(recorded: Path) -> None:
    refused = vserver(recorded, "undo")
    assert refused.exit_code == 1 and "no terminal for the confirmation" in refused.stderr
    done = vserver(recorded, "undo", "2", "--yes")
    assert done.exit_code == 0 and done.stdout == ""
    assert done.stderr == "change 11 undid changes 9, 10: 2 rows; undo it with: vserver undo --change 11\n"
    assert vserver(recorded, "undo", "--change", "11", "--yes").exit_code == 0
    assert [row["about"] for row in rows(recorded, "--limit", "1")] == ["undo of change 11"]


def test_undo_at_a_terminal_shows_what_it_takes_back_and_asks(recorded: Path) -> None:
    for answer, status in (("n", 1), ("y", 0)):
        command = [*VSERVER, "-d", str(recorded), "undo", "--change", "8"]
        terminal = Terminal(command, environment(recorded.parent))
        screen = terminal.wait_for(r"Undo change 8\? \[y/N\]:")
        assert "changed task 1" in screen and "average → [red]median\\x1b[2J" in screen
        terminal.send(answer + "\r")
        assert terminal.leave() == status
    assert rows(recorded, "--limit", "1")[0]["changes"]["name"][1] == "average"


# The shell


def test_the_prompt_has_log_undo_and_history(story: SimpleNamespace, database: Any) -> None:
    at_hand = shell.namespace(database)["db"]
    story.task.name = "median"
    story.task.save()
    assert [entry.op for entry in at_hand.log("task")] == ["update", "insert"]
    assert list(at_hand.log(story.task)) == list(story.task.history()) == list(at_hand.log(db.Task, 1))
    done = at_hand.undo()
    assert done.summary() == f"change 9 undid change 8: 1 row; undo that with: db.undo(change={done.change})"
    assert db.Task.get(1).name == "average"
    with pytest.raises(Error, match="has no history yet"):
        db.Task(name="x").history()
    with pytest.raises(UsageError, match='no entity "tsk"'):
        at_hand.log("tsk")


def test_the_log_of_the_prompt_has_a_view_that_says_when_it_is_not_all(story: SimpleNamespace, database: Any) -> None:
    text = views.render(journal_screen.of(journal.log(database, limit=2)), width=80, color=False)
    assert text.count("created result") == 2 and text.endswith("there are more: limit=…\n")
    assert repr(journal.log(database, limit=2)) == "<2 entries of the journal, there are more>"
    assert views.render(journal_screen.of(journal.log(database, actor="nobody")), width=80) == "nothing is recorded\n"


def test_tab_offers_history_log_and_undo(story: SimpleNamespace, database: Any) -> None:
    names = shell.namespace(database)
    for before, offer in (("db.Task.get(1).hi", "history"), ("db.lo", "log"), ("db.un", "undo")):
        found = completion.complete(before, names)
        assert found is not None and [each.text for each in found.offers] == [offer]


def test_a_text_fakes_no_line_and_without_unicode_there_are_arrows_of_ascii(
    story: SimpleNamespace, database: Any
) -> None:
    story.task.name = "x\nchange 99 · root"
    story.task.save()
    entries = list(journal.history(story.task))
    text = views.render(journal_screen.Logbook(entries), width=80, color=False)
    assert "name  average → x\\nchange 99 · root" in text
    assert [line for line in text.splitlines() if line.startswith("change 99")] == []


@pytest.mark.parametrize("more", ["--entity task", "--session x", "--limit 1", "--all", "-o json", "--since 2d"])
def test_prune_takes_no_other_option(more: str, recorded: Path) -> None:
    refused = vserver(recorded, "log", "--prune", "0s", "--yes", *more.split())
    assert refused.exit_code == 2 and "--prune forgets all older changes" in refused.stderr
    assert vserver(recorded, "log", "--yes").exit_code == 2


def test_an_invalid_limit_is_refused(database: Any) -> None:
    for odd in ("x", -1, 0, None):
        with pytest.raises(Error, match="limit is the highest number of records"):
            journal.log(database, limit=odd)
