"""The values of a source: what is lost of one is named, with its row; a mask is never taken for a secret."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import vserver
from vserverlib import hashing

DATA = Path(__file__).parent / "data"
LOST = (
    "UPDATE task SET job_id = 'seven' WHERE id = 1",
    "UPDATE task SET parent_id = 4711 WHERE id = 3",
    "UPDATE task SET name = CAST(x'4f72c3' AS TEXT) WHERE id = 4",
    "UPDATE node SET api_key = '********' WHERE id = 7",
)
LINES = [
    "node 7: api_key: it cannot be hashed, it is empty now",
    'task 1: run_id "seven": not a whole number, it is empty now',
    'task 4: name "Or\ufffd": characters that cannot be stored became \ufffd',
    "task 3: parent_id 4711: there is no task 4711, it is empty now",
]
Server = Callable[..., Path]


@pytest.fixture
def server(tmp_path: Path, quick_hashes: None, monkeypatch: pytest.MonkeyPatch) -> Server:
    """What makes the database of a server, with these statements run on it."""
    monkeypatch.chdir(tmp_path)

    def make(*statements: str) -> Path:
        shutil.copy(DATA / "v4.15.2.sqlite", "server.sqlite")
        with closing(sqlite3.connect("server.sqlite")) as conn, conn:
            for statement in statements:
                conn.execute(statement)
        return Path("server.sqlite")

    return make


def run(*words: str) -> Result:
    return CliRunner().invoke(vserver.main, ["-d", "ours.db", *words], prog_name="vserver")


def secrets(file: str) -> set[Any]:
    with closing(sqlite3.connect(file)) as conn:
        return {secret for (secret,) in conn.execute('SELECT password FROM "user" UNION SELECT api_key FROM node')}


def test_a_value_of_which_something_is_lost_is_named_with_its_row(server: Server) -> None:
    server(*LOST)
    done = run("import", "server.sqlite", "--dry-run", "-o", "json")
    assert done.exit_code == 0 and json.loads(done.stdout)["lost_values"] == LINES
    assert set(LINES) <= set(done.stderr.splitlines())


def test_a_strict_import_refuses_a_value_that_would_be_lost(server: Server) -> None:
    assert run("init", "--demo").exit_code == 0 and run("export", "demo.json", "--with-hashes").exit_code == 0
    text = Path("demo.json").read_text()
    Path("demo.json").write_text(text.replace('"parent_id": ', '"parent_id": 4711'))  # which breaks no rule
    Path("ours.db").unlink()
    done = run("--strict", "import", "demo.json")
    assert done.exit_code == 1 and not Path("ours.db").exists()
    assert done.stderr.splitlines()[-2].startswith("rules that imported rows break (rows): ")
    assert re.search("Error: [0-9]+ values would be lost: nothing was imported", done.stderr)
    assert run("import", "demo.json").exit_code == 0


def test_a_merge_names_what_is_lost_too(server: Server) -> None:
    server()
    assert run("import", "server.sqlite").exit_code == 0
    server(*LOST)
    done = run("import", "server.sqlite", "--merge", "--yes", "-o", "json")
    assert json.loads(done.stdout)["lost_values"] == LINES


def test_many_lost_values_are_named_in_part_and_all_of_them_if_strict(server: Server) -> None:
    server("UPDATE run SET task_id = 1000 + id")
    few, all_of_them = run("import", "server.sqlite", "--dry-run"), run("import", "server.sqlite", "--strict")
    assert few.stderr.count("there is no task 10") == 20
    assert "and 7 more values are lost (--dry-run --strict names all)" in few.stderr
    assert all_of_them.stderr.count("there is no task 10") == 27


def test_what_only_changed_its_form_is_not_lost(server: Server) -> None:
    server("UPDATE task SET name = x'4f72' WHERE id = 4", "UPDATE task SET created_at = '2026-03-01' WHERE id = 5")
    assert json.loads(run("import", "server.sqlite", "-o", "json").stdout)["lost_values"] == []


def test_a_view_is_not_exported_with_hashes_which_it_does_not_have(server: Server) -> None:
    server()
    looked = ["-d", "server.sqlite", "export", "look.json"]
    done = CliRunner().invoke(vserver.main, [*looked, "--with-hashes"])
    assert done.exit_code == 1 and not Path("look.json").exists()
    assert "import it first (vserver -d NEW.db import server.sqlite), or leave out --with-hashes" in done.stderr
    assert CliRunner().invoke(vserver.main, looked).exit_code == 0
    assert hashing.UNKNOWN not in Path("look.json").read_text()


@pytest.mark.parametrize("options", [(), ("--merge", "--yes")])
def test_what_stands_for_a_hash_is_never_taken_for_one(server: Server, options: tuple[str, ...]) -> None:
    server()
    assert run("import", "server.sqlite").exit_code == 0
    before = secrets("ours.db")
    assert run("export", "real.json", "--with-hashes").exit_code == 0
    lines = [json.loads(line) for line in Path("real.json").read_text().splitlines()]
    for line in lines:
        for name in {"password", "api_key"} & set(*line.values() if "vserver" not in line else [()]):
            next(iter(line.values()))[name] = hashing.UNKNOWN
    Path("false.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    if not options:
        Path("ours.db").unlink()
    done = run("import", "false.json", *options)
    assert done.exit_code == 0 and "user 1: password: it cannot be hashed, it is empty now" in done.stderr
    assert secrets("ours.db") == (before if options else {None})
    assert run("import", "false.json", "--replace", "--yes", "--strict").exit_code == 1


def test_a_kept_value_of_another_type_breaks_a_rule(server: Server) -> None:
    server("UPDATE task SET created_at = 'gisteren' WHERE id = 2")
    strict, done = run("import", "server.sqlite", "--strict"), run("import", "server.sqlite", "-o", "json")
    output = 'DBF004 task 2: its created_at is "gisteren", which is not a time: set it'
    assert strict.exit_code == 1 and output in strict.stderr
    assert json.loads(done.stdout)["breaches"]["DBF004"] == 1 and json.loads(done.stdout)["lost_values"] == []
