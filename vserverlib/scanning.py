"""The tokens of what a person typed, and which words say that a secret follows.

It owns `scan`, which reads any text, Python or not, and which the completion reads too; and what looks like a secret
wherever it stands: a hash, a UUID, a key, the password of a URL. What is masked where is masking.py's.
"""

from __future__ import annotations

import functools
import keyword
import re
from typing import NamedTuple

MASK = "********"  # the same that the models show, and refuse as a secret: a masked line that is run again says so

_TOKENS = re.compile(
    r"""
      (?P<string>(?P<prefix>(?i:[rbuft]{0,3}))(?P<quote>\"{3}|'{3})(?:\\.|(?!(?P=quote))[^\\])*(?:(?P=quote)|\\?\Z)
                |(?i:[rbuft]{0,3})(?:"(?:\\.|[^"\\\n])*(?:"|\\?)|'(?:\\.|[^'\\\n])*(?:'|\\?)))
    | (?P<comment>\#[^\n]*)
    | (?P<newline>\n)
    | (?P<space>(?:[^\S\n]|\\\n)+)
    | (?P<number>\d[\w.]*)
    | (?P<name>\w+)
    | (?P<op>:=|[=!<>]=|[-+*/%&|^@]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_STRING = re.compile(
    r"(?P<prefix>\w*)(?P<quote>\"{3}|'{3}|\"|')(?P<body>(?:\\.|(?!(?P=quote))[^\\])*\\?)(?P<end>(?P=quote)?)", re.DOTALL
)
_SECRET_WORD = re.compile(r"passw|passphrase|secret|credential|api_?key|private_?key|token(?!i)", re.IGNORECASE)
_SECRET_PARTS = frozenset({"pw", "pwd", "pass", "passwd", "key", "keys", "hash", "hashpw"})
_MISTYPED = ("password", "api_key")  # the fields: what stands beside a typo in one of them is meant for it
_NEAR = 0.8  # how alike a typo is (difflib)
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_OBVIOUS = re.compile(
    r"\$2[abxy]?\$\d\d?\$[./A-Za-z0-9]*"  # bcrypt
    r"|\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"  # a UUID, which API keys are
    r"|(?<=://)[^\s/'\"]*:[^\n'\"]*(?=@)"  # user:password in a URL, whatever the password holds
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


class Token(NamedTuple):
    """A piece of source; kind: string, comment, newline, space, number, name or op."""

    kind: str
    text: str
    start: int


def scan(source: str) -> list[Token]:
    """Return the tokens of a source, which add up to it. A string that is not closed ends with its line."""
    return [Token(str(match.lastgroup), match.group(), match.start()) for match in _TOKENS.finditer(source)]


def string_parts(text: str) -> tuple[str, str, str, bool]:
    """Return the prefix, the quote and the body of a string's source, and whether it has an end."""
    parts = _STRING.fullmatch(text)
    assert parts is not None, text
    return parts["prefix"], parts["quote"], parts["body"], bool(parts["end"])


@functools.lru_cache(maxsize=1000)
def names_secret(name: str) -> bool:
    """Whether a name, or the text of a string that is a name, says that what it stands for is a secret."""
    if not name.isidentifier() or "public" in name.lower() or keyword.iskeyword(name):
        return False
    parts = {part.lower() for part in _PARTS.findall(name)}
    return bool(_SECRET_WORD.search(name) or parts & _SECRET_PARTS or any(map(_is_mistyped, {name.lower(), *parts})))


def _is_mistyped(name: str) -> bool:
    if name[0] not in "pa":
        return False
    import difflib  # 4 ms that few sources have to pay

    return bool(difflib.get_close_matches(name, _MISTYPED, cutoff=_NEAR))


def mask_obvious(text: str) -> str:
    """Return a text with a mask in place of what looks like a secret wherever it stands: a hash, a UUID, a key."""
    return _OBVIOUS.sub(lambda found: MASK + "\n" * found[0].count("\n"), text)
