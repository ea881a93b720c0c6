"""Write the pictures of the README and the docs: screens of real runs on the example data.

    python docs/make_pictures.py [NAME…]

Each program runs at the tests' terminal, and its last screen is drawn. The drawings load no remote font, so nobody can
track their readers. The picture of `watch` differs each time, because `demo --live` is random.
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

from helpers.terminal import Terminal, environment  # noqa: E402  # of the tests

from vserverlib.examples import demo  # noqa: E402

COLUMNS, LINES = 96, 60
VSERVER = (sys.executable, "-m", "vserver")
SESSION = (
    "[task for task in db.Task.get() if not task.complete]",
    "db.Task.get(8)",
    'db.Organization(nmae="Oslo")',
)
# The command line of each picture.
COMMANDS = {
    "list": "vserver list tasks --where status!=completed --sort -created_at",
    "show": "vserver show task 8",
    "overview": "vserver overview",
    "watch": "vserver watch",
    "run": "vserver run --demo demo/average:1 central_average column_name=age",
}
PROGRESS_BAR = r"━━ \d/\d"  # on the screen of `watch`: a task that is almost finished
# Names of colours in pyte and in rich.
COLOURS = {"default": None, "brown": "yellow", "brightbrown": "bright_yellow", "bfightmagenta": "bright_magenta"}
# The colours of a light terminal, easy to distinguish.
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
WIDE = re.compile(r"<text [^>]*>[^<]*[\u3000-\u9fff][^<]*</text>")  # rich halves its width
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
    """Return the picture of a command after its end."""
    with tempfile.TemporaryDirectory() as home:
        demo.create(Path(home, "vserver.db"))
        terminal = started(home, *line.split()[1:])
        terminal.wait_for_end()
        return picture(line, characters(terminal))


def watching(line: str) -> str:
    """Return the picture of `watch` while nodes are simulated."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "vserver.db")
        run = functools.partial(subprocess.run, check=True, env=environment(Path(home)), stderr=subprocess.DEVNULL)
        run([*VSERVER, "-d", str(path), "demo", "--tasks", "40", "--organizations", "6"])
        player = subprocess.Popen([*VSERVER, "-d", str(path), "demo", "--live"], env=environment(Path(home)))
        terminal = started(home, *line.split()[1:])
        terminal.wait_for(PROGRESS_BAR, times=2)
        rows = characters(terminal)
        terminal.send("\x03")
        terminal.wait_for_end()
        player.terminate()
        player.wait()
    return picture(line, rows)


def computing(line: str) -> str:
    """Return the picture of `run` at the end, with the server of the example data and its nodes."""
    with tempfile.TemporaryDirectory() as home:
        command = [*VSERVER, "start", "--demo", "--port", "0"]
        with subprocess.Popen(command, env=environment(Path(home)), stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            while "nodes online" not in server.stderr.readline():
                assert server.poll() is None
            terminal = started(home, *line.split()[1:])
            terminal.wait_for_end()
            server.terminate()
        return picture(line, characters(terminal))


def started(home: str, *words: str) -> Terminal:
    """Start the program at a terminal, on a database in its own home."""
    more = {"VSERVER_DATABASE": str(Path(home, "vserver.db"))} if words[0] != "shell" else {}
    env = environment(Path(home), VSERVER_THEME="light", COLUMNS=str(COLUMNS), **more)
    return Terminal([*VSERVER, *words], env, COLUMNS, LINES)


def characters(terminal: Terminal) -> list[list[Any]]:
    """Return the characters of a screen, row by row."""
    return [[terminal.screen.buffer[row][column] for column in range(COLUMNS)] for row in range(LINES)]


def drawn_line(row: list[Any]) -> Text:
    line = Text()
    for (look, is_wide), chars in groupby(row, key=lambda char: (style(char), cell_len(char.data) != 1)):
        # Wide characters are placed one by one: their width in the reader's font may differ.
        line.append("".join(char.data for char in chars), look + Style.from_meta({"is_wide": is_wide}))
    line.rstrip()
    return line


def style(char: Any) -> Style:
    """Return the style of one character in rich."""
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
    """Return the drawing with the reader's monospaced font instead of a remote one."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: Fira Code[^;]*;", f"font-family: {FONT};", svg)
    return re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)


def picture_of(name: str) -> str:
    """Return the picture with a name."""
    if name == "shell":
        return shell()
    return {"watch": watching, "run": computing}.get(name, command)(COMMANDS[name])


if __name__ == "__main__":
    for name in sys.argv[1:] or ("shell", *COMMANDS):
        (HERE / f"{name}.svg").write_text(picture_of(name))
        print(f"written: docs/{name}.svg")
