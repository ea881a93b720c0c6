"""Copies a whole database: from a file to a PostgreSQL server, or back.

A copy has everything: ids, hashes, the journal, counters. One transaction reads the source, another writes the copy
into an empty or new database, row by row, and compares the numbers of rows at the end.

SQLite can store any text in a column of times. PostgreSQL cannot, so the copy refuses it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from models import ENTITIES, MODELS
from vserverlib import Error, addresses, printable
from vserverlib.databases import connecting, recording, server_columns, storage
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.postgresql import servers
from vserverlib.drivers import peewee
from vserverlib.entities.fields import UTCDateTimeField
from vserverlib.progress_callback import Advance, ticker

ROWS_PER_CALL = 5000
OTHER_TABLES = {  # the journal, counters, and the salt of API keys
    "change": ("id", "at", "actor", "session", "kind", "about", "backup", "open"),
    "record": ("id", "change_id", "entity", "entity_id", "op", "changes", "secrets"),
    "undoing": ("change_id", "undone_id"),
    "counter": ("name", "value"),
    "setting": ("name", "value"),
}
INITIALLY_FILLED = ("counter", "setting")  # a new database has rows in them
_FIELDS = (field for model in ENTITIES for field in model._meta.sorted_fields)
TIMES = frozenset(
    {"at", "last_at", "logged_at", *(field.column_name for field in _FIELDS if isinstance(field, UTCDateTimeField))}
)
STORED_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00:00", re.ASCII)


class Copied(NamedTuple):
    """The number of copied rows of a table."""

    table: str
    rows: int


def tables() -> dict[str, tuple[str, ...]]:
    """Return the columns of each table, in an order in which rows can be written."""
    columns = {table: tuple(field.column_name for field in model.stored_fields()) for table, model in MODELS.items()}
    whole = {table: (*names, *server_columns.COLUMNS.get(table, ())) for table, names in columns.items()}
    return {**whole, **server_columns.TABLES, **OTHER_TABLES}


@contextlib.contextmanager
def source(url: str) -> Iterator[DatabaseMixin]:
    """Open the database to copy in a read-only transaction, with hashes visible."""
    if addresses.is_url(url):
        with servers.open_snapshot(url) as there:
            servers.require_source(there)
            yield there
        return
    database = connecting.for_reading(storage.as_path(url))
    with contextlib.closing(database), database.hashes_visible(), database.atomic():
        yield database


def total(database: DatabaseMixin) -> int:
    """Return the number of rows to copy."""
    return sum(_count(database, table) for table in tables())


def copy(database: DatabaseMixin, to: str, advance: Advance = bool) -> list[Copied]:
    """Copy an open database to a URL or path, and return the number of rows by table.

    Raises an Error, and writes nothing, if the target has rows, or cannot store a value.
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
    filled = [table for table in tables() if table not in INITIALLY_FILLED and _count(target, table)]
    if filled:
        message = f"{target.title} has rows already ({', '.join(filled)})"
        raise Error(f"{message}: copy to an empty or a new database")


def _fill(database: DatabaseMixin, target: DatabaseMixin, advance: Advance) -> list[Copied]:
    tick = ticker(advance)
    recording.defer_links(target)
    with recording.unrecorded(target):
        for table in INITIALLY_FILLED:
            target.execute_sql(f'DELETE FROM "{table}"')
        copied = [_copy_table(database, target, table, columns, tick) for table, columns in tables().items()]
    for table, columns in tables().items():
        if columns[0] == "id":
            target.raise_last_id(table, database.highest_id(table))
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
        while chunk := list(itertools.islice(rows, ROWS_PER_CALL)):
            number += _insert(target, table, columns, chunk)
    return Copied(table, number)


def _insert(target: DatabaseMixin, table: str, columns: tuple[str, ...], chunk: list[Any]) -> int:
    try:
        target.insert_many(table, columns, chunk)
    except peewee.DataError as error:  # such as a NUL in a text that another program wrote
        message = f"{target.title} cannot store a row of {table}: {printable(error, 200)}"
        raise Error(f"{message}: nothing was copied; correct the value first") from error
    return len(chunk)


def _with_times(rows: Iterator[Any], table: str, columns: tuple[str, ...]) -> Iterator[Any]:
    """Yield rows after a check of their times: PostgreSQL would convert "yesterday", and SQLite stores any text."""
    places = [at for at, name in enumerate(columns) if name in TIMES]
    for row in rows:
        for at in places:
            if row[at] is not None and not _is_stored_time(row[at]):
                message = f'{table} {printable(row[0])}: {columns[at]} "{printable(row[at])}" is not a time'
                raise Error(f"{message}: nothing was copied; correct the value first")
        yield row


def _is_stored_time(value: Any) -> bool:
    return isinstance(value, str) and STORED_TIME.fullmatch(value) is not None


def _verify(database: DatabaseMixin, target: DatabaseMixin, copied: list[Copied]) -> None:
    """Raise an Error if the numbers of rows differ. The journal's entry about the copy is one more."""
    for table, rows in copied:
        there = _count(target, table) - (table == "change")
        if there != rows or _count(database, table) != rows:
            raise Error(f"{there:,} of {rows:,} rows of {table} arrived in {target.title}: nothing was copied")


def _count(database: DatabaseMixin, table: str) -> int:
    return int(database.execute_sql(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])
