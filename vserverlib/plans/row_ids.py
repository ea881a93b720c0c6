"""The ids of rows in the working copy and on the server. They differ only for rows that this session created."""

from __future__ import annotations

from typing import NamedTuple


class New(NamedTuple):
    """A placeholder for the id of a new row, by our table and id. The row gets its id when it is written."""

    entity: str
    id: int


class Ids:
    """Translates ids of rows that were created in the working copy and applied."""

    def __init__(self) -> None:
        self._theirs: dict[New, int] = {}
        self._ours: dict[tuple[str, int], int] = {}

    def add(self, applied: dict[New, int]) -> None:
        """Add the ids that new rows have got on the server."""
        self._theirs |= applied
        self._ours |= {(new.entity, id): new.id for new, id in applied.items()}

    def with_applied(self, applied: dict[New, int]) -> Ids:
        """Return a copy with more ids."""
        found = Ids()
        found.add({New(entity, id): there for (entity, id), there in self._theirs.items()})
        found.add(applied)
        return found

    @property
    def all_equal(self) -> bool:
        """Whether every row has the same id in the copy and on the server."""
        return not self._theirs

    def theirs(self, entity: str, id: int) -> int:
        """Return the id of a row on the server."""
        return self._theirs.get(New(entity, id), id)

    def ours(self, entity: str, id: int) -> int:
        """Return the id in the copy of a row of the server; a negative number if the copy cannot have it."""
        known = self._ours.get((entity, id))
        if known is not None:
            return known
        return -id if New(entity, id) in self._theirs else id
