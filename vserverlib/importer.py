"""Importing what a vantage6 server left behind: every row that can be kept, in one transaction, into an empty database.

Rows are read and written as they come, so memory does not grow with the source. What cannot be kept as it was is part
of the outcome: rows that are left out, links that led nowhere, values that were changed, runs that got new ids.

It owns what becomes of rows and values. What the source is, and how it is read, is vantage6.py's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import models
from vserverlib import Error, fields, files, hashing, inert, orm, progress, recording, relations, storage
from vserverlib.vantage6 import Origin, Row, Source

CHUNK = 1000  # rows that are written by one call
CACHE = -64 * 1024  # KiB of pages that SQLite keeps while rows are written (a negative number says that it is KiB)
TOLD = 20  # lines of one kind that are told; all are counted
TICK = 0.1  # seconds between two looks at how far it is
UNIQUE = "UNIQUE constraint failed: "  # what SQLite says, with the columns behind it
COUNT_ON = "UPDATE counter SET value = (SELECT COALESCE(MAX(MAX(run_id), 0), 0) FROM task) WHERE name = 'run_id'"
MODELS: dict[str, Any] = {model._meta.table_name: model for model in orm.Entity.__subclasses__()}
Advance = Callable[[int], object]  # is called with how many rows are done


class Count(NamedTuple):
    """What became of the rows of a table of the source."""

    table: str
    read: int
    kept: int
    left_out: int


class Lines(list[str]):
    """The first of many lines. total: how many there are."""

    total = 0

    def add(self, line: str) -> None:
        """Count a line, and keep it if it is one of the first."""
        self.total += 1
        if len(self) < TOLD:
            self.append(line)


@dataclasses.dataclass
class Outcome:
    """What was imported, and what could not be kept as it was.

    made: whether the database was made for it. left_out, renumbered: a line for each row. links: how many led nowhere,
    by table and column; values: how many were changed, by what was done to them. lost: columns without a place.
    """

    made: bool = False
    tables: list[Count] = dataclasses.field(default_factory=list)
    left_out: Lines = dataclasses.field(default_factory=Lines)
    renumbered: Lines = dataclasses.field(default_factory=Lines)
    links: Counter[str] = dataclasses.field(default_factory=Counter)
    values: Counter[str] = dataclasses.field(default_factory=Counter)
    elsewhere: dict[str, int] = dataclasses.field(default_factory=dict)
    lost: dict[str, int] = dataclasses.field(default_factory=dict)

    def told(self) -> Iterator[str]:
        """Return what a person should know of it, line by line."""
        yield from _and_more(self.left_out, "more left out")
        yield from _and_more(self.renumbered, "more with new ids")
        for link, count in self.links.items():
            yield f"{link}: {count:,} led to rows that do not exist, and {'is' if count == 1 else 'are'} empty now"
        for done, count in self.values.items():
            yield f"{done}: {count:,}"
        for what, counts in (("tables", self.elsewhere), ("columns", self.lost)):
            if counts:
                named = ", ".join(f"{inert(name)} ({count:,})" for name, count in counts.items())
                yield f"{what} that have no place here, and how many rows: {named}"


def _and_more(lines: Lines, what: str) -> Iterator[str]:
    yield from lines
    if lines.total > len(lines):
        yield f"and {lines.total - len(lines):,} {what}"


# Values


class Keeper:
    """Makes the values of one table ours: each by the field that it is for."""

    def __init__(self, origin: Origin, outcome: Outcome, *, hashes: bool) -> None:
        columns = MODELS[origin.entity]._meta.columns
        self._table, self._values, self._hashes = origin.table, outcome.values, hashes
        self._keepers = [self._keeper(columns[name]) for name in origin.columns]

    def _keeper(self, field: Any) -> Callable[[Any], Any]:
        return partial(self._secret if isinstance(field, fields.Secret) else self._plain, field)

    def kept(self, row: Row) -> Row:
        """Return the values of a row as they are stored."""
        pairs = zip(self._keepers, row, strict=True)
        return tuple([None if value is None else keep(value) for keep, value in pairs])

    def _plain(self, field: Any, value: Any) -> Any:
        try:
            kept = field.clean(value)
        except Error:
            return self._mended(field, value)
        return None if kept == "" and isinstance(field, fields.PublicKey) else kept

    def _secret(self, field: Any, value: Any) -> str | None:
        """Return a hash as it is, and that of a plain text. A dry run makes none: it takes 0.3 seconds."""
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        if text.startswith("$2") or not text:
            return text or None
        try:
            return str(field.clean(text) if self._hashes else hashing.check_plain(str(field), text))
        except Error:
            self._note(field, "no hash can be made of it, it is empty now", None)
            return None

    def _mended(self, field: Any, value: Any) -> Any:
        """Return what can be kept of a value that its field does not take, and count it."""
        if isinstance(field, fields.Text):
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            is_whole = not isinstance(value, bytes) or text.encode() == value
            done = "made text" if is_whole and "\0" not in text else "characters that cannot be kept became \ufffd"
            return self._note(field, done, text.replace("\0", "\ufffd"))
        if isinstance(field, relations.Link | fields.Whole):
            return self._note(field, "no whole number, it is empty now", None)
        return self._note(field, f"not {field.takes}, kept as it is", value)

    def _note(self, field: Any, done: str, value: Any) -> Any:
        self._values[f"{self._table}.{field.column_name}, {done}"] += 1
        return value


# Rows


def _rows(source: Source, origin: Origin, outcome: Outcome) -> Iterator[Row]:
    """Return the rows of a table, with what is worked out from more than one of their values."""
    rows = source.rows(origin)
    if origin.table == "run":
        return _statuses(_new_ids(rows, source, outcome), origin)
    if origin.table == "result":
        return _statuses(rows, origin)
    return _roles(rows, source.roles(), list(origin.columns).index("roles")) if origin.table == "user" else rows


def _new_ids(rows: Iterable[Row], source: Source, outcome: Outcome) -> Iterator[Row]:
    """Give a run whose id a result has a new one. Both come by their ids, the lowest first."""
    nothing = (None, None)
    taken = source.taken_run_ids()
    old, new = next(taken, nothing)
    for row in rows:
        if old is not None and row[0] == old:
            outcome.renumbered.add(f"run {old} is result {new} here: there is a result {old} too")
            yield (new, *row[1:])
            old, new = next(taken, nothing)
        else:
            yield row


def _statuses(rows: Iterable[Row], origin: Origin) -> Iterator[Row]:
    """Give a result without a status the one that its times say: the releases up to 3.5 kept none."""
    names = list(origin.columns)
    status, started, finished = map(names.index, ("status", "started_at", "finished_at"))
    for row in rows:
        if row[status] is None:
            followed = progress.follow(None, row[started], row[finished])
            row = (*row[:status], followed, *row[status + 1 :])
        yield row


def _roles(rows: Iterable[Row], roles: dict[int, list[str]], place: int) -> Iterator[Row]:
    """Give users their roles as a text: by `role`, or else the list that release 1 kept."""
    for row in rows:
        old = str(row[place] or "").split(",")
        names = roles.get(row[0]) or [name.strip() for name in old if name.strip()]
        yield (*row[:place], ", ".join(names) or None, *row[place + 1 :])


class Writer:
    """Writes the rows of one table, many at once; where one of them cannot be kept, one by one."""

    def __init__(self, conn: sqlite3.Connection, origin: Origin, outcome: Outcome) -> None:
        self._conn, self._origin, self._outcome = conn, origin, outcome
        names, marks = ", ".join(f'"{name}"' for name in origin.columns), ", ".join("?" for _ in origin.columns)
        self._sql = f'INSERT INTO "{origin.entity}" ({names}) VALUES ({marks})'
        self._has_id = "id" in origin.columns
        nouns = [] if self._has_id else [name.removesuffix("_id") for name in origin.columns]
        self._partners = {noun: _ids(conn, noun) for noun in nouns}

    def write(self, rows: list[Row]) -> int:
        """Write rows, and return how many of them were kept."""
        fitting = [row for row in rows if not self._is_refused(row)]
        self._conn.execute("SAVEPOINT rows")
        try:
            self._conn.executemany(self._sql, fitting)
            kept = len(fitting)
        except sqlite3.IntegrityError:
            self._conn.execute("ROLLBACK TO rows")
            kept = sum(map(self._write_one, fitting))
        self._conn.execute("RELEASE rows")
        return kept

    def _is_refused(self, row: Row) -> bool:
        """Whether a row cannot even be tried, which is then told."""
        reason = self._without_id(row) if self._has_id else self._without_partner(row)
        if reason:
            self._leave_out(row, reason)
        return bool(reason)

    @staticmethod
    def _without_id(row: Row) -> str:
        return "it has no id" if row[0] is None else ""

    def _without_partner(self, row: Row) -> str:
        """Return what a membership lacks: it is nothing but its two links."""
        for (noun, ids), id in zip(self._partners.items(), row, strict=True):
            if id not in ids:
                return f"it names no {noun}" if id is None else f"there is no {noun} {id}"
        return ""

    def _write_one(self, row: Row) -> bool:
        try:
            self._conn.execute(self._sql, row)
        except sqlite3.IntegrityError as error:
            self._leave_out(row, self._reason(row, str(error)))
            return False
        return True

    def _reason(self, row: Row, said: str) -> str:
        """Return why SQLite did not take a row: a value that is taken is named."""
        values = dict(zip(self._origin.columns, row, strict=True))
        names = [name.rpartition(".")[2] for name in said.removeprefix(UNIQUE).split(", ")]
        if not said.startswith(UNIQUE) or not set(names) <= values.keys():
            return inert(said)
        if len(names) > 1 or names == ["id"]:
            return "it is there already"
        return f'its {names[0]} "{inert(values[names[0]])}" is taken'

    def _leave_out(self, row: Row, reason: str) -> None:
        named = inert(row[0]) if self._has_id else f"of organization {inert(row[0])} in collaboration {inert(row[1])}"
        self._outcome.left_out.add(f"{self._origin.table} {named} is left out: {reason}")


def _ids(conn: sqlite3.Connection, table: str) -> set[int]:
    return {id for (id,) in conn.execute(f'SELECT id FROM "{table}"')}


def _empty_links(conn: sqlite3.Connection, outcome: Outcome) -> None:
    """Empty the links that lead nowhere: our tables take none, and a row without its link is still a row."""
    for table, model in MODELS.items():
        for link in model._meta.refs:
            name, to = link.column_name, link.rel_model._meta.table_name
            lost = f'NOT EXISTS (SELECT 1 FROM "{to}" AS other WHERE other.id = "{table}"."{name}")'
            count = conn.execute(f'UPDATE "{table}" SET "{name}" = NULL WHERE "{name}" IS NOT NULL AND {lost}').rowcount
            if count:
                outcome.links[f"{table}.{name}"] += count


# A whole database


def run(source: Source, target: Path, advance: Advance = bool) -> Outcome:
    """Import a source into an empty database, made where there is none, and return what became of it.

    In one transaction; a database that was made for it is gone where it fails. Raises an Error where there are entities
    already, the source is damaged, or was written to meanwhile.
    """
    if os.path.lexists(target):
        return _into(source, target, advance, hashes=True)
    storage.create(target)
    try:
        return dataclasses.replace(_into(source, target, advance, hashes=True), made=True)
    except BaseException:
        for ending in ("", *files.SIDES):
            Path(f"{target}{ending}").unlink(missing_ok=True)
        raise


def dry_run(source: Source, target: Path, advance: Advance = bool) -> Outcome:
    """Return what an import would do: it is done in a private database, which is thrown away."""
    if os.path.lexists(target):
        with contextlib.closing(storage.connect(target, read_only=True)) as database:
            _refuse_filled(database)
    else:
        files.refuse_taken(target)
    folder = files.private_folder()
    try:
        return _into(source, storage.create(folder / "dry-run"), advance, hashes=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def total(source: Source) -> int:
    """Return how many rows there are to import."""
    return sum(source.count(origin.table) for origin in source.origins)


def _refuse_filled(database: Any) -> None:
    if models.is_filled():
        raise Error(f"{database.title} has entities already: name a database by -d that is empty, or not there yet")


def _into(source: Source, target: Path, advance: Advance, *, hashes: bool) -> Outcome:
    about = f"imported {inert(source.path.name)}, of a vantage6 server of release {source.release}"
    with contextlib.closing(storage.connect(target)) as database:
        database.execute_sql(f"PRAGMA cache_size = {CACHE}")
        with recording.suspended(database, about), database.fetching():
            _refuse_filled(database)
            outcome = _write(source, database, advance, hashes=hashes)
            source.refuse_changed()
    return outcome


def _write(source: Source, database: Any, advance: Advance, *, hashes: bool) -> Outcome:
    recording.defer_links(database)
    conn, outcome, done = database.connection(), Outcome(), itertools.count(1)
    tick = partial(_tick, advance, done, [time.monotonic()])
    for origin in source.origins:
        keeper, writer = Keeper(origin, outcome, hashes=hashes), Writer(conn, origin, outcome)
        read = kept = 0
        rows = map(tick, map(keeper.kept, _rows(source, origin, outcome)))
        while chunk := list(itertools.islice(rows, CHUNK)):
            read, kept = read + len(chunk), kept + writer.write(chunk)
        outcome.tables.append(Count(origin.table, read, kept, read - kept))
    _empty_links(conn, outcome)
    conn.execute(COUNT_ON)
    outcome.elsewhere, outcome.lost = source.elsewhere(), source.lost_columns()
    outcome.tables += [Count(table, count, 0, count) for table, count in outcome.elsewhere.items()]
    return outcome


def _tick(advance: Advance, done: Iterator[int], last: list[float], row: Row) -> Row:
    """Pass a row on, and tell from time to time how many have been."""
    number, at = next(done), time.monotonic()
    if at - last[0] > TICK:
        last[0] = at
        advance(number)
    return row
