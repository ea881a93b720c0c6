"""A real PgBouncer in front of the tests' PostgreSQL server, and another client of its pool, which looks for traces."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from helpers.terminal import PATIENCE

# All clients of a database share one session, so each finds what another left behind.
CONFIGURED = """
[databases]
* = host={host} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 1
query_wait_timeout = 20
logfile = {folder}/log
pidfile = {folder}/pid
"""
# The state that the next user of a session inherits, without settings that PgBouncer keeps for each client.
TRACES = """
SELECT (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE source = 'session'
        AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')),
    current_setting('transaction_read_only'), NULLIF(current_setting('vserver.actor', true), ''),
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
"""


def program() -> str | None:
    """Return the path of PgBouncer; None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Pooler:
    """A running PgBouncer. It refuses root, so root runs it as the server's user."""

    def __init__(self, server_url: str, mode: str) -> None:
        self._host = server_url.partition("host=")[2]
        self._folder = Path(tempfile.mkdtemp(prefix="vserver-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        text = CONFIGURED.format(host=self._host, port=self._port, mode=mode, folder=self._folder)
        (self._folder / "pgbouncer.ini").write_text(text)
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()

    def _command(self) -> list[str]:
        command = [program() or "pgbouncer", str(self._folder / "pgbouncer.ini")]
        if os.geteuid() == 0:
            owner = pwd.getpwuid(os.stat(self._host).st_uid)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            command += ["-u", owner.pw_name]
        return command

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            time.sleep(0.01)
        raise AssertionError((self._folder / "log").read_text())

    def url(self, url: str) -> str:
        """Return the URL of a server's database through the pooler."""
        name = url.partition("?")[0].rpartition("/")[2]
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"

    def stop(self) -> None:
        """Stop it, and remove its files."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def running(server_url: str, mode: str = "transaction") -> Iterator[Pooler]:
    """Run a pooler in front of a server for a block."""
    started = Pooler(server_url, mode)
    try:
        yield started
    finally:
        started.stop()


class Witness:
    """Another client of the pool: it writes all the time, and notes the traces of others that it finds."""

    def __init__(self, url: str) -> None:
        self.found: list[str] = []
        self.written = 0
        self._conn = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self._conn.execute("CREATE SCHEMA others")
        self._conn.execute("CREATE TABLE others.notes AS SELECT 0 AS written")
        self._untouched = self._traces()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_on)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._conn.close()

    def _write_on(self) -> None:
        while not self._ended.wait(0.005):
            self.write()

    def write(self) -> None:
        """Write a row, and look for traces in its session."""
        try:
            self._conn.execute("UPDATE others.notes SET written = written + 1")
            self.written += 1
            if (traces := self._traces()) != self._untouched:
                self.found.append(f"{traces} in the place of {self._untouched}")
        except psycopg.Error as error:
            self.found.append(str(error))
            self._ended.set()

    def _traces(self) -> Any:
        return self._conn.execute(TRACES).fetchone()
