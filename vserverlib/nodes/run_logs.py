"""The log of a run: passed on as it comes, and cut to the size that a server stores."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable

MAX_HEAD, MAX_TAIL = 256 * 1024, 512 * 1024  # characters that are kept of a log: a server stores 1,048,576
PAUSE = 0.1  # seconds between two pieces
TAIL_LENGTH = 4096  # characters in which the reason of a crash is
LEFT_OUT = "\n… {:,} characters are left out …\n"
CUT = "\n… more is not shown while the run computes …\n"


class RunLog:
    """Collects the output of a run. Of a long one, the beginning is passed on, and beginning and end are kept."""

    def __init__(self, on_log: Callable[[str], None]) -> None:
        self._on_log = on_log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head: list[str] = []
        self._tail: list[str] = []
        self._waiting = ""
        self._head_length = self._tail_length = self._left_out = 0
        self._passed_on_at = 0.0

    def add(self, piece: bytes) -> None:
        """Add some output; none is its end."""
        text = self._decoder.decode(piece, final=not piece).replace("\0", "�")  # which no database stores
        head, tail = text[: MAX_HEAD - self._head_length], text[MAX_HEAD - self._head_length :]
        self._head.append(head)
        self._head_length += len(head)
        self._waiting += head
        if tail and not self._tail_length:
            self._waiting += CUT
        self._tail.append(tail)
        self._tail_length += len(tail)
        if self._tail_length > 2 * MAX_TAIL:
            self._cut()

    def _cut(self) -> None:
        text = "".join(self._tail)
        self._left_out += max(0, len(text) - MAX_TAIL)
        self._tail = [text[-MAX_TAIL:]]
        self._tail_length = len(self._tail[0])

    def seconds_to_wait(self) -> float | None:
        """Return when the next piece may be passed on; None without one."""
        return max(0.0, self._passed_on_at + PAUSE - time.monotonic()) if self._is_whole_line else None

    def pass_on(self, *, at_once: bool = False) -> None:
        """Pass on what has come, unless that was done just now."""
        if at_once:
            end = len(self._waiting)
        else:
            is_due = time.monotonic() >= self._passed_on_at + PAUSE
            end = (self._waiting.rfind("\n") + 1 or len(self._waiting)) if is_due and self._is_whole_line else 0
        if end:
            piece, self._waiting = self._waiting[:end], self._waiting[end:]
            self._on_log(piece)
            self._passed_on_at = time.monotonic()

    @property
    def _is_whole_line(self) -> bool:
        """Whether a line waits, or a large part of one: a server ends the line after each piece."""
        return "\n" in self._waiting or len(self._waiting) > TAIL_LENGTH

    @property
    def tail(self) -> str:
        """The last characters."""
        return "".join(self._head + self._tail)[-TAIL_LENGTH:]

    def end(self, remark: str) -> str:
        """Pass on the rest with a remark, and return the log."""
        self._cut()
        left_out = LEFT_OUT.format(self._left_out) if self._left_out else ""
        log = "".join([*self._head, left_out, *self._tail])
        if remark:
            last = f"{'' if log.endswith(chr(10)) or not log else chr(10)}{remark}\n"
            log += last
            self._waiting += last
        self.pass_on(at_once=True)
        return log
