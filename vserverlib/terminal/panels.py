"""One entity in full: a panel of its fields and relations, with sections that depend on its type.

A task has its results on a timeline and the tasks around it; a collaboration has its organizations, their nodes and
its tasks; an organization or a node has the results awaited from it. listing.py and details.py read all of that.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from models import Collaboration, Node, Organization, Task, User
from vserverlib import payloads, pluralize
from vserverlib.databases import server_accounts
from vserverlib.entities import lock_outs
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import Secret, now
from vserverlib.entities.progress import FAILED
from vserverlib.entities.relations import Relation, relations
from vserverlib.queries import details, listing
from vserverlib.queries.columns import COLUMNS, Column
from vserverlib.queries.details import AwaitedResults, Lane, Participant
from vserverlib.queries.listing import Page, Row
from vserverlib.terminal import views
from vserverlib.terminal.views import GAP, LONGEST, WIDE_BAR, Look, as_text, span

MOST_LINES = 8  # lines of a long text
MOST_WRAPPED = 3  # a text of more lines is cut at the frame, not wrapped
NAMED = 5  # members of a relation that are named
NAME_ROOM, STATUS_ROOM, SEEN_ROOM = 26, 10, 10  # columns of a name, and of the status and last_seen of a node
FRAME = 4  # columns of the frame
ENCODED = ("input", "result")  # columns whose text is base64 of JSON
LINE, LONGEST_LINE = 12, 60  # columns of a timeline, at least and at most


class Item(NamedTuple):
    """A line of a panel: a column of the entity's row, a secret, a text, or a relation with a page of its members."""

    name: str
    column: Column | None = None
    page: Page | None = None
    is_set: bool = False
    text: str = ""


class Fields:
    """The lines of a panel, read from the database: the fields of an entity, and its relations."""

    def __init__(self, entity: Entity) -> None:
        columns = COLUMNS[type(entity)]
        (self.row,) = listing.of_entities([entity], columns)
        self.items = [
            *_own_items(entity, columns),
            *_account_items(entity),
            *_secret_items(entity),
            *_relation_items(entity),
        ]

    def shown(self, item: Item, look: Look) -> Text:
        """Return the value of a line."""
        if item.text:
            return Text(look.safe(item.text))
        if item.page is not None:
            return _members(item.page, look)
        if item.column is None:
            return Text("set, not shown" if item.is_set else "not set")
        return self._value(item.column, look)

    def _value(self, column: Column, look: Look) -> Text:
        value, id = self.row[column.name], self.row.get(f"{column.name}_id")
        if column.kind == "long" and isinstance(value, str) and value:
            return _lines(payloads.readable(value) if column.name in ENCODED else value, look)
        text = look.cell(column, self.row, WIDE_BAR)
        if isinstance(value, datetime.datetime):
            return Text(f"{as_text(value)} UTC")
        return text if id is None or value is None else Text(f"{look.safe(id)} {text}")


class Card:
    """An entity as a panel, as wide as its content."""

    def __init__(self, entity: Entity) -> None:
        self.entity, self.moment = entity, now()
        self.is_deleted = entity.is_saved and type(entity).by_id(entity.id) is None
        self.sections = [section(entity, self.moment) for section in SECTIONS.get(type(entity), ())]
        self.fields = Fields(entity)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look, entity = Look(options.encoding), self.entity
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for item in self.fields.items:
            grid.add_row(Text(item.name, "dim"), self.fields.shown(item, look))
        parts = [part for section in self.sections for part in section.drawn(look, options.max_width - FRAME)]
        name = entity.named() if entity.name_field() else _numbered(entity)
        notice = [Text("deleted: it is not in the database any more", "bold")] if self.is_deleted else []
        panel = Panel(
            Group(*notice, grid, *parts), title=Text(f" {look.safe(name)} ", "bold"), title_align="left", expand=False
        )
        panel.subtitle, panel.subtitle_align = _unsaved(entity), "left"
        yield panel


def entity_panel(entity: Entity) -> Card:
    """Return an entity as a panel, with the count and the first members of each relation; never a secret.

    The number of queries does not depend on the number of members.
    """
    return Card(entity)


def _numbered(entity: Entity) -> str:
    """Return the title of an entity without a name. Its label would repeat the panel."""
    return f"{entity.noun} (not saved)" if entity._new else f"{entity.noun} {entity.id}"


def _own_items(entity: Entity, columns: Sequence[Column]) -> list[Item]:
    """Return the lines of the columns, without those in other lines: ids of links, counts, parts of the progress."""
    elsewhere = {f"{column.name}_id" for column in columns} | {relation.name for relation in relations(type(entity))}
    elsewhere |= {"done", "total", "complete"}
    return [Item(column.name, column) for column in columns if column.name not in elsewhere]


def _secret_items(entity: Entity) -> list[Item]:
    """Return the lines of the secrets; [] in a read-only session, which reads all of them as NULL."""
    if entity._meta.database.read_only:
        return []
    secrets = [field.name for field in entity._meta.sorted_fields if isinstance(field, Secret)]
    return [Item(name, is_set=entity._stored.get(name) is not None) for name in secrets]


def _account_items(entity: Entity) -> list[Item]:
    """Return the lines of a user's log-in, from a vantage6 server in its copy; of ours, after wrong passwords only."""
    if not isinstance(entity, User) or not entity.is_saved:
        return []
    account = server_accounts.of_user(entity._meta.database, entity.id)
    if account is None:
        failed = lock_outs.summary(entity.id)
        return [Item("log-in", text=failed)] if failed else []
    return [Item("log-in", text=str(account)), Item("two-factor", text="on" if account.two_factor else "off")]


def _relation_items(entity: Entity) -> list[Item]:
    """Return the lines of the relations. If a section lists the members, the line has only their number."""
    listed = LISTED.get(type(entity), ())
    every = relations(type(entity))
    return [Item(each.name, page=(_counted if each.name in listed else _first)(entity, each)) for each in every]


def _counted(entity: Entity, relation: Relation) -> Page:
    return Page(relation.model, (), [], 0, len(getattr(entity, relation.name)))


def _first(entity: Entity, relation: Relation) -> Page:
    wanted = {"id", "name", "username"}
    if relation.model.noun == "result":
        wanted |= {"task", "organization", "status"} - {entity.noun}
    columns = [column for column in COLUMNS[relation.model] if column.name in wanted]
    return listing.page(getattr(entity, relation.name), 0, NAMED, columns)


def _members(page: Page, look: Look) -> Text:
    """Return the number of members and the first names, each on its own line: a name can contain a comma."""
    if not page.total:
        return Text("0", "dim")
    named = [Text(" ").join(look.cell(c, row) for c in page.columns if row[c.name] is not None) for row in page.rows]
    if page.total > len(named) > 0:
        named.append(Text(look.more))
    count = f"{page.total:,}  "
    text = Text.assemble(count, Text("\n" + " " * len(count)).join(named))
    text.no_wrap, text.overflow = True, look.overflow
    return text


def _lines(text: str, look: Look) -> Text:
    """Return the first lines of a long text, and its length if there is more."""
    lines = text.splitlines()
    shown = Text("\n".join(look.safe(line) for line in lines[:MOST_LINES]))
    if len(lines) > MOST_LINES or any(len(line) > LONGEST for line in lines):
        shown.append(f"\n{look.more} {len(text):,} characters in all", "dim")
    if len(lines) > MOST_WRAPPED:
        shown.no_wrap, shown.overflow = True, look.overflow
    return shown


def _unsaved(entity: Any) -> Text | None:
    """Return the names of changed fields that are not saved; None for a new entity."""
    members = [name for name, members in (entity._members or {}).items() if members.is_changed]
    names = [] if entity._new else sorted({*entity._dirty, *members})
    return Text(f" not saved yet: {', '.join(names)} ", "bold") if names else None


# The results of a task


class LanesSection:
    """A line for each result of a task: its status, how long it waited and ran, and when."""

    def __init__(self, task: Task, moment: datetime.datetime) -> None:
        self.found, self.moment = details.lanes(task), moment
        self.times = details.moments(self.found.lanes)
        self.is_left_alone = details.is_left_alone(task, [lane.status for lane in self.found.lanes])

    def drawn(self, look: Look, width: int) -> Iterator[Any]:
        """Return the renderables below the fields. width: in columns."""
        if self.is_left_alone:
            yield from (Text(), Text(details.LEFT_ALONE, "yellow"))
        if not self.found.lanes:
            return
        names = max(NAME_ROOM, width // 3)
        rows = [self._words(lane, look, names) for lane in self.found.lanes]
        taken = sum(max(cell.cell_len for cell in column) for column in zip(HEADINGS, *rows, strict=True)) + 4 * GAP
        room = min(width - taken, LONGEST_LINE)
        table = _grid(look, *HEADINGS, *([self._scale(room)] if self._fits(room) else []))
        for lane, words in zip(self.found.lanes, rows, strict=True):
            table.add_row(*words, *([self._line(lane, look, room)] if self._fits(room) else []))
        yield from (Text(), table)
        if self.found.total > len(rows):
            yield Text(f"{look.more} {self.found.total - len(rows):,} more, unfinished ones come first", "dim")

    def _words(self, lane: Lane, look: Look, room: int) -> tuple[Text, ...]:
        spans = [_duration(lane.waited(self.moment), lane.started_at or lane.finished_at or lane.complete, look)]
        spans += [_duration(lane.ran(self.moment), lane.finished_at or lane.complete, look)]
        return _named(lane.name, lane.organization_id, look, room), look.state(lane.status), *spans

    def _fits(self, room: int) -> bool:
        return bool(self.times) and room >= LINE

    @property
    def _ends(self) -> tuple[datetime.datetime, datetime.datetime]:
        """Return the times at both ends of the timeline: the first, and the last or now."""
        is_unfinished = any(not lane.complete for lane in self.found.lanes)
        return min(self.times), max([*self.times, self.moment] if is_unfinished else self.times)

    def _scale(self, room: int) -> Text:
        """Return the heading of the timeline: where it begins and its duration."""
        first, last = self._ends
        long, short = f"{as_text(first, 'minutes')} UTC + {span(last - first)}", f"+ {span(last - first)}"
        return Text(long if len(long) <= room else short, "dim")

    def _line(self, lane: Lane, look: Look, room: int) -> Text:
        """Return the timeline of a result: thin while it waited, thick while it ran."""
        first, last = self._ends
        length = (last - first) / datetime.timedelta(seconds=1)

        def place(moment: datetime.datetime | None) -> int:
            after = (moment or last) - first
            return round(after / datetime.timedelta(seconds=1) / length * room) if length else room

        sign = look.sign(lane.status) if lane.status in FAILED or not lane.complete else ""
        begin, end = place(lane.assigned_at or lane.started_at or first), place(lane.finished_at)
        begin, end = min(begin, room - len(sign)), end - len(sign)
        start = min(place(lane.started_at), end) if lane.started_at else end
        if lane.complete and lane.started_at:  # however short, it has run
            start = max(begin, min(start, end - 1))
        full, rest = look.bar
        drawn = (rest * (start - begin), "dim"), (full * (end - start), look.colour(lane.status))
        return Text.assemble(" " * begin, *drawn, (sign, look.colour(lane.status)))


HEADINGS = tuple(Text(word, "bold") for word in ("organization", "result", "waited", "ran"))


def _duration(time: datetime.timedelta | None, is_over: object, look: Look) -> Text:
    """Return a duration, with an ellipsis if it still grows."""
    if time is None:
        return Text(look.none, "dim")
    return Text(span(time)) if is_over else Text(f"{span(time)} {look.more}")


def _named(name: Any, id: int | None, look: Look, room: int) -> Text:
    if name is None:
        return Text(look.none if id is None else f"({look.safe(id)})", "dim")
    return Text(look.cut(look.value(name), room))


def _grid(look: Look, *headings: Text) -> Table:
    """Return a table without borders, with the headings as its first row."""
    table = Table.grid(padding=(0, GAP, 0, 0))
    for _ in headings:
        table.add_column(no_wrap=True, overflow=look.overflow)
    table.add_row(*headings)
    return table


# The tasks around a task


class FamilySection:
    """The ancestors and children of a task as a tree."""

    def __init__(self, task: Task, moment: datetime.datetime) -> None:
        self.task, self.found = task, details.family(task)

    def drawn(self, look: Look, width: int) -> Iterator[Any]:
        """Return the renderables below the fields. width: in columns."""
        if not self.found.ancestors and not self.found.children:
            return
        lines = [self._member(row, look) for row in self.found.ancestors]
        lines.append(Text(f"{look.safe(self.task.named())} (this one)", "bold"))
        branches = [look.branch(depth) for depth in range(len(lines))]
        for at, row in enumerate(self.found.children, 1):
            lines.append(self._member(row, look))
            branches.append(look.branch(len(self.found.ancestors) + 1, is_last=at == self.found.total))
        yield Text()
        for branch, line in zip(branches, lines, strict=True):
            yield Text.assemble((branch, "dim"), line, no_wrap=True, overflow=look.overflow)
        if self.found.total > len(self.found.children):
            more = self.found.total - len(self.found.children)
            yield Text(f"{look.branch(len(self.found.ancestors) + 1)}{look.more} {more:,} more", "dim")

    def _member(self, row: Row, look: Look) -> Text:
        name = "" if row["name"] is None else f' "{look.cut(look.safe(row["name"]), NAME_ROOM)}"'
        counts = row["progress"]
        return Text.assemble(f"task {row['id']}{name} ", look.state(row["status"]), f" {counts.done}/{counts.total}")


# The organizations of a collaboration


class ParticipantsSection:
    """A line for each organization of a collaboration with its node, and one for the tasks."""

    def __init__(self, collaboration: Collaboration, moment: datetime.datetime) -> None:
        self.found, self.moment = details.participants(collaboration), moment

    def drawn(self, look: Look, width: int) -> Iterator[Any]:
        """Return the renderables below the fields. width: in columns."""
        found = self.found
        yield Text()
        yield look.statuses(found.tasks, width)
        if not found.participants:
            return
        table = _grid(look, *(Text(word, "bold") for word in ("organization", "node", "status", "last seen")))
        names = max(NAME_ROOM, width // 3)
        room = width - names - 3 * GAP - STATUS_ROOM - SEEN_ROOM
        for post in found.participants:
            table.add_row(_named(post.organization, post.organization_id, look, names), *self._node(post, look, room))
        yield from (Text(), table)
        if found.total > len(found.participants):
            yield Text(f"{look.more} {pluralize(found.total - len(found.participants), 'more organization')}", "dim")

    def _node(self, post: Participant, look: Look, room: int) -> tuple[Text, ...]:
        if post.node_id is None:
            return Text(look.cut("no node to run tasks", room)), Text(""), Text("")
        name = look.none if post.node is None else look.value(post.node)
        status = look.none if post.status is None else look.value(post.status)
        seen = views.ago(post.last_seen, self.moment, look)
        words = (f"{post.node_id} {name}", room), (status, STATUS_ROOM), (seen, SEEN_ROOM)
        return tuple(Text(look.cut(text, most)) for text, most in words)


# The results awaited from an organization or a node


class AwaitedSection:
    """The number of awaited results, the age of the oldest, and the first of them."""

    def __init__(self, entity: Organization | Node, moment: datetime.datetime) -> None:
        self.found: AwaitedResults = details.awaited_results(entity)
        self.moment = moment

    def drawn(self, look: Look, width: int) -> Iterator[Any]:
        """Return the renderables below the fields. width: in columns."""
        page, since = self.found.page, self.found.since
        yield Text()
        if not page.total:
            yield Text("no results awaited")
            return
        age = "" if since is None else f", the oldest for {span(self.moment - since)}"
        yield Text(f"{listing.pluralize(page.total, page.model)} awaited{age}", "bold")
        table = _grid(look, *(Text(word, "dim") for word in ("result", "task", "", "since, UTC")))
        for row in page.rows:
            task = Text.assemble(f"{row['task_id'] or look.none} ", _named(row["task"], None, look, NAME_ROOM))
            since_when = look.none if row["assigned_at"] is None else look.value(row["assigned_at"])
            table.add_row(Text(str(row["id"])), task, look.state(row["status"]), Text(since_when))
        yield table
        if page.total > len(page.rows):
            yield Text(f"{look.more} {page.total - len(page.rows):,} more", "dim")


SECTIONS: dict[type[Entity], tuple[Callable[[Any, datetime.datetime], Any], ...]] = {
    Task: (LanesSection, FamilySection),
    Collaboration: (ParticipantsSection,),
    Organization: (AwaitedSection,),
    Node: (AwaitedSection,),
}
# The relations whose members a section lists.
LISTED: dict[type[Entity], tuple[str, ...]] = {
    Task: ("results", "children"),
    Collaboration: ("organizations", "nodes"),
}
