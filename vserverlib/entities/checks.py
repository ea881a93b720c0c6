"""Asking the rules: at each save, of one entity, of whole tables; and what the last look at all of a database found.

A save asks, inside its transaction, the rules of what was written, and of the rows of others that the change can make
break one: by one statement, made once for each kind of save. What is found is told as a CheckWarning, or, strict, is a
CheckError; which of the two is decided in orm.py.

It owns the asking; what the rules are is in rules.py, and what is no rule of rows (a damaged file, orphans, changed
tables) in inspection.py. Deleting, bulk queries and SQL ask nothing; a whole check finds what they leave behind.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from vserverlib import CheckWarning, home, named, printable
from vserverlib.entities import cycles, orm, rules
from vserverlib.entities.fields import now
from vserverlib.entities.rules import Rule

KEPT = 1_000  # findings of one rule that a list of them holds; all are counted
MOST_TOUCHED = 3  # rows of others that one save tells of, by rule


class Finding(NamedTuple):
    """A row that breaks a rule, or a fault of the file. told: the sentence that names the row."""

    code: str
    level: str
    entity: str
    id: int | None
    message: str
    remedy: str

    @property
    def text(self) -> str:
        return f"{self.code} {self.message}: {self.remedy}"


class Findings(list[Finding]):
    """What was found, the first of each rule. counts: how many rows break each rule, by its code."""

    def __init__(self, found: Iterable[Finding], keep: int = KEPT) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        for finding in counting(found, self.counts):
            if self.counts[finding.code] <= keep:
                self.append(finding)

    @property
    def levels(self) -> dict[str, int]:
        """How many there are of each level."""
        return levels(self.counts)


def counting(found: Iterable[Finding], counts: Counter[str]) -> Iterator[Finding]:
    """Pass findings on, and count them by their rules."""
    for finding in found:
        counts[finding.code] += 1
        yield finding


def levels(counts: Counter[str]) -> dict[str, int]:
    """Return how many findings there are of each level."""
    return {
        level: sum(count for code, count in counts.items() if rules.BY_CODE[code].level == level)
        for level in rules.LEVELS
    }


def finding(code: str, id: int | None, name: object, detail: object) -> Finding:
    """Return what there is to say of a row that breaks a rule: names in it are text from strangers."""
    rule = rules.BY_CODE[code]
    what = f"{named(rule.entity, id, name)}: " if rule.entity else ""
    return Finding(
        code, rule.level, rule.entity, id, what + rule.message.format(detail=printable(detail, 200)), rule.remedy
    )


# At a save


def at_save(written: orm.Written) -> orm.SaveWarnings:
    """Return a warning for each rule that a save has broken. One statement, and one for each membership it ended."""
    entity = written.entity
    database = entity._meta.database
    if not database.asks_rules:
        return []
    sql, parameters = statement(database, written)
    broken = _few(database, sql, [entity.id] * parameters) if sql else []
    broken += _of_partings(database, written.parted, broken)
    weak = _weak(entity, written.names) if entity._weak else ()
    found = [*weak, *(finding(*row) for row in broken)]
    return [CheckWarning(each.text, each.code) for each in found]


orm.before_commit.append(at_save)  # each save asks the rules from here on


def statement(database: Any, written: orm.Written) -> tuple[str, int]:
    """Return the SQL that asks the rules after a save, made once, and how often it takes the entity's id."""
    table = written.entity._meta.table_name
    changed = frozenset() if written.is_new else written.names & _TOUCHING
    cache = database.cached.setdefault("rules", {})
    if (table, changed) not in cache:
        parts = [*_own(table, rules.BOTH), *_of_others(table, changed)]
        sql = database.with_parameter_marks(" UNION ALL ".join(parts))
        cache[table, changed] = sql, len(parts)
    found: tuple[str, int] = cache[table, changed]
    return found


_TOUCHING = frozenset(touch.changed for touch in rules.TOUCHES)


def _own(table: str, *when: str) -> list[str]:
    """Return the queries that ask the rules of a table about one row."""
    return [rules.query(rule, "this.id = ?") for rule in rules.RULES if rule.entity == table and rule.when in when]


def _of_others(table: str, changed: frozenset[str]) -> list[str]:
    touches = {touch.code: touch for touch in rules.TOUCHES if touch.entity == table and touch.changed in changed}
    return [rules.query(rules.BY_CODE[code], touch.scope, MOST_TOUCHED) for code, touch in touches.items()]


def _of_partings(database: Any, parted: Iterable[dict[str, int]], known: list[Any]) -> list[Any]:
    """Return the rows that break a rule because of memberships that ended, and are not known to: few of each rule."""
    if not parted:
        return []
    parts = [rules.query(rules.BY_CODE[each.code], each.scope, MOST_TOUCHED) for each in rules.PARTINGS]
    sql = " UNION ALL ".join(parts).replace("?", database.param)
    names = [name for each in rules.PARTINGS for name in each.by]
    seen, counts, found = {row[:2] for row in known}, Counter[str](), []
    for row in (row for pair in parted for row in _few(database, sql, [pair[name] for name in names])):
        if row[:2] not in seen and counts[row[0]] < MOST_TOUCHED:
            seen.add(row[:2])
            counts[row[0]] += 1
            found.append(row)
    return found


def _weak(entity: Any, names: Iterable[str]) -> Iterator[Finding]:
    """Find secrets that were given to this object and are weak; none of their text is in what is told."""
    for rule in rules.RULES:
        if rule.secret in names and rule.entity == entity._meta.table_name:
            weakness, of = (entity._weak or {}).get(rule.secret, ("", None))
            if weakness and of == entity._stored[rule.secret]:
                yield finding(rule.code, entity.id, entity.own_name(), weakness)


def _few(database: Any, sql: str, parameters: list[Any]) -> list[Any]:
    """Run a query of ours that gives few rows, in a session that hides nothing: each save waits for it."""
    try:
        rows: list[Any] = database.execute_sql(sql, parameters).fetchall()
    except Exception as error:
        if not database.can_retry(error):
            raise
        return list(rows_of(database, sql, parameters))
    return rows


def rows_of(database: Any, sql: str, parameters: Iterable[Any] = ()) -> Iterator[Any]:
    """Run a query of ours, and read its rows: whether there is a hash too, where hashes are hidden."""
    done = 0
    while True:
        try:
            for row in islice(_unhidden(database, database.streamed(sql, parameters)), done, None):
                done += 1
                yield row
            return
        except Exception as error:
            if not database.can_retry(error):
                raise


def _unhidden(database: Any, rows: Iterator[Any]) -> Iterator[Any]:
    """Read rows where nothing is hidden; whoever is given one is in a session that hides what it hid before."""
    while True:
        with database.hashes_visible():
            row = next(rows, None)
        if row is None:
            return
        yield row


# Of one entity, and of whole tables


def check(self: Any) -> Findings:
    """Return the rules that this entity breaks, as it is in the database; a table where it is shown."""
    if not self.is_saved:
        raise self.not_saved("one to be checked")
    parts = _own(self._meta.table_name, rules.BOTH, rules.AT_CHECK)
    database = self._meta.database
    sql = database.with_parameter_marks(" UNION ALL ".join(parts))
    broken = rows_of(database, sql, [self.id] * len(parts)) if parts else ()
    secrets = self._meta.sorted_field_names
    return Findings([*_weak(self, secrets), *(finding(*row) for row in broken)])


def everywhere(table: str) -> str:
    """Return no condition: all rows of a table are looked at."""
    return ""


def of_tables(database: Any, asked: Iterable[Rule], scope: Callable[[str], str] = everywhere) -> Iterator[Finding]:
    """Find the rows that break these rules: one query for each rule.

    scope: gives for a table the condition of the rows that are looked at.
    """
    for rule in asked:
        if rule.where:
            for row in rows_of(database, _of_many(database, rule, scope)):
                yield finding(*row)


def _of_many(database: Any, rule: Rule, scope: Callable[[str], str]) -> str:
    """Return the SQL of the rows of a table that break a rule."""
    where = rule.many.format(rings=cycles.among(database)) if rule.many else ""
    return rules.query(rule, scope(rule.entity), where=where)


def count(database: Any, asked: Iterable[Rule], scope: Callable[[str], str]) -> dict[str, int]:
    """Return how many rows break each of these rules, by its code, where any do. See of_tables()."""
    found: dict[str, int] = {}
    for rule in asked:
        if rule.where:
            asking = f"SELECT COUNT(*) FROM ({_of_many(database, rule, scope)}) AS found"
            ((number,),) = rows_of(database, asking)
            found |= {rule.code: number} if number else {}
    return found


# The last look at all of it


class Last(NamedTuple):
    """What the last check of a whole database found: when, and how many of each level."""

    at: datetime.datetime
    error: int
    warning: int
    info: int


def last(database: Any) -> Last | None:
    """Return what this user's last check of a whole database has found; None where there was none."""
    import json

    try:
        message = json.loads(_kept(database).read_text())
        return Last(datetime.datetime.fromisoformat(message["at"]), *(int(message[level]) for level in rules.LEVELS))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def remember(database: Any, found: dict[str, int]) -> None:
    """Keep what a check of a whole database has found, in the application's folder: it is open read-only.

    It is told again to the same user, for the same file in the same place: not for a copy, nor for what a backup has
    put there; of a server, for the same URL. Raises OSError where it cannot be written. Nothing is kept of a private
    copy.
    """
    import json

    with contextlib.suppress(FileNotFoundError):
        place = _kept(database)
        draft = home.own_file(place.with_suffix(f".{os.getpid()}.new"))
        draft.write_text(json.dumps({"at": now().isoformat(), **found}))
        os.replace(draft, place)


def _kept(database: Any) -> Path:
    """Return the file that the last check of a database is kept in. Raises FileNotFoundError for a private copy."""
    import hashlib  # 4 ms that no save has to pay

    if database.mode == "sandbox":
        raise FileNotFoundError
    path = database.path.resolve() if database.path is not None else None
    place = f"{path}\n{path.stat().st_ino}" if path is not None else database.title  # on a server: its URL
    identity = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    return home.folder() / f"check-{identity[:32]}.json"
