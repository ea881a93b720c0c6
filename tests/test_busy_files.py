"""The SQLite file of a server that writes to it: a copy of one moment, and nobody waits for it."""

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
from helpers import process, vantage6_databases
from helpers.process import python, start

from vserverlib import Error, files
from vserverlib.databases import snapshots

NAME = "server.sqlite"
MODES = ("DELETE", "TRUNCATE", "WAL")
LONGEST_WAIT = 60.0  # seconds that a transaction of the writer may take, on a machine that is very busy
# Commits every 10 ms; each transaction changes the same values in two tables, so that a torn copy shows.
WRITER = """
import sqlite3, sys, threading, time
conn = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=120)
longest, number, stop = 0.0, 0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
while not stop.is_set():
    number += 1
    began = time.monotonic()
    conn.execute("BEGIN IMMEDIATE")
    conn.execute("UPDATE organization SET name = 'number ' || ? WHERE id = 2", [number])
    conn.execute("UPDATE run SET log = ?", [str(number) * 50])
    conn.execute("UPDATE task SET description = ?", [str(number)])
    conn.execute("COMMIT")
    longest = max(longest, time.monotonic() - began)
    if number == 1:
        print("writing", flush=True)
    time.sleep(0.01)
print(number, longest)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def put(mode: str, *statements: str, release: str = "5.0.3") -> Path:
    return vantage6_databases.copied(release, Path(NAME), (f"PRAGMA journal_mode = {mode}", *statements))


@contextmanager
def written(file: Path) -> Iterator[dict[str, float]]:
    """Have another process write to a file in a block, and tell at its end: commits, longest wait."""
    words = [sys.executable, "-c", WRITER, str(file)]
    said: dict[str, float] = {}
    with start(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout and writer.stdout.readline() == "writing\n"
        yield said
        out, _ = writer.communicate("")
    said["commits"], said["longest"] = map(float, out.split())
    assert writer.returncode == 0


def is_of_one_moment(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as conn:
        (name,) = conn.execute("SELECT name FROM organization WHERE id = 2").fetchone()
        numbers = [name.removeprefix("number ")] * 2
        logs = conn.execute("SELECT DISTINCT log FROM run").fetchall()
        descriptions = conn.execute("SELECT DISTINCT description FROM task").fetchall()
        fine = conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return fine and (logs, descriptions) == ([(numbers[0] * 50,)], [(numbers[1],)])


@pytest.mark.parametrize("mode", MODES)
def test_every_copy_beside_a_steady_writer_is_of_one_moment(mode: str, tmp_path: Path) -> None:
    file = put(mode)
    number, seen = 0, set[bytes]()
    with written(file) as said:
        while number < 20 or (len(seen) < 3 and number < 1000):  # until the writer has had its turn
            (folder := tmp_path / str(number)).mkdir()
            copy = snapshots.copied(file, folder, NAME)
            assert is_of_one_moment(copy)
            seen.add(copy.read_bytes())
            number += 1
    assert said["commits"] > 1 and said["longest"] < LONGEST_WAIT


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.long
def test_import_and_list_beside_a_steady_writer_succeed_each_time(mode: str, tmp_path: Path) -> None:
    file = put(mode)
    with written(file) as said:
        for number in range(10):
            imported = process.vserver("-d", f"{tmp_path}/{number}.db", "import", file, "-o", "json")
            viewed = process.vserver("-d", file, "list", "tasks", "-o", "json", "--all")
            assert (imported.status, viewed.status) == (0, 0), (imported.err, viewed.err)
            assert len({task["description"] for task in json.loads(viewed.out)}) == 1
            assert is_of_one_moment_here(tmp_path / f"{number}.db")
    assert said["commits"] > 10 and said["longest"] < LONGEST_WAIT


def is_of_one_moment_here(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as conn:
        logs = conn.execute("SELECT COUNT(DISTINCT log) FROM result").fetchone()
        return (*logs, *conn.execute("SELECT COUNT(DISTINCT description) FROM task").fetchone()) == (1, 1)


def test_a_log_that_begins_again_meanwhile_is_copied_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, copy, times = put("WAL"), snapshots._copy_logs, list[int]()
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("UPDATE run SET log = 'before'")

        def restarted(*words: Any) -> None:
            if not times:
                conn.execute("PRAGMA wal_checkpoint(RESTART)")
                conn.execute("UPDATE organization SET name = 'after' WHERE id = 2")
            times.append(1)
            copy(*words)

        monkeypatch.setattr(snapshots, "_copy_logs", restarted)
        (tmp_path / "copy").mkdir()
        copied = snapshots.copied(file, tmp_path / "copy", NAME)
    with closing(sqlite3.connect(copied)) as conn:
        assert conn.execute("SELECT name FROM organization WHERE id = 2").fetchall() == [("after",)]
        assert conn.execute("SELECT DISTINCT log FROM run").fetchall() == [("before",)] and len(times) == 2


def test_a_big_file_is_copied_in_turns_and_the_writer_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put("DELETE", "CREATE TABLE big AS SELECT randomblob(40000000) AS bytes")
    monkeypatch.setattr(snapshots, "HOLDS", (0.0, 0.001, 2.0))
    (tmp_path / "copy").mkdir()
    assert snapshots.copied(file, tmp_path / "copy", NAME).read_bytes() == file.read_bytes()
    with written(file) as said:
        (tmp_path / "busy").mkdir()
        assert is_of_one_moment(snapshots.copied(file, tmp_path / "busy", NAME))
    assert said["longest"] < LONGEST_WAIT


def test_a_big_file_that_changes_all_the_time_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, unlock = put("DELETE", "CREATE TABLE big AS SELECT randomblob(4000000) AS bytes"), snapshots.unlock
    update = "conn.execute('UPDATE run SET log = random()')"
    write = f"import sqlite3; conn = sqlite3.connect('{NAME}', isolation_level=None); {update}"

    def unlocked(descriptor: int) -> None:
        unlock(descriptor)
        assert python("-c", write).status == 0  # another program has its turn

    monkeypatch.setattr(snapshots, "HOLDS", (0.0,) * 4)
    monkeypatch.setattr(snapshots, "unlock", unlocked)
    (tmp_path / "copy").mkdir()
    with pytest.raises(Error, match=r"^server.sqlite is written to all the time.*try again"):
        snapshots.copied(file, tmp_path / "copy", NAME)
    assert not list((tmp_path / "copy").iterdir())


# What is left of it


def state() -> dict[str, Any]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in Path().iterdir()}


def killed(mode: str) -> Path:
    """Return a file whose writer was killed in the middle of a transaction: with a hot journal, or a log."""
    Path("source").mkdir()
    file = Path("source") / NAME
    vantage6_databases.copied("5.0.3", file, (f"PRAGMA journal_mode = {mode}",))
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("PRAGMA cache_size = 1")
        conn.execute("UPDATE organization SET name = 'committed' WHERE id = 2")
        conn.execute("BEGIN")
        conn.execute("UPDATE run SET log = printf('%09000d', 0)")
        for each in ("", *files.LOG_SUFFIXES):
            if Path(f"{file}{each}").exists():
                shutil.copy(f"{file}{each}", f"{NAME}{each}")
    shutil.rmtree("source")
    return Path(NAME)


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("rights", ["all", "file", "folder"])
def test_the_file_stays_as_it_is_and_nothing_is_left_beside_it(
    mode: str, is_killed: bool, rights: str, tmp_path: Path
) -> None:
    file = killed(mode) if is_killed else put(mode)
    assert len(state()) == 1 + is_killed
    if rights != "all":
        os.chmod(file, 0o444)
    if rights == "folder":
        os.chmod(file.absolute().parent, 0o555)
    before = state()
    try:
        viewed = process.vserver("-d", file, "list", "results", "-o", "json", "--all")
        imported = process.vserver("-d", tmp_path / "ours.db", "import", file, TMPDIR=str(tmp_path / "temporary"))
        after = state()
    finally:
        os.chmod(file.absolute().parent, 0o755)
    assert viewed.status == imported.status == 0, viewed.err + imported.err
    assert "0" * 9000 not in viewed.out and after == before
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_writer_that_does_not_end_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put("DELETE")
    monkeypatch.setattr(snapshots, "TIMEOUT", 0.1)
    hold = f"import sqlite3; c = sqlite3.connect({str(file)!r}); c.execute('BEGIN EXCLUSIVE'); "
    hold += "print('held', flush=True); input()"
    words = [sys.executable, "-c", hold]
    with start(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(Error, match=r"^server.sqlite is locked by a program that is writing to it: try again"):
            snapshots.copied(file, tmp_path, NAME)
        holder.communicate("\n")
