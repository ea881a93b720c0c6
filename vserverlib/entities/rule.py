"""What a rule is: its parts, its levels, and when it is checked. rules.py has the rules."""

from __future__ import annotations

from typing import NamedTuple

ERROR, WARNING, INFO = "error", "warning", "info"  # levels
LEVELS = (ERROR, WARNING, INFO)
BOTH, AT_SAVE, AT_CHECK = "at save and check", "at save only", "at check only"


class TableQuery(NamedTuple):
    """How a rule is checked for a whole table, if its own condition would be too slow.

    where, detail: replace those of the rule; {cycles} stands for the ids of tasks in cycles (cycles.py). rows: replaces
    the table.
    """

    where: str
    detail: str = ""
    rows: str = ""


class Fix(NamedTuple):
    """How `vserver check --fix` fixes a row that breaks a rule, without a guess.

    does: what becomes of the row. sql: the statement for all rows; {rows} stands for the query of their ids. links:
    those that may lead nowhere; they are emptied before, without a record, so that an undo can restore the row.
    """

    does: str
    sql: str
    links: tuple[str, ...] = ()


class Rule(NamedTuple):
    """One rule.

    entity: the table whose rows can break it; "" for the whole database. breaks: what breaks it, for the list of rules.
    message: describes a row that breaks it, after its name; {detail} is the value of the SQL in `detail`. secret: the
    field whose plain text breaks it, which only the object that was assigned it knows. fix: how it is fixed without a
    guess (never an organization, user, node or task); command: else, the words after `vserver` that help, with the {id}
    and {name} of the row, and … to fill in.
    """

    code: str
    entity: str
    level: str
    when: str
    breaks: str
    message: str
    remedy: str
    why: str
    where: str = ""
    detail: str = "NULL"
    secret: str = ""
    for_table: TableQuery | None = None
    command: str = ""
    fix: Fix | None = None
