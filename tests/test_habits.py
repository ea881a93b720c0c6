"""What people type from habit, from other programs, is answered with our line, in one line and with status 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.process import vserver
from helpers.terminal import environment

import vserver as program

KINDS = ["sqlite"]  # it is about the command line


def answered(*words: str) -> str:
    """Return the answer to a line, in this process: one test below starts the program."""
    done = CliRunner().invoke(program.main, words, prog_name="vserver")
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ") and "restore" not in last
    return last


def test_the_program_answers_in_one_line_with_status_2() -> None:
    for typed, line in {
        "users list": 'no command "users": use vserver list users',
        "create user anna --password geheim": "a field is written FIELD=VALUE: vserver create user anna",
        "users password=geheim": 'no command "users": vserver --help lists them',
        "list users password=geheim": "Got unexpected extra argument (password=)",
        "list tasks status=failed": "a filter goes after --where: vserver list tasks --where status=failed",
    }.items():
        done = vserver(*typed.split())
        assert (done.status, done.out, done.err.splitlines()[-1]) == (2, "", f"Error: {line}")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("ls", "vserver list ENTITY"),
        ("ls -l", "vserver list ENTITY --wide"),
        ("ls -la tasks", "vserver list tasks --wide"),
        ("LS tasks", "vserver list tasks"),
        ("get tasks", "vserver list tasks"),
        ("get task 1", "vserver show task 1"),
        ("get task/1", "vserver show task/1"),
        ("describe task 1", "vserver show task 1"),
        ("describe", "vserver show ENTITY ID"),
        ("rm task 5", "vserver delete task 5"),
        ("rm -rf task 5", "vserver delete task 5"),
        ("tasks", "vserver list tasks"),
        ("task 5", "vserver show task 5"),
        ("apply plan.yaml", "vserver import plan.yaml --merge"),
        ("status", "vserver overview"),
        ("version", "vserver --version"),
        ("users list", "vserver list users"),
        ("user", "vserver list users"),
        ("user create anna email=x", "vserver create user anna email=x"),
        ("organization show 1", "vserver show organization 1"),
        ("task/5", "vserver show task/5"),
        ("task 3 why", "vserver why 3"),
        ("tasks failed", "vserver list tasks --where status=failed"),
        ("tasks --where status=failed --limit 2", "vserver list tasks --where status=failed --limit 2"),
        ("failed", "vserver list tasks --where status=failed"),
        ("search foo", "vserver list ENTITY --search foo"),
        ("find tasks x", "vserver list tasks --search x"),
        ("select * from users where email~x", "vserver list users --where 'email~x'"),
        ("update user anna email=x", "vserver set user anna email=x"),
        ("update user 3 set email = x", "vserver set user 3 email=x"),
        ("update user anna password=geheim", "vserver passwd anna"),
        ("user create anna --password geheim", "vserver create user anna"),
        ("rename organization Oslo Bergen", "vserver set organization Oslo name=Bergen"),
        ("add organization Oslo to collaboration 1", "vserver set collaboration 1 organizations+=Oslo"),
        ("remove organization Oslo from collaboration 1", "vserver set collaboration 1 organizations-=Oslo"),
        ("kill 3", "vserver fail 3"),
        ("stop", "vserver fail RESULT"),
        ("cancel task 3", "vserver list results --where task.id=3 --where complete=false"),
        ("logs 3", "vserver show result 3"),
        ("explain 3", "vserver why 3"),
        ("password anna", "vserver passwd anna"),
        ("use other.db", "vserver -d other.db shell"),
        ("use postgresql://me:secret@host/db", "vserver -d postgresql://me@host/db shell"),
        ("vserver list tasks", "vserver list tasks"),
        ("createsuperuser", "vserver create user NAME organization=… roles=root"),
        ("-d other.db ls users", "vserver -d other.db list users"),
        ("-d postgresql://me:secret@host/db ls users", "vserver -d postgresql://me@host/db list users"),
    ],
)
def test_a_command_of_another_program_is_answered_with_ours(typed: str, line: str) -> None:
    answer = answered(*typed.split())
    assert answer.endswith(f": use {line}") and "geheim" not in answer and "secret@" not in answer


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("retry 3", ": vserver run IMAGE METHOD posts a new task; vserver why 3 explains this one"),
        ("shwo task 1", '; did you mean "show"?'),
        ("lst tasks", '; did you mean "list"?'),
        ("exprot x.db", '; did you mean "export"?'),
        *((word, ": vserver --help lists them") for word in ("whoami", "login", "mv", "lock", "failover", "rename9")),
    ],
)
def test_an_unknown_command_suggests_no_other_one_at_random(typed: str, remedy: str) -> None:
    assert answered(*typed.split()) == f'Error: no command "{typed.split()[0]}"{remedy}'


@pytest.mark.parametrize("typed", ["add", "new", "insert"])
def test_creating_is_answered_with_a_command_that_exists(typed: str) -> None:
    assert answered(typed, "user", "anna").partition(": use ")[2] == "vserver create user anna"


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("list tasks --json", "--json is written -o json here"),
        ("list users --json id,username", "--json is written -o json --fields id,username here"),
        ("show task 1 --json id,name", "--json is written -o json here"),
        ("list", "Missing argument 'ENTITY': one of organizations, users, collaborations, nodes, tasks, results"),
        ("list tasks --csv", "--csv is written -o csv here"),
        ("list tasks --format json", "-o json, -o jsonl"),
        ("list tasks -f json", "-o json, -o jsonl"),
        ("show task 1 --json", "-o json"),
        ("overview --yaml", "-o yaml"),
        ("--json list tasks", "vserver list tasks -o json"),
        ("-f other.db list tasks", "vserver -d …"),
        ("list tasks -l", "--wide"),
        ("list tasks --filter status=failed", "--where"),
        ("delete task 1 -f", "--yes"),
        ("backup -f", "--force"),
        ("init other.db", "vserver -d other.db init"),
        ("init folder/name", "vserver -d folder/name init"),
        ("overview other.db", "vserver -d other.db overview"),
        ("overview postgresql://me:secret@host/db", "vserver -d postgresql://me@host/db overview"),
        ("run report.py", "run posts a task; a script runs with: vserver shell report.py"),
        ("run --demo report.py", "vserver shell report.py"),
        ("list tasks -d other.db", "vserver -d …"),
        ("list tasks --no-pager", "vserver --no-pager …"),
        ("create organization --name Oslo", "FIELD=VALUE: vserver create organization Oslo"),
        ("create organization --name=Oslo --country Norway -o json", "create organization Oslo country=Norway -o json"),
        ("create organization Oslo --zip-code 3", "create organization Oslo zipcode=3"),
        ("create user anna --password geheim --email x", "FIELD=VALUE: vserver create user anna email=x"),
        ("create node --organization 1 --dry-run", "FIELD=VALUE: vserver create node organization=1 --dry-run"),
        ("set user anna --email x", "FIELD=VALUE: vserver set user anna email=x"),
        ("set user/3 --email=x", "FIELD=VALUE: vserver set user/3 email=x"),
        ("set user anna --password geheim", "a secret is never an argument: vserver passwd anna"),
        ("set node 3 --api-key=geheim", "a secret is never an argument: vserver apikey 3"),
        ("--name=Oslo", "--name is a field, which goes after a command: vserver create ENTITY name=…"),
        ("--password=geheim", "No such option '--password'"),
        ("list tasks status=failed name~x", "list tasks --where status=failed --where 'name~x'"),
        ("list tasks where status=failed", "a filter goes after --where: vserver list tasks --where status=failed"),
        ("list tasks --status failed", "a filter goes after --where: vserver list tasks --where status=failed"),
        ("list failed tasks", "a filter goes after --where: vserver list tasks --where status=failed"),
        ("list users anna --limit 2", "vserver list users --search anna --limit 2"),
        ("list tasks --limt 3", "--limt"),
        ("log task 3", "vserver log --entity tasks --id 3"),
        ("show users", "which user? Give an id or a name, or user/12; see: vserver list users"),
        ("delete task", "which task? Give an id or a name, or task/12; see: vserver list tasks"),
        ("show org 1", 'no entity "org"; did you mean "organization"?'),
        ("list orgs", 'no entity "orgs"; did you mean "organizations"?'),
        ("set user anna email x", "write FIELD=VALUE, such as email=x"),
        ("set task 3 status failed", "status of a task cannot be set: it is computed"),
    ],
)
def test_an_option_of_another_program_is_answered_with_ours(typed: str, answer: str) -> None:
    line = answered(*typed.split())
    assert answer in line and "secret@" not in line and "geheim" not in line


def test_untrusted_words_are_escaped() -> None:
    assert "\x1b" not in answered("ls", "\x1b[31mtasks") + answered("\x1b[31mls") + answered("init", "\x1b[31m.db")


# Filters that a shell has torn apart


def in_a_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell, as a person types it."""
    line = line.replace("vserver", f"'{sys.executable}' -m vserver", 1)
    env = environment(folder)
    return subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("line", "file", "filter_"),
    [
        ("vserver list tasks --where created_at>-7d", "-7d", "'created_at>-7d'"),
        ("vserver list tasks --where created_at>7d -o json > out.json", "7d", "'created_at>7d'"),
        ("vserver list tasks --where finished_at>=2026-02-03", "=2026-02-03", "'finished_at>=2026-02-03'"),
        ("vserver list --where results>2 tasks", "2", "'results>2'"),
        ("vserver list tasks --where progress>0.5", "0.5", "'progress>0.5'"),
        ("vserver prune tasks --where finished_at>90d --yes", "90d", "'finished_at>90d'"),
        ("vserver delete tasks --where id>2 --yes", "2", "'id>2'"),
    ],
)
def test_an_unquoted_greater_than_is_noticed_by_its_file(line: str, file: str, filter_: str, example: Path) -> None:
    done = in_a_shell(line, example.parent)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert f"--where {filter_}" in done.stderr and f"created the file {file}:" in done.stderr
    assert (example.parent / file).stat().st_size == 0
    in_a_shell(done.stderr.rpartition(": ")[2], example.parent)  # the remedy
    assert not (example.parent / file).exists()
    assert vserver("list", "tasks", "-o", "name", cwd=example.parent).out.count("\n") == 24
    quoted = f"vserver list tasks --where {filter_}"
    assert in_a_shell(quoted, example.parent).returncode == 0


def test_a_filter_without_an_operator_is_noticed_without_its_file(example: Path) -> None:
    for line in ("vserver list tasks --where created_at", "vserver list tasks --where created_at > out.txt"):
        done = in_a_shell(line, example.parent)
        assert done.returncode == 2 and '"created_at" is not a filter' in done.stderr
        assert "--where 'created_at>-7d'" in done.stderr and "out.txt" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("--where name=Cox regression", "'name=Cox regression'"),
        ("--where name ~ cox", "'name ~ cox'"),
        ("--where status != failed", "'status != failed'"),
        ("--where status = failed --limit 2", "'status = failed'"),
        ("--where collaboration=Rare tumours [pilot] -o json", "'collaboration=Rare tumours [pilot]'"),
    ],
)
def test_a_filter_torn_at_its_spaces_is_answered_with_quotes(typed: str, quoted: str, example: Path) -> None:
    done = in_a_shell(f"vserver list tasks {typed}", example.parent)
    assert done.returncode == 2 and done.stdout == "" and f"--where {quoted}" in done.stderr.splitlines()[-1]


def test_whole_filters_are_as_before(example: Path) -> None:
    for given in ("name=", "name>", "status=failed", "name~cox", " id = 1 "):
        assert vserver("list", "tasks", "--where", given, cwd=example.parent).status == 0, given
