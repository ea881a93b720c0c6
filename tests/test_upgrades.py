"""Upgrading: once, after a backup, as a whole or not at all; and what only reads leaves the file as it is.

`tests/data/schema-N.sqlite` is a database that a release of schema N wrote: a few rows of each entity, by
make_released.py. The machinery is tried with one more migration than there is.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

import models as db
import vserver
from vserverlib import Error
from vserverlib.databases import backups, sandbox_diff, schemas, storage, upgrades
from vserverlib.databases.postgresql import servers

DATA = Path(__file__).parent / "data"
ROOT = Path(db.__file__).parent
RELEASED = sorted(DATA.glob("schema-*.sqlite"), key=lambda file: int(file.stem.split("-")[1]))
WORKS = """
    def up(migrator, db):
        migrator.migrate(migrator.add_column("organization", "motto", TextField(default="together")))
"""
FAILS = """
    def up(migrator, db):
        migrator.migrate(migrator.add_column("organization", "motto", TextField(default="together")))
        db.execute_sql("DELETE FROM result")
        db.execute_sql("SELECT nonsense")
"""
REBUILDS = """
    def up(migrator, db):
        migrator.migrate(migrator.add_not_null("task", "image"))
"""
WRITES = """
    def up(migrator, db):
        db.execute_sql("UPDATE organization SET domain = name")
"""
BREAKS = """
    def up(migrator, db):
        db.execute_sql("DELETE FROM task")
"""
Newer = Callable[..., None]


def schema(file: Path) -> int:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as conn:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])


def of_header(file: Path) -> int:
    """Return the schema that the header of a file tells; SQLite would leave a log beside it."""
    return int.from_bytes(file.read_bytes()[60:64])


def mottos(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as conn:
        return [motto for (motto,) in conn.execute("SELECT motto FROM organization")]


def run(*words: str) -> Result:
    return CliRunner().invoke(vserver.main, words, prog_name="vserver")


def beside(path: Path) -> list[Path]:
    """Return the backups beside a database."""
    return sorted(file for file in path.parent.iterdir() if re.fullmatch(r"vserver-\d{8}-\d{6}(-\d)?\.db", file.name))


@pytest.fixture
def older(story: SimpleNamespace, path: Path, database: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The story's database, closed, of the present schema: older than the release that newer() makes."""
    database.close()
    monkeypatch.chdir(path.parent)
    return path


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newer:
    """Make this the release after the present one, with one more migration."""

    def release(source: str = WORKS, about: str = "") -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(schemas.MIGRATIONS, folder)
        number = schemas.NEWEST + 1
        lines = [f'"""{about}"""', "from peewee import *", *(line[4:] for line in source.splitlines())]
        (folder / f"{number:04}_more.py").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(schemas, "MIGRATIONS", folder)
        monkeypatch.setattr(schemas, "NEWEST", number)

    return release


# What earlier releases wrote


def test_there_is_a_database_of_every_schema_that_was_released() -> None:
    assert [of_header(file) for file in RELEASED][: schemas.NEWEST] == list(range(1, len(RELEASED) + 1))
    assert len(RELEASED) >= max(1, schemas.NEWEST - 1)
    assert all(file.stat().st_size < 300_000 for file in RELEASED)


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.name)
def test_what_a_release_wrote_is_read_by_this_one(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "vserver.db"
    shutil.copy(file, path)
    before = schema(path)
    with closing(db.connect(path)):
        assert schema(path) == schemas.NEWEST
        assert [each.name for each in db.Organization.get()] == ["IKNL", "Oslo [beta]"]
        assert db.User.get_by_username("root").check_password("Geheim-123!")
        assert db.Node.get_by_api_key("00000000-0000-4000-8000-000000000002").organization.name == "Oslo [beta]"
        assert [task.progress for task in db.Task.get()] == [(2, 2), (0, 0)]
        assert db.Task.get(2).parent.name == "average" and db.Task.get(1).status == "failed"
        assert len(db.Collaboration.get(1).organizations) == 2
        db.Organization(name="the next").save()
        assert db.Organization.get_by_name("the next").id == 4
        assert db.Task.next_run_id() == 2
    assert len(beside(path)) == (before < schemas.NEWEST)


def test_an_upgraded_database_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    def tables(path: Path) -> set[tuple[str, str]]:
        with closing(sqlite3.connect(path)) as conn:
            return set(conn.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"))

    shutil.copy(RELEASED[0], tmp_path / "old.db")
    db.connect(tmp_path / "old.db").close()
    assert tables(tmp_path / "old.db") == tables(storage.create(tmp_path / "new.db"))


# Opening


def test_opening_upgrades_after_a_backup_and_says_so(
    older: Path, newer: Newer, capsys: pytest.CaptureFixture[str]
) -> None:
    newer()
    with closing(db.connect(older)):
        assert len(db.Task.get()) == 1
    (backup,) = beside(older)
    was = schemas.NEWEST - 1
    assert capsys.readouterr().err == (
        f"{older} was upgraded from schema {was} to {was + 1}; the previous state is kept in {backup}\n"
    )
    assert schema(older) == was + 1 and schema(backup) == was and mottos(older) == ["together"] * 2
    assert of_header(older) == was + 1  # in the file itself, not in its log alone
    assert backup.stat().st_mode & 0o777 == 0o600
    db.connect(older).close()
    assert capsys.readouterr().err == "" and len(beside(older)) == 1


def test_a_migration_that_fails_leaves_the_file_as_it_was(older: Path, newer: Newer) -> None:
    newer(FAILS)
    for _ in range(2):
        with pytest.raises(
            Error, match=r"vserver\.db cannot be upgraded, and was not changed: no such column: nonsense"
        ):
            db.connect(older)
    assert schema(older) == schemas.NEWEST - 1 and beside(older) == []
    with closing(sqlite3.connect(older)) as conn:
        assert conn.execute("SELECT COUNT(*) FROM result").fetchone() == (2,)
        assert "motto" not in conn.execute("SELECT sql FROM sqlite_master WHERE name = 'organization'").fetchone()[0]


def test_a_table_that_is_rebuilt_loses_none_of_the_rows_that_link_to_it(older: Path, newer: Newer) -> None:
    newer(REBUILDS)
    with closing(db.connect(older)) as database:
        assert len(db.Task.get()) == 1 and len(db.Result.get()) == 2
        assert database.execute_sql("PRAGMA foreign_key_check").fetchall() == []
        assert database.pragma("foreign_keys") == 1


def test_a_migration_that_would_break_links_is_rolled_back(older: Path, newer: Newer) -> None:
    newer(BREAKS)
    with pytest.raises(Error, match="would have links to missing rows"):
        db.connect(older)
    assert schema(older) == schemas.NEWEST - 1 and beside(older) == []


def test_two_that_open_it_at_once_upgrade_it_once(older: Path, newer: Newer, tmp_path: Path) -> None:
    newer()
    code = (
        "import sys, pathlib, models\nfrom vserverlib.databases import schemas\n"
        f"schemas.MIGRATIONS, schemas.NEWEST = pathlib.Path({str(schemas.MIGRATIONS)!r}), {schemas.NEWEST}\n"
        "sys.stdin.readline()\nmodels.connect()\nprint(len(models.Result.get()))\n"
    )
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    shells = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, text=True, **pipes)
        for _ in range(4)
    ]
    for shell in shells:
        assert shell.stdin is not None
        shell.stdin.write("go\n")
        shell.stdin.flush()
    done = [shell.communicate() for shell in shells]
    assert [out for out, _ in done] == ["2\n"] * 4, done
    assert sum("was upgraded" in err for _, err in done) == 1 and len(beside(older)) == 1
    assert mottos(older) == ["together"] * 2


def test_an_upgrade_that_only_the_log_knows_of_is_not_done_again(
    older: Path, newer: Newer, capsys: pytest.CaptureFixture[str]
) -> None:
    newer()
    with closing(sqlite3.connect(older)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM task").fetchall()  # has the log not be written to the file
        upgrades.upgrade(older)
        capsys.readouterr()
        assert of_header(older) == schemas.NEWEST - 1
        for options in ({}, {"read_only": True}, {"sandbox": True}):
            db.connect(older, **options).close()
        assert capsys.readouterr().err == "" and len(beside(older)) == 1


def test_a_newer_schema_that_only_the_log_knows_of_is_refused(older: Path) -> None:
    with closing(sqlite3.connect(older)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM task").fetchall()
        with closing(sqlite3.connect(older)) as newest:
            newest.execute("PRAGMA user_version = 999")
        for options in ({}, {"read_only": True}, {"sandbox": True}):
            with pytest.raises(Error, match="created by a newer vserver"):
                db.connect(older, **options)


@pytest.mark.parametrize("mode", ["read_only", "sandbox"])
def test_what_only_reads_works_on_an_upgraded_copy(
    older: Path, newer: Newer, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = older.read_bytes()
    newer()
    with closing(db.connect(older, **{mode: True})) as database:
        assert database.execute_sql("SELECT motto FROM organization").fetchall() == [("together",)] * 2
        assert len(db.Result.get()) == 2
        if mode == "sandbox":
            assert sandbox_diff.report(database) == []
            db.Node(name="x").save()
            assert sandbox_diff.report(database) == [("node", 1, 0, 0)]
        assert "an older schema: this is an upgraded copy" in capsys.readouterr().err
    assert older.read_bytes() == before and beside(older) == []


def test_a_backup_of_an_older_schema_is_upgraded_when_it_is_restored(
    older: Path, newer: Newer, capsys: pytest.CaptureFixture[str]
) -> None:
    old = backups.make(older).path
    newer()
    db.connect(older).close()
    capsys.readouterr()
    with backups.verified(old, older) as draft:
        assert capsys.readouterr().err == f"{old} has an older schema: an upgraded copy is restored\n"
        backups.restore(older, draft)
    assert schema(older) == schemas.NEWEST and schema(old) == schemas.NEWEST - 1
    assert mottos(older) == ["together"] * 2


def test_an_older_database_is_backed_up_as_it_is(older: Path, newer: Newer) -> None:
    newer()
    assert schema(backups.make(older).path) == schemas.NEWEST - 1 == schema(older)


# By the command


def test_a_dry_run_prints_what_is_due_and_does_not_do_it(older: Path, newer: Newer) -> None:
    newer()
    result = run("upgrade", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, f"{schemas.NEWEST:04}_more\n")
    assert schema(older) == schemas.NEWEST - 1 and beside(older) == []


def test_a_dry_run_reports_what_changes_how_many_rows_and_where_the_backup_goes(older: Path, newer: Newer) -> None:
    newer(WRITES, "Domains are names.\n\nFrozen.")
    result = run("upgrade", "--dry-run")
    assert result.stdout == f"{schemas.NEWEST:04}_more  Domains are names.\n"
    output = (
        rf"schema {schemas.NEWEST - 1} to {schemas.NEWEST}, tried on a private copy: "
        r"7 rows written, including the journal's, in \d+\.\d s; "
        rf"a backup of {older.stat().st_size:,} bytes would be made first, such as vserver-\d{{8}}-\d{{6}}\.db\n"
    )
    assert re.fullmatch(output, result.stderr) and beside(older) == []


def test_a_dry_run_reports_that_an_upgrade_would_fail(older: Path, newer: Newer) -> None:
    newer(FAILS)
    result = run("upgrade", "--dry-run")
    assert result.exit_code == 1 and result.stdout == "" and "no such column: nonsense" in result.stderr
    assert schema(older) == schemas.NEWEST - 1 and beside(older) == []


def test_every_migration_says_what_it_changes() -> None:
    assert [upgrades.description_of(name)[-1:] for name in schemas.due(0)] == ["."] * schemas.NEWEST


@pytest.mark.parametrize(
    "words",
    [
        ("undo", "2", "--change", "1"),
        ("log", "--prune", "yesterday", "--yes"),
        ("delete", "tsk", "1"),
        ("passwd", "root", "--stdin"),
    ],
)
def test_options_without_effect_are_refused_before_an_older_database_is_upgraded(
    words: tuple[str, ...], older: Path, newer: Newer
) -> None:
    newer()
    result = CliRunner().invoke(vserver.main, words, input="one\ntwo\n")
    assert result.exit_code in (1, 2)
    assert schema(older) == schemas.NEWEST - 1 and beside(older) == []


def test_the_command_upgrades_and_says_so_and_then_has_nothing_to_do(older: Path, newer: Newer) -> None:
    newer()
    result = run("upgrade")
    assert result.exit_code == 0 and result.stdout == ""
    assert re.fullmatch(
        r"vserver.db was upgraded from schema \d to \d; the previous state is kept in \S+\n", result.stderr
    )
    for words in (("upgrade",), ("upgrade", "--dry-run")):
        result = run(*words)
        assert result.exit_code == 0 and result.stdout == "" and "nothing to upgrade" in result.stderr
    assert len(beside(older)) == 1


def test_a_command_that_reads_prints_its_data_and_nothing_else(older: Path, newer: Newer) -> None:
    newer()
    result = run("list", "organizations", "-o", "json")
    assert result.exit_code == 0 and result.stdout.startswith("[") and "older schema" in result.stderr
    assert schema(older) == schemas.NEWEST - 1


# On a server


def refused(url: str, *words: str) -> str:
    """Return the one line that a command ends with, and nothing else."""
    done = run("-d", url, *words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
    return done.stderr


def server_schema(url: str) -> int:
    with closing(servers.opened(url, read_only=True, of_any_release=True)) as database:
        return schemas.version_of(database)


def dumps_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-*-*.dump"))


def test_opening_one_on_a_server_upgrades_it_after_a_dump_and_says_so(
    older_url: str, programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(db.connect(older_url)):
        assert [task.progress for task in db.Task.get()] == [(2, 2), (0, 0)]
        assert db.Task.get(1).status == "failed" and db.Task.next_run_id() == 2
        db.Organization(name="the next").save()
        assert db.Organization.get_by_name("the next").id == 3
    (dump,) = dumps_in(tmp_path)
    expected = (
        f"{older_url} was upgraded from schema 1 to {schemas.NEWEST}; the previous state is kept in {dump.name}\n"
    )
    assert capsys.readouterr().err == expected and dump.stat().st_mode & 0o777 == 0o600
    assert run("-d", older_url, "check", "--rule", "DBF003").exit_code == 0
    assert "the next" in run("-d", older_url, "log").stdout
    db.connect(older_url).close()
    assert capsys.readouterr().err == "" and len(dumps_in(tmp_path)) == 1


@pytest.mark.parametrize(
    "words", [["list", "tasks"], ["overview"], ["shell", "--read-only", "-c", "1"], ["export", "a.json"]]
)
def test_what_only_reads_refuses_an_older_one_on_a_server_with_the_remedy(
    older_url: str, programs: Path, tmp_path: Path, words: list[str]
) -> None:
    expected = f"(schema 1, this release needs {schemas.NEWEST}): upgrade it with: vserver -d '{older_url}' upgrade\n"
    assert refused(older_url, *words).endswith(expected)
    assert server_schema(older_url) == 1 and list(tmp_path.iterdir()) == []


def test_one_on_a_server_of_a_newer_release_is_refused(url: str, programs: Path, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("INSERT INTO schema_migration (name, applied) VALUES ('0999_later', now())")
    for words in (["list", "tasks"], ["upgrade"], ["upgrade", "--dry-run"], ["backup"], ["shell", "-c", "1"]):
        assert "was created by a newer vserver (schema 999, this release knows" in refused(url, *words)
    assert list(tmp_path.iterdir()) == []


def test_an_upgrade_that_ctrl_c_ends_leaves_no_backup(
    older: Path, newer: Newer, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer()
    migrate = schemas.migrate

    def interrupted(database: Any) -> None:
        migrate(database)
        raise KeyboardInterrupt

    monkeypatch.setattr(schemas, "migrate", interrupted)
    before = older.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        upgrades.upgrade(older)
    assert beside(older) == [] and older.read_bytes() == before


def test_an_upgrade_that_fails_on_a_server_leaves_all_as_it_was(
    url: str, programs: Path, newer: Newer, tmp_path: Path
) -> None:
    with closing(db.connect(url)):
        db.Result().save()
    newer(FAILS)
    for words in (["upgrade"], ["upgrade", "--dry-run"], ["shell", "-c", "1"]):
        output = refused(url, *words)
        assert 'cannot be upgraded, and was not changed: column "nonsense" does not exist' in output
    assert server_schema(url) == schemas.NEWEST - 1 and dumps_in(tmp_path) == []
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT COUNT(*) FROM result").fetchone() == (1,)
        assert "motto" not in [column.name for column in conn.execute("SELECT * FROM organization").description or ()]


def test_two_that_open_one_on_a_server_at_once_upgrade_it_once(older_url: str, programs: Path, tmp_path: Path) -> None:
    code = "import sys, models\nsys.stdin.readline()\nmodels.connect(sys.argv[1])\nprint(len(models.Result.get()))\n"
    environment = {"PYTHONPATH": str(ROOT), "PATH": str(programs)}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", code, older_url]
    shells = [subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes) for _ in range(3)]
    for shell in shells:
        assert shell.stdin is not None
        shell.stdin.write("go\n")
        shell.stdin.flush()
    done = [shell.communicate() for shell in shells]
    assert [out for out, _ in done] == ["2\n"] * 3, done
    assert sum("was upgraded" in err for _, err in done) == 1 and len(dumps_in(tmp_path)) == 1


def test_a_dry_run_on_a_server_reports_what_it_would_do_and_does_not_do_it(
    url: str, programs: Path, newer: Newer, tmp_path: Path
) -> None:
    with closing(db.connect(url)):
        db.Organization(name="IKNL").save()
        db.Organization(name="Oslo").save()
    newer(WRITES, "Domains are names.\n\nFrozen.")
    done = run("-d", url, "upgrade", "--dry-run")
    assert (done.exit_code, done.stdout) == (0, f"{schemas.NEWEST:04}_more  Domains are names.\n")
    output = (
        rf"schema {schemas.NEWEST - 1} to {schemas.NEWEST}, tried in a transaction that was rolled back: "
        r"5 rows written, including the journal's, in \d+\.\d s; "
        r"a backup would be made first, such as vserver\d+-\d{8}-\d{6}\.dump\n"
    )
    assert re.fullmatch(output, done.stderr), done.stderr
    assert server_schema(url) == schemas.NEWEST - 1 and dumps_in(tmp_path) == []
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT domain FROM organization").fetchall() == [(None,)] * 2


def test_the_command_upgrades_one_on_a_server_and_then_has_nothing_to_do(
    older_url: str, programs: Path, tmp_path: Path
) -> None:
    done = run("-d", older_url, "upgrade")
    assert (done.exit_code, done.stdout) == (0, "") and "was upgraded from schema 1" in done.stderr
    for words in (["upgrade"], ["upgrade", "--dry-run"], ["upgrade", "--no-backup"]):
        assert "nothing to upgrade" in run("-d", older_url, *words).stderr
    assert len(dumps_in(tmp_path)) == 1


def test_without_pg_dump_one_on_a_server_is_not_upgraded_unless_somebody_says_that_there_is_a_backup(
    older_url: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for words in (["upgrade"], ["upgrade", "--dry-run"], ["shell", "-c", "1"]):
        output = refused(older_url, *words)
        assert "pg_dump is not on PATH: install" in output and f"vserver -d '{older_url}' upgrade --no-backup" in output
    assert server_schema(older_url) == 1
    assert "without a backup" in run("-d", older_url, "upgrade", "--dry-run", "--no-backup").stderr
    done = run("-d", older_url, "upgrade", "--no-backup")
    assert done.exit_code == 0 and done.stderr.endswith(f"from schema 1 to {schemas.NEWEST}\n")
    assert server_schema(older_url) == schemas.NEWEST


def test_a_file_is_upgraded_without_a_backup_where_one_says_so(older: Path, newer: Newer) -> None:
    newer()
    assert run("upgrade", "--dry-run", "--no-backup").stderr.endswith("; without a backup\n")
    done = run("upgrade", "--no-backup")
    assert done.exit_code == 0 and done.stderr.endswith(f"from schema {schemas.NEWEST - 1} to {schemas.NEWEST}\n")
    assert schema(older) == schemas.NEWEST and beside(older) == []


# A damaged one


def hide_from_index(file: Path) -> str:
    """Have a row of organizations be missing from an index, and return how SQLite calls that."""
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("CREATE INDEX organization_country ON organization (country)")
        entry = conn.execute("SELECT * FROM sqlite_master WHERE name = 'organization_country'").fetchone()
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("DELETE FROM sqlite_master WHERE name = 'organization_country'")
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("INSERT INTO organization (name) VALUES ('unseen')")
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entry)
    return "row 3 missing from index organization_country"


def lengthen_free_list(file: Path) -> str:
    """Have the header tell of more free pages than there are."""
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE passing (value)")
        conn.execute("INSERT INTO passing VALUES (zeroblob(40000))")
        conn.execute("DROP TABLE passing")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(file, "r+b") as writer:
        writer.seek(36)
        writer.write((3).to_bytes(4))
    return "Main freelist"


def overwrite_a_page(file: Path) -> str:
    """Write over the first page of results."""
    with closing(sqlite3.connect(file)) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'result'").fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    with open(file, "r+b") as writer:
        writer.seek((root - 1) * size)
        writer.write(b"\xff" * size)
    return f"Page {root}"


def empty_a_value(file: Path) -> str:
    """Have a column that is never NULL hold one."""
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        sql = "SELECT sql FROM sqlite_master WHERE name = 'setting'"
        (table,) = conn.execute(sql).fetchone()
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE name = 'setting'")
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("INSERT INTO setting VALUES ('another', NULL)")
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'setting'", [table])
    return "NULL value in setting.value"


DAMAGES = [hide_from_index, lengthen_free_list, overwrite_a_page, empty_a_value]


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the first release wrote, in vserver.db of the current folder."""
    monkeypatch.chdir(tmp_path)
    path = Path(shutil.copy(RELEASED[0], tmp_path / "vserver.db"))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_database_is_not_upgraded_and_the_message_names_the_remedy(
    released: Path, harm: Callable[[Path], str]
) -> None:
    """Its backup would be refused when it is needed."""
    fault = harm(released)
    before = released.read_bytes()
    for words in ("upgrade", "upgrade --dry-run", "passwd root --stdin", "shell -c 1", "import --replace --yes x.db"):
        shutil.copy(RELEASED[0], "x.db")
        done = CliRunner().invoke(vserver.main, words.split(), input="Geheim-999!\n", prog_name="vserver")
        assert done.exit_code == 1 and done.stdout == "", words
        output = done.stderr.splitlines()[-1]
        assert output.startswith(f"Error: vserver.db is damaged ({fault}"), words
        assert "): its backup could not be restored, so it was not upgraded; repair it (sqlite3 vserver.db" in output
        assert output.endswith("or upgrade without one: vserver upgrade --no-backup")
        assert released.read_bytes() == before and beside(released) == []


def test_the_suggested_command_repairs_a_damaged_index(released: Path) -> None:
    hide_from_index(released)
    with closing(sqlite3.connect(released)) as conn:
        conn.execute("REINDEX")
    assert run("upgrade").exit_code == 0 and schema(released) == schemas.NEWEST and len(beside(released)) == 1


def test_a_damaged_database_is_upgraded_without_a_backup_where_one_says_so(released: Path) -> None:
    hide_from_index(released)
    assert run("upgrade", "--no-backup").exit_code == 0
    assert schema(released) == schemas.NEWEST and beside(released) == []


def test_dangling_links_are_not_damage(released: Path) -> None:
    with closing(sqlite3.connect(released, isolation_level=None)) as conn:
        conn.execute("UPDATE result SET task_id = 999 WHERE id = 1")
    assert run("upgrade").exit_code == 0
    (kept,) = beside(released)
    assert run("restore", str(kept), "--yes").exit_code == 0


CUTS_OFF = """#!{python}
import os, subprocess, sys
status = subprocess.call([{program!r}, *sys.argv[1:]])
for word in sys.argv:
    if word.startswith("--file="):
        os.truncate(word[7:], os.path.getsize(word[7:]) - 300)
sys.exit(status)
"""


@pytest.fixture
def cut_off(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pg_dump succeed, with a dump that lacks its end."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "pg_restore").symlink_to(programs / "pg_restore")
    (folder / "pg_dump").write_text(CUTS_OFF.format(python=sys.executable, program=str(programs / "pg_dump")))
    (folder / "pg_dump").chmod(0o700)
    monkeypatch.setenv("PATH", str(folder))


def test_a_dump_that_could_not_be_restored_stops_an_upgrade(older_url: str, cut_off: None, tmp_path: Path) -> None:
    output = refused(older_url, "upgrade")
    assert "pg_dump made a backup of postgresql://" in output and "cannot be read by pg_restore" in output
    assert output.endswith(f"make a backup yourself, then: vserver -d '{older_url}' upgrade --no-backup\n")
    assert server_schema(older_url) == 1 and dumps_in(tmp_path) == []
    assert run("-d", older_url, "upgrade", "--no-backup").exit_code == 0


def test_a_dump_that_could_not_be_restored_stops_an_import(url: str, cut_off: None, tmp_path: Path) -> None:
    shutil.copy(RELEASED[0], tmp_path / "source.db")
    with closing(db.connect(url)):
        db.Organization(name="kept").save()
    done = run("-d", url, "import", "--replace", "--yes", "source.db")
    assert done.exit_code == 1 and "a backup of postgresql://" in done.stderr and "pg_restore" in done.stderr
    assert "kept" in run("-d", url, "list", "organizations").stdout and dumps_in(tmp_path) == []
