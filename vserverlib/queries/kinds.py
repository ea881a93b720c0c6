"""The entity class of a word, for commands and completion."""

from __future__ import annotations

from typing import Any

import models
from vserverlib import UsageError, did_you_mean, printable, vantage6_names


def kind(word: str) -> Any:
    """Return the entity class with a name, in the singular or plural. Raises a UsageError for an unknown one."""
    words = {name: model for model in models.ENTITIES for name in (model.plural, model.noun)}
    model = words.get(word.casefold())
    if model is None:
        names = ", ".join(model.plural for model in models.ENTITIES)
        meant = vantage6_names.entity(word) or did_you_mean(word, words) or f": there are {names}"
        raise UsageError(f'no entity "{printable(word)}"{meant}')
    return model
