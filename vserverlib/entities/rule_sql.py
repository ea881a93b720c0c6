"""The parts of which the conditions of rules.py consist: SQL for both SQLite and PostgreSQL.

`this` is the row that is checked. Each part is a look-up in an index, never a scan for each row.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from vserverlib.databases import server_columns
from vserverlib.entities.timestamps import HOLDS_TIME

LONGEST_NAME = 128  # characters
LONGEST_EMAIL = 254  # characters (RFC 5321, errata 1690)
DIGITS = string.digits
USERNAME_CHARACTERS = string.ascii_letters + DIGITS + "._-@"
BLANK = " \t\n\r\v\f\x85\u00a0\u2000\u2001\u2002\u2003\u2009\u202f\u3000"


def no_text(column: str) -> str:
    """Return the condition that a text is missing or blank."""
    return f"({column} IS NULL OR TRIM({column}, '{BLANK}') = '')"


def no_name(column: str) -> str:
    """Return the condition that a name is missing, has only digits, or is too long."""
    return f"{no_text(column)} OR TRIM({column}, '{DIGITS}') = '' OR LENGTH({column}) > {LONGEST_NAME}"


def other_words(column: str, known: Sequence[str]) -> str:
    """Return the condition that a text, names separated by commas, has one that is not known, in any case.

    Commas are doubled, so that each name has its own, and known names are removed: nothing else may be left.
    """
    names = f"',' || LOWER({column}) || ','"
    for blank in (", ", " ,") * 2:
        names = f"REPLACE({names}, '{blank}', ',')"
    names = f"REPLACE({names}, ',', ',,')"
    for name in known:
        names = f"REPLACE({names}, ',{name.lower()},', ',')"
    return f"TRIM({names}, ', ') <> ''"


def start(column: str) -> str:
    """Return the first characters of a text, for messages."""
    return f"SUBSTR(CAST({column} AS TEXT), 1, 40)"


def named(table: str, id: str) -> str:
    """Return the SQL of the id and name of a linked row: 4 "IKNL". Of a missing row, the id alone."""
    return f"{id} || COALESCE((SELECT ' \"' || {start('l.name')} || '\"' FROM {table} l WHERE l.id = {id}), '')"


def why_no_name(column: str) -> str:
    """Return the fault of a name that no_name() matches, in words."""
    too_long = f"WHEN LENGTH({column}) > {LONGEST_NAME} THEN 'has a name of over {LONGEST_NAME} characters'"
    return f"CASE WHEN {no_text(column)} THEN 'has no name' {too_long} ELSE 'has only digits for a name' END"


def no_member(organization: str, collaboration: str) -> str:
    """Return the condition that an organization is not in a collaboration."""
    return none_of("member", organization, collaboration)


def no_node(organization: str, collaboration: str) -> str:
    """Return the condition that an organization has no node in a collaboration."""
    return none_of("node", organization, collaboration)


def none_of(table: str, organization: str, collaboration: str) -> str:
    """Return the condition that no row of a table links an organization and a collaboration."""
    links = f"l.organization_id = {organization} AND l.collaboration_id = {collaboration}"
    return f"NOT EXISTS (SELECT 1 FROM {table} l WHERE {links})"


def missing(table: str, id: str) -> str:
    """Return the condition that a table has no row with an id."""
    return f"NOT EXISTS (SELECT 1 FROM {table} l WHERE l.id = {id})"


def first_too_long(*columns: str) -> str:
    """Return the name of the first of these columns that is too long."""
    cases = (f"WHEN LENGTH(this.{column}) > {LONGEST_NAME} THEN '{column}'" for column in columns)
    return f"CASE {' '.join(cases)} END"


def first_other(table: str, same: str) -> str:
    """Return the lowest id of another row that is the same, as a condition says."""
    return f"(SELECT MIN(o.id) FROM {table} o WHERE {same} AND o.id <> this.id)"


def time(column: str) -> str:
    """Return the condition that a column holds a time."""
    return HOLDS_TIME.format(f"this.{column}")


def before(earlier: str, later: str) -> str:
    """Return the condition that one time is before another. It is false if either is not a time."""
    return f"(this.{earlier} < this.{later} AND {time(earlier)} AND {time(later)})"


LOCK_OUT = f"SELECT last_at FROM lock_out WHERE user_id = this.id AND failures >= {server_columns.MOST_FAILURES}"
ADDRESS = ("domain", "address1", "address2", "zipcode", "country")
SAME_NODE = "o.organization_id = this.organization_id AND o.collaboration_id = this.collaboration_id"
# +: SQLite is to use the index of tasks, not that of organizations, which it would scan whole for each result.
SAME_RESULT = "o.task_id = this.task_id AND +o.organization_id = this.organization_id"
# For a whole table: looking for the others of each result would be quadratic in a task with thousands of them.
WITH_DUPLICATES = """
    SELECT id, MIN(id) OVER same AS first_id, LEAD(id) OVER same AS next_id FROM result
    WHERE organization_id IS NOT NULL AND task_id IN (
        SELECT task_id FROM result GROUP BY task_id HAVING COUNT(*) > COUNT(DISTINCT organization_id)
    ) WINDOW same AS (PARTITION BY task_id, organization_id ORDER BY id)
"""
# For one task, if it is a parent: a walk up from each of many tasks is quadratic in their depth.
IN_CYCLE = """(EXISTS (SELECT 1 FROM task c WHERE c.parent_id = this.id) AND EXISTS (WITH RECURSIVE up(id) AS (
    SELECT this.parent_id UNION SELECT t.parent_id FROM up JOIN task t ON t.id = up.id WHERE t.parent_id IS NOT NULL
) SELECT 1 FROM up WHERE up.id = this.id))"""
OTHER_COLLABORATION = "COALESCE(p.collaboration_id, 0) <> COALESCE(this.collaboration_id, 0)"
OTHER_RUN = "COALESCE(p.run_id, 0) <> COALESCE(this.run_id, 0)"
OTHER_PARENT = f"EXISTS (SELECT 1 FROM task p WHERE p.id = this.parent_id AND ({OTHER_COLLABORATION} OR {OTHER_RUN}))"
