"""Noticing that a statement waits for another program's lock on a PostgreSQL server.

While psycopg waits for an answer it returns control at short intervals, so that Ctrl-C works; a callback then checks
whether the statement runs or waits. A fast statement costs nothing. postgres.py has the callback.

The server's own lock_timeout cannot replace this: it aborts the transaction, and does not say who holds the lock; here
the holder (pg_blocking_pids) is printed after a second, and the statement goes on waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import psycopg

from vserverlib import printable
from vserverlib.databases import connection

TAG_CLASS = 0x76736574  # "vset": the class of the advisory lock that identifies our transaction behind a pooler
BLOCKER = f"""
SELECT application_name, usename, pid FROM unnest(pg_blocking_pids(COALESCE(
    (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {TAG_CLASS} AND objid = %s LIMIT 1), %s)
)) AS blocking LEFT JOIN pg_stat_activity ON pid = blocking LIMIT 1
"""


class Connection(psycopg.Connection[Any]):
    """A connection with a callback for statements without an answer.

    on_wait: is called with the time.monotonic() of the start, and with its own last result, at first False: whether the
    wait was reported. The first call is after LOCK_NOTICE seconds, each further one after twice the time.
    """

    on_wait: Callable[[float, bool], bool] | None = None

    def wait(self, gen: Any, *words: Any, **options: Any) -> Any:
        return super().wait(gen if self.on_wait is None else self._with_checks(gen), *words, **options)

    def _with_checks(self, gen: Any) -> Generator[Any, Any, Any]:
        since, due, reported = time.monotonic(), connection.LOCK_NOTICE, False
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and self.on_wait is not None and (waited := time.monotonic() - since) > due:
                    reported, due = self.on_wait(since, reported), 2 * waited
                state = gen.send(ready)
        except StopIteration as ended:
            return ended.value


def refuse_to_wait(since: float, reported: bool) -> bool:
    """Raise an error: the callback of a connection that only asks who blocks another one."""
    raise psycopg.OperationalError(f"no answer after {time.monotonic() - since:.0f} s")


def program(name: str | None, user: str | None, pid: int | None) -> str:
    """Return the name of a program that holds a lock, as far as the server knows it."""
    return f"{printable(name or 'a program')} of {printable(user or 'another')} (backend {pid or 'unknown'})"
