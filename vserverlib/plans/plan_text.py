"""Format a plan as lines of text: one for each row and field, with old → new values; and its counts in one line.

The text contains no secret, and untrusted text in it is printable. terminal/plan_screen.py draws the lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any, NamedTuple

from vserverlib import pluralize, printable
from vserverlib.plans.change import CHANGED, DELETED, NEW, Change, Field

MARKS = {CHANGED: "~", NEW: "+", DELETED: "-"}
SHOWN = 20  # rows of one kind and noun
NAMED = 3  # rows in a line
NAMES = ("name", "username")  # fields that are in the title of a new row
LONGEST = 60  # characters of a value
EMPTY, ARROW = "–", "→"  # noqa: RUF001


class Line(NamedTuple):
    """A line of a plan: the mark and title of a row, or a field of it with its old → new value."""

    mark: str
    what: str
    field: str = ""
    value: str = ""


def plain(line: Line) -> str:
    """Format a line as plain text."""
    return f"  {line.mark} {line.what}" if line.what else f"      {line.field:13} {line.value}".rstrip()


def lines(changes: Iterable[Change]) -> Iterator[Line]:
    """Return the lines of changes: the first rows of each kind, and the number of further ones."""
    for (kind, noun), alike in groupby(changes, key=lambda change: (change.kind, change.noun)):
        rest = iter(alike)
        for change in islice(rest, SHOWN):
            yield Line(MARKS[change.kind], _title(change))
            yield from (Line("", "", *field) for field in _fields(change))
        if more := sum(1 for _ in rest):
            yield Line(MARKS[kind], f"and {pluralize(more, f'more {noun}')}; --dry-run -o json lists all")


def named(changes: Iterable[Change], total: int) -> str:
    """Return one line that names the first rows of changes, with the fields of changed ones."""
    rows = [f"{MARKS[change.kind]} {_title(change)}{_labels(change)}" for change in islice(changes, NAMED)]
    more = total - NAMED
    return "; ".join(rows) + (f"; and {more:,} more" if more > 0 else "")


def _labels(change: Change) -> str:
    return f": {', '.join(field.label for field in change.fields)}" if change.kind == CHANGED else ""


def _fields(change: Change) -> Iterator[tuple[str, str]]:
    """Return the labels and values below the title of a row."""
    if change.server_id not in (None, change.id):
        yield "id", f"{change.server_id} ({change.id} here)"
    for field in change.fields:
        if change.kind != NEW or field.name not in NAMES:
            yield field.label, _value_change(change, field)
    counts = {"server-only": change.theirs, "cleared": change.emptied}
    if change.dependents:
        yield "with", ", ".join(pluralize(count, noun) for noun, count in change.dependents)
    for label, found in counts.items():
        if found:
            yield label, ", ".join(f"{count:,} {name}" for name, count in found)


def _title(change: Change) -> str:
    is_plain = change.kind != NEW or change.dependents or change.theirs
    return change.title if is_plain else _new_title(change)


def _new_title(change: Change) -> str:
    """Return the title of a new row with its id on the server, if that is known, instead of its id here."""
    name = change.title.partition(' "')[2]
    if change.entity == "member" or not (name or change.server_id):
        return change.title
    id = "" if change.server_id is None else f" {change.server_id}"
    return f"{change.noun}{id}" + (f' "{name}' if name else "")


def _value_change(change: Change, field: Field) -> str:
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


def counts_line(counts: Mapping[str, Mapping[str, int]], theirs: Mapping[str, int]) -> str:
    """Return one line with the numbers of new, changed and deleted rows, and of server-only rows."""
    listed = {
        kind: ", ".join(pluralize(count, noun) for noun, count in nouns.items()) for kind, nouns in counts.items()
    }
    own = ", ".join(f"{count:,} {table}" for table, count in theirs.items())
    found = "; ".join(f"{nouns} {kind}" for kind, nouns in listed.items() if nouns)
    return found + (f" (and server-only rows: {own})" if own else "")
