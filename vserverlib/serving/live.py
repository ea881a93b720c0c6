"""The event streams of open pages: each gets its main part anew when that differs (server-sent events).

While somebody watches, the version of the database is compared twice a second. After a change, the figures are read
once for all who may see the same. Every 15 seconds, ages are written anew, and it is checked who may still watch. While
nobody watches, nothing is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Hashable
from functools import partial

from vserverlib import Error
from vserverlib.entities.fields import now
from vserverlib.serving.board import PACE, Board, Found, Reading, Wanted
from vserverlib.serving.desk import Busy, Desk
from vserverlib.serving.refusals import Refusal

LOOK_EVERY = 0.5  # seconds between two comparisons
AFTER_ERROR = 5.0  # seconds
RENEW_EVERY = 15.0  # seconds
MAX_WATCHERS, MAX_OF_USER = 1000, 100  # a class may log in as one user; hidden tabs watch nothing
GONE = "event: gone\ndata:\n\n"
LOST = "event: lost\ndata:\n\n"  # the database cannot be read, so the page stands still

Render = Callable[[Reading, datetime.datetime, str], str]  # figures, the moment for ages, the query of links


class Watcher:
    """An open page. A slow one gets the newest main part only, never a queue of them."""

    def __init__(self, wanted: Wanted, query: str) -> None:
        self.wanted, self.query = wanted, query
        self._changed, self._text, self._is_over = asyncio.Event(), "", False

    @property
    def is_new(self) -> bool:
        """Whether nothing was shown yet."""
        return not self._text

    def show(self, text: str) -> None:
        """Have a main part sent, if it differs from the last."""
        if text != self._text:
            self._text = text
            self._changed.set()

    def end(self) -> None:
        """End the stream."""
        self._is_over = True
        self._changed.set()

    async def texts(self) -> AsyncIterator[str]:
        """Yield main parts until the end, of which a page without its session or its task is told."""
        text = ""
        while text != GONE:
            await self._changed.wait()
            if self._is_over:
                return
            self._changed.clear()
            text = self._text
            yield text


class Live:
    """All open pages, and the one task that keeps them up to date."""

    def __init__(self, desk: Desk, board: Board, render: Render) -> None:
        self._desk, self._board, self._render = desk, board, render
        self._watchers: dict[Watcher, None] = {}
        self._found: dict[Wanted, Found] = {}
        self._version: Hashable = None
        self._read_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    def stream(self, wanted: Wanted, query: str) -> AsyncIterator[str]:
        """Return the events of a page, until it is closed. Raises a Refusal if its user or all have too many open."""
        of_user = sum(each.wanted.session.user_id == wanted.session.user_id for each in self._watchers)
        if of_user >= MAX_OF_USER:
            raise Refusal(503, f"you have {of_user} open pages: close some")
        if len(self._watchers) >= MAX_WATCHERS or self._is_closing:
            raise Refusal(503, "too many open pages: close some, or try again later")
        return self._events(Watcher(wanted, query))

    async def _events(self, watcher: Watcher) -> AsyncIterator[str]:
        self._watchers[watcher] = None
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run())
        try:
            async for text in watcher.texts():
                yield text
        finally:
            self._watchers.pop(watcher, None)

    def renew(self) -> None:
        """Have it checked soon who may still watch: a session has ended."""
        self._version = None

    async def close(self) -> None:
        """End all streams."""
        self._is_closing = True
        for each in self._watchers:
            each.end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while self._watchers:
            began, pause = time.monotonic(), 0.0
            try:
                await self._look()
            except Exception as error:
                if not isinstance(error, Busy | Error | Refusal):
                    traceback.print_exc(file=sys.stderr)
                self._version, pause = None, AFTER_ERROR
                for each in self._watchers:
                    each.show(LOST)
            await asyncio.sleep(max(pause, LOOK_EVERY, PACE * (time.monotonic() - began)))
        self._found = {}

    async def _look(self) -> None:
        """Read the figures again if they may differ, and show each page what it has not shown yet."""
        wanted = dict.fromkeys(each.wanted for each in self._watchers)
        version = await self._desk.read(self._board.version)
        is_stale = any(found.is_stale for found in self._found.values())
        is_due = time.monotonic() - self._read_at > RENEW_EVERY
        if is_due or is_stale or version != self._version or not wanted.keys() <= self._found.keys():
            self._version, self._read_at = version, time.monotonic()
            # One by one, so that other requests come in between.
            self._found = {each: await self._desk.read(partial(self._board.read, each)) for each in wanted}
            self._show()
        elif any(each.is_new for each in self._watchers):
            self._show()

    def _show(self) -> None:
        moment, texts = now(), dict[tuple[int, str], str]()
        for each in list(self._watchers):
            found = self._found.get(each.wanted)
            if found is None:  # it came after the reading
                continue
            if found.reading is None:
                each.show(GONE)
                continue
            place = (id(found.reading), each.query)
            if place not in texts:
                texts[place] = as_event(self._render(found.reading, moment, each.query))
            each.show(texts[place])


def as_event(text: str) -> str:
    """Return a main part as an event."""
    return "event: page\n" + "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"
