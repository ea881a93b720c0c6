"""Checking a whole database: all rules, damage, orphans, changed tables, and values of the wrong type.

entities/checks.py checks the rules of rows. This module has the rest for SQLite: integrity_check, foreign_key_check,
tables that differ from those of a new database, values of the wrong type; catalog.py has it for PostgreSQL. It writes
nothing. terminal/check_report.py displays findings.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from models import MODELS
from vserverlib import Damaged, Error, UsageError, did_you_mean, printable
from vserverlib.databases import schemas
from vserverlib.databases.connection import quoted
from vserverlib.drivers import peewee
from vserverlib.entities import checks, fields, orm, relations, rules
from vserverlib.entities.checks import Fault, Finding, Findings
from vserverlib.entities.rules import Rule
from vserverlib.queries import catalog, kinds

Schema = dict[tuple[str, str], Any]  # the definition of each table, index, trigger and view, by kind and name


def find(code: str) -> Rule:
    """Return the rule with a code. Raises a UsageError, with similar codes, for an unknown one."""
    found = rules.BY_CODE.get(code.strip().upper())
    if found is None:
        alike = [rule for rule in rules.BY_CODE if rule[:3] == code.strip().upper()[:3]]
        known = f": there are {', '.join(alike)}" if alike else did_you_mean(code, rules.BY_CODE)
        raise UsageError(f'no rule "{printable(code)}"{known or ": see vserver help rules"}')
    return found


def chosen(tables: Iterable[str] = (), codes: Iterable[str] = ()) -> list[Rule]:
    """Return the rules to check: of these tables, or with these codes; without either, all of them.

    Rules of the whole database come first, because damage may hide other findings.
    """
    wanted, named = list(tables), [find(code) for code in codes]
    for rule in named:
        if rule.when == rules.AT_SAVE:
            raise UsageError(f"{rule.code} is checked at a save only: see vserver check --explain {rule.code}")
    found = [rule for rule in rules.RULES if rule.when != rules.AT_SAVE and (not named or rule in named)]
    asked = [rule for rule in found if not wanted or rule.entity in wanted]
    if not asked:
        listed = ", ".join(rule.code for rule in named)
        raise UsageError(f"{listed} does not apply to {', '.join(wanted)}: leave out the rule or the entity")
    return sorted(asked, key=lambda rule: rule.entity != "")


def inspect(database: Any, asked: Iterable[Rule]) -> Iterator[Finding]:
    """Find all that breaks these rules. One query for each rule; damage does not stop it."""
    for rule in asked:
        try:
            if rule.code in DATABASE_CHECKS:
                checkers = DATABASE_CHECKS if database.is_sqlite else {**DATABASE_CHECKS, **catalog.DATABASE_CHECKS}
                faults = checkers[rule.code](database)
                yield from (_finding(rule.code, Fault(*fault)) for fault in faults)
            else:
                yield from checks.of_tables(database, [rule])
        except (Damaged, peewee.DatabaseError, sqlite3.DatabaseError) as error:
            yield checks.finding("DBF001", None, None, f"{rule.code} could not be checked: {printable(error, 200)}")


def _finding(code: str, fault: Fault) -> Finding:
    found = checks.finding(code, fault.id, None, fault.message)
    return found._replace(command=fault.command or found.command)


# Checks of the whole database

Faults = Iterator[Any]  # the parts of a Fault


def _damage(database: Any) -> Faults:
    for (message,) in database.execute_sql("PRAGMA integrity_check").fetchall():
        if message != "ok":
            yield None, message.replace("\n", " ")


def _orphans(database: Any) -> Faults:
    links: dict[str, dict[int, str]] = {}
    for table, id, parent, number in database.execute_sql("PRAGMA foreign_key_check"):
        if table not in links:
            listed = database.execute_sql(f"PRAGMA foreign_key_list({quoted(table)})").fetchall()
            links[table] = {row[0]: row[3] for row in listed}
        column = links[table][number]
        to = f"{printable(_stored(database, table, column, id))}" if id is not None else "…"
        link = MODELS[table]._meta.columns.get(column) if table in MODELS else None
        if link is None:
            yield id, f"{table} {id}: its {column.removesuffix('_id')} is {parent} {to}, which does not exist"
        else:
            yield checks.dangling(link, id, to)


def _stored(database: Any, table: str, column: str, id: int) -> object:
    (value,) = database.execute_sql(f"SELECT {quoted(column)} FROM {quoted(table)} WHERE rowid = ?", [id]).fetchone()
    return value


def _drift(database: Any) -> Faults:
    """Compare the tables, indexes, triggers and views with those of a new database."""
    new, found = schemas.from_new_database(schema), schema(database) if database.is_sqlite else catalog.schema(database)
    expected = new if database.is_sqlite else catalog.expected(new)
    for kind, name in sorted({*found, *expected}):
        part, has, should = f"the {kind} {printable(name)}", found.get((kind, name)), expected.get((kind, name))
        if should is None:
            yield None, f"{part} is not one of vserver's"
        elif has is None:
            yield None, f"{part} is missing"
        elif has != should:
            yield None, f"{part} differs from that of a new database{_columns(has, should)}"


def schema(database: Any) -> Schema:
    """Return the definitions of tables, indexes, triggers and views: the columns of a table, the SQL of the others."""
    listed = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    rows = database.execute_sql(listed).fetchall()
    return {(kind, name): (_table(database, name), _plain(sql)) for kind, name, sql in rows}


def _table(database: Any, name: str) -> tuple[str, ...]:
    listed = database.execute_sql(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
    return tuple(sorted(str(row[1]) for row in listed))


def _plain(sql: str | None) -> str:
    return " ".join((sql or "").replace('"', "").split())


def _columns(has: Any, should: Any) -> str:
    """Return which columns are additional or missing, if that is the difference."""
    words = [f"{printable(name)} is additional" for name in has[0] if name not in should[0]]
    words += [f"{printable(name)} is missing" for name in should[0] if name not in has[0]]
    return f" (column {', '.join(words)})" if words else ""


# Values of the wrong type: SQLite accepts any value in any column

# Conditions of values that may have the wrong type, by type of field; the first match counts. A time of our length that
# SQLite can read is fine: that takes a quarter of a microsecond.
MISFITS = {
    fields.UTCDateTimeField: f"LENGTH(this.{{0}}) <> {fields.STORED_TIME_LENGTH} OR julianday(this.{{0}}) IS NULL",
    fields.BooleanField: "this.{0} NOT IN (0, 1)",
    fields.IntegerField: "typeof(this.{0}) <> 'integer'",
    relations.Link: "typeof(this.{0}) <> 'integer'",
    fields.Text: "typeof(this.{0}) = 'blob'",
}


def misfits(database: Any, scope: Callable[[str], str] = checks.everywhere) -> Faults:
    """Find values of the wrong type in SQLite, by one scan of each table. scope: see checks.of_tables()."""
    for model in MODELS.values():
        table, suspects = model._meta.table_name, list(_suspects(model))
        conditions = " OR ".join(f"(this.{field.column_name} IS NOT NULL AND ({where}))" for field, where in suspects)
        narrow = f"{scope(table)} AND " if scope(table) else ""
        names = ", ".join(f"this.{field.column_name}" for field, _ in suspects)
        sql = f'SELECT this.id, {names} FROM "{table}" AS this WHERE {narrow}({conditions})'
        for id, *values in checks.rows_of(database, sql):
            for (field, _), value in zip(suspects, values, strict=True):
                if _is_misfit(field, value):
                    shown = "bytes" if isinstance(value, bytes) else f'"{printable(value)}"'
                    yield id, f"{model.noun} {id}: its {field.column_name} is {shown}, which is not {field.takes}"


def _suspects(model: Any) -> Iterator[tuple[Any, str]]:
    """Yield the fields that can hold a value of the wrong type, each with the condition for such values."""
    for field in model.stored_fields():
        where = next((where for kind, where in MISFITS.items() if isinstance(field, kind)), "")
        if where and not field.primary_key:
            yield field, where.format(field.column_name)


def _is_misfit(field: Any, value: Any) -> bool:
    if value is None or (isinstance(field, fields.Text) and not isinstance(value, bytes)):
        return False
    try:
        field.clean(value)
    except Error:
        return True
    return isinstance(value, str) and not isinstance(field, fields.UTCDateTimeField)  # digits: a text to SQLite


def _no_faults(database: Any) -> Faults:
    """Find nothing: SQLite has no sequences that can fall behind."""
    yield from ()


DATABASE_CHECKS: dict[str, Callable[[Any], Faults]] = {
    "DBF001": _damage,
    "DBF002": _orphans,
    "DBF003": _drift,
    "DBF004": misfits,
    "DBF005": _no_faults,
}


# At the prompt


class RuleChecks(contextlib.AbstractContextManager[None]):
    """Switches the checks of saves on or off when it is created; a `with` block restores them at its end."""

    def __init__(self, database: Any, on: bool) -> None:
        self.database, self.before = database, database.asks_rules
        database.asks_rules = on

    def __exit__(self, *error: object) -> None:
        self.database.asks_rules = self.before

    def __repr__(self) -> str:
        if self.database.asks_rules:
            return "<saves check the rules>"
        return "<saves check no rules, until db.checks(True)>"


def tools(database: Any) -> dict[str, Callable[..., Any]]:
    """Return the functions check(), checks() and strict() of `db`, for a database."""

    def check(*entities: Any, rule: str | None = None) -> Findings:
        """Return all findings: of some entities, as in db.check(db.Node), or of one rule, rule="NOD002"."""
        asked = chosen(map(_table_of, entities), [] if rule is None else [rule])
        return Findings(inspect(database, asked))

    def strict(on: bool = True) -> None:
        """Refuse saves that break a rule from now on; strict(False): save them with a warning again."""
        database.strict = _flag("strict", on)

    def checks(on: bool = True) -> RuleChecks:
        """checks(False): save without checking the rules, until checks(True) or the end of a `with` block."""
        return RuleChecks(database, _flag("checks", on))

    return {"check": check, "checks": checks, "strict": strict}


def _flag(name: str, on: object) -> bool:
    if not isinstance(on, bool):
        raise UsageError(f"{name} takes True or False, not {printable(repr(on))}")
    return on


def _table_of(entity: Any) -> str:
    model: Any = kinds.kind(entity) if isinstance(entity, str) else entity
    if not (isinstance(model, type) and issubclass(model, orm.EntityBase)):
        raise UsageError(f"{printable(repr(entity))} is not an entity class: write such as db.check(db.Node)")
    return str(model._meta.table_name)
