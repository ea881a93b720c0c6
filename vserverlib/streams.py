"""Standard streams that are closed when the program starts (`<&-`, `2>&-`).

Python sets such a stream to None. The next file that is opened would get its number, and messages for stderr would be
written to that file; `print` to a stderr of None writes to stdout.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any

from vserverlib import Error

CLOSED = "stdin is closed, so there is nothing to read: give it a file, a pipe or /dev/null"


class _ClosedInput(io.RawIOBase):
    """Stands in for a closed stdin: reading from it raises an Error."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise Error(CLOSED)

    def fileno(self) -> int:
        return 0


def replace_closed() -> None:
    """Open /dev/null for each closed stream. Reading from stdin then raises an Error; stdout stays None."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the system assigns the lowest free number, which is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_ClosedInput()))
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # open until the program ends


def is_unread() -> bool:
    """Whether nobody reads stdout any more: it is a pipe whose reader has ended."""
    poll = select.poll()
    with contextlib.suppress(io.UnsupportedOperation, ValueError, AttributeError):  # a stdout without a file
        poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))
