"""Errors of Peewee and of the drivers: which they are, and the line that says what to do.

Such an error is a mistake in a query, so its traceback needs the user's own lines only.
"""

from __future__ import annotations

import sqlite3
import traceback
from types import FrameType

from vserverlib import Error
from vserverlib.drivers import peewee

# The modules that raise an AttributeError for an unknown attribute of an entity, a class or a list.
GIVE_ATTRIBUTES = ("vserverlib.entities.orm", "vserverlib.entities.lists", "vserverlib.entities.relations")


def is_mistake(error: BaseException) -> bool:
    """Whether an error is one that a user can correct: ours, the database's, or an unknown attribute of an entity."""
    if isinstance(error, Error) or is_of_database(error):
        return True
    frame = _innermost(error) if isinstance(error, AttributeError) else None
    return frame is not None and frame.f_globals.get("__name__") in GIVE_ATTRIBUTES


def is_of_database(error: BaseException) -> bool:
    """Whether an error is one of Peewee or of a driver, also a ValueError or the like that Peewee raised."""
    if isinstance(error, peewee.PeeweeException | sqlite3.Error) or type(error).__module__.startswith("psycopg"):
        return True
    frame = _innermost(error) if isinstance(error, ValueError | TypeError | AttributeError | KeyError) else None
    return frame is not None and frame.f_globals.get("__name__") == peewee.__name__


def _innermost(error: BaseException) -> FrameType | None:
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0] if frames else None


def remedy(error: BaseException, reopen: str, whole: str) -> str:
    """Return what to do after an error of Peewee or a driver; "" for other errors, also of ours.

    reopen: how to open the database again; whole: what prints the whole traceback.
    """
    text = str(error).lower()
    if isinstance(error, Error) or not is_of_database(error):
        return ""
    if "no such column" in text or "no such table" in text or "does not exist" in text:
        return "db.Task.help() shows the fields of an entity, each of which has a table of its own"
    if "syntax error" in text or "incomplete input" in text:
        return "correct the SQL, or use db.Task.where(…), which needs none"
    if "constraint" in text:
        return "the database refused this row: save() of an entity names the field to change"
    if "closed" in text:
        return f"the database is closed: {reopen}"
    if not isinstance(error, peewee.PeeweeException | sqlite3.Error):
        return f"Peewee refuses this query; {whole}"
    return f"this statement changed nothing; {whole}"
