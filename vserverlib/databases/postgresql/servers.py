"""PostgreSQL databases by URL: making the tables, whether they are ours, opening.

The URL goes to libpq as it was typed, so that services, PGPASSWORD, ~/.pgpass, sslmode and several hosts work as in
psql. A password in it is shown to nobody: how URLs are spelled and shown is addresses.py's. What happens between a
query and the server is postgres.py's.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vserverlib import Error, addresses, arguments, did_you_mean, hashing, printable
from vserverlib.databases import recognition, schemas
from vserverlib.databases.recording import Recorder

if TYPE_CHECKING:
    from vserverlib.databases.postgresql.postgres import Postgres

NO_DRIVER = "PostgreSQL needs psycopg, which is not installed: pip install 'psycopg[binary]'"
TABLES = (  # that the migrations make, in an order in which their rows can be written
    "schema_migration",
    "setting",
    "counter",
    "organization",
    "collaboration",
    "member",
    "user",
    "node",
    "task",
    "result",
    "change",
    "record",
    "undoing",
)
FUNCTIONS = ("has_text", "vserver_record")  # likewise; nobody else's may have these names
NAMESAKES = """
SELECT relname FROM pg_class WHERE relname = ANY(%s) AND relnamespace = current_schema()::regnamespace
UNION ALL
SELECT proname || '()' FROM pg_proc WHERE proname = ANY(%s) AND pronamespace = current_schema()::regnamespace
ORDER BY 1
"""
VANTAGE6 = "authenticatable"  # a table that every vantage6 server has, and we do not


class NoTables(Error):
    """A database that can be reached, and has no tables of ours."""


def _whole(url: str) -> str:
    """Return a URL as libpq is given it: with the password that it was typed with."""
    return addresses.for_libpq(arguments.whole(url))


def password_of(url: str) -> str | None:
    """Return the password that a URL holds; None where it has none, or cannot be read."""
    try:
        import psycopg
    except ImportError:
        return None
    try:
        found = psycopg.conninfo.conninfo_to_dict(_whole(url)).get("password")
    except psycopg.Error:
        return None
    return None if found is None else str(found)


class SchemaOutdated(Error):
    """A database of ours whose tables an earlier release has made: it has to be upgraded first."""


def opened(
    url: str, *, read_only: bool = False, patience: float | None = None, of_any_release: bool = False
) -> Postgres:
    """Return a database of ours, connected; an Error where it cannot be reached, is none of ours, or is newer.

    One of an older schema is an Older, unless it may be of any release.
    """
    database = _dialed(url, read_only=read_only, patience=patience)
    try:
        require_ours(database, of_any_release)
    except BaseException:
        database.close()
        raise
    return database


def reached(url: str) -> Postgres:
    """Return a database, connected, that is ours, or has room for our tables; an Error where it is another's."""
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
    """Whether a database has our tables, of whatever release; an Error where it is not to be had, or a server's."""
    try:
        opened(url, read_only=True, of_any_release=True).close()
    except NoTables:
        return False
    return True


@contextlib.contextmanager
def at_one_moment(url: str) -> Iterator[Postgres]:
    """Open any database on a server for reading, as it is at this moment, with the hashes of its secrets."""
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
    """Make the tables in a database that has none of them, and return its name. All of them, or none.

    fill: called in the end, in the same transaction, to write what is to be in it.
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


def _dialed(url: str, *, read_only: bool = False, patience: float | None = None) -> Postgres:
    try:
        from vserverlib.databases.postgresql.postgres import Postgres
    except ImportError as error:
        raise Error(NO_DRIVER) from error
    name = _checked(url)
    mode, recorder = ("read-only", None) if read_only else ("read-write", Recorder())
    database = Postgres(_whole(url), name, mode=mode, patience=patience, recorder=recorder)
    database.connect()
    return database


def _checked(url: str) -> str:
    """Return how a URL is shown; an Error where it cannot be read without doubt, in which nothing else of it stands."""
    import psycopg

    name, whole = addresses.shown(url), arguments.whole(url)
    if (why := addresses.fault(whole)) is not None:
        raise Error(f"the URL {name} cannot be read: {why}")
    try:
        psycopg.conninfo.conninfo_to_dict(addresses.for_libpq(whole))
    except psycopg.Error as error:
        raise Error(f"the URL {name} is none that PostgreSQL knows: {_said_of_url(str(error))}") from None
    return name


def _said_of_url(said: str) -> str:
    """Return what libpq says of a URL, without what it quotes of it; an option that is near a known one is named."""
    option = re.search(r'query parameter: "(\w*)"', said)
    meant = did_you_mean(option[1], addresses.OPTIONS) if option else ""
    quoted = f'"{option[1]}"{meant}' if option and meant else "…"
    remedy = f": {addresses.ENCODED}" if "percent-encoded" in said else ""
    return printable(re.sub(r'".*"', quoted, said.strip(), flags=re.DOTALL), 200) + remedy


def tables(database: Any) -> set[str]:
    """Return the names of the tables that a query finds without naming a schema: of those that are known here."""
    query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
    sql = f"{query} AND relnamespace <> 'pg_catalog'::regnamespace AND relname = ANY(%s)"
    return {name for (name,) in database.execute_sql(sql, [[*TABLES, VANTAGE6]])}


def is_ours(found: set[str]) -> bool:
    """Whether tables of these names are those of a database of ours."""
    return {"setting", "schema_migration"} <= found


def require_ours(database: Any, of_any_release: bool = False) -> None:
    """Raise an Error unless a database is ours, and of this release: an OfServer, a NoTables, an Older, or another."""
    found = tables(database)
    if not is_ours(found):
        raise recognition.of_server(database.title) if VANTAGE6 in found else _no_tables(database)
    _require_schema(database, of_any_release)


def is_of_server(database: Any) -> bool:
    """Whether a database is that of a vantage6 server, as far as its tables tell."""
    found = tables(database)
    return VANTAGE6 in found and not is_ours(found)


def require_source(database: Any) -> None:
    """Raise an Error unless a database that is to be read from is ours, and of this release."""
    try:
        require_ours(database)
    except NoTables:
        message = "has no tables of vserver, nor of a vantage6 server"
        raise Error(f"{database.title} {message}: there is nothing to read; check the name of the database") from None


def _no_tables(database: Any) -> NoTables:
    line = addresses.command(database.title, "init")
    return NoTables(f"{database.title} has no tables of vserver: make them with: {line}")


def _require_schema(database: Any, of_any_release: bool) -> None:
    schema = schemas.of(database)
    schemas.refuse_newer(database.title, schema)
    if schema < schemas.NEWEST and not of_any_release:
        known = f"(schema {schema}, this release needs {schemas.NEWEST})"
        line = addresses.command(database.title, "upgrade")
        raise SchemaOutdated(f"{database.title} is of an older release {known}: upgrade it with: {line}")


def _refuse_namesakes(database: Any) -> None:
    """Raise an Error where our tables have no schema, or another program has there what is called as ours are."""
    (schema,) = database.execute_sql("SELECT current_schema()").fetchone()
    if schema is None:
        raise Error(f"{database.title} has none of the schemas of its search_path: make one first, by CREATE SCHEMA")
    found = [name for (name,) in database.execute_sql(NAMESAKES, [list(TABLES), list(FUNCTIONS)])]
    if found:
        message = f"has what another program calls as we call our tables ({printable(', '.join(found), 200)})"
        remedy = "give vserver a database of its own (createdb), or a schema (…?options=-csearch_path%3DNAME)"
        raise Error(f"{database.title} {message}: {remedy}")


def _refuse_encoding(database: Any) -> None:
    (encoding,) = database.execute_sql("SHOW server_encoding").fetchone()
    if encoding != "UTF8":
        raise Error(f"{database.title} has the encoding {printable(encoding)}: make one with createdb --encoding UTF8")
