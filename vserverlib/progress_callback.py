"""How far long work is: told from time to time by what does it, to whoever asked.

Nothing here shows it: a bar at a terminal is terminal/live_display.py's.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TypeVar

TICK = 0.1  # seconds between two times that it is told

Advance = Callable[[int], object]  # is called with how many are done
Item = TypeVar("Item")


def ticker(advance: Advance) -> Callable[[Item], Item]:
    """Return what passes things on one by one, and tells from time to time how many have been."""
    numbers, told_at = itertools.count(1), time.monotonic()

    def tick(item: Item) -> Item:
        nonlocal told_at
        number, at = next(numbers), time.monotonic()
        if at - told_at > TICK:
            told_at = at
            advance(number)
        return item

    return tick
