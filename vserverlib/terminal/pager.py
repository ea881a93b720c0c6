"""Output longer than the screen goes through a pager: less -FRX, or the program in VSERVER_PAGER or PAGER.

Only for a capable terminal in the foreground. Output that fits the screen is printed as it is. Quitting the pager ends
the output, not the command: its exit status and its messages stay.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from vserverlib import messages, printable, signals

if TYPE_CHECKING:
    import subprocess

DEFAULT = ["less", "-FRX"]  # leave at once if all fits, keep colours, keep the screen
NO_PAGER = ("", "cat")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class _Quit(Exception):  # no error
    """The user has quit the pager."""


class Paged:
    """Stands in for stdout: keeps the text until it is longer than the screen, then starts the pager.

    It looks like the terminal, so that widths and colours stay. has_quit: whether the user has quit before the end.
    """

    def __init__(self, stream: TextIO, command: list[str]) -> None:
        self.stream, self.command = stream, command
        self.size = os.get_terminal_size(stream.fileno())
        self.kept: list[str] = []
        self.lines, self.has_quit = 0, False
        self.process: subprocess.Popen[bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Keep a text, or pass it on to the pager."""
        if self.process is not None:
            self._pass_on(text)
        elif self.command:
            self.lines += self._height(text)
            self.kept.append(text)
            if self.lines >= self.size.lines:
                self._start()
        else:
            self.stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one by one."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing before the end: the text may still fit the screen."""

    def _height(self, text: str) -> int:
        """Return the number of lines of the screen that a text takes, at least."""
        width = self.size.columns or 1
        lines = ESCAPE.sub("", text).split("\n")
        return len(lines) - 1 + sum((len(line) - 1) // width for line in lines if line)

    def _start(self) -> None:
        import subprocess

        kept, self.kept = "".join(self.kept), []
        try:
            # Without a buffer: closing the pipe never waits for the pager.
            env = {"LESS": "FRX", **os.environ}
            with signals.held():
                self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, bufsize=0, env=env)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or printable(error)
            messages.notify(f"the pager {printable(self.command[0])} cannot be started: {reason}", "yellow")
            self.command = []
        self.write(kept)

    def _pass_on(self, text: str) -> None:
        data = memoryview(text.encode(self.stream.encoding, self.stream.errors or "strict"))
        try:
            while data:
                data = data[self.process.stdin.write(data) :]  # type: ignore[union-attr]  # it is a pipe
        except BrokenPipeError:
            self.has_quit = True
            raise _Quit from None

    def finish(self) -> None:
        """Print what fits the screen, or wait until the user leaves the pager. Ctrl-C is the pager's meanwhile."""
        if self.process is None:
            self.stream.write("".join(self.kept))
            self.stream.flush()
            return
        while True:
            try:
                self.process.stdin.close()  # type: ignore[union-attr]
                if signals.is_ending():
                    self.process.terminate()
                self.process.wait()
                return
            except KeyboardInterrupt:
                continue


@contextlib.contextmanager
def paged() -> Iterator[Any]:
    """Send what is printed to stdout in this block through a pager, if it is longer than the screen.

    Yields an object whose has_quit says whether the user has quit the pager, which ends the block early.
    """
    before, command = sys.stdout, _command()
    stream = Paged(before, command)
    sys.stdout = stream  # it has what printing needs
    try:
        with contextlib.suppress(_Quit):
            yield stream
    finally:
        sys.stdout = before
        stream.finish()


def _command() -> list[str]:
    """Return the command line of the pager; [] for none."""
    import shlex
    import shutil

    asked = os.environ.get("VSERVER_PAGER", os.environ.get("PAGER"))
    if not messages.is_capable(sys.stdout) or not _is_in_foreground():
        return []
    if asked is None:
        return DEFAULT if shutil.which(DEFAULT[0]) else []
    try:
        return [] if asked.strip() in NO_PAGER else shlex.split(asked)
    except ValueError:  # a quote without its end
        return [asked]


def _is_in_foreground() -> bool:
    """Whether this process may use the terminal: a pager in the background would stop."""
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except OSError:
        return False
