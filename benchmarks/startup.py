"""How soon it is there: the first prompt at a terminal, a line of code, a list, the help.

    python benchmarks/startup.py

Each is a process of its own, compared with a process that only imports what it cannot do without. All of them read
byte code, as installed programs do, and none of them the settings of the person who runs this. The processes that
import Peewee alone do so without the drivers that it finds: where psycopg is installed, that is the harder goal.
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
from measure import PROJECT, Goal, Timed, clock, heading, in_turns, ratio, told, verdict

from vserverlib.examples import demo

ROUNDS = 21

VSERVER = "import vserver; vserver.main()"
EMBEDDED = "import IPython; IPython.embed()"
ALONE = "import sys; sys.modules['psycopg'] = None; "
PROMPT = re.compile(r"1(\x1b\[[0-9;?]*[A-Za-z])*\]:")  # of the first cell, whatever its colours
WHERE_IS_THE_CURSOR, HERE = re.compile(r"\x1b\[6n"), "\x1b[1;1R"  # what a terminal is asked, and answers


def environment(home: Path) -> dict[str, str]:
    """Return that of a person who has never used Python, at a terminal."""
    own = {"HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "bytecode"), "PYTHONPATH": str(PROJECT)}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "xterm-256color", **own}


class Bench:
    """What is timed: Python programs, in a folder with a database in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.env = folder, environment(folder)
        demo.create(folder / "vserver.db")

    def run(self, code: str, *words: str) -> None:
        command, options = [sys.executable, "-c", code, *words], {"cwd": self.folder, "env": self.env}
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, **options)

    def process(self, code: str, *words: str) -> Timed:
        """Return what times a process from its start to its end."""
        return lambda: clock(lambda: self.run(code, *words))

    def prompt(self, code: str, *words: str) -> Timed:
        """Return what times a process at a terminal from its start to its first prompt."""
        return lambda: clock_prompt([sys.executable, "-c", code, *words], self.folder, self.env)


def clock_prompt(command: Sequence[str], folder: Path, env: dict[str, str]) -> float:
    spawned: list[pexpect.spawn[str]] = []

    def reach() -> None:
        options = {"cwd": str(folder), "env": env, "encoding": "utf-8", "dimensions": (50, 80)}
        child = pexpect.spawn(command[0], list(command[1:]), **options)
        child.delaybeforesend = None
        spawned.append(child)
        while child.expect([PROMPT, WHERE_IS_THE_CURSOR], timeout=30):
            child.send(HERE)

    took = clock(reach)
    spawned[0].close(force=True)
    return took


def goals(bench: Bench) -> Iterator[Goal]:
    """Time what each goal compares, and yield the goals."""
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
    told(what, ours)
    told(base, baseline)
    return Goal(f"{what}, to {base}", ratio(ours, baseline), limit)


def main() -> int:
    heading("From the start of a process to its first prompt, or to its end")
    with tempfile.TemporaryDirectory() as folder:
        return verdict(list(goals(Bench(Path(folder)))))


if __name__ == "__main__":
    sys.exit(main())
