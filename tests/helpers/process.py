"""Runs the program as a separate process, as a user starts it.

Inside pytest every module is already imported, which hides mistakes of a fresh process. So the docs' promises of
security, the command line and start-up are tested through this module: there, each start is that of a new Python. In
other tests a fork starts (see `starter`): `vserver()` has our modules imported already; `python()`, and `answers()`,
which runs any number of snippets in one process, have libraries only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from helpers import starter
from helpers.terminal import Terminal, environment

ROOT = Path(__file__).parent.parent.parent
PROGRAM = (sys.executable, "-m", "vserver")
SECONDS = 180.0  # after which a process is killed

# Each way to run code on a database. "script" is plain Python that imports the models.
WAYS = ("-c", "file", "pipe", "prompt", "script", "demo")

# Runs each snippet in a namespace of its own and writes what it printed, or its exception, to a file as JSON.
_RUN_SNIPPETS = """
import contextlib, io, json
def _answers(snippets, names):
    for name, code in snippets.items():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                exec(compile(code, f"<{name}>", "exec"), dict(names))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}")
        yield name, printed.getvalue()
with open(RESULTS, "w") as _file:
    json.dump(dict(_answers(SNIPPETS, globals())), _file)
"""


class Ended(NamedTuple):
    """The result of a process: its exit status (negative: the signal that ended it) and its output."""

    status: int
    out: str
    err: str


def vserver(
    *words: str | Path, given: str | None = "", cwd: Path | None = None, seconds: float = SECONDS, **env: str
) -> Ended:
    """Run `vserver WORDS` and return the result. given: its standard input; env: more variables, in capitals."""
    return python("-m", "vserver", *words, given=given, cwd=cwd, seconds=seconds, **env)


def python(
    *words: str | Path,
    given: str | None = "",
    cwd: Path | None = None,
    seconds: float = SECONDS,
    is_forked: bool = True,
    has_ours: bool = True,
    **env: str,
) -> Ended:
    """Run Python with arguments, in the test's home and with the modules of this checkout.

    is_forked: whether it may have libraries imported; has_ours: whether `-m vserver` may have our modules (see
    `starter`).
    """
    variables = environment(Path(os.environ["HOME"]), **env)
    request = starter.Request([str(word) for word in words], str(cwd or Path.cwd()), variables, has_ours=has_ours)
    if is_forked and given is not None and request.can_be_forked:
        return Ended(*starter.run(request, given, seconds))
    done = subprocess.run(
        [sys.executable, *request.words],
        input=given,
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
    """Start Python, the first word of the command, as subprocess.Popen does, in the test's home. options: Popen's."""
    options.setdefault("env", environment(Path(os.environ["HOME"])))
    request = starter.Request([str(word) for word in command[1:]], "", options["env"])
    return (starter.Popen if request.can_be_forked else subprocess.Popen)([str(word) for word in command], **options)


def fresh(*words: str | Path, given: str = "", **env: str) -> Ended:
    """Run `vserver WORDS` with none of our modules imported before."""
    return python("-m", "vserver", *words, given=given, has_ours=False, **env)


def answers(
    snippets: Mapping[str, str], database: str | Path, folder: Path, *options: str, way: str = "file", **env: str
) -> dict[str, str]:
    """Run snippets of Python in one new process on a database, and return what each printed, by name.

    A snippet has the names of the shell (db, database, ...), but not those of earlier snippets. An exception is printed
    as `Class: text`. way: one of WAYS; "demo" does not use the database. options: of `vserver shell`, such as
    "--read-only", the only one for a "script". folder: for the program and its results.
    """
    program, results = folder / f"snippets-{way.strip('-')}.py", folder / f"answers-{way.strip('-')}.json"
    code = f"SNIPPETS = {dict(snippets)!r}\nRESULTS = {str(results)!r}\n{_RUN_SNIPPETS}"
    if way == "script":
        names = "import models, models as db\nfrom models import *\n"
        code = f"{names}database = models.connect({str(database)!r}, read_only={'--read-only' in options})\n{code}"
    program.write_text(code)
    run = f"exec(open({str(program)!r}).read())"
    shell = ("-d", database, "shell", *options, "-q")
    results.unlink(missing_ok=True)
    if way == "prompt":
        _at_the_prompt(run, [*PROGRAM, *map(str, shell)], env)
        said = "the prompt"
    else:
        said = str(
            {
                "-c": lambda: fresh(*shell, "-c", run, **env),
                "file": lambda: fresh(*shell, program, **env),
                "pipe": lambda: fresh(*shell, given=code, **env),
                "script": lambda: python(program, **env),
                "demo": lambda: fresh("shell", "--demo", *options, "-q", program, **env),
            }[way]()
        )
    assert results.exists(), f"there are no answers: {said}"
    found: dict[str, str] = json.loads(results.read_text())
    return found


def _at_the_prompt(line: str, command: list[str], env: Mapping[str, str]) -> None:
    terminal = Terminal(command, environment(Path(os.environ["HOME"]), **env), columns=200, is_forked=False)
    try:
        terminal.enter(line)
        terminal.leave()
    finally:
        terminal.child.close(force=True)
