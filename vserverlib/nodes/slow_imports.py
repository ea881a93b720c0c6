"""The libraries that a fork server imports once, for all runs of an algorithm. Part of a program of its own.

It imports the installed libraries that the algorithm names, but never the algorithm, nor a module beside it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import sys
import warnings
from pathlib import Path

TOOLS = ("vantage6.algorithm.tools.wrap", "vantage6.algorithm.tools.decorators")
INSTALLED = {"site-packages", "dist-packages"}  # names of folders
UNSAFE_TO_FORK = ("grpc", "jax", "polars", "pyspark", "ray", "tensorflow", "torch")  # they start threads
MAX_SOURCES = 200  # files of an algorithm that are read


def import_slow(kind: str, target: str) -> None:
    """Import the tools of vantage6, or else pandas, if this Python has them; and the libraries of an algorithm."""
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)  # idle threads of numpy
    try:
        for name in TOOLS:
            importlib.import_module(name)
    except Exception:  # there are no tools, or they lack a library
        _import("pandas")
        _import("urllib.request")  # for subtasks
    for name in sorted(_libraries(kind, target)):
        _import(name)


def _import(name: str) -> None:
    with contextlib.suppress(Exception, SystemExit):  # the run reports it
        importlib.import_module(name)


def _libraries(kind: str, target: str) -> set[str]:
    """Return the installed modules that an algorithm imports: they change with the environment only."""
    found = set[str]()
    for path in _sources(kind, target):
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError):
            found |= _imported(ast.parse(path.read_bytes()))
    tops = {name: name.partition(".")[0] for name in found}
    return {
        name
        for name, top in tops.items()
        if top not in UNSAFE_TO_FORK and not _is_own(kind, target, top) and _is_installed(top)
    }


def _is_own(kind: str, target: str, name: str) -> bool:
    """Whether a module is the algorithm's: part of its package, or beside its file."""
    if kind != "file":
        return name == target.partition(".")[0]
    beside = Path(target).with_name(name)
    return beside.is_dir() or beside.with_suffix(".py").exists()


def _sources(kind: str, target: str) -> list[Path]:
    if kind == "file":
        return [Path(target)]
    try:
        spec = importlib.util.find_spec(target.partition(".")[0])
    except (ImportError, ValueError):
        return []
    folders = spec.submodule_search_locations if spec else None
    return [path for folder in folders or () for path in sorted(Path(folder).rglob("*.py"))][:MAX_SOURCES]


def _imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def _is_installed(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return bool(spec and spec.origin and INSTALLED & set(Path(spec.origin).parts))


def installed() -> list[tuple[str, int]]:
    """Return when something was installed in this environment, or removed."""
    folders = [each for each in sys.path if Path(each).name in INSTALLED and os.path.isdir(each)]
    return [(each, os.stat(each).st_mtime_ns) for each in folders]
