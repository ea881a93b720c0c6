"""The folder of the application: where the history of the shell is kept, and what is remembered of databases.

It owns where that is, and that only its owner can read it. What is in a file is its user's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def folder() -> Path:
    """Return the folder of the application: $VSERVER_HOME, or where the system keeps such data. Makes nothing."""
    home = Path.home()
    if asked := os.environ.get("VSERVER_HOME"):
        return Path(asked).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "vserver"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "vserver"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "vserver"


def own_file(path: Path) -> Path:
    """Make a file that only its owner can read, in a folder of that kind, unless it is there. Raises OSError."""
    if not path.parent.is_dir():
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return path
