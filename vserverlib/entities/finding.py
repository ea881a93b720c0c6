"""Finding one entity by its id, its name, or a reference such as task/12.

Commands, filters, watching and completion share it. An id is written as a list prints it: "003", "+3" and " 3 " are
names. It never writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vserverlib import Error, NotFound, did_you_mean, printable
from vserverlib.entities.fields import as_id
from vserverlib.messages import notify

MOST_NAMES = 10_000  # names that are compared to suggest a similar one
MOST_CANDIDATES = 10  # ids that an error lists if several entities have a name

on_miss: list[Callable[[Any, Any, Any], None]] = []  # (model, id or value, its field or None): of the prompt


def one(model: Any, word: str, *, to_change: bool = False) -> Any:
    """Return the entity of a model with an id or a name. Raises NotFound, with a similar name, without a match.

    `task/12`, as `list -o name` prints it, is always the id 12. Raises an Error, with all ids, if several entities have
    the name. If a word is the id of one entity and the name of another, the id counts, with a notice; for a change, it
    is an Error.
    """
    id = id_of_reference(model, word)
    if id is not None:
        return model.by_id(id) or _raise(NotFound(f"no {model.noun} {id}"))
    found = _of_name(model, word)
    id = as_id(word)
    entity = None if id is None else model.by_id(id)
    if entity is not None:
        _note_namesakes(entity, word, found, to_change)
    elif len(found) > 1:
        raise _ambiguous(model, word, found)
    return entity or next(iter(found), None) or _raise(unknown(model, word))


def id_meant(model: Any, word: str) -> int | None:
    """Return the id that a word means, 12 or task/12, or None for a name. Prints a notice if it is also a name."""
    id = as_id(word)
    if id is None:
        return id_of_reference(model, word)
    others = [other for other in _of_name(model, word) if other.id != id]
    if others and model.by_id(id) is not None:
        notify(f"{_both(model, word, others)}: the id is meant", "yellow")
    return id


def _of_name(model: Any, word: str) -> list[Any]:
    """Return the first entities with a name, sorted by id; none of a model without names."""
    name = model.name_field()
    named = [] if name is None else model.select().where(name == word).order_by(model.id).limit(MOST_CANDIDATES + 1)
    return list(named)


def _note_namesakes(entity: Any, word: str, named: Sequence[Any], to_change: bool) -> None:
    """Print a notice, or raise an Error for a change, if the id of an entity is also the name of others."""
    model, others = type(entity), [other for other in named if other.id != entity.id]
    if not others:
        return
    both = _both(model, word, others)
    if to_change:
        meant = " or ".join(reference(model, each.id) for each in (entity, *others[:1]))
        raise Error(f"{both}: write {meant}")
    notify(f"{both}: {reference(model, entity.id)} is shown", "yellow")


def _both(model: Any, word: str, others: Sequence[Any]) -> str:
    more = "" if len(others) == 1 else " and others"
    return f'"{printable(word)}" is the id of one {model.noun} and the name of {reference(model, others[0].id)}{more}'


def reference(model: Any, id: int) -> str:
    """Return an unambiguous word for an entity, which every command accepts: task/12."""
    return f"{model.noun}/{id}"


def id_of_reference(model: Any, word: str) -> int | None:
    """Return the id of a reference such as task/12, or None if the word is not a reference to this model."""
    kind, slash, id = word.partition("/")
    return as_id(id) if slash and kind in (model.noun, model.plural) else None


def unknown(model: Any, word: str) -> NotFound:
    """Return the error for an id or a name that no entity has, with a similar name."""
    id, name = as_id(word), model.name_field()
    if id is not None:
        return NotFound(f"no {model.noun} {id}")
    if name is None:
        return NotFound(f'no {model.noun} "{printable(word)}": {model.plural} have no names, give an id')
    return NotFound(f'no {model.noun} "{printable(word)}"{similar_name(model, word)}')


def similar_name(model: Any, word: str, field: Any = None) -> str:
    """Return '; did you mean "…"?' with the most similar name of an entity, or "". One query.

    field: another one than the name.
    """
    name = model.name_field() if field is None else field
    names = model.select(name).where(name.is_null(False)).limit(MOST_NAMES).tuples()
    return did_you_mean(word, (known for (known,) in names if isinstance(known, str)))


def _ambiguous(model: Any, word: str, found: Sequence[Any]) -> Error:
    ids = [str(entity.id) for entity in found[:MOST_CANDIDATES]]
    listed = ", ".join(ids) + (", …" if len(found) > len(ids) else "")
    return Error(f'several {model.plural} are called "{printable(word)}": give the id, one of {listed}')


def missed(model: Any, word: Any, field: Any = None) -> Any:
    """Return None for an id, or a value of a field, that no entity has, and report it to `on_miss`."""
    for hook in on_miss:
        hook(model, word, field)
    return None


def _raise(error: Exception) -> Any:
    raise error
