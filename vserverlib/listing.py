"""What there is to say of each entity, read by as few queries as it takes: the ground of tables, panels and JSON.

The columns of each entity are written here once, as data; each tells what it needs (fields, names of linked entities,
counts) and what it makes of that. A page of a list is one query, however many rows and columns it has, and so is the
count of the whole. Entities that are in memory already are shown as they stand there; only what they do not hold
themselves is asked for, by one query for all of a kind.

It owns what is read, and which entity a word means. How that looks is views.py's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import models
from models import Collaboration, Member, Node, Organization, Result, Task, User
from vserverlib import Error, NotFound, UsageError, inert, near, progress
from vserverlib.drivers import peewee
from vserverlib.fields import Cleaned, Flag, Id, Instant, Whole, whole
from vserverlib.lists import EntityList
from vserverlib.orm import Entity
from vserverlib.progress import Counts
from vserverlib.relations import BackrefAccessor, Link, Memberships

PAGE = 50  # rows of a page of a command
SHOWN = 20  # rows that the shell shows of a list
MOST_NAMES = 10_000  # names that are looked through for a near one
MOST_CANDIDATES = 10  # ids that are told of a name that several have

Row = dict[str, Any]


class Column(NamedTuple):
    """One thing that is said of an entity.

    kind: id, number, text, long (a text of many lines), flag, time, state or progress. needs: the sources that read()
    makes the value of. rank: 1 is in every table, 2 and more while there is room, 0 in none.
    """

    name: str
    kind: str
    needs: tuple[str, ...]
    read: Callable[..., Any]
    rank: int = 0


class Page(NamedTuple):
    """Some rows of a list: the first of them has this place, counted from 0, among the total."""

    model: type[Entity] | None  # None: entities of several kinds
    columns: tuple[Column, ...]
    rows: list[Row]
    first: int
    total: int


# What is said of each entity


def _same(value: Any) -> Any:
    return value


def _own(field: Any, rank: int = 0, kind: str = "") -> Column:
    """Say a field as it is."""
    kinds = {Id: "id", Whole: "number", Flag: "flag", Instant: "time"}
    return Column(field.name, kind or kinds.get(type(field), "text"), (field.name,), _same, rank)


def _link(field: Any, rank: int = 0) -> tuple[Column, Column]:
    """Say a link twice: as the id and as the name of what it leads to."""
    id, name = field.object_id_name, field.name
    return Column(id, "id", (id,), _same), Column(name, "text", (name,), _same, rank)


def _counted(name: str, rank: int = 0) -> Column:
    """Say how many a relation has."""
    return Column(name, "number", (name,), _same, rank)


def _told(status: str | None, state: str) -> str | None:
    """Return the status of a result: which failure it is, or what its times say, whoever wrote the row."""
    return status if state == progress.FAILURE else state


def _has_finished(state: str) -> bool:
    return state in (progress.COMPLETED, progress.FAILURE)


COLUMNS: dict[type[Entity], tuple[Column, ...]] = {
    Organization: (
        _own(Organization.id, 1),
        _own(Organization.name, 1),
        _own(Organization.domain, 4),
        _own(Organization.country, 2),
        _counted("collaborations", 3),
        _counted("users", 3),
        _counted("nodes", 3),
        _own(Organization.address1, 6),
        _own(Organization.address2, 6),
        _own(Organization.zipcode, 5),
        _own(Organization.public_key, kind="long"),
    ),
    User: (
        _own(User.id, 1),
        _own(User.username, 1),
        _own(User.firstname, 2),
        _own(User.lastname, 2),
        _own(User.email, 4),
        _own(User.roles, 3),
        *_link(User.organization, 2),
        _own(User.status, 5),
        _own(User.last_seen, 5),
        _own(User.ip, 6),
    ),
    Collaboration: (
        _own(Collaboration.id, 1),
        _own(Collaboration.name, 1),
        _own(Collaboration.encrypted, 1),
        _counted("organizations", 2),
        _counted("nodes", 2),
        _counted("tasks", 2),
    ),
    Node: (
        _own(Node.id, 1),
        _own(Node.name, 1),
        *_link(Node.organization, 2),
        *_link(Node.collaboration, 2),
        _own(Node.status, 3),
        _own(Node.last_seen, 4),
        _own(Node.ip, 5),
    ),
    Task: (
        _own(Task.id, 1),
        _own(Task.name, 1),
        Column("progress", "progress", ("counts",), _same, 1),
        Column("status", "state", ("counts",), lambda counts: counts.status, 1),
        Column("done", "number", ("counts",), lambda counts: counts.done),
        Column("total", "number", ("counts",), lambda counts: counts.total),
        Column("complete", "flag", ("counts",), lambda counts: counts.complete),
        *_link(Task.collaboration, 2),
        *_link(Task.initiator, 3),
        _own(Task.created_at, 4),
        Column("finished_at", "time", ("counts", "last"), lambda counts, last: last if counts.complete else None, 6),
        _own(Task.run_id, 5),
        *_link(Task.parent),
        _own(Task.image, 7),
        _own(Task.database, 8),
        _own(Task.description, kind="long"),
    ),
    Result: (
        _own(Result.id, 1),
        *_link(Result.task, 2),
        *_link(Result.organization, 1),
        Column("status", "state", ("status", "state"), _told, 1),
        Column("complete", "flag", ("state",), _has_finished),
        _own(Result.assigned_at, 3),
        _own(Result.started_at, 4),
        _own(Result.finished_at, 3),
        _own(Result.input, kind="long"),
        _own(Result.result, kind="long"),
        _own(Result.log, kind="long"),
    ),
    Member: (_own(Member.id, 1), *_link(Member.organization, 1), *_link(Member.collaboration, 1)),
}


def in_tables(model: Any) -> tuple[Column, ...]:
    """Return the columns that are read for a table: all but the long ones."""
    return tuple(column for column in COLUMNS[model] if column.kind != "long")


# What is said of entities of several kinds.
MIXED = (
    Column("entity", "text", ("noun",), _same, 1),
    Column("id", "id", ("id",), _same, 1),
    Column("name", "text", ("label",), _same, 1),
)


# What that needs: fields, and what other tables tell


def _expression(model: Any, source: str) -> Any:
    """Return what a source is in a query of a model: a field, or the one value of a subquery."""
    if source in _OF_TASKS:
        return _OF_TASKS[source](model.id)
    field = model._meta.combined.get(source)
    if field is None:
        return _count(model, getattr(model, source))
    return _linked_name(field) if source == field.name and isinstance(field, Link) else field


_OF_TASKS = {"counts": progress.packed, "last": progress.last_finished}


def _linked_name(link: Any) -> Any:
    target = link.rel_model.alias()
    return target.select(target.name).where(target.id == link)


def _count(model: Any, relation: Any) -> Any:
    link = relation.mine if isinstance(relation, Memberships) else relation.field
    other = link.model.alias()
    return other.select(peewee.fn.COUNT(other.id)).where(getattr(other, link.name) == model.id)


def _is_foreign(model: Any, source: str) -> bool:
    """Whether a source is not of the row itself."""
    field = model._meta.combined.get(source) if issubclass(model, Entity) else None
    relation = isinstance(getattr(model, source, None), Memberships | BackrefAccessor)
    return source in _OF_TASKS or relation or (isinstance(field, Link) and source == field.name)


def _decoder(model: Any, source: str) -> Callable[[Any], Any]:
    """Return what makes a value of what the database gives."""
    if source == "counts":
        return Counts.unpacked
    field = Result.finished_at if source == "last" else model._meta.fields.get(source)
    decode: Callable[[Any], Any] = field.decode if isinstance(field, Cleaned) else _same
    return decode


def _sources(columns: Iterable[Column]) -> list[str]:
    return list(dict.fromkeys(source for column in columns for source in column.needs))


def _row(columns: Iterable[Column], values: Row) -> Row:
    return {column.name: column.read(*[values[source] for source in column.needs]) for column in columns}


# Reading


def rows(query: EntityList, columns: Sequence[Column] = ()) -> Iterator[Row]:
    """Read the rows of a query, as they come from the database. One query, whose cursor is open until the last."""
    columns = columns or COLUMNS[query.model]
    for values in _read(query, _sources(columns)):
        yield _row(columns, values)


def _read(query: EntityList, sources: Sequence[str]) -> Iterator[Row]:
    model = query.model
    decoders = [_decoder(model, source) for source in sources]
    database, done = model._meta.database, 0
    while True:
        wanted = query._part(done, None).select(*(_expression(model, source) for source in sources))
        try:
            with database.fetching():
                for raw in database.execute(wanted):
                    done += 1
                    yield {source: decode(value) for source, decode, value in zip(sources, decoders, raw, strict=True)}
            return
        except sqlite3.OperationalError as error:
            if not database.tolerates(error):
                raise


def page(entities: Any, first: int = 0, limit: int = PAGE, columns: Sequence[Column] = ()) -> Page:
    """Return some rows of a list: of an unread one by a query for the rows and, if there are more, one for the total.

    Of a list that was read, and of a list of Python's, the entities are shown as they are in memory.
    """
    if isinstance(entities, EntityList) and not entities.is_read and entities._is_default:
        kind, shown = entities.model, tuple(columns) or in_tables(entities.model)
        found = list(rows(entities._part(first, limit), shown))
    else:
        window = list(entities[first : first + limit])
        kind, shown = _kind(window) if window else _kind_of(entities), tuple(columns) or _columns_of(entities, window)
        found = of_entities(window, shown)
    is_last = len(found) < limit and (found or not first)
    return Page(kind, shown, found, first, first + len(found) if is_last else len(entities))


def pages(query: EntityList, limit: int, columns: Sequence[Column]) -> Iterator[Page]:
    """Return all of a query, page by page, the first even if it is empty. One query for the rows, one for the total."""
    total, stream = len(query), rows(query, columns)
    for first in count(0, limit):
        found = list(islice(stream, limit))
        if found or not first:
            yield Page(query.model, tuple(columns), found, first, total)
        if len(found) < limit:
            return


def counted(number: int, model: Any) -> str:
    """Return a number of entities in words: "1 task", "1,200 tasks"."""
    one, many = (model.noun, model.plural) if model is not None else ("entity", "entities")
    return f"{number:,} {one if number == 1 else many}"


def query(model: Any, where: Iterable[str] = (), search: str | None = None, sort: str | None = None) -> EntityList:
    """Return the list that filters, a text to search for, and fields to sort by ask for."""
    found = model.where(*where)
    if search:
        found = found.search(search)
    return found.sort(sort) if sort else found  # type: ignore[no-any-return]


def _kind(entities: Iterable[Any]) -> Any:
    """Return of which model entities are; None where they are of several, or no entities."""
    kinds = {type(entity) for entity in entities}
    kind = kinds.pop() if len(kinds) == 1 else None
    return kind if kind in COLUMNS else None


def _kind_of(entities: Any) -> Any:
    """Return of which model an empty list would be, where it knows."""
    return getattr(entities, "model", None) or getattr(entities, "partner", None)


def _columns_of(entities: Any, window: Iterable[Entity]) -> tuple[Column, ...]:
    """Return the columns to show: those that a query selects, where it does not take all; else those of the entity."""
    names = entities._plain_names() if isinstance(entities, EntityList) and not entities._is_default else None
    if names:
        return tuple(Column(name, "text", (name,), _same, 1) for name in names)
    kind = _kind(window)
    return MIXED if kind is None else in_tables(kind)


# Entities in memory


def of_entities(entities: Sequence[Any], columns: Sequence[Column] = ()) -> list[Row]:
    """Return the rows of entities in memory, with their unsaved changes. One query for each kind of them."""
    columns = columns or _columns_of(None, entities)
    sources = _sources(columns)
    asked = {model: _ask(model, entities, sources) for model in {type(entity) for entity in entities}}
    return [_row(columns, _held(entity, sources, asked[type(entity)])) for entity in entities]


def _ask(model: Any, entities: Iterable[Any], sources: Iterable[str]) -> dict[int, Row]:
    """Read what entities of a model do not hold themselves, by id. One query."""
    foreign = [source for source in sources if _is_foreign(model, source)]
    ids = [entity.id for entity in entities if foreign and type(entity) is model and entity.id is not None]
    if not ids:
        return {}
    query = model.select().where(progress.among(model.id, ids))
    return {values["id"]: values for values in _read(query, ["id", *foreign])}


def _held(entity: Any, sources: Iterable[str], asked: dict[int, Row]) -> Row:
    """Return the sources of one entity: what it holds, and what was asked for it."""
    model, known = type(entity), asked.get(getattr(entity, "id", 0), {})
    foreign = {source: _unsaved(entity, source, known.get(source)) for source in sources if _is_foreign(model, source)}
    return {source: foreign[source] if source in foreign else _of(entity, source) for source in sources}


def _of(entity: Any, name: str) -> Any:
    if not isinstance(entity, Entity):  # something else that a list of Python's holds
        return {"noun": type(entity).__name__, "label": repr(entity)}.get(name)
    value = getattr(entity, name, None)
    return value() if callable(value) else value


def _unsaved(entity: Any, source: str, known: Any) -> Any:
    """Return what a link or a relation is in memory, where that was changed; else what is known."""
    if source in entity._dirty:
        linked = entity.__rel__.get(source)
        return None if linked is None else linked.name
    members = (entity._members or {}).get(source)
    if members is not None and members.is_changed:
        return len(members)
    return (progress.NO_RESULTS if source == "counts" else 0) if known is None and entity.id is None else known


# Which entity is meant


def find(word: str) -> Any:
    """Return the entity class that a word means, in the singular or plural; a UsageError where there is none."""
    words = {name: model for model in models.ENTITIES for name in (model.plural, model.noun)}
    model = words.get(word.casefold())
    if model is None:
        names = ", ".join(model.plural for model in models.ENTITIES)
        raise UsageError(f'no entity "{inert(word)}"{near(word, words) or f": there are {names}"}')
    return model


def one(model: Any, word: str) -> Any:
    """Return the entity of a model with an id or a name; a NotFound error, which tells near names, where there is none.

    Raises an Error with the ids of all where several have the name.
    """
    id, name = whole(word), name_field(model)
    entity = None if id is None else model.by_id(id)
    if entity is None and name is not None:
        found = list(model.select().where(name == word).order_by(model.id).limit(MOST_CANDIDATES + 1))
        if len(found) > 1:
            raise Error(f'several {model.plural} are called "{inert(word)}": say which by its id, {_ids(found)}')
        entity = found[0] if found else None
    if entity is None:
        raise _unknown(model, word, id, name)
    return entity


def name_field(model: Any) -> Any:
    """Return the field that entities of a model are called by; None where they have no names."""
    return model._meta.fields.get("username") or model._meta.fields.get("name")


def _ids(entities: Sequence[Any]) -> str:
    ids = [str(entity.id) for entity in entities[:MOST_CANDIDATES]]
    return ", ".join(ids) + (", …" if len(entities) > len(ids) else "")


def _unknown(model: Any, word: str, id: int | None, name: Any) -> NotFound:
    if id is not None:
        return NotFound(f"no {model.noun} {id}")
    if name is None:
        return NotFound(f'no {model.noun} "{inert(word)}": {model.plural} have no names, give an id')
    names = model.select(name).where(name.is_null(False)).limit(MOST_NAMES).tuples()
    meant = near(word, (known for (known,) in names if isinstance(known, str)))
    return NotFound(f'no {model.noun} "{inert(word)}"{meant}')
