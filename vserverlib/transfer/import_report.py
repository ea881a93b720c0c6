"""The report of an import: lines for a person, a document for programs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import Error, pluralize, printable
from vserverlib.transfer.sources import ImportNotes, Lines

LINE_FIELDS = ("left_out", "doubled", "renumbered", "unusual", "lost_values", "broken")
COUNT_FIELDS = ("links", "values", "unmapped_tables", "lost", "breaches", "replaced")


class Count(NamedTuple):
    """The numbers of rows of a table in the source. left_out: with duplicates, which are kept once."""

    table: str
    read: int
    kept: int
    left_out: int


class Planned(NamedTuple):
    """The numbers of rows of an entity in a merge. refused: rows that cannot be kept."""

    entity: str
    new: int
    changed: int
    same: int
    refused: int


@dataclasses.dataclass
class ImportReport(ImportNotes):
    """The result of an import: the imported rows, and values that could not be kept.

    created: whether the import created the database. refused: rows that cannot be kept, by entity. links: links to rows
    that do not exist, by table and column. unmapped_tables, lost: rows in tables and columns without a place here.
    breaches: imported rows that break a rule, by its code; broken: a line for each of them, of a strict import. plan:
    of a merge, by entity. replaced: rows in which a value is replaced, by table and column. backup, change: a file or
    a number in the journal, to undo the import with.
    """

    created: bool = False
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

    def plan_summary(self) -> Iterator[str]:
        """Return lines about a merge that has not been done yet."""
        if self.replaced:
            yield f"columns that change (rows): {_listed(self.replaced)}"

    def summary(self, everything: bool = False) -> Iterator[str]:
        """Return the report as lines: all of them, or the first of each kind and the number of the others."""
        yield from self.left_out.summary("more left out (--dry-run --strict names all)", everything)
        yield from self.doubled.summary("more duplicate results, kept once", everything)
        yield from self.renumbered.summary("more with new ids", everything)
        yield from self.unusual.summary("more of this kind (--dry-run --strict names all)", everything)
        yield from self.lost_values.summary("more values are lost (--dry-run --strict names all)", everything)
        for link, count in self.links.items():
            yield f"{link}: {pluralize(count, 'link')} to rows that do not exist, empty now"
        for done, count in self.values.items():
            yield f"{done}: {count:,}"
        for what, counts in (("tables", self.unmapped_tables), ("columns or keys", self.lost)):
            if counts:
                yield f"{what} that have no place here (rows): {_listed(counts)}"
        yield from self.plan_summary()
        yield from self.broken
        if self.breaches:
            yield f"rules that imported rows break (rows): {_listed(self.breaches)}"

    def document(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "tables": [count._asdict() for count in self.tables],
            "plan": [each._asdict() for each in self.plan],
            **{name: list(getattr(self, name)) for name in LINE_FIELDS},
            **{name: dict(getattr(self, name)) for name in COUNT_FIELDS},
            "created": self.created,
            "backup": None if self.backup is None else str(self.backup),
            "change": self.change,
        }


class Refused(Error):
    """A strict import was refused: rows or values cannot be kept, or rows break rules."""

    def __init__(self, report: ImportReport) -> None:
        found = {
            f"{pluralize(report.left_out.total, 'row')} cannot be kept": report.left_out,
            f"{pluralize(report.lost_values.total, 'value')} would be lost": report.lost_values,
            f"{pluralize(report.broken.total, 'rule violation')}": report.broken,
        }
        why = ", ".join(words for words, lines in found.items() if lines)
        super().__init__(f"{why}: nothing was imported; to import all the same, leave out --strict")
        self.report = report


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{printable(name)} ({count:,})" for name, count in counts.items())
