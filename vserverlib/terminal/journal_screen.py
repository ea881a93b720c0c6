"""The journal on the screen: changes, their rows and the fields of these, the newest first. journal.py reads it.

Each field has its own line: a text that shares a line with another field could fake it.
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

Verbs = dict[str, tuple[str, str]]

ENTRIES_PER_PRINT = 200
VERBS: Verbs = {"insert": ("created", "green"), "update": ("changed", "cyan"), "delete": ("deleted", "red")}
WOULD = {op: (f"would {verb.removesuffix('d')}", colour) for op, (verb, colour) in VERBS.items()}
NO_ACTOR = "another program"  # it leaves no name


class Logbook:
    """Entries of the journal. hint: the last line."""

    def __init__(self, entries: Sequence[Entry], hint: str = "") -> None:
        self.entries, self.hint = entries, hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        for _, entries in groupby(self.entries, key=lambda entry: entry.change):
            for line in _change(list(entries), look, options.max_width):
                line.no_wrap, line.overflow = True, look.overflow
                yield line
        if not self.entries:
            yield Text("nothing is recorded", "dim")
        if self.hint:
            yield Text(self.hint, "dim")


class DryRun:
    """The rows that a change would write, without who and when."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        for entry in self.entries:
            for line in _row(entry, look, options.max_width, WOULD):
                line.no_wrap, line.overflow = True, look.overflow
                yield line


def of(log: Log) -> Logbook:
    """Return the view of a log at the prompt."""
    return Logbook(log.entries, "there are more: limit=…" if log.is_part else "")


def pages(entries: Iterable[Entry]) -> Iterator[Logbook]:
    """Return any number of entries as logbooks to print one after the other."""
    rest = iter(entries)
    while found := list(islice(rest, ENTRIES_PER_PRINT)):
        yield Logbook(found)


def _change(entries: list[Entry], look: Look, width: int) -> Iterator[Text]:
    first = entries[0]
    who = NO_ACTOR if first.actor is None else look.safe(first.actor)
    words = [f"{_value(first.at, look)} UTC", who]
    words += [] if first.session is None else [f"session {look.safe(first.session)}"]
    yield Text.assemble((f"change {first.change}", "bold"), f" {look.dot} ", f" {look.dot} ".join(words))
    if first.about is not None:
        yield Text(f"  {look.safe(first.about)}")
    for entry in entries:
        if entry.entity is not None:
            yield from _row(entry, look, width)


def _row(entry: Entry, look: Look, width: int, verbs: Verbs = VERBS) -> Iterator[Text]:
    verb, colour = verbs.get(entry.op, (look.safe(entry.op), ""))
    yield Text.assemble("  ", (verb, colour), f" {look.safe(entry.entity)} {entry.entity_id}")
    longest = max(map(cell_len, entry.changes), default=0)
    for name, pair in entry.changes.items():
        blank = " " * (longest - cell_len(name))
        yield Text.assemble(
            "    ", (look.safe(name) + blank, "dim"), "  ", _pair(pair, entry.op, look, width - longest - 6)
        )


def _pair(pair: Pair, op: str, look: Look, room: int) -> str:
    """Return both values of a changed field, each in half of the room, or the one of a created or deleted row."""
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
