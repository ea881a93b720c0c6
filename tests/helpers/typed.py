"""Runs commands on a database that -d names, as a user types them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

import models
import vserver


def run(name: str | Path | None, *words: str, **options: Any) -> Result:
    """Run a command on a database; name: None if the command names its own."""
    named = [] if name is None else ["-d", str(name)]
    return CliRunner().invoke(vserver.main, [*named, *words], prog_name="vserver", **options)


def done(name: str | Path | None, *words: str, **options: Any) -> Result:
    """Run a command that must succeed."""
    result = run(name, *words, **options)
    assert result.exit_code == 0, result.output
    return result


def refused(name: str | Path, *words: str) -> str:
    """Return the single line of a command that fails without other output."""
    done = run(name, *words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
    return done.stderr


@contextlib.contextmanager
def opened(name: str, **options: Any) -> Iterator[Any]:
    """Open a database for a block."""
    database = models.connect(name, **options)
    try:
        yield database
    finally:
        database.close()
