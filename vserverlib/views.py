"""What a person sees: entities as tables and panels, fitted to the width there is.

Text is text: it goes through `Look`, so that nothing in a name is markup, moves the cursor, or fakes a row. State is
never told by colour alone. Colours are the terminal's own sixteen, so that they suit its background.

It owns how things look. What is shown is read by listing.py; nothing here writes to the database.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

from vserverlib import inert, listing, messages
from vserverlib.fields import Secret
from vserverlib.listing import Column, Page, Row
from vserverlib.orm import Entity, Relation, relations
from vserverlib.progress import ACTIVE, COMPLETED, EMPTY, FAILED, FAILURE, PENDING, Counts

IN_A_PIPE = 120  # columns where there is no terminal that tells how many it has
LONGEST = 500  # characters of a text in a table, before it is cut to the room there is
LONGEST_ODD = 24  # characters of what another program has stored in place of a number or a time
# What part of the width a text should have before there is room for what is less important: a name, and any other.
NAME_PART, TEXT_PART = 4, 6
BAR, WIDE_BAR, WIDE = 10, 20, 120  # columns of a bar, and of a terminal that has room for longer ones
GAP = 2  # columns between two columns
MOST_LINES = 8  # lines of a long text in a panel
MOST_WRAPPED = 3  # lines of a text whose lines are wrapped; those of a longer one are cut
BAR_AFTER = 1.0  # seconds of work until a bar shows how far it is
NAMED = 5  # members of a relation that a panel names
FIXED = ("id", "number", "flag", "time", "state", "progress")  # kinds that are never cut

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
        text = inert(value, limit)
        if self.ascii:
            text = text.replace("…", "...").encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text

    def cut(self, text: str, width: int) -> str:
        """Return a text in at most `width` columns."""
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, max(0, width - len(self.more))) + self.more[: max(0, width)]

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
            return f"{value:%Y-%m-%d %H:%M}"
        text = self.safe(value, limit)
        is_plain = text.strip(" ") == text and text not in ("", self.none)
        return text if is_plain else f'"{text}"'

    def state(self, status: Any) -> Text:
        """Return a status with the sign of its state, in its colour."""
        sign, plain, colour = STATES[FAILURE if status in FAILED else status] if status in _KNOWN else ("?", "?", "dim")
        return Text.assemble((plain if self.ascii else sign, colour), " ", self.safe(status))

    def progress(self, counts: Counts, width: int) -> Text:
        """Return a bar, full when all are done and only then, and how many are done of all."""
        done = counts.done * width // counts.total if counts.total else 0
        done = max(done, 1) if counts.done else 0
        full, rest = self.bar
        colour = STATES[counts.status][2]
        return Text.assemble((full * done, colour), (rest * (width - done), "dim"), f" {counts.done}/{counts.total}")


_KNOWN = frozenset((*STATES, *FAILED))


# A table


class Listing:
    """A page of a list, as a table that fits the width it is given.

    hint: what the last line says of how to see more, where there is more.
    """

    def __init__(self, page: Page, hint: str = "") -> None:
        self.page, self.hint = page, hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        rooms, rows = fitting(self.page, look, options.max_width)
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
        words = [(shown if is_part and page.rows else "") + listing.counted(page.total, page.model)]
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


def fitting(page: Page, look: Look, width: int) -> tuple[dict[Column, int], list[list[Text]]]:
    """Return the columns that there is room for, with the width of each, and the cells of the rows in them.

    What is least important is left out first; what has no value in any row is left out, too, unless it is in every
    table. Ids, numbers, times and states are never cut; texts are, when that is needed.
    """
    bar = WIDE_BAR if width >= WIDE else BAR
    cells = {
        column: [look.cell(column, row, bar) for row in page.rows]
        for column in page.columns
        if column.rank == 1 or (column.rank and any(_is_told(column, row) for row in page.rows))
    }
    wanted = {column: max(map(cell_len, [column.name, *map(str, texts)])) for column, texts in cells.items()}
    kept = _that_fit(wanted, width)
    rooms = _rooms(kept, width)
    rows = [[_cut(cells[column][at], rooms[column], look) for column in kept] for at in range(len(page.rows))]
    return rooms, rows


def _is_told(column: Column, row: Row) -> bool:
    """Whether there is something to show: a value, or a link that leads nowhere."""
    return row[column.name] is not None or row.get(f"{column.name}_id") is not None


def _cut(text: Text, room: int, look: Look) -> Text:
    return text if cell_len(text.plain) <= room else Text(look.cut(text.plain, room))


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


def entity_table(entities: Any, first: int = 0, limit: int = listing.SHOWN) -> Listing:
    """Return the first rows of a list of entities: a query, the list of a relation, or a list of Python's.

    At most two queries for an unread list, one for each kind of entity in any other.
    """
    end = first + limit
    return Listing(listing.page(entities, first, limit), hint=f"next: [{end}:{end + limit}]")


# One entity


class Item(NamedTuple):
    """One line of a panel: a column of the entity's row, a secret, or a relation with a page of its members."""

    name: str
    column: Column | None = None
    page: Page | None = None
    is_set: bool = False


class Card:
    """All there is to say of one entity, as a panel as wide as it needs to be."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        columns = listing.COLUMNS[type(entity)]
        (self.row,) = listing.of_entities([entity], columns)
        self.items = [*_own_items(entity, columns), *_secret_items(entity), *_relation_items(entity)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.panel import Panel
        from rich.table import Table

        look, entity = Look(options.encoding), self.entity
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for item in self.items:
            grid.add_row(Text(item.name, "dim"), self._shown(item, look))
        name = entity.named() if listing.name_field(type(entity)) else _numbered(entity)
        title = Text(f" {look.safe(name)} ", "bold")
        panel = Panel(grid, title=title, title_align="left", expand=False)
        panel.subtitle, panel.subtitle_align = _unsaved(entity), "left"
        yield panel

    def _shown(self, item: Item, look: Look) -> Text:
        if item.page is not None:
            return _members(item.page, look)
        if item.column is None:
            return Text("set, not shown" if item.is_set else "not set")
        return self._value(item.column, look)

    def _value(self, column: Column, look: Look) -> Text:
        value, id = self.row[column.name], self.row.get(f"{column.name}_id")
        if column.kind == "long" and isinstance(value, str) and value:
            return _lines(value, look)
        text = look.cell(column, self.row, WIDE_BAR)
        if isinstance(value, datetime.datetime):
            return Text(f"{value:%Y-%m-%d %H:%M:%S} UTC")
        return text if id is None or value is None else Text(f"{look.safe(id)} {text}")


def entity_panel(entity: Entity) -> Card:
    """Return everything about one entity, its relations counted and the first ones named; never a secret.

    The number of queries does not depend on how many there are.
    """
    return Card(entity)


def _numbered(entity: Entity) -> str:
    """Return what an entity without a name is called: its label tells again what the panel tells."""
    return f"{entity.noun} (not saved)" if entity._new else f"{entity.noun} {entity.id}"


def _own_items(entity: Entity, columns: Sequence[Column]) -> list[Item]:
    """Return the lines of the columns, less what another line says: ids of links, parts of the progress, counts."""
    said = {f"{column.name}_id" for column in columns} | {relation.name for relation in relations(type(entity))}
    said |= {"done", "total", "complete"}
    return [Item(column.name, column) for column in columns if column.name not in said]


def _secret_items(entity: Entity) -> list[Item]:
    """Return the lines of the secrets; none in a read-only session, which reads all of them as not set."""
    if entity._meta.database.read_only:
        return []
    secrets = [field.name for field in entity._meta.sorted_fields if isinstance(field, Secret)]
    return [Item(name, is_set=entity.__data__.get(name) is not None) for name in secrets]


def _relation_items(entity: Entity) -> list[Item]:
    return [Item(relation.name, page=_first(entity, relation)) for relation in relations(type(entity))]


def _first(entity: Entity, relation: Relation) -> Page:
    wanted = {"id", "name", "username"}
    if relation.model.noun == "result":
        wanted |= {"task", "organization", "status"} - {entity.noun}
    columns = [column for column in listing.COLUMNS[relation.model] if column.name in wanted]
    return listing.page(getattr(entity, relation.name), 0, NAMED, columns)


def _members(page: Page, look: Look) -> Text:
    """Return how many members a relation has, and the names of the first, one on each line: a comma could be faked."""
    if not page.total:
        return Text("0", "dim")
    named = [Text(" ").join(look.cell(c, row) for c in page.columns if row[c.name] is not None) for row in page.rows]
    if page.total > len(named):
        named.append(Text(look.more))
    count = f"{page.total:,}  "
    text = Text.assemble(count, Text("\n" + " " * len(count)).join(named))
    text.no_wrap, text.overflow = True, look.overflow
    return text


def _lines(text: str, look: Look) -> Text:
    """Return the first lines of a long text, each safe to show, and how long it is where that is not all."""
    lines = text.splitlines()
    shown = Text("\n".join(look.safe(line) for line in lines[:MOST_LINES]))
    if len(lines) > MOST_LINES or any(len(line) > LONGEST for line in lines):
        shown.append(f"\n{look.more} {len(text):,} characters in all", "dim")
    if len(lines) > MOST_WRAPPED:
        shown.no_wrap, shown.overflow = True, look.overflow
    return shown


def _unsaved(entity: Any) -> Text | None:
    """Return what was changed and not saved, of an entity that was saved before."""
    members = [name for name, members in (entity._members or {}).items() if members.is_changed]
    names = [] if entity._new else sorted({*entity._dirty, *members})
    return Text(f" not saved yet: {', '.join(names)} ", "bold") if names else None


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
        told = Text("\n").join(text for text in (Text(entity.about), special) if text)
        table.add_row(f"db.{entity.name}", f"{entity.count:,}", told)
    table.add_row("all", "", _calls(common))
    return table


def _calls(methods: Iterable[str]) -> Text:
    return Text(", ".join(f"{method}()" for method in methods), "dim")


# What moves


class Screen:
    """The lines of a terminal on stdout below what is there already, drawn anew in place: a context manager."""

    def __init__(self) -> None:
        from rich.live import Live

        self.console = _console(sys.stdout, None, messages.is_colourful(sys.stdout), None, is_terminal=True)
        self.live = Live(console=self.console, auto_refresh=False, vertical_overflow="crop")
        self.size = self.console.size

    def __enter__(self) -> Screen:
        self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.live.__exit__(*error)

    @property
    def lines(self) -> int:
        """How many lines there is room for."""
        return self.console.size.height

    def is_resized(self) -> bool:
        """Whether the size has changed. What was drawn is wiped then: the terminal has broken its lines anew."""
        before, self.size = self.size, self.console.size
        if self.size != before:
            self.console.clear()
        return self.size != before

    def show(self, renderable: Any) -> None:
        """Draw this in the place of what was drawn before."""
        self.live.update(renderable, refresh=True)


@contextlib.contextmanager
def progress_bar(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr, where that is a terminal, once it takes over a second. Call it with how much is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    stream, began = sys.stderr, time.monotonic()
    console = _console(stream, None, messages.is_colourful(stream), None, is_terminal=messages.is_capable(stream))
    parts = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*parts, console=console, transient=True, disable=not messages.is_capable(stream))
    task = bar.add_task(text, total=total)

    def advance(done: int) -> None:
        bar.update(task, completed=done)
        if time.monotonic() - began > BAR_AFTER:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()


# Where it goes


def console(file: TextIO | None = None) -> Console:
    """Return a console that writes to stdout, or a file, in its width, and in colour where it shows colours."""
    stream = file or sys.stdout
    return _console(stream, columns(stream), messages.is_colourful(stream))


def render(renderable: Any, *, width: int | None = None, color: bool | None = None) -> str:
    """Return what is shown as the text to write to stdout: in its width and colours, where none are given."""
    text = io.StringIO()
    color = messages.is_colourful(sys.stdout) if color is None else color
    target = _console(text, width or columns(sys.stdout), color)
    target.print(renderable)
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


def _console(
    stream: TextIO, width: int | None, color: bool, height: int | None = 100, is_terminal: bool = False
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
    )
