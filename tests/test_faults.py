"""Faults of the machine: a full disk, a folder that cannot be written, a process that is killed at any moment.

Each is one clear line, leaves nothing half-written, and the session goes on. The tests that kill are marked `long`:
`pytest -m long` runs them, as often as VSERVER_REPETITIONS says.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.file_rights import as_nobody, close_folder
from helpers.terminal import environment
from test_undoing import tables

import models as db
from vserverlib import Error
from vserverlib.databases import backups, schemas, upgrades
from vserverlib.entities.undoing import undo
from vserverlib.examples import demo
from vserverlib.queries import inspection

KINDS = ["sqlite"]  # it is about files

REPETITIONS = int(os.environ.get("VSERVER_REPETITIONS", "20"))
LONGEST_LIFE = 0.2  # seconds until a process is killed, at most
MORE = (
    "from peewee import *\n\n"
    "def up(migrator, db):\n"
    '    migrator.migrate(migrator.add_column("organization", "motto", TextField(default="together")))\n'
)


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names(file: Path) -> list[str]:
    """Return the organizations of a database, which must be sound."""
    with closing(sqlite3.connect(file)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        return [name for (name,) in conn.execute("SELECT name FROM organization ORDER BY id")]


def files_beside(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir() if file.is_file()} - {path.name, f"{path}-wal", f"{path}-shm"}


# A full disk


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Have no file of this process grow beyond a size, until 0 is given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python would keep half of a compiled module

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size or soft, hard))

    yield limit
    limit(0)


def test_a_save_that_finds_the_disk_full_changes_nothing_and_the_session_continues(
    story: SimpleNamespace, path: Path, full_disk: Callable[[int], None]
) -> None:
    organization = db.Organization(name="x" * 500_000)
    full_disk(path.stat().st_size + 100_000)
    with pytest.raises(
        Error, match=r"^vserver\.db could not be written \(.*\): nothing was changed; free some disk space$"
    ):
        organization.save()
    assert organization.id is None and len(db.Organization.get()) == 2
    full_disk(0)
    organization.save()
    assert names(path)[2] == organization.name


def test_a_save_within_a_transaction_reports_the_full_disk_too(
    story: SimpleNamespace, path: Path, database: Any, full_disk: Callable[[int], None]
) -> None:
    """SQLite has then rolled back the transaction, and with it the savepoint that was to be rolled back."""
    first, second = db.Organization(name="first"), db.Organization(name="x" * 5_000_000)
    database.execute_sql("PRAGMA cache_size = 10")  # has the disk be written to before the end
    full_disk(path.stat().st_size + 100_000)
    with (
        pytest.raises(Error, match=r"could not be written .*: nothing was changed; free some disk space"),
        database.atomic(),
    ):
        first.save()
        second.save()
    full_disk(0)
    assert first.id is None and second.id is None and len(db.Organization.get()) == 2
    first.save()
    assert names(path) == ["IKNL", "Oslo", "first"]


def test_a_backup_that_finds_the_disk_full_leaves_nothing(
    story: SimpleNamespace, path: Path, database: Any, full_disk: Callable[[int], None]
) -> None:
    before = files_beside(path)
    full_disk(60_000)
    for make in (lambda: backups.make(path), lambda: backups.make(path, Path("b.db")), lambda: backups.keep(path, [])):
        with pytest.raises(Error, match=r"cannot be created: .*(full|File too large)"):
            make()
    with open(os.devnull, "wb") as nowhere, pytest.raises(Error, match=r"vserver\.db cannot be backed up: .*full"):
        backups.stream(path, nowhere)
    full_disk(0)
    assert files_beside(path) == before
    db.Organization(name="the session goes on").save()


@pytest.mark.parametrize("where", ["the copy", "the backup that is kept", "the log"])
def test_restoring_that_finds_the_disk_full_replaces_nothing(
    story: SimpleNamespace, path: Path, full_disk: Callable[[int], None], where: str
) -> None:
    """A log is a little larger than the database that it holds: that little is not there."""
    made = backups.make(path)
    room = {"the copy": made.size - 4096, "the log": made.size + 600}.get(where, made.size + 50_000)
    if where == "the backup that is kept":
        db.Organization(name="x" * 200_000).save()
    db.Organization(name="newer").save()
    before = files_beside(path)
    if where == "the copy":
        full_disk(room)
    with pytest.raises(Error, match=r"full|too large"), backups.verified(made.path, path) as draft:
        full_disk(room)
        backups.restore(path, draft)
    full_disk(0)
    assert names(path)[-1] == "newer" and files_beside(path) == before
    db.Organization(name="the session goes on").save()


def older_with_more(path: Path, folder: Path) -> None:
    """Make this a release with one more migration, whose databases are older."""
    shutil.copytree(schemas.MIGRATIONS, folder)
    (folder / f"{schemas.NEWEST + 1:04}_more.py").write_text(MORE)


@pytest.mark.parametrize("where", ["the backup", "the log"])
def test_an_upgrade_that_finds_the_disk_full_changes_nothing(
    database: Any,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: Callable[[int], None],
    where: str,
) -> None:
    with database.atomic():
        for number in range(1000):
            db.Organization(name=f"{number} " + "x" * 100).save()
    database.close()
    older_with_more(path, tmp_path / "migrations")
    monkeypatch.setattr(schemas, "MIGRATIONS", tmp_path / "migrations")
    monkeypatch.setattr(schemas, "NEWEST", schemas.NEWEST + 1)
    full_disk(60_000 if where == "the backup" else path.stat().st_size + 4096)
    if where == "the log":
        (tmp_path / "migrations" / f"{schemas.NEWEST:04}_more.py").write_text(
            MORE + "    db.execute_sql(\"UPDATE organization SET domain = printf('%.*c', 400, 'x')\")\n"
        )
    before = files_beside(path)
    with pytest.raises(Error, match=r"full|too large|could not be written"):
        upgrades.upgrade(path)
    full_disk(0)
    assert files_beside(path) == before and len(names(path)) == 1000
    assert upgrades.upgrade(path) is not None and len(names(path)) == 1000


@pytest.mark.parametrize("words", [("backup",), ("backup", "-"), ("restore", "b.db", "--yes"), ("shell", "--sandbox")])
def test_a_command_that_finds_the_disk_full_says_so_in_one_line(
    story: SimpleNamespace, path: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    backups.make(path, Path("b.db"))
    before = files_beside(path)
    done = subprocess.run(
        [sys.executable, "-m", "vserver", *words],
        env=environment(tmp_path, TMPDIR=str(tmp_path), PYTHONDONTWRITEBYTECODE="1"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "full" in done.stderr and done.stderr.startswith("Error: ")
    assert files_beside(path) == before and not list(tmp_path.glob("vserver-*/"))


# A folder that cannot be written


def test_in_a_folder_that_cannot_be_written_each_is_one_line_and_reading_continues(
    story: SimpleNamespace, path: Path, database: Any, closed_folder: Path, tmp_path: Path
) -> None:
    made = backups.make(path, tmp_path / "b.db").path
    database.close()
    there = Path(shutil.copy(path, closed_folder))
    made.chmod(0o644)
    close_folder(closed_folder)
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with as_nobody():
        with pytest.raises(Error, match=r"cannot be created: Permission denied"):
            backups.make(there)
        with pytest.raises(Error, match=r"b\.db cannot be restored: Permission denied"), backups.verified(made, there):
            pass
        with pytest.raises(Error, match="cannot be written: read it with list, show, or shell --read-only"):
            db.connect(there)
        assert names(backups.make(there, tmp_path / "open").path) == ["IKNL", "Oslo"]
        with closing(db.connect(there, read_only=True)):
            assert len(db.Task.get()) == 1
    assert files_beside(there) == set()


def test_an_older_database_in_a_folder_that_cannot_be_written_is_read_but_not_upgraded(
    story: SimpleNamespace,
    path: Path,
    database: Any,
    closed_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database.close()
    older_with_more(path, tmp_path / "migrations")
    for file in (tmp_path / "migrations").rglob("*"):
        file.chmod(0o755)
    monkeypatch.setattr(schemas, "MIGRATIONS", tmp_path / "migrations")
    monkeypatch.setattr(schemas, "NEWEST", schemas.NEWEST + 1)
    there = Path(shutil.copy(path, closed_folder))
    close_folder(closed_folder)
    before = there.read_bytes()
    with as_nobody():
        for act in (lambda: db.connect(there), lambda: upgrades.upgrade(there)):
            with pytest.raises(Error, match="cannot be (written|upgraded)|could not be written"):
                act()
        with closing(db.connect(there, read_only=True)) as opened:
            assert opened.execute_sql("SELECT motto FROM organization").fetchall() == [("together",)] * 2
    assert there.read_bytes() == before and files_beside(there) == set()


# Killed


def killed(code: str, folder: Path, chance: random.Random) -> list[str]:
    """Run code that prints what it has done, kill it after a random time, and return what it had printed."""
    begin = (
        "import models, pathlib\nfrom vserverlib.databases import backups, schemas\n"
        "from vserverlib.examples import simulation\n"
        "from vserverlib.entities.undoing import undo\npath = pathlib.Path('vserver.db')\n"
    )
    ready = "print('ready', flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", begin + ready + code],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, LONGEST_LIFE))
        process.kill()
        done, errors = process.stdout.read(), process.stderr.read()  # communicate() would miss what readline() took
    assert "Traceback" not in errors and "Error" not in errors, errors
    return [line for line in done.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture(params=range(REPETITIONS))
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def fill(path: Path, count: int) -> None:
    """Add organizations 1 to `count`, each with two users."""
    with closing(db.connect(path)) as database, database.atomic():
        for number in range(1, count + 1):
            add(number)


def add(number: int) -> None:
    organization = db.Organization(name=str(number))
    organization.save()
    for which in "ab":
        db.User(username=f"{number}{which}", organization=organization).save()


def fill_by_changes(path: Path, count: int) -> str:
    """Add the same, each organization with its users as one change. Return the session."""
    with closing(db.connect(path)) as database:
        for number in range(1, count + 1):
            with database.atomic():
                add(number)
        return str(database.recorder.session)


@contextmanager
def sound(path: Path) -> Iterator[Any]:
    """The next session: it finds no damage, no orphans, all triggers in place and no change open, and it can write."""
    with closing(db.connect(path)) as database:
        rules = [inspection.find(code) for code in ("DBF001", "DBF002", "DBF003")]
        assert list(inspection.inspect(database, rules)) == []
        assert database.execute_sql("SELECT COUNT(*) FROM change WHERE open > 0").fetchone() == (0,)
        yield database
        before = tables(database)
        db.Organization(name="the next session").save()
        undo(database)
        assert tables(database) == before


@pytest.mark.long
def test_killed_while_saving(path: Path, chance: random.Random) -> None:
    code = (
        "database = models.connect(path)\n"
        "for n in range(100000):\n"
        "    with database.atomic():\n"
        "        models.Organization(name=str(n)).save()\n        models.User(username=str(n)).save()\n"
        "    print(n, flush=True)\n"
    )
    done = killed(code, path.parent, chance)
    found = names(path)
    assert len(done) <= len(found) <= len(done) + 1 and found == [str(n) for n in range(len(found))]
    with closing(db.connect(path)):
        assert len(db.User.get()) == len(found)


@pytest.mark.long
def test_killed_while_deleting(path: Path, chance: random.Random) -> None:
    fill(path, 200)
    code = (
        "models.connect(path)\n"
        "for organization in models.Organization.get():\n"
        "    organization.delete(dependents=True)\n    print(organization.id, flush=True)\n"
    )
    done = killed(code, path.parent, chance)
    found = names(path)
    assert 200 - len(done) - 1 <= len(found) <= 200 - len(done)
    assert found == [str(n) for n in range(201 - len(found), 201)]
    with closing(db.connect(path)):
        assert len(db.User.get()) == 2 * len(found)


@pytest.mark.long
def test_killed_while_making_backups(path: Path, chance: random.Random) -> None:
    fill(path, 200)
    done = killed("while True:\n    print(backups.make(path).path, flush=True)\n", path.parent, chance)
    made = sorted(path.parent.glob("vserver-*.db"))
    assert {line.strip() for line in done} <= {file.name for file in made} and len(made) <= len(done) + 1
    assert all(len(names(file)) == 200 for file in (*made, path))


@pytest.mark.long
def test_killed_while_restoring(path: Path, chance: random.Random) -> None:
    few = backups.make(path, path.with_name("few.db")).path
    fill(path, 400)
    many = backups.make(path, path.with_name("many.db")).path
    code = (
        "while True:\n"
        "    for name in ('few.db', 'many.db'):\n"
        "        with backups.verified(pathlib.Path(name), path) as draft:\n"
        "            backups.restore(path, draft)\n"
        "        print(name, flush=True)\n"
    )
    done = [line.strip() for line in killed(code, path.parent, chance)]
    last = 0 if done and done[-1] == "few.db" else 400
    assert len(names(path)) in (last, 400 - last)  # the next one may be there, if not acknowledged
    kept = sorted(path.parent.glob("vserver-*.db"))
    assert len(done) <= len(kept) <= len(done) + 1
    assert all(len(names(file)) in (0, 400) for file in (*kept, few, many))
    assert len(names(few)) == 0 and len(names(many)) == 400


@pytest.mark.long
def test_killed_while_upgrading(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    fill(path, 400)
    older_with_more(path, tmp_path / "migrations")
    monkeypatch.setattr(schemas, "MIGRATIONS", tmp_path / "migrations")
    monkeypatch.setattr(schemas, "NEWEST", schemas.NEWEST + 1)
    code = (
        f"schemas.MIGRATIONS, schemas.NEWEST = pathlib.Path('migrations'), {schemas.NEWEST}\n"
        "models.connect(path)\nprint('upgraded', flush=True)\n"
    )
    done = killed(code, path.parent, chance)
    with closing(sqlite3.connect(path)) as conn:
        (schema,) = conn.execute("PRAGMA user_version").fetchone()
        columns = [name for _, name, *_ in conn.execute("PRAGMA table_info(organization)")]
    assert schema == schemas.NEWEST or not done
    assert ("motto" in columns) == (schema == schemas.NEWEST)
    with closing(db.connect(path)) as database:
        assert database.execute_sql("SELECT DISTINCT motto FROM organization").fetchall() == [("together",)]
    assert len(names(path)) == 400
    assert all(len(names(file)) == 400 for file in path.parent.glob("vserver-*.db"))


@pytest.mark.long
def test_killed_while_taking_back_change_by_change(path: Path, chance: random.Random) -> None:
    fill_by_changes(path, 100)
    code = (
        "database = models.connect(path)\n"
        "for left in reversed(range(100)):\n    undo(database)\n    print(left, flush=True)\n"
    )
    left = 100 - len(killed(code, path.parent, chance))
    found = names(path)
    assert found in ([str(n) for n in range(1, left + 1)], [str(n) for n in range(1, left)])
    with sound(path):
        assert len(db.User.get()) == 2 * len(found)


@pytest.mark.long
def test_killed_while_taking_back_a_session_and_that_again(path: Path, chance: random.Random) -> None:
    session = fill_by_changes(path, 100)
    code = (
        "database = models.connect(path)\n"
        f"done = undo(database, session='{session}')\nprint(0, flush=True)\n"
        "while True:\n"
        "    done = undo(database, change=done.change)\n    print(len(models.Organization.get()), flush=True)\n"
    )
    done = [100, *map(int, killed(code, path.parent, chance))]
    assert len(names(path)) in (done[-1], 100 - done[-1])  # the next one may be there, if not acknowledged
    with sound(path) as database:
        assert len(db.User.get()) == 2 * len(db.Organization.get())
        (undone,) = database.execute_sql("SELECT COUNT(*) FROM change WHERE kind = 'undo'").fetchone()
        assert undone in (len(done) - 1, len(done))


@pytest.mark.long
def test_killed_while_deleting_with_dependents_and_taking_that_back(tmp_path: Path, chance: random.Random) -> None:
    path = demo.create(tmp_path / "vserver.db")
    with closing(db.connect(path)) as database:
        states = [tables(database)]
        db.Organization.get(1).delete(dependents=True)
        states.append(tables(database))
        undo(database)
    code = (
        "database = models.connect(path)\n"
        "while True:\n"
        "    models.Organization.get(1).delete(dependents=True)\n    print('deleted', flush=True)\n"
        "    undo(database)\n    print('there', flush=True)\n"
    )
    done = killed(code, path.parent, chance)
    with sound(path) as database:
        at = states.index(tables(database))
        (changes,) = database.execute_sql("SELECT COUNT(*) - 2 FROM change").fetchone()
        assert changes in (len(done), len(done) + 1) and at == changes % 2


@pytest.mark.long
def test_killed_while_filling_with_made_up_data(path: Path, chance: random.Random) -> None:
    code = (
        "simulation.TASKS_PER_CHANGE = 50\n"
        "simulation.fill(models.connect(path), 1_000_000, 5, lambda done: print(done, flush=True))\n"
    )
    killed(code, path.parent, chance)
    with sound(path) as database:  # it is one transaction, and was far from its end
        assert not db.is_filled() and db.Task.next_run_id() == 1
        assert database.execute_sql("SELECT COUNT(*) FROM change").fetchone() == (0,)


@pytest.mark.long
def test_killed_while_saving_many_in_one_transaction(path: Path, chance: random.Random) -> None:
    code = (
        "database, number = models.connect(path), 0\n"
        "while True:\n"
        "    with database.atomic():\n"
        "        for number in range(number + 1, number + 51):\n"
        "            models.Organization(name=str(number)).save()\n"
        "    print(number, flush=True)\n"
    )
    done = [0, *map(int, killed(code, path.parent, chance))]
    found = names(path)
    assert found == [str(n) for n in range(1, len(found) + 1)] and len(found) in (done[-1], done[-1] + 50)
    with sound(path) as database:
        sizes = database.execute_sql("SELECT COUNT(*) FROM record GROUP BY change_id").fetchall()
        assert sizes == [(50,)] * (len(found) // 50)
