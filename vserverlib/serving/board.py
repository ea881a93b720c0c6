"""The figures of the pages, read once for all who may see the same. For jobs of the desk.

Users whose roles give them the same rows share one reading. It is read again only after a change, and no sooner than
PACE times the duration of the last reading, so that other requests have their turn.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.queries.sights import Sight
from vserverlib.serving import callers
from vserverlib.serving.callers import NO_ID, Caller
from vserverlib.serving.desk import Desk
from vserverlib.serving.permissions import VIEW
from vserverlib.serving.sessions import Session, Sessions

if TYPE_CHECKING:
    from vserverlib.pages.documents import Figures

PACE = 4
MAX_READINGS = 500  # that are kept
RESOURCES: dict[Any, str] = {
    Organization: "organization",
    User: "user",
    Collaboration: "collaboration",
    Node: "node",
    Task: "task",
    Result: "run",
}


class Wanted(NamedTuple):
    """A page that a session wants: of a task, or the overview."""

    session: Session
    task_id: int | None = None


class Reading(NamedTuple):
    """Figures with the version of the database that they are of. took: seconds; at: when, by the monotonic clock."""

    figures: Figures
    version: Hashable
    took: float
    at: float

    @property
    def is_settling(self) -> bool:
        """Whether it was read so recently that it is not read again yet."""
        return time.monotonic() < self.at + PACE * self.took


class Found(NamedTuple):
    """What a session gets. caller: None if the session has ended. reading: None if there is no such task to see."""

    caller: Caller | None
    reading: Reading | None = None
    is_stale: bool = False


class Board:
    """The readings that pages share."""

    def __init__(self, desk: Desk, sessions: Sessions) -> None:
        self._desk, self._sessions = desk, sessions
        self._readings: dict[Hashable, Reading] = {}
        self.count = 0  # of readings so far

    def version(self) -> Hashable:
        """Return what differs after any change of the database, whoever made it."""
        return self._desk.commits, self._desk.database.version()

    def read(self, wanted: Iterable[Wanted]) -> dict[Wanted, Found]:
        """Return what these sessions get, in the open transaction."""
        version = self.version()
        return {each: self._read(each, version) for each in wanted}

    def _read(self, wanted: Wanted, version: Hashable) -> Found:
        caller = self._caller(wanted.session)
        if caller is None:
            return Found(None)
        seen = sight(caller)
        place = (wanted.task_id, key(seen))
        reading = self._readings.get(place)
        if reading is None or (reading.version != version and not reading.is_settling):
            reading = self._newly_read(wanted.task_id, seen, version)
            if reading is None:
                return Found(caller)
            self._keep(place, reading)
        return Found(caller, reading, reading.version != version)

    def _caller(self, session: Session) -> Caller | None:
        user = User.by_id(session.user_id)
        has_ended = self._sessions.find(session.secret) is None
        if has_ended or user is None or user.stored_hash("password") != session.stored:
            return None
        return callers.of_user(user)

    def _newly_read(self, task_id: int | None, seen: Sight, version: Hashable) -> Reading | None:
        from vserverlib.pages import entity_page  # late: it takes 50 ms, which a server without visitors does not need
        from vserverlib.queries.dashboard import dashboard

        began = time.monotonic()
        if task_id is None:
            figures: Figures = dashboard(self._desk.database, seen)
        else:
            task = Task.by_id(task_id)
            if task is None or not seen.seen(Task, [task_id]):
                return None
            figures = entity_page.read_task(task, seen)
        self.count += 1
        ended = time.monotonic()
        return Reading(figures, version, ended - began, ended)

    def _keep(self, place: Hashable, reading: Reading) -> None:
        self._readings.pop(place, None)
        self._readings[place] = reading
        while len(self._readings) > MAX_READINGS:
            del self._readings[next(iter(self._readings))]


def sight(caller: Caller) -> Sight:
    """Return what a caller may view, by the table of permissions."""
    conditions = {model: _condition(caller, model, resource) for model, resource in RESOURCES.items()}
    return Sight({model: condition for model, condition in conditions.items() if condition is not None})


def _condition(caller: Caller, model: Any, resource: str) -> Any:
    if not caller.may_any(resource, VIEW):
        return model.id == NO_ID
    return caller.condition(resource, VIEW, model)


def key(seen: Sight) -> Hashable:
    """Return what is equal for sights that see the same rows."""
    queries = {model.noun: model.select(model.id).where(each).sql() for model, each in seen.conditions.items()}
    return tuple((noun, sql, tuple(values)) for noun, (sql, values) in queries.items())
