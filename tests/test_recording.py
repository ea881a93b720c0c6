"""How the journal is written: by whom and as which change, whatever writes, whatever is written."""

from __future__ import annotations

import contextlib
import importlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import models as db
from vserverlib import hashing
from vserverlib.databases import recording, schemas, storage
from vserverlib.entities import journal
from vserverlib.examples import demo, simulation

HOSTILE = 'a"b\\c\n\x1b[2J[red]\u202e\x00'


@contextlib.contextmanager
def another_program(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of plain sqlite3, each statement of which is a transaction unless it says otherwise."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as conn:
        yield conn


def records(database: Any) -> list[tuple[Any, ...]]:
    """Return change, entity, id and op of all records, oldest first."""
    return [(e.change, e.entity, e.entity_id, e.op) for e in reversed(list(journal.entries(database)))]


def newest(database: Any) -> journal.Entry:
    return next(journal.entries(database))


def last_changes(database: Any) -> dict[str, Any]:
    return newest(database).changes


# What is a change


def test_a_save_is_a_change_with_its_memberships(database: Any) -> None:
    iknl = db.Organization(name="IKNL")
    iknl.save()
    db.Collaboration(name="AB", organizations=[iknl]).save()
    assert records(database) == [
        (1, "organization", 1, "insert"),
        (2, "collaboration", 1, "insert"),
        (2, "membership", 1, "insert"),
    ]


def test_a_transaction_is_one_change_whatever_is_done_in_it(story: SimpleNamespace, database: Any) -> None:
    before = newest(database).change
    with database.atomic():
        story.task.name = "median"
        story.task.save()
        db.Result.update(log="x").where(db.Result.id > 0).execute()
        story.node.delete()
    assert {change for change, *_ in records(database) if change > before} == {before + 1}
    assert len([1 for change, *_ in records(database) if change > before]) == 4


def test_bulk_queries_are_one_change_each(story: SimpleNamespace, database: Any) -> None:
    before = newest(database).change
    db.Task.insert_many([{"name": str(number)} for number in range(50)]).execute()
    db.Task.update(name="all").where(db.Task.id > 0).execute()
    db.Task.update(name="none").where(db.Task.id > 0).execute()
    found = [change - before for change, *_ in records(database) if change > before]
    assert [found.count(each) for each in (1, 2, 3, 4)] == [50, 51, 51, 0]


def test_a_save_that_changes_nothing_is_not_a_change(story: SimpleNamespace, database: Any) -> None:
    before = len(records(database))
    db.Task.update(name=story.task.name).where(db.Task.id == 1).execute()
    db.Task.update(name="x").where(db.Task.id == 99).execute()
    assert len(records(database)) == before


def test_nothing_stays_of_what_was_rolled_back(database: Any) -> None:
    db.Organization(name="before").save()
    with contextlib.suppress(ZeroDivisionError), database.atomic():
        db.Organization(name="gone").save()
        raise ZeroDivisionError
    with database.atomic():
        with contextlib.suppress(ZeroDivisionError), database.atomic():
            db.Organization(name="first of the transaction, gone").save()
            raise ZeroDivisionError
        db.Organization(name="stays").save()
        with contextlib.suppress(ZeroDivisionError), database.atomic():
            db.Organization(name="gone").save()
            raise ZeroDivisionError
        db.Organization(name="stays too").save()
    with database.atomic(), contextlib.suppress(ZeroDivisionError), database.atomic():
        db.Organization(name="nothing else is in this transaction").save()
        raise ZeroDivisionError
    names = [entry.changes["name"][1] for entry in journal.log(database)]
    assert names == ["stays too", "stays", "before"]
    second = 2 if database.is_sqlite else 4  # PostgreSQL gives no number twice, not even one that was rolled back
    assert [change for change, *_ in records(database)] == [1, second, second] and database.last_change == second


def test_no_change_is_left_open(story: SimpleNamespace, database: Any, path: Path) -> None:
    with another_program(path) as conn:
        conn.execute("UPDATE task SET name = 'theirs'")
        assert conn.execute("SELECT COUNT(*) FROM change WHERE open > 0").fetchone() == (0,)


def test_a_transaction_that_is_committed_by_hand_is_closed_too(database: Any, path: Path) -> None:
    database.execute_sql("BEGIN IMMEDIATE")
    database.execute_sql("INSERT INTO organization (name) VALUES ('by hand')")
    database.execute_sql("COMMIT")
    database.begin()
    database.execute_sql("INSERT INTO organization (name) VALUES ('half by hand')")
    database.execute_sql("COMMIT;")
    with another_program(path) as conn:
        conn.execute("UPDATE organization SET name = 'theirs'")
    assert newest(database).actor is None and newest(database).change == 3


# Who


def test_a_change_reports_the_actor_and_the_session(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = []
    for actor in ("Zoë 'the' admin", ""):
        monkeypatch.setenv("VSERVER_ACTOR", actor)
        with contextlib.closing(db.connect(path)) as database:
            db.Organization(name="x").save()
            entry = newest(database)
            sessions.append(entry.session)
            assert entry.actor == (actor or recording.user_name())
    assert len(set(sessions)) == 2


def test_an_actor_cannot_fake_anything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "VSERVER_ACTOR", "x\x1b[2J'); DROP TABLE task; --\udce9")
    with contextlib.closing(db.connect(path)) as database:
        db.Task(name="x").save()
        assert newest(database).actor == "x\\x1b[2J'); DROP TABLE task; --\\udce9"


def test_other_programs_need_nothing_of_ours_and_have_no_name(
    story: SimpleNamespace, database: Any, path: Path
) -> None:
    before = newest(database).change
    with another_program(path) as conn:
        conn.execute("UPDATE task SET name = 'theirs', image = NULL")
        conn.execute("DELETE FROM node")
    assert [record[1:] for record in records(database)[-2:]] == [("task", 1, "update"), ("node", 1, "delete")]
    entry = newest(database)
    assert (entry.actor, entry.session) == (None, None) and entry.change > before
    db.Task(name="ours").save()
    assert newest(database).actor == recording.user_name() and newest(database).change > entry.change


def test_each_statement_of_another_program_is_a_change_however_fast_they_follow(database: Any, path: Path) -> None:
    with another_program(path) as conn:
        conn.execute("INSERT INTO task (name) VALUES ('a'), ('b')")
        conn.execute("BEGIN")
        for number in range(100):
            conn.execute("UPDATE task SET name = ?", [number])
        conn.execute("COMMIT")
    assert [change for change, *_ in records(database)] == [change for change in range(1, 102) for _ in range(2)]


def test_the_rows_of_one_statement_of_another_program_are_one_change(database: Any, path: Path) -> None:
    with another_program(path) as conn:
        numbers = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        conn.execute(f"{numbers} INSERT INTO task (name) SELECT i FROM n")
    assert {change for change, *_ in records(database)} == {1} and len(records(database)) == 3000


WRITER = """
for number in range(50):
    with database.atomic():
        db.Organization(name="a").save()
        db.Task(name="b").save()
"""


def test_two_processes_at_once_number_their_changes_apart(path: Path) -> None:
    command = [sys.executable, "-c", "import vserver; vserver.main()", "-d", str(path), "shell", "-c", WRITER]
    root = str(Path(db.__file__).parent)
    processes = [subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    with contextlib.closing(db.connect(path, read_only=True)) as database:
        by_change: dict[int, set[Any]] = {}
        for entry in journal.entries(database):
            by_change.setdefault(entry.change, set()).add((entry.session, entry.entity))
    assert sorted(by_change) == list(range(1, 101))
    assert all(len(rows) == 2 and len({session for session, _ in rows}) == 1 for rows in by_change.values())


# What


def test_an_update_reports_the_changed_columns_before_and_after(story: SimpleNamespace, database: Any) -> None:
    story.task.name, story.task.parent, story.task.description = "median", None, "x"
    story.task.save()
    assert last_changes(database) == {"name": ["average", "median"], "description": [None, "x"]}


def test_values_have_the_types_of_the_entities(story: SimpleNamespace, database: Any) -> None:
    story.collaboration.encrypted = True
    story.collaboration.save()
    assert last_changes(database) == {"encrypted": [False, True]}
    story.results[0].finished_at = story.results[0].started_at = "2026-03-01"
    story.results[0].save()
    assert last_changes(database)["finished_at"] == [None, story.results[0].finished_at]


def test_the_state_that_the_database_works_out_is_left_out(story: SimpleNamespace, database: Any) -> None:
    assert all("state" not in entry.changes for entry in journal.entries(database))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        HOSTILE,
        "é漢🙂",
        pytest.param("x" * 3_000_000, id="3 MB"),
        b"",
        b"\x00\xff'\"",
        "'",
        "null",
        '{"real":"1"}',
    ],
)
def test_any_text_and_bytes_are_recorded_as_they_are(value: Any, database: Any, path: Path) -> None:
    with another_program(path) as conn:
        conn.execute("INSERT INTO task (name, image) VALUES (?, 'x')", [value])
        conn.execute("UPDATE task SET name = 'y', image = ?", [value])
    first, second = reversed(journal.log(database).entries)
    assert first.changes.get("name", [None, None]) == [None, value]
    assert second.changes["image"] == ["x", value]


@pytest.mark.parametrize(
    "value", [0, -1, 2**63 - 1, -(2**63), 0.1, 1e300, 2.5e-310, float("inf"), 1 / 3, "text", b"\x01"]
)
def test_odd_values_in_a_number_are_recorded_exactly(value: Any, database: Any, path: Path) -> None:
    with another_program(path) as conn:
        conn.execute("INSERT INTO task (run_id) VALUES (?)", [value])
    assert last_changes(database) == {"run_id": [None, value]}


def test_invalid_utf_8_does_not_stop_the_log(database: Any, path: Path) -> None:
    with another_program(path) as conn:
        conn.execute("INSERT INTO task (name) VALUES (CAST(x'61ff62' AS TEXT))")
    assert last_changes(database) == {"name": [None, "a\ufffdb"]}


def test_a_new_id_of_a_row_is_on_record_under_the_one_that_it_had(database: Any, path: Path) -> None:
    db.Organization(name="x", country="NL").save()
    with another_program(path) as conn:
        conn.execute("UPDATE organization SET id = 7")
    assert records(database)[1:] == [(2, "organization", 1, "update")]
    assert last_changes(database) == {"id": [1, 7]}


@pytest.mark.sqlite("PostgreSQL has no REPLACE")
def test_a_replaced_row_is_recorded(database: Any) -> None:
    db.Organization(name="x").save()
    database.execute_sql("REPLACE INTO organization (id, name) VALUES (1, 'y')")
    assert [record[3] for record in records(database)] == ["insert", "delete", "insert"]


# Secrets


def test_hashes_are_in_the_column_of_secrets_only(story: SimpleNamespace, database: Any) -> None:
    db.User(username="root", password="Geheim-123!").save()
    story.node.api_key = "5e1a7c1e-0000-4000-8000-00000000c0de"
    story.node.save()
    hashes = [db.User.get(1)._stored["password"], db.Node.get(1)._stored["api_key"]]
    rows = database.execute_sql("SELECT * FROM record").fetchall()
    assert all(hash in str([row[-1] for row in rows]) for hash in hashes)
    assert not any(hash in str([row[:-1] for row in rows]) for hash in hashes)
    assert last_changes(database) == {"api_key": [None, "changed"]}


def test_a_read_only_session_reads_no_hash_of_the_journal(story: SimpleNamespace, path: Path) -> None:
    db.User(username="root", password="Geheim-123!").save()
    with contextlib.closing(db.connect(path, read_only=True)) as database:
        assert database.execute_sql("SELECT COUNT(secrets) FROM record").fetchone() == (0,)
        assert last_changes(database)["password"] == [None, "changed"]


# Bulk work


def test_bulk_work_is_one_entry_and_no_records(database: Any) -> None:
    with recording.bulk_change(database, "an import of 2 organizations", "backup.db") as id:
        db.Organization.insert_many([{"name": "a"}, {"name": "b"}]).execute()
        db.Organization(name="c").save()
    assert [(e.change, e.op, e.entity, e.about) for e in journal.log(database)] == [
        (id, "bulk", None, "an import of 2 organizations")
    ]
    assert newest(database).actor == recording.user_name() and database.last_change == id
    db.Organization(name="d").save()
    assert records(database)[-1] == (id + 1, "organization", 4, "insert")


def test_bulk_work_inside_of_a_transaction_leaves_the_rest_on_record(database: Any) -> None:
    with database.atomic():
        db.Organization(name="a").save()
        with recording.bulk_change(database, "bulk"):
            db.Organization(name="b").save()
        db.Organization(name="c").save()
    assert [record[2] for record in records(database)] == [1, None, 3]


def test_bulk_work_that_fails_leaves_the_journal_at_work(database: Any) -> None:
    with contextlib.suppress(ZeroDivisionError), recording.bulk_change(database, "bulk"):
        db.Organization(name="a").save()
        raise ZeroDivisionError
    with database.atomic():
        with contextlib.suppress(ZeroDivisionError), recording.bulk_change(database, "bulk"):
            db.Organization(name="a").save()
            raise ZeroDivisionError
        db.Organization(name="b").save()
    id = 1 if database.is_sqlite else 3  # in PostgreSQL an id that was rolled back is used up
    assert [record[1:] for record in records(database)] == [("organization", id, "insert")]


def test_the_made_up_consortium_is_an_entry_for_each_transaction(database: Any) -> None:
    simulation.fill(database, 40, 6)
    assert [record[1] for record in records(database)] == [None, None]
    assert newest(database).about == "vserver demo: made-up tasks 1 to 40 of 40, and their results"


def test_the_journal_of_the_example_is_empty(tmp_path: Path) -> None:
    with contextlib.closing(db.connect(demo.create(tmp_path / "example.db"))) as database:
        assert records(database) == []
        db.Task(name="x").save()
        assert records(database) == [(1, "task", 25, "insert")]


# Databases of schema 1


def test_a_database_of_schema_1_gets_a_journal_and_keeps_its_rows(tmp_path: Path, quick_hashes: None) -> None:
    path = tmp_path / "old.db"
    old = storage.Sqlite(str(path), path=path)
    apply(old, "0001_initial")
    old.execute_sql("INSERT INTO setting (name, value) VALUES ('key_salt', ?)", [hashing.new_salt()])
    old.execute_sql("INSERT INTO organization (name) VALUES ('IKNL')")
    old.execute_sql("INSERT INTO user (username, password, organization_id) VALUES ('root', 'hash', 1)")
    rows = old.execute_sql("SELECT * FROM user").fetchall()
    apply(old, "0002_journal")
    assert old.execute_sql("SELECT * FROM user").fetchall() == rows
    old.execute_sql(f"PRAGMA application_id = {storage.APPLICATION_ID}")
    old.execute_sql(f"PRAGMA user_version = {schemas.NEWEST}")
    old.close()
    with contextlib.closing(db.connect(path)) as database:
        assert records(database) == []
        db.User.get(1).delete()
        assert last_changes(database)["username"] == ["root", None]


def test_a_column_that_a_later_migration_adds_is_recorded(database: Any) -> None:
    database.execute_sql("ALTER TABLE organization ADD COLUMN phone TEXT")
    importlib.import_module("vserverlib.migrations.0002_journal").record_anew(database, "organization")
    database.execute_sql("INSERT INTO organization (name, phone) VALUES ('IKNL', '030')")
    assert last_changes(database) == {"name": [None, "IKNL"], "phone": [None, "030"]}
    database.execute_sql("UPDATE organization SET phone = NULL")
    assert last_changes(database) == {"phone": ["030", None]}


def apply(database: Any, name: str) -> None:
    with database.atomic():
        importlib.import_module(f"vserverlib.migrations.{name}").up(None, database)
