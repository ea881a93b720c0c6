"""A request: who calls, and with which path, query and body; reading their values."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vserverlib import printable
from vserverlib.entities import timestamps
from vserverlib.entities.fields import LARGEST_INTEGER
from vserverlib.serving.callers import Caller
from vserverlib.serving.refusals import Refusal, not_found

MAX_PER_PAGE, DEFAULT_PER_PAGE = 2000, 10  # rows; the real client asks for 2000 rules
MAX_DEPTH = 50  # of lists and objects in each other, in a body
MAX_TEXT = 1000  # characters of a value in an error
API = "API"  # the name in the journal of what nobody in particular has asked for
YES, NO = ("true", "1", "yes"), ("false", "0", "no")


class Event(NamedTuple):
    """An event for the web sockets. room: None for everybody."""

    name: str
    data: Any
    room: str | None


@dataclass
class Request:
    """A request. caller: None for calls without a token. tried: the user who failed to log in, for the log.

    It is never a name that nobody has: that may be a password, typed in the wrong place.
    """

    method: str
    path: str
    parameters: Mapping[str, str]
    query: list[tuple[str, str]]
    body: Any
    caller: Caller | None
    token: Mapping[str, Any] = field(default_factory=dict)
    server: Any = None
    events: list[Event] = field(default_factory=list)
    tried: str = ""

    @property
    def who(self) -> Caller:
        """The caller of a route that needs one."""
        if self.caller is None:
            raise Refusal(401, "Missing Authorization Header")
        return self.caller

    @property
    def actor(self) -> str:
        """The name of the caller in the journal."""
        return API if self.caller is None else f"{self.caller.title} ({self.token.get('via', API)})"

    def emit(self, name: str, data: Any, room: str | None) -> None:
        """Have an event leave after the commit."""
        self.events.append(Event(name, data, room))

    # The path

    def id(self, noun: str, name: str = "id") -> int:
        """Return the id in the path; a 404 if it cannot be one."""
        number = whole_number(self.parameters[name])
        if number is None:
            raise not_found(noun, self.parameters[name])
        return number

    # The query

    def asked(self, name: str) -> str | None:
        """Return a value of the query, the last if there are several; None without one."""
        text = next((value for key, value in reversed(self.query) if key == name), None)
        if text is not None and not _is_text(text):
            raise Refusal(400, f"{name} has a NUL or half a character: leave it out")
        return text

    def number(self, name: str, lowest: int = 0) -> int | None:
        """Return a whole number of the query, None without one; a 400 for anything else."""
        text = self.asked(name)
        if text is None:
            return None
        number = whole_number(text)
        if number is None or number < lowest:
            raise Refusal(400, f"{name} is a whole number from {lowest}, not {printable(text)}")
        return number

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a flag of the query: the client sends the texts True and False."""
        text = self.asked(name)
        if text is None:
            return default
        if text.lower() not in YES + NO:
            raise Refusal(400, f"{name} is true or false, not {printable(text)}")
        return text.lower() in YES

    def moment(self, name: str) -> datetime.datetime | None:
        """Return a time of the query, None without one; a 400 for anything else."""
        text = self.asked(name)
        return None if text is None else moment(name, text)

    @property
    def page(self) -> tuple[int, int]:
        """The page that is asked for, from 1, and the rows of a page."""
        page, size = self.number("page", 1) or 1, self.number("per_page", 1) or DEFAULT_PER_PAGE
        return min(page, LARGEST_INTEGER // MAX_PER_PAGE), min(size, MAX_PER_PAGE)

    @property
    def included(self) -> frozenset[str]:
        """The words of `include`, which may be given several times or with commas."""
        words = (value for key, value in self.query if key == "include")
        return frozenset(word.strip() for value in words for word in value.split(","))

    # The body

    @property
    def fields(self) -> dict[str, Any]:
        """The body, an object; a 400 for anything else."""
        if not isinstance(self.body, dict):
            raise Refusal(400, "the body has to be a JSON object")
        return self.body


def whole_number(text: str) -> int | None:
    """Return the number that some ASCII digits mean; None for anything else, and for one of over 64 bits."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_INTEGER))):
        return None
    number = int(text)
    return number if number <= LARGEST_INTEGER else None


def moment(name: str, value: object) -> datetime.datetime:
    """Return a time from ISO 8601; without a zone it is UTC. A 400 for anything else."""
    try:
        return timestamps.as_utc(value)
    except (TypeError, ValueError, OverflowError):
        raise Refusal(400, f"{name} is a time in ISO 8601, not {printable(value)}") from None


# The fields of a body


class Kind(NamedTuple):
    """A type of a field. takes: for an error; fits: whether a JSON value is of it; schema: in the OpenAPI document."""

    takes: str
    fits: Callable[[Any], bool]
    schema: dict[str, Any]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and _encodes(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER


def is_plain(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether a JSON value can be stored and sent: its texts and numbers, and how deep its lists and objects are."""
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)  # 1e999 is infinite, which JSON cannot say
    if not isinstance(value, dict | list):
        return True
    if depth == 0 or not all(map(_is_text, value if isinstance(value, dict) else ())):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return all(is_plain(each, depth - 1) for each in inner)


TEXT = Kind("text", _is_text, {"type": "string"})
ID = Kind("an id", _is_id, {"type": "integer", "minimum": 0})
IDS = Kind(
    "a list of ids",
    lambda value: isinstance(value, list) and all(map(_is_id, value)),
    {"type": "array", "items": ID.schema},
)
FLAG = Kind("true or false", lambda value: isinstance(value, bool), {"type": "boolean"})
OBJECTS = Kind(
    "a list of objects",
    lambda value: isinstance(value, list) and all(isinstance(each, dict) for each in value) and is_plain(value),
    {"type": "array", "items": {"type": "object"}},
)


class Field(NamedTuple):
    """A field of a body. needed: a 400 without it. nullable: null is taken as if it was left out; else a 400, too."""

    kind: Kind
    needed: bool = False
    nullable: bool = False


Shape = Mapping[str, Field]


def read(fields: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Return the fields of a shape that a body has. A 400 that names each that is missing or does not fit.

    Unknown fields are left out: clients send some that only other servers take.
    """
    errors: dict[str, list[str]] = {}
    found = {}
    for name, field_ in shape.items():
        value = fields.get(name)
        if name not in fields:
            errors |= {name: ["Missing data for required field."]} if field_.needed else {}
        elif value is None:  # ignoring it would look as if the field had been emptied: an empty text does that
            errors |= {} if field_.nullable else {name: ["Field may not be null."]}
        elif field_.kind.fits(value):
            found[name] = value
        else:
            errors[name] = [f"Not a valid value: it takes {field_.kind.takes}."]
    if errors:
        raise Refusal(400, "Request body is incorrect", errors)
    return found
