"""Counting the steps of SQLite's statements, which shows how work grows without measuring time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def count_steps(database: Any, unit: int) -> Callable[[], int]:
    """Count steps from now on, in units of so many; return a function that returns the count (0 on PostgreSQL)."""
    units = 0

    def step() -> int:
        nonlocal units
        units += 1
        return 0

    if database.is_sqlite:
        database.connection().set_progress_handler(step, unit)
    return lambda: units
