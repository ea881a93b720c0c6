"""What became of an import: data for a person, line by line, and for programs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import Error, pluralize, printable
from vserverlib.transfer.sources import Lines, Notes

LINES = ("left_out", "doubled", "renumbered", "unusual", "lost_values", "broken")  # an outcome has a line for each of
COUNTS = ("links", "values", "unmapped_tables", "lost", "breaches", "replaced")  # and what numbers by name


class Count(NamedTuple):
    """What became of the rows of a table of the source. left_out: those that were kept once, too."""

    table: str
    read: int
    kept: int
    left_out: int


class Planned(NamedTuple):
    """What a merge does with the rows of an entity. refused: what cannot be kept."""

    entity: str
    new: int
    changed: int
    same: int
    refused: int


@dataclasses.dataclass
class Outcome(Notes):
    """What was imported, and what could not be kept as it was.

    made: whether the database was made for it. refused: how many rows cannot be kept, by entity. links: how many led
    nowhere, by table and column. unmapped_tables, lost: tables and columns without a place here, with their rows.
    breaches: how many of the imported rows break a rule, by its code; broken: which, where that was asked for. plan:
    of a merge, by entity; replaced: in how many rows a value is replaced, by table and column. backup, change: what
    takes it back, a file or the number in the journal.
    """

    made: bool = False
    tables: list[Count] = dataclasses.field(default_factory=list)
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    links: Counter[str] = dataclasses.field(default_factory=Counter)
    unmapped_tables: dict[str, int] = dataclasses.field(default_factory=dict)
    lost: dict[str, int] = dataclasses.field(default_factory=dict)
    breaches: dict[str, int] = dataclasses.field(default_factory=dict)
    broken: Lines = dataclasses.field(default_factory=Lines)
    plan: list[Planned] = dataclasses.field(default_factory=list)
    replaced: dict[str, int] = dataclasses.field(default_factory=dict)
    backup: Path | None = None
    change: int | None = None

    @property
    def has_news(self) -> bool:
        """Whether a merge has anything to write."""
        return any(each.new or each.changed for each in self.plan)

    def told_of_plan(self) -> Iterator[str]:
        """Return what a person should know of a merge before it is done."""
        if self.replaced:
            yield f"columns that change, and in how many rows: {_listed(self.replaced)}"

    def summary(self, everything: bool = False) -> Iterator[str]:
        """Return what a person should know of it, line by line: every row, or the first ones and how many more."""
        yield from self.left_out.summary("more left out (--dry-run --strict names all)", everything)
        yield from self.doubled.summary("more results are kept once", everything)
        yield from self.renumbered.summary("more with new ids", everything)
        yield from self.unusual.summary("more of this kind (--dry-run --strict names all)", everything)
        yield from self.lost_values.summary("more values are lost (--dry-run --strict names all)", everything)
        for link, count in self.links.items():
            yield f"{link}: {count:,} led to rows that do not exist, and {'is' if count == 1 else 'are'} empty now"
        for done, count in self.values.items():
            yield f"{done}: {count:,}"
        for what, counts in (("tables", self.unmapped_tables), ("columns or keys", self.lost)):
            if counts:
                yield f"{what} that have no place here, and how many rows: {_listed(counts)}"
        yield from self.told_of_plan()
        yield from self.broken
        if self.breaches:
            yield f"rules that imported rows break, and how many: {_listed(self.breaches)}"

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "tables": [count._asdict() for count in self.tables],
            "plan": [each._asdict() for each in self.plan],
            **{name: list(getattr(self, name)) for name in LINES},
            **{name: dict(getattr(self, name)) for name in COUNTS},
            "made": self.made,
            "backup": None if self.backup is None else str(self.backup),
            "change": self.change,
        }


class Refused(Error):
    """A strict import that was not done: rows or values cannot be kept, or break rules."""

    def __init__(self, outcome: Outcome) -> None:
        message = {
            f"{pluralize(outcome.left_out.total, 'row')} cannot be kept": outcome.left_out,
            f"{pluralize(outcome.lost_values.total, 'value')} would be lost": outcome.lost_values,
            f"rules are broken {pluralize(outcome.broken.total, 'time')}": outcome.broken,
        }
        why = ", and ".join(words for words, lines in message.items() if lines)
        super().__init__(f"{why}: nothing was imported; without --strict it would be")
        self.outcome = outcome


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{printable(name)} ({count:,})" for name, count in counts.items())
