"""What is told on stderr beside the data, and in which colours.

It owns how a line looks there; what it says is its caller's. Nothing here is printed to stdout.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from vserverlib import printable

THEMES = ("light", "dark", "none")  # what VSERVER_THEME may be: the background of the terminal, or no colours
COLOURS = {"red": "31", "yellow": "33", "dim": "2"}
LONGEST = 1000  # characters of one message


def theme() -> str:
    """Return light, dark or none as NO_COLOR (any value) or VSERVER_THEME say; "" where neither does."""
    if os.environ.get("NO_COLOR"):
        return "none"
    asked = os.environ.get("VSERVER_THEME", "").lower()
    return asked if asked in THEMES else ""


def check_theme() -> None:
    """Tell where VSERVER_THEME says what it cannot be; it is then left aside."""
    asked = os.environ.get("VSERVER_THEME", "")
    if asked and asked.lower() not in THEMES:
        notify(f'VSERVER_THEME is "{asked}": it can be {", ".join(THEMES[:-1])} or {THEMES[-1]}', "yellow")


def is_capable(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can do more than to show one line below the other."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_colourful(stream: TextIO) -> bool:
    """Whether colours may be written to a stream: a terminal that knows them, whose user did not decline."""
    return is_capable(stream) and theme() != "none"


def painted(text: str, colour: str, stream: TextIO) -> str:
    """Return a text in a colour (red, yellow, dim) where the stream shows colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if is_colourful(stream) else text


def notify(text: str, colour: str = "dim") -> None:
    """Write one line to stderr, after what was printed before it."""
    sys.stdout.flush()
    print(painted(printable(text, LONGEST), colour, sys.stderr), file=sys.stderr, flush=True)


def warn(warning: Warning) -> None:
    """Issue a warning of ours for the line of somebody else's code that is the cause, and never show that line.

    Python adds the line of source to a warning, and a line that saves a user may hold a password. It looks the line up
    by its number: so the number is part of the name here, as in script.py:12:0, and line 0 is in no file. That holds
    whatever formats the warning, and with whatever filters.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        frame = frame.f_back
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    warnings.warn_explicit(warning, type(warning), place, 0, module=frame.f_globals.get("__name__"))


def _is_ours(module: Any) -> bool:
    return module in ("models", "peewee") or str(module).partition(".")[0] == "vserverlib"


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Tell our warnings in one line each, every time, without the line of source that Python adds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if category.__module__.partition(".")[0] == "vserverlib":
                notify(f"warning: {message}", "yellow")
            else:
                others(message, category, *place, **options)

        warnings.showwarning = show
        yield
