"""Parts of Peewee's interface that entities replace or guard.

* `__data__`, where its extensions look for values: decoded, secrets masked.
* Methods of the class that are called on one entity, and the reverse: refused, with the call to write instead.
* Queries that change something: one that is dropped without its execute() warns.
* prefetch() and with_related(), which fill the lists of entities: memberships are refused in one line.
* Errors: an unknown attribute of a class, and DoesNotExist, are one line; Peewee's have the SQL with its parameters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from vserverlib import Error, NotExecuted, NotFound, UsageError, did_you_mean, printable, vantage6_names
from vserverlib.drivers import peewee
from vserverlib.entities import other_orms
from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.fields import Secret
from vserverlib.entities.relations import BackrefAccessor, Link, Memberships
from vserverlib.messages import warn

# The methods of all entities that an unknown attribute is compared with.
METHODS = (
    *("id", "get", "get_by_id", "get_or_none", "get_or_create", "where", "filter", "search", "sort", "select"),
    *("exists", "help", "create", "insert", "insert_many", "update", "save", "delete", "check", "history"),
)
NOT_COPIED = (
    "_peers",
    "_loaded",
    "_members",
    "_plain",
    "_weak",
    "_as_read",
)  # attributes with other entities or plain secrets


class LoadingDirtySet(set[str]):
    """The changed fields of an entity while a query fills it: Peewee clears them at the end."""

    done = False

    def clear(self) -> None:
        self.done = True
        super().clear()


class Decoded:
    """The decoded values of an entity, and the state of its copies.

    It is a separate class because Peewee sets `__data__` on each model, which validate_model() deletes again.
    """

    @property
    def __data__(self) -> dict[str, Any]:
        entity: Any = self
        fields, stored = entity._meta.fields, entity._stored
        generated = {name: getattr(entity, name) for name, field in fields.items() if isinstance(field, GeneratedField)}
        return {name: fields[name].decode(value) for name, value in stored.items()} | generated

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copy() and pickle: with masks for secrets, without other entities."""
        entity: Any = self
        fields, stored = entity._meta.fields, entity._stored
        masked = {name: fields[name].decode(stored[name]) for name in stored if isinstance(fields[name], Secret)}
        state = {name: value for name, value in self.__dict__.items() if name not in NOT_COPIED}
        return {**state, "_stored": stored | masked}


# Errors


def no_attribute(model: Any, base: Any, name: str) -> AttributeError:
    """Return the error for an unknown attribute of a model or of its entities. base: what all models inherit from."""
    hint = "" if name.startswith("_") else vantage6_names.field(model.noun, name) or other_orms.of_class(model, name)
    if not hint and not name.startswith("_"):
        own = (each for each in {*dir(model)} - {*dir(base)} if not each.startswith("_"))
        hint = did_you_mean(name, [*METHODS, *sorted(own)])
    return AttributeError(f'{model.__name__} has no attribute "{printable(name)}"{hint}', name=name, obj=None)


def does_not_exist(model: Any) -> type[NotFound]:
    """Return the DoesNotExist error of a model: Peewee's, which is also a NotFound error of ours."""
    return type(f"{model.__name__}DoesNotExist", (NotFound, peewee.DoesNotExist), {"__module__": model.__module__})


# Methods of one entity, and of the class


class instance_only:  # noqa: N801  # it is used as a decorator
    """A method of one entity. Called on the class, it raises an Error instead of using the whole table."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method, self.__doc__ = method, method.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is not None:
            return self.method.__get__(instance, owner)
        name = self.method.__name__

        def refuse(*args: Any, **options: Any) -> Any:
            raise Error(f"{name}() belongs to one {owner.__name__}: {owner.__name__}.get(1).{name}()")

        return refuse


class class_only:  # noqa: N801  # it is used like a decorator
    """A writing method of the class. Called on one entity, it raises an Error with the call to write instead.

    remedy: that call; {Task} stands for the class, {t} for an entity, and {name} for a field.
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


class ModifyingQuery:
    """A query that changes something. It warns if it is dropped before it is executed."""

    _is_used = False

    def clone(self) -> Any:
        copy = super().clone()  # type: ignore[misc]  # Peewee's
        self._is_used, copy._is_used = True, False
        return copy

    def execute(self, *args: Any, **options: Any) -> Any:
        self._is_used = True
        return super().execute(*args, **options)  # type: ignore[misc]

    def __sql__(self, ctx: Any) -> Any:  # executed as part of another query
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


class Update(ModifyingQuery, peewee.ModelUpdate):
    """Peewee's UPDATE query."""


class Insert(ModifyingQuery, peewee.ModelInsert):
    """Peewee's INSERT query."""

    _verb = "insert"


def update(cls: Any, data: Any = None, /, **values: Any) -> Update:
    """Return a query that updates the rows that match its where(). It checks no rules."""
    _require_fields(cls, values)
    return Update(cls, cls._normalize_data(data, values))


def insert(cls: Any, data: Any = None, /, **values: Any) -> Insert:
    """Return a query that inserts a row. It checks no rules."""
    _require_fields(cls, values)
    return Insert(cls, cls._normalize_data(data, values))


def _require_fields(cls: Any, names: Iterable[str]) -> None:
    for name in names:
        cls.require_field(name)


def insert_many(cls: Any, rows: Any, fields: Any = None) -> Insert:
    """Return a query that inserts rows. It checks no rules."""
    return Insert(cls, insert=rows, columns=fields)


def insert_from(cls: Any, query: Any, fields: Any) -> Insert:
    """Return a query that inserts the rows of another query. It checks no rules."""
    columns = [cls.require_field(field) if isinstance(field, str) else field for field in fields]
    return Insert(cls, insert=query, columns=columns)


def bulk_create(cls: Any, model_list: Iterable[Any], batch_size: int | None = None) -> None:
    """Save many new entities in one transaction. Peewee's version would write the masks of secrets."""
    with cls._meta.database.atomic():
        for entity in _entities(cls, "bulk_create", model_list):
            entity.save(force_insert=True)


def _entities(cls: Any, method: str, given: Iterable[Any]) -> list[Any]:
    entities = list(given)
    for each in entities:
        if not isinstance(each, cls):
            raise UsageError(f"{method}() takes a list of {cls.plural}, not {printable(repr(each))}")
    return entities


def bulk_update(cls: Any, model_list: Iterable[Any], fields: Iterable[Any], batch_size: int | None = None) -> int:
    """Save some fields of many entities in one transaction; return their number. Peewee's version ignores new ones."""
    only, entities = (
        [cls.require_field(getattr(field, "name", field)) for field in fields],
        _entities(cls, "bulk_update", model_list),
    )
    with cls._meta.database.atomic():
        for entity in entities:
            if not entity.is_saved:
                raise entity.not_saved(f"{entity.noun} to update")
            entity.save(only=only)
    return len(entities)


def set_by_id(cls: Any, key: Any, value: dict[Any, Any]) -> Any:
    """Assign fields of the entity with an id and save it; without an id, save a new entity."""
    entity = cls() if key is None else cls.get(key)
    if entity is None:
        raise NotFound(f"no {cls.noun} {printable(key)}: nothing was changed")
    for field, each in value.items():
        setattr(entity, getattr(field, "name", field), each)
    entity.save()
    return entity.id if key is None else 1


def delete_by_id(cls: Any, pk: Any) -> Any:
    """Delete the entity with an id, by its delete()."""
    entity = cls.get(pk)
    if entity is None:
        raise NotFound(f"no {cls.noun} {printable(pk)}: nothing was deleted")
    return entity.delete()


SAVE = "{t}.{name} = …; {t}.save() changes this one"
CREATE = "another one is {Task}.create({name}=…), and {t}.save() saves this one"
DELETE = "{t}.delete() deletes this one"


class WritersOfClass:
    """The writing methods of Peewee's models: for the class only."""

    update = class_only(update, SAVE)
    bulk_update = class_only(bulk_update, SAVE)
    set_by_id = class_only(set_by_id, SAVE)
    insert = class_only(insert, CREATE)
    insert_many = class_only(insert_many, CREATE)
    insert_from = class_only(insert_from, CREATE)
    bulk_create = class_only(bulk_create, CREATE)
    create = class_only(peewee.Model.create.__func__, CREATE)
    get_or_create = class_only(peewee.Model.get_or_create.__func__, CREATE)
    replace = class_only(peewee.Model.replace.__func__, SAVE)
    replace_many = class_only(peewee.Model.replace_many.__func__, SAVE)
    delete_by_id = class_only(delete_by_id, DELETE)


# Lists that Peewee reads for many entities at once


def load(instance: Any, link: Any, children: list[Any], query: Any = None) -> None:
    """Give an entity the list of entities that link to it. query: reads it after a later write; None: the table."""
    accessor = vars(type(instance)).get(link.backref)
    if isinstance(accessor, BackrefAccessor):  # memberships have none: they are read when they are needed
        accessor.load(instance, children, query)


def _populate(self: Any, instance: Any, id_map: dict[Any, Any]) -> None:
    """Link the entities that prefetch() has read, in place of Peewee's function."""
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
    """Link the entities that with_related() has read, in place of Peewee's function."""
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


def _add_subqueries(query: Any, subqueries: Any, prefetch_type: Any) -> Any:
    """Refuse what prefetch() cannot read, before Peewee does so with the rows of the query in its error."""
    known = [_model_of(query)]
    for each in subqueries:
        subquery = each[0] if isinstance(each, tuple) else each
        model = _model_of(subquery)
        if isinstance(subquery, Memberships) or not any(_are_linked(model, other) for other in known):
            raise _unlinked("prefetch", model, known[-1])
        known.append(model)
    return _peewees_add_subqueries(query, subqueries, prefetch_type)


def _resolve(related: Any) -> Any:
    """Refuse memberships in with_related(); anything else is resolved by Peewee."""
    if isinstance(related, Memberships):
        raise _unlinked("with_related", related.rel_model, related.mine.rel_model)
    return _peewees_resolve(related)


def _model_of(query: Any) -> Any:
    model = query.rel_model if isinstance(query, Memberships) else getattr(query, "model", query)
    return getattr(model, "model", model)  # of an alias


def _are_linked(model: Any, other: Any) -> bool:
    return any(link.rel_model is other for link in model._meta.refs) or other in model._meta.model_backrefs


def _unlinked(method: str, model: Any, other: Any) -> UsageError:
    words = f"{method}() cannot read the {model.plural} of {other.plural}, because no field links them"
    is_list = isinstance(vars(other).get(model.plural), Memberships | BackrefAccessor)
    remedy = f"use {other.noun}.{model.plural} of each" if is_list else "read them by a query of their own"
    return UsageError(f"{words}: {remedy}")


_peewees_populate, _peewees_bucket = peewee.PrefetchQuery.populate_instance, peewee._bucket
_peewees_add_subqueries, _peewees_resolve = peewee.prefetch_add_subquery, peewee.Load._resolve
peewee.PrefetchQuery.populate_instance = _populate
peewee._bucket = _bucket
peewee.prefetch_add_subquery = _add_subqueries
peewee.Load._resolve = staticmethod(_resolve)
