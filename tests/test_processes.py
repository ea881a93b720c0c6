"""The helper that runs the program as a process: each way of running code is what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from helpers import process, promises, starter

MODULES = "import sys; print('pytest' in sys.modules, 'bcrypt' in sys.modules, 'vserverlib.plans.plan' in sys.modules)"


@pytest.mark.parametrize("way", process.WAYS)
def test_snippets_run_in_a_process_of_their_own_in_each_way(way: str, path: Path, tmp_path: Path) -> None:
    snippets = {"modules": MODULES, "count": "print(db.Organization.select().count())", "wrong": "1 / 0"}

    found = process.answers(snippets, path, tmp_path, way=way)

    assert found["modules"].startswith("False ") and found["modules"].endswith(" False\n")
    assert found["count"] == ("5\n" if way == "demo" else "0\n")
    assert found["wrong"] == "ZeroDivisionError: division by zero\n"


def test_a_test_of_a_promise_starts_a_new_python_and_others_fork(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("test_promises.py", "test_a_read_only_session_refuses_each_write") in promises.named()
    assert process.vserver("-d", path, "shell", "-c", MODULES).out == "False True True\n"
    assert process.python("-c", MODULES).out == "False True False\n"
    monkeypatch.setenv("VSERVER_PLAIN_STARTS", "1")
    assert process.vserver("-d", path, "shell", "-c", MODULES).out == "False False False\n"
    assert process.python("-c", MODULES).out == "False False False\n"


def test_a_forked_script_is_like_one_that_python_starts(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    for code in (
        "import sys; print(__name__, __file__, sys.argv, sys.orig_argv[1:], sys.path[0], sys.stdin.read())",
        "import sys; sys.exit('a text')",
        "import sys; sys.exit(300)",
        "import atexit; atexit.register(print, 'late'); 1 / 0",
        "raise KeyboardInterrupt",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    ):
        file.write_text(code)
        forked = process.python(file, "a word", given="given")
        assert forked == process.python(file, "a word", given="given", is_forked=False)


@pytest.mark.parametrize("plain", [False, True])
def test_the_program_in_a_folder_is_like_python(plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if plain:
        monkeypatch.setenv("VSERVER_PLAIN_STARTS", "1")
    starter.write_program(tmp_path / "vserver")

    def bash(line: str) -> process.Ended:
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        return process.Ended(done.returncode, done.stdout, done.stderr)

    asked = bash("export X=y; ./vserver --version; ./vserver shell --demo -q -c 'import os; print(os.environ[\"X\"])'")
    assert asked.status == 0 and re.fullmatch(r"vserver \S+\ny\n", asked.out)
    wrong = bash("./vserver x")
    assert (wrong.status, wrong.out) == (2, "") and wrong.err.startswith('Error: no command "x"')
    assert bash("exec ./vserver shell --demo -q -c 'import os; os.kill(os.getpid(), 15)'").status == -15
    closed = bash("./vserver --version >&-")
    assert closed.status == 1 and "Traceback" not in closed.err


def test_a_process_ends_with_its_status_and_both_outputs(path: Path) -> None:
    ended = process.vserver("-d", path, "show", "organization", "12")

    assert (ended.status, ended.out) == (1, "") and "12" in ended.err
