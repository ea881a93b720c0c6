"""Commands as they are typed at a database that -d names, and what comes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

import models
import vserver


def run(name: str | Path | None, *words: str, **options: Any) -> Result:
    """Run a command on a database; None where the command names its own."""
    named = [] if name is None else ["-d", str(name)]
    return CliRunner().invoke(vserver.main, [*named, *words], prog_name="vserver", **options)


def refused(name: str | Path, *words: str) -> str:
    """Return the one line that a command ends with, and nothing else."""
    done = run(name, *words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
    return done.stderr


@contextlib.contextmanager
def opened(name: str, **options: Any) -> Iterator[Any]:
    """Open a database, and close it in the end."""
    database = models.connect(name, **options)
    try:
        yield database
    finally:
        database.close()
