"""The PostgreSQL database of a vantage6 server, as a source: copied into a private SQLite file, as it is at one moment.

The copy has the tables, columns and values of the database, and vantage6.py reads it as it reads the files of servers;
so a row becomes the same, whichever program kept it. It is gone with the source.

It owns the copying. Which tables are those of a server, and what becomes of their rows, is vantage6.py's to say; how a
database is reached is servers.py's.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import files
from vserverlib.databases import recognition, sqlite_connections
from vserverlib.databases.connection import quoted
from vserverlib.files import shown
from vserverlib.progress_callback import ticker
from vserverlib.transfer import vantage6
from vserverlib.transfer.sources import Bar

COUNTED = 23  # the type of a row that is only counted (int4)
TABLES = """
SELECT c.relname, a.attname, a.atttypid FROM pg_class c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND c.relnamespace <> 'pg_catalog'::regnamespace
ORDER BY c.relname, a.attnum
"""
OTHERS = """
SELECT relname FROM pg_class WHERE relkind IN ('v', 'm', 'f') AND pg_table_is_visible(oid)
AND relnamespace <> 'pg_catalog'::regnamespace
"""
# It takes as long as it takes; and rows that this role may not see are an error, in place of being left out.
SETTINGS = {"statement_timeout": 0, "idle_in_transaction_session_timeout": 0, "row_security": "off"}
# What is to be seen changes with each transaction that ends, and a snapshot tells which have.
STATE = """
SELECT system_identifier, current_database(), pg_current_snapshot(), current_schemas(true), current_user
FROM pg_control_system()
"""


class Column(NamedTuple):
    """A column of a table: its name, and the number of its type (pg_type.oid)."""

    name: str
    kind: int


Tables = dict[str, list[Column]]


@contextlib.contextmanager
def opened(database: Any, bar: Bar) -> Iterator[vantage6.Source]:
    """Have the database of a server be a source. It is read at one moment: see servers.at_one_moment().

    Raises an Error where it is none of a server, of a release too new, or there is no room for the copy.
    """
    codec = database.read_as_stored()
    tables, title = _tables(database), database.title
    recognition.release_of(title, {table: frozenset(name for name, _ in columns) for table, columns in tables.items()})
    vantage6.refuse_views(title, {name for (name,) in database.execute_sql(OTHERS)})
    with files.passing_folder() as folder, contextlib.closing(_new(files.make_private(folder / "source"))) as conn:
        with files.as_error(f"{title} cannot be copied to {shown(folder)}"):
            _copy(database, conn, tables, codec, bar)
        yield vantage6.source_of(conn, title, database.place)


def state(database: Any) -> str:
    """Return what stands for all that a database shows at this moment: another text after any change."""
    return " ".join(map(str, (*database.execute_sql(STATE).fetchone(), database.asked_encoding)))


def _tables(database: Any) -> Tables:
    """Return the tables that a query finds without naming a schema; the columns of those that have a place here."""
    found: Tables = {}
    for table, name, kind in database.execute_sql(TABLES):
        columns = found.setdefault(table, [])
        if name is not None:
            columns.append(Column(name, kind))
    return found


def _new(file: Path) -> sqlite3.Connection:
    conn = sqlite_connections.connect(file, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF"):  # it is whole, or thrown away
        conn.execute(f"PRAGMA {pragma}")
    return conn


# Copying


def _copy(database: Any, conn: sqlite3.Connection, tables: Tables, codec: str, bar: Bar) -> None:
    database.set_local(**SETTINGS)
    asked = (_encoded(f"SELECT COUNT(*) FROM {quoted(table)}", codec) for table in tables)
    counts = [database.fetch_one(sql)[0] for sql in asked]
    conn.execute("BEGIN")
    with bar("rows from the server", sum(counts)) as advance:
        tick = ticker(advance)
        for table, named, columns in _in_order(tables):
            _copy_table(database, conn, Copying(table, named, columns, codec), tick)
    conn.execute("COMMIT")


def _in_order(tables: Tables) -> Iterator[tuple[str, str, list[Column]]]:
    """Return each table with its name and columns in the copy: of what has no place here its rows are counted only.

    To SQLite small letters and capitals are the same in a name, and some names are its own.
    """
    taken = set[str]()
    for table in sorted(tables, key=lambda table: table not in vantage6.READ):
        named = _printable(table)
        while named.lower() in taken or named.lower().startswith("sqlite_"):
            named = f"_{named}"
        taken.add(named.lower())
        yield table, named, tables[table] if table in vantage6.READ else []


class Copying(NamedTuple):
    """A table that is copied: its name there and here, its columns, and the codec of its names there."""

    table: str
    named: str
    columns: list[Column]
    codec: str


def _copy_table(database: Any, conn: sqlite3.Connection, what: Copying, tick: Callable[[Any], Any]) -> None:
    names = [quoted(name) for name, _ in what.columns]
    order = " ORDER BY id" if '"id"' in names else ""
    query = _encoded(f"SELECT {', '.join(names) or '1'} FROM {quoted(what.table)}{order}", what.codec)
    conn.execute(f"CREATE TABLE {quoted(what.named)} ({', '.join(map(_printable, names)) or 'counted'})")
    marks = ", ".join("?" for _ in names) or "?"
    rows = database.copied_out(query, [kind for _, kind in what.columns] or [COUNTED])
    conn.executemany(f"INSERT INTO {quoted(what.named)} VALUES ({marks})", map(tick, rows))
    if order:
        conn.execute(f"CREATE INDEX {quoted(f'{what.named}_id')} ON {quoted(what.named)} (id)")


def _encoded(sql: str, codec: str) -> bytes:
    """Return SQL as the server takes it, with names as it gave them, whatever is in them."""
    return sql.encode(codec, "surrogateescape")


def _printable(name: str) -> str:
    """Return a name as a text: with replacement characters where it is none."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
