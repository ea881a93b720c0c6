"""Checking the rules: at each save, for one entity, for whole tables; and the summary of the last check.

Inside its transaction, a save checks the rules that its changed fields concern: for the written row, and for rows of
others that the change can make break one. That is one statement, cached for each kind of save. orm.py issues the
findings as warnings, or raises them in strict mode.

rules.py has the rules; inspection.py checks the whole database for damage, orphans and changed tables. Deleting, bulk
queries and SQL check no rules; `vserver check` finds rows that break one.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from shlex import quote as quoted
from typing import Any, NamedTuple

from vserverlib import CheckWarning, home, named, printable
from vserverlib.databases.registry import registry
from vserverlib.entities import cycles, effects, orm, rules
from vserverlib.entities.fields import now
from vserverlib.entities.rules import Rule

MOST_FINDINGS = 1_000  # of one rule in a list of findings; all are counted
MOST_AFFECTED = 3  # rows of others that one save reports for each rule


class Finding(NamedTuple):
    """A row that breaks a rule, or a fault of the whole database. message: names the row and the fault.

    command: the words after `vserver` that fix it, or help a person to; … stands for what that person decides.
    """

    code: str
    level: str
    entity: str
    id: int | None
    message: str
    remedy: str
    command: str = ""

    @property
    def text(self) -> str:
        return f"{self.code} {self.message}: {self.remedy}"


class Fault(NamedTuple):
    """A fault of the whole database. id: of the row, or None; command: as of a Finding, if the rule has none."""

    id: int | None
    message: str
    command: str = ""


def dangling(link: Any, id: int | None, to: object) -> Fault:
    """Return the fault that a link of a row leads to no row. to: the stored id."""
    model, name = link.model, link.name
    parent = link.rel_model.noun
    message = f"{model.noun} {id}: its {name} is {parent} {printable(to)}, which does not exist"
    fixing = {("result", "task"): "RES001", ("member", "organization"): "MEM001", ("member", "collaboration"): "MEM001"}
    if code := fixing.get((model._meta.table_name, name)):
        return Fault(id, message, f"check --fix --rule {code}")
    return Fault(id, message, f"set {model.noun} {id} {name}={'null' if link.rel_model is model else '…'}")


class Findings(list[Finding]):
    """The first findings of each rule. counts: the number of rows that break each rule, by its code."""

    def __init__(self, found: Iterable[Finding], keep: int = MOST_FINDINGS) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        for finding in counting(found, self.counts):
            if self.counts[finding.code] <= keep:
                self.append(finding)

    @property
    def levels(self) -> dict[str, int]:
        """The number of findings of each level."""
        return levels(self.counts)


def counting(found: Iterable[Finding], counts: Counter[str]) -> Iterator[Finding]:
    """Yield the findings, and count them by the codes of their rules."""
    for finding in found:
        counts[finding.code] += 1
        yield finding


def levels(counts: Counter[str]) -> dict[str, int]:
    """Return the number of findings of each level. counts: by the codes of their rules."""
    return {
        level: sum(count for code, count in counts.items() if rules.BY_CODE[code].level == level)
        for level in rules.LEVELS
    }


def finding(code: str, id: int | None, name: object, detail: object) -> Finding:
    """Return the finding for a row that breaks a rule. The name and the detail are untrusted text."""
    rule = rules.BY_CODE[code]
    row = f"{named(registry[rule.entity].noun, id, name)}: " if rule.entity else ""
    message = row + rule.message.format(detail=printable(detail, 200))
    command = rule.command.format(id=id, name=quoted(printable(name, 200))) if rule.command else ""
    fix = f"check --fix --rule {code}" if rule.fix else command
    return Finding(code, rule.level, rule.entity, id, message, rule.remedy, fix)


LABELS = {
    "organization": "this.name",
    "user": "this.username",
    "collaboration": "this.name",
    "node": "this.name",
    "task": "this.name",
    "result": "NULL",
    "member": "NULL",
}


def query(rule: Rule, scope: str = "", limit: int = 0, for_table: rules.TableQuery | None = None) -> str:
    """Return the SQL of the rows that break a rule: its code, the row's id and name, the detail of its message.

    scope: a further condition. limit: the highest number of rows; 0 for all.
    """
    where, detail, rows = for_table or rules.TableQuery(rule.where)
    columns = f"'{rule.code}', this.id, CAST({LABELS[rule.entity]} AS TEXT), CAST({detail or rule.detail} AS TEXT)"
    conditions = f"{scope} AND ({where})" if scope else where
    table = rows or f'"{rule.entity}"'
    sql = f"SELECT {columns} FROM {table} AS this WHERE {conditions}"
    return f"SELECT * FROM ({sql} LIMIT {limit}) AS found" if limit else sql


# At a save


def at_save(saved: orm.Saved) -> orm.SaveWarnings:
    """Return a warning for each rule that a save broke. One statement, and one for each membership it removed.

    A rule that only concerns fields that were not changed is not checked again.
    """
    entity = saved.entity
    database = entity._meta.database
    if not database.asks_rules:
        return []
    sql, parameters = statement(database, saved)
    broken = _few(database, sql, [entity.id] * parameters) if sql else []
    broken += _of_removed_memberships(database, saved.removed_memberships, broken)
    weak = _weak(entity, saved.names) if entity._weak else ()
    found = [*weak, *(finding(*row) for row in broken)]
    return [CheckWarning(each.text, each.code) for each in found]


orm.before_commit.append(at_save)


def statement(database: Any, saved: orm.Saved) -> tuple[str, int]:
    """Return the cached SQL that checks the rules after a save, and how often it takes the entity's id."""
    table = saved.entity._meta.table_name
    changed = None if saved.is_new else saved.names
    cache = database.cached.setdefault("rules", {})
    if (table, changed) not in cache:
        own = [rule for rule in _rules_of(table, rules.BOTH) if changed is None or _concerns(rule, changed)]
        parts = [*(query(rule, "this.id = ?") for rule in own), *_of_others(table, changed or frozenset())]
        sql = database.with_parameter_marks(" UNION ALL ".join(parts))
        cache[table, changed] = sql, len(parts)
    found: tuple[str, int] = cache[table, changed]
    return found


COLUMN = re.compile(r"\bthis\.(\w+)")


def _concerns(rule: Rule, names: Iterable[str]) -> bool:
    """Whether a rule's condition contains one of these fields."""
    columns = {*COLUMN.findall(rule.where)}
    return any(name in columns or f"{name}_id" in columns for name in names)


def _rules_of(table: str, *when: str) -> list[Rule]:
    return [rule for rule in rules.RULES if rule.entity == table and rule.when in when]


def _of_others(table: str, changed: frozenset[str]) -> list[str]:
    """Return the queries that check other rows after a change of some fields."""
    found = {each.code: each for each in effects.FIELD_EFFECTS if each.entity == table and each.changed in changed}
    return [query(rules.BY_CODE[code], effect.scope, MOST_AFFECTED) for code, effect in found.items()]


def _of_removed_memberships(database: Any, removed: Iterable[dict[str, int]], known: list[Any]) -> list[Any]:
    """Return the first rows of each rule that break it because memberships were removed, without the known rows."""
    if not removed:
        return []
    parts = [query(rules.BY_CODE[each.code], each.scope, MOST_AFFECTED) for each in effects.REMOVAL_EFFECTS]
    sql = " UNION ALL ".join(parts).replace("?", database.param)
    names = [name for each in effects.REMOVAL_EFFECTS for name in each.by]
    seen, counts, found = {row[:2] for row in known}, Counter[str](), []
    for row in (row for pair in removed for row in _few(database, sql, [pair[name] for name in names])):
        if row[:2] not in seen and counts[row[0]] < MOST_AFFECTED:
            seen.add(row[:2])
            counts[row[0]] += 1
            found.append(row)
    return found


def _weak(entity: Any, names: Iterable[str]) -> Iterator[Finding]:
    """Find weak secrets that were assigned to this object. The findings do not quote them."""
    for rule in rules.RULES:
        if rule.secret in names and rule.entity == entity._meta.table_name:
            weakness, hashed = (entity._weak or {}).get(rule.secret, ("", None))
            if weakness and hashed == entity._stored[rule.secret]:
                yield finding(rule.code, entity.id, entity.own_name(), weakness)


def _few(database: Any, sql: str, parameters: list[Any]) -> list[Any]:
    """Run a query that returns few rows. It does not unhide hashes, to be fast: a session that saves hides none."""
    try:
        rows: list[Any] = database.execute_sql(sql, parameters).fetchall()
    except Exception as error:
        if not database.can_retry(error):
            raise
        return list(rows_of(database, sql, parameters))
    return rows


def rows_of(database: Any, sql: str, parameters: Iterable[Any] = ()) -> Iterator[Any]:
    """Run a query of ours and yield its rows, with hashes visible to it, also in a session that hides them."""
    done = 0
    while True:
        try:
            for row in islice(_with_hashes_visible(database, database.streamed(sql, parameters)), done, None):
                done += 1
                yield row
            return
        except Exception as error:
            if not database.can_retry(error):
                raise


def _with_hashes_visible(database: Any, rows: Iterator[Any]) -> Iterator[Any]:
    """Yield rows that are read while hashes are visible. The caller, between two rows, sees none."""
    while True:
        with database.hashes_visible():
            row = next(rows, None)
        if row is None:
            return
        yield row


# One entity, and whole tables


def check(self: Any) -> Findings:
    """Return the rules that this entity breaks, as it is in the database."""
    if not self.is_saved:
        raise self.not_saved("entity to check")
    parts = [query(rule, "this.id = ?") for rule in _rules_of(self._meta.table_name, rules.BOTH, rules.AT_CHECK)]
    database = self._meta.database
    sql = database.with_parameter_marks(" UNION ALL ".join(parts))
    broken = rows_of(database, sql, [self.id] * len(parts)) if parts else ()
    secrets = self._meta.sorted_field_names
    return Findings([*_weak(self, secrets), *(finding(*row) for row in broken)])


def everywhere(table: str) -> str:
    """Return no condition: all rows of a table are checked."""
    return ""


def of_tables(database: Any, asked: Iterable[Rule], scope: Callable[[str], str] = everywhere) -> Iterator[Finding]:
    """Find the rows that break these rules. One query for each rule.

    scope: returns, for a table, the condition of the rows to check.
    """
    for rule in asked:
        if rule.where:
            for row in rows_of(database, table_query(database, rule, scope)):
                yield finding(*row)


def table_query(database: Any, rule: Rule, scope: Callable[[str], str]) -> str:
    """Return the SQL of the rows of a table that break a rule."""
    for_table = rule.for_table
    if for_table is not None and "{cycles}" in for_table.where:
        for_table = for_table._replace(where=for_table.where.format(cycles=cycles.ids_as_sql(database)))
    return query(rule, scope(rule.entity), for_table=for_table)


def count(database: Any, asked: Iterable[Rule], scope: Callable[[str], str]) -> dict[str, int]:
    """Return the number of rows that break each of these rules, by its code, if any do. See of_tables()."""
    found: dict[str, int] = {}
    for rule in asked:
        if rule.where:
            ((number,),) = rows_of(database, f"SELECT COUNT(*) FROM ({table_query(database, rule, scope)}) AS found")
            found |= {rule.code: number} if number else {}
    return found


# The last check of a whole database


class Last(NamedTuple):
    """When the last check of a whole database was, and its number of findings of each level."""

    at: datetime.datetime
    error: int
    warning: int
    info: int


def last(database: Any) -> Last | None:
    """Return the summary of this user's last check of the whole database, or None."""
    import json

    try:
        kept = json.loads(_kept(database).read_text())
        return Last(datetime.datetime.fromisoformat(kept["at"]), *(int(kept[level]) for level in rules.LEVELS))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def remember(database: Any, found: dict[str, int]) -> None:
    """Store the summary of a check in the application's folder, because the database is open read-only.

    last() returns it to the same user for the same file in the same place (on a server: for the same URL), not for a
    copy or a restored backup. Nothing is stored for a private copy. Raises OSError if it cannot be written.
    """
    import json

    with contextlib.suppress(FileNotFoundError):
        place = _kept(database)
        draft = home.own_file(place.with_suffix(f".{os.getpid()}.new"))
        draft.write_text(json.dumps({"at": now().isoformat(), **found}))
        os.replace(draft, place)


def _kept(database: Any) -> Path:
    """Return the file with the summary of the last check. Raises FileNotFoundError for a private copy."""
    import hashlib  # 4 ms that no save has to pay

    if database.mode == "sandbox":
        raise FileNotFoundError
    path = database.path.resolve() if database.path is not None else None
    place = f"{path}\n{path.stat().st_ino}" if path is not None else database.title  # on a server: its URL
    identity = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()
    return home.folder() / f"check-{identity[:32]}.json"
