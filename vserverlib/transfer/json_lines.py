"""New entities from JSON lines: each line is an object with the fields of one entity.

    {"name": "IKNL", "country": "Netherlands"}

Links are ids or names, also of an entity from an earlier line. All are created or none; the error has the fault of each
line. The lines are read, and secrets are hashed, before anything is locked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from vserverlib import Error, Locked, ReadOnly, UsageError, pluralize, printable
from vserverlib.entities import assignments
from vserverlib.entities.assignments import SECRETS, Assignment

MOST_FAULTS = 20  # that an error lists
PASSWORD, KEY = "password", "api_key"


class Line(NamedTuple):
    """A line: its number, the entity to create, its assignments, and the API key that was generated for it."""

    number: int
    entity: Any
    asked: list[Assignment]
    key: str | None = None

    @property
    def plain(self) -> list[Assignment]:
        """The assignments without secrets."""
        return [each for each in self.asked if each.name not in SECRETS]

    @property
    def secrets(self) -> list[Assignment]:
        """The assignments of secrets."""
        return [each for each in self.asked if each.name in SECRETS]


class Faults(list[str]):
    """The faults of the lines, each with the number of its line."""

    def add(self, number: int, error: Exception | str) -> None:
        self.append(f"line {number}: {error}")

    def refuse(self) -> None:
        """Raise one Error with the first faults, if there are any."""
        if self:
            more = [f"and {len(self) - MOST_FAULTS:,} more"] if len(self) > MOST_FAULTS else []
            head = f"stdin has {pluralize(len(self), 'fault')}, nothing was created:"
            raise Error("\n".join([head, *self[:MOST_FAULTS], *more]))


def read(model: Any, lines: Iterable[bytes], no_password: bool = False) -> list[Line]:
    """Return the new entities of JSON lines, without their links. Raises an Error with the faults of all lines.

    no_password: whether users may have none.
    """
    faults, found = Faults(), list[Line]()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                asked = assignments.of_mapping(model, _object(line))
                _require(model, asked, no_password)
                found.append(Line(number, model(), asked))
                assignments.fill(found[-1].entity, found[-1].plain)
            except Error as error:
                faults.add(number, error)
    faults.refuse()
    return found


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unrepeated, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise UsageError("it is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        place = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"it is not JSON{place}: write one object on each line, as jq -c does") from None
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "one value"
        raise UsageError(f"it is {kind}, not an object: write one object on each line, as jq -c '.[]' does")
    return found


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f'"{printable(twice)}" is given twice: give it once')
    return dict(pairs)


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)


def _require(model: Any, asked: list[Assignment], no_password: bool) -> None:
    assignments.require_complete(model, asked)
    if model.noun == "user" and not no_password and PASSWORD not in (each.name for each in asked):
        raise UsageError(f'the user has no password: add "{PASSWORD}", or use --no-password for all')


def hash_secrets(lines: list[Line], new_key: Callable[[], str], advance: Callable[[int], object]) -> list[Line]:
    """Assign the secrets, and a new API key to each node that was given none. Returns the lines with these keys.

    new_key: generates a key. advance: called with the number of lines done.
    """
    faults, filled = Faults(), list[Line]()
    for done, line in enumerate(lines, 1):
        try:
            assignments.fill(line.entity, line.secrets)
            filled.append(line._replace(key=keyed(line.entity, line.asked, new_key)))
        except Error as error:
            faults.add(line.number, error)
        advance(done)
    faults.refuse()
    return filled


def keyed(entity: Any, asked: Iterable[Assignment], new_key: Callable[[], str]) -> str | None:
    """Assign a new API key to a node that was given none, and return it."""
    if entity.noun != "node" or KEY in (each.name for each in asked):
        return None
    entity.api_key = key = new_key()
    return key


def save(lines: Iterable[Line], if_not_exists: bool) -> Iterator[tuple[Any, str | None]]:
    """Save the entities in the open transaction. Yields each with its generated key; an existing one without a key.

    Raises one Error with the faults of all lines, after which the transaction has to be rolled back.
    """
    faults = Faults()
    for line in lines:
        try:
            assignments.link_new(line.entity, line.asked)
            found = assignments.existing(line.entity) if if_not_exists else None
            if found is None:
                line.entity.save()
            yield (line.entity, line.key) if found is None else (found, None)
        except (Locked, ReadOnly):
            raise
        except Error as error:
            faults.add(line.number, error)
    faults.refuse()
