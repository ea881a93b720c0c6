"""Messages fit the width of a terminal without breaking a word; in a pipe they are one line."""

from __future__ import annotations

import io
import os
import pty
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest
from helpers.process import PROGRAM, vserver
from helpers.terminal import Terminal, environment

from vserverlib import messages

TEXT = "the user name of user 12 is taken by user 7: choose another, or delete that one with: vserver delete user 7"


@contextmanager
def terminal_of(columns: int) -> Iterator[io.TextIOWrapper]:
    """A stream that is a terminal of this width."""
    master, slave = pty.openpty()
    ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(slave, "w") as stream:
        yield stream
    os.close(master)


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_message_is_folded_between_words(columns: int) -> None:
    with terminal_of(columns) as stream:
        lines = messages.folded(TEXT, stream).split("\n")
    assert max(map(len, lines)) <= columns and all(line.startswith("  ") for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == TEXT


def test_wide_characters_count_twice() -> None:
    with terminal_of(20) as stream:
        assert messages.folded("検診検診 検診検診 検診検診", stream) == "検診検診 検診検診\n  検診検診"


def test_a_word_that_is_too_long_has_a_line_of_its_own() -> None:
    with terminal_of(20) as stream:
        assert messages.folded("see " + "x" * 30 + " now", stream) == "see\n  " + "x" * 30 + "\n  now"


def test_a_message_in_a_pipe_or_in_a_terminal_without_a_width_is_one_line() -> None:
    assert messages.folded(TEXT, io.StringIO()) == TEXT
    with terminal_of(0) as stream:
        assert messages.folded(TEXT, stream) == TEXT


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_an_error_of_a_command_fits_the_terminal_and_is_one_line_elsewhere(path: Path, columns: int) -> None:
    words = ["-d", str(path), "list", "tasks", "--where", "sttaus=failed"]
    terminal = Terminal([*PROGRAM, *words], environment(path.parent), columns)
    assert terminal.wait_for_end() == 2
    ended = vserver(*words)
    (line,) = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    assert line in " ".join(terminal.text.split())
    assert all(len(line) <= columns for line in terminal.text.splitlines())
