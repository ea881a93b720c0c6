"""The entity class of a word, for commands and completion."""

from __future__ import annotations

from typing import Any

import models
from vserverlib import UsageError, did_you_mean, printable, vantage6_names

SHORTEST = 3  # letters of a short form, such as org


def kind(word: str) -> Any:
    """Return the entity class with a name, in the singular or plural. Raises a UsageError for an unknown one."""
    words = {name: model for model in models.ENTITIES for name in (model.noun, model.plural)}
    model = words.get(word.casefold())
    if model is None:
        names = ", ".join(model.plural for model in models.ENTITIES)
        start, end = word.casefold().removesuffix("s"), "s" if word.casefold().endswith("s") else ""
        short = next((f"{name}{end}" for name in words if len(start) >= SHORTEST and name.startswith(start)), None)
        near = did_you_mean(word, words) if short is None else f'; did you mean "{short}"?'
        meant = vantage6_names.entity(word) or near or f": there are {names}"
        raise UsageError(f'no entity "{printable(word)}"{meant}')
    return model
