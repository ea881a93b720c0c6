"""The geometry of bars and time lines, in percent of their width."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from vserverlib.queries import details
from vserverlib.queries.details import Lane

LEAST, MOST = 2.0, 98.0  # percent: what has begun is visible, and a full bar means that everything is finished
ONE_SECOND = datetime.timedelta(seconds=1)


class Bar(NamedTuple):
    """A bar: the part that is finished well, and after it the part that failed, as percentages."""

    done: str
    failed: str


def bar(done: int, total: int, failed: int = 0) -> Bar:
    """Return the bar for some numbers. failed: those of the finished ones that failed."""
    if not done or not total:
        return Bar("0%", "0%")
    whole = 100.0 if done >= total else min(max(100 * done / total, LEAST), MOST)
    part = whole * failed / done
    return Bar(_percent(whole - part), _percent(part))


def _percent(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") + "%"


class Line(NamedTuple):
    """The line of a result: where it waited and where it ran, each as a position and a length."""

    waited_at: str
    waited: str
    ran_at: str
    ran: str


class TimeLine(NamedTuple):
    """The lines of results on one scale, which begins at `first`."""

    first: datetime.datetime
    length: datetime.timedelta
    lines: list[Line]


def time_line(lanes: Sequence[Lane], moment: datetime.datetime) -> TimeLine | None:
    """Return the time line of some results, up to `moment` if one is unfinished; None without any time."""
    times = details.moments(lanes)
    if not times:
        return None
    is_unfinished = any(not lane.complete for lane in lanes)
    first, last = min(times), max([*times, moment] if is_unfinished else times)
    return TimeLine(first, last - first, [_line(lane, first, last) for lane in lanes])


def _line(lane: Lane, first: datetime.datetime, last: datetime.datetime) -> Line:
    length = (last - first) / ONE_SECOND

    def place(moment: datetime.datetime | None) -> float:
        after = ((moment or last) - first) / ONE_SECOND
        return min(max(100 * after / length, 0), 100) if length else 100

    begin, end = place(lane.assigned_at or lane.started_at or first), place(lane.finished_at)
    end = max(begin, end)
    start = min(max(place(lane.started_at), begin), end) if lane.started_at else end
    if lane.started_at and end - start < LEAST:  # however short, it has run
        end = min(start + LEAST, 100)
        start = end - LEAST
    return Line(_percent(begin), _percent(max(0, start - begin)), _percent(start), _percent(end - start))
