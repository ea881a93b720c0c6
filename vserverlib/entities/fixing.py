"""Fixing what rules find, if no guess is needed: rules.py says which rules, and how.

All rows are fixed in one transaction, which one undo undoes. Organizations, users, nodes and tasks are never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from vserverlib import Error
from vserverlib.databases import recording
from vserverlib.entities import checks
from vserverlib.entities.rules import Rule

MOST_SHOWN = 1_000  # rows of one rule


class Fixable(NamedTuple):
    """The rows that break one rule: their ids, and the first findings."""

    rule: Rule
    ids: list[int]
    findings: list[checks.Finding]


def fixable(database: Any, asked: Iterable[Rule]) -> list[Fixable]:
    """Return the rows that fix() would change, by rule. Writes nothing."""
    found = [_rows(database, rule) for rule in asked if rule.fix is not None]
    return [each for each in found if each.ids]


def _rows(database: Any, rule: Rule) -> Fixable:
    found = Fixable(rule, [], [])
    for finding in checks.of_tables(database, [rule]):
        found.ids.append(finding.id or 0)
        if len(found.findings) < MOST_SHOWN:
            found.findings.append(finding)
    return found


def fix(database: Any, shown: Iterable[Fixable]) -> int:
    """Fix these rows in one transaction, and return their number. Writes.

    Raises an Error, and changes nothing, if other rows than these break the rules now.
    """
    number = 0
    with database.atomic():
        fresh = fixable(database, [each.rule for each in shown])
        if [each.ids for each in fresh] != [each.ids for each in shown]:
            raise Error("other rows break the rules meanwhile: nothing was fixed; try again")
        for each in fresh:
            number += _fix(database, each.rule)
    return number


def _fix(database: Any, rule: Rule) -> int:
    """Fix the rows that still break a rule, after the rules before it."""
    rows = f"SELECT id FROM ({checks.table_query(database, rule, checks.everywhere)}) AS found"
    if rule.fix is None:
        return 0
    with recording.unrecorded(database):
        for link in rule.fix.links:
            nowhere = f"{link}_id IS NOT NULL AND {link}_id NOT IN (SELECT id FROM {link})"
            database.execute_sql(f"UPDATE {rule.entity} SET {link}_id = NULL WHERE id IN ({rows}) AND {nowhere}")
    return int(database.execute_sql(rule.fix.sql.format(rows=rows)).rowcount)
