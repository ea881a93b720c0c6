"""Another program that writes to the database by SQL, without any checks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import psycopg


def raw(database: Any, sql: str, *values: Any, checked: bool = False) -> None:
    """Write as another program would: by SQL with a ? for each value, without foreign keys.

    checked: on PostgreSQL, foreign keys are enforced and the journal's triggers run.
    """
    if database.is_sqlite:
        with closing(sqlite3.connect(database.path)) as conn, conn:
            conn.execute(sql, values)
        return
    with psycopg.connect(database.title, autocommit=True) as conn:
        if not checked:
            conn.execute("SET session_replication_role = replica")
        conn.execute(sql.replace("?", "%s"), values or None)  # type: ignore[call-overload]  # texts of ours
