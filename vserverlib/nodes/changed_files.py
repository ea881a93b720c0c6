"""Notices that the files of algorithms and databases change, for `vserver node --watch`. Each run reads them anew."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from vserverlib.nodes.jobs import Algorithm
from vserverlib.nodes.settings import Settings

MAX_FILES = 1000  # of a package
FIND_SECONDS = 10.0
FIND = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)"
State = tuple[int, int] | None


class ChangedFiles:
    """The files of algorithms and databases of some nodes' files."""

    def __init__(self, files: Sequence[Settings]) -> None:
        self._states = {path: _state(path) for settings in files for path in _paths(settings)}

    def changed(self) -> list[Path]:
        """Return the files that have changed since the last call."""
        found = []
        for path, before in self._states.items():
            state = _state(path)
            if state != before:
                self._states[path] = state
                found.append(path)
        return found


def _state(path: Path) -> State:
    try:
        found = path.stat()
    except OSError:  # it is being replaced, or gone
        return None
    return found.st_mtime_ns, found.st_size


def _paths(settings: Settings) -> Iterator[Path]:
    for algorithm in settings.algorithms.values():
        yield from [Path(algorithm.file)] if algorithm.file else _of_package(algorithm)
    for node in settings.nodes:
        for database in node.databases.values():
            if "://" not in database.uri:
                yield Path(database.uri)


def _of_package(algorithm: Algorithm) -> Iterator[Path]:
    """Return the Python files of a package, without importing it; none if its Python does not find it."""
    command = [algorithm.python, "-c", FIND, algorithm.package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FIND_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return
    origin = Path(done.stdout.strip())
    if origin.name == "__init__.py":
        yield from sorted(origin.parent.rglob("*.py"))[:MAX_FILES]
    elif origin.is_file():
        yield origin
