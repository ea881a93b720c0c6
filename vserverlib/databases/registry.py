"""The registry of models by table name, for code that needs all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class Registry(Mapping[str, Any]):
    """The models by table name, in an order in which links point to earlier models.

    models.py fills it. Using it before that raises a RuntimeError, so it is never empty.
    """

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}

    def fill(self, models: Iterable[Any]) -> Registry:
        self._models = {model._meta.table_name: model for model in models}
        return self

    def _known(self) -> dict[str, Any]:
        if not self._models:
            raise RuntimeError("the models are not known yet: import models first")
        return self._models

    def __getitem__(self, table: str) -> Any:
        return self._known()[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._known())

    def __len__(self) -> int:
        return len(self._known())


registry = Registry()
