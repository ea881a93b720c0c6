"""The database of a vantage6 server, as a source: what a file is, which release it is of, its rows under our names.

A server that is upgraded adds tables and columns, and removes none. So a file may hold what several releases wrote:
each row is read by the newest name that has a value, and `result` and `run` are read both.

Read-only, in SQLite files of the releases 1 to 4; nothing is written beside the file, and it is not locked.
vantage6_postgres.py copies a PostgreSQL database into such a file. values.py converts the values, importer.py writes
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from vserverlib import Damaged, Error, Locked, files, printable, vantage6_names
from vserverlib.databases import snapshots, sqlite_connections, sqlite_headers, texts
from vserverlib.databases.connection import quoted
from vserverlib.databases.recognition import Columns, columns_of, has, release_of
from vserverlib.entities import progress
from vserverlib.files import shown
from vserverlib.transfer.sources import NOTHING, Default, Notes, Origin, Row

REMAINS = (("result", "run"), ("task.run_id", "task.job_id"), ("user.roles", "role"))  # of a release, beside a newer's
VIEWS = "SELECT name FROM sqlite_master WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL %'"
SHARED = ("ip", "last_seen", "status")  # what users and nodes have in `authenticatable`
MERGED = {  # read with the rows that they belong to: these columns
    "authenticatable": {"id", "type", *SHARED},
    "taskdatabase": {"id", "task_id", "database"},
    "role": {"id", "name"},
    "Permission": {"id", "role_id", "user_id"},
}


CLEANED = "cleanup_at"


def _same(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


_SHARED = {name: (f"authenticatable.{name}",) for name in SHARED}
_RESULT = _same(
    "id", "input", "task_id", "organization_id", "result", "assigned_at", "started_at", "finished_at", "log", "status"
) | {"finished_at": ("finished_at", CLEANED)}  # what was cleaned up had finished, whether or not that was noted
TABLES = (  # each with what its rows become, and its columns: under our name, the names there, newest first
    (
        "organization",
        "organization",
        _same("id", "name", "domain", "address1", "address2", "zipcode", "country")
        | {"public_key": vantage6_names.columns("organization", "public_key")},
    ),
    ("collaboration", "collaboration", _same("id", "name", "encrypted")),
    ("Member", "member", _same("organization_id", "collaboration_id")),
    (
        "user",
        "user",
        _same("id", "username", "password", "firstname", "lastname", "email", "organization_id")
        | {"roles": ("names.names", "roles")}
        | _SHARED,
    ),
    ("node", "node", _same("id", "name", "api_key", "collaboration_id", "organization_id") | _SHARED),
    (
        "task",
        "task",
        _same("id", "name", "description", "image", "collaboration_id", "parent_id", "created_at")
        | {
            "run_id": vantage6_names.columns("task", "run_id"),
            "initiator_id": vantage6_names.columns("task", "initiator_id"),
            "database": ("taskdatabase.database", "database"),
        },
    ),
    ("result", "result", _RESULT),
    ("run", vantage6_names.ENTITIES["run"].here, _RESULT),
)
# The releases up to 3.5 kept no status of a result: it is the one that its times say. A failure that is known stays.
_FAILED = ", ".join(f"'{status}'" for status in progress.FAILED)
_FOLLOWED = (
    "CASE WHEN {finished} IS NOT NULL THEN 'completed' WHEN {started} IS NOT NULL THEN 'active' ELSE 'pending' END"
)
_LATER = " OR ".join(
    f"(i.{n} IS NOT NULL AND (t.{n} IS NULL OR t.{n} <> i.{n}))" for n in ("started_at", "finished_at")
)
_LATEST = {name: f"COALESCE(i.{name}_at, t.{name}_at)" for name in ("started", "finished")}
DEFAULTS = {
    "result": {
        "status": Default(
            lambda row: progress.follow(None, row["started_at"], row["finished_at"]),
            _FOLLOWED.format(started="i.started_at", finished="i.finished_at"),
            f"CASE WHEN t.status IN ({_FAILED}) OR NOT ({_LATER}) THEN t.status ELSE {_FOLLOWED.format(**_LATEST)} END",
        )
    }
}
NAMES = {table: columns for table, _, columns in TABLES}
READ = NAMES.keys() | MERGED.keys()  # the tables of which more is read than how many rows there are
ORIGINS = tuple(Origin(table, entity, tuple(columns)) for table, entity, columns in TABLES)
JOINS = {
    "authenticatable": "LEFT JOIN authenticatable ON authenticatable.id = t.id",
    "taskdatabase": (
        'LEFT JOIN (SELECT task_id, group_concat("database", \', \') AS "database" FROM'
        " (SELECT * FROM taskdatabase ORDER BY task_id, id) GROUP BY task_id) AS taskdatabase"
        " ON taskdatabase.task_id = t.id"
    ),
    "names": (  # each role once, the oldest first
        "LEFT JOIN (SELECT user_id, group_concat(name, ', ') AS names FROM"
        ' (SELECT user_id, name FROM "Permission" JOIN role ON role.id = role_id WHERE name IS NOT NULL'
        " GROUP BY user_id, name ORDER BY user_id, MIN(role.id)) GROUP BY user_id) AS names ON names.user_id = t.id"
    ),
}
STRAYS = {  # of the tables that are read with others: which rows are read with none, and why, {role} being its table
    "Permission": (
        "SELECT 'of user ' || COALESCE(p.user_id, 'none') || ' in role ' || COALESCE(p.role_id, 'none'), CASE"
        " WHEN u.id IS NULL THEN 'there is no such user' WHEN r.id IS NULL THEN 'there is no such role'"
        ' ELSE \'that role has no name\' END FROM "Permission" AS p LEFT JOIN "user" AS u ON u.id = p.user_id'
        " LEFT JOIN {role} AS r ON r.id = p.role_id WHERE u.id IS NULL OR r.id IS NULL OR r.name IS NULL"
    ),
    "taskdatabase": (
        "SELECT 'of task ' || COALESCE(d.task_id, 'none'), CASE WHEN t.id IS NULL THEN 'there is no such task'"
        " ELSE 'it names no database' END FROM taskdatabase AS d LEFT JOIN task AS t ON t.id = d.task_id"
        ' WHERE t.id IS NULL OR d."database" IS NULL'
    ),
    "authenticatable": (
        "SELECT COALESCE(a.id, 'without an id'), 'there is no such user or node' FROM authenticatable AS a"
        ' WHERE NOT EXISTS (SELECT 1 FROM "user" AS u WHERE u.id = a.id)'
        " AND NOT EXISTS (SELECT 1 FROM node AS n WHERE n.id = a.id)"
    ),
}
NO_ROLES = "(SELECT NULL AS id, NULL AS name)"
UNUSED_ROLES = 'SELECT COUNT(*) FROM role WHERE id NOT IN (SELECT role_id FROM "Permission" WHERE role_id IS NOT NULL)'
DOUBLED = """
FROM result JOIN run ON run.id = result.id AND run.task_id IS result.task_id
AND run.organization_id IS result.organization_id AND run.assigned_at IS result.assigned_at
AND run.started_at IS result.started_at AND run.finished_at IS result.finished_at
"""


@dataclasses.dataclass(frozen=True)
class Source:
    """The database of a server, open.

    title: what messages call it; named: what the journal does. release: the newest that wrote to it; remains: what
    earlier ones left in it. refuse_changed: see sources.Source.
    """

    title: str
    named: str
    conn: sqlite3.Connection
    columns: Columns
    release: int
    remains: tuple[str, ...]
    refuse_changed: Callable[[], None]
    defaults = DEFAULTS

    @property
    def made_up(self) -> Mapping[str, Collection[str]]:
        """The times when tasks were made, which releases before 3.11 do not note: they tell no tasks apart."""
        return NOTHING if self._has("task", "created_at") else {"task": ("created_at",)}

    @property
    def beside(self) -> None:
        """Nothing: it is no database of ours."""

    @property
    def about(self) -> str:
        """Return what the journal says was imported."""
        return f"{self.named}, of a vantage6 server of release {self.release}"

    @property
    def origins(self) -> list[Origin]:
        """The tables that there are, in an order in which their rows can be written."""
        return [origin for origin in ORIGINS if origin.table in self.columns]

    def summary(self) -> str:
        """Return what it is, in a line."""
        earlier = f", with what earlier releases left in it ({', '.join(self.remains)})" if self.remains else ""
        return f"{self.title} is the database of a vantage6 server, release {self.release}{earlier}"

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self.conn.execute(f"SELECT COUNT(*) FROM {quoted(table)}").fetchone()[0])

    def rows(self, origin: Origin, notes: Notes) -> Iterator[Row]:
        """Return the rows of a table, with what is worked out from more than one of their values."""
        rows = self._stored(origin)
        if origin.table == "run":
            self._note_cleaned(notes)
            return _new_ids(rows, self.taken_run_ids(), notes)
        if origin.table == "result":
            return _once(rows, self.doubled(), notes)
        return _roles(rows, origin.columns.index("roles")) if origin.table == "user" else rows

    def _note_cleaned(self, notes: Notes) -> None:
        """Count the runs that finished, for all that is known, when they were cleaned up."""
        if self._has("run", CLEANED):
            cleaned = f"SELECT COUNT(*) FROM run WHERE {_time('finished_at')} IS NULL AND {_time(CLEANED)} IS NOT NULL"
            if count := self.conn.execute(cleaned).fetchone()[0]:
                notes.values[f"run.finished_at, it had none and got its {CLEANED}"] = count

    def _stored(self, origin: Origin) -> Iterator[Row]:
        """Return the rows of a table as they are stored."""
        parts = [self._value(origin.table, NAMES[origin.table][name]) for name in origin.columns]
        joins = " ".join(join for table, join in JOINS.items() if any(f"{table}." in part for part in parts))
        order = " ORDER BY t.id" if "id" in self.columns[origin.table] else ""
        return self.conn.execute(f"SELECT {', '.join(parts)} FROM {quoted(origin.table)} AS t {joins}{order}")

    def _value(self, table: str, names: tuple[str, ...]) -> str:
        """Return the SQL of a value: the first of its names that has one."""
        places = [name.rpartition(".") for name in names]
        known = [(at or "t", name) for at, _, name in places if self._has(at or table, name)]
        parts = ", ".join(map(_time if CLEANED in names else str, (f"{at}.{quoted(name)}" for at, name in known)))
        return f"COALESCE({parts})" if len(known) > 1 else parts or "NULL"

    def _has(self, table: str, name: str) -> bool:
        if table == "names":
            return {"role", "Permission"} <= self.columns.keys()
        return name in self.columns.get(table, ())

    def doubled(self) -> Iterator[int]:
        """Return the ids of results that somebody copied into `run`, the lowest first."""
        if {"run", "result"} <= self.columns.keys():
            yield from (id for (id,) in self.conn.execute(f"SELECT result.id {DOUBLED} ORDER BY result.id"))

    def taken_run_ids(self) -> Iterator[tuple[int, int]]:
        """Return the id of each `run` that another `result` has, and a free one; the lowest first."""
        if {"run", "result"} <= self.columns.keys():
            highest = "SELECT MAX(id) FROM (SELECT MAX(id) AS id FROM run UNION ALL SELECT MAX(id) FROM result)"
            free = itertools.count((self.conn.execute(highest).fetchone()[0] or 0) + 1)
            taken = "SELECT run.id FROM run JOIN result ON result.id = run.id WHERE run.id NOT IN"
            found = self.conn.execute(f"{taken} (SELECT run.id {DOUBLED}) ORDER BY run.id")
            yield from ((id, next(free)) for (id,) in found)

    def orphan_rows(self, notes: Notes) -> dict[str, int]:
        """Note the rows of tables that are read with others, and belong to none of these; return how many, by table."""
        role, before = "role" if "role" in self.columns else NO_ROLES, notes.left_out.total
        found: dict[str, int] = {}
        for table in sorted(STRAYS.keys() & self.columns.keys()):
            for named, reason in self.conn.execute(STRAYS[table].format(role=role)):
                notes.left_out.add(f"{table} {printable(named)} is left out: {reason}")
            found[table] = notes.left_out.total - before - sum(found.values())
        return {table: count for table, count in found.items() if count}

    def unmapped_tables(self) -> dict[str, int]:
        """Return the tables that have no place in ours, each with how many rows it has: those that have any.

        Of roles, which are names here, those that no user has.
        """
        counts = {table: self.count(table) for table in self.columns if table not in READ}
        if "role" in self.columns:
            is_asked = "Permission" in self.columns
            counts["role"] = self.conn.execute(UNUSED_ROLES).fetchone()[0] if is_asked else self.count("role")
        return {table: count for table, count in counts.items() if count}

    def lost_columns(self) -> dict[str, int]:
        """Return the columns that have no place in ours, each with how many rows have more in it than 0 or nothing."""
        found: dict[str, int] = {}
        for origin in self.origins:
            kept = {name for names in NAMES[origin.table].values() for name in names} - {CLEANED} | {"id"}
            found |= self._filled(origin.table, sorted(self.columns[origin.table] - kept))
        for table, kept in MERGED.items():
            found |= self._filled(table, sorted(self.columns.get(table, frozenset()) - kept))
        return found

    def _filled(self, table: str, names: list[str]) -> dict[str, int]:
        sums = ", ".join(f"SUM({quoted(name)} NOT IN (0, ''))" for name in names)
        counts = self.conn.execute(f"SELECT {sums} FROM {quoted(table)}").fetchone() if names else ()
        return {f"{table}.{name}": count for name, count in zip(names, counts, strict=True) if count}


def _time(place: str) -> str:
    """Return the SQL of a time: an empty text is none."""
    return f"CASE WHEN TRIM({place}) <> '' THEN {place} END"


# What is worked out of a row


def _new_ids(rows: Iterable[Row], taken: Iterator[tuple[int, int]], notes: Notes) -> Iterator[Row]:
    """Give a run whose id a result has a new one. Both come by their ids, the lowest first."""
    nothing = (None, None)
    old, new = next(taken, nothing)
    for row in rows:
        if old is not None and row[0] == old:
            notes.renumbered.add(f"run {old} is result {new} here: there is a result {old} too")
            yield (new, *row[1:])
            old, new = next(taken, nothing)
        else:
            yield row


def _once(rows: Iterable[Row], doubled: Iterator[int], notes: Notes) -> Iterator[Row]:
    """Leave out the results that are runs too: what the server did with one since then is in the run."""
    double = next(doubled, None)
    for row in rows:
        if double is not None and row[0] == double:
            notes.doubled.add(f"result {double} is run {double}: somebody copied it, and it is kept once")
            double = next(doubled, None)
        else:
            yield row


def _roles(rows: Iterable[Row], place: int) -> Iterator[Row]:
    """Have the list of roles that release 1 kept be written as that of names is."""
    for row in rows:
        names = [name.strip() for name in str(row[place] or "").split(",") if name.strip()]
        yield (*row[:place], ", ".join(names) or None, *row[place + 1 :])


# What a file is


@contextlib.contextmanager
def opened(path: Path, named: Path | None = None) -> Iterator[Source]:
    """Open the database of a server; an Error where it is something else, damaged, locked, or of a release too new.

    named: what messages call it.
    """
    named, file = named or path, files.real(path)
    title = shown(named)
    with contextlib.ExitStack() as stack:
        with files.as_error(f"{title} cannot be read"):
            _refuse_cut_off(path)
            state = snapshots.settled(file), _header(file)
            conn = stack.enter_context(contextlib.closing(_connection(file, stack)))
            source = source_of(conn, title, printable(named.name), partial(_refuse_changed, path, state))
        source.refuse_changed()
        with _damage_told(source):
            yield source


def source_of(conn: sqlite3.Connection, title: str, named: str, refuse_changed: Callable[[], None]) -> Source:
    """Return the source that an open file is; an Error where it is something else, or of a release too new."""
    conn.text_factory = texts.text_or_bytes
    columns = columns_of(conn)
    release = release_of(title, columns)
    refuse_views(title, {name for (name,) in conn.execute(VIEWS)})
    remains = tuple(old for old, new in REMAINS if has(columns, old) and has(columns, new))
    return Source(title, named, conn, columns, release, remains, refuse_changed)


def _refuse_changed(path: Path, state: tuple[snapshots.State, bytes]) -> None:
    """Raise an Error where a file was written to since then: what was read need not fit together."""
    file = files.real(path)
    if (snapshots.state(file), _header(file)) != state:
        message = "was written to while it was read: nothing was imported; stop its server first, or import a backup"
        raise Error(f"{shown(path)} {message}")


def _refuse_cut_off(path: Path) -> None:
    with open(path, "rb") as file:
        header, size = sqlite_headers.read_header(file.read(100)), os.fstat(file.fileno()).st_size
    if header is None:
        raise Error(f"{shown(path)} is no SQLite database")
    sqlite_headers.refuse_cut_off(path, header, size)


def refuse_views(title: str, others: set[str]) -> None:
    """Raise an Error where what has the name of a table is none: its rows would be left out in silence."""
    meant = sorted(others & READ)
    if meant:
        message = f"{', '.join(meant)} is no table in it, as it is in the database of a vantage6 server"
        raise Error(f"{title} cannot be read: {message}")


# Opening it without a trace


def _connection(path: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    """Open the file, or where it has a log a private copy of both: SQLite would write beside it, or into it."""
    if any(Path(f"{path}{ending}").exists() and os.path.getsize(f"{path}{ending}") for ending in files.LOGS):
        conn = sqlite_connections.connect(snapshots.copied(path, stack.enter_context(files.temporary_folder())))
    else:
        if _header(path)[18:20] == snapshots.WAL_MODE:
            stack.enter_context(snapshots.held(path))  # who writes meanwhile leaves a log
        else:
            _refuse_locked(path)
        conn = sqlite_headers.immutable(path)
    return conn


def _refuse_locked(path: Path) -> None:
    """Raise an Error where another program is about to write to a file in rollback mode."""
    try:
        with contextlib.closing(
            sqlite_connections.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
        ) as conn:
            conn.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            remedy = "stop its server first, or import a backup"
            raise Locked(f"{shown(path)} is locked by a program that writes to it: {remedy}") from None
        raise


def _header(file: Path) -> bytes:
    """Return the header, which has a number that every transaction in rollback mode counts up."""
    with open(file, "rb") as opened:
        return opened.read(100)


@contextlib.contextmanager
def _damage_told(source: Source) -> Iterator[None]:
    """Have what SQLite finds damaged be told as the source's: what it is read into was just made."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_ERROR:  # our own tables have all columns that are named
            message = f"its tables are not those of a vantage6 server ({printable(error, 200)})"
            raise Error(f"{source.title} cannot be read: {message}") from error
        if code != sqlite3.SQLITE_CORRUPT:
            raise
        source.refuse_changed()
        message = f"{source.title} is damaged ({printable(error, 200)}): nothing was imported; use a backup"
        raise Damaged(message) from error
