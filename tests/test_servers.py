"""PostgreSQL by URL: an unreachable server or another program's database is one line, and no password is shown."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers import postgres as running
from helpers.other_program import raw
from helpers.typed import opened, refused, run

import models
import vserver
from models import Organization, Task
from vserverlib import Error
from vserverlib.databases import connecting, connection, storage
from vserverlib.databases.postgresql import servers as urls
from vserverlib.terminal import display, watching

PASSWORD = "geheim-1914"


@pytest.fixture
def reader(server: running.Server, url: str) -> Iterator[str]:
    """The URL of a database for a role that may read it only."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE ROLE reader LOGIN")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        yield url.replace("postgres@", "reader@")
        conn.execute("DROP OWNED BY reader")
        conn.execute("DROP ROLE reader")


@pytest.fixture
def guarded(server: running.Server, url: str) -> Iterator[str]:
    """The URL, without the password, of a database for a role that needs one to log in."""
    (rules,) = server.run("SHOW hba_file").fetchone()
    before = Path(rules).read_text()
    server.run(f"CREATE ROLE guarded SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    Path(rules).write_text(f"local all guarded scram-sha-256\n{before}")
    server.run("SELECT pg_reload_conf()")
    yield url.replace("postgres@", "guarded@")
    Path(rules).write_text(before)
    server.run("SELECT pg_reload_conf()")
    server.run("DROP ROLE guarded")


# What cannot be reached, or is not ours


def test_a_server_that_is_down_is_one_line(tmp_path: Path) -> None:
    assert "that the server is running" in refused(f"postgresql://me@/db?host={tmp_path}", "list", "tasks")


def test_a_database_that_is_not_there_is_one_line(url: str, server: running.Server) -> None:
    assert "createdb" in refused(server.url_of("nowhere"), "overview")


def test_a_wrong_password_is_one_line_and_not_in_it(guarded: str) -> None:
    output = refused(guarded.replace("guarded@", "guarded:wrong-1914@"), "list", "tasks")
    assert "password authentication failed" in output and "wrong-1914" not in output


@pytest.mark.parametrize("bad", ["host=a&port=x&passwrd=1", "nothing=1"])
def test_an_invalid_url_is_one_line_without_its_password(bad: str) -> None:
    output = refused(f"postgresql://me:{PASSWORD}@host/db?{bad}", "list", "tasks")
    assert PASSWORD not in output and "postgresql://me@host/db" in output


def test_the_error_for_a_database_without_tables_says_how_to_create_them(server: running.Server) -> None:
    with server.bare() as bare:
        assert "init" in refused(bare, "list", "tasks")
        assert run(bare, "init").exit_code == 0
        assert run(bare, "list", "tasks").exit_code == 0
        assert "already" in refused(bare, "init")


@pytest.mark.parametrize("made", ["TABLE task (id int)", "VIEW result AS SELECT 1 AS id", 'TABLE "user" (name text)'])
def test_tables_of_another_program_with_our_names_are_reported(
    made: str, server: running.Server, tmp_path: Path
) -> None:
    storage.create(tmp_path / "vserver.db")
    with server.bare() as bare, psycopg.connect(bare, autocommit=True) as conn:
        conn.execute(f"CREATE {made}")  # type: ignore[call-overload]  # texts of ours
        file = str(tmp_path / "vserver.db")
        for done in (run(bare, "init"), run(bare, "import", file), run(None, "copy", file, bare)):
            name = made.split()[1].strip('"')
            assert f"({name}): give vserver a database of its own" in done.stderr, done.stderr
            assert "-csearch_path%3DNAME" in done.stderr and done.exit_code == 1
        assert "none of the schemas" in run(f"{bare}&options=-csearch_path%3Dours", "init").stderr
        conn.execute("CREATE SCHEMA ours")
        assert run(f"{bare}&options=-csearch_path%3Dours", "init").exit_code == 0
        assert run(f"{bare}&options=-csearch_path%3Dours", "list", "tasks").exit_code == 0


def test_all_that_a_release_makes_is_known_by_name(url: str) -> None:
    with psycopg.connect(url) as conn:
        public = "WHERE {}namespace = 'public'::regnamespace"
        found = conn.execute(f"SELECT relname FROM pg_class {public.format('rel')} AND relkind = 'r'").fetchall()
        functions = conn.execute(f"SELECT proname FROM pg_proc {public.format('pro')}").fetchall()
    assert {name for (name,) in found} == set(urls.TABLES)
    assert {name for (name,) in functions} == set(urls.FUNCTIONS)


def test_a_suggested_command_can_be_typed_as_it_is(server: running.Server) -> None:
    with server.bare() as bare:
        output = refused(f"{bare}&application_name=it's%20mine", "list", "tasks")
        assert run(shlex.split(output.partition("with: ")[2])[2], "init").exit_code == 0


def test_the_database_of_a_vantage6_server_is_not_touched(server: running.Server) -> None:
    with server.bare() as bare, psycopg.connect(bare, autocommit=True) as conn:
        conn.execute("CREATE TABLE authenticatable (id int)")
        assert "of a vantage6 server" in refused(bare, "init")
        assert "of another program than a vantage6 server" in refused(bare, "list", "tasks")
        assert conn.execute("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


@pytest.mark.parametrize(
    "words", [["restore", "x.dump"], ["init", "--demo"], ["shell", "--sandbox", "-c", "1"], ["import", "x.sqlite"]]
)
def test_what_needs_a_file_is_refused_in_a_line(url: str, words: list[str]) -> None:
    refused(url, *words)


# Commands


def test_the_commands_work_on_a_url(url: str) -> None:
    with opened(url):
        Organization(name="IKNL", country="Netherlands").save()
        models.User(username="root", password="a long password 1").save()
        models.Task(name="average", image="harbor/average").save()
    assert '"average"' in run(url, "list", "tasks", "-o", "json", "--where", "status=empty").stdout
    for words in (["show", "task/1"], ["overview"], ["log"], ["upgrade"], ["check"], ["list", "users", "--all"]):
        assert run(url, *words).exception is None or run(url, *words).exit_code == 1, words
    assert "1 task" in run(url, "shell", "-c", "print(len(db.Task.get()), 'task')").stdout
    assert run(url, "passwd", "root", "--stdin", input="another long password 2\n").exit_code == 0
    done = run(url, "delete", "task/1", "--yes")
    assert done.exit_code == 0 and f"vserver -d '{url}' undo --change" in done.stderr
    assert "no tasks" in run(url, "list", "tasks").stderr


def test_a_read_only_session_writes_nothing_and_sees_no_hashes(url: str) -> None:
    with opened(url):
        models.User(username="root", password="a long password 1").save()
    seen = run(url, "shell", "--read-only", "-c", "print(db.User.get()[0].__data__['password'])")
    assert seen.stdout == "None\n"
    for code in (
        "db.User.get()[0].delete()",
        "database.execute_sql(\"SELECT set_config('transaction_read_only', 'off', false)\")",
        "database.execute_sql('SET default_transaction_read_only = off')",
    ):
        assert "read-only" in run(url, "shell", "--read-only", "-c", code).stderr
    with opened(url):
        assert len(models.User.get()) == 1


def test_a_role_that_may_only_read_lists_and_its_errors_name_what_it_lacks(reader: str) -> None:
    assert run(reader, "list", "tasks").exit_code == 0
    assert "the role lacks a privilege" in run(reader, "shell", "-c", "db.Organization(name='x').save()").stderr


# Passwords


def test_a_password_in_a_url_is_in_no_message_and_not_among_the_arguments(guarded: str) -> None:
    secret = guarded.replace("guarded@", f"guarded:{PASSWORD}@")
    code = "print(open('/proc/self/cmdline').read(), database.title, db)"
    environment = {**os.environ, "PYTHONPATH": str(Path(vserver.__file__).parent)}
    command = [sys.executable, "-m", "vserver", "-d", secret, "shell", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and "guarded@" in done.stdout, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_a_password_in_a_url_makes_a_backup_and_is_not_in_its_messages(
    guarded: str, programs: Path, tmp_path: Path
) -> None:
    secret = guarded.replace("guarded@", f"guarded:{PASSWORD}@")
    for words in (["backup", "a.dump"], ["restore", "a.dump", "--yes"], ["upgrade"]):
        done = run(secret, *words)
        assert done.exit_code == 0 and PASSWORD not in done.output, done.output
    assert len(list(tmp_path.glob("*.dump"))) == 2


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(Path(vserver.__file__).parent), **environment}
    command = [sys.executable, "-m", "vserverlib", *words]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


SEEN = """
import os, subprocess, sys
print(open("/proc/self/cmdline").read(), sys.argv, subprocess.check_output("env", text=True), database.title, db)
db.Organization(name="IKNL", country="Netherlands").save()
"""


def test_no_password_is_among_the_arguments_or_in_the_environment_of_others(guarded: str, tmp_path: Path) -> None:
    secret = guarded.replace("guarded@", f"guarded:{PASSWORD}@")
    (tmp_path / "seen.py").write_text(SEEN)
    done = program(f"-d{secret}&sslpassword={PASSWORD}", "shell", str(tmp_path / "seen.py"))
    assert done.returncode == 0 and "guarded@" in done.stdout, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_two_urls_with_passwords_are_both_hidden_and_both_reached(
    server: running.Server, guarded: str, tmp_path: Path
) -> None:
    secret = guarded.replace("guarded@", f"guarded:{PASSWORD}@")
    with server.bare() as bare:
        to = bare.replace("postgres@", f"guarded:{PASSWORD}@")
        done = program("copy", secret, to)
        output = program("-d", to, "log").stdout
    assert done.returncode == 0 and done.stderr.count("guarded@") == 3, done.stderr
    assert "copied from" in output and PASSWORD not in output + done.stdout + done.stderr


def test_a_url_with_a_password_in_the_environment_works(guarded: str) -> None:
    secret = guarded.replace("guarded@", f"guarded:{PASSWORD}@")
    done = program("list", "tasks", VSERVER_DATABASE=secret)
    assert done.returncode == 0 and PASSWORD not in done.stdout + done.stderr
    assert PASSWORD not in program("check", "--rule", "nothing", VSERVER_DATABASE=secret).stderr


@pytest.mark.parametrize("scheme", ["postgresql+psycopg2://", "POSTGRESQL://", "postgres://"])
def test_what_a_configuration_of_vantage6_has_is_taken(scheme: str, url: str) -> None:
    assert run(url.replace("postgresql://", scheme), "list", "tasks").exit_code == 0


# Connections that are lost, and others that write


def cut_off(server: running.Server, database: Any) -> None:
    """Have the server end the connection of a database."""
    pid = database.connection().info.backend_pid
    server.run(f"SELECT pg_terminate_backend({pid}, 5000)")


def test_a_connection_that_was_dropped_is_created_again_and_reported(
    server: running.Server, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(url) as database:
        Organization(name="IKNL").save()
        cut_off(server, database)
        assert Organization.get()[0].name == "IKNL"
        assert "was lost and renewed" in capsys.readouterr().err
        cut_off(server, database)
        Organization(name="Oslo").save()
        assert "was lost and renewed" in capsys.readouterr().err
        assert len(Organization.get()) == 2


@pytest.fixture
def door(url: str, tmp_path: Path) -> tuple[Path, str]:
    """A way to the server that can be taken away, and the URL of a new database that goes by it."""
    base, _, folder = url.partition("host=")
    link = tmp_path / "s"
    link.symlink_to(folder)
    return link, f"{base}host={link}"


def test_a_list_is_shown_after_the_connection_was_dropped(
    server: running.Server, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(url):
        Organization(name="IKNL").save()
    with opened(url, read_only=True) as database:
        cut_off(server, database)
        assert "IKNL" in display.text(Organization.get(), color=False)
        cut_off(server, database)
        assert [row[1] for row in database.rows(Organization.get())] == ["IKNL"]
        assert capsys.readouterr().err.count("was lost and renewed") == 2


def test_while_the_server_is_down_each_try_is_one_line_and_then_it_continues(
    server: running.Server, door: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    link, url = door
    with opened(url) as database:
        Organization(name="IKNL").save()
        cut_off(server, database)
        folder = link.readlink()
        link.unlink()
        for ask in (
            lambda: list(Organization.get()),
            lambda: display.text(Organization.get(), color=False),
            Organization(name="x").save,
        ):
            with pytest.raises(Error) as output:
                ask()
            assert "cannot be reached: " in str(output.value) and "that the server is running" in str(output.value)
            assert "\n" not in str(output.value) and "\\n" not in str(output.value)
        assert capsys.readouterr().err == ""
        link.symlink_to(folder)
        assert [each.name for each in Organization.get()] == ["IKNL"]


def test_who_watches_waits_for_a_server_that_is_down(
    server: running.Server, door: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    link, url = door
    with opened(url, read_only=True) as database:
        signs = watching.ChangeDetector(database)
        assert signs.has_changed() and not signs.has_changed()
        cut_off(server, database)
        folder = link.readlink()
        link.unlink()
        assert not signs.has_changed() and not signs.has_changed()
        assert capsys.readouterr().err.count("waiting for it") == 1
        link.symlink_to(folder)
        raw(database, "INSERT INTO task (name) VALUES (?)", "average")
        assert signs.has_changed() and not signs.has_changed()
        assert "is reachable again" in capsys.readouterr().err


def test_who_watches_does_not_wait_for_a_database_that_is_gone(server: running.Server, tmp_path: Path) -> None:
    with server.database() as url, opened(url, read_only=True) as database:
        signs = watching.ChangeDetector(database)
        name = database.execute_sql("SELECT current_database()").fetchone()[0]
        cut_off(server, database)
        server.run(f"ALTER DATABASE {name} RENAME TO elsewhere")
        with pytest.raises(Error, match="does not exist"):
            signs.has_changed()
        server.run(f"ALTER DATABASE elsewhere RENAME TO {name}")


def test_of_a_transaction_whose_connection_was_dropped_nothing_is_there(server: running.Server, url: str) -> None:
    with opened(url) as database:
        with pytest.raises(Error, match="nothing of the transaction was saved"), database.atomic():
            Organization(name="IKNL").save()
            cut_off(server, database)
            Organization(name="Oslo").save()
        assert len(Organization.get()) == 0


def test_the_second_writer_waits_and_prints_for_whom(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "LOCK_NOTICE", 0.0)
    monkeypatch.setattr(connection, "LOCK_TIMEOUT", 0.5)
    with opened(url), contextlib.closing(urls.opened(url)) as other:
        with other.atomic(), pytest.raises(Error, match="is locked by vserver of postgres"):
            Organization(name="IKNL").save()
        assert "waiting for vserver of postgres" in capsys.readouterr().err
        Organization(name="Oslo").save()
        assert [each.name for each in Organization.get()] == ["Oslo"]


def test_what_was_read_in_part_is_let_go_after_the_database_was_closed(url: str) -> None:
    with opened(url):
        Organization(name="IKNL").save()
        Organization(name="Oslo").save()
    with opened(url, read_only=True) as database:
        rows = database.rows(Organization.get())
        assert next(rows)[1] == "IKNL"
    rows.close()


def test_what_others_wrote_is_a_sign_to_look_again(url: str) -> None:
    with opened(url, read_only=True) as database:
        before = database.version()
        assert database.version() == before
        raw(database, "INSERT INTO task (name) VALUES (?)", "average")
        assert database.version() != before and len(Task.get()) == 1


def test_a_new_database_of_the_servers_has_what_the_migrations_make(url: str) -> None:
    done = run(url, "check", "--rule", "DBF003")
    assert done.exit_code == 0, done.output
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ALTER TABLE task ADD COLUMN extra text")
        conn.execute("DROP TRIGGER journal_node ON node")
        conn.execute("DROP INDEX task_name")
    output = run(url, "check", "--rule", "DBF003", "-o", "json").stdout
    for part in ("extra is additional", "trigger journal_node is missing", "index task_name is missing"):
        assert part in output


def test_a_row_whose_link_leads_nowhere_is_found(url: str) -> None:
    with opened(url) as database:
        raw(database, "INSERT INTO node (name, organization_id) VALUES (?, ?)", "lost", 17)
    assert "its organization is organization 17" in run(url, "check", "--rule", "DBF002", "-o", "json").stdout


def test_a_url_is_not_a_path(url: str) -> None:
    with pytest.raises(Error, match="is not a file"):
        storage.as_path(url)


def test_the_prompt_says_where_a_database_is_without_how_it_is_reached(url: str) -> None:
    with contextlib.closing(connecting.connect(url)) as database:
        assert database.place == "postgres@" + url.partition("@")[2].partition("?")[0]
        assert "host=" in database.title
