"""PostgreSQL databases by URL: making the tables, whether they are ours, opening, and what a person is shown of a URL.

The URL goes to libpq as it is, so that services, PGPASSWORD, ~/.pgpass, sslmode and several hosts work as they do in
psql. A password in it is shown to nobody. What happens between a query and the server is postgres.py's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vserverlib import Error, hashing, inert, orm, schemas
from vserverlib.recording import Recorder

if TYPE_CHECKING:
    from vserverlib.postgres import Postgres

SCHEMES = ("postgresql://", "postgres://")
PASSWORD = re.compile(r"^(\w+://[^:/?#]*):.*@|(?<=[?&])(?:ssl)?password=[^&]*&?")
NO_DRIVER = "PostgreSQL needs psycopg, which is not installed: pip install 'vserver[postgres]'"
MOMENT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
VANTAGE6 = "authenticatable"  # a table that every vantage6 server has, and we do not
TABLES = (  # that a release has made, in an order in which their rows can be written: none is ever taken out
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
FUNCTIONS = ("has_text", "vserver_record")  # likewise
REMEDIES = (  # what libpq says, and what a person can do
    ("no password supplied", "give one by PGPASSWORD, ~/.pgpass or a service file"),
    ("password authentication failed", "check the user, and PGPASSWORD, ~/.pgpass or the service file"),
    ("authentication failed", "check the user, and how the server has it log in (pg_hba.conf)"),
    ("no pg_hba.conf entry", "have the server's pg_hba.conf let this user in from here"),
    ('database "', "make it with createdb, or check its name"),
    ('role "', "check the user's name"),
    ("Connection refused", "check host and port, and whether the server runs"),
    ("No such file or directory", "check host and port, and whether the server runs"),
    ("resolve host", "check the name of the host"),
    ("translate host", "check the name of the host"),
    ("timeout", "check host and port, and whether a firewall is between"),
    ("starting up", "try again in a moment"),
    ("too many", "end other connections, or try again later"),
)


class OfServer(Error):
    """The database is that of a vantage6 server, which can be looked at, and imported: see foreign.py."""


class NoTables(Error):
    """A database that can be reached, and has no tables of ours."""


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is the URL of a PostgreSQL database."""
    return os.fspath(name).startswith(SCHEMES)


def shown(url: str) -> str:
    """Return a URL as it may be shown and typed again: without a password."""
    return inert(plain(url), 200)


def line(name: str, *words: str) -> str:
    """Return what is typed to run a command on a database, by how it is shown."""
    return shlex.join(["vserver", "-d", name, *words])


def plain(url: str) -> str:
    """Return a URL without a password, for libpq."""
    return re.sub(r"[?&]$", "", PASSWORD.sub(lambda found: f"{found[1]}@" if found[1] else "", url))


def password_of(url: str) -> str | None:
    """Return the password that a URL holds; None where it has none, or cannot be read."""
    try:
        import psycopg
    except ImportError:
        return None
    try:
        found = psycopg.conninfo.conninfo_to_dict(url).get("password")
    except psycopg.Error:
        return None
    return None if found is None else str(found)


class Older(Error):
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
            raise of_server(database.title)
        if not is_ours(found):
            _refuse_namesakes(database, found)
            _refuse_encoding(database)
    except BaseException:
        database.close()
        raise
    return database


def has_tables(url: str) -> bool:
    """Whether a database has our tables; an Error where it cannot be reached, or is that of a vantage6 server."""
    try:
        opened(url, read_only=True).close()
    except NoTables:
        return False
    return True


@contextlib.contextmanager
def at_one_moment(url: str) -> Iterator[Postgres]:
    """Open any database on a server for reading, as it is at this moment, with the hashes of its secrets."""
    with contextlib.closing(_dialed(url, read_only=True)) as database, database.unhidden():
        database.connection().execute(MOMENT)
        yield database
        database.connection().execute("ROLLBACK")


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
    from vserverlib.drivers import peewee

    try:
        from vserverlib.postgres import Postgres
    except ImportError as error:
        raise Error(NO_DRIVER) from error
    name = _checked(url)
    options: dict[str, Any] = {"mode": "read-only", "hidden": orm.secret_columns()} if read_only else {}
    recorder = None if read_only else Recorder()
    database = Postgres(url, name, patience=patience, recorder=recorder, **options)
    try:
        database.connect()
    except peewee.DatabaseError as error:
        raise Error(_unreachable(name, str(error.__context__ or error))) from error
    return database


def _checked(url: str) -> str:
    """Return how a URL is shown; an Error where libpq cannot read it, in which nothing of it stands but its options."""
    import psycopg

    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        said = re.sub(r'"[^"]*"', "…", str(error)) if "invalid URI query" not in str(error) else str(error)
        raise Error(f"the URL {shown(url)} is none that PostgreSQL knows: {inert(said.strip(), 200)}") from None
    return shown(url)


def _unreachable(name: str, said: str) -> str:
    """Return why a database cannot be reached, and what can be done, in a line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = next((line for line in lines if any(words in line for words, _ in REMEDIES)), lines[0] if lines else "")
    remedy = next((remedy for words, remedy in REMEDIES if words in told), "check the URL")
    return f"{name} cannot be reached: {inert(told.rpartition('FATAL:  ')[2], 200)}: {remedy}"


def tables(database: Any) -> set[str]:
    """Return the names of the tables that a query finds without naming a schema."""
    query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
    return {name for (name,) in database.execute_sql(f"{query} AND relnamespace <> 'pg_catalog'::regnamespace")}


def is_ours(found: set[str]) -> bool:
    """Whether tables of these names are those of a database of ours."""
    return {"setting", "schema_migration"} <= found


def require_ours(database: Any, of_any_release: bool = False) -> None:
    """Raise an Error unless a database is ours, and of this release: an OfServer, a NoTables, an Older, or another."""
    found = tables(database)
    if not is_ours(found):
        raise of_server(database.title) if VANTAGE6 in found else _no_tables(database)
    _require_schema(database, of_any_release)


def is_of_server(database: Any) -> bool:
    """Whether a database is that of a vantage6 server, as far as its tables tell."""
    found = tables(database)
    return VANTAGE6 in found and not is_ours(found)


def of_server(name: str) -> OfServer:
    """Return the error that a database, as it is shown, is that of a vantage6 server."""
    told = f"not of vserver (read it into a new one with: {import_line(name)}): nothing was changed"
    return OfServer(f"{name} is the database of a vantage6 server, {told}")


def _no_tables(database: Any) -> NoTables:
    return NoTables(f"{database.title} has no tables of vserver: make them with: {line(database.title, 'init')}")


def import_line(name: str) -> str:
    """Return what is typed to import a file, or the database of a URL."""
    return f"vserver -d NEW.db import {shlex.quote(name)}"


def _require_schema(database: Any, of_any_release: bool) -> None:
    schema = schemas.of(database)
    schemas.refuse_newer(database.title, schema)
    if schema < schemas.NEWEST and not of_any_release:
        known = f"(schema {schema}, this release needs {schemas.NEWEST})"
        raise Older(
            f"{database.title} is of an older release {known}: upgrade it with: {line(database.title, 'upgrade')}"
        )


def _refuse_namesakes(database: Any, found: set[str]) -> None:
    """Raise an Error where a table of another program would be taken for one of ours."""
    if taken := [table for table in TABLES if table in found]:
        told = f"has tables of another program that are called as ours are ({', '.join(taken)})"
        raise Error(f"{database.title} {told}: give vserver a database of its own (createdb)")


def _refuse_encoding(database: Any) -> None:
    (encoding,) = database.execute_sql("SHOW server_encoding").fetchone()
    if encoding != "UTF8":
        raise Error(f"{database.title} has the encoding {inert(encoding)}: make one with createdb --encoding UTF8")
