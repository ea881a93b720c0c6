"""PostgreSQL databases by URL: creating the tables, recognizing ours, opening.

The URL goes to libpq as it was typed, so services, PGPASSWORD, ~/.pgpass, sslmode and several hosts work as in psql.
Its password is never shown: addresses.py owns the syntax and display of URLs. postgres.py owns what happens between a
query and the server.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vserverlib import Error, NotADatabase, OutdatedSchema, addresses, arguments, did_you_mean, hashing, printable
from vserverlib.databases import recognition, registry, schemas, server_columns
from vserverlib.databases.recording import Recorder

if TYPE_CHECKING:
    from vserverlib.databases.postgresql.postgres import Postgres

NO_DRIVER = "PostgreSQL needs psycopg, which is not installed: pip install 'psycopg[binary]'"
# All tables, in an order in which their rows can be inserted.
TABLES = (
    "schema_migration",
    "setting",
    "counter",
    *registry.TABLES,
    *server_columns.TABLES,
    "change",
    "record",
    "undoing",
)
FUNCTIONS = ("has_text", "vserver_record")  # all functions
# Parts of catalog queries: the tables, views, … that a query finds without naming a schema; the schema of our tables;
# and tables (c) with their columns (a).
VISIBLE = "pg_table_is_visible(c.oid) AND c.relnamespace <> 'pg_catalog'::regnamespace"
OUR_SCHEMA = "(SELECT relnamespace FROM pg_class WHERE oid = 'setting'::regclass)"
TABLES_AND_COLUMNS = """pg_class c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"""
NAMESAKES = """
SELECT relname FROM pg_class WHERE relname = ANY(%s) AND relnamespace = current_schema()::regnamespace
UNION ALL
SELECT proname || '()' FROM pg_proc WHERE proname = ANY(%s) AND pronamespace = current_schema()::regnamespace
ORDER BY 1
"""
VANTAGE6 = "authenticatable"  # a table of every vantage6 server, and not of ours


class NoTables(NotADatabase):
    """The database exists, but has no tables of vserver."""


def _whole(url: str) -> str:
    """Return a URL for libpq, with the password that it was typed with."""
    return addresses.for_libpq(arguments.with_password(url))


def password_of(url: str) -> str | None:
    """Return the password in a URL; None if it has none, or is not readable."""
    try:
        import psycopg
    except ImportError:
        return None
    try:
        found = psycopg.conninfo.conninfo_to_dict(_whole(url)).get("password")
    except psycopg.Error:
        return None
    return None if found is None else str(found)


def opened(
    url: str, *, read_only: bool = False, lock_timeout: float | None = None, of_any_release: bool = False
) -> Postgres:
    """Return a database of ours, connected; raise an Error if it cannot be reached, is not ours, or is newer.

    Raises OutdatedSchema if its schema is older, unless `of_any_release`.
    """
    database = _dialed(url, read_only=read_only, lock_timeout=lock_timeout)
    try:
        require_ours(database, of_any_release)
    except BaseException:
        database.close()
        raise
    return database


def reached(url: str) -> Postgres:
    """Return a database, connected, that is ours or can get our tables; raise an Error if it is another program's."""
    database = _dialed(url)
    try:
        found = tables(database)
        if VANTAGE6 in found:
            raise recognition.of_server(database.title)
        if not is_ours(found):
            _refuse_namesakes(database)
            _refuse_encoding(database)
    except BaseException:
        database.close()
        raise
    return database


def has_tables(url: str) -> bool:
    """Whether a database has our tables, of any release; raise an Error if it is unreachable or a server's."""
    try:
        opened(url, read_only=True, of_any_release=True).close()
    except NoTables:
        return False
    return True


@contextlib.contextmanager
def open_snapshot(url: str) -> Iterator[Postgres]:
    """Open any database on a server for reading a snapshot, including the hashes of secrets."""
    with contextlib.closing(_dialed(url, read_only=True)) as database, database.hashes_visible(), database.reading():
        yield database


def for_changes(url: str) -> Postgres:
    """Return the database of a vantage6 server, connected, to be changed as such; an Error if it is another's."""
    database = _dialed(url)
    try:
        if not is_of_server(database):
            raise Error(f"{database.title} is not the database of a vantage6 server")
    except BaseException:
        database.close()
        raise
    return database


def create(url: str, key_salt: str | None = None, fill: Callable[[Postgres], None] | None = None) -> str:
    """Create the tables in a database that has none of them, all or none, and return its name.

    fill: a function that writes the first rows, in the same transaction.
    """
    with contextlib.closing(reached(url)) as database, database.atomic():
        if is_ours(tables(database)):
            raise Error(f"{database.title} is a database of vserver already: nothing was changed")
        schemas.apply(database)
        salt = key_salt or hashing.new_salt()
        database.execute_sql("INSERT INTO setting (name, value) VALUES ('key_salt', %s)", [salt])
        if fill is not None:
            fill(database)
    return database.title


def _dialed(url: str, *, read_only: bool = False, lock_timeout: float | None = None) -> Postgres:
    try:
        from vserverlib.databases.postgresql.postgres import Postgres
    except ImportError as error:
        raise Error(NO_DRIVER) from error
    name = _checked(url)
    mode, recorder = ("read-only", None) if read_only else ("read-write", Recorder())
    database = Postgres(_whole(url), name, mode=mode, lock_timeout=lock_timeout, recorder=recorder)
    database.connect()
    return database


def _checked(url: str) -> str:
    """Return the shown form of a URL; raise an Error, which shows nothing else of it, if it is ambiguous."""
    import psycopg

    name, whole = addresses.shown(url), arguments.with_password(url)
    if (why := addresses.fault(whole)) is not None:
        raise Error(f"the URL {name} cannot be read: {why}")
    try:
        psycopg.conninfo.conninfo_to_dict(addresses.for_libpq(whole))
    except psycopg.Error as error:
        raise Error(f"the URL {name} is not a valid PostgreSQL URL: {_said_of_url(str(error))}") from None
    return name


def _said_of_url(said: str) -> str:
    """Return libpq's message on a URL without its quotes; a misspelled option gets a suggestion."""
    option = re.search(r'query parameter: "(\w*)"', said)
    meant = did_you_mean(option[1], addresses.OPTIONS) if option else ""
    quoted = f'"{option[1]}"{meant}' if option and meant else "…"
    remedy = f": {addresses.ENCODED}" if "percent-encoded" in said else ""
    return printable(re.sub(r'".*"', quoted, said.strip(), flags=re.DOTALL), 200) + remedy


def tables(database: Any) -> set[str]:
    """Return which of the tables known here a query finds without naming a schema."""
    sql = f"SELECT relname FROM pg_class c WHERE relkind IN ('r', 'p') AND relname = ANY(%s) AND {VISIBLE}"
    return {name for (name,) in database.execute_sql(sql, [[*TABLES, VANTAGE6]])}


def is_ours(found: set[str]) -> bool:
    """Whether tables of these names are those of a database of ours."""
    return {"setting", "schema_migration"} <= found


def require_ours(database: Any, of_any_release: bool = False) -> None:
    """Raise Vantage6Database, NoTables, OutdatedSchema or NewerSchema unless a database is ours and of this release."""
    found = tables(database)
    if not is_ours(found):
        raise recognition.of_server(database.title) if VANTAGE6 in found else _no_tables(database)
    _require_schema(database, of_any_release)


def is_of_server(database: Any) -> bool:
    """Whether a database is a vantage6 server's, judging by its tables."""
    found = tables(database)
    return VANTAGE6 in found and not is_ours(found)


def require_source(database: Any) -> None:
    """Raise an Error unless a source database is ours and of this release."""
    try:
        require_ours(database)
    except NoTables:
        message = "has neither tables of vserver nor of a vantage6 server"
        raise NotADatabase(
            f"{database.title} {message}: there is nothing to read; check the name of the database"
        ) from None


def _no_tables(database: Any) -> NoTables:
    line = addresses.command(database.title, "init")
    return NoTables(f"{database.title} has no tables of vserver: create them with: {line}")


def _require_schema(database: Any, of_any_release: bool) -> None:
    schema = schemas.version_of(database)
    schemas.refuse_newer(database.title, schema)
    if schema < schemas.NEWEST and not of_any_release:
        known = f"(schema {schema}, this release needs {schemas.NEWEST})"
        line = addresses.command(database.title, "upgrade")
        raise OutdatedSchema(f"{database.title} was created by an older release {known}: upgrade it with: {line}")


def _refuse_namesakes(database: Any) -> None:
    """Raise an Error if our tables have no schema, or it has other objects with their names."""
    (schema,) = database.execute_sql("SELECT current_schema()").fetchone()
    if schema is None:
        raise Error(f"{database.title} has none of the schemas in its search_path: create one with CREATE SCHEMA")
    found = [name for (name,) in database.execute_sql(NAMESAKES, [list(TABLES), list(FUNCTIONS)])]
    if found:
        message = f"has tables of another program with the names of ours ({printable(', '.join(found), 200)})"
        remedy = "give vserver a database of its own (createdb), or a schema (…?options=-csearch_path%3DNAME)"
        raise Error(f"{database.title} {message}: {remedy}")


def _refuse_encoding(database: Any) -> None:
    (encoding,) = database.execute_sql("SHOW server_encoding").fetchone()
    if encoding != "UTF8":
        remedy = "create one with createdb --encoding UTF8"
        raise Error(f"{database.title} has the encoding {printable(encoding)}: {remedy}")
