"""Calls in Python source that run another program, or a method of IPython's shell. Nothing is executed.

The name of the called function counts, whatever it belongs to (`sp.run(…)`, `getattr(o, "system")(…)`), and so do
imports and assignments that rename it. In doubt a call runs a program. Not found: a function whose name is computed at
run time (`getattr(os, "sys" + "tem")`), and one that calls such a function.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

from vserverlib import literals

STARTS = re.compile(
    r"system|popen\w*|Popen|(posix_)?spawn\w*|exec[lv]p?e?|check_call|check_output|getoutput|getstatusoutput"
    r"|create_subprocess_\w+"
)
COMMON = frozenset({"run", "call"})  # common names: they count only where they are called
MODULES = {"subprocess": re.compile(r"\w+"), "pexpect": re.compile(r"\w+")}  # every function of these modules counts
HOMES = frozenset({"os", "posix", "nt", "subprocess", "asyncio", "asyncio.subprocess", "pexpect", "pty"})


def find(tree: ast.AST, known: Container[str] | None = None) -> Iterator[tuple[str, list[Any], bool]]:
    """Return the calls of IPython's shell and those that run a program: the method, the texts, whether IPython's.

    known: the names that are defined where the source runs. If it is a mapping, its functions also count by their own
    names.
    """
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, given = node.func, [*node.args, *node.keywords]
        if isinstance(called, ast.Attribute) and _is_ipython(called.value):
            yield called.attr, literals.texts(given), True
        elif _runs(called, aliases, known) or any(_starts(value, aliases) for value in _values(given)):
            yield "", literals.texts([called, *given]), False


def _values(given: list[Any]) -> list[Any]:
    return [getattr(node, "value", node) if isinstance(node, ast.keyword) else node for node in given]


def _is_ipython(node: Any) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "get_ipython"


def _runs(called: Any, aliases: Mapping[str, str], known: Container[str] | None) -> bool:
    if _starts(called, aliases) or aliases.get(_name(called), _name(called)) in COMMON:
        return True
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        module = aliases.get(called.value.id, called.value.id)
        return module in MODULES and bool(MODULES[module].fullmatch(called.attr))
    return isinstance(called, ast.Name) and isinstance(known, Mapping) and _is_starter(known.get(called.id))


def _starts(node: Any, aliases: Mapping[str, str]) -> bool:
    """Whether an expression is a function that runs a program, with a name that few other functions have."""
    name = _name(node)
    return bool(STARTS.fullmatch(aliases.get(name, name)))


def _name(node: Any) -> str:
    """Return the name of a function: `b` for `a.b`, `b`, `getattr(a, "b")` and `a["b"]`; else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call) and _name(node.func) == "getattr" and len(node.args) > 1:
        node = ast.Subscript(node.args[0], node.args[1])
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return ""


def _aliases(tree: ast.AST) -> dict[str, str]:
    """Return the names that a source gives to modules and functions, with their original names."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.Assign | ast.NamedExpr) and (name := _name(node.value)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update((target.id, names.get(name, name)) for target in targets if isinstance(target, ast.Name))
    return names


def _is_starter(value: Any) -> bool:
    """Whether an object is a function that runs a program, whatever its name in the session."""
    home, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    return (
        isinstance(home, str)
        and home in HOMES
        and isinstance(name, str)
        and (name in COMMON or bool(STARTS.fullmatch(name)))
    )
