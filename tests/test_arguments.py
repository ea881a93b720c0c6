"""A password among the arguments: the program starts anew without it before anything else is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import process

from vserverlib import arguments

ROOT = Path(__file__).parent.parent
ONE, TWO = "postgresql://me:geheim@host/one", "postgresql://me@host/two?sslpassword=geheim"
PLAIN_ONE, PLAIN_TWO = "postgresql://me@host/one", "postgresql://me@host/two"


class Anew(Exception):
    """The program was started anew: its arguments and its environment."""


def started(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments, and the whole URLs, with which the program is started anew."""

    def execve(program: str, command: list[str], environment: dict[str, str]) -> Any:
        _, reader = environment[arguments.VARIABLE].split(":")
        assert "geheim" not in str(environment)
        with open(int(reader)) as file:
            raise Anew(command[3:], json.load(file))

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(sys, "argv", ["vserver", *words])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "vserver", *words])
    with pytest.raises(Anew) as anew:
        arguments.hide()
    return anew.value.args  # type: ignore[return-value]


@pytest.mark.parametrize("before", ["", "-d", "--database="])
def test_a_password_in_any_argument_that_names_a_database_is_hidden(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, whole = started(monkeypatch, before + ONE, "import", TWO)
    assert words == [before + PLAIN_ONE, "import", PLAIN_TWO]
    assert whole == {PLAIN_ONE: ONE, PLAIN_TWO: TWO}


@pytest.mark.parametrize("option", ["-c", "--search", "--where"])
def test_anything_but_a_name_is_left_as_it_is(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words, _ = started(monkeypatch, "-d", ONE, "list", option, TWO)
    assert words == ["-d", PLAIN_ONE, "list", option, TWO]


def test_what_looks_like_an_address_is_hidden_until_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    words, _ = started(monkeypatch, "-d", "dbname=one password=geheim", "import", "mysql://me:geheim@host/db")
    assert words == ["-d", "dbname=one password=", "import", "mysql://me@host/db"]


def test_without_a_password_the_program_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", None)
    monkeypatch.setattr(sys, "argv", ["vserver", "-d", PLAIN_ONE, "list", "users"])
    arguments.hide()


def pipe(text: str) -> str:
    """Return what the program is given for a pipe with a text."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    return f"{os.getpid()}:{reader}"


def test_the_whole_urls_are_read_and_the_variable_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "_whole", {})
    monkeypatch.setenv(arguments.VARIABLE, pipe(json.dumps({PLAIN_ONE: ONE})))
    arguments.hide()
    assert arguments.VARIABLE not in os.environ
    assert arguments.with_password(PLAIN_ONE) == ONE and arguments.with_password(PLAIN_TWO) == PLAIN_TWO


def test_a_variable_that_is_not_ours_is_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    pipes = [pipe(text) for text in ("", "{", "[1]", '"x"', "7", '{"a": 1}')]
    for value in ("", "7", "1:7", f"{os.getpid()}:9999", "a:b", "1:2:3", pipe('{"a": "b"}').replace(":", "1:"), *pipes):
        monkeypatch.setenv(arguments.VARIABLE, value)
        arguments.hide()
        assert arguments.VARIABLE not in os.environ and arguments.with_password("a") == "a", value


@pytest.mark.parametrize("door", ["vserverlib.arguments", "vserverlib.__main__"])
def test_nothing_that_takes_time_is_imported_before(door: str) -> None:
    code = f"import sys; before = set(sys.modules); import {door}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("vserver")}
    assert ours <= {
        "vserverlib",
        "vserverlib.addresses",
        "vserverlib.signals",
        "vserverlib.arguments",
        "vserverlib.__main__",
    }
    assert not {"click", "peewee", "psycopg", "urllib.parse"} & set(done.stdout.split())


def test_python_m_vserver_hides_it_before_its_imports_too() -> None:
    source = (ROOT / "vserver.py").read_text()
    assert source.index("arguments.hide()") < source.index("import click")


def test_a_password_is_neither_in_the_arguments_nor_in_the_environment_of_the_process(tmp_path: Path) -> None:
    """It is refused in the end, for there is no server: what the process shows is read by a driver of its own."""
    shows = "import os; seen = open('/proc/self/environ').read() + open('/proc/self/cmdline').read()\n"
    shows += "open(os.environ['SEEN'], 'w').write(seen + '|' + str(os.listdir('/proc/self/fd')))\n"
    (tmp_path / "psycopg.py").write_text(shows + "raise ImportError('no driver')\n")
    seen = tmp_path / "seen"
    done = process.vserver("-d", ONE, "list", "tasks", PYTHONPATH=f"{tmp_path}:{ROOT}", SEEN=str(seen))
    assert done.status == 1 and "geheim" not in done.err
    assert "me@host/one" in seen.read_text() and "geheim" not in seen.read_text()


def test_a_script_gets_its_arguments_with_their_passwords(tmp_path: Path, path: Path) -> None:
    given = ("postgresql://q:GeHeim99@h/x", "http://u:GeHeim98@h/", "password=GeHeim97", "--days", "7")
    (tmp_path / "show.py").write_text("import sys; print(sys.argv[1:])")
    for source in ([str(tmp_path / "show.py")], ["-c", "import sys; print(sys.argv[1:])"]):
        done = process.vserver("-d", path, "shell", "-q", *source, "--", *given)
        assert done.out == f"{list(given)}\n", done.err
