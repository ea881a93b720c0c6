"""What a person may see: a condition for the rows of each entity, which the queries of a page apply.

The commands see everything (WHOLE). The server derives a sight from the roles of a user.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import models
from vserverlib.entities.fields import as_integer


class Sight:
    """Conditions by entity class. Of a class without one, every row is seen."""

    def __init__(self, conditions: Mapping[Any, Any] | None = None) -> None:
        self.conditions = dict(conditions or {})

    @property
    def is_whole(self) -> bool:
        """Whether everything is seen."""
        return not self.conditions

    def narrowed(self, query: Any) -> Any:
        """Return a query of an entity class for those of its rows that are seen."""
        condition = self.conditions.get(query.model)
        return query if condition is None else query.where(condition)

    def ids(self, model: Any) -> Any:
        """Return the ids of an entity class that are seen, as a query; None if all are."""
        condition = self.conditions.get(model)
        return None if condition is None else model.select(model.id).where(condition)

    def seen(self, model: Any, ids: Collection[Any]) -> set[Any]:
        """Return which of some ids are seen. At most one query."""
        condition = self.conditions.get(model)
        if condition is None or not ids:
            return set(ids)
        known = {number for id in ids if (number := as_integer(id)) is not None}  # other programs may store a text
        query = model.select(model.id).where(model.id.in_(sorted(known)) & condition)
        return {id for (id,) in models.database.execute(query)}

    def hide_names(self, rows: Sequence[dict[str, Any]], links: Mapping[str, Any]) -> None:
        """Remove the names of what is not seen from rows, whose ids stay. At most one query for each link.

        links: entity classes by the column of the name.
        """
        for name, model in links.items():
            seen = self.seen(model, {row[f"{name}_id"] for row in rows})
            for row in rows:
                row[name] = row[name] if row[f"{name}_id"] in seen else None


WHOLE = Sight()
