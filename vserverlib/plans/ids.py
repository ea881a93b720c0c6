"""The ids of a row here and at the server: the same, except for rows that this session created and applied."""

from __future__ import annotations

from typing import NamedTuple


class New(NamedTuple):
    """The id of a row that the server's database does not have yet, by our table and id: it gets one when written."""

    entity: str
    id: int


class Ids:
    """The ids of rows that were created here and applied. The same number may be another row at the server."""

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
        """Return the id of a row at the server."""
        return self._theirs.get(New(entity, id), id)

    def ours(self, entity: str, id: int) -> int:
        """Return the id here of a row of the server; negative if the row cannot be here."""
        known = self._ours.get((entity, id))
        if known is not None:
            return known
        return -id if New(entity, id) in self._theirs else id
