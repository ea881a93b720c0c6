"""`%load_ext vserver` in IPython processes of their own, at a terminal, piped, and as a notebook runs it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import process, vantage6_databases
from helpers.process import Ended
from helpers.terminal import Terminal, environment

from vserverlib import hashing

KINDS = ["sqlite"]  # IPython has nothing to do with where the data are
PASSWORD = "correct horse battery staple"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def at_terminal(example: Path, home: Path) -> Iterator[Terminal]:
    """A plain IPython at a terminal, with the extension and the example data."""
    command = [sys.executable, "-m", "IPython", "--no-banner", "--no-tip", "--colors=nocolor", "--no-confirm-exit"]
    terminal = Terminal(command, environment(home, VSERVER_DATABASE=str(example)), columns=120)
    assert terminal.enter("%load_ext vserver") == "vserver.db, read-write"
    yield terminal
    terminal.child.close(force=True)


def cells(*lines: str, **env: str) -> Ended:
    """Run lines in a plain IPython without a terminal: each is a cell."""
    command = ("-m", "IPython", "--no-banner", "--simple-prompt", "--colors=nocolor", "--no-confirm-exit")
    return process.python(*command, given="\n".join(lines) + "\n", **env)


def notebook(*lines: str, **env: str) -> Ended:
    """Run cells in the shell that a notebook's kernel is made from, and print the MIME types of each result."""
    code = f"""
import os
from IPython.core.interactiveshell import InteractiveShell
os.setsid()  # no terminal to type a password at
notebook = InteractiveShell.instance(colors="nocolor")
for line in {lines!r}:
    done = notebook.run_cell(line)
    if done.result is not None:
        print("MIME types:", *sorted(notebook.display_formatter.format(done.result)[0]))
"""
    return process.python("-c", code, **env)


# Views, completion, errors


def test_db_and_entities_are_displayed_at_a_terminal(at_terminal: Terminal) -> None:
    assert re.search(r"db\.Organization +5 ", at_terminal.enter("db"))
    assert re.search(r"(?m)^╭─  task 1 .*╮$", at_terminal.enter("db.Task.get(1)"))
    assert re.search(r"(?m)^id +name", at_terminal.enter("[task for task in db.Task.get() if task.complete]"))


def test_tab_completes_what_our_shell_completes(at_terminal: Terminal) -> None:
    at_terminal.send("db.Organization(na\t")
    at_terminal.wait_for(r"db\.Organization\(name=$")
    at_terminal.send('"x").name\r')
    at_terminal.answer()
    at_terminal.send('db.Task.get_by_name("Age\t')
    at_terminal.wait_for(r'get_by_name\("Age at diagnosis$')


def test_an_error_of_ours_is_one_line_at_a_terminal_in_a_file_and_in_a_notebook(example: Path) -> None:
    line = 'error: no user "nobody"'
    (example.parent / "wrong.py").write_text("from models import User\nUser.get_by_username('nobody')\n")
    wrong = ("%load_ext vserver", "db.User.get_by_username('nobody')", "%run wrong.py")
    env = {"VSERVER_DATABASE": str(example)}
    for done in (cells(*wrong, **env), notebook(*wrong, **env)):
        assert done.out.count(line) == 2, done
        assert "Traceback" not in done.out + done.err and "get_by_username(self" not in done.out


def test_a_mistake_in_sql_shows_the_lines_of_the_cell_and_what_to_do(example: Path) -> None:
    for run in (cells, notebook):
        done = run("%load_ext vserver", "db.database.execute_sql('SELEC 1')", VSERVER_DATABASE=str(example))
        assert re.search(r'near "SELEC": syntax error\ncorrect the SQL', done.out) and "peewee.py" not in done.out, done


def test_other_errors_keep_their_traceback(example: Path) -> None:
    assert "ZeroDivisionError" in cells("%load_ext vserver", "1 / 0", VSERVER_DATABASE=str(example)).out


def test_a_notebook_displays_html(example: Path) -> None:
    env = {"VSERVER_DATABASE": str(example)}
    done = notebook("%load_ext vserver", "db", "db.Task.get()", "db.Task.get(1)", "[db.Task.get(1)]", "[1]", **env)
    shown = re.findall("MIME types: (.*)", done.out)
    assert shown == ["text/html text/plain"] * 4 + ["text/plain"], done


# Opening a database


def test_vserver_says_which_database_is_open_and_in_which_mode(example: Path) -> None:
    done = cells(
        "%load_ext vserver", "%vserver vserver.db", "%vserver", "%vserver --read-only 'vserver.db'", "%vserver"
    )
    assert len(re.findall("no database is open: %vserver", done.out)) == 1
    assert len(re.findall("vserver.db, read-write", done.out)) == 2
    assert len(re.findall("vserver.db, read-only", done.out)) == 2, done


def test_a_database_that_models_opened_is_taken_over(example: Path) -> None:
    done = cells("import models", "_ = models.connect('vserver.db')", "%load_ext vserver", "len(db.Task.get())")
    assert "vserver.db, read-write" in done.out and "24" in done.out, done
    done = cells(
        "%load_ext vserver", "from models import *", "_ = connect('vserver.db')", "%vserver", "db.Task.get(1).id"
    )
    assert "Out[5]: 1" in done.out, done


def test_read_only_refuses_changes_and_hides_hashes(example: Path) -> None:
    lines = ("db.Task.get(1).delete(dependents=True)", "%vserver passwd anna.devries", "db.User.get(1).password")
    done = cells("%load_ext vserver", "%vserver --read-only vserver.db", *lines)
    assert len(re.findall("error: .* read-only", done.out)) == 2 and "Traceback" not in done.out, done
    assert "$2b$" not in done.out


@pytest.mark.parametrize("end", ["%unload_ext vserver", "%vserver --read-only vserver.db", "exit"])
def test_a_sandbox_changes_nothing_and_says_what_would_have_changed(end: str, example: Path) -> None:
    before = example.read_bytes()
    done = cells("%load_ext vserver", "%vserver --sandbox vserver.db", "db.Task.get(1).delete(dependents=True)", end)
    assert "vserver.db, sandbox" in done.out
    assert "sandbox: would have deleted 1 task, 4 results" in done.out, done
    assert example.read_bytes() == before


def test_the_database_of_a_server_is_opened_through_a_private_copy(tmp_path: Path) -> None:
    file = vantage6_databases.copied("3.11.1", tmp_path / "server.sqlite")
    before = file.read_bytes()
    done = cells("%load_ext vserver", f"%vserver {file}", "len(db.Organization.get()) > 0", "%vserver")
    assert len(re.findall("server.sqlite, read-only", done.out)) == 2 and "Out[3]: True" in done.out, done
    assert file.read_bytes() == before


def test_a_database_that_cannot_be_opened_is_one_line(example: Path) -> None:
    done = cells("%load_ext vserver", "%vserver nope.db", "%vserver", VSERVER_DATABASE=str(example))
    assert "error: there is no database nope.db" in done.out and done.out.count("vserver.db, read-write") == 2, done
    done = cells("%load_ext vserver", "%vserver vserver.db", VSERVER_DATABASE="nope.db")
    assert "error: VSERVER_DATABASE: there is no database nope.db" in done.err and "read-write" in done.out, done
    assert "Traceback" not in done.out + done.err


def test_a_file_that_the_system_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = cells("%load_ext vserver", f"%vserver {tmp_path}", f"%vserver {tmp_path}/loop", f"%vserver {tmp_path}/x/y")
    assert done.out.count("error: ") == 3 and "Traceback" not in done.out + done.err, done


def test_a_database_on_a_server_is_opened_and_its_password_is_not_printed(url: str) -> None:
    with_password = url.replace("postgres@", f"postgres:{PASSWORD.replace(' ', '-')}@")
    done = cells("%load_ext vserver", f"%vserver --read-only '{with_password}'", "len(db.Task.get())")
    assert re.search("postgresql://.*, read-only", done.out) and "Out[3]: 0" in done.out, done
    assert with_password != url and "battery" not in done.out + done.err


def test_strict_of_the_environment_refuses_a_save_with_a_warning(example: Path) -> None:
    lines = ("%load_ext vserver", "%vserver vserver.db", 'db.Task(name="alone").save()')
    assert "error: not saved" in cells(*lines, VSERVER_STRICT="1").out
    assert "error" not in cells(*lines).out


@pytest.mark.parametrize("words", ["--bogus vserver.db", "--read-only --sandbox vserver.db", "a b", "passwd", "'a"])
def test_a_line_that_vserver_does_not_understand_is_a_usage_error(words: str, example: Path) -> None:
    done = cells("%load_ext vserver", f"%vserver {words}")
    assert re.search(r"error: (%vserver|there is no database passwd)", done.out), done
    assert "Traceback" not in done.out + done.err


# Passwords


def stored_password(path: Path) -> str:
    """Return the hash of user 1."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        (found,) = conn.execute("SELECT password FROM user WHERE id = 1").fetchone()
    return str(found)


def test_a_password_is_asked_hidden_and_kept_nowhere(at_terminal: Terminal, example: Path, home: Path) -> None:
    at_terminal.send("%vserver passwd anna.devries\r")
    at_terminal.wait_for_secret("New password of user 1 .*:")
    at_terminal.send(PASSWORD + "\r")
    at_terminal.wait_for_secret("The same again:")
    at_terminal.send(PASSWORD + "\r")
    assert 'user 1 "anna.devries" has a new password' in at_terminal.answer()
    at_terminal.leave()
    assert PASSWORD not in at_terminal.raw
    assert [file for file in home.rglob("*") if file.is_file() and PASSWORD.encode() in file.read_bytes()] == []
    assert hashing.matches(PASSWORD, stored_password(example))


def test_two_passwords_that_differ_change_nothing(at_terminal: Terminal, example: Path) -> None:
    before = stored_password(example)
    at_terminal.send("%vserver passwd anna.devries\r")
    at_terminal.wait_for_secret("New password of user 1 .*:")
    at_terminal.send(PASSWORD + "\r")
    at_terminal.wait_for_secret("The same again:")
    at_terminal.send("something else\r")
    assert re.search("error: .* differ", at_terminal.answer())
    assert stored_password(example) == before


def test_a_password_is_not_asked_where_it_would_be_shown(example: Path) -> None:
    env = {"VSERVER_DATABASE": str(example)}
    done = notebook("%load_ext vserver", "%vserver passwd anna.devries", "%vserver passwd nobody", **env)
    assert "error: a password cannot be typed hidden here" in done.out, done
    assert 'error: no user "nobody"' in done.out and "Traceback" not in done.out


# Unloading


def test_unloading_undoes_everything(example: Path) -> None:
    lines = (
        "%load_ext vserver",
        "%vserver vserver.db",
        "from models import *",
        "%unload_ext vserver",
        "'db' in globals()",
        "get_ipython().Completer.custom_matchers",
        "%vserver",
        "Task.get(1)",
        "User.get_by_username('nobody')",
    )
    done = cells(*lines)
    assert "Out[5]: False" in done.out and "Out[6]: []" in done.out, done
    assert "`%vserver` not found" in done.out + done.err
    assert 'Out[8]: <Task 1 "Age at diagnosis">' in done.out and "Traceback" in done.out


def test_it_can_be_loaded_again(example: Path) -> None:
    done = cells("%load_ext vserver", "%reload_ext vserver", "%vserver vserver.db", "db.Task.get(1)")
    assert "╭─  task 1" in done.out, done


def test_our_own_shell_refuses_it(example: Path, home: Path) -> None:
    with_shell = [sys.executable, "-m", "vserver", "shell", "-q"]
    terminal = Terminal(with_shell, environment(home), columns=120)
    assert "error: this is vserver's own shell" in terminal.enter("%load_ext vserver")
    terminal.leave()
