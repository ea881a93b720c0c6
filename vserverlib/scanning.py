"""Tokens of typed text, and the words that announce a secret.

It owns `scan`, which reads any text, Python or not (completion uses it too), and the patterns of secrets that are
recognizable anywhere: a hash, a UUID, a key, the password of a URL. masking.py decides what to mask.
"""

from __future__ import annotations

import functools
import keyword
import re
from typing import NamedTuple

MASK = "********"  # as the models show it, and refuse it as a secret: so a masked line fails clearly if it is run again

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
_MISTYPED = ("password", "api_key")  # fields whose misspellings announce a secret too
_NEAR = 0.8  # the similarity of a misspelling (difflib)
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
    """Return the tokens of a source, which add up to it. An unclosed string ends with its line."""
    return [Token(str(match.lastgroup), match.group(), match.start()) for match in _TOKENS.finditer(source)]


def string_parts(text: str) -> tuple[str, str, str, bool]:
    """Return the prefix, quote and body of a string's source, and whether it is closed."""
    parts = _STRING.fullmatch(text)
    assert parts is not None, text
    return parts["prefix"], parts["quote"], parts["body"], bool(parts["end"])


@functools.lru_cache(maxsize=1000)
def names_secret(name: str) -> bool:
    """Whether a name, or a string that is a name, announces a secret."""
    if not name.isidentifier() or "public" in name.lower() or keyword.iskeyword(name):
        return False
    parts = {part.lower() for part in _PARTS.findall(name)}
    return bool(_SECRET_WORD.search(name) or parts & _SECRET_PARTS or any(map(_is_mistyped, {name.lower(), *parts})))


def _is_mistyped(name: str) -> bool:
    if name[0] not in "pa":
        return False
    import difflib  # 4 ms, rarely needed

    return bool(difflib.get_close_matches(name, _MISTYPED, cutoff=_NEAR))


def mask_obvious(text: str) -> str:
    """Return a text with every recognizable secret masked: a hash, a UUID, a key, a URL's password."""
    return _OBVIOUS.sub(lambda found: MASK + "\n" * found[0].count("\n"), text)
