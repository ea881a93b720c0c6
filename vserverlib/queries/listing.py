"""Reading what there is to say of entities by as few queries as it takes: the ground of tables, panels and JSON.

A page of a list is one query, however many rows and columns it has, and so is the count of the whole. Entities that are
in memory already are shown as they stand there; only what they do not hold themselves is asked for, by one query for
all of a kind.

What is said of each kind of entity is in columns.py, how it looks is views.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from operator import itemgetter
from typing import Any, NamedTuple

from models import Collaboration, Result
from vserverlib import pluralize as in_words
from vserverlib.entities import filters, progress
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import as_iso
from vserverlib.entities.lists import EntityList
from vserverlib.entities.progress import Counts
from vserverlib.entities.relations import BackrefAccessor, Link, Memberships
from vserverlib.queries.columns import COLUMNS, MIXED, Column, in_tables, same

SHOWN = 20  # rows that the shell shows of a list

Row = dict[str, Any]


class Page(NamedTuple):
    """Some rows of a list: the first of them has this place, counted from 0, among the total."""

    model: type[Entity] | None  # None: entities of several kinds
    columns: tuple[Column, ...]
    rows: list[Row]
    first: int
    total: int


# What columns need: fields, and what other tables tell


def _expression(model: Any, source: str) -> Any:
    """Return what a source is in a query of a model: a field, or the one value of a subquery."""
    if source in _OF_TASKS:
        return _OF_TASKS[source](model.id)
    field = model._meta.combined.get(source)
    return filters.value(model, source).expression if field is None or _is_foreign(model, source) else field


_OF_TASKS = {"counts": progress.packed, "last": progress.last_finished}


def _is_foreign(model: Any, source: str) -> bool:
    """Whether a source is not of the row itself."""
    field = model._meta.combined.get(source) if issubclass(model, Entity) else None
    relation = isinstance(getattr(model, source, None), Memberships | BackrefAccessor)
    return source in _OF_TASKS or relation or (isinstance(field, Link) and source == field.name)


def _decoder(model: Any, source: str, iso: bool) -> Callable[[Any], Any] | None:
    """Return what makes a value of what the database gives; None where it is one."""
    if source == "counts":
        return Counts.unpacked
    kind = "time" if source == "last" else filters.value(model, source).kind
    return as_iso if iso and kind == "time" else _OF_KIND.get(kind)


_OF_KIND: dict[str, Callable[[Any], Any]] = {"time": Result.finished_at.decode, "flag": Collaboration.encrypted.decode}


def _sources(columns: Iterable[Column]) -> list[str]:
    return list(dict.fromkeys(source for column in columns for source in column.needs))


def _maker(columns: Sequence[Column], sources: Sequence[str]) -> Callable[[Sequence[Any]], Row]:
    """Return what makes a row of the values of the sources.

    It is called for each of a million rows: no loop in it is over the columns that are a source as it is.
    """
    place = {source: at for at, source in enumerate(sources)}
    names, first = [column.name for column in columns], [place[column.needs[0]] for column in columns]
    pick = itemgetter(*first, first[0])  # of one place alone it would not be a tuple
    read = [(c.name, c.read, [place[need] for need in c.needs]) for c in columns if c.read is not same]

    def make(values: Sequence[Any]) -> Row:
        row = dict(zip(names, pick(values)))  # noqa: B905  # the last of what is picked is left out
        for name, worked_out, needs in read:
            row[name] = worked_out(*[values[at] for at in needs])
        return row

    return make


# Reading


def rows(query: EntityList, columns: Sequence[Column] = (), *, iso: bool = False) -> Iterator[Row]:
    """Read the rows of a query, as they come from the database. One query, whose cursor is open until the last.

    iso: times are texts, in ISO 8601.
    """
    columns = columns or COLUMNS[query.model]
    sources = _sources(columns)
    return map(_maker(columns, sources), _read(query, sources, iso))


def _read(query: EntityList, sources: Sequence[str], iso: bool = False) -> Iterator[list[Any]]:
    """Read the sources of each row, in their order."""
    model, done = query.model, 0
    database = model._meta.database
    decoders = [(at, decode) for at, decode in enumerate(_decoder(model, each, iso) for each in sources) if decode]
    while True:
        wanted = _narrowed(query._part(done, None)).select(*(_expression(model, source) for source in sources))
        try:
            for raw in database.rows(wanted):
                done += 1
                values = list(raw)
                for at, decode in decoders:
                    values[at] = decode(values[at])
                yield values
            return
        except Exception as error:
            if not database.can_retry(error):
                raise


def _narrowed(query: EntityList) -> EntityList:
    """Return a query for the same rows, of which those beyond a limit are left out before anything is read of them.

    SQLite works out the subqueries of each row that it sorts, also of those that it then leaves out.
    """
    if query._limit is None or query._limit < 0 or query._joins or not query._is_default:
        return query
    model = query.model
    chosen = query.select(model.id)
    return model.select().where(model.id.in_(chosen)).order_by(*(query._order_by or ()))  # type: ignore[no-any-return]


def page(
    entities: Any, first: int = 0, limit: int = SHOWN, columns: Sequence[Column] = (), *, iso: bool = False
) -> Page:
    """Return some rows of a list: of an unread one by a query for the rows and, if there are more, one for the total.

    Of a list that was read, and of a list of Python's, the entities are shown as they are in memory.
    """
    if isinstance(entities, EntityList) and not entities.is_read and entities._is_default:
        kind, shown = entities.model, tuple(columns) or in_tables(entities.model)
        found = list(rows(entities._part(first, limit), shown, iso=iso))
    else:
        window = list(entities[first : first + limit])
        kind, shown = _kind(window) if window else _kind_of(entities), tuple(columns) or _columns_of(entities, window)
        found = of_entities(window, shown)
    is_last = len(found) < limit and (found or not first)
    return Page(kind, shown, found, first, first + len(found) if is_last else len(entities))


def pages(query: EntityList, limit: int, columns: Sequence[Column], *, iso: bool = False) -> Iterator[Page]:
    """Return all of a query, page by page, the first even if it is empty. One query for the rows, one for the total."""
    total, stream = len(query), rows(query, columns, iso=iso)
    for first in count(0, limit):
        found = list(islice(stream, limit))
        if found or not first:
            yield Page(query.model, tuple(columns), found, first, total)
        if len(found) < limit:
            return


def pluralize(number: int, model: Any) -> str:
    """Return a number of entities in words: "1 task", "1,200 tasks"."""
    return in_words(number, *((model.noun, model.plural) if model is not None else ("entity", "entities")))


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
        return tuple(Column(name, "text", (name,), same, 1) for name in names)
    kind = _kind(window)
    return MIXED if kind is None else in_tables(kind)


# Entities in memory


def of_entities(entities: Sequence[Any], columns: Sequence[Column] = ()) -> list[Row]:
    """Return the rows of entities in memory, with their unsaved changes. One query for each kind of them."""
    columns = columns or _columns_of(None, entities)
    sources = _sources(columns)
    make = _maker(columns, sources)
    asked = {model: _ask(model, entities, sources) for model in {type(entity) for entity in entities}}
    return [make(_held(entity, sources, asked[type(entity)])) for entity in entities]


def _ask(model: Any, entities: Iterable[Any], sources: Iterable[str]) -> dict[int, Row]:
    """Read what entities of a model do not hold themselves, by id. One query."""
    foreign = [source for source in sources if _is_foreign(model, source)]
    ids = [entity.id for entity in entities if foreign and type(entity) is model and entity.id is not None]
    if not ids:
        return {}
    query = model.select().where(progress.among(model.id, ids))
    return {id: dict(zip(foreign, values, strict=True)) for id, *values in _read(query, ["id", *foreign])}


def _held(entity: Any, sources: Iterable[str], asked: dict[int, Row]) -> list[Any]:
    """Return the sources of one entity: what it holds, and what was asked for it."""
    model, known = type(entity), asked.get(getattr(entity, "id", 0), {})
    return [
        _unsaved(entity, source, known.get(source)) if _is_foreign(model, source) else _of(entity, source)
        for source in sources
    ]


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
