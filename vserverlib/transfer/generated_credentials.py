"""Generated credentials: new passwords and API keys, and the file that lists them.

The database stores only their hashes, so the list is the only copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vserverlib import files, hashing
from vserverlib.files import shown
from vserverlib.queries import formats

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"  # without letters that look alike
GROUPS, GROUP_LENGTH = 4, 5  # of a password: 116 bits


class GeneratedCredential(NamedTuple):
    """A new password or API key. entity: user or node; name: of the user or node; kind: password or API key."""

    entity: str
    name: str
    kind: str
    secret: str


def new_password() -> str:
    """Return a password that the server's API accepts, easy to read aloud and to type."""
    import secrets

    while True:
        groups = ["".join(secrets.choice(LETTERS) for _ in range(GROUP_LENGTH)) for _ in range(GROUPS)]
        password = "-".join(groups)
        if not hashing.weakness_of_password(password):
            return password


def write(path: Path, credentials: Sequence[GeneratedCredential]) -> None:
    """Write credentials to a new file that only its owner can read: JSON if its name ends in .json, else YAML."""
    document = formats.DOCUMENTS["json" if path.suffix.lower() == ".json" else "yaml"]
    with files.as_error(f"{shown(path)} cannot be written"), files.draft_for(path) as draft:
        draft.write_text(document([each._asdict() for each in credentials]), encoding="utf-8")
        files.move_into_place(draft, path)


@contextlib.contextmanager
def written_to(
    path: Path, kept_after: type[Exception] | tuple[()] = ()
) -> Iterator[Callable[[Sequence[GeneratedCredential]], None]]:
    """Provide a function that writes credentials to a file; if the block fails later, the file is deleted again.

    kept_after: an exception that is no failure. Raises an Error at once if the file exists. Without credentials no file
    is written.
    """
    files.refuse_taken(path)
    written: list[Path] = []

    def deliver(credentials: Sequence[GeneratedCredential]) -> None:
        if credentials:
            write(path, credentials)
            written.append(path)

    try:
        yield deliver
    except kept_after:
        raise
    except BaseException:
        for each in written:
            each.unlink(missing_ok=True)
        raise
