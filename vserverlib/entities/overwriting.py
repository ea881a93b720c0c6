"""The warning of a save that replaced a value which somebody else had changed since it was read.

The save itself finds the fields (orm.py). The journal knows who changed them, and when. A change of this session, by
another object for the same row, is no warning.
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from vserverlib import Overwritten, printable
from vserverlib.entities import journal
from vserverlib.entities.fields import Secret, iso, now, short_repr
from vserverlib.entities.orm import EntityBase, SaveWarnings
from vserverlib.entities.timestamps import duration

MOST_ENTRIES = 100  # of the journal of the entity that are searched


def warnings(entity: EntityBase, changed: dict[str, Any]) -> SaveWarnings:
    """Return a warning for each field that another session changed. changed: the stored values that were replaced."""
    others = _changes_of_others(entity, set(changed))
    return [_warning(entity, name, value, others[name]) for name, value in changed.items() if name in others]


def _changes_of_others(entity: EntityBase, names: set[str]) -> dict[str, journal.Entry | None]:
    """Return, by field, the entry of its newest change, or None if there is none; not those of this session."""
    recorder, left = entity._meta.database.recorder, set(names)
    found: dict[str, journal.Entry | None] = {}
    asked = journal.conditions(type(entity), entity.id)
    columns = {name: entity._meta.fields[name].column_name for name in names}
    for entry in list(islice(journal.entries(entity._meta.database, asked), MOST_ENTRIES)):
        for name in [name for name in left if columns[name] in entry.changes]:
            left.remove(name)
            if recorder is None or entry.session != recorder.session:
                found[name] = entry
    return found | dict.fromkeys(left)


def _warning(entity: EntityBase, name: str, value: Any, entry: journal.Entry | None) -> Overwritten:
    field = entity._meta.fields[name]
    shown = "" if isinstance(field, Secret) else f" to {_shown(field.decode(value))}"
    actor = entry.actor if entry is not None else None
    who = f" by {printable(actor, 60) if actor else 'another program'}"
    when = "meanwhile" if entry is None else f"{duration(now() - entry.at, units=1)} ago"
    remedy = f"see db.log(db.{type(entity).__name__}, {entity.id})"
    return Overwritten(f"{entity.named()}: {name} was changed{shown}{who} {when}, before this save: {remedy}")


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return iso(value)
    return f'"{printable(value, 60)}"' if isinstance(value, str) else printable(short_repr(value), 60)
