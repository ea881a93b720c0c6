"""Roles of users and databases of tasks: comma-separated names in our columns, rows in a server's database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from vserverlib import did_you_mean, named, printable
from vserverlib.plans import mapping
from vserverlib.plans.deleted_rows import DeletedRows
from vserverlib.plans.net_changes import Row
from vserverlib.plans.plan import Refused
from vserverlib.plans.row_ids import Ids, New
from vserverlib.plans.server import Server

RESERVED = ("container", "node")  # roles that the server uses itself
REVOKED = "revoked roles"  # the TEMP table of permissions to delete


class GrantedRole(NamedTuple):
    """A role that a user gets, by their ids on the server."""

    user: int | New
    role: int


def collect(server: Server, rows: Iterable[Row], ids: Ids, new_rows: set[New]) -> list[GrantedRole]:
    """Return the roles that users get, and collect the permissions that they lose in a TEMP table. Raises Refused.

    new_rows: the rows that are new in this plan.
    """
    server.create_temp(REVOKED, f"key {'INTEGER' if server.is_sqlite else 'tid'} PRIMARY KEY")
    granted: list[GrantedRole] = []
    problems: list[str] = []
    for row in rows:
        if row.new is None or (row.old and "roles" not in row.changed()):
            continue
        try:
            granted += _of_user(server, row, ids, new_rows)
        except Refused as error:
            problems += error.reasons
    if problems:
        raise Refused(problems)
    return granted


def _of_user(server: Server, row: Row, ids: Ids, new_rows: set[New]) -> list[GrantedRole]:
    assert row.new is not None
    wanted = mapping.split_names(row.new["roles"])
    user: int | New = New("user", row.id) if row.old is None else ids.theirs("user", row.id)
    held = _held(server, user) if isinstance(user, int) else {}
    if comma := next((name for name in held if name and "," in name), None):
        reason = f'the role "{printable(comma)}" has a comma in its name: change the roles with the server\'s API'
        raise Refused([f"{_user_title(row)}: {reason}"])
    revoked = [place for name, places in held.items() if name is not None and name not in wanted for place in places]
    server.run_many(f"INSERT INTO {server.temp(REVOKED)} (key) VALUES (?)", [(place,) for place in revoked])
    organization = row.new["organization_id"]
    is_new = organization is None or New("organization", organization) in new_rows
    place = None if is_new else ids.theirs("organization", organization)
    return [GrantedRole(user, _role(server, row, name, place)) for name in wanted if name not in held]


def _held(server: Server, user: int) -> dict[Any, list[Any]]:
    """Return the roles that a user has, by name, each with the locations of its permissions."""
    found: dict[Any, list[Any]] = {}
    asked = f'SELECT r.name, t.{server.row_locator} FROM "Permission" AS t JOIN role AS r ON r.id = t.role_id'
    for name, place in server.all(f"{asked} WHERE t.user_id = ?", [user]):
        found.setdefault(name, []).append(place)
    return found


def _role(server: Server, row: Row, name: str, organization: int | None) -> int:
    """Return the id of the only role with a name: of the organization, or else of all. Raises Refused."""
    if name in RESERVED:
        raise Refused([f'{_user_title(row)}: the role "{name}" is reserved for the server: choose another one'])
    sql = "SELECT id FROM role WHERE name = ? AND organization_id"
    found = server.all(f"{sql} = ?", [name, organization]) if organization is not None else []
    found = found or server.all(f"{sql} IS NULL", [name])
    if len(found) == 1:
        return int(found[0][0])
    if found:
        roles = " and ".join(str(id) for (id,) in found[:2])
        remedy = "rename one of them with the server's API"
        raise Refused([f'{_user_title(row)}: several roles are called "{printable(name)}" ({roles}): {remedy}'])
    if owner := _owner(server, name):
        remedy = (
            f"only users of {owner} can have it: choose a role of this user's organization, or one of no organization"
        )
        raise Refused([f'{_user_title(row)}: the role "{printable(name)}" belongs to {owner}: {remedy}'])
    known = list(_known(server, organization))
    names = ", ".join(f'"{printable(each)}"' for each in known)
    choices = f"choose one of {names}" if known else "it has no roles"
    near = did_you_mean(name, known) or f": {choices}"
    raise Refused([f'{_user_title(row)}: no role "{printable(name)}" on the server{near}'])


def _owner(server: Server, name: str) -> str:
    """Return the organization that has a role with this name; "" if none has."""
    sql = "SELECT o.id, o.name FROM role AS r JOIN organization AS o ON o.id = r.organization_id WHERE r.name = ?"
    found = server.one(f"{sql} ORDER BY o.id LIMIT 1", [name])
    return "" if found is None else named("organization", *found)


def _known(server: Server, organization: int | None) -> Iterator[str]:
    asked = "SELECT DISTINCT name FROM role WHERE organization_id IS NULL OR organization_id = ? ORDER BY name"
    for (name,) in server.all(asked, [organization or 0]):
        if name and name not in RESERVED:
            yield name


def _user_title(row: Row) -> str:
    values = row.old or row.new or {}
    return f'user {row.id} "{printable(values.get("username"))}"'


def delete_revoked(deleted: DeletedRows, server: Server) -> None:
    """Add the permissions that users lose to the rows to delete. They have no root: they are part of a changed user."""
    if server.one(f"SELECT 1 FROM {server.temp(REVOKED)} LIMIT 1"):
        deleted.add_query("Permission", f"SELECT key, CAST(NULL AS INTEGER) FROM {server.temp(REVOKED)} WHERE true")


def added_databases(server: Server, row: Row, task: int, deleted: DeletedRows) -> list[str]:
    """Return the names of databases to add to a task, and add the rows of removed ones to the rows to delete."""
    assert row.old is not None
    assert row.new is not None
    before, after = mapping.split_names(row.old["database"]), mapping.split_names(row.new["database"])
    for name in before:
        if name not in after:
            revoked = 'SELECT id, CAST(NULL AS INTEGER) FROM taskdatabase WHERE task_id = ? AND "database" = ?'
            deleted.add_query("taskdatabase", revoked, [task, name])
    return [name for name in after if name not in before]
