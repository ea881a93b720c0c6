"""Database files: recognizing ours, creating one, and opening one in one of three modes.

* read-write: the file itself.
* read-only: with mode=ro and an authorizer; hashes of secrets read as NULL. See sqlite_readers.py.
* sandbox: a private copy, removed at the end; sandbox_diff.py reports what would have changed.

sqlite.py owns what happens between a query and SQLite; connecting.py upgrades files and binds the models.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vserverlib import Damaged, Error, NotADatabase, NotFound, ReadOnly, addresses, files, hashing, printable
from vserverlib.databases import recognition, schemas, snapshots, sqlite, sqlite_connections, sqlite_headers
from vserverlib.databases.recording import Recorder
from vserverlib.databases.sqlite import Sqlite
from vserverlib.databases.sqlite_readers import Reader, writable
from vserverlib.files import shown
from vserverlib.messages import notify

DEFAULT = addresses.DEFAULT
APPLICATION_ID = 0x76736572  # "vser", at offset 68 of the file


# Creating


def create(
    path: str | os.PathLike[str],
    key_salt: str | None = None,
    fill: Callable[[Sqlite], None] | None = None,
) -> Path:
    """Create a new, empty database for its owner only, and return its path. It is complete or does not exist.

    key_salt: the salt of API keys, by default a new one. fill: a function that writes the first rows. Raises an Error
    if the file exists, or its folder is missing or not writable.
    """
    target = Path(path)
    _refuse_server(target)
    files.refuse_taken(target)
    with files.as_error(f"{shown(target)} cannot be created"), files.draft_for(target) as draft:
        write_new(draft, key_salt, fill)
        files.move_into_place(draft, target)
    return target


def write_new(file: Path, key_salt: str | None, fill: Callable[[Sqlite], None] | None) -> None:
    """Write a new database into an empty file without syncing to disk: for a draft or a private copy."""
    database = Sqlite(str(file), path=file, pragmas={"synchronous": "OFF"})  # complete or nonexistent, see create()

    def first_rows() -> None:
        salt = key_salt or hashing.new_salt()
        database.execute_sql("INSERT INTO setting (name, value) VALUES ('key_salt', ?)", [salt])
        if fill is not None:
            fill(database)

    try:
        schemas.make_tables(database, first_rows)
        database.execute_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute_sql(f"PRAGMA user_version = {schemas.NEWEST}")
        database.execute_sql("PRAGMA journal_mode = WAL")
    finally:
        database.close()


# Opening


def as_path(url: str | os.PathLike[str]) -> Path:
    """Return the file that a URL or path names; raise an Error if it is not a SQLite file."""
    text = os.fspath(url)
    if addresses.is_url(text):
        raise Error(f"{addresses.shown(text)} is not a file: this works with SQLite files only")
    if (why := addresses.refusal(text)) is not None:
        raise Error(why)
    text = addresses.file_of(text)
    if not text:
        raise Error("the name of the database is empty: use the path of a file")
    if "\0" in text:
        raise Error(f"{printable(text)} is not a path: it contains a NUL character")
    return Path(text)


def check(path: Path) -> int:
    """Return the schema in the header of a database of ours; raise an Error if this release cannot open it.

    Reads 100 bytes. A file that this process has open is known to be ours, and is not read: closing it would release
    SQLite's locks. Warns if other users can access the file.
    """
    _check_file(path)
    if is_open(path):
        return schemas.NEWEST
    header, size = check_ours(path)
    _check_header(path, header, size)
    snapshots.refuse_log_of_another(files.real(path))
    files.warn_if_accessible(path)
    return header.schema


def _refuse_server(path: Path) -> None:
    """Raise Vantage6Database if the file is a server's: the usual error would suggest removing it."""
    try:
        if path.is_file() and not is_open(path):
            check_ours(path)
    except recognition.Vantage6Database:
        raise
    except Error:  # create() then says that the file exists
        pass


def is_open(path: Path) -> bool:
    """Whether this process has a database open."""
    return sqlite.is_open(path)


def check_ours(path: Path) -> tuple[sqlite_headers.Header, int]:
    """Return the header and the file size of a database of ours, of any release; raise an Error for other files."""
    _check_file(path)
    with files.as_error(f"{shown(path)} cannot be read"), open(path, "rb") as file:
        head, size = file.read(100), os.fstat(file.fileno()).st_size
    if not head:
        raise NotADatabase(f"{shown(path)} is empty: remove it, and create a database with: {_init_line(path)}")
    header = sqlite_headers.read_header(head)
    sqlite_headers.refuse_dump(path, head)
    sqlite_headers.refuse_packed(path, head)
    if header is None:
        raise NotADatabase(f"{shown(path)} is not a SQLite database (or an encrypted one): nothing was changed")
    if header.application_id != APPLICATION_ID:
        sqlite_headers.refuse_cut_off(path, header, size)
        raise _foreign(path)
    return header, size


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise NotFound(f"there is no database {shown(path)}: create it with: {_init_line(path)}") from None
    except OSError as error:
        raise Error(f"{shown(path)} cannot be opened: {files.reason(error)}") from error
    if stat.S_ISDIR(mode):
        raise NotADatabase(f"{shown(path)} is a folder: name the file of a database, such as {shown(path / DEFAULT)}")
    if not stat.S_ISREG(mode):
        raise NotADatabase(f"{shown(path)} is not a regular file: name the file of a database")


def _init_line(path: Path) -> str:
    return addresses.command(shown(path), "init")


def _check_header(path: Path, header: sqlite_headers.Header, size: int) -> None:
    schemas.refuse_newer(path, header.schema)
    if header.schema < 1:
        raise Damaged(f"{shown(path)} has schema {header.schema}, which does not exist: it is damaged, use a backup")
    sqlite_headers.refuse_cut_off(path, header, size)


def _foreign(path: Path) -> Error:
    """Return the error for a SQLite file that is not ours."""
    with contextlib.closing(sqlite_headers.immutable(path)) as conn:
        try:
            if recognition.is_one(path, conn):
                return recognition.of_server(shown(path))
        except sqlite3.Error as error:
            return Damaged(f"{shown(path)} cannot be read: {files.reason(error)}; use a backup if it is damaged")
    return NotADatabase(f"{shown(path)} is a SQLite database of another program: nothing was changed")


def read_write(path: Path) -> Sqlite:
    """Return a database for writing, not opened yet; raise ReadOnly if its file or folder is not writable."""
    file = refuse_other_names(path)
    for needed in (path, file.parent):
        if not writable(needed):
            raise ReadOnly(f"{shown(needed)} cannot be written: read it with list, show, or shell --read-only")
    return Sqlite(str(file), path=path, recorder=Recorder())


def refuse_other_names(path: Path) -> Path:
    """Return the path without links of a database that will be written; raise ReadOnly if it has several names."""
    file = files.real(path)
    files.remove_draft_of(file)
    if not (names := files.other_names(file)):
        return file
    if "mounted" in names:
        remedy = "other programs would not see its log; mount its folder"
    else:
        backup = addresses.command(shown(path), "backup", "NEW.db")
        remedy = f"each has its own log, and changes would be lost; remove the others, or use a copy: {backup}"
    raise ReadOnly(f"{shown(path)} {names}, and cannot be written: {remedy}")


# Read-only


def reader(path: Path) -> Sqlite:
    """Return a database for reading, not opened yet: in place, or if that is impossible a consistent copy."""
    return Reader(path)


def open_read_only(uri: str, path: Path, **options: Any) -> Sqlite:
    """Return a database for reading from a SQLite URI, not opened yet. path: the file that the user named."""
    return Sqlite(uri, path=path, mode="read-only", **options)


def private_copy(path: Path) -> Path:
    """Copy a database to a new private folder, which the caller removes."""
    copy = files.make_private(files.private_folder() / path.name)
    try:
        with contextlib.closing(reader(path)) as source, contextlib.closing(sqlite_connections.connect(copy)) as target:
            source.connect()
            sqlite_connections.Connection.backup(
                source.connection(), target
            )  # with the hashes, which a reader's own hides
    except BaseException:
        files.remove_folder(copy.parent)
        raise
    return copy


def private_database(copy: Path, path: Path, mode: str, title: str | None) -> Sqlite:
    """Return a private copy as a database, not opened yet. Closing it removes its folder."""
    pragmas = {"wal_autocheckpoint": 0, "synchronous": "OFF"}
    database = Sqlite(str(copy), path=path, mode=mode, title=title, pragmas=pragmas, recorder=Recorder())
    remove_at_close(database, copy.parent)
    return database


def remove_at_close(database: Sqlite, folder: Path) -> None:
    """Remove a private folder when its database is closed, at the latest when the process ends."""
    database.at_close.append(weakref.finalize(database, files.remove_folder, folder))


# Private copies


def sandbox(file: Path, path: Path, title: str | None = None) -> Sqlite:
    """Open a private copy of a file instead of the file.

    Its log is never written back, so the copy's file keeps the original state: see sandbox_diff.report().
    """
    copy = _upgraded(file)
    with contextlib.closing(sqlite_connections.connect(copy)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    return private_database(copy, path, "sandbox", title)


def _upgraded(path: Path) -> Path:
    """Copy a database to a private folder, upgrade the copy, and say so."""
    with files.as_error(f"{shown(path)} cannot be copied"):
        copy = private_copy(path)
        try:
            if schemas.migrate_copy(copy, path):
                remedy = "" if files.is_shown_as_another(path) else "; upgrade it with vserver upgrade"
                notify(f"{shown(path)} has an older schema: this is an upgraded copy{remedy}", "yellow")
        except BaseException:
            files.remove_folder(copy.parent)
            raise
    return copy


def upgraded_copy(path: Path) -> Sqlite:
    """Return an upgraded private copy of an older database for reading."""
    return Reader(path, copied=lambda: _upgraded(path))
