"""What a file or a URL is, by looking, and opening it as a source with the module that reads such a thing.

What all sources have in common is sources.py's. Each kind is read by a module of its own, imported when there is one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from vserverlib import Error, NotFound, addresses, files
from vserverlib.databases import sqlite_headers, storage
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown
from vserverlib.transfer import documents, text_encodings
from vserverlib.transfer.sources import Bar, Opened, Source, no_bar

STDIN = "-"
FIXTURE = (b"organizations:", b"collaborations:")  # one of these is in every fixture file
READ = "name the SQLite file or the URL of a vantage6 server, a fixture file, or an export"


@contextlib.contextmanager
def opened(name: str, bar: Bar = no_bar) -> Iterator[Source]:
    """Open what can be imported, after a look at what it is; an Error where it is nothing that can be read.

    bar: shows how far it is while a server's database is copied, which comes first.
    """
    with _source(name, bar) as source:
        yield source


def _source(name: str, bar: Bar) -> Opened:
    if _is_piped(name):
        return _piped(name)
    if addresses.is_url(name):
        return _server(name, bar)
    path = _path(name)
    return _file(path)


@contextlib.contextmanager
def _file(path: Path, named: Path | None = None) -> Iterator[Source]:
    """Open a file, what is around its text taken off in a private copy. named: what messages call it."""
    head = _head(path)
    with contextlib.ExitStack() as stack:
        plain = path
        if text_encodings.is_wrapped(head):
            plain = stack.enter_context(files.temporary_folder()) / "unwrapped"
            text_encodings.unwrap(path, plain, documents.LARGEST, _is_export)
        yield stack.enter_context(_kind(plain, named or path)(plain, named or path))


def is_database(name: str) -> bool:
    """Whether a source is a database, which -d takes as well as an import does."""
    return addresses.is_url(name) or (
        not _is_piped(name) and sqlite_headers.read_header(_head(_path(name))[:100]) is not None
    )


def _is_piped(name: str) -> bool:
    """Whether a source is what comes through stdin, or through a pipe of the shell's: <(…) is called /dev/fd/63.

    One that lies in a folder is none: nobody need ever write to it.
    """
    return name == STDIN or (name.startswith("/dev/") and "\0" not in name and Path(name).is_fifo())


@contextlib.contextmanager
def _piped(name: str) -> Iterator[Source]:
    """Open what comes through a pipe: a private copy, which is gone with the source, as it is read more than once."""
    with files.temporary_folder() as folder:
        place = files.make_private(folder / "stdin")
        with files.as_error(f"{shown(name)} cannot be copied to {shown(folder)}"):
            _copy(name, place)
        with _file(place, Path("stdin" if name == STDIN else name)) as source:
            yield source


def _copy(name: str, place: Path) -> None:
    """Copy what comes through a pipe. Stdin is left open: somebody may ask whether it is a terminal."""
    with contextlib.ExitStack() as stack:
        stream = sys.stdin.buffer if name == STDIN else stack.enter_context(open(name, "rb"))
        shutil.copyfileobj(stream, stack.enter_context(open(place, "wb")))


def _path(name: str) -> Path:
    if not name:
        raise Error(f"the name of the source is empty: {READ}")
    path = storage.as_path(name)
    if not os.path.lexists(path):
        raise NotFound(f"there is no file {shown(path)}: {READ}")
    if path.is_dir():
        raise Error(f"{shown(path)} is a folder: {READ}")
    if not path.is_file():
        raise Error(f"{shown(path)} is no regular file: {READ}")
    return path


def _is_export(head: bytes) -> bool:
    return b"".join(head[:200].split()).startswith(sqlite_headers.EXPORT)


def _head(path: Path) -> bytes:
    with files.as_error(f"{shown(path)} cannot be read"), open(path, "rb") as file:
        return file.read(sqlite_headers.HEAD)


def _kind(plain: Path, path: Path) -> Callable[[Path, Path], Opened]:
    """Return what opens a file, by its first bytes; an Error where they are those of nothing that is known.

    plain: the copy that is read, or the file itself. path: the file as it is named.
    """
    head = _head(plain)
    text_encodings.refuse_others(path, head)
    header = sqlite_headers.read_header(head[:100])
    if header is not None:
        return _database if header.application_id == storage.APPLICATION_ID else _vantage6
    sqlite_headers.refuse_dump(path, head)
    if not head.strip():
        raise Error(f"{shown(path)} is empty: there is nothing to import")
    if _is_export(head):
        return _export
    if any(word in head for word in FIXTURE) or path.suffix in (".yaml", ".yml"):
        return _fixture
    if head.lstrip()[:1] in (b"{", b"["):
        raise Error(f"{shown(path)} is JSON, but none that vserver export wrote: {READ}")
    raise Error(f"{shown(path)} is no SQLite database (or an encrypted one): {READ}")


# Each kind: what opens it is imported when there is one


def _vantage6(plain: Path, path: Path) -> Opened:
    from vserverlib.transfer import vantage6

    return vantage6.opened(plain, path)


def _database(plain: Path, path: Path) -> Opened:
    from vserverlib.transfer import vserver_source

    return vserver_source.opened(plain)


def _export(plain: Path, path: Path) -> Opened:
    from vserverlib.transfer import exchange

    return exchange.opened(plain, path)


def _fixture(plain: Path, path: Path) -> Opened:
    from vserverlib.transfer import fixtures

    return fixtures.opened(plain, path)


@contextlib.contextmanager
def _server(url: str, bar: Bar) -> Iterator[Source]:
    with servers.open_snapshot(url) as database:
        if servers.is_of_server(database):
            from vserverlib.transfer import vantage6_postgres

            with vantage6_postgres.opened(database, bar) as source:
                yield source
        else:
            from vserverlib.transfer import vserver_source

            servers.require_source(database)
            yield vserver_source.Database(database, with_hashes=True)
