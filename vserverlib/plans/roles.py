"""The roles of users and the databases of tasks: texts of names here, rows of their own in a server's database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from vserverlib import did_you_mean, printable
from vserverlib.plans import mapping
from vserverlib.plans.gone import Gone
from vserverlib.plans.ids import Ids, New
from vserverlib.plans.net_changes import Row
from vserverlib.plans.plan import Refused
from vserverlib.plans.server import Server

RESERVED = ("container", "node")  # roles of the server's own
TAKEN = "taken roles"  # the TEMP table of permissions that users lose


class Given(NamedTuple):
    """A role that a user gets."""

    user: int | New
    role: int


def plan(server: Server, rows: Iterable[Row], ids: Ids, fresh: set[New]) -> list[Given]:
    """Return the roles that users get, and note the lost ones in a TEMP table. Raises a Refused.

    fresh: the rows that are new in this plan.
    """
    server.keep(TAKEN, f"key {'INTEGER' if server.is_sqlite else 'tid'} PRIMARY KEY")
    given: list[Given] = []
    problems: list[str] = []
    for row in rows:
        if row.new is None or (row.old and "roles" not in row.changed()):
            continue
        try:
            given += _of_user(server, row, ids, fresh)
        except Refused as error:
            problems += error.reasons
    if problems:
        raise Refused(problems)
    return given


def _of_user(server: Server, row: Row, ids: Ids, fresh: set[New]) -> list[Given]:
    assert row.new is not None
    wanted = mapping.names(row.new["roles"])
    user: int | New = New("user", row.id) if row.old is None else ids.theirs("user", row.id)
    held = _held(server, user) if isinstance(user, int) else {}
    if comma := next((name for name in held if name and "," in name), None):
        reason = f'its role "{printable(comma)}" has a comma in its name: change its roles by the server'
        raise Refused([f"{_titled(row)}: {reason}"])
    lost = [place for name, places in held.items() if name is not None and name not in wanted for place in places]
    server.many(f"INSERT INTO {server.temp(TAKEN)} (key) VALUES (?)", [(place,) for place in lost])
    organization = row.new["organization_id"]
    is_new = organization is None or New("organization", organization) in fresh
    place = None if is_new else ids.theirs("organization", organization)
    return [Given(user, _role(server, row, name, place)) for name in wanted if name not in held]


def _held(server: Server, user: int) -> dict[Any, list[Any]]:
    """Return the names of the roles that a user has, each with where its permissions are."""
    found: dict[Any, list[Any]] = {}
    asked = f'SELECT r.name, t.{server.place} FROM "Permission" AS t JOIN role AS r ON r.id = t.role_id'
    for name, place in server.all(f"{asked} WHERE t.user_id = ?", [user]):
        found.setdefault(name, []).append(place)
    return found


def _role(server: Server, row: Row, name: str, organization: int | None) -> int:
    """Return the one role of a name: of the user's organization, or else of all. Raises a Refused."""
    if name in RESERVED:
        raise Refused([f'{_titled(row)}: the role "{name}" is the server\'s own: give another one'])
    sql = "SELECT id FROM role WHERE name = ? AND organization_id"
    found = server.all(f"{sql} = ?", [name, organization]) if organization is not None else []
    found = found or server.all(f"{sql} IS NULL", [name])
    if len(found) == 1:
        return int(found[0][0])
    if found:
        roles = " and ".join(str(id) for (id,) in found[:2])
        remedy = "rename one of them by the server"
        raise Refused([f'{_titled(row)}: there are several roles "{printable(name)}" ({roles}): {remedy}'])
    known = list(_known(server, organization))
    near = did_you_mean(name, known) or f": there are {', '.join(map(printable, known)) or 'none'}"
    raise Refused([f'{_titled(row)}: there is no role "{printable(name)}" there{near}'])


def _known(server: Server, organization: int | None) -> Iterator[str]:
    asked = "SELECT DISTINCT name FROM role WHERE organization_id IS NULL OR organization_id = ? ORDER BY name"
    for (name,) in server.all(asked, [organization or 0]):
        if name and name not in RESERVED:
            yield name


def _titled(row: Row) -> str:
    values = row.old or row.new or {}
    return f'user {row.id} "{printable(values.get("username"))}"'


def take(gone: Gone, server: Server) -> None:
    """Have the permissions that users lose be among the rows that are deleted: with no root, they are a change."""
    if server.one(f"SELECT 1 FROM {server.temp(TAKEN)} LIMIT 1"):
        gone.add_found("Permission", f"SELECT key, CAST(NULL AS INTEGER) FROM {server.temp(TAKEN)} WHERE true")


def databases(server: Server, row: Row, task: int, gone: Gone) -> list[str]:
    """Return the names of databases that a task gets; the rows of lost ones are deleted."""
    assert row.old is not None
    assert row.new is not None
    before, after = mapping.names(row.old["database"]), mapping.names(row.new["database"])
    for name in before:
        if name not in after:
            lost = 'SELECT id, CAST(NULL AS INTEGER) FROM taskdatabase WHERE task_id = ? AND "database" = ?'
            gone.add_found("taskdatabase", lost, [task, name])
    return [name for name in after if name not in before]
