"""Secrets in what a person typed: recognized by the words around them, and replaced.

It owns `mask`, which the history of the shell and all tracebacks go through, and `scan`, the tokens that it and the
completion read. Text that is no Python (a line with a mistake, a comment, a line for the system's shell) is masked as
well. In doubt more is masked than a secret. It does not find a secret that nothing tells of, such as a password in a
variable called `x`. What becomes of a secret in the database is fields.py's, what is shown of SQL, statements.py's.
"""

from __future__ import annotations

import builtins
import functools
import keyword
import re
from collections.abc import Container, Iterator
from itertools import pairwise
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
    r"|(?<=://)[^/\s@'\"]*:[^/\s@'\"]+(?=@)"  # user:password in a URL
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
# A line for the system's shell, a magic, a call without its brackets: `!cmd`, `x = !cmd`, `%run …`, `,print a`; what
# IPython makes of it; also the words with which such a line may begin by themselves. From its first secret word on,
# all of it is masked.
_COMMAND = re.compile(
    r"""
    ^[^\S\n]* (?:\w[\w,\ .\[\]]*=[^\S\n]*)?
    (?:[!%,;/] | get_ipython\(\) | (?:vserver|run|sx|system|alias)[^\S\n])
    (?:\\\n|[^\n])*
    """,
    re.VERBOSE | re.MULTILINE,
)
_SQL = re.compile(r"\s*(?:INSERT|REPLACE|UPDATE|SELECT|DELETE|WITH)\s", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_FIRST_WORD = re.compile(r"(?:[^!|]*!)?\s*\S*")
_GIVES = frozenset({"=", ":=", "==", "!=", "+=", "|=", ":"})  # what comes after these is the value


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


def mask(source: str, known: Container[str] | None = None) -> str:
    """Return the source with each secret in it replaced by a mask; all else stays as it is, in its line.

    known: the names that are defined where it runs. With it, a bare word where a secret belongs is taken for one that
    was typed without its quotes, and masked.
    """
    is_all_commands = source.lstrip().startswith("%%")  # the lines below may be of any language
    without = _COMMAND.sub(lambda found: mask_from_word(found[0]), source)
    if is_all_commands:
        without = "\n".join(map(mask_from_word, without.split("\n")))
    return "".join(_masked(without, known, prose=False))


def mask_from_word(text: str) -> str:
    """Return a text with all that follows its first secret word replaced by a mask; its lines stay as many.

    Where something is piped (`echo … | vserver passwd`), all that follows the first command is.
    """
    for word in _WORD.finditer(text):
        if names_secret(word[0]):
            piped = _FIRST_WORD.match(text) if "|" in text else None
            end = (piped or word).end()
            kept, rest = text[:end], text[end:]
            between = rest[0] if rest[:1] in (" ", "=", ":", "(") else ""
            return kept + between + MASK + "\\\n" * rest.count("\n") if rest.strip() else text
    return text


def mask_obvious(text: str) -> str:
    """Return a text with a mask in place of what looks like a secret wherever it stands: a hash, a UUID, a key."""
    return _OBVIOUS.sub(lambda found: MASK + "\n" * found[0].count("\n"), text)


class _Level:
    """One depth of brackets: the secret word that was seen in it, and whether what follows is a secret."""

    def __init__(self, masking: bool) -> None:
        self.masks_all = self.masking = masking
        self.word = ""
        self.is_text = False  # the word was a string: setattr(user, "password", …)

    def saw(self, word: str, is_text: bool = False) -> None:
        self.word, self.is_text = word, is_text

    def gives(self) -> None:
        self.masking, self.word = self.masking or bool(self.word), ""

    def next_value(self, outermost: bool) -> None:
        """Follow a comma. Outermost it may be that of targets: `password, name = …`, or of several values."""
        if self.word and self.is_text:
            self.gives()
        elif not outermost:
            self.masking, self.word = self.masks_all, ""


class _Follower:
    """Where in the source a secret is to be expected, token by token."""

    def __init__(self, prose: bool) -> None:
        self.prose, self.levels, self.before = prose, [_Level(False)], Token("newline", "\n", 0)

    @property
    def masking(self) -> bool:
        return self.levels[-1].masking

    def follow(self, token: Token) -> None:
        if token.kind == "newline" and len(self.levels) == 1:
            self.levels = [_Level(False)]
        if token.kind in ("name", "string", "op"):
            getattr(self, f"_{token.kind}")(token)
        if token.kind not in ("space", "newline", "comment"):
            self.before = token

    def _name(self, token: Token) -> None:
        level = self.levels[-1]
        if names_secret(token.text):
            level.saw(token.text)
        elif token.text == "in" and not self.prose and level.word.lower() not in ("key", "keys"):
            level.gives()
        elif token.text == "lambda" and self.before.text == "=":
            level.masking = level.masks_all  # sorted(…, key=lambda …)
        elif self.before.kind in ("name", "string"):
            level.word = ""

    def _string(self, token: Token) -> None:
        body = string_parts(token.text)[2]
        if names_secret(body) or _is_sql_of_secrets(body):  # the values of SQL follow it
            self.levels[-1].saw(body, is_text=True)

    def _op(self, token: Token) -> None:
        level = self.levels[-1]
        if token.text in ("(", "[", "{"):
            self._open(token.text, level)
        elif token.text in (")", "]", "}") and len(self.levels) > 1:
            self._close(token.text)
        elif token.text == ",":
            level.next_value(outermost=len(self.levels) == 1 and not self.prose)
        elif token.text in _GIVES:
            level.gives()
        elif token.text == ";":
            self.levels = [_Level(False)]

    def _open(self, bracket: str, level: _Level) -> None:
        called = bracket == "(" and self.before.kind == "name" and names_secret(self.before.text)
        if called:
            level.word = ""
        self.levels.append(_Level(level.masking or called))

    def _close(self, bracket: str) -> None:
        closed = self.levels.pop()
        if closed.word and (bracket == "]" or closed.is_text):  # user["password"] = …; getattr(user, "password") == …
            self.levels[-1].saw(closed.word)


def _masked(source: str, known: Container[str] | None, prose: bool) -> Iterator[str]:
    tokens, follower, seen = scan(mask_obvious(source)), _Follower(prose), set[str]()
    is_kept = known is None and not prose  # a bare word is a variable
    for token, follows in pairwise([*tokens, Token("newline", "\n", 0)]):
        if not follower.masking:
            seen.add(token.text)
            yield _looked_into(token, known)
        elif token.kind == "name" and (is_kept or follows.text in ("=", "(", ".") or token.text in seen):
            yield token.text
        else:
            yield _replaced(token, known or (), "" if prose else '"')
        follower.follow(token)


def _replaced(token: Token, known: Container[str], quote: str) -> str:
    """Return a token that stands where a secret is expected."""
    if token.kind == "string":
        _, own, body, _ = string_parts(token.text)
        lines = ("\n" if len(own) == 3 else "\\\n") * body.count("\n")  # tracebacks count lines
        return f"{own}{MASK}{lines}{own}" if body else token.text
    if token.kind == "comment":
        return f"# {MASK}"
    if token.kind == "number" or (token.kind == "name" and not _is_defined(token.text, known)):
        return f"{quote}{MASK}{quote}"
    return token.text


def _is_defined(name: str, known: Container[str]) -> bool:
    return name in known or hasattr(builtins, name) or keyword.iskeyword(name)


def _looked_into(token: Token, known: Container[str] | None) -> str:
    """Return a string or comment, in which a secret may be told in words: `# password: …`, `'{"password": …}'`."""
    if token.kind == "comment":
        return "#" + "".join(_masked(token.text[1:], known, prose=True))
    if token.kind == "string":
        prefix, quote, body, ended = string_parts(token.text)
        inside = mask_from_word(body) if _is_sql_of_secrets(body) else "".join(_masked(body, known, prose=True))
        return prefix + quote + inside + quote * ended
    return token.text


def _is_sql_of_secrets(text: str) -> bool:
    return bool(_SQL.match(text)) and any(map(names_secret, _WORD.findall(text)))
