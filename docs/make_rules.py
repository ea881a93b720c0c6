"""Write the table in docs/checks.md from the rules.

    python docs/make_rules.py

A test compares the page with page(). The text around the table is written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

PAGE = HERE / "checks.md"
ROWS = re.compile(r"(?<=\|---\|---\|---\|---\|---\|\n)(\|.*\n)+")


def page() -> str:
    """Return the text of the page."""
    from vserverlib.entities.rules import RULES

    cells = ((rule.code, rule.level, rule.entity or "the file", rule.breaks, rule.when) for rule in RULES)
    rows = "".join(f"| {' | '.join(row)} |\n" for row in cells)
    return ROWS.sub(lambda _: rows, PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
    print("written: docs/checks.md")
