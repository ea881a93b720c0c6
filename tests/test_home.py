"""Where the application keeps its files, and who may read them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vserverlib import home


def test_the_folder_is_the_one_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSERVER_HOME", str(tmp_path / "mine"))
    assert home.folder() == tmp_path / "mine" and not home.folder().exists()


def test_the_error_without_a_home_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user takes root's rights")
@pytest.mark.parametrize("is_link", [True, False])
def test_a_file_of_another_user_is_not_written_to(tmp_path: Path, is_link: bool) -> None:
    (tmp_path / "target").write_text("theirs")
    file = tmp_path / "target"
    if is_link:
        file = tmp_path / "file"
        file.symlink_to(tmp_path / "target")
    os.lchown(file, 65534, 65534)
    with pytest.raises(PermissionError, match="another user's file or link"):
        home.own_file(file)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_open_to_others_is_not_ours(tmp_path: Path) -> None:
    folder = home.own_folder(tmp_path / "new" / "folder")
    (folder / "file").touch()
    every = re.compile(".*")
    assert home.own_entries(folder, every) == [folder / "file"]
    folder.chmod(0o755)
    (tmp_path / "link").symlink_to(folder)
    for other in (folder, tmp_path / "link", tmp_path / "none"):
        assert home.own_entries(other, every) == []
    with pytest.raises(PermissionError, match="is a link, another user's, or open to others"):
        home.own_folder(folder)
