"""Applying to PostgreSQL while others write, and with limited privileges."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from helpers import vantage6_servers
from helpers.vantage6_servers import Server

import models
from vserverlib import Error
from vserverlib.plans import deleted_rows, postgres_server, reverting
from vserverlib.plans.working_copy import WorkingCopy

WAITING = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
SECONDS = 180.0  # until a test gives up


@pytest.fixture
def theirs(server: Any, quick_hashes: None) -> Iterator[Server]:
    """The database of a server of release 4 on PostgreSQL."""
    with vantage6_servers.on_postgres(server, "4.15.2") as made:
        yield made


def applied_while(copy: WorkingCopy, theirs: Server, sql: str) -> str:
    """Apply while another session runs SQL and commits when this one waits for it; return the outcome."""
    found: list[str] = []

    def apply() -> None:
        try:
            copy.connect(reuse_if_open=True)
            found.append(str(copy.apply(backup=False)))
        except Error as error:
            found.append(str(error))
        finally:
            copy.connection().close()  # this thread's own

    with psycopg.connect(str(theirs.target)) as other:
        other.execute(sql)  # type: ignore[call-overload]  # texts of ours
        began, worker = time.monotonic(), threading.Thread(target=apply)
        worker.start()
        while theirs.value(WAITING) == 0 and worker.is_alive() and time.monotonic() - began < SECONDS:
            pass
        other.commit()
    worker.join(SECONDS)
    return found[0]


RACES = {
    "a new run of a task that is deleted": (
        lambda: models.Task.get(3).delete(dependents=True),
        "INSERT INTO run (task_id, organization_id) VALUES (3, 1)",
        "added to it meanwhile",
    ),
    "a row that is changed": (
        lambda: models.Organization.get(2).delete(dependents=True),
        "UPDATE organization SET domain = 'else.example' WHERE id = 2",
        'domain is "else.example" on the server now',
    ),
    "a row that is deleted": (
        lambda: models.Task.get(3).delete(dependents=True),
        "DELETE FROM run WHERE id = (SELECT MIN(id) FROM run WHERE task_id = 3)",
        "no longer exists",
    ),
}


@pytest.mark.parametrize("race", RACES)
def test_a_concurrent_write_is_a_conflict(race: str, copy: WorkingCopy, theirs: Server) -> None:
    change, sql, said = RACES[race]
    change()
    assert said in applied_while(copy, theirs, sql)
    assert not reverting.log(theirs.target)


def test_a_role_that_is_deleted_meanwhile_is_refused(copy: WorkingCopy, theirs: Server) -> None:
    theirs.run("INSERT INTO role (id, name) VALUES (90, 'going')")
    user = models.User.get(2)
    user.roles = "going"
    user.save()
    before = theirs.tables()["Permission"]
    assert "new copy" in applied_while(copy, theirs, "DELETE FROM role WHERE id = 90")
    assert theirs.tables()["Permission"] == before


def test_a_lock_that_is_held_is_one_line(copy: WorkingCopy, theirs: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_server.SETTINGS, "lock_timeout", 100)
    models.Task.get(3).delete(dependents=True)
    with psycopg.connect(str(theirs.target)) as other:
        other.execute("UPDATE run SET log = 'x' WHERE id = 1")
        with pytest.raises(Error, match=r"others hold .*try again"):
            copy.apply(backup=False)


def limited(theirs: Server, server: Any, rights: str) -> Server:
    """Return the database for a role that has only these privileges on its tables."""
    theirs.run("DROP ROLE IF EXISTS limited")
    theirs.run("CREATE ROLE limited LOGIN")
    theirs.run(f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO limited")
    return Server(str(theirs.target).replace("postgres@/", "limited@/"))


def test_a_role_without_privileges_gets_the_grant_to_run(theirs: Server, server: Any) -> None:
    copy = vantage6_servers.opened(limited(theirs, server, "SELECT"))
    models.Task.get(3).delete(dependents=True)
    with pytest.raises(Error, match="GRANT .*UPDATE"):
        copy.apply(backup=False)
    copy.close()
    theirs.run("DROP OWNED BY limited")


def test_a_role_without_sequences_gets_the_grant_to_run(theirs: Server, server: Any) -> None:
    copy = vantage6_servers.opened(limited(theirs, server, "SELECT, INSERT, UPDATE, DELETE"))
    models.Organization(name="new").save()
    with pytest.raises(Error, match="GRANT .*SEQUENCES"):
        copy.apply(backup=False)
    assert theirs.value("SELECT COUNT(*) FROM organization WHERE name = 'new'") == 0
    copy.close()
    theirs.run("DROP OWNED BY limited")


def test_deleting_many_rows_creates_temporary_indexes(
    copy: WorkingCopy, theirs: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_rows, "BULK", 1)
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    before = theirs.run(indexes)
    rows = theirs.tables()
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    copy.apply(backup=False)
    after = theirs.tables()
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == rows
    reverting.apply(theirs.target, 2, backup=False)
    assert theirs.tables() == after and theirs.run(indexes) == before


def test_a_role_that_owns_no_table_gets_a_note_on_the_lock(
    theirs: Server, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted_rows, "BULK", 1)
    monkeypatch.setattr(postgres_server, "SECONDS", 1.0)
    copy = vantage6_servers.opened(limited(theirs, server, "SELECT, INSERT, UPDATE, DELETE"))
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    plan = copy.plan()
    assert any("locks the tables for about" in note for note in plan.notes)
    copy.apply(plan, backup=False)
    copy.close()
    theirs.run("DROP OWNED BY limited")


def test_a_database_in_another_time_zone_says_so(copy: WorkingCopy, theirs: Server) -> None:
    name = theirs.value("SELECT current_database()")
    theirs.run(f"ALTER DATABASE {name} SET timezone = 'Europe/Amsterdam'")
    models.Task.get(3).delete(dependents=True)
    assert any("Europe/Amsterdam" in note for note in copy.plan().notes)
