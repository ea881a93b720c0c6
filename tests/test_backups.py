"""Backups and restoring: whole or not at all, of one moment, and nobody is left behind in a deleted file."""

from __future__ import annotations

import io
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers.terminal import Terminal, environment
from test_upgrades import hide_from_index

import models as db
import vserver
from vserverlib import Error, Locked
from vserverlib.databases import backups, connection, sqlite_connections, storage

NAMED = re.compile(r"vserver-\d{8}-\d{6}(-\d+)?\.db")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(vserver.main, words, prog_name="vserver")


def names(file: Path) -> list[str]:
    """Return the organizations that a database file holds."""
    with closing(sqlite3.connect(file)) as conn:
        return [name for (name,) in conn.execute("SELECT name FROM organization ORDER BY id")]


def restore(file: Path, path: Path) -> backups.Backup | None:
    with backups.verified(file, path) as draft:
        return backups.restore(path, draft)


def add(name: str) -> None:
    db.Organization(name=name).save()


def damage(file: Path) -> None:
    """Write over pages in the middle of a database: its header stays right."""
    with open(file, "r+b") as writer:
        writer.seek(4096 * 4)
        writer.write(b"\xff" * 4096 * 4)


def files_beside(path: Path) -> list[str]:
    """Return what lies beside the database, without what SQLite keeps there while it is open."""
    return sorted(file.name for file in path.parent.iterdir() if not file.name.startswith(path.name))


# Making one


def test_a_backup_is_complete_and_its_owners_alone(story: SimpleNamespace, path: Path) -> None:
    old = os.umask(0)
    try:
        made = backups.make(path)
    finally:
        os.umask(old)
    assert NAMED.fullmatch(made.path.name) and made.path.parent == path.parent
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600 and made.size == made.path.stat().st_size
    assert names(made.path) == ["IKNL", "Oslo"] and files_beside(path) == [made.path.name]
    assert names(path) == ["IKNL", "Oslo"]


def test_a_backup_can_be_opened_like_any_database(story: SimpleNamespace, path: Path) -> None:
    made = backups.make(path)
    with closing(db.connect(made.path)) as opened:
        assert db.Task.get(1).name == "average" and opened.pragma("journal_mode") == "wal"


def test_two_backups_in_one_second_have_two_names(story: SimpleNamespace, path: Path) -> None:
    made = {backups.make(path).path for _ in range(3)}
    assert len(made) == 3 and all(NAMED.fullmatch(each.name) for each in made)


def test_a_backup_is_of_one_moment_while_others_write(database: Any, path: Path, tmp_path: Path) -> None:
    """A transaction adds as many users as organizations; whoever sees another number has seen half of one."""
    code = (
        "import models\ndatabase = models.connect()\n"
        "n = 0\nwhile True:\n"
        "    with database.atomic():\n"
        "        models.Organization(name=str(n)).save()\n        models.User(username=str(n)).save()\n"
        "    n += 1\n    n == 5 and print('writing', flush=True)\n"
    )
    env = {"PYTHONPATH": str(Path(db.__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        made = [backups.make(path).path for _ in range(5)]
        writer.kill()
    found = []
    for each in made:
        with closing(sqlite3.connect(each)) as conn:
            both = conn.execute("SELECT (SELECT COUNT(*) FROM organization), COUNT(*) FROM user").fetchone()
            organizations, users = both
        assert organizations == users
        found.append(users)
    assert found == sorted(found) and found[-1] > found[0] >= 5


def test_a_backup_holds_up_no_writer(database: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*progress: int) -> None:
        if not len(db.Organization.get()):
            add("written meanwhile")

    monkeypatch.setattr(sqlite_connections, "PAGES_PER_STEP", 1)
    monkeypatch.setattr(sqlite_connections, "_check_during_copy", write)
    made = backups.make(path)
    assert names(path) == ["written meanwhile"] and names(made.path) == []


def test_a_backup_is_refused_onto_a_file_unless_forced(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    target.write_text("precious")
    with pytest.raises(Error, match=r"b\.db exists already: choose another name"):
        backups.make(path, target)
    assert target.read_text() == "precious"
    backups.make(path, target, force=True)
    assert names(target) == ["IKNL", "Oslo"]


def test_a_link_is_replaced_and_never_followed(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("somebody else's")
    link = tmp_path / "b.db"
    for target in ("theirs", "nowhere"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / target)
        with pytest.raises(Error, match="exists already"):
            backups.make(path, link)
        backups.make(path, link, force=True)
        assert not link.is_symlink() and names(link) == ["IKNL", "Oslo"]
    assert (tmp_path / "theirs").read_text() == "somebody else's" and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["vserver.db", "./vserver.db", "link.db", "hard.db", "vserver.db-wal"])
def test_the_database_itself_is_never_replaced(story: SimpleNamespace, path: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.db").symlink_to(path)
    os.link(path, tmp_path / "hard.db")
    with pytest.raises(Error, match="is the database itself, or belongs to it|exists already"):
        backups.make(path, tmp_path / name, force=True)
    (tmp_path / "hard.db").unlink()
    add("the session goes on")
    assert names(path)[-1] == "the session goes on"


def test_anything_but_a_file_is_never_replaced(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Error, match="pipe is .* regular file"):
        backups.make(path, tmp_path / "pipe", force=True)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_name_beside_which_a_log_was_left_is_refused(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    """SQLite would apply the log to the new file, whoever wrote it."""
    (tmp_path / "b.db-wal").write_bytes(b"frames of a database that was lost")
    for force in (False, True):
        with pytest.raises(Error, match=r"b\.db-wal is left over from another database"):
            backups.make(path, tmp_path / "b.db", force=force)
    with pytest.raises(Error, match=r"b\.db-wal is left over from another database"):
        storage.create(tmp_path / "b.db")
    assert files_beside(path) == ["b.db-wal"]


def test_a_folder_takes_a_backup_under_its_usual_name(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    made = backups.make(path, tmp_path / "backups")
    assert NAMED.fullmatch(made.path.name) and made.path.parent.name == "backups"


def test_a_damaged_database_is_not_backed_up_as_if_it_were_sound(
    story: SimpleNamespace, path: Path, database: Any
) -> None:
    database.close()
    damage(path)
    with pytest.raises(Error, match=r"vserver\.db is damaged|malformed"):
        backups.make(path)
    assert files_beside(path) == []


# By the command


def test_the_command_says_what_it_created_and_how_to_restore_it(story: SimpleNamespace, path: Path) -> None:
    result = run("backup")
    expected = r"created and checked (\S+), [\d,]+ bytes; restore it with: vserver restore \1\n"
    found = re.fullmatch(expected, result.stderr)
    assert found and (result.exit_code, result.stdout) == (0, "") and names(Path(found[1])) == ["IKNL", "Oslo"]
    result = run("-d", "my data.db", "backup")
    assert result.exit_code == 1 and "there is no database" in result.stderr


def test_the_command_writes_a_backup_to_a_pipe(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    result = run("backup", "-")
    assert result.exit_code == 0 and result.stderr == ""
    (tmp_path / "piped.db").write_bytes(result.stdout_bytes)
    assert names(tmp_path / "piped.db") == ["IKNL", "Oslo"] and files_beside(path) == ["piped.db"]


def test_a_pipe_that_nobody_reads_is_one_line(story: SimpleNamespace, path: Path) -> None:
    class Closed(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(Error, match=r"^the backup of .*vserver\.db was not read to its end: this is not"):
        backups.stream(path, Closed())  # type: ignore[arg-type]


def test_a_backup_is_not_written_to_a_terminal(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    terminal = Terminal([sys.executable, "-m", "vserver", "backup", "-"], environment(tmp_path))
    terminal.wait_for("Error: stdout is a terminal: name a file")
    assert terminal.leave() == 1 and "SQLite" not in terminal.raw


# Restoring


def test_restoring_brings_back_what_was_and_keeps_what_it_replaces(story: SimpleNamespace, path: Path) -> None:
    made = backups.make(path)
    story.task.delete(dependents=True)
    add("newer")
    kept = restore(made.path, path)
    assert kept is not None and kept.is_sound and NAMED.fullmatch(kept.path.name)
    assert names(path) == ["IKNL", "Oslo"] and names(kept.path) == ["IKNL", "Oslo", "newer"]
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert files_beside(path) == sorted([made.path.name, kept.path.name])
    restore(kept.path, path)
    assert names(path) == ["IKNL", "Oslo", "newer"]


def test_open_sessions_continue_with_the_restored_data(story: SimpleNamespace, path: Path) -> None:
    made = backups.make(path)
    add("newer")
    assert len(db.Organization.get()) == 3 and len(db.Task.get()) == 1
    inode = path.stat().st_ino
    restore(made.path, path)
    assert path.stat().st_ino == inode
    assert len(db.Organization.get()) == 2 and db.Task.get(1).progress == (0, 2)
    add("written after")
    assert names(path) == ["IKNL", "Oslo", "written after"]


def test_a_reader_sees_its_moment_until_it_has_finished(story: SimpleNamespace, path: Path) -> None:
    made = backups.make(path)
    add("newer")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        count = "SELECT COUNT(*) FROM organization"
        assert reader.execute(count).fetchone() == (3,)
        restore(made.path, path)
        assert reader.execute(count).fetchone() == (3,)
        reader.execute("COMMIT")
        assert reader.execute(count).fetchone() == (2,)


def test_nobody_writes_between_the_backup_that_is_kept_and_the_replacing(
    story: SimpleNamespace, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, keep = backups.make(path), backups.keep

    def keep_and_try_to_write(database: Path, *words: Any, **options: bool) -> None:
        keep(database, *words, **options)
        locked = pytest.raises(sqlite3.OperationalError, match="locked")
        with closing(sqlite3.connect(path, timeout=0)) as other, locked:
            other.execute("INSERT INTO organization (name) VALUES ('lost')")

    monkeypatch.setattr(backups, "keep", keep_and_try_to_write)
    add("newer")
    kept = restore(made.path, path)
    assert kept is not None and names(kept.path) == ["IKNL", "Oslo", "newer"] and names(path) == ["IKNL", "Oslo"]


def test_restoring_waits_for_a_writer_and_says_for_whom_when_it_gives_up(
    story: SimpleNamespace, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "LOCK_NOTICE", 0.0)
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", 0.3)
    made = backups.make(path)
    add("newer")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Error, match=r"vserver\.db is locked by"):
            restore(made.path, path)
        assert "which is writing to vserver.db" in capsys.readouterr().err
        other.execute("ROLLBACK")
    assert names(path) == ["IKNL", "Oslo", "newer"] and files_beside(path) == [made.path.name]


def test_a_log_of_what_was_replaced_is_not_applied_to_what_was_restored(
    story: SimpleNamespace, path: Path, tmp_path: Path
) -> None:
    """As after a crash: committed rows are in the log alone."""
    made = backups.make(path)
    add("in the log alone")
    crashed = tmp_path / "crashed.db"
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{crashed}{ending}")
    kept = restore(made.path, crashed)
    assert kept is not None and names(kept.path)[-1] == "in the log alone"
    assert names(crashed) == ["IKNL", "Oslo"]


def test_a_database_that_is_lost_is_restored_in_its_place(story: SimpleNamespace, path: Path, database: Any) -> None:
    made = backups.make(path)
    database.close()
    path.unlink()
    assert restore(made.path, path) is None
    assert names(path) == ["IKNL", "Oslo"] and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_database_is_replaced_and_kept_as_it_was(story: SimpleNamespace, path: Path, database: Any) -> None:
    made = backups.make(path)
    database.close()
    damage(path)
    kept = restore(made.path, path)
    assert kept is not None and not kept.is_sound and names(path) == ["IKNL", "Oslo"]
    damage(path)
    result = run("restore", made.path.name, "--yes")
    assert re.search(r"the previous data is in \S+, damaged as it was: restore would refuse it\n", result.stderr)


def test_a_definition_that_is_no_text_any_more_is_damage(story: SimpleNamespace, path: Path, database: Any) -> None:
    """SQLite's message quotes it, and Python cannot decode the message."""
    made = backups.make(path)
    database.close()
    content = path.read_bytes()
    at = content.index(b"CREATE TRIGGER")
    path.write_bytes(content[:at] + b"\xff" * 14 + content[at + 14 :])
    for words in (["list", "tasks"], ["check"], ["backup", "x.db"], ["restore", str(made.path), "--yes"]):
        done = run(*words)
        assert done.exit_code != 0 and isinstance(done.exception, SystemExit), words
        assert re.fullmatch(r"Error: vserver\.db is (too )?damaged.*\n", done.stderr), done.stderr


@pytest.mark.parametrize("table", ["", "organization", "sqlite_sequence"])
def test_no_id_is_given_again_even_if_the_database_was_damaged(
    story: SimpleNamespace, path: Path, database: Any, table: str
) -> None:
    made = backups.make(path)
    add("Bergen")
    (page,) = database.execute_sql("SELECT SUM(rootpage) FROM sqlite_master WHERE name = ?", [table]).fetchone()
    database.close()
    if table:
        with open(path, "r+b") as writer:
            writer.seek(4096 * (page - 1))
            writer.write(b"\xff" * 4096)
    restore(made.path, path)
    with closing(db.connect(path)):
        assert names(path) == ["IKNL", "Oslo"]
        add("Lyon")
        assert db.Organization.get_by_name("Lyon").id == 4


@pytest.mark.parametrize("headroom", [backups.HEADROOM, 0])
def test_rows_that_are_written_during_a_restore_count_too(
    story: SimpleNamespace, path: Path, database: Any, monkeypatch: pytest.MonkeyPatch, headroom: int
) -> None:
    made, raised = backups.make(path), backups._raise_last_ids

    def writing(*words: Any) -> None:
        raised(*words)
        add("Bergen")

    monkeypatch.setattr(backups, "_raise_last_ids", writing)
    monkeypatch.setattr(backups, "HEADROOM", headroom)
    before = files_beside(path)
    if not headroom:
        with pytest.raises(Locked, match="written by another program meanwhile: try again"):
            restore(made.path, path)
        assert names(path) == ["IKNL", "Oslo", "Bergen"] and files_beside(path) == before
        return
    restore(made.path, path)
    assert names(path) == ["IKNL", "Oslo"] and database.highest_id("organization") == 3
    add("Lyon")
    assert db.Organization.get_by_name("Lyon").id == 4


def test_a_database_that_is_not_ours_is_not_replaced(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    made = backups.make(path)
    other = tmp_path / "letter.txt"
    other.write_text("Dear Sir or Madam,")
    with pytest.raises(Error, match=r"letter\.txt is .* SQLite database"):
        restore(made.path, other)
    assert other.read_text() == "Dear Sir or Madam,"


def test_pages_of_another_size_are_accepted(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    made = backups.make(path)
    with closing(sqlite3.connect(made.path)) as conn:
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 1024", "VACUUM"):
            conn.execute(statement)
    add("newer")
    restore(made.path, path)
    assert names(path) == ["IKNL", "Oslo"] and db.Task.get(1).name == "average"


@pytest.mark.parametrize("content", [b"", b"Dear Sir or Madam,", b"SQLite format 3\0" + bytes(200)])
def test_a_file_that_is_not_a_backup_is_refused(
    story: SimpleNamespace, path: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "b.db").write_bytes(content)
    with pytest.raises(Error, match=r"b\.db (is (empty|not a SQLite database)|cannot be read: file is not a database)"):
        restore(tmp_path / "b.db", path)
    assert names(path) == ["IKNL", "Oslo"] and files_beside(path) == ["b.db"]


def test_a_damaged_or_newer_backup_is_refused(story: SimpleNamespace, path: Path, tmp_path: Path) -> None:
    damaged, newer = (backups.make(path, tmp_path / name).path for name in ("damaged.db", "newer.db"))
    damage(damaged)
    with closing(sqlite3.connect(newer)) as conn:
        conn.execute("PRAGMA user_version = 999")
    add("newer")
    with pytest.raises(Error, match=r"damaged\.db"):
        restore(damaged, path)
    with pytest.raises(Error, match="created by a newer vserver"):
        restore(newer, path)
    for file, message in ((path, "is the database itself"), (tmp_path / "none.db", "there is no file .*name a backup")):
        with pytest.raises(Error, match=message):
            restore(file, path)
    assert names(path)[-1] == "newer" and files_beside(path) == ["damaged.db", "newer.db"]


def test_the_backup_itself_is_not_changed_by_restoring_it(story: SimpleNamespace, path: Path) -> None:
    made = backups.make(path)
    before = made.path.read_bytes()
    add("newer")
    restore(made.path, path)
    assert made.path.read_bytes() == before


def test_the_command_needs_yes_without_a_terminal(story: SimpleNamespace, path: Path) -> None:
    made = backups.make(path)
    add("newer")
    result = run("restore", made.path.name)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and "--yes" in result.stderr
    assert names(path)[-1] == "newer"
    result = run("restore", made.path.name, "--yes")
    assert result.exit_code == 0 and result.stdout == "" and names(path) == ["IKNL", "Oslo"]
    back = re.search(r"the previous data is in (\S+); go back with: vserver restore \1\n", result.stderr)
    assert back and names(Path(back[1]))[-1] == "newer"


def test_at_a_terminal_restoring_asks_and_no_is_the_answer_that_is_assumed(
    story: SimpleNamespace, path: Path, tmp_path: Path
) -> None:
    made = backups.make(path)
    add("newer")
    for key, answer in (("\r", "nothing was changed"), ("y\r", "restored vserver.db from")):
        terminal = Terminal([sys.executable, "-m", "vserver", "restore", made.path.name], environment(tmp_path))
        terminal.wait_for(r"\[y/N\]: *\Z")
        assert names(path)[-1] == "newer"
        terminal.send(key)
        terminal.wait_for(answer)
        terminal.leave()
    assert names(path) == ["IKNL", "Oslo"]


@pytest.mark.parametrize("size", [5000, 40_000, 200_000])
def test_a_database_that_is_cut_off_is_not_written_into_and_the_remedy_works(
    story: SimpleNamespace, path: Path, database: Any, size: int
) -> None:
    made = backups.make(path).path
    database.close()
    os.truncate(path, size)
    before = path.read_bytes()
    with (
        backups.verified(made, path) as draft,
        pytest.raises(Error, match=r"vserver\.db is too damaged to be written to, .*: move it away, with .*-wal and"),
    ):
        backups.restore(path, draft)
    assert path.read_bytes() == before
    for file in path.parent.glob("vserver.db*"):
        file.rename(path.parent / f"away-{file.name}")
    with backups.verified(made, path) as draft:
        backups.restore(path, draft)
    with closing(db.connect(path)):
        assert len(db.Organization.get()) == 2


def test_a_backup_that_is_cut_off_is_refused_as_one(story: SimpleNamespace, path: Path) -> None:
    made = backups.make(path).path
    os.truncate(made, 40_000)
    with pytest.raises(Error, match=r"is cut off \(.*\): use an earlier backup"), backups.verified(made, path):
        pass


def test_a_copy_that_lacks_rows_is_not_a_backup(
    path: Path, tmp_path: Path, story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = backups._copy

    def losing(original: Path, draft: Path, *count: Any) -> Any:
        rows = copy(original, draft, *count)
        with closing(sqlite3.connect(draft)) as conn:
            conn.execute("DELETE FROM node")
            conn.commit()
        return rows

    monkeypatch.setattr(backups, "_copy", losing)
    with pytest.raises(Error, match="does not have all of its rows: nothing was changed; try again"):
        backups.make(path, tmp_path / "backup.db")
    assert not (tmp_path / "backup.db").exists()


def test_a_damaged_database_is_not_replaced_by_an_import(story: SimpleNamespace, path: Path, database: Any) -> None:
    shutil.copy(backups.make(path).path, "source.db")
    database.close()
    fault = hide_from_index(path)
    before = path.read_bytes()
    result = run("import", "--replace", "--yes", "source.db")
    expected = f"vserver.db is damaged ({fault}): its backup could not be restored, so nothing was imported; repair it"
    assert result.exit_code == 1 and f"{expected} (sqlite3 vserver.db REINDEX)" in result.stderr
    assert path.read_bytes() == before and len(list(path.parent.glob("vserver-*"))) == 1


def test_a_file_that_cannot_be_read_now_is_not_called_damaged(
    story: SimpleNamespace, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(conn: sqlite3.Connection) -> Any:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    monkeypatch.setattr(backups, "_count", fails)
    with pytest.raises(Error, match=r"disk I/O error") as raised:
        backups.make(path)
    assert "damaged" not in str(raised.value) and files_beside(path) == []
