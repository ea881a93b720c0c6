"""Output that is redrawn in place: lines of a terminal, and a progress bar."""

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

BAR_AFTER = 1.0  # seconds of work before a progress bar appears


class Screen:
    """Lines of a terminal on stdout that are redrawn in place, below earlier output: a context manager."""

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
        """The height of the terminal in lines."""
        return self.console.size.height

    def is_resized(self) -> bool:
        """Whether the size has changed. If so, the terminal has wrapped the lines anew, and they are cleared."""
        before, self.size = self.size, self.console.size
        if self.size != before:
            self.console.clear()
        return self.size != before

    def show(self, renderable: Any) -> None:
        """Draw this in place of the previous drawing."""
        self.live.update(renderable, refresh=True)


@contextlib.contextmanager
def _unseen_keys() -> Iterator[None]:
    """Switch off the echo, because Enter would move the drawing; discard all keys at the end."""
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
    """Return stdin if it is our terminal, else None: the system stops a background program that changes it."""
    try:
        keys = sys.stdin.fileno()
        return keys if os.isatty(keys) and os.tcgetpgrp(keys) == os.getpgrp() else None
    except (OSError, ValueError, AttributeError):  # stdin is closed or missing, or the system has no terminals
        return None


@contextlib.contextmanager
def progress_bar(text: str, total: int) -> Iterator[Advance]:
    """Draw a progress bar on stderr, if that is a terminal, after a second. Call the result with the amount done.

    The bar disappears when everything is done, at the latest at the end of the block.
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
