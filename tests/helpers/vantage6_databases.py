"""Databases of vantage6 servers: files that the releases wrote, changed by SQL, and copies on PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

TYPES = {
    "INTEGER": "integer",
    "BOOLEAN": "boolean",
    "DATETIME": "timestamp",
    "BLOB": "bytea",
    "FLOAT": "double precision",
}


DATA = Path(__file__).parent.parent / "data"


def copied(release: str, file: Path, statements: Iterable[str] = ()) -> Path:
    """Copy the database of a release to a file, run statements on it, and return it."""
    shutil.copy(DATA / f"v{release}.sqlite", file)
    with closing(sqlite3.connect(file)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()
    return file


def open_by_release_5(file: Path) -> Path:
    """Change a release 4 server's file as 5.0.3 does at its first start, before it fails; return it.

    It adds 14 columns, 5 tables and its own rules, and gives nobody a keycloak_id.
    """
    with closing(sqlite3.connect(file)) as conn, conn:
        conn.execute("ATTACH ? AS new", [str(DATA / "v5.0.3.sqlite")])
        for table, sql in conn.execute("SELECT name, sql FROM new.sqlite_master WHERE type = 'table'").fetchall():
            known = {name for (name,) in conn.execute("SELECT name FROM pragma_table_info(?, 'main')", [table])}
            columns = conn.execute("SELECT name, type FROM pragma_table_info(?, 'new')", [table]).fetchall()
            if not known:
                conn.execute(sql)
            for name, kind in columns if known else ():
                if name not in known:
                    conn.execute(f'ALTER TABLE main."{table}" ADD COLUMN "{name}" {kind}')
        names = "name, operation, scope, description"
        conn.execute(f"INSERT INTO main.rule ({names}) SELECT {names} FROM new.rule")
    return file


def fill(url: str, file: Path) -> None:
    """Copy the tables of a file into an empty PostgreSQL database, with the types of vantage6's models."""
    with closing(sqlite3.connect(file)) as source, psycopg.connect(url) as target:
        tables = source.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (table,) in tables.fetchall():
            _copy(source, target, table)


def _copy(source: sqlite3.Connection, target: Any, table: str) -> None:
    columns = source.execute("SELECT name, type, pk FROM pragma_table_info(?)", [table]).fetchall()
    listed = ", ".join(f'"{name}" {_type(kind)}{" PRIMARY KEY" * (name == "id")}' for name, kind, _ in columns)
    target.execute(f'CREATE TABLE "{table}" ({listed})')
    casts = {
        "BOOLEAN": bool,
        "BLOB": lambda value: value.encode() if isinstance(value, str) else value,
    }
    marks = ", ".join("%s" for _ in columns)
    for row in source.execute(f'SELECT * FROM "{table}"'):
        values = [
            v if v is None else casts.get(c[1], lambda value: value)(v) for v, c in zip(row, columns, strict=True)
        ]
        target.execute(f'INSERT INTO "{table}" VALUES ({marks})', values)


def _type(kind: str) -> str:
    return TYPES.get(kind, "text")
