"""What programs use beside the models: opening any database, and what `db` offers at the prompt.

    from vserverlib import api

    database = api.connect("server.sqlite", read_only=True)
    print(api.overview().tasks)

    database = api.connect("server.sqlite", write=True)  # a working copy: the server's is as it was
    models.User.get_by_username("anna").delete()
    print(database.plan())
    database.apply()

`models.connect` opens databases of vserver alone; `connect` here opens whatever `vserver -d` takes, a vantage6 server's
database too. The other functions work on the database that is open. None prints anything.
"""

from __future__ import annotations

from typing import Any

from vserverlib import Error
from vserverlib.databases import current
from vserverlib.databases.connecting import create
from vserverlib.entities.checks import Findings
from vserverlib.entities.journal import Log
from vserverlib.entities.undoing import Undone
from vserverlib.opening.opener import connect
from vserverlib.queries.overview import Overview

__all__ = ["check", "connect", "create", "log", "overview", "undo"]


def _database() -> Any:
    if current.database.obj is None:
        raise Error('no database is open: call connect("vserver.db") first')
    return current.database.obj


def overview() -> Overview:
    """Return the figures that `vserver overview` shows. Reads only."""
    from vserverlib.queries import overview

    return overview.overview(_database())


def log(entity: Any = None, id: int | None = None, **asked: Any) -> Log:
    """Return what was changed, newest first: of an entity, a class of them, or all. Reads only.

    actor=NAME, since="2d", session=NAME; limit=20 records at most. Raises a UsageError for what means nothing.
    """
    from vserverlib.entities import journal

    return journal.log(_database(), entity, id, **asked)


def undo(count: int | None = None, **asked: Any) -> Undone:
    """Undo the newest change, or as many as are given; change=NUMBER, session=NAME: that one, or all of it. Writes.

    Raises an Error if a row was changed since, unless force=True. It is a change itself: undo(change=…) undoes it.
    """
    from vserverlib.entities import undoing

    return undoing.undo(_database(), count, **asked)


def check(*entities: Any, rule: str | None = None) -> Findings:
    """Return all that breaks a rule: of the whole database, of some entity classes, or one rule's. Reads only."""
    from vserverlib.queries import inspection

    found: Findings = inspection.tools(_database())["check"](*entities, rule=rule)
    return found
