"""The pager: for output longer than the screen, at a terminal only; quitting it and Ctrl-C leave no traceback."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.process import PROGRAM, vserver
from helpers.terminal import Terminal, environment

KINDS = ["sqlite"]  # it is about terminals
LONG = ("list", "results", "--all")  # 69 rows

Start = Callable[..., Terminal]


@pytest.fixture
def start(example: Path) -> Iterator[Start]:
    """Return a function that starts a command at a terminal of 20 lines."""
    started: list[Terminal] = []

    def begin(*words: str, columns: int = 80, lines: int = 20, **env: str) -> Terminal:
        command = [*PROGRAM, *words]
        started.append(Terminal(command, environment(Path.cwd(), **env), columns, lines))
        return started[-1]

    yield begin
    for each in started:
        each.child.close(force=True)


def pager(folder: Path, *lines: str) -> str:
    """Write a pager that says that it has run, and return its path."""
    file = folder / "my pager"
    file.write_text("\n".join(["#!/bin/sh", "echo PAGED", *lines, ""]))
    file.chmod(0o755)
    return f"'{file}'"


def interrupt(terminal: Terminal) -> None:
    """Press Ctrl-C, and return when the pager has answered: the terminal drops what is typed before."""
    before = len(terminal.raw)
    terminal.send("\x03")
    while len(terminal.raw) == before:
        assert terminal._read(5)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_list_longer_than_the_screen_is_paged_in_its_width_and_colours(columns: int, start: Start) -> None:
    terminal = start(*LONG, columns=columns)
    shown = terminal.wait_for(r"^:\Z")
    assert "completed" in shown and len(shown.splitlines()) == 20 and "\x1b[32m" in terminal.raw
    assert columns * 0.7 < max(map(len, shown.splitlines())) <= columns
    terminal.send("G")
    terminal.wait_for(r"69 results.*\s+\(END\)")
    terminal.send("q")
    assert terminal.wait_for_end() == 0 and "Traceback" not in terminal.raw


def test_messages_follow_the_pager(start: Start) -> None:
    terminal = start("list", "results")
    terminal.wait_for(r"^:\Z")
    assert "19 more" not in terminal.raw
    terminal.send("G")
    terminal.wait_for(r"\(END\)")
    terminal.send("q")
    assert terminal.wait_for_end() == 0 and "19 more: --page 2, or --all; --newest" in terminal.text


def test_output_that_fits_the_screen_starts_no_pager(start: Start, tmp_path: Path) -> None:
    terminal = start("list", "organizations", VSERVER_PAGER=pager(tmp_path))
    assert terminal.wait_for_end() == 0
    assert "PAGED" not in terminal.raw and "Kankerregister Noord" in terminal.raw


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (("--no-pager", *LONG), {}),
        (LONG, {"VSERVER_PAGER": ""}),
        (LONG, {"VSERVER_PAGER": "cat"}),
        (LONG, {"PAGER": ""}),
        (LONG, {"TERM": "dumb"}),
        (("-d", "vserver.db", "shell", "-c", "print(*range(100), sep='\\n')"), {}),
    ],
    ids=str,
)
def test_the_pager_can_be_turned_off(words: tuple[str, ...], env: dict[str, str], start: Start, tmp_path: Path) -> None:
    terminal = start(*words, **{"PAGER": pager(tmp_path), **env})
    assert terminal.wait_for_end() == 0 and "PAGED" not in terminal.raw


@pytest.mark.parametrize(
    "words", ["list results --all", "show task 5 -o json", "check -o json", "overview", "help filters"]
)
def test_commands_that_read_are_paged(words: str, start: Start, tmp_path: Path) -> None:
    terminal = start(*words.split(), lines=5, VSERVER_PAGER=pager(tmp_path, "cat"), PAGER="false")
    terminal.wait_for_end()
    assert terminal.raw.count("PAGED") == 1 and "Traceback" not in terminal.raw


def test_a_pipe_is_not_paged(example: Path, tmp_path: Path) -> None:
    done = vserver(*LONG, PAGER=pager(tmp_path))
    assert (done.status, done.err) == (0, "") and "PAGED" not in done.out and "69 results" in done.out


def test_a_pager_that_cannot_be_started_is_named_and_all_is_printed(start: Start) -> None:
    terminal = start(*LONG, lines=80, VSERVER_PAGER="no-such-pager -x")
    assert terminal.wait_for_end() == 0 and "PAGED" not in terminal.raw
    terminal = start(*LONG, VSERVER_PAGER="no-such-pager -x")
    assert terminal.wait_for_end() == 0
    assert "the pager no-such-pager cannot be started: No such file" in terminal.raw
    assert terminal.raw.count("completed") > 30 and "69 results" in terminal.text


def test_quitting_early_ends_the_command_well(start: Start, tmp_path: Path) -> None:
    """The command has far more to write than a pipe holds."""
    vserver("-d", tmp_path / "big.db", "demo", "--tasks", "3000", "--organizations", "4")
    terminal = start("-d", str(tmp_path / "big.db"), "list", "results", "--all", "-o", "jsonl")
    terminal.wait_for(r"^:\Z")
    terminal.send("q")
    assert terminal.wait_for_end() == 0
    assert "Traceback" not in terminal.raw and "more:" not in terminal.raw


def test_quitting_early_does_not_change_what_a_check_has_found(start: Start) -> None:
    words = ("-d", "vserver.db", "shell", "-q", "-c")
    code = "with db.checks(False):\n  for n in range(3000): db.Organization(name=None).save()"
    assert vserver(*words, f"with database.atomic():\n {code.replace(chr(10), chr(10) + ' ')}").status == 0
    terminal = start("check", "-o", "jsonl")
    terminal.wait_for(r"^:\Z")
    terminal.send("q")
    assert terminal.wait_for_end() == vserver("check").status == 1
    assert "3,000" in vserver("overview").out


def test_ctrl_c_in_the_pager_belongs_to_the_pager(start: Start) -> None:
    terminal = start(*LONG)
    terminal.wait_for(r"^:\Z")
    interrupt(terminal)
    terminal.press_until("G", r"\(END\)")
    assert terminal.wait_for_end("q") == 0 and "Traceback" not in terminal.raw


def test_ctrl_c_while_more_is_written_ends_with_130_after_the_pager(start: Start, tmp_path: Path) -> None:
    vserver("-d", tmp_path / "big.db", "demo", "--tasks", "3000", "--organizations", "4")
    terminal = start("-d", str(tmp_path / "big.db"), "list", "results", "--all", "-o", "jsonl")
    terminal.wait_for(r"^:\Z")
    interrupt(terminal)
    assert terminal.wait_for_end("q") == 130 and "Traceback" not in terminal.raw


def test_sigterm_ends_the_pager_too(start: Start, tmp_path: Path) -> None:
    waits = "trap 'echo ENDED; exit' TERM", "echo READY", "read key < /dev/tty"
    terminal = start(*LONG, VSERVER_PAGER=pager(tmp_path, *waits))
    terminal.wait_for("READY")
    terminal.child.kill(signal.SIGTERM)
    assert terminal.wait_for_end() == -signal.SIGTERM
    assert "ENDED" in terminal.raw and "Traceback" not in terminal.raw
