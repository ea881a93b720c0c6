"""One entity as YAML that a person edits, and what that changes.

The text has the fields and lists that can be assigned; links and lists are names, or references such as task/12 for
names that are missing or not unique. A key that is left out stays as it is; an unquoted null removes the value.

documents.py reads YAML; assignments.py has the values.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import Error, documents, printable
from vserverlib.documents import Faults, FaultyFile, List, Mapping, Place, Text, Unread, Value
from vserverlib.entities import assignments, finding
from vserverlib.entities.assignments import SET, Assignment
from vserverlib.entities.fields import as_id, iso
from vserverlib.queries import formats

LONGEST = 100_000  # characters of a text that can be edited here
MARK = "#!"  # begins the lines at the end that list faults
HEAD = """\
# {entity}
# Change values, save, and close the editor. Without a change, nothing is saved.
# null means no value. A line that is removed leaves its field as it is.
"""


class FaultyText(Error):
    """A text has faults: one line for each, with its place. Nothing was changed."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class Edited(NamedTuple):
    """A change of one key: its place in the file, and the assignment."""

    place: Place
    asked: Assignment


# Writing


def values(entity: Any) -> dict[str, Any]:
    """Return the values of an entity that can be edited, as the text has them."""
    return {name: _value(entity, name) for name in assignments.settable(type(entity))}


def write(entity: Any, found: dict[str, Any]) -> str:
    """Return the text of an entity with these values; long ones are left out."""
    long = {name: len(value) for name, value in found.items() if isinstance(value, str) and len(value) > LONGEST}
    about = "".join(f"# {name} has {long[name]:,} characters, too many to edit here.\n" for name in long)
    shown = {name: value for name, value in found.items() if name not in long}
    return HEAD.format(entity=entity.named()) + about + formats.to_yaml(shown)


def _value(entity: Any, name: str) -> Any:
    model = assignments.target(type(entity), name)
    if model is None:
        value = getattr(entity, name)
        return iso(value) if isinstance(value, datetime.datetime) else value
    if assignments.is_list(type(entity), name):
        return [_word(each) for each in getattr(entity, name)]
    id = entity._stored.get(name)
    linked = model.by_id(id)
    return id if linked is None else _word(linked)


def _word(entity: Any) -> str:
    """Return the name of an entity, or a reference if the name would not find it again."""
    name, model = entity.own_name(), type(entity)
    is_plain = bool(name) and as_id(name) is None and finding.id_of_reference(model, name) is None
    is_unique = is_plain and len(list(model.select().where(model.name_field() == name).limit(2))) == 1
    return str(name) if is_unique else finding.reference(model, entity.id)


# Reading


def changes(model: Any, path: Path, before: Path) -> list[Edited]:
    """Return what was changed in a file, in comparison with the file before. Needs no database.

    Raises a FaultyText if it is not such a text.
    """
    faults = Faults(path)
    try:
        new = documents.read(path, faults)
    except FaultyFile as error:
        raise FaultyText(error.faults) from None
    found = list(_edited(model, new, documents.read(before, Faults(before)), faults))
    if faults.total or faults.lost.total:
        raise FaultyText([*faults.lines(), *faults.lost.lines()])
    return found


def _edited(model: Any, new: Value, old: Value, faults: Faults) -> Iterator[Edited]:
    if isinstance(new, Text) and new.is_null:  # everything was removed
        return
    if not isinstance(new, Mapping):
        faults.add(new.place, "it is not a mapping: write NAME: VALUE on each line")
        return
    known = old.values if isinstance(old, Mapping) else {}
    for name, value in new.values.items():
        if isinstance(value, Unread) or _is_same(value, known.get(name)):
            continue
        try:
            yield Edited(new.keys[name], _assignment(model, name, value))
        except Error as error:
            faults.add(new.keys[name], str(error))


def _assignment(model: Any, name: str, value: Value) -> Assignment:
    asked = Assignment(name, SET, _plain(name, value))
    if name not in assignments.settable(model):
        assignments.require(model, asked)
        raise Error(f"{name} cannot be edited here: remove this line")
    if assignments.target(model, name) is None:
        field = model._meta.combined[name]
        field.clean(assignments.converted(field, asked.value))
    return asked


def _is_same(one: Value, other: Value | None) -> bool:
    if isinstance(one, Text) and isinstance(other, Text):
        return (one.text, one.is_null) == (other.text, other.is_null)
    if isinstance(one, List) and isinstance(other, List) and len(one.items) == len(other.items):
        return all(_is_same(mine, theirs) for mine, theirs in zip(one.items, other.items, strict=True))
    return False


def _plain(name: str, value: Value) -> Any:
    if isinstance(value, Text):
        return None if value.is_null else value.text
    if isinstance(value, List) and all(isinstance(each, Text) and not each.is_null for each in value.items):
        return [each.text for each in value.items if isinstance(each, Text)]
    raise Error(f"{name} is neither a text nor a list of texts: write a value, or a list of names")


# Applying


def assign(entity: Any, edited: Sequence[Edited], path: Path, before: dict[str, Any]) -> list[str]:
    """Assign the changes to an entity, without saving it; return the names of what changes.

    entity: as it is now, read in the open transaction. before: the values that were edited. Raises a FaultyText for
    values that it cannot hold, and for values that somebody else has changed since.
    """
    faults, names = Faults(path), list[str]()
    for place, asked in edited:
        try:
            now = _value(entity, asked.name)
            if now != before[asked.name]:
                shown = "null" if now is None else f'"{printable(now)}"'
                raise Error(f"{asked.name} was changed to {shown} by somebody else meanwhile: start again")
            names += assignments.update(entity, [asked])
        except Error as error:
            faults.add(place, str(error))
    if faults.total:
        raise FaultyText(list(faults.lines()))
    return names


# Faults in the text


def without_faults(text: str) -> str:
    """Return a text without the lines that list faults."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(MARK))


def with_faults(text: str, faults: Sequence[str]) -> str:
    """Return a text that ends with a line for each fault, so that the numbers of its lines stay."""
    end = "" if text.endswith("\n") or not text else "\n"
    return text + end + "".join(f"{MARK} {line}\n" for fault in faults for line in fault.splitlines())
