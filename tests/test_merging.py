"""Merging: what is there already stays one, what is new is added, what is other here is changed, and all is undone."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers import vantage6_databases
from helpers.other_program import raw
from helpers.terminal import Terminal, environment
from test_undoing import tables

import models as db
import vserver
from vserverlib import Error
from vserverlib.entities.undoing import undo
from vserverlib.transfer import detection, importer, merging
from vserverlib.transfer.import_report import ImportReport

DATA = Path(__file__).parent / "data"
SAME = {"organization": 4, "user": 6, "collaboration": 3, "member": 5, "node": 5, "task": 12, "result": 27}


def server(folder: Path, *statements: str, release: str = "4.15.2") -> Path:
    """Make the database of a server, with these statements run on it."""
    return vantage6_databases.copied(release, folder / "server.sqlite", statements)


def merge(file: Path, target: importer.Target, **options: Any) -> ImportReport:
    """Merge a source, and open what it became."""
    with detection.opened(str(file)) as source:
        outcome = importer.merge(source, target, **options)
    db.connect(target)
    return outcome


def plan(outcome: ImportReport) -> dict[str, tuple[int, ...]]:
    """Return how many are new, changed, the same and refused, by entity: those that are not all the same."""
    return {each.entity: tuple(each)[1:] for each in outcome.plan if each.new or each.changed or each.refused}


def run(target: importer.Target, *words: str, **options: Any) -> Result:
    return CliRunner().invoke(vserver.main, ["-d", str(target), "import", *words], prog_name="vserver", **options)


def stored(sql: str) -> list[Any]:
    found: list[Any] = db.database.execute_sql(sql).fetchall()
    return found


@pytest.fixture
def empty(
    database: Any, kind: str, address: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> importer.Target:
    """A database without entities; where it is on a server, what makes its backups is at hand."""
    if kind == "sqlite":
        return Path(address)
    request.getfixturevalue("programs")
    return address


@pytest.fixture
def ours(empty: importer.Target) -> importer.Target:
    """A database with an organization and a collaboration of its own, and one organization that the server has too."""
    own = db.Organization(name="IKNL")
    own.save()
    shared = db.Organization(name="Noordzee Kliniek", domain="ours.example", address2="from here")
    shared.save()
    db.Collaboration(name="OWN", organizations=[own, shared]).save()
    db.Task(name="own", image="i", collaboration=1, initiator=own).save()
    return empty


# What is the same


@pytest.mark.parametrize("release", ["1.2.3", "2.3.5", "3.11.1", "4.15.2"])
def test_the_same_source_merged_twice_adds_nothing(ours: importer.Target, tmp_path: Path, release: str) -> None:
    file = server(tmp_path, release=release)
    first = merge(file, ours)
    assert {each.entity: each.new for each in first.plan} == SAME | {"organization": 3}
    before, changes = tables(db.database), stored("SELECT COUNT(*) FROM change")
    second = merge(file, ours)
    assert not second.has_news and {each.entity: each.same for each in second.plan} == SAME
    assert tables(db.database) == before and stored("SELECT COUNT(*) FROM change") == changes


@pytest.mark.parametrize("release", ["1.2.3", "4.15.2"])
def test_a_source_that_was_imported_is_the_same_when_it_is_merged(
    empty: importer.Target, tmp_path: Path, release: str
) -> None:
    file = server(tmp_path, release=release)
    with detection.opened(str(file)) as source:
        importer.run(source, empty)
    assert not merge(file, empty).has_news


def test_a_database_that_is_empty_or_not_there_keeps_the_ids_of_the_source(
    empty: importer.Target, tmp_path: Path
) -> None:
    file = server(tmp_path)
    for target in (empty, tmp_path / "new.db"):
        outcome = merge(file, target)
        assert not outcome.plan and [task.id for task in db.Task.get()] == list(range(1, 13))


def test_tasks_of_the_same_content_are_distinguished_by_their_order(ours: importer.Target, tmp_path: Path) -> None:
    alike = "INSERT INTO task (id, name, image, collaboration_id, job_id) VALUES ({}, 'alike', 'i', 1, 40)"
    file = server(tmp_path, *(alike.format(id) for id in (60, 61, 62)))
    assert plan(merge(file, ours))["task"] == (15, 0, 0, 0)
    with closing(sqlite3.connect(file)) as conn:
        conn.execute(alike.format(63))
        conn.commit()
    assert plan(merge(file, ours)) == {"task": (1, 0, 14 + 1, 0)}


def test_what_has_no_name_is_the_same_where_all_of_it_is(ours: importer.Target, tmp_path: Path) -> None:
    nameless = "INSERT INTO organization (id, name, country) VALUES (70, NULL, 'NO'), (71, NULL, 'SE')"
    file = server(tmp_path, nameless)
    merge(file, ours)
    assert not merge(file, ours).has_news
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("UPDATE organization SET country = 'FI' WHERE id = 71")
        conn.commit()
    assert plan(merge(file, ours)) == {"organization": (1, 0, 5, 0)}


# What is new, or other


def test_links_lead_to_the_ids_here(ours: importer.Target, tmp_path: Path) -> None:
    merge(server(tmp_path, "UPDATE task SET parent_id = 12 WHERE id = 1"), ours)
    shared, child = db.Organization.get(2), db.Task.get(2)
    assert shared.name == "Noordzee Kliniek" and "user00" in {user.username for user in shared.users}
    assert child.collaboration.name != "OWN" and child.initiator.name in {each.name for each in db.Organization.get()}
    assert child.parent.id == 13 and {result.task_id for result in child.results} == {2}
    assert len(db.Organization.get(1).users) == 0


def test_new_rows_get_ids_that_were_never_given(ours: importer.Target, tmp_path: Path) -> None:
    for _ in range(5):
        gone = db.Organization(name="gone")
        gone.save()
    for each in db.Organization.get().where(db.Organization.name == "gone"):
        each.delete()
    merge(server(tmp_path), ours)
    assert [each.id for each in db.Organization.get()] == [1, 2, 8, 9, 10]
    assert db.Task.next_run_id() == 13


def test_what_is_other_is_changed_and_what_the_source_lacks_stays(ours: importer.Target, tmp_path: Path) -> None:
    file = server(tmp_path, "UPDATE organization SET address2 = NULL, domain = 'theirs.example' WHERE id = 1")
    outcome = merge(file, ours)
    assert plan(outcome)["organization"] == (3, 1, 0, 0)
    shared = db.Organization.get(2)
    assert (shared.domain, shared.address2) == ("theirs.example", "from here")


def test_run_ids_that_tasks_of_both_have_are_kept_and_counted(ours: importer.Target, tmp_path: Path) -> None:
    outcome = merge(server(tmp_path), ours)
    assert db.Task.get(1).run_id == 1 and len(db.Task.get().where(db.Task.run_id == 1)) > 1
    assert outcome.values["task.run_id, new tasks with the run_id of other tasks here"] == 1
    assert not merge(server(tmp_path), ours).values


def test_a_result_that_has_finished_since_is_changed(ours: importer.Target, tmp_path: Path) -> None:
    file = server(tmp_path, "UPDATE run SET started_at = NULL, finished_at = NULL, status = 'pending' WHERE id = 1")
    merge(file, ours)
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("UPDATE run SET finished_at = '2026-03-02 10:00:00', status = 'completed' WHERE id = 1")
        conn.commit()
    assert plan(merge(file, ours)) == {"result": (0, 1, 26, 0)}
    assert stored("SELECT finished_at FROM result WHERE id = 1") == [("2026-03-02 10:00:00.000000+00:00",)]


def test_a_user_whose_email_another_one_has_is_refused_and_reported(ours: importer.Target, tmp_path: Path) -> None:
    db.User(username="own", email="user10@org1.example", organization=1).save()
    outcome = merge(server(tmp_path), ours)
    assert plan(outcome)["user"] == (5, 0, 0, 1)
    assert list(outcome.left_out) == ['user 2 is left out: its email "user10@org1.example" is taken']
    assert "user10" not in {user.username for user in db.User.get()} and len(db.User.get()) == 6


def test_rows_that_cannot_even_be_collected_are_refused(ours: importer.Target, tmp_path: Path) -> None:
    outcome = merge(server(tmp_path, 'INSERT INTO "Member" VALUES (1, 1), (99, 1), (NULL, 2)'), ours)
    assert plan(outcome)["member"] == (5, 0, 0, 3)
    assert sorted(line.rpartition(": ")[2] for line in outcome.left_out) == [
        "it exists already",
        "it has no organization",
        "there is no organization 99",
    ]


def test_links_that_lead_nowhere_are_emptied_and_counted(ours: importer.Target, tmp_path: Path) -> None:
    outcome = merge(server(tmp_path, "UPDATE task SET parent_id = 77, init_org_id = 78 WHERE id = 3"), ours)
    assert outcome.links == {"task.initiator_id": 1, "task.parent_id": 1}


def test_a_plain_password_that_is_the_one_stored_is_not_hashed_anew(ours: importer.Target, tmp_path: Path) -> None:
    file = server(tmp_path, "UPDATE user SET password = 'in plain text' WHERE id = 2", release="1.2.3")
    merge(file, ours)
    assert not merge(file, ours).has_news
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("UPDATE user SET password = 'another' WHERE id = 2")
        conn.commit()
    assert plan(merge(file, ours)) == {"user": (0, 1, 5, 0)}
    assert any(user.check_password("another") for user in db.User.get())


@pytest.mark.sqlite("counts SQLite's steps")
@pytest.mark.parametrize("shift", [0, 100_000])
def test_twice_the_rows_take_twice_the_work(ours: importer.Target, shift: int) -> None:
    """Also where the ids there are others than here, and where many rows are alike."""
    columns = ("id", "name", "image", "collaboration_id", "run_id")

    def work(count: int) -> int:
        """Return how many thousands of steps SQLite takes to compare so many tasks, with as many that are alike."""
        done = itertools.count()
        with closing(db.connect(ours)) as database, database.atomic() as transaction:
            rows = [(10 + n, "alike", "i", 1, n // 10) for n in range(count)]
            database.insert_many("task", columns, rows)
            merging.prepare(database)
            database.insert_many("incoming_task", columns, [(shift + row[0], *row[1:]) for row in rows])
            database.insert_many("incoming_collaboration", ("id", "name"), [(1, "OWN")])
            database.connection().set_progress_handler(lambda: next(done) < 0, 1000)
            plan = {each.entity: each for each in merging.plan(database, ImportReport(), merging.Omissions())}
            assert (plan["task"].new, plan["task"].same) == (0, count)
            transaction.rollback()
        return next(done)

    few, many = work(2000), work(4000)
    assert many < 3 * few


# The plan, and the way back


def test_a_merge_is_one_change_that_undo_takes_back(ours: importer.Target, tmp_path: Path) -> None:
    before = tables(db.database)
    outcome = merge(server(tmp_path, "UPDATE organization SET domain = 'theirs' WHERE id = 1"), ours)
    assert tables(db.database) != before
    output = stored(f"SELECT about, kind FROM change WHERE id = {outcome.change}")
    assert output == [("merged server.sqlite, of a vantage6 server of release 4", None)]
    undo(db.database, change=outcome.change)
    assert tables(db.database) == before


def test_without_a_terminal_a_merge_and_a_replacement_need_yes(ours: importer.Target, tmp_path: Path) -> None:
    file, before = server(tmp_path), tables(db.database)
    for option in ("--merge", "--replace"):
        done = run(ours, str(file), option)
        assert done.exit_code == 1 and "no terminal for the confirmation: nothing was changed; --yes" in done.stderr
    db.connect(ours)
    assert tables(db.database) == before
    assert not list(tmp_path.glob("vserver*-2*"))


def test_the_plan_is_shown_and_asked_for_at_a_terminal(ours: importer.Target, tmp_path: Path) -> None:
    file = server(tmp_path)
    db.database.close()
    for answer, expected in (("n", r"nothing\s+was\s+changed"), ("y", r"undo\s+--change")):
        command = [sys.executable, "-m", "vserver", "-d", str(ours), "import", str(file), "--merge"]
        terminal = Terminal(command, environment(tmp_path))
        terminal.wait_for(r"organization +3 +1 +0 +0")
        terminal.wait_for(r"\[\s*y\s*/\s*N\s*\]\s*:")  # wherever a long path has it folded
        terminal.send(f"{answer}\r")
        terminal.wait_for(expected)
        assert terminal.wait_for_end() == (answer == "n")
    db.connect(ours)
    assert len(db.Organization.get()) == 5


def test_who_is_asked_holds_up_nobody_and_what_others_change_meanwhile_ends_the_merge(
    ours: importer.Target, tmp_path: Path
) -> None:
    def another_program(plan: object) -> None:
        raw(db.database, "UPDATE organization SET name = 'changed meanwhile' WHERE id = 1", checked=True)

    with pytest.raises(Error, match="was changed by another program meanwhile: nothing was imported; try again"):
        merge(server(tmp_path), ours, confirm=another_program)
    db.connect(ours)
    assert [each.name for each in db.Organization.get()] == ["changed meanwhile", "Noordzee Kliniek"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(ours: importer.Target, tmp_path: Path) -> None:
    file, before = server(tmp_path), tables(db.database)
    done = run(ours, str(file), "--merge", "--dry-run", "-o", "json")
    rows = {row["entity"]: row for row in json.loads(done.stdout)["plan"]}
    assert rows["organization"] == {"entity": "organization", "new": 3, "changed": 1, "same": 0, "refused": 0}
    assert done.exit_code == 0 and "nothing was imported" in done.stderr
    db.connect(ours)
    assert tables(db.database) == before
    db.Organization(name="next").save()
    assert db.Organization.get_by_name("next").id == 3


def test_merging_what_is_there_says_so(ours: importer.Target, tmp_path: Path) -> None:
    file = server(tmp_path)
    assert run(ours, str(file), "--merge", "--yes").exit_code == 0
    done = run(ours, str(file), "--merge")
    assert done.exit_code == 0 and "already has all of it: nothing was changed" in done.stderr


@pytest.mark.parametrize("words", [("--merge", "--replace"), ("--yes",)])
def test_options_that_contradict_are_usage_errors(
    ours: importer.Target, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert run(ours, str(server(tmp_path)), *words).exit_code == 2


# Strict, and replacing


@pytest.mark.parametrize("options", [("--merge", "--yes"), ("--replace", "--yes"), ("--replace", "--dry-run")])
def test_a_strict_import_names_all_that_is_wrong_and_imports_nothing(
    ours: importer.Target, tmp_path: Path, options: tuple[str, ...]
) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"
    file = server(tmp_path, f'INSERT INTO "Member" {many} SELECT 100 + i, 1 FROM n')
    before = tables(db.database)
    done = run(ours, str(file), "--strict", *options)
    assert done.exit_code == 1 and done.stdout == ""
    assert all(f"there is no organization {100 + i}" in done.stderr for i in range(1, 51))
    assert "NOD001 node" in done.stderr and "USR001 user" in done.stderr and "TSK005 task" not in done.stderr
    assert "Error: 50 rows cannot be kept, 14 rule violations: nothing was imported" in done.stderr
    db.connect(ours)
    assert tables(db.database) == before and not list(tmp_path.glob("vserver*-2*"))


def test_a_strict_merge_asks_the_rules_of_what_it_writes_alone(ours: importer.Target, tmp_path: Path) -> None:
    file = server(
        tmp_path,
        "DELETE FROM node",
        "DELETE FROM run",
        "DELETE FROM task",
        "DELETE FROM taskdatabase",
        "DELETE FROM user",
        'DELETE FROM "Permission"',
        "DELETE FROM authenticatable",
        'DELETE FROM "Member"',
        "DELETE FROM collaboration",
    )
    db.Collaboration(name="", organizations=[]).save()
    outcome = merge(file, ours, strict=True)
    assert outcome.breaches == {} and len(db.Organization.get()) == 5


@pytest.mark.sqlite("a backup of a server's is a dump: see test_dumps.py")
def test_replacing_keeps_what_was_there_in_a_backup_that_brings_it_back(ours: importer.Target, tmp_path: Path) -> None:
    before = tables(db.database)
    done = run(ours, str(server(tmp_path)), "--replace", "--yes")
    (backup,) = tmp_path.glob("vserver-*.db")
    assert done.exit_code == 0 and f"the previous data is in {backup}; go back with: vserver" in done.stderr
    db.connect(ours)
    assert [each.id for each in db.Organization.get()] == [1, 2, 4, 5] and len(db.Task.get()) == 12
    db.database.close()
    words = ["-d", str(ours), "restore", str(backup), "--yes"]
    assert CliRunner().invoke(vserver.main, words, prog_name="vserver").exit_code == 0
    db.connect(ours)
    assert tables(db.database) == before


def test_replacing_continues_ids_and_the_journal_and_keeps_a_backup(ours: importer.Target, tmp_path: Path) -> None:
    (changes,) = stored("SELECT COUNT(*) FROM change")[0]
    done = run(ours, str(server(tmp_path)), "--replace", "--yes")
    (backup,) = tmp_path.glob("vserver*-2*")
    assert done.exit_code == 0 and f"the previous data is in {backup.name}" in done.stderr.replace(f"{tmp_path}/", "")
    db.connect(ours)
    assert [each.id for each in db.Organization.get()] == [1, 2, 4, 5] and len(db.Task.get()) == 12
    output = stored("SELECT about, backup FROM change ORDER BY id DESC LIMIT 1")[0]
    assert output == (
        "imported server.sqlite, of a vantage6 server of release 4, replacing everything",
        str(backup),
    )
    assert stored("SELECT COUNT(*) FROM change") == [(changes + 1,)]
    db.Organization(name="next").save()
    assert db.Organization.get_by_name("next").id == 6


def test_replacing_from_a_damaged_source_changes_nothing(ours: importer.Target, tmp_path: Path) -> None:
    file, before = server(tmp_path), tables(db.database)
    with closing(sqlite3.connect(file)) as conn:
        (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'run'").fetchone()
    with open(file, "r+b") as opened:
        opened.seek((page - 1) * 4096)
        opened.write(b"\xff" * 4096)
    for option in ("--merge", "--replace"):
        assert "is damaged" in run(ours, str(file), option, "--yes").stderr
    db.connect(ours)
    assert tables(db.database) == before and not list(tmp_path.glob("vserver*-2*"))


def test_an_import_prints_what_undoes_it(tmp_path: Path, path: Path) -> None:
    file = server(tmp_path)
    new = run(tmp_path / "new.db", str(file))
    assert f"to undo it, delete {tmp_path / 'new.db'}" in new.stderr
    empty = run(path, str(file))
    (backup,) = tmp_path.glob("vserver-*.db")
    assert f"go back with: vserver -d {path} restore {backup}" in empty.stderr


def test_a_source_that_is_not_there_is_reported(ours: importer.Target, tmp_path: Path) -> None:
    with pytest.raises(Error, match="there is no file"):
        merge(tmp_path / "nowhere.sqlite", ours)


# Of a fixture file


FIXTURE = """
organizations: [{name: A}, {name: B}]
collaborations: [{name: C, participants: [A, B], tasks: [one, two, one]}]
"""


def fixture(folder: Path, text: str, changed_at: int) -> Path:
    """Write a fixture file that was last changed at a time."""
    file = folder / "fixture.yaml"
    file.write_text(text)
    os.utime(file, (changed_at, changed_at))
    return file


def test_a_fixture_file_that_was_touched_adds_nothing(ours: importer.Target, tmp_path: Path) -> None:
    assert plan(merge(fixture(tmp_path, FIXTURE, 1_000_000_000), ours))["task"] == (3, 0, 0, 0)
    before = tables(db.database)
    assert not merge(fixture(tmp_path, FIXTURE, 1_700_000_000), ours).has_news
    assert tables(db.database) == before


def test_a_fixture_file_that_was_edited_adds_what_is_new(ours: importer.Target, tmp_path: Path) -> None:
    merge(fixture(tmp_path, FIXTURE, 1_000_000_000), ours)
    edited = FIXTURE.replace("tasks: [one", "tasks: [zero, one, one, one").replace("[A, B]", "[A, B, D]")
    edited = edited.replace("{name: B}", "{name: B}, {name: D}")
    outcome = merge(fixture(tmp_path, edited, 1_700_000_000), ours)
    assert plan(outcome) == {
        "organization": (1, 0, 2, 0),
        "member": (1, 0, 2, 0),
        "node": (1, 0, 2, 0),
        "task": (3, 0, 3, 0),
        "result": (12, 0, 6, 0),
    }
    assert [task.image for task in db.Task.get()] == ["i", "one", "two", "one", "zero", "one", "one"]


def test_a_task_of_a_fixture_file_keeps_what_became_of_it(ours: importer.Target, tmp_path: Path) -> None:
    merge(fixture(tmp_path, FIXTURE, 1_000_000_000), ours)
    for result in db.Result.get():
        result.started_at = result.finished_at = "2026-03-01 09:00"
        result.save()
    assert not merge(fixture(tmp_path, FIXTURE, 1_700_000_000), ours).has_news
    assert {result.status for result in db.Result.get()} == {"completed"}


def test_new_tasks_of_a_fixture_file_are_runs_of_their_own(ours: importer.Target, tmp_path: Path) -> None:
    drawn = db.Task.next_run_id()
    outcome = merge(fixture(tmp_path, FIXTURE, 1_000_000_000), ours)
    assert [task.run_id for task in db.Task.get()] == [1, drawn + 1, drawn + 2, drawn + 3]
    assert not outcome.values and db.Task.next_run_id() == drawn + 4


# Reports


def test_the_plan_shows_which_columns_change_and_how_often(ours: importer.Target, tmp_path: Path) -> None:
    merge(server(tmp_path), ours)
    changed = ("UPDATE user SET firstname = 'N', lastname = 'N'", "UPDATE node SET name = 'N' || id WHERE id < 9")
    done = run(ours, str(server(tmp_path, *changed)), "--merge", "--dry-run", "-o", "json")
    assert json.loads(done.stdout)["replaced"] == {"user.firstname": 6, "user.lastname": 6, "node.name": 2}
    expected = "columns that change (rows): user.firstname (6), user.lastname (6), node.name (2)\n"
    assert expected in done.stderr


def test_a_dry_run_says_where_to_see_broken_rules(
    ours: importer.Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server(tmp_path)
    expected = "see all broken rules with: vserver "
    assert f"{expected}-d server.sqlite check\n" in run("new.db", "server.sqlite", "--dry-run").stderr
    assert (
        "import server.sqlite --dry-run --strict --merge\n" in run(ours, "server.sqlite", "--merge", "--dry-run").stderr
    )
    fixture(tmp_path, FIXTURE, 1_000_000_000)
    assert (
        f"{expected}-d new.db import fixture.yaml --dry-run --strict\n"
        in run("new.db", "fixture.yaml", "--dry-run").stderr
    )


# What a source says nothing of

KNOWN_BY = {  # columns that tell which row it is, as a server of release 4 calls them
    "organization": {"id", "name"},
    "user": {"id", "username"},
    "collaboration": {"id", "name"},
    "node": {"id", "name", "organization_id", "collaboration_id"},  # the name: one of them lacks its organization
    "task": {"id", "collaboration_id", "job_id", "name", "image", "created_at"},
    "run": {"id", "task_id", "organization_id", "assigned_at"},
}
FILLED = (
    "UPDATE run SET status = 'crashed' WHERE id = (SELECT MIN(id) FROM run)",
    "UPDATE collaboration SET encrypted = 0",
    "UPDATE organization SET domain = 'd', address1 = 'a', _public_key = 'k'",
    "UPDATE task SET description = 'd', parent_id = 1",
)


def emptied(folder: Path, value: str) -> Path:
    """Make the database of a server in which nothing is said of entities but which they are."""
    file = server(folder, *FILLED)
    with closing(sqlite3.connect(file)) as conn:
        for table, known in KNOWN_BY.items():
            columns = conn.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall()
            given = {name: "NULL" if value == "NULL" or "CHAR" not in kind else "''" for name, kind in columns}
            sets = ", ".join(
                f'"{name}" = {text}' for name, text in given.items() if name not in {*known, "email"}
            )  # unique
            conn.execute(f'UPDATE "{table}" SET {sets}')
        conn.execute("DELETE FROM taskdatabase")
        conn.execute('DELETE FROM "Permission"')
        conn.execute("UPDATE authenticatable SET ip = NULL, last_seen = NULL, status = NULL")
        conn.commit()
    return file


@pytest.mark.parametrize("value", ["NULL", "''"])
def test_what_a_server_has_nothing_in_stays_as_it_is(empty: importer.Target, tmp_path: Path, value: str) -> None:
    merge(server(tmp_path, *FILLED), empty)
    before = tables(db.database)
    outcome = merge(emptied(tmp_path, value), empty)
    assert plan(outcome) == outcome.replaced == {} and tables(db.database) == before


def test_what_a_fixture_leaves_out_stays_as_it_is(empty: importer.Target, tmp_path: Path) -> None:
    merge(server(tmp_path, *FILLED), empty)
    for node in db.Node.get():
        node.name = f"called by hand {node.id}"
        node.save()
    before = tables(db.database)
    organizations = [
        {"name": each.name, "users": [{"username": u.username} for u in each.users]} for each in db.Organization.get()
    ]
    collaborations = [
        {"name": each.name, "participants": [node.organization.name for node in each.nodes if node.organization]}
        for each in db.Collaboration.get()
    ]
    for empties in ({}, {"domain": None, "country": "", "public_key": ""}):
        file = tmp_path / "fixture.yaml"
        document = {"organizations": [each | empties for each in organizations], "collaborations": collaborations}
        file.write_text(json.dumps(document))
        outcome = merge(file, empty)
        assert plan(outcome) == {} and tables(db.database) == before


def test_a_fixture_sets_no_encryption_that_it_does_not_name(empty: importer.Target, tmp_path: Path) -> None:
    file = tmp_path / "fixture.yaml"
    for said, is_encrypted in (("encrypted: false", False), ("tasks: []", False), ("encrypted:", False)):
        new = "- {name: NEW, tasks: []}\n" if said == "tasks: []" else ""
        file.write_text(f"organizations: []\ncollaborations:\n- name: C\n  {said}\n{new}")
        merge(file, empty)
        assert db.Collaboration.get_by_name("C").encrypted is is_encrypted
    assert db.Collaboration.get_by_name("NEW").encrypted is True
    file.write_text("organizations: []\ncollaborations: [{name: C, encrypted: true}]")
    outcome = merge(file, empty)
    assert outcome.replaced == {"collaboration.encrypted": 1} and db.Collaboration.get_by_name("C").encrypted


def test_a_task_that_is_there_keeps_its_initiator(empty: importer.Target, tmp_path: Path) -> None:
    file = tmp_path / "fixture.yaml"
    text = "organizations: [{{name: A}}, {{name: B}}]\ncollaborations: [{{name: C, participants: [{}], tasks: [i, i]}}]"
    file.write_text(text.format("A, B"))
    merge(file, empty)
    before = stored("SELECT id, initiator_id FROM task ORDER BY id")
    file.write_text(text.format("B, A"))
    assert not merge(file, empty).has_news
    assert stored("SELECT id, initiator_id FROM task ORDER BY id") == before == [(1, 1), (2, 1)]


def test_a_status_that_a_release_did_not_note_follows_the_times_but_no_failure(
    empty: importer.Target, tmp_path: Path
) -> None:
    ended = "UPDATE result SET finished_at = '2026-02-01 10:00:00', started_at = '2026-02-01 09:00:00' WHERE id < 3"
    merge(server(tmp_path, ended, release="3.11.1"), empty)
    first, second, third = list(db.Result.get())[:3]
    for result, changes in ((first, {"status": "crashed"}), (second, {"finished_at": None}), (third, {})):
        for name, value in changes.items():
            setattr(result, name, value)
        result.save()
    stays = stored(f"SELECT status FROM result WHERE id = {third.id}")
    file = server(tmp_path, ended, "ALTER TABLE result DROP COLUMN status", release="3.11.1")
    outcome = merge(file, empty, dry=True)
    assert outcome.replaced == {"result.finished_at": 1, "result.status": 1}
    merge(file, empty)
    found = stored("SELECT id, status FROM result ORDER BY id")
    assert found[:3] == [(first.id, "crashed"), (second.id, "completed"), (third.id, *stays[0])]
    assert not merge(file, empty).has_news


def test_tasks_of_a_release_that_noted_no_times_are_the_same(empty: importer.Target, tmp_path: Path) -> None:
    merge(server(tmp_path, release="3.11.1"), empty)
    file = server(tmp_path, "ALTER TABLE task DROP COLUMN created_at", release="3.11.1")
    assert not merge(file, empty).has_news


def test_an_export_that_has_less_changes_nothing(empty: importer.Target, tmp_path: Path) -> None:
    merge(server(tmp_path, *FILLED), empty)
    done = CliRunner().invoke(vserver.main, ["-d", str(empty), "export", str(tmp_path / "a.json")])
    assert done.exit_code == 0, done.output
    head, *lines = (tmp_path / "a.json").read_text().splitlines()
    known = {"member": {"id", "organization_id", "collaboration_id"}, "result": KNOWN_BY["run"]}
    names = {**KNOWN_BY, **known, "task": KNOWN_BY["task"] | {"run_id"}}
    kept = []
    for line in lines:
        ((table, row),) = json.loads(line).items()
        kept.append(json.dumps({table: {name: value for name, value in row.items() if name in names[table]}}))
    (tmp_path / "less.json").write_text("\n".join([head, *kept]) + "\n")
    db.connect(empty)
    before = tables(db.database)
    assert plan(merge(tmp_path / "less.json", empty)) == {} and tables(db.database) == before


@pytest.mark.parametrize(("column", "number"), [("run_id", 2**63 - 2), ("id", 2**63 - 1)])
def test_a_merge_without_numbers_left_for_new_tasks_is_refused(
    empty: importer.Target, tmp_path: Path, column: str, number: int
) -> None:
    db.Task.insert(name="last", **{"run_id": 1, column: number}).execute()
    file = tmp_path / "f.yaml"
    file.write_text("organizations: [{name: A}]\ncollaborations: [{name: C, participants: [A], tasks: [a, b]}]")
    refused = run(empty, str(file), "--merge", "--yes")
    assert refused.exit_code == 1 and "nothing was imported" in refused.stderr
    assert f"task.{column} has reached {number:,}, and 2 new rows" in refused.stderr
    db.connect(empty)
    assert db.Task.get().count() == 1 and not db.Organization.get()
