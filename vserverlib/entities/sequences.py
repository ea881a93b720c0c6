"""What lists of entities share, whether a query fills them or they can be edited: an index and a repr.

The lists themselves are in lists.py and relations.py.
"""

from __future__ import annotations

from typing import Any

from vserverlib import NotFound, pluralize, printable

SHOWN = 20  # entities in the repr of a list


class NoSuchPlace(NotFound, IndexError):
    """An index past the end of a list."""


class Loaded:
    """Of one entity, the list that was read for many at once: it holds until this session writes.

    query and condition: by which it is read then.
    """

    __slots__ = ("_condition", "_database", "_entities", "_query", "_writes")

    def __init__(self, entities: list[Any], query: Any, condition: Any, database: Any) -> None:
        self._entities, self._query, self._condition = entities, query, condition
        self._database, self._writes = database, database.writes

    def list(self) -> Any:
        """Return the list: read, or to be read anew."""
        found = self._query.where(self._condition)
        return found.as_read(self._entities) if self._writes == self._database.writes else found


def picked(entities: list[Any], index: Any, model: Any) -> Any:
    """Return what a list that was read has at an index, or a slice; a NoSuchPlace error past its end."""
    try:
        return entities[index]
    except IndexError:
        raise no_place(index, len(entities), model) from None


def no_place(index: Any, count: int, model: Any) -> NoSuchPlace:
    """Return the error for an index past the end: how many there are."""
    there = f"there {'is' if count == 1 else 'are'} {pluralize(count, model.noun, model.plural)}"
    return NoSuchPlace(f"{there}: no index {printable(index)}")


def shown(entities: Any) -> str:
    """Return the repr of a list: its first entities and how many more there are. Reads no more than it shows."""
    first = entities[: SHOWN + 1]
    more = f", … {len(entities) - SHOWN:,} more" if len(first) > SHOWN else ""
    return "[" + ", ".join(map(repr, first[:SHOWN])) + more + "]"
