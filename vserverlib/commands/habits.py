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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import click

from vserverlib import UsageError, addresses, printable
from vserverlib.commands import suggestions
from vserverlib.databases.registry import ENTITIES

LONG = 7  # letters of a word in which two may be wrong

# Commands

# By what is typed: the line, if the words after it do not matter.
LINES: dict[tuple[str, ...], str] = {
    ("grant", "assign"): "set user NAME roles+=ROLE",
    ("revoke",): "set user NAME roles-=ROLE",
    ("apply", "load", "sync", "upload"): "import FILE --merge",
    ("status", "stats", "summary", "dashboard", "count"): "overview",
    ("revert", "rollback"): "undo",
    ("redo",): "undo --change CHANGE",
    ("dump",): "backup",
    ("migrate", "makemigrations"): "upgrade",
    ("fix", "repair"): "check --fix",
    ("ps", "jobs"): "list tasks --where complete=false",
    ("createsuperuser",): "create user NAME organization=… roles=root",
    ("python", "ipython", "console", "repl", "db", "sql", "psql", "sqlite3", "dbshell"): "shell",
    ("version",): "--version",
}
WITH_WORDS = {
    **dict.fromkeys(("exec", "execute"), "shell"),
    **dict.fromkeys(("cp", "clone"), "copy"),
    **dict.fromkeys(("man", "manual"), "help"),
}
STARTS = ("retry", "rerun", "restart", "resubmit", "submit", "post")  # of tasks


def command(typed: str, words: Sequence[str], database: str, commands: Mapping[str, Any]) -> str:
    """Return the remedy for an unknown command and its words, after a colon or semicolon; "" if nothing is known.

    commands: ours, by their names.
    """
    line = partial(addresses.command, database)
    word = typed.casefold()
    options = {name: _options(each) for name, each in commands.items()}
    if word in STARTS:
        task = next((each for each in words if each.isdigit()), "TASK")
        return f": {line('run', 'IMAGE', 'METHOD')} posts a new task; {line('why', task)} explains this one"
    if found := _line_of(word, words, options, line):
        return f": use {found}"
    known = _typo(word, commands)
    return f'; did you mean "{known}"?' if known else ""


def _line_of(
    word: str, words: Sequence[str], options: Mapping[str, suggestions.Options], line: Callable[..., str]
) -> str:
    """Return the line for a word that is no command, and the words after it; "" if none is known."""
    if found := _fixed(word, words, line):
        return found
    if word == "vserver" and words:
        return line(*words)
    if word in ("logs", "tail"):
        return _logs(words, line)
    if word in suggestions.STATES:
        return line("list", "tasks", "--where", suggestions.STATES[word])
    typed = list[str]()
    if suggestions.noun_of(word.partition("/")[0]):
        typed = suggestions.of_entity(word, words, options)
    elif suggestions.verb_of(word, options):
        typed = suggestions.line(word, words, options)
    return line(*typed) if typed else ""


def _logs(words: Sequence[str], line: Callable[..., str]) -> str:
    """Return the line that prints the log of a result, or those of a task."""
    id = next((word for word in words if word.isdigit()), "ID")
    if any(suggestions.noun_of(word) == "task" for word in words):
        return line("list", "results", "--where", f"task.id={id}", "--fields", "id,organization,log", "-o", "yaml")
    return line("show", "result", id)


def _fixed(word: str, words: Sequence[str], line: Callable[..., str]) -> str:
    """Return the line for a word of LINES or WITH_WORDS, or for a database to open."""
    plain = [each for each in words if each[:1] != "-"]
    if word in ("open", "use", "connect"):
        return addresses.command(addresses.shown(plain[0]), "shell") if plain else line("shell")
    if word in WITH_WORDS:
        return line(WITH_WORDS[word], *plain)
    file = next(iter(plain), "FILE")
    text = next((text for known, text in LINES.items() if word in known), "")
    return line(*(file if each == "FILE" else each for each in text.split())) if text else ""


def _options(each: click.Command) -> suggestions.Options:
    return {
        option: not (param.is_flag or param.count)
        for param in each.params
        if isinstance(param, click.Option)
        for option in param.opts
    }


# Typing errors


def _typo(word: str, known: Iterable[str]) -> str:
    """Return the only known word that differs by one slip of the fingers, or by two in a long word; else ""."""
    most = 1 if len(word) < LONG else 2
    found = sorted((_slips(word, each), each) for each in known)
    return found[0][1] if found and found[0][0] <= most else ""


def _slips(one: str, other: str) -> int:
    """Return how many letters have to be added, left out, replaced or swapped to make one word the other."""
    before, row = [0] * (len(other) + 1), list[int](range(len(other) + 1))
    for i, char in enumerate(one, 1):
        above, row, before_that = row, [i], before
        for j, letter in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (char != letter)))
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
                row[-1] = min(row[-1], before_that[j - 2] + 1)
        before = above
    return row[-1]


# Options

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
    is_extra = "unexpected extra argument" in str(error)
    if isinstance(error, click.NoSuchOption):
        first, second = (_line, _option) if ctx.info_name in ("create", "set") else (_option, _line)
        text = first(ctx, words, error.option_name) or second(ctx, words, error.option_name)
        near = [each for each in error.possibilities or () if _typo(error.option_name, [each])]
        return click.UsageError(text, ctx) if text else click.NoSuchOption(error.option_name, None, near, ctx)
    if isinstance(error, click.MissingParameter) and "'ENTITY'" in error.format_message():
        kinds = ", ".join(f"{noun}s" for noun in ENTITIES)
        return click.UsageError(f"Missing argument 'ENTITY': one of {kinds}", ctx)
    script = next((word for word in words if word.endswith(".py")), "")
    if isinstance(error, click.MissingParameter) and "'METHOD'" in error.format_message() and script:
        return click.UsageError(f"run posts a task; a script runs with: {ctx.obj.command('shell', script)}", ctx)
    if filter_ := _torn_by_blanks(words):
        return UsageError(f"quote a filter that has spaces: --where {filter_}")
    text = (_extra(str(error), ctx) or _line(ctx, words, "")) if is_extra else ""
    return click.UsageError(text, ctx) if text else None


def _line(ctx: click.Context, words: Sequence[str], option: str) -> str:
    """Return our line for words of a command that it does not take, such as fields as options or a bare filter."""
    name = str(ctx.info_name)
    if name not in (*suggestions.PLACEHOLDERS, "log"):
        return ""
    found = suggestions.line(name, words, {name: _options(ctx.command)})
    if found in ([], [name, *words]):
        return ""
    if found[0] != name:
        return f"a secret is never an argument: {ctx.obj.command(*found)}"
    if name not in ("list", "create", "set"):
        return f"write {ctx.obj.command(*found)}"
    if suggestions.noun_of(found[1].partition("/")[0]) is None:
        return ""
    rule = "a filter goes after --where" if name == "list" else "a field is written FIELD=VALUE"
    return f"{rule}: {ctx.obj.command(*found)}"


def _option(ctx: click.Context, words: Sequence[str], name: str) -> str:
    """Return the answer to an unknown option."""
    is_program = isinstance(ctx.command, click.Group)
    field = name.lstrip("-").replace("-", "_")
    if is_program and suggestions.is_settable(field):
        return f"{name} is a field, which goes after a command: vserver create ENTITY {field}=…"
    known = {} if is_program else {option: param for param in ctx.command.params for option in param.opts}
    if is_program and name in ("--json", "--yaml", "--csv", "-o", "--output"):
        return f"{name} goes after a command: vserver list tasks -o {'json' if 'o' in name else name[2:]}"
    output = known.get("-o")
    formats = output.type.choices if output is not None and isinstance(output.type, click.Choice) else ()
    if name in FIRST:
        return f"{name} goes before the command: vserver {name} …"
    if name.lstrip("-") in formats:
        fields = next((f" --fields {word}" for word in _after(words, name) if "," in word and "--fields" in known), "")
        return f"{name} is written -o {name.lstrip('-')}{fields} here"
    if formats and name in ("--format", "--output-format", "-f"):
        return f"{name} is written -o here: -o {', -o '.join(str(each) for each in formats if each != 'table')}"
    if name == "-f":
        same = next((option for option in ("--yes", "--force") if option in known), "")
        return f"-f is written {same} here" if same else "a database goes before the command: vserver -d …"
    same = SAME_AS.get(name, "")
    return f"{name} is written {same} here" if same in known else ""


def _after(words: Sequence[str], option: str) -> Sequence[str]:
    """Return the word after an option, if there is one."""
    at = words.index(option) + 1 if option in words else len(words)
    return words[at : at + 1]


def _extra(message: str, ctx: click.Context) -> str:
    """Return the answer to an argument that a command does not take, if it is a database."""
    extra = message.partition("(")[2].rstrip(").").split()
    is_file = len(extra) == 1 and (ctx.command.name == "init" or is_database(extra[0]))
    return database_first(extra[0], str(ctx.info_name)) if is_file else ""


def database_first(word: str, command: str) -> str:
    """Return the answer to a database that follows a command."""
    line = addresses.command(addresses.shown(word) if addresses.is_url(word) else word, command)
    return f"the database goes before the command: {line}"


def is_database(word: str) -> bool:
    """Whether a word is likely the name of a database."""
    return addresses.is_url(word) or word.endswith((".db", ".sqlite", ".sqlite3")) or os.path.isfile(word)


def _torn_by_blanks(words: Sequence[str]) -> str:
    """Return the filter whose parts follow --where as words of their own, quoted; "" if there is none."""
    home = os.path.expanduser("~")
    for at in (at for at, word in enumerate(words) if word == "--where"):
        after = itertools.takewhile(lambda word: not word.startswith("-"), words[at + 1 :])
        parts = ["~" if part == home else part for part in after]  # an unquoted ~ is the home
        if len(parts) > 1 and suggestions.OPERATOR.search(f"{parts[0]} {parts[1][:2]}"):
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
