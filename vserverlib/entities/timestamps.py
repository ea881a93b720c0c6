"""Times as text: what is a time, which forms a person may type, and which span of time a text means.

A text means all that it does not say: "2026-03-01" is a day, "2026-03-01 09:30" a minute. So what a list prints in
minutes is found by what it prints. What a time is compared with is a Span; what is stored is one moment.

It owns the forms. How a time is stored and read is fields.py's; ages (-2d) and words (today) are filters.py's.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, NamedTuple

from vserverlib.drivers import peewee

LEAST, MOST = "0001-01-01 00:00:00.000000+00:00", "9999-12-31 23:59:59.999999+00:00"  # as they are stored
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
# A text that begins with a date counts as a time, whatever follows: what migration 0003 has the database look for. One
# that ends in C is of PostgreSQL's, before Christ.
WEEK = re.compile(r"\d{4}-?W\d\d", re.ASCII)  # of ISO 8601, without a day
DATED = re.compile(r"(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(?!.*C\Z)", re.ASCII | re.DOTALL)

# Nearly the same of a column {0}, in SQL that both databases know, and without a % that a driver would take for a mark.
LIKE_A_DATE = "SUBSTR(CAST({0} AS TEXT), 1, 10) LIKE '____-__-__'"
HAS_MONTH = "SUBSTR(CAST({0} AS TEXT), 6, 2) BETWEEN '01' AND '12'"
HAS_DAY = "SUBSTR(CAST({0} AS TEXT), 9, 2) BETWEEN '01' AND '31'"
HOLDS_TIME = f"({{0}} BETWEEN '{LEAST}' AND '{MOST}' AND {LIKE_A_DATE} AND {HAS_MONTH} AND {HAS_DAY})"


class Span(NamedTuple):
    """All that a text means: from the first moment to the last one, both in UTC and within it."""

    first: datetime.datetime
    last: datetime.datetime


def is_time(stored: object) -> bool:
    """Whether a value as it is stored counts as a time: an empty text, or any text but a date, is no time."""
    return isinstance(stored, str) and DATED.match(stored) is not None


def dated(column: Any) -> Any:
    """Return the condition that a column, or another expression, holds a time: see HOLDS_TIME."""
    return _of(HOLDS_TIME, column)


def _of(template: str, column: Any) -> Any:
    """Return a condition with an expression wherever it has {0}."""
    first, *others = map(peewee.SQL, template.split("{0}"))
    return peewee.NodeList([first, *(node for part in others for node in (column, part))])


def between(expression: Any, first: str, last: str) -> Any:
    """Return the condition that an expression is from one stored time to another."""
    ends = (peewee.Value(first, converter=False), peewee.SQL("AND"), peewee.Value(last, converter=False))
    return peewee.Expression(expression, peewee.OP.BETWEEN, peewee.NodeList(ends))


def as_utc(value: Any) -> datetime.datetime:
    """Return a moment in UTC; raise TypeError, ValueError or OverflowError for anything else.

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


def stored(moment: datetime.datetime) -> str:
    """Return a moment in UTC as it is stored."""
    return moment.isoformat(" ", "microseconds")


def span(value: Any) -> Span:
    """Return what a text, a date or a datetime means: all of what it leaves open. Raises what as_utc() raises."""
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
    """Return the first moment of what was typed, in its own zone."""
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
    """Return the finest unit that was typed."""
    return next((name for name in ("fraction", *reversed(PARTS)) if found[name]), "year")


def _span(first: datetime.datetime, unit: str, digits: int) -> Span:
    """Return what begins at a moment and lasts as long as a unit; the end of the year 9999 ends all."""
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
    """Return the condition that an expression is =, !=, <, <=, > or >= all that was meant.

    What is no time, an empty text for one, is before and after nothing. What is computed is always a time, or NULL.
    """
    first, last = map(stored, span)
    if operator in ("=", "!="):
        return between(expression, first, last) if operator == "=" else ~between(expression, first, last)
    ends = {"<": ("LT", first), "<=": ("LTE", last), ">": ("GT", last), ">=": ("GTE", first)}
    found = _compare(expression, *ends[operator])
    if not isinstance(expression, peewee.Field) or getattr(expression, "is_computed", False):
        return found
    end = _compare(expression, "GTE", LEAST) if operator[0] == "<" else _compare(expression, "LTE", MOST)
    return found & end & _of(LIKE_A_DATE, expression)


def _compare(expression: Any, operator: str, value: str) -> Any:
    return peewee.Expression(expression, getattr(peewee.OP, operator), peewee.Value(value, converter=False))
