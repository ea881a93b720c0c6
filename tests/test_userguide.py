"""The user guide runs: every statement as printed, in its order, in a fresh database, in each way to give it.

data/user-guide.txt is a copy of the guide. It has no fences: a paragraph of it is code when it is Python, the labels
of its tabs left out. `some-existing-username` stands for a user that exists, and so one does here.
"""

from __future__ import annotations

import ast
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from helpers.terminal import environment, shell_at

import models
import shell

GUIDE = (Path(__file__).parent / "data" / "user-guide.txt").read_text(encoding="utf-8")
LABELS = {"iPython", "Second Tab", "Bash"}  # what the tabs of the page were called
HEADINGS = {"General"}  # the one heading that would be Python, too


def parsed(text: str) -> list[ast.stmt]:
    """Return the statements of a text that is Python, none where it is not."""
    with contextlib.suppress(SyntaxError):
        return ast.parse(text).body
    return []


def blocks() -> list[str]:
    """Return the code of the guide, block by block, as it is printed."""
    paragraphs = (paragraph.splitlines() for paragraph in re.split(r"\n\s*\n", GUIDE))
    texts = ("\n".join(line for line in lines if line not in LABELS | HEADINGS) for lines in paragraphs)
    return [text for text in texts if parsed(text)]


def statements() -> list[str]:
    """Return the code of the guide, statement by statement, as it is printed."""
    return [ast.get_source_segment(block, statement) or "" for block in blocks() for statement in parsed(block)]


SCRIPT = "\n\n".join(blocks()) + "\n"

# What is in the database at the end, ids first. Hashes, and times, which are other ones each time, are left out.
ADDRESS = ("iknl.nl", "Zernikestraat 29", "Eindhoven", "5612HZ", "Netherlands")
IMAGE = "some-docker-registry.domain.org/image-name"
CONTENT = {
    "SELECT id, name, domain, address1, address2, zipcode, country, public_key FROM organization": [
        (1, "IKNL", *ADDRESS, None),
        (2, "IKNL", *ADDRESS, None),
    ],
    'SELECT id, username, firstname, lastname, roles, organization_id, substr(password, 1, 2) FROM "user"': [
        (1, "some-existing-username", "Brandnew", None, None, None, "$2"),
        (2, "root", "John", "Doe", "root", 1, "$2"),
    ],
    "SELECT id, name, encrypted FROM collaboration": [(1, "collaboration-name", 0)],
    "SELECT organization_id, collaboration_id FROM member": [(1, 1), (2, 1)],
    "SELECT id, name, organization_id, collaboration_id, substr(api_key, 1, 2) FROM node": [
        (1, "IKNL Node - Collaboration collaboration-name", 1, 1, "$2")
    ],
    "SELECT id, name, description, image, collaboration_id, run_id, parent_id, database, initiator_id FROM task": [
        (1, "some-name", "some human readable description", IMAGE, 1, 1, None, "default", 1),
        (2, "some-name", "some human readable description", IMAGE, 1, 1, 1, "default", 1),
    ],
    "SELECT COUNT(*) FROM task WHERE created_at IS NULL": [(0,)],
    "SELECT COUNT(*) FROM result": [(0,)],
}

# What it is warned of, in its order: weak passwords, a second organization of the same name, a key that can be guessed.
WARNED = ["USR003", "USR003", "ORG002", "NOD005"]

# What the statements that look something up give, in the order of the guide.
GIVES = {
    "organizations = db.Organization.get()": '[<Organization 1 "IKNL">]',
    "organization = db.Organization.get(1)": '<Organization 1 "IKNL">',
    'organization = db.Organization.get_by_name("IKNL")': '<Organization 1 "IKNL">',
    "collaborations = organization.collaborations": "[]",
    "users = organization.users": "[]",
    "tasks = organization.created_tasks": "[]",
    "results = organization.results": "[]",
    "nodes = organization.nodes": "[]",
    'org = db.Organization.get_by_name("IKNL")': '<Organization 1 "IKNL">',
    "db.User.get()": '[<User 1 "some-existing-username">, <User 2 "root">]',
    "db.User.get(1)": '<User 1 "some-existing-username">',
    'db.User.getByUsername("root")': '<User 2 "root">',
    'db.Organization.get_by_name("IKNL").users': '[<User 2 "root">]',
    'user = db.User.getByUsername("some-existing-username")': '<User 1 "some-existing-username">',
    'iknl = db.Organization.get_by_name("IKNL")': '<Organization 1 "IKNL">',
    "collaboration = db.Collaboration.get(1)": '<Collaboration 1 "collaboration-name">',
    "collaboration.nodes": "[]",
    "collaboration.tasks": "[]",
    "collaboration.organizations": '[<Organization 1 "IKNL">, <Organization 2 "IKNL">]',
    "collab = iknl.collaborations[0]": '<Collaboration 1 "collaboration-name">',
    "run_id = db.Task.next_run_id()": "1",
    "db.Task.get()": '[<Task 1 "some-name">]',
    "db.Task.get(1)": '<Task 1 "some-name">',
    "[task for task in db.Task.get() if task.complete]": "[]",
    "parent_task = db.Task.get(1)": '<Task 1 "some-name">',
    "task = db.Task.get(1)": '<Task 1 "some-name">',
    "db.Result.get()": "[]",
    "[result for result in db.Result.get() if result.complete]": "[]",
    "db.Result.get(1)": "None",
}


# The guide itself


def test_every_statement_of_the_guide_is_found() -> None:
    assert [len(parsed(block)) for block in blocks()] == [2, 3, 6, 3, 4, 4, 5, 4, 6, 5, 3, 3, 1, 3]  # counted by hand
    assert len(statements()) == 52


def test_what_is_left_of_the_guide_has_no_code_in_it() -> None:
    rest = GUIDE
    for block in blocks():
        assert rest.count(block) == 1
        rest = rest.replace(block, "")
    assert {line for line in rest.splitlines() if parsed(line)} == HEADINGS | {"iPython", "Bash"}
    assert not re.search(r"^\s*(\)|#|\w+ ?=)", rest, re.MULTILINE)


def test_every_lookup_of_the_guide_has_an_expected_result() -> None:
    quiet = re.compile(r"\w+ = db\.\w+\(\n|[\w.]+\.save\(\)|from |print|user\.\w+ = ")  # makes, saves, imports, sets
    assert list(GIVES) == list(dict.fromkeys(text for text in statements() if not quiet.match(text)))


# In this process


@pytest.fixture
def someone(database: Any) -> Any:
    """A fresh database with a user `some-existing-username`."""
    models.User(username="some-existing-username").save()
    return database


def dump(database: Any) -> dict[str, list[tuple[Any, ...]]]:
    return {query: [tuple(row) for row in database.execute_sql(f"{query} ORDER BY 1")] for query in CONTENT}


def value_of(statement: str, names: dict[str, Any]) -> Any:
    """Run one statement; return what it gives, or the value of the name that it assigns."""
    (tree,) = parsed(statement)
    if isinstance(tree, ast.Expr):
        return eval(statement, names)
    exec(statement, names)
    target = tree.targets[0] if isinstance(tree, ast.Assign) else None
    return names[target.id] if isinstance(target, ast.Name) else None


def test_each_statement_gives_what_the_guide_says(someone: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = shell.namespace(someone)
    for statement in statements():
        value = value_of(statement, names)
        if statement in GIVES:
            assert repr(value) == GIVES[statement], statement
    assert dump(someone) == CONTENT
    key = capsys.readouterr().out.strip()
    assert UUID(key).version == 1
    assert models.Node.get_by_api_key(key) == names["node"]


def test_the_passwords_of_the_guide_log_in(someone: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(SCRIPT, shell.namespace(someone))
    assert models.User.get_by_username("root").check_password("super-secret")
    assert models.User.get_by_username("some-existing-username").check_password("something-new")


def test_the_guide_runs_as_a_script_of_plain_models(someone: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(f"import models as db\n{SCRIPT}", {})
    assert dump(someone) == CONTENT


def test_the_guide_shows_the_key_that_it_made_to_nobody_later(someone: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(SCRIPT, shell.namespace(someone))
    key = capsys.readouterr().out.strip()
    assert key not in repr(models.Node.get(1)) + str(models.Node.get(1).api_key)


# As a program


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def file(path: Path, someone: Any) -> Path:
    """The path of a fresh database, closed."""
    someone.close()
    return Path(someone.path)


def vserver(*words: str, home: Path, python: tuple[str, ...] = (), given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-c", "import vserver; vserver.main()", *words]
    options: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "cwd": home, "env": environment(home)}
    return subprocess.run(command, input=given, check=False, **options)


def codes(stderr: str) -> list[str]:
    """Return the codes of the rules that each line on stderr warns of."""
    return [line.removeprefix("warning: ").partition(" ")[0] for line in stderr.splitlines()]


def check(file: Path, key: str) -> None:
    """Check what the guide has left in a database, and that the key it printed is that of its node."""
    with contextlib.closing(models.connect(file)) as database:
        assert dump(database) == CONTENT
        assert models.Node.get(1).check_key(key)


def test_the_guide_runs_as_a_file(file: Path, home: Path) -> None:
    (home / "guide.py").write_text(SCRIPT, encoding="utf-8")
    done = vserver("-d", str(file), "shell", "guide.py", home=home)
    assert (done.returncode, codes(done.stderr)) == (0, WARNED)
    check(file, done.stdout.strip())


def test_the_guide_runs_piped_in_and_prints_the_key_and_nothing_else(file: Path, home: Path) -> None:
    done = vserver("-d", str(file), "shell", home=home, given=SCRIPT)
    assert (done.returncode, codes(done.stderr)) == (0, WARNED)
    assert re.fullmatch(r"[0-9a-f-]{36}\n", done.stdout)
    check(file, done.stdout.strip())


def test_the_guide_runs_with_warnings_as_errors(file: Path, home: Path) -> None:
    done = vserver("-d", str(file), "shell", "-c", SCRIPT, home=home, python=("-W", "error"))
    assert (done.returncode, codes(done.stderr)) == (0, WARNED)
    check(file, done.stdout.strip())


# At a terminal


def given_to_shell(texts: list[str], file: Path, home: Path, *, pasted: bool) -> Iterator[tuple[str, str]]:
    """Give texts to the shell, one at a time; yield each with what came after it."""
    with shell_at(file, home, lines=120) as terminal:
        for text in texts:
            terminal.wait_for_prompt()
            if pasted:
                terminal.paste(text)
                yield text, terminal.enter()
            else:
                yield text, terminal.enter(text.replace("\n", "\r"))
        assert terminal.leave() == 0


@pytest.mark.parametrize("pasted", [False, True], ids=["typed line by line", "pasted block by block"])
def test_the_guide_runs_at_a_terminal(file: Path, home: Path, pasted: bool) -> None:
    answers = dict(given_to_shell(blocks() if pasted else statements(), file, home, pasted=pasted))
    assert not [(text, answer) for text, answer in answers.items() if re.search(r"Error|Traceback|Warning", answer)]
    (key,) = (answer.splitlines()[-1] for text, answer in answers.items() if text.endswith("print(node.api_key)"))
    check(file, key.strip())
