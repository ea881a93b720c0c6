"""Backups of a database on a server: by pg_dump, and where that cannot be, as our own export."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import psycopg
import pytest
from helpers import postgres
from helpers.typed import refused, run

import models
from vserverlib.databases.postgresql import servers as urls
from vserverlib.transfer import vserver_source

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture
def filled(url: str) -> str:
    """The URL of a database with a user and an organization."""
    database = models.connect(url)
    models.Organization(name="IKNL").save()
    models.User(username="root", password="a long password 1").save()
    database.close()
    return url


@pytest.fixture
def without_programs(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, and in which nothing is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


# By pg_dump


def test_a_dump_is_for_its_owner_alone_and_the_printed_line_restores_it(filled: str, tmp_path: Path) -> None:
    made = run(filled, "backup", "a.dump")
    assert made.exit_code == 0 and made.stdout == ""
    assert made.stderr.endswith(f"restore it with: vserver -d '{filled}' restore a.dump\n")
    file = tmp_path / "a.dump"
    assert file.read_bytes().startswith(b"PGDMP") and file.stat().st_mode & 0o777 == 0o600


def test_without_a_name_it_is_named_by_the_time_in_the_current_folder_or_in_one_that_is_named(
    filled: str, tmp_path: Path
) -> None:
    (tmp_path / "backups").mkdir()
    for words in ([], [], ["backups"]):
        assert run(filled, "backup", *words).exit_code == 0
    assert len(list(tmp_path.glob("vserver*-*.dump"))) == 2 and len(list(tmp_path.glob("backups/*.dump"))) == 1


def test_a_file_is_replaced_by_force_only(filled: str, tmp_path: Path) -> None:
    (tmp_path / "a.dump").write_text("precious")
    assert "exists already" in refused(filled, "backup", "a.dump")
    assert (tmp_path / "a.dump").read_text() == "precious"
    assert run(filled, "backup", "a.dump", "--force").exit_code == 0
    assert "regular file" in refused(filled, "backup", "/dev/null", "--force")


def test_a_dump_that_is_called_json_is_reported(filled: str) -> None:
    assert "a.json, a dump by pg_dump despite its name," in run(filled, "backup", "a.json").stderr


def test_what_other_programs_keep_elsewhere_is_not_in_a_dump(filled: str, tmp_path: Path) -> None:
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA elsewhere")
        conn.execute("CREATE TABLE elsewhere.secret_plans (id int)")
    assert run(filled, "backup", "a.dump").exit_code == 0
    assert b"secret_plans" not in (tmp_path / "a.dump").read_bytes()


def test_a_dump_that_fails_leaves_nothing(filled: str, programs: Path, tmp_path: Path) -> None:
    url = filled.replace("postgres@", "stranger@")
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("CREATE ROLE stranger LOGIN")
        conn.execute("GRANT SELECT ON setting, schema_migration TO stranger")
        output = refused(url, "backup", "a.dump")
        conn.execute("DROP OWNED BY stranger")
        conn.execute("DROP ROLE stranger")
    assert "pg_dump failed (" in output and "permission denied for table" in output
    assert list(tmp_path.iterdir()) == []


def test_an_older_database_is_backed_up_as_it_is(older_url: str, tmp_path: Path) -> None:
    assert run(older_url, "backup", "a.dump").exit_code == 0
    assert b"journal_task" not in (tmp_path / "a.dump").read_bytes()


# As our own export


def test_without_pg_dump_it_is_an_export_with_hashes_that_says_what_it_lacks(
    filled: str, without_programs: Path, tmp_path: Path
) -> None:
    made = run(filled, "backup")
    (file,) = tmp_path.glob("*.json")
    assert made.exit_code == 0 and f"created {file.name}," in made.stderr
    for part in (
        "pg_dump is not on PATH",
        "without the journal",
        "vserver -d NEW import FILE",
        "import --replace FILE",
    ):
        assert part in made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    head, *rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert head["hashes"] is True and head["key_salt"] and len(rows) == 2
    assert [row["user"]["password"][:4] for row in rows if "user" in row] == ["$2b$"]


def test_it_is_imported_with_all_hashes(filled: str, without_programs: Path, tmp_path: Path) -> None:
    run(filled, "backup", "a.json")
    assert run(str(tmp_path / "new.db"), "import", "a.json").exit_code == 0
    database = models.connect(tmp_path / "new.db")
    assert models.User.get_by_username("root").check_password("a long password 1")
    database.close()


def test_a_pg_dump_that_is_older_than_the_server_is_not_run(filled: str, without_programs: Path) -> None:
    program = without_programs / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    program.chmod(0o755)
    made = run(filled, "backup", "a.dump")
    assert made.exit_code == 0 and "a.dump, JSON despite its name," in made.stderr
    assert "pg_dump is of PostgreSQL 9, the server of " in made.stderr


def test_an_export_goes_to_stdout_and_nothing_beside_it(filled: str, without_programs: Path) -> None:
    made = run(filled, "backup", "-")
    assert made.exit_code == 0 and len(made.stdout.splitlines()) == 3 and "without the journal" in made.stderr


def test_an_export_replaces_a_file_by_force_only(filled: str, without_programs: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("precious")
    assert "exists already" in refused(filled, "backup", "a.json")
    assert (tmp_path / "a.json").read_text() == "precious"
    assert run(filled, "backup", "a.json", "--force").exit_code == 0


def test_an_export_is_of_one_moment(filled: str) -> None:
    with (
        contextlib.closing(urls.opened(filled, read_only=True)) as database,
        vserver_source.reading(database, with_hashes=True) as source,
    ):
        assert source.count("organization") == 1
        with psycopg.connect(filled, autocommit=True) as conn:
            conn.execute("INSERT INTO task (name) VALUES ('later')")
        assert source.count("task") == 0


def test_an_older_database_is_not_exported_but_refused(older_url: str, without_programs: Path, tmp_path: Path) -> None:
    assert "upgrade it with: vserver -d" in refused(older_url, "backup", "a.json")
    assert list(tmp_path.glob("*.json")) == []


def test_a_database_without_tables_is_not_backed_up(server: postgres.Server, bare: str, tmp_path: Path) -> None:
    assert "init" in refused(bare, "backup", "a.dump")
    assert list(tmp_path.iterdir()) == []
