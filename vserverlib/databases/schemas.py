"""The tables, release by release: which migrations there are, applying them, and making all tables of a new database.

It owns the number of a schema, and the snapshot that new SQLite files are made from. Which databases there are, and
when one is brought to this release, is storage.py's, servers.py's and upgrades.py's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vserverlib import Error, NewerSchema, printable
from vserverlib.databases import recording
from vserverlib.databases.connection import DatabaseMixin
from vserverlib.databases.sqlite import Sqlite
from vserverlib.drivers import without_drivers

MIGRATIONS = Path(__file__).parents[1] / "migrations"
NEWEST = max(int(name[:4]) for name in os.listdir(MIGRATIONS) if name[:4].isdigit())  # in user_version
TRIGGERS = "-- The triggers of the journal, after the first rows of a new database.\n"
SNAPSHOT, SNAPSHOT_OF = "schema.sql", "-- Made by `make schema` from the migrations up to {}: change those."
OURS = "sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
Read = TypeVar("Read")


def due(schema: int) -> list[str]:
    """Return the names of the migrations that a database of a schema lacks, in their order."""
    names = sorted(file.stem for file in MIGRATIONS.glob("[0-9]*.py"))
    return [name for name in names if int(name.partition("_")[0]) > schema]


def refuse_newer(path: Path | str, schema: int) -> None:
    """Raise an Error where a schema is newer than that of this release."""
    if schema > NEWEST:
        known = f"(schema {schema}, this release knows {NEWEST})"
        raise NewerSchema(f"{printable(path, 200)} was made by a newer vserver {known}: upgrade vserver")


def of(database: DatabaseMixin) -> int:
    """Return the number of the newest migration that was applied to a database, also if only its log knows."""
    if not database.is_sqlite:
        (name,) = database.execute_sql("SELECT MAX(name) FROM schema_migration").fetchone()
        return int(str(name).partition("_")[0]) if name else 0
    (number,) = database.execute_sql("PRAGMA user_version").fetchone()
    return int(number)


def make_tables(database: Sqlite, fill: Callable[[], object] = bool) -> None:
    """Create in an empty database what all migrations would, in a quarter of the time: a test compares the two.

    fill: writes the first rows, of which the journal keeps nothing: its triggers are created after that.
    """
    tables, mark, triggers = (MIGRATIONS / SNAPSHOT).read_text().partition(TRIGGERS)
    if mark and tables.startswith(SNAPSHOT_OF.format(NEWEST)):
        database.connection().executescript(tables)
        fill()
        database.connection().executescript(triggers)
    else:  # a migration was added, and `make schema` has not run yet
        apply(database)
        with recording.not_row_by_row(database):
            fill()


def new(read: Callable[[Sqlite], Read]) -> Read:
    """Return what `read` gives of a new, empty database, which is in memory and made for this."""
    database = Sqlite(":memory:", path=Path(":memory:"))
    try:
        make_tables(database)
        return read(database)
    finally:
        database.close()


def snapshot() -> str:
    """Return the SQL of all that the migrations make: what `make schema` writes into the snapshot."""
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
    """Apply all migrations that are due, up to the one of this name, in the transaction that is open."""
    with without_drivers():
        from playhouse.migrations import Runner  # 5 ms that only an older database has to pay

    Runner(database, str(MIGRATIONS)).up(until)


def migrate(database: Sqlite) -> None:
    """Apply all migrations that are due, in one transaction, to a database that was opened by for_migration()."""
    broken = len(_broken_links(database))
    with database.atomic():
        apply(database)
        if len(_broken_links(database)) > broken:
            raise Error(f"{database.title} would have links that lead nowhere: this is a fault of vserver, report it")
        database.execute_sql(f"PRAGMA user_version = {NEWEST}")


def _broken_links(database: Sqlite) -> list[Any]:
    found: list[Any] = database.execute_sql("PRAGMA foreign_key_check").fetchall()
    return found


def for_migration(file: Path, path: Path) -> Sqlite:
    """Return a database, not open yet, whose tables can be rebuilt: links are not looked after meanwhile."""
    return Sqlite(str(file.absolute()), path=path, pragmas={"foreign_keys": 0})


def migrate_copy(file: Path, path: Path) -> bool:
    """Bring a private copy of the database at `path` to the schema of this release; return whether it was older."""
    with contextlib.closing(for_migration(file, path)) as database:
        is_older = of(database) < NEWEST
        if is_older:
            migrate(database)
    return is_older
