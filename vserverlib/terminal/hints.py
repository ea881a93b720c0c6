"""The one line that helps after a mistake at the prompt: a method without brackets, a command of the terminal, a None.

Imported after the first mistake.
"""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

from vserverlib import Error
from vserverlib.databases.registry import ENTITIES
from vserverlib.drivers import peewee
from vserverlib.entities.entity import Entity

OURS = ("vserverlib", "models", "shell", "peewee")
OF_DB = ("undo", "log", "check", "checks", "strict")
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


def of_name(name: str | None, names: Mapping[str, Any]) -> str:
    """Return ": db.undo() is meant" for an undefined name that is a method; "" for other names."""
    if name in OF_DB:
        return f": call db.{name}()"
    return f": {_of_one(str(name), names)}" if name in OF_ENTITY else ""


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
    text = str(error).lower()
    if isinstance(error, Error) or not is_of_database(error):
        return ""
    if "no such column" in text or "no such table" in text or "does not exist" in text:
        return "db shows the entities, db.Task the fields of one"
    if "syntax error" in text or "incomplete input" in text:
        return "correct the SQL, or use db.Task.where(…), which needs none"
    if isinstance(error, peewee.IntegrityError | sqlite3.IntegrityError) or "constraint" in text:
        return "the database refused this row: save() of an entity names the field to change"
    if "closed" in text:
        return "the database is closed: leave with Ctrl-D and start the shell again"
    return f"this statement changed nothing; {DEBUG}"


def is_of_database(error: BaseException) -> bool:
    """Whether an error is one of Peewee or of a driver."""
    return isinstance(error, peewee.PeeweeException | sqlite3.Error) or type(error).__module__.startswith("psycopg")
