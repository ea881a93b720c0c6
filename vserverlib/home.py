"""The folder of the application: where the history of the shell is kept, and what is remembered of databases.

It owns where that is, and that only its owner can read it. What is in a file is its user's.
"""

from __future__ import annotations

import errno
import os
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

    A link is followed where it is ours, and does not lead to another user's file.
    """
    make_folder(path.parent)
    _refuse_links_of_others(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return path


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, each for its owner alone; what is there already stays as it is."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _refuse_links_of_others(path: Path) -> None:
    if os.name == "posix" and path.is_symlink():
        owners = {path.lstat().st_uid, path.stat().st_uid if path.exists() else os.geteuid()}
        if owners != {os.geteuid()}:
            raise PermissionError(errno.EPERM, "it is another user's link, or leads to another user's file")
