"""The checks of inspection.py for a PostgreSQL database, from the server's catalog: orphans, changed tables, sequences.

It does not look for damage, which the server's own tools find (amcheck, checksums). It writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from models import MODELS
from vserverlib import printable
from vserverlib.databases.postgresql import sequences, servers
from vserverlib.entities import fields, timestamps
from vserverlib.entities.checks import Fault, dangling

Schema = dict[tuple[str, str], Any]  # by kind and name; of a table its columns

TABLES = f"""
SELECT c.relname, array_remove(array_agg(a.attname::text), NULL) FROM {servers.TABLES_AND_COLUMNS}
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = {servers.OUR_SCHEMA} GROUP BY c.relname
"""
OTHERS = f"""
SELECT 'index', c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = {servers.OUR_SCHEMA} AND NOT i.indisprimary AND i.indisvalid
UNION ALL SELECT 'view', relname FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = {servers.OUR_SCHEMA}
UNION ALL SELECT 'trigger', t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = {servers.OUR_SCHEMA} AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
"""
ORPHANS = """
SELECT row.id, row."{column}" FROM "{table}" row
WHERE row."{column}" IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "{parent}" p WHERE p.id = row."{column}") ORDER BY row.id
"""
BEYOND = f"""
SELECT id, "{{column}}"::text FROM "{{table}}"
WHERE "{{column}}" NOT BETWEEN '{timestamps.EARLIEST}' AND '{timestamps.LATEST}' ORDER BY id
"""
EVENTS = ("_insert", "_update", "_delete")  # a trigger on SQLite is for one of these, on PostgreSQL for all three


def damage(database: Any) -> Iterator[tuple[int | None, str]]:
    """Find nothing: see above."""
    yield from ()


def misfits(database: Any) -> Iterator[tuple[int | None, str]]:
    """Find times outside the years 1 to 9999, also infinity. Other values always have the type of their column."""
    for model in MODELS.values():
        for field in model.stored_fields():
            if isinstance(field, fields.UTCDateTimeField):
                sql = BEYOND.format(column=field.column_name, table=model._meta.table_name)
                for id, value in database.execute_sql(sql).fetchall():
                    its = f'its {field.column_name} is "{printable(value)}"'
                    yield id, f"{model.noun} {id}: {its}, which is not {field.takes}"


def behind(database: Any) -> Iterator[tuple[int | None, str]]:
    """Find the sequences that are behind the highest id of their table."""
    for table, highest, sequence, _ in sequences.behind(database):
        yield None, f"{table} has a row with id {highest}, which its sequence {printable(sequence)} has not reached"


def orphans(database: Any) -> Iterator[Fault]:
    """Find links to missing rows. A server refuses them unless its constraints are off. One query for each link."""
    for model in MODELS.values():
        meta = model._meta
        for link in meta.refs:
            column, parent = link.column_name, link.rel_model._meta.table_name
            sql = ORPHANS.format(column=column, table=meta.table_name, parent=parent)
            yield from (dangling(link, id, to) for id, to in database.execute_sql(sql).fetchall())


def schema(database: Any) -> Schema:
    """Return the tables with their columns, and the indexes, views and enabled triggers by name. Two queries."""
    tables = database.execute_sql(TABLES).fetchall()
    found: Schema = {("table", name): (tuple(sorted(columns)), "") for name, columns in tables}
    return found | dict.fromkeys(map(tuple, database.execute_sql(OTHERS).fetchall()), ((), ""))


def expected(of_sqlite: Schema) -> Schema:
    """Return the schema of a new database here, derived from that of SQLite: the same migrations create both.

    Creating a database on the server, to compare with, would take a second.
    """
    return {
        (kind, _without_event(name) if kind == "trigger" else name): (columns if kind == "table" else (), "")
        for (kind, name), (columns, _) in of_sqlite.items()
    }


def _without_event(name: str) -> str:
    return next((name.removesuffix(event) for event in EVENTS if name.endswith(event)), name)


DATABASE_CHECKS: dict[str, Callable[[Any], Iterator[Any]]] = {
    "DBF001": damage,
    "DBF002": orphans,
    "DBF004": misfits,
    "DBF005": behind,
}
