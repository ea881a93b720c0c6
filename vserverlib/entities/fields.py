"""The fields of the models: what a value may be, how it is stored, how it reads back.

One rule holds for all of them: `_stored` of an entity has the value as the database stores it; assigning cleans a
value into that form, or raises an Error that names the field, the value and the remedy; reading decodes it. So filling
a list from the database costs nothing per field, and a value of the wrong type is refused when it is given. `__data__`,
where Peewee and its extensions look for values, has them as they read: decoded, and secrets masked.

It owns single values. Links to other entities are in relations.py.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from typing import TYPE_CHECKING, Any

from vserverlib import Error, UsageError, inert
from vserverlib.databases.drivers import peewee
from vserverlib.databases.secret_columns import SECRET_COLUMNS
from vserverlib.entities import hashing

LARGEST = 2**63 - 1
LENGTH = len("2026-03-01 09:00:00.000000+00:00")


class PlainAccessor(peewee.FieldAccessor):
    """Reads what is stored, writes by the field's clean()."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        return self.field if instance is None else instance._stored.get(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        instance._stored[self.name] = self.field.clean(value)
        instance._dirty.add(self.name)


class Accessor(PlainAccessor):
    """Reads by the field's decode() too."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        if instance is None:
            return self.field
        return self.field.decode(instance._stored.get(self.name))


class Cleaned(peewee.Field):
    """What the fields share: queries and assignments take the same values, and refuse the same."""

    accessor_class = Accessor
    takes = ""  # what help() and errors call its type

    if TYPE_CHECKING:  # to mypy, a field of an entity is its value

        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...
        def __set__(self, instance: Any, value: Any) -> None: ...

    def clean(self, value: Any) -> Any:
        """Return the value as it is stored, None for none; raise an Error where it cannot be."""
        raise NotImplementedError

    def decode(self, stored: Any) -> Any:
        """Return the value as a person reads it."""
        return stored

    def db_value(self, value: Any) -> Any:
        return self.clean(value)

    def python_value(self, value: Any) -> Any:
        return self.decode(value)

    def refuse(self, value: Any, remedy: str = "") -> Error:
        """Return the error for a value of the wrong type."""
        shown = f'"{inert(value)}"' if isinstance(value, str) else inert(repr(value))
        return Error(f"{self} takes {self.takes}, not {shown}" + (f": {remedy}" if remedy else ""))

    def __str__(self) -> str:
        return f"{self.model.__name__}.{self.name}"


class Text(Cleaned, peewee.TextField):
    """Any text but one with a NUL, which PostgreSQL cannot hold."""

    accessor_class = PlainAccessor
    takes = "text"

    def clean(self, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.refuse(value, f'write "{inert(value)}"' if isinstance(value, int | float) else "")
        if "\0" in value:
            raise self.refuse(value, "it holds a NUL character, leave it out")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.refuse(value, "it holds half a character (a surrogate), leave it out") from None
        return value


class Whole(Cleaned, peewee.BigIntegerField):
    """A whole number of 64 bits, or its digits as text."""

    accessor_class = PlainAccessor
    takes = "a whole number"

    def clean(self, value: Any) -> int | None:
        if value is None:
            return None
        number = whole(value)
        if number is None:
            raise self.refuse(value)
        if abs(number) > LARGEST:
            raise self.refuse(value, "it has more than 64 bits")
        return number


class Id(Whole, peewee.AutoField):
    """A primary key. The tables give none twice: AUTOINCREMENT on SQLite, an identity on PostgreSQL."""

    field_type = "AUTO"


class Derived(property):
    """What is worked out of an entity. Asked of its class, it is what a query compares: Task.status == "failed"."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is not None or owner is None:
            return super().__get__(instance, owner)
        from vserverlib.queries import derived  # few ask the class

        return derived.expression(owner, self.fget.__name__)  # type: ignore[union-attr]  # it is made of a function


def whole(value: Any) -> int | None:
    """Return the whole number that a value is, an int or a text of digits; None where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.strip().removeprefix("-").isdigit():
        return int(value)
    return None


def as_id(value: Any) -> int | None:
    """Return the id that a value means: an int, or digits as a list prints them; None for a name, such as "003"."""
    number = whole(value)
    return None if isinstance(value, str) and str(number) != value else number


class Flag(Cleaned, peewee.BooleanField):
    """True or False, strictly: Peewee takes the text "false" for true."""

    accessor_class = Accessor
    takes = "True or False"

    def clean(self, value: Any) -> bool | None:
        if value is None or value is True or value is False:
            return value
        if value in (0, 1) and isinstance(value, int):
            return bool(value)
        raise self.refuse(value, "without quotes" if str(value).lower() in ("true", "false") else "")

    def decode(self, stored: Any) -> Any:
        return bool(stored) if stored in (0, 1) else stored


class Instant(Cleaned):
    """A moment, stored in UTC; a time without a zone is taken as UTC, a date as its midnight.

    Text `YYYY-MM-DD HH:MM:SS.ffffff+00:00` on SQLite, so that the order of texts is that of times; timestamptz on
    PostgreSQL; a datetime with its zone in Python.
    """

    field_type = "INSTANT"
    takes = "a time"

    def clean(self, value: Any) -> str | None:
        if value is None:
            return None
        try:
            moment = as_utc(value)
        except (TypeError, ValueError, OverflowError):
            raise self.refuse(value, 'such as datetime.now(UTC) or "2026-03-01 09:00"') from None
        return moment.isoformat(" ", "microseconds")

    def decode(self, stored: Any) -> Any:
        if isinstance(stored, str):
            try:
                return as_utc(stored)
            except (ValueError, OverflowError):
                return stored  # another program wrote it: shown as it is, checked elsewhere
        return stored


class WorkedOutAccessor(peewee.FieldAccessor):
    """Reads what the entity works out from its own fields, saved or not."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        return self.field if instance is None else instance._work_out()

    def __set__(self, instance: Any, value: Any) -> None:
        raise UsageError(f"{self.model.__name__}.{self.name} cannot be assigned: it is worked out")


class WorkedOut(peewee.TextField):
    """A text that the database works out from other columns of the row: it can be searched for, not assigned.

    It is not read with a row: the entity works it out in the same way, by its _work_out().
    """

    accessor_class = WorkedOutAccessor

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    takes = "worked out, cannot be assigned"


def as_utc(value: Any) -> datetime.datetime:
    """Return a moment in UTC; raise TypeError, ValueError or OverflowError where the value is none."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    elif isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if not isinstance(value, datetime.datetime):
        raise TypeError(value)
    if value.tzinfo is None:
        return value.replace(tzinfo=datetime.UTC)
    return value.astimezone(datetime.UTC)


def as_iso(stored: Any) -> Any:
    """Return a stored time as ISO 8601, 2026-03-01T09:00:00Z; what is none as it is.

    The same as decoding it and writing it again, in a third of the time: a long list has two in each row.
    """
    if not isinstance(stored, str):
        return stored
    try:
        moment = datetime.datetime.fromisoformat(stored)
    except ValueError:
        return stored
    if len(stored) == LENGTH and stored[19] == "." and stored.endswith("+00:00"):
        return f"{stored[:10]}T{stored[11:19]}Z" if stored[20:26] == "000000" else f"{stored[:10]}T{stored[11:26]}Z"
    return iso(as_utc(moment))


def iso(moment: datetime.datetime) -> str:
    """Return a time in UTC as ISO 8601: 2026-03-01T09:00:00Z."""
    return moment.isoformat().replace("+00:00", "Z")


def now() -> datetime.datetime:
    """Return the time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


class PublicKey(Text):
    """A PEM, or the base64 of one; reads back as PEM. Anything else is kept as it is."""

    takes = "the text of a PEM, or base64 of it"

    def clean(self, value: Any) -> str | None:
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        text = super().clean(value)
        if not text or "-----" in text:
            return text
        try:
            plain = base64.b64decode("".join(text.split()), validate=True).decode()
        except (binascii.Error, ValueError):
            return text
        return plain if "-----BEGIN" in plain and "\0" not in plain else text


class SecretAccessor(Accessor):
    """Reads a mask; the plain text of a visible secret only from the instance that was given it."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        if instance is None:
            return self.field
        stored = instance._stored.get(self.name)
        plain, of = (instance._plain or {}).get(self.name, (None, None))
        if stored is None:
            return None
        return plain if of == stored else hashing.MASK

    def __set__(self, instance: Any, value: Any) -> None:
        super().__set__(instance, value)
        stored = instance._stored[self.name]
        weakness = self.field.weakness(value) if stored != value else ""
        instance._weak = {**(instance._weak or {}), self.name: (weakness, stored)}
        if self.field.visible and stored != value:
            instance._plain = {**(instance._plain or {}), self.name: (value, stored)}


class Secret(Text):
    """A secret, hashed when it is given. A ready bcrypt hash is kept as it is; the mask is refused.

    visible: whether the instance that was given the plain text shows it.
    """

    accessor_class = SecretAccessor
    takes = "a secret text"
    visible = False

    def bind(self, model: Any, name: str, set_attribute: bool = True) -> None:
        super().bind(model, name, set_attribute)
        place = (model._meta.table_name, self.column_name)
        if place not in SECRET_COLUMNS:
            raise RuntimeError(f"{self} is a secret, and {place} is not in SECRET_COLUMNS: nothing would hide it")

    def clean(self, value: Any) -> str | None:
        if value is None or (isinstance(value, str) and hashing.is_hash(value)):
            return value
        return hashing.make_hash(hashing.check_plain(str(self), value), self.salt())

    @staticmethod
    def weakness(plain: str) -> str:
        """Return what makes a plain text weak, without a word of it; "" where it is not."""
        return ""

    def salt(self) -> str | None:
        """Return the salt to hash with; None for a new one each time."""
        return None

    def decode(self, stored: Any) -> Any:
        return None if stored is None else hashing.MASK


class Password(Secret):
    """A password: each has a salt of its own."""

    weakness = staticmethod(hashing.weakness_of_password)


class ApiKey(Secret):
    """An API key: all of a database are hashed with one salt, so that a key is found by its hash in the index."""

    visible = True
    weakness = staticmethod(hashing.weakness_of_key)

    def salt(self) -> str | None:
        return key_salt(self.model._meta.database)


def key_salt(database: Any) -> str:
    """Return the salt that the API keys of a database are hashed with, made when the database was."""
    if "key_salt" not in database.cached:
        row = database.execute_sql("SELECT value FROM setting WHERE name = 'key_salt'").fetchone()
        if row is None:
            raise Error(f"{database.title} has no salt for API keys (table setting): it is damaged")
        database.cached["key_salt"] = row[0]
    salt: str = database.cached["key_salt"]
    return salt
