"""The database of a vantage6 server as a source: which release it is of, and its rows under our names.

A server that is upgraded adds tables and columns, and removes none. So a database may hold rows of several releases:
each row is read by the newest name that has a value, and both `result` and `run` are read.

It reads databases of the releases 1 to 5, from a private copy: opened() copies a SQLite file as it is at one moment,
vantage6_postgres.py a PostgreSQL database. values.py converts the values, importer.py writes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from vserverlib import Damaged, Error, files, hashing, printable, vantage6_names
from vserverlib.databases import snapshots, sqlite_connections, sqlite_headers, texts
from vserverlib.databases.connection import quoted
from vserverlib.databases.recognition import Columns, columns_of, has, is_only_opened, release_of
from vserverlib.entities import progress
from vserverlib.files import shown
from vserverlib.transfer.sources import NO_COLUMNS, Default, Defaults, ImportNotes, Origin, Row

REMAINS = (("result", "run"), ("task.run_id", "task.job_id"), ("user.roles", "role"))  # of a release, beside a newer's
VIEWS = "SELECT name FROM sqlite_master WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL %'"
SHARED = ("ip", "last_seen", "status")  # columns of users and nodes that are in `authenticatable`
MERGED = {  # tables that are read with the rows they belong to: these columns
    "authenticatable": {"id", "type", *SHARED},
    "taskdatabase": {"id", "task_id", "database", "label", "dataframe_id", "position"},
    "role": {"id", "name"},
    "Permission": {"id", "role_id", "user_id"},
}


CLEANED = "cleanup_at"


def _same(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


_SHARED = {name: (f"authenticatable.{name}",) for name in SHARED}
_RESULT = _same(
    "id", "input", "task_id", "organization_id", "result", "assigned_at", "started_at", "finished_at", "log", "status"
) | {
    "input": vantage6_names.columns("result", "input"),
    "finished_at": ("finished_at", CLEANED),  # a run that was cleaned up had finished, whether or not that was noted
}
TABLES = (  # each with our entity, and its columns: our name, and the names there, newest first
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
            "database": ("databases.names", "database"),
        },
    ),
    ("result", "result", _RESULT),
    ("run", vantage6_names.ENTITIES["run"].here, _RESULT),
)
# The releases up to 3.5 kept no status of a result: it follows from the times. A failure that is known stays.
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
_IN_KEYCLOAK = Default(lambda row: hashing.KEYCLOAK, f"'{hashing.KEYCLOAK}'", f"COALESCE(t.{{}}, '{hashing.KEYCLOAK}')")
KEPT_IN_KEYCLOAK = {  # release 5 has no passwords and keys: the rows that come from it say where they are
    entity: {name: _IN_KEYCLOAK._replace(changed=_IN_KEYCLOAK.changed.format(name))}
    for entity, name in (("user", "password"), ("node", "api_key"))
}
NAMES = {table: columns for table, _, columns in TABLES}
READ = NAMES.keys() | MERGED.keys() | {"dataframe"}  # the other tables are only counted
ORIGINS = tuple(Origin(table, entity, tuple(columns)) for table, entity, columns in TABLES)
JOINS = {
    "authenticatable": "LEFT JOIN authenticatable ON authenticatable.id = t.id",
    "databases": (
        "LEFT JOIN (SELECT task_id, group_concat(name, ', ') AS names FROM"
        " (SELECT d.task_id, {database} AS name FROM taskdatabase AS d {dataframe} ORDER BY d.task_id, {order})"
        " GROUP BY task_id) AS databases ON databases.task_id = t.id"
    ),
    "names": (  # each role once, the oldest first
        "LEFT JOIN (SELECT user_id, group_concat(name, ', ') AS names FROM"
        ' (SELECT user_id, name FROM "Permission" JOIN role ON role.id = role_id WHERE name IS NOT NULL'
        " GROUP BY user_id, name ORDER BY user_id, MIN(role.id)) GROUP BY user_id) AS names ON names.user_id = t.id"
    ),
}
# The name of a database of a task is a label, or in release 5 the name of a dataframe.
DATABASES = (("taskdatabase.label", "d.label"), ("dataframe.name", "f.name"), ("taskdatabase.database", 'd."database"'))
DATAFRAME = "LEFT JOIN dataframe AS f ON f.id = d.dataframe_id"
STRAYS = {  # of the tables that are read with others: the rows that belong to none, and why
    "Permission": (
        "SELECT 'of user ' || COALESCE(p.user_id, 'none') || ' in role ' || COALESCE(p.role_id, 'none'), CASE"
        " WHEN u.id IS NULL THEN 'there is no such user' WHEN r.id IS NULL THEN 'there is no such role'"
        ' ELSE \'that role has no name\' END FROM "Permission" AS p LEFT JOIN "user" AS u ON u.id = p.user_id'
        " LEFT JOIN {role} AS r ON r.id = p.role_id WHERE u.id IS NULL OR r.id IS NULL OR r.name IS NULL"
    ),
    "taskdatabase": (
        "SELECT 'of task ' || COALESCE(d.task_id, 'none'), CASE WHEN t.id IS NULL THEN 'there is no such task'"
        " ELSE 'it names no database' END FROM taskdatabase AS d {dataframe} LEFT JOIN task AS t ON t.id = d.task_id"
        " WHERE t.id IS NULL OR {database} IS NULL"
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
class Vantage6Source:
    """The database of a server, open.

    title: its name in messages; named: its name in the journal. release: the newest that wrote to it; remains: what
    earlier ones left in it; is_opened: whether a server of release 5 opened it, and added only columns.
    """

    title: str
    named: str
    conn: sqlite3.Connection
    columns: Columns
    release: int
    remains: tuple[str, ...]
    is_opened: bool

    @property
    def server(self) -> str:
        """The name of the database, as `-d` takes it."""
        return "SERVER" if self.title == "stdin" or self.title.startswith("/dev/fd/") else self.title

    @property
    def defaults(self) -> Defaults:
        """The statuses of results, and in release 5 where passwords and keys are."""
        return DEFAULTS | KEPT_IN_KEYCLOAK if self.release == 5 else DEFAULTS

    @property
    def made_up(self) -> Mapping[str, Collection[str]]:
        """The times when tasks were created, which releases before 3.11 do not note: they tell no tasks apart."""
        return NO_COLUMNS if self._has("task", "created_at") else {"task": ("created_at",)}

    @property
    def sequence_state(self) -> None:
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
        """Return one line about the kind and the release of the source."""
        earlier = f", with what earlier releases left in it ({', '.join(self.remains)})" if self.remains else ""
        opened = ", which a server of release 5 has opened" if self.is_opened else ""
        return f"{self.title} is the database of a vantage6 server, release {self.release}{opened}{earlier}"

    def accounts(self) -> list[tuple[int, int, str | None, bool]] | None:
        """Return the log-ins that server_accounts.py notes: (user, *Account); None if the server has none."""
        names = ("failed_login_attempts", "last_login_attempt", "otp_secret")
        if not all(self._has("user", name) for name in names):
            return None
        sql = f'SELECT id, {", ".join(names)} FROM "user" WHERE failed_login_attempts > 0 OR otp_secret IS NOT NULL'
        return [
            (id, failed if isinstance(failed, int) else 0, None if last is None else str(last), secret is not None)
            for id, failed, last, secret in self.conn.execute(sql)
        ]

    def refuse_changed(self) -> None:
        """Do nothing: it is read from a copy of one moment."""

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self.conn.execute(f"SELECT COUNT(*) FROM {quoted(table)}").fetchone()[0])

    def rows(self, origin: Origin, notes: ImportNotes) -> Iterator[Row]:
        """Return the rows of a table, with the values that are computed from several of theirs."""
        rows = self._stored(origin)
        if origin.table == "run":
            self._note_cleaned(notes)
            return _new_ids(rows, self.taken_run_ids(), notes)
        if origin.table == "result":
            return _once(rows, self.doubled(), notes)
        return _roles(rows, origin.columns.index("roles")) if origin.table == "user" else rows

    def _note_cleaned(self, notes: ImportNotes) -> None:
        """Count the runs whose only known end is their clean-up."""
        if self._has("run", CLEANED):
            cleaned = f"SELECT COUNT(*) FROM run WHERE {_time('finished_at')} IS NULL AND {_time(CLEANED)} IS NOT NULL"
            if count := self.conn.execute(cleaned).fetchone()[0]:
                notes.values[f"run.finished_at, it had none and got its {CLEANED}"] = count

    def _stored(self, origin: Origin) -> Iterator[Row]:
        """Return the rows of a table as they are stored."""
        parts = [self._value(origin.table, NAMES[origin.table][name]) for name in origin.columns]
        joined = [join for table, join in JOINS.items() if any(f"{table}." in part for part in parts)]
        joins = " ".join(joined).format_map(self._parts())
        order = " ORDER BY t.id" if "id" in self.columns[origin.table] else ""
        return self.conn.execute(f"SELECT {', '.join(parts)} FROM {quoted(origin.table)} AS t {joins}{order}")

    def _value(self, table: str, names: tuple[str, ...]) -> str:
        """Return the SQL of a value: that of the first of its names that has one."""
        places = [name.rpartition(".") for name in names]
        known = [(at or "t", name) for at, _, name in places if self._has(at or table, name)]
        parts = ", ".join(map(_time if CLEANED in names else str, (f"{at}.{quoted(name)}" for at, name in known)))
        return f"COALESCE({parts})" if len(known) > 1 else parts or "NULL"

    def _parts(self) -> dict[str, str]:
        """Return the parts of JOINS and STRAYS that differ between releases."""
        names = [sql for mark, sql in DATABASES if has(self.columns, mark)]
        return {
            "database": f"COALESCE({', '.join(names)}, NULL)",
            "dataframe": DATAFRAME if "dataframe" in self.columns else "",
            "order": "d.position, d.id" if self._has("taskdatabase", "position") else "d.id",
            "role": "role" if "role" in self.columns else NO_ROLES,
        }

    def _has(self, table: str, name: str) -> bool:
        if table == "names":
            return {"role", "Permission"} <= self.columns.keys()
        if table == "databases":
            return "taskdatabase" in self.columns
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

    def orphan_rows(self, notes: ImportNotes) -> dict[str, int]:
        """Note the rows of tables that are read with others, and belong to none of these; return how many, by table."""
        parts, before = self._parts(), notes.left_out.total
        found: dict[str, int] = {}
        for table in sorted(STRAYS.keys() & self.columns.keys()):
            for named, reason in self.conn.execute(STRAYS[table].format_map(parts)):
                notes.left_out.add(f"{table} {printable(named)} is left out: {reason}")
            found[table] = notes.left_out.total - before - sum(found.values())
        return {table: count for table, count in found.items() if count}

    def unmapped_tables(self) -> dict[str, int]:
        """Return the tables with rows that have no place in ours, and how many rows: of roles, those without users."""
        counts = {table: self.count(table) for table in sorted(self.columns.keys() - NAMES.keys() - MERGED.keys())}
        if "role" in self.columns:
            is_asked = "Permission" in self.columns
            counts["role"] = self.conn.execute(UNUSED_ROLES).fetchone()[0] if is_asked else self.count("role")
        return {table: count for table, count in counts.items() if count}

    def lost_columns(self) -> dict[str, int]:
        """Return the columns that have no place in ours, and in how many rows each has a value other than 0 or ""."""
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
    """Return the SQL of a time: NULL for an empty text."""
    return f"CASE WHEN TRIM({place}) <> '' THEN {place} END"


# Rows that change on the way


def _new_ids(rows: Iterable[Row], taken: Iterator[tuple[int, int]], notes: ImportNotes) -> Iterator[Row]:
    """Give a run a new id if a result has its id. Both come by their ids, the lowest first."""
    nothing = (None, None)
    old, new = next(taken, nothing)
    for row in rows:
        if old is not None and row[0] == old:
            notes.renumbered.add(f"run {old} is result {new} here: there is a result {old} too")
            yield (new, *row[1:])
            old, new = next(taken, nothing)
        else:
            yield row


def _once(rows: Iterable[Row], doubled: Iterator[int], notes: ImportNotes) -> Iterator[Row]:
    """Leave out the results that are also runs: the run has what the server did with it since."""
    double = next(doubled, None)
    for row in rows:
        if double is not None and row[0] == double:
            notes.doubled.add(f"result {double} is run {double}: somebody copied it, and it is kept once")
            double = next(doubled, None)
        else:
            yield row


def _roles(rows: Iterable[Row], place: int) -> Iterator[Row]:
    """Write the list of roles that release 1 kept as that of later releases."""
    for row in rows:
        names = [name.strip() for name in str(row[place] or "").split(",") if name.strip()]
        yield (*row[:place], ", ".join(names) or None, *row[place + 1 :])


# Opening a file


@contextlib.contextmanager
def opened(path: Path, named: Path | None = None) -> Iterator[Vantage6Source]:
    """Open a private copy of the database of a server, as it is at one moment.

    named: its name in messages. Raises an Error if it is something else, damaged, locked, or changes all the time.
    """
    named = named or path
    title = shown(named)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(files.temporary_folder())
        with files.as_error(f"{title} cannot be read"):
            _refuse_cut_off(path)
        with files.as_error(f"{title} cannot be copied to {shown(folder)}"):
            copy = snapshots.copied(files.real(path), folder, title)
        with files.as_error(f"{title} cannot be read"):
            conn = stack.enter_context(contextlib.closing(sqlite_connections.connect(copy)))
            source = source_of(conn, title, printable(named.name))
        stack.enter_context(_damage_as_error(source))
        yield source


def source_of(conn: sqlite3.Connection, title: str, named: str) -> Vantage6Source:
    """Return the source in an open database that nobody else writes to; an Error if it is not a server's."""
    conn.text_factory = texts.text_or_bytes
    columns = columns_of(conn)
    release = release_of(title, columns)
    is_opened = release == 5 and is_only_opened(conn, columns)
    if is_opened:
        release = release_of(title, columns, newest=4)
    refuse_views(title, {name for (name,) in conn.execute(VIEWS)})
    remains = tuple(old for old, new in REMAINS if has(columns, old) and has(columns, new))
    return Vantage6Source(title, named, conn, columns, release, remains, is_opened)


def _refuse_cut_off(path: Path) -> None:
    with open(path, "rb") as file:
        header, size = sqlite_headers.read_header(file.read(100)), os.fstat(file.fileno()).st_size
    if header is None:
        raise Error(f"{shown(path)} is not a SQLite database")
    sqlite_headers.refuse_cut_off(path, header, size)


def refuse_views(title: str, others: set[str]) -> None:
    """Raise an Error if something else than a table has the name of one: its rows would be left out silently."""
    meant = sorted(others & READ)
    if meant:
        message = f"{', '.join(meant)} is no table in it, as it is in the database of a vantage6 server"
        raise Error(f"{title} cannot be read: {message}")


@contextlib.contextmanager
def _damage_as_error(source: Vantage6Source) -> Iterator[None]:
    """Report damage that SQLite finds as damage of the source: the database that it is read into is new."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_ERROR:  # our own tables have all columns that are named
            message = f"its tables are not those of a vantage6 server ({printable(error, 200)})"
            raise Error(f"{source.title} cannot be read: {message}") from error
        if code != sqlite3.SQLITE_CORRUPT:
            raise
        message = f"{source.title} is damaged ({printable(error, 200)}): nothing was imported; use a backup"
        raise Damaged(message) from error
