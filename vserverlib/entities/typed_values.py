"""Values as people type them in filters and assignments: null, quotes, and the words for true and false."""

from __future__ import annotations

from vserverlib import UsageError, printable

YES, NO = ("true", "yes", "1"), ("false", "no", "0")


def literal(value: str) -> tuple[str | None, bool]:
    """Return the text that a typed value means, None for null, and whether it was in quotes."""
    if value == "null":
        return None, False
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return (value[1:-1] if quoted else value), quoted


def encodable(text: str) -> str:
    """Return a text. Raises a UsageError if it cannot be encoded for a database."""
    try:
        text.encode()
    except UnicodeEncodeError:
        remedy = "set LANG or LC_ALL"
        raise UsageError(f'"{printable(text)}" is not text in the encoding of this terminal: {remedy}') from None
    return text
