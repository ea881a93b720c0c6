"""The arguments of the program: a password in one is out of the list of processes before anything else is imported.

Everybody on a machine can read the arguments of a process; its user, and root, its environment, as it was at the start.
So a program whose arguments name a database with a password starts anew: with URLs that have none in their place, and
the whole URLs in a pipe, which it reads and closes at once.

It owns that. What a password in a name is, addresses.py knows. What is no name (the code of -c, a text that is searched
for) is left as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from vserverlib import addresses, signals

TYPE_CHECKING = False  # typing takes its time to be imported
if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "VSERVER_URLS"  # of the environment, between the start and the new one: the process and the end of its pipe
BEFORE = ("--database=", "-d")  # what may stand before a name in the same word
TEXTS = ("-c", "--where", "--search")  # what follows these is no name
BEHIND = "--"  # what comes behind it are the arguments of a script
_whole: dict[str, str] = {}
_behind: list[str] = []


def hide() -> None:
    """Start the program anew, if its arguments hold a password; to be called before all else."""
    if VARIABLE in os.environ:
        signals.let_through()
        with contextlib.suppress(OSError, TypeError, ValueError):  # it is not ours
            _remember(_read(*map(int, os.environ.pop(VARIABLE).split(":"))))
        return
    typed = sys.argv[1:]
    words = [_plain(word, before) for word, before in zip(typed, ["", *typed], strict=False)]
    if words != typed:
        found: dict[str, object] = {
            _name(word): _name(whole) for word, whole in zip(words, typed, strict=True) if word != whole
        }
        if BEHIND in typed:
            found[BEHIND] = typed[typed.index(BEHIND) + 1 :]
        front = sys.orig_argv[1 : len(sys.orig_argv) - len(typed)]
        signals.block()
        with contextlib.suppress(OSError):  # more than the system takes
            given = f"{os.getpid()}:{_written(json.dumps(found))}"
            os.execve(sys.executable, [sys.executable, *front, *words], {**os.environ, VARIABLE: given})
        signals.let_through()


def _written(text: str) -> int:
    """Return the end of a pipe that holds a text, which a program that is started inherits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(writer, "wb", buffering=0) as file:
        if file.write(text.encode()) != len(text.encode()):
            raise OSError("the pipe is full")
    os.set_inheritable(reader, True)
    return reader


def _read(process: int, reader: int) -> str:
    if process != os.getpid():  # it is the same after os.execve()
        raise OSError("the pipe is another program's")
    with open(reader, "rb") as file:
        return file.read().decode()


def _remember(urls: str) -> None:
    found = json.loads(urls)
    if isinstance(found, dict):
        _whole.update((word, url) for word, url in found.items() if isinstance(url, str))
        _behind.extend(found.get(BEHIND) or [])


def whole(url: str) -> str:
    """Return a URL as it was typed, with its password, where the program was started with it."""
    return _whole.get(url, url)


def behind(words: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of a script as they were typed, with passwords, for those that this program was given."""
    return tuple(_behind) if len(_behind) == len(words) else tuple(words)


def _plain(word: str, before: str) -> str:
    if before in TEXTS:
        return word
    name = _name(word)
    return word[: len(word) - len(name)] + addresses.plain(name)


def _name(word: str) -> str:
    """Return the name of a database in a word: what stands behind -d, or all of it."""
    return next((word[len(start) :] for start in BEFORE if word.startswith(start)), word)
