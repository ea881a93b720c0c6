"""Where the application keeps its files, and who may read them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.process import PROGRAM
from helpers.terminal import Terminal, environment

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


# A user who is only a number and has no home, as in a container or from cron

NUMBER = 4_000_000
NOBODY_AT_ALL = (
    *("setpriv", f"--reuid={NUMBER}", f"--regid={NUMBER}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),  # Python may be where only root can look
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="another user takes root's rights, and setpriv"
)


@pytest.fixture
def homeless(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Return a function that starts the program for such a user, in a folder with a server's database."""
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "data" / "v4.15.2.sqlite", folder / "server.sqlite")
    (folder / "server.sqlite").chmod(0o644)
    os.chown(folder, NUMBER, NUMBER)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    env = {name: value for name, value in environment(folder, TMPDIR=str(folder)).items() if name != "HOME"}
    started: list[Terminal] = []

    def start(*words: str) -> Terminal:
        line = f"cd {folder} && exec {shlex.join([*NOBODY_AT_ALL, *PROGRAM, *words])}"
        started.append(Terminal(["/bin/sh", "-c", line], env))
        return started[-1]

    yield start
    for each in started:
        each.child.close(force=True)


@needs_root
@pytest.mark.parametrize("words", [("-d", "new.db"), ("-d", "server.sqlite"), ("--demo",)], ids=str)
def test_without_a_home_the_shell_starts_without_history(
    words: tuple[str, ...], homeless: Callable[..., Terminal], tmp_path: Path
) -> None:
    if "new.db" in words:
        assert homeless(*words, "init").wait_for_end() == 0
    terminal = homeless("shell", *words) if words == ("--demo",) else homeless(*words, "shell")
    shown = " ".join(terminal.wait_for_prompt().split())
    assert "history is off: this user has no home folder: set VSERVER_HOME" in shown
    assert terminal.enter("db.Organization.get().count() >= 0").endswith("True")
    assert terminal.leave() == 0 and "Traceback" not in terminal.raw
    assert {path.name for path in (tmp_path / "folder").iterdir()} <= {"new.db", "server.sqlite"}


@needs_root
@pytest.mark.parametrize(
    "words", ["overview", "list tasks -o name", "show task 1", "check -o jsonl", "shell -c print(1)"]
)
def test_without_a_home_a_servers_database_can_be_viewed(
    words: str, homeless: Callable[..., Terminal], tmp_path: Path
) -> None:
    terminal = homeless("--no-pager", "-d", "server.sqlite", *words.split())
    assert terminal.wait_for_end() == (1 if "check" in words else 0), terminal.text
    assert "read-only view" in terminal.raw and "Traceback" not in terminal.raw
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["server.sqlite"]
