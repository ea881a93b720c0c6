"""Undoing changes from their records in the journal, in one transaction, which is a change itself.

Rows are restored newest first, each only if it still is as the change left it, so that no later work is lost; `force`
restores them anyway. Restored rows have their former ids.

An undo can be undone, by its number. Without a number, undo means the newest change that is in effect and is not an
undo, so calling undo twice goes back two changes. The table `undoing` lists what each undo has undone; its rows never
change. A change is in effect unless an undo that is itself in effect has undone it.

journal.py reads the journal; recording.py has its SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vserverlib import Error, NotFound, UsageError, addresses, pluralize, printable
from vserverlib.databases.recording import (
    BULK_WORK,
    FORGET,
    PRESENCE,
    PRUNE,
    SEEN,
    UNDO,
    defer_links,
    one_change,
)
from vserverlib.databases.registry import registry
from vserverlib.drivers import peewee
from vserverlib.entities.fields import Secret, as_id, as_integer, is_64_bit
from vserverlib.entities.journal import CHANGE, RECORD, UNDOING, Pair, decoded, pairs, raw_text

LONGEST_PATH = 4096  # characters of a backup's path, which people copy
RECORDS_AT_ONCE = 1000  # in memory
MOST_IDS = 10_000  # ids in one IN (…)
MOST_NAMED = 10  # changes that a message names one by one
MOST_LEFT_OUT = 20  # rows that a message names one by one


class LeftOut(list[str]):
    """The first rows that could not be restored, a line with the reason for each. total: their number."""

    total = 0

    def add(self, line: str) -> None:
        """Count a row, and keep its line if it is one of the first."""
        self.total += 1
        if len(self) < MOST_LEFT_OUT:
            self.append(line)

    def summary(self) -> Iterator[str]:
        """Yield the lines to print."""
        yield from (f"left out: {line}" for line in self)
        if self.total > len(self):
            yield f"and {self.total - len(self):,} more"


class Undone:
    """The outcome of an undo: its own number, the changes that it has undone, the number of rows, rows left out."""

    def __init__(self, change: int, undone: Sequence[int], rows: int, left_out: LeftOut) -> None:
        self.change, self.undone, self.rows, self.left_out = change, tuple(undone), rows, left_out

    def __str__(self) -> str:
        left_out = f", {self.left_out.total:,} left out" if self.left_out else ""
        return f"change {self.change} undid {named_changes(self.undone)}: {pluralize(self.rows, 'row')}{left_out}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def summary(self) -> str:
        """Return the undone changes, how to undo the undo, and a line for each row that was left out."""
        return "\n".join([f"{self}; undo that with: db.undo(change={self.change})", *self.left_out.summary()])


class Row(NamedTuple):
    """The change of one row. pairs: {column: [before, after]} as stored, with hashes of secrets.

    entity_id: the id before the change, or of an inserted row.
    """

    change: int
    id: int
    table: str
    entity_id: int
    op: str
    pairs: dict[str, Pair]

    @property
    def id_now(self) -> int:
        """The id after the change: another program may have changed it."""
        return int(self.pairs.get("id", [None, self.entity_id])[1])


def undo(
    database: Any,
    count: int | None = None,
    *,
    change: int | None = None,
    session: str | None = None,
    force: bool = False,
) -> Undone:
    """Undo the newest change or `count` changes; or one change, by its number; or a whole session.

    One transaction, which is a change itself. Raises an Error, and changes nothing, if a row was changed since;
    force: undo it anyway. Writes.
    """
    database.refuse_read_only("undo")
    with database.atomic():
        return undo_changes(database, plan(database, count, change=change, session=session), force)


# Which changes


def plan(
    database: Any, count: int | None = None, *, change: int | None = None, session: str | None = None
) -> list[int]:
    """Return the numbers of the changes to undo, newest first. Raises an Error if one cannot be undone."""
    require_one_choice(count, change, session)
    if session is not None:
        return _of_session(database, session)
    return _newest(database, _number(1 if count is None else count)) if change is None else [_one(database, change)]


def require_one_choice(*given: Any) -> None:
    """Raise a UsageError if more than one of a count, a change and a session is given."""
    if sum(value is not None for value in given) > 1:
        raise UsageError("a number of changes, one change and a session cannot be combined: choose one")


def _number(count: Any) -> int:
    number = as_integer(count)
    if number is None or number < 1 or not is_64_bit(number):
        raise UsageError(f'"{printable(count)}" is not a number of changes: write 1 or more')
    return number


def undone_changes(database: Any) -> dict[int, int]:
    """Return the changes that are not in effect, each with the undo that has undone it."""
    found: dict[int, int] = {}
    rows = UNDOING.select(UNDOING.change_id, UNDOING.undone_id).order_by(UNDOING.change_id.desc())
    for by, undone in database.execute(rows).fetchall():
        if by not in found:  # newer undos, which may have undone this one, come first
            found[undone] = by
    return found


def _newest(database: Any, count: int) -> list[int]:
    undone, found, forgotten = undone_changes(database), list[int](), ""
    for id, kind, about, backup in database.execute(_changes().order_by(CHANGE.id.desc())):
        if kind in (UNDO, PRUNE) or id in undone:
            continue
        if kind == FORGET:
            forgotten = forgotten or f"change {id} {printable(about, 200)}, which cannot be undone"
            continue
        if forgotten:
            raise Error(f"{forgotten}; --change {id} (change={id}) undoes the one before it")
        _require_recorded(database, id, kind, about, backup)
        found.append(id)
        if len(found) == count:
            return found
    available = f"the journal has {len(found):,} in effect" if found else "the journal has no change in effect"
    if forgotten:
        raise Error(f"{forgotten}; {available}{' after it' if found else ' before it'}")
    raise Error(f"{pluralize(count, 'change')} cannot be undone: {available}")


def _one(database: Any, change: int) -> int:
    number = as_id(change)
    row = (
        None
        if number is None or not is_64_bit(number)
        else database.execute(_changes().where(CHANGE.id == number)).fetchone()
    )
    if row is None:
        raise NotFound(f"the journal has no change {printable(change)}: see vserver log")
    _require_recorded(database, *row)
    by = undone_changes(database).get(row[0])
    if by is not None:
        raise Error(f"change {number} is already undone, by change {by}: undo change {by} to restore it")
    return int(row[0])


def _of_session(database: Any, session: str) -> list[int]:
    """Return all changes of a session, also its undos, except changes that other sessions have undone.

    Undoing both an undo and the change that it has undone leads to the state before both.
    """
    rows = database.execute(_changes().where(CHANGE.session == session).order_by(CHANGE.id.desc())).fetchall()
    rows = [row for row in rows if row[1] != PRUNE]
    if not rows:
        raise NotFound(f'the journal has no change of a session "{printable(session)}": see vserver log')
    undone, own = undone_changes(database), {row[0] for row in rows}
    found = [row for row in rows if undone.get(row[0], row[0]) in own]
    for row in found:
        _require_recorded(database, *row)
    if not found:
        raise Error(f'all changes of the session "{printable(session)}" are already undone')
    return [row[0] for row in found]


def _changes() -> Any:
    return CHANGE.select(CHANGE.id, CHANGE.kind, CHANGE.about, CHANGE.backup)


def _require_recorded(database: Any, id: int, kind: str | None, about: str | None, backup: str | None) -> None:
    if kind == BULK_WORK:
        name = str(database.path) if database.is_sqlite else database.title
        remedy = addresses.command(name, "restore", printable(backup, LONGEST_PATH)) if backup else "restore a backup"
        message = f"change {id} was bulk work ({printable(about, 200)}), whose rows are not in the journal"
        raise Error(f"{message}: undo it with: {remedy}")
    if kind in (FORGET, PRUNE):
        raise Error(f"change {id} {printable(about, 200)}: they cannot be restored")


def named_changes(ids: Sequence[int]) -> str:
    """Return the numbers of changes in words: "changes 3, 4"."""
    if len(ids) > MOST_NAMED:
        return f"{len(ids):,} changes, {min(ids)} to {max(ids)}"
    return f"change{'s' * (len(ids) > 1)} {', '.join(map(str, sorted(ids)))}"


# Undoing


def undo_changes(database: Any, ids: Sequence[int], force: bool = False) -> Undone:
    """Undo these changes, newest first, in one transaction. See undo()."""
    changes, restorer = named_changes(ids), RowRestorer(database, force)
    try:
        with database.atomic():
            return _undo_changes(restorer, sorted(ids, reverse=True), f"undo of {changes}")
    except peewee.IntegrityError as error:
        why = restorer.conflict() or f"the database refuses it: {printable(error, 200)}"
        raise Error(f"{changes} cannot be undone, {why}") from error


def _undo_changes(restorer: RowRestorer, ids: Sequence[int], about: str) -> Undone:
    database = restorer.database
    with one_change(database, UNDO, about) as by, database.without_invalidation():
        defer_links(database)
        for id in ids:
            for row in _rows(database, id):
                restorer.undo(row)
        restorer.require_rows()
        restorer.require_links()
        for table in restorer.written:
            database.advance_sequence(table)
        database.execute(UNDOING.insert([{"change_id": by, "undone_id": id} for id in ids]))
    database.invalidate()
    return Undone(by, ids, restorer.rows, restorer.left_out)


def _rows(database: Any, change: int) -> Iterator[Row]:
    """Yield the changed rows of a change, last first. It reads in batches: no cursor is open between two rows."""
    both = raw_text(database, RECORD.changes), raw_text(database, RECORD.secrets)
    columns = RECORD.id, RECORD.entity, RECORD.entity_id, RECORD.op, *both
    query = RECORD.select(*columns).where(RECORD.change_id == change).order_by(RECORD.id.desc())
    query = query.limit(RECORDS_AT_ONCE)
    found = database.execute(query).fetchall()
    while found:
        for id, table, entity_id, op, changes, secrets in found:
            yield Row(change, id, table, entity_id, op, pairs(changes) | pairs(secrets))
        found = database.execute(query.where(RECORD.id < found[-1][0])).fetchall()


class RowRestorer:
    """Undoes changes row by row, and then checks the links of the rows that it has written."""

    def __init__(self, database: Any, force: bool) -> None:
        self.database, self.force, self.models = database, force, registry
        self.rows, self.left_out = 0, LeftOut()
        self.current: Row | None = None
        self.written: dict[str, set[int]] = {}

    def undo(self, row: Row) -> None:
        """Undo the change of a row. Raises an Error if the row is not as the change left it."""
        if row.table not in self.models:
            raise Error(f'change {row.change} is of a table "{printable(row.table)}", which this release does not know')
        self.current = row
        undo = {"insert": self._undo_insert, "update": self._undo_update, "delete": self._undo_delete}[row.op]
        if undo(row):
            self.rows += 1
            self.written.setdefault(row.table, set()).update((row.entity_id, row.id_now))
        else:
            self.left_out.add(self._gone(row))

    def _undo_insert(self, row: Row) -> bool:
        """Delete an inserted row. Its other columns must still be empty."""
        columns = [field.column_name for field in self.models[row.table].stored_fields()[1:]]
        if row.table in SEEN:  # the journal does not record that they were seen again
            columns = [name for name in columns if name not in PRESENCE]
        whole_row = {name: row.pairs.get(name, [None, None]) for name in columns}
        return self._is_as_left(row._replace(pairs=whole_row)) and self._run(
            f'DELETE FROM "{row.table}" WHERE id = {self.database.param}', [row.entity_id]
        )

    def _undo_update(self, row: Row) -> bool:
        return self._is_as_left(row) and self._write_before(row)

    def _write_before(self, row: Row) -> bool:
        marks, values = _bound(self.database.param, [before for before, _ in row.pairs.values()])
        columns = ", ".join(f'"{name}" = {mark}' for name, mark in zip(row.pairs, marks, strict=True))
        sql = f'UPDATE "{row.table}" SET {columns} WHERE id = {self.database.param}'
        return self._run(sql, [*values, row.id_now])

    def _undo_delete(self, row: Row) -> bool:
        if self._one(f'SELECT 1 FROM "{row.table}" WHERE id = {self.database.param}', [row.entity_id]):
            if not self.force:
                raise Error(f"{self._name(row)}, which change {row.change} deleted, exists again{FORCE}")
            return self._write_before(row)
        marks, values = _bound(self.database.param, [row.entity_id, *(before for before, _ in row.pairs.values())])
        names = ", ".join(f'"{name}"' for name in ("id", *row.pairs))
        return self._run(f'INSERT INTO "{row.table}" ({names}) VALUES ({", ".join(marks)})', values)

    def _run(self, sql: str, values: list[Any]) -> bool:
        self.database.execute_sql(sql, values)
        return True

    def _one(self, sql: str, values: list[Any]) -> Any:
        return self.database.execute_sql(sql, values).fetchone()

    # Later changes of the row

    def _is_as_left(self, row: Row) -> bool:
        """Whether a row exists. Raises an Error, unless forced, if it is not as the change left it."""
        marks, values = _bound(self.database.param, [after for _, after in row.pairs.values()])
        is_ = "IS" if self.database.is_sqlite else "IS NOT DISTINCT FROM"  # which SQLite has since 3.39
        same = ", ".join(f'"{name}" {is_} {mark}' for name, mark in zip(row.pairs, marks, strict=True))
        found = self._one(f'SELECT {same} FROM "{row.table}" WHERE id = {self.database.param}', [*values, row.id_now])
        if found is None and not self.force:
            raise Error(f"{self._gone(row)}: use --force (force=True) to leave it out")
        if found is not None and not self.force:
            for name, is_same in zip(row.pairs, found, strict=True):
                if not is_same:
                    raise Error(self._changed(row, name))
        return found is not None

    def _gone(self, row: Row) -> str:
        return f"{self._name(row)} was deleted since change {row.change}"

    def _changed(self, row: Row, name: str) -> str:
        since = f"{self._name(row)} was changed since change {row.change}"
        model = self.models[row.table]
        if isinstance(model._meta.columns.get(name), Secret):
            return f"{since}: its {name} is different now{FORCE}"
        readable = _readable(name) if self.database.is_sqlite else f'"{name}"'
        sql = f'SELECT {readable} FROM "{row.table}" WHERE id = {self.database.param}'
        (now,) = self._one(sql, [row.id_now])
        now = now.decode(errors="replace") if isinstance(now, bytes) else now
        was, now = decoded(model, {name: [row.pairs[name][1], now]})[name]
        return f"{since}: its {name} was {_quoted(was)} then, and is {_quoted(now)} now{FORCE}"

    def _name(self, row: Row) -> str:
        return f"{self.models[row.table].noun} {row.id_now}"

    def require_rows(self) -> None:
        """Raise an Error if every row was left out: such an undo would do nothing, and still be in the journal."""
        if self.left_out and not self.rows:
            more = f" and {pluralize(self.left_out.total - 1, 'more row')}" if self.left_out.total > 1 else ""
            raise Error(f"nothing is left to undo: {self.left_out[0]}{more}")

    # Unique values

    def conflict(self) -> str:
        """Return which entity now has a unique value of the row that could not be written, and the remedy, or "".

        Call it after the rollback, so that it ignores what the undo itself wrote.
        """
        row = self.current
        if row is None:
            return ""
        for names in _unique(self.models[row.table]):
            before = {name: row.pairs.get(name, [None])[0] for name in names}
            other = None if None in before.values() else self._other(row, before)
            if other is not None:
                return _taken(before, other)
        return ""

    def _other(self, row: Row, before: dict[str, Any]) -> Any:
        """Return another entity with these values, or None."""
        marks, values = _bound(self.database.param, before.values())
        same = " AND ".join(f'"{name}" = {mark}' for name, mark in zip(before, marks, strict=True))
        sql = f'SELECT id FROM "{row.table}" WHERE {same} AND id <> {self.database.param}'
        found = self._one(sql, [*values, row.entity_id])
        return found and self.models[row.table].by_id(found[0])

    # Links of the rows that were written

    def require_links(self) -> None:
        """Raise an Error for a link to a missing row. The database would refuse it too, without naming it."""
        for table, ids in self.written.items():
            model = self.models[table]
            for link in model._meta.refs:
                self._require(model, link, "id", ids)
            for link in model._meta.backrefs:
                self._require(link.model, link, link.column_name, ids)

    def _require(self, model: Any, link: Any, column: str, ids: Iterable[int]) -> None:
        table, other, to = model._meta.table_name, link.rel_model, f'"{link.column_name}"'
        for some in _batches(sorted(ids)):
            among = f'"{column}" IN ({", ".join(map(str, some))})'
            nowhere = f'{to} IS NOT NULL AND {to} NOT IN (SELECT id FROM "{other._meta.table_name}")'
            found = self._one(f'SELECT id, {to} FROM "{table}" WHERE {among} AND {nowhere} LIMIT 1', [])
            if found:
                linked = f"{model.noun} {found[0]} is linked to {other.noun} {printable(found[1])}"
                remedy = f"first undo the change that deleted the {other.noun} or created the {model.noun}"
                raise Error(f"{linked}, which would not exist: {remedy}")


FORCE = ": use --force (force=True) to undo it anyway"


def _unique(model: Any) -> Iterator[list[str]]:
    """Yield the unique columns, and groups of columns, of a table."""
    meta = model._meta
    yield from ([field.column_name] for field in meta.sorted_fields if field.unique)
    for names, is_unique in (index for index in meta.indexes if isinstance(index, tuple)):
        if is_unique:
            yield [meta.fields[name].column_name for name in names]


def _taken(before: dict[str, Any], other: Any) -> str:
    """Return which entity now has the unique values of a row, and the remedy."""
    if len(before) > 1:
        return f"{other.named()} exists now: delete it first"
    ((name, value),) = before.items()
    return f'the {name} "{printable(value)}" is now taken by {other.named()}: change that {name} first'


def _batches(ids: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(ids), MOST_IDS):
        yield ids[first : first + MOST_IDS]


def _bound(mark: str, values: Iterable[Any]) -> tuple[list[str], list[Any]]:
    """Return placeholders and parameters for values: a text that is not UTF-8 is passed as its bytes."""
    marks, parameters = [], []
    for value in values:
        is_odd = isinstance(value, str) and any("\udc80" <= char <= "\udcff" for char in value)
        marks.append(f"CAST({mark} AS TEXT)" if is_odd else mark)
        parameters.append(value.encode("utf-8", "surrogateescape") if is_odd else value)
    return marks, parameters


def _readable(column: str) -> str:
    return f"""CASE typeof("{column}") WHEN 'text' THEN CAST("{column}" AS BLOB) ELSE "{column}" END"""


def _quoted(value: Any) -> str:
    return "empty" if value is None else f'"{printable(value)}"'
