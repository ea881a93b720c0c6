"""The base class of all models: fields, finding, saving, and how messages name an entity.

It does not know the rules, the journal or the prompt, which register functions. Those in `before_commit` run at the
end of each save, inside its transaction, and return warnings. The save issues these, or raises them as one CheckError
in strict mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from vserverlib import (
    CheckError,
    CheckWarning,
    Error,
    NotObeyed,
    Overwritten,
    UsageError,
    did_you_mean,
    printable,
    vantage6_names,
    with_article,
)
from vserverlib.databases.current import database
from vserverlib.drivers import peewee
from vserverlib.entities import finding, rows
from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.computed import Aliased, ComputedAttribute
from vserverlib.entities.fields import Id, Secret, as_id, as_integer, is_64_bit, short_repr
from vserverlib.entities.lists import EntityList, Peers
from vserverlib.entities.peewee_hooks import (
    Decoded,
    LoadingDirtySet,
    WritersOfClass,
    does_not_exist,
    no_attribute,
)
from vserverlib.entities.relations import BackrefAccessor, Link, MemberList, Memberships, relations
from vserverlib.hashing import MASK
from vserverlib.messages import warn
from vserverlib.secret_columns import SECRET_COLUMNS

SaveWarnings = list[CheckWarning | NotObeyed | Overwritten]


class Saved(NamedTuple):
    """The result of a save: the written fields, and the removed memberships, each as ids by the names of its links."""

    entity: Any
    names: frozenset[str]
    is_new: bool
    removed_memberships: list[dict[str, int]]


before_commit: list[Callable[[Saved], SaveWarnings]] = []
before_delete: list[Callable[[Any], None]] = []  # (the plan of deleting.py), in its transaction
after_save: list[Callable[[Any], None]] = []  # (the entity), after the commit unless a transaction is open
after_delete: list[Callable[[Any], None]] = []  # (the plan of deleting.py)
after_unlock: list[Callable[[Any], None]] = []  # (a user), whose unlocking is planned
on_unchanged: list[Callable[[Any], None]] = []  # (an entity without changes to save)
on_overwrite: list[Callable[[Any, dict[str, Any]], SaveWarnings]] = []  # (entity, fields that changed meanwhile)
_ALL: Any = object()
_SECRETS = {column for _, column in SECRET_COLUMNS}


def _quoted(name: str, value: Any) -> str:
    """Return the value of a filter of Peewee's, such as name__contains, for a message; a mask for a secret."""
    return printable(MASK if _SECRETS.intersection(name.split("__")) else short_repr(value))


class ModelType(peewee.ModelBase):
    """The metaclass of the models: its errors for unknown attributes name a similar one."""

    def __getattr__(cls, name: str) -> Any:  # noqa: N805  # of a metaclass
        raise no_attribute(cls, EntityBase, name)


class EntityBase(Decoded, WritersOfClass, peewee.Model, metaclass=ModelType):
    """One row of a table: finding, saving and naming it. Entity, in entity.py, adds the rest."""

    noun: ClassVar[str] = ""  # "organization"
    plural: ClassVar[str] = ""  # "organizations"
    about: ClassVar[str] = ""  # one line for help()
    id: Any = Id()

    _new = False
    _plain: dict[str, tuple[Any, Any]] | None = None  # by field: the assigned secret and its hash
    _weak: dict[str, tuple[str, Any]] | None = None  # by field: the weakness of the assigned secret, and its hash
    _as_read: Mapping[str, Any] = MappingProxyType({})  # by assigned field: the stored value that was read
    _peers: Peers | None = None  # entities read by the same query
    _members: dict[str, MemberList] | None = None
    _loaded: dict[str, EntityList] | None = None  # lists read by prefetch()

    class Meta:
        database = database
        legacy_table_names = False
        only_save_dirty = True

    def __init__(self, *values: Any, **fields: Any) -> None:
        model = type(self)
        if fields.pop("__no_default__", None):  # Peewee creates it to fill it from a row
            self.__dict__.update(_stored={}, __rel__={}, _dirty=LoadingDirtySet())
        else:
            if values:
                raise UsageError(f'{model.__name__} takes fields by name: {model.__name__}({model.first_field()}="…")')
            for name in fields:
                model.require_attribute(name)
            data = self._meta.get_default_dict()
            self.__dict__.update(_stored=data, __rel__={}, _dirty=set(data), _new=True)
        for name, value in fields.items():
            object.__setattr__(self, name, value) if self._new else setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_hydrating():
            if name in self._meta.fields and not isinstance(value, peewee.Model):
                self._stored[name] = value
                return
        elif not name.startswith("_"):
            self.require_attribute(name)
            if name == "id" and not self._new:
                raise Error(f"{self.named()} keeps its id: it cannot be changed to {printable(value)}")
        object.__setattr__(self, name, value)

    def _is_hydrating(self) -> bool:
        dirty = self.__dict__.get("_dirty")
        return type(dirty) is LoadingDirtySet and not dirty.done

    def __getattr__(self, name: str) -> Any:
        """Create rarely needed attributes when they are first used: saves 280 bytes for each entity of a list."""
        if name in ("_dirty", "__rel__"):
            return self.__dict__.setdefault(name, set() if name == "_dirty" else {})
        raise no_attribute(type(self), EntityBase, name)

    # Fields

    @classmethod
    def attributes(cls) -> list[str]:
        """Return the names that can be assigned: fields, ids of links, and editable lists."""
        links = [field.object_id_name for field in cls._meta.refs]
        stored = [field.name for field in cls.stored_fields()]
        return [*stored, *links, *(relation.name for relation in relations(cls) if relation.editable)]

    @classmethod
    def stored_fields(cls) -> list[Any]:
        """Return the fields that are read and written: all but generated columns."""
        return [field for field in cls._meta.sorted_fields if not isinstance(field, GeneratedField)]

    @classmethod
    def first_field(cls) -> str:
        return str(cls._meta.sorted_field_names[1])

    @classmethod
    def require_attribute(cls, name: str) -> None:
        """Raise a UsageError, with a similar name, if there is no such field or it cannot be assigned."""
        if name in cls._meta.combined or isinstance(getattr(cls, name, None), Memberships | BackrefAccessor):
            return
        if hasattr(cls, name):
            is_method = callable(getattr(cls, name))
            what = "is a method" if is_method else "is computed from other values"
            raise UsageError(f"{name} of {with_article(cls.noun)} cannot be set: it {what}")
        meant = vantage6_names.field(cls.noun, name) or did_you_mean(name, cls.attributes())
        raise UsageError(f'{cls.__name__} has no field "{printable(name)}"{meant}')

    @classmethod
    def require_field(cls, name: Any) -> Any:
        """Return the field with a name. Raises a UsageError, with a similar name, for an unknown one."""
        field = cls._meta.combined.get(name) if isinstance(name, str) else None
        if field is None:
            computed = [each for each, value in vars(cls).items() if isinstance(value, ComputedAttribute)]
            names = [*cls._meta.sorted_field_names, *computed]
            meant = vantage6_names.field(cls.noun, str(name)) or did_you_mean(str(name), names)
            raise UsageError(f'{cls.__name__} has no field "{printable(name)}"{meant}')
        return field

    # Finding

    @classmethod
    def select(cls, *fields: Any) -> EntityList:
        return EntityList(cls, fields or cls.stored_fields(), is_default=not fields)

    @classmethod
    def alias(cls, alias: str | None = None) -> Aliased:
        return Aliased(cls, alias)

    @classmethod
    def get(cls, id: Any = _ALL, *query: Any, **filters: Any) -> Any:
        """Return all entities, as a list that is read when needed; or the entity with an id, None if there is none.

        id: a whole number, or its digits as a list prints them; anything else is an Error. Peewee's conditions and
        filters, such as name="x", return the first match, and raise NotFound if there is none.
        """
        for name in filters:
            cls._require_known(name)
        if isinstance(id, peewee.Node) or filters:
            conditions = () if id is _ALL else (id, *query)
            try:
                return super().get(*conditions, **filters)
            except cls.DoesNotExist:
                raise cls._no_match(filters if not conditions else {}) from None
        if id is _ALL:
            return cls.select().order_by(cls.id)
        number = as_id(id)
        if number is None:
            by_name = f": {cls.__name__}.get_by_name({id!r}) finds one by name" if hasattr(cls, "get_by_name") else ""
            raise Error(f"{cls.__name__}.get takes an id, a whole number, not {printable(short_repr(id))}{by_name}")
        return cls.by_id(number) or finding.missed(cls, number)

    @classmethod
    def _no_match(cls, filters: dict[str, Any]) -> Any:
        """Return the DoesNotExist error of get() with Peewee's conditions or filters. It quotes no secrets."""
        field, meant = cls.name_field(), ""
        if field is not None and [*filters] == [field.name]:
            meant = finding.similar_name(cls, str(filters[field.name]))
        given = ", ".join(f"{name}={_quoted(name, value)}" for name, value in filters.items())
        instead = meant or f": {cls.__name__}.get_or_none() returns None instead"
        return cls.DoesNotExist(f"no {cls.noun} {f'with {given}' if given else 'matches'}{instead}")

    @classmethod
    def get_by_id(cls, pk: Any) -> Any:
        """Return the entity with an id. Raises NotFound, which is also DoesNotExist, for an unknown one."""
        entity = cls.get(pk)
        if entity is None:
            raise cls.DoesNotExist(f"no {cls.noun} {printable(pk)}: {cls.__name__}.get({printable(pk)}) returns None")
        return entity

    @classmethod
    def _require_known(cls, word: str) -> None:
        """Refuse a filter of Peewee's, such as name__contains, that does not begin with a field."""
        name = word.partition("__")[0]
        if not isinstance(getattr(cls, name, None), peewee.Node):
            cls.require_field(name)

    @classmethod
    def by_id(cls, id: Any) -> Any:
        """Return the entity with an id, or None, also for a value that cannot be an id."""
        number = as_integer(id)
        return None if number is None or not is_64_bit(number) else cls.first_where(cls.id == number)

    @classmethod
    def first_where(cls, condition: Any) -> Any:
        """Return the oldest entity that matches a condition, or None."""
        return next(iter(cls.select().where(condition).order_by(cls.id).limit(1)), None)

    @classmethod
    def where(cls, *conditions: Any, **values: Any) -> Any:
        """Return the entities that match all conditions: Peewee's, filters as text, or values (status="failed")."""
        return cls.get().where(*conditions, **values)

    @classmethod
    def search(cls, text: str) -> Any:
        """Return the entities with a text, ignoring case, in any of their texts or in the name of a link."""
        return cls.get().search(text)

    @classmethod
    def sort(cls, fields: str) -> Any:
        """Return all entities sorted by fields, descending after a minus: sort("collaboration,-created_at")."""
        return cls.get().sort(fields)

    @classmethod
    def exists(cls, field: str, value: Any) -> bool:
        """Whether any entity has this value in a field."""
        known = cls.require_field(field)
        if isinstance(known, Secret):
            raise UsageError(f"{known} is a secret: it cannot be searched for")
        return bool(cls.select().where(known.is_null() if value is None else known == value).exists())

    # Saving

    def save(self, force_insert: bool = False, only: Iterable[Any] | None = None) -> None:
        """Write the changed fields and memberships in one transaction. Writes nothing if nothing was changed.

        Warns about each rule of the server's API that the change breaks. Raises an Error if the database refuses
        it, or a CheckError with all these warnings in strict mode; then this object and the database stay unchanged.
        force_insert and only are Peewee's; a field that does not exist in `only` is a UsageError.
        """
        for field in only or ():
            self.require_field(getattr(field, "name", field))
        if not (force_insert or self._unsaved()):
            for report in on_unchanged:
                report(self)
            return
        try:
            try:
                self._save(force_insert, only)
            except peewee.IntegrityError:
                if not self._meta.database.catch_up():
                    raise
                self._save(force_insert, only)
        except peewee.IntegrityError as error:
            raise self._refusal(error) from error

    def _save(self, force_insert: bool, only: Iterable[Any] | None) -> None:
        database = self._meta.database
        with database.atomic():
            database.on_rollback(self._restorer())
            if force_insert and not self._new:  # insert all of it with its id: refused while that row exists
                self._new = True
                self._dirty.update(self._stored)
            self._link_saved()
            warnings = self.fill_in_fields()
            saved = Saved(self, frozenset(self._dirty), self._new, self.removed_memberships())
            warnings += self._write(None if only is None else {getattr(field, "name", field) for field in only})
            for hook in before_commit:
                warnings += hook(saved)
            if warnings and database.strict:
                raise CheckError(warnings)
            for warning in warnings:
                warn(warning)
        for report in after_save:
            report(self)

    def _unsaved(self) -> bool:
        moved = any(self._stored.get(name) != linked.id for name, linked in self.__rel__.items() if linked is not None)
        return self._new or moved or bool(self._dirty) or any(m.is_changed for m in (self._members or {}).values())

    def removed_memberships(self) -> list[dict[str, int]]:
        """Return the memberships that the next save removes, each as ids by the names of its links."""
        return [pair for members in (self._members or {}).values() for pair in members.removed_memberships()]

    def _restorer(self) -> Callable[[], None]:
        """Return a function that restores this object to its present state."""
        data, rel, dirty, new = self._stored.copy(), self.__rel__.copy(), set(self._dirty), self._new
        as_read = dict(self._as_read)
        members = [(members, members.state()) for members in (self._members or {}).values()]

        def restore() -> None:
            self.__dict__.update(_stored=data, __rel__=rel, _dirty=dirty, _new=new, _as_read=as_read)
            for list_, before in members:
                list_.restore(before)

        return restore

    def _link_saved(self) -> None:
        """Store the ids of linked entities that were saved after they were assigned."""
        for name, linked in self.__rel__.items():
            if linked is None:
                continue
            if not linked.is_saved:
                raise linked.not_saved(f"{name} of {self.named()}")
            if self._stored.get(name) != linked.id:
                self._stored[name] = linked.id
                self._dirty.add(name)

    @property
    def is_saved(self) -> bool:
        """Whether it was ever saved."""
        return not self._new and self._stored.get("id") is not None

    def not_saved(self, role: str) -> Error:
        """Return the error for an entity that was never saved."""
        return Error(f"{self.named()}, the {role}, was never saved: call its save() first")

    def fill_in_fields(self) -> SaveWarnings:
        """Set the fields that a model sets when it is saved. Return a warning for each assigned value it replaces."""
        return []

    def affected_tasks(self) -> set[int] | None:
        """Return the ids of tasks whose results a write of this entity changes; None if it could be any."""
        return set()

    def _write(self, only: set[str] | None) -> SaveWarnings:
        database, affected = self._meta.database, self.affected_tasks()
        names = [name for name in self._meta.sorted_field_names if name in self._dirty and (not only or name in only)]
        self._require_secrets(names)
        with database.without_invalidation():
            warnings = self._insert(database, names) if self._new else self._update(database, names)
        for members in (self._members or {}).values():
            members.write()
        self._dirty.difference_update(names)
        database.invalidate_tasks(affected)
        return warnings

    def stored_hash(self, name: str) -> Any:
        """Return the hash of a secret, or None. It is read again if this entity, a copy or from a join, has a mask."""
        if self._stored.get(name, MASK) != MASK or not self.is_saved:
            return self._stored.get(name)
        entity = self.by_id(self.id)
        return None if entity is None else entity._stored[name]

    def _require_secrets(self, names: list[str]) -> None:
        """Refuse to write the mask that stands for a secret in a copy, or in an entity read by a join."""
        for name in names:
            if self._stored[name] == MASK and isinstance(self._meta.fields[name], Secret):
                raise Error(f"the {name} of {self.named()} is masked here: assign one, or None")

    def _insert(self, database: Any, names: list[str]) -> SaveWarnings:
        names = [name for name in names if self._stored[name] is not None or name != "id"]
        sql = rows.insert(database, self._meta, names)
        cursor = database.execute_sql(sql, [self._stored[name] for name in names])
        if "id" not in names:
            self._stored["id"] = cursor.lastrowid if database.is_sqlite else cursor.fetchone()[0]
        else:
            database.advance_sequence(self._meta.table_name)
        self._new = False
        return []

    def _update(self, database: Any, names: list[str]) -> SaveWarnings:
        """Write fields. A warning for each that was changed by others since it was read comes from on_overwrite."""
        if not names:
            self._require_row(bool(type(self).by_id(self.id)))
            return []
        as_read = {name: self._as_read[name] for name in names if self._as_read.get(name, MASK) != MASK}
        if self._has_updated(database, names, as_read):
            return []
        warnings = self._overwritten(as_read)
        self._require_row(self._has_updated(database, names, {}))
        return warnings

    def _overwritten(self, as_read: dict[str, Any]) -> SaveWarnings:
        """Return the warnings for fields that have neither the value that was read nor the one to be written."""
        row = type(self).by_id(self.id)
        self._require_row(row is not None)
        changed = {name: row._stored[name] for name in as_read}
        changed = {name: now for name, now in changed.items() if now not in (as_read[name], self._stored[name])}
        return [warning for hook in on_overwrite if changed for warning in hook(self, changed)]

    def _has_updated(self, database: Any, names: list[str], as_read: dict[str, Any]) -> bool:
        """Write fields of the row unless one has another value than was read; return whether it was written."""
        sql = rows.update(database, self._meta, names, as_read)
        values = [*(self._stored[name] for name in names), self.id, *as_read.values()]
        return bool(database.execute_sql(sql, values).rowcount == 1)

    def _require_row(self, there: bool) -> None:
        if not there:
            raise Error(f"{self.named()} was deleted meanwhile: nothing was saved")

    def _refusal(self, error: peewee.IntegrityError) -> Error:
        """Return the error for a row that the database refused: it names the link or value to change."""
        for field in self._meta.sorted_fields:
            value = self._stored.get(field.name)
            if value is None:
                continue
            if isinstance(field, Link) and field.rel_model.by_id(value) is None:
                gone = f"{field.rel_model.noun} {value}, the {field.name} of {self.named()}"
                return Error(f"{gone}, does not exist (any more): choose one that does")
            if (taken := self.taken(field)) is not None:
                return taken
        return Error(f"{self.named()} was refused by the database: {printable(error, 200)}")

    def taken(self, field: Any) -> Error | None:
        """Return the error for a value that has to be unique and that another entity has; None without one."""
        value = self._stored.get(field.name)
        is_unique = value is not None and (field.unique or field.primary_key)
        other = self.first_where(field == value) if is_unique else None
        if other is None or other.id == (None if self._new else self.id):
            return None
        return Error(f'the {field.name} "{printable(value)}" is taken by {other.named()}: choose another')

    @classmethod
    def truncate_table(cls, **options: Any) -> None:
        raise Error(f"this would delete every {cls.noun}: delete one by {cls.__name__}.get(1).delete()")

    drop_table = truncate_table

    # Names for messages

    @classmethod
    def name_field(cls) -> Any:
        """Return the field with the name of an entity, or None if they have no names."""
        return cls._meta.fields.get("username") or cls._meta.fields.get("name")

    def own_name(self) -> Any:
        """Return its name, or None."""
        field = self.name_field()
        return None if field is None else self._stored.get(field.name)

    def label(self) -> str:
        """Return how messages describe this entity after its id: its name, in most models."""
        name = self.own_name()
        return "" if name is None else f'"{printable(name, 60)}"'

    def named(self) -> str:
        """Return how messages name this entity: organization 1 "IKNL"."""
        words = (self.noun, "" if self.id is None else str(self.id), self.label(), "(not saved)" if self._new else "")
        return " ".join(filter(None, words))

    def __str__(self) -> str:
        words = (type(self).__name__, "(not saved)" if self.id is None else str(self.id), self.label())
        return f"<{' '.join(filter(None, words))}>"

    @classmethod
    def validate_model(cls) -> None:
        cls.DoesNotExist = does_not_exist(cls)
        cls.__repr__ = cls.__str__  # type: ignore[assignment,method-assign]  # replaces the one Peewee set
        del cls.__rel__, cls.__data__  # set to None by Peewee, which would hide __getattr__ and Decoded.__data__

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    __hash__ = peewee.Model.__hash__
