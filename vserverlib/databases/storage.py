"""Database files: which one is meant, whether it is ours, making one, and opening it in one of three modes.

* read-write: the file itself.
* read-only: SQLite is told so (mode=ro, an authorizer); hashes of secrets read as NULL.
* sandbox: a private copy, thrown away at the end; differences.py tells what would have changed.

It owns files. What happens between a query and SQLite is sqlite.py's; the models are bound through orm.database.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vserverlib import Error, addresses, files, inert, signals
from vserverlib.databases import headers, raw, schemas, servers, snapshots, sqlite
from vserverlib.databases.connection import Opened
from vserverlib.databases.readers import Reader, writable
from vserverlib.databases.sqlite import Sqlite
from vserverlib.entities import checks, hashing, orm
from vserverlib.entities.recording import Recorder
from vserverlib.files import shown
from vserverlib.messages import tell
from vserverlib.terminal import tracebacks

if TYPE_CHECKING:
    from vserverlib.transfer.foreign import Copy

DEFAULT = addresses.DEFAULT
APPLICATION_ID = 0x76736572  # "vser", at offset 68 of the file


# Making one


def create(
    path: str | os.PathLike[str],
    key_salt: str | None = None,
    fill: Callable[[Sqlite], None] | None = None,
) -> Path:
    """Make a new, empty database, readable by its owner alone, and return its path. Complete, or not there at all.

    key_salt: what API keys are hashed with, a new one unless it is given. fill: called in the end to write what is to
    be in it. Raises an Error where there is a file already, or its folder is missing or cannot be written.
    """
    target = Path(path)
    _refuse_server(target)
    files.refuse_taken(target)
    with files.told(f"{shown(target)} cannot be made"), files.unfinished(target) as draft:
        _fill(draft, key_salt, fill)
        files.put(draft, target)
    return target


def _fill(file: Path, key_salt: str | None, fill: Callable[[Sqlite], None] | None) -> None:
    database = Sqlite(str(file), path=file, pragmas={"synchronous": "OFF"})  # made whole or not at all: see create()
    try:
        schemas.make_tables(database)
        salt = key_salt or hashing.new_salt()
        database.execute_sql("INSERT INTO setting (name, value) VALUES ('key_salt', ?)", [salt])
        if fill is not None:
            fill(database)
        database.execute_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute_sql(f"PRAGMA user_version = {schemas.NEWEST}")
        database.execute_sql("PRAGMA journal_mode = WAL")
    finally:
        database.close()


def make(url: str | os.PathLike[str]) -> str:
    """Make a new, empty database: a file, or the tables in a PostgreSQL database; return what it is called."""
    return servers.create(os.fspath(url)) if addresses.is_url(url) else str(create(as_path(url)))


# Opening one


def connect(url: str | os.PathLike[str] = DEFAULT, *, read_only: bool = False, sandbox: bool = False) -> Opened:
    """Open a database, have the models use it, and return it. A database that was open before is closed.

    url: the path of a file, sqlite:///PATH, or postgresql://… (which has no sandbox). A file of an older schema is
    upgraded, after a backup; read-only and in a sandbox it is a private copy that is, and on a server it is refused.
    What opens of a vantage6 server's is a private copy: a servers.OfServer where it is to be written to. Raises an
    Error where there is none, it is not ours, is damaged, or is of a newer schema; such a file is not touched.
    """
    if addresses.is_url(url):
        return _on_server(os.fspath(url), read_only=read_only, sandbox=sandbox)
    path = as_path(url)
    try:
        is_older = check(path) < schemas.NEWEST
    except servers.OfServer:
        if not (read_only or sandbox):
            raise
        return _look(path, sandbox)
    if sandbox:
        return bind(_sandbox(path, path))
    if read_only:
        return bind(for_reading(path))
    writer = _read_write(path)
    if is_older:
        _upgrade(path)
    return bind(writer)


def _on_server(url: str, *, read_only: bool, sandbox: bool) -> Opened:
    is_reading = read_only or sandbox
    try:
        database = servers.opened(url, read_only=is_reading)
    except servers.OfServer:
        if not is_reading:
            raise
        return _look(url, sandbox)
    except servers.Older:
        if is_reading:
            raise
        _upgrade(url)
        database = servers.opened(url)
    if sandbox:
        database.close()
        told = "copy it to a file first, and open that: vserver copy"
        raise Error(f"a sandbox is a private copy, which is not made of a PostgreSQL database: {told}")
    return bind(database)


def for_reading(path: Path) -> Sqlite:
    """Return a database for reading, not open yet, of the schema of this release: of an older one an upgraded copy."""
    is_older = check(path) < schemas.NEWEST
    return _upgraded_copy(path) if is_older and _is_older(path) else reader(path)


def _upgrade(url: str | Path) -> None:
    from vserverlib.databases import upgrades  # few databases are older

    with signals.finishing():
        if done := upgrades.upgrade(url):
            tell(done.told(), "yellow")


def _is_older(path: Path) -> bool:
    """Whether a database whose header tells of an older schema is of one: an upgrade may still be in the log alone."""
    with contextlib.closing(reader(path)) as database:
        return schemas.of(database) < schemas.NEWEST


def glance(url: str | os.PathLike[str]) -> Opened:
    """Open a database for reading, have the models use it, and return it, if that can be done at once.

    No lock is waited for, nothing is copied, and nothing stays behind. Raises an Error as connect() does.
    """
    name = os.fspath(url) if addresses.is_url(url) else as_path(url)
    try:
        if isinstance(name, str):
            return bind(servers.opened(name, read_only=True, patience=0.0))
        check(name)
    except servers.OfServer:
        from vserverlib.transfer import foreign  # few databases are a server's

        return _opened_copy(name, foreign.glance(name))
    return bind(Reader(name, in_place_only=True, patience=0.0))


def as_path(url: str | os.PathLike[str]) -> Path:
    """Return the file that a URL or path names; an Error where it names no SQLite file."""
    text = os.fspath(url)
    if addresses.is_url(text):
        raise Error(f"{addresses.shown(text)} is no file: this works on the file of a SQLite database only")
    if (why := addresses.refusal(text)) is not None:
        raise Error(why)
    text = addresses.file_of(text)
    if not text:
        raise Error("the name of the database is empty: use the path of a file")
    if "\0" in text:
        raise Error(f"{inert(text)} is no path: it holds a NUL character")
    return Path(text)


def check(path: Path) -> int:
    """Return the schema that its header tells; an Error unless it is a database of ours that this release can open.

    Reads 100 bytes. A file that this process has open is known to be ours, and is not read: closing it would end
    SQLite's locks. One that others may read is told of.
    """
    _check_file(path)
    if is_open(path):
        return schemas.NEWEST
    header, size = check_ours(path)
    _check_header(path, header, size)
    snapshots.refuse_log_of_another(files.real(path))
    files.tell_of_others(path)
    return header.schema


def _refuse_server(path: Path) -> None:
    """Raise an Error where a file is the database of a server: whoever makes another one is not told to remove it."""
    try:
        if path.is_file() and not is_open(path):
            check_ours(path)
    except servers.OfServer:
        raise
    except Error:  # that it is there is told all the same
        pass


def is_open(path: Path) -> bool:
    """Whether this process has a database open."""
    return sqlite.is_open(path)


def check_ours(path: Path) -> tuple[headers.Header, int]:
    """Return the header of a database of ours, of whatever release, and the size of its file; else raise an Error."""
    _check_file(path)
    with files.told(f"{shown(path)} cannot be read"), open(path, "rb") as file:
        head, size = file.read(100), os.fstat(file.fileno()).st_size
    if not head:
        raise Error(f"{shown(path)} is empty: remove it, and make a database with: {_init_line(path)}")
    header = headers.read_header(head)
    headers.refuse_dump(path, head)
    headers.refuse_packed(path, head)
    if header is None:
        raise Error(f"{shown(path)} is no SQLite database (or an encrypted one): nothing was changed")
    if header.application_id != APPLICATION_ID:
        headers.refuse_cut_off(path, header, size)
        raise _foreign(path)
    return header, size


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise Error(f"there is no database {shown(path)}: make one with: {_init_line(path)}") from None
    except OSError as error:
        raise Error(f"{shown(path)} cannot be opened: {files.reason(error)}") from error
    if stat.S_ISDIR(mode):
        raise Error(f"{shown(path)} is a folder: name the file of a database, such as {shown(path / DEFAULT)}")
    if not stat.S_ISREG(mode):
        raise Error(f"{shown(path)} is no regular file: name the file of a database")


def _init_line(path: Path) -> str:
    return addresses.command(shown(path), "init")


def _check_header(path: Path, header: headers.Header, size: int) -> None:
    schemas.refuse_newer(path, header.schema)
    if header.schema < 1:
        raise Error(f"{shown(path)} has schema {header.schema}, which no release wrote: it is damaged, use a backup")
    headers.refuse_cut_off(path, header, size)


def _foreign(path: Path) -> Error:
    """Return what there is to say of a SQLite file that is not ours."""
    from vserverlib.transfer import vantage6  # few files are not ours

    with contextlib.closing(headers.immutable(path)) as conn:
        try:
            if vantage6.is_one(path, conn):
                return servers.of_server(shown(path))
        except sqlite3.Error as error:
            return Error(f"{shown(path)} cannot be read: {files.reason(error)}; use a backup if it is damaged")
    return Error(f"{shown(path)} is a SQLite database of another program: nothing was changed")


AnyDatabase = TypeVar("AnyDatabase", bound=Opened)


def bind(database: AnyDatabase) -> AnyDatabase:
    """Have the models use a database of ours, and return it. One that was open before is closed."""
    earlier = orm.database.obj
    if earlier is not None and earlier.in_transaction():
        raise Error(f"{earlier.title} has a transaction open: end it before another database is opened")
    try:
        database.connect(reuse_if_open=True)
        database.execute_sql("SELECT 1 FROM setting").fetchone()
        schemas.refuse_newer(database.path or database.title, schemas.of(database))  # the header need not know
    except Exception as error:
        database.close()
        if isinstance(error, Error):
            raise
        raise Error(f"{shown(database.path or database.title)} cannot be opened: {files.reason(error)}") from error
    if earlier is not None and not earlier.is_closed():
        earlier.close()
    orm.database.initialize(database)
    checks.install()
    tracebacks.install()
    return database


def _read_write(path: Path) -> Sqlite:
    file = refuse_other_names(path)
    for needed in (path, file.parent):
        if not writable(needed):
            raise Error(f"{shown(needed)} cannot be written: look at it with list, show, or shell --read-only")
    return Sqlite(str(file), path=path, recorder=Recorder())


def refuse_other_names(path: Path) -> Path:
    """Return where a database is that is to be written to, without links; an Error if it has several names there."""
    file = files.real(path)
    files.remove_draft_of(file)
    if not (names := files.other_names(file)):
        return file
    if "mounted" in names:
        remedy = "the log of what is saved would lie elsewhere for others; mount its folder"
    else:
        backup = addresses.command(shown(path), "backup", "NEW.db")
        remedy = f"each has its own log, and changes would be lost; remove the others, or go on in a copy: {backup}"
    raise Error(f"{shown(path)} {names}, and cannot be written: {remedy}")


# Read-only


def reader(path: Path) -> Sqlite:
    """Return a database for reading, not open yet: in place, or where that cannot be, as it is at one moment."""
    return Reader(path)


def _upgraded_copy(path: Path) -> Sqlite:
    """Return a private copy of an older database, upgraded: what is only read is left as it is."""
    return Reader(path, copied=lambda: _private_copy(path))


def _reader(uri: str, path: Path, **options: Any) -> Sqlite:
    return Sqlite(uri, path=path, mode="read-only", **options)


def _look(name: Path | str, sandbox: bool) -> Sqlite:
    """Open a copy of the database of a vantage6 server, by its file or URL, and say so."""
    from vserverlib.transfer import foreign

    copy = foreign.look(name)
    tell(foreign.told(shown(name) if isinstance(name, Path) else addresses.shown(name), copy, sandbox), "yellow")
    return _opened_copy(name, copy, sandbox)


def _opened_copy(name: Path | str, copy: Copy, sandbox: bool = False) -> Sqlite:
    path, title = (name, None) if isinstance(name, Path) else (copy.file, addresses.shown(name))
    if sandbox:
        database = _sandbox(copy.file, path, title)
    else:
        database = _reader(f"{copy.file.as_uri()}?immutable=1", path, title=title)
    database.to_write = f"import it ({servers.import_line(title or shown(path))})"
    if not copy.is_kept:
        _gone_at_close(database, copy.file.parent)
    return bind(database)


# Sandbox and demo


def _sandbox(file: Path, path: Path, title: str | None = None) -> Sqlite:
    """Open a private copy of a file, in place of what the user named.

    Its log is never written back, so the file itself stays as it was copied: see differences.report().
    """
    copy = _private_copy(file)
    with contextlib.closing(raw.connect(copy)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    return _throw_away(copy, path, "sandbox", title)


def _private_copy(path: Path) -> Path:
    """Make a copy of a database in a folder of its own, brought to the schema of this release, which is told."""
    with files.told(f"{shown(path)} cannot be copied"):
        copy = as_it_is(path)
        try:
            if schemas.migrate_copy(copy, path):
                told = "is of an older schema: this is an upgraded copy; vserver upgrade upgrades it"
                tell(f"{shown(path)} {told}", "yellow")
        except BaseException:
            files.remove_folder(copy.parent)
            raise
    return copy


def as_it_is(path: Path) -> Path:
    """Make a copy of a database in a private folder, which whoever asked for it removes."""
    copy = files.make_private(files.private_folder() / path.name)
    try:
        with contextlib.closing(reader(path)) as source, contextlib.closing(raw.connect(copy)) as target:
            source.connect()
            raw.Connection.backup(source.connection(), target)  # with the hashes, which a reader hides
    except BaseException:
        files.remove_folder(copy.parent)
        raise
    return copy


def _throw_away(copy: Path, path: Path, mode: str, title: str | None) -> Sqlite:
    pragmas = {"wal_autocheckpoint": 0, "synchronous": "OFF"}
    database = Sqlite(str(copy), path=path, mode=mode, title=title, pragmas=pragmas, recorder=Recorder())
    _gone_at_close(database, copy.parent)
    return database


def _gone_at_close(database: Sqlite, folder: Path) -> None:
    """Remove a private folder when its database is closed, or else when the process ends."""
    database.at_close.append(weakref.finalize(database, files.remove_folder, folder))


def demo(*, read_only: bool = False, sandbox: bool = False) -> Sqlite:
    """Open a private throw-away copy of the example data, and return it."""
    from vserverlib.examples import demo as example

    copy = files.private_folder() / "demo"
    example.create(copy)
    if read_only:
        database = _reader(f"{copy.as_uri()}?mode=ro", Path("demo"))
        _gone_at_close(database, copy.parent)
        return bind(database)
    return bind(_throw_away(copy, Path("demo"), "sandbox" if sandbox else "read-write", "demo"))
