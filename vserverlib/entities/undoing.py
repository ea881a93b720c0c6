"""Taking changes back, by what the journal recorded of them: in one transaction, which is a change on record itself.

Rows are taken back newest first, each only while it is as its change left it, so that nobody's later work is lost
unawares; `force` takes them back whatever they are now. Rows that come back have the ids that they had.

An undo can be undone, by its number. Without a number, undo means the newest change that is in effect and is no undo:
so undo twice goes back two changes. What an undo took back is in the table `undoing`, of which nothing is ever changed:
a change is in effect unless an undo that is itself in effect took it back.

It owns what is taken back, and in which order. Reading the journal is journal.py's, its SQL recording.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vserverlib import Error, NotFound, UsageError, addresses, pluralize, printable
from vserverlib.databases.recording import BULK_WORK, PRUNE, UNDO, defer_links, one_change
from vserverlib.databases.registry import registry
from vserverlib.drivers import peewee
from vserverlib.entities.fields import Secret, as_id, as_integer, is_64_bit
from vserverlib.entities.journal import CHANGE, RECORD, UNDOING, Pair, decoded, exact, pairs

LONGEST_PATH = 4096  # of a backup: it is to be typed
CHUNK = 1000  # records that are in memory at a time
MOST_IDS = 10_000  # ids in one IN (…)
MOST_TOLD = 10  # numbers of changes that are named one by one
MOST_LEFT_OUT = 20  # rows that are told one by one


class LeftOut(list[str]):
    """Rows that could not be taken back, and why: a line for each of the first. total: how many there are."""

    total = 0

    def add(self, line: str) -> None:
        """Count a line, and keep it if it is one of the first."""
        self.total += 1
        if len(self) < MOST_LEFT_OUT:
            self.append(line)

    def summary(self) -> Iterator[str]:
        """Return it line by line."""
        yield from (f"left out: {line}" for line in self)
        if self.total > len(self):
            yield f"and {self.total - len(self):,} more"


class Undone:
    """What an undo did: its own number, the changes that it took back, how many rows; and those that it left out."""

    def __init__(self, change: int, undone: Sequence[int], rows: int, left_out: LeftOut) -> None:
        self.change, self.undone, self.rows, self.left_out = change, tuple(undone), rows, left_out

    def __str__(self) -> str:
        left_out = f", {self.left_out.total:,} left out" if self.left_out else ""
        return f"change {self.change} took back {numbered(self.undone)}: {pluralize(self.rows, 'row')}{left_out}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def summary(self) -> str:
        """Return what was done, how that is undone, and a line for each row that was left out."""
        return "\n".join([f"{self}; take that back with: db.undo(change={self.change})", *self.left_out.summary()])


class Row(NamedTuple):
    """What a change did to one row. pairs: {column: [before, after]}, as the table held it, hashes of secrets too.

    entity_id: the id that it had before, if it was there.
    """

    change: int
    id: int
    table: str
    entity_id: int
    op: str
    pairs: dict[str, Pair]

    @property
    def id_now(self) -> int:
        """The id that the row has since: another program may have given it a new one."""
        return int(self.pairs.get("id", [None, self.entity_id])[1])


def undo(
    database: Any,
    count: int | None = None,
    *,
    change: int | None = None,
    session: str | None = None,
    force: bool = False,
) -> Undone:
    """Take back the newest changes, one unless a count is given; or the change of a number; or a whole session.

    One transaction, which is a change itself. Raises an Error, and changes nothing, where a row was changed since;
    force: take it back nevertheless. Writes.
    """
    database.refuse_read_only("undo")
    with database.atomic():
        return take_back(database, plan(database, count, change=change, session=session), force)


# What is to be taken back


def plan(
    database: Any, count: int | None = None, *, change: int | None = None, session: str | None = None
) -> list[int]:
    """Return the numbers of the changes that an undo takes back, newest first; an Error where it cannot."""
    require_one(count, change, session)
    if session is not None:
        return _of_session(database, session)
    return _newest(database, _number(1 if count is None else count)) if change is None else [_one(database, change)]


def require_one(*asked: Any) -> None:
    """Raise a UsageError where more than one of a count, a change and a session says what is to be taken back."""
    if sum(value is not None for value in asked) > 1:
        raise UsageError("a number of changes, one change and a session are three things: choose one")


def _number(count: Any) -> int:
    number = as_integer(count)
    if number is None or number < 1 or not is_64_bit(number):
        raise UsageError(f'"{printable(count)}" is no number of changes: write 1 or more')
    return number


def taken_back(database: Any) -> dict[int, int]:
    """Return the changes that are not in effect, and which undo took each of them back."""
    found: dict[int, int] = {}
    rows = UNDOING.select(UNDOING.change_id, UNDOING.undone_id).order_by(UNDOING.change_id.desc())
    for by, undone in database.execute(rows).fetchall():
        if by not in found:  # newer undos, which may have taken this one back, come first
            found[undone] = by
    return found


def _newest(database: Any, count: int) -> list[int]:
    taken, found = taken_back(database), list[int]()
    for id, kind, about, backup in database.execute(_changes().order_by(CHANGE.id.desc())):
        if kind in (UNDO, PRUNE) or id in taken:
            continue
        _require_recorded(database, id, kind, about, backup)
        found.append(id)
        if len(found) == count:
            return found
    verb = "is" if len(found) == 1 else "are"
    there = f"there {verb} {len(found):,} that can be" if found else "there is none on record that is in effect"
    raise Error(f"{pluralize(count, 'change')} cannot be taken back: {there}")


def _one(database: Any, change: int) -> int:
    number = as_id(change)
    row = (
        None
        if number is None or not is_64_bit(number)
        else database.execute(_changes().where(CHANGE.id == number)).fetchone()
    )
    if row is None:
        raise NotFound(f"no change {printable(change)} is on record: see vserver log")
    _require_recorded(database, *row)
    by = taken_back(database).get(row[0])
    if by is not None:
        raise Error(f"change {number} is taken back already, by change {by}: undo that one to have it again")
    return int(row[0])


def _of_session(database: Any, session: str) -> list[int]:
    """Return all changes of a session, its undos too, but what others have taken back.

    To go back over an undo and over what it took back leads to before both.
    """
    rows = database.execute(_changes().where(CHANGE.session == session).order_by(CHANGE.id.desc())).fetchall()
    rows = [row for row in rows if row[1] != PRUNE]
    if not rows:
        raise NotFound(f'no change of a session "{printable(session)}" is on record: see vserver log')
    taken, own = taken_back(database), {row[0] for row in rows}
    found = [row for row in rows if taken.get(row[0], row[0]) in own]
    for row in found:
        _require_recorded(database, *row)
    if not found:
        raise Error(f'all changes of the session "{printable(session)}" are taken back already')
    return [row[0] for row in found]


def _changes() -> Any:
    return CHANGE.select(CHANGE.id, CHANGE.kind, CHANGE.about, CHANGE.backup)


def _require_recorded(database: Any, id: int, kind: str | None, about: str | None, backup: str | None) -> None:
    if kind == BULK_WORK:
        name = str(database.path) if database.is_sqlite else database.title
        kept = addresses.command(name, "restore", printable(backup, LONGEST_PATH)) if backup else "only a backup"
        message = f"change {id} was bulk work ({printable(about, 200)}), whose rows are not on record"
        raise Error(f"{message}: {kept} takes it back")
    if kind == PRUNE:
        raise Error(f"change {id} {printable(about, 200)}: they cannot be brought back")


def numbered(ids: Sequence[int]) -> str:
    """Return which changes these are, in words."""
    if len(ids) > MOST_TOLD:
        return f"{len(ids):,} changes, {min(ids)} to {max(ids)}"
    return f"change{'s' * (len(ids) > 1)} {', '.join(map(str, sorted(ids)))}"


# Taking back


def take_back(database: Any, ids: Sequence[int], force: bool = False) -> Undone:
    """Take back these changes, newest first, in one transaction. See undo()."""
    message, work = numbered(ids), Work(database, force)
    try:
        with database.atomic():
            return _take_back(work, sorted(ids, reverse=True), f"undo of {message}")
    except peewee.IntegrityError as error:
        why = work.clash() or f"the database refuses it: {printable(error, 200)}"
        raise Error(f"{message} cannot be taken back, {why}") from error


def _take_back(work: Work, ids: Sequence[int], about: str) -> Undone:
    database = work.database
    with one_change(database, UNDO, about) as by, database.without_invalidation():
        defer_links(database)
        for id in ids:
            for row in _rows(database, id):
                work.take_back(row)
        work.require_rows()
        work.require_links()
        for table in work.written:
            database.advance_sequence(table)
        database.execute(UNDOING.insert([{"change_id": by, "undone_id": id} for id in ids]))
    database.invalidate()
    return Undone(by, ids, work.rows, work.left_out)


def _rows(database: Any, change: int) -> Iterator[Row]:
    """Read what a change did, last first: some records at a time, and no cursor is open while they are worked on."""
    both = exact(database, RECORD.changes), exact(database, RECORD.secrets)
    columns = RECORD.id, RECORD.entity, RECORD.entity_id, RECORD.op, *both
    query = RECORD.select(*columns).where(RECORD.change_id == change).order_by(RECORD.id.desc()).limit(CHUNK)
    found = database.execute(query).fetchall()
    while found:
        for id, table, entity_id, op, changes, secrets in found:
            yield Row(change, id, table, entity_id, op, pairs(changes) | pairs(secrets))
        found = database.execute(query.where(RECORD.id < found[-1][0])).fetchall()


class Work:
    """An undo under way: takes back row by row, and remembers where links have to be looked at in the end."""

    def __init__(self, database: Any, force: bool) -> None:
        self.database, self.force, self.models = database, force, registry
        self.rows, self.left_out = 0, LeftOut()
        self.at: Row | None = None  # the one that is being taken back
        self.written: dict[str, set[int]] = {}

    def take_back(self, row: Row) -> None:
        """Undo what a change did to a row; an Error where it is not as the change left it."""
        if row.table not in self.models:
            raise Error(f'change {row.change} is of a table "{printable(row.table)}", which this release does not know')
        self.at = row
        undo = {"insert": self._remove, "update": self._restore, "delete": self._bring_back}[row.op]
        if undo(row):
            self.rows += 1
            self.written.setdefault(row.table, set()).update((row.entity_id, row.id_now))
        else:
            self.left_out.add(self._gone(row))

    def _remove(self, row: Row) -> bool:
        """Take back an insert. What the table has beside what was inserted has to be empty still."""
        columns = [field.column_name for field in self.models[row.table].stored_fields()[1:]]
        whole_row = {name: row.pairs.get(name, [None, None]) for name in columns}
        return self._is_as_left(row._replace(pairs=whole_row)) and self._run(
            f'DELETE FROM "{row.table}" WHERE id = {self.database.param}', [row.entity_id]
        )

    def _restore(self, row: Row) -> bool:
        return self._is_as_left(row) and self._write_before(row)

    def _write_before(self, row: Row) -> bool:
        marks, values = _bound(self.database.param, [before for before, _ in row.pairs.values()])
        columns = ", ".join(f'"{name}" = {mark}' for name, mark in zip(row.pairs, marks, strict=True))
        sql = f'UPDATE "{row.table}" SET {columns} WHERE id = {self.database.param}'
        return self._run(sql, [*values, row.id_now])

    def _bring_back(self, row: Row) -> bool:
        if self._one(f'SELECT 1 FROM "{row.table}" WHERE id = {self.database.param}', [row.entity_id]):
            if not self.force:
                raise Error(f"{self._name(row)}, which change {row.change} deleted, is there again{FORCE}")
            return self._write_before(row)
        marks, values = _bound(self.database.param, [row.entity_id, *(before for before, _ in row.pairs.values())])
        names = ", ".join(f'"{name}"' for name in ("id", *row.pairs))
        return self._run(f'INSERT INTO "{row.table}" ({names}) VALUES ({", ".join(marks)})', values)

    def _run(self, sql: str, values: list[Any]) -> bool:
        self.database.execute_sql(sql, values)
        return True

    def _one(self, sql: str, values: list[Any]) -> Any:
        return self.database.execute_sql(sql, values).fetchone()

    # Whether it may be

    def _is_as_left(self, row: Row) -> bool:
        """Whether a row is there; an Error where it is not as a change left it, unless that is to be overridden."""
        marks, values = _bound(self.database.param, [after for _, after in row.pairs.values()])
        is_ = "IS" if self.database.is_sqlite else "IS NOT DISTINCT FROM"  # which SQLite has since 3.39
        same = ", ".join(f'"{name}" {is_} {mark}' for name, mark in zip(row.pairs, marks, strict=True))
        found = self._one(f'SELECT {same} FROM "{row.table}" WHERE id = {self.database.param}', [*values, row.id_now])
        if found is None and not self.force:
            raise Error(f"{self._gone(row)}: --force (force=True) leaves it out")
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
        if isinstance(model._meta.columns[name], Secret):
            return f"{since}: its {name} is another one now{FORCE}"
        readable = _readable(name) if self.database.is_sqlite else f'"{name}"'
        sql = f'SELECT {readable} FROM "{row.table}" WHERE id = {self.database.param}'
        (now,) = self._one(sql, [row.id_now])
        now = now.decode(errors="replace") if isinstance(now, bytes) else now
        was, now = decoded(model, {name: [row.pairs[name][1], now]})[name]
        return f"{since}: its {name} was {_shown(was)} then, and is {_shown(now)} now{FORCE}"

    def _name(self, row: Row) -> str:
        return f"{self.models[row.table].noun} {row.id_now}"

    def require_rows(self) -> None:
        """Raise an Error where every row was left out: such an undo would do nothing, and be on record as one."""
        if self.left_out and not self.rows:
            more = f" and {pluralize(self.left_out.total - 1, 'more row')}" if self.left_out.total > 1 else ""
            raise Error(f"nothing is left to take back: {self.left_out[0]}{more}")

    # What has the place of a row by now

    def clash(self) -> str:
        """Return who has by now what the row had alone that could not be written, and what to do; "" where nobody has.

        To be asked after the rollback: it leaves what the undo itself had written out of account.
        """
        row = self.at
        if row is None:
            return ""
        for names in _unique(self.models[row.table]):
            before = {name: row.pairs.get(name, [None])[0] for name in names}
            other = None if None in before.values() else self._other(row, before)
            if other is not None:
                return _taken(before, other)
        return ""

    def _other(self, row: Row, before: dict[str, Any]) -> Any:
        """Return the entity that has these values, and is not the one of a row; None where there is none."""
        marks, values = _bound(self.database.param, before.values())
        same = " AND ".join(f'"{name}" = {mark}' for name, mark in zip(before, marks, strict=True))
        sql = f'SELECT id FROM "{row.table}" WHERE {same} AND id <> {self.database.param}'
        found = self._one(sql, [*values, row.entity_id])
        return found and self.models[row.table].by_id(found[0])

    # What the rows that were written are linked to

    def require_links(self) -> None:
        """Raise an Error where a link would lead nowhere: the database would refuse it too, but not say which."""
        for table, ids in self.written.items():
            model = self.models[table]
            for link in model._meta.refs:
                self._require(model, link, "id", ids)
            for link in model._meta.backrefs:
                self._require(link.model, link, link.column_name, ids)

    def _require(self, model: Any, link: Any, column: str, ids: Iterable[int]) -> None:
        table, other, to = model._meta.table_name, link.rel_model, f'"{link.column_name}"'
        for some in _chunks(sorted(ids)):
            among = f'"{column}" IN ({", ".join(map(str, some))})'
            nowhere = f'{to} IS NOT NULL AND {to} NOT IN (SELECT id FROM "{other._meta.table_name}")'
            found = self._one(f'SELECT id, {to} FROM "{table}" WHERE {among} AND {nowhere} LIMIT 1', [])
            if found:
                linked = f"{model.noun} {found[0]} is linked to {other.noun} {printable(found[1])}"
                raise Error(
                    f"{linked}, which would not be there: take back first what deleted the one or made the other"
                )


FORCE = ": --force (force=True) takes it back nevertheless"


def _unique(model: Any) -> Iterator[list[str]]:
    """Return the columns, and groups of them, whose values one row of a table has alone."""
    meta = model._meta
    yield from ([field.column_name] for field in meta.sorted_fields if field.unique)
    for names, is_unique in (index for index in meta.indexes if isinstance(index, tuple)):
        if is_unique:
            yield [meta.fields[name].column_name for name in names]


def _taken(before: dict[str, Any], other: Any) -> str:
    """Return that an entity has what another one had before, and what to do."""
    if len(before) > 1:
        return f"{other.named()} is there by now: take that out first"
    ((name, value),) = before.items()
    return f'the {name} "{printable(value)}" is taken by {other.named()} by now: give that another {name} first'


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(ids), MOST_IDS):
        yield ids[first : first + MOST_IDS]


def _bound(mark: str, values: Iterable[Any]) -> tuple[list[str], list[Any]]:
    """Return marks and parameters for values: a text that is no UTF-8 is given as its bytes."""
    marks, parameters = [], []
    for value in values:
        is_odd = isinstance(value, str) and any("\udc80" <= char <= "\udcff" for char in value)
        marks.append(f"CAST({mark} AS TEXT)" if is_odd else mark)
        parameters.append(value.encode("utf-8", "surrogateescape") if is_odd else value)
    return marks, parameters


def _readable(column: str) -> str:
    return f"""CASE typeof("{column}") WHEN 'text' THEN CAST("{column}" AS BLOB) ELSE "{column}" END"""


def _shown(value: Any) -> str:
    return "empty" if value is None else f'"{printable(value)}"'
