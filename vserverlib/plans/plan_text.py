"""A plan as text: one line for each row and field, old → new; and its counts in a line.

Nothing of it is a secret, and what comes from a database is printable. How it is drawn on a terminal is the screen's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any, NamedTuple

from vserverlib import pluralize, printable
from vserverlib.plans.change import CHANGED, DELETED, NEW, Change, Field

MARKS = {CHANGED: "~", NEW: "+", DELETED: "-"}
SHOWN = 20  # rows of a kind
NAMES = ("name", "username")  # of a new row they are in its first line
LONGEST = 60  # characters of a value
EMPTY, ARROW = "–", "→"  # noqa: RUF001


class Line(NamedTuple):
    """A line of a plan: mark and title, both empty if the row goes on; a field, and its old → new value."""

    mark: str
    what: str
    field: str
    value: str


def plain(line: Line) -> str:
    """Return a line as plain text."""
    return f"  {line.mark or ' '} {line.what:30} {line.field:14} {line.value}".rstrip()


def lines(changes: Iterable[Change]) -> Iterator[Line]:
    """Return the lines of changes: of each kind the first rows, and how many more there are."""
    for (kind, noun), alike in groupby(changes, key=lambda change: (change.kind, change.noun)):
        rest = iter(alike)
        for change in islice(rest, SHOWN):
            yield from _of(change)
        if more := sum(1 for _ in rest):
            yield Line(MARKS[kind], f"and {pluralize(more, f'more {noun}')}", "", "")


def _of(change: Change) -> Iterator[Line]:
    """Return the lines of a row."""
    mark, what = MARKS[change.kind], change.title
    if change.kind == NEW and not change.dependents and not change.theirs:
        what = _new(change)
    beside = "; ".join(part for part in (_as(change), _along(change)) if part)
    if change.kind != CHANGED:
        yield Line(mark, what, "", beside)
        mark = what = ""
    for field in change.fields:
        if change.kind == NEW and field.name in NAMES:
            continue
        yield Line(mark, what, field.label, _becomes(change, field))
        mark = what = ""


def _new(change: Change) -> str:
    """Return the title of a new row: its name, as the server gives it another id."""
    name = change.title.partition(' "')[2]
    return f'{change.noun} "{name}' if name and change.entity != "member" else change.title


def _as(change: Change) -> str:
    if change.server_id is None:
        return ""
    return f"as {change.server_id}" + ("" if change.server_id == change.id else f" ({change.id} here)")


def _becomes(change: Change, field: Field) -> str:
    note = f"; {field.note}" if field.note else ""
    if field.is_secret:
        done = "removed" if not field.new else "replaced" if field.old else "set"
        return f"{done}{note}"
    return (
        f"{_value(field.new)}{note}" if change.kind == NEW else f"{_value(field.old)} {ARROW} {_value(field.new)}{note}"
    )


def _value(value: Any) -> str:
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = printable(value, LONGEST)
    is_plain = text.strip() == text and text not in ("", EMPTY) and ARROW not in text
    return text if is_plain else f'"{text}"'


def _along(change: Change) -> str:
    """Return the dependents that are deleted with a row, in a line."""
    parts = []
    if change.dependents:
        parts.append("with " + ", ".join(pluralize(count, noun) for noun, count in change.dependents))
    if change.theirs:
        parts.append("of the server's own: " + ", ".join(f"{count:,} {table}" for table, count in change.theirs))
    if change.emptied:
        parts.append("emptied: " + ", ".join(f"{count:,} {name}" for name, count in change.emptied))
    return "; ".join(parts)


def counted(counts: Mapping[str, Mapping[str, int]], theirs: Mapping[str, int]) -> str:
    """Return how many rows are new, changed and deleted, and of the server's own tables, in a line."""
    listed = {
        kind: ", ".join(pluralize(count, noun) for noun, count in nouns.items()) for kind, nouns in counts.items()
    }
    own = ", ".join(f"{count:,} {table}" for table, count in theirs.items())
    found = "; ".join(f"{nouns} {kind}" for kind, nouns in listed.items() if nouns)
    return found + (f" (and of the server's own: {own})" if own else "")
