"""Anything as a database file, and anything as a command: one clear line, no traceback, and the file is untouched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
import vserver
from vserverlib import demo

FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
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
    assert done.exit_code in (0, 1, 2) and "Traceback" not in done.output, (words, done.output)
    if done.exit_code and words[0] != "check":
        lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
        assert sum(line.startswith("Error: ") for line in lines) == 1, (words, done.stderr)


@FEW
@given(data=st.binary(max_size=300), begin=st.sampled_from([b"", b"SQLite format 3\0", b"SQLite format 3\0\x10\0\2\2"]))
def test_any_bytes_are_no_database_and_stay_as_they_are(data: bytes, begin: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        FILE.write_bytes(begin + data)
        for words in (*READING, *WRITING):
            done = run(*words)
            hold(done, words)
            assert done.exit_code == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.output
        assert FILE.read_bytes() == begin + data and os.listdir() == [FILE.name]


@FEW
@given(
    places=st.lists(
        st.tuples(st.integers(0, 99) | st.integers(0, 60_000), st.integers(0, 255)), min_size=1, max_size=8
    ),
    cut=st.none() | st.integers(0, 60_000),
)
def test_a_damaged_database_is_read_as_far_as_it_goes_or_told(
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


@FEW
@given(words=st.lists(WORDS | MARKS | OTHERS | st.text(max_size=6), min_size=1, max_size=5))
def test_any_words_are_a_command_or_told(whole: Path, words: list[str]) -> None:
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
    assert done.exit_code in (0, 1, 2) and "Traceback" not in done.output, (words, done.output)
    assert "\x1b" not in done.stderr and "\0" not in done.stderr
