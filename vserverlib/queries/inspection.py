"""The inspection of a whole database: every rule, and what SQLite itself, its links and its tables have to say.

It owns what is no rule of rows: damage (integrity_check), orphans (foreign_key_check), tables that are not those of a
new database, and values that are none of their kind. What stands for these on a PostgreSQL server is catalog.py's. It
reads and changes nothing. How that looks is check_report.py's.
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
from vserverlib.entities.checks import Finding, Findings
from vserverlib.entities.rules import Rule
from vserverlib.queries import catalog, kinds

Schema = dict[tuple[str, str], Any]  # by kind and name: what defines it


def find(code: str) -> Rule:
    """Return the rule with a code; a UsageError, which names near ones, where there is none."""
    found = rules.BY_CODE.get(code.strip().upper())
    if found is None:
        alike = [rule for rule in rules.BY_CODE if rule[:3] == code.strip().upper()[:3]]
        message = f": there are {', '.join(alike)}" if alike else did_you_mean(code, rules.BY_CODE)
        raise UsageError(f'no rule "{printable(code)}"{message or ": there are ORG001 to DBF005, see docs/checks.md"}')
    return found


def chosen(tables: Iterable[str] = (), codes: Iterable[str] = ()) -> list[Rule]:
    """Return the rules that a whole check asks: of these tables, or with these codes; all of them without either.

    Those of the file come first: where it is damaged, the others may not be told.
    """
    wanted, named = list(tables), [find(code) for code in codes]
    for rule in named:
        if rule.when == rules.AT_SAVE:
            raise UsageError(f"{rule.code} is asked at a save only: see vserver check --explain {rule.code}")
    found = [rule for rule in rules.RULES if rule.when != rules.AT_SAVE and (not named or rule in named)]
    asked = [rule for rule in found if not wanted or rule.entity in wanted]
    if not asked:
        message = ", ".join(rule.code for rule in named)
        raise UsageError(f"{message} asks nothing of {', '.join(wanted)}: leave out the one or the other")
    return sorted(asked, key=lambda rule: rule.entity != "")


def inspect(database: Any, asked: Iterable[Rule]) -> Iterator[Finding]:
    """Find all that breaks these rules. One query for each, whatever there is; damage does not end it."""
    for rule in asked:
        try:
            if rule.code in OF_FILE:
                find_all = OF_FILE[rule.code] if database.is_sqlite else {**OF_FILE, **catalog.TOLD}[rule.code]
                yield from (checks.finding(rule.code, id, None, message) for id, message in find_all(database))
            else:
                yield from checks.of_tables(database, [rule])
        except (Damaged, peewee.DatabaseError, sqlite3.DatabaseError) as error:
            yield checks.finding("DBF001", None, None, f"{rule.code} could not be asked: {printable(error, 200)}")


# What is no rule of rows: each gives the id of a row, or None, and the sentence

SaveWarnings = Iterator[tuple[int | None, str]]


def _damage(database: Any) -> SaveWarnings:
    for (message,) in database.execute_sql("PRAGMA integrity_check").fetchall():
        if message != "ok":
            yield None, message.replace("\n", " ")


def _orphans(database: Any) -> SaveWarnings:
    links: dict[str, dict[int, str]] = {}
    for table, id, parent, number in database.execute_sql("PRAGMA foreign_key_check"):
        if table not in links:
            listed = database.execute_sql(f"PRAGMA foreign_key_list({quoted(table)})").fetchall()
            links[table] = {row[0]: row[3] for row in listed}
        column, noun = links[table][number], MODELS[table].noun if table in MODELS else table
        to = f"{parent} {printable(_stored(database, table, column, id))}" if id is not None else f"of {parent}"
        yield id, f"{noun} {id}: its {column.removesuffix('_id')} is {to}, which does not exist"


def _stored(database: Any, table: str, column: str, id: int) -> object:
    (value,) = database.execute_sql(f"SELECT {quoted(column)} FROM {quoted(table)} WHERE rowid = ?", [id]).fetchone()
    return value


def _drift(database: Any) -> SaveWarnings:
    """Compare the tables, indexes, triggers and views with those of a new database."""
    meant = schemas.new(schema)
    found, meant = (schema(database), meant) if database.is_sqlite else (catalog.schema(database), catalog.meant(meant))
    for kind, name in sorted({*found, *meant}):
        what, has, should = f"the {kind} {printable(name)}", found.get((kind, name)), meant.get((kind, name))
        if should is None:
            yield None, f"{what} is not one of vserver's"
        elif has is None:
            yield None, f"{what} is missing"
        elif has != should:
            yield None, f"{what} is another than in a new database{_columns(has, should)}"


def schema(database: Any) -> Schema:
    """Return what defines each table, index, trigger and view: of a table its columns, else its SQL."""
    listed = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
    rows = database.execute_sql(listed).fetchall()
    return {(kind, name): (_table(database, name), _plain(sql)) for kind, name, sql in rows}


def _table(database: Any, name: str) -> tuple[str, ...]:
    listed = database.execute_sql(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
    return tuple(sorted(str(row[1]) for row in listed))


def _plain(sql: str | None) -> str:
    return " ".join((sql or "").replace('"', "").split())


def _columns(has: Any, should: Any) -> str:
    """Return which columns are more or missing, where that is the difference."""
    words = [f"{printable(name)} is more" for name in has[0] if name not in should[0]]
    words += [f"{printable(name)} is missing" for name in should[0] if name not in has[0]]
    return f" (column {', '.join(words)})" if words else ""


# Values: SQLite takes any in any column

# A time of the length that we store, which SQLite knows for one, is not looked at again: a quarter of a microsecond.
MISFITS = {  # the condition of what need not be a value of its kind, by the kind of its field; the first that fits
    fields.UTCDateTimeField: f"LENGTH(this.{{0}}) <> {fields.LENGTH} OR julianday(this.{{0}}) IS NULL",
    fields.BooleanField: "this.{0} NOT IN (0, 1)",
    fields.IntegerField: "typeof(this.{0}) <> 'integer'",
    relations.Link: "typeof(this.{0}) <> 'integer'",
    fields.Text: "typeof(this.{0}) = 'blob'",
}


def misfits(database: Any, scope: Callable[[str], str] = checks.everywhere) -> SaveWarnings:
    """Find the values that are none of their kind, in SQLite: one scan of each table. See checks.of_tables()."""
    for model in MODELS.values():
        table, suspects = model._meta.table_name, list(_suspects(model))
        conditions = " OR ".join(f"(this.{field.column_name} IS NOT NULL AND ({where}))" for field, where in suspects)
        narrow = f"{scope(table)} AND " if scope(table) else ""
        names = ", ".join(f"this.{field.column_name}" for field, _ in suspects)
        sql = f'SELECT this.id, {names} FROM "{table}" AS this WHERE {narrow}({conditions})'
        for id, *values in checks.rows_of(database, sql):
            for (field, _), value in zip(suspects, values, strict=True):
                if _is_misfit(field, value):
                    shown = "of bytes" if isinstance(value, bytes) else f'"{printable(value)}"'
                    yield id, f"{model.noun} {id}: its {field.column_name} is {shown}, which is not {field.takes}"


def _suspects(model: Any) -> Iterator[tuple[Any, str]]:
    """Return the fields that can hold a misfit, each with the condition of those that may be one."""
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
    return isinstance(value, str) and not isinstance(field, fields.UTCDateTimeField)  # digits: no number to SQLite


def _nothing(database: Any) -> SaveWarnings:
    """Find nothing: SQLite looks at the rows of a table itself when it gives an id."""
    yield from ()


OF_FILE: dict[str, Callable[[Any], SaveWarnings]] = {
    "DBF001": _damage,
    "DBF002": _orphans,
    "DBF003": _drift,
    "DBF004": misfits,
    "DBF005": _nothing,
}


# At the prompt


class Asking(contextlib.AbstractContextManager[None]):
    """Whether saves ask the rules: set when it is made, and put back at the end of a `with` block, if it has one."""

    def __init__(self, database: Any, on: bool) -> None:
        self.database, self.before = database, database.asks_rules
        database.asks_rules = on

    def __exit__(self, *error: object) -> None:
        self.database.asks_rules = self.before

    def __repr__(self) -> str:
        if self.database.asks_rules:
            return "<saves ask the rules>"
        return "<saves ask no rules, until db.checks(True)>"


def tools(database: Any) -> dict[str, Callable[..., Any]]:
    """Return what `db` has of rules, for a database: check(), checks() and strict()."""

    def check(*entities: Any, rule: str | None = None) -> Findings:
        """Return all that breaks a rule: of some entities, db.check(db.Node), or one rule's, rule="NOD002"."""
        asked = chosen(map(_table_of, entities), [] if rule is None else [rule])
        return Findings(inspect(database, asked))

    def strict(on: bool = True) -> None:
        """Refuse, from now on, what would be saved with a warning; strict(False): save it again."""
        database.strict = _flag("strict", on)

    def checks(on: bool = True) -> Asking:
        """Save without asking the rules, checks(False), until checks(True) or the end of a `with` block."""
        return Asking(database, _flag("checks", on))

    return {"check": check, "checks": checks, "strict": strict}


def _flag(name: str, on: object) -> bool:
    if not isinstance(on, bool):
        raise UsageError(f"{name} takes True or False, not {printable(repr(on))}")
    return on


def _table_of(entity: Any) -> str:
    model: Any = kinds.kind(entity) if isinstance(entity, str) else entity
    if not (isinstance(model, type) and issubclass(model, orm.EntityBase)):
        raise UsageError(f"{printable(repr(entity))} is no kind of entity: write such as db.check(db.Node)")
    return str(model._meta.table_name)
