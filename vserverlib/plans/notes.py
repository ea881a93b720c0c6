"""Notes on a plan: the side effects that a person should know, and what the server and its nodes do not notice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from vserverlib import pluralize, printable
from vserverlib.databases.connection import quoted
from vserverlib.entities import progress
from vserverlib.plans import mapping, refusals, writes
from vserverlib.plans.change import Change
from vserverlib.plans.deleted_rows import DeletedRows
from vserverlib.plans.net_changes import NetChanges, Row
from vserverlib.plans.references import Link
from vserverlib.plans.server import CHUNK, Server
from vserverlib.plans.writes import ServerChange

CONTINUES = "nodes are not notified: a deleted task that is running continues on its node, and its output is rejected"
RUNS_AGAIN = "a run without finished_at runs again when its node connects"
LOGGED_IN = "deleted users stay logged in until their tokens expire"
CONNECTED = "deleted nodes that are online stay connected until their tokens expire"
MEMBERSHIPS = "nodes notice new and deleted memberships when they reconnect"
ENDED, REOPENED = "ended", "reopened"
NAMED = 3  # deleted accounts
NAMES = {"user": "username", "node": "name"}
WITH_ALL_RIGHTS = "Root"  # the role of the administrator that a server of release 5 creates


def of_plan(
    server: Server,
    net: NetChanges,
    server_changes: Iterable[ServerChange],
    deleted: DeletedRows,
    bulk_links: Mapping[Link, int],
) -> Iterator[str]:
    """Return the notes on a plan."""
    yield from _of_runs(server, net)
    yield from _of_deleted(net)
    if server.release >= mapping.KEYCLOAK_FROM:
        yield from _of_accounts(server, net, deleted)
        yield from _of_administrator(net)
    yield from of_lock(server, bulk_links)
    if any(change.what == writes.RESET_TWO_FACTOR for change in server_changes):
        yield "users whose two-factor authentication was reset set it up at their next login, if the server requires it"
    if (zone := server.time_zone()) not in ("", "UTC", "Etc/UTC", "GMT"):
        yield f"the database has the time zone {zone}: times are written in UTC, as vantage6 expects"


def of_lock(server: Server, bulk_links: Mapping[Link, int]) -> Iterator[str]:
    """Return a note if deleting many rows holds the lock for long."""
    if (seconds := server.unindexed_seconds(bulk_links)) > 1:
        what = "the tables lack indexes, which only their owner can create"
        yield f"applying this locks the tables for about {seconds:,.0f} s: {what}"


def _of_runs(server: Server, net: NetChanges) -> Iterator[str]:
    ended = [row for row in net.changed if row.entity == "result" and _is_ended(row)]
    if ended:
        yield _ended(server, len(ended))
    if any(
        row.entity == "result" and row.old and row.old["finished_at"] and not row.new["finished_at"]  # type: ignore[index]
        for row in net.changed
    ):
        yield RUNS_AGAIN


def _ended(server: Server, count: int) -> str:
    runs = pluralize(count, mapping.noun(server.release, "result"))
    what = f"{runs} marked as finished may still execute on a node"
    return f"nodes are not notified: {what}; kill {'it' if count == 1 else 'them'} with the server's API"


def _is_ended(row: Row) -> bool:
    assert row.old is not None
    assert row.new is not None
    return row.old["finished_at"] is None and (
        row.new["finished_at"] is not None or row.new["status"] in progress.FAILED
    )


def _of_deleted(net: NetChanges) -> Iterator[str]:
    if net.deletes("result", "b.state IN ('pending', 'active')"):
        yield CONTINUES
    if net.deletes("user"):
        yield LOGGED_IN
    if net.deletes("node", "b.status = 'online'"):
        yield CONNECTED
    if net.deletes("member") or any(row.entity == "member" for row in net.new):
        yield MEMBERSHIPS


def of_undo(server: Server, changes: Iterable[Change], deleted: Mapping[str, Iterable[int]]) -> Iterator[str]:
    """Return the notes on a plan that undoes another one. deleted: the ids of the rows that it deletes, by table."""
    changes = list(changes)
    moved = [_moved_end(change) for change in changes if change.entity == "result"]
    if ended := moved.count(ENDED):
        yield _ended(server, ended)
    if REOPENED in moved:
        yield RUNS_AGAIN
    if _is_any(server, mapping.table_of(server, "result"), "finished_at IS NULL", deleted):
        yield CONTINUES
    if deleted.get("user"):
        yield LOGGED_IN
    if _is_any(server, mapping.AUTHENTICATABLE, "type = 'node' AND status = 'online'", deleted):
        yield CONNECTED
    if any("membership" in (change.noun, *dict(change.dependents)) for change in changes):
        yield MEMBERSHIPS


def _moved_end(change: Change) -> str:
    """Return whether the end of a run is set or emptied; "" for neither."""
    field = next((field for field in change.fields if field.name == "finished_at"), None)
    return "" if field is None or None not in (field.old, field.new) else ENDED if field.old is None else REOPENED


def _is_any(server: Server, table: str, which: str, ids: Mapping[str, Iterable[int]]) -> bool:
    rest = iter(ids.get(table, ()))
    while chunk := list(islice(rest, CHUNK)):
        among = ", ".join(map(str, chunk))
        if server.one(f"SELECT 1 FROM {quoted(table)} WHERE {which} AND id IN ({among}) LIMIT 1"):
            return True
    return False


# Release 5


def _of_accounts(server: Server, net: NetChanges, deleted: DeletedRows) -> Iterator[str]:
    """Return notes on accounts in Keycloak, for users and nodes that have one."""
    for entity, name in NAMES.items():
        if entity in deleted.tables:
            found = _with_account(server, entity, name, f"IN (SELECT key FROM {deleted.temp(entity)})")
            if found:
                shown = ", ".join(printable(each, 60) for each in found[:NAMED])
                more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
                yield f"the Keycloak accounts of deleted {entity}s are not deleted: {shown}{more}"
    for row in net.changed:
        changed = {"username", "organization_id"}.intersection(row.changed()) if row.entity == "user" else ()
        if changed and _with_account(server, "user", "username", f"= {int(row.id)}"):
            if "username" in changed:
                yield f"the Keycloak account of user {row.id} is not renamed"
            if "organization_id" in changed:
                yield f"the Keycloak account of user {row.id} keeps its organization"


def _with_account(server: Server, table: str, name: str, which: str) -> list[Any]:
    """Return the names of the users or nodes that have an account in Keycloak. which: the condition of their ids."""
    joined = f"FROM {quoted(table)} AS t JOIN authenticatable AS a ON a.id = t.id"
    sql = f"SELECT t.{name} {joined} WHERE a.keycloak_id IS NOT NULL AND t.id {which} ORDER BY t.id"
    return [found for (found,) in server.all(sql)]


def _of_administrator(net: NetChanges) -> Iterator[str]:
    """Return a note if the administrator that the server creates, or its organization, is deleted or renamed."""
    renamed = [row for row in net.changed if {"name", "username"}.intersection(row.changed())]
    gone = [row for entity in ("organization", "user") for chunk in net.deleted_rows(entity) for row in chunk]
    if any(_is_administrator(net, row) for row in (*renamed, *gone)):
        what = "without the user that KEYCLOAK_ADMIN_USERNAME names, the server creates it when it starts"
        yield f'{what}, with all rights, in the organization "{refusals.ROOT}"'


def _is_administrator(net: NetChanges, row: Row) -> bool:
    assert row.old is not None
    if row.entity == "organization":
        return bool(row.old["name"] == refusals.ROOT)
    if row.entity != "user" or WITH_ALL_RIGHTS not in mapping.split_names(row.old["roles"]):
        return False
    organization = net.old_row("organization", row.old["organization_id"])
    return organization is not None and organization["name"] == refusals.ROOT
