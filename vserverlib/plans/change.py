"""One row that a plan changes, as data: what it is, and what becomes of its fields."""

from __future__ import annotations

import dataclasses
from typing import Any

NEW, CHANGED, DELETED = "new", "changed", "deleted"


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a row: what it is, and what it becomes.

    name: ours; label: the server's. old, new: as JSON has them, None for no value; of a secret neither is kept. note:
    what the server does beside.
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

    entity, id: ours (None for a row that vserver has no entity for); server_id: what a new row gets there, as far as it
    is known. noun, title: in the server's words. dependents: rows of our entities by noun; theirs: rows of the server's
    own tables; emptied: links of rows that stay, by table and column.
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
