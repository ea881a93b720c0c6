"""Where the application keeps its files, and who may read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vserverlib import home


def test_the_folder_is_the_one_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSERVER_HOME", str(tmp_path / "mine"))
    assert home.folder() == tmp_path / "mine" and not home.folder().exists()


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VSERVER_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)  # a user who has a number and no name, as in a container
    with pytest.raises(OSError, match="set VSERVER_HOME"):
        home.folder()
    monkeypatch.setenv("VSERVER_HOME", str(tmp_path))
    assert home.folder() == tmp_path


def test_a_file_and_its_folder_are_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for _ in range(2):
        assert home.own_file(path).stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
    assert path.parent.stat().st_mode & 0o777 == 0o700
