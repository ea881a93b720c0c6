"""Databases of vantage6 servers for tests that change them: SQLite files, and the same on PostgreSQL."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from helpers.vantage6_databases import DATA, fill
from vserverlib.plans import mapping, working_copy
from vserverlib.plans.working_copy import WorkingCopy
from vserverlib.transfer import detection, importer

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
THEIR_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
KINDS_OF_VALUES = {  # the types that a column of a server's file has, by its declaration
    "INTEGER": {"integer", "null"},
    "BOOLEAN": {"integer", "null"},
    "DATETIME": {"text", "null"},
    "BLOB": {"blob", "null"},
    "TEXT": {"text", "null"},
}
Tables = dict[str, list[tuple[Any, ...]]]


class Server:
    """A server's database: its target for `-d`, and access to it as another program."""

    def __init__(self, target: Path | str) -> None:
        self.target = target

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """A connection of another program, which commits at the end."""
        if isinstance(self.target, Path):
            with contextlib.closing(sqlite3.connect(self.target)) as conn, conn:
                yield conn
        else:
            with psycopg.connect(self.target) as conn:
                yield conn

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL as another program; return its rows."""
        with self.open() as conn:
            done = conn.execute(sql)
            return list(done.fetchall()) if done.description else []

    def value(self, sql: str) -> Any:
        """Return the one value of a query."""
        return self.run(sql)[0][0]

    def names(self) -> list[str]:
        """Return the names of its tables."""
        return [name for (name,) in self.run(TABLES if isinstance(self.target, Path) else THEIR_TABLES)]

    def tables(self) -> Tables:
        """Return all rows of all tables, sorted by their values."""
        return {name: sorted(self.run(f'SELECT * FROM "{name}"'), key=repr) for name in self.names()}

    def odd_values(self) -> list[str]:
        """Return the columns of a file with values in a form that a server does not write."""
        found = []
        with contextlib.closing(sqlite3.connect(self.target)) as conn:
            for table in self.names():
                for _, name, kind, *_ in conn.execute(f'PRAGMA table_info("{table}")').fetchall():
                    types = {each for (each,) in conn.execute(f'SELECT DISTINCT typeof("{name}") FROM "{table}"')}
                    if not types <= KINDS_OF_VALUES.get(kind, {"text", "null"}):
                        found.append(f"{table}.{name} {types}")
                    odd = f'SELECT 1 FROM "{table}" WHERE length("{name}") <> 26'
                    if kind == "DATETIME" and conn.execute(odd).fetchone():
                        found.append(f"{table}.{name} length")
        return found

    def dangling(self) -> int:
        """Return the number of orphan links of a file."""
        return len(self.run("PRAGMA foreign_key_check"))


def of_release(release: str, folder: Path) -> Server:
    """Return the file of a release, copied into a folder."""
    place = folder / f"server-{release}.sqlite"
    shutil.copy(DATA / f"v{release}.sqlite", place)
    place.chmod(0o600)
    return Server(place)


def opened(server: Server) -> WorkingCopy:
    """Open a working copy of a server's database."""
    return working_copy.opened(server.target)


# What a copy holds, and what the server does


def rows_here(copy: WorkingCopy) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a working copy with their ids on the server."""
    ids, found = copy.session.ids, {}
    for entity in mapping.ENTITIES:
        found[entity] = sorted((_mapped(entity, row, ids.theirs) for row in _rows(copy, entity)), key=repr)
    return found


def rows_there(server: Server, folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a server's database as a new import reads them."""
    place = folder / f"again-{random.getrandbits(32)}.db"
    with detection.opened(str(server.target)) as source:
        importer.run(source, place)
    with contextlib.closing(sqlite3.connect(place)) as conn:
        return {
            entity: sorted((_mapped(entity, row, lambda to, id: id) for row in _rows(conn, entity)), key=repr)
            for entity in mapping.ENTITIES
        }


LINKS = {
    "organization_id": "organization",
    "initiator_id": "organization",
    "collaboration_id": "collaboration",
    "task_id": "task",
    "parent_id": "task",
}


def _rows(conn: Any, entity: str) -> list[dict[str, Any]]:
    names = ("id", *mapping.columns(entity))
    sql = f'SELECT {", ".join(names)} FROM "{entity}"'
    run = conn.execute_sql if hasattr(conn, "execute_sql") else conn.execute
    return [dict(zip(names, row, strict=True)) for row in run(sql).fetchall()]


def _mapped(entity: str, row: dict[str, Any], theirs: Any) -> tuple[Any, ...]:
    found = []
    for name, value in row.items():
        if name == "id":
            found.append(None if entity == "member" else theirs(entity, value))
        elif name in LINKS and value is not None:
            found.append(theirs(LINKS[name], value))
        elif (entity, name) in mapping.NAME_LISTS:
            found.append(tuple(sorted(mapping.split_names(value))))
        elif entity == "node" and name == "status":
            found.append(value or "offline")
        else:
            found.append(value)
    return tuple(found)


# On PostgreSQL


def fill_with_keys(url: str, file: Path) -> None:
    """Create the tables of a file in an empty PostgreSQL database, with sequences, unique columns and foreign keys.

    As vantage6's models make them, but that rows which lead nowhere stay: NOT VALID.
    """
    fill(url, file)
    with contextlib.closing(sqlite3.connect(file)) as source, psycopg.connect(url) as target:
        tables = [table for (table,) in source.execute(TABLES)]
        for table in tables:
            _add_sequence(source, target, table)
            _add_unique(source, target, table)
        for table in tables:
            _add_links(source, target, table)


def _add_sequence(source: sqlite3.Connection, target: Any, table: str) -> None:
    columns = {name for _, name, *_ in source.execute(f'PRAGMA table_info("{table}")')}
    linked = {column for _, _, _, column, *_ in source.execute(f'PRAGMA foreign_key_list("{table}")')}
    if "id" in columns - linked:
        name = f"{table}_id_seq"
        target.execute(f'CREATE SEQUENCE "{name}" AS integer OWNED BY "{table}".id')
        target.execute(f'ALTER TABLE "{table}" ALTER COLUMN id SET DEFAULT nextval(\'"{name}"\')')
        target.execute(f'SELECT setval(\'"{name}"\', (SELECT COALESCE(MAX(id), 0) + 1 FROM "{table}"), false)')


def _add_unique(source: sqlite3.Connection, target: Any, table: str) -> None:
    for _, index, is_unique, origin, _ in source.execute(f'PRAGMA index_list("{table}")').fetchall():
        names = [name for _, _, name in source.execute(f'PRAGMA index_info("{index}")')]
        if is_unique and origin == "u":
            target.execute(f'ALTER TABLE "{table}" ADD UNIQUE ({", ".join(names)})')


def _add_links(source: sqlite3.Connection, target: Any, table: str) -> None:
    for _, _, to, column, *_ in source.execute(f'PRAGMA foreign_key_list("{table}")').fetchall():
        target.execute(f'ALTER TABLE "{table}" ADD FOREIGN KEY ("{column}") REFERENCES "{to}" (id) NOT VALID')


@contextlib.contextmanager
def on_postgres(server: Any, release: str) -> Iterator[Server]:
    """The database of a release on PostgreSQL: a copy of one that is created once per run."""
    template = f"v{release.replace('.', '_')}"
    if template not in server.templates:
        server.run(f"CREATE DATABASE {template} TEMPLATE template0")
        fill_with_keys(server.url_of(template), DATA / f"v{release}.sqlite")
        server.templates.add(template)
    name = f"server{len(server.templates)}_{random.getrandbits(32)}"
    server.run(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield Server(server.url_of(name))
    finally:
        server.run(f"DROP DATABASE {name} WITH (FORCE)")
