"""Ages and times as people type them: 2d or -2d, 5m, now, today, and the times of timestamps.py.

An age is the time since a moment: `--since 2d` and `created_at>-2d` mean the last two days. As a timeout, it is the
time to wait.
"""

from __future__ import annotations

import datetime
import re

from vserverlib import UsageError, printable
from vserverlib.entities import timestamps
from vserverlib.entities.fields import now
from vserverlib.entities.timestamps import Span

AGE = re.compile(r"-?\s*(\d{1,6})\s*([smhdw])", re.ASCII)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
FORMS = "2026-03-01, 2026-03-01T09:30 (UTC) or an age such as 2d (s, m, h, d, w)"


def duration(text: str) -> datetime.timedelta | None:
    """Return the length of an age, with or without a minus; None for any other text."""
    found = AGE.fullmatch(text.strip())
    return datetime.timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None


def span(text: str) -> Span:
    """Return the span that a text means; an age and `now` are one moment. Raises ValueError or OverflowError."""
    typed, moment, age = text.strip(), now(), duration(text)
    if age is not None:
        moment -= age
    is_moment = age is not None or typed.casefold() == "now"
    if is_moment:
        return Span(moment, moment)
    return timestamps.span(moment.date() if typed.casefold() == "today" else typed)


def past(text: str) -> datetime.datetime:
    """Return the first moment of a time, or the moment of an age. Raises a UsageError for any other text."""
    try:
        return span(text).first
    except (ValueError, OverflowError):
        raise UsageError(f'"{printable(text)}" is not a time: write {FORMS}') from None


def timeout(text: str) -> float:
    """Return a timeout in seconds, which is an age (5m), seconds (60) or the time until a moment; at least 0."""
    age, number = duration(text), _number(text)
    if age is not None:
        return age.total_seconds()
    try:
        seconds = (span(text).first - now()).total_seconds() if number is None else number
        if number is None or number >= 0:
            return max(0.0, seconds)
    except (ValueError, OverflowError):
        pass
    forms = "5m (s, m, h, d, w), seconds such as 60, or a time such as 2026-03-01T09:30 (UTC)"
    raise UsageError(f'invalid timeout "{printable(text)}": write {forms}')


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
