"""Plans on a terminal and in a pipe, at several widths and with untrusted text."""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vserverlib.plans.change import CHANGED, DELETED, NEW, Change, Field
from vserverlib.plans.plan import Plan
from vserverlib.terminal import display, plan_screen

FAKE = "x → y\x1b[31m\n  - user 1 [red]deleted[/red]"
CHANGES = (
    Change(
        CHANGED,
        "user",
        2,
        "user",
        'user 2 "anna"',
        (
            Field("password", "password", True, True, is_secret=True, note="unlocks the user"),
            Field("email", "email", None, FAKE),
        ),
    ),
    Change(NEW, "organization", 7, "organization", 'organization 7 "Ålesund"', server_id=9),
    Change(
        DELETED,
        "task",
        3,
        "task",
        'task 3 "mean"',
        dependents=(("task", 1), ("run", 60000)),
        theirs=(("taskdatabase", 2),),
    ),
)


def planned(*changes: Change) -> Plan:
    moment = datetime.datetime(2026, 11, 28, 14, 3, 7, tzinfo=datetime.UTC)
    return Plan("server.sqlite", 4, moment, changes, ("nodes are not notified",), Path("/home/anna/applied"))


def drawn(plan: Plan, width: int = 80, **options: Any) -> list[str]:
    """Return the lines that a terminal of a width, or a pipe, gets."""
    out = io.StringIO()
    Console(file=out, width=width, **options).print(plan_screen.Screen(plan))
    return out.getvalue().splitlines()


def test_each_row_and_field_has_its_line_in_80_columns() -> None:
    lines = drawn(planned(*CHANGES))
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert '~ user 2 "anna" password replaced; unlocks the user' in text
    assert '+ organization 9 "Ålesund" id 9 (7 here)' in text
    assert "with 1 task, 60,000 runs server-only 2 taskdatabase" in text
    assert "1 organization new; 1 user changed; 2 tasks, 60,000 runs deleted" in text
    assert "note: nodes are not notified" in text and "backup and record: /home/anna/applied" in text


def test_untrusted_text_imitates_no_line_and_no_colour() -> None:
    lines = drawn(planned(*CHANGES), 200, force_terminal=True, color_system="standard")
    assert sum("deleted[/red]" in line for line in lines) == 1
    (line,) = (line for line in lines if "x → y" in line)
    assert '"x → y\\x1b[31m\\n' in line  # in quotes, as it has an arrow of its own


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_it_fits_any_width(width: int) -> None:
    assert max(map(len, drawn(planned(*CHANGES), width))) <= width


def test_the_plain_text_has_the_same_lines() -> None:
    text = str(planned(*CHANGES))
    assert text.splitlines()[0].startswith("Plan for server.sqlite, vantage6 release 4, as of 14:03")
    assert '  ~ user 2 "anna"' in text and "\x1b" not in text and "60,000 runs" in text


def test_an_empty_plan_is_a_line() -> None:
    assert drawn(planned()) == ["No changes for server.sqlite"]


def test_the_prompt_draws_a_plan_once_it_is_registered() -> None:
    display.register(Plan, plan_screen.Screen)
    assert display.is_viewed(planned(*CHANGES))
