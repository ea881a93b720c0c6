"""The desk: jobs run one at a time, each in a transaction; events leave after the commit, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import models
from vserverlib import Error, NotFound
from vserverlib.serving import desk as desks
from vserverlib.serving.desk import Busy, Desk
from vserverlib.serving.requests import Event

EVENT = Event("new_task", {"id": 1}, "collaboration_1")


def opened(address: str) -> Callable[[], Any]:
    return lambda: models.connect(address)


@pytest.fixture
def desk(address: str) -> Iterator[Desk]:
    found = Desk(opened(address))
    found.start()
    yield found
    found.end()


def names(desk: Desk) -> Awaitable[list[str]]:
    return desk.read(lambda: [each.name for each in models.Organization.get()])


def test_a_job_is_one_transaction_and_its_events_leave_after_the_commit(desk: Desk) -> None:
    left: list[tuple[list[Event], list[str]]] = []

    async def run() -> None:
        loop, published = asyncio.get_running_loop(), asyncio.Event()

        def publish(events: list[Event]) -> None:
            published.set()
            left.append((events, []))

        desk.publish = publish
        events: list[Event] = []

        def fails() -> None:
            models.Organization(name="Oslo").save()
            events.append(EVENT)
            raise Error("it does not fit")

        with pytest.raises(Error, match="does not fit"):
            await desk.write(fails, events=events)
        assert await names(desk) == [] and not left

        def works() -> int:
            organization = models.Organization(name="Lyon")
            organization.save()
            events.append(EVENT)
            return int(organization.id)

        assert await desk.write(works, actor="anna (API)", events=events) > 0
        await published.wait()
        assert [events for events, _ in left] == [[EVENT]] and await names(desk) == ["Lyon"]
        assert loop.is_running()

    asyncio.run(run())


def test_changes_are_signed_by_whom_they_are_for(desk: Desk) -> None:
    async def run() -> None:
        for actor in ("anna (API)", "bram (API)", "API"):
            await desk.write(lambda actor=actor: models.Organization(name=actor).save(), actor=actor)  # type: ignore[misc]
        query = "SELECT actor FROM change ORDER BY id"
        found = await desk.read(lambda: [row[0] for row in models.database.execute_sql(query).fetchall()])
        assert found[-3:] == ["anna (API)", "bram (API)", "API"]

    asyncio.run(run())


def test_the_errors_of_opening_are_raised_where_it_is_started(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no database"):
        Desk(opened(str(tmp_path / "none.db"))).start()


def test_a_locked_write_is_tried_again_and_then_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "LOCK_PATIENCE", 0.1)
    desk, tried = Desk(opened(str(path))), list[str]()
    desk.start()

    async def run() -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("BEGIN IMMEDIATE")
            with pytest.raises(Busy, match="is locked by .*process"):
                await desk.write(lambda: tried.append("written"))
            assert await names(desk) == [] and not tried
            waiting = asyncio.ensure_future(desk.write(lambda: models.Organization(name="Oslo").save()))
            monkeypatch.setattr(desks, "LOCK_PATIENCE", 60)
            assert await names(desk) == []
            conn.execute("ROLLBACK")
        await waiting
        assert await names(desk) == ["Oslo"]

    asyncio.run(run())
    desk.end()


def test_too_many_jobs_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "MAX_WAITING", 2)
    hold = threading.Event()

    async def run() -> None:
        asked = [asyncio.ensure_future(desk.read(hold.wait)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="try again later"):
            await desk.read(bool)
        hold.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert True in found and all(each is True or isinstance(each, Busy) for each in found)

    asyncio.run(run())
