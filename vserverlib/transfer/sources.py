"""What can be imported: a source of rows, whatever it is, and finding out by looking what a file is.

A source gives the rows of its tables as they come, with the ids that they have there, in an order in which they can be
written. What it cannot give as it was, it notes.

It owns what all sources have in common. Each kind is read by the module that knows it (vantage6.py), and what becomes
of the rows is importer.py's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

from vserverlib.progress_callback import Advance

NOTHING: Mapping[str, Collection[str]] = MappingProxyType({})
TOLD = 20  # lines of one kind that are told where not all are asked for
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

    def summary(self, more: str, everything: bool = False) -> Iterator[str]:
        """Return what a person is told: all lines, or the first and how many `more` there are."""
        yield from self if everything else self.first
        if not everything and self.total > len(self.first):
            yield f"and {self.total - len(self.first):,} {more}"


class Undecodable(bytes):
    """A stored text that is none in UTF-8: only another program writes such a one."""


class SequenceState(NamedTuple):
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
    def beside(self) -> SequenceState | None:
        """What a source of ours has beside rows; its values are kept exactly. None: it is another program's."""

    @property
    def made_up(self) -> Mapping[str, Collection[str]]:
        """The columns, by entity, that the source knows nothing of: it gives a new row what such a row begins with."""

    @property
    def defaults(self) -> Defaults:
        """What new rows have where the source says nothing, which it gives as None."""

    def summary(self) -> str:
        """Return what it is, in a line."""

    def count(self, table: str) -> int:
        """Return how many rows a table has."""

    def rows(self, origin: Origin, notes: Notes) -> Iterator[Row]:
        """Return the rows of a table as they come: the values of its columns in their order, ids as they are there.

        Nothing is kept in memory that grows with them. A row that is not given is noted: as left out, or as
        doubled.
        """

    def orphan_rows(self, notes: Notes) -> dict[str, int]:
        """Note the rows of tables that are read with others, and belong to none of these; return how many, by table."""

    def unmapped_tables(self) -> dict[str, int]:
        """Return the tables that have no place in ours, each with how many rows it has: those that have any."""

    def lost_columns(self) -> dict[str, int]:
        """Return the columns that have no place in ours, each with how many rows have something in it."""

    def refuse_changed(self) -> None:
        """Raise an Error where it was written to since it was opened: what was read need not fit together."""


class WhollyOurs:
    """What is true of a source all of whose tables and columns have their place: a database of ours, what it wrote."""

    made_up = NOTHING
    defaults = NO_DEFAULTS

    def orphan_rows(self, notes: Notes) -> dict[str, int]:
        """Note nothing: every row is of a table that is read."""
        return {}

    def unmapped_tables(self) -> dict[str, int]:
        """Return nothing: every table has its place."""
        return {}

    def lost_columns(self) -> dict[str, int]:
        """Return nothing: every column has its place."""
        return {}


@runtime_checkable
class NeedsCredentials(Protocol):
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
