"""What no plan can write, whatever the server's rows are: what Keycloak manages, new tasks, the user root.

A working copy refuses it when it is saved or deleted, so that the error is at the line that caused it; a plan refuses
it again, because SQL and merges do not ask.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from vserverlib import named
from vserverlib.entities import orm
from vserverlib.entities.orm import Saved
from vserverlib.plans import mapping
from vserverlib.plans.plan import Refused

ROOT = "root"  # the user that a server requires when it starts, up to release 4
IN_KEYCLOAK = {
    "user": {"password", "email", "firstname", "lastname"},
    "node": {"api_key"},
}


def of_new(release: int, entity: str, title: str, values: dict[str, Any]) -> Iterator[str]:
    """Return why a row cannot be created. values: by our columns."""
    if entity in ("task", "result"):
        what = "nodes do not notice tasks that are created in the database: create it with the server's API"
        yield f"{title} is new: {what}"
    elif release >= mapping.KEYCLOAK_FROM and entity in mapping.AUTHENTICATED:
        what = f"Keycloak manages accounts in release {release}: create it with the server's API or web page"
        yield f"{title} is new: {what}"
    elif _is_root(release, entity, values):
        yield f"{title}: the server creates this user itself when it starts: choose another name"


def of_changed(
    release: int, entity: str, title: str, names: Collection[str], old: dict[str, Any], new: dict[str, Any]
) -> Iterator[str]:
    """Return why columns of a row cannot be changed. names: the changed columns."""
    if entity == "user" and "username" in names:
        if _is_root(release, entity, old):
            yield why_root_stays(title, release)
        elif _is_root(release, entity, new):
            yield f'{title}: the server creates a user "{ROOT}" itself when it starts: choose another name'
    if release >= mapping.KEYCLOAK_FROM:
        for name in sorted(IN_KEYCLOAK.get(entity, set()) & {*names}):
            yield f"{title}: {name}: Keycloak manages it in release {release}: change it there"


def of_deleted(release: int, entity: str, title: str, values: dict[str, Any]) -> Iterator[str]:
    """Return why a row cannot be deleted."""
    if _is_root(release, entity, values):
        yield why_root_stays(title, release)


def _is_root(release: int, entity: str, values: dict[str, Any]) -> bool:
    return entity == "user" and values.get("username") == ROOT and release < mapping.KEYCLOAK_FROM


def why_root_stays(title: str, release: int) -> str:
    """Return why the user root cannot be deleted or renamed."""
    what = f"without it, a server of release {release} creates it with a known password, or does not start"
    return f"{title}: {what}: change its password instead"


class Guard:
    """Refuses such changes in a working copy when they are made. Call close() at the end."""

    def __init__(self, database: Any, release: int) -> None:
        self._release = release
        found = database.execute_sql('SELECT id FROM "user" WHERE username = ?', [ROOT]).fetchone()
        self._root = found and found[0]  # its id
        self._hooks: list[tuple[list[Any], Any]] = [
            (orm.before_commit, self._of_save),
            (orm.before_delete, self._of_delete),
        ]
        for hooks, hook in self._hooks:
            hooks.append(hook)

    def close(self) -> None:
        """Refuse no more changes."""
        for hooks, hook in self._hooks:
            hooks.remove(hook)

    def refuse(self, entity: Any, names: Collection[str], *, is_new: bool) -> None:
        """Raise Refused if an entity cannot be created, or these columns of it not be changed."""
        table, title = entity._meta.table_name, entity.named().removesuffix(" (not saved)")
        new = {"username": entity.username} if table == "user" else {}
        if is_new:
            _refuse(of_new(self._release, table, title, new))
        elif table == "user" and entity.id == self._root:
            _refuse(of_changed(self._release, table, named(table, self._root, ROOT), names, {"username": ROOT}, new))
        else:
            _refuse(of_changed(self._release, table, title, names, {}, new))

    def _of_save(self, saved: Saved) -> orm.SaveWarnings:
        self.refuse(saved.entity, saved.names, is_new=saved.is_new)
        return []

    def _of_delete(self, plan: Any) -> None:
        users = [*plan.ids] if plan.model.noun == "user" else []
        users += [id for model, ids in plan.dependents().items() if model.noun == "user" for id in ids]
        if self._root in users:
            _refuse(of_deleted(self._release, "user", named("user", self._root, ROOT), {"username": ROOT}))


def _refuse(reasons: Iterator[str]) -> None:
    if found := list(reasons):
        raise Refused(found)
