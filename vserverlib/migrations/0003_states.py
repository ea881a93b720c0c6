"""Fixes the state of a result: an empty text is not a time, and the new failures of vantage6 5 are known.

Frozen: it does not use the models, and never changes.

The column is generated and stored. SQLite can neither change nor add such a column, and rebuilding the largest table
takes 20 seconds, and twice its size, for a million rows. So the migration replaces its expression in the definition of
the table, as https://sqlite.org/lang_altertable.html describes for changes that keep the stored rows; then it writes
the few rows whose state differs. Columns, indexes, triggers and views of other programs stay.

A time is a text that begins with a date of the years 1 to 9999; in PostgreSQL, a time in these years. Any other value
that is not blank counts only if the status agrees.
"""

import re

from peewee import OperationalError

FAILED = (
    "'failed', 'start failed', 'non-existing Docker image', 'crashed', 'killed by user', 'not allowed', "
    "'unknown error', 'dataframe not found', 'depended on failed task', 'unexpected output'"
)
DATED = """typeof({0}) = 'text' AND ({0} GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]*' AND {0} NOT GLOB '*C'
        AND {0} >= '0001' AND substr({0}, 6, 2) BETWEEN '01' AND '12' AND substr({0}, 9, 2) BETWEEN '01' AND '31'
        OR status = '{1}' AND trim({0}, char(9, 10, 11, 12, 13, 32)) <> '')"""
DATED_IN_POSTGRES = """{0} >= '0001-01-01 00:00:00+00' AND {0} < '10000-01-01 00:00:00+00'
        OR status = '{1}' AND {0} IS NOT NULL"""
STATE = f"""CASE
    WHEN status IN ({FAILED}) THEN 'failed'
    WHEN {{finished}} THEN 'completed'
    WHEN {{started}} THEN 'active'
    ELSE 'pending' END"""


def state(dated):
    return STATE.format(finished=dated.format("finished_at", "completed"), started=dated.format("started_at", "active"))


# SQLite

DEFENSIVE = 1010  # SQLITE_DBCONFIG_DEFENSIVE
BEGINNING = re.compile(r'[\s,("`\[]state["`\]]?\s+(?:TEXT\s+)?(?:GENERATED\s+ALWAYS\s+)?AS\s*\(', re.IGNORECASE)
PARENTHESIS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[()]")
TABLE = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'result'"


def with_expression(sql, expression):
    """Return a table's definition with another expression for the column state; None if it has no such column."""
    begins = BEGINNING.search(sql)
    depth = 1
    for found in PARENTHESIS.finditer(sql, begins.end()) if begins else ():
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return sql[: begins.end()] + expression + sql[found.start() :]
    return None


def allow_definitions(connection):
    """Allow changing definitions if SQLite was built to refuse it (macOS) and Python can say so (3.12)."""
    if hasattr(connection, "setconfig"):
        connection.setconfig(DEFENSIVE, False)


def in_sqlite(db):
    (before,) = db.execute_sql(TABLE).fetchone()
    after = with_expression(before, state(DATED))
    if after is None:
        raise OperationalError("its table result has no generated column state: restore a backup that has it")
    (version,) = db.execute_sql("PRAGMA schema_version").fetchone()
    allow_definitions(db.connection())
    db.execute_sql("PRAGMA writable_schema = ON")
    try:
        db.execute_sql("UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = 'result'", [after])
        db.execute_sql(f"PRAGMA schema_version = {version + 1}")
    finally:
        db.execute_sql("PRAGMA writable_schema = RESET")
    if db.execute_sql(TABLE).fetchone() != (after,):
        raise OperationalError("this build of SQLite does not let a table's definition be changed: use another one")
    db.execute_sql(f"UPDATE result SET status = status WHERE state IS NOT ({state(DATED)})")


# PostgreSQL: since release 17 an expression can be replaced; before, the column is dropped and added

SET_EXPRESSION = 170000
INDEXES = (
    'CREATE INDEX "result_task_id_state" ON "result" ("task_id", "state")',
    'CREATE INDEX "result_organization_id_state" ON "result" ("organization_id", "state")',
    """CREATE INDEX "result_unfinished" ON "result" ("organization_id", "assigned_at")
    WHERE state IN ('pending', 'active')""",
)
DEPENDENTS = """
SELECT DISTINCT c.oid::regclass::text FROM pg_depend d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_attribute a ON d.refclassid = 'pg_class'::regclass AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE a.attrelid = 'result'::regclass AND a.attname = 'state' ORDER BY 1
"""
GRANTS = """
SELECT format('GRANT %s (state) ON result TO %s%s', x.privilege_type,
    CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END,
    CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = 'result'::regclass AND a.attname = 'state'
"""


def in_postgres(db):
    (release,) = db.execute_sql("SELECT current_setting('server_version_num')::int").fetchone()
    expression = state(DATED_IN_POSTGRES)
    if release >= SET_EXPRESSION:
        db.execute_sql(f"ALTER TABLE result ALTER COLUMN state SET EXPRESSION AS ({expression})")
    else:
        add_anew(db, expression)


def add_anew(db, expression):
    views = [name for (name,) in db.execute_sql(DEPENDENTS)]
    if views:
        told = f"a column that changes, result.state, is used by {', '.join(views)}"
        raise OperationalError(f"{told}: drop that, upgrade, and create it again")
    grants = [statement for (statement,) in db.execute_sql(GRANTS)]
    db.execute_sql("ALTER TABLE result DROP COLUMN state")
    column = f'state TEXT COLLATE "C" GENERATED ALWAYS AS ({expression}) STORED'
    db.execute_sql(f"ALTER TABLE result ADD COLUMN {column}")
    for statement in (*INDEXES, *grants):
        db.execute_sql(statement)


def up(migrator, db):
    if db.is_sqlite:
        in_sqlite(db)
    else:
        in_postgres(db)
