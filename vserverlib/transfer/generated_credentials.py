"""Secrets that were made for somebody: new passwords and API keys, and the list of them that is handed out once.

What is stored of them is a hash, so this list is all there is. It owns how they are made and written to a file; who
needs one is its callers' to know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vserverlib import files, hashing
from vserverlib.files import shown
from vserverlib.queries import formats

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"  # without those that look like others
GROUPS, GROUP = 4, 5  # of a password: 116 bits


class Handout(NamedTuple):
    """A secret that was made. entity: user or node; name: whose it is; kind: what it is."""

    entity: str
    name: str
    kind: str
    secret: str


def new_password() -> str:
    """Return a password that the server's API takes, easy to read out and to type."""
    import secrets

    while True:
        groups = ["".join(secrets.choice(LETTERS) for _ in range(GROUP)) for _ in range(GROUPS)]
        password = "-".join(groups)
        if not hashing.weakness_of_password(password):
            return password


def write(path: Path, handouts: Sequence[Handout]) -> None:
    """Write a list of secrets to a new file, readable by its owner alone: JSON where its name ends so, else YAML."""
    document = formats.DOCUMENTS["json" if path.suffix.lower() == ".json" else "yaml"]
    with files.as_error(f"{shown(path)} cannot be written"), files.draft_for(path) as draft:
        draft.write_text(document([each._asdict() for each in handouts]), encoding="utf-8")
        files.put(draft, path)


@contextlib.contextmanager
def written_to(path: Path) -> Iterator[Callable[[Sequence[Handout]], None]]:
    """What writes a list of secrets to a file, once; where something fails after that, the file is gone again.

    Raises an Error at once where the file is there already. No file is made where there is no secret.
    """
    files.refuse_taken(path)
    made: list[Path] = []

    def hand_out(handouts: Sequence[Handout]) -> None:
        if handouts:
            write(path, handouts)
            made.append(path)

    try:
        yield hand_out
    except BaseException:
        for each in made:
            each.unlink(missing_ok=True)
        raise
