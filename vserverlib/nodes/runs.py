"""A run as a node knows it: what the server says of it, and how far it is."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import time
from dataclasses import dataclass
from typing import Any

from vserverlib import printable
from vserverlib.nodes.jobs import Outcome
from vserverlib.nodes.workshop import Running

OPEN = ("pending", "initializing", "active")  # statuses of an unfinished run
MAX_METHOD = 60  # characters of a method in messages


@dataclass
class Run:
    """A run. input: JSON text, unless is_readable is false. requested: databases, as the API gives them.

    running: once it computes. undelivered: its outcome, which the server has not stored in so many deliveries.
    is_killed: somebody wants it ended; is_stopped: the node itself is stopped.
    """

    id: int
    task_id: int
    job_id: int
    parent_id: int | None
    image: str
    input: bytes
    requested: list[dict[str, Any]]
    is_readable: bool
    has_begun: bool
    log: str
    running: Running | None = None
    undelivered: Outcome | None = None
    deliveries: int = 0
    is_killed: bool = False
    is_stopped: bool = False
    began: float = 0.0

    @property
    def is_unwanted(self) -> bool:
        """Whether it has to end early."""
        return self.is_killed or self.is_stopped

    @functools.cached_property
    def title(self) -> str:
        """The run as messages name it."""
        return f"run {self.id} of task {self.task_id}: {printable(self.image, 100)} {self.method}"

    @property
    def method(self) -> str:
        """The method that is asked for, as messages show it."""
        try:
            given = json.loads(self.input)
        except (ValueError, RecursionError):
            return "?"
        return printable(given.get("method"), MAX_METHOD) if isinstance(given, dict) else "?"

    @property
    def seconds(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self.began


def of_answer(row: dict[str, Any]) -> Run:
    """Return the run of a row that includes its task. Raises KeyError, TypeError … for another."""
    task = row["task"]
    content = _decoded(row["input"] or "")
    return Run(
        id=int(row["id"]),
        task_id=int(task["id"]),
        job_id=int(task["job_id"]),
        parent_id=None if task["parent"] is None else int(task["parent"]["id"]),
        image=str(task["image"]),
        input=content or b"",
        requested=list(task["databases"] or ()),
        is_readable=content is not None and not row.get("blob_storage_used"),
        has_begun=row["started_at"] is not None or row["status"] in OPEN[1:],
        log=row["log"] or "",
    )


def _decoded(text: str) -> bytes | None:
    """Return the JSON text of an input, in base64; None if it is something else."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
