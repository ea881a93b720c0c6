"""Merges a source: finds out which of its rows are new, changed or the same here, and writes them.

importer.py collects the rows in temporary tables and owns the transaction. The SQL here compares and writes whole
tables, so memory does not grow with the source.

Rows match by the key of their entity (KEYS), not by id: an organization by its name, a node by its organization and
collaboration. If several rows share a key, equal ids match first; the others match in order of their ids, so a second
merge of the same source adds nothing. New rows get ids above all that were ever used. NULL and empty texts of a source
change nothing. Values that a source makes up (sources.Source.made_up, defaults) are set in new rows only, and never
distinguish two rows.

In the SQL, `i` is a collected row, `t` a row of this database, `here` the id of `i` in this database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from models import MODELS
from vserverlib import Error, pluralize
from vserverlib.entities import fields
from vserverlib.transfer.import_report import ImportReport, Planned
from vserverlib.transfer.sources import NO_COLUMNS, NO_DEFAULTS, Default, Defaults, ImportNotes
from vserverlib.transfer.writing import note_lost, taken_value

PREFIX = "incoming_"  # of the tables that collect rows
NEW, CHANGED, SAME, REFUSED = "new", "changed", "same", "refused"


class Key(NamedTuple):
    """The columns that identify an entity, and further columns that are used if one of them is NULL."""

    columns: tuple[str, ...]
    others: tuple[str, ...] = ()


class Omissions(NamedTuple):
    """The columns that a source leaves out, see sources.Source.made_up and defaults."""

    made_up: Mapping[str, Collection[str]] = NO_COLUMNS
    defaults: Defaults = NO_DEFAULTS

    def columns(self, table: str) -> list[str]:
        """Return the columns of a table that do not distinguish rows."""
        return [*self.made_up.get(table, ()), *self.defaults.get(table, ())]

    def default(self, table: str, name: str) -> Default | None:
        """Return the default of a column for new rows, or None."""
        return self.defaults.get(table, {}).get(name)

    def values(self, table: str) -> list[str]:
        """Return the columns of a table that a merge can update."""
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
    """Create the tables that collect rows, with the unique columns of ours."""
    for table, model in MODELS.items():
        more = "CAST(NULL AS TEXT) AS identity, CAST(NULL AS BIGINT) AS here, CAST(NULL AS TEXT) AS fate"
        made = f'SELECT {_listed(_columns(table))}, {more} FROM "{table}" WHERE 1 = 0'
        passing = "" if database.is_sqlite else "ON COMMIT DROP"  # a pooler reuses the session
        database.execute_sql(f'CREATE TEMP TABLE "{PREFIX}{table}" {passing} AS {made}')
        unique = {"id", *(field.column_name for field in model._meta.sorted_fields if field.unique)}
        for columns in [*((name,) for name in unique), *([KEYS[table].columns] if table == "member" else [])]:
            _index(database, table, columns, "UNIQUE")


def plan(database: Any, report: ImportReport, omissions: Omissions) -> list[Planned]:
    """Decide which collected rows are new, changed, the same or refused; return the numbers. Call it once."""
    planned = []
    database.execute_sql(
        f'DROP INDEX "{_index_name("member", KEYS["member"].columns)}"'
    )  # its columns get the ids of this database
    for table in MODELS:
        report.links.update(_follow_links(database, table, report, own=False))
        _find(database, table, omissions.columns(table))
        _number(database, table, omissions.columns(table))
        report.links.update(_follow_links(database, table, report, own=True))
        _compare(database, table, omissions)
        _refuse_taken(database, table, report)
        grouped = f'SELECT fate, COUNT(*) FROM "{PREFIX}{table}" GROUP BY fate'
        counts: Counter[str] = Counter(dict(database.execute_sql(grouped).fetchall()))
        report.refused[table] += counts[REFUSED]
        if counts[CHANGED]:
            report.replaced |= _replaced(database, table, omissions)
        planned.append(Planned(table, counts[NEW], counts[CHANGED], counts[SAME], report.refused[table]))
    _note_shared_runs(database, report)
    return planned


def apply(database: Any, omissions: Omissions) -> None:
    """Write new and changed rows. Call it in a transaction with deferred foreign keys."""
    for table in MODELS:
        _add(database, table, omissions)
        _change(database, table, omissions)


def imported(table: str) -> str:
    """Return the SQL condition, for a rule, that the merge wrote a row."""
    return f"this.id IN (SELECT here FROM \"{PREFIX}{table}\" WHERE fate IN ('{NEW}', '{CHANGED}'))"


def newest_change(database: Any) -> Any:
    """Return a value that differs after any change of a row."""
    return database.execute_sql("SELECT COUNT(*), MAX(id) FROM change").fetchone()  # the newer of two may commit first


# Matching rows


def _find(database: Any, table: str, made_up: Collection[str]) -> None:
    """Find the row of this database that matches each collected row."""
    incoming, here = f'"{PREFIX}{table}"', _identity(table, "t", made_up)
    database.execute_sql(f"UPDATE {incoming} AS t SET identity = {here}")
    _index(database, table, ("here",))
    alike = f'SELECT 1 FROM "{table}" AS t WHERE t.id = {incoming}.id AND {here} = {incoming}.identity'
    database.execute_sql(f"UPDATE {incoming} SET here = id WHERE EXISTS ({alike})")
    if not database.is_sqlite:
        database.execute_sql(f"ANALYZE {incoming}")  # PostgreSQL does not analyze temporary tables by itself
    _find_by_order(database, table, here)
    database.execute_sql(f"UPDATE {incoming} SET fate = CASE WHEN here IS NULL THEN '{NEW}' ELSE '{SAME}' END")


def _find_by_order(database: Any, table: str, here: str) -> None:
    """Match the remaining rows with equal keys in the order of their ids."""
    incoming, nth = f'"{PREFIX}{table}"', "ROW_NUMBER() OVER (PARTITION BY identity ORDER BY id) AS nth"
    free = f'SELECT id, {here} AS identity FROM "{table}" AS t WHERE {_is_unmatched(table)}'
    database.execute_sql(f"CREATE TEMP TABLE ours AS SELECT id, identity, {nth} FROM ({free}) AS free")
    database.execute_sql("CREATE INDEX ours_identity ON ours (identity, nth)")
    theirs = f"SELECT {_place(database)} AS place, identity, {nth} FROM {incoming} WHERE here IS NULL"
    alike = "ours.identity = theirs.identity AND ours.nth = theirs.nth"
    _pair(database, table, f"SELECT theirs.place, ours.id AS here FROM ({theirs}) AS theirs JOIN ours ON {alike}")
    database.execute_sql("DROP TABLE ours")


def _is_unmatched(table: str) -> str:
    """Return the SQL condition that no collected row matches `t`."""
    return f'NOT EXISTS (SELECT 1 FROM "{PREFIX}{table}" AS theirs WHERE theirs.here = t.id)'


def _identity(table: str, alias: str, made_up: Collection[str]) -> str:
    """Return the SQL of a text that is equal for rows with equal keys."""
    columns, others = ([name for name in names if name not in made_up] for names in KEYS[table])
    text = _text(alias, columns)
    if not others:
        return text
    lacks = " OR ".join(f"{alias}.{name} IS NULL" for name in columns)
    return f"{text} || CASE WHEN {lacks} THEN {_text(alias, others)} ELSE '' END"


def _text(alias: str, columns: Sequence[str]) -> str:
    """Return the SQL that joins values to one unambiguous text: each value after its length."""
    texts = [f"CAST({alias}.{name} AS TEXT)" for name in columns]
    return " || ".join(f"COALESCE(LENGTH({text}) || ':' || {text}, '-')" for text in texts)


def _number(database: Any, table: str, made_up: Collection[str]) -> None:
    """Set the ids of new rows, and new run ids if the source has none. Raises an Error if no numbers are left."""
    incoming, last = f'"{PREFIX}{table}"', database.highest_id(table)
    (count,) = database.execute_sql(f"SELECT COUNT(*) FROM {incoming} WHERE fate = '{NEW}'").fetchone()
    _require_numbers(database, f"{table}.id", last, count)
    nth = f"{last} + ROW_NUMBER() OVER (ORDER BY id) AS here"
    _pair(database, table, f"SELECT {_place(database)} AS place, {nth} FROM {incoming} WHERE fate = '{NEW}'")
    if "run_id" in made_up:
        (drawn,) = database.execute_sql(LAST_RUN_ID).fetchone()
        _require_numbers(database, f"{table}.run_id", drawn, count)
        database.execute_sql(f"UPDATE {incoming} SET run_id = here - {last} + {drawn} WHERE fate = '{NEW}'")


def _require_numbers(database: Any, column: str, last: int, count: int) -> None:
    if count and last + count >= fields.LARGEST_INTEGER:
        left = f"{column} has reached {last:,}, and {pluralize(count, 'new row')} cannot get higher numbers"
        raise Error(f"{database.title}: {left}: nothing was imported; import into a new database")


def _pair(database: Any, table: str, pairs: str) -> None:
    """Set `here` of collected rows from a query of places and ids."""
    database.execute_sql(f"CREATE TEMP TABLE pairs AS {pairs}")
    database.execute_sql("CREATE UNIQUE INDEX pairs_place ON pairs (place)")
    place = f'"{PREFIX}{table}".{_place(database)}'
    found = f"SELECT here FROM pairs WHERE place = {place}"
    database.execute_sql(f'UPDATE "{PREFIX}{table}" SET here = ({found}) WHERE EXISTS ({found})')
    database.execute_sql("DROP TABLE pairs")


def _place(database: Any) -> str:
    """Return the database's own column for a row's place: a membership may have no id."""
    return "rowid" if database.is_sqlite else "ctid"


# Changed rows


def _follow_links(database: Any, table: str, notes: ImportNotes, *, own: bool) -> Counter[str]:
    """Translate links to ids of this database; note and count links to missing rows. own: links to the same table."""
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


def _compare(database: Any, table: str, omissions: Omissions) -> None:
    """Mark the matched rows with a different value as changed."""
    differ = " OR ".join(_differs(table, name, omissions) for name in omissions.values(table))
    other = f'SELECT 1 FROM "{table}" AS t WHERE t.id = i.here AND ({differ})'
    mine = f'UPDATE "{PREFIX}{table}" AS i SET fate'
    database.execute_sql(f"{mine} = '{CHANGED}' WHERE fate = '{SAME}' AND EXISTS ({other})")


def _source_value(table: str, name: str) -> str:
    """Return the SQL of a column of `i`, with NULL for an empty text."""
    is_text = isinstance(MODELS[table]._meta.columns[name], fields.Text)
    return f"NULLIF(i.{name}, '')" if is_text else f"i.{name}"


def _updated_value(table: str, name: str, omissions: Omissions) -> str:
    """Return the SQL of a column of `t` after the merge: the source's value, or else its own."""
    default = omissions.default(table, name)
    otherwise = default.changed if default else ""
    return f"COALESCE({_source_value(table, name)}, {otherwise or f't.{name}'})"


def _differs(table: str, name: str, omissions: Omissions) -> str:
    """Return the SQL condition that the merge changes a column of `t`."""
    default = omissions.default(table, name)
    new = _updated_value(table, name, omissions) if default and default.changed else _source_value(table, name)
    return f"({new} IS NOT NULL AND (t.{name} IS NULL OR t.{name} <> {new}))"


def _replaced(database: Any, table: str, omissions: Omissions) -> dict[str, int]:
    """Return the number of changed values in a table's changed rows, by table and column."""
    names = omissions.values(table)
    counts = ", ".join(f"COUNT(CASE WHEN {_differs(table, name, omissions)} THEN 1 END)" for name in names)
    joined = f'"{PREFIX}{table}" AS i JOIN "{table}" AS t ON t.id = i.here'
    found = database.execute_sql(f"SELECT {counts} FROM {joined} WHERE i.fate = '{CHANGED}'").fetchone()
    return {f"{table}.{name}": count for name, count in zip(names, found, strict=True) if count}


def _refuse_taken(database: Any, table: str, report: ImportReport) -> None:
    """Refuse rows with a unique value that another row has here."""
    for field in MODELS[table]._meta.sorted_fields:
        if field.unique and field.column_name not in KEYS[table].columns:
            _refuse(database, table, field.column_name, report)


def _refuse(database: Any, table: str, name: str, report: ImportReport) -> None:
    mine = f'"{PREFIX}{table}"'
    taken = f'SELECT 1 FROM "{table}" AS t WHERE t.{name} = {mine}.{name} AND t.id <> {mine}.here'
    refused = f"fate IN ('{NEW}', '{CHANGED}') AND EXISTS ({taken})"
    for id, value in database.execute_sql(f"SELECT id, {name} FROM {mine} WHERE {refused} ORDER BY id"):
        report.left_out.add(f"{table} {id} is left out: {taken_value(name, value)}")
    database.execute_sql(f"UPDATE {mine} SET fate = '{REFUSED}' WHERE {refused}")


def _note_shared_runs(database: Any, report: ImportReport) -> None:
    """Count the new tasks with the run_id of a task here. Every server counts from 1, so both are kept."""
    ours = f"SELECT 1 FROM task AS t WHERE t.run_id = i.run_id AND {_is_unmatched('task')}"
    shared = f"SELECT COUNT(*) FROM \"{PREFIX}task\" AS i WHERE fate = '{NEW}' AND EXISTS ({ours})"
    if count := database.execute_sql(shared).fetchone()[0]:
        report.values["task.run_id, new tasks with the run_id of other tasks here"] = count


# Writing


def _add(database: Any, table: str, omissions: Omissions) -> None:
    names = _values(table)
    given = ", ".join(_initial_value(name, omissions.default(table, name)) for name in names)
    rows = f"SELECT here, {given} FROM \"{PREFIX}{table}\" AS i WHERE fate = '{NEW}' ORDER BY here"
    database.execute_sql(f'INSERT INTO "{table}" (id, {_listed(names)}) {rows}')


def _initial_value(name: str, default: Default | None) -> str:
    """Return the SQL of a column of a new row."""
    return f"COALESCE(i.{name}, {default.sql})" if default else f'i."{name}"'


def _change(database: Any, table: str, omissions: Omissions) -> None:
    names = omissions.values(table)
    incoming = f"FROM \"{PREFIX}{table}\" AS i WHERE i.fate = '{CHANGED}'"
    given = ", ".join(_updated_value(table, name, omissions) for name in names)
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
