"""The fields of the models: which values they accept, how values are stored and read.

`_stored` of an entity holds each value as the database stores it. Assigning converts a value to that form, or raises an
Error that names the field, the value and the remedy; reading decodes it. So filling a list from the database costs
nothing per field, and a value of the wrong type is refused where it is assigned. `__data__`, where Peewee and its
extensions look for values, has them decoded, and secrets masked.

Links to other entities are in relations.py.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import operator
from typing import TYPE_CHECKING, Any

from vserverlib import Damaged, Error, hashing, printable
from vserverlib.drivers import peewee
from vserverlib.entities import timestamps
from vserverlib.entities.timestamps import as_utc
from vserverlib.secret_columns import SECRET_COLUMNS

SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
MOST_DIGITS = len(str(SMALLEST_INTEGER))  # Python refuses to read a number of thousands of digits
MOST_BITS_SHOWN = 256  # of a number in an error
STORED_TIME_LENGTH = len("2026-03-01 09:00:00.000000+00:00")


def store(instance: Any, name: str, value: Any) -> None:
    """Assign a stored value, and keep the one that was read: save() compares it with the database."""
    stored, dirty = instance._stored, instance._dirty
    if name not in dirty:
        if name in stored and not instance._new:
            instance.__dict__.setdefault("_as_read", {})[name] = stored[name]
        dirty.add(name)
    stored[name] = value


class PlainAccessor(peewee.FieldAccessor):
    """Reads the stored value, and writes through the field's clean()."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        return self.field if instance is None else instance._stored.get(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        store(instance, self.name, self.field.clean(value))


class Accessor(PlainAccessor):
    """Also reads through the field's decode()."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        if instance is None:
            return self.field
        return self.field.decode(instance._stored.get(self.name))


class ValidatedField(peewee.Field):
    """Base of all fields: queries and assignments accept and refuse the same values."""

    accessor_class = Accessor
    takes = ""  # its type in help() and errors

    if TYPE_CHECKING:  # to mypy, a field of an entity is its value

        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...
        def __set__(self, instance: Any, value: Any) -> None: ...

    def clean(self, value: Any) -> Any:
        """Return the value as it is stored, or None. Raises an Error if the field cannot hold it."""
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
        given = f'"{printable(value)}"' if isinstance(value, str) else printable(short_repr(value))
        return Error(f"{self} takes {self.takes}, not {given}" + (f": {remedy}" if remedy else ""))

    def __str__(self) -> str:
        return f"{self.model.__name__}.{self.name}"


class Text(ValidatedField, peewee.TextField):
    """Text without NUL characters, which PostgreSQL cannot hold."""

    accessor_class = PlainAccessor
    takes = "text"

    def clean(self, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.refuse(value, f'write "{printable(value)}"' if isinstance(value, int | float) else "")
        if "\0" in value:
            raise self.refuse(value, "it contains a NUL character, leave it out")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.refuse(value, "it contains half a character (a surrogate), leave it out") from None
        return value


TOO_MANY_BITS = "it has more than 64 bits"


class IntegerField(ValidatedField, peewee.BigIntegerField):
    """A 64-bit integer. Accepts its digits as text."""

    accessor_class = PlainAccessor
    takes = "a whole number"

    def clean(self, value: Any) -> int | None:
        if value is None:
            return None
        number = as_integer(value)
        if number is None:
            raise self.refuse(value)
        if not is_64_bit(number):
            raise self.refuse(value, TOO_MANY_BITS)
        return number


class Id(IntegerField, peewee.AutoField):
    """A primary key. An id is never used twice: AUTOINCREMENT on SQLite, an identity on PostgreSQL."""

    field_type = "AUTO"


def as_integer(value: Any) -> int | None:
    """Return the integer that a value is: an integer or a text of digits; None for anything else.

    It may have more than 64 bits: see is_64_bit(). A text of more digits than any id has is not read.
    """
    if isinstance(value, str):
        is_number = len(value) <= MOST_DIGITS and value.isascii() and value.strip().removeprefix("-").isdigit()
        return int(value) if is_number else None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    return operator.index(value)


def short_repr(value: Any) -> str:
    """Return the repr of a value, or the size of a long number: Python refuses the repr of thousands of digits."""
    is_long = isinstance(value, int) and not is_64_bit(value) and value.bit_length() > MOST_BITS_SHOWN
    return f"a number of {value.bit_length():,} bits" if is_long else repr(value)


def is_64_bit(number: int) -> bool:
    """Whether the databases can hold an integer."""
    return SMALLEST_INTEGER <= number <= LARGEST_INTEGER


def as_id(value: Any) -> int | None:
    """Return the id that a value means: an int, or digits as a list prints them; None for a name, such as "003"."""
    number = as_integer(value)
    return None if isinstance(value, str) and str(number) != value else number


class BooleanField(ValidatedField, peewee.BooleanField):
    """True or False only: Peewee takes the text "false" for true."""

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


class UTCDateTimeField(ValidatedField):
    """A time, stored in UTC. A time without a zone is taken as UTC, a date as its midnight.

    On SQLite it is the text `YYYY-MM-DD HH:MM:SS.ffffff+00:00`, which sorts by time; on PostgreSQL a timestamptz; in
    Python a datetime with time zone.
    """

    field_type = "INSTANT"
    takes = "a time"

    def clean(self, value: Any) -> str | None:
        return None if value is None else timestamps.stored(self._read(as_utc, value))

    def decode(self, stored: Any) -> Any:
        if isinstance(stored, str):
            try:
                return as_utc(stored)
            except (ValueError, OverflowError):
                return stored  # written by another program: shown as it is, and reported by DBF004
        return stored

    def _read(self, read: Any, value: Any) -> Any:
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError):
            raise self.refuse(value, 'such as datetime.now(UTC) or "2026-03-01 09:00"') from None

    # Comparisons: a date or a text means a whole span, such as a day

    def _compared(self, operator: str, value: Any) -> Any:
        return timestamps.compared(self, operator, self._read(timestamps.span, value))

    def __eq__(self, other: object) -> Any:
        return super().__eq__(other) if _is_null_or_expression(other) else self._compared("=", other)

    def __ne__(self, other: object) -> Any:
        return super().__ne__(other) if _is_null_or_expression(other) else self._compared("!=", other)

    def __lt__(self, other: Any) -> Any:
        return super().__lt__(other) if _is_null_or_expression(other) else self._compared("<", other)

    def __le__(self, other: Any) -> Any:
        return super().__le__(other) if _is_null_or_expression(other) else self._compared("<=", other)

    def __gt__(self, other: Any) -> Any:
        return super().__gt__(other) if _is_null_or_expression(other) else self._compared(">", other)

    def __ge__(self, other: Any) -> Any:
        return super().__ge__(other) if _is_null_or_expression(other) else self._compared(">=", other)

    __hash__ = peewee.Field.__hash__

    def between(self, lo: Any, hi: Any) -> Any:
        if _is_null_or_expression(lo) or _is_null_or_expression(hi):
            return super().between(lo, hi)
        first, last = (timestamps.stored(self._read(timestamps.span, value)[at]) for at, value in enumerate((lo, hi)))
        return timestamps.between(self, first, last)

    def in_(self, values: Any) -> Any:
        if _is_null_or_expression(values):
            return super().in_(values)
        spans = [self._read(timestamps.span, value) for value in values]
        exact = super().in_([span.first for span in spans if span.first == span.last])
        found = [timestamps.compared(self, "=", span) for span in spans if span.first != span.last]
        return functools.reduce(operator.or_, [exact, *found])

    def not_in(self, values: Any) -> Any:
        return super().not_in(values) if _is_null_or_expression(values) else ~self.in_(values)

    __lshift__ = in_


def _is_null_or_expression(value: Any) -> bool:
    return value is None or isinstance(value, peewee.Node)


def as_iso(stored: Any) -> Any:
    """Return a stored time as ISO 8601, 2026-03-01T09:00:00Z; any other value as it is.

    The same as decode() and iso(), in a third of the time: a long list has two times in each row.
    """
    if not isinstance(stored, str):
        return stored
    try:
        if len(stored) == STORED_TIME_LENGTH and stored[19] == "." and stored.endswith("+00:00"):
            datetime.datetime.fromisoformat(stored)
            return f"{stored[:10]}T{stored[11:19]}Z" if stored[20:26] == "000000" else f"{stored[:10]}T{stored[11:26]}Z"
        return iso(as_utc(stored))
    except (ValueError, OverflowError):
        return stored


def iso(moment: datetime.datetime) -> str:
    """Return a time in UTC as ISO 8601: 2026-03-01T09:00:00Z."""
    return moment.isoformat().replace("+00:00", "Z")


def now() -> datetime.datetime:
    """Return the current time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


class PublicKey(Text):
    """A key in PEM, or base64 of that, which is decoded. Anything else is kept as it is."""

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
    """Reads a mask. Only the instance that was assigned a visible secret reads its plain text."""

    def __get__(self, instance: Any, instance_type: type | None = None) -> Any:
        if instance is None:
            return self.field
        stored = instance._stored.get(self.name)
        plain, hashed = (instance._plain or {}).get(self.name, (None, None))
        if stored is None:
            return None
        return plain if hashed == stored else hashing.MASK

    def __set__(self, instance: Any, value: Any) -> None:
        super().__set__(instance, value)
        stored = instance._stored[self.name]
        weakness = self.field.weakness(value) if stored != value else ""
        instance._weak = {**(instance._weak or {}), self.name: (weakness, stored)}
        if self.field.visible and stored != value:
            instance._plain = {**(instance._plain or {}), self.name: (value, stored)}


class Secret(Text):
    """A secret, hashed when it is assigned. A bcrypt hash is kept as it is; the mask is refused.

    visible: whether the instance that was assigned the plain text shows it.
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
        """Return why a plain text is weak, without quoting it; "" if it is not weak."""
        return ""

    def salt(self) -> str | None:
        """Return the salt to hash with, or None for a new salt each time."""
        return None

    def decode(self, stored: Any) -> Any:
        return None if stored is None else hashing.MASK


class Password(Secret):
    """A password, each with its own salt."""

    weakness = staticmethod(hashing.weakness_of_password)


class ApiKey(Secret):
    """An API key. All keys of a database share a salt, so that an index on the hash finds a key."""

    visible = True
    weakness = staticmethod(hashing.weakness_of_key)

    def salt(self) -> str | None:
        return key_salt(self.model._meta.database)


def key_salt(database: Any) -> str:
    """Return the salt of the API keys of a database, which was generated when the database was created."""
    if "key_salt" not in database.cached:
        row = database.execute_sql("SELECT value FROM setting WHERE name = 'key_salt'").fetchone()
        if row is None:
            raise Damaged(f"{database.title} has no salt for API keys (table setting): it is damaged")
        database.cached["key_salt"] = row[0]
    salt: str = database.cached["key_salt"]
    return salt
