"""Progress of long work: a callback with the number of items that are done, called every TICK seconds.

terminal/live_display.py shows it as a bar.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TypeVar

TICK = 0.1  # seconds between two calls

Advance = Callable[[int], object]  # takes the number of items that are done
Item = TypeVar("Item")


def ticker(advance: Advance) -> Callable[[Item], Item]:
    """Return a function that passes items through unchanged, and reports from time to time how many there were."""
    numbers, reported_at = itertools.count(1), time.monotonic()

    def tick(item: Item) -> Item:
        nonlocal reported_at
        number, at = next(numbers), time.monotonic()
        if at - reported_at > TICK:
            reported_at = at
            advance(number)
        return item

    return tick
