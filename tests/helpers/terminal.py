"""A real terminal for tests: pexpect runs a program in it, pyte reads its screen.

It never sleeps: it waits for a text on the screen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pyte
from pexpect import fdpexpect

from helpers import starter

ROOT = Path(__file__).parent.parent.parent
# With the last two, coverage also measures programs that a test starts.
OF_COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_CORE")
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "PYTHONPYCACHEPREFIX", *OF_COVERAGE)
PATIENCE = 120.0  # seconds until a wait fails; on an idle machine it takes a fraction of one
SHELL = """import sys, models, shell
shell.start(models.connect(sys.argv[1], read_only={read_only}, sandbox={sandbox}){options})"""


class Terminal:
    """A terminal with a program. It scrolls when it is full, so give it enough lines."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        columns: int = 80,
        lines: int = 60,
        is_forked: bool = True,
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.Stream(self.screen)
        self.raw, self.number = "", 1
        self._text: str | None = ""  # None if it is out of date
        self.child = _started(command, env, (lines, columns), is_forked)
        self.screen.write_process_input = self.child.send  # answers questions for the cursor's position

    def _read(self, seconds: float) -> bool:
        """Read the program's output; return False if the program has ended."""
        try:
            text = self.child.read_nonblocking(65536, timeout=seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += text
        self.stream.feed(text)
        self._text = None
        return True

    @property
    def text(self) -> str:
        """The text on the screen, without blanks at the ends of lines."""
        if self._text is None:
            self._text = "\n".join(self._line(row) for row in range(self.screen.lines)).rstrip()
        return self._text

    def _line(self, row: int) -> str:
        """Return the text of a line. pyte's own display reads every column, which takes most of a test's time."""
        cells = self.screen.buffer.get(row)
        if not cells:
            return ""
        data = [cells[column].data if column in cells else " " for column in range(max(cells) + 1)]
        return "".join(data).rstrip()

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """Return the screen as soon as it has a pattern so many times; fail if the program ends before."""
        until = time.monotonic() + PATIENCE
        while len(re.findall(pattern, self.text, re.MULTILINE)) < times:
            if not self._read(0.05) or time.monotonic() > until:
                raise AssertionError(f"{pattern!r} did not come onto the screen:\n{self.text}")
        return self.text

    def press_until(self, keys: str, pattern: str) -> str:
        """Press keys once a second until the screen has a pattern: a program may drop what is typed too early."""
        until = time.monotonic() + PATIENCE
        while not re.search(pattern, self.text, re.MULTILINE):
            self.send(keys)
            pressed = time.monotonic()
            while time.monotonic() < pressed + 1 and not re.search(pattern, self.text, re.MULTILINE):
                assert self._read(0.05) and time.monotonic() < until, f"{pattern!r} did not come:\n{self.text}"
        return self.text

    def wait_for_secret(self, question: str, times: int = 1) -> None:
        """Return when a hidden answer can be typed: after the blank that follows. Earlier input is discarded."""
        self.wait_for(question, times)
        while not self.raw.endswith(" ") and self._read(PATIENCE):
            pass

    def wait_for_prompt(self, number: int | None = None) -> str:
        """Return the screen when it ends with the prompt of a cell, by default the next one."""
        self.number = number or self.number
        return self.wait_for(rf" \[{self.number}\]: *\Z")

    def send(self, keys: str) -> None:
        """Press keys."""
        self.child.send(keys)

    def interrupt(self) -> None:
        """Press Ctrl-C once the program waits for a key: Python's readline can miss one that comes just before."""
        until = time.monotonic() + PATIENCE
        while not (self._sleeps() and self._read(0.02) and self._sleeps()) and time.monotonic() < until:
            self._read(0.02)
        self.send("\x03")

    def _sleeps(self) -> bool:
        """Whether the program in the foreground waits. True where the system does not say."""
        file = Path(f"/proc/{os.tcgetpgrp(self.child.child_fd)}/stat")
        return not file.exists() or file.read_text().rpartition(")")[2].split()[0] == "S"

    def enter(self, line: str = "") -> str:
        """Type a line at the prompt (or only Enter), and return the output before the next prompt."""
        if line:
            self.wait_for_prompt()
        self.send(line + "\r")
        return self.answer()

    def answer(self) -> str:
        """Return the output between the entered cell, without its first line, and the next prompt."""
        after = self.wait_for_prompt(self.number + 1)
        shown = after[after.rindex(f" [{self.number - 1}]: ") :].splitlines()
        return "\n".join(shown[1:-1]).strip("\n")

    def paste(self, block: str) -> None:
        """Paste as a terminal does: between marks that distinguish pasting from typing."""
        self.send(f"\x1b[200~{block}\x1b[201~")

    def leave(self) -> int:
        """Press Ctrl-D, and return the exit status of the program."""
        self.send("\x04")
        return self.wait_for_end()

    def wait_for_end(self, keys: str = "") -> int:
        """Wait for the end of the program and return its exit status; fail if it does not end.

        keys: pressed once a second until then, for a program that drops what is typed while it is busy.
        """
        until, pressed = time.monotonic() + PATIENCE, 0.0
        while self._read(0.05):
            now = time.monotonic()
            assert now < until, f"it did not end:\n{self.text}"
            if keys and now > pressed + 1:
                self.send(keys)
                pressed = now
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus)


class _Forked(fdpexpect.fdspawn):  # type: ignore[misc]  # pexpect has no types
    """What pexpect.spawn is, for a process that a starter forks."""

    def __init__(self, request: starter.Request, size: tuple[int, int], **options: Any) -> None:
        ours, theirs = pty.openpty()
        super().__init__(ours, **options)
        self.setwinsize(*size)
        self._started = starter.Started(request, [theirs] * 3)
        os.close(theirs)
        self.pid, self.kill = self._started.pid, self._started.kill

    def setwinsize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self, force: bool = False) -> None:
        """Close the terminal, which ends what runs in it, and note how it ended."""
        super().close()
        if force:
            self.kill(signal.SIGKILL)
        status = self._started.wait()
        self.exitstatus, self.signalstatus = (status, None) if status >= 0 else (None, -status)


def _started(command: Sequence[str], env: Mapping[str, str], size: tuple[int, int], is_forked: bool) -> Any:
    """Start a program in a terminal, by a fork if it is ours and is_forked."""
    options: dict[str, Any] = {"encoding": "utf-8", "codec_errors": "replace"}
    request = starter.Request(list(command[1:]), os.getcwd(), env, has_terminal=True)
    if is_forked and command[0] == sys.executable and request.can_be_forked:
        return _Forked(request, size, **options)
    child = pexpect.spawn(command[0], list(command[1:]), env=dict(env), dimensions=size, echo=True, **options)
    child.delaybeforesend = None
    return child


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a user at a terminal, with a given home."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "HOME": str(home), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **more}


@contextmanager
def shell_at(
    path: Path,
    home: Path,
    *,
    read_only: bool = False,
    sandbox: bool = False,
    options: str = "",
    columns: int = 80,
    lines: int = 60,
    **env: str,
) -> Iterator[Terminal]:
    """Run a shell on a database in a terminal; options: more arguments of shell.start(), such as ", debug=True"."""
    code = SHELL.format(read_only=read_only, sandbox=sandbox, options=options)
    command = [sys.executable, "-c", code, str(path)]
    terminal = Terminal(command, environment(home, **env), columns, lines)
    try:
        yield terminal
    finally:
        terminal.child.close(force=True)
