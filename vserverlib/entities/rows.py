"""What writes rows: the SQL of one that is saved, and an update that spares a whole table."""

from __future__ import annotations

from typing import Any

from vserverlib import Error
from vserverlib.databases.drivers import peewee


class Guarded(peewee.ModelUpdate):
    """An update that refuses to change a whole table by accident."""

    def _execute(self, database: Any) -> Any:
        if not isinstance(self._where, peewee.Node):
            name = self.model.__name__
            raise Error(f"this would change every {self.model.noun}: say which by .where(…), all by {name}.id > 0")
        return super()._execute(database)


def statement(database: Any, meta: Any, names: list[str], update: bool = False) -> str:
    """Return the SQL that writes these fields of one row, made once."""
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
