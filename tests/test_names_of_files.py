"""A database that has several names, or whose name leads elsewhere while it is open: nothing that is saved is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers import process
from helpers.terminal import environment
from test_faults import names

import models as db
from vserverlib import Error
from vserverlib.databases import backups, snapshots, storage

KINDS = ["sqlite"]  # it is about files


@pytest.fixture
def other(path: Path, tmp_path: Path) -> Path:
    """Another database of ours."""
    return storage.create(tmp_path / "other.db")


# Several names


@pytest.mark.parametrize(
    "words",
    [
        ("shell", "-c", "Organization(name='x').save()"),
        ("restore", "backup.db", "--yes"),
        ("import", "backup.db", "--merge", "--yes"),
        ("undo", "--yes"),
    ],
    ids=" ".join,
)
def test_a_database_with_two_names_is_not_written_to(path: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    backups.make(path, tmp_path / "backup.db")
    os.link(path, tmp_path / "second.db")
    before = path.read_bytes()
    done = process.vserver("-d", "second.db", *words, cwd=tmp_path)
    assert (done.status, done.out) == (1, ""), done
    line = "Error: second.db has 2 names (hard links: vserver.db), and cannot be written: "
    assert done.err.splitlines()[-1].startswith(line), done
    assert path.read_bytes() == before and not (tmp_path / "second.db-wal").exists()


def test_a_database_with_two_names_is_read_unless_it_is_open_by_the_other(path: Path, tmp_path: Path) -> None:
    os.link(path, tmp_path / "second.db")
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("INSERT INTO organization (name) VALUES ('seen')")
        conn.commit()
        done = process.vserver("-d", "second.db", "list", "organizations", cwd=tmp_path)
        assert done.status == 1 and "a program has it open, perhaps by another one" in done.err, done
    done = process.vserver("-d", "second.db", "list", "organizations", cwd=tmp_path)
    assert done.status == 0 and "seen" in done.out and {each.name for each in tmp_path.glob("*.db-*")} == set(), done


def test_the_remedy_for_two_names_works(path: Path, tmp_path: Path) -> None:
    os.link(path, tmp_path / "second.db")
    assert process.vserver("-d", "second.db", "backup", "NEW.db", cwd=tmp_path).status == 0
    assert process.vserver("-d", "NEW.db", "shell", "-c", "Organization(name='x').save()", cwd=tmp_path).status == 0
    (tmp_path / "second.db").unlink()
    assert process.vserver("shell", "-c", "Organization(name='x').save()", cwd=tmp_path).status == 0


def test_the_name_of_a_draft_that_a_killed_program_left_is_removed(path: Path, tmp_path: Path) -> None:
    """It was killed after it had put a new database in its place, and before it had removed the draft's name."""
    draft, users = tmp_path / ".vserver.db.abcd_123.new", tmp_path / ".vserver.db.notes.new"
    os.link(path, draft)
    users.write_text("a file of the user's, which is not the database")
    with closing(db.connect(path)):
        db.Organization(name="x").save()
    assert not draft.exists() and users.exists()


# Moved, removed or replaced while it is open


def move(path: Path, other: Path) -> None:
    path.rename(path.with_name("moved.db"))


def move_folder(path: Path, other: Path) -> None:
    path.parent.rename(path.parent.with_name(path.parent.name + "-moved"))


def remove(path: Path, other: Path) -> None:
    path.unlink()


def replace(path: Path, other: Path) -> None:
    os.replace(other, path)


def remove_and_copy(path: Path, other: Path) -> None:
    path.unlink()
    shutil.copy(other, path)


WAYS = [move, move_folder, remove, replace, remove_and_copy]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_saved_to_a_file_that_is_gone(path: Path, other: Path, way: Callable[[Path, Path], None]) -> None:
    """At the next save, and at the end of a transaction that had begun before."""
    with closing(db.connect(path)) as database:
        db.Organization(name="before").save()
        late = db.Organization(name="late")
        with pytest.raises(Error, match="nothing was saved; move it back, or open the new file"), database.atomic():
            late.save()
            way(path, other)
        assert late.id is None
        for act in (
            late.save,
            lambda: database.execute_sql("DELETE FROM organization"),
            lambda: database.execute_sql("INSERT INTO organization (name) VALUES ('x') RETURNING id").fetchall(),
            lambda: db.Organization.update(name="x").where(db.Organization.id == 1).execute(),
        ):
            with pytest.raises(
                Error, match="vserver.db was (moved or removed|replaced by another file) while it was open"
            ):
                act()


def test_a_backup_that_is_copied_over_an_open_file_is_noticed_and_stays_whole(path: Path, tmp_path: Path) -> None:
    """Cp writes into the same file: its log is not of what is in it then."""
    with closing(db.connect(path)):
        db.Organization(name="in the backup").save()
    backup = backups.make(path, tmp_path / "backup.db").path
    code = f"""
import shutil
Organization(name='later').save()
shutil.copyfile({str(backup)!r}, {str(path)!r})
try:
    Organization(name='lost').save()
except Exception as error:
    print(error)
"""
    done = process.vserver("-d", path, "shell", "-q", "-c", code)
    assert (
        done.out
        == "vserver.db was overwritten while it was open: nothing was saved; move it back, or open the new file\n"
    )
    assert "the log of the previous vserver.db is kept in " in done.err and done.err.count("\n") == 1, done
    assert names(path) == ["in the backup"] and path.read_bytes() == backup.read_bytes()
    assert process.vserver("-d", path, "check").status == process.vserver("-d", backup, "check").status
    with closing(db.connect(path)):
        db.Organization(name="goes on").save()
    assert names(path) == ["in the backup", "goes on"]


def changed_more(path: Path, other: Path) -> None:
    """Have a database count more changes than another."""
    with closing(sqlite3.connect(other)) as conn:
        for number in range(40):
            conn.execute(f"CREATE TABLE x{number} (y)")
            conn.execute(f"DROP TABLE x{number}")
        conn.execute("INSERT INTO organization (name) VALUES ('of the other')")
        conn.commit()
    assert int.from_bytes(other.read_bytes()[24:28]) > int.from_bytes(path.read_bytes()[24:28])


OVERWRITING = {
    "cp": "cp {other} {path}",
    "cat": "cat {other} > {path}",
    "dd": "dd if={other} of={path} conv=notrunc status=none",
    "cp -p": "cp -p {other} {path}",
}


@pytest.mark.parametrize("saves", ["Organization(name='lost').save()", "pass"], ids=["saves", "ends"])
@pytest.mark.parametrize("command", OVERWRITING.values(), ids=OVERWRITING)
@pytest.mark.parametrize("content", ["other", "newer", "equal"])
def test_a_file_with_as_many_changes_that_is_copied_over_an_open_one_is_noticed(
    path: Path, other: Path, content: str, command: str, saves: str
) -> None:
    """Another database, a later state of this one, and another that counts as many changes."""
    if content == "newer":
        shutil.copyfile(path, other)
    if content == "equal":
        assert int.from_bytes(other.read_bytes()[24:28]) == int.from_bytes(path.read_bytes()[24:28])
    else:
        changed_more(path, other)
    whole = other.read_bytes()
    code = f"""
import subprocess
Organization(name='before').save()
subprocess.run({command.format(other=other, path=path)!r}, shell=True, check=True)
try:
    {saves}
except Exception as error:
    print(error)
"""
    done = process.vserver("-d", path, "shell", "-q", "-c", code)
    if saves != "pass":
        refused = "nothing was saved; move it back, or open the new file"
        assert done.out == f"vserver.db was overwritten while it was open: {refused}\n", done
    assert "the log of the previous vserver.db is kept in " in done.err and done.err.count("\n") == 1, done
    assert path.read_bytes()[: len(whole)] == whole
    assert names(path) == names(other)


def test_a_new_time_of_a_file_is_not_taken_for_new_content(path: Path) -> None:
    with closing(db.connect(path)):
        db.Organization(name="x").save()
        os.utime(path)
        db.Organization(name="y").save()
    assert names(path) == ["x", "y"]


def test_checkpoints_of_other_processes_are_not_taken_for_overwriting(path: Path, tmp_path: Path) -> None:
    """Another process writes pages to the file all the time, while this one looks and saves."""
    code = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], timeout=60)
conn.execute("CREATE TABLE filled (x)")
for number in range(60):
    conn.execute("INSERT INTO filled VALUES (randomblob(40000))")
    conn.commit()
    conn.execute(f"PRAGMA wal_checkpoint({('PASSIVE', 'FULL', 'RESTART', 'TRUNCATE')[number % 4]})").fetchall()
"""
    with closing(db.connect(path)):
        with process.start([sys.executable, "-c", code, path]) as writer:
            count = 0
            while writer.poll() is None:
                db.Organization(name=str(count)).save()
                count += 1
        assert writer.returncode == 0
    assert len(names(path)) == count > 0


def test_a_checkpoint_while_this_session_looks_is_not_taken_for_overwriting(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = snapshots.Watch._log
    code = "import models, sys; models.connect(sys.argv[1]); models.Organization(name='second').save()\n"
    code += "assert models.database.execute_sql('PRAGMA wal_checkpoint(FULL)').fetchone()[0] == 0"

    def log_after_a_checkpoint(watch: snapshots.Watch) -> bytes | None:
        monkeypatch.undo()
        assert process.python("-c", f"import warnings; warnings.simplefilter('ignore')\n{code}", path).status == 0
        return log(watch)

    with closing(db.connect(path)):
        db.Organization(name="first").save()
        monkeypatch.setattr(snapshots.Watch, "_log", log_after_a_checkpoint)
        assert len(db.Organization.get()) == 2
        db.Organization(name="third").save()
    assert len(names(path)) == 3


@pytest.mark.parametrize("saves", ["Organization(name='lost').save()", "pass"], ids=["saves", "ends"])
@pytest.mark.parametrize("command", ["cp {other} n.db && mv n.db {path}", "rm {path}", "rm {path}; cp {other} {path}"])
def test_the_log_of_a_file_that_was_replaced_is_not_left_to_the_next_one(
    path: Path, other: Path, tmp_path: Path, command: str, saves: str
) -> None:
    changed_more(path, other)
    code = f"""
import subprocess
Organization(name='before').save()
subprocess.run({command.format(other=other, path=path)!r}, shell=True, check=True)
{saves}
"""
    done = process.vserver("-d", path, "shell", "-q", "-c", code, cwd=tmp_path)
    assert done.status == (saves != "pass"), done
    assert "the log of the previous vserver.db is kept in " in done.err, done
    assert ("nothing was saved" in done.err) == (saves != "pass"), done
    if not path.exists():
        shutil.copyfile(other, path)
    assert not {f"{path.name}-wal", f"{path.name}-shm"} & {each.name for each in tmp_path.iterdir()}
    assert names(path) == names(other)


def test_the_log_of_a_moved_file_stays_for_when_it_is_moved_back(path: Path) -> None:
    with closing(db.connect(path)):
        db.Organization(name="x").save()
        path.rename(path.with_name("moved.db"))
    path.with_name("moved.db").rename(path)
    assert names(path) == ["x"]


def test_the_log_of_a_file_that_was_replaced_stays_while_another_program_has_it_open(path: Path, other: Path) -> None:
    session = (
        "import sqlite3, sys; conn = sqlite3.connect(sys.argv[1]); conn.execute('SELECT * FROM setting').fetchall()"
    )
    session += "; print('open', flush=True); sys.stdin.read()"
    words, pipes = [sys.executable, "-c", session, str(path)], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with closing(db.connect(path)) as database:
        db.Organization(name="x").save()
        with subprocess.Popen(words, **pipes) as holder:  # type: ignore[call-overload]
            assert holder.stdout.readline() == b"open\n"
            replace(path, other)
            database.close()
            assert Path(f"{path}-wal").exists()


def test_what_other_programs_write_by_sqlite_is_not_taken_for_that(path: Path, tmp_path: Path) -> None:
    backup = backups.make(path, tmp_path / "backup.db").path
    with closing(db.connect(path)):
        for change in ("CREATE TABLE x (y)", "VACUUM", "DROP TABLE x", "PRAGMA wal_checkpoint(TRUNCATE)"):
            with closing(sqlite3.connect(path, timeout=30)) as conn:
                conn.execute(change).fetchall()
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            db.Organization(name=change).save()
        assert process.vserver("-d", path, "restore", backup, "--yes").status == 0
        db.Organization(name="after").save()
    assert names(path) == ["after"]


def test_a_transaction_by_hand_is_not_ended_in_a_file_that_was_replaced(path: Path, other: Path) -> None:
    with closing(db.connect(path)) as database:
        database.execute_sql("BEGIN")
        database.execute_sql("INSERT INTO organization (name) VALUES ('x')")
        replace(path, other)
        with pytest.raises(Error, match="was replaced by another file while it was open: nothing was saved"):
            database.execute_sql("COMMIT")
        database.execute_sql("ROLLBACK")
    assert names(path) == []


def test_saving_continues_when_the_file_is_moved_back(path: Path, other: Path) -> None:
    with closing(db.connect(path)):
        path.rename(path.with_name("moved.db"))
        with pytest.raises(Error, match="was moved or removed"):
            db.Organization(name="x").save()
        path.with_name("moved.db").rename(path)
        db.Organization(name="y").save()
    assert names(path) == ["y"]


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_reading_continues_and_says_so_once(path: Path, other: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    code = f"import os; os.replace({str(other)!r}, {str(path)!r})\nfor _ in range(3): print(len(db.Organization.get()))"
    done = process.vserver("-d", path, "shell", "-q", *options, "-c", code)
    assert (done.status, done.out, done.err.count("\n")) == (0, "0\n0\n0\n", 1), done
    assert "vserver.db was replaced by another file while it was open: the old data are shown" in done.err


def test_what_is_there_now_is_not_mixed_with_the_log_of_what_was(path: Path, other: Path, tmp_path: Path) -> None:
    """A program has the earlier file open, and its log: SQLite would take that for the log of the new file."""
    session = (
        "import sqlite3, sys\nconn = sqlite3.connect(sys.argv[1])\nconn.execute('DELETE FROM setting')\nconn.commit()"
    )
    session += "\nprint('open', flush=True)\nsys.stdin.read()\nconn.close()"
    words, pipes = [sys.executable, "-c", session, str(path)], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, env=environment(tmp_path)) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == b"open\n"
        assert process.vserver("-d", path, "list", "tasks").status == 0
        replace(path, other)
        for command in (("list", "tasks"), ("shell", "-c", "Organization(name='x').save()"), ("backup", "b.db")):
            done = process.vserver("-d", path, *command, cwd=tmp_path)
            assert (
                done.status == 1 and "was replaced while it was open: a program has the previous file open" in done.err
            ), done
    assert process.vserver("-d", path, "shell", "-c", "Organization(name='x').save()").status == 0
    assert names(path) == ["x"]


def test_a_link_leads_to_the_file_that_is_open(path: Path, other: Path, tmp_path: Path) -> None:
    """Where a link leads to is looked up when it is opened: another target is another file, which is opened anew."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with closing(db.connect(link)) as database:
        assert database.title == "link.db"
        link.unlink()
        link.symlink_to(other)
        db.Organization(name="x").save()
    assert (names(path), names(other)) == (["x"], [])
