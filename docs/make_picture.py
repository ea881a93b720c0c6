"""Write docs/shell.svg: the screen of a real session of the shell, on the example data.

    python docs/make_picture.py

The session runs at a terminal as the tests have it; its screen is drawn as it is at the end. The drawing names no
font to be fetched, so it shows nothing of its readers to anybody.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from terminal import Terminal, environment  # noqa: E402  # the tests' own, which is beside us

COLUMNS, LINES = 96, 60
TITLE = "vserver shell --demo"
SESSION = (
    "[task for task in db.Task.get() if not task.complete]",
    "db.Task.get(8)",
    'db.Organization(nmae="Oslo")',
)
# What pyte calls a colour, and what rich does.
COLOURS = {"default": None, "brown": "yellow", "brightbrown": "bright_yellow", "bfightmagenta": "bright_magenta"}
# A light terminal, whose colours can be told apart from each other and from the paper.
PAPER = TerminalTheme(
    (250, 250, 248),
    (40, 44, 52),
    [
        (40, 44, 52),
        (190, 40, 45),
        (30, 120, 60),
        (150, 100, 10),
        (30, 90, 180),
        (140, 60, 150),
        (15, 120, 130),
        (110, 115, 125),
    ],
    [
        (125, 130, 140),
        (210, 60, 60),
        (40, 140, 75),
        (170, 120, 20),
        (50, 110, 200),
        (160, 80, 170),
        (30, 140, 150),
        (60, 65, 75),
    ],
)
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def picture() -> str:
    """Return the drawing of a session's last screen."""
    lines = [drawn_line(row) for row in screen()]
    while not lines[-1].plain.strip():
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115  # it only records
    console.print(Text("\n").join(lines), no_wrap=True, overflow="crop")
    svg = console.export_svg(title=TITLE, theme=PAPER, unique_id="vserver")
    return without_remote_fonts(svg)


def screen() -> list[list[Any]]:
    """Return the characters of the screen, row by row, after the session has been typed."""
    with tempfile.TemporaryDirectory() as home:
        env = environment(Path(home), VSERVER_THEME="light", COLUMNS=str(COLUMNS))
        terminal = Terminal([sys.executable, "-m", "vserver", "shell", "--demo"], env, COLUMNS, LINES)
        for line in SESSION:
            terminal.enter(line)
        rows = [[terminal.screen.buffer[row][column] for column in range(COLUMNS)] for row in range(LINES)]
        terminal.leave()
    return rows


def drawn_line(row: list[Any]) -> Text:
    line = Text()
    for look, chars in groupby(row, key=style):
        line.append("".join(char.data for char in chars), look)
    line.rstrip()
    return line


def style(char: Any) -> Style:
    """Return what rich calls the look of one character of the screen."""
    return Style(
        color=colour(char.fg),
        bgcolor=colour(char.bg),
        bold=char.bold,
        italic=char.italics,
        underline=char.underscore,
        reverse=char.reverse,
    )


def colour(name: str) -> str | None:
    if re.fullmatch(r"[0-9a-f]{6}", name):
        return f"#{name}"
    return COLOURS.get(name, name.replace("bright", "bright_"))


def without_remote_fonts(svg: str) -> str:
    """Return the drawing with a reader's own monospaced font in place of one that would be fetched."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: Fira Code[^;]*;", f"font-family: {FONT};", svg)
    return re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    (HERE / "shell.svg").write_text(picture())
    print("written: docs/shell.svg")
