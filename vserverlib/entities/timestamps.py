"""Times as text: which texts are times, in which forms they can be typed, and which span of time a text means.

A text means a whole span: "2026-03-01" is a day, "2026-03-01 09:30" a minute. So a time that a list prints in minutes
is found by what the list prints. Comparisons use a Span; a stored time is one moment.

fields.py stores and reads times; filters.py adds ages (-2d) and words (today).
"""

from __future__ import annotations

import datetime
import re
from typing import Any, NamedTuple

from vserverlib.drivers import peewee

EARLIEST, LATEST = "0001-01-01 00:00:00.000000+00:00", "9999-12-31 23:59:59.999999+00:00"  # as stored
TICK = datetime.timedelta(microseconds=1)
FRACTION = 6  # digits of a second that are stored
# 2026, 2026-03, 2026-03-01, 2026-03-01 09:30:15.250, each day and time with a zone or without one: Z, UTC, +01:00.
FORM = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"([T ]+(?P<hour>\d\d)(:(?P<minute>\d\d)(:(?P<second>\d\d)([.,](?P<fraction>\d{1,9}))?)?)?)?"
    r" *(?P<zone>Z|UTC|GMT|[+-]\d\d(:?\d\d)?)?)?)?",
    re.ASCII | re.IGNORECASE,
)
PARTS = ("month", "day", "hour", "minute", "second")
WEEK = re.compile(r"\d{4}-?W\d\d", re.ASCII)  # of ISO 8601, without a day
# A text that begins with a date counts as a time, as in migration 0003; but not PostgreSQL's years BC.
DATED = re.compile(r"(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(?!.*C\Z)", re.ASCII | re.DOTALL)

# Nearly the same for a column {0}, in SQL for both databases, without a % that a driver would take for a placeholder.
LIKE_A_DATE = "SUBSTR(CAST({0} AS TEXT), 1, 10) LIKE '____-__-__'"
HAS_MONTH = "SUBSTR(CAST({0} AS TEXT), 6, 2) BETWEEN '01' AND '12'"
HAS_DAY = "SUBSTR(CAST({0} AS TEXT), 9, 2) BETWEEN '01' AND '31'"
HOLDS_TIME = f"({{0}} BETWEEN '{EARLIEST}' AND '{LATEST}' AND {LIKE_A_DATE} AND {HAS_MONTH} AND {HAS_DAY})"


class Span(NamedTuple):
    """The span that a text means, from its first moment to its last one, both included, in UTC."""

    first: datetime.datetime
    last: datetime.datetime


def is_time(stored: object) -> bool:
    """Whether a stored value counts as a time: a text that begins with a date does."""
    return isinstance(stored, str) and DATED.match(stored) is not None


def dated(column: Any) -> Any:
    """Return the condition that a column, or another expression, holds a time: see HOLDS_TIME."""
    return _filled_in(HOLDS_TIME, column)


def _filled_in(template: str, column: Any) -> Any:
    """Return a condition from SQL, with an expression in place of each {0}."""
    first, *others = map(peewee.SQL, template.split("{0}"))
    return peewee.NodeList([first, *(node for part in others for node in (column, part))])


def between(expression: Any, first: str, last: str) -> Any:
    """Return the condition that an expression is between two stored times, both included."""
    ends = (peewee.Value(first, converter=False), peewee.SQL("AND"), peewee.Value(last, converter=False))
    return peewee.Expression(expression, peewee.OP.BETWEEN, peewee.NodeList(ends))


def as_utc(value: Any) -> datetime.datetime:
    """Return a time in UTC. Raises TypeError, ValueError or OverflowError for anything else.

    A time without a zone is taken as UTC, a date as its midnight.
    """
    if isinstance(value, str):
        value = _read(value)
    elif isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if not isinstance(value, datetime.datetime):
        raise TypeError(value)
    if value.tzinfo is None:
        return value.replace(tzinfo=datetime.UTC)
    return value.astimezone(datetime.UTC)


def _read(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        found = FORM.fullmatch(text.strip())
        if found is None or not found["day"]:
            raise
    return _first(found)


def duration(time: datetime.timedelta, units: int = 2) -> str:
    """Return a duration in its largest units, such as "3 d 4 h"; a negative one as "0 s"."""
    left, words = max(0, int(time.total_seconds())), list[str]()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size or (unit == "s" and not words):
            words.append(f"{left // size:,} {unit}")
        left %= size
    return " ".join(words[:units])


def stored(moment: datetime.datetime) -> str:
    """Return the text that is stored for a time in UTC."""
    return moment.isoformat(" ", "microseconds")


def span(value: Any) -> Span:
    """Return the span that a text, a date or a datetime means. Raises the errors of as_utc()."""
    if isinstance(value, str):
        text = value.strip()
        found = FORM.fullmatch(text)
        if found is not None:
            return _span(_first(found), _finest(found), len(found["fraction"] or ""))
        if "T" not in text and " " not in text and ":" not in text:  # 20260301, 2026-W09-7
            value = datetime.date.fromisoformat(text)
            if WEEK.fullmatch(text):
                return Span(as_utc(value), _span(as_utc(value + datetime.timedelta(6)), "day", 0).last)
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return _span(as_utc(value), "day", 0)
    moment = as_utc(value)
    return Span(moment, moment)


def _first(found: re.Match[str]) -> datetime.datetime:
    """Return the first moment of a typed time, in its own zone."""
    date = datetime.date(int(found["year"]), int(found["month"] or 1), int(found["day"] or 1))
    fraction = (found["fraction"] or "")[:FRACTION].ljust(FRACTION, "0")
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    time = datetime.time(hour, minute, second, int(fraction), tzinfo=_zone(found["zone"] or "Z"))
    return datetime.datetime.combine(date, time)


def _zone(text: str) -> datetime.tzinfo:
    if text.upper() in ("Z", "UTC", "GMT"):
        return datetime.UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    behind = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return datetime.timezone(behind if text[0] == "+" else -behind)


def _finest(found: re.Match[str]) -> str:
    """Return the smallest unit of a typed time."""
    return next((name for name in ("fraction", *reversed(PARTS)) if found[name]), "year")


def _span(first: datetime.datetime, unit: str, digits: int) -> Span:
    """Return the span of one unit from a moment on, cut at the end of the year 9999."""
    begins = first.astimezone(datetime.UTC)
    try:
        return Span(begins, begins + _length(first, unit, digits) - TICK)
    except OverflowError:
        return Span(begins, datetime.datetime.max.replace(tzinfo=datetime.UTC))


def _length(first: datetime.datetime, unit: str, digits: int) -> datetime.timedelta:
    if unit == "year":
        return first.replace(year=first.year + 1) - first if first.year < datetime.MAXYEAR else datetime.timedelta.max
    if unit == "month":
        return (first + datetime.timedelta(days=31)).replace(day=1) - first
    if unit == "fraction":
        return datetime.timedelta(microseconds=10 ** max(0, FRACTION - digits))
    return datetime.timedelta(**{f"{unit}s": 1})


def compared(expression: Any, operator: str, span: Span) -> Any:
    """Return the condition that compares an expression with a span; operator: =, !=, <, <=, > or >=.

    A value that is not a time, such as an empty text, matches no order. A computed field is always a time or NULL.
    """
    first, last = map(stored, span)
    if operator in ("=", "!="):
        return between(expression, first, last) if operator == "=" else ~between(expression, first, last)
    ends = {"<": ("LT", first), "<=": ("LTE", last), ">": ("GT", last), ">=": ("GTE", first)}
    found = _compare(expression, *ends[operator])
    if not isinstance(expression, peewee.Field) or getattr(expression, "is_computed", False):
        return found
    end = _compare(expression, "GTE", EARLIEST) if operator[0] == "<" else _compare(expression, "LTE", LATEST)
    return found & end & _filled_in(LIKE_A_DATE, expression)


def _compare(expression: Any, operator: str, value: str) -> Any:
    return peewee.Expression(expression, getattr(peewee.OP, operator), peewee.Value(value, converter=False))
