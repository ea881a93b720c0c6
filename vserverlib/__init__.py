"""The errors of vserver, and how messages show names and numbers. Imports nothing of ours.

    Error                        one line: the thing, the value and the remedy; exit status 1
    ├── UsageError               an unknown field, entity or option; exit status 2
    ├── NotFound                 no such id, name, file or database
    ├── Locked                   another program holds a lock: try again later
    ├── ReadOnly                 the session, the file or the server refuses to write
    ├── Damaged                  a file is corrupt or cut off
    ├── NotADatabase             a file or a URL is not a database of vserver
    │   └── Vantage6Database     it is a vantage6 server's (in databases.recognition)
    ├── OutdatedSchema           an older release created the database: upgrade it first
    ├── NewerSchema              a newer release created the database: upgrade vserver
    ├── CheckError               strict only: rules or values refused a save; nothing was saved
    ├── CheckWarning             a warning: a saved row breaks a rule of the server's API
    ├── NotObeyed                a warning: a value was accepted, but reads back differently
    ├── Overwritten              a warning: a save replaced a value that somebody else had changed meanwhile
    └── NotExecuted              a warning: a writing query was dropped before its execute() was called

A script catches these, or Error for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_MARKS = 3  # combining marks on one letter: more would reach into the lines above and below
# Ranges that str.isprintable() accepts, but that are invisible or of a width that differs between terminals: fillers,
# selectors, flags, skin tones, vowels that join the letter before them.
AMBIGUOUS = (
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
    """The base of all errors that a person can act on: one line that names the thing, the value and the remedy."""


class UsageError(Error):
    """A field, an entity or an option does not exist."""


class NotFound(Error):
    """An id, a name, a file or a database does not exist."""


class Locked(Error):
    """Another program holds a lock, and waiting for it timed out. Nothing was written: try again later."""


class ReadOnly(Error):
    """The session is read-only, or the file or the server refuses to write."""


class Damaged(Error):
    """A file is corrupt or cut off."""


class NotADatabase(Error):
    """A file or a URL is not a database of vserver. It was not changed."""


class OutdatedSchema(Error):
    """An older release created the database: it has to be upgraded first."""


class NewerSchema(Error):
    """A newer release created the database: this one cannot open it."""


class NotObeyed(Error, UserWarning):
    """A warning: a value was accepted, but will read back differently. In strict mode part of a CheckError."""


class CheckWarning(Error, UserWarning):
    """A warning: a saved row breaks a rule of the server's API. In strict mode part of a CheckError, and not saved.

    code: the code of the rule, such as "T4".
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class Overwritten(Error, UserWarning):
    """A warning: a save replaced what somebody else had changed meanwhile. In strict mode part of a CheckError."""


class NotExecuted(Error, UserWarning):
    """A warning: a query that would have written was dropped before its execute() was called."""


class CheckError(Error):
    """In strict mode: a save would have caused warnings, so nothing was saved.

    breaches: the warnings, each a CheckWarning, a NotObeyed or an Overwritten.
    """

    def __init__(self, breaches: Iterable[CheckWarning | NotObeyed | Overwritten]) -> None:
        self.breaches = tuple(breaches)
        super().__init__(f"not saved: {'; '.join(map(str, self.breaches))}")


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return '; did you mean "…"?' with the most similar of the words, or '' if none is similar."""
    found = most_similar(word, words)
    return "" if found is None else f'; did you mean "{printable(found)}"?'


def most_similar(word: str, words: Iterable[str]) -> str | None:
    """Return the most similar of the words, ignoring case, or None if none is similar."""
    import difflib  # 4 ms, needed after a mistake only

    known = {candidate.casefold(): candidate for candidate in words}
    found = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.6)
    return known[found[0]] if found else None


def pluralize(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 change", "1,200 changes"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def with_article(noun: str) -> str:
    """Return an entity's noun with its article: "an organization", "a user"."""
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def named(noun: str, id: object, name: object) -> str:
    """Return an entity as messages name it: task 1 "average"."""
    return f"{noun} {id}" if name is None else f'{noun} {id} "{printable(name, 60)}"'


def printable(value: object, limit: int = 80) -> str:
    """Return a value as safe text for a terminal, cut after `limit` characters.

    Control characters, line breaks, bidirectional marks and characters that are invisible or of ambiguous width become
    escapes.
    """
    try:
        text = str(value)
    except ValueError:  # Python does not print a number of thousands of digits
        text = f"a {type(value).__name__} of thousands of digits"
    if not (text.isascii() and text.isprintable()):
        text = _visible(text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _visible(text: str) -> str:
    import unicodedata

    shown, marks = [], MAX_MARKS  # a leading mark would combine with the character before the text
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        is_safe = char.isprintable() and marks <= MAX_MARKS and not any(low <= char <= high for low, high in AMBIGUOUS)
        shown.append(char if is_safe else char.encode("unicode_escape").decode())
    return "".join(shown)
