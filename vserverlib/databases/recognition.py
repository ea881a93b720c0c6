"""Recognizing the database of a vantage6 server, and its release, by its tables.

Reading such a database is transfer.vantage6's.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from vserverlib import NotADatabase, addresses
from vserverlib.files import shown

Columns = dict[str, frozenset[str]]  # the names of the columns of each table

CORE = {"organization", "collaboration", "authenticatable"}  # tables of every release
NEWEST = 5
KEYCLOAK_ID = "authenticatable.keycloak_id"
MARKS = (  # a table, or a column of one, that a release added; the first one present tells the newest release
    (5, KEYCLOAK_ID),
    (4, "run"),
    (4, "task.job_id"),
    (3, "algorithmport"),
    (3, "nodeconfig"),
    (3, "user.failed_login_attempts"),
    (2, "role"),
    (1, "user.roles"),
)
THERE = """
SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND sql NOT LIKE 'CREATE VIRTUAL %'
"""


class Vantage6Database(NotADatabase):
    """The database is that of a vantage6 server, which can be viewed and imported: see vantage6_snapshots.py."""


def import_line(name: str) -> str:
    """Return the command that imports a file, or the database of a URL."""
    return addresses.command("NEW.db", "import", name)


def of_server(name: str) -> Vantage6Database:
    """Return the error that a database, by the name shown, is that of a vantage6 server."""
    message = f"not of vserver (read it into a new one with: {import_line(name)}): nothing was changed"
    return Vantage6Database(f"{name} is the database of a vantage6 server, {message}")


def is_one(path: Path, conn: sqlite3.Connection) -> bool:
    """Whether an open file is the database of a server; an Error if it has a server's tables, of no known release."""
    columns = columns_of(conn)
    return columns.keys() >= CORE and bool(release_of(shown(path), columns))


def columns_of(conn: sqlite3.Connection) -> Columns:
    """Return the columns of each table of an open file, without views, virtual tables and what these store."""
    shadows = {name for _, name, kind, *_ in conn.execute("PRAGMA main.table_list") if kind == "shadow"}
    tables = [table for (table,) in conn.execute(THERE).fetchall() if table not in shadows]
    of = "SELECT name FROM pragma_table_info(?)"
    return {table: frozenset(name for (name,) in conn.execute(of, [table])) for table in tables}


def has(columns: Columns, mark: str) -> bool:
    """Whether a table, or a column of one (`task.run_id`), is there."""
    table, _, column = mark.partition(".")
    return table in columns and (not column or column in columns[table])


def release_of(title: str, columns: Columns, newest: int = NEWEST) -> int:
    """Return the release, up to the newest one, that tables and columns are of; an Error if they are not a server's."""
    release = next((release for release, mark in MARKS if release <= newest and has(columns, mark)), None)
    if not columns.keys() >= CORE or release is None:
        raise NotADatabase(f"{title} is a database of another program than a vantage6 server")
    return release


def is_only_opened(conn: sqlite3.Connection, columns: Columns) -> bool:
    """Whether a server of release 5 opened a database of an earlier one, and added its columns, but nobody uses them.

    Release 5 has no passwords, and gives each user that it creates a keycloak_id.
    """
    if not (has(columns, KEYCLOAK_ID) and has(columns, "user.password")):
        return False
    return conn.execute("SELECT 1 FROM authenticatable WHERE keycloak_id IS NOT NULL LIMIT 1").fetchone() is None
