"""What can be imported: a source of rows, whatever it is, and finding out by looking what a file is.

A source gives the rows of its tables as they come, with the ids that they have there, in an order in which they can be
written. What it cannot give as it was, it notes.

It owns what all sources have in common. Each kind is read by the module that knows it (vantage6.py), and what becomes
of the rows is importer.py's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

from vserverlib import Error, addresses, files
from vserverlib.advance import Advance
from vserverlib.databases import headers, servers, storage
from vserverlib.files import shown
from vserverlib.transfer import documents, wrappings

STDIN = "-"
NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})
TOLD = 20  # lines of one kind that are told where not all are asked for
HEAD = 65536  # bytes of a file that are looked at to see what it is
FIXTURE = (b"organizations:", b"collaborations:")  # one of these is in every fixture file
EXPORT = b'{"vserver"'  # what our own exports begin with, white space aside
READ = "name the SQLite file or the URL of a vantage6 server, a fixture file, or an export"

Row = tuple[Any, ...]


class Default(NamedTuple):
    """What a new row has in a column of which its source says nothing: worked out of its other values, by name.

    sql: the same, of a row `i`. changed: what a row `t` that is there has in it, when it gets values of such a row; it
    keeps what it has where that is empty.
    """

    value: Callable[[Mapping[str, Any]], Any]
    sql: str
    changed: str = ""


Defaults = Mapping[str, Mapping[str, Default]]  # by entity and column
NO_DEFAULTS: Defaults = MappingProxyType({})


class Origin(NamedTuple):
    """A table of a source: its name there, the entity that its rows become, and our names of its columns, in order."""

    table: str
    entity: str
    columns: tuple[str, ...]


class Lines:
    """Any number of lines, in their order: the first in memory, the others in a file that is gone with them."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.total = 0
        self._file: IO[str] | None = None

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[str]:
        yield from self.first
        if self._file is not None:
            self._file.seek(0)
            yield from (line.rstrip("\n") for line in self._file)

    def add(self, line: str) -> None:
        """Add a line. All are added before they are read."""
        self.total += 1
        if self.total <= TOLD:
            self.first.append(line)
            return
        if self._file is None:
            file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115  # see below
            self._file = file
            weakref.finalize(self, self._file.close)  # when this object is gone
        self._file.write(" ".join(line.splitlines()) + "\n")

    def told(self, more: str, everything: bool = False) -> Iterator[str]:
        """Return what a person is told: all lines, or the first and how many `more` there are."""
        yield from self if everything else self.first
        if not everything and self.total > len(self.first):
            yield f"and {self.total - len(self.first):,} {more}"


class Undecodable(bytes):
    """A stored text that is none in UTF-8: only another program writes such a one."""


class Beside(NamedTuple):
    """What a database of ours has beside its rows.

    counters: the last numbers that were drawn, by name. last_ids: the highest ids that were ever given, by table.
    key_salt: what keys are hashed with, None where that is not to be known.
    """

    counters: dict[str, int]
    last_ids: dict[str, int]
    key_salt: str | None = None


@dataclasses.dataclass
class Notes:
    """What could not be kept as it was, noted by a source while it gives its rows, and by what writes them.

    left_out, doubled, renumbered: a line for each row that cannot be kept, is kept once because it is there twice, has
    a new id. unusual: a line for what is read although it breaks a rule of the source's format. lost_values: a line
    for each value of which something is lost. values: how many were changed, these too, by what was done to them.
    """

    left_out: Lines = dataclasses.field(default_factory=Lines)
    doubled: Lines = dataclasses.field(default_factory=Lines)
    unusual: Lines = dataclasses.field(default_factory=Lines)
    renumbered: Lines = dataclasses.field(default_factory=Lines)
    lost_values: Lines = dataclasses.field(default_factory=Lines)
    values: Counter[str] = dataclasses.field(default_factory=Counter)


class Source(Protocol):
    """Something that is open, and read only, to be imported."""

    @property
    def about(self) -> str:
        """What the journal says was imported: "server.sqlite, of a vantage6 server of release 3"."""

    @property
    def origins(self) -> Sequence[Origin]:
        """The tables that there are, in an order in which their rows can be written."""

    @property
    def beside(self) -> Beside | None:
        """What a source of ours has beside rows; its values are kept exactly. None: it is another program's."""

    @property
    def made_up(self) -> Mapping[str, Collection[str]]:
        """The columns, by entity, that the source knows nothing of: it gives a new row what such a row begins with."""

    @property
    def defaults(self) -> Defaults:
        """What new rows have where the source says nothing, which it gives as None."""

    def told(self) -> str:
        """Return what it is, in a line."""

    def count(self, table: str) -> int:
        """Return how many rows a table has."""

    def rows(self, origin: Origin, notes: Notes) -> Iterator[Row]:
        """Return the rows of a table as they come: the values of its columns in their order, ids as they are there.

        Nothing is kept in memory that grows with them. A row that is not given is noted: as left out, or as
        doubled.
        """

    def strays(self, notes: Notes) -> dict[str, int]:
        """Note the rows of tables that are read with others, and belong to none of these; return how many, by table."""

    def elsewhere(self) -> dict[str, int]:
        """Return the tables that have no place in ours, each with how many rows it has: those that have any."""

    def lost_columns(self) -> dict[str, int]:
        """Return the columns that have no place in ours, each with how many rows have something in it."""

    def refuse_changed(self) -> None:
        """Raise an Error where it was written to since it was opened: what was read need not fit together."""


class WhollyOurs:
    """What is true of a source all of whose tables and columns have their place: a database of ours, what it wrote."""

    made_up = NOTHING
    defaults = NO_DEFAULTS

    def strays(self, notes: Notes) -> dict[str, int]:
        """Note nothing: every row is of a table that is read."""
        return {}

    def elsewhere(self) -> dict[str, int]:
        """Return nothing: every table has its place."""
        return {}

    def lost_columns(self) -> dict[str, int]:
        """Return nothing: every column has its place."""
        return {}


@runtime_checkable
class Lacking(Protocol):
    """A source that lacks secrets: they are made for it, and handed out."""

    handing_out: Callable[[list[Any]], object]  # is called with those that were made

    def complete(self, database: Any) -> None:
        """Make the secrets that lack, and that the database has not either. Writes nothing."""

    def hand_out(self) -> None:
        """Hand out those that were made: all is written, and what fails here takes it back."""


Opened = contextlib.AbstractContextManager[Source]
Bar = Callable[[str, int], contextlib.AbstractContextManager[Advance]]  # what is done, and how many of it there are


@contextlib.contextmanager
def no_bar(what: str, total: int) -> Iterator[Advance]:
    """Show nobody how far it is."""
    yield bool


# What a file is


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
def _file(path: Path) -> Iterator[Source]:
    """Open a file, what is around its text taken off in a private copy."""
    head = _head(path)
    with contextlib.ExitStack() as stack:
        plain = path
        if wrappings.is_wrapped(head):
            plain = stack.enter_context(files.passing_folder()) / "unwrapped"
            wrappings.unwrap(path, plain, documents.LARGEST, _is_export)
        yield stack.enter_context(_kind(plain, path)(plain, path))


def is_database(name: str) -> bool:
    """Whether a source is a database, which -d takes as well as an import does."""
    return addresses.is_url(name) or (not _is_piped(name) and headers.read_header(_head(_path(name))[:100]) is not None)


def _is_piped(name: str) -> bool:
    """Whether a source is what comes through stdin, or through a pipe of the shell's: <(…) is called /dev/fd/63.

    One that lies in a folder is none: nobody need ever write to it.
    """
    return name == STDIN or (name.startswith("/dev/") and "\0" not in name and Path(name).is_fifo())


@contextlib.contextmanager
def _piped(name: str) -> Iterator[Source]:
    """Open what comes through a pipe: a private copy, which is gone with the source, as it is read more than once."""
    with files.passing_folder() as folder:
        place = files.make_private(folder / "stdin")
        with files.told(f"{shown(name)} cannot be copied to {shown(folder)}"):
            _copy(name, place)
        with _file(place) as source:
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
        raise Error(f"there is no file {shown(path)}: {READ}")
    if path.is_dir():
        raise Error(f"{shown(path)} is a folder: {READ}")
    if not path.is_file():
        raise Error(f"{shown(path)} is no regular file: {READ}")
    return path


def _is_export(head: bytes) -> bool:
    return b"".join(head[:200].split()).startswith(EXPORT)


def _head(path: Path) -> bytes:
    with files.told(f"{shown(path)} cannot be read"), open(path, "rb") as file:
        return file.read(HEAD)


def _kind(plain: Path, path: Path) -> Callable[[Path, Path], Opened]:
    """Return what opens a file, by its first bytes; an Error where they are those of nothing that is known.

    plain: the copy that is read, or the file itself. path: the file as it is named.
    """
    head = _head(plain)
    wrappings.refuse_others(path, head)
    header = headers.read_header(head[:100])
    if header is not None:
        return _database if header.application_id == storage.APPLICATION_ID else _vantage6
    headers.refuse_dump(path, head)
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

    return vantage6.opened(path)


def _database(plain: Path, path: Path) -> Opened:
    from vserverlib.transfer import ours

    return ours.opened(path)


def _export(plain: Path, path: Path) -> Opened:
    from vserverlib.transfer import exchange

    return exchange.opened(plain, path)


def _fixture(plain: Path, path: Path) -> Opened:
    from vserverlib.transfer import fixtures

    return fixtures.opened(plain, path)


@contextlib.contextmanager
def _server(url: str, bar: Bar) -> Iterator[Source]:
    with servers.at_one_moment(url) as database:
        if servers.is_of_server(database):
            from vserverlib.transfer import remote

            with remote.opened(database, bar) as source:
                yield source
        else:
            from vserverlib.transfer import ours

            servers.require_source(database)
            yield ours.Database(database, with_hashes=True)
