"""The PostgreSQL database of a vantage6 server as a source: copied into a private SQLite file, as it is at one moment.

The copy has the tables, columns and values of the database. vantage6.py reads it as it reads the files of servers, so
the same row has the same result. The copy is removed with the source.

It owns the copying. The tables of a server are vantage6.py's, connecting is servers.py's.
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
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown
from vserverlib.progress_callback import ticker
from vserverlib.transfer import vantage6
from vserverlib.transfer.sources import ProgressBar

COUNTED = 23  # the type of a row that is only counted (int4)
TABLES = f"""
SELECT c.relname, a.attname, a.atttypid FROM {servers.TABLES_AND_COLUMNS}
WHERE c.relkind IN ('r', 'p') AND {servers.VISIBLE}
ORDER BY c.relname, a.attnum
"""
OTHERS = f"SELECT relname FROM pg_class c WHERE relkind IN ('v', 'm', 'f') AND {servers.VISIBLE}"
# No time limit; and rows that this role may not see are an error, so that none is left out silently.
SETTINGS = {"statement_timeout": 0, "idle_in_transaction_session_timeout": 0, "row_security": "off"}
# The content changes with each transaction that ends, and a snapshot lists the ended ones.
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
def opened(database: Any, bar: ProgressBar) -> Iterator[vantage6.Vantage6Source]:
    """Copy the database of a server, and open the copy as a source. It is one moment: see servers.open_snapshot().

    Raises an Error if the database is not a server's, or there is no room for the copy.
    """
    codec = database.read_as_stored()
    tables, title = _tables(database), database.title
    recognition.release_of(title, {table: frozenset(name for name, _ in columns) for table, columns in tables.items()})
    vantage6.refuse_views(title, {name for (name,) in database.execute_sql(OTHERS)})
    with files.temporary_folder() as folder, contextlib.closing(_new(files.make_private(folder / "source"))) as conn:
        with files.as_error(f"{title} cannot be copied to {shown(folder)}"):
            _copy(database, conn, tables, codec, bar)
        yield vantage6.source_of(conn, title, database.place)


def state(database: Any) -> str:
    """Return a text that differs after any change of a database."""
    return " ".join(map(str, (*database.execute_sql(STATE).fetchone(), database.asked_encoding)))


def _tables(database: Any) -> Tables:
    """Return the tables that a query finds without naming a schema, with their columns."""
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


def _copy(database: Any, conn: sqlite3.Connection, tables: Tables, codec: str, bar: ProgressBar) -> None:
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
    """Return each table with its name and columns in the copy; of a table that is only counted, no columns.

    SQLite ignores the case of a name, and reserves some names.
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
    """Return SQL in the server's encoding, with names as it gave them."""
    return sql.encode(codec, "surrogateescape")


def _printable(name: str) -> str:
    """Return a name as text, with replacement characters for bytes that are not text."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
