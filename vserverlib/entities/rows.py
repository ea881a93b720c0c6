"""The SQL with which save() writes one row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def insert(database: Any, meta: Any, names: list[str]) -> str:
    """Return the SQL that inserts a row with these fields. It is cached for the database."""
    return _cached(database, (meta.table_name, *names), lambda: _insert(database, meta, names))


def update(database: Any, meta: Any, names: list[str], compared: Iterable[str]) -> str:
    """Return the SQL that changes these fields of one row; its parameters are their values, the id, then `compared`.

    compared: the fields that must still have the values that were read, else no row is changed.
    """
    key = (meta.table_name, *names, "where", *compared)
    return _cached(database, key, lambda: _update(database, meta, names, compared))


def _cached(database: Any, key: tuple[str, ...], make: Callable[[], str]) -> str:
    cache: dict[tuple[str, ...], str] = database.cached.setdefault("statements", {})
    if key not in cache:
        cache[key] = make()
    return cache[key]


def _columns(meta: Any, names: Iterable[str]) -> list[str]:
    return [f'"{meta.fields[name].column_name}"' for name in names]


def _update(database: Any, meta: Any, names: list[str], compared: Iterable[str]) -> str:
    mark, equals = database.param, "IS" if database.is_sqlite else "IS NOT DISTINCT FROM"
    values = ", ".join(f"{column} = {mark}" for column in _columns(meta, names))
    unchanged = "".join(f" AND {column} {equals} {mark}" for column in _columns(meta, compared))
    return f'UPDATE "{meta.table_name}" SET {values} WHERE id = {mark}{unchanged}'


def _insert(database: Any, meta: Any, names: list[str]) -> str:
    columns, mark = _columns(meta, names), database.param
    values = f"({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))})" if columns else "DEFAULT VALUES"
    return f'INSERT INTO "{meta.table_name}" {values}' + ("" if database.is_sqlite else " RETURNING id")
