"""The rows that a plan writes to a server's tables: new ones, and new values, as the server's own rows have them.

Rows that are deleted are gone.py's; the statements, and their order, applying.py's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from vserverlib import named, printable
from vserverlib.databases.connection import quoted
from vserverlib.databases.registry import registry
from vserverlib.entities import progress
from vserverlib.plans import mapping, references, roles
from vserverlib.plans.gone import Gone
from vserverlib.plans.ids import Ids, New
from vserverlib.plans.net_changes import NetChanges, Row
from vserverlib.plans.roles import Given
from vserverlib.plans.server import Server

ROOT = "root"  # the user that a server looks for at each start
DEFAULTS: dict[str, dict[str, Any]] = {  # values of the server's own new rows in columns that we do not have
    "user": {"failed_login_attempts": 0, "is_service_account": False},
    "collaboration": {"session_restrict_to_same_image": False},
}
UNLOCKED: dict[str, Any] = {"failed_login_attempts": 0, "last_login_attempt": None}
OFFLINE = "offline"
IN_KEYCLOAK = {
    "user": {"password", "email", "firstname", "lastname", "ip"},
    "node": {"api_key", "ip"},
}


class Insert(NamedTuple):
    """A new row: its table and values, some of which are ids that are not known yet."""

    table: str
    values: dict[str, Any]


class Update(NamedTuple):
    """New values of a row that is there, by its id there."""

    table: str
    id: int
    values: dict[str, Any]


@dataclasses.dataclass
class Writes:
    """The rows that are written. fresh: our new rows, parents first."""

    fresh: list[New] = dataclasses.field(default_factory=list)
    inserts: list[Insert] = dataclasses.field(default_factory=list)
    updates: list[Update] = dataclasses.field(default_factory=list)

    def tables(self) -> set[str]:
        """Return the tables that are written."""
        return {each.table for each in self.inserts} | {each.table for each in self.updates}


class ServerChange(NamedTuple):
    """A change of a user that has no field of ours: the id here, a name of CHANGES, and what the user is called."""

    user: int
    what: str
    title: str


UNLOCK, RESET_TWO_FACTOR = "unlock", "reset two-factor"
CHANGES: dict[str, dict[str, Any]] = {UNLOCK: UNLOCKED, RESET_TWO_FACTOR: {"otp_secret": None}}


class Writer:
    """Collects the writes for the net changes of a working copy, and the reasons against some."""

    def __init__(self, server: Server, net: NetChanges, ids: Ids) -> None:
        self._server, self._net, self._ids = server, net, ids
        self.writes = Writes(fresh=[New(row.entity, row.id) for row in net.new])
        self.problems: list[str] = []
        self._fresh = set(self.writes.fresh)

    def collect(self, given: Iterable[Given], changes: Iterable[ServerChange], gone: Gone) -> None:
        """Collect all writes."""
        for row in self._net.new:
            self._new(row)
        for row in self._net.changed:
            self._changed(row, gone)
        for role in given:
            self.writes.inserts.append(Insert("Permission", {"role_id": role.role, "user_id": role.user}))
        for change in changes:
            self._server_change(change)

    # New rows

    def _new(self, row: Row) -> None:
        assert row.new is not None
        title, release = titled(self._server.release, row), self._server.release
        if row.entity in ("task", "result"):
            what = "nodes do not see tasks that are created in the database; post it to the server"
            return self.problems.append(f"{title} is new: {what}")
        if release >= mapping.KEYCLOAK_FROM and row.entity in mapping.JOINED:
            what = f"in release {release} its account is kept by Keycloak: make it by the server's API or its web page"
            return self.problems.append(f"{title} is new: {what}")
        values = self._values(row, [name for name in mapping.columns(row.entity) if row.new[name] is not None])
        table = mapping.table_of(self._server, row.entity)
        own = values.setdefault(table, {})
        for name, value in DEFAULTS.get(row.entity, {}).items():
            if self._server.has(table, name):
                own[name] = self._server.param(value)
        if row.entity in mapping.JOINED:
            self._new_authenticatable(row, values.pop(mapping.AUTHENTICATABLE, {}))
        if table != mapping.MEMBER:
            own["id"] = New(row.entity, row.id)
        self.writes.inserts.append(Insert(table, own))
        return None

    def _new_authenticatable(self, row: Row, values: dict[str, Any]) -> None:
        """Have a new user or node have the row that all who log in have, under the same id."""
        if row.entity == "node":
            values.setdefault("status", OFFLINE)
        values |= {"id": New(row.entity, row.id), "type": row.entity}
        self.writes.inserts.append(Insert(mapping.AUTHENTICATABLE, values))

    # Changed rows

    def _changed(self, row: Row, gone: Gone) -> None:
        title, names = titled(self._server.release, row), row.changed()
        self._refuse(row, title, names)
        id = self._ids.theirs(row.entity, row.id)
        if row.entity == "task" and "database" in names and self._server.has("taskdatabase"):
            self._databases(row, id, gone, title)
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
        if row.entity == "user" and row.old["username"] == ROOT and "username" in names:
            self.problems.append(refused_root(title, self._server.release))
        if row.entity == "result" and row.new["status"] in progress.FAILED and row.new["finished_at"] is None:
            what = "without finished_at it runs again when its node connects: set finished_at too"
            self.problems.append(f"{title}: it has failed, and {what}")

    def _databases(self, row: Row, id: int, gone: Gone, title: str) -> None:
        if self._server.release >= mapping.KEYCLOAK_FROM or not self._server.has("taskdatabase", "database"):
            what = "a task's databases belong to its session: post a new task to the server"
            return self.problems.append(f"{title}: in release {self._server.release} {what}")
        for name in roles.databases(self._server, row, id, gone):
            values = {"id": New("taskdatabase", len(self.writes.inserts)), "task_id": id, "database": name}
            self.writes.fresh.append(values["id"])  # type: ignore[arg-type]
            self.writes.inserts.append(Insert("taskdatabase", values))
        return None

    def _server_change(self, change: ServerChange) -> None:
        if New("user", change.user) in self._fresh:
            return self.problems.append(f"{change.title} is new: {change.what} is for users that the server has")
        id = self._ids.theirs("user", change.user)
        values: dict[str, dict[str, Any]] = {}
        self._extend(values, "user", CHANGES[change.what])
        self.writes.updates += [Update(table, id, columns) for table, columns in values.items()]
        return None

    def _extend(self, values: dict[str, dict[str, Any]], table: str, more: dict[str, Any]) -> None:
        known = {name: self._server.param(value) for name, value in more.items() if self._server.has(table, name)}
        if known:
            values.setdefault(table, {}).update(known)

    # Values

    def _values(self, row: Row, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the values of some columns of ours as the server has them, by table."""
        assert row.new is not None
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            if (row.entity, name) == ("user", "roles"):
                continue
            try:
                for place, value in self._placed(row, name, row.new[name]):
                    found.setdefault(place.table, {})[place.column] = value
            except mapping.Unfit as error:
                self.problems.append(f"{titled(self._server.release, row)}: {name}: {error}")
        return found

    def _placed(self, row: Row, name: str, value: Any) -> Iterator[tuple[mapping.Place, Any]]:
        release = self._server.release
        if release >= mapping.KEYCLOAK_FROM and name in IN_KEYCLOAK.get(row.entity, ()):
            raise mapping.Unfit(f"in release {release} it is kept by Keycloak: change it there")
        places = mapping.places(self._server, row.entity, name)
        if not places:
            raise mapping.Unfit(f"a server of this release has no place for it (column {row.entity}.{name})")
        if value is None and any(place.column in self._server.shape.required[place.table] for place in places):
            raise mapping.Unfit("the server does not take a row without it")
        if (to := _target(row.entity, name)) is None or value is None:
            yield from mapping.written(self._server, row.entity, name, value)
        elif New(to, value) in self._fresh:
            yield places[0], New(to, value)
        else:
            yield places[0], self._ids.theirs(to, value)


def _target(entity: str, column: str) -> str | None:
    """Return the table of ours that a column links to; None if it is no link."""
    field = registry[entity]._meta.columns[column]
    return str(field.rel_model._meta.table_name) if field in registry[entity]._meta.refs else None


def refused_root(title: str, release: int) -> str:
    """Return why the user root is neither deleted nor renamed."""
    what = f"a server of release {release} makes it anew with a known password, or does not start, where it is missing"
    return f"{title}: {what}: give it a password instead"


def titled(release: int, row: Row) -> str:
    """Return the title of a row in the server's words: user 2 "user10"."""
    values = row.old or row.new or {}
    noun = mapping.noun(release, row.entity)
    if row.entity == "result":
        return f"{noun} {row.id}" if values["task_id"] is None else f"{noun} {row.id} of task {values['task_id']}"
    if row.entity == "member":
        return f"membership of organization {values['organization_id']} in collaboration {values['collaboration_id']}"
    return named(noun, row.id, values["username" if row.entity == "user" else "name"])


# What is taken, or not there any more


def taken(server: Server, writes: Writes, gone: Gone, titles: dict[Any, str]) -> Iterator[str]:
    """Return why unique values cannot be written: another row has one that stays, or another one gets it."""
    freed = {(each.table, each.id, name) for each in writes.updates for name in each.values}
    seen: dict[tuple[str, str, Any], str] = {}
    for table, key, name, value in _unique(server, writes):
        title = titles.get((table, key), f"{table} {key}")
        if (other := seen.setdefault((table, name, value), title)) is not title:
            yield f'{title}: its {name} "{printable(value)}" is that of {other}, too'
        found = server.all(f"SELECT id FROM {quoted(table)} WHERE {quoted(name)} = ?", [value])
        for (id,) in found:
            if id != key and (table, id, name) not in freed and not _is_gone(server, gone, table, id):
                yield f'{title}: {name} "{printable(value)}" is taken by {table} {id} there'


def _unique(server: Server, writes: Writes) -> Iterator[tuple[str, Any, str, Any]]:
    rows = [(each.table, each.values.get("id"), each.values) for each in writes.inserts]
    rows += [(each.table, each.id, each.values) for each in writes.updates]
    for table, key, values in rows:
        for name in sorted(server.shape.unique[table] & values.keys() - {"id"}):
            if values[name] is not None:
                yield table, key, name, values[name]


def _is_gone(server: Server, gone: Gone, table: str, id: int) -> bool:
    return table in gone.tables and server.one(f"SELECT 1 FROM {gone.temp(table)} WHERE key = ?", [id]) is not None


def missing(server: Server, writes: Writes, titles: dict[Any, str]) -> Iterator[str]:
    """Return which links of written rows lead to rows that are not there any more."""
    links = {(link.table, link.column): link.to for link in (*server.shape.links, *references.FATES)}
    rows = [(each.table, each.values.get("id"), each.values) for each in writes.inserts]
    rows += [(each.table, each.id, each.values) for each in writes.updates]
    for table, key, values in rows:
        for name, value in values.items():
            to = links.get((table, name))
            if to is None or not isinstance(value, int) or name == "id":
                continue
            if server.one(f"SELECT 1 FROM {quoted(to)} WHERE id = ?", [value]) is None:
                yield f"{titles.get((table, key), table)}: there is no {to} {value} there any more: look again"
