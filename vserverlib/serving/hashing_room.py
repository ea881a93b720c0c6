"""The hashing room: threads that compute bcrypt (0.3 seconds each), so that nothing else waits for it.

At most MAX_WAITING wait; another one is refused, so that many log-ins at once end quickly instead of piling up. A
search, which compares a key with many hashes, waits for other searches: the second thread is left for log-ins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vserverlib import hashing
from vserverlib.serving.refusals import Refusal

THREADS = 2
MAX_WAITING = 50  # with two threads, the last waits 8 seconds
MAX_SEARCHES = 20

Found = TypeVar("Found")


class HashingRoom:
    """Computes and compares hashes."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "hashing")
        self._waiting = self._searches = 0
        self._search = asyncio.Lock()

    async def make_hash(self, plain: str, salt: str | None = None) -> str:
        """Return the hash of a plain text, with a new salt unless one is given."""
        return await self._computed(lambda: hashing.make_hash(plain, salt))

    async def matches(self, plain: str, stored: str | None) -> bool:
        """Whether a hash is that of a plain text. It takes as long without one."""
        is_there = stored is not None and hashing.is_hash(stored)
        return await self._computed(lambda: hashing.matches(plain, stored if is_there else DUMMY) and is_there)

    @contextlib.asynccontextmanager
    async def search(self) -> AsyncIterator[None]:
        """Have this block to oneself. For comparing a key with many hashes."""
        if self._searches >= MAX_SEARCHES:
            raise _crowded()
        self._searches += 1
        try:
            async with self._search:
                yield
        finally:
            self._searches -= 1

    async def _computed(self, compute: Callable[[], Found]) -> Found:
        if self._waiting >= MAX_WAITING:
            raise _crowded()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, compute)
        finally:
            self._waiting -= 1

    def end(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)


def _crowded() -> Refusal:
    return Refusal(429, "too many log-ins at once: try again in a few seconds")


# The hash of a random text that nobody knows: an unknown user costs the same time.
DUMMY = "$2b$12$7izCudTfFIhPHDTEreaeLe1otVKdrJLoJH/Xuz4AwcQ/wMNb2MfHy"
