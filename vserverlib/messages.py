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
MAX_WARNINGS = 3  # with the same code, of many rows at once
PLANNED = "planned: "  # before a line about a change that is not applied yet

_prefix = ""
_held: list[str] | None = None  # see held()
INDENT = "  "  # of the lines of a folded message after the first


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


def columns(stream: TextIO) -> int:
    """Return the width of the terminal that a stream is, or of COLUMNS there; 0 if it is no terminal."""
    try:
        return int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # a file or a pipe; no number in COLUMNS
        return 0


def folded(text: str, stream: TextIO) -> str:
    """Return a text in lines that fit a terminal, broken between words; unchanged for a file or a pipe."""
    width = columns(stream) if stream.isatty() else 0
    if width <= len(INDENT) or (text.isascii() and len(text) <= width):
        return text
    lines, words = [], text.split(" ")
    line = words[0]
    for word in words[1:]:
        if _cells(line) + 1 + _cells(word) > width and line.strip():
            lines.append(line)
            line = INDENT + word
        else:
            line += f" {word}"
    return "\n".join([*lines, line])


def _cells(text: str) -> int:
    """Return how many columns a text takes in a terminal."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(unicodedata.east_asian_width(char) in "WF" for char in text) + len(text)


def notify(text: str, colour: str = "dim") -> None:
    """Write a line to stderr, after all earlier output, folded to the width of a terminal."""
    if _held is not None and colour == "dim":
        _held.append(text)
        return
    sys.stdout.flush()
    message = folded(printable(_prefix + text, MAX_LENGTH), sys.stderr)
    print(painted(message, colour, sys.stderr), file=sys.stderr, flush=True)


@contextlib.contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    """Begin each message with a prefix, in place of another one."""
    global _prefix  # noqa: PLW0603  # as sys.stderr is for all
    before, _prefix = _prefix, prefix
    try:
        yield
    finally:
        _prefix = before


@contextlib.contextmanager
def held(prefix: str) -> Iterator[None]:
    """Print the dim messages of this block at its end, with a prefix; if it fails, they were not true: drop them."""
    global _held  # noqa: PLW0603  # as sys.stderr is for all
    before, _held = _held, []
    try:
        yield
        lines, _held = _held, before
        with prefixed(prefix):
            for line in lines:
                notify(line)
    finally:
        _held = before


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
def few_warnings() -> Iterator[None]:
    """Print only the first MAX_WARNINGS of our warnings with the same code, and how many more there were of each."""
    counts: dict[str, int] = {}
    show = warnings.showwarning

    def show_first(message: Warning | str, *place: Any, **options: Any) -> None:
        code = getattr(message, "code", "")
        counts[code] = counts.get(code, 0) + 1
        if not code or counts[code] <= MAX_WARNINGS:
            show(message, *place, **options)

    warnings.showwarning = show_first
    try:
        yield
    finally:
        warnings.showwarning = show
        for code, number in counts.items():
            if code and number > MAX_WARNINGS:
                notify(f"warning: {code} and {number - MAX_WARNINGS:,} more of the same", "yellow")


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
