"""What every part of vserver shares: its errors.

    Error               the thing, the value and the remedy, in one line; exit status 1
    ├── UsageError      a field, an entity or an option that does not exist; exit status 2
    ├── NotFound        an id or a name that does not exist
    ├── NotObeyed       what was accepted will not read back as it was given: a warning, unless one is strict
    ├── CheckWarning    what was saved breaks a rule of the server's API: a warning, unless one is strict
    ├── NotExecuted     a query that changes something was dropped before it was executed: a warning
    └── CheckError      all that one was warned of, had one not been strict: nothing was saved

Everything else is in the modules of this package: see docs/design.md.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_MARKS = 3  # marks on one letter: more reach into the lines above and below
# Printable by name, but invisible, or as wide as each terminal thinks: fillers, selectors, flags, skin tones, vowels
# that join the letter before them.
UNSURE = (
    ("\u034f", "\u034f"),
    ("\u115f", "\u11ff"),
    ("\u17b4", "\u17b5"),
    ("\u180b", "\u180f"),
    ("\u2800", "\u2800"),
    ("\u3164", "\u3164"),
    ("\ud7b0", "\ud7ff"),
    ("\ufe00", "\ufe0f"),
    ("\uffa0", "\uffa0"),
    ("\U0001f1e6", "\U0001f1ff"),
    ("\U0001f3fb", "\U0001f3ff"),
    ("\U000e0100", "\U000e01ef"),
)


class Error(Exception):
    """What a person did that cannot be done: one line that names the thing, the value and the remedy."""


class UsageError(Error):
    """A field, an entity or an option that does not exist."""


class NotFound(Error):
    """An id or a name that does not exist."""


class NotObeyed(Error, UserWarning):
    """Something was accepted, but will not read back as it was given: a warning, an error where one is strict."""


class CheckWarning(Error, UserWarning):
    """What was saved breaks a rule of the server's API. It is saved; where one is strict, it is not: a CheckError.

    code: that of the rule.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class NotExecuted(Error, UserWarning):
    """A query that would have changed something was dropped before its execute() was called: a warning."""


class CheckError(Error):
    """What one would have been warned of, had one not been strict: nothing was saved.

    breaches: each of the warnings, a CheckWarning or a NotObeyed.
    """

    def __init__(self, breaches: Iterable[CheckWarning | NotObeyed]) -> None:
        self.breaches = tuple(breaches)
        super().__init__(f"not saved: {'; '.join(map(str, self.breaches))}")


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return '; did you mean "…"?' with the nearest of the words, or '' where none is near."""
    import difflib  # 4 ms that only a mistake has to pay

    known = {candidate.casefold(): candidate for candidate in words}
    found = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    return f'; did you mean "{printable(known[found[0]])}"?' if found else ""


def pluralize(number: int, noun: str, plural: str = "") -> str:
    """Return a number of things in words: "1 change", "1,200 changes"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def named(noun: str, id: object, name: object) -> str:
    """Return what messages call an entity: task 1 "average"."""
    return f"{noun} {id}" if name is None else f'{noun} {id} "{printable(name, 60)}"'


def printable(value: object, limit: int = 80) -> str:
    """Return a text as a person may be shown it: nothing that moves, hides or fakes other text; cut after `limit`.

    Control characters, line breaks, marks of direction, what is invisible or of no certain width become escapes.
    """
    try:
        text = str(value)
    except ValueError:  # Python writes no number of thousands of digits
        text = f"a {type(value).__name__} of thousands of digits"
    if not (text.isascii() and text.isprintable()):
        text = _visible(text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _visible(text: str) -> str:
    import unicodedata

    shown, marks = [], MOST_MARKS  # a mark at the beginning would stand on what is before the text
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        sure = char.isprintable() and marks <= MOST_MARKS and not any(low <= char <= high for low, high in UNSURE)
        shown.append(char if sure else char.encode("unicode_escape").decode())
    return "".join(shown)
