"""Locks, Ctrl-C and faults: a wait is reported, can be ended, and leaves the session as it was."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import peewee
import psycopg
import pytest

import models as db
from vserverlib import Error
from vserverlib.databases import connecting, connection, sqlite, storage
from vserverlib.databases.postgresql import postgres, sessions


class Blocker(NamedTuple):
    """Another that holds the lock of who writes until it is ended. named: by its number, as messages do."""

    named: str
    end: Callable[[], object]


@pytest.fixture
def blocker(kind: str, address: str) -> Iterator[Blocker]:
    if kind == "sqlite":
        with process_that_writes(Path(address)) as process:
            assert process.stdin is not None
            yield Blocker(f"(process {process.pid})" if sys.platform == "linux" else "", process.stdin.close)
    else:
        with psycopg.connect(address, application_name="another") as conn:
            conn.execute("SELECT pg_advisory_xact_lock(%s)", [postgres.WRITE_LOCK])
            yield Blocker(f"(backend {conn.info.backend_pid})", conn.rollback)


@contextlib.contextmanager
def process_that_writes(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the write lock of SQLite until its stdin is closed."""
    code = (
        "import sqlite3, sys\n"
        f"conn = sqlite3.connect({str(path)!r}, isolation_level=None)\n"
        "conn.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read(); conn.execute('COMMIT')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


def interrupt_after(seconds: float) -> None:
    """Press Ctrl-C, in a moment."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_a_file_that_another_program_keeps_for_itself_is_waited_for_when_it_is_opened(tmp_path: Path) -> None:
    path = storage.create(tmp_path / "kept.db")
    keeper = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    keeper.execute("PRAGMA locking_mode = EXCLUSIVE")
    keeper.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, keeper.close)
    timer.start()
    with contextlib.closing(connecting.connect(path, read_only=True)) as opened:
        assert opened.execute_sql("SELECT COUNT(*) FROM task").fetchone() == (0,)
    timer.join()


def test_a_wait_for_a_lock_is_reported_and_times_out(
    database: Any, blocker: Blocker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "LOCK_NOTICE", 0.0)
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", 0.3)
    organization = db.Organization(name="x")
    with pytest.raises(Error, match=f"{re.escape(database.title)} is locked by .* for 0 s: try again later"):
        organization.save()
    output = capsys.readouterr().err
    assert output.count("\n") == 1 and f"which is writing to {database.title}" in output
    assert blocker.named in output
    assert organization.id is None and len(db.Organization.get()) == 0


def test_the_lock_holder_is_named_without_the_code_that_it_runs(path: Path) -> None:
    with process_that_writes(path) as process:
        output = sqlite._program(process.pid)
    assert output == "python" and "BEGIN" not in output


def test_a_program_that_locks_the_file_otherwise_is_not_named_for_the_writer(database: Any, path: Path) -> None:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as `vserver start` does, so that no second one starts
        assert database.lock_holder() == "another program"
        with process_that_writes(path) as process:
            assert database.lock_holder() == f"python (process {process.pid})"


def test_a_wait_ends_when_the_lock_is_gone(database: Any, blocker: Blocker) -> None:
    timer = threading.Timer(0.3, blocker.end)
    timer.start()
    db.Organization(name="x").save()
    timer.join()
    assert len(db.Organization.get()) == 1


def test_ctrl_c_ends_a_wait_for_a_lock(database: Any, blocker: Blocker) -> None:
    organization = db.Organization(name="x")
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(0.2)
        organization.save()
    blocker.end()
    organization.save()
    assert organization.id == 1


@pytest.mark.parametrize("sql", ["SELECT count(*) FROM n", "SELECT i FROM n WHERE i < 0"])
def test_ctrl_c_ends_a_running_query(database: Any, sql: str) -> None:
    endless = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) {sql}"
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(0.2)
        database.execute_sql(endless).fetchone()
    db.Organization(name="the session goes on").save()


def is_in_transaction(database: Any) -> bool:
    """Whether the database itself has one open."""
    return bool(database.connection().in_transaction if database.is_sqlite else not database._is_idle())


@pytest.mark.parametrize("where", ["begin", "commit"])
def test_ctrl_c_at_the_edge_of_a_transaction_leaves_none_open(
    database: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    kind: Any = peewee.SqliteDatabase if database.is_sqlite else sessions.Session
    name = where if database.is_sqlite else {"begin": "open_transaction"}.get(where, where)
    plain = getattr(kind, name)

    def interrupted(self: Any, *args: Any) -> None:
        if where == "begin":
            plain(self, *args)
        raise KeyboardInterrupt

    organization = db.Organization(name="x")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, name, interrupted)
        organization.save()
    assert organization.id is None and not is_in_transaction(database)
    organization.save()
    assert len(db.Organization.get()) == 1


def test_ctrl_c_ends_the_reading_of_a_list(database: Any) -> None:
    endless = "SELECT i AS id FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"
    tasks = db.Task.select().where(db.Task.id.in_(peewee.SQL(f"({endless} WHERE i < 0)")) | (db.Task.id > 0))
    db.Task(name="x").save()
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(0.2)
        list(tasks)
    assert not tasks.is_read and len(list(db.Task.get())) == 1


def test_readers_do_not_wait_for_a_writer(database: Any, blocker: Blocker) -> None:
    assert len(db.Organization.get()) == 0 and list(db.Task.get()) == []


@pytest.mark.sqlite("PostgreSQL has no limit for a database that could be set")
def test_a_full_disk_is_one_clear_line_and_the_session_continues(database: Any) -> None:
    pages = database.pragma("page_count")
    database.execute_sql(f"PRAGMA max_page_count = {pages + 2}")
    organization = db.Organization(name="x" * 100_000)
    with pytest.raises(Error, match=r"^vserver\.db could not be written .*: nothing was changed; free some disk space"):
        organization.save()
    assert organization.id is None and len(db.Organization.get()) == 0
    database.execute_sql("PRAGMA max_page_count = 1000000")
    organization.save()
    assert db.Organization.get(1) == organization


def test_a_statement_that_fails_leaves_no_transaction_open(database: Any) -> None:
    with pytest.raises((peewee.OperationalError, peewee.ProgrammingError)), database.atomic():
        database.execute_sql("SELECT nonsense FROM nowhere")
    assert not database.in_transaction()
    db.Organization(name="x").save()


def test_what_is_acknowledged_is_on_disk(database: Any, path: Path) -> None:
    db.Organization(name="x").save()
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM organization").fetchall() == [("x",)]
    other.close()
    assert database.pragma("synchronous") == 2 and database.pragma("journal_mode") == "wal"
    assert database.pragma("foreign_keys") == 1 and database.pragma("recursive_triggers") == 1
