"""The SQLite file of a vantage6 server, opened for writing while the server runs.

The server holds no lock between two requests, and waits five seconds for one. So this module reads in many short
statements, and keeps its transaction short. Foreign keys stay off, as on the server.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vserverlib import Error, files, signals
from vserverlib.databases import sqlite_connections
from vserverlib.databases.connection import quoted
from vserverlib.databases.recognition import columns_of
from vserverlib.files import shown
from vserverlib.plans.references import Link
from vserverlib.plans.server import LOCK_WAIT, Schema, Server

LOCK_STEP = 0.05  # seconds that SQLite waits for a lock at a time; signals are handled in between
ANY_WRITE = 0o222  # permission to write, of anybody
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
Result = TypeVar("Result")


class SqliteServer(Server):
    """A server's SQLite file, open. Raises Error if this process may not write to it."""

    is_sqlite = keeps_temp_tables = True
    row_locator, null_safe_equals = "rowid", "IS"

    def __init__(self, path: Path, release: int) -> None:
        self.path, self.file, self.release = path, files.real(path), release
        self.title, self.identity = shown(path), f"file:{self.file}"
        refuse_unwritable(path, self.file)
        uri = f"{self.file.absolute().as_uri()}?mode=rw"
        with files.as_error(f"{self.title} cannot be opened"), contextlib.ExitStack() as on_error:
            self.conn = sqlite_connections.connect(uri, uri=True, isolation_level=None, timeout=LOCK_STEP)
            on_error.callback(self.conn.close)
            self.conn.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            self.conn.create_function("vserver_hash", -1, _hash)
            self.schema = self._with_retries(lambda: _read_schema(self.conn))
            on_error.pop_all()

    def run(self, sql: str, params: Sequence[Any] = ()) -> Any:
        return self._with_retries(lambda: self.conn.execute(sql, tuple(params)))

    def run_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self.conn.executemany(sql, rows)

    def as_read(self, table: str, alias: str) -> list[str]:
        return [f"{alias}.{quoted(name)}" for name in self.schema.columns[table]]

    as_stored = as_read

    def param(self, value: Any) -> Any:
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, str) and not value.isascii():
            with contextlib.suppress(UnicodeEncodeError):
                value.encode()
                return value
            return StoredText(value)
        return value

    def placeholder(self, value: Any) -> str:
        return "CAST(? AS TEXT)" if isinstance(value, StoredText) else "?"

    def fingerprint(self, table: str, temp: str) -> Any:
        """Return the count of the rows, and a sum of hashes of their values: SQLite has no row versions."""
        columns = ", ".join(self.as_read(table, "t"))
        found = f"FROM {quoted(table)} AS t JOIN {temp} AS g ON g.key = t.id"
        return self.one(f"SELECT COUNT(*), SUM(vserver_hash({columns})) {found}")

    def analyze(self, name: str) -> None:
        """Do nothing: SQLite looks up keys without statistics."""

    def next_ids(self, table: str, count: int) -> list[int]:
        (last,) = self.one(f"SELECT COALESCE(MAX(id), 0) FROM {quoted(table)}")
        return list(range(last + 1, last + 1 + count))

    def version(self) -> int:
        return int(self.one("PRAGMA data_version")[0])

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Do nothing: each statement reads for itself, because a transaction would block a server that writes."""
        yield

    @contextlib.contextmanager
    def writing(self, tables: Iterable[str], prepare: Callable[[], None] = lambda: None) -> Iterator[None]:
        prepare()
        try:
            self.run("BEGIN IMMEDIATE")
            self.is_writing = True
            try:
                yield
                with signals.held():
                    self.run("COMMIT")
            except BaseException:
                with signals.held():
                    if self.conn.in_transaction:
                        self.conn.execute("ROLLBACK")
                raise
            finally:
                self.is_writing = False
        except sqlite3.Error as error:
            message = f"{self.title} could not be written ({files.reason(error)}): nothing was changed"
            raise Error(message) from error

    def close(self) -> None:
        self.conn.close()

    def temp(self, name: str) -> str:
        return f"temp.{quoted(name)}"

    def _with_retries(self, call: Callable[[], Result]) -> Result:
        """Call, and retry while another program holds the lock. Signals are handled in between."""
        since = time.monotonic()
        while True:
            try:
                return call()
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in BUSY:
                    raise
                if time.monotonic() - since > LOCK_WAIT:
                    message = f"{self.title} is locked by another program for over {LOCK_WAIT:.0f} s"
                    raise Error(f"{message}: nothing was changed; try again later") from error


class StoredText(bytes):
    """A stored text that is not UTF-8, written by another program."""

    def __new__(cls, text: str) -> StoredText:
        return super().__new__(cls, text.encode("utf-8", "surrogateescape"))


@signals.callback
def _hash(*values: Any) -> int:
    """Return a hash of the values of a row: 32 bits, so that a sum of many fits in an INTEGER."""
    return hash(values) & 0xFFFFFFFF


def refuse_unwritable(path: Path, file: Path) -> None:
    """Raise Error unless this process may write to a file and its folder as the file's owner."""
    with files.as_error(f"{shown(path)} cannot be opened"):
        owner = file.stat().st_uid
    if os.name == "posix" and os.geteuid() not in (0, owner):
        remedy = "run this as that user"
        raise Error(f"{shown(path)} belongs to another user, who could not open a journal created beside it: {remedy}")
    for needed in (file, file.parent):
        if not os.access(needed, os.W_OK) or not needed.stat().st_mode & ANY_WRITE:  # root may write to each file
            raise Error(f"{shown(needed)} is read-only: nothing was changed; make it writable")


def _read_schema(conn: sqlite3.Connection) -> Schema:
    found = Schema({}, {}, {}, set())
    for table in columns_of(conn):
        infos = conn.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
        found.columns[table] = {name: kind for _, name, kind, *_ in infos}
        found.required[table] = {name for _, name, _, required, *_ in infos if required and name != "id"}
        found.unique[table] = set(_unique(conn, table))
        found.links.update(_links(conn, table))
    return found


def _unique(conn: sqlite3.Connection, table: str) -> Iterator[str]:
    for _, index, is_unique, *_ in conn.execute(f"PRAGMA index_list({quoted(table)})").fetchall():
        names = [name for _, _, name in conn.execute(f"PRAGMA index_info({quoted(index)})").fetchall()]
        if is_unique and len(names) == 1:
            yield names[0]


def _links(conn: sqlite3.Connection, table: str) -> Iterator[Link]:
    tables = {name.lower(): name for name in columns_of(conn)}
    for _, _, to, column, *_ in conn.execute(f"PRAGMA foreign_key_list({quoted(table)})").fetchall():
        yield Link(table, column, tables.get(to.lower(), to))
