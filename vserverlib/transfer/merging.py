"""Merging: which rows of a source are there already, which are new, and which are others than here.

The rows are collected in tables of their own first, which the database keeps for this session (TEMP), so that what is
compared and written is so by statements over whole tables, and memory does not grow with the source.

Two rows are the same by what an entity is known by (KEYS), whatever their ids: an organization by its name, a node by
its organization and its collaboration. Where several have the same key, the one with the same id is it, and of the
others the first there is the first here, and so on: so the same source, merged twice, adds nothing. What is new gets
new ids, above all that were ever given. What a source has no value for, or an empty text, stays as it is here; what
it only makes up (sources.Source.made_up, defaults) tells no two rows apart, and is for new rows alone.

It owns the comparing and the writing. Collecting the rows, and the transaction, is importer.py's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from models import MODELS
from vserverlib.entities import fields
from vserverlib.transfer.import_report import Outcome, Planned
from vserverlib.transfer.sources import NO_DEFAULTS, NOTHING, Default, Defaults, Notes
from vserverlib.transfer.writing import note_lost, taken_value

PREFIX = "incoming_"  # before the names of the tables that rows are collected in
NEW, CHANGED, SAME, REFUSED = "new", "changed", "same", "refused"


class Key(NamedTuple):
    """What an entity is known by: these columns, and where one of them is empty, the others too."""

    columns: tuple[str, ...]
    others: tuple[str, ...] = ()


class Unsaid(NamedTuple):
    """What a source says nothing of: columns that it makes up, by entity, and what new rows have in others."""

    made_up: Mapping[str, Collection[str]] = NOTHING
    defaults: Defaults = NO_DEFAULTS

    def columns(self, table: str) -> list[str]:
        """Return the columns of a table by which no two rows are told apart."""
        return [*self.made_up.get(table, ()), *self.defaults.get(table, ())]

    def default(self, table: str, name: str) -> Default | None:
        """Return what new rows have in a column where the source says nothing."""
        return self.defaults.get(table, {}).get(name)

    def values(self, table: str) -> list[str]:
        """Return the columns of a table that a row which is there can get from the source."""
        return [name for name in _values(table) if name not in self.made_up.get(table, ())]


KEYS = {
    "organization": Key(("name",), ("domain", "address1", "address2", "zipcode", "country", "public_key")),
    "user": Key(("username",), ("firstname", "lastname", "email", "organization_id")),
    "collaboration": Key(("name",), ("encrypted",)),
    "member": Key(("organization_id", "collaboration_id")),
    "node": Key(("organization_id", "collaboration_id"), ("name",)),
    "task": Key(("collaboration_id", "run_id", "name", "image", "created_at")),
    "result": Key(("task_id", "organization_id", "assigned_at")),
}


LAST_RUN_ID = """
SELECT COALESCE(MAX(CAST(value AS BIGINT)), 0) FROM (
    SELECT value FROM counter WHERE name = 'run_id' UNION ALL SELECT run_id FROM task
) AS used WHERE value BETWEEN 0 AND 9223372036854775806
"""


def prepare(database: Any) -> None:
    """Make the tables that rows are collected in. What is unique here, a source cannot have twice either."""
    for table, model in MODELS.items():
        more = "CAST(NULL AS TEXT) AS identity, CAST(NULL AS BIGINT) AS here, CAST(NULL AS TEXT) AS fate"
        made = f'SELECT {_listed(_columns(table))}, {more} FROM "{table}" WHERE 1 = 0'
        passing = "" if database.is_sqlite else "ON COMMIT DROP"  # a pooler gives the session to others
        database.execute_sql(f'CREATE TEMP TABLE "{PREFIX}{table}" {passing} AS {made}')
        unique = {"id", *(field.column_name for field in model._meta.sorted_fields if field.unique)}
        for columns in [*((name,) for name in unique), *([KEYS[table].columns] if table == "member" else [])]:
            _index(database, table, columns, "UNIQUE")


def plan(database: Any, outcome: Outcome, unsaid: Unsaid) -> list[Planned]:
    """Find out what each of the collected rows is here, and return how many are what, by entity. Once."""
    planned = []
    database.execute_sql(f'DROP INDEX "{_index_name("member", KEYS["member"].columns)}"')  # its columns are translated
    for table in MODELS:
        outcome.links.update(_follow_links(database, table, outcome, own=False))
        _find(database, table, unsaid.columns(table))
        _number(database, table, unsaid.columns(table))
        outcome.links.update(_follow_links(database, table, outcome, own=True))
        _compare(database, table, unsaid)
        _refuse_taken(database, table, outcome)
        counts: Counter[str] = Counter(dict(database.execute_sql(_counted(table)).fetchall()))
        outcome.refused[table] += counts[REFUSED]
        if counts[CHANGED]:
            outcome.replaced |= _replaced(database, table, unsaid)
        planned.append(Planned(table, counts[NEW], counts[CHANGED], counts[SAME], outcome.refused[table]))
    _note_shared_runs(database, outcome)
    return planned


def apply(database: Any, unsaid: Unsaid) -> None:
    """Write what is new, and what is others than here. Within a transaction that looks at links at its end."""
    for table in MODELS:
        _add(database, table, unsaid)
        _change(database, table, unsaid)


def imported(table: str) -> str:
    """Return the condition, for a rule, that a row was written by the merge."""
    return f"this.id IN (SELECT here FROM \"{PREFIX}{table}\" WHERE fate IN ('{NEW}', '{CHANGED}'))"


def newest_change(database: Any) -> Any:
    """Return what is another value as soon as anybody has changed a row: of two changes the later may end first."""
    return database.execute_sql("SELECT COUNT(*), MAX(id) FROM change").fetchone()


# What is the same


def _find(database: Any, table: str, made_up: Collection[str]) -> None:
    """Find the row here that each collected one is."""
    incoming, here = f'"{PREFIX}{table}"', _identity(table, "t", made_up)
    database.execute_sql(f"UPDATE {incoming} AS t SET identity = {here}")
    _index(database, table, ("here",))
    alike = f'SELECT 1 FROM "{table}" AS t WHERE t.id = {incoming}.id AND {here} = {incoming}.identity'
    database.execute_sql(f"UPDATE {incoming} SET here = id WHERE EXISTS ({alike})")
    if not database.is_sqlite:
        database.execute_sql(f"ANALYZE {incoming}")  # of a TEMP table PostgreSQL knows nothing by itself
    _find_by_order(database, table, here)
    database.execute_sql(f"UPDATE {incoming} SET fate = CASE WHEN here IS NULL THEN '{NEW}' ELSE '{SAME}' END")


def _find_by_order(database: Any, table: str, here: str) -> None:
    """Find the other rows that are alike: the first of each there is the first here, of those that are nobody's yet."""
    incoming, nth = f'"{PREFIX}{table}"', "ROW_NUMBER() OVER (PARTITION BY identity ORDER BY id) AS nth"
    free = f'SELECT id, {here} AS identity FROM "{table}" AS t WHERE {_is_nobodys(table)}'
    database.execute_sql(f"CREATE TEMP TABLE ours AS SELECT id, identity, {nth} FROM ({free}) AS free")
    database.execute_sql("CREATE INDEX ours_identity ON ours (identity, nth)")
    theirs = f"SELECT {_place(database)} AS place, identity, {nth} FROM {incoming} WHERE here IS NULL"
    alike = "ours.identity = theirs.identity AND ours.nth = theirs.nth"
    _pair(database, table, f"SELECT theirs.place, ours.id AS here FROM ({theirs}) AS theirs JOIN ours ON {alike}")
    database.execute_sql("DROP TABLE ours")


def _is_nobodys(table: str) -> str:
    """Return the condition that a row here, t, is none of the source's."""
    return f'NOT EXISTS (SELECT 1 FROM "{PREFIX}{table}" AS theirs WHERE theirs.here = t.id)'


def _identity(table: str, alias: str, made_up: Collection[str]) -> str:
    """Return the SQL of one text that is equal for two rows where what they are known by is equal."""
    columns, others = ([name for name in names if name not in made_up] for names in KEYS[table])
    text = _text(alias, columns)
    if not others:
        return text
    lacks = " OR ".join(f"{alias}.{name} IS NULL" for name in columns)
    return f"{text} || CASE WHEN {lacks} THEN {_text(alias, others)} ELSE '' END"


def _text(alias: str, columns: Sequence[str]) -> str:
    """Return the SQL of values as one text that tells them apart: each after its length."""
    texts = [f"CAST({alias}.{name} AS TEXT)" for name in columns]
    return " || ".join(f"COALESCE(LENGTH({text}) || ':' || {text}, '-')" for text in texts)


def _number(database: Any, table: str, made_up: Collection[str]) -> None:
    """Give what is new the ids that it will have, and where the source has no run ids, runs of their own."""
    incoming, last = f'"{PREFIX}{table}"', database.highest_id(table)
    nth = f"{last} + ROW_NUMBER() OVER (ORDER BY id) AS here"
    _pair(database, table, f"SELECT {_place(database)} AS place, {nth} FROM {incoming} WHERE fate = '{NEW}'")
    if "run_id" in made_up:
        (drawn,) = database.execute_sql(LAST_RUN_ID).fetchone()
        database.execute_sql(f"UPDATE {incoming} SET run_id = here - {last} + {drawn} WHERE fate = '{NEW}'")


def _pair(database: Any, table: str, pairs: str) -> None:
    """Set `here` of collected rows, as a query tells it: by the place of each."""
    database.execute_sql(f"CREATE TEMP TABLE pairs AS {pairs}")
    database.execute_sql("CREATE UNIQUE INDEX pairs_place ON pairs (place)")
    place = f'"{PREFIX}{table}".{_place(database)}'
    found = f"SELECT here FROM pairs WHERE place = {place}"
    database.execute_sql(f'UPDATE "{PREFIX}{table}" SET here = ({found}) WHERE EXISTS ({found})')
    database.execute_sql("DROP TABLE pairs")


def _place(database: Any) -> str:
    """Return the name that a database has for where a row is: a membership may come without an id."""
    return "rowid" if database.is_sqlite else "ctid"


# What is another


def _follow_links(database: Any, table: str, notes: Notes, *, own: bool) -> Counter[str]:
    """Have links lead to the ids here, and return how many led nowhere, each noted. own: those to the same table."""
    found: Counter[str] = Counter()
    for link in MODELS[table]._meta.refs:
        to, name = link.rel_model._meta.table_name, link.column_name
        if (to == table) is own:
            here = f'SELECT other.here FROM "{PREFIX}{to}" AS other WHERE other.id = "{PREFIX}{table}".{name}'
            lost = f"{name} IS NOT NULL AND NOT EXISTS ({here})"
            if count := note_lost(database, notes, link, f"{PREFIX}{table}", lost):
                found[f"{table}.{name}"] = count
            database.execute_sql(f'UPDATE "{PREFIX}{table}" SET {name} = ({here}) WHERE {name} IS NOT NULL')
    return found


def _compare(database: Any, table: str, unsaid: Unsaid) -> None:
    """Find out which of the rows that are there are others here."""
    differ = " OR ".join(_differs(table, name, unsaid) for name in unsaid.values(table))
    other = f'SELECT 1 FROM "{table}" AS t WHERE t.id = i.here AND ({differ})'
    mine = f'UPDATE "{PREFIX}{table}" AS i SET fate'
    database.execute_sql(f"{mine} = '{CHANGED}' WHERE fate = '{SAME}' AND EXISTS ({other})")


def _said(table: str, name: str) -> str:
    """Return the SQL of what a collected row, i, says in a column: NULL where that is nothing, or an empty text."""
    is_text = isinstance(MODELS[table]._meta.columns[name], fields.Text)
    return f"NULLIF(i.{name}, '')" if is_text else f"i.{name}"


def _given(table: str, name: str, unsaid: Unsaid) -> str:
    """Return the SQL of what a row that is there, t, gets in a column: what is said, or what it had."""
    default = unsaid.default(table, name)
    otherwise = default.changed if default else ""
    return f"COALESCE({_said(table, name)}, {otherwise or f't.{name}'})"


def _differs(table: str, name: str, unsaid: Unsaid) -> str:
    """Return the condition that a row here, t, has another value than it would be given."""
    default = unsaid.default(table, name)
    said = _given(table, name, unsaid) if default and default.changed else _said(table, name)
    return f"({said} IS NOT NULL AND (t.{name} IS NULL OR t.{name} <> {said}))"


def _replaced(database: Any, table: str, unsaid: Unsaid) -> dict[str, int]:
    """Return in how many of the rows that change a value is replaced, by table and column."""
    names = unsaid.values(table)
    counts = ", ".join(f"COUNT(CASE WHEN {_differs(table, name, unsaid)} THEN 1 END)" for name in names)
    joined = f'"{PREFIX}{table}" AS i JOIN "{table}" AS t ON t.id = i.here'
    found = database.execute_sql(f"SELECT {counts} FROM {joined} WHERE i.fate = '{CHANGED}'").fetchone()
    return {f"{table}.{name}": count for name, count in zip(names, found, strict=True) if count}


def _refuse_taken(database: Any, table: str, outcome: Outcome) -> None:
    """Refuse the rows that have a value of their own that another row has here."""
    for field in MODELS[table]._meta.sorted_fields:
        if field.unique and field.column_name not in KEYS[table].columns:
            _refuse(database, table, field.column_name, outcome)


def _refuse(database: Any, table: str, name: str, outcome: Outcome) -> None:
    mine = f'"{PREFIX}{table}"'
    taken = f'SELECT 1 FROM "{table}" AS t WHERE t.{name} = {mine}.{name} AND t.id <> {mine}.here'
    refused = f"fate IN ('{NEW}', '{CHANGED}') AND EXISTS ({taken})"
    for id, value in database.execute_sql(f"SELECT id, {name} FROM {mine} WHERE {refused} ORDER BY id"):
        outcome.left_out.add(f"{table} {id} is left out: {taken_value(name, value)}")
    database.execute_sql(f"UPDATE {mine} SET fate = '{REFUSED}' WHERE {refused}")


def _note_shared_runs(database: Any, outcome: Outcome) -> None:
    """Count the new tasks whose run_id is that of a task here: each server counts its own, and both are kept."""
    ours = f"SELECT 1 FROM task AS t WHERE t.run_id = i.run_id AND {_is_nobodys('task')}"
    shared = f"SELECT COUNT(*) FROM \"{PREFIX}task\" AS i WHERE fate = '{NEW}' AND EXISTS ({ours})"
    if count := database.execute_sql(shared).fetchone()[0]:
        outcome.values["task.run_id, new tasks with one that other tasks have here"] = count


def _counted(table: str) -> str:
    return f'SELECT fate, COUNT(*) FROM "{PREFIX}{table}" GROUP BY fate'


# Writing


def _add(database: Any, table: str, unsaid: Unsaid) -> None:
    names = _values(table)
    given = ", ".join(_begun(name, unsaid.default(table, name)) for name in names)
    rows = f"SELECT here, {given} FROM \"{PREFIX}{table}\" AS i WHERE fate = '{NEW}' ORDER BY here"
    database.execute_sql(f'INSERT INTO "{table}" (id, {_listed(names)}) {rows}')


def _begun(name: str, default: Default | None) -> str:
    """Return the SQL of what a new row has in a column."""
    return f"COALESCE(i.{name}, {default.sql})" if default else f'i."{name}"'


def _change(database: Any, table: str, unsaid: Unsaid) -> None:
    """Give the rows that are others what the source has; what it says nothing of stays."""
    names = unsaid.values(table)
    incoming = f"FROM \"{PREFIX}{table}\" AS i WHERE i.fate = '{CHANGED}'"
    given = ", ".join(_given(table, name, unsaid) for name in names)
    values = f"SELECT {given} {incoming} AND i.here = t.id"
    sql = f'UPDATE "{table}" AS t SET ({_listed(names)}) = ({values}) WHERE id IN (SELECT i.here {incoming})'
    database.execute_sql(sql)


# Columns and indexes


def _columns(table: str) -> list[str]:
    return [field.column_name for field in MODELS[table].stored_fields()]


def _values(table: str) -> list[str]:
    return [name for name in _columns(table) if name != "id"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _index(database: Any, table: str, columns: Sequence[str], kind: str = "") -> None:
    name = _index_name(table, columns)
    database.execute_sql(f'CREATE {kind} INDEX "{name}" ON "{PREFIX}{table}" ({_listed(columns)})')


def _index_name(table: str, columns: Sequence[str]) -> str:
    return f"{PREFIX}{table}_{'_'.join(columns)}"
