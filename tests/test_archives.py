"""What can be restored on a server: a dump that is ours, whole, and not newer; all else is one line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest
from helpers import typed
from helpers.typed import run

from vserverlib import Error
from vserverlib.databases import schemas, storage
from vserverlib.databases.postgresql import archives

pytestmark = pytest.mark.usefixtures("programs")


def refused(url: str, *words: str) -> str:
    """Return the one line that a restore ends with, and nothing else."""
    return typed.refused(url, "restore", *words, "--yes")


@pytest.fixture
def dump(url: str, tmp_path: Path) -> Path:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("INSERT INTO organization (name) SELECT md5(i::text) FROM generate_series(1, 5000) i")
    assert run(url, "backup", "a.dump").exit_code == 0
    return tmp_path / "a.dump"


def by_hand(programs: Path, url: str, *options: str) -> str:
    """Have pg_dump make a dump, as somebody would."""
    subprocess.run([programs / "pg_dump", "-f", "by-hand", *options, "-d", url], check=True)
    return "by-hand"


def test_a_dump_reports_its_schema_and_its_parts(dump: Path) -> None:
    opened = archives.opened(dump, "")
    assert opened.migrations == schemas.due(0) and opened.rows == 10_003 + schemas.NEWEST
    counts = {part.table: len(list(part.rows)) for part in opened.parts() if part.highest is None}
    assert counts["organization"] == 5000 and counts["undoing"] == 0
    given = {part.table: part.highest for part in opened.parts() if part.rows.__next__ and part.highest is not None}
    assert given["organization"] == 5000 and given["task"] == 0


def test_a_file_that_is_not_there(url: str) -> None:
    assert "there is no file nowhere.dump" in refused(url, "nowhere.dump")


def test_the_error_for_an_export_in_json_says_how_to_import_it(url: str) -> None:
    run(url, "export", "a.json")
    assert f"restore it with: vserver -d '{url}' import --replace a.json" in refused(url, "a.json")


def test_the_error_for_a_sqlite_file_says_how_to_copy_it_to_a_server(url: str, tmp_path: Path) -> None:
    storage.create(tmp_path / "a.db")
    assert f"with: vserver copy a.db '{url}'" in refused(url, "a.db")


@pytest.mark.parametrize("content", [b"", b"\0", b"PGDMP", b"a: 1\n", b"PK\x03\x04" * 300, b"\xff" * 5000])
def test_a_file_that_is_not_a_dump(url: str, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dump").write_bytes(content)
    assert "a.dump cannot be read by pg_restore (" in refused(url, "a.dump")


def test_anything_but_a_regular_file(url: str) -> None:
    assert "regular file" in refused(url, "/dev/null")


def test_a_folder_that_is_not_a_dump(url: str, tmp_path: Path) -> None:
    assert "cannot be read by pg_restore (" in refused(url, str(tmp_path))


def test_a_dump_in_plain_sql(url: str, programs: Path) -> None:
    assert "create one with vserver backup or pg_dump --format=custom" in refused(url, by_hand(programs, url))


def test_a_dump_whose_rows_cannot_be_read_in_our_order(url: str, programs: Path) -> None:
    assert "create one with vserver backup or pg_dump --format=custom" in refused(url, by_hand(programs, url, "-Ft"))


def test_a_dump_that_is_cut_off_is_found_before_anything_is_done(dump: Path, url: str) -> None:
    content = dump.read_bytes()
    for part in (0.2, 0.5, 0.9, 0.99):
        dump.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(Error, match=r"cannot be read by pg_restore|cut off"):
            archives.opened(dump, "")


def test_a_dump_of_another_program(url: str, bare: str, programs: Path) -> None:
    with psycopg.connect(bare, autocommit=True) as conn:
        conn.execute("CREATE TABLE invoice (id int)")
    assert "contains no rows of a database of vserver" in refused(url, by_hand(programs, bare, "-Fc"))


def test_tables_of_another_program_that_are_called_as_ours(url: str, bare: str, programs: Path) -> None:
    with psycopg.connect(bare, autocommit=True) as conn:
        conn.execute("CREATE TABLE setting (id int)")
        conn.execute("CREATE TABLE schema_migration (name text)")
        conn.execute("INSERT INTO schema_migration VALUES ('0001_theirs')")
    assert "another program's tables with the names of ours" in refused(url, by_hand(programs, bare, "-Fc"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--inserts"], "has no rows of schema_migration in pg_dump's format"),
        (["--schema-only"], "contains no rows of a database of vserver"),
        (["--exclude-table-data=task"], "lacks the rows of task"),
        (["--encoding=LATIN1"], "is not in UTF-8"),
    ],
)
def test_a_dump_by_hand_that_is_not_a_backup(url: str, programs: Path, options: list[str], message: str) -> None:
    assert message in refused(url, by_hand(programs, url, "-Fc", *options))


def test_a_dump_of_a_newer_release(url: str, programs: Path) -> None:
    later = schemas.NEWEST + 1
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("INSERT INTO schema_migration (name, applied) VALUES (%s, now())", [f"{later:04}_later"])
        made = by_hand(programs, url, "-Fc")
        conn.execute("DELETE FROM schema_migration WHERE name LIKE '%_later'")
    expected = f"by-hand was created by a newer vserver (schema {later}, this release knows {schemas.NEWEST})"
    assert expected in refused(url, made)


def test_no_statement_of_a_dump_is_run(url: str, bare: str, programs: Path) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        conn.execute("CREATE TRIGGER evil BEFORE INSERT ON task FOR EACH ROW EXECUTE FUNCTION evil()")
    made = by_hand(programs, url, "-Fc")
    assert run(bare, "restore", made).exit_code == 0
    with psycopg.connect(bare, autocommit=True) as conn:
        assert conn.execute("SELECT COUNT(*) FROM pg_proc WHERE proname = 'evil'").fetchone() == (0,)


def test_a_name_that_a_terminal_would_obey_is_shown_inert(url: str) -> None:
    assert "\x1b" not in refused(url, "a\x1b[31m.dump")
