"""The folder of the application: where the history of the shell is kept, and what is remembered of databases.

It owns where that is, and that only its owner can read it. What is in a file is its user's.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from pathlib import Path


def folder() -> Path:
    """Return the folder of the application: $VSERVER_HOME, or where the system keeps such data. Makes nothing.

    Raises an OSError where the user has no home: in a container, one may be a number and no more.
    """
    try:
        if asked := os.environ.get("VSERVER_HOME"):
            return Path(asked).expanduser()
        return _data_folder()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, f"{error}: set VSERVER_HOME") from None


def _data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vserver"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "vserver"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "vserver"


def own_file(path: Path) -> Path:
    """Make a file that only its owner can read, in a folder of that kind, unless it is there. Raises OSError.

    A link is followed if it is ours, and does not lead to another user's file. A file of another user is refused.
    """
    make_folder(path.parent)
    _refuse_files_of_others(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, each for its owner alone; what is there already stays as it is."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def own_folder(folder: Path) -> Path:
    """Make a folder that is its owner's alone, unless it is there, and return it: what lies in it is ours.

    Raises an OSError if what is there is a link, another user's, or open to others.
    """
    make_folder(folder)
    if not is_own_folder(folder):
        raise PermissionError(errno.EPERM, f"{folder} is a link, another user's, or open to others")
    return folder


def is_own_folder(folder: Path) -> bool:
    """Whether a folder is this user's, nobody else can look into it, and it is no link."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def own_entries(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """Return what lies in an own_folder() under a name that matches as a whole, and is this user's: no links.

    None if the folder is not there, or not ours: nothing in it is.
    """
    try:
        if not is_own_folder(folder):
            return []
        with os.scandir(folder) as entries:
            return [Path(each.path) for each in entries if name.fullmatch(each.name) and _is_own(each)]
    except OSError:
        return []


def _is_own(entry: os.DirEntry[str]) -> bool:
    return not entry.is_symlink() and entry.stat(follow_symlinks=False).st_uid == os.geteuid()


def _refuse_files_of_others(path: Path) -> None:
    if os.name == "posix" and os.path.lexists(path):
        owners = {path.lstat().st_uid, path.stat().st_uid if path.exists() else os.geteuid()}
        if owners != {os.geteuid()}:
            raise PermissionError(errno.EPERM, "it is another user's file or link, or leads to another user's file")
