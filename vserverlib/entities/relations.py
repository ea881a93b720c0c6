"""Links between entities: to one (a field), to many (a list), and the membership of organizations in collaborations.

A membership is a row of its table. The list of an entity's partners can be edited; save() of the entity writes what was
added and removed, and nothing else, so changes made by others stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, NamedTuple

from vserverlib import Error, NotFound, printable
from vserverlib.drivers import peewee
from vserverlib.entities.fields import TOO_MANY_BITS, ValidatedField, as_id, is_64_bit
from vserverlib.entities.sequences import PreloadedList, item_at, list_repr


class LinkIdAccessor(peewee.ObjectIdAccessor):
    """Reads the id of the linked entity, also if that was saved after it was assigned."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        if instance is None:
            return self.field
        id, linked = instance._stored.get(self.field.name), None
        if id is None:
            linked = instance.__rel__.get(self.field.name)
        return id if linked is None else linked.id


class LinkAccessor(peewee.ForeignKeyAccessor):
    """Reads the linked entity, for all peers at once. Accepts an entity, an id or None."""

    def get_rel_instance(self, instance: Any) -> Any:
        linked = instance.__rel__.get(self.name)
        id = instance._stored.get(self.name)
        if linked is None and id is not None:
            linked = instance._peers and instance._peers.linked(self.field, id)
            linked = linked or self.rel_model.by_id(id)
            if linked is None:
                there = f"{self.rel_model.noun} {printable(id)}"
                raise NotFound(f"{instance.named()} is linked to {there}, which does not exist")
            instance.__rel__[self.name] = linked
        return linked

    def __set__(self, instance: Any, value: Any) -> None:
        instance._stored[self.name] = self.field.clean(value)
        instance._dirty.add(self.name)
        if isinstance(value, self.rel_model):
            instance.__rel__[self.name] = value
        else:
            instance.__rel__.pop(self.name, None)


class BackrefAccessor(peewee.BackrefAccessor):
    """Reads the entities that link to this one, oldest first: none if it was never saved."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        if instance is None:
            return self
        if instance._loaded and self.field.backref in instance._loaded:
            return instance._loaded[self.field.backref].list()
        everyone = self.rel_model.get()
        return everyone.where(self.field == instance.id) if instance.id is not None else everyone.none()

    def load(self, instance: Any, entities: list[Any], query: Any = None) -> None:
        """Keep the list that Peewee read for many entities at once. query: that read it; None: of the whole table."""
        everyone = query if hasattr(query, "as_read") else self.rel_model.get()
        loaded = PreloadedList(entities, everyone, self.field == instance.id, instance._meta.database)
        instance._loaded = {**(instance._loaded or {}), self.field.backref: loaded}

    def __set__(self, instance: Any, value: Any) -> None:
        raise Error(
            f"{type(instance).__name__}.{self.field.backref} cannot be assigned: "
            f"set .{self.field.name} of each {self.rel_model.noun} instead"
        )


class Link(ValidatedField, peewee.ForeignKeyField):
    """A link to one entity. The column may be NULL, so that an imported database can hold orphans."""

    accessor_class = LinkAccessor
    backref_accessor_class = BackrefAccessor

    def __init__(self, model: Any, backref: str, **options: Any) -> None:
        # options: Peewee passes its own when it copies or aliases a field.
        super().__init__(model, backref=backref, null=True, **options)

    def bind(self, model: Any, name: str, set_attribute: bool = True) -> None:
        super().bind(model, name, set_attribute)
        if set_attribute:
            setattr(model, self.object_id_name, LinkIdAccessor(self))

    @property
    def takes(self) -> str:  # type: ignore[override]
        noun = self.rel_model.__name__
        return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"

    def clean(self, value: Any) -> int | None:
        if isinstance(value, self.rel_model):
            id: int | None = value.id
            return id
        number = as_id(value)
        if number is not None and not is_64_bit(number):
            raise self.refuse(value, TOO_MANY_BITS)
        if value is not None and number is None:
            finder = getattr(self.rel_model, "get_by_name", None)
            named = isinstance(value, str) and finder is not None
            remedy = f'{self.rel_model.__name__}.get_by_name("{printable(value)}") finds one by name' if named else ""
            raise self.refuse(value, remedy)
        return number

    def python_value(self, value: Any) -> Any:
        return value


class MemberList(MutableSequence[Any]):
    """The partners of an entity: an editable list, which save() of the entity writes.

    It is read when it is first used, and again after each change of memberships in this session. Unsaved changes are
    kept apart from the rows that were read. A partner is in the list at most once.
    """

    def __init__(self, owner: Any, mine: Any, theirs: Any) -> None:
        self.owner, self._mine, self._theirs = owner, mine, theirs
        self.partner = theirs.rel_model
        self._stored: list[Any] | None = None
        self._added: list[Any] = []
        self._removed: list[Any] = []

    # Reading

    def _read(self) -> list[Any]:
        if self.owner.id is None:
            return []
        if self._stored is None:
            through, partner = self._mine.model, self.partner
            of_mine = partner.select().join(through, on=self._theirs == partner.id).where(self._mine == self.owner.id)
            self._stored = list(of_mine.order_by(through.id))
            self.owner._meta.database.cached_reads.add(self)
        return self._stored

    def _now(self) -> list[Any]:
        kept = [entity for entity in self._read() if entity not in self._removed]
        return kept + [entity for entity in self._added if entity not in kept]

    def invalidate(self, task_id: int | None = None) -> None:
        """Read the list again when it is next used, unless only a task was changed."""
        if task_id is None:
            self._stored = None

    def refresh(self) -> MemberList:
        """Read again what others may have changed, unless this list has unsaved changes."""
        if not self.is_changed:
            self._stored = None
        return self

    def __len__(self) -> int:
        return len(self._now())

    def __getitem__(self, index: Any) -> Any:
        return item_at(self._now(), index, self.partner)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._now())

    def __contains__(self, entity: object) -> bool:
        return entity in self._now()

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Iterable) else NotImplemented

    __hash__ = object.__hash__  # by identity: the database keeps a set of lists to invalidate

    def __repr__(self) -> str:
        return list_repr(self)

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        return [*self, *other]

    # Changing

    @property
    def is_changed(self) -> bool:
        return bool(self._added or self._removed)

    def insert(self, index: int, value: Any) -> None:
        """Add a partner, always at the end: memberships are in the order of their creation."""
        if not isinstance(value, self.partner):
            shown_value = f'"{printable(value)}"' if isinstance(value, str) else printable(repr(value))
            raise Error(f"{self._name()} takes {self.partner.plural}, not {shown_value}")
        if value in self._removed:
            self._removed.remove(value)
        if not any(value is known or value == known for known in self._now()):
            self._added.append(value)

    def __setitem__(self, index: Any, value: Any) -> None:
        values = value if isinstance(index, slice) else [value]
        del self[index]
        self.extend(values)

    def __delitem__(self, index: Any) -> None:
        entities = self._now()[index]
        for entity in entities if isinstance(index, slice) else [entities]:
            self._take_out(entity)

    def _take_out(self, entity: Any) -> None:
        if any(entity is added for added in self._added) or entity in self._added:
            self._added = [added for added in self._added if added is not entity and added != entity]
        if entity in self._read():
            self._removed.append(entity)

    def remove(self, value: Any) -> None:
        """Remove a partner. Raises an Error if it is not in the list."""
        if value not in self._now():
            raise Error(f"{value!r} is not among the {self._name()} of {self.owner.named()}")
        self._take_out(value)

    def assign(self, values: Iterable[Any]) -> None:
        """Replace all partners by these."""
        wanted = _entities(values, self._name())
        trial = MemberList(self.owner, self._mine, self._theirs)
        trial.extend(wanted)  # refuses values of another kind before anything is changed
        for entity in self._now():
            if entity not in wanted:
                self._take_out(entity)
        self.extend(wanted)

    def _name(self) -> str:
        return f"{type(self.owner).__name__}.{self.partner.plural}"

    def removed_memberships(self) -> list[dict[str, int]]:
        """Return the memberships that the next save() removes, each as ids by the names of its links."""
        return [{self._mine.name: self.owner.id, self._theirs.name: entity.id} for entity in self._removed]

    # Writing

    def state(self) -> tuple[list[Any], list[Any]]:
        """Return the unsaved changes, for restore()."""
        return list(self._added), list(self._removed)

    def restore(self, state: tuple[list[Any], list[Any]]) -> None:
        self._added, self._removed, self._stored = list(state[0]), list(state[1]), None

    def write(self) -> None:
        """Write added and removed memberships, in the transaction of save()."""
        through, mine, theirs = self._mine.model, self._mine, self._theirs
        for entity in self._added:
            if not entity.is_saved:
                raise entity.not_saved(f"{self._name()} of {self.owner.named()}")
        if self._removed:
            gone = theirs.in_([entity.id for entity in self._removed])
            peewee.ModelDelete(through).where((mine == self.owner.id) & gone).execute()
        if self._added:
            rows = [{mine: self.owner.id, theirs: entity.id} for entity in self._added]
            through.insert_many(rows).on_conflict_ignore().execute()
        self._added, self._removed = [], []


def _entities(values: Any, name: str) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        shown_value = f'"{printable(values)}"' if isinstance(values, str) else printable(repr(values))
        raise Error(f"{name} takes a list, not {shown_value}: put it in [ ]")
    return list(values)


class Memberships:
    """The attribute of an entity that holds its MemberList."""

    def __init__(self, name: str, mine: Link, theirs: Link) -> None:
        self.name, self.mine, self.theirs = name, mine, theirs
        self.rel_model = theirs.rel_model
        setattr(mine.rel_model, name, self)

    def of(self, instance: Any) -> MemberList:
        """Return the list of an entity, which is created when it is first used."""
        instance._members = instance._members or {}
        members: MemberList = instance._members.setdefault(self.name, MemberList(instance, self.mine, self.theirs))
        return members

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        return self if instance is None else self.of(instance).refresh()

    def __set__(self, instance: Any, value: Any) -> None:
        self.of(instance).assign(value)


class Relation(NamedTuple):
    """A list that entities have: its attribute, the model of its items, and whether it can be edited."""

    name: str
    model: Any
    editable: bool


def relations(model: Any) -> list[Relation]:
    """Return the lists that entities of a model have, sorted by name."""
    found = [Relation(link.backref, link.model, False) for link in model._meta.backrefs if link.backref[0] not in "+!"]
    for name, value in vars(model).items():
        if isinstance(value, Memberships):
            found.append(Relation(name, value.rel_model, True))
    return sorted(found)
