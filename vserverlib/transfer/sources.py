"""The contract of a source: anything that can be imported.

A source yields the rows of its tables with their original ids, in an order in which they can be written, and notes what
it cannot give unchanged. Each kind has a module: vantage6.py, fixture_source.py, exchange.py, vserver_source.py.
importer.py writes the rows.
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

NO_COLUMNS: Mapping[str, Collection[str]] = MappingProxyType({})
FIRST_LINES = 20  # lines of one kind in a summary
Row = tuple[Any, ...]


class Default(NamedTuple):
    """The value of a column that a source leaves empty, for new rows: computed from the row's other values, by name.

    sql: the same for a source row `i`. changed: the SQL of the value that an existing row `t` gets when it is updated
    from such a row; without it, `t` keeps its value.
    """

    value: Callable[[Mapping[str, Any]], Any]
    sql: str
    changed: str = ""


Defaults = Mapping[str, Mapping[str, Default]]  # by entity and column
NO_DEFAULTS: Defaults = MappingProxyType({})


class Origin(NamedTuple):
    """A table of a source: its name, the entity of its rows, and our names of its columns, in order."""

    table: str
    entity: str
    columns: tuple[str, ...]


class Lines:
    """Any number of lines in order: the first in memory, the others in a temporary file."""

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
        """Add a line. Add all lines before you read them."""
        self.total += 1
        if self.total <= FIRST_LINES:
            self.first.append(line)
            return
        if self._file is None:
            file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115  # see below
            self._file = file
            weakref.finalize(self, self._file.close)
        self._file.write(" ".join(line.splitlines()) + "\n")

    def summary(self, more: str, everything: bool = False) -> Iterator[str]:
        """Return all lines, or the first ones and the number of the others with the words `more`."""
        yield from self if everything else self.first
        if not everything and self.total > len(self.first):
            yield f"and {self.total - len(self.first):,} {more}"


class Undecodable(bytes):
    """A stored text that is not UTF-8, written by another program."""


class SequenceState(NamedTuple):
    """The numbers that a database of ours has used.

    counters: the last number of each counter. last_ids: the highest id ever used, by table. key_salt: the salt of
    API keys, None if the source hides it.
    """

    counters: dict[str, int]
    last_ids: dict[str, int]
    key_salt: str | None = None


@dataclasses.dataclass
class ImportNotes:
    """What could not be kept as it was. A source adds to it while it yields rows, and so do the writers.

    left_out, doubled, renumbered: a line for each row that cannot be kept, that the source has twice and is kept once,
    or that gets a new id. unusual: a line for each thing that breaks a rule of the format but is imported. lost_values:
    a line for each value of which something is lost. values: how many values were changed or lost, by kind of change.
    """

    left_out: Lines = dataclasses.field(default_factory=Lines)
    doubled: Lines = dataclasses.field(default_factory=Lines)
    unusual: Lines = dataclasses.field(default_factory=Lines)
    renumbered: Lines = dataclasses.field(default_factory=Lines)
    lost_values: Lines = dataclasses.field(default_factory=Lines)
    values: Counter[str] = dataclasses.field(default_factory=Counter)


class Source(Protocol):
    """An open source. It is only read."""

    @property
    def about(self) -> str:
        """The name of the source in the journal: "server.sqlite, of a vantage6 server of release 3"."""

    @property
    def server(self) -> str | None:
        """The name of the server's database, as `-d` takes it; None for any other source."""

    @property
    def origins(self) -> Sequence[Origin]:
        """The tables, in an order in which their rows can be written."""

    @property
    def sequence_state(self) -> SequenceState | None:
        """The used numbers of a source of ours, whose values are kept exactly; None for another program's source."""

    @property
    def made_up(self) -> Mapping[str, Collection[str]]:
        """The columns, by entity, that the source does not have: its values there are initial values of new rows."""

    @property
    def defaults(self) -> Defaults:
        """The values of new rows in columns for which the source yields None."""

    def summary(self) -> str:
        """Return one line: the kind of source."""

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""

    def rows(self, origin: Origin, notes: ImportNotes) -> Iterator[Row]:
        """Yield the rows of a table: the values of its columns in order, with the source's ids.

        Memory does not grow with the rows. A row that is not yielded is noted as left out or doubled.
        """

    def orphan_rows(self, notes: ImportNotes) -> dict[str, int]:
        """Note the rows of joined tables that belong to no row; return the number by table."""

    def unmapped_tables(self) -> dict[str, int]:
        """Return the tables that have rows but no place here, each with the number of its rows."""

    def lost_columns(self) -> dict[str, int]:
        """Return the columns that have no place here, each with the number of rows that have a value in it."""

    def refuse_changed(self) -> None:
        """Raise an Error if the source was written to since it was opened: its rows may be inconsistent."""


class OwnSource:
    """A source whose tables and columns all have a place here: a database of ours, or an export of one."""

    server: str | None = None
    made_up = NO_COLUMNS
    defaults = NO_DEFAULTS

    def orphan_rows(self, notes: ImportNotes) -> dict[str, int]:
        """Note nothing: there are no joined tables."""
        return {}

    def unmapped_tables(self) -> dict[str, int]:
        """Return nothing: every table has a place."""
        return {}

    def lost_columns(self) -> dict[str, int]:
        """Return nothing: every column has a place."""
        return {}


@runtime_checkable
class NeedsCredentials(Protocol):
    """A source without some passwords and API keys: they are generated, and delivered to the administrator."""

    deliver_to: Callable[[list[Any]], object]  # is called with the generated credentials

    def generate_credentials(self, database: Any) -> None:
        """Generate the credentials that neither the source nor the database has. Does not write."""

    def deliver_credentials(self) -> None:
        """Pass the generated credentials to `deliver_to`. All rows are written; an error here rolls them back."""


OpenedSource = contextlib.AbstractContextManager[Source]
ProgressBar = Callable[[str, int], contextlib.AbstractContextManager[Advance]]  # takes a title and a total


@contextlib.contextmanager
def no_progress_bar(what: str, total: int) -> Iterator[Advance]:
    """Show no progress."""
    yield bool
