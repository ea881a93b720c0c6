"""The desk: the one thread that has the database. It runs a job at a time, each in one transaction.

A read never waits for a lock of another program on SQLite. A write that finds the lock taken goes to the end of the
queue, so requests that read are answered meanwhile; after LOCK_PATIENCE seconds it fails with Busy, which names the
holder. Events that a job has collected leave after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vserverlib import Error, Locked
from vserverlib.serving.requests import API, Event

LOCK_PATIENCE = 10.0  # seconds that a write is tried again
ATTEMPT = 0.02  # seconds that an attempt waits for a lock; the next one follows when nothing else is in the queue
MAX_WAITING = 1000  # jobs in the queue; another one is refused

Found = TypeVar("Found")
Publish = Callable[[list[Event]], object]


class Busy(Exception):
    """The database is locked, moved, or another server's; or too many jobs wait. Nothing was written."""


@dataclass
class Job:
    """A job in the queue: its function, and whom the answer is for."""

    run: Callable[[], Any]
    writes: bool
    actor: str
    events: list[Event]
    answer: Callable[[Any, BaseException | None], None]
    since: float = field(default_factory=time.monotonic)
    is_locked_out: bool = False


class Desk:
    """A thread with a database. A job that raises an exception is rolled back, and raises it where it is awaited.

    open: opens the database, in that thread. publish: takes the events of a job after its commit, in the event loop;
    sockets sets it, and until then events are dropped. is_ours: whether no other server has the database meanwhile.
    """

    def __init__(self, open: Callable[[], Any]) -> None:
        self._open = open
        self.publish: Publish = bool
        self.is_ours: Callable[[], bool] = lambda: True
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.database: Any = None
        self.commits = 0  # of jobs that write, since the start

    def start(self) -> None:
        """Open the database. Raises the errors of opening it."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Finish the jobs in the queue and close the database."""
        self._jobs.put(None)
        self._thread.join()

    async def read(self, run: Callable[[], Found]) -> Found:
        """Run a function that reads, in one transaction, and return its result."""
        return await self._asked(run, False, API, [])

    async def write(self, run: Callable[[], Found], *, actor: str = API, events: list[Event] | None = None) -> Found:
        """Run a function that writes, in one transaction, under a name in the journal, and return its result.

        events: a list to which the function adds; it is emptied before each attempt.
        """
        return await self._asked(run, True, actor, [] if events is None else events)

    async def _asked(self, run: Callable[[], Found], writes: bool, actor: str, events: list[Event]) -> Found:
        if self._jobs.qsize() >= MAX_WAITING:
            raise Busy("the server is busy: try again later")
        loop = asyncio.get_running_loop()
        self._loop = loop
        future: asyncio.Future[Found] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if not future.done():  # a client that has gone away cancelled it
                future.set_result(result) if error is None else future.set_exception(error)

        def answer(result: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(Job(run, writes, actor, events, answer))
        return await future

    def sign_as(self, actor: str) -> None:
        """Have the open transaction recorded under a name. For functions that the desk runs."""
        self.database.sign_as(actor)

    # In the thread

    def _work(self) -> None:
        try:
            self.database = self._open()
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._started.set()
        with contextlib.closing(self.database):
            self.database.lock_timeout = 0.0
            if self.database.is_sqlite:
                self.database.connection().execute(f"PRAGMA busy_timeout = {round(ATTEMPT * 1000)}")
            while (job := self._jobs.get()) is not None:
                self._do(job)

    def _do(self, job: Job) -> None:
        job.events.clear()
        try:
            result = self._in_transaction(job)
        except Locked:
            self._again(job)
        except Error as error:
            job.answer(None, error if self.database.is_in_place() else self._moved())
        except BaseException as error:
            job.answer(None, error)
        else:
            if job.events and self._loop is not None:
                self._loop.call_soon_threadsafe(self.publish, list(job.events))
            job.answer(result, None)

    def _moved(self) -> Busy:
        happened = "was moved, removed, replaced, or has two names (hard links)"
        return Busy(f"{self.database.title} {happened}: put it back, or stop this server and start it again")

    def _in_transaction(self, job: Job) -> Any:
        if not self.database.is_in_place():  # a read would go on to answer with the old data
            raise self._moved()
        if not self.is_ours():
            raise Busy(f"{self.database.title} is served by another server: end this one")
        self.database.cached.pop("key_salt", None)  # a restore or an import may have replaced the whole database
        if not job.writes:
            with self.database.reading():
                return job.run()
        with self.database.atomic():
            self.database.sign_as(job.actor)
            result = job.run()
        self.commits += 1
        return result

    def _again(self, job: Job) -> None:
        """Put a job that found a lock at the end of the queue, unless it has waited too long."""
        waited = time.monotonic() - job.since
        if waited > LOCK_PATIENCE:
            holder = self.database.lock_holder()
            job.answer(None, Busy(f"the database is locked by {holder} for {waited:.0f} s: try again later"))
            return
        if self._jobs.empty():
            time.sleep(ATTEMPT)
        self._jobs.put(job)
