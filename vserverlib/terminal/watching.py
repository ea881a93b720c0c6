"""Waiting for tasks: when to look at them again, which are watched, and what has changed.

Looking is cheap: the database tells by its version() whether another connection has written, and only then the tasks
are read, all by one query. Between two looks no transaction is open, so that no writer is held up.

It owns what is seen, and when. How that looks is views.py's. Nothing here writes to the database.
"""

from __future__ import annotations

import datetime
import errno
import itertools
import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from models import Result, Task
from vserverlib import Error, UsageError, named, streams
from vserverlib.databases.postgresql.connection_errors import Unreachable
from vserverlib.entities import finding, progress
from vserverlib.messages import is_capable, notify
from vserverlib.queries import columns, formats, listing
from vserverlib.queries.listing import Page, Row

LOOK = 0.15  # seconds between two looks
LOCK_TOLD = 1.0  # seconds until it is told that the database is locked
AROUND = 5  # lines of a screen that are not for tasks: header, rule, the last line folded once, the cursor's
ALL_COMPLETED, ONE_FAILED, TIMED_OUT = 0, 1, 3  # exit statuses of waiting

# What is read of a task: what its line in a table shows, and what its line in a pipe says.
SHOWN = ("progress", "complete", "collaboration_id", "collaboration", "created_at")
SAID = ("id", "name", "status", "done", "total")
COLUMNS = tuple(column for column in columns.COLUMNS[Task] if column.name in (*SHOWN, *SAID))


class Ending(NamedTuple):
    """How waiting has ended: an exit status, and what is to be told."""

    status: int
    message: str


# When to look again


class Signs:
    """What tells that a database may have changed, without reading it. It must be open.

    Raises an Error when its file is no longer there, or another one is in its place.
    """

    def __init__(self, database: Any) -> None:
        if database.in_transaction():
            raise Error(f"{database.title} has a transaction open, which sees no change: end it before you watch")
        self.database, self.version, self.locked_since = database, None, 0.0
        self.is_away = False
        self.path = Path(os.path.abspath(database.path)) if database.path is not None else None
        self.is_private = database.is_view or (self.path is not None and not _is_same(self.path, _file(database)))
        self.file = self._now_there() if not self.is_private else None

    def has_changed(self) -> bool:
        """Whether something was written since it was asked last; True at first.

        False while the database is locked, or its server cannot be reached for a while.
        """
        if not self.is_private and self._now_there() != self.file:
            raise Error(f"another file was put in the place of {self.database.title}: start again")
        try:
            version = self.database.version()
        except sqlite3.OperationalError as error:
            self._is_locked(error)
            return False
        except Unreachable as error:
            self._is_away(error)
            return False
        if self.is_away:
            notify(f"{self.database.title} is there again", "yellow")
        self.locked_since, self.is_away, before, self.version = 0.0, False, self.version, version
        return bool(version != before)

    def _now_there(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            found = os.stat(self.path)
        except OSError:
            raise Error(f"{self.database.title} was removed or moved: there is nothing to be seen any more") from None
        return found.st_dev, found.st_ino

    def _is_locked(self, error: sqlite3.OperationalError) -> None:
        """Tell once that the database is locked, when that lasts; any other error is raised."""
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise error
        now = time.monotonic()
        self.locked_since = self.locked_since or now
        if now - self.locked_since > LOCK_TOLD:
            self.locked_since = math.inf
            notify(f"{self.database.title} is locked by {self.database.writer()}: waiting (Ctrl-C: give up)", "yellow")

    def _is_away(self, error: Unreachable) -> None:
        """Tell once that the server is away; one that does not let us in any more is an error."""
        if not error.is_passing:
            raise error
        if not self.is_away:
            self.is_away = True
            notify(f"{error}: waiting for it (Ctrl-C: give up)", "yellow")


def _file(database: Any) -> Path:
    """Return the file that is seen: the one that was named, or a private copy that stays as it is."""
    found: Path = getattr(database, "source", database.file)
    return found


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


# What is seen


def find(words: Iterable[Any]) -> list[int]:
    """Return the ids of tasks, each once. words: tasks, lists of them, ids or names; an Error where there is none."""
    each = itertools.chain.from_iterable([word] if isinstance(word, Task | str | int) else word for word in words)
    words = (finding.reference(Task, word) if type(word) is int else word for word in each)
    tasks = (word if isinstance(word, Task) else finding.one(Task, str(word)) for word in words)
    return list(dict.fromkeys(task.id for task in tasks))


def read(ids: Sequence[int]) -> dict[int, Row]:
    """Return tasks by id, in the order of the ids; those that are not there are left out. One query."""
    found = {row["id"]: row for row in listing.rows(Task.select().where(progress.among(Task.id, ids)), COLUMNS)}
    return {id: found[id] for id in ids if id in found}


def unfinished(limit: int | None = None) -> dict[int, Row]:
    """Return the tasks that are waited for, newest first. One query, of the results that have not finished."""
    waited_for = Result.select(Result.task).where(progress.UNFINISHED_RESULTS)
    query = Task.select().where(Task.id.in_(waited_for)).order_by(Task.id.desc()).limit(limit)
    return {row["id"]: row for row in listing.rows(query, COLUMNS)}


def count_unfinished() -> int:
    """Return how many tasks are waited for."""
    query = Result.select(Result.task).where(progress.UNFINISHED_RESULTS, Result.task.is_null(False))
    return int(query.distinct().count())


def has_finished(row: Row) -> bool:
    """Whether all results of a task are there."""
    return bool(row["complete"])


class Watch:
    """The tasks that are watched: those with these ids; without ids all unfinished ones, new ones too."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.ids, self.known, self.more, self.finished = list(ids), dict[int, Row](), 0, False

    def look(self, limit: int | None = None) -> list[Row]:
        """Return the tasks as they are now, at most `limit`: unfinished ones first. `more` says how many are left out.

        Those that have finished since they were seen are among them: once, or always where there is a limit. At most
        three queries.
        """
        rows = self._named() if self.ids else self._unfinished(limit)
        total = len(rows) if self.ids or limit is None else count_unfinished() + sum(map(has_finished, rows))
        shown = sorted(rows, key=has_finished)[:limit]
        self.known, self.more = {row["id"]: row for row in shown}, total - len(shown)
        self.finished = all(map(has_finished, rows))
        return shown

    def _named(self) -> list[Row]:
        found = read(self.ids)
        for id in self.ids:
            _check(id, found.get(id), "there is nothing to watch any more")
        return list(found.values())

    def _unfinished(self, limit: int | None) -> list[Row]:
        now = unfinished(limit)
        seen = self.known if limit else {id: row for id, row in self.known.items() if not has_finished(row)}
        earlier = read([id for id in seen if id not in now])
        return [*now.values(), *filter(has_finished, earlier.values())]


def _check(id: int, row: Row | None, otherwise: str) -> None:
    if row is None:
        raise Error(f"task {id} was deleted: {otherwise}")


# Waiting


def wait(database: Any, words: Iterable[Any], timeout: float | None = None) -> Ending:
    """Wait until all of some tasks have finished, or for `timeout` seconds (0: look once), and return how that ended.

    Raises an Error where one is deleted, or has no results: it would never finish.
    """
    if timeout is not None and not timeout >= 0:
        raise UsageError(f"{timeout} is no time to wait: give seconds, such as 60 or 0.5")
    until = math.inf if timeout is None else time.monotonic() + timeout
    signs, ids, rows = Signs(database), find(words), dict[int, Row]()
    while True:
        if signs.has_changed():
            rows = _awaited(ids)
        left = until - time.monotonic()
        if left <= 0 or (rows and all(map(has_finished, rows.values()))):
            return _ending(rows, timeout)
        if signs.is_private:
            return Ending(TIMED_OUT, f"not finished: {_list(_unfinished(rows))}; {_alone(database)}")
        time.sleep(min(LOOK, left))


def _awaited(ids: Sequence[int]) -> dict[int, Row]:
    rows = read(ids)
    for id in ids:
        _check(id, rows.get(id), "it will never finish")
        if not rows[id]["total"]:
            raise Error(f"{_named(rows[id])} has no results: it would never finish")
    return rows


def _ending(rows: dict[int, Row], timeout: float | None) -> Ending:
    open_ones = _unfinished(rows)
    failed = [row for row in rows.values() if row["status"] == progress.FAILURE]
    if open_ones or not rows:
        return Ending(TIMED_OUT, f"not finished after {timeout or 0:g} s: {_list(open_ones) or 'it was locked'}")
    return Ending(ONE_FAILED, f"failed: {_list(failed)}") if failed else Ending(ALL_COMPLETED, "")


def _unfinished(rows: dict[int, Row]) -> list[Row]:
    return [row for row in rows.values() if not has_finished(row)]


def _alone(database: Any) -> str:
    return f"{database.title} is a private copy here: nobody else writes to it, so there is nothing to wait for"


def _list(rows: Iterable[Row]) -> str:
    return ", ".join(f"{_named(row)} ({row['done']}/{row['total']}{_failing(row)})" for row in rows)


def _failing(row: Row) -> str:
    """Return what is to be said of a task that will have failed, whatever is still to come."""
    return ", one has failed" if row["status"] == progress.FAILURE and not has_finished(row) else ""


def _named(row: Row) -> str:
    return named("task", row["id"], row["name"])


# Watching


def watch(database: Any, words: Iterable[Any] = ()) -> None:
    """Show tasks on stdout until all have finished: those named, else all unfinished ones, new ones too.

    At a terminal they are drawn anew in place; at a dumb one there is a line for each change, in a pipe a line of JSON.
    """
    signs, watched = Signs(database), Watch(find(words))
    for row in read(watched.ids).values():
        if not row["total"]:
            notify(f"{_named(row)} has no results: it will not finish before it has some (Ctrl-C: give up)", "yellow")
    (_draw if is_capable(sys.stdout) else _write)(signs, watched)
    if not watched.known:
        notify("no task is waited for: there is nothing to watch")
    elif signs.is_private and not watched.finished:
        notify(_alone(database))


def _looks(signs: Signs, is_due: Callable[[], bool]) -> Iterator[None]:
    """Come back each time there is something to be seen. After a look that took long, the next one waits as long."""
    while True:
        began = time.monotonic()
        if is_due() | signs.has_changed():
            yield
        if signs.is_private:
            return
        time.sleep(max(LOOK, time.monotonic() - began))


def _draw(signs: Signs, watched: Watch) -> None:
    from vserverlib.terminal import live_display, views

    with live_display.Screen() as screen:
        for _ in _looks(signs, screen.is_resized):
            rows = watched.look(max(1, screen.lines - AROUND))
            page = Page(Task, COLUMNS, rows, 0, len(rows) + watched.more)
            screen.show(views.Listing(page, hint=f"{watched.more:,} more") if rows else "")
            if watched.finished:
                return


def _write(signs: Signs, watched: Watch) -> None:
    form = _readable if sys.stdout.isatty() else _json
    for row in changes(signs, watched):
        sys.stdout.write(form(row))
        sys.stdout.flush()


def changes(signs: Signs, watched: Watch) -> Iterator[Row]:
    """Return the state of each watched task, then each change of one, with the time at which it was seen."""
    before: dict[int, Row] = {}
    for _ in _looks(signs, _is_read):
        now = {row["id"]: {name: row[name] for name in SAID} for row in watched.look()}
        at = datetime.datetime.now(datetime.UTC)
        yield from ({"at": at, **row} for id, row in now.items() if before.get(id) != row)
        if watched.finished:
            return
        before = now


def _json(row: Row) -> str:
    (line,) = formats.as_json_lines([row], plain_ascii=not str(sys.stdout.encoding).lower().startswith("utf"))
    return line


def _readable(row: Row) -> str:
    return f"{row['at']:%H:%M:%S}  {_named(row)}: {row['status']}, {row['done']}/{row['total']}\n"


def _is_read() -> bool:
    """Raise a BrokenPipeError when nobody reads stdout any more: else `| head -1` would wait for the next change."""
    if streams.is_unread():
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    return False
