"""The table of docs/reliability.md: which test holds which promise."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"


@cache
def named() -> frozenset[tuple[str, str]]:
    """Return the tests of the table: file and function."""
    table = PAGE.read_text().partition("## Which test holds which promise")[2]
    return frozenset(re.findall(r"`(test_\w+\.py)::(test_\w+)`", table))


def is_held_by(test: pytest.Item) -> bool:
    """Whether the table names a test."""
    return (test.path.name, getattr(test, "originalname", test.name)) in named()
