"""A warning of ours is one line without the source that caused it, which may hold a password, whoever shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import process

SECRET = "Geheim-123!xyz"
QUICK = "from vserverlib import hashing; hashing.ROUNDS = 4; "
SAVE = f'User(username="u1", password="{SECRET}").save()\n'
TOLD = 'CheckWarning: USR001 user 1 "u1": it has no organization: set its organization'
DROPPED = "NotExecuted: nothing was changed by User.update(…), not executed: call its execute()"

# What a script may do about warnings before it saves.
SETTINGS = {
    "nothing": "",
    "always": "import warnings; warnings.simplefilter('always')",
    "default": "import warnings; warnings.resetwarnings()",
    "logging": "import logging; logging.basicConfig(); logging.captureWarnings(True)",
    "formatwarning": "import warnings, linecache; "
    "warnings.formatwarning = lambda m, c, f, n, line=None: f'{c.__name__}: {m} {line or linecache.getline(f, n)}\\n'",
    "showwarning": "import warnings, sys; warnings.showwarning = "
    "lambda m, c, f, n, file=None, line=None: sys.stderr.write(warnings.formatwarning(m, c, f, n))",
    "recorded": "import warnings; caught = warnings.catch_warnings(record=True); caught.seen = caught.__enter__()",
    "profiled": "import tracemalloc; tracemalloc.start(5)",
}
AFTER = {"recorded": "import sys; print(*caught.seen, file=sys.stderr, sep='\\n')"}


def script(path: Path, folder: Path, before: str = "", after: str = "", saves: str = SAVE) -> Path:
    """Write a plain script that saves, and return its path."""
    file = folder / "saves.py"
    file.write_text(f"{QUICK}from models import *\n{before}\nconnect({str(path)!r})\n{saves}{after}\n")
    return file


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_script_is_reported_in_one_line_without_its_source(setting: str, path: Path, tmp_path: Path) -> None:
    file = script(path, tmp_path, SETTINGS[setting], AFTER.get(setting, ""))
    done = process.python(file)
    assert done.status == 0 and SECRET not in done.err + done.out
    assert TOLD.partition(": ")[2] in done.err
    assert [line for line in done.err.splitlines() if "User(" in line or "save()" in line] == []


def test_the_line_names_the_place(path: Path, tmp_path: Path) -> None:
    file = script(path, tmp_path)
    assert process.python(file).err == f"{file}:4:0: {TOLD}\n"


@pytest.mark.parametrize("options", [(), ("-W", "always"), ("-X", "dev"), ("-W", "once")])
def test_options_of_python_show_no_source(options: Sequence[str], path: Path, tmp_path: Path) -> None:
    done = process.python(*options, script(path, tmp_path))
    assert done.err.endswith(f"{TOLD}\n") and len(done.err.splitlines()) == 1


def test_a_query_that_was_not_executed_is_reported_without_its_source(path: Path, tmp_path: Path) -> None:
    saves = f'User.update(password="{SECRET}").where(User.id == 1)\n'
    file = script(path, tmp_path, saves=saves)
    assert process.python(file).err == f"{file}:4:0: {DROPPED}\n"


@pytest.mark.parametrize("given", [{"PYTHONWARNINGS": "error"}, {"PYTHONWARNINGS": "error::vserverlib.CheckWarning"}])
def test_a_warning_that_is_turned_into_an_error_shows_no_secret(
    given: dict[str, str], path: Path, tmp_path: Path
) -> None:
    done = process.python(script(path, tmp_path), **given)
    assert done.status == 1 and SECRET not in done.err
    assert done.err.splitlines()[-1] == f"vserverlib.{TOLD}"


def test_a_traceback_of_a_plain_script_shows_no_secret(path: Path, tmp_path: Path) -> None:
    several = f'import threading\ndef save():\n    User(username="u1",\n      password="{SECRET}").save()\n'
    run = "t = threading.Thread(target=save); t.start(); t.join()\nsave()\n"
    done = process.python(script(path, tmp_path, "import models", saves="database.obj.strict = True\n" + several + run))
    assert done.status == 1 and SECRET not in done.err and done.err.count('password="********"') == 2
    assert done.err.splitlines()[-1].startswith("vserverlib.CheckError: not saved: USR001")


def test_a_script_has_its_own_way_of_showing_exceptions(path: Path, tmp_path: Path) -> None:
    before = "import sys; sys.excepthook = lambda *error: print('mine:', error[1])"
    done = process.python(script(path, tmp_path, before, after="1 / 0"))
    assert done.out == "mine: division by zero\n"


@pytest.mark.parametrize("way", ["-c", "file", "pipe"])
def test_the_shell_prints_it_in_one_line(way: str, path: Path, tmp_path: Path) -> None:
    code = f"db.{SAVE}"
    shell = ("-d", path, "shell")
    (tmp_path / "saves.py").write_text(code)
    done = {
        "-c": lambda: process.vserver(*shell, "-c", code),
        "file": lambda: process.vserver(*shell, tmp_path / "saves.py"),
        "pipe": lambda: process.vserver(*shell, given=code),
    }[way]()
    assert done.err == f"warning: {TOLD.partition(': ')[2]}\n"


def test_pytest_shows_no_source(path: Path, tmp_path: Path) -> None:
    code = f"{QUICK}from models import *\ndef test_saves():\n    connect({str(path)!r})\n    {SAVE}"
    (tmp_path / "test_saves.py").write_text(code)
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "test_saves.py")
    done = process.python(*words, cwd=tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "1 passed, 1 warning" in done.out and TOLD in done.out and SECRET not in done.out + done.err


def test_a_notebook_shows_no_source(path: Path, tmp_path: Path) -> None:
    """IPython without our configuration, which is what a notebook runs."""
    code = f"{QUICK}from models import *; connect({str(path)!r}); {SAVE}"
    done = process.python("-m", "IPython", "--no-banner", "--colors=NoColor", "-c", code, cwd=tmp_path)
    assert TOLD in done.err + done.out and SECRET not in done.err + done.out
