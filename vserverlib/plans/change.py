"""A row that a plan changes, as data: its title, and its fields before and after."""

from __future__ import annotations

import dataclasses
from typing import Any

NEW, CHANGED, DELETED = "new", "changed", "deleted"


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a row, before and after.

    name: our column; label: the server's word. old, new: JSON values, None for no value; of a secret only whether there
    is one. note: a side effect.
    """

    name: str
    label: str
    old: Any = None
    new: Any = None
    is_secret: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Change:
    """A row that is new, changed or deleted, with all that is deleted with it.

    entity, id: our table and id; server_id: the id of a new row at the server, if known. noun, title: in the server's
    words. dependents: deleted rows of our entities by noun; theirs: of the server's own tables; emptied: links of rows
    that stay, by table and column.
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
