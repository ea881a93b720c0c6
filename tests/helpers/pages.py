"""Runs the commands of a page, block by block, by bash in an empty home, and compares their output with the page.

    ```sh       a command. Its stdout and stderr must equal the next block, if that is
    ```text     (a line with only … stands for any omitted lines). Its exit status must be 0, or that of
    ```status   after it
    ```python   input for the shell that the block before has opened, with answers after # →
    ```bash     the content of a file, after <!-- file: NAME -->; not run after <!-- not run: WHY -->

After <!-- goes on -->, a command runs in its own terminal until Ctrl-C is pressed there: before a block that follows
<!-- Ctrl-C -->, or at the end of the page. The first line of its text must appear on the screen. In the home, `vserver`
is this repository, as if it had been cloned there.

Only the parts in MAY_DIFFER may differ from the page.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from helpers import starter
from helpers.terminal import PATIENCE, ROOT, Terminal, environment

COLUMNS = 80
ANSWER = "  # → "
LEFT_OUT = "…"
ENDED_BY_CTRL_C = (0, 130)  # exit statuses
BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# Parts that differ between runs or machines, and what replaces them before texts are compared.
MAY_DIFFER = (
    (r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z| UTC)?", "TIME"),
    (r"\b[\d,]+ (s|min|h|d)( \d+ (s|min|h))?\b", "AGE"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b", "KEY"),
    (r"\b\d{8}-\d{6}(-\d+)?\b", "STAMP"),  # in the name of a backup
    (r"\b\d+ rules were applied", "RULES"),  # a new rule changes no page
    (r"([ ─━┄])\1+", r"\1"),  # widths, which follow from the others
)

VSERVER = """#!/bin/sh
case " $* " in
*" --port "*) ;;
*" start "*) set -- "$@" --port 0 ;;  # the default one may be another test's
esac
exec "$(dirname "$0")/vserver.forked" "$@"
"""
JQ = """#!{python}
import json, sys
import jq
words = sys.argv[1:]
options = "".join(word[1:] for word in words if word.startswith("-"))
program, *files = [word for word in words if not word.startswith("-")]
text = "".join(open(file).read() for file in files) if files else sys.stdin.read()
for found in jq.compile(program).input_text(text).all():
    plain = isinstance(found, str) and "r" in options
    how = {{"separators": (",", ":")}} if "c" in options else {{"indent": 2}}
    print(found if plain else json.dumps(found, ensure_ascii=False, **how))
"""


class Step(NamedTuple):
    """A command of a page with its expected output and exit status. mark: the comment before it."""

    sh: str
    text: str | None = None
    status: str = "0"
    python: str = ""
    mark: str = ""

    @property
    def file(self) -> str:
        """The name of the file that the block is written to; "" if the block is run."""
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else ""


def steps(page: Path) -> list[Step]:
    """Return the steps of a page in order."""
    found: list[Step] = []
    is_attached = False  # whether the next block can belong to the step before it
    for mark, kind, text in BLOCK.findall(page.read_text()):
        assert kind != "bash" or mark.startswith(("file: ", "not run: ")), f"is it run?\n{text}"
        if kind == "sh" or mark.startswith("file: "):
            found.append(Step(text.rstrip("\n"), mark=mark))
        elif kind in ("text", "status", "python") and is_attached:
            found[-1] = found[-1]._replace(**{kind: text})
        is_attached = kind != "bash"
    return found


def walk(page: Path, home: Path) -> None:
    """Run all steps of a page in an empty home, and compare."""
    env = prepared_home(home)
    with contextlib.ExitStack() as background:
        for step in steps(page):
            if step.mark == "Ctrl-C":
                background.close()
            if step.file:
                (home / step.file).write_text(f"{step.sh}\n")
                (home / step.file).chmod(0o755)
            elif step.mark == "goes on":
                background.enter_context(in_background(step, home, env))
            else:
                run(step, home, env)


def prepared_home(home: Path) -> dict[str, str]:
    """Put vserver, jq and the repository into a home, and return the environment of its user."""
    programs = home / ".programs"
    programs.mkdir()
    for name, text in (("vserver", VSERVER), ("jq", JQ.format(python=sys.executable))):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (home / "vserver").symlink_to(ROOT)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    env = {**environment(home), "PATH": path, "COLUMNS": str(COLUMNS)}
    starter.write_program(programs / "vserver.forked")
    return env


def run(step: Step, home: Path, env: dict[str, str]) -> None:
    """Run one step, and compare its output and exit status."""
    typed, answers = at_the_prompt(step.python)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = ["bash", "-c", step.sh]
    done = subprocess.run(command, cwd=home, env=env, input=typed, text=True, timeout=PATIENCE, check=False, **output)
    assert done.returncode == int(step.status), f"{step.sh}\n{done.stdout}"
    expected = answers if step.python else step.text
    if expected is not None and not is_alike(done.stdout, expected):
        assert plain(done.stdout) == plain(expected), step.sh


def at_the_prompt(code: str) -> tuple[str, str]:
    """Return code that prints the answers of a prompt, and the expected answers."""
    lines = [line.partition(ANSWER) for line in code.splitlines()]
    typed = (f"print(repr({line}))" if arrow else line for line, arrow, _ in lines)
    return "\n".join(typed) + "\n", "\n".join(answer for _, arrow, answer in lines if arrow)


@contextlib.contextmanager
def in_background(step: Step, home: Path, env: dict[str, str]) -> Iterator[None]:
    """Run a step in its own terminal, until Ctrl-C is pressed at the end."""
    terminal = Terminal(["bash", "-c", f"cd {home} && exec {step.sh}"], env, COLUMNS)
    try:
        words = (step.text or "").partition("\n")[0].split()
        terminal.wait_for(" +".join(map(re.escape, words)))
        yield
        terminal.send("\x03")
        assert terminal.wait_for_end() in ENDED_BY_CTRL_C, terminal.text
    finally:
        terminal.child.close(force=True)


def is_alike(printed: str, expected: str) -> bool:
    """Whether a text equals the expected one, except for MAY_DIFFER and omitted lines."""
    patterns = (r"(.*\n)*?" if line == LEFT_OUT else re.escape(f"{line}\n") for line in plain(expected).splitlines())
    return bool(re.fullmatch("".join(patterns), "".join(f"{line}\n" for line in plain(printed).splitlines())))


def plain(text: str) -> str:
    """Return a text with placeholders for the parts that may differ, and no blanks at the ends of lines."""
    for pattern, word in MAY_DIFFER:
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
