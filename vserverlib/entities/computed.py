"""Computed attributes of entities: a value on an entity, a field for queries on its class.

`Task.status == "failed"` accepts and refuses the values that a stored field of its type does, also on an alias of the
model. The models define which attributes there are; computed_fields.py has their SQL.
"""

from __future__ import annotations

from typing import Any

from vserverlib.drivers import peewee


class ComputedAttribute(property):
    """An attribute that is computed on an entity. On its class, it is a field for queries: Task.status == "failed".

    On an entity that a query read without its id, it has the value that the query selected.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None and owner is not None:
            return self.of(owner)
        if instance is not None and self.name in instance.__dict__ and "id" not in instance._stored:
            return instance.__dict__[self.name]
        return super().__get__(instance, owner)

    def of(self, model: Any) -> Any:
        """Return the field for queries of a model, or of an alias of one."""
        from vserverlib.entities import computed_fields  # few programs need it

        return computed_fields.computed_field(model, self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = value  # called for a query that selects it; Entity refuses assignments by users

    @property
    def name(self) -> str:
        return str(self.fget.__name__)  # type: ignore[union-attr]  # always created from a function


class Aliased(peewee.ModelAlias):
    """An alias of a model, with its computed attributes."""

    def __getattr__(self, name: str) -> Any:
        computed = vars(self.model).get(name)
        return computed.of(self) if isinstance(computed, ComputedAttribute) else super().__getattr__(name)
