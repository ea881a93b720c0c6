"""SQL as a person is shown it: the statement and its parameters, a mask in place of what meets a secret column.

A clause is what stands between two separators (a comma, AND, WHERE and the like), with the brackets in it. A value is
secret where its clause names a secret column, whichever of the two comes first; in the rows of an INSERT the place of
the column decides. In doubt more is masked than a secret. Which columns are secret is told by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vserverlib.terminal.scanning import MASK, mask_obvious, names_secret

_TOKENS = re.compile(
    r"""
      (?P<text>[xX]?'(?:[^']|'')*'?)
    | (?P<quoted>"(?:[^"]|"")*"?|`(?:[^`]|``)*`?|\[[^\]]*\]?)
    | (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<mark>\?\d*|[:@$]\w+|%s)
    | (?P<number>\d[\w.]*)
    | (?P<word>\w+)
    | (?P<space>\s+)
    | (?P<op>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_SEPARATORS = frozenset(
    {",", ";", "AND", "OR", "WHERE", "FROM", "SET", "SELECT", "VALUES", "RETURNING", "HAVING", "ORDER", "GROUP"}
    | {"LIMIT", "JOIN", "ON", "USING", "UNION", "EXCEPT", "INTERSECT", "DO"}
)
_APART = frozenset({"FROM", "JOIN", "EXISTS", "AS"})  # before a bracket whose values meet nothing outside of it
_COMPARED = frozenset({"=", "<", ">", "|", "(", ",", "LIKE", "IS"})  # after these a name in quotes may be a text, too


class _Bracket:
    """What is inside a pair of brackets, CASE and END, or the whole: its values, and those of the clause at hand.

    stored: of the row of an INSERT, whether each column is a secret one.
    """

    def __init__(self, opened: str, is_apart: bool = False, stored: Sequence[bool] = ()) -> None:
        self.opened, self.is_apart, self.stored = opened, is_apart, stored
        self.place, self.has_secret, self.in_between = 0, False, False
        self.values: list[int] = []
        self.clause: list[int] = []
        self.is_secret = False

    def end_clause(self) -> list[int]:
        """Return the values that are secret in the clause that ends here."""
        is_stored = bool(self.stored) and self.stored[self.place % len(self.stored)]
        found = self.clause if self.is_secret or is_stored else []
        self.values += self.clause
        self.has_secret = self.has_secret or self.is_secret
        self.clause, self.is_secret, self.place = [], False, self.place + 1
        return found


class _Reader:
    """Reads a statement token by token, and collects which of them are secret."""

    def __init__(self, columns: Iterable[tuple[str, str]]) -> None:
        self.tables = {table.casefold() for table, _ in columns}
        self.names = {name.casefold() for _, name in columns}
        self.named = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(self.names)))})\b", re.IGNORECASE)
        self.secret: set[int] = set()
        self.brackets = [_Bracket("")]
        self.before, self.into = "", ""  # the word before; the table of an INSERT until its columns are known
        self.stored: list[bool] | None = None  # the columns of an INSERT, from its list on
        self.in_rows = self.in_list = False

    def read(self, tokens: Sequence[re.Match[str]]) -> set[int]:
        """Return the places of the tokens that are secret."""
        for at, token in enumerate(tokens):
            if token.lastgroup == "comment":
                self.secret |= {at} if self.named.search(token.group()) else set()
            elif token.lastgroup != "space":
                self._read(at, token, tokens[at + 1].group() if at + 1 < len(tokens) else "")
        while len(self.brackets) > 1:
            self._close()
        self._end_clause()
        return self.secret

    def _read(self, at: int, token: re.Match[str], follows: str) -> None:
        text = token.group()
        word = text.upper() if token.lastgroup in ("word", "op") else ""
        if word in ("(", "CASE"):
            self._open(word)
        elif (word, self.brackets[-1].opened) in ((")", "("), ("END", "CASE")):
            self._close()
        elif word in _SEPARATORS:
            self._separate(word)
        elif token.lastgroup in ("word", "quoted"):
            self._name(at, text, is_text=token.lastgroup == "quoted" and follows != ".")
        elif token.lastgroup != "op":
            self._value(at, text)
        self.before = word or text

    def _open(self, word: str) -> None:
        is_list = bool(self.into) and self.stored is None and word == "("
        self.in_list = is_list
        self.stored = [] if is_list else self.stored
        is_row = self.in_rows and len(self.brackets) == 1
        bracket = _Bracket(word, is_list or self.before in _APART, (self.stored or ()) if is_row else ())
        self.brackets.append(bracket)

    def _close(self) -> None:
        self._end_clause()
        closed = self.brackets.pop()
        outer = self.brackets[-1]
        outer.clause += closed.values
        outer.is_secret = outer.is_secret or (closed.has_secret and not closed.is_apart)
        self.in_list = False

    def _separate(self, word: str) -> None:
        bracket = self.brackets[-1]
        if word == "AND" and bracket.in_between:
            bracket.in_between = False
            return
        self._end_clause()
        if self.into and word in ("VALUES", "SELECT", "SET", "DO", "RETURNING", "ON"):
            self._begin_rows(word)

    def _begin_rows(self, word: str) -> None:
        """Follow an INSERT to what is stored: rows, in which the place counts, or a query, all of whose values do."""
        if self.stored is None:
            self.stored = [self.into in self.tables]
        self.in_rows = word == "VALUES"
        if word == "SELECT" and any(self.stored):
            self.brackets[0].stored = [True]
        if not self.in_rows and word != "SELECT":
            self.into = ""

    def _end_clause(self) -> None:
        self.secret.update(self.brackets[-1].end_clause())

    def _name(self, at: int, text: str, is_text: bool) -> None:
        bracket, name = self.brackets[-1], text.strip('"`[]').casefold()
        if self.before == "INTO":
            self.into, self.stored, self.in_rows = name, None, False
        elif self.in_list and self.stored is not None:
            self.stored.append(self._is_secret(name))
        elif self._is_secret(name):
            bracket.is_secret = True
        elif self.before == "AS" and bracket.is_secret:
            self.names.add(name)
        elif is_text and self.before in _COMPARED:
            bracket.clause.append(at)
        bracket.in_between = bracket.in_between or name == "between"

    def _is_secret(self, name: str) -> bool:
        """Whether a name is that of a secret column, or of what such a column is called here; or was meant for one."""
        return name in self.names or names_secret(name)

    def _value(self, at: int, text: str) -> None:
        bracket = self.brackets[-1]
        bracket.is_secret = bracket.is_secret or bool(self.named.search(text))
        if text != "''":
            bracket.clause.append(at)


def masked(sql: str, parameters: Any, columns: Iterable[tuple[str, str]]) -> tuple[str, list[Any]]:
    """Return a statement, and its parameters in their order, a mask in place of each that is a secret.

    columns: the (table, column) pairs of secrets.
    """
    tokens = list(_TOKENS.finditer(sql))
    secret = _Reader(list(columns)).read(tokens)
    marks = [(token.group(), at in secret) for at, token in enumerate(tokens) if token.lastgroup == "mark"]
    return mask_obvious("".join(_shown(tokens, secret))), list(_values(marks, parameters or ()))


def _shown(tokens: Sequence[re.Match[str]], secret: set[int]) -> Iterator[str]:
    for at, token in enumerate(tokens):
        is_hidden = at in secret and token.lastgroup != "mark"
        yield (f"/* {MASK} */" if token.lastgroup == "comment" else f"'{MASK}'") if is_hidden else token.group()


def _values(marks: Sequence[tuple[str, bool]], parameters: Any) -> Iterator[Any]:
    """Return parameters as they are shown; where it is not known which mark is whose, none of them."""
    if isinstance(parameters, Mapping):
        hidden = {mark[1:] for mark, is_secret in marks if is_secret}
        yield from (_value(value, name in hidden) for name, value in parameters.items())
        return
    numbers = list(_numbers(mark for mark, _ in marks))
    is_known = max(numbers, default=0) == len(parameters)
    secret = {number for number, (_, is_secret) in zip(numbers, marks, strict=True) if is_secret}
    for number, value in enumerate(parameters, start=1):
        yield _value(value, not is_known or number in secret)


def _numbers(marks: Iterable[str]) -> Iterator[int]:
    """Return the number of the parameter that each mark takes, as SQLite counts them: ?, ?3, :name."""
    last, known = 0, dict[str, int]()
    for mark in marks:
        if mark[1:].isdigit() and mark[0] == "?":
            number = int(mark[1:])
        elif mark in ("?", "%s"):
            number = last + 1
        else:
            number = known.setdefault(mark, last + 1)
        last = max(last, number)
        yield number


def _value(value: Any, is_secret: bool) -> Any:
    if value is None or not is_secret:
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        return mask_obvious(text) if isinstance(text, str) and mask_obvious(text) != text else value
    return MASK
