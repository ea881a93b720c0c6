"""An open SQLite file: waiting for a lock, Ctrl-C, and what SQLite itself refuses to a read-only session.

It owns what happens between a query and SQLite. Which file that is, and whether it is ours, is storage.py's.

Three things are added to Peewee's database:

* A lock is waited for in short steps, so that Ctrl-C ends the wait, and a person is told who holds it.
* A query that runs is ended by Ctrl-C, and other signals: see sqlite_connections.py.
* A file that is moved, removed or replaced while it is open is noticed: nothing more is saved to it.
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
from vserverlib.databases import read_only, snapshots, sqlite_connections
from vserverlib.databases.case_folding import has_text
from vserverlib.databases.connection import READS, DatabaseMixin
from vserverlib.databases.recording import Recorder
from vserverlib.databases.snapshots import Watch
from vserverlib.drivers import peewee
from vserverlib.messages import notify
from vserverlib.secret_columns import is_secret

LOCK_STEP = 0.1  # seconds that SQLite itself waits: no signal is seen in it
LAST_ID = 2**63 - 1  # that SQLite gives to a row
ENDS = ("COMMIT", "END", "END TR")
GONE, REPLACED, OVERWRITTEN = "was moved or removed", "was replaced by another file", "was overwritten"  # while open
_connected: weakref.WeakSet[Sqlite] = weakref.WeakSet()

TAKEN = re.compile("UNIQUE constraint failed: (.+)")

# Field types that peewee has no name for. An instant is text on SQLite; timestamptz on PostgreSQL.
SQLITE_TYPES = {"INSTANT": "TEXT"}


class Connection(sqlite_connections.Connection):
    """A connection that gives no hash past its authorizer: neither the bytes of a column, nor those of all tables."""

    hides: Callable[[], bool] = bool

    def _refuse(self, what: str) -> None:
        if self.hides():
            raise ReadOnly(f"{what} would give hashes of secrets, which a read-only session hides: use vserver backup")

    def blobopen(self, *place: Any, **options: Any) -> sqlite3.Blob:
        self._refuse("blobopen()")
        return super().blobopen(*place, **options)

    def serialize(self, **options: Any) -> bytes:
        self._refuse("serialize()")
        return super().serialize(**options)

    def backup(self, target: sqlite3.Connection, **options: Any) -> None:  # ours: raw.Connection.backup(this, target)
        self._refuse("backup()")
        super().backup(target, **options)


class Sqlite(DatabaseMixin, peewee.SqliteDatabase):
    """One SQLite file, open.

    path: the file that the user named (a sandbox and some read-only sessions work on a private copy of it; where
    they named a URL it is that copy, and title tells it).
    recorder: tells the journal who writes. The rest is said in DatabaseMixin.
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
        patience: float | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.open_as(title or path.name, mode, patience, path)
        self.recorder = recorder
        self.file: Path | None = None  # what is open: without links, None in memory
        self.identity: tuple[int, int] | None = None  # its device and inode
        self._is_writing, self._said, self._denied = False, "", ""
        self._watch: Watch | None = None  # of a file that is written to
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
            if before not in (None, self.identity):  # replaced just now
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
            self._prepare_anew()
            yield
        self._prepare_anew()

    def _prepare_anew(self) -> None:
        """Have SQLite prepare again what Python keeps prepared: it asks the authorizer only when it does so."""
        if self.read_only and not self.is_closed():
            self.connection().set_authorizer(self._authorize)

    @property
    def last_change(self) -> int | None:
        """Return what the journal calls the newest change that this session has committed; None before the first."""
        return self.recorder.last if self.recorder is not None else None

    def version(self) -> int:
        (number,) = self.connection().execute("PRAGMA data_version").fetchone()
        return int(number)

    # Queries

    def run(self, kind: str, sql: str, params: Any, **options: Any) -> Any:
        if not self.connection().in_transaction:
            self.refresh(kind)
        elif kind in ENDS and not self.read_only:  # by hand: commit() is not called
            self._refuse_moved()
            if self.recorder is not None:
                self.recorder.close(self.connection())
        return self._patiently(lambda: super(DatabaseMixin, self)._execute_cursor(sql, params, **options))

    def reading(self) -> Any:
        return self.atomic("DEFERRED")

    def highest_id(self, table: str) -> int:
        asked = "SELECT MAX(seq) FROM sqlite_sequence WHERE name = ? AND typeof(seq) = 'integer'"
        return int(self.execute_sql(asked, [table]).fetchone()[0] or 0)

    def use_ids_after(self, table: str, last: int) -> None:
        self.execute_sql("DELETE FROM sqlite_sequence WHERE name = ?", [table])
        self.execute_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])

    def taken(self, error: Exception) -> list[str]:
        found = TAKEN.search(str(error))
        return [name.strip().rpartition(".")[2] for name in found[1].split(",")] if found else []

    def needs_transaction(self, sql: str) -> bool:
        """Whether a write is to get a transaction of its own, as each change has for the journal.

        Not what returns rows: it has not ended when its cursor is given back. Not in Peewee's manual_commit().
        """
        is_outside = not self.transaction_depth() and not self.connection().in_transaction
        return self.recorder is not None and is_outside and "RETURNING" not in sql.upper()

    def can_retry(self, error: Exception) -> bool:
        """Whether reading again will do: from now on, bytes that are no UTF-8 are read as replacement characters.

        Only another program writes such a text. Not done from the start, because it costs a call for each text.
        """
        conn = self.connection()
        if "Could not decode" not in str(error) or conn.text_factory is _read_as_far_as_it_goes:
            return False
        conn.text_factory = _read_as_far_as_it_goes
        return True

    def begin(self, lock_type: str | None = None) -> None:
        # A read-only session has no write lock to ask for.
        kind = "DEFERRED" if self.read_only else lock_type
        self._is_writing = kind != "DEFERRED"
        self.refresh("INSERT" if self._is_writing else "SELECT")
        with self._ended_by_ctrl_c():
            self._patiently(lambda: super(Sqlite, self).begin(kind))
        if self.recorder is not None:
            self.recorder.begin()

    def commit(self) -> None:
        with self._ended_by_ctrl_c():
            signals.check()
            self._patiently(self._commit)

    def _commit(self) -> None:
        if self._is_writing:
            self._refuse_moved()
        with signals.held():  # it is committed, and all of us know it, or it is not
            if self.recorder is not None:
                self.recorder.close(self.connection())
            super().commit()
            if self.recorder is not None:
                self.recorder.end(committed=True)
            self.undo.clear()
        if self._is_writing:
            self._moved()  # looks at what this commit has written, so that what is written next is known from it

    # The file, while it is open

    def refresh(self, kind: str) -> None:
        """Between transactions, see whether the file is still there: one that is not is read, and not written to.

        kind: of the statement that comes, as in run().
        """
        if kind not in READS and not self.read_only:
            self._refuse_moved()
        elif moved := self._moved():
            self.tell_moved(moved)

    def _moved(self) -> str:
        """Return what became of the file since it was opened; "" if it is as it was."""
        if self.file is None:
            return ""
        try:
            found = os.stat(self.file)
        except OSError:
            return GONE
        if (found.st_dev, found.st_ino) != self.identity:
            return REPLACED
        if self._watch is not None and self._watch.look(found):
            return OVERWRITTEN
        return "" if found.st_nlink == 1 or self.read_only else f"got another name (it has {found.st_nlink} hard links)"

    def close(self) -> bool:
        """Close the file. A log that is not of what has the file's name now is put aside.

        The log of a file that was moved stays where it is, so that the file can be put back.
        """
        watch, moved = self._watch, "" if self.is_closed() else self._moved()
        if watch is not None and moved == OVERWRITTEN:
            snapshots.lock(watch.descriptor)  # now SQLite cannot have the file for itself, and leaves the log alone
        closed = super().close()
        if watch is not None and closed:
            self._watch = None
            if moved in (OVERWRITTEN, REPLACED) or (moved == GONE and watch.is_removed()):
                self._put_log_aside(watch)
            for descriptor in watch.descriptors():
                let_go(descriptor, self.identity)
        return closed

    def _put_log_aside(self, watch: Watch) -> None:
        is_open_here = is_open(os.fstat(watch.descriptor)) or is_open(watch.file)
        if not is_open_here and watch.owns_log() and (log := snapshots.put_log_aside(watch.file)):
            notify(f"the log of what {self.title} was before is kept in {printable(log, 200)}", "yellow")

    def _refuse_moved(self) -> None:
        if moved := self._moved():
            remedy = "remove the others" if "name" in moved else "put it back, or open what is there now"
            raise Error(f"{self.title} {moved} while it was open: nothing was saved; {remedy}")

    def tell_moved(self, moved: str) -> None:
        """Say, once, that what is read is no longer what is there."""
        if moved != self._said:
            self._said = moved
            notify(f"{self.title} {moved} while it was open: what it held is still shown; open it again", "yellow")

    @contextmanager
    def _ended_by_ctrl_c(self) -> Iterator[None]:
        """Roll back a transaction that Ctrl-C found between open and shut: Peewee does so for other exceptions."""
        try:
            yield
        except KeyboardInterrupt:
            if self.connection().in_transaction:
                self.rollback()
            raise

    def rollback(self) -> None:
        with signals.held():
            try:
                super().rollback()
            finally:
                if self.recorder is not None:
                    self.recorder.end(committed=False)

    def has_rolled_back(self, error: peewee.DatabaseError) -> bool:
        return "no such savepoint" in str(error) or "no transaction is active" in str(error)

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Call, and call again while another connection holds the lock; Ctrl-C ends a wait as well as a query."""
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
                if is_passing(_code(error)):  # for which SQLite does not wait
                    time.sleep(LOCK_STEP / 10)
            reported = self.wait_on(waited_since, reported)

    def explain(self, error: peewee.DatabaseError) -> None:
        """Raise what a person can act on in place of what SQLite says, where we know better."""
        self._refuse_damaged(error)
        text, code = str(error), _code(error) & 0xFF
        if self.read_only and (code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY) or "authorized" in text):
            if denied := self._denied:
                self._denied = ""
                message = f"{denied} is not available there: use a private copy, shell --sandbox"
                raise ReadOnly(f"{self.title} is open read-only, and {message}") from error
            raise ReadOnly(f"{self.title} is open read-only ({text}): {self.to_write} to change it") from error
        if code == sqlite3.SQLITE_FULL and (table := self._used_up()):
            message = f"no id is left for a new {table}, the highest that there can be ({LAST_ID}) was given"
            raise Error(f"{self.title} could not be written: {message}; import a source without it") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise Error(f"{self.title} could not be written ({text}): nothing was changed; make room") from error
        if _code(error) == sqlite3.SQLITE_BUSY_SNAPSHOT:
            reading = "read what iterator() gave to its end, or end the transaction that began with reading"
            raise Error(f"{self.title} was changed by others while this session was reading: {reading}") from error
        if code == sqlite3.SQLITE_READONLY:
            raise ReadOnly(
                f"{self.title} cannot be written: its file or folder is read-only; try --read-only"
            ) from error

    def _refuse_damaged(self, error: peewee.DatabaseError) -> None:
        if _code(error) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise Damaged(f"{self.title} is damaged ({error}): use a backup") from error

    def _used_up(self) -> str:
        """Return a table that has no id left, which SQLite calls a full disk; "" where there is none."""
        row = self.connection().execute(f"SELECT name FROM sqlite_sequence WHERE seq >= {LAST_ID}").fetchone()
        return str(row[0]) if row else ""

    def writer(self) -> str:
        """Return who holds the write lock, as far as the operating system tells (Linux does)."""
        pid = _lock_holder(self.file or self.path)
        return f"{_program(pid)} (process {pid})" if pid else "another program"


def is_open(file: Path | os.stat_result) -> bool:
    """Whether this process has a file open by SQLite, by whatever name: opening and closing it ends SQLite's locks."""
    return _is_open(_identity(file) if isinstance(file, Path) else (file.st_dev, file.st_ino))


def _is_open(identity: tuple[int, int] | None) -> bool:
    return any(known.identity == identity and not known.is_closed() for known in list(_connected)) and bool(identity)


def let_go(descriptor: int, identity: tuple[int, int] | None = None) -> None:
    """Close a descriptor, and with it its lock; not while SQLite has the file open here, whose locks would end too.

    identity: of the database, for the descriptor of a file beside it.
    """
    if not (_is_open(identity) if identity else is_open(os.fstat(descriptor))):
        os.close(descriptor)


def _watch(file: Path) -> Watch | None:
    """Return the watch of a file that SQLite does not have open in this process; None if it cannot be read."""
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
    """Return the file that SQLite opens by a name or URI, without links; None if it is in memory."""
    if name.startswith("file:"):
        name = urllib.parse.unquote(urllib.parse.urlsplit(name).path)
    return None if name in ("", ":memory:") else Path(os.path.realpath(name))


def busy() -> sqlite3.OperationalError:
    """Return what SQLite raises when it has waited for a lock in vain, after a wait as long as SQLite's."""
    time.sleep(LOCK_STEP)
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def _read_as_far_as_it_goes(data: bytes) -> str:
    return data.decode(errors="replace")


def _is_busy(error: BaseException) -> bool:
    """Whether another connection is in the way. BUSY_SNAPSHOT is not meant: no wait mends a snapshot grown old."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY) or is_passing(_code(error))


def is_passing(code: int) -> bool:
    """Whether somebody who may write has just opened a file, and SQLite cannot read along until they have begun."""
    return code in (
        sqlite3.SQLITE_READONLY_RECOVERY,
        sqlite3.SQLITE_READONLY_CANTLOCK,
        sqlite3.SQLITE_READONLY_CANTINIT,
    )


def _code(error: BaseException) -> int:
    """Return SQLite's extended result code (sqlite.org/rescode.html), 0 where there is none."""
    return getattr(error.__cause__ or error.__context__, "sqlite_errorcode", 0)


def _lock_holder(path: Path) -> int | None:
    """Return the process with the write lock, from /proc/locks: opening the file would end this process's own locks."""
    try:
        inodes = {os.stat(name).st_ino for name in (path, f"{path}-shm") if os.path.exists(name)}
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in locks:  # 1: POSIX  ADVISORY  WRITE 4711 fd:01:123456 120 120
        fields = line.split()
        if "->" not in fields and fields[3] == "WRITE" and int(fields[5].rpartition(":")[2]) in inodes:
            return int(fields[4])
    return None


def _program(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "another program"
    # What follows an option is left out: the code after -c may hold anything, secrets too.
    plain = itertools.takewhile(lambda word: word and not word.startswith("-"), words[:3])
    names = [os.path.basename(word) for word in plain]
    return printable(" ".join(name for name in names if not name.startswith("python")) or "python", 40)
