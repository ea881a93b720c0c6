"""Tables of entities, bars and safe text, fitted to the width of the output.

All text goes through `Look`, so that no name is markup, moves the cursor or fakes a row. A state always has a sign
beside its colour. Colours are the terminal's own sixteen, which suit its background.

listing.py reads the rows. Nothing here writes to the database.
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
from vserverlib.entities.timestamps import duration
from vserverlib.queries import listing
from vserverlib.queries.columns import FIXED, Column
from vserverlib.queries.listing import Page, Row

IN_A_PIPE = 120  # columns of an output that is no terminal
UNLIMITED = 10**6  # columns of --wide
LONGEST = 500  # characters of a text in a table, before it is cut to its column
LONGEST_ODD = 24  # characters of a value that another program stored in place of a number or a time
# A column is shown if each text before it keeps this fraction of the width (1/4, 1/6): a name, and any other text.
NAME_PART, TEXT_PART = 4, 6
BAR, WIDE_BAR, WIDE = 10, 20, 120  # columns of a bar, of a long bar, and of a terminal that is wide enough for it
GAP = 2  # spaces between two columns

# The sign of each state, its replacement without Unicode, and its colour.
STATES = {
    COMPLETED: ("✓", "+", "green"),
    ACTIVE: ("▶", ">", "cyan"),
    PENDING: ("○", "o", "none"),
    FAILURE: ("✗", "x", "red"),
    EMPTY: ("·", ".", "dim"),
}


class Look:
    """The signs that the encoding of an output has, and text that is safe to print there."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding, self.ascii = encoding, not encoding.lower().replace("-", "").startswith("utf8")
        self.none, self.more, self.dash, self.dot = ("-", "...", "-", "|") if self.ascii else ("—", "…", "\u2013", "·")
        self.overflow: Any = "crop" if self.ascii else "ellipsis"
        self.rule = "-" if self.ascii else "─"
        self.bar = ("#", ".") if self.ascii else ("━", "┄")

    def safe(self, value: Any, limit: int = LONGEST) -> str:
        """Return a text that is safe to print."""
        text = printable(value, limit)
        if self.ascii:
            text = text.replace("…", "...").encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def cut(self, text: str, width: int) -> str:
        """Return a text of at most `width` columns, cut at its end."""
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, max(0, width - len(self.more))) + self.more[: max(0, width)]

    def cut_within(self, text: str, width: int) -> str:
        """Return a text of at most `width` columns, cut in its middle."""
        half = max(0, width - len(self.more)) // 2
        end = next((text[-size:] for size in range(half, 0, -1) if cell_len(text[-size:]) <= half), "")
        return text if cell_len(text) <= width else self.cut(text, width - cell_len(end)) + end

    # One value

    def cell(self, column: Column, row: Row, bar: int = BAR) -> Text:
        """Return the value of a row in a column."""
        value = row[column.name]
        if value is None:
            return self._missing(column, row)
        if column.kind == "progress" and isinstance(value, Counts):
            return self.progress(value, bar)
        if column.kind == "state":
            return self.state(value)
        return Text(self.value(value, LONGEST_ODD if column.kind in FIXED else LONGEST))

    def _missing(self, column: Column, row: Row) -> Text:
        """Return a dash, or the id in a link to a row that does not exist."""
        id = row.get(f"{column.name}_id")
        return Text(self.none, "dim") if id is None else Text(f"({self.safe(id)})", "dim")

    def value(self, value: Any, limit: int = LONGEST) -> str:
        """Return any value but None as text, in quotes if it would look empty."""
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
        """Return the colour of a state. Its sign or word always stands beside it."""
        return _signs(status)[2]

    def statuses(self, counts: Mapping[str, int], width: int) -> Text:
        """Return the number of tasks with each status, in as many lines as the width needs."""
        states = [Text.assemble(self.state(status), f" {count:,}") for status, count in counts.items() if count]
        lines = [Text.assemble(("tasks    ", "bold"), states[0] if states else ("none yet", "dim"))]
        for state in states[1:]:
            if lines[-1].cell_len + 4 + state.cell_len <= width:
                lines[-1].append("    ").append_text(state)
            else:
                lines.append(Text("         ").append_text(state))
        return Text("\n").join(lines)

    def branch(self, depth: int, is_last: bool = True) -> str:
        """Return the lines in front of an item of a tree; "" for its root."""
        if not depth:
            return ""
        return "   " * (depth - 1) + (("`- " if is_last else "|- ") if self.ascii else "└─ " if is_last else "├─ ")

    def progress(self, counts: Counts, width: int) -> Text:
        """Return a bar and the numbers, such as 3/4. The bar is full only when everything is finished."""
        done = counts.done * width // counts.total if counts.total else 0
        done = max(done, 1) if counts.done else 0
        full, rest = self.bar
        colour = STATES[counts.status][2]
        return Text.assemble((full * done, colour), (rest * (width - done), "dim"), f" {counts.done}/{counts.total}")


def as_text(moment: datetime.datetime, unit: str = "seconds") -> str:
    """Return a time down to a unit, as filters take it. Years have four digits, which %Y does not ensure."""
    return moment.replace(tzinfo=None).isoformat(" ", unit)


def _signs(status: Any) -> tuple[str, str, str]:
    return STATES.get(state_of(status), ("?", "?", "dim"))


_KNOWN = frozenset(STATES)


def state_of(status: Any) -> str:
    """Return the state of a status: one of STATES, or "" if it is none that a server writes."""
    state = FAILURE if status in FAILED else status
    return str(state) if state in _KNOWN else ""


def ago(last: Any, moment: datetime.datetime, look: Look) -> str:
    """Return how long before a moment something was last seen: "3 h ago", "never", or a text that is no time."""
    if isinstance(last, datetime.datetime):
        return f"{duration(moment - last, units=1)} ago"
    return "never" if last is None else look.value(last, LONGEST_ODD)


def last_seen(last: Any, moment: datetime.datetime, look: Look) -> str:
    """Return when something was last seen, in words."""
    return "was never seen" if last is None else f"last seen {ago(last, moment, look)}"


span = duration


# A table


class Listing:
    """A page of a list as a table that fits the width.

    hint: how to see more, for the last line of a page that is not the whole list. every_column: also empty ones.
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
    """Return one line of a table.

    rich's tables take 4 to 8 times as long, and cut texts at the end alone, where names of tasks often differ.
    """
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
    """Return the columns that fit, each with its width, and the cells of the rows.

    Columns without values are left out, and then the least important ones, except for those of rank 1. Ids, numbers,
    times and states are never cut; texts are, if necessary.
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
    """Whether a row has a value in a column, or a link to a row that does not exist."""
    return row[column.name] is not None or row.get(f"{column.name}_id") is not None


def _cut(texts: list[Text], room: int, look: Look) -> list[Text]:
    """Return the cells of a column, cut to its width: at the end, or in the middle if more of them differ then."""
    long = {text.plain for text in texts if cell_len(text.plain) > room}
    ways = ({text: way(text, room) for text in long} for way in (look.cut, look.cut_within))
    cut = max(ways, key=lambda way: len(set(way.values())))
    return [Text(cut[text.plain]) if text.plain in cut else text for text in texts]


def _that_fit(wanted: dict[Column, int], width: int) -> dict[Column, int]:
    """Leave out the least important columns until the others fit."""
    kept = dict(wanted)
    while _total(_least(column, room, width) for column, room in kept.items()) > width:
        last = max(reversed(kept), key=lambda column: column.rank)
        if last.rank == 1:
            break
        del kept[last]
    return kept


def _least(column: Column, wanted: int, width: int) -> int:
    """Return the width that a column needs before less important ones are shown."""
    if column.kind in FIXED:
        return wanted
    return min(wanted, max(cell_len(column.name), width // (NAME_PART if column.rank == 1 else TEXT_PART)))


def _total(rooms: Iterable[int]) -> int:
    widths = list(rooms)
    return sum(widths) + GAP * (len(widths) - 1)


def _rooms(wanted: dict[Column, int], width: int) -> dict[Column, int]:
    """Return the width of each column. If they do not fit, the widest texts become narrower."""
    rooms = dict(wanted)
    texts = [column for column in wanted if column.kind not in FIXED]
    while texts and _total(rooms.values()) > width:
        widest = max(texts, key=lambda column: rooms[column])
        if rooms[widest] <= 1:
            break
        rooms[widest] -= 1
    return rooms


def entity_table(entities: Any, first: int = 0, limit: int = listing.PAGE_SIZE) -> Listing:
    """Return the first rows of a list of entities: a query, the list of a relation, or a Python list.

    At most two queries for an unread list, one for each entity type in any other.
    """
    end = first + limit
    return Listing(listing.page(entities, first, limit), hint=f"next: [{end}:{end + limit}]")


def glossary(rows: Iterable[Row]) -> Any:
    """Return a table without headings, such as one of names, types and meanings."""
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


def figures(rows: list[Row]) -> Any:
    """Return a table of rows that have a name followed by numbers."""
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for place, name in enumerate(rows[0] if rows else ()):
        table.add_column(name.replace("_", " "), no_wrap=not place, justify="right" if place else "left")
    for name, *numbers in (row.values() for row in rows):
        table.add_row(Text(printable(name)), *(f"{number:,}" for number in numbers))
    return table


def credentials_table(generated: Iterable[Any]) -> Any:
    """Return a table of generated secrets, each in one piece; the names may take several lines."""
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    table.add_column("whose", overflow="fold")
    table.add_column("password or API key", no_wrap=True, overflow="fold")
    for each in generated:
        table.add_row(Text(f"{each.entity} {printable(each.name, LONGEST)}"), Text(each.secret))
    return table


# The database


def summary(entities: Iterable[Any]) -> Any:
    """Return a table of the entities: name, count, description and methods.

    entities: objects with name, count, about and methods. The last line has the methods that all of them have.
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


# Outputs


def console(file: TextIO | None = None, *, width: int | None = None) -> Console:
    """Return a console for stdout or a file, in its width, and in colour if it shows colours."""
    stream = file or sys.stdout
    return target(stream, width or columns(stream), messages.is_colourful(stream))


def render(renderable: Any, *, width: int | None = None, color: bool | None = None) -> str:
    """Return a renderable as text, by default in the width and colours of stdout."""
    text = io.StringIO()
    color = messages.is_colourful(sys.stdout) if color is None else color
    console = target(text, width or columns(sys.stdout), color)
    console.print(renderable)
    return text.getvalue()


def render_for(stream: TextIO, renderable: Any) -> str:
    """Return a renderable as text in the width and colours of a stream."""
    drawn = console(stream)
    with drawn.capture() as captured:
        drawn.print(renderable)
    return str(captured.get())


def columns(stream: TextIO) -> int:
    """Return the width of a stream in columns: that of COLUMNS, else the terminal's, else 120."""
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
    """Return a console. width, height: None follows the size of the terminal."""
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
