"""The outcome of a task, as text: the result of each run, or the end of its log. queries/outcomes.py reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.padding import Padding
from rich.text import Text

from vserverlib.entities.progress import COMPLETED, FAILURE
from vserverlib.queries.outcomes import Outcome, Run
from vserverlib.terminal.views import Look

MOST_LINES = 40  # of a result
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


def _lines(run: Run, look: Look, width: int) -> Iterator[Text]:
    if run.state == COMPLETED:
        yield from _result(run, look, width)
    elif run.state == FAILURE:
        log = (run.log or "no log").splitlines()
        if len(log) > LOG_LINES:
            yield Text(f"{look.more} vserver show result {run.id} --follow prints the whole log", "dim")
        yield from (Text(look.safe(line), "dim") for line in log[-LOG_LINES:])


def _result(run: Run, look: Look, width: int) -> Iterator[Text]:
    """Return a result as JSON: on one line if it fits, else a line for each value."""
    short = json.dumps(run.result, ensure_ascii=False)
    lines = [short] if len(short) <= width else json.dumps(run.result, ensure_ascii=False, indent=INDENT).splitlines()
    yield from (Text(look.safe(line)) for line in lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        yield Text(f"{look.more} {len(short):,} characters in all: vserver show result {run.id} -o json", "dim")
