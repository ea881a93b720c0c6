"""The PostgreSQL database of a vantage6 server, opened for writing while the server runs.

The transaction locks the tables that it writes so that others can read but not write, like BEGIN IMMEDIATE on SQLite.
Values are sent as text, which PostgreSQL converts to the type of their column.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vserverlib import Error, printable
from vserverlib.databases.connection import quoted
from vserverlib.databases.postgresql import servers, value_decoding
from vserverlib.drivers import peewee
from vserverlib.plans.plan import Conflict
from vserverlib.plans.references import Link
from vserverlib.plans.server import LOCK_WAIT, Schema, Server

AT_ONE_MOMENT, UNLOCKED = "REPEATABLE READ", "READ COMMITTED"
SETTINGS: dict[str, str | int] = {  # of the transaction: no time limits, and an error if row security hides rows
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "lock_timeout": round(LOCK_WAIT * 1000),
    "row_security": "off",
    "bytea_output": "hex",
}
COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND c.relnamespace <> 'pg_catalog'::regnamespace
AND a.attgenerated = '' AND c.relpersistence <> 't' ORDER BY c.relname, a.attnum
"""
UNIQUE = """
SELECT c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE i.indisunique AND i.indnkeyatts = 1 AND pg_table_is_visible(c.oid)
"""
LINKS = """
SELECT c.relname, a.attname, t.relname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_class t ON t.oid = k.confrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
WHERE k.contype = 'f' AND cardinality(k.conkey) = 1 AND pg_table_is_visible(c.oid) AND pg_table_is_visible(t.oid)
"""
ZONE = "SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'"
OWNED = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = ?::regclass"
INDEXED = """
SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = ?::regclass AND a.attname = ? LIMIT 1
"""
SECONDS = 1e-7  # for each row that a deleted row is compared with, if a link has no index
SEQUENCE = "SELECT pg_get_serial_sequence(?, 'id')"
NO_ENCODING = "SQL_ASCII"
WHOLE = ("smallint", "integer", "bigint")


class PostgresServer(Server):
    """A server's PostgreSQL database, open. Raises Error if it has no encoding, or cannot be opened."""

    is_sqlite = keeps_temp_tables = False
    row_locator, null_safe_equals = "ctid", "IS NOT DISTINCT FROM"
    temp_table_suffix = " ON COMMIT DROP"  # a connection pooler may give the session to others

    def __init__(self, url: str, release: int) -> None:
        self.url, self.release = url, release
        self.database = servers.for_changes(url)
        self.title, self.identity = self.database.title, identity(self.database)
        try:
            (encoding,) = self.database.fetch_one("SHOW server_encoding")
            if encoding == NO_ENCODING:
                problem = f"has the encoding {NO_ENCODING}, so text cannot be written safely"
                raise Error(f"{self.title} {problem}: use the server's API")
            self.schema = self._read_schema()
        except BaseException:
            self.close()
            raise

    def _read_schema(self) -> Schema:
        found = Schema({}, {}, {}, set())
        for table, name, kind, is_required in self.all(COLUMNS):
            found.columns.setdefault(table, {})[name] = kind
            found.unique.setdefault(table, set())
            found.required.setdefault(table, set()).update({name} if is_required and name != "id" else ())
        for table, name in self.all(UNIQUE):
            found.unique.setdefault(table, set()).add(name)
        found.links.update(Link(*row) for row in self.all(LINKS))
        return found

    def run(self, sql: str, params: Sequence[Any] = ()) -> Any:
        return self.database.execute_sql(
            self.database.with_parameter_marks(sql) if params else sql, list(params) or None
        )

    def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self.database._errors_explained():
            self.database.cursor().executemany(self.database.with_parameter_marks(sql), rows)

    def bulk_insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with self.database.copying_in(table, columns) as copy:
            for row in rows:
                copy.write_row(row)

    def stream(self, sql: str, width: int) -> Iterator[Sequence[Any]]:
        yield from self.database.copied_out(sql.encode(), [value_decoding.TEXT] * width)

    def analyze(self, name: str) -> None:
        self.run(f"ANALYZE {name}")

    def fingerprint(self, table: str, temp: str) -> Any:
        """Return the count and a sum of hashes of ids and writing transactions (xmin), which each change alters."""
        version = "hashtextextended(t.id::text || ' ' || t.xmin::text, 0)"
        found = f"FROM {quoted(table)} AS t JOIN {temp} AS g ON g.key = t.id"
        return tuple(self.one(f"SELECT COUNT(*), COALESCE(SUM({version}), 0)::text {found}"))

    def as_read(self, table: str, alias: str) -> list[str]:
        return [_as_read(f"{alias}.{quoted(name)}", kind) for name, kind in self.schema.columns[table].items()]

    def as_stored(self, table: str, alias: str) -> list[str]:
        return [f"{alias}.{quoted(name)}::text" for name in self.schema.columns[table]]

    def param(self, value: Any) -> Any:
        if isinstance(value, bool):
            return str(value).lower()
        return f"\\x{value.hex()}" if isinstance(value, bytes) else value

    def next_ids(self, table: str, count: int) -> list[int]:
        """Return numbers of the table's sequence, so that the server does not assign them again."""
        (sequence,) = self.one(SEQUENCE, [quoted(table)])
        if sequence is None:
            raise Error(
                f"{self.title}: {table} has no sequence for its ids, so rows cannot be added: use the server's API"
            )
        return [int(self.one("SELECT nextval(?::regclass)", [sequence])[0]) for _ in range(count)]

    def version(self) -> str:
        return str(self.one("SELECT pg_current_snapshot()")[0])

    def time_zone(self) -> str:
        return str(self.one(ZONE)[0])

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self.database.atomic(AT_ONE_MOMENT):
            self.database.set_local(**SETTINGS)
            yield

    @contextlib.contextmanager
    def writing(self, tables: Iterable[str], prepare: Callable[[], None] = lambda: None) -> Iterator[None]:
        try:
            with self.database.atomic(UNLOCKED):  # of which each statement sees what others wrote before the lock
                self.database.set_local(**SETTINGS)
                prepare()
                locked = ", ".join(quoted(table) for table in sorted(tables) if self.has(table))
                self.run(f"LOCK TABLE {locked} IN SHARE ROW EXCLUSIVE MODE")
                self.is_writing = True
                yield
        except (peewee.IntegrityError, peewee.OperationalError) as error:
            said = printable(str(error), 200)
            raise Conflict([f"{self.title} rejected the changes ({said})"]) from error
        finally:
            self.is_writing = False

    @contextlib.contextmanager
    def with_indexes(self, links: Iterable[Link]) -> Iterator[None]:
        """Create the missing indexes on links, if the role owns their tables, until the end of the block."""
        lacking = [link for link in sorted(links) if self._lacks_index(link)]
        if not self._owns(lacking):
            yield
            return
        names = [quoted(f"vserver_{link.table}_{link.column}") for link in lacking]
        for name, link in zip(names, lacking, strict=True):
            self.run(f"CREATE INDEX {name} ON {quoted(link.table)} ({quoted(link.column)})")
        yield
        for name in names:
            self.run(f"DROP INDEX {name}")

    def unindexed_seconds(self, links: Mapping[Link, int]) -> float:
        lacking = {link: count for link, count in links.items() if self._lacks_index(link)}
        if self._owns(lacking):
            return 0.0
        rows = {link: self.one(f"SELECT COUNT(*) FROM {quoted(link.table)}")[0] for link in lacking}
        return float(sum(count * rows[link] * SECONDS for link, count in lacking.items()))

    def _lacks_index(self, link: Link) -> bool:
        return self.one(INDEXED, [quoted(link.table), link.column]) is None

    def _owns(self, links: Iterable[Link]) -> bool:
        """Whether the role owns the tables of links, so that it can create indexes."""
        return all(self.one(OWNED, [quoted(link.table)])[0] for link in links)

    def close(self) -> None:
        self.database.close()

    def temp(self, name: str) -> str:
        return f"pg_temp.{quoted(name)}"


def _as_read(place: str, kind: str) -> str:
    """Return the SQL of a column with the value that SQLite would store."""
    if kind == "boolean":
        return f"{place}::int"
    return place if kind == "bytea" or kind in WHOLE else f"{place}::text"


def identity(database: Any) -> str:
    """Return the identity of an open database: host, port and name, without password."""
    info = database.connection().info
    return f"postgresql://{info.host}:{info.port}/{info.dbname}"
