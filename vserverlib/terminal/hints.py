"""The one line that helps after a mistake at the prompt: a method without brackets, a command of the terminal, a None.

Imported after the first mistake.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

from vserverlib import database_errors, most_similar, printable, vantage6_names
from vserverlib.databases.registry import ENTITIES
from vserverlib.entities import other_orms
from vserverlib.entities.entity import Entity
from vserverlib.terminal.value_completion import HIDDEN

OURS = ("vserverlib", "models", "shell", "peewee")
OF_DB = ("undo", "log", "check", "checks", "strict", "why")
PLURALS = tuple(f"{noun}s" for noun in ENTITIES)
OF_ENTITY = ("save", "delete", "history", "help")
COMMAND = re.compile(r"\s*!?vserver\b(?P<words>.*)")
SQL = re.compile(
    r"\s*(select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s*\(|pragma\s)", re.IGNORECASE
)
# What the commands are at the prompt, by their first words.
HERE = {
    "": "overview() shows the status",
    "overview": "overview() shows it",
    "watch": "watch() shows it",
    "wait": "watch() waits",
    "log": "db.log() shows it",
    "undo": "db.undo() does it",
    "check": "db.check() does it",
    "shell": "you are in it",
    "passwd": "user.password = … and user.save() do it",
    "unlock": "user.unlock() does it",
    "fail": "result.fail() does it",
    "help": "help shows what to type",
    "list": "db.{Task}.get() lists them",
    "show": "db.{Task}.get(1) shows one",
}
REOPEN = "leave with Ctrl-D and start the shell again"
DEBUG = "vserver --debug shell prints the whole traceback"


def of_callable(value: Any, source: str) -> str:
    """Return the hint for a function of ours that is the value of a cell, such as organization.save; "" for others."""
    is_ours = isinstance(value, FunctionType | MethodType) and str(value.__module__).partition(".")[0] in OURS
    typed = _last_value(source) if is_ours else ""
    return f"nothing was done: {typed} is a function, brackets call it: {typed}()" if typed else ""


def _last_value(source: str) -> str:
    """Return the name or attribute that a cell ends in, such as organization.save; "" if it ends in something else."""
    try:
        body = ast.parse(source.strip()).body
    except (SyntaxError, ValueError, RecursionError):
        return ""
    value = body[-1].value if body and isinstance(body[-1], ast.Expr) else None
    return ast.get_source_segment(source.strip(), value) or "" if isinstance(value, ast.Name | ast.Attribute) else ""


def of_command(source: str) -> str:
    """Return the hint for a command of the terminal, such as `vserver overview`; "" for other source."""
    found = COMMAND.fullmatch(source.strip())
    if found is None or source.lstrip().startswith("!"):
        return ""
    words = found["words"].split()
    here = HERE.get(words[0] if words else "", "").format(Task=_class(words[1:]))
    typed = " ".join(["vserver", *words[:1]])  # the others may be secret
    remedy = f"here, {here}" if here else "leave with Ctrl-D, or type ! before it"
    return f"{typed} is a command for the terminal: {remedy}"


def of_sql(line: str) -> str:
    """Return the hint for a line of SQL; "" for other source."""
    run = 'database.execute_sql("…").fetchall() runs it'
    return f"this is SQL: {run}, and db.Task.where(…) needs none" if SQL.match(line) else ""


def _class(words: list[str]) -> str:
    """Return the class of the entity that a command names, else Task."""
    known = {word: noun for noun in ENTITIES for word in (noun, f"{noun}s")}
    return next((known[word].capitalize() for word in words if word in known), "Task")


def of_undefined(error: BaseException, names: Mapping[str, Any]) -> str:
    """Return ": call db.undo()" or '; did you mean "iknl"?' for an undefined name; "" for other errors."""
    name = error.name if isinstance(error, NameError) else None
    if hint := vantage6_names.of_error(error):
        return hint
    if name in names:  # of the shell: %run starts a file without them
        return ": %run -i runs a file with the names of the shell"
    if name in OF_DB:
        return f": call db.{name}()"
    if hint := other_orms.of_session(str(name)):
        return hint
    if name in OF_ENTITY:
        return f": {_of_one(str(name), names)}"
    return "" if name is None else _similar(name, names)


def _similar(name: str, names: Mapping[str, Any]) -> str:
    """Return what an undefined name may mean: a class of entities, in any spelling, or a name that is defined."""
    classes = {word: noun.capitalize() for noun in ENTITIES for word in (noun, f"{noun}s")}
    defined = [
        each for each in names if not each.startswith("_") and each not in HIDDEN and each not in classes.values()
    ]
    meant = most_similar(name, [*defined, *classes] if name[:1].isupper() else [*classes, *defined])  # the last counts
    if meant is None:
        return ""
    if meant in defined and not (name[:1].isupper() and meant in classes):
        return f"; did you mean {printable(meant)}?"
    name_of_class = classes[meant]
    all_of_them = f".get(), which returns all {meant}" if meant in PLURALS else ""
    return f"; did you mean db.{name_of_class}{all_of_them}?"


def of_save(line: str, names: Mapping[str, Any]) -> str:
    """Return the error for save() without an entity, which IPython takes as %save; "" for a line that %save takes."""
    words = line.split()
    if not words or line.lstrip().startswith("(") or isinstance(names.get(words[0]), Entity):
        return f"{_of_one('save', names)}; %save FILE 1-3 writes lines of this session to a file"
    return ""


def _of_one(method: str, names: Mapping[str, Any]) -> str:
    mine = {name: value for name, value in names.items() if isinstance(value, Entity) and not name.startswith("_")}
    unsaved = [name for name, value in mine.items() if value._unsaved()]
    name = next(iter([*unsaved, *mine]), "organization")
    return f"{method}() belongs to one entity: {name}.{method}()"


def of_none(error: BaseException, line: str, why: Callable[[str], str]) -> str:
    """Return the message for an attribute of None, after a lookup that found nothing; "" for other errors.

    why: returns why a variable is None, if a lookup is the reason.
    """
    if not isinstance(error, AttributeError) or error.obj is not None or "'NoneType'" not in str(error):
        return ""
    variable = next(iter(re.findall(rf"(\w+)\.{error.name}\b", line)), "")
    reason = why(variable)
    return f"{variable or 'this'} is None: {reason}" if reason else ""


def of_database_error(error: BaseException) -> str:
    """Return what to do after an error of Peewee or a driver; "" for other errors, also of ours."""
    return database_errors.remedy(error, REOPEN, DEBUG)
