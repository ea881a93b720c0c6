"""The values of a source, made ours: each by the field that it is for, and hashed where it is a secret in plain text.

What cannot be kept as it was is noted: counted by what was done to it, and named where it is lost.

It owns what becomes of single values. Which rows there are is the source's to say; how they are written, writing.py's.
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
from vserverlib.transfer.sources import Default, Notes, Origin, Row, Undecodable

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

KEPT = "kept as it is"  # what is said of a value that is none of its kind, and stays
AHEAD = 4  # rows for each processor that are read before their hashes are there
Stored = Callable[[str], str | None]  # tells a hash by the name of a user


class Plain(NamedTuple):
    """A secret that is to be hashed, and the salt for it."""

    text: str
    salt: str | None


def completed(rows: Iterator[Row], origin: Origin, defaults: Mapping[str, Default]) -> Iterator[Row]:
    """Return rows with what a new one has in the columns of which their source says nothing."""
    for name, default in defaults.items():
        rows = _completed(rows, origin, origin.columns.index(name), default)
    return rows


def _completed(rows: Iterator[Row], origin: Origin, at: int, default: Default) -> Iterator[Row]:
    for row in rows:
        if row[at] is None:
            value = default.value(dict(zip(origin.columns, row, strict=True)))
            row = (*row[:at], value, *row[at + 1 :])
        yield row


class Keeper:
    """Makes the values of one table ours: each by the field that it is for.

    hashes: whether plain secrets are hashed; else nothing is kept of secrets but that there are some. stored: tells the
    hash that a user has already. loose: any value can be in any column, as in SQLite. exactly: they come from a
    database of ours, and are kept as they are, whatever their fields would say.
    """

    def __init__(
        self,
        origin: Origin,
        notes: Notes,
        *,
        hashes: bool,
        loose: bool,
        stored: Stored | None = None,
        exactly: bool = False,
    ) -> None:
        columns = MODELS[origin.entity]._meta.columns
        self._origin, self._notes, self._hashes = origin, notes, hashes
        self._loose, self._exactly = loose, exactly
        self._row: Row = ()  # the one that is being made ours
        self._keepers = [self._keeper(columns[name]) for name in origin.columns]
        self._has_secrets = any(isinstance(columns[name], fields.Secret) for name in origin.columns)
        self._user = origin.columns.index("username") if stored and "username" in origin.columns else None
        self._stored = stored

    def _keeper(self, field: Any) -> Callable[[Any], Any]:
        return partial(self._secret if isinstance(field, fields.Secret) else self._plain, field)

    def kept(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Return the values of rows as they are stored, as they come."""
        found = map(self._kept, rows)
        return self._hashed(found) if self._has_secrets and self._hashes else found

    def _kept(self, row: Row) -> Row:
        self._row = row
        pairs = zip(self._keepers, row, strict=True)
        return tuple([None if value is None else keep(value) for keep, value in pairs])

    def _hashed(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Hash the plain secrets of rows, as many at once as there are processors; the rows stay in their order."""
        from concurrent.futures import ThreadPoolExecutor

        workers = os.cpu_count() or 1
        pool, waiting = ThreadPoolExecutor(workers), deque[Row]()
        try:
            for row in rows:
                waiting.append(tuple(self._begun(pool, row, value) for value in row))
                if len(waiting) > workers * AHEAD:
                    yield _ended(waiting.popleft())
            yield from map(_ended, waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _begun(self, pool: ThreadPoolExecutor, row: Row, value: Any) -> Any:
        if not isinstance(value, Plain):
            return value
        stored = self._stored(row[self._user]) if self._stored and self._user is not None else None
        return pool.submit(_hash_of, value, stored)

    def _plain(self, field: Any, value: Any) -> Any:
        if self._exactly and not isinstance(value, Undecodable):
            return value
        if isinstance(field, fields.UTCDateTimeField) and isinstance(value, str) and not value.strip():
            return self._change(field, "an empty text, no time now", None)
        try:
            kept = field.clean(value)
        except Error:
            return self._mended(field, value)
        return None if kept == "" and isinstance(field, fields.PublicKey) else kept

    def _secret(self, field: Any, value: Any) -> Any:
        """Return a hash as it is, and a plain text as one that is to be hashed, which takes 0.3 seconds."""
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if not text:
            return None
        if text == hashing.KEYCLOAK:
            return text
        try:
            kept = text if hashing.is_hash(text) else Plain(hashing.check_plain(str(field), text), field.salt())
        except Error:
            return self._lose(field, None, "no hash can be made of it, it is empty now", None)
        return kept if self._hashes else hashing.UNKNOWN

    def _mended(self, field: Any, value: Any) -> Any:
        """Return what can be kept of a value that its field does not take, and note it."""
        if isinstance(field, fields.Text):
            return self._as_text(field, value)
        if isinstance(field, relations.Link | fields.IntegerField):
            return self._lose(field, value, "no whole number, it is empty now", None)
        if not self._loose:
            return self._lose(field, value, f"not {field.takes}, it is empty now", None)
        kept = bytes(value) if isinstance(value, Undecodable) else value
        return self._change(field, f"not {field.takes}, {KEPT}", kept)

    def _as_text(self, field: Any, value: Any) -> str:
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if "\0" not in text and (not isinstance(value, bytes) or text.encode() == value):
            return str(self._change(field, "made text", text))
        kept = text.replace("\0", "\ufffd")
        return str(self._lose(field, text, "characters that cannot be kept became \ufffd", kept))

    def _lose(self, field: Any, value: Any, done: str, kept: Any) -> Any:
        """Note a value of which something is lost, by its row. value: None for a secret, which is not shown."""
        shown = "" if value is None else f' "{printable(value)}"'
        self._notes.lost_values.add(f"{self._named_row()}: {field.column_name}{shown}: {done}")
        return self._change(field, done, kept)

    def _change(self, field: Any, done: str, kept: Any) -> Any:
        """Count what was done to a value."""
        self._notes.values[f"{self._origin.table}.{field.column_name}, {done}"] += 1
        return kept

    def _named_row(self) -> str:
        """Return what a row is called: by its id, or where it has none by all that it has."""
        table, _, columns = self._origin
        if "id" in columns:
            return f"{table} {printable(self._row[columns.index('id')])}"
        return f"{table} of {', '.join(map(printable, self._row))}"


def _hash_of(plain: Plain, stored: str | None) -> str:
    """Return the hash of a plain text: the one that is there where it fits, so that it does not change."""
    return stored if stored and hashing.fits(plain.text, stored) else hashing.make_hash(plain.text, plain.salt)


def _ended(row: Row) -> Row:
    """Return a row with the hashes that were begun, when they are there."""
    return tuple([value.result() if hasattr(value, "result") else value for value in row])
