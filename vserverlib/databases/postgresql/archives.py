"""Reading a dump of pg_dump through pg_restore: whether it contains a database of ours, and its rows.

Only rows and the highest ids are taken from a dump. None of its statements is ever executed: our migrations create the
tables, so a manipulated dump can at worst contain wrong rows; and other programs' data in it are ignored. A dump by
`pg_dump --inserts` has statements instead of rows, and is refused.

dumps.py makes dumps, restores.py restores their rows.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from vserverlib import Damaged, Error, NotADatabase, NotFound, addresses, files
from vserverlib.databases import schemas, sqlite_headers
from vserverlib.databases.backups import Backup
from vserverlib.databases.postgresql import dumps, sequences, servers
from vserverlib.files import shown

PROGRAM = "pg_restore"
REMEDIES = (  # a part of pg_restore's message, and the remedy
    ("unsupported version", f"it was created by a newer pg_dump: {dumps.INSTALL}"),
    ("text format dump", "create one with vserver backup or pg_dump --format=custom"),
    ("out of order", "create one with vserver backup or pg_dump --format=custom"),
    ("end of file", "it is cut off: use an earlier backup"),
)
ROWS, HIGHEST = "TABLE DATA", "SEQUENCE SET"  # pg_restore's names of the entries that are read
ENTRY = re.compile(rf"\d+; \d+ \d+ ({ROWS}|{HIGHEST}) (\S+) (\S+) .*")
COPIED = re.compile(rb'COPY \S+ \(("?\w+"?(?:, "?\w+"?)*)\) FROM stdin;\n')
GIVEN = re.compile(rb"SELECT pg_catalog\.setval\('\S+', (\d+), (true|false)\);\n")
ENCODING = re.compile(rb"SET client_encoding = '(.*)';\n")


class UnusableDump(Error):
    """A new dump could not be restored."""


class Part(NamedTuple):
    """A table's part of a dump: rows, as lines of COPY with these columns, or else the highest id given."""

    table: str
    columns: list[str]
    rows: Iterator[bytes]
    highest: int | None


class Dump(NamedTuple):
    """A dump of a database of ours. migrations: those applied to it; entries: its readable parts, in order.

    An entry is a table, and its line in pg_restore's list. rows: the number of rows in all tables.
    """

    path: Path
    migrations: list[str]
    entries: list[tuple[str, str]]
    rows: int = 0

    @property
    def tables(self) -> set[str]:
        """The tables whose rows it has."""
        return {table for table, line in self.entries if ROWS in line}

    def parts(self) -> Generator[Part]:
        """Yield the parts, each to be read to its end before the next; raise an Error if the dump is incomplete."""
        with _written(self.path, [line for _, line in self.entries]) as lines:
            for table, line in self.entries:
                yield _part(table, ROWS in line, lines, self.path)


def opened(path: Path, name: str) -> Dump:
    """Return a dump after reading all of it; raise an Error if it is not ours, is incomplete, or is newer.

    name: the shown name of the target database, for messages.
    """
    _refuse_others(path, name)
    entries = _entries(path)
    dump = Dump(path, _migrations(path, entries), entries)
    _refuse_unknown(path, dump.migrations)
    with contextlib.closing(dump.parts()) as parts:
        return dump._replace(rows=sum(1 for part in parts for _ in part.rows))


def keep(url: str, kept: list[Backup]) -> None:
    """Dump a database that is about to be replaced or upgraded into the current folder, and verify the dump.

    kept: the list that gets the backup as soon as it exists, so that a later failure removes it. Raises UnusableDump if
    the dump could not be restored.
    """
    made, name = dumps.make(url, kept=kept), addresses.shown(url)
    try:
        opened(made.path, name)
    except Error as error:
        raise UnusableDump(f"{dumps.PROGRAM} made a backup of {name} that cannot be restored ({error})") from error


def _migrations(path: Path, entries: list[tuple[str, str]]) -> list[str]:
    """Return the names of the migrations applied to the dumped database."""
    own = [entry for entry in entries if entry[0] == "schema_migration" and ROWS in entry[1]]
    with contextlib.closing(Dump(path, [], own).parts()) as parts:
        rows = [_by_column(part.columns, row) for part in parts for row in part.rows]
    return sorted(row.get("name", b"").decode(errors="replace") for row in rows)


def _by_column(columns: list[str], row: bytes) -> dict[str, bytes]:
    return dict(zip(columns, row.rstrip(b"\n").split(b"\t"), strict=False))


def _refuse_others(path: Path, name: str) -> None:
    """Raise an Error with a remedy for other kinds of backups and files."""
    if not os.path.lexists(path):
        raise NotFound(f"there is no file {shown(path)}: name a backup")
    if path.is_dir():
        return  # pg_dump can also write a folder
    if not path.is_file():
        raise NotADatabase(f"{shown(path)} is not a regular file: name a backup")
    with files.as_error(f"{shown(path)} cannot be read"), open(path, "rb") as file:
        head = file.read(sqlite_headers.HEAD)
    if b"".join(head[:200].split()).startswith(sqlite_headers.EXPORT):
        line = addresses.command(name, "import", "--replace", shown(path))
        raise Error(f"{shown(path)} is an export of vserver, in JSON: restore it with: {line}")
    if sqlite_headers.read_header(head[:100]) is not None:
        line = shlex.join(["vserver", "copy", shown(path), name])
        raise Error(f"{shown(path)} is a SQLite file; copy it to an empty database with: {line}")


def _refuse_unknown(path: Path, names: list[str]) -> None:
    known = schemas.due(0)
    if names[: len(known)] == known and len(names) > len(known):
        schemas.refuse_newer(path, len(names))
    if not names or names != known[: len(names)]:
        raise NotADatabase(f"{shown(path)} has another program's tables with the names of ours: name another backup")


# Content


def _entries(path: Path) -> list[tuple[str, str]]:
    """Return our tables with their lines in pg_restore's list: rows in the order of insertion, then ids."""
    found = dict[str, dict[tuple[str, str], str]]()  # by schema; by kind and name
    with _run(path, "--list") as lines:
        for line in lines:
            if entry := ENTRY.fullmatch(line.decode(errors="replace").rstrip("\n")):
                kind, schema, name = entry.groups()
                found.setdefault(schema, {})[kind, name] = entry[0]
    ours = [entries for entries in found.values() if {(ROWS, "setting"), (ROWS, "schema_migration")} <= entries.keys()]
    if len(ours) != 1:
        message = "contains several databases of vserver" if ours else "contains no rows of a database of vserver"
        raise NotADatabase(f"{shown(path)} is a dump that {message}: name a backup by vserver")
    keys = [(table, (ROWS, table)) for table in servers.TABLES]
    keys += [(table, (HIGHEST, sequences.SEQUENCE.format(table))) for table in servers.TABLES]
    return [(table, ours[0][key]) for table, key in keys if key in ours[0]]


def _part(table: str, has_rows: bool, lines: Iterator[bytes], path: Path) -> Part:
    """Return the next part of pg_restore's output."""
    for line in lines:
        if has_rows and (copied := COPIED.fullmatch(line)):
            return Part(table, copied[1].decode().replace('"', "").split(", "), _rows(lines, path), None)
        if not has_rows and (given := GIVEN.fullmatch(line)):
            return Part(table, [], iter(()), int(given[1]) if given[2] == b"true" else 0)
        if (encoding := ENCODING.fullmatch(line)) and encoding[1] != b"UTF8":
            raise Error(f"{shown(path)} is not in UTF-8: create one with vserver backup or pg_dump --encoding=UTF8")
    raise Error(f"{shown(path)} has no rows of {table} in pg_dump's format: create one with vserver backup")


def _rows(lines: Iterator[bytes], path: Path) -> Iterator[bytes]:
    for line in lines:
        if line == b"\\.\n":
            return
        yield line
    raise Damaged(f"{shown(path)} ends within its rows: it is cut off, use an earlier backup")


# Running pg_restore


@contextlib.contextmanager
def _written(path: Path, entries: list[str]) -> Iterator[Iterator[bytes]]:
    """The output of pg_restore for some entries of a dump, in their order, line by line."""
    with tempfile.NamedTemporaryFile("w", prefix="vserver-") as chosen:  # 0600
        chosen.write("\n".join(entries) + "\n")
        chosen.flush()
        with _run(path, f"--use-list={chosen.name}", "--file=-") as lines:
            yield lines


@contextlib.contextmanager
def _run(path: Path, *options: str) -> Iterator[Iterator[bytes]]:
    """The output of pg_restore, line by line; raises an Error after the last line if it failed."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise Error(f"{PROGRAM} reads the dump of a PostgreSQL database, and is not on PATH: {dumps.INSTALL}")
    command = [program, *options, os.path.abspath(path)]
    environment = {**os.environ, "LC_ALL": "C"}  # REMEDIES has its messages in English
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment) as process,
    ):
        lines = _lines(process, path, stderr)
        try:
            yield lines
            deque(lines, maxlen=0)  # skips the rest, so that pg_restore can end
        except BaseException:
            process.kill()
            raise


def _lines(process: subprocess.Popen[bytes], path: Path, stderr: IO[bytes]) -> Iterator[bytes]:
    assert process.stdout is not None
    yield from process.stdout
    if process.wait():
        stderr.seek(0)
        raise _failed(path, stderr.read())


def _failed(path: Path, stderr: bytes) -> Error:
    said = dumps.failure_text(PROGRAM, stderr)
    remedy = next((remedy for words, remedy in REMEDIES if words in said), "name a backup by vserver")
    return Error(f"{shown(path)} cannot be read by {PROGRAM} ({said}): {remedy}")
