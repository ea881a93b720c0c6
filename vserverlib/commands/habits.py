"""Answers to what people type from habit, from other programs: `ls`, `rm`, `--json`, and a filter without quotes.

Each answer is the line that does it. Only a usage error imports this module.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence

import click

from vserverlib import UsageError, addresses, printable
from vserverlib.databases.registry import ENTITIES

PLURALS = tuple(f"{noun}s" for noun in ENTITIES)
ANY = ("ENTITY",)

# Commands

# By what is typed: the lines that may do it, the first of a command that exists. {} stands for the other words.
COMMANDS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("add", "new", "create", "insert", "register"): ("create {}", "shell"),
    ("rm", "remove", "del", "destroy", "drop"): ("delete {}",),
    ("ls", "ll", "dir"): ("list {}",),
    ("get",): ("show {}",),
    ("describe", "view", "cat", "info", "inspect"): ("show {}",),
    ("find", "search", "query", "select", "filter"): ("list {} --where FIELD=VALUE",),
    ("update", "modify", "change", "patch"): ("set {} FIELD=VALUE", "shell"),
    ("grant",): ("set user NAME roles+=ROLE", "shell"),
    ("revoke",): ("set user NAME roles-=ROLE", "shell"),
    ("apply", "load", "sync"): ("import FILE --merge",),
    ("status", "stats", "summary", "dashboard"): ("overview",),
    ("history", "audit", "journal"): ("log",),
    ("revert", "rollback"): ("undo",),
    ("dump",): ("backup",),
    ("migrate",): ("upgrade",),
    ("doctor", "validate", "verify", "lint", "fsck"): ("check",),
    ("python", "ipython", "console", "repl", "open", "connect"): ("shell",),
    ("version",): ("--version",),
}
PLACEHOLDERS = {
    "create": "ENTITY NAME",
    "delete": "ENTITY ID",
    "list": "ENTITY",
    "show": "ENTITY ID",
    "set": "ENTITY ID",
}
FLAGS = {"-l": "--wide", "-la": "--wide", "-al": "--wide", "-a": "--all"}  # of ls


def command(typed: str, words: Sequence[str], database: str, commands: Mapping[str, object]) -> str:
    """Return the command line for an unknown command and its words; "" if none is known."""
    word = typed.casefold()
    if word in (*ENTITIES, *PLURALS):
        return addresses.command(database, *_listed([word, *words]))
    lines = next((lines for known, lines in COMMANDS.items() if word in known), ())
    line = next((line for line in lines if line.split()[0] in commands or line.startswith("-")), "")
    if not line:
        return ""
    name, *rest = line.split()
    plain = [FLAGS.get(each, each) for each in words if each in FLAGS or not each.startswith("-")]
    if name in ("list", "show"):
        name, *plain = _listed(plain) if name == "list" or word == "get" else ["show", *plain]
    given = plain or PLACEHOLDERS.get(name, "").split()
    filled = [each for part in rest for each in (given if part == "{}" else [part])]
    return addresses.command(database, name, *filled)


def _listed(words: Sequence[str]) -> list[str]:
    """Return the words of `show` if they name one entity, as in task 12 and task/12, else those of `list`."""
    names = [word for word in words if not word.startswith("-")]
    if len(names) > 1 or any("/" in name for name in names):
        return ["show", *names]
    return ["list", *(names or ANY), *(word for word in words if word.startswith("-"))]


# Options

OPERATOR = re.compile("[=<>~]")
SAME_AS = {
    "--filter": "--where",
    "--columns": "--fields",
    "--sort-by": "--sort",
    "--order-by": "--sort",
    "--reverse": "--newest",
    "-l": "--wide",
    "-n": "--limit",
    "--force": "--yes",
    "-y": "--yes",
}
FIRST = ("-d", "--database", "--no-pager", "--debug", "--strict")  # options of the program


def answer(error: Exception, ctx: click.Context, words: Sequence[str]) -> Exception | None:
    """Return a better error for the words of a command; None if nothing better is known."""
    if isinstance(error, click.NoSuchOption):
        text = _option(error.option_name, ctx)
    elif filter_ := _torn_by_blanks(words):
        return UsageError(f"quote a filter that has spaces: --where {filter_}")
    else:
        text = _extra(str(error), ctx) if "unexpected extra argument" in str(error) else ""
    return click.UsageError(text, ctx) if text else None


def _option(name: str, ctx: click.Context) -> str:
    """Return the answer to an unknown option."""
    is_program = isinstance(ctx.command, click.Group)
    known = {} if is_program else {option: param for param in ctx.command.params for option in param.opts}
    if is_program and name in ("--json", "--yaml", "--csv", "-o", "--output"):
        return f"{name} goes after a command: vserver list tasks -o {'json' if 'o' in name else name[2:]}"
    output = known.get("-o")
    formats = output.type.choices if output is not None and isinstance(output.type, click.Choice) else ()
    if name in FIRST:
        return f"{name} goes before the command: vserver {name} …"
    if name.lstrip("-") in formats:
        return f"{name} is written -o {name.lstrip('-')} here"
    if formats and name in ("--format", "--output-format", "-f"):
        return f"{name} is written -o here: -o {', -o '.join(str(each) for each in formats if each != 'table')}"
    if name == "-f":
        same = next((option for option in ("--yes", "--force") if option in known), "")
        return f"-f is written {same} here" if same else "a database goes before the command: vserver -d …"
    same = SAME_AS.get(name, "")
    return f"{name} is written {same} here" if same in known else ""


def _extra(message: str, ctx: click.Context) -> str:
    """Return the answer to an argument that a command does not take, if it is a database."""
    extra = message.partition("(")[2].rstrip(").").split()
    is_file = len(extra) == 1 and (ctx.command.name == "init" or _is_database(extra[0]))
    if not is_file:
        return ""
    line = addresses.command(addresses.shown(extra[0]) if addresses.is_url(extra[0]) else extra[0], str(ctx.info_name))
    return f"the database goes before the command: {line}"


def _is_database(word: str) -> bool:
    return addresses.is_url(word) or word.endswith((".db", ".sqlite", ".sqlite3")) or os.path.isfile(word)


def _torn_by_blanks(words: Sequence[str]) -> str:
    """Return the filter whose parts follow --where as words of their own, quoted; "" if there is none."""
    home = os.path.expanduser("~")
    for at in (at for at, word in enumerate(words) if word == "--where"):
        after = itertools.takewhile(lambda word: not word.startswith("-"), words[at + 1 :])
        parts = ["~" if part == home else part for part in after]  # an unquoted ~ is the home
        if len(parts) > 1 and OPERATOR.search(f"{parts[0]} {parts[1][:1]}"):
            return shlex.quote(" ".join(parts))
    return ""


# A filter that the shell has torn apart

FIELD = re.compile(r"\s*[A-Za-z_][\w.]*\s*")
# What follows > in a filter, as a file name: a number, an age or a time.
VALUE = re.compile(r"=?(-?\d{1,6}[smhdw]|-?\d+(\.\d+)?|\d{4}(-\d\d){0,2}([T ][\d:.]+)?(Z|[+-][\d:]+)?|today|now)")
RECENT = 10.0  # seconds


def torn(filters: Sequence[str]) -> str:
    """Return a message for the first filter that is a field alone, as a shell leaves it of `field>value`; else ""."""
    field = next((text.strip() for text in filters if FIELD.fullmatch(text)), "")
    if not field:
        return ""
    file = next((name for name in _created_files() if VALUE.fullmatch(name)), None)
    if file is None:
        example = shlex.quote(f"{field}>-7d")
        message = f'"{printable(field)}" is not a filter: it has no operator and value'
        return f"{message}; quote < and >, which a shell takes for redirections, as in --where {example}"
    quoted = shlex.quote(f"{field}>{file}")
    message = f"the shell took > for a redirection and created the file {printable(file)}: quote the filter"
    return f"{message}, --where {quoted}, and delete the file with: rm {shlex.quote(f'./{file}')}"


def _created_files() -> Iterator[str]:
    """Yield the names of files here that a redirection may have created: stdout, and empty new ones."""
    stdout = _path_of(1)
    if stdout and os.path.dirname(stdout) == os.getcwd():
        yield os.path.basename(stdout)
    with os.scandir() as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if entry.is_file() and not found.st_size and time.time() - found.st_mtime < RECENT:
                yield entry.name


def _path_of(descriptor: int) -> str | None:
    """Return the path of an open file; None for anything else, or if the system does not say."""
    try:
        if hasattr(fcntl, "F_GETPATH"):  # macOS
            return fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0").decode()
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except (OSError, ValueError):
        return None
