"""What somebody may not do: to run without root's rights, and a folder that nobody can write to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run without root's right to ignore permissions; as anybody else, nothing needs to be done."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def close_folder(folder: Path) -> None:
    """Take away the right to write from all, in place."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
