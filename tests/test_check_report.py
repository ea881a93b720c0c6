"""Findings as a person sees them."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from vserverlib.entities import checks, rules
from vserverlib.terminal import check_report, views

HOSTILE = "\x1b[31m[red]\r\n\u202e" + "健" * 200


def shown(found: checks.Findings, width: int = 80) -> str:
    return views.render(check_report.Report(found), width=width, color=False)


def test_what_is_worst_comes_first() -> None:
    found = checks.Findings(checks.finding(code, 1, "x", None) for code in ("TSK005", "ORG002", "TSK001"))
    text = shown(found)
    assert text.index("TSK001 error") < text.index("ORG002 warning") < text.index("TSK005 info")
    assert text.splitlines()[-1] == "1 error, 1 warning, 1 note"


def test_the_first_rows_of_a_rule_are_shown_and_the_others_counted() -> None:
    text = shown(checks.Findings(checks.finding("TSK001", number, "x", None) for number in range(1, 1500)))
    assert "TSK001 error 1,499" in text and "… 1,489 more" in text
    assert text.count('"x": it has no collaboration') == check_report.SHOWN and text.count("remedy:") == 1


@pytest.mark.parametrize("width", [40, 80, 120])
def test_hostile_names_keep_to_their_lines(width: int) -> None:
    text = shown(checks.Findings([checks.finding("ORG002", 1, HOSTILE, HOSTILE)]), width)
    lines = text.splitlines()
    assert all(line.isprintable() and cell_len(line) <= width for line in lines)
    assert "\\x1b[31m[red]" in text


def test_nothing_found_says_so() -> None:
    assert shown(checks.Findings([])) == "nothing found\n"


def test_a_screen_without_unicode_shows_ascii() -> None:
    found = checks.Findings(checks.finding("TSK001", number, "健", None) for number in range(20))
    assert check_report.Report(found)
    assert check_report.summary({rules.ERROR: 1200, rules.WARNING: 0, rules.INFO: 1}) == "1,200 errors, 1 note"
