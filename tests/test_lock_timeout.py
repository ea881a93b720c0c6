"""Statements that wait for another program's lock on a server: reported, timed out, and never waited for by Tab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import models
from vserverlib import Error
from vserverlib.databases import connection
from vserverlib.drivers import peewee
from vserverlib.opening import opener

KINDS = ["postgres"]


@contextlib.contextmanager
def locked(url: str, table: str = "result") -> Iterator[Any]:
    """Hold a lock on a table, as another program would."""
    with psycopg.connect(url, application_name="psql") as conn:
        conn.execute("SET idle_in_transaction_session_timeout = '180s'")  # a test that waits fails, and does not hang
        conn.execute(f"LOCK TABLE {table}")  # type: ignore[call-overload]  # texts of ours
        yield conn
        conn.rollback()


def test_a_wait_for_a_lock_of_another_program_is_reported_and_times_out(
    story: Any, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "LOCK_NOTICE", 0.0)
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", 0.5)
    with locked(address):
        with pytest.raises(Error, match=r"is locked by psql of postgres \(backend \d+\) for \d+ s: try again later"):
            story.results[0].delete()
        assert "waiting for psql of postgres" in capsys.readouterr().err
        with pytest.raises(Error, match="is locked by psql"):
            len(models.Result.get())
    story.results[0].delete()
    assert len(models.Result.get()) == 1


def test_a_long_statement_is_not_a_wait(
    database: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "LOCK_NOTICE", 0.0)
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", 0.1)
    assert database.execute_sql("SELECT 7 FROM pg_sleep(0.5)").fetchone() == (7,)
    assert capsys.readouterr().err == ""


def test_a_statement_that_its_owner_cancels_is_not_taken_for_one_that_waited(database: Any) -> None:
    database.execute_sql("SET statement_timeout = 50")
    with pytest.raises(peewee.OperationalError, match="statement timeout"):
        database.execute_sql("SELECT pg_sleep(5)")


def test_tab_waits_for_no_lock(story: Any, database: Any, address: str) -> None:
    database.close()
    with (
        locked(address, "task"),
        contextlib.closing(opener.open_without_waiting(address)),
        pytest.raises(Error, match="others hold a lock that this needs"),  # what has waited names the holder
    ):
        list(models.Task.get())
