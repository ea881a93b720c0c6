"""What the pages on security, secrets and backups promise, through the program as a process.

The last table of docs/reliability.md says which test holds which promise.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest
from helpers import process, promises, vantage6_databases

import models as db

HASH = re.compile(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}")
HOSTILE = "\x1b[2J=cmd|' /C calc'!A0\x07\r\nroot\u202e"

# Each is refused by a read-only session, and changes nothing.
WRITES = {
    "save": "db.Organization(name='x').save()",
    "change": "o = db.Organization.get(1); o.name = 'x'; o.save()",
    "delete": "db.Result.get(1).delete()",
    "dependents": "db.Task.get(1).delete(dependents=True)",
    "bulk": "db.Task.insert_many([{'name': 'x'}]).execute()",
    "update": "db.Task.update(name='x').where(db.Task.id > 0).execute()",
    "run id": "db.Task.next_run_id()",
    "member": "c = db.Collaboration.get(1); c.organizations.pop(); c.save()",
    "UPDATE": "database.execute_sql(\"UPDATE organization SET name = 'x'\")",
    "DELETE": 'database.execute_sql("DELETE FROM result")',
    "INSERT": "database.execute_sql(\"INSERT INTO organization (name) VALUES ('x')\")",
    "DROP": 'database.execute_sql("DROP TABLE result")',
    "CREATE": 'database.execute_sql("CREATE TABLE x (y int)")',
    "transaction": "with database.atomic(): database.execute_sql(\"UPDATE task SET name = 'x'\")",
}
WRITES_OF_SQLITE = {
    "connection": "database.connection().execute(\"UPDATE task SET name = 'x'\")",
    "ATTACH": "database.execute_sql(\"ATTACH ':memory:' AS other\")",
    "VACUUM INTO": "database.execute_sql(\"VACUUM INTO 'never-made.db'\")",
    "query_only": 'database.execute_sql("PRAGMA query_only = 0")',
    "schema": 'database.execute_sql("PRAGMA writable_schema = 1")',
    "version": 'database.execute_sql("PRAGMA user_version = 7")',
    "extension": "database.execute_sql(\"SELECT load_extension('x')\")",
    "CTE": 'database.execute_sql("WITH d AS (SELECT 1) DELETE FROM result")',
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows_of(database: Any) -> list[Any]:
    tables = ("organization", "collaboration", "member", "task", "result", "change")
    return [database.execute_sql(f"SELECT * FROM {table} ORDER BY id").fetchall() for table in tables]


def modes(*folders: Path) -> dict[str, str]:
    """Return the rights of each file and folder that others have any on."""
    found = [path for folder in folders for path in folder.rglob("*") if not path.is_symlink()]
    return {str(path): oct(path.stat().st_mode) for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077}


def vserver(*words: str | Path, **options: Any) -> process.Ended:
    """Run the program, and return how it ended; it ended well."""
    ended = process.vserver(*words, **options)
    assert ended.status == 0, ended
    return ended


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def closed(story: SimpleNamespace, database: Any, path: Path) -> Path:
    """The story's database with a user and a node that have hashes, closed."""
    with database.rule_checks(False):
        user = db.User(username="root", password=bcrypt.hashpw(b"old", bcrypt.gensalt(4)).decode(), organization=1)
        user.save()
        story.node.api_key = bcrypt.hashpw(b"key", bcrypt.gensalt(4)).decode()
        story.node.save()
    database.close()
    return path


# Read-only, and a sandbox


@pytest.mark.parametrize("way", process.WAYS)
def test_a_read_only_session_refuses_each_write(
    way: str, story: SimpleNamespace, database: Any, address: str, kind: str, tmp_path: Path
) -> None:
    before = rows_of(database)
    asked = WRITES | (WRITES_OF_SQLITE if kind == "sqlite" else {})
    found = process.answers(asked, address, tmp_path, "--read-only", way=way)
    assert {name: text for name, text in found.items() if "Error" not in text and "ReadOnly" not in text} == {}
    output = {name: text for name, text in found.items() if name != "connection"}  # SQLite's own words
    assert {name: text for name, text in output.items() if "read-only" not in text} == {}
    assert rows_of(database) == before and not (Path.cwd() / "never-made.db").exists()


def test_commands_that_read_leave_the_file_as_it_is(closed: Path) -> None:
    before = digest(closed)
    for words in (
        ["list", "tasks"],
        ["show", "task", "1"],
        ["overview"],
        ["check"],
        ["log"],
        ["delete", "task", "1", "--dry-run"],
    ):
        process.vserver("-d", closed, *words)
    assert digest(closed) == before and [file.name for file in closed.parent.iterdir()] == [closed.name]


@pytest.mark.parametrize("way", ["-c", "file", "pipe", "prompt"])
def test_a_sandbox_changes_a_copy_alone(way: str, closed: Path, tmp_path: Path) -> None:
    before = digest(closed)
    asked = {"save": "db.Organization(name='x').save(); print(len(db.Organization.get()))"}
    assert process.answers(asked, closed, tmp_path, "--sandbox", way=way) == {"save": "3\n"}
    assert digest(closed) == before


# Files


def test_whatever_a_session_creates_is_its_owners_alone(open_umask: None, tmp_path: Path) -> None:
    path, home = tmp_path / "new" / "vserver.db", Path(os.environ["HOME"])
    path.parent.mkdir(mode=0o700)
    server = vantage6_databases.copied("4.15.2", path.parent / "server.sqlite")
    server.chmod(0o600)
    vserver("-d", path, "init")
    vserver("-d", path, "shell", "-c", "db.Organization(name='IKNL').save()")
    process.answers({"nothing": "1"}, path, path.parent, way="prompt")
    for file in path.parent.glob("*-prompt.*"):
        file.unlink()
    process.vserver("-d", path, "check")
    vserver("-d", path, "backup", cwd=path.parent)
    vserver("-d", path, "backup", path.parent / "b.db")
    vserver("-d", path, "export", path.parent / "all.json")
    vserver("-d", path, "restore", path.parent / "b.db", "--yes")
    process.vserver("-d", server, "list", "users")
    assert modes(path.parent, home) == {}
    assert {"vserver.db", "b.db", "all.json"} <= {file.name for file in path.parent.iterdir()}


def test_a_database_that_others_may_read_is_reported_when_it_is_opened(closed: Path) -> None:
    closed.chmod(0o644)
    assert "chmod 600" in vserver("-d", closed, "list", "tasks").err
    closed.chmod(0o600)
    assert vserver("-d", closed, "list", "tasks").err == ""


def test_a_file_that_is_not_ours_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as conn:
        conn.execute("CREATE TABLE x (y)")
        conn.commit()
    (tmp_path / "text.db").write_text("no database")
    for file in (other, tmp_path / "text.db"):
        before = digest(file)
        for words in (["list", "tasks"], ["shell", "-c", "1"], ["upgrade"], ["passwd", "root", "--stdin"], ["backup"]):
            ended = process.vserver("-d", file, *words, given="A-long-passw0rd!\n", cwd=tmp_path)
            assert (ended.status, ended.out, len(ended.err.splitlines())) == (1, "", 1), ended
        assert digest(file) == before


# Secrets


def test_no_output_of_a_command_shows_a_hash(closed: Path, tmp_path: Path) -> None:
    shown = [vserver("-d", closed, "list", kind, "-o", output, "--all").out
             for kind in ("users", "nodes") for output in ("table", "json", "jsonl", "yaml", "csv")]  # fmt: skip
    shown += [vserver("-d", closed, *words, "-o", "json").out for words in (["show", "user", "root"], ["log"])]
    shown += [process.vserver("-d", closed, "check", "-o", "json").out]
    vserver("-d", closed, "export", tmp_path / "all.json")
    shown += [(tmp_path / "all.json").read_text()]
    assert all(shown) and [text for text in shown if HASH.search(text)] == []
    vserver("-d", closed, "export", tmp_path / "hashes.json", "--with-hashes")
    assert len(HASH.findall((tmp_path / "hashes.json").read_text())) >= 2


def test_printed_sql_has_masks_from_the_first_statement_on(closed: Path) -> None:
    code = "db.User.update(password='Geheim-123!').where(db.User.id == 1).execute(); u = db.User.get(1)\n"
    code += "database.execute_sql(\"UPDATE user SET password = 'Geheim-456!' WHERE id = 1\")\n"
    code += "u.password = 'Geheim-789!'; u.save(); db.Node.get_by_api_key('Geheim-000!')"
    ended = vserver("-d", closed, "shell", "--print-sql", "-c", code)
    assert "UPDATE" in ended.err and "********" in ended.err
    assert "Geheim" not in ended.err + ended.out and not HASH.search(ended.err + ended.out)


def test_the_copy_of_a_servers_database_has_no_hashes(tmp_path: Path) -> None:
    server = vantage6_databases.copied("4.15.2", tmp_path / "server.sqlite")
    vserver("-d", server, "list", "users")
    vserver("-d", server, "shell", "--read-only", "-c", "1")
    copies = [file for file in Path(os.environ["HOME"]).rglob("*.db") if file.is_file()]
    texts = [file.read_bytes().decode("latin-1") for file in copies]
    with contextlib.closing(sqlite3.connect(server)) as conn:
        known = {hash for (hash,) in conn.execute("SELECT password FROM user") if hash}
    assert copies and known and not [hash for hash in known for text in texts if hash in text]


def test_old_hashes_are_forgotten_by_pruning(closed: Path) -> None:
    vserver("-d", closed, "passwd", "root", "--stdin", given="A-long-passw0rd!\n")
    with contextlib.closing(sqlite3.connect(closed)) as conn:
        count = "SELECT COUNT(secrets) FROM record"
        assert conn.execute(count).fetchone()[0] >= 3
        vserver("-d", closed, "log", "--prune", "0d", "--yes")
        assert conn.execute(count).fetchone() == (0,)


def test_hashes_are_bcrypts_with_twelve_rounds_and_no_salt_of_a_password_is_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "vserver.db"
    vserver("-d", path, "init")
    users = "; ".join(f"db.User(username='u{number}', password='The same passw0rd!').save()" for number in (1, 2))
    nodes = "; ".join(f"db.Node(name='n{number}', api_key='key-{number}-of-a-node').save()" for number in (1, 2))
    vserver("-d", path, "shell", "-c", f"{users}; {nodes}")
    with contextlib.closing(sqlite3.connect(path)) as conn:
        passwords = [password for (password,) in conn.execute("SELECT password FROM user")]
        keys = [key for (key,) in conn.execute("SELECT api_key FROM node")]
    assert all(HASH.fullmatch(hash) and hash.startswith("$2b$12$") for hash in passwords + keys)
    assert passwords[0][:29] != passwords[1][:29] and keys[0][:29] == keys[1][:29]


# Text is text


def test_a_name_is_neither_an_escape_nor_a_formula_nor_a_line(
    story: SimpleNamespace, database: Any, path: Path
) -> None:
    with database.rule_checks(False):
        db.Organization(name=HOSTILE, domain="[red]x[/]").save()
    database.close()
    for words in (["list", "organizations", "-o", output] for output in ("table", "yaml", "csv", "json")):
        out = vserver("-d", path, *words).out
        assert not {"\x1b", "\x07", "\u202e"} & set(out) and not re.search(r"(^|,)=cmd", out, re.MULTILINE)
        assert words[-1] == "csv" or not re.search(r"^root", out, re.MULTILINE)  # there it is in quotes
    for ended in (vserver("-d", path, "show", "organization", "3"), vserver("-d", path, "log")):
        assert not {"\x1b", "\x07", "\u202e"} & set(ended.out + ended.err)
    assert "[red]x[/]" in vserver("-d", path, "show", "organization", "3").out


# Backups


def test_a_restore_is_undone_by_the_line_that_it_prints(closed: Path, tmp_path: Path) -> None:
    code = "print([o.name for o in db.Organization.get()])"
    vserver("-d", closed, "backup", tmp_path / "monday.db")
    vserver("-d", closed, "shell", "-c", "db.Organization(name='new').save()")
    refused = process.vserver("-d", closed, "backup", tmp_path / "monday.db")
    assert refused.status == 1 and "exists already" in refused.err
    unasked = process.vserver("-d", closed, "restore", tmp_path / "monday.db")
    assert unasked.status != 0 and "new" in vserver("-d", closed, "shell", "-c", code).out
    output = vserver("-d", closed, "restore", tmp_path / "monday.db", "--yes")
    assert vserver("-d", closed, "shell", "-c", code).out == "['IKNL', 'Oslo']\n"
    (kept,) = re.findall(r"restore (\S+\.db)", output.err + output.out)
    vserver("-d", closed, "restore", kept.strip("'"), "--yes", cwd=closed.parent)
    assert vserver("-d", closed, "shell", "-c", code).out == "['IKNL', 'Oslo', 'new']\n"


def test_a_damaged_database_and_a_damaged_backup_are_refused(closed: Path, tmp_path: Path) -> None:
    vserver("-d", closed, "backup", tmp_path / "sound.db")
    for name, source in (("cut.db", 8192), ("scratched.db", None)):
        data = bytearray((tmp_path / "sound.db").read_bytes())
        data = data[:source] if source else data[:4096] + bytes(4096) + data[8192:]
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
        before = digest(closed)
        refused = process.vserver("-d", closed, "restore", tmp_path / name, "--yes")
        assert refused.status == 1 and len(refused.err.splitlines()) == 1 and digest(closed) == before
        damaged = process.vserver("-d", tmp_path / name, "backup", tmp_path / "never.db")
        assert damaged.status == 1 and not (tmp_path / "never.db").exists()


def test_an_older_database_is_upgraded_to_write_after_a_backup_and_read_as_a_copy(tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    older.write_bytes((vantage6_databases.DATA / "schema-1.sqlite").read_bytes())
    older.chmod(0o600)
    before = digest(older)
    vserver("-d", older, "list", "tasks")
    vserver("-d", older, "shell", "--sandbox", "-c", "1")
    assert digest(older) == before
    planned = vserver("-d", older, "upgrade", "--dry-run", cwd=tmp_path)
    assert planned.out + planned.err and digest(older) == before
    vserver("-d", older, "shell", "-c", "1", cwd=tmp_path)
    (kept,) = [file for file in tmp_path.iterdir() if file.suffix == ".db" and file != older]
    with contextlib.closing(sqlite3.connect(older)) as new, contextlib.closing(sqlite3.connect(kept)) as old:
        schema = "PRAGMA user_version"
        assert (old.execute(schema).fetchone(), new.execute(schema).fetchone()[0] > 1) == ((1,), True)


def test_a_delete_lists_its_dependents_and_undo_restores_them(closed: Path) -> None:
    refused = process.vserver("-d", closed, "delete", "task", "1", "--yes")
    assert refused.status == 1 and "2 results" in refused.err
    vserver("-d", closed, "delete", "task", "1", "--dependents", "--yes")
    assert json.loads(vserver("-d", closed, "list", "results", "-o", "json").out) == []
    vserver("-d", closed, "undo", "--yes")
    assert len(json.loads(vserver("-d", closed, "list", "results", "-o", "json").out)) == 2


# The table of these


def test_each_test_that_the_page_names_is_there() -> None:
    tests = Path(__file__).parent
    missing = [name for file, name in promises.named() if f"def {name}(" not in (tests / file).read_text()]
    assert len(promises.named()) > 50 and missing == []
