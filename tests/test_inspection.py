"""The inspection of a whole database: the command, and what is no rule of rows."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import models as db
import shell
import vserver
from models import MODELS
from vserverlib import UsageError, home
from vserverlib.entities import checks
from vserverlib.queries import inspection


def change(path: Path, *statements: str) -> None:
    """Change a database as another program may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


def found(database: Any, code: str) -> list[str]:
    return [finding.message for finding in inspection.inspect(database, inspection.chosen(codes=[code]))]


def run(path: Path, *words: str) -> Any:
    return CliRunner().invoke(vserver.main, ["-d", str(path), "check", *words], prog_name="vserver")


# The file


def test_a_sound_file_has_nothing_to_tell(story: SimpleNamespace, database: Any) -> None:
    for code in inspection.DATABASE_CHECKS:
        assert found(database, code) == []


def test_orphans_are_reported_by_table_and_row(story: SimpleNamespace, database: Any, path: Path) -> None:
    changes = ("UPDATE node SET organization_id = 7", "UPDATE member SET collaboration_id = 9 WHERE id = 1")
    change(path, "PRAGMA foreign_keys = 0", *changes)
    assert sorted(found(database, "DBF002")) == [
        "membership 1: its collaboration is collaboration 9, which does not exist",
        "node 1: its organization is organization 7, which does not exist",
    ]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TABLE thing (id)", "the table thing is not one of vserver's"),
        (
            "ALTER TABLE node ADD COLUMN hue",
            "the table node differs from that of a new database (column hue is additional)",
        ),
        ("DROP INDEX task_run_id", "the index task_run_id is missing"),
        ("CREATE TRIGGER t AFTER DELETE ON task BEGIN SELECT 1; END", "the trigger t is not one of vserver's"),
        ('CREATE VIEW "\x1b[31m" AS SELECT 1', r"the view \x1b[31m is not one of vserver's"),
    ],
)
def test_changed_tables_are_reported(database: Any, path: Path, statement: str, message: str) -> None:
    change(path, statement)
    assert found(database, "DBF003") == [message]


def test_a_different_index_is_reported(database: Any, path: Path) -> None:
    change(path, "DROP INDEX task_run_id", "CREATE INDEX task_run_id ON task (name)")
    assert found(database, "DBF003") == ["the index task_run_id differs from that of a new database"]


def test_damage_is_reported_and_does_not_end_the_check(path: Path, story: SimpleNamespace, database: Any) -> None:
    database.close()
    with closing(sqlite3.connect(path)) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'task'").fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    with open(path, "r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    done = run(path)
    assert (done.exit_code, done.exception.__class__) == (1, SystemExit)
    assert done.stdout.startswith("DBF001 error") and "TSK002 could not be checked" in done.stdout
    assert "COL003 warning 1" in done.stdout


# The command


def test_all_is_well_on_stderr_and_exit_status_0(example: Path) -> None:
    done = run(example)
    assert done.exit_code == 0 and done.stdout.startswith("TSK005 info 1")
    assert re.fullmatch(r"all is well: \d+ rules were applied, .*\n", done.stderr)


def test_findings_are_grouped_counted_and_end_with_status_1(story: SimpleNamespace, database: Any, path: Path) -> None:
    with database.rule_checks(False):
        for _ in range(12):
            db.Node(name="twin", organization=story.iknl, collaboration=story.collaboration).save()
    done = run(path)
    assert (done.exit_code, done.stderr) == (1, "")
    assert "NOD003 error 13" in done.stdout and "3 more" in done.stdout
    assert done.stdout.count("remedy: delete") == 1
    assert done.stdout.rstrip().endswith("13 errors, 14 warnings")


def test_one_rule_or_one_entity_can_be_asked(story: SimpleNamespace, path: Path) -> None:
    assert json.loads(run(path, "--rule", "col003", "-o", "json").stdout)[0]["id"] == 1
    (row,) = map(json.loads, run(path, "results", "-o", "jsonl").stdout.splitlines())
    assert (row["code"], row["id"]) == ("RES005", 2)
    assert run(path, "nodes").exit_code == 0
    assert run(path, "nodes", "--rule", "COL003").exit_code == 2


def test_json_of_nothing_is_an_empty_list(database: Any, path: Path) -> None:
    assert run(path, "-o", "json").stdout == "[]\n" and run(path).stdout == "" == run(path, "-o", "jsonl").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--explain", "NOD9"], 'no rule "NOD9": there are NOD001, NOD002'),
        (["--rule", "NDO002"], 'no rule "NDO002"; did you mean "NOD002"'),
        (["--rule", "\x1b"], r'no rule "\x1b"'),
        (["--rule", "USR003"], "USR003 is checked at a save only"),
        (["things"], "things"),
    ],
)
def test_what_there_is_not_is_a_usage_error(words: list[str], message: str, database: Any, path: Path) -> None:
    done = run(path, *words)
    assert (done.exit_code, done.stdout) == (2, "") and message in done.stderr


def test_explaining_needs_no_database(tmp_path: Path) -> None:
    done = run(tmp_path / "none.db", "--explain", "NOD005")
    assert done.exit_code == 0 and done.stdout.startswith(
        "NOD005, warning, applied at save only\nbreaks it: an API key"
    )


def test_a_check_changes_nothing(story: SimpleNamespace, database: Any, path: Path) -> None:
    database.close()
    before = path.read_bytes()
    run(path)
    assert path.read_bytes() == before


def test_the_overview_shows_a_complete_check_and_not_a_partial_one(story: SimpleNamespace, path: Path) -> None:
    def summary() -> Any:
        done = CliRunner().invoke(vserver.main, ["-d", str(path), "overview", "-o", "json"], prog_name="vserver")
        return json.loads(done.stdout)["check"]

    run(path, "nodes")
    assert summary() is None
    run(path)
    assert summary()["warning"] == 2 and summary()["at"].endswith("Z")
    board = CliRunner().invoke(vserver.main, ["-d", str(path), "overview"], prog_name="vserver").stdout
    assert re.search(r"^checked  \d+ s ago: 2 warnings$", board, re.MULTILINE)


def test_a_summary_of_a_check_that_cannot_be_written_is_reported(
    database: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSERVER_HOME", str(path))
    done = run(path)
    assert done.exit_code == 0 and "the overview will not show this check" in done.stderr


def test_a_check_asks_one_query_for_each_rule(story: SimpleNamespace, database: Any, count_queries: list[str]) -> None:
    asked = [rule for rule in inspection.chosen() if rule.where]
    list(inspection.inspect(database, asked))
    reads_cycles = [rule for rule in asked if rule.for_table and "{cycles}" in rule.for_table.where]
    assert len(count_queries) == len(asked) + len(reads_cycles)


# At the prompt


def test_db_asks_the_rules(story: SimpleNamespace, database: Any) -> None:
    at_hand = shell.namespace(database)["db"]
    assert [finding.code for finding in at_hand.check()] == ["COL003", "RES005"]
    assert [f.code for f in at_hand.check(db.Result)] == ["RES005"] == [f.code for f in at_hand.check("results")]
    assert at_hand.check(rule="COL003").counts == {"COL003": 1}
    with pytest.raises(UsageError, match="no rule"):
        at_hand.check(rule="nothing")
    with at_hand.checks(False):
        assert not database.asks_rules
    at_hand.strict()
    assert database.strict
    at_hand.strict(False)
    assert not database.strict


def test_a_list_of_findings_holds_the_first_and_counts_all(database: Any) -> None:
    many = (checks.finding("TSK001", number, None, None) for number in range(5000))
    few = checks.Findings(many)
    assert (len(few), few.counts["TSK001"], few.levels["error"]) == (checks.MOST_FINDINGS, 5000, 5000)


def test_every_orphan_that_the_models_can_have_is_reported_by_its_link(story: Any, database: Any, path: Path) -> None:
    links = [field for model in MODELS.values() for field in model._meta.refs]
    story.task.parent = story.task
    with database.rule_checks(False):
        story.task.save()
        db.User(username="root", organization=story.iknl).save()
    changes = [f'UPDATE "{link.model._meta.table_name}" SET {link.column_name} = 99 WHERE id = 1' for link in links]
    change(path, "PRAGMA foreign_keys = 0", *changes)
    assert len(found(database, "DBF002")) == len(links)
    assert home.folder().exists() is False


def test_asking_nothing_is_a_usage_error(path: Path) -> None:
    words = ["-d", str(path), "check", "nodes", "--rule", "RES006"]
    done = CliRunner().invoke(vserver.main, words, prog_name="vserver")
    assert done.exit_code == 2 and "RES006 does not apply to node" in done.stderr


def test_an_invalid_answer_or_entity_is_refused(database: Any) -> None:
    tools = inspection.tools(database)
    with pytest.raises(UsageError, match="strict takes True or False, not 'no'"):
        tools["strict"]("no")
    with pytest.raises(UsageError, match="7 is not an entity class"):
        tools["check"](7)
    assert database.strict is False


def test_checks_hold_until_they_are_switched_again_or_the_block_ends(database: Any) -> None:
    tools = inspection.tools(database)
    assert repr(tools["checks"](False)) == "<saves check no rules, until db.checks(True)>"
    db.Collaboration(name="quiet").save()
    with tools["checks"](True):
        assert database.asks_rules
    assert not database.asks_rules
    assert repr(tools["checks"](True)) == "<saves check the rules>" and database.asks_rules
    with pytest.raises(ZeroDivisionError), tools["checks"](False):
        raise ZeroDivisionError
    assert database.asks_rules
    with pytest.raises(UsageError, match="checks takes True or False, not 'no'"):
        tools["checks"]("no")


# Values


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE task SET created_at = 'gisteren'", 'task 1: its created_at is "gisteren", which is not a time'),
        (
            "UPDATE result SET finished_at = '2026-13-01 09:00:00'",
            'result 1: its finished_at is "2026-13-01 09:00:00", which is not a time',
        ),
        (
            "UPDATE collaboration SET encrypted = 'false'",
            'collaboration 1: its encrypted is "false", which is not True or False',
        ),
        ("UPDATE task SET run_id = 'seven'", 'task 1: its run_id is "seven", which is not a whole number'),
        (
            "UPDATE organization SET name = x'00ff' WHERE id = 1",
            "organization 1: its name is bytes, which is not text",
        ),
    ],
)
def test_a_value_of_another_type_is_found(path: Path, story: Any, database: Any, sql: str, message: str) -> None:
    assert found(database, "DBF004") == []
    change(path, sql)
    assert found(database, "DBF004")[0] == message


def test_a_time_of_another_form_is_a_time(path: Path, story: Any, database: Any) -> None:
    change(path, "UPDATE task SET created_at = '2026-03-01'")
    change(path, "UPDATE result SET started_at = '2026-03-01T09:00:00Z'")
    assert found(database, "DBF004") == []
