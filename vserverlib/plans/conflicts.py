"""Compare rows of a server's database with the working copy. Each conflict is one line with both values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from vserverlib import printable
from vserverlib.databases.connection import quoted
from vserverlib.databases.registry import registry
from vserverlib.entities.fields import Secret
from vserverlib.plans import mapping
from vserverlib.plans.net_changes import NetChanges, Row
from vserverlib.plans.row_ids import Ids
from vserverlib.plans.row_reader import RowReader, is_same_secret
from vserverlib.plans.server import Server
from vserverlib.plans.writes import row_title
from vserverlib.progress_callback import Advance


class Comparison:
    """Compares rows of the working copy with rows of the server's database, read as an import reads them."""

    def __init__(self, server: Server, reader: RowReader, ids: Ids) -> None:
        self._server, self._reader, self._ids = server, reader, ids

    def conflicts(self, net: NetChanges, unchanged: Collection[str] = (), advance: Advance = bool) -> Iterator[str]:
        """Return a line for each planned row that was changed or deleted on the server since the copy.

        unchanged: the server's tables whose deleted rows did not change. Users and nodes are compared anyway, because
        their values are in several tables. advance: called with the number of compared rows.
        """
        done = 0
        yield from self.row_conflicts(net.changed)
        for entity in registry:
            if entity == "member":
                yield from self._memberships(net)
                continue
            if entity in ("task", "result") and mapping.table_of(self._server, entity) in unchanged:
                continue
            for chunk in net.deleted_rows(entity):
                yield from self.row_conflicts(chunk)
                done += len(chunk)
                advance(done)

    def row_conflicts(self, rows: Iterable[Row]) -> Iterator[str]:
        """Return a line for each of these rows that differs from its copy."""
        for row, read in self._read(rows):
            assert row.old is not None
            title = row_title(self._server.release, row)
            if read is None:
                yield f"{title} no longer exists on the server"
            elif read != row.old or not self._ids.all_equal:
                compared = set(row.changed()) if row.new else set()
                yield from self._values(row.entity, title, row.old, read, compared)

    def write_errors(self, rows: Iterable[Row]) -> Iterator[str]:
        """Return a line for each row that does not read back as it was written."""
        for row, read in self._read(row for row in rows if row.entity != "member"):
            assert row.new is not None
            title = row_title(self._server.release, row)
            if read is None:
                yield f"{title} is missing"
            else:
                compared = {name for name in row.changed() if row.new[name] is not None or row.old is not None}
                yield from self._values(row.entity, title, row.new, read, compared)

    def _read(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Mapping[str, Any] | None]]:
        """Return each row with its values on the server, None if it is missing."""
        by_entity: dict[str, list[Row]] = {}
        for row in rows:
            by_entity.setdefault(row.entity, []).append(row)
        for entity, found in by_entity.items():
            there = self._reader.rows(entity, [self._ids.theirs(entity, row.id) for row in found])
            yield from ((row, there.get(self._ids.theirs(entity, row.id))) for row in found)

    def _values(
        self, entity: str, title: str, base: Mapping[str, Any], read: Mapping[str, Any], compared: set[str]
    ) -> Iterator[str]:
        for name, before in base.items():
            if entity in mapping.AUTHENTICATED and name in mapping.HEARTBEAT and name not in compared:
                continue
            if is_secret(entity, name) and not mapping.places(self._server, entity, name):
                continue  # Keycloak has it
            now = self.as_ours(entity, name, read.get(name), before)
            if self.is_same(entity, name, before, now):
                continue
            label = mapping.label(self._server.release, name)
            if is_secret(entity, name):
                yield f"{title}: its {label} was changed on the server meanwhile"
            else:
                values = f"is {_shown(now)} on the server now, and was {_shown(before)}"
                yield f"{title}: {label} {values}"

    def is_same(self, entity: str, name: str, base: Any, read: Any) -> bool:
        """Whether a value of the copy and a value read from the server mean the same."""
        if is_secret(entity, name):
            return is_same_secret(base, read)
        return mapping.is_same(entity, name, base, read)

    def as_ours(self, entity: str, name: str, value: Any, base: Any) -> Any:
        """Return a value of the server with our ids; None for an orphan link, which an import clears."""
        field = registry[entity]._meta.columns[name]
        if value is None or field not in registry[entity]._meta.refs:
            return value
        to = field.rel_model._meta.table_name
        if base is None and self._server.one(f"SELECT 1 FROM {quoted(to)} WHERE id = ?", [value]) is None:
            return None
        return self._ids.ours(to, value)

    def _memberships(self, net: NetChanges) -> Iterator[str]:
        for organization, collaboration, _ in net.deleted_members():
            pair = self._ids.theirs("organization", organization), self._ids.theirs("collaboration", collaboration)
            if not has_member(self._server, *pair):
                what = f"membership of organization {organization} in collaboration {collaboration}"
                yield f"{what} no longer exists on the server"


def has_member(server: Server, organization: int, collaboration: int) -> bool:
    """Whether an organization is a member of a collaboration, by their ids on the server."""
    sql = 'SELECT 1 FROM "Member" WHERE organization_id = ? AND collaboration_id = ? LIMIT 1'
    return server.one(sql, [organization, collaboration]) is not None


def is_secret(entity: str, name: str) -> bool:
    """Whether a column holds secrets."""
    return isinstance(registry[entity]._meta.columns[name], Secret)


def _shown(value: Any) -> str:
    return "empty" if value is None else f'"{printable(value, 60)}"' if isinstance(value, str) else str(value)
