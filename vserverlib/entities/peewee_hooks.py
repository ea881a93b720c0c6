"""Where Peewee reaches into entities by itself, or is asked by their names: what it finds there.

* `__data__`, where its extensions look for values: decoded, secrets masked.
* Methods of a class that are called on one entity, or of one that are called on the class: refused, with what to write.
* Queries that change something, which do nothing until they are executed: one that is dropped before that warns.
* prefetch() and with_related(), which assign the lists that an entity reads by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from vserverlib import Error, NotExecuted, NotFound, printable
from vserverlib.drivers import peewee
from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.fields import Secret
from vserverlib.entities.relations import BackrefAccessor, Link
from vserverlib.messages import warn

NOT_COPIED = ("_peers", "_loaded", "_members", "_plain", "_weak")  # of an entity: what else was read, plain texts


class LoadingDirtySet(set[str]):
    """The changed fields of an entity that a query is filling: Peewee clears them when it is done."""

    done = False

    def clear(self) -> None:
        self.done = True
        super().clear()


class Decoded:
    """The values of an entity as they read, and what a copy of it takes along.

    A class of its own because Peewee gives each model a `__data__`, which validate_model() takes away again.
    """

    @property
    def __data__(self) -> dict[str, Any]:
        entity: Any = self
        fields, stored = entity._meta.fields, entity._stored
        worked_out = {
            name: getattr(entity, name) for name, field in fields.items() if isinstance(field, GeneratedField)
        }
        return {name: fields[name].decode(value) for name, value in stored.items()} | worked_out

    def __getstate__(self) -> dict[str, Any]:
        """Return what copy() and pickle take along: masks for secrets, and nothing that was read of other entities."""
        entity: Any = self
        fields, stored = entity._meta.fields, entity._stored
        masked = {name: fields[name].decode(stored[name]) for name in stored if isinstance(fields[name], Secret)}
        state = {name: value for name, value in self.__dict__.items() if name not in NOT_COPIED}
        return {**state, "_stored": stored | masked}


# Methods of one entity, and of the class


class instance_only:  # noqa: N801  # it is used as a decorator
    """A method of one entity: asked for on the class, it says so instead of answering for the whole table."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method, self.__doc__ = method, method.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is not None:
            return self.method.__get__(instance, owner)
        name = self.method.__name__

        def refuse(*args: Any, **options: Any) -> Any:
            raise Error(f"{name}() belongs to one {owner.__name__}: {owner.__name__}.get(1).{name}()")

        return refuse


class OfClass:
    """A method of the class that writes: asked for on one entity, it says what to write instead.

    remedy: that, where {Task} is the class, {t} one of its entities, and {name} a field.
    """

    def __init__(self, method: Callable[..., Any], remedy: str) -> None:
        self.method, self.remedy, self.__doc__ = method, remedy, method.__doc__

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self.method.__get__(owner, type(owner))

        def refuse(*args: Any, **values: Any) -> Any:
            name = next(iter(values), owner.first_field())
            remedy = self.remedy.format(Task=owner.__name__, t=owner.noun[0], name=name)
            what = f"{self.method.__name__}() is for the class {owner.__name__}, not for one {owner.noun}"
            raise Error(f"{what}: {remedy}")

        return refuse


# Queries that are not executed


class Pending:
    """A query that changes something once it is executed: dropped before that, it warns."""

    _is_used = False

    def clone(self) -> Any:
        copy = super().clone()  # type: ignore[misc]  # Peewee's
        self._is_used, copy._is_used = True, False
        return copy

    def execute(self, *args: Any, **options: Any) -> Any:
        self._is_used = True
        return super().execute(*args, **options)  # type: ignore[misc]

    def __sql__(self, ctx: Any) -> Any:  # also as part of another query
        self._is_used = True
        return super().__sql__(ctx)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"<{self._described()}>"

    def _described(self) -> str:
        query: Any = self
        return f"{query.model.__name__}.{self._verb}(…), not executed: call its execute()"

    _verb = "update"

    def __del__(self) -> None:
        if not self._is_used and not sys.is_finalizing():
            warn(NotExecuted(f"nothing was changed by {self._described()}"))


class Update(Pending, peewee.ModelUpdate):
    """UPDATE, by Peewee."""


class Insert(Pending, peewee.ModelInsert):
    """INSERT, by Peewee."""

    _verb = "insert"


def update(cls: Any, data: Any = None, /, **values: Any) -> Update:
    """Return the query that changes all of which a where() holds, once it is executed. No rule is asked."""
    _require_fields(cls, values)
    return Update(cls, cls._normalize_data(data, values))


def insert(cls: Any, data: Any = None, /, **values: Any) -> Insert:
    """Return the query that writes a row, once it is executed. No rule is asked."""
    _require_fields(cls, values)
    return Insert(cls, cls._normalize_data(data, values))


def _require_fields(cls: Any, names: Iterable[str]) -> None:
    for name in names:
        cls.require_field(name)


def insert_many(cls: Any, rows: Any, fields: Any = None) -> Insert:
    """Return the query that writes rows, once it is executed. No rule is asked."""
    return Insert(cls, insert=rows, columns=fields)


def insert_from(cls: Any, query: Any, fields: Any) -> Insert:
    """Return the query that writes the rows of another, once it is executed. No rule is asked."""
    columns = [cls.require_field(field) if isinstance(field, str) else field for field in fields]
    return Insert(cls, insert=query, columns=columns)


def bulk_create(cls: Any, model_list: Iterable[Any], batch_size: int | None = None) -> None:
    """Save many new entities in one transaction (Peewee's own would take the masks of secrets for their values)."""
    with cls._meta.database.atomic():
        for entity in model_list:
            entity.save(force_insert=True)


def bulk_update(cls: Any, model_list: Iterable[Any], fields: Iterable[Any], batch_size: int | None = None) -> int:
    """Save some fields of many entities in one transaction, and return how many (Peewee's own passes over new ones)."""
    only, entities = [cls.require_field(getattr(field, "name", field)) for field in fields], list(model_list)
    with cls._meta.database.atomic():
        for entity in entities:
            if not entity.is_saved:
                raise entity.not_saved(f"{entity.noun} to be updated")
            entity.save(only=only)
    return len(entities)


def set_by_id(cls: Any, key: Any, value: dict[Any, Any]) -> Any:
    """Change fields of the entity with an id, as assigning and its save() do; without an id, save a new one."""
    entity = cls() if key is None else cls.get(key)
    if entity is None:
        raise NotFound(f"no {cls.noun} {printable(key)}: there is nothing to change")
    for field, each in value.items():
        setattr(entity, getattr(field, "name", field), each)
    entity.save()
    return entity.id if key is None else 1


def delete_by_id(cls: Any, pk: Any) -> Any:
    """Delete the entity with an id, as its delete() does."""
    entity = cls.get(pk)
    if entity is None:
        raise NotFound(f"no {cls.noun} {printable(pk)}: there is nothing to delete")
    return entity.delete()


SAVE = "{t}.{name} = …; {t}.save() changes this one"
CREATE = "another one is {Task}.create({name}=…), and {t}.save() saves this one"
DELETE = "{t}.delete() deletes this one"


class WritersOfClass:
    """The methods of Peewee's models that write: for the class alone."""

    update = OfClass(update, SAVE)
    bulk_update = OfClass(bulk_update, SAVE)
    set_by_id = OfClass(set_by_id, SAVE)
    insert = OfClass(insert, CREATE)
    insert_many = OfClass(insert_many, CREATE)
    insert_from = OfClass(insert_from, CREATE)
    bulk_create = OfClass(bulk_create, CREATE)
    create = OfClass(peewee.Model.create.__func__, CREATE)
    get_or_create = OfClass(peewee.Model.get_or_create.__func__, CREATE)
    replace = OfClass(peewee.Model.replace.__func__, SAVE)
    replace_many = OfClass(peewee.Model.replace_many.__func__, SAVE)
    delete_by_id = OfClass(delete_by_id, DELETE)


# Lists that Peewee has read for many at once


def load(instance: Any, link: Any, children: list[Any], query: Any = None) -> None:
    """Give an entity the list of those that link to it. query: what it is read by after a later write; else all."""
    accessor = vars(type(instance)).get(link.backref)
    if isinstance(accessor, BackrefAccessor):  # of memberships there is none: they are read when they are needed
        accessor.load(instance, children, query)


def _populate(self: Any, instance: Any, id_map: dict[Any, Any]) -> None:
    """Link what prefetch() has read, as Peewee's own does, to entities of ours."""
    if self.is_backref or not isinstance(self.fields[0], Link):
        _peewees_populate(self, instance, id_map)
        return
    for link, name in self.field_to_name:
        children = id_map.get((link, instance.id), [])
        for child in children:
            setattr(child, name, instance)
            child._dirty.clear()
        load(instance, link, children, self.query)


def _bucket(field: Any, is_backref: bool, children: list[Any], parents: list[Any]) -> None:
    """Link what with_related() has read, as Peewee's own does, to entities of ours."""
    if not is_backref or not isinstance(field, Link):
        _peewees_bucket(field, is_backref, children, parents)
        return
    by_parent: dict[Any, list[Any]] = {}
    for child in children:
        by_parent.setdefault(child._stored[field.name], []).append(child)
    for parent in parents:
        for child in by_parent.get(parent.id, []):
            child.__rel__[field.name] = parent
        load(parent, field, by_parent.get(parent.id, []))


_peewees_populate, _peewees_bucket = peewee.PrefetchQuery.populate_instance, peewee._bucket
peewee.PrefetchQuery.populate_instance = _populate
peewee._bucket = _bucket
