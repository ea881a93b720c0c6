"""Looking at the database of a vantage6 server: what is seen, what is refused, and the copies that are kept."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from helpers import process, vantage6_databases
from helpers.process import start
from helpers.terminal import environment

import models as db
import vserver
from vserverlib import Error, api, hashing, home
from vserverlib.databases import snapshots, sqlite_headers, storage
from vserverlib.transfer import detection, importer, vantage6_snapshots

DATA = Path(__file__).parent / "data"
RELEASES = ("1.2.3", "2.3.5", "3.11.1", "4.15.2", "5.0.3")
NAME = "server.sqlite"
RENAMED = "UPDATE organization SET name = 'renamed' WHERE id = 1"
LOOKS = (
    ("list", "tasks"),
    ("show", "task", "1"),
    ("overview",),
    ("watch",),
    ("wait", "1"),
    ("delete", "task", "1", "--dry-run"),
    ("shell", "-c", "print(len(db.Task.get()))"),
    ("shell", "--read-only", "-c", "print(len(db.Task.get()))"),
    ("shell", "--sandbox", "-c", "print(len(db.Task.get()))"),
)
CHANGES = (
    ("passwd", "user1", "--stdin"),
    ("apikey", "7"),
    ("delete", "task", "1", "--yes"),
    ("undo", "--yes"),
    ("log", "--prune", "1d", "--yes"),
    ("upgrade",),
    ("backup", "copy.db"),
    ("demo", "--live"),
    ("restore", NAME, "--yes"),
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The database of a server, alone in the working directory."""
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield put("4.15.2")
    if db.database.obj is not None and not db.database.is_closed():
        db.database.close()
    assert not list((tmp_path / "temporary").iterdir())


def put(release: str, *statements: str) -> Path:
    """Put the database of a release in the working directory, with these statements run on it."""
    return vantage6_databases.copied(release, Path(NAME), statements)


def run(*words: str, file: str = NAME) -> Result:
    done = CliRunner().invoke(vserver.main, ["-d", file, *words], input="", prog_name="vserver")
    if db.database.obj is not None and not db.database.is_closed():
        db.database.close()
    return done


def copies() -> list[Path]:
    return sorted((home.folder() / "servers").glob("*"))


def state() -> dict[str, Any]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in Path().iterdir()}


# What is seen, and what is refused


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_is_listed_as_its_import_is(server: Path, release: str, quick_hashes: None) -> None:
    put(release)
    with detection.opened(NAME) as source:
        importer.run(source, Path("imported.db"))
    for entity in ("organizations", "users", "collaborations", "nodes", "tasks", "results"):
        looked, imported = (run("list", entity, "-o", "json", "--all", file=file) for file in (NAME, "imported.db"))
        assert json.loads(looked.stdout) == json.loads(imported.stdout) and json.loads(looked.stdout)
        assert looked.exit_code == 0
    assert f"{NAME} is the database of a vantage6 server, release {release[0]}: this is a read-only" in looked.stderr


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_what_only_reads_looks_says_so_in_a_line_and_leaves_no_trace(server: Path, words: tuple[str, ...]) -> None:
    before = state()
    for _ in range(2):
        done = run(*words)
        assert done.exit_code == 0 and (done.stdout or words[0] == "wait")
        output = [line for line in done.stderr.splitlines() if line.startswith(f"{NAME} is the database")]
        assert len(output) == 1 and f"(import it with: vserver -d NEW.db import {NAME})" in output[0]
        assert ("thrown away at the end" in output[0]) == ("--sandbox" in words)
        assert state() == before and len(copies()) == 1


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_what_writes_is_refused_with_what_to_do(server: Path, words: tuple[str, ...]) -> None:
    before = state()
    done = run(*words)
    assert done.exit_code == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    planned = words[0] in ("passwd", "apikey", "delete", "undo")
    line = f"-d {NAME} --write {' '.join(words)}" if planned else f"-d NEW.db import {NAME}"
    assert f"vserver {line}" in done.stderr
    assert state() == before and not copies()


def test_the_left_out_parts_are_summarized(server: Path) -> None:
    put(
        "4.15.2",
        "UPDATE task SET collaboration_id = 99 WHERE id = 1",
        'INSERT INTO "Member" VALUES (99, 1)',
        "CREATE TABLE extra AS SELECT 1 AS id",
    )
    for _ in range(2):
        assert "; left out: 1 row, 1 table, 3 columns, 1 broken link (import" in run("list", "tasks").stderr


def test_a_change_in_a_shell_without_options_is_refused_with_what_to_do(server: Path) -> None:
    done = run("shell", "-c", "db.Organization(name='x').save()")
    assert done.exit_code == 1
    assert (
        f"{NAME} is open read-only (not authorized): open it with --write (vserver -d {NAME} --write shell)"
        in done.stderr
    )


def test_a_sandbox_is_changed_and_nothing_else_is(server: Path) -> None:
    before = state()
    done = run("shell", "--sandbox", "-c", "db.Task.get(1).delete(dependents=True)")
    assert done.exit_code == 0 and "sandbox: would have deleted 1 task, 3 results" in done.stderr
    assert state() == before
    assert json.loads(run("show", "task", "1", "-o", "json").stdout)["id"] == 1


def test_a_copy_holds_no_secrets_but_that_there_are_some(server: Path) -> None:
    put("1.2.3")
    run("list", "users")
    secret = "SELECT password FROM user UNION SELECT api_key FROM node"
    with closing(sqlite_headers.immutable(copies()[0])) as conn:
        assert conn.execute(secret).fetchall() == [(hashing.UNKNOWN,)]
    assert not hashing.is_hash(hashing.UNKNOWN) and not hashing.matches("x", hashing.UNKNOWN)


def test_waiting_for_what_nobody_can_finish_ends_at_once(server: Path) -> None:
    done = run("wait", "2")
    assert done.exit_code == 3 and "to which nobody else writes: waiting would not help" in done.stderr


def test_the_last_check_is_remembered_of_the_file_that_was_named(server: Path) -> None:
    assert run("check").exit_code == 1
    assert json.loads(run("overview", "-o", "json").stdout)["check"]["error"] == 13
    shutil.copy(NAME, "other.sqlite")
    assert json.loads(run("overview", "-o", "json", file="other.sqlite").stdout)["check"] is None


def test_a_session_of_python_opens_it_for_reading_and_another_database_after_it(server: Path, path: Path) -> None:
    looked = api.connect(NAME, read_only=True)
    assert (looked.title, looked.mode, db.Task.get().count()) == (NAME, "read-only", 12)
    assert api.connect(NAME, read_only=True) is not looked and looked.is_closed()
    with pytest.raises(Error, match="is the database of a vantage6 server"):
        api.connect(NAME)
    assert db.connect(path).title == path.name and db.Task.get().count() == 0


# Copies


def test_copies_are_for_their_owner_alone(server: Path) -> None:
    before = os.umask(0)
    try:
        run("list", "tasks")
    finally:
        os.umask(before)
    (file,) = copies()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_second_view_imports_nothing_and_does_not_read_the_file(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("list", "tasks")
    monkeypatch.delattr(importer, "run")
    monkeypatch.delattr(snapshots, "copied")
    assert run("list", "tasks").exit_code == 0


def test_a_copy_of_the_file_is_another_source(server: Path) -> None:
    run("list", "tasks")
    shutil.copy2(NAME, "other.sqlite")
    assert run("list", "tasks", file="other.sqlite").exit_code == 0 and len(copies()) == 2


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_what_was_written_since_is_seen_whatever_the_time_of_the_file_says(server: Path, mode: str) -> None:
    put("4.15.2", f"PRAGMA journal_mode = {mode}")
    assert "renamed" not in run("list", "organizations").stdout
    times = (os.stat(NAME).st_atime_ns, os.stat(NAME).st_mtime_ns)
    with closing(sqlite3.connect(NAME)) as conn:
        conn.execute(RENAMED)
        conn.commit()
        os.utime(NAME, ns=times)
        assert "renamed" in run("list", "organizations").stdout


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_each_of_many_changes_of_the_same_size_is_seen_at_once(server: Path, mode: str) -> None:
    """Several come within a tick of the clock; the log is written from its beginning again and again."""
    put("4.15.2", f"PRAGMA journal_mode = {mode}")
    with closing(sqlite3.connect(NAME)) as conn:
        conn.execute("PRAGMA wal_autocheckpoint = 1")
        for number in range(10, 22):
            conn.execute("UPDATE organization SET name = ? WHERE id = 1", [f"renamed {number}"])
            conn.commit()
            assert f"renamed {number}" in run("list", "organizations").stdout
            assert f"renamed {number}" in run("list", "organizations").stdout


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_seen(server: Path) -> None:
    assert "renamed" not in run("list", "organizations").stdout
    found = os.stat(NAME)
    vantage6_databases.copied("4.15.2", Path("other.sqlite"), [RENAMED])
    os.utime("other.sqlite", ns=(found.st_atime_ns, found.st_mtime_ns))
    assert os.stat("other.sqlite").st_size == found.st_size
    os.replace("other.sqlite", NAME)
    assert "renamed" in run("list", "organizations").stdout


def test_a_copy_of_a_file_that_changes_all_the_time_is_not_kept(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "FINE", 3600.0)
    monkeypatch.setattr(snapshots.time, "sleep", lambda seconds: None)
    assert run("list", "tasks").exit_code == 0 and not copies()


def damage(file: Path, at: int, data: bytes | None) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:at] if data is None else whole[:at] + data + whole[at + len(data) :])


@pytest.mark.parametrize(("at", "data"), [(0, None), (50_000, None), (0, b"x" * 99)])
def test_a_damaged_copy_is_created_again(server: Path, at: int, data: bytes | None) -> None:
    before = run("list", "tasks").stdout
    damage(copies()[0], at, data)
    assert run("list", "tasks").stdout == before and len(copies()) == 1


def test_the_copies_that_were_viewed_last_are_kept(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vantage6_snapshots, "KEPT", 2)
    for number, release in enumerate(RELEASES[:3]):
        vantage6_databases.copied(release, Path(f"{number}.sqlite"))
    run("list", "tasks", file="0.sqlite")
    (first,) = copies()
    os.utime(first, (1, 1))
    run("list", "tasks", file="1.sqlite")
    (second,) = set(copies()) - {first}
    os.utime(second, (2, 2))
    run("list", "tasks", file="0.sqlite")
    run("list", "tasks", file="2.sqlite")
    assert len(copies()) == 2 and first in copies() and second not in copies()


def test_what_was_left_by_those_who_were_killed_is_removed(server: Path) -> None:
    draft = home.own_folder(home.folder() / "servers") / f"{vantage6_snapshots.DRAFT}abcd_123"
    draft.mkdir(mode=0o700)
    (draft / vantage6_snapshots.COPY).touch()
    os.utime(draft, (1, 1))
    run("list", "tasks")
    assert not draft.exists() and len(copies()) == 1


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_files_of_the_user_in_the_folder_of_copies_are_left_alone(server: Path, tmp_path: Path, mode: int) -> None:
    """Also those that are called like ours, and those that are databases of ours but are not called like a copy."""
    folder = tmp_path / "mine" / "servers"
    (folder / f"{vantage6_snapshots.DRAFT}abcd_123").mkdir(parents=True)
    (folder / f"{vantage6_snapshots.DRAFT}notes").mkdir()
    folder.chmod(mode)
    users = [folder / f"{number}.db" for number in range(vantage6_snapshots.KEPT + 4)]
    users += [folder / f"{number:032x}.db" for number in range(vantage6_snapshots.KEPT + 4)]
    users += [folder / f"{vantage6_snapshots.DRAFT}{name}" / "text" for name in ("abcd_123", "notes")]
    for file in users:
        file.write_text("the user's")
        os.utime(file, (1, 1))
        os.utime(file.parent, (1, 1))
    users += [folder / "ours.db", folder / f"{'B' * 32}.db"]
    for file in users[-2:]:
        storage.create(file)
        os.utime(file, (1, 1))
    os.utime(folder / f"{vantage6_snapshots.DRAFT}abcd_123", (1, 1))
    for _ in range(2):
        assert process.vserver("-d", NAME, "list", "tasks", VSERVER_HOME=str(folder.parent)).status == 0
    assert [file for file in users if not file.exists()] == []
    kept = [file for file in folder.iterdir() if file not in users and file.suffix == ".db"]
    assert len(kept) == (1 if mode == 0o700 else 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="a link of another user takes root's rights")
@pytest.mark.parametrize("owner", [0, 65534])
def test_a_link_in_the_place_of_the_folder_of_copies_is_not_followed(server: Path, tmp_path: Path, owner: int) -> None:
    target = home.own_folder(tmp_path / "target")
    note = target / "1.db"
    note.write_text("another user's")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "servers").symlink_to(target)
    os.lchown(tmp_path / "mine" / "servers", owner, owner)
    done = process.vserver("-d", NAME, "list", "tasks", VSERVER_HOME=str(tmp_path / "mine"))
    assert done.status == 0 and "task 5" in done.out and list(target.iterdir()) == [note], done


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder of another user takes root's rights")
def test_copies_in_a_folder_of_another_user_are_not_believed(server: Path) -> None:
    before = run("list", "organizations").stdout
    (copy,) = copies()
    with closing(sqlite3.connect(copy)) as conn:
        conn.execute(RENAMED)
        conn.commit()
    assert "renamed" in run("list", "organizations").stdout
    os.chown(copy.parent, 65534, 65534)
    assert run("list", "organizations").stdout == before


def test_an_import_that_fails_leaves_nothing(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vantage6_snapshots, "_finish", fail)
    assert run("list", "tasks").exit_code == 130 and not copies()


def test_where_no_copy_can_be_kept_it_is_made_for_the_session(server: Path) -> None:
    home.folder().parent.mkdir(parents=True)
    home.folder().write_text("a file, where a folder should be")
    done = run("list", "tasks")
    assert done.exit_code == 0 and "task 5" in done.stdout


def test_a_server_that_writes_meanwhile_is_viewed_as_it_was_and_then_as_it_is(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = detection.opened

    @contextmanager
    def written(name: str) -> Iterator[Any]:
        put("4.15.2", RENAMED)
        with opened(name) as source:
            yield source

    with monkeypatch.context() as patched:
        patched.setattr(detection, "opened", written)
        assert "renamed" in run("list", "organizations").stdout and not copies()
    put("4.15.2")
    assert "renamed" not in run("list", "organizations").stdout and len(copies()) == 1


def test_several_that_look_at_once_all_see_it_and_what_they_keep_is_sound(server: Path) -> None:
    words = [sys.executable, "-m", "vserver", "-d", NAME, "list", "tasks", "-o", "name", "--all"]
    env = environment(Path(os.environ["HOME"]), XDG_DATA_HOME=os.environ["XDG_DATA_HOME"])
    started = [start(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    done = [process.communicate()[0] for process in started]
    assert {process.returncode for process in started} == {0} and len(set(done)) == 1 and done[0].count(b"\n") == 12
    assert copies() and all(map(vantage6_snapshots._is_sound, copies()))


# Tab


def offered(*words: str) -> list[str]:
    found = ShellComplete(vserver.main, {}, "vserver", "_X").get_completions(["-d", NAME, *words], "")
    return [item.value for item in found]


def test_tab_offers_what_was_looked_at_and_imports_nothing(server: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert offered("wait") == [] and not copies()
    run("list", "tasks")
    assert "task 5" in offered("wait") and "12" in offered("wait")
    assert capfd.readouterr() == ("", "")
    put("4.15.2", RENAMED)
    assert offered("wait") == []
