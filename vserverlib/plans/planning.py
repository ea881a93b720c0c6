"""Compute a plan: translate the changes of a working copy into changes of the server's database.

Reads the server's database and writes only TEMP tables. Raises Refused with one line for each row that cannot be
written: the row was changed on the server meanwhile, its release keeps the value elsewhere, the name is taken.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from vserverlib import pluralize, printable
from vserverlib.plans import conflicts, describing, mapping, notes, references, refusals, roles, writes
from vserverlib.plans.conflicts import Comparison
from vserverlib.plans.deleted_rows import DeletedRows, id_list
from vserverlib.plans.net_changes import NetChanges, Row
from vserverlib.plans.plan import Conflict, Plan, Refused
from vserverlib.plans.references import Link
from vserverlib.plans.row_ids import Ids, New
from vserverlib.plans.row_reader import RowReader
from vserverlib.plans.server import Server
from vserverlib.plans.writes import ServerChange, Writer, Writes, row_title
from vserverlib.transfer.sources import ProgressBar, no_progress_bar

TRIES = 3  # to plan without another program writing meanwhile
NO_FINGERPRINTS: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass
class PlannedWrites:
    """A plan with the rows to write and to delete.

    orphan_links, bulk_links, fingerprints: see DeletedRows. version: of the database that the plan was computed for.
    """

    plan: Plan
    writes: Writes
    deleted: DeletedRows
    net: NetChanges
    reader: RowReader
    orphan_links: dict[str, list[int]]
    bulk_links: dict[Link, int]
    fingerprints: dict[str, Any]
    version: Any


@dataclasses.dataclass(frozen=True)
class PlanHeader:
    """The parts of a plan that do not depend on its changes: see Plan."""

    server: str
    copied_at: Any
    folder: Any


def compute_unlocked(
    server: Server,
    net: NetChanges,
    changes: Iterable[ServerChange],
    ids: Ids,
    header: PlanHeader,
    bar: ProgressBar = no_progress_bar,
) -> PlannedWrites:
    """Compute the plan without a lock; on SQLite again if another program wrote meanwhile. Raises Refused."""
    changes, known_fingerprints = list(changes), NO_FINGERPRINTS
    for _ in range(TRIES if server.is_sqlite else 1):
        version = server.version()
        with server.reading():
            planned = compute(server, net, changes, ids, header, known_fingerprints, bar)
        known_fingerprints = planned.fingerprints
        if server.version() == version:
            break
    return dataclasses.replace(planned, version=version)


def compute(
    server: Server,
    net: NetChanges,
    changes: Iterable[ServerChange],
    ids: Ids,
    header: PlanHeader,
    known_fingerprints: Mapping[str, Any] = NO_FINGERPRINTS,
    bar: ProgressBar = no_progress_bar,
) -> PlannedWrites:
    """Compute the plan for the current state of the server's database. Raises Refused.

    known_fingerprints: of an earlier plan. Deleted rows with the same fingerprint are not compared again.
    """
    if table := mapping.missing_table(server.release, server.schema.columns):
        raise Refused([f"{server.title} no longer has the table {table}: nothing was written; restore a backup"])
    changes = [each for each in changes if net.new_row("user", each.user) and writes.is_needed(server, ids, each)]
    deleted, reader = DeletedRows(server), RowReader(server)
    new_rows = {New(row.entity, row.id) for row in net.new}
    _refuse(_of_users(server, net))
    granted = roles.collect(server, (row for row in (*net.new, *net.changed) if row.entity == "user"), ids, new_rows)
    _collect_deleted(deleted, net, ids)
    bulk_links, fingerprints = deleted.bulk_links(), deleted.fingerprints()
    unchanged = {table for table, found in fingerprints.items() if found == known_fingerprints.get(table)}
    with bar("deleted rows", net.deleted_total()) as advance:
        _refuse(Comparison(server, reader, ids).conflicts(net, unchanged, advance), Conflict)
    writer = Writer(server, net, ids)
    writer.collect(granted, changes, deleted)
    roles.delete_revoked(deleted, server)
    titles = _titles(server, net, ids)
    _refuse(writer.problems)
    _refuse(_new_members(server, net, writer.writes), Conflict)
    _refuse(_added_rows(server, deleted, net, ids), Conflict)
    _refuse(_blocking_rows(server, deleted, net, ids))
    _refuse(writes.missing_targets(server, writer.writes, titles), Conflict)
    _refuse(writes.unique_conflicts(server, writer.writes, deleted, titles))
    plan = Plan(
        server=header.server,
        release=server.release,
        copied_at=header.copied_at,
        changes=tuple(describing.changes(server, net, changes, deleted)),
        notes=tuple(notes.of_plan(server, net, changes, deleted, bulk_links)),
        folder=header.folder,
    )
    return PlannedWrites(
        plan, writer.writes, deleted, net, reader, deleted.orphan_links(), bulk_links, fingerprints, server.version()
    )


def _refuse(reasons: Iterable[str], error: type[Refused] = Refused) -> None:
    """Raise the error if there are reasons."""
    if found := list(dict.fromkeys(reasons)):
        raise error(found)


def _titles(server: Server, net: NetChanges, ids: Ids) -> dict[Any, str]:
    """Return the titles of written rows, by the server's table and id."""
    found: dict[Any, str] = {}
    for row in (*net.new, *net.changed):
        table, id = mapping.table_of(server, row.entity), New(row.entity, row.id)
        found[table, id if row.old is None else ids.theirs(*id)] = row_title(server.release, row)
    return found


def _of_users(server: Server, net: NetChanges) -> Iterator[str]:
    """Return why users cannot be deleted."""
    for chunk in net.deleted_rows("user"):
        for row in chunk:
            yield from refusals.of_deleted(server.release, "user", row_title(server.release, row), row.old or {})


def _collect_deleted(deleted: DeletedRows, net: NetChanges, ids: Ids) -> None:
    for entity in ("organization", "collaboration", "user", "node", "task", "result"):
        if net.counts(entity):
            table = mapping.table_of(deleted.server, entity)
            deleted.add(table, ((ids.theirs(entity, id), root) for id, root in net.deleted_ids(entity)))
    if net.counts("member"):
        pairs = (
            (ids.theirs("organization", one), ids.theirs("collaboration", other), root)
            for one, other, root in net.deleted_members()
        )
        deleted.add_pairs(mapping.MEMBER, ("organization_id", "collaboration_id"), pairs)
    deleted.add_dependents()


def _new_members(server: Server, net: NetChanges, written: Writes) -> Iterator[str]:
    """Return new memberships that already exist on the server."""
    for insert in written.inserts:
        if insert.table != mapping.MEMBER:
            continue
        one, other = (insert.values.get(name) for name in ("organization_id", "collaboration_id"))
        if isinstance(one, int) and isinstance(other, int) and conflicts.has_member(server, one, other):
            title = f"membership of organization {one} in collaboration {other}"
            yield f"{title} already exists on the server"


class _Titles:
    """Titles of the server's rows, in the terms of its release."""

    def __init__(self, server: Server, net: NetChanges, ids: Ids) -> None:
        self._release, self._net, self._ids = server.release, net, ids
        self._entities = {mapping.table_of(server, entity): entity for entity in mapping.ENTITIES}
        self.nouns = {table: mapping.noun(server.release, entity) for table, entity in self._entities.items()}

    def of(self, table: str, id: int) -> str:
        """Return the title of a row."""
        entity = self._entities.get(table)
        old = None if entity is None else self._net.old_row(entity, self._ids.ours(entity, id))
        return row_title(self._release, Row(str(entity), id, old, None)) if old else f"{self.noun(table)} {id}"

    def noun(self, table: str) -> str:
        """Return the noun of a table; its name if it is the server's own."""
        return self.nouns.get(table, table)


def _added_rows(server: Server, deleted: DeletedRows, net: NetChanges, ids: Ids) -> Iterator[str]:
    """Return the rows of our entities that refer to deleted rows, and are not in the plan."""
    moved, titles = set(_moved(server, net, ids)), _Titles(server, net, ids)
    for link, rows in deleted.blocking_links(references.PLANNED):
        for key, to in rows:
            if (link.table, key, link.column) not in moved:
                noun = titles.noun(link.table)
                name = noun if link.table == mapping.MEMBER else f"{noun} {key}"
                yield f"{titles.of(link.to, to)}: {name} was added to it meanwhile"


def _blocking_rows(server: Server, deleted: DeletedRows, net: NetChanges, ids: Ids) -> Iterator[str]:
    """Return why rows cannot be deleted: rows of the server's own tables refer to them."""
    titles = _Titles(server, net, ids)
    for link, rows in deleted.blocking_links(references.RESTRICT):
        for to, count in Counter(to for _, to in rows).items():
            depend, them = ("depends", "it") if count == 1 else ("depend", "them")
            has = f"has {pluralize(count, link.table)} that {depend} on it"
            yield f"{titles.of(link.to, to)} {has}: delete {them} first with the server's API"
    for role, users in deleted.roles_in_use():
        who = f"user {users[0]} has" if len(users) == 1 else f"users {id_list(users)} have"
        yield f'{who} the role "{printable(role)}" of a deleted organization: remove the role first'
    yield from deleted.unknown_references(titles.nouns)


def _moved(server: Server, net: NetChanges, ids: Ids) -> Iterator[tuple[str, int, str]]:
    """Return the links that the plan changes, as (table, id, column) of the server."""
    for row in net.changed:
        for name in row.changed():
            for place in mapping.places(server, row.entity, name):
                yield place.table, ids.theirs(row.entity, row.id), place.column
