"""The state of a result: what counts as a time, which failures there are; and the migration that changed both."""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import sqlite3
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peewee
import psycopg
import pytest
from helpers.process import vserver

import models as db
from vserverlib.databases import schemas, upgrades
from vserverlib.databases.postgresql import servers
from vserverlib.entities import progress, timestamps
from vserverlib.queries import overview
from vserverlib.terminal import watching

DATA = Path(__file__).parent / "data"
MIGRATION = import_module("vserverlib.migrations.0003_states")
BLANK = ("", " ", "\t\n", "\r\n")
NO_TIME = (
    "0",
    "null",
    "None",
    "NULL",
    "NaT",
    "yesterday",
    "1772355600",
    "01-03-2026",
    "2026-13-01",
    "0000-00-00 00:00",
)
TIMES = ("2026-03-01", "2026-03-01 09:00", "2026-03-01T09:00:00Z", "2026-03-01 09:00:00.000000+00:00")
UPDATE = "UPDATE result SET started_at = ?, finished_at = ?, status = ?"
PENDING = {"empty": 0, "pending": 1, "active": 0, "completed": 0, "failed": 0}


def write(database: Any, started: Any, finished: Any, status: Any) -> None:
    """Write the times of both results as another program does."""
    database.execute_sql(database.with_parameter_marks(UPDATE), [started, finished, status])


@pytest.mark.sqlite
@pytest.mark.parametrize("text", [*BLANK, *NO_TIME])
def test_an_invalid_time_makes_no_result_active_or_completed(story: SimpleNamespace, database: Any, text: str) -> None:
    write(database, text, text, "pending")
    task = db.Task.get(1)
    assert {result.state for result in db.Result.get()} == {"pending"}
    assert (task.status, task.complete, task.progress, task.finished_at) == ("pending", False, (0, 2), None)
    for condition in ("status=pending", "complete=false", "done=0", "progress=0", "finished_at=null"):
        assert len(db.Task.where(condition)) == 1, condition
    for condition in ("state=pending", "complete=false", "finished_at=null", "started_at=null"):
        assert len(db.Result.where(condition)) == 2, condition
    assert db.Result.where(db.Result.complete == True).count() == 0  # noqa: E712
    assert overview.overview(database).tasks == PENDING
    assert list(watching.unfinished()) == [1] and watching.wait(database, [1], 0).status == watching.TIMED_OUT


@pytest.mark.sqlite
@pytest.mark.parametrize("text", TIMES)
def test_a_text_that_begins_with_a_date_is_a_time(story: SimpleNamespace, database: Any, text: str) -> None:
    write(database, text, None, "pending")
    assert db.Task.get(1).status == "active"
    write(database, text, text, "pending")
    assert db.Task.get(1).status == "completed" and len(db.Result.where("finished_at!=null")) == 2


@pytest.mark.sqlite
def test_an_invalid_time_counts_if_the_status_says_the_same(story: SimpleNamespace, database: Any) -> None:
    for text in BLANK:
        write(database, text, text, "completed")
        assert db.Task.get(1).status == "pending"
    for text in NO_TIME:
        write(database, text, text, "completed")
        assert db.Task.get(1).status == "completed" and db.Result.get(1).state == "completed"
        write(database, text, text, "active")
        assert db.Task.get(1).status == "active" and db.Result.get(1).state == "active"


@pytest.mark.sqlite
def test_an_invalid_time_is_left_out_of_computed_fields(story: SimpleNamespace, database: Any) -> None:
    write(database, "yesterday", "yesterday", "completed")
    database.execute_sql("UPDATE result SET finished_at = '2026-03-01 09:00:00.000000+00:00' WHERE id = 1")
    assert db.Task.get(1).finished_at == datetime.datetime(2026, 3, 1, 9, tzinfo=datetime.UTC)
    write(database, None, "", "pending")
    database.execute_sql("UPDATE result SET assigned_at = '' WHERE id = 1")
    assert {share.name: bool(share.since) for share in overview.overview(database).organizations} == {
        "IKNL": False,
        "Oslo": True,
    }
    database.execute_sql("UPDATE node SET last_seen = ''")
    assert [node.last_seen for node in overview.overview(database).unseen] == [""]


@pytest.mark.parametrize("status", progress.FAILED)
def test_every_failure_of_a_server_is_one(story: SimpleNamespace, database: Any, status: str) -> None:
    write(database, None, None, status)
    assert db.Task.get(1).status == "failed" and len(db.Result.where("state=failed", f"status={status}")) == 2
    story.results[0].status = status
    story.results[0].save()
    assert db.Result.get(1).state == "failed" and not db.Result.get(1).check().counts["RES007"]


def test_the_failures_of_release_5_are_known() -> None:
    assert {"dataframe not found", "depended on failed task", "unexpected output"} < set(progress.FAILED)


def test_a_process_waits_for_a_result_whose_times_are_empty_texts(example: Path, tmp_path: Path) -> None:
    shutil.copy(DATA / "v4.15.2.sqlite", tmp_path / "server.sqlite")
    for file, table in ((tmp_path / "server.sqlite", "run"), (example, "result")):
        with contextlib.closing(sqlite3.connect(file)) as conn, conn:
            conn.execute(f"UPDATE {table} SET finished_at = '', started_at = '' WHERE status = 'pending'")
            (task,) = conn.execute(f"SELECT task_id FROM {table} WHERE status = 'pending'").fetchone()
        waited = vserver("-d", file, "wait", str(task), "--timeout", "0")
        assert waited.status == 3 and "not finished after 0 s" in waited.err
        shown = json.loads(vserver("-d", file, "show", "task", str(task), "-o", "json").out)
        assert (shown["complete"], shown["finished_at"]) == (False, None)


# The migration


ROWS = f"""
INSERT INTO result (id, task_id, organization_id, status, started_at, finished_at) VALUES
    (101, 1, 1, 'dataframe not found', NULL, NULL),
    (102, 1, 1, 'depended on failed task', NULL, '{timestamps.EARLIEST}'),
    (103, 1, 1, 'unexpected output', '{timestamps.EARLIEST}', '{timestamps.EARLIEST}'), (104, 1, 1, 'pending', '', ''),
    (105, 1, 1, 'pending', ' ', 'null'), (900, 1, 1, 'completed', '{timestamps.EARLIEST}', '{timestamps.EARLIEST}');
"""
OF_OTHERS = """
CREATE TABLE audit (id INTEGER PRIMARY KEY, result_id INTEGER REFERENCES result (id));
INSERT INTO audit VALUES (1, 101);
CREATE VIEW mine AS SELECT id, state FROM result;
CREATE INDEX mine_index ON result (status, state);
ALTER TABLE result ADD COLUMN note TEXT DEFAULT 'a (note';
"""
AFTER = {101: "failed", 102: "failed", 103: "failed", 104: "pending", 105: "pending", 900: "completed"}


@pytest.fixture
def older(tmp_path: Path, quick_hashes: None) -> Path:
    """A database of schema 2 with results whose state changes, and with what others have added to its tables."""
    path = tmp_path / "vserver.db"
    shutil.copy(DATA / "schema-2.sqlite", path)
    path.chmod(0o600)
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.executescript(ROWS + OF_OTHERS)
    return path


def content(path: Path, columns: dict[str, list[str]]) -> dict[str, Any]:
    """Return the rows of some columns of each table, and the names of all that there is."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        found = {name: conn.execute(f'SELECT {", ".join(of)} FROM "{name}"').fetchall() for name, of in columns.items()}
        return {**found, "names": set(conn.execute("SELECT type, name FROM sqlite_master"))}


def columns_of(path: Path) -> dict[str, list[str]]:
    """Return the columns of each table of a database, but for states and for what migrations are noted in."""
    sql = "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    found: dict[str, list[str]] = {}
    with contextlib.closing(sqlite3.connect(path)) as conn:
        for table, column in conn.execute(sql):
            if (table, column) != ("result", "state") and table != "schema_migration":
                found.setdefault(table, []).append(f'"{column}"')
    return found


def test_the_migration_changes_states_and_nothing_else(older: Path) -> None:
    columns = columns_of(older)
    before = content(older, columns)
    upgrades.upgrade(older)
    after = content(older, columns)
    assert before.pop("names") <= after.pop("names")  # later migrations add some
    assert after == before
    with contextlib.closing(sqlite3.connect(older)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        assert dict(conn.execute("SELECT id, state FROM mine WHERE id > 100")) == AFTER
        by_index = "SELECT id, state FROM result INDEXED BY mine_index WHERE status >= '' AND id > 100"
        assert dict(conn.execute(by_index)) == AFTER
    with contextlib.closing(db.connect(older)) as database:
        db.Result(task=1, organization=1).save()
        assert db.Result.select(db.Result.id).order_by(db.Result.id.desc()).scalar() == 901
        assert {result.id: result.state for result in db.Result.where("id>100", "id<901")} == AFTER
        assert database.last_change is not None


def test_a_dry_run_of_it_changes_nothing(older: Path) -> None:
    before = older.read_bytes()
    done = vserver("-d", older, "upgrade", "--dry-run")
    assert (
        done.status == 0
        and done.out.startswith("0003_states  Fixes the state of a result")
        and older.read_bytes() == before
    )


@pytest.mark.parametrize(
    "definition",
    [
        'CREATE TABLE "result" ("id" INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT AS (\n CASE WHEN status IN (\'a)\')'
        " THEN 'x' END\n) STORED, status TEXT)",
        "CREATE TABLE result (`status` TEXT, [state] TEXT GENERATED ALWAYS AS (status || (')') || \"(\") VIRTUAL)",
    ],
)
def test_a_table_that_another_program_has_written_anew_is_changed_too(definition: str) -> None:
    changed = MIGRATION.with_expression(definition, "new")
    assert " AS (new)" in changed and ("status TEXT)" in changed or changed.endswith(" VIRTUAL)"))


def test_a_table_without_a_generated_state_is_refused(older: Path) -> None:
    with contextlib.closing(sqlite3.connect(older)) as conn:
        conn.execute("DROP VIEW mine")
        for index in ("mine_index", "result_task_id_state", "result_organization_id_state", "result_unfinished"):
            conn.execute(f"DROP INDEX {index}")
        conn.execute("ALTER TABLE result DROP COLUMN state")
    before = older.read_bytes()
    done = vserver("-d", older, "upgrade")
    assert done.status == 1 and "its table result has no generated column state" in done.err
    assert older.read_bytes() == before and len(done.err.splitlines()) == 1


# In PostgreSQL


@pytest.fixture
def older_server(bare: str) -> Iterator[str]:
    """The URL of a database of schema 2, with results whose state changes, and a role that may read their states."""
    with contextlib.closing(servers.reached(bare)) as database, database.atomic():
        schemas.apply(database, "0002_journal")
        database.execute_sql("INSERT INTO setting VALUES ('key_salt', '$2b$04$iK0hnihVJEkru50WXxc4be')")
        database.execute_sql("INSERT INTO organization (name) VALUES ('IKNL')")
        database.execute_sql("INSERT INTO task (name) VALUES ('average')")
        rows = ROWS.replace("' '", "NULL").replace("''", "NULL").replace("'null'", "'infinity'")
        database.execute_sql(rows)
        database.execute_sql("CREATE ROLE states_reader")
        database.execute_sql("GRANT SELECT (state) ON result TO states_reader")
    yield bare
    with psycopg.connect(bare) as conn:
        conn.execute("DROP OWNED BY states_reader")
        conn.execute("DROP ROLE states_reader")


def states(url: str) -> dict[int, str]:
    with psycopg.connect(url) as conn:
        return dict(conn.execute("SELECT id, state FROM result WHERE id > 100").fetchall())


def test_the_migration_of_a_server_keeps_views_and_grants(older_server: str) -> None:
    with psycopg.connect(older_server) as conn:
        conn.execute("CREATE VIEW mine AS SELECT id, state FROM result")
        before = conn.execute("SELECT count(*) FROM record").fetchone()
    upgrades.upgrade(older_server, backup=False)
    assert states(older_server) == AFTER
    with psycopg.connect(older_server) as conn:
        assert dict(conn.execute("SELECT id, state FROM mine WHERE id > 100").fetchall()) == AFTER
        assert conn.execute("SELECT count(*) FROM record").fetchone() == before
        conn.execute("SET ROLE states_reader")
        assert conn.execute("SELECT count(state) FROM result").fetchone() == (6,)


def test_before_release_17_the_column_is_added_anew(older_server: str) -> None:
    expression = MIGRATION.state(MIGRATION.DATED_IN_POSTGRES)
    with contextlib.closing(servers.opened(older_server, of_any_release=True)) as database:
        indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'result' ORDER BY 1"
        before = database.execute_sql(indexes).fetchall()
        with database.atomic():
            MIGRATION.add_anew(database, expression)
        assert database.execute_sql(indexes).fetchall() == before
    assert states(older_server) == AFTER
    with psycopg.connect(older_server) as conn:
        conn.execute("CREATE VIEW mine AS SELECT id, state FROM result")
        conn.execute("SET ROLE states_reader")
        assert conn.execute("SELECT count(state) FROM result").fetchone() == (6,)
    opened = contextlib.closing(servers.opened(older_server, of_any_release=True))
    with opened as database, pytest.raises(peewee.OperationalError, match=r"result\.state, is used by mine: drop that"):
        MIGRATION.add_anew(database, expression)


@pytest.mark.parametrize("beyond", ["infinity", "-infinity", "0044-03-15 00:00+00 BC", "10000-01-01 00:00+00"])
def test_a_time_beyond_the_known_years_is_invalid(url: str, beyond: str) -> None:
    with contextlib.closing(db.connect(url)) as database, database.rule_checks(False):
        db.Result(task=None).save()
        for status, state in (("pending", "pending"), ("completed", "completed")):
            write(database, beyond, beyond, status)
            assert db.Result.get(1).state == state and len(db.Result.where(f"state={state}")) == 1
