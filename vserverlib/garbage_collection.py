"""Python's garbage collector, which would scan objects that stay (imported modules, long lists) repeatedly."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COMMAND_THRESHOLD = 50_000  # new objects until a collection in a command; Python's 700 suits small programs


@contextmanager
def paused(*, are_kept: bool = False) -> Iterator[None]:
    """Pause the collector within this block. are_kept: later collections skip what the block creates, too."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if are_kept:
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def rare() -> Iterator[None]:
    """Collect rarely within this block, which is a whole command, and not when the program ends after it."""
    gc.set_threshold(COMMAND_THRESHOLD)
    try:
        yield
    finally:
        gc.freeze()
