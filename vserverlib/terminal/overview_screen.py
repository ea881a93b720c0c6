"""The status overview on one screen. overview.py has its figures; views.py its signs, bars and safe text."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from vserverlib import pluralize
from vserverlib.entities import rules
from vserverlib.entities.progress import Counts
from vserverlib.queries import kinds, listing
from vserverlib.queries.overview import Overview, Share
from vserverlib.terminal import check_report, views
from vserverlib.terminal.views import BAR, GAP, WIDE_BAR, Look, as_text, span

MOST_SHARES = 4  # lines of collaborations, and of organizations: the overview fits 80 columns and 24 lines
MOST_NODES = 2
WIDTH = 80  # columns that the overview needs; a wider terminal has more room for names and bars
NAME_ROOM = 26  # columns of a name
LEAST_NAME = 16  # in a narrower terminal, lines wrap
NODE_ROOM = 50
ALL = "vserver overview --all"


class OverviewView:
    """The overview on a screen of 80 columns and 24 lines, or wider.

    title: of the database. moment: when the figures were read, for the ages. everything: show all collaborations,
    organizations and nodes, in as many lines as they need.
    """

    def __init__(self, found: Overview, title: str, moment: datetime.datetime, everything: bool = False) -> None:
        self.found, self.title, self.moment, self.everything = found, title, moment, everything
        self.width, self.spare = WIDTH, 0  # columns, and those beyond WIDTH

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look, found = Look(options.encoding), self.found
        self.width, self.spare = options.max_width, max(0, options.max_width - WIDTH)
        counts = [listing.pluralize(count, kinds.kind(plural)) for plural, count in found.entities.items()]
        yield Text(f"{look.safe(self.title)}, {as_text(self.moment, 'minutes')} UTC", "bold")
        yield Text(", ".join(counts) + "\n")
        yield look.statuses(found.tasks, options.max_width)
        yield self._check()
        yield from self._shares("collaboration", "tasks finished", found.collaborations, look)
        yield from self._shares("organization", "results finished", found.organizations, look)
        yield from self._unseen(look)
        yield from self._locked_out(look)

    def _check(self) -> Text:
        """Return the result and the age of the last check."""
        last = self.found.check
        if last is None:
            return Text.assemble(("checked  ", "bold"), ("never: vserver check", "dim"))
        counts = {rules.ERROR: last.error, rules.WARNING: last.warning, rules.INFO: last.info}
        return Text.assemble(("checked  ", "bold"), f"{self._age(last.at)} ago: {check_report.summary(counts)}")

    def _shares(self, noun: str, heading: str, shares: Sequence[Share], look: Look) -> Iterator[Any]:
        """Return a table of the first shares, those with the most left to do."""
        shares = [share for share in shares if share.total or (self.everything and share.id is not None)]
        if not shares:
            return
        since = "waiting since" if any(share.since for share in shares) else ""
        table = Table.grid(padding=(0, GAP, 0, 0))
        shown = shares if self.everything else shares[:MOST_SHARES]
        heads = tuple(Text(word, "bold") for word in (noun, heading, "failed", since))
        rows = [self._share(share, noun, look) for share in shown]
        figures = sum(GAP + max(row[column].cell_len for row in (heads, *rows)) for column in range(1, len(heads)))
        room = min(NAME_ROOM + self.spare // 2, self.width - figures)
        room = room if room >= LEAST_NAME else NAME_ROOM
        for name, *others in (heads, *rows):
            table.add_row(Text(look.cut(name.plain, room), name.style), *others)
        yield Text()
        yield table
        if len(shares) > len(shown):
            yield Text(f"{look.more} {len(shares) - len(shown):,} more: {ALL}", "dim")

    def _share(self, share: Share, noun: str, look: Look) -> tuple[Text, ...]:
        nobody = f"(no {noun})" if share.id is None else f"({noun} {look.safe(share.id)})"
        name = nobody if share.name is None else look.safe(share.name)
        waited = "" if share.since is None else f"{as_text(share.since, 'minutes')} ({self._age(share.since)})"
        bar = look.progress(Counts(share.total, share.done), min(WIDE_BAR, BAR + self.spare // 4))
        return (
            Text(name),
            bar,
            Text(f"{share.failed:,}", justify="right"),
            Text(waited),
        )

    def _age(self, since: datetime.datetime) -> str:
        return span(self.moment - since, units=1)

    def _locked_out(self, look: Look) -> Iterator[Any]:
        """Return a line of the users who are locked out."""
        users = [look.safe(each.username or each.id) for each in self.found.locked_out]
        if users:
            names = look.cut(", ".join(users[:MOST_NODES]), NODE_ROOM + self.spare)
            more = f" and {len(users) - MOST_NODES:,} more" if len(users) > MOST_NODES else ""
            yield Text(f"\nlocked out after wrong passwords: {names}{more}")

    def _unseen(self, look: Look) -> Iterator[Any]:
        nodes = self.found.unseen
        shown = nodes if self.everything else nodes[:MOST_NODES]
        yield from [Text()] if nodes else []
        for node in shown:
            seen = views.last_seen(node.last_seen, self.moment, look)
            name = look.cut(f"node {node.id} {look.safe(node.name or '')}", NODE_ROOM + self.spare)
            yield Text(f"{name}  {seen}")
        if len(nodes) > len(shown):
            yield Text(
                f"{look.more} {pluralize(len(nodes) - len(shown), 'more node')} not seen for a day: {ALL}", "dim"
            )
