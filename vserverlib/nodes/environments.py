"""Creates an environment with vantage6's algorithm tools, for algorithms that are written with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from vserverlib import Error, files, home, pluralize, printable

VERSION = "4.15.2"
TOOLS = (f"vantage6-algorithm-tools=={VERSION}", "pandas<3")  # the tools do not hold pandas below 3, but fail with it
MARK, COMPLETE = "vserver-environment", "complete"  # a file: the folder is ours; its text at the end
COLLECTING = re.compile(r"Collecting ([A-Za-z0-9._-]+)")  # printed by pip
INSTALLING = re.compile(r"Installing collected packages: (.+)")
Progress = Callable[[str], object]


def default_folder() -> Path:
    """Return where the environment is, unless a person names another folder."""
    return home.folder() / f"algorithm-tools-{VERSION}"


def default_python() -> str:
    """Return the Python of the environment in the default folder; this one if there is none."""
    try:
        folder = default_folder()
    except OSError:  # this user has no home
        return sys.executable
    return str(_python(folder)) if _is_complete(folder) else sys.executable


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def make_environment(folder: Path, progress: Progress, packages: Sequence[str] = TOOLS) -> Path:
    """Create an environment in a folder, unless it is there, and return its Python. Takes minutes and 240 MB.

    progress: takes a line, each time that something is done. Raises an Error, and leaves nothing behind, if it fails.
    packages: as pip takes them.
    """
    folder = folder.absolute()
    with files.as_error(f"{files.shown(folder)} cannot be created"):
        home.make_folder(folder.parent)
        with files.alone_in(folder.parent, f"waiting for another process that creates {files.shown(folder)}"):
            return _made(folder, progress, packages)


def _made(folder: Path, progress: Progress, packages: Sequence[str]) -> Path:
    python, mark = _python(folder), folder / MARK
    if _is_complete(folder):
        progress(f"{files.shown(folder)} exists already")
        return python
    if os.path.lexists(folder) and not mark.exists() and not _is_empty(folder):
        raise Error(f"{files.shown(folder)} is not an empty folder: name a new one")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        folder.mkdir()
        mark.touch()
        progress(f"creating {files.shown(folder)}")
        venv.create(folder, with_pip=True, symlinks=True)
        _install(python, progress, packages)
        mark.write_text(COMPLETE)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return python


def _is_complete(folder: Path) -> bool:
    try:
        return (folder / MARK).read_text() == COMPLETE
    except OSError:  # it is missing
        return False


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _install(python: Path, progress: Progress, packages: Sequence[str]) -> None:
    """Install packages with pip, and pass on its progress. Raises an Error if it fails."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *packages]
    said: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PIP_PROGRESS_BAR": "off"},
    ) as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                said.append(line.strip())
                if found := COLLECTING.match(line):
                    progress(f"downloading {found[1]}")
                elif found := INSTALLING.match(line):
                    progress(f"installing {pluralize(found[1].count(',') + 1, 'package')}")
        except BaseException:
            pip.kill()
            raise
    if pip.returncode:
        errors = [line for line in said if line.startswith("ERROR")] or said[-1:]
        reason = printable(errors[-1] if errors else f"status {pip.returncode}", 300)
        raise Error(f"pip could not install {' '.join(packages)} on Python {_release()}: {reason}")


def _release() -> str:
    return ".".join(map(str, sys.version_info[:2]))
