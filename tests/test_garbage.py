"""Anything as a database file, and anything as a command: one clear line, no traceback, and the file is untouched."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import chdir, closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

import models
import vserver
from vserverlib import home
from vserverlib.databases import snapshots
from vserverlib.examples import demo

KINDS = ["sqlite"]  # it is about files

READING = (
    ("list", "tasks"),
    ("show", "organization", "1"),
    ("overview",),
    ("check",),
    ("log",),
    ("shell", "--read-only", "-c", "len(db.Task.get())"),
)
WRITING = (("undo", "--yes"), ("backup", "copy.db"), ("upgrade",), ("delete", "task", "1", "--yes"))
FILE = Path("vserver.db")


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """A sound database: its path, for Hypothesis would print the bytes of it."""
    with tempfile.TemporaryDirectory() as folder:
        yield demo.create(Path(folder, "x.db"))


def run(*words: str) -> Result:
    """Run a command in this process, and close what it has opened."""
    done = CliRunner().invoke(vserver.main, words, input="", prog_name="vserver")
    if models.database.obj is not None and not models.database.is_closed():
        models.database.close()
    return done


def hold(done: Result, words: tuple[str, ...]) -> None:
    """Hold that a command has ended as one should: when it failed, by one line, or a few where a word was wrong."""
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
    assert done.exit_code in (0, 1, 2, 4) and "Traceback" not in done.output, (words, done.output)
    if done.exit_code and words[0] != "check":
        lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
        assert sum(line.startswith("Error: ") for line in lines) == 1, (words, done.stderr)


def refused(words: tuple[str, ...]) -> int:
    """Return the exit status of a command that cannot read its database."""
    return 4 if words[0] in ("check", "wait") else 1


@given(data=st.binary(max_size=300), begin=st.sampled_from([b"", b"SQLite format 3\0", b"SQLite format 3\0\x10\0\2\2"]))
def test_random_bytes_are_refused_and_stay_as_they_are(data: bytes, begin: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        FILE.write_bytes(begin + data)
        for words in (*READING, *WRITING):
            done = run(*words)
            hold(done, words)
            assert done.exit_code == refused(words) and done.stdout == "" and done.stderr.count("\n") == 1, done.output
        assert FILE.read_bytes() == begin + data and os.listdir() == [FILE.name]


@given(
    places=st.lists(
        st.tuples(st.integers(0, 99) | st.integers(0, 60_000), st.integers(0, 255)), min_size=1, max_size=8
    ),
    cut=st.none() | st.integers(0, 60_000),
)
def test_a_damaged_database_is_read_as_far_as_it_goes_or_reported(
    whole: Path, places: list[tuple[int, int]], cut: int | None
) -> None:
    damaged = bytearray(whole.read_bytes()[:cut])
    for place, value in places:
        if place < len(damaged):
            damaged[place] = value
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        FILE.write_bytes(damaged)
        for words in READING:
            hold(run(*words), words)
        assert FILE.read_bytes() == damaged


WORDS = st.sampled_from(
    [
        *vserver.main.commands,
        *["task", "tasks", "node", "organizations", "1", "task/1", "-o", "json", "-o", "csv", "--yes"],
    ]
)
MARKS = st.sampled_from(
    ["--where", "--fields", "--sort", "--limit", "--since", "--id", "--help", "-d", "--", "-", "=", "\0"]
)
OTHERS = st.sampled_from(["name=x", "name~", "-1", "9" * 30, "id,name", "created_at>-2d", "[red]", "\x1b[31m", "é", ""])
ENDLESS = {"shell", "watch", "wait", "demo", "restore"}  # they run a program, wait, or are meant to write much


@given(words=st.lists(WORDS | MARKS | OTHERS | st.text(max_size=6), min_size=1, max_size=5))
@example(words=["--", "--where"])
@example(words=["--", "-x", "1"])
def test_any_words_are_a_command_or_an_error(whole: Path, words: list[str]) -> None:
    if ENDLESS & set(words):
        return
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        FILE.write_bytes(whole.read_bytes())
        done = run(*words)
        hold_words(done, words)
        if done.exit_code:
            assert FILE.read_bytes() == whole.read_bytes()


def hold_words(done: Result, words: list[str]) -> None:
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exception)
    assert done.exit_code in (0, 1, 2, 4) and "Traceback" not in done.output, (words, done.output)
    assert "\x1b" not in done.stderr and "\0" not in done.stderr


# What is no database of ours, whatever else it is

SERVER = Path(__file__).parent / "data" / "v4.15.2.sqlite"
REFUSED = (
    *READING,
    *WRITING,
    ("watch",),
    ("wait", "1"),
    ("passwd", "user1", "--stdin"),
    ("apikey", "1"),
    ("log", "--prune", "1d", "--yes"),
    ("delete", "task", "1", "--dry-run"),
    ("demo", "--tasks", "1"),
    ("shell", "-c", "1"),
    ("shell", "--sandbox", "-c", "1"),
    ("restore", FILE.name, "--yes"),
)
OPENING = tuple(words for words in REFUSED if words[0] != "log")  # of a server, log shows what vserver applied


def server(*statements: str) -> None:
    """Make the database of a vantage6 server, with these statements run on it."""
    shutil.copy(SERVER, FILE)
    with closing(sqlite3.connect(FILE)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()


def cut(size: int) -> None:
    FILE.write_bytes(SERVER.read_bytes()[:size])


def damaged() -> None:
    """A server's database with noise in the page where the runs begin."""
    with closing(sqlite3.connect(f"{SERVER.as_uri()}?immutable=1", uri=True)) as conn:
        (page,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'run'").fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    data = SERVER.read_bytes()
    FILE.write_bytes(data[: (page - 1) * size] + b"\xa5" * size + data[page * size :])


def zipped() -> None:
    with zipfile.ZipFile(FILE, "w") as archive:
        archive.writestr("server.sqlite", SERVER.read_bytes())


def places() -> None:
    with closing(sqlite3.connect(FILE)) as conn:
        conn.execute("CREATE TABLE places (id INTEGER)")


FILES: dict[str, tuple[Callable[[], object], str]] = {
    "text": (lambda: FILE.write_text("organisations\n"), "SQLite database"),
    "empty": (lambda: FILE.write_bytes(b""), "is empty"),
    "zip": (zipped, "neither a SQLite database nor a text file: unpack it first"),
    "of another program": (places, "of another program"),
    "folder": (FILE.mkdir, "is a folder"),
    "fifo": (lambda: os.mkfifo(FILE), "regular file"),
    "device": (lambda: FILE.symlink_to("/dev/zero"), "regular file"),
    "loop": (lambda: FILE.symlink_to(FILE), "symbolic link|regular file"),
    "cut in its header": (lambda: cut(80), "SQLite database"),
    "cut in the middle": (lambda: cut(50_000), "is cut off"),
    "views of all": (
        lambda: server(
            *(f"ALTER TABLE {name} RENAME TO old_{name}" for name in ("organization", "collaboration")),
            *(f"CREATE VIEW {name} AS SELECT * FROM old_{name}" for name in ("organization", "collaboration")),
        ),
        "of another program",
    ),
}
OF_SERVERS: dict[str, tuple[Callable[[], object], str]] = {  # what writes is refused before that is seen
    "noise": (damaged, "is damaged"),
    "a view": (
        lambda: server("ALTER TABLE task RENAME TO old_task", "CREATE VIEW task AS SELECT * FROM old_task"),
        "task is no table",
    ),
    "without ids": (lambda: server("DROP TABLE node", "CREATE TABLE node (name TEXT)"), "(t.id|no column node.id)"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a folder for temporary files that belongs to the test, too."""
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def state(folder: Path) -> dict[str, object]:
    """What is in a folder, and what its files hold."""
    return {
        file.name: (file.lstat().st_mode, file.lstat().st_mtime_ns, file.read_bytes() if file.is_file() else b"")
        for file in sorted(folder.iterdir())
    }


def hold_refused(here: Path, words: tuple[str, ...], message: str) -> None:
    """Hold that a command is refused by one line, and that nothing is written, nor left behind."""
    before = state(here)
    done = run(*words)
    hold(done, words)
    lines = done.stderr.count("\n") - done.stderr.startswith(f"{FILE} is the database")  # an import tells what it is
    assert done.exit_code == refused(words) and done.stdout == "" and lines == 1, (words, done.output)
    assert re.search(message, done.stderr), (words, done.stderr)
    assert state(here) == before, words
    assert not list((here.parent / "temporary").iterdir()), words
    assert not (home.folder() / "servers").is_dir() or not list((home.folder() / "servers").iterdir()), words


@pytest.mark.parametrize("what", FILES)
def test_a_database_that_is_not_ours_is_reported_by_every_command(here: Path, what: str) -> None:
    make, message = FILES[what]
    make()
    for words in REFUSED:
        hold_refused(here, words, message)
    hold_refused(here, ("-d", "new.db", "import", FILE.name), message.replace("of another program", "another program"))


@pytest.mark.parametrize("what", OF_SERVERS)
def test_a_bad_database_of_a_server_is_reported_by_every_command(here: Path, what: str) -> None:
    make, message = OF_SERVERS[what]
    make()
    for words in OPENING:
        hold_refused(here, words, f"{message}|nothing was changed")
    for words in (("list", "tasks"), ("shell", "--sandbox", "-c", "1"), ("-d", "new.db", "import", FILE.name)):
        hold_refused(here, words, message)


HOLD = """
import sqlite3, sys
conn = sqlite3.connect("vserver.db", isolation_level=None)
for statement in sys.argv[1:]:
    conn.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def writer(*statements: str) -> Iterator[None]:
    """Another process that has run these statements on the file, and has it open."""
    words = [sys.executable, "-c", HOLD, *statements]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stdout.readline() == b"ready\n"
        yield
        process.stdin.close()
        process.wait()


def test_the_locked_database_of_a_server_is_reported_by_every_command(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "TIMEOUT", 0.1)  # each command waits so long for the lock
    server()
    with writer("BEGIN EXCLUSIVE"):
        for words in (*OPENING, ("-d", "new.db", "import", FILE.name)):
            hold_refused(here, words, "is locked by a program that is writing to it|nothing was changed")


def test_what_a_server_has_committed_is_seen_while_it_writes_and_its_files_are_not_touched(here: Path) -> None:
    server()
    name = "UPDATE organization SET name = '{}' WHERE id = 1"
    with writer("PRAGMA journal_mode = WAL", name.format("committed"), "BEGIN IMMEDIATE", name.format("begun")):
        before = state(here)
        done = run("list", "organizations", "-o", "json", "--fields", "name")
        assert done.exit_code == 0 and "committed" in done.stdout and "begun" not in done.stdout
        assert state(here) == before and set(before) == {FILE.name, f"{FILE}-wal", f"{FILE}-shm"}
    assert not list((here.parent / "temporary").iterdir())
