"""Copying a whole database from one place to another: a file to a PostgreSQL server, and back.

Everything goes along: the entities with their ids, hashes of secrets, the journal, the counters. It is read at one
moment, written in one transaction into a database that is empty or not there yet, streamed, and counted at the end.

The two kinds of database keep the same values, but for times: a text that is none has no place in PostgreSQL.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from models import ENTITIES, Member
from vserverlib import Error, addresses, printable
from vserverlib.databases import connecting, recording, storage
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.postgresql import servers
from vserverlib.drivers import peewee
from vserverlib.entities.fields import UTCDateTimeField
from vserverlib.progress_callback import Advance, ticker

CHUNK = 5000  # rows that are written by one call
KEPT_BESIDE = {  # what there is beside the entities: the journal, counters, and what keys are hashed with
    "change": ("id", "at", "actor", "session", "kind", "about", "backup", "open"),
    "record": ("id", "change_id", "entity", "entity_id", "op", "changes", "secrets"),
    "undoing": ("change_id", "undone_id"),
    "counter": ("name", "value"),
    "setting": ("name", "value"),
}
MADE_FILLED = ("counter", "setting")  # a new database has rows in these
_FIELDS = (field for model in ENTITIES for field in model._meta.sorted_fields)
TIMES = frozenset({"at", *(field.column_name for field in _FIELDS if isinstance(field, UTCDateTimeField))})
STORED_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00", re.ASCII)


class Copied(NamedTuple):
    """How many rows of a table were copied."""

    table: str
    rows: int


def tables() -> dict[str, tuple[str, ...]]:
    """Return the tables and their columns, in an order in which rows can be written."""
    models = [model._meta for model in peewee.sort_models([*ENTITIES, Member])]
    entities = {meta.table_name: tuple(field.column_name for field in meta.model.stored_fields()) for meta in models}
    return {**entities, **KEPT_BESIDE}


@contextlib.contextmanager
def source(url: str) -> Iterator[DatabaseMixin]:
    """Open the database that is to be copied: for reading, as it is at one moment, with the hashes of its secrets."""
    if addresses.is_url(url):
        with servers.open_snapshot(url) as there:
            servers.require_source(there)
            yield there
        return
    database = connecting.for_reading(storage.as_path(url))
    with contextlib.closing(database), database.hashes_visible(), database.atomic():
        yield database


def total(database: DatabaseMixin) -> int:
    """Return how many rows there are to copy."""
    return sum(_count(database, table) for table in tables())


def copy(database: DatabaseMixin, to: str, advance: Advance = bool) -> list[Copied]:
    """Copy all of an open database to a URL or path, and return how many rows of each table that was.

    Raises an Error, and nothing is written, where there are entities already, or a value has no place there.
    """
    done: list[Copied] = []

    def fill(target: DatabaseMixin) -> None:
        done.extend(_fill(database, target, advance))

    if addresses.is_url(to):
        _to_server(to, fill)
    else:
        _to_file(storage.as_path(to), fill)
    return done


def _to_server(url: str, fill: Callable[[DatabaseMixin], None]) -> None:
    try:
        with contextlib.closing(servers.opened(url)) as target, target.atomic():
            _refuse_filled(target)
            fill(target)
    except servers.NoTables:
        servers.create(url, fill=fill)


def _to_file(path: Path, fill: Callable[[DatabaseMixin], None]) -> None:
    def fill_whole(target: DatabaseMixin) -> None:
        with target.atomic():
            fill(target)

    storage.create(path, fill=fill_whole)


def _refuse_filled(target: DatabaseMixin) -> None:
    filled = [table for table in tables() if table not in MADE_FILLED and _count(target, table)]
    if filled:
        message = f"{target.title} has rows already ({', '.join(filled)})"
        raise Error(f"{message}: copy to a database that is empty, or not there yet")


def _fill(database: DatabaseMixin, target: DatabaseMixin, advance: Advance) -> list[Copied]:
    tick = ticker(advance)
    recording.defer_links(target)
    with recording.unrecorded(target):
        for table in MADE_FILLED:
            target.execute_sql(f'DELETE FROM "{table}"')
        copied = [_copy_table(database, target, table, columns, tick) for table, columns in tables().items()]
    for table, columns in tables().items():
        if columns[0] == "id":
            target.set_last_id(table, database.highest_id(table))
    recording.sign(target)
    with recording.one_change(target, recording.BULK_WORK, f"copied from {printable(database.title, 200)}"):
        pass
    _verify(database, target, copied)
    return copied


def _copy_table(
    database: DatabaseMixin, target: DatabaseMixin, table: str, columns: tuple[str, ...], tick: Callable[[Any], Any]
) -> Copied:
    names = peewee.Table(table, columns)
    query = names.select(*(getattr(names, column) for column in columns)).order_by(peewee.SQL("1"))
    number, is_loose = 0, database.is_sqlite and not target.is_sqlite
    with contextlib.closing(database.rows(query)) as found:
        rows = map(tick, _with_times(found, table, columns) if is_loose else found)
        while chunk := list(itertools.islice(rows, CHUNK)):
            number += _insert(target, table, columns, chunk)
    return Copied(table, number)


def _insert(target: DatabaseMixin, table: str, columns: tuple[str, ...], chunk: list[Any]) -> int:
    try:
        target.insert_many(table, columns, chunk)
    except peewee.DataError as error:  # a NUL in a text that another program wrote, for one
        message = f"a row of {table} has no place in {target.title}: {printable(error, 200)}"
        raise Error(f"{message}: nothing was copied; mend it first") from error
    return len(chunk)


def _with_times(rows: Iterator[Any], table: str, columns: tuple[str, ...]) -> Iterator[Any]:
    """Pass rows on whose times are times: PostgreSQL would take "yesterday" for one, and SQLite keeps any text."""
    places = [at for at, name in enumerate(columns) if name in TIMES]
    for row in rows:
        for at in places:
            if row[at] is not None and not _is_stored_time(row[at]):
                message = f'{table} {printable(row[0])} has "{printable(row[at])}" for {columns[at]}, which is no time'
                raise Error(f"{message}: nothing was copied; mend it first")
        yield row


def _is_stored_time(value: Any) -> bool:
    return isinstance(value, str) and STORED_TIME.fullmatch(value) is not None


def _verify(database: DatabaseMixin, target: DatabaseMixin, copied: list[Copied]) -> None:
    """Raise an Error where the tables of the two do not have as many rows: the entry of the copy itself is one more."""
    for table, rows in copied:
        there = _count(target, table) - (table == "change")
        if there != rows or _count(database, table) != rows:
            raise Error(f"{there:,} of {rows:,} rows of {table} arrived in {target.title}: nothing was copied")


def _count(database: DatabaseMixin, table: str) -> int:
    return int(database.execute_sql(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])
