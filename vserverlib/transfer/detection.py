"""Finds out which kind of source a file or a URL is, and opens it with the module for that kind.

Each of these modules is imported only if it is needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from vserverlib import Error, NotFound, addresses, documents, files
from vserverlib.databases import sqlite_headers, storage
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown
from vserverlib.transfer import text_encodings
from vserverlib.transfer.sources import OpenedSource, ProgressBar, Source, no_progress_bar

STDIN = "-"
FIXTURE_MARKS = (b"organizations:", b"collaborations:")  # every fixture file has one of them
REMEDY = "name the SQLite file or the URL of a vantage6 server, a fixture file, or an export"


def opened(name: str, bar: ProgressBar = no_progress_bar) -> OpenedSource:
    """Open a file, a URL or stdin ("-") as a source. Raises an Error if it is not a source.

    bar: shows the progress while a PostgreSQL server's database is copied.
    """
    if _is_piped(name):
        return _piped(name)
    if addresses.is_url(name):
        return _server(name, bar)
    return _file(_path(name))


@contextlib.contextmanager
def _file(path: Path, named: Path | None = None) -> Iterator[Source]:
    """Open a file, or a private copy of its text in UTF-8. named: the name for messages."""
    head = _head(path)
    with contextlib.ExitStack() as stack:
        plain = path
        if text_encodings.is_wrapped(head):
            plain = stack.enter_context(files.temporary_folder()) / "unwrapped"
            text_encodings.unwrap(path, plain, documents.MAX_BYTES, _is_export)
        yield stack.enter_context(_kind(plain, named or path)(plain, named or path))


def is_database(name: str) -> bool:
    """Whether a source is a database, so that -d can open it too."""
    return addresses.is_url(name) or (
        not _is_piped(name) and sqlite_headers.read_header(_head(_path(name))[:100]) is not None
    )


def _is_piped(name: str) -> bool:
    """Whether a source is stdin or a pipe of the shell: <(…) is /dev/fd/63.

    A named pipe elsewhere is not: it may never get a writer.
    """
    return name == STDIN or (name.startswith("/dev/") and "\0" not in name and Path(name).is_fifo())


@contextlib.contextmanager
def _piped(name: str) -> Iterator[Source]:
    """Open a private copy of piped data, because a source is read more than once. It is deleted at the end."""
    with files.temporary_folder() as folder:
        place = files.make_private(folder / "stdin")
        with files.as_error(f"{shown(name)} cannot be copied to {shown(folder)}"):
            _copy(name, place)
        shown_name = "stdin" if name == STDIN else name
        with files.shown_as(place, shown_name), _file(place, Path(shown_name)) as source:
            yield source


def _copy(name: str, place: Path) -> None:
    """Copy piped data. Stdin stays open: other code asks whether it is a terminal."""
    with contextlib.ExitStack() as stack:
        stream = sys.stdin.buffer if name == STDIN else stack.enter_context(open(name, "rb"))
        shutil.copyfileobj(stream, stack.enter_context(open(place, "wb")))


def _path(name: str) -> Path:
    if not name:
        raise Error(f"the name of the source is empty: {REMEDY}")
    path = storage.as_path(name)
    if not os.path.lexists(path):
        raise NotFound(f"there is no file {shown(path)}: {REMEDY}")
    if path.is_dir():
        raise Error(f"{shown(path)} is a folder: {REMEDY}")
    if not path.is_file():
        raise Error(f"{shown(path)} is not a regular file: {REMEDY}")
    return path


def _is_export(head: bytes) -> bool:
    return b"".join(head[:200].split()).startswith(sqlite_headers.EXPORT)


def _head(path: Path) -> bytes:
    with files.as_error(f"{shown(path)} cannot be read"), open(path, "rb") as file:
        return file.read(sqlite_headers.HEAD)


def _kind(plain: Path, path: Path) -> Callable[[Path, Path], OpenedSource]:
    """Return the function that opens a file, chosen by its first bytes. Raises an Error for an unknown kind.

    plain: the file or its copy in UTF-8. path: the name for messages.
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
    if any(mark in head for mark in FIXTURE_MARKS) or path.suffix in (".yaml", ".yml"):
        return _fixture
    if head.lstrip()[:1] in (b"{", b"["):
        raise Error(f"{shown(path)} is JSON, but not an export of vserver: {REMEDY}")
    raise Error(f"{shown(path)} is not a SQLite database (or is encrypted): {REMEDY}")


# The kinds


def _vantage6(plain: Path, path: Path) -> OpenedSource:
    from vserverlib.transfer import vantage6

    return vantage6.opened(plain, path)


def _database(plain: Path, path: Path) -> OpenedSource:
    from vserverlib.transfer import vserver_source

    return vserver_source.opened(plain)


def _export(plain: Path, path: Path) -> OpenedSource:
    from vserverlib.transfer import exchange

    return exchange.opened(plain, path)


def _fixture(plain: Path, path: Path) -> OpenedSource:
    from vserverlib.transfer import fixtures

    return fixtures.opened(plain, path)


@contextlib.contextmanager
def _server(url: str, bar: ProgressBar) -> Iterator[Source]:
    with servers.open_snapshot(url) as database:
        if servers.is_of_server(database):
            from vserverlib.transfer import vantage6_postgres

            with vantage6_postgres.opened(database, bar) as source:
                yield source
        else:
            from vserverlib.transfer import vserver_source

            servers.require_source(database)
            yield vserver_source.VserverSource(database, with_hashes=True)
