"""The commands, as people and scripts use them: their output, messages and exit statuses."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers.process import SECONDS
from helpers.terminal import Terminal, environment
from rich.cells import cell_len

import models
import vserver
from vserverlib.commands import options
from vserverlib.databases import storage
from vserverlib.entities import finding
from vserverlib.examples import demo
from vserverlib.opening import opener

ROOT = Path(__file__).parent.parent


pytestmark = pytest.mark.usefixtures("empty_folder")


def run(*words: str, given: str | bytes | None = None, env: dict[str, str] | None = None) -> Result:
    """Run a command in this process, with separate stdout and stderr."""
    return CliRunner().invoke(vserver.main, words, input=given, env=env, prog_name="vserver")


def run_apart(*words: str, given: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process, without a terminal."""
    command = [sys.executable, "-m", "vserver", *words]
    env = {**environment(Path.cwd()), **options.pop("env", {})}
    return subprocess.run(command, input=given, capture_output=True, text=True, env=env, check=False, **options)


FULL = "Error: stdout: No space left on device: the output is incomplete\n"


def to_full_disk(*words: str) -> tuple[int, str]:
    """Return the exit status and the stderr of a command that cannot write to stdout."""
    command = [sys.executable, "-m", "vserver", *words]
    with open("/dev/full", "w") as full:
        env = environment(Path.cwd())
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False)
    return done.returncode, done.stderr


class Seen:
    """The screen of a terminal after a command has ended, and the exit status."""

    def __init__(self, *words: str, columns: int = 80, **env: str) -> None:
        command = [sys.executable, "-m", "vserver", *words]
        terminal = Terminal(command, environment(Path.cwd(), **env), columns, 60)
        while terminal._read(0.2):
            pass
        terminal.child.close()
        self.text, self.raw, self.status = terminal.text, terminal.raw, terminal.child.exitstatus


def failed(result: Result, status: int, expected: str) -> None:
    """Assert that a command ended with this status, one matching line on stderr, and nothing on stdout."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert re.search(expected, lines[-1]), result.stderr
    assert len(lines) == 1 or lines[0].startswith("Usage: ")


# Creating a database


def test_init_creates_a_database_and_prints_the_next_command() -> None:
    result = run("init")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "created vserver.db; open it with: vserver shell\n"
    assert json.loads(run("list", "tasks", "-o", "json").stdout) == []
    assert oct(Path("vserver.db").stat().st_mode)[-3:] == "600"


def test_init_creates_the_database_of_the_option_d() -> None:
    assert run("-d", "my data.db", "init").stderr == "created my data.db; open it with: vserver -d 'my data.db' shell\n"
    assert run("-d", "sqlite:///other.db", "init").exit_code == 0
    assert sorted(path.name for path in Path().glob("*.db")) == ["my data.db", "other.db"]


def test_init_refuses_a_file_that_exists() -> None:
    Path("vserver.db").write_text("precious")
    failed(run("init"), 1, "^Error: vserver.db exists already: choose another name")
    failed(run("init", "--demo"), 1, "^Error: vserver.db exists already")
    assert Path("vserver.db").read_text() == "precious"


def test_init_demo_creates_a_consortium_and_prints_its_log_ins() -> None:
    result = run("init", "--demo")
    assert "anna.devries" in result.stderr and "Demo-Anna-1" in result.stderr
    with closing(models.connect("vserver.db")):
        assert len(models.Organization.get()) >= 4 and len(models.User.get()) >= 8 and len(models.Task.get()) == 24
        assert models.User.get_by_username("anna.devries").check_password("Demo-Anna-1")


def test_a_variable_of_the_environment_can_name_the_database(example: Path) -> None:
    example.rename("elsewhere.db")
    assert run("list", "organizations", env={"VSERVER_DATABASE": "elsewhere.db"}).exit_code == 0
    failed(run("list", "organizations"), 1, "^Error: there is no database vserver.db: create it with: vserver init$")
    assert not Path("vserver.db").exists()


# Lists


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.plural)
def test_each_entity_can_be_listed_by_both_of_its_names(model: Any, example: Path) -> None:
    many, one = run("list", model.plural), run("list", model.noun.upper())
    assert many.exit_code == 0 and many.stdout == one.stdout
    assert many.stdout.splitlines()[0].split()[0] == "id"
    rows = json.loads(run("list", model.plural, "-o", "json", "--all").stdout)
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))


def test_the_help_names_every_entity() -> None:
    for command in ("list", "show"):
        text = " ".join(run(command, "--help").stdout.split())
        assert all(model.noun in text for model in models.ENTITIES)


def test_the_help_at_a_narrow_terminal_has_whole_sentences() -> None:
    text = run("--help").stdout  # as wide as a terminal of 80 columns
    assert "commands, fields, names and files." in " ".join(text.split()) and max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("columns", [80, 200])
def test_a_table_fits_the_terminal(columns: int, example: Path) -> None:
    seen = Seen("list", "tasks", "--limit", "10", columns=columns)
    lines = seen.text.splitlines()
    assert seen.status == 0 and len(lines) == 14
    assert max(map(cell_len, lines)) <= columns
    assert ("initiator" in lines[0]) is (columns == 200)
    assert lines[-2].startswith("1–10 of 24 tasks")  # noqa: RUF001  # a dash, as it is shown
    assert lines[-1] == "14 more: --page 2, or --all; --newest begins with the newest"


def test_a_pipe_gets_120_columns_and_no_colours(example: Path) -> None:
    done = run_apart("list", "tasks")
    assert 110 <= max(map(cell_len, done.stdout.splitlines())) <= 120 and "\x1b" not in done.stdout
    assert max(map(cell_len, run_apart("list", "tasks", env={"COLUMNS": "90"}).stdout.splitlines())) <= 90


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colours_at_a_terminal_can_be_turned_off(env: dict[str, str], example: Path) -> None:
    assert "\x1b[32m" in Seen("list", "tasks").raw
    plain = Seen("list", "tasks", **env)
    assert "\x1b" not in plain.raw and "✓ completed" in plain.text


def test_pages_lead_through_a_list(example: Path) -> None:
    first, last = run("list", "tasks", "--limit", "20"), run("list", "tasks", "--limit", "20", "--page", "2")
    assert first.stderr.startswith("4 more: --page 2, or --all; --newest") and last.stderr == ""
    assert [line.split()[0] for line in last.stdout.splitlines()[2:-1]] == ["21", "22", "23", "24"]
    assert run("list", "tasks", "--all").stderr == "" and len(run("list", "tasks", "--all").stdout.splitlines()) == 27


def test_a_page_past_the_end_is_empty_with_a_message(example: Path) -> None:
    result = run("list", "tasks", "--page", "3", "-o", "json")
    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert result.stderr == "there is no page 3: the last page is 1\n"


def test_a_list_shows_50_rows_by_default(example: Path) -> None:
    assert "1–50 of 69 results" in run("list", "results").stdout and options.PAGE_SIZE == 50  # noqa: RUF001
    assert "[default: 50 in a table, else all]" in " ".join(run("list", "--help").stdout.split())


@pytest.mark.parametrize("words", [["--all"], []])
def test_an_empty_list_has_a_message_on_stderr(words: list[str]) -> None:
    run("init")
    for output, data in (("json", "[]\n"), ("table", "")):
        result = run("list", "nodes", "-o", output, *words)
        assert (result.exit_code, result.stdout, result.stderr) == (0, data, "no nodes\n")


def test_json_is_alone_on_stdout(example: Path) -> None:
    result = run("list", "tasks", "-o", "json", "--limit", "2")
    rows = json.loads(result.stdout)
    assert rows[0]["created_at"] == "2026-02-02T09:14:05Z" and rows[0]["complete"] is True
    assert "22 more" in result.stderr
    shown = json.loads(run("show", "task", "1", "-o", "json").stdout)
    assert shown == {**rows[0], "related": shown["related"]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list", "taks"], 'no entity "taks"; did you mean "task'),
        (["show", "taks", "1"], 'no entity "taks"; did you mean "task'),
        (["lst"], 'no command "lst"; did you mean "list"'),
        (["list", "tasks", "--pge", "2"], "No such option '--pge'.*--page"),
        (["-x"], "No such option '-x'"),
        (["list"], "Missing argument 'ENTITY'"),
        (["list", "tasks", "-o", "xml"], "'xml' is not one of 'table', 'json'"),
        (["list", "tasks", "--limit", "0"], "'--limit': 0 is not in the range x>=1"),
        (["list", "tasks", "--page", "-1"], "'--page': -1 is not in the range x>=1"),
        (["list", "tasks", "--limit", "9" * 30], "--limit and --page take at most 1,000,000,000"),
        (["list", "tasks", "--page", str(10**9 + 1)], "--limit and --page take at most 1,000,000,000"),
        (["list", "tasks", "--limit", "many"], "'--limit': 'many' is not a valid integer"),
        (["undo", "9" * 30], "9+ is not in the range 1<=x<=1000000000"),
        (["demo", "--tasks", "0"], "'--tasks': 0 is not in the range"),
        (["list", "tasks", "--all", "--page", "2"], "--all .*: leave out --limit and --page"),
    ],
)
def test_a_typing_mistake_ends_with_status_2(words: list[str], expected: str, example: Path) -> None:
    failed(run(*words), 2, expected)


# Fields of a list


def test_fields_are_listed_in_the_order_of_the_option(example: Path) -> None:
    done = run("list", "tasks", "--fields", "id,initiator.country,complete", "--limit", "2", "-o", "json")
    assert json.loads(done.stdout) == [
        {"id": 1, "initiator.country": "Netherlands", "complete": True},
        {"id": 2, "initiator.country": "Netherlands", "complete": True},
    ]
    table = run("list", "tasks", "--fields", "name,id,image,description,created_at", env={"COLUMNS": "60"}).stdout
    assert table.splitlines()[0].split() == ["name", "id", "image", "description", "created_at"]
    assert max(map(cell_len, table.splitlines())) <= 60


def test_fields_help_lists_all_fields_without_a_database() -> None:
    done = run("list", "tasks", "--fields", "help")
    expected = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"id", "progress", "initiator_id", "results", "children"} <= set(expected) and done.exit_code == 0
    assert "initiator.…" in done.stderr and not os.listdir()
    rows = json.loads(run("list", "task", "--fields", "help", "-o", "json").stdout)
    assert rows[0] == {"field": "id", "type": "integer", "about": "set at the first save, never reused"}
    assert run("list", "tasks", "--fields", "id", "--where", "id=1").exit_code == 1  # but a list needs one


def test_wide_shows_all_columns_uncut(example: Path) -> None:
    done = run("list", "users", "--wide", env={"COLUMNS": "40"})
    lines = done.stdout.splitlines()
    assert {"last_seen", "status", "ip", "email", "roles"} <= set(lines[0].split())
    assert "katharina.oeztuerk@klinikum-gruenwalde.example" in done.stdout and "…" not in done.stdout
    assert cell_len(lines[1]) > 100
    assert "parent" not in run("list", "tasks", "--wide").stdout.splitlines()[0].split(), "not what no table shows"


def test_the_names_of_a_list_are_arguments_of_other_commands(example: Path) -> None:
    words = run("list", "tasks", "--where", "status=failed", "-o", "name").stdout.split()
    assert len(words) == 6 and run("wait", *words).exit_code == 1
    assert json.loads(run("show", words[0], "-o", "json").stdout)["status"] == "failed"
    assert run("show", "task", words[0]).exit_code == 0
    assert run("apikey", "node/1").exit_code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("list tasks --fields=", '"" names no field'),
        ("list tasks --wide --fields id", "--wide is for a table"),
        ("list tasks --wide -o json", "--wide is for a table"),
        ("list tasks -o name --fields id", "-o name prints arguments"),
        ("list tasks --fields id,nmae", 'did you mean "name"'),
        ("show task", "which task? Give an id or a name"),
        ("show taks/3", 'no entity "taks"'),
        ("list tasks -o xml", "'xml' is not one of"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(words: str, expected: str, example: Path) -> None:
    done = run(*words.split())
    assert (done.exit_code, done.stdout) == (2, "") and expected in done.stderr


def test_one_word_names_one_entity(example: Path) -> None:
    assert run("show", "organization/2").stdout == run("show", "organization", "2").stdout
    done = run("show", "task/999")
    assert (done.exit_code, done.stderr) == (1, "Error: no task 999\n")
    assert run("show", "task/x").stderr == 'Error: no task "task/x"\n'


# One entity


@pytest.mark.parametrize("columns", [80, 200])
def test_a_panel_fits_the_terminal(columns: int, example: Path) -> None:
    seen = Seen("show", "organization", "Kankerregister Noord", columns=columns)
    lines = seen.text.splitlines()
    assert seen.status == 0 and max(map(cell_len, lines)) <= columns
    assert lines[0].startswith('╭─  organization 1 "Kankerregister Noord"') and lines[-1].startswith("╰")
    assert all(line.startswith("│") and line.endswith("│") for line in lines[1:-1])


def test_show_takes_an_id_a_name_or_a_user_name(example: Path) -> None:
    assert run("show", "organizations", "3").stdout == run("show", "organization", "Klinikum Grünwalde").stdout
    assert run("show", "user", "anna.devries", "-o", "json").stdout == run("show", "user", "1", "-o", "json").stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "task", "99"], "^Error: no task 99$"),
        (["show", "user", "anna.devris"], '^Error: no user "anna.devris"; did you mean "anna.devries"\\?$'),
        (["show", "task", "Missing values"], '^Error: several tasks are called "Missing values": give the id'),
        (["passwd", "anna.devris", "--stdin"], '^Error: no user "anna.devris"; did you mean "anna.devries"\\?$'),
        (["apikey", "77"], "^Error: no node 77$"),
        (["show", "node", "a\x1b[2Jb\n"], r'^Error: no node "a\\x1b\[2Jb\\n"$'),
    ],
)
def test_a_missing_entity_ends_with_status_1_and_a_similar_name(words: list[str], expected: str, example: Path) -> None:
    failed(run(*words, given="x"), 1, expected)


def test_show_and_list_never_print_a_secret(example: Path) -> None:
    for entity in ("user", "node"):
        for result in (run("show", entity, "1"), run("show", entity, "1", "-o", "json"), run("list", entity, "--all")):
            assert "$2b$" not in result.output and "password" not in result.output and "api_key" not in result.output


def test_list_and_show_leave_the_file_and_its_folder_as_they_were(example: Path) -> None:
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    for words in (["list", "tasks"], ["list", "tasks", "-o", "json", "--all"], ["show", "task", "1"]):
        assert run(*words).exit_code == 0
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_list_and_show_open_the_database_read_only(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, bool]] = []
    connect = opener.connect
    monkeypatch.setattr(opener, "connect", lambda url, **how: (opened.append(how), connect(url, **how))[1])
    run("list", "tasks")
    run("show", "task", "1")
    run("apikey", "1")
    assert [how["read_only"] for how in opened] == [True, True, False]


def test_rows_that_another_process_has_committed_are_seen(example: Path) -> None:
    with closing(sqlite3.connect(example)) as other:
        other.execute("INSERT INTO organization (name) VALUES ('just made')")
        other.commit()
        assert "just made" in run("list", "organizations").stdout


# Passwords and keys


def check(username: str, password: str) -> bool:
    with closing(models.connect("vserver.db")):
        return bool(models.User.get_by_username(username).check_password(password))


def test_passwd_takes_one_line_from_stdin(example: Path) -> None:
    result = run("passwd", "anna.devries", "--stdin", given="Geheim 1234! \n")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == 'user 1 "anna.devries" has a new password\n'
    assert check("anna.devries", "Geheim 1234! ") and not check("anna.devries", "Demo-Anna-1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "User.password is empty"),
        ("\n", "User.password is empty"),
        ("one\ntwo\n", "--stdin takes one line, not 2"),
        ("é" * 37, "User.password is 74 bytes long, bcrypt takes 72"),
        ("********", "User.password is a mask"),
        (b"\xff\n", "not UTF-8"),
    ],
)
def test_an_invalid_password_changes_nothing(given: str | bytes, expected: str, example: Path) -> None:
    before = example.read_bytes()
    failed(run("passwd", "anna.devries", "--stdin", given=given), 1, expected)
    assert example.read_bytes() == before


def test_passwd_asks_twice_and_shows_nothing(example: Path) -> None:
    command = [sys.executable, "-m", "vserver", "passwd", "anna.devries"]
    terminal = Terminal(command, environment(Path.cwd()), 80, 24)
    for times, typed in enumerate(("Geheim-1234!", "another-one", "Geheim-1234!", "Geheim-1234!"), 1):
        terminal.wait_for_secret(r"(New password for user 1 \"anna.devries\"|Repeat the password):", times)
        terminal.send(f"{typed}\r")
    terminal.wait_for("has a new password")
    terminal.child.close()
    assert "do not match" in terminal.text and "Geheim" not in terminal.raw
    assert check("anna.devries", "Geheim-1234!")


def test_passwd_without_a_terminal_says_what_to_do(example: Path) -> None:
    failed(run("passwd", "anna.devries", given="secret\nsecret\n"), 1, "no terminal to type the password.*--stdin")


@pytest.mark.parametrize("node", ["7", "青葉がんセンター (Aoba) - Lung cancer screening 肺がん検診 Node"])
def test_apikey_prints_a_new_key_alone(node: str, example: Path) -> None:
    result = run("apikey", node)
    key = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", key)
    assert "has a new API key" in result.stderr and key not in result.stderr
    with closing(models.connect("vserver.db")):
        assert models.Node.get_by_api_key(key).id == 7  # the old key is gone: there is one hash per node


def test_a_key_that_could_not_be_printed_is_not_stored(example: Path) -> None:
    assert to_full_disk("apikey", "7") == (1, FULL)
    with closing(models.connect("vserver.db")):
        assert models.Node.get(7).check_key("00000000-0000-4000-8000-000000000007")


# The shell, and Python run by it


def test_code_files_and_pipes_run_as_python(example: Path) -> None:
    code = "print(len(db.Task.get()), __name__)"
    Path("script.py").write_text(code)
    for done in (
        run_apart("shell", "-c", code),
        run_apart("shell", "script.py"),
        run_apart("shell", given=code),
        run_apart("shell", "-", given=code),
    ):
        assert (done.returncode, done.stdout, done.stderr) == (0, "24 __main__\n", "")


def test_an_exception_in_a_script_ends_with_status_1_and_a_traceback_on_stderr(example: Path) -> None:
    done = run_apart("shell", "-c", "print('before')\n1 / 0\nprint('after')")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert run_apart("shell", "-c", "import sys; sys.exit(3)").returncode == 3


def test_a_script_can_change_the_database(example: Path) -> None:
    assert run_apart("shell", "-c", "db.Organization(name='made').save()").returncode == 0
    assert "made" in run("list", "organizations").stdout


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "script.py: No such file or directory"),
        (b"\0\1\2", "script.py is not Python"),
        (b"\xff\xfe", "script.py is not Python"),
        (b"# coding: klingon\n", "script.py is not Python"),
    ],
)
def test_a_file_that_is_not_python_is_one_clear_line(content: bytes | None, expected: str, example: Path) -> None:
    if content is not None:
        Path("script.py").write_bytes(content)
    failed(run("shell", "script.py"), 1, f"^Error: {expected}")


def test_a_file_can_declare_another_encoding(example: Path) -> None:
    Path("script.py").write_bytes("# coding: latin-1\nprint('é' == chr(233))".encode("latin-1"))
    assert run_apart("shell", "script.py").stdout == "True\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-d", "vserver.db", "shell", "--demo"], "--demo and -d .*: choose one"),
        (["shell", "-c", "pass", "script.py"], "-c and FILE .*: choose one"),
        (["shell", "--read-only", "--sandbox"], "--read-only and --sandbox exclude each other"),
    ],
)
def test_options_that_exclude_each_other_end_with_status_2(words: list[str], expected: str, example: Path) -> None:
    failed(run(*words), 2, expected)


def test_only_the_default_database_is_created_without_init() -> None:
    for words in (["-d", "vserver.db", "shell"], ["shell", "--read-only"], ["shell", "--sandbox"], ["list", "tasks"]):
        failed(run(*words, *(["-c", "pass"] if "shell" in words else [])), 1, "there is no database vserver.db")
        assert not Path("vserver.db").exists()
    done = run_apart("shell", "-c", "print(len(db.Task.get()))")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "created a new database, vserver.db\n")
    assert run_apart("shell", "-c", "pass").stderr == ""


def test_each_demo_is_a_private_copy() -> None:
    done = run_apart("shell", "--demo", "-c", "db.Task.get(1).delete(dependents=True); print(len(db.Task.get()))")
    assert (done.returncode, done.stdout) == (0, "23\n")
    assert run_apart("shell", "--demo", "-c", "print(len(db.Task.get()))").stdout == "24\n"
    assert list(Path().glob("*.db*")) == []


def test_the_demo_can_be_read_only_and_ignores_the_environment() -> None:
    env = {"VSERVER_DATABASE": "none.db"}
    done = run_apart("shell", "--demo", "--read-only", "-c", "db.Task.get(1).delete(dependents=True)", env=env)
    assert done.returncode == 1 and "demo is open read-only" in done.stderr


def test_a_read_only_session_changes_nothing(example: Path) -> None:
    done = run_apart("shell", "--read-only", "-c", "db.Organization(name='x').save()")
    assert done.returncode == 1 and "open read-only" in done.stderr.splitlines()[-1]
    assert len(json.loads(run("list", "organizations", "-o", "json").stdout)) == 5


SANDBOX = """
new = db.Organization(name="x")
new.save()
db.Collaboration(name="c", organizations=[new, db.Organization.get(1)]).save()
task = db.Task.get(1)
task.name = "changed"
task.save()
db.Task.get(24).delete()
"""


def test_a_sandbox_reports_at_its_end_what_would_have_changed(example: Path) -> None:
    done = run_apart("shell", "--sandbox", "-c", SANDBOX)
    expected = "added 1 organization, 1 collaboration, 2 memberships; changed 1 task; deleted 1 task"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"sandbox: would have {expected}\n")
    assert len(json.loads(run("list", "organizations", "-o", "json").stdout)) == 5
    done = run_apart("shell", "--sandbox", given="print(1); 1 / 0")
    assert done.returncode == 1 and done.stderr.endswith("\nsandbox: would have changed nothing\n")


def test_a_sandbox_does_not_report_an_open_transaction(example: Path) -> None:
    code = "db.database.begin(); db.database.execute_sql('DELETE FROM result')"
    assert run_apart("shell", "--sandbox", "-c", code).stderr == "sandbox: would have changed nothing\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_private_copy_is_not_left_behind_by_a_signal(number: signal.Signals, example: Path, tmp_path: Path) -> None:
    place = tmp_path / "private"
    place.mkdir()
    code = "import time; print('ready', flush=True); time.sleep(60)"
    command = [sys.executable, "-m", "vserver", "shell", "--sandbox", "-c", code]
    env = environment(Path.cwd(), TMPDIR=str(place))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        assert len(list(place.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(SECONDS) == -number  # ended by the signal; a shell reports 128 more
    assert list(place.iterdir()) == []


def test_print_sql_prints_the_statements_of_a_script(example: Path) -> None:
    done = run_apart("shell", "--print-sql", "-c", "print(len(db.Task.get()))")
    assert done.stdout == "24\n" and "COUNT" in done.stderr


def test_the_shell_opens_at_a_terminal_and_reports_a_new_database() -> None:
    terminal = Terminal([sys.executable, "-m", "vserver", "shell"], environment(Path.cwd()), 80, 24)
    terminal.wait_for_prompt(1)
    assert "created a new database, vserver.db" in terminal.text and "vserver.db [1]:" in terminal.text
    assert terminal.leave() == 0


def test_a_sandbox_at_a_terminal_reports_after_the_shell(example: Path) -> None:
    command = [sys.executable, "-m", "vserver", "shell", "--sandbox", "-q"]
    terminal = Terminal(command, environment(Path.cwd()), 80, 24)
    terminal.enter('db.Organization(name="x").save()')
    assert terminal.leave() == 0
    assert "sandbox: would have added 1 organization" in terminal.text


def test_the_shell_without_a_terminal_for_its_output_is_one_clear_line(example: Path) -> None:
    ours, theirs = pty.openpty()
    command, env = [sys.executable, "-m", "vserver", "shell"], environment(Path.cwd())
    done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, env=env, check=False, timeout=SECONDS)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("Error: the shell needs a terminal for its output: .*\n", done.stderr)


# Warnings, and strict mode

NOT_OBEYED = "db.Result(task=24, organization=3, status='completed').save(); print('saved')"


def test_a_value_that_is_overruled_is_one_line_on_stderr(example: Path) -> None:
    done = run_apart("shell", "-c", NOT_OBEYED)
    assert (done.returncode, done.stdout) == (0, "saved\n")
    assert re.fullmatch('warning: result .*status "completed" was given, but .*\n', done.stderr)


@pytest.mark.parametrize(("words", "env"), [(["--strict"], {}), ([], {"VSERVER_STRICT": "1"})])
def test_strict_refuses_a_value_that_would_be_overruled(words: list[str], env: dict[str, str], example: Path) -> None:
    done = run_apart(*words, "shell", "-c", NOT_OBEYED, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'status "completed" was given' in done.stderr.splitlines()[-1]
    assert "70" not in [str(row["id"]) for row in json.loads(run("list", "results", "--all", "-o", "json").stdout)]


# Errors


def database_of_another_program() -> None:
    with closing(sqlite3.connect("vserver.db")) as conn:
        conn.execute("CREATE TABLE thing (id)")


def damaged_database() -> None:
    demo.create("vserver.db")
    with closing(sqlite3.connect("vserver.db")) as conn:
        (root,) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'task'").fetchone()
        (size,) = conn.execute("PRAGMA page_size").fetchone()
    with open("vserver.db", "r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Path("vserver.db").mkdir(), "vserver.db is a folder"),
        (lambda: Path("vserver.db").write_text(""), "vserver.db is empty"),
        (lambda: Path("vserver.db").write_text("x" * 5000), "vserver.db is .* SQLite database"),
        (database_of_another_program, "vserver.db is a SQLite database of another program"),
        (damaged_database, "malformed"),
    ],
)
def test_a_file_that_is_not_our_database_is_one_clear_line(make: Any, expected: str) -> None:
    make()
    failed(run("list", "tasks"), 1, f"^Error: .*{expected}")


def test_a_url_is_refused_without_its_password(example: Path) -> None:
    result = run("-d", "postgresql://root:Geheim@host/db", "list", "tasks")
    failed(result, 1, "^Error: ")
    assert "Geheim" not in result.stderr
    failed(run("-d", "", "list", "tasks"), 1, "the name of the database is empty")


def test_debug_prints_the_traceback_of_an_error(example: Path) -> None:
    result = run("--debug", "show", "task", "99")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback") and result.stderr.endswith("Error: no task 99\n")


def test_a_bug_keeps_its_traceback(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "one", lambda *_: 1 / 0)
    assert isinstance(run("show", "task", "1").exception, ZeroDivisionError)


@pytest.mark.parametrize("words", ["list tasks --all", "list tasks --all -o json"])
def test_a_closed_pipe_ends_a_command_quietly(words: str, example: Path) -> None:
    with closing(models.connect(example)):
        models.Task.insert_many([{"name": "x" * 50, "image": "y" * 50}] * 5000).execute()
    command, env = f"{sys.executable} -m vserver {words} | head -n 1", environment(Path.cwd())
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize("words", ["list tasks", "list tasks -o json", "show task 1", "shell -c print(1)"])
def test_a_full_disk_at_stdout_is_one_clear_line(words: str, example: Path) -> None:
    assert to_full_disk(*words.split()) == (1, FULL)


def test_ctrl_c_ends_a_script_with_status_130(example: Path) -> None:
    code = "print('ready', flush=True)\nwhile True: pass"
    command = [sys.executable, "-m", "vserver", "shell", "-c", code]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment(Path.cwd()), **options) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS)[1].endswith(b"KeyboardInterrupt\n")
    assert process.returncode == 130


def test_ctrl_c_at_the_prompt_for_a_password_changes_nothing(example: Path) -> None:
    command = [sys.executable, "-m", "vserver", "passwd", "anna.devries"]
    terminal = Terminal(command, environment(Path.cwd()), 80, 24)
    terminal.wait_for("New password")
    terminal.interrupt()
    while terminal._read(0.2):
        pass
    terminal.child.close()
    assert terminal.child.exitstatus == 130 and "Traceback" not in terminal.text
    assert check("anna.devries", "Demo-Anna-1")


# Help, version, speed


@pytest.mark.parametrize("words", ["--help", "--version", "list --help"])
def test_help_on_a_full_disk_is_one_line(words: str) -> None:
    status, expected = to_full_disk(*words.split())
    assert (status, expected) == (1, FULL)


def test_two_databases_are_a_usage_error(example: Path) -> None:
    result = run("-d", "vserver.db", "-d", "other.db", "list", "tasks")
    assert result.exit_code == 2 and "-d names one database, not several" in result.stderr and not result.stdout


def test_the_option_d_goes_before_the_environment(example: Path, tmp_path: Path) -> None:
    example.rename("with a blank.db")
    env = {"VSERVER_DATABASE": "with a blank.db"}
    assert json.loads(run("show", "task", "1", "-o", "json", env=env).stdout)["id"] == 1
    assert "no database other.db" in run("-d", "other.db", "list", "tasks", env=env).stderr


def test_version_prints_the_version() -> None:
    assert run("--version").stdout == f"vserver {vserver.__version__}\n"


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["list", "-h"], ["shell", "-h"]])
def test_help_has_two_options(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 0 and result.stdout.startswith("Usage: vserver")


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        ("--help", ["peewee", "sqlite3", "rich", "IPython", "models", "bcrypt"]),
        ("list tasks -o json", ["rich", "IPython", "bcrypt", "shell", "psycopg"]),
        ("list tasks", ["IPython", "bcrypt", "rich.table", "rich.panel", "shell", "psycopg"]),
        ("shell -c pass", ["IPython", "bcrypt", "rich", "psycopg"]),
    ],
)
def test_a_command_imports_only_the_libraries_that_it_needs(words: str, absent: list[str], example: Path) -> None:
    code = "import sys, vserver\ntry: vserver.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    command, env = [sys.executable, "-c", code, *words.split()], environment(Path.cwd())
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    loaded = done.stderr.split()
    assert "click" in loaded and not [name for name in absent if name in loaded]


@pytest.mark.parametrize("words", [["help", "list"], ["-d", "x.db", "help", "list"]])
def test_help_is_a_command_too(words: list[str]) -> None:
    assert run(*words).stdout == run("list", "--help").stdout and run("help").stdout == run("--help").stdout
    failed(run("help", "lst"), 2, '"lst"; did you mean "list"')


def test_the_option_d_after_the_command_is_an_error_with_its_right_place() -> None:
    failed(run("list", "tasks", "-d", "x.db"), 2, "-d goes before the command: vserver -d …")


def test_names_of_newer_servers_are_explained() -> None:
    failed(run("list", "runs"), 2, "the run of vantage6 4 is the result here")


def test_a_file_can_be_named_by_a_url(example: Path) -> None:
    failed(run("-d", "sqlite:///vserver.db", "demo"), 1, "has entities already")


def test_a_command_leaves_no_database_open(example: Path) -> None:
    for words in (["list", "tasks"], ["show", "task", "1"], ["show", "task", "99"], ["apikey", "1"]):
        run(*words)
        assert models.database.is_closed()
    assert example.name == storage.DEFAULT


@pytest.mark.parametrize("words", ["list tasks", "overview", "list tasks -o json", "--help"])
def test_a_closed_stdout_is_one_clear_line(words: str, example: Path) -> None:
    command, env = f"{sys.executable} -m vserver {words} >&-", environment(Path.cwd())
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "stdout is closed" in done.stderr
