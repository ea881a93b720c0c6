"""Draw a plan on the terminal: a line for each row and field, with old → new values, in the available width.

Each title and field has a line of its own, so that an untrusted value cannot imitate another one. plans/plan.py
has the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console, ConsoleOptions, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vserverlib import printable
from vserverlib.plans import plan_text
from vserverlib.plans.change import Change, Field
from vserverlib.plans.plan import Applied, Plan
from vserverlib.plans.records import Record
from vserverlib.terminal.views import Look

COLOURS = {"~": "cyan", "+": "green", "-": "red"}
INDENT = 2
LABELS = 13  # columns of the names of fields, at least
IN_ASCII = {plan_text.ARROW: "->", plan_text.EMPTY: "-"}


class Screen:
    """A rich renderable of a plan. backup: whether a backup is made before it is applied."""

    def __init__(self, plan: Plan, *, backup: bool = True) -> None:
        self.plan, self.backup = plan, backup

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        if not self.plan:
            yield Text(look.safe(str(self.plan)), "dim")
            return
        yield Text(look.safe(self.plan.title), "bold")
        yield ""
        yield Padding(Group(*_rows(self.plan, look)), (0, 0, 0, INDENT))
        yield ""
        for line in self.plan.end(backup=self.backup):
            yield Padding(Text(look.safe(line), "dim" if line != self.plan.summary else ""), (0, 0, 0, INDENT))


def _rows(plan: Plan, look: Look) -> Iterator[Any]:
    """Return the titles of the rows, each with a grid of its fields."""
    for is_title, lines in groupby(plan_text.lines(plan.changes), key=lambda line: bool(line.what)):
        if is_title:
            yield from (_hanging(line.mark, _safe(line.what, look), COLOURS[line.mark]) for line in lines)
        else:
            grid = Table.grid(padding=(0, 1))
            grid.add_column(min_width=LABELS)
            grid.add_column(ratio=1)
            for line in lines:
                grid.add_row(Text(_safe(line.field, look)), Text(_safe(line.value, look)))
            grid.expand = True
            yield Padding(grid, (0, 0, 0, 2 * INDENT))


def _hanging(mark: str, what: str, colour: str) -> Table:
    """Return a title whose further lines are indented."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(mark, colour), Text(what, colour))
    return grid


def _safe(text: str, look: Look) -> str:
    """Return a text in characters that the output can encode."""
    for sign, plain in IN_ASCII.items() if look.ascii else ():
        text = text.replace(sign, plain)
    return look.safe(text)


def of_applied(applied: Applied) -> Text:
    """Return the text that the prompt shows for an applied plan."""
    return Text(str(applied))


class AppliedLog:
    """What was applied to a server's database: number, time, person, summary; the plans, if asked."""

    def __init__(self, records: Sequence[Record], *, with_plans: bool) -> None:
        self.records, self.with_plans = records, with_plans

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        for record in self.records:
            head = f"{record.number:>4}  {record.at:%Y-%m-%d %H:%M} UTC  {printable(record.actor, 60)}{_fate(record)}"
            yield Text(look.safe(head), "bold")
            yield Padding(Text(look.safe(printable(record.summary, 500))), (0, 0, 0, 6), expand=False)
            changes = map(_change, record.plan["changes"])
            if not self.with_plans:
                names = plan_text.named(changes, len(record.plan["changes"]))
                yield Padding(Text(_safe(names, look), "dim"), (0, 0, 0, 6), expand=False)
            for line in plan_text.lines(changes) if self.with_plans else ():
                yield Padding(Text(_safe(plan_text.plain(line), look)), (0, 0, 0, 4), expand=False)


def _fate(record: Record) -> str:
    undoes = "" if record.reverts is None else f", undoes {record.reverts}"
    undone = "" if record.reverted_by is None else f", undone by {record.reverted_by}"
    return undoes + undone + (", no longer in the database" if record.gone else "")


def _change(stored: dict[str, Any]) -> Change:
    rows = {name: tuple(stored[name].items()) for name in ("dependents", "theirs", "emptied")}
    return Change(**{**stored, **rows, "fields": tuple(Field(**field) for field in stored["fields"])})
