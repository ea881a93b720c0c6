"""A plan: the changes for a server's database, as data; and the errors of plans.

A plan holds no hash of a password or key. How its rows look as text is plan_text.py's, making one planning.py's.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vserverlib import Error, printable
from vserverlib.plans import plan_text
from vserverlib.plans.change import CHANGED, DELETED, NEW, Change

SHOWN = 5  # reasons in one line


class Refused(Error):
    """A plan that cannot be made or applied: nothing was written.

    reasons: one line for each row.
    """

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        more = len(self.reasons) - SHOWN
        shown = "; ".join(self.reasons[:SHOWN])
        super().__init__(f"{shown}; and {more:,} more" if more > 0 else shown)


class ChangedMeanwhile(Refused):
    """Others have written to the server's database: the plan would be another one now."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The changes that applying makes to a server's database. Two plans are equal if they do the same.

    server: its name in messages; release: of vantage6. copied_at: the moment of the working copy, in UTC. notes: side
    effects. counts: rows by kind of change and noun; theirs: rows of the server's own
    tables that are deleted. folder: where the backup and the record will be. reverts: the applied plan that this one
    undoes.
    """

    server: str
    release: int
    copied_at: datetime.datetime = dataclasses.field(compare=False)
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = dataclasses.field(compare=False)
    folder: Path = dataclasses.field(compare=False)
    reverts: int | None = None

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows are new, changed, deleted: {"new": {"organization": 1}}, those of dependents too."""
        found: dict[str, dict[str, int]] = {NEW: {}, CHANGED: {}, DELETED: {}}
        for change in self.changes:
            for noun, count in ((change.noun, 1), *change.dependents):
                found[change.kind][noun] = found[change.kind].get(noun, 0) + count
        return found

    @property
    def theirs(self) -> dict[str, int]:
        """How many rows of the server's own tables are deleted, by table."""
        found: dict[str, int] = {}
        for change in self.changes:
            for table, count in change.theirs:
                found[table] = found.get(table, 0) + count
        return found

    def with_ids(self, ids: Mapping[tuple[str, int | None], int]) -> Plan:
        """Return the plan with the ids that new rows have got there, by entity and id here."""

        def known(change: Change) -> Change:
            is_new = change.kind == NEW
            return dataclasses.replace(change, server_id=ids.get((change.entity, change.id))) if is_new else change

        return dataclasses.replace(self, changes=tuple(map(known, self.changes)))

    def as_json(self) -> dict[str, Any]:
        """Return the plan for programs: objects, lists, texts and numbers."""
        found = dataclasses.asdict(self)
        for change in found["changes"]:
            for name in ("dependents", "theirs", "emptied"):
                change[name] = dict(change[name])
        when = self.copied_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return {**found, "copied_at": when, "folder": str(self.folder), "counts": self.counts, "theirs": self.theirs}

    @property
    def title(self) -> str:
        """Return the first line of the plan."""
        about = f"a vantage6 server of release {self.release}"
        what = "Plan" if self.reverts is None else f"Plan to undo change {self.reverts}"
        return f"{what} for {printable(self.server, 200)}, {about}, as it was at {self.copied_at:%H:%M:%S} UTC"

    @property
    def summary(self) -> str:
        """Return how many rows are new, changed and deleted, in a line."""
        return plan_text.counted(self.counts, self.theirs)

    def end(self) -> Iterator[str]:
        """Return the lines below the rows: counts, notes, and where backup and record will be."""
        yield self.summary
        yield from (f"note: {printable(note, 300)}" for note in self.notes)
        yield f"backup and record: {printable(self.folder, 200)}"

    def __str__(self) -> str:
        if not self:
            return f"No changes for {printable(self.server, 200)}"
        rows = map(plan_text.plain, plan_text.lines(self.changes))
        return "\n".join([self.title, "", *rows, "", *(f"  {line}" for line in self.end())])

    __repr__ = __str__


@dataclasses.dataclass(frozen=True)
class Applied:
    """A plan that was applied: its number at this server, how long it took and how long others were locked out (s)."""

    plan: Plan
    number: int
    seconds: float
    locked: float
    record: Path
    backup: Path | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"applied in {self.seconds:.2f} s as change {self.number} of {self.plan.server}"

    __repr__ = __str__
