"""Reading rows of entities for tables, panels and JSON, with as few queries as possible.

A page of a list is one query, however many rows and columns it has, and the total is another. Entities in memory are
shown with their unsaved changes; only values of other tables are read for them, by one query for each model.

columns.py defines the columns; views.py and formats.py display rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from operator import itemgetter
from typing import Any, NamedTuple

from models import Collaboration, Result
from vserverlib import pluralize as count_of
from vserverlib.entities import filters, progress
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import as_iso
from vserverlib.entities.lists import EntityList
from vserverlib.entities.progress import Counts
from vserverlib.entities.relations import BackrefAccessor, Link, Memberships
from vserverlib.queries.columns import COLUMNS, MIXED, Column, same, table_columns

PAGE_SIZE = 20  # rows of a list in the shell
EVERY = 10**9  # rows: a page that holds any list

Row = dict[str, Any]


class Page(NamedTuple):
    """Some rows of a list. first: the position of the first row, from 0. total: of all rows."""

    model: type[Entity] | None  # None: entities of several models
    columns: tuple[Column, ...]
    rows: list[Row]
    first: int
    total: int


# Sources of columns: fields of the row, and values of other tables


def _expression(model: Any, source: str) -> Any:
    """Return the expression of a source in a query of a model: a field or a subquery."""
    if source in _OF_TASKS:
        return _OF_TASKS[source](model.id)
    field = model._meta.combined.get(source)
    return filters.value(model, source).expression if field is None or _is_foreign(model, source) else field


_OF_TASKS = {"counts": progress.packed, "last": progress.last_finished}


def _is_foreign(model: Any, source: str) -> bool:
    """Whether a source is a value of another table."""
    field = model._meta.combined.get(source) if issubclass(model, Entity) else None
    return source in _OF_TASKS or _is_relation(model, source) or (isinstance(field, Link) and source == field.name)


def _is_relation(model: Any, source: str) -> bool:
    return isinstance(getattr(model, source, None), Memberships | BackrefAccessor)


def _decoder(model: Any, source: str, iso: bool) -> Callable[[Any], Any] | None:
    """Return the function that decodes a stored value, or None."""
    if source == "counts":
        return Counts.unpacked
    kind = "time" if source == "last" else filters.value(model, source).kind
    return as_iso if iso and kind == "time" else _OF_KIND.get(kind)


_OF_KIND: dict[str, Callable[[Any], Any]] = {"time": Result.finished_at.decode, "flag": Collaboration.encrypted.decode}


def _sources(columns: Iterable[Column]) -> list[str]:
    return list(dict.fromkeys(source for column in columns for source in column.sources))


def _maker(columns: Sequence[Column], sources: Sequence[str]) -> Callable[[Sequence[Any]], Row]:
    """Return a function that creates a row from the values of the sources.

    It is called for each of a million rows, so it loops only over the columns that compute their value.
    """
    place = {source: at for at, source in enumerate(sources)}
    names, first = [column.name for column in columns], [place[column.sources[0]] for column in columns]
    pick = itemgetter(*first, first[0])  # the repeated item makes it return a tuple for one column, too
    computed = [(c.name, c.read, [place[source] for source in c.sources]) for c in columns if c.read is not same]

    def make(values: Sequence[Any]) -> Row:
        row = dict(zip(names, pick(values)))  # noqa: B905  # leaves out the repeated item
        for name, compute, places in computed:
            row[name] = compute(*[values[at] for at in places])
        return row

    return make


# Reading


def rows(query: EntityList, columns: Sequence[Column] = (), *, iso: bool = False) -> Iterator[Row]:
    """Yield the rows of a query. One query, whose cursor is open until the last row.

    iso: times are texts in ISO 8601.
    """
    columns = columns or COLUMNS[query.model]
    sources = _sources(columns)
    return map(_maker(columns, sources), _read(query, sources, iso))


def _read(query: EntityList, sources: Sequence[str], iso: bool = False) -> Iterator[list[Any]]:
    """Yield the values of the sources of each row."""
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
    """Return a query for the same rows that applies its limit first.

    SQLite computes the subqueries of each row that it sorts, also of rows beyond the limit.
    """
    if query._limit is None or query._limit < 0 or query._joins or not query._is_default:
        return query
    model = query.model
    chosen = query.select(model.id)
    return model.select().where(model.id.in_(chosen)).order_by(*(query._order_by or ()))  # type: ignore[no-any-return]


def page(
    entities: Any, first: int = 0, limit: int = PAGE_SIZE, columns: Sequence[Column] = (), *, iso: bool = False
) -> Page:
    """Return some rows of a list. For an unread list, one query reads them and, if there are more, one the total.

    For a list that was read, or a Python list, the entities are shown as they are in memory.
    """
    if isinstance(entities, EntityList) and not entities.is_read and entities._is_default:
        kind, shown = entities.model, tuple(columns) or table_columns(entities.model)
        found = list(rows(entities._part(first, limit), shown, iso=iso))
    else:
        window = list(entities[first : first + limit])
        kind, shown = _kind(window) if window else _kind_of(entities), tuple(columns) or _columns_of(entities, window)
        found = of_entities(window, shown)
    is_last = len(found) < limit and (found or not first)
    return Page(kind, shown, found, first, first + len(found) if is_last else len(entities))


def pages(query: EntityList, limit: int, columns: Sequence[Column], *, iso: bool = False) -> Iterator[Page]:
    """Yield all pages of a query, the first even if it is empty. One query for the rows, one for the total."""
    total, stream = len(query), rows(query, columns, iso=iso)
    for first in count(0, limit):
        found = list(islice(stream, limit))
        if found or not first:
            yield Page(query.model, tuple(columns), found, first, total)
        if len(found) < limit:
            return


def pluralize(number: int, model: Any) -> str:
    """Return a number of entities in words: "1 task", "1,200 tasks"."""
    return count_of(number, *((model.noun, model.plural) if model is not None else ("entity", "entities")))


def query(model: Any, where: Iterable[str] = (), search: str | None = None, sort: str | None = None) -> EntityList:
    """Return the list of entities that match filters and contain a text, sorted by fields."""
    found = model.where(*where)
    if search:
        found = found.search(search)
    return found.sort(sort) if sort else found  # type: ignore[no-any-return]


def _kind(entities: Iterable[Any]) -> Any:
    """Return the model of entities, or None for several models or other objects."""
    kinds = {type(entity) for entity in entities}
    kind = kinds.pop() if len(kinds) == 1 else None
    return kind if kind in COLUMNS else None


def _kind_of(entities: Any) -> Any:
    """Return the model of an empty list, if the list knows it."""
    return getattr(entities, "model", None) or getattr(entities, "partner", None)


def _columns_of(entities: Any, window: Iterable[Entity]) -> tuple[Column, ...]:
    """Return the columns that a query selects, or those of the model if it selects all."""
    names = entities._plain_names() if isinstance(entities, EntityList) and not entities._is_default else None
    if names:
        return tuple(Column(name, "text", (name,), same, 1) for name in names)
    kind = _kind(window)
    return MIXED if kind is None else table_columns(kind)


# Entities in memory


def of_entities(entities: Sequence[Any], columns: Sequence[Column] = ()) -> list[Row]:
    """Return the rows of entities in memory, with their unsaved changes. One query for each model."""
    columns = columns or _columns_of(None, entities)
    sources = _sources(columns)
    make = _maker(columns, sources)
    foreign = {model: _read_foreign(model, entities, sources) for model in {type(entity) for entity in entities}}
    return [make(_values(entity, sources, foreign[type(entity)])) for entity in entities]


def _read_foreign(model: Any, entities: Iterable[Any], sources: Iterable[str]) -> dict[int, Row]:
    """Return, by id, the values of other tables for entities of a model. One query."""
    foreign = [source for source in sources if _is_foreign(model, source)]
    ids = [entity.id for entity in entities if foreign and type(entity) is model and entity.id is not None]
    if not ids:
        return {}
    query = model.select().where(progress.among(model.id, ids))
    return {id: dict(zip(foreign, values, strict=True)) for id, *values in _read(query, ["id", *foreign])}


def _values(entity: Any, sources: Iterable[str], foreign: dict[int, Row]) -> list[Any]:
    """Return the values of the sources of one entity. foreign: the values of other tables, by id."""
    model, known = type(entity), foreign.get(getattr(entity, "id", 0), {})
    return [
        _unsaved(entity, source, known.get(source)) if _is_foreign(model, source) else _own_value(entity, source)
        for source in sources
    ]


def _own_value(entity: Any, name: str) -> Any:
    if not isinstance(entity, Entity):  # another object in a Python list
        return {"noun": type(entity).__name__, "label": repr(entity)}.get(name)
    value = getattr(entity, name, None)
    return value() if callable(value) else value


def _unsaved(entity: Any, source: str, known: Any) -> Any:
    """Return an unsaved change of a link or a relation, or else the known value."""
    if source in entity._dirty:
        linked = entity.__rel__.get(source)
        return None if linked is None else linked.name
    members = (entity._members or {}).get(source)
    if members is not None and members.is_changed:
        return len(members)
    if known is not None or entity.id is not None:
        return known
    return progress.NO_RESULTS if source == "counts" else 0 if _is_relation(type(entity), source) else None
