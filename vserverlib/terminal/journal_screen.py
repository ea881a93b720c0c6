"""How the journal looks: change by change, row by row, field by field, the newest first.

A field has a line of its own: in a line with others, a text could fake them. What is read is journal.py's.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from vserverlib.entities.journal import CHANGED, Entry, Log, Pair
from vserverlib.terminal.views import Look, as_text

CHUNK = 200  # entries that are printed at once
VERBS = {"insert": ("made", "green"), "update": ("changed", "cyan"), "delete": ("deleted", "red")}
NOBODY = "another program"  # it does not tell its name


class Logbook:
    """Entries as text, in the width there is. hint: the last line."""

    def __init__(self, entries: Sequence[Entry], hint: str = "") -> None:
        self.entries, self.hint = entries, hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        for _, entries in groupby(self.entries, key=lambda entry: entry.change):
            for line in _change(list(entries), look, options.max_width):
                line.no_wrap, line.overflow = True, look.overflow
                yield line
        if not self.entries:
            yield Text("nothing is on record", "dim")
        if self.hint:
            yield Text(self.hint, "dim")


def of(log: Log) -> Logbook:
    """Return the entries of a log as the prompt shows them."""
    return Logbook(log.entries, "there are more: limit=…" if log.is_part else "")


def pages(entries: Iterable[Entry]) -> Iterator[Logbook]:
    """Return any number of entries as logbooks to be printed one after the other."""
    rest = iter(entries)
    while found := list(islice(rest, CHUNK)):
        yield Logbook(found)


def _change(entries: list[Entry], look: Look, width: int) -> Iterator[Text]:
    first = entries[0]
    who = NOBODY if first.actor is None else look.safe(first.actor)
    words = [f"{_value(first.at, look)} UTC", who]
    words += [] if first.session is None else [f"session {look.safe(first.session)}"]
    yield Text.assemble((f"change {first.change}", "bold"), f" {look.dot} ", f" {look.dot} ".join(words))
    if first.about is not None:
        yield Text(f"  {look.safe(first.about)}")
    for entry in entries:
        if entry.entity is not None:
            yield from _row(entry, look, width)


def _row(entry: Entry, look: Look, width: int) -> Iterator[Text]:
    verb, colour = VERBS.get(entry.op, (look.safe(entry.op), ""))
    yield Text.assemble("  ", (verb, colour), f" {look.safe(entry.entity)} {entry.entity_id}")
    longest = max(map(cell_len, entry.changes), default=0)
    for name, pair in entry.changes.items():
        blank = " " * (longest - cell_len(name))
        yield Text.assemble(
            "    ", (look.safe(name) + blank, "dim"), "  ", _pair(pair, entry.op, look, width - longest - 6)
        )


def _pair(pair: Pair, op: str, look: Look, room: int) -> str:
    """Return both values, or the only one that there is of a row that was made or deleted; each in its share."""
    if CHANGED in pair and set(pair) <= {CHANGED, None}:
        return "changed, not shown"
    before, after = (_value(value, look) for value in pair)
    if op != "update":
        return look.cut(after if op == "insert" else before, room)
    arrow = " -> " if look.ascii else " → "
    if cell_len(before) + len(arrow) + cell_len(after) > room:
        share = max(1, (room - len(arrow)) // 2)
        before, after = look.cut(before, share), look.cut(after, share)
    return before + arrow + after


def _value(value: Any, look: Look) -> str:
    if value is None:
        return look.none
    return as_text(value) if isinstance(value, datetime.datetime) else look.value(value)
