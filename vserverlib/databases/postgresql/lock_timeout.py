"""Waiting for the locks that others hold on a PostgreSQL server: noticed while a statement is not answered.

psycopg waits for an answer in short steps, so that Ctrl-C is seen; between two of them somebody can look whether the
statement works or waits. It costs nothing where an answer comes at once. Who looks, and what is told, is postgres.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import psycopg

from vserverlib import printable
from vserverlib.databases import connection

TAGGED = 0x76736574  # "vset": of the advisory lock by whose number a transaction is found behind a pooler
BLOCKER = f"""
SELECT application_name, usename, pid FROM unnest(pg_blocking_pids(COALESCE(
    (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {TAGGED} AND objid = %s LIMIT 1), %s)
)) AS blocking LEFT JOIN pg_stat_activity ON pid = blocking LIMIT 1
"""


class Connection(psycopg.Connection[Any]):
    """A connection that has somebody look when a statement is not answered.

    look: is called with the time.monotonic() since when, and whether it was told; returns whether it is told now. At
    first after LOCK_TOLD seconds, then each time that it has taken twice as long.
    """

    look: Callable[[float, bool], bool] | None = None

    def wait(self, gen: Any, *words: Any, **options: Any) -> Any:
        return super().wait(gen if self.look is None else self._looked_after(gen), *words, **options)

    def _looked_after(self, gen: Any) -> Generator[Any, Any, Any]:
        since, due, reported = time.monotonic(), connection.LOCK_TOLD, False
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and self.look is not None and (waited := time.monotonic() - since) > due:
                    reported, due = self.look(since, reported), 2 * waited
                state = gen.send(ready)
        except StopIteration as ended:
            return ended.value


def refuse_to_wait(since: float, reported: bool) -> bool:
    """Raise an error: for a connection that is only to say for whom another one waits."""
    raise psycopg.OperationalError(f"no answer after {time.monotonic() - since:.0f} s")


def program(name: str | None, user: str | None, pid: int | None) -> str:
    """Return who has a lock, as far as the server tells."""
    return f"{printable(name or 'a program')} of {printable(user or 'another')} (backend {pid or 'unknown'})"
