"""Finding a text whatever the case of its letters, by one rule for both kinds of databases.

Of a text in ASCII the letters of ASCII are compared, as SQLite's LIKE does. For others it is Python's casefold(), which
is Unicode's full case folding: ß is ss, ﬁ is fi, and a final sigma is a sigma. SQLite is given a function for it. A
PostgreSQL server knows it in some releases and builds only: there, what is asked for says which letters of a stored
text are to be read as which, of those that have a part in the text that is looked for. All others fit as they are.
"""

from __future__ import annotations

import functools
from typing import Any

from vserverlib import signals
from vserverlib.drivers import peewee

LAST_LETTER = 0x1F000  # from which on no letter has a case


@signals.callback
def has_text(text: object, part: str) -> bool | None:
    """Whether a text, or the bytes of one, holds another one, whatever the case of any letter."""
    if text is None:
        return None
    held = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return part.casefold() in held.casefold()


@functools.cache
def _folded() -> dict[str, str]:
    """Return what each letter is folded to that is not itself: 15 ms, once."""
    letters = map(chr, range(LAST_LETTER))
    return {letter: folded for letter in letters if (folded := letter.casefold()) != letter}


def relevant(part: str) -> dict[str, str]:
    """Return the letters to be folded in a text in which a folded part is looked for, and what each becomes."""
    return {letter: folded for letter, folded in _folded().items() if _overlap(folded, part)}


def _overlap(folded: str, part: str) -> bool:
    """Whether what a letter becomes can be within a part, or at either of its ends."""
    within = folded in part or part in folded
    return within or any(part.endswith(folded[:n]) or part.startswith(folded[-n:]) for n in range(1, len(folded)))


def contains(expression: Any, text: str, *, is_sqlite: bool) -> Any:
    """Return the condition that a text is contained, whatever the case of any letter."""
    return _in_sqlite(expression, text) if is_sqlite else _in_postgres(expression, text)


def _in_sqlite(expression: Any, text: str) -> Any:
    if text.isascii():
        return expression.contains(text)
    return peewee.fn.has_text(peewee.Cast(expression, "BLOB"), text)  # Python gets no text by SQLite that is not UTF-8


def _in_postgres(expression: Any, text: str) -> Any:
    plain = peewee.NodeList((expression, peewee.SQL('COLLATE "C"')), parens=True)
    if text.isascii():
        return peewee.fn.strpos(peewee.fn.lower(plain), text.lower()) > 0  # in this collation, as LIKE of SQLite's
    part = text.casefold()
    return peewee.fn.strpos(_read_as(plain, relevant(part)), part) > 0


def _read_as(plain: Any, letters: dict[str, str]) -> Any:
    """Return the expression of a text in which letters are replaced."""
    single = {letter: folded for letter, folded in letters.items() if len(folded) == 1}
    if single:
        plain = peewee.fn.translate(plain, "".join(single), "".join(single.values()))
    for letter, folded in letters.items():
        if len(folded) > 1:
            plain = peewee.fn.replace(plain, letter, folded)
    return plain
