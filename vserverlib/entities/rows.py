"""The SQL with which save() writes one row."""

from __future__ import annotations

from typing import Any


def statement(database: Any, meta: Any, names: list[str], update: bool = False) -> str:
    """Return the SQL that writes these fields of one row. It is cached for the database."""
    cache = database.cached.setdefault("statements", {})
    key = (meta.table_name, update, tuple(names))
    if key not in cache:
        cache[key] = _statement(database, meta, names, update)
    sql: str = cache[key]
    return sql


def _statement(database: Any, meta: Any, names: list[str], update: bool) -> str:
    columns = [f'"{meta.fields[name].column_name}"' for name in names]
    mark = database.param
    if update:
        return f'UPDATE "{meta.table_name}" SET ' + ", ".join(f"{c} = {mark}" for c in columns) + f" WHERE id = {mark}"
    values = f"({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))})" if columns else "DEFAULT VALUES"
    return f'INSERT INTO "{meta.table_name}" {values}' + ("" if database.is_sqlite else " RETURNING id")
