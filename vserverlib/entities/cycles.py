"""Tasks whose parents form a cycle: found for a whole database in one pass.

SQL would walk up from each task, which is quadratic in the depth of the parents. So this module reads the links of
tasks that have both a parent and a child, which are few, and follows each link once. rules.py has the rule.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

# Only these tasks can be part of a cycle. Other programs may have stored any value as a parent.
PARENTS_OF_PARENTS = """
SELECT t.id, t.parent_id FROM task t
WHERE t.parent_id IS NOT NULL AND EXISTS (SELECT 1 FROM task c WHERE c.parent_id = t.id)
"""


def ids_as_sql(database: Any) -> str:
    """Return the ids of all tasks in cycles, as SQL for IN (…); NULL without cycles."""
    return ", ".join(map(str, sorted(in_cycles(dict(database.streamed(PARENTS_OF_PARENTS)))))) or "NULL"


def in_cycles(parents: Mapping[Any, Hashable]) -> set[Any]:
    """Return the ids whose parents lead back to themselves. parents: the parent of each id."""
    found, seen = set[Any](), set[Any]()
    for start in parents:
        path, at = dict[Any, None](), start
        while at in parents and at not in seen:
            seen.add(at)
            path[at] = None
            at = parents[at]
        if at in path:
            steps = list(path)
            found.update(steps[steps.index(at) :])
    return found
