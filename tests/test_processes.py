"""The helper that runs the program as a process: each way of running code is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import process, promises

MODULES = "import sys; print('pytest' in sys.modules, 'IPython' in sys.modules, 'vserverlib.plans.plan' in sys.modules)"


@pytest.mark.parametrize("way", process.WAYS)
def test_snippets_run_in_a_process_of_their_own_in_each_way(way: str, path: Path, tmp_path: Path) -> None:
    snippets = {"modules": MODULES, "count": "print(db.Organization.select().count())", "wrong": "1 / 0"}

    found = process.answers(snippets, path, tmp_path, way=way)

    assert found["modules"] == f"False {way == 'prompt'} False\n"
    assert found["count"] == ("5\n" if way == "demo" else "0\n")
    assert found["wrong"] == "ZeroDivisionError: division by zero\n"


def test_a_test_of_a_promise_starts_a_new_python_and_others_fork(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("test_promises.py", "test_a_read_only_session_refuses_each_write") in promises.named()
    assert process.vserver("-d", path, "shell", "-c", MODULES).out == "False True True\n"
    monkeypatch.setenv("VSERVER_PLAIN_STARTS", "1")
    assert process.vserver("-d", path, "shell", "-c", MODULES).out == "False False False\n"


def test_a_process_ends_with_its_status_and_both_outputs(path: Path) -> None:
    ended = process.vserver("-d", path, "show", "organization", "12")

    assert (ended.status, ended.out) == (1, "") and "12" in ended.err
