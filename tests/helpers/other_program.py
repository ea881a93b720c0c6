"""Another program, which writes to the database by SQL, and looks after nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import psycopg


def raw(database: Any, sql: str, *values: Any, checked: bool = False) -> None:
    """Write as another program would: by SQL with a ? for each value, with no foreign keys, nothing checked.

    checked: foreign keys hold, and what the journal has in PostgreSQL sees it.
    """
    if database.is_sqlite:
        with closing(sqlite3.connect(database.path)) as conn, conn:
            conn.execute(sql, values)
        return
    with psycopg.connect(database.title, autocommit=True) as conn:
        if not checked:
            conn.execute("SET session_replication_role = replica")
        conn.execute(sql.replace("?", "%s"), values or None)  # type: ignore[call-overload]  # texts of ours
