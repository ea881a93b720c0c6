"""Making a plan: the changes of a working copy as changes of the server's database, or the reasons against them.

Reads the server's database and writes nothing to it. Raises a Refused with one line for each row that cannot be
written: it was changed there since, the server's release keeps it elsewhere, its name is taken.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from vserverlib import pluralize, printable
from vserverlib.plans import conflicts, describing, mapping, references, roles, writes
from vserverlib.plans.conflicts import Comparison
from vserverlib.plans.gone import Gone, some
from vserverlib.plans.ids import Ids, New
from vserverlib.plans.judge import Judge
from vserverlib.plans.net_changes import NetChanges, Row
from vserverlib.plans.plan import Plan, Refused
from vserverlib.plans.references import Link
from vserverlib.plans.server import Server
from vserverlib.plans.writes import ServerChange, Writer, Writes, titled

TRIES = 3  # while others write
NOTHING_JUDGED: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass
class Work:
    """What is done, beside its plan: the rows that are written and deleted.

    nowhere, many, fingerprints: see Gone. version: of the database, as it was planned for.
    """

    plan: Plan
    writes: Writes
    gone: Gone
    net: NetChanges
    judge: Judge
    nowhere: dict[str, list[int]]
    many: dict[Link, int]
    fingerprints: dict[str, Any]
    version: Any


@dataclasses.dataclass(frozen=True)
class About:
    """What a plan says of itself: the database, when it was copied, where backup and record will be."""

    server: str
    copied_at: Any
    folder: Any


def settled(server: Server, net: NetChanges, changes: Iterable[ServerChange], ids: Ids, about: About) -> Work:
    """Make the plan of net changes while others may write: on SQLite again if somebody did meanwhile."""
    changes, judged = list(changes), NOTHING_JUDGED
    for _ in range(TRIES if server.is_sqlite else 1):
        version = server.version()
        with server.reading():
            work = made(server, net, changes, ids, about, judged)
        judged = work.fingerprints
        if server.version() == version:
            break
    return dataclasses.replace(work, version=version)


def made(
    server: Server,
    net: NetChanges,
    changes: Iterable[ServerChange],
    ids: Ids,
    about: About,
    judged: Mapping[str, Any] = NOTHING_JUDGED,
) -> Work:
    """Make the plan of net changes, of the database as it is at this moment. Raises a Refused.

    judged: the fingerprints of an earlier plan, whose deleted rows need not be read again if they are the same.
    """
    changes, gone, judge = list(changes), Gone(server), Judge(server)
    fresh = {New(row.entity, row.id) for row in net.new}
    _refuse(_of_users(server, net))
    given = roles.plan(server, (row for row in (*net.new, *net.changed) if row.entity == "user"), ids, fresh)
    _collect_gone(gone, net, ids)
    many, fingerprints = gone.many(), gone.fingerprints()
    same = {table for table, found in fingerprints.items() if found == judged.get(table)}
    _refuse(Comparison(server, judge, ids).of(net, same))
    writer = Writer(server, net, ids)
    writer.collect(given, changes, gone)
    roles.take(gone, server)
    titles = _titles(server, net, ids)
    _refuse(writer.problems)
    _refuse(_new_members(server, net, writer.writes))
    _refuse(_left(server, gone, net, ids))
    _refuse(writes.missing(server, writer.writes, titles))
    _refuse(writes.taken(server, writer.writes, gone, titles))
    plan = Plan(
        server=about.server,
        release=server.release,
        copied_at=about.copied_at,
        changes=tuple(describing.changes(server, net, changes, gone, writer.writes)),
        notes=tuple(describing.notes(server, net, changes, many)),
        folder=about.folder,
    )
    return Work(plan, writer.writes, gone, net, judge, gone.nowhere(), many, fingerprints, server.version())


def _refuse(reasons: Iterable[str]) -> None:
    """Raise a Refused if there are reasons."""
    if found := list(dict.fromkeys(reasons)):
        raise Refused(found)


def _titles(server: Server, net: NetChanges, ids: Ids) -> dict[Any, str]:
    """Return what messages call rows that are written, by the server's table and id."""
    found: dict[Any, str] = {}
    for row in (*net.new, *net.changed):
        table, id = mapping.table_of(server, row.entity), New(row.entity, row.id)
        found[table, id if row.old is None else ids.theirs(*id)] = titled(server.release, row)
    return found


def _of_users(server: Server, net: NetChanges) -> Iterator[str]:
    """Return why users cannot be deleted: the one that a server looks for at each start."""
    for chunk in net.gone_rows("user"):
        for row in chunk:
            if row.old is not None and row.old["username"] == writes.ROOT:
                yield writes.refused_root(titled(server.release, row), server.release)


def _collect_gone(gone: Gone, net: NetChanges, ids: Ids) -> None:
    for entity in ("organization", "collaboration", "user", "node", "task", "result"):
        if net.counts(entity):
            table = mapping.table_of(gone.server, entity)
            gone.add(table, ((ids.theirs(entity, id), root) for id, root in net.gone(entity)))
    if net.counts("member"):
        pairs = (
            (ids.theirs("organization", one), ids.theirs("collaboration", other), root)
            for one, other, root in net.gone_pairs()
        )
        gone.add_pairs(mapping.MEMBER, ("organization_id", "collaboration_id"), pairs)
    gone.follow()


def _new_members(server: Server, net: NetChanges, written: Writes) -> Iterator[str]:
    """Return which new memberships are there already."""
    for insert in written.inserts:
        if insert.table != mapping.MEMBER:
            continue
        one, other = (insert.values.get(name) for name in ("organization_id", "collaboration_id"))
        if isinstance(one, int) and isinstance(other, int) and conflicts.has_member(server, one, other):
            yield f"membership of organization {one} in collaboration {other}: it is there by now: look again"


def _left(server: Server, gone: Gone, net: NetChanges, ids: Ids) -> Iterator[str]:
    """Return why rows cannot be deleted: others refer to them that are not in the plan."""
    moved = set(_moved(server, net, ids))
    entities = {mapping.table_of(server, entity): entity for entity in mapping.ENTITIES}
    nouns = {table: mapping.noun(server.release, entity) for table, entity in entities.items()}

    def called(table: str, id: int) -> str:
        entity = entities.get(table)
        old = None if entity is None else net.base(entity, ids.ours(entity, id))
        return titled(server.release, Row(str(entity), id, old, None)) if old else f"{nouns.get(table, table)} {id}"

    for link, rows in gone.left(references.PLANNED):
        for key, to in rows:
            if (link.table, key, link.column) not in moved:
                noun = nouns.get(link.table, link.table)
                name = noun if link.table == mapping.MEMBER else f"{noun} {key}"
                yield f"{called(link.to, to)}: {name} of it came since: look again"
    for link, rows in gone.left(references.REFUSED):
        for to, count in Counter(to for _, to in rows).items():
            has = f"has {pluralize(count, link.table)} that it would leave behind"
            yield f"{called(link.to, to)} {has}: delete that first, by the server's API"
    for role, users in gone.held_roles():
        who = f"user {users[0]} has" if len(users) == 1 else f"users {some(users)} have"
        yield f'{who} the role "{printable(role)}" of an organization that is deleted: take it from them first'
    yield from gone.unknown(nouns)


def _moved(server: Server, net: NetChanges, ids: Ids) -> Iterator[tuple[str, int, str]]:
    """Return which links of rows that stay are changed by the plan: (table, id, column) there."""
    for row in net.changed:
        for name in row.changed():
            for place in mapping.places(server, row.entity, name):
                yield place.table, ids.theirs(row.entity, row.id), place.column
