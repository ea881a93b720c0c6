"""check --fix: repairs only what needs no guess, shows each row before, and can be undone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.other_program import raw
from helpers.process import Ended, vserver

import models as db
from vserverlib import Error
from vserverlib.entities import fixing, rules

FIXABLE = [rule for rule in rules.RULES if rule.fix]


@pytest.fixture
def run(address: str, tmp_path: Path) -> Callable[..., Ended]:
    """Run a command on the database of the test, as a process of its own."""
    return lambda *words: vserver("-d", address, *words, cwd=tmp_path)


@pytest.fixture
def broken(story: SimpleNamespace, database: Any) -> SimpleNamespace:
    """The story, after another program has broken it: rows to fix, and rows that need a person."""
    first, second = (result.id for result in story.results)
    raw(
        database,
        "UPDATE result SET status = ?, finished_at = ? WHERE id = ?",
        "FOO",
        "2026-01-01 00:00:00+00:00",
        first,
    )
    raw(database, "UPDATE result SET status = NULL WHERE id = ?", second)
    raw(database, "INSERT INTO result (organization_id, input) VALUES (?, ?)", 1, "in")
    raw(database, "INSERT INTO member (organization_id) VALUES (?)", 1)
    raw(database, "INSERT INTO member (collaboration_id) VALUES (?)", 1)
    raw(database, "INSERT INTO node (name, organization_id) VALUES (?, ?)", "half", 1)
    return story


def rows(database: Any) -> dict[str, list[Any]]:
    tables = [model._meta.table_name for model in (*db.ENTITIES, db.Member)]
    return {table: database.execute_sql(f'SELECT * FROM "{table}" ORDER BY id').fetchall() for table in tables}


def test_each_row_is_shown_fixed_at_once_and_restored_by_one_line(broken: Any, run: Any, database: Any) -> None:
    before = rows(database)
    planned = run("check", "--fix", "--dry-run")
    shown = planned.out.splitlines()
    assert planned.status == 0 and rows(database) == before
    assert [line.split()[0] for line in shown] == ["RES001", "RES007", "RES008", "RES008", "MEM001", "MEM001"]
    assert all(re.search(r"(result|membership) \d+: it.*: (delete it|set its status)", line) for line in shown)
    done = run("check", "--fix", "--yes")
    assert done.err.splitlines()[:6] == shown and "fixed 5 rows" in done.err
    assert done.status == 1 and "NOD001" in done.out and "RES001" not in done.out  # the node needs a person
    after = rows(database)
    assert all(after[table] == before[table] for table in ("organization", "user", "collaboration", "node", "task"))
    assert {result.status for result in db.Result.get()} == {"completed", "pending"} and len(after["member"]) == 2
    (change,) = re.findall(r"undo --change (\d+)", done.err)
    assert run("undo", "--change", change, "--yes").status == 0
    assert rows(database) == before


def test_links_that_point_nowhere_are_fixed_or_name_the_command(story: Any, run: Any, database: Any) -> None:
    raw(database, "UPDATE result SET task_id = 99 WHERE id = ?", story.results[0].id)
    raw(database, "UPDATE member SET collaboration_id = 98 WHERE id = 1")
    raw(database, "UPDATE node SET organization_id = 97")
    raw(database, "UPDATE task SET parent_id = 96")
    report = " ".join(run("check").out.split())  # as one line, however it was folded
    assert "its task 99 does not exist" in report and "its collaboration 98 does not exist" in report
    for line in ("check --fix --rule RES001", "check --fix --rule MEM001", "set node 1 organization=", "parent=null"):
        assert line in report, report
    assert run("set", "task", str(story.task.id), "parent=null").status == 0
    done = run("check", "--fix", "--yes")
    assert "RES001" not in done.out and "DBF002 error 1 " in done.out and "node 1" in done.out
    assert len(rows(database)["result"]) == len(story.results) - 1 and "fixed 2 rows" in done.err
    (change,) = re.findall(r"undo --change (\d+)", done.err)
    assert run("undo", "--change", change, "--yes").status == 0
    assert len(rows(database)["result"]) == len(story.results)  # restored, with the link that led nowhere empty
    assert db.Result.get(story.results[0].id).task is None and "RES001 error 1" in run("check").out


def test_what_needs_a_person_names_the_command(broken: Any, run: Any) -> None:
    found = run("check", "nodes")
    (id,) = [node.id for node in db.Node.where(name="half")]
    assert re.search(rf"vserver -d \S+ set node {id} ", found.out)
    assert f'"command": "set node {id} organization=… collaboration=…"' in run("check", "nodes", "-o", "jsonl").out


def test_one_rule_is_fixed_and_the_others_stay(broken: Any, run: Any, database: Any) -> None:
    before = rows(database)
    done = run("check", "--fix", "--rule", "mem001", "--yes")
    assert done.status == 0 and "fixed 2 rows" in done.err
    assert rows(database)["result"] == before["result"] and len(rows(database)["member"]) == 2


def test_a_rule_for_a_person_is_only_reported(broken: Any, run: Any, database: Any) -> None:
    before = rows(database)
    done = run("check", "--fix", "--rule", "NOD001", "--yes")
    assert done.status == 1 and "nothing can be fixed without a guess" in done.err and "set node" in done.out
    assert rows(database) == before


def test_a_sound_database_is_fixed_without_a_question(story: Any, run: Any, database: Any) -> None:
    before = rows(database)
    done = run("check", "--fix", "--rule", "RES001")
    assert done.status == 0 and "nothing can be fixed" in done.err and rows(database) == before


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--fix",), 1, "--yes"),
        (("--yes",), 2, "--fix"),
        (("--dry-run",), 2, "--fix"),
        (("--fix", "--rule", "NOPE"), 2, 'no rule "NOPE"'),
        (("--fix", "--rule", "USR003"), 2, "USR003"),
        (("nods", "--fix"), 2, 'no entity "nods"'),
    ],
)
def test_bad_input_is_one_line_and_fixes_nothing(
    words: tuple[str, ...], status: int, message: str, broken: Any, run: Any, database: Any
) -> None:
    before = rows(database)
    done = run("check", *words)
    assert done.status == status and message in done.err.splitlines()[-1] and "Traceback" not in done.err
    assert rows(database) == before


def test_rows_that_break_a_rule_meanwhile_are_not_fixed_unseen(broken: Any, database: Any) -> None:
    shown = fixing.fixable(database, FIXABLE)
    raw(database, "INSERT INTO member (organization_id) VALUES (?)", 2)
    before = rows(database)
    with pytest.raises(Error, match="nothing was fixed"):
        fixing.fix(database, shown)
    assert rows(database) == before


def test_the_first_rows_are_shown_and_the_others_counted(story: Any, run: Any, database: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(fixing, "MOST_SHOWN", 2)
    for _ in range(5):
        raw(database, "INSERT INTO member (organization_id) VALUES (?)", 1)
    (found,) = fixing.fixable(database, FIXABLE)
    assert len(found.ids) == 5 and len(found.findings) == 2
    assert fixing.fix(database, [found]) == 5


def test_a_doubled_membership_loses_the_newer_one(story: Any, database: Any) -> None:
    database.execute_sql("DROP INDEX member_organization_id_collaboration_id")
    db.Member(organization=story.iknl, collaboration=story.collaboration).save()
    before = {member.id for member in db.Member.select()}
    assert fixing.fix(database, fixing.fixable(database, FIXABLE)) == 1
    assert {member.id for member in db.Member.select()} == before - {max(before)}
