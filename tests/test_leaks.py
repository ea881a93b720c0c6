"""Secrets planted through every door, and every place searched for them: files, outputs, memory that outlives a line.

Each door gets a secret of its own. A failure names the door and the place.
"""

from __future__ import annotations

import linecache
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from helpers.terminal import Terminal, environment, shell_at

import models as db
import shell
import vserver
from vserverlib import hashing
from vserverlib.databases import backups
from vserverlib.entities import checks
from vserverlib.queries import columns
from vserverlib.terminal import display

KINDS = ["sqlite"]  # it is about files

QUICK = "from vserverlib import hashing; hashing.ROUNDS = 4"
PROGRAM = f"{QUICK}; import vserver; vserver.main(prog_name='vserver')"
HASH = re.compile(r"\$2[abxy]\$\d\d\$")

# What is typed in a script or at the prompt; U and N are a user and a node that are there.
DOORS = {
    "constructor": 'db.User(username="new", password="SECRET").save()',
    "assignment": 'U.password = "SECRET"; U.save()',
    "set_password": 'U.set_password("SECRET"); U.save()',
    "setattr": 'setattr(U, "password", "SECRET"); U.save()',
    "fields": 'db.User(**{"username": "new", "password": "SECRET"}).save()',
    "key": 'N.api_key = "SECRET"; N.save()',
    "key_constructor": 'db.Node(name="new", api_key="SECRET").save()',
    "never_saved": 'user = db.User(username="new", password="SECRET")',
    "check_password": 'print(U.check_password("SECRET"))',
    "check_key": 'print(N.check_key("SECRET"))',
    "get_by_api_key": 'print(db.Node.get_by_api_key("SECRET"))',
    "make_hash": 'from vserverlib import hashing; hashing.make_hash("SECRET"); 1 / 0',
    "formatted": 'U.set_password(f"SECRET{1 / 0}")',
    "unknown_field": 'db.User(usernam="new", password="SECRET")',
    "mistyped_field": 'db.User(username="new", pasword="SECRET")',
    "mistyped_attribute": 'U.passwrod = "SECRET"',
    "unknown_method": 'U.set_pasword("SECRET")',
    "wrong_type": 'db.User(username="new", password=["SECRET"])',
    "bytes": 'U.password = b"SECRET"',
    "too_long": 'U.password = "SECRET" + 73 * "x"',
    "too_long_literal": f'U.password = "SECRET{"x" * 73}"',
    "key_too_long": f'N.api_key = "SECRET{"x" * 73}"',
    "with_nul": 'U.password = "SECRET\\0"',
    "syntax": 'U.password = "SECRET" "',
    "syntax_of_a_text": "exec(\"U.password = 'SECRET'; = =\")",
    "beside_a_mistake": 'U.password = "SECRET"; 1 / 0',
    "compared": 'assert U.password == "SECRET"',
    "chained": 'try:\n    1 / 0\nexcept ZeroDivisionError:\n    U.set_password(["SECRET"])',
    "failed_save": 'db.User(username="root", password="SECRET").save()',
    "rolled_back": "with database.atomic() as transaction:\n"
    '    db.User(username="new", password="SECRET").save()\n    transaction.rollback()',
    "broken_off": 'with database.atomic():\n    db.User(username="new", password="SECRET").save()\n    1 / 0',
    "undone": 'U.password = "SECRET"; U.save(); db.undo(); print(db.log())',
    "undone_change_of_others": 'U.password = "SECRET"; U.save(); U.password = "other"; U.save(); db.undo(change=1)',
    "deleted": 'user = db.User(username="new", password="SECRET"); user.save(); print(user.delete(dependents=True))',
    "bulk": 'db.User.insert_many([{"username": "new", "password": "SECRET"}]).execute()',
    "bulk_update": 'db.Node.update(api_key="SECRET").where(db.Node.id == 1).execute()',
    "bulk_failed": 'db.User.insert_many([{"username": "root", "password": "SECRET"}]).execute()',
    "condition": 'print(list(db.User.select().where(db.User.password == "SECRET")))',
    "filter": 'db.User.where("password=SECRET")',
    "exists": 'db.User.exists("password", "SECRET")',
    "sql": "database.execute_sql(\"UPDATE user SET password = 'SECRET' WHERE id = 0\")",
    "sql_parameter": 'database.execute_sql("UPDATE user SET password = ? WHERE id = ?", ["SECRET", 0])',
    "sql_mistyped": "database.execute_sql(\"UPDATE user SET pasword = 'SECRET'\")",
    "weak": 'db.User(username="new", password="SECRET").save()',
    "weak_key": 'db.Node(name="new", api_key="SECRET"[:12]).save()',
    "shown": 'U.password = "SECRET"; U.save(); print(U, [U], U.history(), vars(db), U.check(), db.check())',
    "log": 'U.password = "SECRET"; U.save(); console.print(db.log(limit=3)); console.print(U)',
}
START = "U, N = db.User.get(1), db.Node.get(1)\n"


def planted(door: str) -> str:
    """Return a secret that is like no other: a strong one, or one that the rules judge to be weak."""
    return ("" if door.startswith("weak") else "Aa1!") + secrets.token_hex(8)


def core(secret: str) -> str:
    """Return what nothing else has in it, of the length that a mistake may leave of it."""
    return secret.removeprefix("Aa1!")[:12]


def texts_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return what every file below a folder holds, and its name."""
    for file in folder.rglob("*"):
        if file.is_file():
            yield str(file), file.read_bytes() + str(file).encode()


def leaks(secret: str, folder: Path, *said: str) -> list[str]:
    """Return the places that hold a secret."""
    wanted = core(secret)
    found = [name for name, content in texts_in(folder) if wanted.encode() in content]
    found += [f"output:\n{text}" for text in said if wanted in text]
    return found + [f"linecache: {name}" for name, entry in linecache.cache.items() if wanted in str(entry)]


@pytest.fixture(scope="module")
def lived_in(_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that has a user and a node."""
    file = Path(shutil.copy(_made, tmp_path_factory.mktemp("lived") / "vserver.db"))
    database = db.connect(file)
    organization, collaboration = db.Organization(name="IKNL"), db.Collaboration(name="Rotterdam")
    organization.save()
    collaboration.organizations.append(organization)
    collaboration.save()
    with database.rule_checks(False):
        db.User(username="root", password="First-1!", organization=organization).save()
        db.Node(name="node", organization=organization, collaboration=collaboration).save()
    database.close()
    return file


@pytest.fixture
def place(path: Path, lived_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a database that has a user and a node, the home of its user, and the folder for what is passing."""
    for name, variable in (("home", "HOME"), ("home", "VSERVER_HOME"), ("passing", "TMPDIR")):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", None)
    shutil.copy(lived_in, path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    monkeypatch.setattr(tempfile, "tempdir", None)


def run(*words: str, input: str = "") -> str:
    """Run a command, and return all that it wrote."""
    done = CliRunner().invoke(vserver.main, list(words), input=input)
    assert not isinstance(done.exception, AssertionError), done.output
    return done.output


# Python


@pytest.mark.parametrize("strict", [False, True], ids=["plain", "strict and debug, in a sandbox"])
@pytest.mark.parametrize("door", DOORS)
def test_no_door_of_a_script_leaks(
    door: str, strict: bool, place: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = planted(door)
    database = db.connect(path, sandbox=strict)
    database.strict = strict
    shell.print_queries(database)
    shell.run(
        START + DOORS[door].replace("SECRET", secret), "given.py" if strict else "<stdin>", database, debug=strict
    )
    said = capsys.readouterr()
    assert leaks(secret, place, said.out, said.err) == []
    if not database.is_closed():
        database.close()
    assert leaks(secret, place) == []
    assert not HASH.search(said.out + said.err)


def test_the_rules_judge_the_plain_text_and_do_not_tell_it(
    place: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for door, code in (("weak", "USR003"), ("weak_key", "NOD005")):
        database = db.connect(path)
        shell.run(DOORS[door].replace("SECRET", planted(door)), "<stdin>", database)
        assert code in capsys.readouterr().err
        database.close()


@pytest.mark.parametrize("way", ["-c", "file", "pipe"])
@pytest.mark.parametrize("door", ["assignment", "mistyped_field", "beside_a_mistake", "weak"])
def test_no_way_to_run_a_script_leaks(door: str, way: str, place: Path, tmp_path_factory: Any) -> None:
    secret = planted(door)
    code = START + DOORS[door].replace("SECRET", secret)
    script = tmp_path_factory.mktemp("scripts") / "script.py"
    script.write_text(code)
    words = {"-c": ["-c", code], "file": [str(script)], "pipe": []}[way]
    output = run("--debug", "shell", "--print-sql", *words, input=code)
    assert "ms  " in output
    assert leaks(secret, place, output) == []


# At the prompt


def test_no_door_of_the_prompt_leaks(place: Path, path: Path) -> None:
    planted_at = {door: planted(door) for door, code in DOORS.items() if "\n" not in code and door != "syntax"}
    said: dict[str, str] = {}
    options: dict[str, Any] = {"options": ", print_sql=True", "columns": 300, "lines": 200}
    with shell_at(path, place / "home", **options, TMPDIR=str(place / "passing")) as typing:
        typing.enter(f"{QUICK}; U, N = db.User.get(1), db.Node.get(1);")
        for door, secret in planted_at.items():
            said[door] = _answer(typing, DOORS[door].replace("SECRET", secret))
        planted_at["system"] = planted("system")
        said["system"] = _answer(typing, f"!true passwd {planted_at['system']}")
        typing.enter(f"import linecache; open({str(place / 'memory')!r}, 'w').write(repr((linecache.cache, In, Out)));")
        typing.leave()
    assert "********" in Path("memory").read_text()
    found = {door: leaks(secret, place, said[door]) for door, secret in planted_at.items()}
    assert {door: where for door, where in found.items() if where} == {}


def _answer(typing: Terminal, line: str) -> str:
    """Return what the shell answers to a line; what was typed, which the terminal echoes, is not among it."""
    typing.screen.reset()
    typing.send("\x0c")  # Ctrl-L: a screen with the prompt alone
    answer = typing.enter(line)
    return answer.replace(line, "")


# The commands


def program(*words: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *words]


def test_a_password_that_is_typed_is_nowhere(place: Path) -> None:
    secret = planted("typed")
    typing = Terminal(program("passwd", "root"), environment(place / "home", TMPDIR=str(place / "passing")))
    for times in (1, 2):
        typing.wait_for(r"\S+: *$", times=times)
        typing.send(secret + "\r")
    assert typing.wait_for_end() == 0 and "has a new password" in typing.text
    assert leaks(secret, place, typing.raw) == []


@pytest.mark.parametrize(("words", "line"), [(["passwd", "root", "--stdin"], "S"), (["shell"], 'U.password = "S"')])
def test_what_is_piped_in_is_not_among_the_processes(words: list[str], line: str, place: Path) -> None:
    secret = planted("piped")
    pipe: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    env = environment(place / "home", TMPDIR=str(place / "passing"))
    with subprocess.Popen(program("--debug", *words), env=env, text=True, **pipe) as running:
        assert running.stdin is not None
        running.stdin.write(START * (words == ["shell"]) + line.replace("S", secret))
        running.stdin.flush()
        listed = subprocess.run(["ps", "-ef"], capture_output=True, text=True, check=True).stdout
        about = [Path(f"/proc/{running.pid}/{name}") for name in ("cmdline", "environ", "comm")]
        listed += "".join(file.read_bytes().decode(errors="replace") for file in about if file.exists())
        out, err = running.communicate()
    assert running.returncode == 0
    assert leaks(secret, place, listed, out, err) == []


def test_a_key_is_printed_once_and_then_nowhere(place: Path) -> None:
    output = run("--debug", "apikey", "node")
    key = output.splitlines()[0]
    assert leaks(key, place, output.partition("\n")[2], run("show", "node", "1"), run("log", "-o", "json")) == []


def test_the_key_is_shown_where_it_was_given_and_not_where_it_is_read(place: Path, path: Path) -> None:
    key = planted("key")
    database = db.connect(path)
    node = db.Node.get(1)
    node.api_key = key
    node.save()
    assert node.api_key == key
    assert key not in repr(node) + display.html(node)
    assert db.Node.get(1).api_key == hashing.MASK
    database.close()
    assert leaks(key, place) == []


# What is kept, and what is shown


@pytest.fixture
def lived(place: Path, path: Path) -> tuple[list[str], Path]:
    """A database with a past in it, and all secrets that it was given; copies of each kind beside it."""
    given = [planted("life") for _ in range(4)]
    database = db.connect(path)
    user, node = db.User.get(1), db.Node.get(1)
    for secret in given[:2]:
        user.password, node.api_key = secret, secret
        user.save()
        node.save()
    shell.Db(database).undo()
    db.User(username="gone", password=given[2]).save()
    db.User.get_by_username("gone").delete()
    checks.remember(database, {"error": 0, "warning": 0, "info": 0})
    made = backups.make(path)
    user.password = given[3]
    user.save()
    with backups.verified(made.path, path) as draft:
        database.close()
        backups.restore(path, draft)
    return given, path


def test_no_file_that_is_kept_holds_a_secret(lived: tuple[list[str], Path], place: Path) -> None:
    given, path = lived
    with_sandbox = db.connect(path, sandbox=True)
    db.User(username="new", password=given[0]).save()
    names = {file.name for file in place.rglob("*") if file.is_file()}
    assert len([name for name in names if name.startswith("vserver-2")]) == 2  # the backup, and what was replaced
    assert {"vserver.db", "vserver.db-wal"} <= names and any(name.startswith("check-") for name in names)
    assert [leaks(secret, place) for secret in given] == [[]] * len(given)
    with_sandbox.close()
    assert list((place / "passing").iterdir()) == []


def test_no_export_holds_a_secret_or_a_hash_that_was_not_asked_for(lived: tuple[list[str], Path], place: Path) -> None:
    given, _ = lived
    output = [run("--debug", "export", name) for name in ("out.json", "-")]
    texts = [Path("out.json").read_text(), *output]
    assert not [text for text in texts if HASH.search(text) or any(core(secret) in text for secret in given)]
    output = [run("--debug", "export", "hashes.json", "--with-hashes")]
    output += [
        run("--debug", "export", f"{release}.yaml", "--for", release, "--secrets", f"s{release}") for release in "14"
    ]
    output += [run("--debug", "import", "hashes.json"), run("--debug", "import", "hashes.json", "--dry-run")]
    assert not [text for text in output if HASH.search(text)]
    assert HASH.search(Path("hashes.json").read_text()) and not HASH.search(Path("4.yaml").read_text())
    made = [entry["secret"] for release in "14" for entry in yaml.safe_load(Path(f"s{release}").read_text())]
    assert len(made) == 4 and [leaks(secret, place / "home", *output) for secret in made] == [[]] * len(made)
    assert [leaks(secret, place) for secret in given] == [[]] * len(given)
    assert {stat.S_IMODE(Path(name).stat().st_mode) for name in ("out.json", "hashes.json", "4.yaml", "s4")} == {0o600}


def test_nothing_that_is_shown_holds_a_secret_or_a_hash(lived: tuple[list[str], Path], place: Path) -> None:
    given, path = lived
    shown = list(_shown_by_commands(place)) + list(_shown_by_objects(path))
    assert len(shown) > 50
    assert not [text for text in shown if HASH.search(text) or any(core(secret) in text for secret in given)]


def _shown_by_commands(place: Path) -> Iterator[str]:
    for output in ("table", "json", "jsonl", "csv", "yaml", "name"):
        for plural in ("users", "nodes"):
            model = db.User if plural == "users" else db.Node
            every = ",".join(column.name for column in columns.known(model))
            yield run("list", plural, "-o", output)
            yield run("list", plural, "-o", output, "--fields", every)
            yield run("list", plural, "-o", output, "--fields", "id,password,api_key,secrets")
    for output in ("table", "json", "jsonl", "yaml"):
        yield from (run(*words, "-o", output) for words in LOOKS)
    yield from (run("--debug", *words) for words in OTHERS)


LOOKS = (
    ["log"],
    ["overview"],
    ["check"],
    ["show", "user", "root"],
    ["show", "node", "1"],
    ["log", "--entity", "users"],
)
OTHERS = (
    ["list", "users", "--wide"],
    ["list", "users", "--fields", "help"],
    ["list", "users", "--sort", "password"],
    ["list", "users", "--where", "password=x"],
    ["list", "users", "--where", "password=null"],
    ["list", "users", "--search", "$2b$"],
    ["delete", "user", "root", "--dry-run"],
    ["delete", "organization", "IKNL", "--dependents", "--dry-run"],
    ["undo"],
    ["undo", "--change", "1"],
    ["shell", "--read-only", "-c", "for row in database.execute_sql('SELECT * FROM user, node'): print(row)"],
    ["shell", "--read-only", "-c", "for row in database.execute_sql('SELECT * FROM record'): print(row)"],
    ["shell", "--read-only", "-c", "print([row for row in db.User.select(db.User.password).tuples()])"],
    ["shell", "--read-only", "-c", "print(database.execute_sql('SELECT group_concat(password) FROM user').fetchall())"],
    ["shell", "--read-only", "-c", "print(database.execute_sql('SELECT max(api_key) FROM node').fetchall())"],
    ["shell", "--read-only", "-c", "print(db.User.get(1).__data__, db.User.get(1).check_password('x'))"],
)


def _shown_by_objects(path: Path) -> Iterator[str]:
    database = db.connect(path)
    at_hand = shell.Db(database)
    user, node = db.User.get(1), db.Node.get(1)
    viewed = (user, node, db.User.get(), db.Node.get(), at_hand.log(), user.history(), at_hand.check(), at_hand)
    for each in viewed:
        yield repr(each)
        yield display.html(each) if display.is_viewed(each) else ""
        yield display.text(each, color=False) if display.is_viewed(each) else ""
    yield from (str(entry) for entry in user.history())
    yield f"{user.password} {node.api_key} {user} {node} {db.User.get()} {db.User.where('id=1')}"
    database.close()
