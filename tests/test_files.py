"""The files of a database: for their owner alone, whatever the umask; a warning if others can access them."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.file_rights import as_nobody
from helpers.terminal import shell_at

import models as db
import vserver
from vserverlib import Error, files, home
from vserverlib.databases import backups, storage
from vserverlib.entities import checks
from vserverlib.examples import demo
from vserverlib.opening import opener

KINDS = ["sqlite"]  # it is about files

DATA = Path(__file__).parent / "data"
NOBODY = 65534  # the id of a user that is not us
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


@pytest.fixture(params=[0o000, 0o077], ids=oct)
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """A umask that takes nothing away, and one that takes all from others."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts as a process that has printed nothing yet."""
    monkeypatch.setattr(files, "_warned_of", set())


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def summary(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_whatever_is_made_is_its_owners_alone(any_umask: None, tmp_path: Path, quick_hashes: None) -> None:
    made = storage.create(tmp_path / "vserver.db")
    with closing(db.connect(made)):
        db.Organization(name="x").save()
        assert {mode(file) for file in tmp_path.iterdir()} == {PRIVATE_FILE}
        assert len(list(tmp_path.iterdir())) == 3
    backups.make(made)
    demo.create(tmp_path / "demo.db")
    assert {mode(file) for file in tmp_path.iterdir()} == {PRIVATE_FILE}


@pytest.mark.parametrize("how", ["sandbox", "demo"])
def test_a_private_copy_is_private(any_umask: None, path: Path, how: str) -> None:
    with closing(opener.demo() if how == "demo" else db.connect(path, sandbox=True)) as database:
        db.Organization(name="x").save()
        copy = Path(database.database)
        assert mode(copy.parent) == PRIVATE_FOLDER
        assert {mode(file) for file in copy.parent.iterdir()} == {PRIVATE_FILE}


def test_the_history_of_the_shell_is_its_owners_alone(any_umask: None, path: Path, tmp_path: Path) -> None:
    with shell_at(path, tmp_path) as at_prompt:
        at_prompt.enter("1 + 1")
        at_prompt.leave()
    folder = tmp_path / ".local" / "share" / "vserver"
    assert mode(folder) == PRIVATE_FOLDER
    assert {mode(file) for file in folder.iterdir()} == {PRIVATE_FILE}


def test_what_a_restore_and_an_upgrade_keep_is_private(
    any_umask: None, path: Path, tmp_path: Path, quick_hashes: None
) -> None:
    shutil.copyfile(DATA / "schema-1.sqlite", tmp_path / "older.db")
    (tmp_path / "older.db").chmod(PRIVATE_FILE)
    db.connect(tmp_path / "older.db").close()
    with backups.verified(backups.make(path).path, path) as draft:
        assert mode(draft) == PRIVATE_FILE
        assert backups.restore(path, draft)
    assert {mode(file) for file in tmp_path.iterdir()} == {PRIVATE_FILE}
    assert len(list(tmp_path.glob("*-2*.db"))) == 3


def test_what_a_check_remembers_is_private(
    any_umask: None, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSERVER_HOME", str(tmp_path / "new" / "home"))
    checks.remember(database, {"error": 0, "warning": 0, "info": 0})
    assert [mode(file) for file in (tmp_path / "new" / "home").iterdir()] == [PRIVATE_FILE]
    assert {mode(tmp_path / "new"), mode(tmp_path / "new" / "home")} == {PRIVATE_FOLDER}


# Links


@pytest.fixture
def anothers(tmp_path: Path) -> Path:
    """A file of another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another user")
    file = tmp_path / "theirs"
    file.write_text("theirs")
    file.chmod(0o644)
    os.chown(file, NOBODY, NOBODY)
    return file


def is_as_it_was(file: Path) -> bool:
    return (file.read_text(), mode(file), file.stat().st_uid) == ("theirs", 0o644, NOBODY)


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
def test_a_new_database_is_not_written_through_a_link(anothers: Path, tmp_path: Path, ending: str) -> None:
    (tmp_path / f"new.db{ending}").symlink_to(anothers)
    with contextlib.suppress(Error):
        db.connect(storage.create(tmp_path / "new.db")).close()
    assert is_as_it_was(anothers)


def test_a_backup_is_not_written_through_a_link(anothers: Path, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "backup.db"
    link.symlink_to(anothers)
    with pytest.raises(Error, match="exists already"):
        backups.make(path, link)
    backups.make(path, link, force=True)
    assert is_as_it_was(anothers) and not link.is_symlink()


@pytest.mark.parametrize("whose", ["file", "link", "link to nothing"])
def test_the_history_and_the_last_check_follow_no_link_of_another_user(
    anothers: Path, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    monkeypatch.setenv("VSERVER_HOME", str(tmp_path / "home"))
    place, own = tmp_path / "home" / "history.sqlite", tmp_path / "own"
    place.parent.mkdir()
    if whose == "link":
        own.write_text("mine")
    place.symlink_to(anothers if whose == "file" else own)
    if whose != "file":
        os.chown(place, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(OSError, match="another user's"):
        home.own_file(place)
    assert is_as_it_was(anothers) and own.exists() is (whose == "link")


def test_a_shell_whose_history_is_another_users_does_without(anothers: Path, path: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "history.sqlite").symlink_to(anothers)
    with shell_at(path, tmp_path, VSERVER_HOME=str(tmp_path / "home")) as at_prompt:
        assert "history is off" in at_prompt.wait_for_prompt()
        at_prompt.enter("x = 1")
        at_prompt.leave()
    assert is_as_it_was(anothers)


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "kept elsewhere")
    home.own_file(tmp_path / "link")
    assert mode(tmp_path / "kept elsewhere") == PRIVATE_FILE


# Open to others


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o620, 0o601])
def test_a_database_that_is_open_to_others_is_reported_once(
    path: Path, bits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path.chmod(bits)
    for options in ({}, {"read_only": True}, {"sandbox": True}):
        db.connect(path, **options).close()
    assert summary(capsys) == f"{path} is open to others (mode {bits:o}): chmod 600 {path}\n"


def test_a_private_database_and_the_example_are_not_reported(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db.connect(path).close()
    example = path.rename(tmp_path / "vserver.db.example")
    example.chmod(0o644)
    db.connect(example).close()
    assert summary(capsys) == ""


def test_the_remedy_can_be_pasted(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = path.rename(tmp_path / "my data.db")
    odd.chmod(0o644)
    db.connect(odd).close()
    assert f"chmod 600 '{odd}'" in summary(capsys)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
@pytest.mark.parametrize(("owner", "name"), [(0, "root"), (54321, "user 54321")])
def test_a_user_who_does_not_own_the_file_sees_who_does(
    owner: int, name: str, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    path.chmod(0o644)
    os.chown(path, owner, owner)
    with as_nobody():
        files.warn_if_accessible(path)
    remedy = f"its owner, {name}, can deny all others access, you included, with: chmod 600 {path}"
    assert summary(capsys) == f"{path} is open to others (mode 644): {remedy}\n"


def test_commands_tell_it_beside_their_data(
    story: SimpleNamespace, path: Path, tmp_path: Path, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.close()
    path.chmod(0o644)
    monkeypatch.chdir(tmp_path)
    for words in (("list", "nodes", "-o", "json"), ("backup",), ("upgrade",)):
        monkeypatch.setattr(files, "_warned_of", set())
        result = CliRunner().invoke(vserver.main, words)
        assert result.stderr.count("vserver.db is open to others (mode 644): chmod 600 vserver.db\n") == 1
        assert "open to others" not in result.stdout


@pytest.mark.parametrize("ending", files.SIDE_SUFFIXES)
@pytest.mark.parametrize("words", [["backup"], ["backup", "--force"], ["init"]])
def test_nothing_takes_the_name_of_what_sqlite_keeps_beside_a_database(
    words: list[str], ending: str, path: Path
) -> None:
    """A log that is replaced is lost, and what was committed in it."""
    beside = path.with_name(f"other.db{ending}")
    target = ["-d", str(beside), *words] if words == ["init"] else ["-d", str(path), *words, str(beside)]
    done = CliRunner().invoke(vserver.main, target, prog_name="vserver")
    assert done.exit_code == 1 and "is the name of a file that SQLite keeps beside a database" in done.stderr
    assert not beside.exists()
