"""A plan: the changes to a server's database, as data; and the errors of plans.

A plan contains no hash of a password or key. planning.py computes plans, and plan_text.py formats their rows.
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

SHOWN = 5  # reasons in the text of an error
START_AGAIN = "to start from a new copy, run the command again, or leave the prompt and open it again"


class Refused(Error):
    """The changes cannot be planned or applied. Nothing was written.

    reasons: one line for each row.
    """

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        more = len(self.reasons) - SHOWN
        shown = "; ".join(self.reasons[:SHOWN])
        super().__init__(f"{shown}; and {more:,} more" if more > 0 else shown)


class Conflict(Refused):
    """Rows of the server were changed since they were copied. Nothing was written."""

    def __init__(self, reasons: Iterable[str]) -> None:
        super().__init__(reasons)
        self.args = (f"{self}; nothing was written: {START_AGAIN}",)


class ChangedMeanwhile(Refused):
    """The server's database was changed meanwhile, so that the plan is no longer the one that was confirmed."""

    def __init__(self, server: str, what: str) -> None:
        remedy = "review the new plan: run the command again, or db.apply() at the prompt"
        super().__init__([f"{server} was changed meanwhile, so {what}: nothing was written; {remedy}"])


@dataclasses.dataclass(frozen=True)
class Plan:
    """The changes to a server's database. Two plans are equal if they make the same changes.

    server: the name of the database in messages; release: of vantage6. copied_at: when the working copy was made, in
    UTC. notes: side effects. folder: of the backup and the record. reverts: the number of the applied plan that this
    one undoes.
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
        """The number of rows by kind of change and noun, dependents included: {"new": {"organization": 1}, ...}."""
        found: dict[str, dict[str, int]] = {NEW: {}, CHANGED: {}, DELETED: {}}
        for change in self.changes:
            for noun, count in ((change.noun, 1), *change.dependents):
                found[change.kind][noun] = found[change.kind].get(noun, 0) + count
        return found

    @property
    def theirs(self) -> dict[str, int]:
        """The number of deleted rows of server-only tables, by table."""
        found: dict[str, int] = {}
        for change in self.changes:
            for table, count in change.theirs:
                found[table] = found.get(table, 0) + count
        return found

    def with_ids(self, ids: Mapping[tuple[str, int | None], int]) -> Plan:
        """Return the plan with the server's ids of new rows. ids: by entity and id in the copy."""

        def known(change: Change) -> Change:
            is_new = change.kind == NEW
            return dataclasses.replace(change, server_id=ids.get((change.entity, change.id))) if is_new else change

        return dataclasses.replace(self, changes=tuple(map(known, self.changes)))

    def as_json(self) -> dict[str, Any]:
        """Return the plan as a dict that can be written as JSON."""
        found = dataclasses.asdict(self)
        for change in found["changes"]:
            for name in ("dependents", "theirs", "emptied"):
                change[name] = dict(change[name])
        when = self.copied_at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return {**found, "copied_at": when, "folder": str(self.folder), "counts": self.counts, "theirs": self.theirs}

    @property
    def title(self) -> str:
        """Return the first line of the plan."""
        what = "Plan" if self.reverts is None else f"Plan to undo change {self.reverts}"
        about = f"vantage6 release {self.release}, as of {self.copied_at:%H:%M:%S} UTC"
        return f"{what} for {printable(self.server, 200)}, {about}"

    @property
    def summary(self) -> str:
        """Return one line with the numbers of new, changed and deleted rows."""
        return plan_text.counts_line(self.counts, self.theirs)

    def end(self, *, backup: bool = True) -> Iterator[str]:
        """Return the lines below the rows: the summary, the notes, and the folder of the backup and the record."""
        yield self.summary
        yield from (f"note: {printable(note, 300)}" for note in self.notes)
        yield f"{'backup and record' if backup else 'record, without a backup'}: {printable(self.folder, 200)}"

    def __str__(self) -> str:
        if not self:
            return f"No changes for {printable(self.server, 200)}"
        rows = map(plan_text.plain, plan_text.lines(self.changes))
        return "\n".join([self.title, "", *rows, "", *(f"  {line}" for line in self.end())])

    __repr__ = __str__


@dataclasses.dataclass(frozen=True)
class Applied:
    """A plan that was applied.

    number: its number among the plans applied to this database. seconds: how long it took, with the backup; locked: for
    how many seconds other writers were locked out. backup: None if there is none.
    """

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
