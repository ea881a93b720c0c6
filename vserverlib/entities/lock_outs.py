"""Lock-outs: after five failed log-ins to a server, all passwords of a user are refused for 15 minutes.

The count is in the table lock_out, which is not an entity: the journal does not record it, and no export has it.
"""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from vserverlib import pluralize
from vserverlib.databases import server_columns
from vserverlib.databases.current import database
from vserverlib.databases.server_columns import MOST_FAILURES
from vserverlib.drivers import peewee
from vserverlib.entities.fields import UTCDateTimeField, now

LOCKED_FOR = datetime.timedelta(minutes=15)
LOCK_OUT = peewee.Table("lock_out", server_columns.TABLES["lock_out"])
MOMENT = UTCDateTimeField()


def failures(user_id: int) -> tuple[int, datetime.datetime | None]:
    """Return the number of failed log-ins since the last success, and when the last one was."""
    query = LOCK_OUT.select(LOCK_OUT.failures, LOCK_OUT.last_at).where(LOCK_OUT.user_id == user_id)
    row = database.execute(query).fetchone()
    return (0, None) if row is None else (row[0], MOMENT.decode(row[1]))


def is_locked_out(user_id: int) -> bool:
    """Whether all passwords of a user are refused now."""
    number, last = failures(user_id)
    return number >= MOST_FAILURES and _is_recent(last)


class LockedOut(NamedTuple):
    """A user whose passwords are all refused until a time, in UTC."""

    id: int
    username: str | None
    until: datetime.datetime


def locked_out() -> list[LockedOut]:
    """Return the users who are locked out now, by id. One query."""
    user = peewee.Table("user", ("id", "username"))
    query = LOCK_OUT.select(user.id, user.username, LOCK_OUT.last_at).join(user, on=(user.id == LOCK_OUT.user_id))
    rows = database.execute(query.where(LOCK_OUT.failures >= MOST_FAILURES).order_by(user.id))
    moments = [(id, name, MOMENT.decode(last)) for id, name, last in rows]
    return [LockedOut(id, name, last + LOCKED_FOR) for id, name, last in moments if _is_recent(last)]


def summary(user_id: int) -> str:
    """Return the failed log-ins of a user in words, "" without any."""
    number, last = failures(user_id)
    if not number or not isinstance(last, datetime.datetime):
        return ""
    locked = f"locked out until {last + LOCKED_FOR:%H:%M} UTC: " if number >= MOST_FAILURES and _is_recent(last) else ""
    return f"{locked}{pluralize(number, 'wrong password')}, the last at {last:%Y-%m-%d %H:%M} UTC"


def _is_recent(moment: Any) -> bool:
    return isinstance(moment, datetime.datetime) and now() - moment < LOCKED_FOR


def count(user_id: int) -> None:
    """Count a failed log-in, in the open transaction: none during a lock-out, and anew after it has ended."""
    if is_locked_out(user_id):
        write_nothing()
        return
    number, _ = failures(user_id)
    lift(user_id)
    row = {"user_id": user_id, "failures": number % MOST_FAILURES + 1, "last_at": MOMENT.clean(now())}
    database.execute(LOCK_OUT.insert([row]))


def write_nothing() -> None:
    """Write as count() does, without an effect: the time of an answer must not tell who exists or is locked out."""
    database.execute_sql("UPDATE counter SET value = value WHERE name = 'run_id'")


def lift(user_id: int) -> bool:
    """Forget the failed log-ins of a user, and return whether there were any. Writes."""
    deleted = database.execute(LOCK_OUT.delete().where(LOCK_OUT.user_id == user_id)).rowcount
    return bool(deleted)
