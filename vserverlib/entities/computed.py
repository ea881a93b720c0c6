"""What is computed of an entity: asked of one it is a value, asked of its class a field of queries.

`Task.status == "failed"` takes and refuses what a stored field of its type does, also of an alias of the model. It owns
what such attributes are made of; which there are is said by the models, and what each is in a query by derived.py.
"""

from __future__ import annotations

from typing import Any

from vserverlib.drivers import peewee


class ComputedAttribute(property):
    """What is computed of an entity. Asked of its class, it is a field of queries: Task.status == "failed".

    An entity that a query has read without its id has the value that the query gave it.
    """

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None and owner is not None:
            return self.of(owner)
        if instance is not None and self.name in instance.__dict__ and "id" not in instance._stored:
            return instance.__dict__[self.name]
        return super().__get__(instance, owner)

    def of(self, model: Any) -> Any:
        """Return the field of a model, or of an alias of one, that this is in a query."""
        from vserverlib.entities import derived  # few ask the class

        return derived.field(model, self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = value  # by a query that selects it; Entity refuses what a person assigns

    @property
    def name(self) -> str:
        return str(self.fget.__name__)  # type: ignore[union-attr]  # it is made of a function


class Aliased(peewee.ModelAlias):
    """An alias of a model, which has what is computed of the model, too."""

    def __getattr__(self, name: str) -> Any:
        computed = vars(self.model).get(name)
        return computed.of(self) if isinstance(computed, ComputedAttribute) else super().__getattr__(name)
