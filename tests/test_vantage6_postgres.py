"""Importing from the PostgreSQL databases of vantage6 servers, and looking at them: as of their files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers import postgres, vantage6_databases
from helpers.typed import run
from test_importer import ALL_RELEASES, HYBRID

import models as db
from vserverlib import Error, hashing
from vserverlib.secret_columns import SECRET_COLUMNS
from vserverlib.transfer import detection, import_report, importer, vantage6_snapshots

MESSY = (  # what servers were seen to leave behind
    "UPDATE task SET name = NULL WHERE id = 1",
    "UPDATE organization SET name = 'Ärzte 東京 [bold]\x07' WHERE id = 1",
    "UPDATE node SET collaboration_id = 77 WHERE id = (SELECT MIN(id) FROM node)",
    'INSERT INTO "Member" VALUES (1, 1), (1, 1), (NULL, 1), (99, 1)',
    "UPDATE user SET password = 'plain text' WHERE id = (SELECT MIN(id) FROM user)",
)
Fill = Callable[..., tuple[Path, str]]


@pytest.fixture
def both(server: postgres.Server, tmp_path: Path, quick_hashes: None) -> Iterator[Fill]:
    """What makes the database of a server twice, of a release with these statements run on it: a file and a URL."""
    with server.bare() as url:

        def make(release: str, *statements: str) -> tuple[Path, str]:
            file = vantage6_databases.copied(release, tmp_path / "server.sqlite", statements)
            vantage6_databases.fill(url, file)
            return file, url

        yield make


def imported(source: str, target: Path) -> tuple[import_report.ImportReport, dict[str, list[Any]]]:
    """Import a source, and return what became of it, and all rows: of a secret whether there is one."""
    with detection.opened(source) as found:
        outcome = importer.run(found, target)
    with closing(sqlite3.connect(target)) as conn:
        return outcome, {model._meta.table_name: list(_rows(conn, model)) for model in (*db.ENTITIES, db.Member)}


def _rows(conn: sqlite3.Connection, model: Any) -> Iterator[tuple[Any, ...]]:
    table, columns = model._meta.table_name, [field.column_name for field in model.stored_fields()]
    secrets = {column for table_of, column in SECRET_COLUMNS if table_of == table}
    for row in conn.execute(f'SELECT {", ".join(columns)} FROM "{table}" ORDER BY id'):
        yield tuple(bool(value) if name in secrets else value for name, value in zip(columns, row, strict=True))


@pytest.mark.parametrize(
    ("release", "statements"), [*((release, ()) for release in ALL_RELEASES), ("3.11.1", HYBRID), ("4.15.2", MESSY)]
)
def test_a_database_on_a_server_becomes_what_the_same_in_a_file_does(
    both: Fill, tmp_path: Path, release: str, statements: tuple[str, ...]
) -> None:
    file, url = both(release, *statements)
    of_file, rows_of_file = imported(str(file), tmp_path / "file.db")
    of_url, rows_of_url = imported(url, tmp_path / "url.db")
    assert of_url.document() == of_file.document()
    assert rows_of_url == rows_of_file


def test_hashes_are_kept_and_plain_secrets_are_hashed(both: Fill, tmp_path: Path) -> None:
    file, url = both("4.15.2", "UPDATE user SET password = 'plain text' WHERE username = 'user10'")
    imported(url, tmp_path / "ours.db")
    with closing(sqlite3.connect(file)) as there, closing(sqlite3.connect(tmp_path / "ours.db")) as here:
        asked = "SELECT username, password FROM user ORDER BY username"
        before, after = dict(there.execute(asked).fetchall()), dict(here.execute(asked).fetchall())
    assert hashing.matches("plain text", after.pop("user10")) and before.pop("user10")
    assert after == before and len(after) > 2


def test_it_is_only_read_and_said_what_it_is(both: Fill, tmp_path: Path) -> None:
    _, url = both("4.15.2")
    with psycopg.connect(url) as conn:
        before = conn.execute("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables").fetchone()
        done = run(str(tmp_path / "ours.db"), "import", url)
        after = conn.execute("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables").fetchone()
    assert done.exit_code == 0 and "is the database of a vantage6 server, release 4" in done.stderr
    assert f"{url} is" in done.stderr and after == before
    assert run(str(tmp_path / "ours.db"), "log").stdout.count("imported postgres") == 1


def test_a_database_that_is_not_a_servers_is_one_line(server: postgres.Server, tmp_path: Path) -> None:
    with server.bare() as bare, server.bare() as other, psycopg.connect(other, autocommit=True) as conn:
        conn.execute("CREATE TABLE authenticatable (id int)")
        for source, expected in (
            (bare, "has neither tables of vserver nor of a vantage6 server"),
            (other, "of another program"),
        ):
            done = run(str(tmp_path / "ours.db"), "import", source)
            assert done.exit_code == 1 and expected in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "ours.db").exists()


def test_a_view_in_the_place_of_a_table_is_refused(both: Fill, tmp_path: Path) -> None:
    _, url = both("4.15.2")
    with psycopg.connect(url) as conn:
        conn.execute("ALTER TABLE run RENAME TO stored")
        conn.execute("CREATE VIEW run AS SELECT * FROM stored")
    with pytest.raises(Error, match="run is no table in it"), detection.opened(url):
        pass


def test_the_error_for_a_role_that_may_not_read_a_table_names_it(
    server: postgres.Server, both: Fill, tmp_path: Path
) -> None:
    _, url = both("4.15.2")
    server.run("DROP ROLE IF EXISTS half")
    server.run("CREATE ROLE half LOGIN")
    with psycopg.connect(url) as conn:
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO half")
        conn.execute("REVOKE SELECT ON task FROM half")
    done = run(str(tmp_path / "ours.db"), "import", url.replace("postgres@", "half@"))
    assert done.exit_code == 1 and "permission denied for table task" in done.stderr and done.stderr.count("\n") == 1


def test_names_that_are_one_to_sqlite_and_tables_of_others_are_counted(both: Fill, tmp_path: Path) -> None:
    _, url = both("4.15.2")
    with psycopg.connect(url) as conn:
        for table in ("Task", "sqlite_notes", "bare"):
            conn.execute(f'CREATE TABLE "{table}" ({"" if table == "bare" else "id int, secret text"})')
        conn.execute("INSERT INTO \"Task\" VALUES (1, 'x'), (2, 'y')")
        conn.execute("INSERT INTO sqlite_notes VALUES (1, 'x')")
        conn.execute("INSERT INTO bare DEFAULT VALUES")
    outcome, rows = imported(url, tmp_path / "ours.db")
    others = {
        name: count
        for name, count in outcome.unmapped_tables.items()
        if name.lower().strip("_") != name or name == "bare"
    }
    assert others == {"_Task": 2, "_sqlite_notes": 1, "bare": 1} and len(rows["task"]) == 12


def test_a_database_of_ours_on_a_server_is_a_source(url: str, tmp_path: Path) -> None:
    with closing(db.connect(url)):
        db.Organization(name="IKNL").save()
    with detection.opened(url) as found:
        assert found.summary() == f"{url} is a database of vserver"
    outcome, rows = imported(url, tmp_path / "ours.db")
    assert not list(outcome.summary()) and [row[1] for row in rows["organization"]] == ["IKNL"]


@pytest.mark.usefixtures("programs")
def test_an_older_database_on_a_server_is_upgraded_before_it_is_merged_into(older_url: str, tmp_path: Path) -> None:
    file = vantage6_databases.copied("4.15.2", tmp_path / "server.sqlite")
    done = run(older_url, "import", str(file), "--merge", "--yes")
    assert done.exit_code == 0 and "was upgraded from schema 1" in done.stderr, done.stderr
    assert '"name": "task 0"' in run(older_url, "list", "tasks", "-o", "json").stdout


# Looking


def test_a_view_of_it_says_so_and_shows_what_its_import_does(both: Fill) -> None:
    file, url = both("4.15.2")
    looked, known = run(url, "list", "tasks", "-o", "json"), run(str(file), "list", "tasks", "-o", "json")
    assert looked.exit_code == 0 and looked.stdout == known.stdout
    assert f"{url} is the database of a vantage6 server, release 4: this is a read-only view" in looked.stderr
    assert f"vserver -d NEW.db import '{url}'" in looked.stderr
    assert run(url, "check").exit_code == run(str(file), "check").exit_code
    for words in (["overview"], ["show", "task", "1"], ["shell", "-c", "print(len(db.Task.select()))"]):
        assert run(url, *words).exit_code == 0, words


def test_a_role_that_may_only_select_is_enough_to_look_and_to_import(
    server: postgres.Server, both: Fill, tmp_path: Path
) -> None:
    _, url = both("4.15.2")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE ROLE onlooker LOGIN")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO onlooker")
        seen = url.replace("postgres@", "onlooker@")
        looked, done = run(seen, "list", "tasks"), run(str(tmp_path / "ours.db"), "import", seen)
        conn.execute("DROP OWNED BY onlooker")
        conn.execute("DROP ROLE onlooker")
    assert (looked.exit_code, done.exit_code) == (0, 0), looked.output + done.output


def test_a_second_look_makes_no_copy_until_something_is_written(both: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    _, url = both("4.15.2")
    made = list[Path]()
    kept = vantage6_snapshots._keep
    monkeypatch.setattr(vantage6_snapshots, "_keep", lambda draft, key: made.append(draft) or kept(draft, key))
    for _ in range(2):
        assert '"name": "renamed"' not in run(url, "list", "tasks", "-o", "json").stdout
    assert len(made) == 1
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE task SET name = 'renamed' WHERE id = 1")
    assert '"name": "renamed"' in run(url, "list", "tasks", "-o", "json").stdout and len(made) == 2


def test_viewing_it_changes_nothing_there_and_writing_is_refused(both: Fill) -> None:
    _, url = both("4.15.2")
    for words in (
        ["delete", "task", "1"],
        ["shell", "-c", "db.Task.get_by_id(1).delete(dependents=True)"],
        ["init"],
        ["upgrade"],
        ["backup"],
    ):
        done = run(url, *words)
        ways = (f"vserver -d NEW.db import '{url}'", f"vserver -d '{url}' --write {words[0]}")
        assert done.exit_code == 1 and any(way in done.stderr.splitlines()[-1] for way in ways), words
    assert run(url, "shell", "--sandbox", "-c", "db.Task.get_by_id(12).delete(dependents=True)").exit_code == 0
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT count(*) FROM task").fetchone() == (12,)


# Encodings, and what is empty

BYTES = {"SQL_ASCII": b"caf\xe9", "LATIN1": b"caf\xe9", "WIN1252": b"caf\x81", "EUC_JP": b"\xc6\xfc\xcb\xdc"}
IN_ASCII = (
    "UPDATE organization SET name = 'x' || id",
    "UPDATE user SET firstname = 'x', lastname = 'y'",
    "UPDATE task SET name = 't', description = ''",
    "UPDATE node SET name = 'n' || id",
    "UPDATE run SET result = NULL, log = NULL, input = NULL",
)


@pytest.fixture
def encoded(server: postgres.Server, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """What makes the database of a server in an encoding, with a name that is not in UTF-8, and gives its URL."""

    def make(encoding: str) -> str:
        server.run(f"CREATE DATABASE encoded TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
        url = server.url_of("encoded")
        vantage6_databases.fill(
            f"{url}&client_encoding=UTF8", vantage6_databases.copied("4.15.2", tmp_path / "server.sqlite", IN_ASCII)
        )
        with psycopg.connect(url, autocommit=True, client_encoding=encoding) as conn:
            for sql in (b"UPDATE organization SET name = '%b' WHERE id = 1", b'CREATE TABLE "t%b" (id int)'):
                conn.execute(sql.replace(b"%b", BYTES[encoding]))
        return url

    yield make
    server.run("DROP DATABASE encoded WITH (FORCE)")


@pytest.mark.parametrize(
    ("encoding", "name"), [("SQL_ASCII", "caf�"), ("LATIN1", "café"), ("WIN1252", "caf�"), ("EUC_JP", "日本")]
)
def test_a_database_in_another_encoding_is_read_and_what_is_lost_is_reported(
    encoded: Callable[[str], str], tmp_path: Path, encoding: str, name: str
) -> None:
    url, ours = encoded(encoding), str(tmp_path / "ours.db")
    done = run(ours, "import", url)
    assert done.exit_code == 0, done.output
    output = f'organization 1: name "{name}": characters that cannot be stored became �'
    assert (output in done.stderr) is ("�" in name)
    assert f'"name": "{name}"' in run(ours, "list", "organizations", "-o", "json").stdout
    if encoding == "SQL_ASCII":
        assert '"caf�"' in run(url, "list", "organizations", "-o", "json").stdout
        assert '"café"' in run(f"{url}&client_encoding=LATIN1", "list", "organizations", "-o", "json").stdout


def test_the_error_for_an_empty_source_does_not_suggest_creating_it(server: postgres.Server, tmp_path: Path) -> None:
    with server.bare() as bare:
        for words in ([str(tmp_path / "ours.db"), "import", bare], [None, "copy", bare, str(tmp_path / "ours.db")]):
            done = run(*words)  # type: ignore[arg-type]  # the name of the database, then words
            assert done.exit_code == 1 and "there is nothing to read" in done.stderr and "init" not in done.stderr
