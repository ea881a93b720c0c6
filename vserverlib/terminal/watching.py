"""Waiting for tasks and watching them: when to read them again, and which have changed.

Polling is cheap: version() of the database says whether another connection has written, and only then one query reads
all tasks. No transaction is open in between, so that no writer waits for us. Nothing here writes to the database.
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
from vserverlib import Error, named, streams
from vserverlib.databases.postgresql.connection_errors import Unreachable
from vserverlib.entities import finding, progress
from vserverlib.messages import is_capable, notify
from vserverlib.queries import columns, formats, listing
from vserverlib.queries.listing import Page, Row

POLL = 0.15  # seconds between two polls
LOCK_REPORTED = 1.0  # seconds before a lock is reported
OTHER_LINES = 5  # of a screen: headings, rule, the last line folded once, the cursor's
ALL_COMPLETED, ONE_FAILED, TIMED_OUT = 0, 1, 3  # exit statuses of waiting

TABLE_COLUMNS = ("progress", "complete", "collaboration_id", "collaboration", "created_at")
JSON_COLUMNS = ("id", "name", "status", "done", "total")
COLUMNS = tuple(column for column in columns.COLUMNS[Task] if column.name in (*TABLE_COLUMNS, *JSON_COLUMNS))


class Ending(NamedTuple):
    """The result of waiting: an exit status and a message."""

    status: int
    message: str


# Changes of the database


def refuse_open_transaction(database: Any) -> None:
    """Raise an Error if a database has an open transaction: it would see no changes."""
    if database.in_transaction():
        raise Error(f"{database.title} has an open transaction, which sees no changes: end it before you watch")


class ChangeDetector:
    """Detects that an open database may have changed, without reading its tables.

    Raises an Error if its file was removed, moved or replaced.
    """

    def __init__(self, database: Any) -> None:
        refuse_open_transaction(database)
        self.database, self.version, self.locked_since = database, None, 0.0
        self.is_away = False
        self.path = Path(os.path.abspath(database.path)) if database.path is not None else None
        self.is_private = database.is_view or (self.path is not None and not _is_same(self.path, _file(database)))
        self.file = self._now_there() if not self.is_private else None

    def has_changed(self) -> bool:
        """Whether anything was written since the last call; True at first.

        False while the database is locked or its server is unreachable.
        """
        if not self.is_private and self._now_there() != self.file:
            raise Error(f"{self.database.title} was replaced by another file: start again")
        try:
            version = self.database.version()
        except sqlite3.OperationalError as error:
            self._report_lock(error)
            return False
        except Unreachable as error:
            self._report_unreachable(error)
            return False
        if self.is_away:
            notify(f"{self.database.title} is reachable again", "yellow")
        self.locked_since, self.is_away, before, self.version = 0.0, False, self.version, version
        return bool(version != before)

    def _now_there(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            found = os.stat(self.path)
        except OSError:
            raise Error(f"{self.database.title} was removed or moved: it cannot be watched any longer") from None
        return found.st_dev, found.st_ino

    def _report_lock(self, error: sqlite3.OperationalError) -> None:
        """Report a lock once, if it lasts. Any other error is raised."""
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise error
        now = time.monotonic()
        self.locked_since = self.locked_since or now
        if now - self.locked_since > LOCK_REPORTED:
            self.locked_since = math.inf
            notify(
                f"{self.database.title} is locked by {self.database.lock_holder()}: waiting (Ctrl-C: give up)", "yellow"
            )

    def _report_unreachable(self, error: Unreachable) -> None:
        """Report an unreachable server once. If it refuses the login, the error is raised."""
        if not error.is_temporary:
            raise error
        if not self.is_away:
            self.is_away = True
            notify(f"{error}: waiting for it (Ctrl-C: give up)", "yellow")


def _file(database: Any) -> Path:
    """Return the file that is read: the one on the command line, or a private copy, which does not change."""
    found: Path = getattr(database, "source", database.file)
    return found


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


# Tasks


def find(words: Iterable[Any]) -> list[int]:
    """Return the ids of tasks, each once. words: tasks, lists of tasks, ids or names. Raises NotFound."""
    each = itertools.chain.from_iterable([word] if isinstance(word, Task | str | int) else word for word in words)
    words = (finding.reference(Task, word) if type(word) is int else word for word in each)
    tasks = (word if isinstance(word, Task) else finding.one(Task, str(word)) for word in words)
    return list(dict.fromkeys(task.id for task in tasks))


def read(ids: Sequence[int]) -> dict[int, Row]:
    """Return tasks by id, in the order of the ids, without missing ones. One query."""
    found = {row["id"]: row for row in listing.rows(Task.select().where(progress.among(Task.id, ids)), COLUMNS)}
    return {id: found[id] for id in ids if id in found}


def unfinished(limit: int | None = None) -> dict[int, Row]:
    """Return the unfinished tasks, newest first. One query, of the unfinished results."""
    waited_for = Result.select(Result.task).where(progress.UNFINISHED_RESULTS)
    query = Task.select().where(Task.id.in_(waited_for)).order_by(Task.id.desc()).limit(limit)
    return {row["id"]: row for row in listing.rows(query, COLUMNS)}


def count_unfinished() -> int:
    """Return the number of unfinished tasks."""
    query = Result.select(Result.task).where(progress.UNFINISHED_RESULTS, Result.task.is_null(False))
    return int(query.distinct().count())


def has_finished(row: Row) -> bool:
    """Whether all results of a task have finished."""
    return bool(row["complete"])


class Watch:
    """The watched tasks: those with these ids, else all unfinished ones, including new ones."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.ids, self.known, self.more, self.finished = list(ids), dict[int, Row](), 0, False

    def look(self, limit: int | None = None) -> list[Row]:
        """Return the current state of the tasks, at most `limit`, unfinished ones first. `more` counts the others.

        Tasks that have finished since the last call are included: once, or, with a limit, from then on. At most three
        queries.
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
            _check(id, found.get(id), "it cannot be watched any longer")
        return list(found.values())

    def _unfinished(self, limit: int | None) -> list[Row]:
        now = unfinished(limit)
        before = self.known if limit else {id: row for id, row in self.known.items() if not has_finished(row)}
        others = read([id for id in before if id not in now])
        return [*now.values(), *filter(has_finished, others.values())]


class Family(Watch):
    """A watched task with all that descend from it, as they come. It has finished when that task has."""

    def look(self, limit: int | None = None) -> list[Row]:
        """Return the current state of the tasks. At most four queries."""
        self.ids = [self.ids[0], *descendants(self.ids[0])]
        shown = super().look(limit)
        self.finished = all(map(has_finished, read(self.ids[:1]).values()))
        return shown


def descendants(id: int) -> list[int]:
    """Return the ids of the tasks that descend from a task, in order. One query for each generation."""
    found, last = set[int](), [id]
    while last:
        children = {each for (each,) in Task.select(Task.id).where(Task.parent.in_(last)).tuples()}
        last = sorted(children - found - {id})
        found.update(last)
    return sorted(found)


def _check(id: int, row: Row | None, consequence: str) -> None:
    if row is None:
        raise Error(f"task {id} was deleted: {consequence}")


# Waiting


def wait(database: Any, words: Iterable[Any], timeout: float | None = None) -> Ending:
    """Wait until all of these tasks have finished, at most `timeout` seconds (0: check once), and return the result.

    Raises an Error if a task is deleted, or has no results: it would never finish.
    """
    until = math.inf if timeout is None else time.monotonic() + timeout
    detector, ids, rows = ChangeDetector(database), find(words), dict[int, Row]()
    while True:
        if detector.has_changed():
            rows = _awaited(ids)
        left = until - time.monotonic()
        if left <= 0 or (rows and all(map(has_finished, rows.values()))):
            return _ending(rows, timeout)
        if detector.is_private:
            return Ending(TIMED_OUT, f"not finished: {_list(_unfinished(rows))}; {explain_copy(database)}")
        time.sleep(min(POLL, left))


def _awaited(ids: Sequence[int]) -> dict[int, Row]:
    rows = read(ids)
    for id in ids:
        _check(id, rows.get(id), "it will never finish")
        if not rows[id]["total"]:
            raise Error(f"{_named(rows[id])} has no results: it would never finish")
    return rows


def _ending(rows: dict[int, Row], timeout: float | None) -> Ending:
    left = _unfinished(rows)
    failed = [row for row in rows.values() if row["status"] == progress.FAILURE]
    if left or not rows:
        return Ending(TIMED_OUT, f"not finished after {timeout or 0:g} s: {_list(left) or 'the database was locked'}")
    return Ending(ONE_FAILED, f"failed: {_list(failed)}") if failed else Ending(ALL_COMPLETED, "")


def _unfinished(rows: dict[int, Row]) -> list[Row]:
    return [row for row in rows.values() if not has_finished(row)]


def explain_copy(database: Any) -> str:
    """Return why waiting would not help, for a message."""
    return f"{database.title} is a private copy here, to which nobody else writes: waiting would not help"


def _list(rows: Iterable[Row]) -> str:
    return ", ".join(f"{_named(row)} ({row['done']}/{row['total']}{_failing(row)})" for row in rows)


def _failing(row: Row) -> str:
    """Return a note on an unfinished task that has a failed result already."""
    return ", one has failed" if row["status"] == progress.FAILURE and not has_finished(row) else ""


def _named(row: Row) -> str:
    return named("task", row["id"], row["name"])


# Watching


def watch(database: Any, words: Iterable[Any] = ()) -> None:
    """Show these tasks on stdout until all have finished; without words all unfinished ones, including new ones.

    A terminal shows a table that is redrawn in place. A dumb one gets a line for each change, a pipe a line of JSON.
    """
    detector, watched = ChangeDetector(database), Watch(find(words))
    for row in read(watched.ids).values():
        if not row["total"]:
            notify(f"{_named(row)} has no results: it cannot finish until it has some (Ctrl-C: give up)", "yellow")
    (_draw if is_capable(sys.stdout) else _write)(detector, watched)
    if not watched.known:
        notify("no unfinished tasks: there is nothing to watch")
    elif detector.is_private and not watched.finished:
        notify(explain_copy(database))


def follow(database: Any, id: int) -> Ending:
    """Wait until a task has finished, and return the result; a terminal shows it meanwhile, and its descendants."""
    if is_capable(sys.stdout):
        _draw(ChangeDetector(database), Family([id]))
    return wait(database, [id])


def _changes(detector: ChangeDetector, must_redraw: Callable[[], bool]) -> Iterator[None]:
    """Yield after each change. The pause is at least as long as it took to show the last one."""
    while True:
        began = time.monotonic()
        if must_redraw() | detector.has_changed():
            yield
        if detector.is_private:
            return
        time.sleep(max(POLL, time.monotonic() - began))


def _draw(detector: ChangeDetector, watched: Watch) -> None:
    from vserverlib.terminal import live_display, views

    with live_display.Screen() as screen:
        for _ in _changes(detector, screen.is_resized):
            rows = watched.look(max(1, screen.lines - OTHER_LINES))
            page = Page(Task, COLUMNS, rows, 0, len(rows) + watched.more)
            screen.show(views.Listing(page, hint=f"{watched.more:,} more") if rows else "")
            if watched.finished:
                return


def _write(detector: ChangeDetector, watched: Watch) -> None:
    as_line = _readable if sys.stdout.isatty() else _json
    for row in changes(detector, watched):
        sys.stdout.write(as_line(row))
        sys.stdout.flush()


def changes(detector: ChangeDetector, watched: Watch) -> Iterator[Row]:
    """Yield the state of each watched task, then its changes, each with the time at which it was noticed."""
    before: dict[int, Row] = {}
    for _ in _changes(detector, check_reader):
        now = {row["id"]: {name: row[name] for name in JSON_COLUMNS} for row in watched.look()}
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


def check_reader() -> bool:
    """Raise a BrokenPipeError if nobody reads stdout any more: `| head -1` would wait for the next change."""
    if streams.is_unread():
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    return False
