"""The files of a database: their owner's alone, whatever the umask, and told of where they are not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from terminal import shell_at

import models as db
import vserver
from vserverlib import backups, demo, files, storage

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


@pytest.fixture
def no_umask() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process that has told nothing yet."""
    monkeypatch.setattr(files, "_told", set())


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_whatever_is_made_is_its_owners_alone(no_umask: None, tmp_path: Path, quick_hashes: None) -> None:
    made = storage.create(tmp_path / "vserver.db")
    with closing(db.connect(made)):
        db.Organization(name="x").save()
        assert {mode(file) for file in tmp_path.iterdir()} == {PRIVATE_FILE}
        assert len(list(tmp_path.iterdir())) == 3
    backups.make(made)
    demo.create(tmp_path / "demo.db")
    assert {mode(file) for file in tmp_path.iterdir()} == {PRIVATE_FILE}


@pytest.mark.parametrize("how", ["sandbox", "demo"])
def test_a_private_copy_is_private(no_umask: None, path: Path, how: str) -> None:
    with closing(storage.demo() if how == "demo" else db.connect(path, sandbox=True)) as database:
        db.Organization(name="x").save()
        copy = Path(database.database)
        assert mode(copy.parent) == PRIVATE_FOLDER
        assert {mode(file) for file in copy.parent.iterdir()} == {PRIVATE_FILE}


def test_the_history_of_the_shell_is_its_owners_alone(no_umask: None, path: Path, tmp_path: Path) -> None:
    with shell_at(path, tmp_path) as at_prompt:
        at_prompt.enter("1 + 1")
        at_prompt.leave()
    folder = tmp_path / ".local" / "share" / "vserver"
    assert mode(folder) == PRIVATE_FOLDER
    assert {mode(file) for file in folder.iterdir()} == {PRIVATE_FILE}


# Open to others


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o620, 0o601])
def test_a_database_that_is_open_to_others_is_told_once(
    path: Path, bits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path.chmod(bits)
    for options in ({}, {"read_only": True}, {"sandbox": True}):
        db.connect(path, **options).close()
    assert told(capsys) == f"{path} is open to others (mode {bits:o}): chmod 600 {path}\n"


def test_a_private_database_and_the_example_are_not_told(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db.connect(path).close()
    example = path.rename(tmp_path / "vserver.db.example")
    example.chmod(0o644)
    db.connect(example).close()
    assert told(capsys) == ""


def test_the_remedy_can_be_pasted(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = path.rename(tmp_path / "my data.db")
    odd.chmod(0o644)
    db.connect(odd).close()
    assert f"chmod 600 '{odd}'" in told(capsys)


def test_commands_tell_it_beside_their_data(
    story: SimpleNamespace, path: Path, tmp_path: Path, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.close()
    path.chmod(0o644)
    monkeypatch.chdir(tmp_path)
    for words in (("list", "nodes", "-o", "json"), ("backup",), ("upgrade",)):
        monkeypatch.setattr(files, "_told", set())
        result = CliRunner().invoke(vserver.main, words)
        assert result.stderr.count("vserver.db is open to others (mode 644): chmod 600 vserver.db\n") == 1
        assert "open to others" not in result.stdout
