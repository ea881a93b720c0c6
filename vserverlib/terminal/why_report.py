"""Why a task is not finished, as text. queries/why.py finds it; this module displays it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.padding import Padding
from rich.text import Text

from vserverlib import named, pluralize
from vserverlib.entities.fields import now
from vserverlib.entities.progress import ACTIVE
from vserverlib.queries.details import LEFT_ALONE
from vserverlib.queries.why import Awaited, Failed, Why
from vserverlib.terminal import views
from vserverlib.terminal.views import Look, as_text, span

SHOWN = 20  # results of each kind
INDENT = 2


class WhyView:
    """The answer: the state of the task, whom it waits for, and what failed."""

    def __init__(self, found: Why) -> None:
        self.found, self.moment = found, now()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look, found = Look(options.encoding), self.found
        yield Text(look.safe(named("task", found.id, found.name)), "bold")
        yield from (_indented(line) for line in (state(found), look.safe(self._place()), self._created()) if line)
        if found.left_alone:
            yield _indented(LEFT_ALONE, "yellow")
        for each in found.awaited[:SHOWN]:
            yield from self._awaited(each, look)
        yield from _more(len(found.awaited), "waiting for", look)
        for failed in found.failed[:SHOWN]:
            yield from self._failed(failed, look)
        yield from _more(len(found.failed), "failed at", look)
        for child in found.children:
            yield Text(f"\nits child {look.safe(named('task', child.id, child.name))} is {child.status}")

    def _place(self) -> str:
        found = self.found
        if found.collaboration_id is None:
            return "has no collaboration"
        place = named("collaboration", found.collaboration_id, found.collaboration)
        return f"in {place}{', encrypted' if found.encrypted else ''}"

    def _created(self) -> str:
        created = self.found.created_at
        return "" if created is None else f"created {self._since(created)}"

    def _awaited(self, each: Awaited, look: Look) -> Iterator[Any]:
        yield Text.assemble(("\nwaiting for ", "bold"), look.safe(_organization(each)), f" (result {each.result_id})")
        started = "running since" if each.state == ACTIVE else "not started, assigned"
        yield _indented(look.safe(f"{started} {self._since(each.since)}"))
        if each.node_id is not None:
            yield _indented(f"node {each.node_id} {views.last_seen(each.last_seen, self.moment, look)}")
        for obstacle in each.obstacles:
            yield _indented(obstacle, "yellow")

    def _failed(self, each: Failed, look: Look) -> Iterator[Any]:
        yield Text.assemble(("\nfailed at ", "bold"), look.safe(_organization(each)), f" (result {each.result_id})")
        yield _indented(look.safe(f"{each.status or 'failed'} {self._since(each.finished_at)}"))
        for line in each.log or ["no log"]:
            yield _indented(look.safe(line), "dim")

    def _since(self, moment: Any) -> str:
        if isinstance(moment, datetime.datetime):
            return f"{as_text(moment, 'minutes')} UTC, {span(self.moment - moment, units=1)} ago"
        return "at an unknown time" if moment is None else f'"{moment}"'


def state(found: Why) -> str:
    """Return how far a task is, in words."""
    done = f"{found.finished:,} of {pluralize(found.total, 'result')}"
    if not found.total:
        return "has no results, so no node will run it"
    if found.complete:
        return f"finished: {done}, {len(found.failed):,} failed"
    return f"not finished: {done}, {len(found.awaited):,} awaited, {len(found.failed):,} failed"


def _organization(each: Awaited | Failed) -> str:
    return "no organization" if each.organization_id is None else each.organization or f"({each.organization_id})"


def _more(number: int, what: str, look: Look) -> Iterator[Text]:
    if number > SHOWN:
        yield Text(f"\n{look.more} {what} {number - SHOWN:,} more", "dim")


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style), (0, 0, 0, INDENT), expand=False)
