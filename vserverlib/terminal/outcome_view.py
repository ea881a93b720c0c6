"""The outcome of a task, as text: the result of each run, or the end of its log. queries/outcomes.py reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vserverlib.entities.progress import COMPLETED, FAILURE
from vserverlib.queries.outcomes import Outcome, Run
from vserverlib.terminal.views import GAP, Look

MOST_LINES = 40  # of a result, or rows of one
LOG_LINES = 5  # at the end of a log
INDENT = 2


class OutcomeView:
    """For each run its state and organization, and below its result or the end of its log."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        for run in self.outcome.runs:
            name = look.none if run.organization is None else look.value(run.organization)
            yield Text.assemble(look.state(run.status), "  ", (name, "bold"), (f"  (result {run.id})", "dim"))
            for line in _lines(run, look, options.max_width - INDENT):
                yield Padding(line, (0, 0, 0, INDENT), expand=False)


def _lines(run: Run, look: Look, width: int) -> Iterator[Any]:
    if run.state == COMPLETED:
        yield from _result(run.result, look, width)
    elif run.state == FAILURE:
        log = (run.log or "no log").splitlines()
        yield from [Text(look.more, "dim")] if len(log) > LOG_LINES else []
        yield from (Text(look.safe(line), "dim") for line in log[-LOG_LINES:])


def _result(result: Any, look: Look, width: int) -> Iterator[Any]:
    """Return rows as a table; any other result as JSON, on one line if it fits, else a line for each value."""
    short = json.dumps(result, ensure_ascii=False)
    if _is_table(result):
        yield _table(result[:MOST_LINES], look)
        count = len(result)
    else:
        lines = [short] if len(short) <= width else json.dumps(result, ensure_ascii=False, indent=2).splitlines()
        yield from (Text(look.safe(line)) for line in lines[:MOST_LINES])
        count = len(lines)
    if count > MOST_LINES:
        yield Text(f"{look.more} {len(short):,} characters in all: -o json prints them", "dim")


def _is_table(result: Any) -> bool:
    """Whether a result is a list of objects with the same names, whose values are no lists or objects."""
    if not isinstance(result, list) or not all(isinstance(row, dict) and row for row in result):
        return False
    values = (value for row in result for value in row.values())
    return len({tuple(row) for row in result}) == 1 and not any(isinstance(value, dict | list) for value in values)


def _table(rows: list[dict[str, Any]], look: Look) -> Table:
    table = Table.grid(padding=(0, GAP, 0, 0))
    for name in rows[0]:
        is_number = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(justify="right" if is_number else "left", overflow="fold")
    table.add_row(*(Text(look.value(name), "dim") for name in rows[0]))
    for row in rows:
        table.add_row(*(Text(look.none if value is None else look.value(value)) for value in row.values()))
    return table
