"""Copying a whole database: from a file to a server and back nothing is lost, and nothing is half copied."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import models as db
from vserver import main
from vserverlib import Error
from vserverlib.databases import connecting
from vserverlib.examples import demo
from vserverlib.transfer import copying


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example's database, with a change on record and an id that was given and taken back."""
    file = demo.create(tmp_path / "example.db")
    opened = db.connect(file)
    with opened.rule_checks(False):
        late = db.Task(name="late")
        late.save()
        late.delete()
    opened.close()
    return file


def copied(source: str | Path, to: str | Path) -> dict[str, int]:
    """Copy, and return the counts."""
    with copying.source(str(source)) as database:
        return {table: rows for table, rows in copying.copy(database, str(to)) if rows}


def rows_of(file: Path) -> dict[str, list[Any]]:
    """All rows of a file, by table, less the entry that a copy makes of itself."""
    conn = sqlite3.connect(file)
    found = {}
    for table, columns in copying.tables().items():
        names = ", ".join(f'"{name}"' for name in columns)
        found[table] = sorted(conn.execute(f'SELECT {names} FROM "{table}"').fetchall(), key=repr)
    found["change"] = [row for row in found["change"] if row[4] != "bulk"]
    conn.close()
    return found


def test_there_and_back_everything_is_the_same(example: Path, bare: str, tmp_path: Path) -> None:
    there = copied(example, bare)
    back = copied(bare, tmp_path / "back.db")
    assert there["task"] == 24 and there["result"] == 69 and there["record"] == 2
    assert back == {**there, "change": there["change"] + 1}
    assert rows_of(tmp_path / "back.db") == rows_of(example)


def test_an_id_is_not_given_again_after_a_copy(example: Path, bare: str) -> None:
    copied(example, bare)
    opened = db.connect(bare)
    task, run = db.Task(name="new"), db.Task.next_run_id()
    task.save()
    opened.close()
    assert task.id == 26 and run == task.run_id - 1  # 25 was given to a task that is gone


def test_keys_and_passwords_work_after_a_copy(example: Path, bare: str) -> None:
    copied(example, bare)
    opened = db.connect(bare)
    assert db.User.get_by_username("anna.devries").check_password("Demo-Anna-1")
    assert db.Node.get_by_api_key("00000000-0000-4000-8000-000000000001") == db.Node.get(1)
    opened.close()


def test_a_database_with_rows_is_not_copied_onto(example: Path, url: str, tmp_path: Path) -> None:
    copied(example, url)
    with pytest.raises(Error, match="has rows already .*: copy to an empty or a new database"):
        copied(example, url)
    with pytest.raises(Error, match="exists already"):
        copied(example, example)


def test_what_has_no_place_there_ends_it_and_nothing_is_there(example: Path, bare: str) -> None:
    conn = sqlite3.connect(example)
    conn.execute("UPDATE task SET created_at = 'yesterday' WHERE id = 20")
    conn.commit()
    conn.close()
    with pytest.raises(Error, match=r'task 20: created_at "yesterday" is not a time: nothing was copied'):
        copied(example, bare)
    with pytest.raises(Error, match="has no tables of vserver"):
        connecting.connect(bare)


def test_the_command_prints_what_was_copied(example: Path, bare: str) -> None:
    result = CliRunner().invoke(main, ["copy", str(example), bare, "-o", "json"])
    assert result.exit_code == 0 and '{"table": "task", "rows": 24}' in result.stdout
    assert "copied example.db to postgresql://postgres@/" in result.stderr


def test_a_database_that_it_would_not_use_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["-d", "x.db", "copy", "x.db", str(tmp_path / "to.db")])
    assert done.exit_code == 2 and "leave out -d" in done.stderr


def test_a_missing_source_is_reported(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["copy", str(tmp_path / "none.db"), str(tmp_path / "to.db")])
    assert result.exit_code == 1 and "there is no database" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_copy_has_the_name_of_who_made_it_and_the_other_changes_keep_theirs(
    example: Path, bare: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSERVER_ACTOR", "anna")
    copied(example, bare)
    monkeypatch.setenv("VSERVER_ACTOR", "ben")
    copied(bare, tmp_path / "back.db")
    conn = sqlite3.connect(tmp_path / "back.db")
    *others, there, back = conn.execute("SELECT actor, about, open FROM change ORDER BY id").fetchall()
    conn.close()
    assert others and not {"anna", "ben"} & {actor for actor, _, _ in others}
    assert (there[0], back[0], back[2]) == ("anna", "ben", 0) and "copied from postgresql://" in back[1]
