"""Who imports whom: the tables of docs/design.md, held against the imports of every module."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
DESIGN = (ROOT / "docs" / "design.md").read_text()
MIGRATIONS = sorted((ROOT / "vserverlib" / "migrations").glob("0*.py"))

PACKAGES = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "vserverlib").rglob("__init__.py")}


class Import(NamedTuple):
    """One module that another imports; late: inside a function, when it is first needed."""

    by: str
    name: str
    late: bool


def block(word: str) -> list[list[str]]:
    """Return the lines of a block of docs/design.md, the cells of each: columns are two spaces or more apart."""
    found = re.search(rf"```{word}\n(.*?)\n```", DESIGN, re.DOTALL)
    assert found, f"docs/design.md has no block {word}"
    return [re.split(r"\s{2,}", line) for line in found[1].splitlines()]


def names(cell: str) -> list[str]:
    return cell.split(", ")


@functools.cache
def modules() -> dict[str, Path]:
    """Return the files of the program by the name that the picture has for them: without their folders."""
    rooms = [path for path in (ROOT / "vserverlib").rglob("*.py") if path.name != "__init__.py"]
    own = {path.stem: path for path in [*ROOT.glob("*.py"), *rooms] if path.parent.name != "migrations"}
    return {"vserverlib": ROOT / "vserverlib" / "__init__.py"} | own


def imports(name: str, path: Path) -> Iterator[Import]:
    """Return all that a file imports, but what only the type checker sees."""
    for node, late in walk(ast.parse(path.read_text()), False):
        for imported in imported_names(node):
            yield Import(name, imported, late)


def walk(node: ast.AST, late: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child, late
        yield from walk(child, late or isinstance(child, ast.FunctionDef))


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [short(alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
        return [alias.name if alias.name in modules() else "vserverlib" for alias in node.names]
    return [short(node.module or "")] if isinstance(node, ast.ImportFrom) else []


def short(module: str) -> str:
    return module.split(".")[-1] if module.startswith("vserverlib.") else module.split(".")[0]


@functools.cache
def all_imports() -> list[Import]:
    return [found for name, path in modules().items() for found in imports(name, path)]


LAYERS = {name: height for height, cells in enumerate(reversed(block("layers"))) for name in names(cells[0])}
LATE = {(by, name) for by, name, *_ in block("late")}
OWNERS = {library: names(owners) for library, owners, *_ in block("libraries")}


def test_the_picture_shows_every_module_and_no_other() -> None:
    assert set(LAYERS) == set(modules())


@pytest.mark.parametrize("module", LAYERS)
def test_a_module_imports_what_stands_below_it(module: str) -> None:
    found = {each.name for each in all_imports() if each.by == module and each.name in LAYERS and not each.late}
    assert [name for name in found if LAYERS[name] >= LAYERS[module]] == []


def test_what_is_imported_late_from_above_is_named_in_the_picture() -> None:
    upward = {
        (each.by, each.name) for each in all_imports() if each.late and LAYERS.get(each.name, -1) >= LAYERS[each.by]
    }
    assert upward == LATE


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(library: str) -> None:
    assert {each.by for each in all_imports() if each.name == library} <= set(OWNERS[library])


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.name)
def test_a_migration_imports_peewee_and_finds_older_ones_but_nothing_else(path: Path) -> None:
    assert {each.name for each in imports("migration", path)} <= {"importlib", "peewee", "re"}


def test_no_heavy_library_is_imported_at_start() -> None:
    heavy = [library for library in OWNERS if library not in ("click", "peewee", "playhouse")]
    code = f"import sys, vserver, models, shell; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
