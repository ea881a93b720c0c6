"""Links to missing rows, which a test looks for after many changes."""

from __future__ import annotations

from typing import Any

import models


def broken(database: Any) -> list[Any]:
    """Return the rows with a link to a missing row."""
    if database.is_sqlite:
        return list(database.execute_sql("PRAGMA foreign_key_check").fetchall())
    return [row for model in (*models.ENTITIES, models.Member) for link in model._meta.refs for row in _of(model, link)]


def _of(model: Any, link: Any) -> list[Any]:
    there = link.rel_model.select(link.rel_model.id)
    return list(model.select(model.id).where(link.is_null(False) & link.not_in(there)).tuples())
