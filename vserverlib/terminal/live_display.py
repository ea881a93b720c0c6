"""What moves: lines of a terminal that are drawn anew in place, and a bar for work that takes long.

It owns the drawing. What is drawn is its caller's; consoles are views.py's.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from vserverlib import messages, signals
from vserverlib.progress_callback import Advance
from vserverlib.terminal import views

BAR_AFTER = 1.0  # seconds of work until a bar shows how far it is


class Screen:
    """The lines of a terminal on stdout below what is there already, drawn anew in place: a context manager."""

    def __init__(self) -> None:
        from rich.live import Live

        self.console = views.target(sys.stdout, None, messages.is_colourful(sys.stdout), None, is_terminal=True)
        self.live = Live(console=self.console, auto_refresh=False, vertical_overflow="crop")
        self.size = self.console.size
        self.typing = _unseen_keys()

    def __enter__(self) -> Screen:
        self.typing.__enter__()
        self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        with signals.held():
            self.live.__exit__(*error)
            self.typing.__exit__(*error)

    @property
    def lines(self) -> int:
        """How many lines there is room for."""
        return self.console.size.height

    def is_resized(self) -> bool:
        """Whether the size has changed. What was drawn is wiped then: the terminal has broken its lines anew."""
        before, self.size = self.size, self.console.size
        if self.size != before:
            self.console.clear()
        return self.size != before

    def show(self, renderable: Any) -> None:
        """Draw this in the place of what was drawn before."""
        self.live.update(renderable, refresh=True)


@contextlib.contextmanager
def _unseen_keys() -> Iterator[None]:
    """Have keys that are pressed meanwhile, Enter above all, not move what is drawn; in the end they are forgotten."""
    keys = _keys()
    if keys is None:
        yield
        return
    import termios

    before = termios.tcgetattr(keys)
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(keys, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        with signals.held():
            termios.tcsetattr(keys, termios.TCSAFLUSH, before)


def _keys() -> int | None:
    """Return stdin where it is a terminal whose keys are for us: a program in the background would be stopped."""
    try:
        keys = sys.stdin.fileno()
        return keys if os.isatty(keys) and os.tcgetpgrp(keys) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):  # closed, none at all, or a system that has no terminals
        return None


@contextlib.contextmanager
def progress_bar(text: str, total: int) -> Iterator[Advance]:
    """Draw a bar on stderr, where that is a terminal, once it takes over a second. Call it with how much is done.

    It is gone when all is done, or at the end of the block.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    stream, began = sys.stderr, time.monotonic()
    console = views.target(stream, None, messages.is_colourful(stream), None, is_terminal=messages.is_capable(stream))
    parts = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*parts, console=console, transient=True, disable=not messages.is_capable(stream))
    task = bar.add_task(text, total=total)

    def advance(done: int) -> None:
        bar.update(task, completed=done)
        if done >= total:
            bar.stop()
        elif time.monotonic() - began > BAR_AFTER:
            bar.start()

    try:
        yield advance
    finally:
        with signals.held():
            bar.stop()
