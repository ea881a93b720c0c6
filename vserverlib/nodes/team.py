"""What the nodes of a file share: its settings, where runs are computed, and who asks for the runs of a new task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from vserverlib import Error
from vserverlib.nodes.client import Identity
from vserverlib.nodes.settings import Settings
from vserverlib.nodes.slots import Slots
from vserverlib.nodes.workshop import Workshop

MAX_ASKED = 1000  # tasks that are remembered
Row = dict[str, Any]


class Report(Protocol):
    """How nodes report."""

    def line(self, text: str, colour: str = "dim") -> None:
        """Print a line."""

    def detail(self, text: str) -> None:
        """Print a line if details are wanted."""

    def away(self, error: Error) -> None:
        """Print once that the server is away."""

    def back(self) -> None:
        """Print that the server is back, if it was away."""


class Team:
    """The nodes of a file. claim: is called with who a node is; raises an Error if it must not run."""

    def __init__(
        self, settings: Settings, workshop: Workshop, report: Report, claim: Callable[[Identity], object]
    ) -> None:
        self.settings, self.workshop, self.report, self._claim = settings, workshop, report, claim
        self.slots = Slots(settings.limits.parallel)
        self._members: dict[tuple[int, int | None], Callable[[Row], object]] = {}
        self._asked: dict[int, None] = {}
        self._lock = threading.Lock()

    def join(self, who: Identity, take: Callable[[Row], object]) -> None:
        """Add a node. take: is called with each run for it that another node has asked for."""
        self._claim(who)
        self._members[who.collaboration_id, who.organization_id] = take

    def has_to_ask(self, task_id: int) -> bool:
        """Whether a node has to ask for the runs of a new task: one does for all nodes of a collaboration."""
        with self._lock:
            if task_id in self._asked:
                return False
            self._asked[task_id] = None
            if len(self._asked) > MAX_ASKED:
                del self._asked[next(iter(self._asked))]
            return True

    def share(self, who: Identity, rows: Iterable[Row]) -> None:
        """Give runs that a node has asked for to the nodes that compute them."""
        for row in rows:
            organization = row.get("organization") or {}
            take = self._members.get((who.collaboration_id, organization.get("id")))
            if take is not None:
                take(row)
