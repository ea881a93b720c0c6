"""Fields that accept only some values of their type: one of a few texts, a fraction, a generated column.

Other fields are in fields.py; attributes that are computed from other rows in computed.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vserverlib import Error, UsageError, did_you_mean, with_article
from vserverlib.drivers import peewee
from vserverlib.entities.fields import PlainAccessor, Text, ValidatedField


class Choice(Text):
    """A text that is one of a few. Patterns are any text."""

    options: tuple[str, ...] = ()

    @property
    def takes(self) -> str:  # type: ignore[override]
        return f"one of {', '.join(self.options)}"

    def clean(self, value: Any) -> str | None:
        if value is None or value in self.options:
            return value  # type: ignore[no-any-return]
        meant = did_you_mean(value, self.options) if isinstance(value, str) else ""
        raise Error(f"{self.refuse(value)}{meant}")

    def _like(self, operator: str, pattern: Any) -> Any:
        given = pattern if isinstance(pattern, peewee.Node) else peewee.Value(pattern, converter=False)
        return peewee.Expression(self, operator, given)

    def like(self, pattern: Any) -> Any:
        return self._like(peewee.OP.LIKE, pattern)

    def ilike(self, pattern: Any) -> Any:
        return self._like(peewee.OP.ILIKE, pattern)

    def regexp(self, pattern: Any) -> Any:
        return self._like(peewee.OP.REGEXP, pattern)

    def iregexp(self, pattern: Any) -> Any:
        return self._like(peewee.OP.IREGEXP, pattern)

    def contains(self, rhs: Any) -> Any:
        return self._like(peewee.OP.ILIKE, super().contains(rhs).rhs)

    def startswith(self, rhs: Any) -> Any:
        return self._like(peewee.OP.ILIKE, super().startswith(rhs).rhs)

    def endswith(self, rhs: Any) -> Any:
        return self._like(peewee.OP.ILIKE, super().endswith(rhs).rhs)

    __mod__, __pow__ = like, ilike


class FractionField(ValidatedField, peewee.DoubleField):
    """A number from 0 to 1."""

    accessor_class = PlainAccessor
    takes = "a number, such as 0.5"

    def clean(self, value: Any) -> float | None:
        if value is None:
            return None
        try:
            number = float("" if isinstance(value, bool) else value)
        except (TypeError, ValueError, OverflowError):
            raise self.refuse(value) from None
        if not math.isfinite(number):
            raise self.refuse(value)
        return number


class GeneratedAccessor(peewee.FieldAccessor):
    """Reads the value that the entity computes from its other fields, saved or not."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        return self.field if instance is None else instance._compute()

    def __set__(self, instance: Any, value: Any) -> None:
        raise UsageError(
            f"{self.name} of {with_article(self.model.noun)} cannot be set: it is computed from other fields"
        )


class GeneratedField(Choice):
    """A generated column: one of a few texts, which the database computes from other columns of the row.

    It is not read with the row: the entity computes it in the same way, in its _compute().
    """

    accessor_class = GeneratedAccessor

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    def __init__(self, options: tuple[str, ...], **more: Any) -> None:
        super().__init__(**more)
        self.options = options
