"""An open SQLite file: waiting for locks, Ctrl-C, and refusing writes in a read-only session.

It owns what happens between a query and SQLite; storage.py finds the file and recognizes it. It adds three things to
Peewee's database:

* It waits for a lock in short steps, so that Ctrl-C ends the wait, and reports who holds it.
* Ctrl-C and other signals end a running query: see sqlite_connections.py.
* It notices when the open file is moved, removed or replaced, and then saves nothing more to it.
"""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
import time
import urllib.parse
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from vserverlib import Damaged, Error, ReadOnly, printable, signals
from vserverlib.databases import connection, read_only, snapshots, sqlite_connections, texts
from vserverlib.databases.case_folding import has_text
from vserverlib.databases.connection import READS, DatabaseMixin
from vserverlib.databases.recording import Recorder
from vserverlib.databases.snapshots import Watch
from vserverlib.drivers import peewee
from vserverlib.messages import notify
from vserverlib.secret_columns import is_secret

LOCK_STEP = 0.1  # seconds that SQLite itself waits for a lock: it notices no signal meanwhile
# First bytes of the locks of who writes: in the file (PENDING_BYTE, RESERVED_BYTE of SQLite's os.h), and in its -shm
# (WAL_WRITE_LOCK, sqlite.org/walformat.html section 2.3). `vserver start` locks the whole file otherwise (flock).
RESERVED_BYTES, WAL_WRITE_BYTES = (0x40000000, 0x40000001), (120,)
RESET_IDS = "UPDATE sqlite_sequence SET seq = (SELECT MAX(id) FROM \"{table}\") WHERE name = '{table}'"
ENDS = ("COMMIT", "END", "END TR")
GONE, REPLACED, OVERWRITTEN = "was moved or removed", "was replaced by another file", "was overwritten"  # while open
_connected: weakref.WeakSet[Sqlite] = weakref.WeakSet()

TAKEN = re.compile("UNIQUE constraint failed: (.+)")

# Field types that Peewee does not have. Times are TEXT in SQLite, TIMESTAMPTZ in PostgreSQL.
SQLITE_TYPES = {"INSTANT": "TEXT"}


class Connection(sqlite_connections.Connection):
    """A connection that refuses functions that would bypass the authorizer and return hashes: raw bytes of tables."""

    hides: Callable[[], bool] = bool

    def _refuse(self, what: str) -> None:
        if self.hides():
            message = "would return hashes of secrets, which a read-only session hides: use vserver backup"
            raise ReadOnly(f"{what} {message}")

    def blobopen(self, *place: Any, **options: Any) -> sqlite3.Blob:
        self._refuse("blobopen()")
        return super().blobopen(*place, **options)

    def serialize(self, **options: Any) -> bytes:
        self._refuse("serialize()")
        return super().serialize(**options)

    def backup(self, target: sqlite3.Connection, **options: Any) -> None:  # our code calls the base class's
        self._refuse("backup()")
        super().backup(target, **options)


class Sqlite(DatabaseMixin, peewee.SqliteDatabase):
    """An open SQLite file.

    path: the file that the user named. A sandbox and some read-only sessions use a private copy of it; for a URL, path
    is that copy, and title the URL. recorder: tells the journal who writes. DatabaseMixin has the rest.
    """

    path: Path
    field_types: ClassVar = {**peewee.SqliteDatabase.field_types, **SQLITE_TYPES}
    is_sqlite = True

    def __init__(
        self,
        file: str,
        *,
        path: Path,
        mode: str = "read-write",
        title: str | None = None,
        pragmas: dict[str, Any] | None = None,
        lock_timeout: float | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.init_mixin(title or path.name, mode, lock_timeout, path)
        self.recorder = recorder
        self.file: Path | None = None  # the open file, without links; None in memory
        self.identity: tuple[int, int] | None = None  # its device and inode
        self._is_writing, self._warned, self._denied = False, "", ""
        self._watch: Watch | None = None  # only of a file that is written to
        self._modules: frozenset[str] = frozenset()
        settings = {"foreign_keys": 1, "recursive_triggers": 1, "synchronous": "FULL", **(pragmas or {})}
        options: dict[str, Any] = {"timeout": LOCK_STEP, "uri": True, "factory": Connection}
        super().__init__(file, pragmas=settings, lock_type="IMMEDIATE", **options)

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Open the file. If another program has locked it exclusively, wait as for any lock."""
        try:
            return bool(self._waiting(lambda: super(Sqlite, self).connect(reuse_if_open)))
        except peewee.DatabaseError as error:
            self._refuse_damaged(error)
            raise

    def _connect(self) -> sqlite3.Connection:
        self.file = _file_of(str(self.database))
        before = _identity(self.file)
        is_ours = self.file is not None and before is not None and not self.read_only and not is_open(self.file)
        watch = _watch(self.file) if is_ours and self.file is not None else None
        try:
            conn: sqlite3.Connection = super()._connect()
            self.identity = _identity(self.file)
            if before not in (None, self.identity):  # replaced meanwhile
                conn.close()
                raise busy()
        except BaseException:
            if watch is not None:
                os.close(watch.descriptor)
            raise
        self._watch = watch
        _connected.add(self)
        return conn

    def _add_conn_hooks(self, conn: Connection) -> None:
        super()._add_conn_hooks(conn)
        conn.create_function("has_text", 2, has_text, deterministic=True)
        if self.mode == "read-only":
            self._modules = frozenset(name.lower() for (name,) in conn.execute("PRAGMA module_list"))
            conn.set_authorizer(self._authorize)
            conn.hides = lambda: bool(self.hidden)
        if self.recorder is not None:
            self.recorder.introduce(conn)

    @signals.callback
    def _authorize(self, action: int, table: str | None, column: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and self.hidden and is_secret(table, column):
            return sqlite3.SQLITE_IGNORE
        if read_only.allows(action, table, column, self._modules):
            return sqlite3.SQLITE_OK
        self._denied = read_only.denied(action, table, column)
        return sqlite3.SQLITE_DENY

    @contextmanager
    def hashes_visible(self) -> Iterator[None]:
        with super().hashes_visible():
            self._clear_statements()
            yield
        self._clear_statements()

    def _clear_statements(self) -> None:
        """Discard Python's cache of prepared statements: SQLite asks the authorizer only when it prepares one."""
        if self.read_only and not self.is_closed():
            self.connection().set_authorizer(self._authorize)

    @property
    def last_change(self) -> int | None:
        """Return the journal's number of this session's newest committed change; None before the first."""
        return self.recorder.last if self.recorder is not None else None

    def version(self) -> int:
        (number,) = self.connection().execute("PRAGMA data_version").fetchone()
        return int(number)

    # Queries

    def run(self, kind: str, sql: str, params: Any, **options: Any) -> Any:
        if not self.connection().in_transaction:
            self.refresh(kind)
        elif kind in ENDS and not self.read_only:  # COMMIT as SQL: commit() is not called
            self._refuse_if_moved()
            if self.recorder is not None:
                self.recorder.close(self.connection())
        return self._retrying(lambda: super(DatabaseMixin, self)._execute_cursor(sql, params, **options))

    def reading(self) -> Any:
        return self.atomic("DEFERRED")

    def highest_id(self, table: str) -> int:
        asked = "SELECT MAX(seq) FROM sqlite_sequence WHERE name = ? AND typeof(seq) = 'integer'"
        return int(self.execute_sql(asked, [table]).fetchone()[0] or 0)

    def set_last_id(self, table: str, last: int) -> None:
        self.execute_sql("DELETE FROM sqlite_sequence WHERE name = ?", [table])
        self.execute_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])

    def conflicting_columns(self, error: Exception) -> list[str]:
        found = TAKEN.search(str(error))
        return [name.strip().rpartition(".")[2] for name in found[1].split(",")] if found else []

    def needs_transaction(self, sql: str) -> bool:
        """Whether a write needs a transaction of its own, as each change has one in the journal.

        Not with RETURNING, whose statement has not ended when its cursor is returned; nor in Peewee's manual_commit().
        """
        is_outside = not self.transaction_depth() and not self.connection().in_transaction
        return self.recorder is not None and is_outside and "RETURNING" not in sql.upper()

    def can_retry(self, error: Exception) -> bool:
        """Whether the read can be retried: from now on invalid UTF-8 is read as replacement characters.

        Only other programs write such texts. It is not the default, because it costs a call for each text.
        """
        conn = self.connection()
        if "Could not decode" not in str(error) or conn.text_factory is texts.with_replacements:
            return False
        conn.text_factory = texts.with_replacements
        return True

    def begin(self, lock_type: str | None = None) -> None:
        kind = "DEFERRED" if self.read_only else lock_type
        self._is_writing = kind != "DEFERRED"
        self.refresh("INSERT" if self._is_writing else "SELECT")
        with self.rolled_back_by_ctrl_c():
            self._retrying(lambda: super(Sqlite, self).begin(kind))
        if self.recorder is not None:
            self.recorder.begin()

    def commit(self) -> None:
        with self.rolled_back_by_ctrl_c():
            signals.check()
            self._retrying(self._commit)

    def _commit(self) -> None:
        if self._is_writing:
            self._refuse_if_moved()
        with signals.held():  # the commit and its bookkeeping happen together or not at all
            if self.recorder is not None:
                self.recorder.close(self.connection())
            super().commit()
            if self.recorder is not None:
                self.recorder.end(committed=True)
            self.rollback_actions.clear()
        if self._is_writing:
            self._moved()  # notes the state after this commit, to notice later writes by others

    # The file, while it is open

    def refresh(self, kind: str) -> None:
        """Check, between transactions, that the file is still in place: if not, allow reading, but not writing.

        kind: of the next statement, as in run().
        """
        if kind not in READS and not self.read_only:
            self._refuse_if_moved()
        elif moved := self._moved():
            self.warn_moved(moved)

    def _moved(self) -> str:
        """Return what happened to the file since it was opened; "" if it is unchanged."""
        if self.file is None:
            return ""
        try:
            found = os.stat(self.file)
        except OSError:
            return GONE
        if (found.st_dev, found.st_ino) != self.identity:
            return REPLACED
        if self._watch is not None and self._watch.look():
            return OVERWRITTEN
        return "" if found.st_nlink == 1 or self.read_only else f"got another name (it has {found.st_nlink} hard links)"

    def close(self) -> bool:
        """Close the file. If another file has taken its name, rename the log, which does not belong to that one.

        The log of a moved file stays, so that the file can be moved back.
        """
        watch, moved = self._watch, "" if self.is_closed() else self._moved()
        if watch is not None and moved == OVERWRITTEN:
            snapshots.lock(watch.descriptor)  # without an exclusive lock SQLite leaves the log alone
        closed = super().close()
        if watch is not None and closed:
            self._watch = None
            if moved in (OVERWRITTEN, REPLACED) or (moved == GONE and watch.is_removed()):
                self._put_log_aside(watch)
            for descriptor in watch.descriptors():
                close_unless_open(descriptor, self.identity)
        return closed

    def _put_log_aside(self, watch: Watch) -> None:
        is_open_here = is_open(os.fstat(watch.descriptor)) or is_open(watch.file)
        if not is_open_here and watch.owns_log() and (log := snapshots.put_log_aside(watch.file)):
            notify(f"the log of the previous {self.title} is kept in {printable(log, 200)}", "yellow")

    def is_in_place(self) -> bool:
        """Whether the file that is open is still the one under its name, unchanged by other programs than SQLite."""
        return not self._moved()

    def _refuse_if_moved(self) -> None:
        if moved := self._moved():
            remedy = "remove the other names" if "name" in moved else "move it back, or open the new file"
            raise Error(f"{self.title} {moved} while it was open: nothing was saved; {remedy}")

    def warn_moved(self, moved: str) -> None:
        """Print, once, that the data being read are no longer those of the file in place."""
        if moved != self._warned:
            self._warned = moved
            notify(f"{self.title} {moved} while it was open: the old data are shown; open it again", "yellow")

    def is_in_transaction(self) -> bool:
        return bool(self.connection().in_transaction)

    def rollback(self) -> None:
        with signals.held():
            try:
                super().rollback()
            finally:
                if self.recorder is not None:
                    self.recorder.end(committed=False)

    def has_rolled_back(self, error: peewee.DatabaseError) -> bool:
        return "no such savepoint" in str(error) or "no transaction is active" in str(error)

    def _retrying(self, call: Callable[[], Any]) -> Any:
        """Call, and call again while another connection holds the lock; Ctrl-C ends the wait."""
        try:
            return self._waiting(call)
        except peewee.DatabaseError as error:
            self.explain(error)
            raise

    def _waiting(self, call: Callable[[], Any]) -> Any:
        waited_since, reported = time.monotonic(), False
        while True:
            try:
                return call()
            except peewee.DatabaseError as error:
                if not _is_busy(error):
                    raise
                if is_temporary(_code(error)):  # SQLite does not wait for these
                    time.sleep(LOCK_STEP / 10)
            reported = self.check_lock_wait(waited_since, reported)

    def explain(self, error: peewee.DatabaseError) -> None:
        """Raise an Error with a remedy in place of SQLite's error, if one is known."""
        self._refuse_damaged(error)
        text, code = str(error), _code(error) & 0xFF
        if self.read_only and (code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY) or "authorized" in text):
            if denied := self._denied:
                self._denied = ""
                message = f"{denied} is not available there: use a private copy, shell --sandbox"
                raise ReadOnly(f"{self.title} is open read-only, and {message}") from error
            raise ReadOnly(f"{self.title} is open read-only ({text}): {self.write_remedy} to change it") from error
        if code == sqlite3.SQLITE_FULL and (table := self._table_without_ids()):
            raise connection.no_ids_left(self.title, table, RESET_IDS.format(table=table)) from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise Error(
                f"{self.title} could not be written ({text}): nothing was changed; free some disk space"
            ) from error
        if _code(error) == sqlite3.SQLITE_BUSY_SNAPSHOT:
            reading = "read iterator() to its end, or end the transaction that began with a read"
            raise Error(f"{self.title} was changed by others while this session was reading: {reading}") from error
        if code == sqlite3.SQLITE_READONLY:
            message = "its file or folder is read-only; try --read-only"
            raise ReadOnly(f"{self.title} cannot be written: {message}") from error

    def _refuse_damaged(self, error: peewee.DatabaseError) -> None:
        if _code(error) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise Damaged(f"{self.title} is damaged ({error}): use a backup") from error

    def _table_without_ids(self) -> str:
        """Return a table that has no ids left, which SQLite reports as a full disk; "" if all tables have some."""
        row = self.connection().execute(f"SELECT name FROM sqlite_sequence WHERE seq >= {connection.MAX_ID}").fetchone()
        return str(row[0]) if row else ""

    def lock_holder(self) -> str:
        """Return who holds the write lock, as far as the operating system knows (Linux does)."""
        pid = _lock_holder(self.file or self.path)
        return f"{_program(pid)} (process {pid})" if pid else "another program"


def is_open(file: Path | os.stat_result) -> bool:
    """Whether SQLite has a file open in this process: opening and closing it would release SQLite's locks."""
    return _is_open(_identity(file) if isinstance(file, Path) else (file.st_dev, file.st_ino))


def _is_open(identity: tuple[int, int] | None) -> bool:
    return any(known.identity == identity and not known.is_closed() for known in list(_connected)) and bool(identity)


def close_unless_open(descriptor: int, identity: tuple[int, int] | None = None) -> None:
    """Close a descriptor and release its lock, unless SQLite has the file open here and would lose its locks.

    identity: the database's, for the descriptor of a file beside it.
    """
    if not (_is_open(identity) if identity else is_open(os.fstat(descriptor))):
        os.close(descriptor)


def _watch(file: Path) -> Watch | None:
    """Return the Watch of a file that SQLite does not have open in this process; None if the file is unreadable."""
    try:
        return Watch(file)
    except OSError:
        return None


def _identity(file: Path | None) -> tuple[int, int] | None:
    try:
        found = os.stat(file) if file is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None


def _file_of(name: str) -> Path | None:
    """Return the file that SQLite opens for a name or URI, without links; None for a database in memory."""
    if name.startswith("file:"):
        name = urllib.parse.unquote(urllib.parse.urlsplit(name).path)
    return None if name in ("", ":memory:") else Path(os.path.realpath(name))


def busy() -> sqlite3.OperationalError:
    """Wait as long as SQLite does, and return the error that SQLite raises for a lock."""
    time.sleep(LOCK_STEP)
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def _is_busy(error: BaseException) -> bool:
    """Whether another connection holds the lock. Not BUSY_SNAPSHOT, because waiting does not renew an old snapshot."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY) or is_temporary(_code(error))


def is_temporary(code: int) -> bool:
    """Whether a writer has just opened the file, so that SQLite cannot read until the writer has begun."""
    return code in (
        sqlite3.SQLITE_READONLY_RECOVERY,
        sqlite3.SQLITE_READONLY_CANTLOCK,
        sqlite3.SQLITE_READONLY_CANTINIT,
    )


def _code(error: BaseException) -> int:
    """Return SQLite's extended result code (sqlite.org/rescode.html), or 0."""
    return getattr(error.__cause__ or error.__context__, "sqlite_errorcode", 0)


def _lock_holder(path: Path) -> int | None:
    """Return the process that holds the write lock, from /proc/locks: opening the file would release our own locks."""
    first_bytes = {path: RESERVED_BYTES, Path(f"{path}-shm"): WAL_WRITE_BYTES}
    try:
        inodes = {os.stat(file).st_ino: firsts for file, firsts in first_bytes.items() if file.exists()}
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in locks:  # 1: POSIX  ADVISORY  WRITE 4711 fd:01:123456 120 120
        fields = line.split()
        if "->" in fields or fields[1] != "POSIX" or fields[3] != "WRITE":
            continue
        if int(fields[6]) in inodes.get(int(fields[5].rpartition(":")[2]), ()):
            return int(fields[4])
    return None


def _program(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "another program"
    # Arguments after an option are left out: the code after -c may contain secrets.
    plain = itertools.takewhile(lambda word: word and not word.startswith("-"), words[:3])
    names = [os.path.basename(word) for word in plain]
    return printable(" ".join(name for name in names if not name.startswith("python")) or "python", 40)
