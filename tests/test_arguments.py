"""A password among the arguments: the program starts anew without it before anything else is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vserverlib import arguments

ROOT = Path(__file__).parent.parent
ONE, TWO = "postgresql://me:geheim@host/one", "postgresql://me@host/two?sslpassword=geheim"
PLAIN_ONE, PLAIN_TWO = "postgresql://me@host/one", "postgresql://me@host/two"


class Anew(Exception):
    """The program was started anew: its arguments and its environment."""


def started(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments, and the whole URLs, with which the program is started anew."""

    def execve(program: str, command: list[str], environment: dict[str, str]) -> Any:
        raise Anew(command[3:], json.loads(environment[arguments.VARIABLE]))

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
def test_what_is_no_name_is_left_as_it_is(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words, _ = started(monkeypatch, "-d", ONE, "list", option, TWO)
    assert words == ["-d", PLAIN_ONE, "list", option, TWO]


def test_what_looks_like_an_address_is_hidden_until_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    words, _ = started(monkeypatch, "-d", "dbname=one password=geheim", "import", "mysql://me:geheim@host/db")
    assert words == ["-d", "dbname=one password=", "import", "mysql://me@host/db"]


def test_without_a_password_the_program_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", None)
    monkeypatch.setattr(sys, "argv", ["vserver", "-d", PLAIN_ONE, "list", "users"])
    arguments.hide()


def test_the_whole_urls_are_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "_whole", {})
    monkeypatch.setenv(arguments.VARIABLE, json.dumps({PLAIN_ONE: ONE}))
    arguments.hide()
    assert arguments.VARIABLE not in os.environ
    assert arguments.whole(PLAIN_ONE) == ONE and arguments.whole(PLAIN_TWO) == PLAIN_TWO


def test_a_variable_that_is_not_ours_is_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "{", "[1]", '"x"', "7", '{"a": 1}'):
        monkeypatch.setenv(arguments.VARIABLE, value)
        arguments.hide()
        assert arguments.VARIABLE not in os.environ and arguments.whole("a") == "a", value


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
