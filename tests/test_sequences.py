"""Ids on a PostgreSQL server: above those that another program gave by hand, and a line where none is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers.typed import run

import models as db
from vserverlib import Error
from vserverlib.databases import connection, registry
from vserverlib.databases.postgresql import servers

KINDS = ["postgres"]
BACK = "SELECT setval('{0}_id_seq', 1, false)"


@pytest.fixture
def conn(address: str) -> Iterator[psycopg.Connection[Any]]:
    """Another program's connection to the database."""
    with psycopg.connect(address, autocommit=True) as opened:
        yield opened


def given_by_hand(conn: psycopg.Connection[Any]) -> None:
    """Write a row with its id, as psql does, and leave the sequences of the journal behind as a replica does."""
    conn.execute("INSERT INTO organization (id, name) SELECT 1 + COALESCE(MAX(id), 0), 'by hand' FROM organization")
    for table in ("organization", "change", "record"):
        conn.execute(BACK.format(table))  # type: ignore[call-overload]  # texts of ours


def test_a_save_continues_after_ids_that_were_given_by_hand(
    database: Any, conn: psycopg.Connection[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    given_by_hand(conn)
    first = db.Organization(name="first")
    first.save()
    assert (
        first.id == 2
        and "ids of organization, change, record were inserted by another program" in capsys.readouterr().err
    )
    given_by_hand(conn)  # in the middle of a session
    second = db.Organization(name="second")
    second.save()
    given_by_hand(conn)
    with database.atomic():
        db.Organization(name="third").save()
    conn.execute("INSERT INTO organization (id, name) SELECT 1 + MAX(id), 'by hand' FROM organization")  # the next one
    assert db.Organization.insert(name="fourth").execute() == 8
    given_by_hand(conn)
    db.Organization.insert_many([{"name": "fifth"}, {"name": "sixth"}]).execute()
    second.delete()
    assert [each.name for each in db.Organization.get() if each.name != "by hand"] == [
        "first",
        "third",
        "fourth",
        "fifth",
        "sixth",
    ]


def test_commands_that_write_continue_after_ids_that_were_given_by_hand(
    address: str, conn: psycopg.Connection[Any], tmp_path: Path
) -> None:
    (tmp_path / "add.yaml").write_text("organizations:\n  - name: Oslo\n    country: Norway\n")
    given_by_hand(conn)
    for words in (["import", str(tmp_path / "add.yaml"), "--merge", "--yes"], ["delete", "organization/1", "--yes"]):
        assert run(address, *words).exit_code == 0
        given_by_hand(conn)
    assert run(address, "undo", "--yes").exit_code == 0


def test_check_finds_a_sequence_that_is_behind(address: str, conn: psycopg.Connection[Any]) -> None:
    assert run(address, "check", "--rule", "DBF005").exit_code == 0
    given_by_hand(conn)
    output = run(address, "check", "--rule", "DBF005", "-o", "json").stdout
    assert "organization has a row with id 1, which its sequence organization_id_seq has not reached" in output
    assert "change has a row" in output and "task" not in output


def test_the_error_for_a_role_that_may_not_set_a_sequence_says_what_its_owner_can_run(
    address: str, conn: psycopg.Connection[Any]
) -> None:
    given_by_hand(conn)
    conn.execute("CREATE ROLE hand LOGIN")
    conn.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO hand")
    conn.execute("GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA public TO hand")
    try:
        done = run(address.replace("postgres@", "hand@"), "shell", "-c", "db.Organization(name='x').save()")
    finally:
        conn.execute("DROP OWNED BY hand")
        conn.execute("DROP ROLE hand")
    assert "have the owner of the tables run: SELECT setval('" in done.stderr, done.stderr
    assert "setval('record_id_seq', 1)" in done.stderr


@pytest.mark.parametrize("table", ["task", "record"])
def test_ids_that_are_used_up_are_a_line(database: Any, conn: psycopg.Connection[Any], table: str) -> None:
    conn.execute(f"SELECT setval('{table}_id_seq', {connection.MAX_ID})")  # type: ignore[call-overload]  # of ours
    with pytest.raises(
        Error,
        match=f"no id is left for a new {table}, as {connection.MAX_ID}, the highest, was used.* run: SELECT setval",
    ):
        db.Task(name="average").save()


def test_every_table_with_ids_is_looked_at() -> None:
    without = {"schema_migration", "setting", "counter", "undoing", "lock_out"}
    assert set(registry.WITH_IDS) == set(servers.TABLES) - without
