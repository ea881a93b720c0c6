"""The schema: its migrations, applying them, and creating all tables of a new database.

It owns the schema's number, and the snapshot from which new SQLite files are created. storage.py, servers.py and
upgrades.py decide when a database is upgraded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vserverlib import Error, NewerSchema
from vserverlib.databases import recording
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.sqlite import Sqlite
from vserverlib.drivers import without_drivers
from vserverlib.files import shown

MIGRATIONS = Path(__file__).parents[1] / "migrations"
NEWEST = max(
    int(name[:4]) for name in os.listdir(MIGRATIONS) if name[:4].isdigit()
)  # the schema of this release, in user_version
TRIGGERS = "-- The triggers of the journal, after the first rows of a new database.\n"
SNAPSHOT, SNAPSHOT_OF = "schema.sql", "-- Made by `make schema` from the migrations up to {}: change those."
OURS = "sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
Read = TypeVar("Read")


def due(schema: int) -> list[str]:
    """Return the names of the migrations that a database of a given schema lacks, in order."""
    names = sorted(file.stem for file in MIGRATIONS.glob("[0-9]*.py"))
    return [name for name in names if int(name.partition("_")[0]) > schema]


def refuse_newer(path: Path | str, schema: int) -> None:
    """Raise NewerSchema if a schema is newer than this release's."""
    if schema > NEWEST:
        known = f"(schema {schema}, this release knows {NEWEST})"
        raise NewerSchema(f"{shown(path)} was created by a newer vserver {known}: upgrade vserver")


def version_of(database: DatabaseMixin) -> int:
    """Return the number of the newest migration applied to a database, even if it is only in its log."""
    if not database.is_sqlite:
        (name,) = database.execute_sql("SELECT MAX(name) FROM schema_migration").fetchone()
        return int(str(name).partition("_")[0]) if name else 0
    (number,) = database.execute_sql("PRAGMA user_version").fetchone()
    return int(number)


def make_tables(database: Sqlite, fill: Callable[[], object] = bool) -> None:
    """Create the result of all migrations in an empty database, in a quarter of their time; a test compares the two.

    fill: writes the first rows, before the journal's triggers exist, so they are not recorded.
    """
    tables, mark, triggers = (MIGRATIONS / SNAPSHOT).read_text().partition(TRIGGERS)
    if mark and tables.startswith(SNAPSHOT_OF.format(NEWEST)):
        database.connection().executescript(tables)
        fill()
        database.connection().executescript(triggers)
    else:  # a new migration before `make schema`
        apply(database)
        with recording.unrecorded(database):
            fill()


def from_new_database(read: Callable[[Sqlite], Read]) -> Read:
    """Return the result of `read` for a new, empty database in memory."""
    database = Sqlite(":memory:", path=Path(":memory:"))
    try:
        make_tables(database)
        return read(database)
    finally:
        database.close()


def snapshot() -> str:
    """Return the SQL that all migrations together create: `make schema` writes it to the snapshot."""
    with contextlib.closing(Sqlite(":memory:", path=Path(":memory:"))) as database:
        apply(database)
        made = database.execute_sql(f"SELECT type, sql FROM sqlite_master WHERE {OURS}").fetchall()
        tables = "".join(f"{sql};\n" for kind, sql in made if kind != "trigger")
        triggers = "".join(f"{sql};\n" for kind, sql in made if kind == "trigger")
        applied = database.execute_sql("SELECT name FROM schema_migration ORDER BY id").fetchall()
        counters = database.execute_sql("SELECT name, value FROM counter").fetchall()
    rows = [f"INSERT INTO schema_migration (name, applied) VALUES ('{name}', {NOW});\n" for (name,) in applied]
    rows += [f"INSERT INTO counter (name, value) VALUES ('{name}', {value});\n" for name, value in counters]
    first = f"{SNAPSHOT_OF.format(NEWEST)}\nBEGIN;\n{tables}{''.join(rows)}COMMIT;\n"
    return f"{first}{TRIGGERS}BEGIN;\n{triggers}COMMIT;\n"


def apply(database: DatabaseMixin, until: str | None = None) -> None:
    """Apply all due migrations, up to `until`, in the open transaction."""
    with without_drivers():
        from playhouse.migrations import Runner  # 5 ms, for older databases only

    Runner(database, str(MIGRATIONS)).up(until)


def migrate(database: Sqlite) -> None:
    """Apply all due migrations in one transaction to a database from for_migration()."""
    broken = len(_broken_links(database))
    with database.atomic():
        apply(database)
        if len(_broken_links(database)) > broken:
            raise Error(f"{database.title} would have links to missing rows: this is a bug in vserver, report it")
        database.execute_sql(f"PRAGMA user_version = {NEWEST}")


def _broken_links(database: Sqlite) -> list[Any]:
    found: list[Any] = database.execute_sql("PRAGMA foreign_key_check").fetchall()
    return found


def for_migration(file: Path, path: Path) -> Sqlite:
    """Return a database, not opened yet, without foreign key checks, so that tables can be rebuilt."""
    return Sqlite(str(file.absolute()), path=path, pragmas={"foreign_keys": 0})


def migrate_copy(file: Path, path: Path) -> bool:
    """Upgrade a private copy of the database at `path`; return whether it was older."""
    with contextlib.closing(for_migration(file, path)) as database:
        is_older = version_of(database) < NEWEST
        if is_older:
            migrate(database)
    return is_older
