"""Functions for programs: opening any database; overview, journal, undo, check and why of the open database; post().

    from vserverlib import api

    api.connect("server.sqlite", read_only=True)
    print(api.overview().tasks)

    database = api.connect("server.sqlite", write=True)  # a working copy: the server's is as it was
    models.User.get_by_username("anna").delete()
    print(database.plan())
    database.apply()

`models.connect` opens only databases of vserver; `api.connect` opens everything that `vserver -d` opens, such as the
database of a vantage6 server. No function here prints to stdout.

Every error is a subclass of `vserverlib.Error`, one line with a remedy: `UsageError`, `NotFound`, `Locked`, `ReadOnly`,
`Damaged`, `NotADatabase`, `OutdatedSchema`, `NewerSchema`, `CheckError`.

    from vserverlib import Locked, NotFound
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from vserverlib import Error
from vserverlib.databases import current
from vserverlib.databases.connecting import create
from vserverlib.entities.checks import Findings
from vserverlib.entities.entity import Entity
from vserverlib.entities.journal import DEFAULT_LIMIT, Log
from vserverlib.entities.undoing import Undone
from vserverlib.opening.opener import connect
from vserverlib.posting import DEFAULT_LABEL
from vserverlib.queries.outcomes import Outcome
from vserverlib.queries.overview import Overview
from vserverlib.queries.why import Why

__all__ = ["check", "connect", "create", "log", "overview", "post", "undo", "why"]


def _database() -> Any:
    if current.database.obj is None:
        raise Error('no database is open: call connect("vserver.db") first')
    return current.database.obj


def overview() -> Overview:
    """Return the figures that `vserver overview` shows, read in one transaction. Does not write."""
    from vserverlib.queries import overview

    return overview.overview(_database())


def log(
    entity: Entity | type[Entity] | str | None = None,
    id: int | None = None,
    *,
    actor: str | None = None,
    since: datetime.datetime | str | None = None,
    session: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Log:
    """Return the records of the journal, newest first. Does not write.

    entity: one entity, a class, or a word such as "task"; without it, all of them. id: of one entity of that class.
    since: a time, or an age such as "2d". limit: the maximum number of records. Raises a UsageError for an unknown
    entity or an invalid value.
    """
    from vserverlib.entities import journal

    return journal.log(_database(), entity, id, actor=actor, since=since, session=session, limit=limit)


def undo(
    count: int | None = None, *, change: int | None = None, session: str | None = None, force: bool = False
) -> Undone:
    """Undo changes in one transaction, which is a change itself and can be undone. Writes.

    count: the number of newest changes (default: 1). change: the number of a single change. session: the name of a
    session, all of whose changes are undone. Raises an Error, and writes nothing, if a row was changed again since;
    force: overwrite that, too.
    """
    from vserverlib.entities import undoing

    return undoing.undo(_database(), count, change=change, session=session, force=force)


def check(*entities: type[Entity] | str, rule: str | None = None) -> Findings:
    """Return the rows that break rules of the server's API, and faults of the database. Does not write.

    entities: classes, or words such as "node"; without them, all. rule: the code of a single rule. Raises a UsageError
    for an unknown entity or rule.
    """
    from vserverlib.queries import inspection

    found: Findings = inspection.tools(_database())["check"](*entities, rule=rule)
    return found


def why(task: Entity | int | str) -> Why:
    """Return why a task is not finished: whom it waits for, and what failed. Does not write.

    task: a task, its id or its name. Raises NotFound if there is none.
    """
    from vserverlib.queries import why

    return why.why(_database(), task)


def post(
    image: str,
    method: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    organizations: Sequence[Entity | int | str] | str = (),
    everywhere: bool = False,
    collaboration: Entity | int | str | None = None,
    user: Entity | int | str | None = None,
    databases: Sequence[str] = (DEFAULT_LABEL,),
    name: str | None = None,
    wait: bool = True,
) -> Outcome:
    """Post a task to the running server of the open database, wait for its nodes, and return the outcome.

    arguments: of the method, as JSON values. organizations: run the task, by default the user's; everywhere: all with
    a node. collaboration, user: an entity, an id or a name; needed if several fit. databases: labels of databases of
    the nodes. wait: False returns at once, with pending runs. `.results` of the outcome has the decoded results, None
    for each failed run. A terminal shows the progress. The server writes, not this process. Raises an Error, and posts
    nothing, if no server runs, if several users or collaborations fit, or if the server refuses the task.
    """
    from vserverlib.posting import posting

    few = (organizations,) if isinstance(organizations, str) else organizations
    return posting.post_and_follow(
        _database(),
        posting.Order(
            image,
            method,
            arguments or {},
            posting.wanted(user, collaboration, few, everywhere),
            tuple(databases),
            name,
        ),
        wait,
    )
