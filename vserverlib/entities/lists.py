"""Lists of entities: a Peewee query that behaves like a Python list.

While a list is unread, each operation is a query: len() counts, bool() and `in` test whether a row exists, an index or
a slice fetches only these rows. The first loop over a list reads all rows and closes the cursor (an open cursor would
keep later writes waiting for a lock). From then on it holds its entities.

The entities of a list are Peers: reading a link or the counts of one of them reads them for all.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from vserverlib import UsageError, garbage_collection, printable
from vserverlib.drivers import peewee
from vserverlib.entities import progress
from vserverlib.entities.other_orms import no_list_attribute
from vserverlib.entities.sequences import item_at, list_repr, no_such_index

BatchReader = Callable[[Any, Collection[int]], dict[int, Any]]  # (database, ids) → a value for each id, by one query

MOST_ROWS = 2**62  # more than any table has: an offset and a limit have 64 bits together
WINDOW = 100  # rows fetched around an index


class Peers:
    """The ids of the entities that one query returned, and the values read for all of them since."""

    __slots__ = ("__weakref__", "_links", "_values", "ids")

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self._links: dict[Any, dict[int, Any]] = {}
        self._values: dict[BatchReader, BatchValues] = {}

    def linked(self, link: Any, id: int) -> Any:
        """Return the entity with an id that a link of a peer leads to: one query for all peers and all their links."""
        if link not in self._links:
            owner, target = link.model, link.rel_model
            mine = owner.select(link).where(progress.among(owner._meta.primary_key, set(self.ids)))
            self._links[link] = {entity.id: entity for entity in target.select().where(target.id.in_(mine))}
        return self._links[link].get(id)

    def value(self, reader: BatchReader, model: Any, id: int) -> Any:
        """Return the reader's value for one peer, or None, with one query for all peers without a current value."""
        values = self._values.get(reader)
        if values is None or id in values.outdated:
            database = model._meta.database
            database.cached_reads.add(self)
            if values is None:
                values = self._values[reader] = BatchValues(reader(database, self.ids))
            else:
                values.renew(reader(database, values.outdated))
        return values.known.get(id)

    def invalidate(self, task_id: int | None = None) -> None:
        """Mark the values read for one task, or for all, as outdated by a write."""
        if task_id is None:
            self._values.clear()
        for values in self._values.values():
            values.outdated.add(task_id or 0)


class BatchValues:
    """The values that a reader returned for the peers, and the ids whose values are outdated."""

    __slots__ = ("known", "outdated")

    def __init__(self, known: dict[int, Any]) -> None:
        self.known = known
        self.outdated: set[int] = set()

    def renew(self, known: dict[int, Any]) -> None:
        for id in self.outdated:
            self.known.pop(id, None)
        self.known.update(known)
        self.outdated.clear()


class EntityRows(peewee.CursorWrapper):
    """All entities of a query, created without a call per field. The cursor is closed."""

    def __init__(self, cursor: Any, model: type, names: list[str]) -> None:
        super().__init__(cursor)
        fields = [name for name in names if name in model._meta.fields]  # type: ignore[attr-defined]
        with garbage_collection.paused():  # 60 % of the time of a long list
            found = cursor.fetchall()
            cursor.close()
            peers = Peers([row[0] for row in found]) if names[0] == "id" and len(found) > 1 else None
            self.row_cache = [_entity(model, fields, row, peers) for row in found]
        if len(fields) < len(names):
            self._add_aliases(names[len(fields) :], found)
        self.count, self.populated, self.initialized = len(self.row_cache), True, True

    def _add_aliases(self, names: list[str], found: list[tuple[Any, ...]]) -> None:
        """Give each entity the other selected columns as attributes, named by their aliases."""
        for entity, row in zip(self.row_cache, found, strict=True):
            entity.__dict__.update(zip(names, row[-len(names) :], strict=True))


class LoadedRows(peewee.CursorWrapper):
    """Entities that another query has read."""

    def __init__(self, entities: list[Any]) -> None:
        self.row_cache, self.count, self.populated, self.initialized = entities, len(entities), True, True


def _entity(model: type, names: list[str], row: tuple[Any, ...], peers: Peers | None) -> Any:
    entity: Any = object.__new__(model)
    state = entity.__dict__
    state["_stored"] = dict(zip(names, row))  # noqa: B905  # leaves out aliases, which follow the fields
    state["_peers"] = peers
    return entity


class EntityList(peewee.ModelSelect):
    """A list of entities that is read when it is needed. Peewee's where(), order_by(), … return further lists.

    Never writes.
    """

    _window: dict[int, Any]
    _cursor_wrapper: Any
    _is_streamed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._window = {}

    def clone(self) -> EntityList:
        copy: EntityList = super().clone()
        copy._window = {}
        return copy

    @property
    def is_read(self) -> bool:
        return self._cursor_wrapper is not None

    # Narrowing and sorting

    def where(self, *conditions: Any, **values: Any) -> Any:
        """Return the entities that match all conditions: Peewee's, filters as text, or values (status="failed")."""
        from vserverlib.entities import filters  # 1 ms, which only filtering needs

        read = filters.conditions(self.model, conditions)
        read += [filters.equal(self.model, name, value) for name, value in values.items()]
        return super().where(*read) if read else self.clone()

    def filter(self, *conditions: Any, **values: Any) -> Any:
        """Return the entities that match Peewee's filters, such as name__contains="x"; where() also takes text."""
        for text in conditions:
            if isinstance(text, str):
                raise UsageError(f'filter() takes field=value, not a text: write where("{printable(text)}")')
        return super().filter(*conditions, **values)

    def _generate_on_clause(self, src: Any, dest: Any, *how: Any, **options: Any) -> Any:
        """Return the link that a join follows, for Peewee. Raises a UsageError if there is not exactly one."""
        try:
            return super()._generate_on_clause(src, dest, *how, **options)
        except ValueError:
            links = [*src._meta.model_refs.get(dest, ()), *src._meta.model_backrefs.get(dest, ())]
        if not links:
            between = "join the entity between them first, or write on=…"
            raise UsageError(f"no link leads from {src.__name__} to {dest.__name__}: {between}")
        names = " or ".join(f"on={link.model.__name__}.{link.name}" for link in links)
        raise UsageError(f"{len(links)} links lead from {src.__name__} to {dest.__name__}: choose one, with {names}")

    def none(self) -> Any:
        """Return an empty list."""
        return super().where(peewee.SQL("1 = 0"))

    def search(self, text: str) -> Any:
        """Return the entities with a text, ignoring case, in any of their texts or in the name of a link."""
        from vserverlib.entities import filters

        return super().where(filters.searched(self.model, text))

    def sort(self, fields: str) -> Any:
        """Return the list sorted by fields, descending after a minus: sort("collaboration,-created_at")."""
        from vserverlib.entities import filters

        return self.order_by(*filters.order(self.model, fields))

    # Reading

    def _execute(self, database: Any) -> Any:
        if self._cursor_wrapper is None:
            try:
                with database.fetching():
                    super()._execute(database).fill_cache()
            except BaseException as error:
                self._cursor_wrapper = None
                if isinstance(error, Exception) and database.can_retry(error):
                    return self._execute(database)
                raise
        return self._cursor_wrapper

    def _get_model_cursor_wrapper(self, cursor: Any) -> Any:
        names = None if self._is_streamed else self._plain_names()
        return EntityRows(cursor, self.model, names) if names else super()._get_model_cursor_wrapper(cursor)

    def _plain_names(self) -> list[str] | None:
        """Return the attribute of each column if they are fields of the model, followed by aliases; else None."""
        names = [_name(node, self.model) for node in self._returning]
        known = [name in self.model._meta.fields for name in names]
        plain = all(names) and known == sorted(known, reverse=True)
        return names if plain and (all(known) or not self._joins) else None

    def iterator(self, database: Any = None) -> Iterator[Any]:
        """Yield the entities one by one, in constant memory. The cursor stays open until the last."""
        database, query = database or self._database, self.clone()
        names = None if database.is_sqlite else query._plain_names()  # SQLite's own cursor already streams rows
        if names and not query._row_type and all(name in self.model._meta.fields for name in names):
            return (_entity(self.model, names, row, None) for row in database.rows(query))
        query._is_streamed = True
        return iter(query._get_cursor_wrapper(database.execute(query)).iterator())

    def as_read(self, entities: list[Any]) -> EntityList:
        """Return this list, read: with these entities."""
        self._cursor_wrapper = LoadedRows(entities)
        return self

    # List operations

    def __iter__(self) -> Iterator[Any]:
        return iter(self.execute().row_cache)

    def __len__(self) -> int:
        return len(self._cursor_wrapper.row_cache) if self.is_read else self.count()

    def count(self, *args: Any, **options: Any) -> int:
        """Return the number of rows; without a subquery if possible, because SQLite counts a table faster."""
        if self._limit is not None or self._offset is not None or not self._count_can_project_one():
            return int(super().count(*args, **options))
        counted = self.order_by().select(peewee.fn.COUNT(peewee.SQL("*")))
        return int(self.model._meta.database.execute(counted).fetchone()[0])

    def __bool__(self) -> bool:
        return bool(self._cursor_wrapper.row_cache) if self.is_read else self.exists()

    def __contains__(self, entity: object) -> bool:
        if isinstance(entity, peewee.Model) and not isinstance(entity, self.model):
            return False
        if self.is_read or not isinstance(entity, self.model):
            return entity in self.execute().row_cache
        return entity.id is not None and self.where(self.model.id == entity.id).exists()

    def __getitem__(self, index: Any) -> Any:
        if self.is_read:
            return item_at(self._cursor_wrapper.row_cache, index, self.model)
        if isinstance(index, slice):
            return self._slice(index)
        return self._item(operator.index(index))

    def get(self, database: Any = None) -> Any:
        """Return the first entity. Raises DoesNotExist, which is a NotFound error, for an empty list."""
        try:
            return super().get(database)
        except peewee.DoesNotExist:  # its text is the SQL with its parameters, also of secrets
            missing = f"no {self.model.noun} matches: get_or_none() returns None instead"
            raise self.model.DoesNotExist(missing) from None

    def _slice(self, index: slice) -> Any:
        start, stop = (min(end or 0, MOST_ROWS) for end in (index.start, index.stop))
        stop = None if index.stop is None else stop
        if start < 0 or (stop or 0) < 0 or index.step not in (None, 1):
            return self.execute().row_cache[index]
        return list(self._part(start, None if stop is None else max(0, stop - start)))

    def _part(self, offset: int, limit: int | None) -> Any:
        """Return an unread list of some of these rows, within the limit of this list."""
        if self._limit is not None:
            rest = max(0, self._limit - offset)
            limit = rest if limit is None else min(limit, rest)
        return self.limit(limit).offset((self._offset or 0) + offset)

    def _item(self, index: int) -> Any:
        place = index + self.count() if index < 0 else index
        if place not in self._window and 0 <= place <= sys.maxsize:
            first = place // WINDOW * WINDOW
            self._window.update(enumerate(self._part(first, WINDOW), first))
        if place not in self._window:
            raise no_such_index(index, self.count(), self.model)
        return self._window[place]

    def __eq__(self, other: object) -> Any:
        if _is_list(other):
            return self is other or list(self) == list(other)  # type: ignore[call-overload]
        return super().__eq__(other)

    def __ne__(self, other: object) -> Any:
        return not self == other if _is_list(other) else super().__ne__(other)

    __hash__ = peewee.ModelSelect.__hash__

    def __add__(self, other: Any) -> Any:
        return [*self, *other] if _is_list(other) else super().__add__(other)

    def __radd__(self, other: Any) -> Any:
        return [*other, *self]

    def __getattr__(self, name: str) -> Any:
        raise no_list_attribute(self, self.__dict__.get("model"), name)

    def index(self, entity: Any) -> int:
        """Return the position of an entity. Raises ValueError if it is not in the list."""
        return list(self).index(entity)

    def __repr__(self) -> str:
        return list_repr(self)

    __str__ = __repr__


def _is_list(other: object) -> bool:
    return isinstance(other, EntityList) or (isinstance(other, Sequence) and not isinstance(other, str))


def _name(node: Any, model: Any) -> str:
    if isinstance(node, peewee.Alias):
        return str(node._alias)
    is_of_row = isinstance(node, peewee.Field) and node.model is model and node.name in model._meta.fields
    return node.name if is_of_row else ""
