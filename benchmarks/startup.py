"""Times the start of the program: the first prompt, a line of code, a list, the help.

    python benchmarks/startup.py

Each process is compared with one that only imports the necessary libraries. All use byte code, as installed programs
do, and an empty home. The process that only imports Peewee does so without psycopg, which makes the goal harder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pexpect
from measure import PROJECT, Goal, Timed, clock, heading, in_turns, ratio, report, verdict

from vserverlib.examples import demo

ROUNDS = 21

VSERVER = "import vserver; vserver.main()"
EMBEDDED = "import IPython; IPython.embed()"
ALONE = "import sys; sys.modules['psycopg'] = None; "
PROMPT = re.compile(r"1(\x1b\[[0-9;?]*[A-Za-z])*\]:")  # of the first cell, with any colours
CURSOR_QUERY, CURSOR_ANSWER = re.compile(r"\x1b\[6n"), "\x1b[1;1R"


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a terminal with an empty home."""
    own = {"HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "bytecode"), "PYTHONPATH": str(PROJECT)}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", **own}


class Bench:
    """Runs and times Python programs in a folder with a database."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.env = folder, environment(folder)
        demo.create(folder / "vserver.db")

    def run(self, code: str, *words: str) -> None:
        command, options = [sys.executable, "-c", code, *words], {"cwd": self.folder, "env": self.env}
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, **options)

    def process(self, code: str, *words: str) -> Timed:
        """Return a function that times a process from start to end."""
        return lambda: clock(lambda: self.run(code, *words))

    def prompt(self, code: str, *words: str) -> Timed:
        """Return a function that times a process at a terminal from start to first prompt."""
        return lambda: clock_prompt([sys.executable, "-c", code, *words], self.folder, self.env)


def clock_prompt(command: Sequence[str], folder: Path, env: dict[str, str]) -> float:
    spawned: list[pexpect.spawn[str]] = []

    def reach() -> None:
        options = {"cwd": str(folder), "env": env, "encoding": "utf-8", "dimensions": (50, 80)}
        child = pexpect.spawn(command[0], list(command[1:]), **options)
        child.delaybeforesend = None
        spawned.append(child)
        while child.expect([PROMPT, CURSOR_QUERY], timeout=30):
            child.send(CURSOR_ANSWER)

    took = clock(reach)
    spawned[0].close(force=True)
    return took


def goals(bench: Bench) -> Iterator[Goal]:
    """Measure and yield the goals."""
    process, prompt = bench.process, bench.prompt
    peewee, table = "import click, peewee", "import click, peewee, rich.table"
    line, demonstration = process(VSERVER, "shell", "-c", "pass"), process(VSERVER, "shell", "--demo", "-c", "pass")
    organizations, help = process(VSERVER, "list", "organizations"), process(VSERVER, "--help")
    yield compared("vserver shell, first prompt", prompt(VSERVER, "shell"), EMBEDDED, prompt(EMBEDDED), 1.25)
    yield compared("vserver shell -c pass", line, peewee, process(ALONE + peewee), 1.5)
    yield compared("vserver list organizations", organizations, table, process(ALONE + table), 1.4)
    yield compared("vserver --help", help, "import click", process("import click"), 1.2)
    yield compared("vserver shell --demo -c pass", demonstration, "vserver shell -c pass", line, 1.25)


def compared(what: str, mine: Timed, base: str, theirs: Timed, limit: float) -> Goal:
    ours, baseline = in_turns(ROUNDS, mine, theirs)
    report(what, ours)
    report(base, baseline)
    return Goal(f"{what}, to {base}", ratio(ours, baseline), limit)


def main() -> int:
    heading("From the start of a process to its first prompt, or to its end")
    with tempfile.TemporaryDirectory() as folder:
        return verdict(list(goals(Bench(Path(folder)))))


if __name__ == "__main__":
    sys.exit(main())
