"""Which id a row has here and there: the same, but for the rows that a session has made and applied."""

from __future__ import annotations

from typing import NamedTuple


class New(NamedTuple):
    """The id of a row that the server's database does not have yet, by our table and id: it gets one when written."""

    entity: str
    id: int


class Ids:
    """The ids of rows that were made here and applied. Ours and theirs are drawn apart, and mean other rows there."""

    def __init__(self) -> None:
        self._theirs: dict[New, int] = {}
        self._ours: dict[tuple[str, int], int] = {}

    def add(self, applied: dict[New, int]) -> None:
        """Note what new rows got there."""
        self._theirs |= applied
        self._ours |= {(new.entity, id): new.id for new, id in applied.items()}

    def with_applied(self, applied: dict[New, int]) -> Ids:
        """Return these ids with more."""
        found = Ids()
        found.add({New(entity, id): there for (entity, id), there in self._theirs.items()})
        found.add(applied)
        return found

    @property
    def are_alike(self) -> bool:
        """Whether every row has the same id here and there."""
        return not self._theirs

    def theirs(self, entity: str, id: int) -> int:
        """Return what a row is there."""
        return self._theirs.get(New(entity, id), id)

    def ours(self, entity: str, id: int) -> int:
        """Return what a row of theirs is here; a negative number if it cannot be here."""
        known = self._ours.get((entity, id))
        if known is not None:
            return known
        return -id if New(entity, id) in self._theirs else id
