"""Case-insensitive search for a part of a text, by the same rule in SQLite and PostgreSQL.

For an ASCII search text only ASCII letters are folded, as SQLite's LIKE does. Otherwise both texts are folded with
Python's casefold(), Unicode's full case folding: ß is ss, ﬁ is fi, and a final sigma is a sigma. SQLite gets a function
for it. PostgreSQL has it only in some releases and builds, so there the query itself replaces the letters of a stored
text that can match a part of the search text. All other letters match only themselves.
"""

from __future__ import annotations

import functools
from typing import Any

from vserverlib import signals
from vserverlib.drivers import peewee

LAST_LETTER = 0x1F000  # no letter from here on has a case


@signals.callback
def has_text(text: object, part: str) -> bool | None:
    """Whether a text, or bytes, contain a part, ignoring case."""
    if text is None:
        return None
    held = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return part.casefold() in held.casefold()


@functools.cache
def _folded() -> dict[str, str]:
    """Return each letter that case folding changes, with its folded form: 15 ms, once."""
    letters = map(chr, range(LAST_LETTER))
    return {letter: folded for letter in letters if (folded := letter.casefold()) != letter}


def relevant(part: str) -> dict[str, str]:
    """Return the letters to fold when searching for a folded part, with their folded forms."""
    return {letter: folded for letter, folded in _folded().items() if _overlap(folded, part)}


def _overlap(folded: str, part: str) -> bool:
    """Whether a folded letter can lie within a part, or overlap one of its ends."""
    within = folded in part or part in folded
    return within or any(part.endswith(folded[:n]) or part.startswith(folded[-n:]) for n in range(1, len(folded)))


def contains(expression: Any, text: str, *, is_sqlite: bool) -> Any:
    """Return the condition that a text contains another one, ignoring case."""
    return _in_sqlite(expression, text) if is_sqlite else _in_postgres(expression, text)


def _in_sqlite(expression: Any, text: str) -> Any:
    if text.isascii():
        return expression.contains(text)
    return peewee.fn.has_text(
        peewee.Cast(expression, "BLOB"), text
    )  # as a blob, because Python refuses texts that are not UTF-8


def _in_postgres(expression: Any, text: str) -> Any:
    plain = peewee.NodeList((expression, peewee.SQL('COLLATE "C"')), parens=True)
    if text.isascii():
        return peewee.fn.strpos(peewee.fn.lower(plain), text.lower()) > 0  # in this collation it is SQLite's LIKE
    part = text.casefold()
    return peewee.fn.strpos(_read_as(plain, relevant(part)), part) > 0


def _read_as(plain: Any, letters: dict[str, str]) -> Any:
    """Return the expression of a text with letters replaced."""
    single = {letter: folded for letter, folded in letters.items() if len(folded) == 1}
    if single:
        plain = peewee.fn.translate(plain, "".join(single), "".join(single.values()))
    for letter, folded in letters.items():
        if len(folded) > 1:
            plain = peewee.fn.replace(plain, letter, folded)
    return plain
