"""Messages on stderr: warnings, notices, and their colours.

It owns how a line looks; the caller owns the text. It prints nothing to stdout.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from vserverlib import printable

THEMES = ("light", "dark", "none")  # the values of VSERVER_THEME: the terminal's background, or no colours
COLOURS = {"red": "31", "yellow": "33", "dim": "2"}
MAX_LENGTH = 1000  # characters of one message
PLANNED = "planned: "  # before a line about a change that is not applied yet

_prefix = ""


def theme() -> str:
    """Return light, dark or none, from NO_COLOR (any value) or VSERVER_THEME; "" if neither is set."""
    if os.environ.get("NO_COLOR"):
        return "none"
    asked = os.environ.get("VSERVER_THEME", "").lower()
    return asked if asked in THEMES else ""


def check_theme() -> None:
    """Warn if VSERVER_THEME has an unknown value, which is then ignored."""
    asked = os.environ.get("VSERVER_THEME", "")
    if asked and asked.lower() not in THEMES:
        notify(f'VSERVER_THEME is "{asked}": it can be {", ".join(THEMES[:-1])} or {THEMES[-1]}', "yellow")


def is_capable(stream: TextIO) -> bool:
    """Whether a stream is a terminal with more than plain lines, such as moving the cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_colourful(stream: TextIO) -> bool:
    """Whether to write colours to a stream: it is a capable terminal, and the user has not declined them."""
    return is_capable(stream) and theme() != "none"


def painted(text: str, colour: str, stream: TextIO) -> str:
    """Return a text in a colour (red, yellow, dim) if the stream shows colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if is_colourful(stream) else text


def notify(text: str, colour: str = "dim") -> None:
    """Write one line to stderr, after all earlier output."""
    sys.stdout.flush()
    print(painted(printable(_prefix + text, MAX_LENGTH), colour, sys.stderr), file=sys.stderr, flush=True)


@contextlib.contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Begin each message with a prefix, in place of another one."""
    global _prefix  # noqa: PLW0603  # as sys.stderr is for all
    before, _prefix = _prefix, prefix
    try:
        yield
    finally:
        _prefix = before


def warn(warning: Warning) -> None:
    """Issue a warning for the line of user code that caused it, without ever showing that line.

    Python shows the source line of a warning, and a line that saves a user may hold a password. It finds the line by
    its number, so the number becomes part of the file name (script.py:12:0): line 0 is in no file. This holds for
    every formatter and filter of warnings.
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
    """Print our warnings in one line each, every time, without the source line that Python adds."""
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
