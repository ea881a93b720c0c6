"""What a person sees: tables of entities, bars, and text that is safe, fitted to the width there is.

Text is text: it goes through `Look`, so that nothing in a name is markup, moves the cursor, or fakes a row. State is
never told by colour alone. Colours are the terminal's own sixteen, so that they suit its background.

It owns how things look. What is shown is read by listing.py; nothing here writes to the database.
"""

from __future__ import annotations

import datetime
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

from vserverlib import messages, printable
from vserverlib.entities.progress import ACTIVE, COMPLETED, EMPTY, FAILED, FAILURE, PENDING, Counts
from vserverlib.queries import listing
from vserverlib.queries.columns import FIXED, Column
from vserverlib.queries.listing import Page, Row

IN_A_PIPE = 120  # columns where there is no terminal that tells how many it has
UNLIMITED = 10**6  # columns of an output that has as many as are needed
LONGEST = 500  # characters of a text in a table, before it is cut to the room there is
LONGEST_ODD = 24  # characters of what another program has stored in place of a number or a time
# What part of the width a text should have before there is room for what is less important: a name, and any other.
NAME_PART, TEXT_PART = 4, 6
BAR, WIDE_BAR, WIDE = 10, 20, 120  # columns of a bar, and of a terminal that has room for longer ones
GAP = 2  # columns between two columns

# Sign, its stand-in where there is no Unicode, and colour of each state.
STATES = {
    COMPLETED: ("✓", "+", "green"),
    ACTIVE: ("▶", ">", "cyan"),
    PENDING: ("○", "o", "none"),
    FAILURE: ("✗", "x", "red"),
    EMPTY: ("·", ".", "dim"),
}


class Look:
    """What an output can show: its encoding, and with that its signs."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding, self.ascii = encoding, not encoding.lower().replace("-", "").startswith("utf8")
        self.none, self.more, self.dash, self.dot = ("-", "...", "-", "|") if self.ascii else ("—", "…", "\u2013", "·")
        self.overflow: Any = "crop" if self.ascii else "ellipsis"
        self.rule = "-" if self.ascii else "─"
        self.bar = ("#", ".") if self.ascii else ("━", "┄")

    def safe(self, value: Any, limit: int = LONGEST) -> str:
        """Return a text as it may be shown."""
        text = printable(value, limit)
        if self.ascii:
            text = text.replace("…", "...").encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def cut(self, text: str, width: int) -> str:
        """Return a text in at most `width` columns."""
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, max(0, width - len(self.more))) + self.more[: max(0, width)]

    def cut_within(self, text: str, width: int) -> str:
        """Return a text in at most `width` columns, half of which show how it ends."""
        half = max(0, width - len(self.more)) // 2
        end = next((text[-size:] for size in range(half, 0, -1) if cell_len(text[-size:]) <= half), "")
        return text if cell_len(text) <= width else self.cut(text, width - cell_len(end)) + end

    # One value

    def cell(self, column: Column, row: Row, bar: int = BAR) -> Text:
        """Return a value of a row."""
        value = row[column.name]
        if value is None:
            return self._missing(column, row)
        if column.kind == "progress" and isinstance(value, Counts):
            return self.progress(value, bar)
        if column.kind == "state":
            return self.state(value)
        return Text(self.value(value, LONGEST_ODD if column.kind in FIXED else LONGEST))

    def _missing(self, column: Column, row: Row) -> Text:
        """Show that there is none; of a link that leads nowhere, where it should have led."""
        id = row.get(f"{column.name}_id")
        return Text(self.none, "dim") if id is None else Text(f"({self.safe(id)})", "dim")

    def value(self, value: Any, limit: int = LONGEST) -> str:
        """Return any value but None as text, in quotes where it could be taken for nothing."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, datetime.datetime):
            return as_text(value, "minutes")
        text = self.safe(value, limit)
        is_plain = text.strip(" ") == text and text not in ("", self.none)
        return text if is_plain else f'"{text}"'

    def state(self, status: Any) -> Text:
        """Return a status with the sign of its state, in its colour."""
        return Text.assemble((self.sign(status), self.colour(status)), " ", self.safe(status))

    def sign(self, status: Any) -> str:
        """Return the sign of a state."""
        sign, plain, _ = _signs(status)
        return plain if self.ascii else sign

    def colour(self, status: Any) -> str:
        """Return the colour of a state, which is never all that tells it."""
        return _signs(status)[2]

    def statuses(self, counts: Mapping[str, int], width: int) -> Text:
        """Return how many tasks have each status, in one line, or in more where that has no room: none is broken."""
        states = [Text.assemble(self.state(status), f" {count:,}") for status, count in counts.items() if count]
        lines = [Text.assemble(("tasks    ", "bold"), states[0] if states else ("none yet", "dim"))]
        for state in states[1:]:
            if lines[-1].cell_len + 4 + state.cell_len <= width:
                lines[-1].append("    ").append_text(state)
            else:
                lines.append(Text("         ").append_text(state))
        return Text("\n").join(lines)

    def branch(self, depth: int, is_last: bool = True) -> str:
        """Return what leads to a line of a tree: nothing to its root."""
        if not depth:
            return ""
        return "   " * (depth - 1) + (("`- " if is_last else "|- ") if self.ascii else "└─ " if is_last else "├─ ")

    def progress(self, counts: Counts, width: int) -> Text:
        """Return a bar, full when all are done and only then, and how many are done of all."""
        done = counts.done * width // counts.total if counts.total else 0
        done = max(done, 1) if counts.done else 0
        full, rest = self.bar
        colour = STATES[counts.status][2]
        return Text.assemble((full * done, colour), (rest * (width - done), "dim"), f" {counts.done}/{counts.total}")


def as_text(moment: datetime.datetime, unit: str = "seconds") -> str:
    """Return a time down to a unit, as filters take it: with four digits for each year, which %Y does not give."""
    return moment.replace(tzinfo=None).isoformat(" ", unit)


def _signs(status: Any) -> tuple[str, str, str]:
    state = FAILURE if status in FAILED else status
    return STATES[state] if state in _KNOWN else ("?", "?", "dim")


_KNOWN = frozenset(STATES)


def span(time: datetime.timedelta, units: int = 2) -> str:
    """Return a span of time in its largest units: "3 d 4 h"; nothing is less than none."""
    left, words = max(0, int(time.total_seconds())), list[str]()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size or (unit == "s" and not words):
            words.append(f"{left // size:,} {unit}")
        left %= size
    return " ".join(words[:units])


# A table


class Listing:
    """A page of a list, as a table that fits the width it is given.

    hint: what the last line says of how to see more, where there is more. every_column: also those without a value.
    """

    def __init__(self, page: Page, hint: str = "", *, every_column: bool = False) -> None:
        self.page, self.hint, self.every_column = page, hint, every_column

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        rooms, rows = fitting(self.page, look, options.max_width, self.every_column)
        if rows:
            yield from _line([Text(column.name, "bold") for column in rooms], rooms, console)
            yield Segment(look.rule * _total(rooms.values()) + "\n")
        for cells in rows:
            yield from _line(cells, rooms, console)
        yield Text(self._summary(look, {column.kind for column in rooms}), "dim", overflow="fold")

    def _summary(self, look: Look, kinds: set[str]) -> str:
        page = self.page
        shown = f"{page.first + 1:,}{look.dash}{page.first + len(page.rows):,} of "
        is_part = len(page.rows) < page.total
        words = [(shown if is_part and page.rows else "") + listing.pluralize(page.total, page.model)]
        words += ["times are in UTC"] if page.rows and "time" in kinds else []
        words += [self.hint] if is_part and self.hint else []
        return f" {look.dot} ".join(words)


def _line(cells: Iterable[Text], rooms: dict[Column, int], console: Console) -> Iterator[Segment]:
    """Return one line of a table. Each cell has been cut to its room: rich's own tables would measure it again."""
    before = ""
    for text, (column, room) in zip(cells, rooms.items(), strict=True):
        blank = " " * (room - cell_len(text.plain))
        right = column.kind in ("id", "number")
        yield Segment(before + blank if right else before)
        yield from text.render(console)
        before = " " * GAP if right else blank + " " * GAP
    yield Segment.line()


def fitting(
    page: Page, look: Look, width: int, every_column: bool = False
) -> tuple[dict[Column, int], list[list[Text]]]:
    """Return the columns that there is room for, with the width of each, and the cells of the rows in them.

    What is least important is left out first; what has no value in any row is left out, too, unless it is in every
    table. Ids, numbers, times and states are never cut; texts are, when that is needed.
    """
    bar = WIDE_BAR if width >= WIDE else BAR
    cells = {
        column: [look.cell(column, row, bar) for row in page.rows]
        for column in page.columns
        if column.rank == 1 or (column.rank and (every_column or any(_has_value(column, row) for row in page.rows)))
    }
    wanted = {column: max(map(cell_len, [column.name, *map(str, texts)])) for column, texts in cells.items()}
    kept = _that_fit(wanted, width)
    rooms = _rooms(kept, width)
    shown = [_cut(cells[column], room, look) for column, room in rooms.items()]
    return rooms, [list(row) for row in zip(*shown, strict=True)]


def _has_value(column: Column, row: Row) -> bool:
    """Whether there is something to show: a value, or a link that leads nowhere."""
    return row[column.name] is not None or row.get(f"{column.name}_id") is not None


def _cut(texts: list[Text], room: int, look: Look) -> list[Text]:
    """Return the cells of a column in the room there is: cut at the end, or within where more of them differ then."""
    long = {text.plain for text in texts if cell_len(text.plain) > room}
    ways = ({text: way(text, room) for text in long} for way in (look.cut, look.cut_within))
    cut = max(ways, key=lambda way: len(set(way.values())))
    return [Text(cut[text.plain]) if text.plain in cut else text for text in texts]


def _that_fit(wanted: dict[Column, int], width: int) -> dict[Column, int]:
    """Leave out the least important columns until the others have room, names a comfortable one."""
    kept = dict(wanted)
    while _total(_least(column, room, width) for column, room in kept.items()) > width:
        last = max(reversed(kept), key=lambda column: column.rank)
        if last.rank == 1:
            break
        del kept[last]
    return kept


def _least(column: Column, wanted: int, width: int) -> int:
    """Return the width that a column should have at least before others may be shown."""
    if column.kind in FIXED:
        return wanted
    return min(wanted, max(cell_len(column.name), width // (NAME_PART if column.rank == 1 else TEXT_PART)))


def _total(rooms: Iterable[int]) -> int:
    widths = list(rooms)
    return sum(widths) + GAP * (len(widths) - 1)


def _rooms(wanted: dict[Column, int], width: int) -> dict[Column, int]:
    """Return the width of each column: what it wants where there is room, else texts share what there is."""
    rooms = dict(wanted)
    texts = [column for column in wanted if column.kind not in FIXED]
    while texts and _total(rooms.values()) > width:
        widest = max(texts, key=lambda column: rooms[column])
        if rooms[widest] <= 1:
            break
        rooms[widest] -= 1
    return rooms


def entity_table(entities: Any, first: int = 0, limit: int = listing.PAGE_SIZE) -> Listing:
    """Return the first rows of a list of entities: a query, the list of a relation, or a list of Python's.

    At most two queries for an unread list, one for each kind of entity in any other.
    """
    end = first + limit
    return Listing(listing.page(entities, first, limit), hint=f"next: [{end}:{end + limit}]")


def glossary(rows: Iterable[Row]) -> Any:
    """Return names, types and meanings, a line each."""
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


def figures(rows: list[Row]) -> Any:
    """Return a table of rows that have a name, and behind it numbers."""
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for place, name in enumerate(rows[0] if rows else ()):
        table.add_column(name.replace("_", " "), no_wrap=not place, justify="right" if place else "left")
    for name, *numbers in (row.values() for row in rows):
        table.add_row(Text(printable(name)), *(f"{number:,}" for number in numbers))
    return table


def handouts(made: Iterable[Any]) -> Any:
    """Return a table of secrets that were made, in one piece each; the names beside them may take several lines."""
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    table.add_column("whose", overflow="fold")
    table.add_column("password or API key", no_wrap=True, overflow="fold")
    for each in made:
        table.add_row(Text(f"{each.entity} {printable(each.name, LONGEST)}"), Text(each.secret))
    return table


# The database


def summary(entities: Iterable[Any]) -> Any:
    """Return what there is: of each entity its name, how many there are, a line on it, and its methods.

    entities: objects with name, count, about and methods. What all of them can do is told once, at the end.
    """
    from rich.table import Table

    shown = list(entities)
    common = [method for method in shown[0].methods if all(method in each.methods for each in shown)] if shown else []
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for entity in shown:
        special = _calls(method for method in entity.methods if method not in common)
        message = Text("\n").join(text for text in (Text(entity.about), special) if text)
        table.add_row(f"db.{entity.name}", f"{entity.count:,}", message)
    table.add_row("all", "", _calls(common))
    return table


def _calls(methods: Iterable[str]) -> Text:
    return Text(", ".join(f"{method}()" for method in methods), "dim")


# Where it goes


def console(file: TextIO | None = None, *, width: int | None = None) -> Console:
    """Return a console that writes to stdout, or a file, in its width, and in colour where it shows colours."""
    stream = file or sys.stdout
    return target(stream, width or columns(stream), messages.is_colourful(stream))


def render(renderable: Any, *, width: int | None = None, color: bool | None = None) -> str:
    """Return what is shown as the text to write to stdout: in its width and colours, where none are given."""
    text = io.StringIO()
    color = messages.is_colourful(sys.stdout) if color is None else color
    made = target(text, width or columns(sys.stdout), color)
    made.print(renderable)
    return text.getvalue()


def columns(stream: TextIO) -> int:
    """Return the width of a stream in columns: what COLUMNS says, else the terminal's, 120 where it is none."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or IN_A_PIPE
    except (OSError, ValueError):
        return IN_A_PIPE


def target(
    stream: TextIO,
    width: int | None,
    color: bool,
    height: int | None = 100,
    is_terminal: bool = False,
    record: bool = False,
) -> Console:
    """Return a console; no width and no height: those that the terminal has at each moment."""
    return Console(
        file=stream,
        width=width,
        height=height,
        force_terminal=color or is_terminal,
        force_jupyter=False,
        color_system="standard" if color else None,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
        record=record,
    )
