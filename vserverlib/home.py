"""The folder of the application: the shell's history, copies of servers' databases, secrets of ours, the last checks.

It owns the folder's location and its permissions: only the owner can read it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from pathlib import Path


def folder() -> Path:
    """Return the folder of the application: $VSERVER_HOME, or the system's folder for such data. Creates nothing.

    Raises an OSError if the user has no home, as in a container whose user is only a number.
    """
    try:
        if asked := os.environ.get("VSERVER_HOME"):
            return Path(asked).expanduser().absolute()
        return _data_folder()
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder: set VSERVER_HOME") from None


def _data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vserver"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "vserver"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "vserver"


def own_file(path: Path) -> Path:
    """Create a file that only its owner can read, and its folder, unless they exist. Raises OSError.

    Follows a link of this user's, unless it leads to another user's file. Refuses a file of another user.
    """
    make_folder(path.parent)
    _refuse_files_of_others(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return path


def make_folder(folder: Path) -> None:
    """Create a folder and its parents for their owner alone; existing ones stay as they are."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def own_folder(folder: Path) -> Path:
    """Create a folder for its owner alone, unless it exists, and return it.

    Raises an OSError if it is a link, another user's, or accessible to others.
    """
    make_folder(folder)
    if not is_own_folder(folder):
        raise PermissionError(errno.EPERM, f"{folder} is a link, another user's, or open to others")
    return folder


def is_own_folder(folder: Path) -> bool:
    """Whether a folder is this user's, is not a link, and nobody else can access it."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def own_entries(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """Return this user's entries of an own_folder() whose whole names match, without links.

    Returns nothing if the folder is missing or not ours.
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
