"""The command line's arguments: a password among them leaves the process list before anything else is imported.

Every user of a machine can read the arguments of a process; only its owner and root can read its environment, and that
as it was at the start. So if an argument names a database with a password, the program executes itself again: the new
arguments have URLs without passwords, and a pipe, which it reads and closes at once, has the whole URLs.

addresses.py recognizes passwords. Arguments that are not names (the code of -c, a text to search for, the fields
of `create` and `set`, the arguments of `run`) stay as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from vserverlib import addresses, signals

TYPE_CHECKING = False  # importing typing takes time
if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "VSERVER_URLS"  # the environment variable for the new program: process id and pipe
OPTIONS = ("--database", "-d")  # a name follows them
OTHER_OPTIONS = ("--output", "-o")  # of the program, with a value
PREFIXES = ("--database=", "-d")  # they may precede a name in the same argument
TEXT_OPTIONS = ("-c", "--where", "--search")  # their values are not names
TEXT_COMMANDS = ("create", "set", "run")  # their words are not names, either
BEHIND = "--"  # the arguments of a script follow it
_whole: dict[str, str] = {}
_behind: list[str] = []


def hide() -> None:
    """Execute the program again if its arguments hold a password. Call it before anything else."""
    if VARIABLE in os.environ:
        signals.let_through()
        with contextlib.suppress(OSError, TypeError, ValueError):  # another program's variable
            _remember(_read(*map(int, os.environ.pop(VARIABLE).split(":"))))
        return
    typed = sys.argv[1:]
    texts = _texts(typed)
    words = [
        word if at in texts and not _names_database(word, before) else _plain(word, before)
        for at, (word, before) in enumerate(zip(typed, ["", *typed], strict=False))
    ]
    if words != typed:
        found: dict[str, object] = {
            _name(word): _name(whole) for word, whole in zip(words, typed, strict=True) if word != whole
        }
        if BEHIND in typed:
            found[BEHIND] = typed[typed.index(BEHIND) + 1 :]
        front = sys.orig_argv[1 : len(sys.orig_argv) - len(typed)]
        signals.block()
        with contextlib.suppress(OSError):  # longer than the system allows
            given = f"{os.getpid()}:{_written(json.dumps(found))}"
            os.execve(sys.executable, [sys.executable, *front, *words], {**os.environ, VARIABLE: given})
        signals.let_through()


def _written(text: str) -> int:
    """Return the end of a pipe that holds a text and that an executed program inherits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "wb", buffering=0) as file:
        if file.write(text.encode()) != len(text.encode()):
            raise OSError("the pipe is full")
    os.set_inheritable(reader, True)
    return reader


def _read(process: int, reader: int) -> str:
    if process != os.getpid():  # os.execve() keeps the process id
        raise OSError("the pipe is another program's")
    with open(reader, "rb") as file:
        return file.read().decode()


def _remember(urls: str) -> None:
    found = json.loads(urls)
    if isinstance(found, dict):
        _whole.update((word, url) for word, url in found.items() if isinstance(url, str))
        _behind.extend(found.get(BEHIND) or [])


def with_password(url: str) -> str:
    """Return a URL with the password that the program was started with, if any."""
    return _whole.get(url, url)


def of_script(words: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of a script as they were typed, with their passwords."""
    return tuple(_behind) if len(_behind) == len(words) else tuple(words)


def _texts(typed: Sequence[str]) -> range:
    """Return the indexes of the words of a command that takes texts."""
    words = iter(enumerate(typed))
    for at, word in words:
        if word in (*OPTIONS, *OTHER_OPTIONS):
            next(words, None)  # its value
        elif not word.startswith("-"):
            return range(at + 1, len(typed)) if word in TEXT_COMMANDS else range(0)
    return range(0)


def _names_database(word: str, before: str) -> bool:
    return before in OPTIONS or word.startswith(PREFIXES)


def _plain(word: str, before: str) -> str:
    if before in TEXT_OPTIONS:
        return word
    name = _name(word)
    return word[: len(word) - len(name)] + addresses.without_password(name)


def _name(word: str) -> str:
    """Return the database name in an argument: the part after -d, or all of it."""
    return next((word[len(start) :] for start in PREFIXES if word.startswith(start)), word)
