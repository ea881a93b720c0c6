"""Disks: one that is full, a small file system of its own, and one that is mounted read-only.

Each test runs a program in a private mount namespace, so that nothing of the machine is mounted anew; that takes root's
rights and Linux. A disk that is full here is full for all files alike, which a limit of one file's size is not.
"""

from __future__ import annotations

import functools
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.terminal import Terminal, environment
from test_faults import files_beside, names

KINDS = ["sqlite"]  # it is about files

SIZE = 2_000_000  # bytes of the small disk


@functools.cache
def why_not() -> str:
    """Return why nothing can be mounted here, "" where it can."""
    try:
        done = subprocess.run(
            ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture(autouse=True)
def _mounts() -> None:
    if reason := why_not():
        pytest.skip(f"nothing can be mounted: {reason}")


def on_disk(folder: Path, disk: Path, setup: str, *command: str) -> list[str]:
    """Return the command that runs another where `disk` is a small file system, with what `folder` holds on it.

    setup: what the shell does before, in the disk. Afterwards what the disk holds is in the folder "after".
    """
    (folder / "after").mkdir()
    script = (
        f"mount -t tmpfs -o size={SIZE} tmpfs {disk} && cp -p {folder}/vserver.db {disk} && cd {disk} && {setup}; "
        f"{shlex.join(command)}; status=$?; rm -f filler; cp -pr . {folder}/after; exit $status"
    )
    return ["unshare", "--mount", "sh", "-c", script]


FILL = "head -c 100000000 /dev/zero > filler 2>/dev/null"
READ_ONLY = "mount -o remount,ro ."


def run(folder: Path, disk: Path, setup: str, *command: str) -> subprocess.CompletedProcess[str]:
    words = on_disk(folder, disk, setup, *command)
    env = environment(folder, TMPDIR=str(folder))
    return subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@pytest.fixture
def place(story: SimpleNamespace, database: Any, tmp_path: Path) -> Path:
    """A folder with a database that nobody has open."""
    database.close()
    return tmp_path


def changes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as conn:
        return int(conn.execute("SELECT COUNT(*) FROM change").fetchone()[0])


SESSION = """
import os, models
from vserverlib import Error
from vserverlib.databases import backups
from vserverlib.entities.undoing import undo
from pathlib import Path
database = models.connect("vserver.db")
database.asks_rules = False
def fill():
    with open("filler", "ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
def attempt(act):
    try:
        act()
        print("done")
    except Error as error:
        print(error)
organization = models.Organization(name="x" * 300_000)
with database.atomic():
    for number in range(60):
        models.Organization(name=str(number), address1="y" * 2000).save()
database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
fill()
attempt(organization.save)
attempt(lambda: undo(database))
attempt(lambda: backups.make(Path("vserver.db")))
print(len(models.Organization.get()), organization.id)
os.unlink("filler")
attempt(lambda: undo(database))
attempt(organization.save)
print(len(models.Organization.get()))
"""


def test_a_session_on_a_full_disk_changes_nothing_and_continues_when_there_is_room(place: Path, disk: Path) -> None:
    done = run(place, disk, "true", sys.executable, "-c", SESSION)
    assert (done.returncode, done.stderr) == (0, "")
    save, undo, backup, left, *later = done.stdout.splitlines()
    assert save.startswith("vserver.db could not be written (") and save.endswith(
        "nothing was changed; free some disk space"
    )
    assert undo.startswith("vserver.db could not be written (") and undo.endswith(
        "nothing was changed; free some disk space"
    )
    assert ("cannot be created: " in backup and "full" in backup) or "No space left" in backup
    assert left == "62 None" and later == ["done", "done", "3"]
    after = place / "after" / "vserver.db"
    assert len(names(after)) == 3 and files_beside(after) == set()


@pytest.mark.parametrize(
    "words",
    [
        ("undo", "--yes"),
        ("backup",),
        ("delete", "organization", "1", "--dependents", "--yes"),
        ("demo", "--tasks", "10"),
        ("shell", "-c", "Organization(name='x' * 9000).save()"),
        ("init",),
        ("export", "out.json"),
        ("export", "out.yaml", "--secrets", "secrets.yaml"),
    ],
)
def test_a_command_on_a_full_disk_is_one_line_and_changes_nothing(
    place: Path, disk: Path, words: tuple[str, ...]
) -> None:
    given = ("-d", "new.db") if words[0] in ("init", "demo") else ()
    done = run(place, disk, FILL, sys.executable, "-m", "vserver", *given, *words)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    after = place / "after" / "vserver.db"
    assert names(after) == ["IKNL", "Oslo"] and changes(after) == changes(place / "vserver.db")
    assert files_beside(after) == set()


def test_reading_continues_when_the_disk_is_full(place: Path, disk: Path) -> None:
    """SQLite needs a little room to read as well: where there is none, a private copy elsewhere is read."""
    done = run(place, disk, FILL, sys.executable, "-m", "vserver", "list", "organizations", "-o", "name")
    assert (done.returncode, done.stdout, done.stderr) == (0, "organization/1\norganization/2\n", "")
    assert names(place / "after" / "vserver.db") == ["IKNL", "Oslo"]


@pytest.mark.parametrize(
    "words",
    [
        ("undo", "--yes"),
        ("backup",),
        ("delete", "organization", "1", "--dependents", "--yes"),
        ("shell", "-c", "Organization(name='x').save()"),
        ("-d", "new.db", "init"),
        ("restore", "vserver.db", "--yes"),
        ("passwd", "root"),
    ],
)
def test_a_command_on_a_disk_that_is_mounted_read_only_is_one_line(
    place: Path, disk: Path, words: tuple[str, ...]
) -> None:
    done = run(place, disk, READ_ONLY, sys.executable, "-m", "vserver", *words)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("words", [("list", "tasks"), ("show", "task/1"), ("overview",), ("log",), ("check",)])
def test_a_disk_that_is_mounted_read_only_is_read(place: Path, disk: Path, words: tuple[str, ...]) -> None:
    done = run(place, disk, READ_ONLY, sys.executable, "-m", "vserver", *words)
    assert done.stdout and "Error" not in done.stderr and "Traceback" not in done.stderr, done
    assert files_beside(place / "after" / "vserver.db") == set()


@pytest.mark.parametrize("setup", [FILL, READ_ONLY])
def test_a_history_that_finds_no_room_is_reported_and_the_shell_continues(place: Path, disk: Path, setup: str) -> None:
    command = [sys.executable, "-m", "vserver", "-d", str(place / "vserver.db"), "shell"]
    env = environment(place, VSERVER_HOME=str(disk / "home"))
    terminal = Terminal(on_disk(place, disk, setup, *command), env, columns=200)
    try:
        assert terminal.wait_for_prompt(1).count("history is off") == 1
        assert terminal.enter("1 + 1") == "Out[1]: 2"
        assert terminal.enter("len(db.Organization.get())") == "Out[2]: 2"
        assert terminal.leave() == 0
    finally:
        terminal.child.close(force=True)


@pytest.mark.long
def test_a_history_whose_disk_fills_up_meanwhile_leaves_the_shell_alone(place: Path, disk: Path) -> None:
    command = [sys.executable, "-m", "vserver", "-d", str(place / "vserver.db"), "shell"]
    env = environment(place, VSERVER_HOME=str(disk / "home"))
    terminal = Terminal(on_disk(place, disk, "true", *command), env, columns=200)
    try:
        terminal.wait_for_prompt(1)
        terminal.enter("import subprocess; subprocess.run(['sh', '-c', 'head -c 99999999 /dev/zero > filler'])")
        for number in range(3):
            assert f"{number * 1111}" in terminal.enter(f"text = 'x' * 10 + '{'y' * 3000}'; {number} * 1111")
        assert "Traceback" not in terminal.text
        assert terminal.leave() == 0
    finally:
        terminal.child.close(force=True)
