"""Whether rows of a server's database are as they were copied; a conflict is a line with both values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from vserverlib import printable
from vserverlib.databases.connection import quoted
from vserverlib.databases.registry import registry
from vserverlib.entities.fields import Secret
from vserverlib.plans import mapping
from vserverlib.plans.ids import Ids
from vserverlib.plans.judge import Judge, is_same_secret
from vserverlib.plans.net_changes import NetChanges, Row
from vserverlib.plans.server import Server
from vserverlib.plans.writes import titled


class Comparison:
    """Compares rows of ours with those of a server's database, as an import would write them."""

    def __init__(self, server: Server, judge: Judge, ids: Ids) -> None:
        self._server, self._judge, self._ids = server, judge, ids

    def of(self, net: NetChanges, same: Collection[str] = ()) -> Iterator[str]:
        """Return a line for each row that was changed or deleted there since it was copied.

        same: the server's tables whose deleted rows are known to be as they were. Of users and nodes, rows of other
        tables are read, too.
        """
        yield from self.rows(net.changed)
        for entity in registry:
            if entity == "member":
                yield from self._memberships(net)
                continue
            if entity in ("task", "result") and mapping.table_of(self._server, entity) in same:
                continue
            for chunk in net.gone_rows(entity):
                yield from self.rows(chunk)

    def rows(self, rows: Iterable[Row]) -> Iterator[str]:
        """Return a line for each of these rows that is not as it was."""
        for row, read in self._read(rows):
            assert row.old is not None
            title = titled(self._server.release, row)
            if read is None:
                yield f"{title} is not there any more: look again"
            elif read != row.old or not self._ids.are_alike:
                watched = set(row.changed()) if row.new else set()
                yield from self._values(row.entity, title, row.old, read, watched)

    def written(self, rows: Iterable[Row]) -> Iterator[str]:
        """Return a line for each row that does not read back as it is here."""
        for row, read in self._read(row for row in rows if row.entity != "member"):
            assert row.new is not None
            title = titled(self._server.release, row)
            if read is None:
                yield f"{title} is missing"
            else:
                watched = {name for name in row.changed() if row.new[name] is not None or row.old is not None}
                yield from self._values(row.entity, title, row.new, read, watched)

    def _read(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Mapping[str, Any] | None]]:
        """Return each row with the values read there, None if it is missing."""
        by_entity: dict[str, list[Row]] = {}
        for row in rows:
            by_entity.setdefault(row.entity, []).append(row)
        for entity, found in by_entity.items():
            there = self._judge.rows(entity, [self._ids.theirs(entity, row.id) for row in found])
            yield from ((row, there.get(self._ids.theirs(entity, row.id))) for row in found)

    def _values(
        self, entity: str, title: str, base: Mapping[str, Any], read: Mapping[str, Any], watched: set[str]
    ) -> Iterator[str]:
        for name, before in base.items():
            if entity in mapping.JOINED and name in mapping.HEARTBEAT and name not in watched:
                continue
            if is_secret(entity, name) and not mapping.places(self._server, entity, name):
                continue  # Keycloak has it
            now = self.as_ours(entity, name, read.get(name), before)
            if self.is_same(entity, name, before, now):
                continue
            label = mapping.label(self._server.release, name)
            if is_secret(entity, name):
                yield f"{title}: its {label} was changed there since: look again"
            else:
                yield f"{title}: {label} is {_shown(now)} there by now, and was {_shown(before)}: look again"

    def is_same(self, entity: str, name: str, base: Any, read: Any) -> bool:
        """Whether a value of ours and one that was read are the same."""
        if is_secret(entity, name):
            return is_same_secret(base, read)
        return mapping.is_same(entity, name, base, read)

    def as_ours(self, entity: str, name: str, value: Any, base: Any) -> Any:
        """Return a read value with our ids; None for a link that leads nowhere, which an import empties."""
        field = registry[entity]._meta.columns[name]
        if value is None or field not in registry[entity]._meta.refs:
            return value
        to = field.rel_model._meta.table_name
        if base is None and self._server.one(f"SELECT 1 FROM {quoted(to)} WHERE id = ?", [value]) is None:
            return None
        return self._ids.ours(to, value)

    def _memberships(self, net: NetChanges) -> Iterator[str]:
        for organization, collaboration, _ in net.gone_pairs():
            pair = self._ids.theirs("organization", organization), self._ids.theirs("collaboration", collaboration)
            if not has_member(self._server, *pair):
                what = f"membership of organization {organization} in collaboration {collaboration}"
                yield f"{what} is not there any more: look again"


def has_member(server: Server, organization: int, collaboration: int) -> bool:
    """Whether an organization takes part in a collaboration, by their ids there."""
    sql = 'SELECT 1 FROM "Member" WHERE organization_id = ? AND collaboration_id = ? LIMIT 1'
    return server.one(sql, [organization, collaboration]) is not None


def is_secret(entity: str, name: str) -> bool:
    """Whether a column holds hashes of secrets."""
    return isinstance(registry[entity]._meta.columns[name], Secret)


def _shown(value: Any) -> str:
    return "empty" if value is None else f'"{printable(value, 60)}"' if isinstance(value, str) else str(value)
