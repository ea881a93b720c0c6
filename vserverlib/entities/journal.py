"""Reading the journal: who changed which fields, and when; the history of one entity; deleting old changes.

Values have the types that they have in the entities. A changed secret is recorded as "changed"; its hash is not read.
recording.py writes the journal, undoing.py undoes changes, journal_screen.py displays it.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, overload

from vserverlib import Error, UsageError, did_you_mean, pluralize, printable, vantage6_names
from vserverlib.databases.recording import PRUNE, one_change
from vserverlib.databases.registry import registry
from vserverlib.drivers import peewee
from vserverlib.entities import filters
from vserverlib.entities.fields import Secret, UTCDateTimeField, ValidatedField, as_id, is_64_bit, short_repr
from vserverlib.entities.orm import EntityBase

DEFAULT_LIMIT = 20  # records that log() returns
CHANGED = "changed"  # stands for the value of a secret

CHANGE = peewee.Table("change", ("id", "at", "actor", "session", "kind", "about", "backup"))
RECORD = peewee.Table("record", ("id", "change_id", "entity", "entity_id", "op", "changes", "secrets"))
UNDOING = peewee.Table("undoing", ("change_id", "undone_id"))

Pair = list[Any]  # [before, after]


class Entry(NamedTuple):
    """One record: the change of one row.

    changes: {field: [before, after]}, None for no value. about: the description of a change that is not an ordinary one
    (an undo, bulk work); such a change may have no records, and is one entry without an entity.
    """

    id: int | None
    change: int
    at: datetime.datetime
    actor: str | None
    session: str | None
    entity: str | None
    entity_id: int | None
    op: str
    changes: dict[str, Pair]
    about: str | None


class Log(Sequence[Entry]):
    """Entries, newest first. is_part: there are more, older ones."""

    def __init__(self, entries: list[Entry], is_part: bool) -> None:
        self.entries, self.is_part = entries, is_part

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        return self.entries[index]

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        entries = pluralize(len(self), "entry", "entries")
        return f"<{entries} of the journal{', there are more' if self.is_part else ''}>"


# Queries


def log(
    database: Any,
    entity: Any = None,
    id: int | None = None,
    *,
    actor: str | None = None,
    since: Any = None,
    session: str | None = None,
    limit: Any = DEFAULT_LIMIT,
) -> Log:
    """Return the entries of the journal, newest first.

    entity: an entity, its class, or a word such as "task"; id: of one of them. since: a time, or an age such as "2d".
    limit: the highest number of records.
    """
    if isinstance(entity, EntityBase):
        entity, id = type(entity), entity.id
    if not isinstance(limit, int) or not 0 < limit < sys.maxsize:
        given = printable(short_repr(limit))
        raise UsageError(f"limit is the highest number of records, a whole number from 1, not {given}")
    asked = conditions(entity, id, actor=actor, since=since, session=session)
    found = list(islice(entries(database, asked), limit + 1))
    return Log(found[:limit], len(found) > limit)


def history(entity: EntityBase) -> Log:
    """Return all entries of one entity, newest first."""
    if entity.id is None:
        raise Error(f"{entity.named()} is not in the database: it has no history yet")
    return Log(list(entries(entity._meta.database, conditions(type(entity), entity.id))), False)


def conditions(
    entity: Any = None,
    id: int | None = None,
    *,
    actor: str | None = None,
    since: Any = None,
    session: str | None = None,
    changes: Sequence[int] = (),
) -> list[Any]:
    """Return the conditions of a query of the journal. Raises a UsageError for values that cannot match."""
    if id is not None and entity is None:
        raise UsageError("an id needs an entity: name one, such as task")
    number = as_id(id)
    if id is not None and (number is None or not is_64_bit(number)):
        raise UsageError(f"{printable(id)} is not an id: an id is a whole number")
    found = [] if entity is None else [RECORD.entity == table_of(entity)]
    given = ((RECORD.entity_id, number), (CHANGE.actor, actor), (CHANGE.session, session))
    found += [column == value for column, value in given if value is not None]
    found += [CHANGE.at >= stored_time(since)] if since is not None else []
    return [*found, CHANGE.id << list(changes)] if changes else found


def table_of(entity: Any) -> str:
    """Return the table of an entity class, or of a word for one. Raises a UsageError for an unknown one."""
    if isinstance(entity, type) and issubclass(entity, EntityBase):
        return str(entity._meta.table_name)
    words = {word: name for name, model in registry.items() for word in (model.noun, model.plural, name)}
    word = str(entity).casefold()
    if word not in words:
        known = f": there are {', '.join(model.plural for model in registry.values())}"
        raise UsageError(
            f'no entity "{printable(entity)}"{vantage6_names.entity(word) or did_you_mean(word, words) or known}'
        )
    return words[word]


def stored_time(since: Any) -> str:
    """Return a time, or an age such as "2d", as a stored time. Raises a UsageError for anything else."""
    moment = filters.past(since) if isinstance(since, str) else since
    return str(CHANGED_AT.clean(moment))


CHANGED_AT = UTCDateTimeField()


# Reading


def entries(database: Any, asked: Sequence[Any] = ()) -> Iterator[Entry]:
    """Yield the entries that match all conditions, newest first. One query, whose cursor is open until the last."""
    of_change = (CHANGE.id, CHANGE.at, CHANGE.actor, CHANGE.session, CHANGE.kind, CHANGE.about)
    of_record = (RECORD.id, RECORD.entity, RECORD.entity_id, RECORD.op, raw_text(database, RECORD.changes))
    query = _matching(CHANGE.select(*of_change, *of_record), asked).order_by(CHANGE.id.desc(), RECORD.id.desc())
    for row in database.rows(query):
        yield _entry(*row)


def total(database: Any, asked: Sequence[Any] = ()) -> int:
    """Return the number of entries that match all conditions."""
    query = _matching(CHANGE.select(peewee.fn.COUNT(CHANGE.id)), asked)
    return int(database.execute(query).fetchone()[0])


def _matching(query: Any, asked: Sequence[Any]) -> Any:
    query = query.join(RECORD, peewee.JOIN.LEFT_OUTER, on=RECORD.change_id == CHANGE.id)
    return query.where(*asked) if asked else query


def _entry(
    change: int,
    at: str,
    actor: Any,
    session: Any,
    kind: Any,
    about: Any,
    id: Any,
    *record: Any,
) -> Entry:
    moment = CHANGED_AT.decode(at)
    if id is None:
        return Entry(None, change, moment, actor, session, None, None, kind or "", {}, about)
    name, entity_id, op, changes = record
    model = registry.get(name)
    noun = model.noun if model is not None else name
    return Entry(id, change, moment, actor, session, noun, entity_id, op, decoded(model, pairs(changes)), about)


def raw_text(database: Any, column: Any) -> Any:
    """Return the expression of a text; on SQLite of its bytes, because other programs may store invalid UTF-8."""
    return column.cast("BLOB") if database.is_sqlite else column


def pairs(text: bytes | str | None) -> dict[str, Pair]:
    """Return the pairs of stored values from the JSON that a trigger wrote (migration 0002)."""
    found = json.loads(text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text or "{}")
    return {name: [_stored_value(value) for value in pair] for name, pair in found.items()}


def _stored_value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return bytes.fromhex(value["blob"]) if "blob" in value else float(value["real"])


def decoded(model: Any, changes: dict[str, Pair]) -> dict[str, Pair]:
    """Return pairs of stored values as entities read them."""
    decode = {name: _decoder(model, name) for name in changes}
    return {name: [decode[name](value) for value in pair] for name, pair in changes.items()}


def _decoder(model: Any, column: str) -> Callable[[Any], Any]:
    field = model._meta.columns.get(column) if model is not None else None
    if not isinstance(field, ValidatedField) or isinstance(field, Secret):
        return _readable
    return lambda value: _readable(field.decode(value))


def _readable(value: Any) -> Any:
    """Return a value with replacement characters for bytes that are not UTF-8."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value


def as_rows(found: Iterator[Entry]) -> Iterator[dict[str, Any]]:
    """Return entries as rows for programs."""
    return (entry._asdict() for entry in found)


# Pruning


def count_before(database: Any, older: Any) -> int:
    """Return the number of changes that are older than a time, or an age such as "90d"."""
    query = CHANGE.select(peewee.fn.COUNT(CHANGE.id)).where(CHANGE.at < stored_time(older))
    return int(database.execute(query).fetchone()[0])


def prune(database: Any, older: Any) -> int:
    """Delete the changes that are older than a time, or an age such as "90d", and return their number. Writes.

    They cannot be undone any more. The pruning is a change of its own in the journal.
    """
    before = stored_time(older)
    old = CHANGE.select(CHANGE.id).where(CHANGE.at < before)
    with database.atomic():
        number = count_before(database, before)
        if number:
            database.execute(UNDOING.delete().where((UNDOING.change_id << old) | (UNDOING.undone_id << old)))
            database.execute(RECORD.delete().where(RECORD.change_id << old))
            database.execute(CHANGE.delete().where(CHANGE.at < before))
            with one_change(database, PRUNE, f"pruned {pluralize(number, 'change')} before {before[:19]} UTC"):
                pass
    return number
