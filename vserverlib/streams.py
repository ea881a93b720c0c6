"""The standard streams of a program whose starter has closed them (`<&-`, `2>&-`).

Python has None for such a stream. Whatever the program opens next would get the number of it, and a message for stderr
would be written into that file; `print` to a stderr of None writes to stdout.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any

from vserverlib import Error

CLOSED = "stdin is closed, and there is nothing to read: give it a file, a pipe or /dev/null"


class _ClosedInput(io.RawIOBase):
    """What stands for a closed stdin: reading from it is an Error."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise Error(CLOSED)

    def fileno(self) -> int:
        return 0


def replace_closed() -> None:
    """Put /dev/null in the place of each closed stream. Reading from stdin is an Error then; stdout stays None."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # it is the lowest number that is free, which is what the system gives
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_ClosedInput()))
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # it stays open as long as the program


def is_unread() -> bool:
    """Whether nobody reads stdout any more: it is a pipe whose reader has ended."""
    poll = select.poll()
    with contextlib.suppress(io.UnsupportedOperation, ValueError, AttributeError):  # a stdout that is no file
        poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))
