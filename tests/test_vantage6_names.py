"""What a vantage6 server calls what is called otherwise here: messages say so, and nothing of a server is forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from helpers.process import PROGRAM, answers, vserver
from helpers.terminal import ROOT, Terminal, environment

import models
from vserverlib import vantage6_names

KINDS = ["sqlite"]  # it is about words
HERE = {model._meta.table_name: set(model._meta.combined) for model in models.ENTITIES}
DATABASES = sorted((ROOT / "tests" / "data").glob("v*.sqlite"))
IN_AUTHENTICATABLE = {"type"}


@pytest.mark.parametrize("path", DATABASES, ids=lambda path: path.stem)
def test_each_table_and_column_of_a_server_is_here_or_has_its_message(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {table: [row[1] for row in conn.execute(f'PRAGMA table_info("{table}")')] for table in tables}
    for table, names in columns.items():
        known = vantage6_names.ENTITIES.get(table.casefold())
        entity = known.here if known else table
        assert entity in HERE or table == "Member" or vantage6_names.entity(table), table
        for name in names if entity in HERE else []:
            assert name in HERE[entity] or vantage6_names.field(entity, name), (table, name)


def test_what_stands_here_for_something_is_there() -> None:
    for known in vantage6_names.ENTITIES.values():
        assert known.here in {"", *HERE}
    for noun, names in vantage6_names.FIELDS.items():
        model = next(model for model in models.ENTITIES if model.noun == noun)
        for name, known in names.items():
            assert name not in HERE[noun] and not hasattr(model, name), (noun, name)
            assert not known.here or hasattr(model, known.here), (noun, name)


RUN = "the run of vantage6 4 is the result here"
JOB = "job_id of vantage6 4 is run_id here"
RUNS = "runs of vantage6 4 is results here"
ROLES = (
    "vantage6 has it since release 2, vserver does not store it; the names of a user's roles are the text user.roles"
)
GONE = "vantage6 has it since release 4, vserver does not store it"

SAID = {
    "db.Run": f'NoSuchName: db has no "Run": {RUN}',
    "db.runs": f'NoSuchName: db has no "runs": {RUN}',
    "db.Role": f'NoSuchName: db has no "Role": {ROLES}',
    "db.Rule": f'NoSuchName: db has no "Rule": {ROLES}',
    "db.Study": f'NoSuchName: db has no "Study": {GONE}',
    "db.studies": f'NoSuchName: db has no "studies": {GONE}',
    "db.Taks": 'NoSuchName: db has no "Taks"; did you mean "Task"?',
    "db.Task.get(1).runs": f'AttributeError: Task has no attribute "runs": {RUNS}',
    "db.Task.get(1).job_id": f'AttributeError: Task has no attribute "job_id": {JOB}',
    "db.Task.job_id": f'AttributeError: Task has no attribute "job_id": {JOB}',
    "db.Task.get(1).study": f'AttributeError: Task has no attribute "study": {GONE}',
    "db.Task.get(1).init_org": "AttributeError: Task has no attribute \"init_org\": init_org of vantage6 4 is "
    "initiator here",
    "db.Organization.get(1).runs": f'AttributeError: Organization has no attribute "runs": {RUNS}',
    "db.Task.get(1).job_id = 3": f'UsageError: Task has no field "job_id": {JOB}',
    "db.Task(job_id=3)": f'UsageError: Task has no field "job_id": {JOB}',
    "db.Task.get(job_id=3)": f'UsageError: Task has no field "job_id": {JOB}',
    "db.Task.where(job_id=3)": f'UsageError: task has no field "job_id": {JOB}',
    "db.Task.where('job_id=3')": f'UsageError: task has no field "job_id": {JOB}',
    "db.Task.where('init_org.name=x')": 'UsageError: task has no link "init_org": init_org of vantage6 4 is '
    "initiator here",
    "db.Task.sort('-job_id')": f'UsageError: task has no field "job_id": {JOB}',
    "db.Task.exists('job_id', 3)": f'UsageError: Task has no field "job_id": {JOB}',
    "db.log('runs')": f'UsageError: no entity "runs": {RUN}',
}  # fmt: skip


@pytest.mark.parametrize("way", ["-c", "prompt"])
def test_a_name_of_a_servers_says_what_stands_here_for_it(way: str, tmp_path: Path) -> None:
    vserver("-d", tmp_path / "x.db", "init", "--demo")
    found = answers({code: code for code in SAID}, tmp_path / "x.db", tmp_path, way=way)
    assert {code: text.strip() for code, text in found.items()} == SAID


def test_a_name_that_is_not_defined_says_so_too(tmp_path: Path) -> None:
    lines = {
        "Run.get(1)": f"error: name 'Run' is not defined: {RUN}",
        "run.log": f"error: name 'run' is not defined: {RUN}",
        "Role": f"error: name 'Role' is not defined: {ROLES}",
        "result.result": "error: name 'result' is not defined: give it a value first, result = db.Result.get(1)",
        "db.Task.select().where(db.Task.job_id == 3)": f'error: Task has no attribute "job_id": {JOB}',
        "db.Run": f'error: db has no "Run": {RUN}',
    }
    terminal = Terminal([*PROGRAM, "shell", "--demo", "-q"], environment(tmp_path), columns=200)
    for line, output in lines.items():
        assert terminal.enter(line).splitlines() == [output, f"  {line}"]
    assert "NameError: name 'nowhere' is not defined" in terminal.enter("nowhere")
    terminal.leave()
    ended = vserver("shell", "--demo", "-q", "-c", "Run.get(1)")
    assert ended.status == 1 and ended.err.splitlines()[-2:] == ["NameError: name 'Run' is not defined", RUN]


COMMANDS = {
    ("list", "runs"): f'no entity "runs": {RUN}',
    ("list", "roles"): f'no entity "roles": {ROLES}',
    ("show", "run", "3"): f'no entity "run": {RUN}',
    ("delete", "run", "3"): f'no entity "run": {RUN}',
    ("log", "--entity", "runs"): f'no entity "runs": {RUN}',
    ("list", "tasks", "--where", "job_id=3"): f'task has no field "job_id": {JOB}',
    ("list", "tasks", "--where", "runs>1"): f'task has no field "runs": {RUNS}',
    ("list", "tasks", "--fields", "id,job_id"): f'task has no field "job_id": {JOB}',
    ("list", "tasks", "--sort", "-job_id"): f'task has no field "job_id": {JOB}',
    ("list", "organizations", "--fields", "_public_key"): (
        'organization has no field "_public_key": _public_key of vantage6 1 is public_key here'
    ),
}


def test_the_commands_say_so_too(tmp_path: Path) -> None:
    vserver("-d", tmp_path / "x.db", "init", "--demo")
    for words, output in COMMANDS.items():
        ended = vserver("-d", tmp_path / "x.db", *words)
        assert (ended.status, ended.err) == (2, f"Error: {output}\n"), words
