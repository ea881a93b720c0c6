"""A dump put back: whole or not at all, after a backup, beside what others have in the database and have open."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers import postgres
from helpers.typed import opened, refused, run

import vserver
from models import Organization, Task, User
from vserverlib.databases import connection, schemas
from vserverlib.databases.postgresql import servers as urls
from vserverlib.transfer import copying

pytestmark = pytest.mark.usefixtures("programs")
ROOT = Path(vserver.__file__).parent


def held(url: str) -> dict[str, list[Any]]:
    """Return all rows of all tables of a database."""
    found = {}
    with psycopg.connect(url, autocommit=True) as conn:
        tables = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
        for (table,) in tables:
            found[table] = sorted(conn.execute(f'SELECT * FROM "{table}"').fetchall(), key=repr)  # type: ignore[call-overload]
    return found


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-*-*.dump"))


@pytest.fixture
def filled(url: str) -> str:
    """The URL of a database with rows, an entry that was deleted last, and text that a dump has to escape."""
    with opened(url):
        Organization(name="tab\tline\nback\\slash \\. \\N").save()
        Organization(name="Oslo").save()
        User(username="root", password="a long password 1").save()
        Task(name="average", image="harbor/average").save()
        late = Task(name="late")
        late.save()
        late.delete()
    return url


@pytest.fixture
def dump(filled: str, tmp_path: Path) -> str:
    """A dump of that, after which the database was changed."""
    assert run(filled, "backup", "a.dump").exit_code == 0
    with opened(filled):
        Organization(name="later").save()
        Task.get()[0].delete()
    return "a.dump"


# What becomes of it


def test_all_is_as_it_was_when_the_dump_was_made(filled: str, tmp_path: Path) -> None:
    before = held(filled)
    run(filled, "backup", "a.dump")
    with opened(filled):
        Task.get()[0].delete()
        Organization(name="later").save()
    done = run(filled, "restore", "a.dump", "--yes")
    (backup,) = kept(tmp_path)
    assert done.exit_code == 0 and done.stdout == ""
    assert done.stderr == (
        f"restored {filled} from a.dump\n"
        f"the previous data is in {backup.name}; go back with: vserver -d '{filled}' restore {backup.name}\n"
    )
    after = held(filled)
    (change,) = (row for row in after["change"] if row not in before["change"])
    assert after["change"].remove(change) is None and after == before
    assert "restored a backup" in change and str(backup) in change


def test_ids_that_were_given_are_not_given_again(filled: str, dump: str) -> None:
    run(filled, "restore", dump, "--yes")
    with opened(filled):
        task = Task(name="next")
        task.save()
        assert task.id == 3 and Organization.get_by_name("later") is None


def test_what_it_held_is_gone_back_to(filled: str, dump: str, tmp_path: Path) -> None:
    before = held(filled)
    run(filled, "restore", dump, "--yes")
    (backup,) = kept(tmp_path)
    assert run(filled, "restore", backup.name, "--yes").exit_code == 0
    after = held(filled)
    assert {table: rows for table, rows in after.items() if table != "change"} == {
        table: rows for table, rows in before.items() if table != "change"
    }
    assert len(after["change"]) == len(before["change"]) + 1


def test_the_journal_continues_and_a_change_is_undone(filled: str, dump: str) -> None:
    run(filled, "restore", dump, "--yes")
    assert "restored a backup" in run(filled, "log").stdout
    with opened(filled):
        Organization.get_by_name("Oslo").delete()
    done = run(filled, "undo", "--yes")
    assert done.exit_code == 0, done.output
    with opened(filled):
        assert Organization.get_by_name("Oslo") is not None


def test_into_a_database_without_tables_nothing_is_asked_and_nothing_kept(
    filled: str, bare: str, tmp_path: Path
) -> None:
    before = held(filled)
    run(filled, "backup", "a.dump")
    done = run(bare, "restore", "a.dump")
    assert (done.exit_code, done.stderr) == (0, f"restored {bare} from a.dump\n")
    assert held(bare) == before and kept(tmp_path) == []
    assert run(bare, "check", "--rule", "DBF003").exit_code == 0
    with opened(bare):
        task = Task(name="next")
        task.save()
        assert task.id == 3  # 2 was given, and deleted


def test_the_dump_of_an_older_release_is_upgraded(older_url: str, server: postgres.Server, tmp_path: Path) -> None:
    run(older_url, "backup", "old.dump")
    with server.bare() as bare:
        done = run(bare, "restore", "old.dump")
        assert done.exit_code == 0 and "from old.dump, upgraded to the schema" in done.stderr
        assert run(bare, "check", "--rule", "DBF003").exit_code == 0
        with opened(bare):
            assert [task.progress for task in Task.get()] == [(2, 2), (0, 0)]
            Task(name="next").save()
        assert "created task 3" in run(bare, "log").stdout


def test_the_dump_of_an_older_release_replaces_what_this_one_wrote(older_url: str, filled: str, tmp_path: Path) -> None:
    run(older_url, "backup", "old.dump")
    done = run(filled, "restore", "old.dump", "--yes")
    assert done.exit_code == 0 and "created anew: grant other roles" in done.stderr
    assert run(filled, "check", "--rule", "DBF003").exit_code == 0 and len(kept(tmp_path)) == 1
    with opened(filled):
        assert [each.name for each in Organization.get()] == ["IKNL", "Oslo [beta]"]


def test_a_dump_of_this_release_replaces_what_an_older_one_wrote(older_url: str, filled: str, tmp_path: Path) -> None:
    run(filled, "backup", "new.dump")
    done = run(older_url, "restore", "new.dump", "--yes")
    assert done.exit_code == 0 and "anew" not in done.stderr, done.stderr
    assert run(older_url, "check", "--rule", "DBF003").exit_code == 0
    (backup,) = kept(tmp_path)
    assert run(older_url, "restore", backup.name, "--yes").exit_code == 0
    with opened(older_url):
        assert len(Task.get()) == 2


def test_a_table_that_was_lost_is_created_again(filled: str, dump: str) -> None:
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("DROP TABLE result")
    done = run(filled, "restore", dump, "--yes")
    assert done.exit_code == 0 and "created anew" in done.stderr
    assert run(filled, "check", "--rule", "DBF003").exit_code == 0


# Beside others


def test_other_programs_continue_with_the_restored_data(filled: str, dump: str) -> None:
    with contextlib.closing(urls.opened(filled)) as other, opened(filled, read_only=True) as reader:
        for _ in range(8):  # after five times psycopg has the server keep a plan
            for database in (other, reader):
                assert len(database.execute_sql('SELECT password FROM "user"').fetchall()) == 1
        seen = reader.version()
        assert run(filled, "restore", dump, "--yes").exit_code == 0
        assert other.execute_sql("SELECT name FROM task").fetchall() == [("average",)]
        other.execute_sql("INSERT INTO task (name) VALUES ('by the other')")
        assert len(reader.execute_sql("SELECT name FROM task").fetchall()) == 2 and reader.version() != seen
        assert reader.execute_sql('SELECT password FROM "user"').fetchall() == [(None,)]  # still hidden


def test_rights_views_and_tables_of_others_stay(filled: str, dump: str) -> None:
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("CREATE ROLE looker")
        conn.execute("GRANT SELECT (name) ON task TO looker")
        conn.execute("CREATE VIEW tasks AS SELECT name FROM task")
        conn.execute("CREATE SCHEMA elsewhere")
        conn.execute("CREATE TABLE elsewhere.task (name text)")
        conn.execute("CREATE TABLE invoice (task bigint)")
        conn.execute("INSERT INTO elsewhere.task VALUES ('theirs')")
        conn.execute("INSERT INTO invoice VALUES (1)")
        assert run(filled, "restore", dump, "--yes").exit_code == 0
        assert conn.execute("SELECT name FROM tasks").fetchall() == [("average",)]
        assert conn.execute("SELECT name FROM elsewhere.task").fetchall() == [("theirs",)]
        assert conn.execute("SELECT task FROM invoice").fetchall() == [(1,)]
        assert conn.execute("SELECT has_column_privilege('looker', 'task', 'name', 'select')").fetchone() == (True,)
        conn.execute("DROP OWNED BY looker")
        conn.execute("DROP ROLE looker")


def test_what_others_had_in_the_dump_stays_out(filled: str, programs: Path, bare: str) -> None:
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA elsewhere")
        conn.execute("CREATE TABLE elsewhere.task (name text)")
        conn.execute("INSERT INTO elsewhere.task VALUES ('theirs')")
        conn.execute("CREATE TABLE invoice (task bigint)")
    subprocess.run([programs / "pg_dump", "-Fc", "-f", "all.dump", "-d", filled], check=True)
    assert run(bare, "restore", "all.dump").exit_code == 0
    assert "invoice" not in held(bare) and held(bare)["task"] == held(filled)["task"]


def test_a_dump_in_a_folder_that_was_made_by_hand_is_restored(filled: str, programs: Path, bare: str) -> None:
    subprocess.run([programs / "pg_dump", "--format=directory", "-f", "by-hand", "-d", filled], check=True)
    assert run(bare, "restore", "by-hand").exit_code == 0
    assert held(bare) == held(filled)


def test_a_dump_that_went_through_a_pipe_is_restored(filled: str, programs: Path, bare: str, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": str(programs)}
    command = [sys.executable, "-m", "vserver", "-d", filled, "backup", "-"]
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    (tmp_path / "piped.dump").write_bytes(done.stdout)
    assert run(bare, "restore", "piped.dump").exit_code == 0
    assert held(bare) == held(filled)


def test_it_waits_for_who_writes_and_nobody_writes_between_the_backup_and_the_restoring(
    filled: str, dump: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", 0.3)
    before = held(filled)
    with contextlib.closing(urls.opened(filled)) as other, other.atomic():
        assert "is locked by vserver of postgres" in refused(filled, "restore", dump, "--yes")
    assert held(filled) == before and kept(tmp_path) == []


def test_another_program_does_not_write_between_the_backup_and_the_restoring(
    filled: str, dump: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = "INSERT INTO organization (name) VALUES ('between')"
    program = tmp_path / "bin" / "pg_dump"  # before it dumps, somebody tries to write
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
        case "$*" in *--file=*) psql -d '{filled}' -c "SET lock_timeout = 100" -c "{insert}" 2> refused ;; esac
        exec {programs}/pg_dump "$@"\n"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{programs}")
    assert run(filled, "restore", dump, "--yes").exit_code == 0
    assert "lock timeout" in (tmp_path / "refused").read_text()


def test_another_program_that_reads_in_a_transaction_is_waited_for_and_then_given_up_on(
    filled: str, dump: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", 0.3)
    with psycopg.connect(filled) as conn:
        conn.execute("SELECT * FROM task").fetchall()
        assert "others hold a lock that this needs" in refused(filled, "restore", dump, "--yes")
    assert kept(tmp_path) == []


# What goes wrong leaves all as it was


def test_without_an_answer_nothing_is_changed(filled: str, dump: str, tmp_path: Path) -> None:
    before = held(filled)
    assert "no terminal for the confirmation: nothing was changed" in refused(filled, "restore", dump)
    assert held(filled) == before and kept(tmp_path) == []


def test_rows_that_the_tables_refuse_leave_all_as_it_was(filled: str, dump: str, tmp_path: Path) -> None:
    with opened(filled):
        pass
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("ALTER TABLE task ADD CONSTRAINT never CHECK (name <> 'average') NOT VALID")
        before = held(filled)
        output = refused(filled, "restore", dump, "--yes")
    assert "cannot be restored, and was not changed: " in output and "never" in output
    assert held(filled) == before and kept(tmp_path) == []


def test_an_upgrade_that_fails_leaves_all_as_it_was(
    older_url: str, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(older_url, "backup", "old.dump")
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("CREATE VIEW tasks AS SELECT name FROM task")
    before = held(filled)
    output = refused(filled, "restore", "old.dump", "--yes")  # of an older schema: the table would have to be made anew
    assert "cannot be restored, and was not changed: cannot drop" in output
    assert held(filled) == before and kept(tmp_path) == []


def test_a_program_that_is_killed_during_it_leaves_all_as_it_was(
    filled: str, dump: str, programs: Path, tmp_path: Path
) -> None:
    before = held(filled)
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from vserverlib.databases.postgresql import archives, restores\n"
        "restores._set_last_id = lambda *words: os._exit(9)\n"
        "restores.restore(sys.argv[1], archives.opened(Path(sys.argv[2]), ''))\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": str(programs)}
    done = subprocess.run([sys.executable, "-c", code, filled, dump], env=environment, check=False)
    assert done.returncode == 9
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(%s)", [0x76736572])  # which the server lets go when it has noticed
    assert held(filled) == before


def test_the_database_of_a_vantage6_server_is_not_touched(filled: str, dump: str, bare: str) -> None:
    with psycopg.connect(bare, autocommit=True) as conn:
        conn.execute("CREATE TABLE authenticatable (id int)")
        assert "of a vantage6 server" in refused(bare, "restore", dump, "--yes")
        conn.execute("SELECT * FROM authenticatable")
    assert list(held(bare)) == ["authenticatable"]


def test_tables_of_another_program_that_are_called_as_ours_are_not_touched(filled: str, dump: str, bare: str) -> None:
    with psycopg.connect(bare, autocommit=True) as conn:
        conn.execute("CREATE TABLE task (id int)")
        conn.execute("INSERT INTO task VALUES (1)")
    for words in (["restore", dump, "--yes"], ["init"]):
        assert "has tables of another program with the names of ours (task)" in refused(bare, *words)
    assert held(bare) == {"task": [(1,)]}


def test_a_newer_database_is_refused(filled: str, dump: str) -> None:
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("INSERT INTO schema_migration (name, applied) VALUES ('0999_later', now())")
    assert "created by a newer vserver" in refused(filled, "restore", dump, "--yes")


def test_without_pg_restore_or_pg_dump_the_error_has_the_remedy(
    filled: str, dump: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pg_restore reads the dump" in refused(filled, "restore", dump, "--yes")
    (tmp_path / "pg_restore").symlink_to(programs / "pg_restore")
    assert "pg_dump is not on PATH" in refused(filled, "restore", dump, "--yes")


def test_a_column_that_was_lost_is_reported(filled: str, dump: str, tmp_path: Path) -> None:
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("ALTER TABLE task DROP COLUMN image")
    assert 'was not changed: column "image" of relation "task" does not exist' in refused(
        filled, "restore", dump, "--yes"
    )
    assert kept(tmp_path) == []


def test_a_role_without_rights_is_reported(filled: str, dump: str, tmp_path: Path) -> None:
    with psycopg.connect(filled, autocommit=True) as conn:
        conn.execute("CREATE ROLE looker LOGIN")
        conn.execute("GRANT pg_read_all_data TO looker")
        output = refused(filled.replace("postgres@", "looker@"), "restore", dump, "--yes")
        conn.execute("DROP ROLE looker")
    assert "the role lacks a privilege" in output and kept(tmp_path) == []


# What is known to be ours


def test_the_tables_that_are_known_to_be_ours_are_those_that_migrations_make(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        functions = conn.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace").fetchall()
    assert set(urls.TABLES) == set(held(url)) == {*copying.tables(), "schema_migration"}
    assert {name for (name,) in functions} == set(urls.FUNCTIONS)
    assert len(schemas.due(0)) == schemas.NEWEST
