"""Describe a plan: the title and fields of each row. notes.py has the notes on side effects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vserverlib import printable
from vserverlib.databases.registry import registry
from vserverlib.plans import conflicts, mapping, writes
from vserverlib.plans.change import CHANGED, DELETED, NEW, Change, Field
from vserverlib.plans.deleted_rows import DeletedRows
from vserverlib.plans.net_changes import NetChanges, Root, Row
from vserverlib.plans.server import Server
from vserverlib.plans.writes import ServerChange, row_title

LOCK_LIFTED = "unlocks the user"
SERVER_LABELS = {writes.UNLOCK: "lock-out", writes.RESET_TWO_FACTOR: "two-factor"}
ON, OFF = "on", "off"


class Describer:
    """Describes the rows of a plan, in the terms of the server's release."""

    def __init__(self, server: Server, net: NetChanges) -> None:
        self._server, self._net, self.release = server, net, server.release

    def change(self, kind: str, row: Row, fields: Sequence[Field] = (), **more: Any) -> Change:
        """Return the description of a row."""
        noun = mapping.noun(self.release, row.entity)
        return Change(kind, row.entity, row.id, noun, self.title(row), tuple(fields), **more)

    def title(self, row: Row) -> str:
        """Return the title of a row; for a membership, the names of both sides."""
        if row.entity != "member":
            return row_title(self.release, row)
        values = row.old or row.new or {}
        return (
            f"membership of {self._target_name('organization', values)} in {self._target_name('collaboration', values)}"
        )

    def _target_name(self, entity: str, values: dict[str, Any]) -> str:
        """Return the name of a link's target, or its id if it has no name."""
        id = values[f"{entity}_id"]
        row = {} if id is None else self._net.new_row(entity, id) or self._net.old_row(entity, id) or {}
        return f'"{printable(row["name"], 60)}"' if row.get("name") else f"{entity} {id}"

    def fields(self, row: Row) -> Iterator[Field]:
        """Return the fields of a row that are new or changed."""
        assert row.new is not None
        names = row.changed() if row.old is not None else [name for name in row.new if row.new[name] is not None]
        if row.entity == "member":
            return
        for name in names:
            label = mapping.label(self.release, name)
            if conflicts.is_secret(row.entity, name):
                note = LOCK_LIFTED if name == "password" and row.old is not None else ""
                had_one = row.old is not None and row.old[name] is not None
                yield Field(name, label, had_one, row.new[name] is not None, is_secret=True, note=note)
            else:
                old = None if row.old is None else self._value(row.entity, name, row.old[name])
                yield Field(name, label, old, self._value(row.entity, name, row.new[name]))

    def _value(self, entity: str, name: str, value: Any) -> Any:
        """Return a value as it is shown and printed as JSON; for a link, the name and id of its target."""
        field = registry[entity]._meta.columns[name]
        if field in registry[entity]._meta.refs and value is not None:
            return self._linked(field.rel_model._meta.table_name, value)
        read = field.decode(value)
        if value is None or isinstance(read, str | int | bool):
            return read
        return value.replace("+00:00", "Z").replace(".000000", "") if isinstance(value, str) else str(value)

    def _linked(self, entity: str, id: int) -> str:
        """Return the target of a link, such as "KYOTO" (2), or "KYOTO" (new) for a new row."""
        row, base = self._net.new_row(entity, id), self._net.old_row(entity, id)
        name, place = (row or base or {}).get("name"), id if base else "new"
        return str(place) if name is None else f'"{name}" ({place})'


def changes(
    server: Server, net: NetChanges, server_changes: Iterable[ServerChange], deleted: DeletedRows
) -> Iterator[Change]:
    """Return the changes of a plan, in the order of the entities: changed, new, deleted."""
    describer, expected = Describer(server, net), _expected_ids(server, net)
    own: dict[int, list[ServerChange]] = {}
    for change in server_changes:
        own.setdefault(change.user, []).append(change)
    for row in net.changed:
        more = own.pop(row.id, []) if row.entity == "user" else []
        yield describer.change(CHANGED, row, [*describer.fields(row), *map(_server_field, more)])
    for user, found in own.items():
        yield Change(CHANGED, "user", user, "user", found[0].title, tuple(map(_server_field, found)))
    for row in net.new:
        yield describer.change(NEW, row, list(describer.fields(row)), server_id=expected.get((row.entity, row.id)))
    yield from _deleted(server, net, deleted, describer)


def _server_field(change: ServerChange) -> Field:
    return Field(change.what, SERVER_LABELS[change.what], ON, OFF)


def _expected_ids(server: Server, net: NetChanges) -> dict[tuple[str, int], int]:
    """Return the ids that new rows will probably get on the server; nothing on PostgreSQL, where they are unknown."""
    if not server.is_sqlite:
        return {}
    found = {}
    for table in ("organization", "collaboration", mapping.AUTHENTICATABLE):
        rows = [row for row in net.new if id_table(row.entity) == table]
        for row, id in zip(rows, server.next_ids(table, len(rows)), strict=True):
            found[row.entity, row.id] = id
    return found


def id_table(entity: str) -> str:
    """Return the server's table that determines the ids of new rows of an entity."""
    return mapping.AUTHENTICATABLE if entity in mapping.AUTHENTICATED else entity


def _deleted(server: Server, net: NetChanges, deleted: DeletedRows, describer: Describer) -> Iterator[Change]:
    of_ours = {entity: net.counts(entity) for entity in mapping.ENTITIES}
    ours = {mapping.table_of(server, entity) for entity in mapping.ENTITIES} | {mapping.AUTHENTICATABLE}
    theirs = {table: deleted.counts(table) for table in deleted.tables if table not in ours}
    emptied = {f"{link.table}.{link.column}": deleted.cleared_counts(link) for link in deleted.cleared_links}
    for root in net.roots:
        yield describer.change(
            DELETED,
            root.row,
            dependents=tuple(_dependents(describer.release, root, of_ours)),
            theirs=tuple((table, counts[root.number]) for table, counts in theirs.items() if root.number in counts),
            emptied=tuple((name, counts[root.number]) for name, counts in emptied.items() if root.number in counts),
        )


def _dependents(release: int, root: Root, counts: dict[str, dict[int, int]]) -> Iterator[tuple[str, int]]:
    for entity, by_root in counts.items():
        count = by_root.get(root.number, 0) - (entity == root.row.entity)
        if count:
            yield mapping.noun(release, entity), count
