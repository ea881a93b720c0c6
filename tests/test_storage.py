"""Database files: making one, refusing what is none of ours, and the three modes of opening."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import process
from helpers.file_rights import as_nobody, close_folder

import models as db
from vserverlib import Error
from vserverlib.databases import connecting, sandbox_diff, schemas, storage

DATA = Path(__file__).parent / "data"


def digest(path: Path) -> str:
    """Return a fingerprint of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Making one


def test_a_new_database_is_ours_and_its_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = storage.create(tmp_path / "new.db")
    finally:
        os.umask(old)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    with sqlite3.connect(made) as conn:
        assert conn.execute("PRAGMA application_id").fetchone() == (storage.APPLICATION_ID,)
        assert conn.execute("PRAGMA user_version").fetchone() == (schemas.NEWEST,)
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    conn.close()
    assert [file.name for file in tmp_path.iterdir()] == ["new.db"]


def test_migrations_are_numbered_without_a_gap_up_to_the_schema() -> None:
    numbers = [int(file.name[:4]) for file in schemas.MIGRATIONS.glob("[0-9]*.py")]
    assert sorted(numbers) == list(range(1, schemas.NEWEST + 1))


def test_a_new_database_is_what_all_migrations_make() -> None:
    assert (schemas.MIGRATIONS / schemas.SNAPSHOT).read_text() == schemas.snapshot(), "run: make schema"


def test_create_refuses_what_is_there(path: Path, tmp_path: Path) -> None:
    before = digest(path)
    with pytest.raises(Error, match="exists already"):
        storage.create(path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Error, match="exists already"):
        storage.create(tmp_path / "link")
    assert digest(path) == before and not (tmp_path / "nowhere").exists()


def test_create_needs_a_folder_that_can_be_written(tmp_path: Path, closed_folder: Path) -> None:
    with pytest.raises(Error, match="the folder .* does not exist"):
        storage.create(tmp_path / "no" / "such.db")
    close_folder(closed_folder)
    with as_nobody(), pytest.raises(Error, match="cannot be created: Permission denied"):
        storage.create(closed_folder / "new.db")


def test_two_that_make_the_same_database_at_once_do_not_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, fill = tmp_path / "new.db", storage.write_new

    def fill_late(file: Path, *options: Any) -> None:
        fill(file, *options)
        target.write_text("made by another process")

    monkeypatch.setattr(storage, "write_new", fill_late)
    with pytest.raises(Error, match="exists already"):
        storage.create(target)
    assert target.read_text() == "made by another process" and len(list(tmp_path.iterdir())) == 1


# Refusing


def test_a_path_that_does_not_exist_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Error, match=r"^there is no database vserver\.db: create it with: vserver init$"):
        db.connect()
    with pytest.raises(Error, match=r"create it with: vserver -d other\.db init$"):
        db.connect("other.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: remove it"),
        (b"PK\x03\x04 a zip or so", "SQLite database"),
        (os.urandom(8192), r"SQLite database \(or an encrypted one\)"),
        (b"SQLite format 3\0", "SQLite database"),
        (b"PGDMP\x01\x0e\0", "is a dump of .* pg_restore"),
        (b"--\n-- PostgreSQL database dump\n--\n", "is a dump of .* its URL"),
    ],
)
def test_a_file_that_is_not_a_database_is_refused_untouched(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "file.db"
    file.write_bytes(content)
    for options in ({}, {"read_only": True}, {"sandbox": True}):
        with pytest.raises(Error, match=message):
            db.connect(file, **options)
    assert file.read_bytes() == content and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("release", ["1.2.3", "2.3.5", "3.11.1", "4.15.2"])
def test_the_database_of_a_vantage6_server_is_named_and_not_touched(tmp_path: Path, release: str) -> None:
    file = tmp_path / "server.sqlite"
    shutil.copy(DATA / f"v{release}.sqlite", file)
    before = digest(file)
    with pytest.raises(Error, match="is the database of a vantage6 server.*import .*server.sqlite.*nothing was"):
        db.connect(file)
    assert digest(file) == before and len(list(tmp_path.iterdir())) == 1


def test_the_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    file = tmp_path / "places.sqlite"
    with sqlite3.connect(file) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("CREATE TABLE places (id INTEGER)")
    conn.close()
    before = digest(file)
    with pytest.raises(Error, match="is a SQLite database of another program: nothing was changed"):
        db.connect(file)
    assert digest(file) == before and len(list(tmp_path.iterdir())) == 1


def test_a_newer_schema_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as conn:
        conn.execute("PRAGMA user_version = 999")
    conn.close()
    output = rf"created by a newer vserver \(schema 999, this release knows {schemas.NEWEST}\): upgrade vserver"
    with pytest.raises(Error, match=output):
        db.connect(path)


def test_a_file_that_is_cut_off_is_refused(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, size - 4096)
    with pytest.raises(Error, match=r"is cut off \(.* bytes\): use an earlier backup"):
        db.connect(path)
    assert path.stat().st_size == size - 4096


def test_folders_and_unreadable_files_are_refused(path: Path, tmp_path: Path, closed_folder: Path) -> None:
    with pytest.raises(Error, match="is a folder: name the file"):
        db.connect(tmp_path)
    with pytest.raises(Error, match="regular file"):
        db.connect("/dev/null")
    shutil.copy(path, closed_folder / "secret.db")
    (closed_folder / "secret.db").chmod(0o000)
    with as_nobody(), pytest.raises(Error, match="cannot be read: Permission denied"):
        db.connect(closed_folder / "secret.db")
    with pytest.raises(Error, match="NUL"):
        db.connect("a\0b")


@pytest.mark.parametrize("url", ["mysql://root@localhost/x", "http://example.org/x", ""])
def test_urls_of_no_database_of_ours_are_refused(url: str) -> None:
    with pytest.raises(Error, match="use a path|path of a file"):
        db.connect(url)


def test_a_url_of_a_server_never_shows_its_password() -> None:
    with pytest.raises(Error) as raised:
        db.connect("postgresql://admin:Geheim-123@db.example/vserver")
    assert "Geheim" not in str(raised.value) and "postgresql://admin@db.example/vserver" in str(raised.value)


def test_without_psycopg_a_url_of_a_server_is_a_line_with_the_package_to_install() -> None:
    code = "import sys, vserver; sys.modules['psycopg'] = None; vserver.main(['-d', 'postgresql:///x', 'overview'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
    message = "PostgreSQL needs psycopg, which is not installed: pip install 'psycopg[binary]'"
    assert (ended.returncode, ended.stderr) == (1, f"Error: {message}\n")


def test_a_sqlite_url_is_a_path(path: Path) -> None:
    assert db.connect(f"sqlite:///{path}").path == path


def test_a_failed_connect_leaves_the_open_database_open(database: Any, tmp_path: Path) -> None:
    with pytest.raises(Error):
        db.connect(tmp_path / "missing.db")
    db.Organization(name="still here").save()


def test_connecting_to_another_database_closes_the_first(database: Any, tmp_path: Path) -> None:
    db.Organization(name="in the first").save()
    other = db.connect(storage.create(tmp_path / "other.db"))
    assert database.is_closed() and len(db.Organization.get()) == 0
    other.close()


def test_opening_a_database_twice_keeps_its_locks(database: Any, path: Path) -> None:
    """A file opened and closed beside SQLite would end the process's locks on it."""
    with database.atomic():
        db.Organization(name="mine").save()
        storage.check(path)
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_a_folder_that_cannot_be_written_offers_read_only(path: Path, closed_folder: Path) -> None:
    shutil.copy(path, closed_folder / "vserver.db")
    close_folder(closed_folder)
    with as_nobody(), pytest.raises(Error, match="cannot be written: read it with list, show, or shell --read-only"):
        db.connect(closed_folder / "vserver.db")


# Read-only


@pytest.fixture
def read_only(story: SimpleNamespace, database: Any, path: Path) -> Iterator[Any]:
    """The story's database, opened read-only."""
    db.User(username="root", password="Geheim-123!", organization=story.iknl).save()
    story.node.api_key = "5e1a7c1e-0000-4000-8000-00000000c0de"
    story.node.save()
    opened = db.connect(path, read_only=True)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE organization SET name = 'x'",
        "DELETE FROM organization",
        "INSERT INTO organization (name) VALUES ('x')",
        "DROP TABLE organization",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "ATTACH ':memory:' AS other",
        "VACUUM",
        "VACUUM INTO '/tmp/never-made.db'",
        "PRAGMA query_only = 0",
        "PRAGMA writable_schema = 1",
        "PRAGMA user_version = 7",
        "SELECT load_extension('x')",
    ],
)
def test_read_only_is_enforced_by_sqlite(read_only: Any, path: Path, sql: str) -> None:
    before = digest(path)
    with pytest.raises(Error, match="vserver.db is open read-only .*: open it without --read-only to change it"):
        read_only.execute_sql(sql)
    assert digest(path) == before


READS = (
    "SELECT value FROM json_each('[1,2]')",
    "SELECT count(*) FROM json_tree('[1]')",
    "PRAGMA table_info(user)",
    "PRAGMA TABLE_INFO = user",
    "SELECT name FROM pragma_table_info('user')",
    "SELECT m.name, i.name FROM sqlite_master AS m, pragma_index_list(m.name) AS i",
    "PRAGMA table_list",
    "PRAGMA index_xinfo(user_username)",
    "PRAGMA database_list",
    "PRAGMA compile_options",
    "PRAGMA page_count",
    "PRAGMA encoding",
    "PRAGMA main.user_version",
    "PRAGMA journal_mode",
    "PRAGMA quick_check",
)
HASHES = (
    "SELECT j.value FROM user, json_each(json_array(user.password)) AS j",
    "SELECT value FROM json_each((SELECT json_group_array(api_key) FROM node))",
    "SELECT value FROM json_tree((SELECT json_group_object(username, password) FROM user)) WHERE atom IS NOT NULL",
)
REFUSED = {
    "SELECT * FROM dbstat": "dbstat is not available there: use a private copy, shell --sandbox",
    "SELECT data FROM sqlite_dbpage": "no such table|sqlite_dbpage is not available there",
    "PRAGMA optimize": "PRAGMA optimize is not available there: use a private copy, shell --sandbox",
    "PRAGMA wal_checkpoint": "PRAGMA wal_checkpoint is not available there",
    "PRAGMA user_version = 3": "open it without --read-only to change it",
    "PRAGMA journal_mode = DELETE": "open it without --read-only to change it",
    "UPDATE sqlite_master SET sql = 'x'": "may not be modified",
    "DELETE FROM sqlite_master": "may not be modified|open it without --read-only",
    "CREATE VIRTUAL TABLE x USING fts5(a)": "open it without --read-only to change it",
    "ALTER TABLE user RENAME TO people": "open it without --read-only to change it",
}


@pytest.mark.parametrize("way", ["-c", "script"])
def test_what_only_reads_is_allowed_read_only_and_shows_no_hash(
    read_only: Any, path: Path, tmp_path: Path, way: str
) -> None:
    read_only.close()
    print_all = "print(list(database.execute_sql({!r})))"
    snippets = {sql: print_all.format(sql) for sql in (*READS, *HASHES, *REFUSED)}
    found = process.answers(snippets, path, tmp_path, "--read-only", way=way)
    assert {
        sql: found[sql] for sql in READS if "Error" in found[sql] or "ReadOnly" in found[sql] or found[sql] == "[]\n"
    } == {}
    assert all(re.search(message, found[sql]) for sql, message in REFUSED.items()), found
    if way == "script":  # the models are imported before the database is opened
        assert "$2b$" not in "".join(found.values())


def test_read_only_refuses_saves_and_the_session_continues(read_only: Any) -> None:
    with pytest.raises(Error, match="read-only"):
        db.Organization(name="x").save()
    with pytest.raises(Error, match="read-only"):
        db.Task.next_run_id()
    with pytest.raises(Error, match="read-only"):
        db.Node.get(1).delete()
    assert [task.complete for task in db.Task.get()] == [False]


def test_read_only_shows_no_hash(read_only: Any) -> None:
    assert db.User.get(1).password is None and db.Node.get(1).api_key is None
    for sql in (
        "SELECT password FROM user",
        "SELECT api_key FROM node",
        "SELECT max(password) FROM user",
        "SELECT u.password FROM (SELECT * FROM user) AS u",
    ):
        assert read_only.execute_sql(sql).fetchone() == (None,)
    for ask in (lambda: db.User.get(1).check_password("x"), lambda: db.Node.get_by_api_key("x")):
        with pytest.raises(Error, match="is not available here: vserver.db is open read-only"):
            ask()


def test_read_only_leaves_nothing_behind(story: SimpleNamespace, database: Any, path: Path) -> None:
    database.close()
    before = digest(path)
    opened = db.connect(path, read_only=True)
    assert len(db.Task.get()) == 1
    opened.close()
    assert digest(path) == before and [file.name for file in path.parent.iterdir()] == [path.name]


def test_read_only_sees_what_others_write_meanwhile(story: SimpleNamespace, database: Any, path: Path) -> None:
    database.close()
    opened = db.connect(path, read_only=True)
    assert len(db.Organization.get()) == 2
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO organization (name) VALUES ('third')")
    other.close()
    assert len(db.Organization.get()) == 3
    opened.close()


@pytest.mark.parametrize("log", [True, False])
def test_read_only_opens_in_a_folder_that_cannot_be_written(
    story: SimpleNamespace, database: Any, path: Path, closed_folder: Path, log: bool
) -> None:
    """With a log: committed rows are in vserver.db-wal alone, as after a crash."""
    if not log:
        database.close()
    for file in path.parent.glob("vserver.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, closed_folder)
    assert (closed_folder / "vserver.db-wal").exists() == log
    close_folder(closed_folder)
    before = {file.name: digest(file) for file in closed_folder.iterdir()}
    with as_nobody():
        opened = db.connect(closed_folder / "vserver.db", read_only=True)
        assert [each.name for each in db.Organization.get()] == ["IKNL", "Oslo"]
        opened.close()
    assert {file.name: digest(file) for file in closed_folder.iterdir()} == before


# Sandbox


def test_a_sandbox_changes_nothing_and_reports_what_would_have_changed(
    story: SimpleNamespace, database: Any, path: Path
) -> None:
    database.close()
    before = digest(path)
    sandbox = db.connect(path, sandbox=True)
    folder = Path(sandbox.database).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    db.Organization(name="third").save()
    fourth = db.Organization(name="made and deleted")
    fourth.save()
    fourth.delete()
    iknl = db.Organization.get(1)
    iknl.name = "renamed"
    iknl.save()
    db.Task.get(1).delete(dependents=True)
    assert sandbox_diff.report(sandbox) == [("organization", 1, 1, 0), ("task", 0, 0, 1), ("result", 0, 0, 2)]
    sandbox.close()
    assert digest(path) == before and not folder.exists()


def test_a_sandbox_takes_committed_rows_along_and_reports_nothing_at_first(
    story: SimpleNamespace, database: Any, path: Path
) -> None:
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT COUNT(*) FROM organization").fetchone() == (2,)
        sandbox = db.connect(path, sandbox=True)
        assert len(db.Organization.get()) == 2 and sandbox_diff.report(sandbox) == []
        sandbox.close()
    other.close()


def test_a_suggested_command_can_be_typed_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "it's & mine.db"
    for _ in range(2):
        with pytest.raises(Error) as output:
            connecting.connect(path)
        assert shlex.split(str(output.value).partition("with: ")[2]) == ["vserver", "-d", str(path), "init"]
        path.touch()
