"""The tables of the models and their order, and the models by table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# In the order in which rows can be written: a link leads to an earlier table, or to the same.
TABLES = ("organization", "user", "collaboration", "member", "node", "task", "result")
WITH_IDS = (*TABLES, "change", "record")
ENTITIES = tuple(table for table in TABLES if table != "member")


class Registry(Mapping[str, Any]):
    """The models by table, in the order of TABLES.

    models.py fills it. Using it before that raises a RuntimeError, so it is never empty.
    """

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}

    def fill(self, models: Iterable[Any]) -> Registry:
        by_table = {model._meta.table_name: model for model in models}
        self._models = {table: by_table[table] for table in TABLES}
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
