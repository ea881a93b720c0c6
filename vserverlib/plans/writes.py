"""The rows that a plan inserts and updates in a server's tables.

deleted_rows.py has the rows to delete; execution.py the statements and their order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from vserverlib import named, printable
from vserverlib.databases.connection import quoted
from vserverlib.databases.registry import registry
from vserverlib.entities import progress
from vserverlib.plans import mapping, references, refusals, roles
from vserverlib.plans.deleted_rows import DeletedRows
from vserverlib.plans.net_changes import NetChanges, Row
from vserverlib.plans.roles import GrantedRole
from vserverlib.plans.row_ids import Ids, New
from vserverlib.plans.server import Server

DEFAULTS: dict[str, dict[str, Any]] = {  # of new rows, in columns that we do not have
    "user": {"failed_login_attempts": 0, "is_service_account": False},
    "collaboration": {"session_restrict_to_same_image": False},
}
UNLOCKED: dict[str, Any] = {"failed_login_attempts": 0, "last_login_attempt": None}
OFFLINE = "offline"


class Insert(NamedTuple):
    """A new row: its table and values. A New is the id of another new row."""

    table: str
    values: dict[str, Any]


class Update(NamedTuple):
    """New values of a row, by its id on the server."""

    table: str
    id: int
    values: dict[str, Any]


@dataclasses.dataclass
class Writes:
    """The rows to write. new_rows: new rows that need an id, parents first."""

    new_rows: list[New] = dataclasses.field(default_factory=list)
    inserts: list[Insert] = dataclasses.field(default_factory=list)
    updates: list[Update] = dataclasses.field(default_factory=list)

    def tables(self) -> set[str]:
        """Return the tables to write."""
        return {each.table for each in self.inserts} | {each.table for each in self.updates}


class ServerChange(NamedTuple):
    """A change of a user that has no field of ours: the user's id here, a key of CHANGES, and the user's title."""

    user: int
    what: str
    title: str


UNLOCK, RESET_TWO_FACTOR = "unlock", "reset two-factor"
CHANGES: dict[str, dict[str, Any]] = {UNLOCK: UNLOCKED, RESET_TWO_FACTOR: {"otp_secret": None}}


def is_needed(server: Server, ids: Ids, change: ServerChange) -> bool:
    """Whether a server-only change changes anything: a user may not be locked out at all."""
    wanted = CHANGES[change.what]
    if not all(server.has("user", name) for name in wanted):
        return True  # which the Writer refuses
    sql = f'SELECT {", ".join(map(quoted, wanted))} FROM "user" WHERE id = {server.placeholder(0)}'
    row = server.one(sql, [ids.theirs("user", change.user)])
    return row is None or any(
        (value or None) != (there or None) for value, there in zip(wanted.values(), row, strict=True)
    )


class Writer:
    """Collects the writes for the net changes of a working copy, and the problems of those that are refused."""

    def __init__(self, server: Server, net: NetChanges, ids: Ids) -> None:
        self._server, self._net, self._ids = server, net, ids
        self.writes = Writes(new_rows=[New(row.entity, row.id) for row in net.new])
        self.problems: list[str] = []
        self._new_rows = set(self.writes.new_rows)

    def collect(self, granted: Iterable[GrantedRole], changes: Iterable[ServerChange], deleted: DeletedRows) -> None:
        """Collect all writes."""
        for row in self._net.new:
            self._new(row)
        for row in self._net.changed:
            self._changed(row, deleted)
        for role in granted:
            self.writes.inserts.append(Insert("Permission", {"role_id": role.role, "user_id": role.user}))
        for change in changes:
            self._server_change(change)

    # New rows

    def _new(self, row: Row) -> None:
        assert row.new is not None
        title, release = row_title(self._server.release, row), self._server.release
        if refused := list(refusals.of_new(release, row.entity, title, row.new)):
            self.problems += refused
            return
        values = self._values(row, [name for name in mapping.columns(row.entity) if row.new[name] is not None])
        table = mapping.table_of(self._server, row.entity)
        own = values.setdefault(table, {})
        for name, value in DEFAULTS.get(row.entity, {}).items():
            if self._server.has(table, name):
                own[name] = self._server.param(value)
        if row.entity in mapping.AUTHENTICATED:
            self._new_authenticatable(row, values.pop(mapping.AUTHENTICATABLE, {}))
        if table != mapping.MEMBER:
            own["id"] = New(row.entity, row.id)
        self.writes.inserts.append(Insert(table, own))

    def _new_authenticatable(self, row: Row, values: dict[str, Any]) -> None:
        """Add the row of `authenticatable` with the same id, which users and nodes have."""
        if row.entity == "node":
            values.setdefault("status", OFFLINE)
        values |= {"id": New(row.entity, row.id), "type": row.entity}
        self.writes.inserts.append(Insert(mapping.AUTHENTICATABLE, values))

    # Changed rows

    def _changed(self, row: Row, deleted: DeletedRows) -> None:
        title, names = row_title(self._server.release, row), row.changed()
        self._refuse(row, title, names)
        names = [name for name in names if not self._is_in_keycloak(row.entity, name)]
        id = self._ids.theirs(row.entity, row.id)
        if row.entity == "task" and "database" in names and self._server.has("taskdatabase"):
            self._databases(row, id, deleted, title)
            names.remove("database")
        names = [name for name in names if (row.entity, name) != ("user", "roles")]
        values = self._values(row, names)
        if "password" in names:
            self._extend(values, "user", UNLOCKED)
        for table, columns in values.items():
            self.writes.updates.append(Update(table, id, columns))

    def _refuse(self, row: Row, title: str, names: list[str]) -> None:
        assert row.old is not None
        assert row.new is not None
        self.problems += refusals.of_changed(self._server.release, row.entity, title, names, row.old, row.new)
        if row.entity == "result" and row.new["status"] in progress.FAILED and row.new["finished_at"] is None:
            what = "runs again when its node connects: set finished_at too"
            self.problems.append(f"{title}: a failed result without finished_at {what}")

    def _is_in_keycloak(self, entity: str, name: str) -> bool:
        return self._server.release >= mapping.KEYCLOAK_FROM and name in refusals.IN_KEYCLOAK.get(entity, ())

    def _databases(self, row: Row, id: int, deleted: DeletedRows, title: str) -> None:
        if self._server.release >= mapping.KEYCLOAK_FROM or not self._server.has("taskdatabase", "database"):
            what = "a task's databases belong to its session: create a new task with the server's API"
            return self.problems.append(f"{title}: in release {self._server.release} {what}")
        for name in roles.added_databases(self._server, row, id, deleted):
            values = {"id": New("taskdatabase", len(self.writes.inserts)), "task_id": id, "database": name}
            self.writes.new_rows.append(values["id"])  # type: ignore[arg-type]
            self.writes.inserts.append(Insert("taskdatabase", values))
        return None

    def _server_change(self, change: ServerChange) -> None:
        if New("user", change.user) in self._new_rows:
            return self.problems.append(
                f"{change.title} is new: {change.what} is only for users that exist on the server"
            )
        values: dict[str, dict[str, Any]] = {}
        self._extend(values, "user", CHANGES[change.what])
        if missing := CHANGES[change.what].keys() - values.get("user", {}).keys():
            columns = ", ".join(f"user.{name}" for name in sorted(missing))
            return self.problems.append(f"{change.title}: {change.what} is not possible: the server has no {columns}")
        id = self._ids.theirs("user", change.user)
        self.writes.updates += [Update(table, id, columns) for table, columns in values.items()]
        return None

    def _extend(self, values: dict[str, dict[str, Any]], table: str, more: dict[str, Any]) -> None:
        known = {name: self._server.param(value) for name, value in more.items() if self._server.has(table, name)}
        if known:
            values.setdefault(table, {}).update(known)

    # Values

    def _values(self, row: Row, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the values of some columns as the server stores them, by table."""
        assert row.new is not None
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            if (row.entity, name) == ("user", "roles"):
                continue
            try:
                for place, value in self._server_values(row, name, row.new[name]):
                    found.setdefault(place.table, {})[place.column] = value
            except mapping.InvalidValue as error:
                self.problems.append(f"{row_title(self._server.release, row)}: {name}: {error}")
        return found

    def _server_values(self, row: Row, name: str, value: Any) -> Iterator[tuple[mapping.Place, Any]]:
        release = self._server.release
        places = mapping.places(self._server, row.entity, name)
        if not places:
            raise mapping.InvalidValue(f"release {release} has no column for {row.entity}.{name}: undo this change")
        if value is None and any(place.column in self._server.schema.required[place.table] for place in places):
            raise mapping.InvalidValue("the server requires a value: set one")
        if (to := _target(row.entity, name)) is None or value is None:
            yield from mapping.server_values(self._server, row.entity, name, value)
        elif New(to, value) in self._new_rows:
            yield places[0], New(to, value)
        else:
            yield places[0], self._ids.theirs(to, value)


def _target(entity: str, column: str) -> str | None:
    """Return the table of ours that a column links to; None if it is not a link."""
    field = registry[entity]._meta.columns[column]
    return str(field.rel_model._meta.table_name) if field in registry[entity]._meta.refs else None


def row_title(release: int, row: Row) -> str:
    """Return the title of a row, in the terms of a release, such as: user 2 "user10"."""
    values = row.old or row.new or {}
    noun = mapping.noun(release, row.entity)
    if row.entity == "result":
        return f"{noun} {row.id}" if values["task_id"] is None else f"{noun} {row.id} of task {values['task_id']}"
    if row.entity == "member":
        return f"membership of organization {values['organization_id']} in collaboration {values['collaboration_id']}"
    return named(noun, row.id, values["username" if row.entity == "user" else "name"])


# Unique values and links


def unique_conflicts(server: Server, writes: Writes, deleted: DeletedRows, titles: dict[Any, str]) -> Iterator[str]:
    """Return the unique values that cannot be written because another row has or gets them."""
    freed = {(each.table, each.id, name) for each in writes.updates for name in each.values}
    seen: dict[tuple[str, str, Any], str] = {}
    for table, key, name, value in _unique(server, writes):
        title = titles.get((table, key), f"{table} {key}")
        if (other := seen.setdefault((table, name, value), title)) is not title:
            yield f'{title}: {name} "{printable(value)}" is also that of {other}: choose another one'
        found = server.all(f"SELECT id FROM {quoted(table)} WHERE {quoted(name)} = ?", [value])
        for (id,) in found:
            if id != key and (table, id, name) not in freed and not _is_deleted(server, deleted, table, id):
                yield f'{title}: {name} "{printable(value)}" is taken by {table} {id} on the server: choose another one'


def _unique(server: Server, writes: Writes) -> Iterator[tuple[str, Any, str, Any]]:
    rows = [(each.table, each.values.get("id"), each.values) for each in writes.inserts]
    rows += [(each.table, each.id, each.values) for each in writes.updates]
    for table, key, values in rows:
        for name in sorted(server.schema.unique[table] & values.keys() - {"id"}):
            if values[name] is not None:
                yield table, key, name, values[name]


def _is_deleted(server: Server, deleted: DeletedRows, table: str, id: int) -> bool:
    return (
        table in deleted.tables and server.one(f"SELECT 1 FROM {deleted.temp(table)} WHERE key = ?", [id]) is not None
    )


def missing_targets(server: Server, writes: Writes, titles: dict[Any, str]) -> Iterator[str]:
    """Return the links of written rows to rows that no longer exist."""
    links = {(link.table, link.column): link.to for link in (*server.schema.links, *references.RULES)}
    rows = [(each.table, each.values.get("id"), each.values) for each in writes.inserts]
    rows += [(each.table, each.id, each.values) for each in writes.updates]
    for table, key, values in rows:
        for name, value in values.items():
            to = links.get((table, name))
            if to is None or not isinstance(value, int) or name == "id":
                continue
            if server.one(f"SELECT 1 FROM {quoted(to)} WHERE id = ?", [value]) is None:
                yield f"{titles.get((table, key), table)}: {to} {value} no longer exists on the server"
