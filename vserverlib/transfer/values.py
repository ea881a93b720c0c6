"""Converts the values of a source with our fields, and hashes plain passwords and API keys.

A change of a value is counted; a loss is also noted with its row. writing.py writes the rows.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from models import MODELS
from vserverlib import Error, hashing, printable
from vserverlib.entities import fields, relations
from vserverlib.transfer.sources import Default, ImportNotes, Origin, Row, Undecodable

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

KEPT_AS_IS = "kept as it is"  # in a note about a value of another type than its column
ROWS_AHEAD = 4  # rows for each processor that are read while hashes are computed
FindHash = Callable[[str], str | None]  # takes a username


class PlainSecret(NamedTuple):
    """A secret in plain text, and the salt to hash it with, or None for a new one."""

    text: str
    salt: str | None


def with_defaults(rows: Iterator[Row], origin: Origin, defaults: Mapping[str, Default]) -> Iterator[Row]:
    """Return rows with the defaults of new rows where the source yields None."""
    for name, default in defaults.items():
        rows = _completed(rows, origin, origin.columns.index(name), default)
    return rows


def _completed(rows: Iterator[Row], origin: Origin, at: int, default: Default) -> Iterator[Row]:
    for row in rows:
        if row[at] is None:
            value = default.value(dict(zip(origin.columns, row, strict=True)))
            row = (*row[:at], value, *row[at + 1 :])
        yield row


class ValueConverter:
    """Converts the rows of one table.

    hashes: keep or compute hashes of secrets; else each secret becomes hashing.UNKNOWN. stored: finds the present hash
    of a user's password. any_type: the target stores any type in any column, as SQLite does. exactly: the source is a
    database of ours, so values are not converted.
    """

    def __init__(
        self,
        origin: Origin,
        notes: ImportNotes,
        *,
        hashes: bool,
        any_type: bool,
        stored: FindHash | None = None,
        exactly: bool = False,
    ) -> None:
        columns = MODELS[origin.entity]._meta.columns
        self._origin, self._notes, self._hashes = origin, notes, hashes
        self._any_type, self._exactly = any_type, exactly
        self._row: Row = ()  # the current one
        self._converters = [self._converter(columns[name]) for name in origin.columns]
        self._has_secrets = any(isinstance(columns[name], fields.Secret) for name in origin.columns)
        self._user = origin.columns.index("username") if stored and "username" in origin.columns else None
        self._stored = stored

    def _converter(self, field: Any) -> Callable[[Any], Any]:
        return partial(self._secret if isinstance(field, fields.Secret) else self._plain, field)

    def converted(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield rows with the values to store."""
        found = map(self._convert, rows)
        return self._hashed(found) if self._has_secrets and self._hashes else found

    def _convert(self, row: Row) -> Row:
        self._row = row
        pairs = zip(self._converters, row, strict=True)
        return tuple([None if value is None else convert(value) for convert, value in pairs])

    def _hashed(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Hash plain secrets, on all processors at once. The rows keep their order."""
        from concurrent.futures import ThreadPoolExecutor

        workers = os.cpu_count() or 1
        pool, waiting = ThreadPoolExecutor(workers), deque[Row]()
        try:
            for row in rows:
                waiting.append(tuple(self._begin_hash(pool, row, value) for value in row))
                if len(waiting) > workers * ROWS_AHEAD:
                    yield _with_hashes(waiting.popleft())
            yield from map(_with_hashes, waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin_hash(self, pool: ThreadPoolExecutor, row: Row, value: Any) -> Any:
        if not isinstance(value, PlainSecret):
            return value
        stored = self._stored(row[self._user]) if self._stored and self._user is not None else None
        return pool.submit(_hash_of, value, stored)

    def _plain(self, field: Any, value: Any) -> Any:
        if self._exactly and not isinstance(value, Undecodable):
            return value
        if isinstance(field, fields.UTCDateTimeField) and isinstance(value, str) and not value.strip():
            return self._change(field, "an empty text, now NULL", None)
        try:
            kept = field.clean(value)
        except Error:
            return self._adapt(field, value)
        return None if kept == "" and isinstance(field, fields.PublicKey) else kept

    def _secret(self, field: Any, value: Any) -> Any:
        """Return a hash unchanged, and a plain text as a PlainSecret: hashing takes 0.3 seconds."""
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if not text:
            return None
        if text == hashing.KEYCLOAK:
            return text
        try:
            kept = text if hashing.is_hash(text) else PlainSecret(hashing.check_plain(str(field), text), field.salt())
        except Error:
            return self._lose(field, None, "it cannot be hashed, it is empty now", None)
        return kept if self._hashes else hashing.UNKNOWN

    def _adapt(self, field: Any, value: Any) -> Any:
        """Return what can be kept of a value that its field refuses, and note it."""
        if isinstance(field, fields.Text):
            return self._as_text(field, value)
        if isinstance(field, relations.Link | fields.IntegerField):
            return self._lose(field, value, "not a whole number, it is empty now", None)
        if not self._any_type:
            return self._lose(field, value, f"not {field.takes}, it is empty now", None)
        kept = bytes(value) if isinstance(value, Undecodable) else value
        return self._change(field, f"not {field.takes}, {KEPT_AS_IS}", kept)

    def _as_text(self, field: Any, value: Any) -> str:
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if "\0" not in text and (not isinstance(value, bytes) or text.encode() == value):
            return str(self._change(field, "converted to text", text))
        kept = text.replace("\0", "\ufffd")
        return str(self._lose(field, text, "characters that cannot be stored became \ufffd", kept))

    def _lose(self, field: Any, value: Any, done: str, kept: Any) -> Any:
        """Note a value of which something is lost, with its row. value: None for a secret, which is not shown."""
        shown = "" if value is None else f' "{printable(value)}"'
        self._notes.lost_values.add(f"{self._named_row()}: {field.column_name}{shown}: {done}")
        return self._change(field, done, kept)

    def _change(self, field: Any, done: str, kept: Any) -> Any:
        """Count a change of a value."""
        self._notes.values[f"{self._origin.table}.{field.column_name}, {done}"] += 1
        return kept

    def _named_row(self) -> str:
        """Return the name of the current row: its id, or all its values if it has no id."""
        table, _, columns = self._origin
        if "id" in columns:
            return f"{table} {printable(self._row[columns.index('id')])}"
        return f"{table} of {', '.join(map(printable, self._row))}"


def _hash_of(plain: PlainSecret, stored: str | None) -> str:
    """Return the stored hash if it fits the plain text, else a new one."""
    return stored if stored and hashing.matches(plain.text, stored) else hashing.make_hash(plain.text, plain.salt)


def _with_hashes(row: Row) -> Row:
    """Wait for the hashes of a row."""
    return tuple([value.result() if hasattr(value, "result") else value for value in row])
