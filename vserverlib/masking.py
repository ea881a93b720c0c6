"""Masking secrets in typed text: the words around a secret reveal it.

It owns `mask`, which all tracebacks and the history of the shell use, and `for_history`, which decides what the history
stores of a cell. In doubt it masks more than the secret. It does not find a secret without a hint, such as a password
in a variable called `x`. fields.py owns secrets in the database, statements.py SQL that is shown.

Python source stays the same Python apart from texts, numbers and comments. Each result is checked for that; if the
check fails, every text and number is masked. Text that is not Python (a line with a mistake, a shell command) is
masked word by word.
"""

from __future__ import annotations

import ast
import builtins
import functools
import keyword
import linecache
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from vserverlib import literals, programs, risky_calls, statements
from vserverlib.literals import Place
from vserverlib.scanning import MASK, Token, mask_obvious, names_secret, scan, string_parts
from vserverlib.secret_columns import SECRET_COLUMNS

_SQL = re.compile(  # also within several statements (executescript)
    r"(?:\A|;)(?:\s|--[^\n]*\n|/\*.*?\*/)*+(?:INSERT|REPLACE|UPDATE|SELECT|DELETE|WITH|EXPLAIN|MERGE)\s",
    re.IGNORECASE | re.DOTALL,
)
_SECRET_TABLES = frozenset(table for table, _ in SECRET_COLUMNS)
_WORD = re.compile(r"\w+")
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
# A text that a value follows: `password`, `--password`, `Password: `, `user=%s password=%s`.
_ASKS = re.compile(r"^(--?[\w-]+|\w+)\W*\Z|(\w+)['\"]?\s*[=:]\s*['\"]?(?:%[sr]|\{[^{}]*\})?['\"]?\s*\Z")
END_LENGTH = 100  # characters at the end of a text that are searched for _ASKS
_OPTION = re.compile(r"--([a-z][\w-]*)[ =]+(?=\S)[^\s'\"]*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_PIPED = re.compile(r"\||<<")
_GIVES = frozenset({"=", ":=", "==", "!=", "+=", "|=", ":"})  # a value follows these


def mask(source: str, known: Container[str] | None = None) -> str:
    """Return the source with each secret replaced by a mask; everything else stays, in its line.

    known: the names that are defined where the source runs. If given, an undefined bare word in the place of a secret
    counts as a secret typed without quotes.
    """
    tree = literals.parsed(source)
    if tree is None:
        return _mask_text(source, known)
    for masked in _ways(source, tree, known):
        if masked.count("\n") == source.count("\n") and literals.is_same(tree, masked):
            return masked
    return f"# {MASK}" + "\n" * source.count("\n")


def _ways(source: str, tree: ast.AST, known: Container[str] | None) -> Iterator[str]:
    """Return the masked source, masking more each time: the caller takes the first that is still the same Python."""
    places = {**_joined(source, tree, known), **_calls(source, tree, known)}
    yield "".join(_masked(source, known, places))
    masked = "".join(_masked(source, None, places))
    if known is not None and literals.is_same(tree, masked):
        yield literals.masked(masked, literals.parsed(masked), lambda name: _is_defined(name, known), names_only=True)
    yield literals.masked(source, tree, lambda name: _is_defined(name, known))


def for_history(source: str, raw: str, known: Container[str] | None = None) -> tuple[str, str] | None:
    """Return the masked source and input of a cell for the history; None if it may store nothing.

    source: IPython's translation of the input. A line for another program, or for IPython, is stored unmasked or
    not at all, because a mask in it would change its meaning (`!rm ********`).
    """
    tree = literals.parsed(source)
    if tree is None:
        return None if programs.may_be_command(raw) else (mask(source, known), mask(raw, known))
    if any(text is not None for text in _calls(source, tree, known).values()):
        return None
    masked = mask(source, known)
    if masked == source:
        return source, raw
    return masked, masked if literals.parsed(raw) is None else mask(raw, known)


class MaskedLines(Sequence[str]):
    """The lines of a source for tracebacks, masked when they are first used because masking is slow."""

    def __init__(self, source: str) -> None:
        self._source = source

    @functools.cached_property
    def _lines(self) -> list[str]:
        return _LINE.findall(mask(self._source))

    def __getitem__(self, at: Any) -> Any:
        return self._lines[at]

    def __len__(self) -> int:
        return len(self._lines)


def remember(source: str, filename: str) -> None:
    """Have tracebacks, which end up in logs, show the lines of a file masked."""
    entry: Any = (len(source), None, MaskedLines(source), filename)
    linecache.cache[filename] = entry


# Text that is not Python


def _mask_text(source: str, known: Container[str] | None) -> str:
    is_all_commands = source.lstrip().startswith("%%")  # the lines below may be in any language
    if is_all_commands:
        source = "\n".join(map(_mask_foreign, source.split("\n")))
    else:
        source = programs.mask_inline(source)
        source = programs.COMMAND.sub(lambda found: programs.mask_command(found[0]), source)
    return "".join(_masked(mask_obvious(source), known, {}))


def _mask_foreign(line: str) -> str:
    """Return a line of a cell in another language, masked: a single word may be a line of text."""
    word = line.strip()
    is_text = word and len(word.split()) == 1 and word.strip("%") not in programs.HARMLESS and word[0] != "%"
    return MASK if is_text else programs.mask_command(line)


def mask_from_word(text: str) -> str:
    """Return a text with a mask for all that follows its first secret word; the number of lines stays."""
    return _mask_behind(text, next((word.end() for word in _WORD.finditer(text) if names_secret(word[0])), len(text)))


def _mask_behind(text: str, end: int) -> str:
    rest = text[end:]
    between = rest[0] if rest[:1] in (" ", "=", ":", "(") else ""
    return text[:end] + between + MASK + "\\\n" * rest.count("\n") if rest.strip() else text


def _mask_sql(sql: str) -> str:
    """Return a statement masked after the name of a secret, or else after that of a table with secrets."""
    words = list(_WORD.finditer(sql))
    if any(names_secret(word[0]) for word in words):
        return mask_from_word(sql)
    if not statements.has_values(sql):
        return sql
    ends = (word.end() for word in words if word[0].casefold() in _SECRET_TABLES)
    return _mask_behind(sql, next(ends, words[0].end()))


# Calls of other programs


def _calls(source: str, tree: ast.AST, known: Container[str] | None) -> dict[Place, str | None]:
    """Return the texts that are passed to other programs or to IPython: their positions and replacements.

    The replacement of a harmless text is None: it stays.
    """
    places = literals.Places(source)
    found: dict[Place, str | None] = {}
    for method, nodes, is_ipython in risky_calls.find(tree, known):
        words = [literals.word(node) for node in nodes]
        if is_ipython:
            masked = programs.mask_magic(method, words, lambda text: mask(text, known))
        else:
            masked = words if programs.is_harmless(words) else [MASK] * len(words)
        for node, before, after in zip(nodes, words, masked, strict=True):
            found[places.of(node)] = None if before == after else literals.replacement(after, source, places.of(node))
    return found


def _joined(source: str, tree: ast.AST, known: Container[str] | None) -> dict[Place, str | None]:
    """Return the texts in several pieces (`"pass" "word: x"`) that hold a secret: their positions and masks."""
    places = literals.Places(source)
    found: dict[Place, str | None] = {}
    for leaf in literals.texts([tree]):
        said, place = getattr(leaf, "value", None), places.of(leaf)
        pieces = [token for token in scan(source[slice(*place)]) if token.kind == "string"]
        if isinstance(said, str) and len(pieces) > 1 and _mask_prose(said, known) != said:
            found[place] = literals.replacement(MASK, source, place)
    return found


# Where a secret is expected


class _Level:
    """One level of brackets: the last secret word in it, and whether a secret follows."""

    def __init__(self, masking: bool) -> None:
        self.masks_all = self.masking = masking
        self.word = ""
        self.is_text = False  # the word was a string: setattr(user, "password", …)

    def saw(self, word: str, is_text: bool = False) -> None:
        self.word, self.is_text = word, is_text

    def gives(self) -> None:
        self.masking, self.word = self.masking or bool(self.word), ""

    def next_value(self, outermost: bool) -> None:
        """Handle a comma. On the outermost level it separates targets (`password, name = …`) or values."""
        if self.word and self.is_text:
            self.gives()
        elif not outermost:
            self.masking, self.word = self.masks_all, ""


class _Follower:
    """Follows the tokens of a source, and knows whether a secret is expected at each."""

    def __init__(self, prose: bool) -> None:
        self.prose, self.levels, self.before = prose, [_Level(False)], Token("newline", "\n", 0)
        self.in_key = False  # within a private key that spans several texts

    @property
    def masking(self) -> bool:
        return self.levels[-1].masking or self.in_key

    def follow(self, token: Token) -> None:
        if token.kind == "newline" and len(self.levels) == 1:
            self.levels, self.in_key = [_Level(False)], False
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
        self._follow_key(body)
        last = _asked_for(body)
        if not self.masking and (names_secret(last) or _is_sql_of_secrets(body)):  # the values of SQL follow it
            self.levels[-1].saw(last or body, is_text=True)

    def _follow_key(self, body: str) -> None:
        begins = [found.start() for found in _KEY_BEGINS.finditer(body)]
        ends = [found.start() for found in _KEY_ENDS.finditer(body)]
        if begins or ends:
            self.in_key = begins[-1:] > ends[-1:]

    def _op(self, token: Token) -> None:
        level = self.levels[-1]
        if token.text in ("(", "[", "{"):
            self._open(token.text, level)
        elif token.text in (")", "]", "}") and len(self.levels) > 1:
            self._close(token.text)
        elif token.text == ",":
            level.next_value(outermost=len(self.levels) == 1 and not self.prose)
        elif token.text in _GIVES or (level.is_text and token.text in ("+", "%")):
            level.gives()
        elif token.text == ";":
            self.levels = [_Level(False)]

    def _open(self, bracket: str, level: _Level) -> None:
        called = bracket == "(" and self.before.kind == "name" and names_secret(self.before.text)
        called = called or (level.is_text and bool(level.word) and self.before.text == "format")
        if called:
            level.word = ""
        self.levels.append(_Level(level.masking or called))

    def _close(self, bracket: str) -> None:
        closed = self.levels.pop()
        if closed.word and (bracket == "]" or closed.is_text):  # user["password"] = …; getattr(user, "password") == …
            self.levels[-1].saw(closed.word)


def _masked(
    source: str, known: Container[str] | None, calls: Mapping[Place, str | None], prose: bool = False
) -> Iterator[str]:
    tokens, follower, seen = scan(source), _Follower(prose), set[str]()
    is_kept = known is None and not prose  # bare words are variables
    pieces = _Pieces(calls)
    for token, follows in pairwise([*tokens, Token("newline", "\n", 0)]):
        if pieces.holds(token):
            yield pieces.shown(token)
            continue
        if not follower.masking:
            seen.add(token.text)
            yield _looked_into(token, known)
        elif token.kind == "name" and (is_kept or follows.text in ("=", "(", ".") or token.text in seen):
            yield token.text
        else:
            yield _replaced(token, known or (), "" if prose else '"')
        follower.follow(token)


class _Pieces:
    """The texts that are passed to other programs: for each token, the token itself or its replacement."""

    def __init__(self, calls: Mapping[Place, str | None]) -> None:
        self.calls = sorted(calls.items(), reverse=True)

    def holds(self, token: Token) -> bool:
        while self.calls and self.calls[-1][0][1] <= token.start:
            self.calls.pop()
        return bool(self.calls) and self.calls[-1][0][0] <= token.start

    def shown(self, token: Token) -> str:
        (start, _), replaced = self.calls[-1]
        if replaced is None:
            return token.text
        return replaced if token.start == start else ""


def _replaced(token: Token, known: Container[str], quote: str) -> str:
    """Return a token in the place of a secret, masked."""
    if token.kind == "string":
        _, own, body, _ = string_parts(token.text)
        return _whole_mask("", own, body) if body else token.text
    if token.kind == "comment":
        return f"# {MASK}"
    if token.kind == "number" or (token.kind == "name" and not _is_defined(token.text, known)):
        return f"{quote}{MASK}{quote}"
    return token.text


def _whole_mask(prefix: str, quote: str, body: str) -> str:
    """Return the source of a masked text with as many lines, which tracebacks count."""
    lines = ("\n" if len(quote) == 3 else "\\\n") * body.count("\n")
    return f"{prefix}{quote}{MASK}{lines}{quote}"


def _is_defined(name: str, known: Container[str] | None) -> bool:
    return known is None or name in known or hasattr(builtins, name) or keyword.iskeyword(name)


def _looked_into(token: Token, known: Container[str] | None) -> str:
    """Return a string or a comment masked by its content: `# password: …`, `'{"password": …}'`."""
    if token.kind == "comment":
        return "#" + "".join(_masked(mask_obvious(token.text[1:]), known, {}, prose=True))
    return _mask_string(token.text, known) if token.kind == "string" else token.text


def _mask_string(text: str, known: Container[str] | None) -> str:
    """Return the source of a text, masked by its value, so that escapes do not count as words."""
    prefix, quote, body, ended = string_parts(text)
    value = literals.value(text)
    said = value.decode("latin-1") if isinstance(value, bytes) else value
    shown = prefix + quote + _mask_prose(body, known) + quote * ended
    if not isinstance(said, str):  # formatted, or not closed
        is_whole = shown == text or not ended or literals.parsed(shown) is not None
        return shown if is_whole else _whole_mask("", quote, body)
    masked = _mask_prose(said, known)
    if masked == said:
        return text
    meant = masked.encode("latin-1", "replace") if isinstance(value, bytes) else masked
    return shown if literals.value(shown) == meant else _whole_mask("b" * isinstance(value, bytes), quote, body)


def _mask_prose(text: str, known: Container[str] | None) -> str:
    """Return the content of a text, masked: SQL, a command line, or prose."""
    text = _OPTION.sub(_mask_option, mask_obvious(text))
    if _is_sql_of_secrets(text):
        return _mask_sql(text)
    if _PIPED.search(text) and any(map(names_secret, _WORD.findall(text))):
        return "\n".join(map(programs.mask_command, text.split("\n")))
    return "".join(_masked(text, known, {}, prose=True))


def _mask_option(found: re.Match[str]) -> str:
    return f"--{found[1]} {MASK}" if names_secret(found[1].replace("-", "_")) else found[0]


def _asked_for(text: str) -> str:
    """Return the word at the end of a text that announces a value; "" without one."""
    found = _ASKS.search(text if len(text) <= END_LENGTH else " " + text[-END_LENGTH:])
    return (found[1] or found[2]).strip("-").replace("-", "_") if found else ""


def _is_sql_of_secrets(text: str) -> bool:
    return bool(_SQL.search(text)) and statements.may_hold_secret(text, SECRET_COLUMNS)
