"""The changes of a plan as data: a title for each row, and its fields before and after."""

from __future__ import annotations

import dataclasses
from typing import Any

NEW, CHANGED, DELETED = "new", "changed", "deleted"


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a row, before and after.

    name: our column; label: the server's name for it. old, new: JSON values, None if empty; for a secret, only whether
    it is set. note: a side effect.
    """

    name: str
    label: str
    old: Any = None
    new: Any = None
    is_secret: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Change:
    """A row that is new, changed or deleted, with its dependents.

    entity, id: our table and id; server_id: the id of a new row on the server, if known. noun, title: as the server's
    release calls it. Counts of what a deletion affects: dependents, deleted rows by noun; theirs, deleted rows by
    server-only table; emptied, links that are cleared in other rows, by table and column.
    """

    kind: str
    entity: str
    id: int | None
    noun: str
    title: str
    fields: tuple[Field, ...] = ()
    dependents: tuple[tuple[str, int], ...] = ()
    theirs: tuple[tuple[str, int], ...] = ()
    emptied: tuple[tuple[str, int], ...] = ()
    server_id: int | None = dataclasses.field(default=None, compare=False)
