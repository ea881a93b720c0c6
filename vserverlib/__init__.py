"""What every part of vserver shares: its errors.

    Error               the thing, the value and the remedy, in one line; exit status 1
    ├── UsageError      a field, an entity or an option that does not exist; exit status 2
    └── NotFound        an id or a name that does not exist

Everything else is in the modules of this package: see docs/design.md.
"""

from __future__ import annotations

from collections.abc import Iterable


class Error(Exception):
    """What a person did that cannot be done: one line that names the thing, the value and the remedy."""


class UsageError(Error):
    """A field, an entity or an option that does not exist."""


class NotFound(Error):
    """An id or a name that does not exist."""


class NotObeyed(UserWarning):
    """Something was accepted, but will not read back as it was given."""


def near(word: str, words: Iterable[str]) -> str:
    """Return '; did you mean "…"?' with the nearest of the words, or '' where none is near."""
    import difflib  # 4 ms that only a mistake has to pay

    known = {candidate.casefold(): candidate for candidate in words}
    found = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    return f'; did you mean "{inert(known[found[0]])}"?' if found else ""


def inert(value: object, limit: int = 80) -> str:
    """Return a text as a message may print it: no control characters, no line breaks, cut after `limit`."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"
