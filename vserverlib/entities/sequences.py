"""What all lists of entities share: indexing and the repr.

The lists are in lists.py (read by a query) and relations.py (editable).
"""

from __future__ import annotations

from typing import Any

from vserverlib import NotFound, pluralize, printable

MOST_IN_REPR = 20  # entities in the repr of a list


class NoSuchIndex(NotFound, IndexError):
    """An index past the end of a list."""


class PreloadedList:
    """A list of one entity that was read for many entities at once. It is valid until this session writes.

    After that, it is read by the query with the condition.
    """

    __slots__ = ("_condition", "_database", "_entities", "_query", "_writes")

    def __init__(self, entities: list[Any], query: Any, condition: Any, database: Any) -> None:
        self._entities, self._query, self._condition = entities, query, condition
        self._database, self._writes = database, database.writes

    def list(self) -> Any:
        """Return the list: read, or unread if this session has written."""
        found = self._query.where(self._condition)
        return found.as_read(self._entities) if self._writes == self._database.writes else found


def item_at(entities: list[Any], index: Any, model: Any) -> Any:
    """Return the item at an index, or the items of a slice. Raises NoSuchIndex past the end."""
    try:
        return entities[index]
    except IndexError:
        raise no_such_index(index, len(entities), model) from None


def no_such_index(index: Any, count: int, model: Any) -> NoSuchIndex:
    """Return the error for an index past the end."""
    there = f"there {'is' if count == 1 else 'are'} {pluralize(count, model.noun, model.plural)}"
    return NoSuchIndex(f"{there}: no index {printable(index)}")


def list_repr(entities: Any) -> str:
    """Return the repr of a list: its first entities and the number of the others. Reads only the first."""
    first = entities[: MOST_IN_REPR + 1]
    more = f", … {len(entities) - MOST_IN_REPR:,} more" if len(first) > MOST_IN_REPR else ""
    return "[" + ", ".join(map(repr, first[:MOST_IN_REPR])) + more + "]"
