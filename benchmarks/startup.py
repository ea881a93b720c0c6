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
from collections.abc import Sequence
from pathlib import Path

import pexpect
from measure import PROJECT, Goal, Timed, clock, heading, in_turns, ratio, told, verdict

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
        self.run("vserver", VSERVER, "init", "--demo")

    def run(self, label: str, code: str, *words: str) -> None:
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            sys.exit(f"{label} has failed:\n{done.stderr.decode()}")

    def process(self, code: str, *words: str) -> Timed:
        """Return what times a process from its start to its end."""
        return lambda: clock(lambda: self.run(" ".join(words) or code, code, *words))

    def prompt(self, code: str, *words: str) -> Timed:
        """Return what times a process at a terminal from its start to its first prompt."""
        return lambda: clock_prompt([sys.executable, "-c", code, *words], self.folder, self.env)


def clock_prompt(command: Sequence[str], folder: Path, env: dict[str, str]) -> float:
    spawned: list[pexpect.spawn[str]] = []

    def reach() -> None:
        child = pexpect.spawn(command[0], list(command[1:]), cwd=str(folder), env=env, encoding="utf-8", dimensions=(50, 80))
        child.delaybeforesend = None
        spawned.append(child)
        while child.expect([PROMPT, WHERE_IS_THE_CURSOR], timeout=30):
            child.send(HERE)

    took = clock(reach)
    spawned[0].close(force=True)
    return took


# What each goal compares: its words, what of ours, with what, the limit, the rounds.
def pairs(bench: Bench) -> list[tuple[str, Timed, str, Timed, float]]:
    ran = bench.process(VSERVER, "shell", "-c", "pass")
    peewee, table = f"{ALONE}import click, peewee", f"{ALONE}import click, peewee, rich.table"
    return [
        ("vserver shell, first prompt", bench.prompt(VSERVER, "shell"), EMBEDDED, bench.prompt(EMBEDDED), 1.25),
        ("vserver shell -c pass", ran, peewee, bench.process(peewee), 1.5),
        ("vserver list organizations", bench.process(VSERVER, "list", "organizations"), table, bench.process(table), 1.4),
        ("vserver --help", bench.process(VSERVER, "--help"), "import click", bench.process("import click"), 1.3),
        ("vserver shell --demo -c pass", bench.process(VSERVER, "shell", "--demo", "-c", "pass"), "without --demo", ran, 1.3),
    ]


def compared(what: str, mine: Timed, base: str, theirs: Timed, limit: float) -> Goal:
    ours, baseline = in_turns(ROUNDS, mine, theirs)
    base = base.removeprefix(ALONE)
    told(what, ours)
    told(base, baseline)
    return Goal(f"{what}, to {base}", ratio(ours, baseline), limit)


def main() -> int:
    heading("From the start of a process to the first prompt, or to its end")
    with tempfile.TemporaryDirectory() as folder:
        return verdict([compared(*pair) for pair in pairs(Bench(Path(folder)))])


if __name__ == "__main__":
    sys.exit(main())
