"""Write the pictures of the README and of these pages: screens of real runs, on the example data.

    python docs/make_pictures.py [NAME…]

Each runs at a terminal as the tests have it; its screen is drawn as it is at the end. The drawings name no font to be
fetched, so they show nothing of their readers to anybody. That of watching shows what is made up by `demo --live`, so
it is another one each time.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from helpers.terminal import Terminal, environment  # noqa: E402  # the tests' own, which is beside us

from vserverlib.examples import demo  # noqa: E402

COLUMNS, LINES = 96, 60
VSERVER = (sys.executable, "-m", "vserver")
SESSION = (
    "[task for task in db.Task.get() if not task.complete]",
    "db.Task.get(8)",
    'db.Organization(nmae="Oslo")',
)
# What is typed at a shell's prompt for each picture of a command.
COMMANDS = {
    "list": "vserver list tasks --where status!=completed --sort -created_at",
    "show": "vserver show task 8",
    "overview": "vserver overview",
    "watch": "vserver watch",
}
ENOUGH = r"━━ \d/\d"  # of watching: a task that is about to be done
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
WIDE = re.compile(r"<text [^>]*>[^<]*[\u3000-\u9fff][^<]*</text>")  # rich squeezes it into half its width
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def picture(title: str, rows: list[list[Any]]) -> str:
    """Return the drawing of a screen."""
    lines = [drawn_line(row) for row in rows]
    while not lines[-1].plain.strip():
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115  # it only records
    console.print(Text("\n").join(lines), no_wrap=True, overflow="crop")
    svg = console.export_svg(title=title, theme=PAPER, unique_id="vserver")
    return WIDE.sub(lambda found: re.sub(r' textLength="[^"]*"', "", found[0]), without_remote_fonts(svg))


def shell() -> str:
    """Return the picture of a session of the shell."""
    with tempfile.TemporaryDirectory() as home:
        terminal = started(home, "shell", "--demo")
        for line in SESSION:
            terminal.enter(line)
        rows = characters(terminal)
        terminal.leave()
    return picture("vserver shell --demo", rows)


def command(line: str) -> str:
    """Return the picture of a command that prints something and ends."""
    with tempfile.TemporaryDirectory() as home:
        demo.create(Path(home, "vserver.db"))
        terminal = started(home, *line.split()[1:])
        terminal.wait_for_end()
        return picture(line, characters(terminal))


def watching(line: str) -> str:
    """Return the picture of tasks that are watched, while nodes are played."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "vserver.db")
        run = functools.partial(subprocess.run, check=True, env=environment(Path(home)), stderr=subprocess.DEVNULL)
        run([*VSERVER, "-d", str(path), "demo", "--tasks", "40", "--organizations", "6"])
        player = subprocess.Popen([*VSERVER, "-d", str(path), "demo", "--live"], env=environment(Path(home)))
        terminal = started(home, *line.split()[1:])
        terminal.wait_for(ENOUGH, times=2)
        rows = characters(terminal)
        terminal.send("\x03")
        terminal.wait_for_end()
        player.terminate()
        player.wait()
    return picture(line, rows)


def started(home: str, *words: str) -> Terminal:
    """Return a terminal in which the program runs, on a database in a home of its own."""
    more = {"VSERVER_DATABASE": str(Path(home, "vserver.db"))} if words[0] != "shell" else {}
    env = environment(Path(home), VSERVER_THEME="light", COLUMNS=str(COLUMNS), **more)
    return Terminal([*VSERVER, *words], env, COLUMNS, LINES)


def characters(terminal: Terminal) -> list[list[Any]]:
    """Return the characters of a screen, row by row."""
    return [[terminal.screen.buffer[row][column] for column in range(COLUMNS)] for row in range(LINES)]


def drawn_line(row: list[Any]) -> Text:
    line = Text()
    for (look, is_wide), chars in groupby(row, key=lambda char: (style(char), cell_len(char.data) != 1)):
        # What is twice as wide is placed by itself: a reader's font may have it in another width.
        line.append("".join(char.data for char in chars), look + Style.from_meta({"is_wide": is_wide}))
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


def made(name: str) -> str:
    """Return the picture of a name."""
    if name == "shell":
        return shell()
    return (watching if name == "watch" else command)(COMMANDS[name])


if __name__ == "__main__":
    for name in sys.argv[1:] or ("shell", *COMMANDS):
        (HERE / f"{name}.svg").write_text(made(name))
        print(f"written: docs/{name}.svg")
