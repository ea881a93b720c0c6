"""What people type from habit, from other programs, is answered with our line, in one line and with status 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.process import vserver
from helpers.terminal import environment

import vserver as program

KINDS = ["sqlite"]  # it is about the command line


def answered(*words: str, cwd: Path | None = None) -> str:
    done = vserver(*words, cwd=cwd)
    assert (done.status, done.out) == (2, ""), done
    last = done.err.splitlines()[-1]
    assert last.startswith("Error: ") and "restore" not in last
    return last


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("ls", "vserver list ENTITY"),
        ("ls -l", "vserver list ENTITY --wide"),
        ("ls -la tasks", "vserver list tasks --wide"),
        ("LS tasks", "vserver list tasks"),
        ("get tasks", "vserver list tasks"),
        ("get task 1", "vserver show task 1"),
        ("get task/1", "vserver show task/1"),
        ("describe task 1", "vserver show task 1"),
        ("describe", "vserver show ENTITY ID"),
        ("rm task 5", "vserver delete task 5"),
        ("rm -rf task 5", "vserver delete task 5"),
        ("tasks", "vserver list tasks"),
        ("task 5", "vserver show task 5"),
        ("apply plan.yaml", "vserver import FILE --merge"),
        ("status", "vserver overview"),
        ("version", "vserver --version"),
        ("-d other.db ls users", "vserver -d other.db list users"),
        ("-d postgresql://me:secret@host/db ls users", "vserver -d postgresql://me@host/db list users"),
    ],
)
def test_a_command_of_another_program_is_answered_with_ours(typed: str, line: str) -> None:
    assert answered(*typed.split()).endswith(f": use {line}")


@pytest.mark.parametrize("typed", ["add", "new", "create", "insert"])
def test_creating_is_answered_with_a_command_that_exists(typed: str) -> None:
    if typed in program.main.commands:
        pytest.skip("it is a command")
    line = answered(typed, "user", "anna").partition(": use ")[2]
    assert line == ("vserver create user anna" if "create" in program.main.commands else "vserver shell")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("list tasks --json", "--json is written -o json here"),
        ("list tasks --csv", "--csv is written -o csv here"),
        ("list tasks --format json", "-o json, -o jsonl"),
        ("list tasks -f json", "-o json, -o jsonl"),
        ("show task 1 --json", "-o json"),
        ("overview --yaml", "-o yaml"),
        ("--json list tasks", "vserver list tasks -o json"),
        ("-f other.db list tasks", "vserver -d …"),
        ("list tasks -l", "--wide"),
        ("list tasks --filter status=failed", "--where"),
        ("delete task 1 -f", "--yes"),
        ("backup -f", "--force"),
        ("init other.db", "vserver -d other.db init"),
        ("init folder/name", "vserver -d folder/name init"),
        ("overview other.db", "vserver -d other.db overview"),
        ("overview postgresql://me:secret@host/db", "vserver -d postgresql://me@host/db overview"),
        ("list tasks -d other.db", "vserver -d …"),
        ("list tasks --no-pager", "vserver --no-pager …"),
        ("lst tasks", "Did you mean one of: 'list'"),
    ],
)
def test_an_option_of_another_program_is_answered_with_ours(typed: str, answer: str) -> None:
    line = answered(*typed.split())
    assert answer in line and "secret" not in line


def test_untrusted_words_are_escaped() -> None:
    assert "\x1b" not in answered("ls", "\x1b[31mtasks") + answered("\x1b[31mls") + answered("init", "\x1b[31m.db")


# Filters that a shell has torn apart


def in_a_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell, as a person types it."""
    line = line.replace("vserver", f"'{sys.executable}' -m vserver", 1)
    env = environment(folder)
    return subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("line", "file", "filter_"),
    [
        ("vserver list tasks --where created_at>-7d", "-7d", "'created_at>-7d'"),
        ("vserver list tasks --where created_at>7d -o json > out.json", "7d", "'created_at>7d'"),
        ("vserver list tasks --where finished_at>=2026-02-03", "=2026-02-03", "'finished_at>=2026-02-03'"),
        ("vserver list --where results>2 tasks", "2", "'results>2'"),
        ("vserver list tasks --where progress>0.5", "0.5", "'progress>0.5'"),
    ],
)
def test_an_unquoted_greater_than_is_noticed_by_its_file(line: str, file: str, filter_: str, example: Path) -> None:
    done = in_a_shell(line, example.parent)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert f"--where {filter_}" in done.stderr and f"created the file {file}:" in done.stderr
    assert (example.parent / file).stat().st_size == 0
    in_a_shell(done.stderr.rpartition(": ")[2], example.parent)  # the remedy
    assert not (example.parent / file).exists()
    quoted = f"vserver list tasks --where {filter_}"
    assert in_a_shell(quoted, example.parent).returncode == 0


def test_a_filter_without_an_operator_is_noticed_without_its_file(example: Path) -> None:
    for line in ("vserver list tasks --where created_at", "vserver list tasks --where created_at > out.txt"):
        done = in_a_shell(line, example.parent)
        assert done.returncode == 2 and '"created_at" is not a filter' in done.stderr
        assert "--where 'created_at>-7d'" in done.stderr and "out.txt" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("--where name=Cox regression", "'name=Cox regression'"),
        ("--where name ~ cox", "'name ~ cox'"),
        ("--where status = failed --limit 2", "'status = failed'"),
        ("--where collaboration=Rare tumours [pilot] -o json", "'collaboration=Rare tumours [pilot]'"),
    ],
)
def test_a_filter_torn_at_its_spaces_is_answered_with_quotes(typed: str, quoted: str, example: Path) -> None:
    done = in_a_shell(f"vserver list tasks {typed}", example.parent)
    assert done.returncode == 2 and done.stdout == "" and f"--where {quoted}" in done.stderr.splitlines()[-1]


def test_whole_filters_are_as_before(example: Path) -> None:
    for given in ("name=", "name>", "status=failed", "name~cox", " id = 1 "):
        assert vserver("list", "tasks", "--where", given, cwd=example.parent).status == 0, given
