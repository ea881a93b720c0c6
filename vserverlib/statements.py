"""SQL for display: a statement that may contain a secret shows none of its values.

It does not parse which value belongs to which column: a statement that names a secret column, writes to a table with
one, or reads an unknown table may contain a secret in any value. Of such a statement only keywords, functions and the
names of our tables and columns are shown. The caller passes the secret columns.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vserverlib.scanning import MASK, mask_obvious, names_secret

SCHEMA = Path(__file__).parent / "migrations" / "schema.sql"
_TOKENS = re.compile(
    r"""
      (?P<text>[xX]?'(?:[^']|'')*'?)
    | (?P<quoted>"(?:[^"]|"")*"?|`(?:[^`]|``)*`?|\[[^\]]*\]?)
    | (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<mark>\?\d*|[:@$][^\W\d]\w*|%s)
    | (?P<number>\d[\w.]*)
    | (?P<word>\w+)
    | (?P<space>\s+)
    | (?P<op>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"\w+")
_ESCAPED = re.compile(r"\bu&[\"']", re.IGNORECASE)  # PostgreSQL allows escapes in names
_STAR = re.compile(r"(?<!\()\s*\*")  # all columns; not COUNT(*)
_READ = re.compile(r"\b(?:FROM|JOIN)\s+(?:ONLY\s+|LATERAL\s+)?(?:[\w\"`\[\]]+\.)?([\w\"`\[\]]+)(\s*\()?", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:WITH|RECURSIVE|,)\s*\"?(\w+)\"?\s*(?:\([^()]*\)\s*)?AS\b", re.IGNORECASE)
_CREATED_TABLE = re.compile(r'CREATE TABLE "(\w+)"')
_INTO = re.compile(  # a table, and whether column names follow it
    r"""\b(?:INSERT|REPLACE)\s+(?:OR\s+\w+\s+)?INTO\s+
    (?:(?:"[^"]*"|`[^`]*`|\[[^\]]*\]|\w+)\s*\.\s*)?("[^"]*"|`[^`]*`|\[[^\]]*\]|\w+)
    (\s*\((?!\s*(?:SELECT|VALUES|WITH)\b))?""",
    re.VERBOSE | re.IGNORECASE,
)
_ALIAS = re.compile(r"t\d+")
_HARMLESS = frozenset({"?", "%s", "''", *"0123456789"})
_BEGINS = frozenset({"select", "values", "with"})
_WRITES = frozenset(
    {"insert", "update", "delete", "replace", "merge", "copy", "create", "alter", "attach", "do", "call"}
    | {"execute", "prepare", "into"}
)
_OTHERS = frozenset(
    {"sqlite_master", "sqlite_schema", "sqlite_sequence", "pg_catalog", "information_schema", "generate_series"}
)
_KEYWORDS = frozenset(
    {
        "abort",
        "all",
        "alter",
        "and",
        "any",
        "as",
        "asc",
        "begin",
        "between",
        "by",
        "case",
        "cast",
        "coalesce",
        "collate",
    }
    | {"commit", "conflict", "cross", "current_timestamp", "default", "deferred", "delete", "desc", "distinct", "do"}
    | {"else", "end", "escape", "except", "excluded", "exists", "explain", "false", "fetch", "filter", "first", "for"}
    | {"from", "full", "glob", "group", "having", "ignore", "ilike", "immediate", "in", "inner", "insert", "intersect"}
    | {"into", "is", "isnull", "join", "last", "lateral", "left", "like", "limit", "match", "materialized", "natural"}
    | {"new", "not", "nothing", "notnull", "null", "nulls", "of", "offset", "old", "on", "only", "or", "order", "outer"}
    | {
        "over",
        "partition",
        "plan",
        "pragma",
        "query",
        "recursive",
        "regexp",
        "release",
        "replace",
        "returning",
        "right",
    }
    | {
        "rollback",
        "row",
        "rows",
        "savepoint",
        "select",
        "set",
        "similar",
        "table",
        "temp",
        "then",
        "ties",
        "to",
        "true",
    }
    | {"truncate", "union", "unique", "unknown", "update", "user", "using", "value", "values", "view", "when", "where"}
    | {"window", "with", "work"}
    | {
        "abs",
        "avg",
        "count",
        "date",
        "datetime",
        "format",
        "group_concat",
        "hex",
        "ifnull",
        "instr",
        "json",
        "json_each",
    }
    | {"json_extract", "json_object", "json_quote", "json_set", "julianday", "length", "lower", "max", "min", "now"}
    | {"nullif", "printf", "quote", "random", "round", "row_number", "strftime", "string_agg", "substr", "substring"}
    | {"sum", "time", "total", "total_changes", "trim", "typeof", "upper"}
)


def masked(sql: str, parameters: Any, columns: Iterable[tuple[str, str]]) -> tuple[str, list[Any]]:
    """Return a statement and its parameters in order; all values masked if the statement may contain a secret.

    columns: the (table, column) pairs of secrets.
    """
    values = list(parameters.values()) if isinstance(parameters, Mapping) else list(parameters or ())
    tokens = list(_TOKENS.finditer(sql))
    if may_hold_secret(sql, columns):
        return mask_obvious("".join(_shown(tokens))), [None if value is None else MASK for value in values]
    is_known = isinstance(parameters, Mapping) or _fits(tokens, len(values))
    return mask_obvious(sql), [_value(value) if is_known else MASK for value in values]


def may_hold_secret(sql: str, columns: Iterable[tuple[str, str]]) -> bool:
    """Whether a statement names a secret, writes to a table with one, or reads an unknown table."""
    pairs = {(table.casefold(), name.casefold()) for table, name in columns}
    words = [word.casefold() for word in _WORD.findall(sql)]
    is_named = any(map(names_secret, words)) or not {name for _, name in pairs}.isdisjoint(words)
    if is_named or _ESCAPED.search(sql) or _reads_unknown(sql) or _fills_unknown(sql):
        return True
    if {table for table, _ in pairs}.isdisjoint(words):
        return False
    return words[0] not in _BEGINS or not _WRITES.isdisjoint(words) or bool(_STAR.search(sql))


def _reads_unknown(sql: str) -> bool:
    """Whether a statement reads a table or a view that is not ours: a view may rename a secret column."""
    known = _names() | _OTHERS | {name.casefold() for name in _NAMED.findall(sql)} | {"select", "values"}
    found = ((name.strip('"`[]').casefold(), called) for name, called in _READ.findall(sql))
    return any(name not in known and not called and not name.startswith("pg_") for name, called in found)


def _fills_unknown(sql: str) -> bool:
    """Whether a statement inserts into a table that is not ours, without naming columns."""
    plain = "".join(" " if token.lastgroup == "comment" else token.group() for token in _TOKENS.finditer(sql))
    found = ((name.strip('"`[]').casefold(), named) for name, named in _INTO.findall(plain))
    return any(name not in _tables() and not named for name, named in found)


def has_values(sql: str) -> bool:
    """Whether a statement has more than keywords, our names, and parameter marks."""
    return "".join(_shown(_TOKENS.finditer(sql))) != sql


@functools.cache
def _tables() -> frozenset[str]:
    return frozenset(_CREATED_TABLE.findall(SCHEMA.read_text()))


@functools.cache
def _names() -> frozenset[str]:
    """Return all words of our schema, including the names of tables and columns."""
    return frozenset(_WORD.findall(SCHEMA.read_text().casefold()))


def _shown(tokens: Iterable[re.Match[str]]) -> Iterator[str]:
    """Return the tokens of a statement without its values and without unknown names."""
    for token in tokens:
        kind, text = str(token.lastgroup), token.group()
        if kind in ("space", "op") or text in _HARMLESS or (kind in ("word", "quoted") and _is_name(text)):
            yield text
        else:
            yield f"/* {MASK} */" if kind == "comment" else f"'{MASK}'"


def _is_name(text: str) -> bool:
    word = text.strip('"`[]').casefold()
    return word in _KEYWORDS or word in _names() or bool(_ALIAS.fullmatch(word))


def _fits(tokens: Sequence[re.Match[str]], number: int) -> bool:
    """Whether a statement takes this number of parameters, as far as that is visible."""
    marks = [token.group() for token in tokens if token.lastgroup == "mark"]
    return len(marks) == number or any(mark not in ("?", "%s") for mark in marks)


def _value(value: Any) -> Any:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return mask_obvious(text) if isinstance(text, str) and mask_obvious(text) != text else value
