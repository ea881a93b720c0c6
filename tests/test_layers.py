"""Who imports whom: imports go down, no circle, and each heavy library has its owners.

Every import counts, wherever it stands: inside a function and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MIGRATIONS = sorted((ROOT / "vserverlib" / "migrations").glob("0*.py"))

# The rooms, lowest first: a module imports from its own room and from those before it. "base" is what stands in
# vserverlib/ itself; models, shell and vserver are the modules at the top.
ROOMS = (
    "base",
    "nodes",
    "databases",
    "entities",
    "models",
    "queries",
    "transfer",
    "plans",
    "examples",
    "terminal",
    "opening",
    "pages",
    "serving",
    "posting",
    "api",
    "commands",
    "shell",
    "notebooks",
    "vserver",
)
# Which modules import a library that costs time, or that only one part of the program is about.
OWNERS = {
    "click": {
        *(
            "vserver",
            "read",
            "edit",
            "maintenance",
            "options",
            "plan_session",
            "applied_log",
            "completers",
            "shell_completion",
            "help_page",
            "topics",
        ),
        *("create", "editor", "passwords", "confirmation"),
        "clean_up",
        *("habits", "printing"),
        *("node", "run", "start"),
    },
    "IPython": {"console", "history", "magics", "matcher", "extension"},
    "prompt_toolkit": {"console", "history"},
    "pygments": {"console"},
    "traitlets": {"console"},
    "rich": {
        "views",
        "overview_screen",
        "panels",
        "live_display",
        "trees",
        "display",
        "journal_screen",
        "check_report",
        "plan_screen",
        "why_report",
        "outcome_view",
        "help_screen",
    },
    "yaml": {"formats", "documents"},
    "bcrypt": {"hashing"},
    "peewee": {"drivers"},
    "playhouse": {"schemas"},
    "starlette": {"application", "browser", "sockets"},
    "uvicorn": {"starting"},
    "socketio": {"sockets", "events"},
    "requests": {"client"},
    "jwt": {"tokens"},
    "jinja2": {"rendering"},
    "markupsafe": {"rendering", "documents", "overview_page", "entity_page"},
    "psycopg": {"postgres", "sessions", "connecting", "secret_values", "value_decoding", "lock_timeout", "servers"},
}
AT_START = ("click", "peewee", "playhouse")


@functools.cache
def modules() -> dict[str, Path]:
    """Return the files of the program by the names that imports have for them, but for migrations."""
    files = [*ROOT.glob("*.py"), *(ROOT / "vserverlib").rglob("*.py")]
    return {_module(path): path for path in files if path not in MIGRATIONS}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imported(path: Path) -> set[str]:
    """Return what a file imports: one of our modules by its name, a library by its first word."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(_named(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found.update(_named(f"{base}.{alias.name}", base) for alias in node.names)
    return found


def _named(*candidates: str) -> str:
    return next((name for name in candidates if name in modules()), candidates[-1].partition(".")[0])


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return our modules with those of ours that each imports."""
    return {name: (imported(path) & modules().keys()) - {name} for name, path in modules().items()}


def room(name: str) -> str:
    """Return the room that a module is in."""
    parts = name.split(".")
    if parts[-1] == "__main__":  # the door: it starts the program
        return "vserver"
    if parts[0] != "vserverlib":
        return name
    return parts[1] if len(parts) > 1 and (ROOT / "vserverlib" / parts[1]).is_dir() else "base"


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return a circle in a graph; nothing if there is none."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(graph()) == []


def test_a_circle_would_be_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_every_module_is_in_a_known_room() -> None:
    assert {room(name) for name in modules()} - {"migrations"} == set(ROOMS)


def test_a_module_imports_from_its_own_room_and_from_lower_ones() -> None:
    rooms = {name: ROOMS.index(room(name)) for name in modules() if room(name) in ROOMS}
    upwards = [(name, other) for name in rooms for other in graph()[name] if rooms[other] > rooms[name]]
    assert upwards == []


def test_a_library_is_imported_by_its_owners_only() -> None:
    for library, owners in OWNERS.items():
        importers = {name.rpartition(".")[2] for name, path in modules().items() if library in imported(path)}
        assert importers <= owners, library


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.name)
def test_a_migration_imports_peewee_and_finds_older_ones_but_nothing_else(path: Path) -> None:
    assert imported(path) <= {"importlib", "peewee", "re"}


def test_nodes_import_nothing_of_ours_but_the_base() -> None:
    of_nodes = {other for name, others in graph().items() if room(name) == "nodes" for other in others}
    assert {room(name) for name in of_nodes} == {"base", "nodes"}


def test_the_server_is_imported_by_its_command_and_by_what_posts_to_it_only() -> None:
    importers = {name for name, others in graph().items() if any(room(each) == "serving" for each in others)}
    assert {name for name in importers if room(name) not in ("serving", "posting")} == {"vserverlib.commands.start"}


def test_no_heavy_library_is_imported_at_start() -> None:
    heavy = [library for library in OWNERS if library not in AT_START]
    code = f"import sys, vserver, models, shell; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
