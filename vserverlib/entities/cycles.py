"""Tasks whose chain of parents closes in a ring: found for all of a database in one pass.

No SQL finds them in time that grows with the number of tasks alone: a walk for each task is quadratic in the depth of
parents. So the links between tasks that have both a parent and a child are read, which are few, and followed here, each
once. It owns that; what is said of such a task is rules.py's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

# Only such tasks can be part of a ring. A database that other programs write may hold anything as a parent.
BETWEEN = """
SELECT t.id, t.parent_id FROM task t
WHERE t.parent_id IS NOT NULL AND EXISTS (SELECT 1 FROM task c WHERE c.parent_id = t.id)
"""


def among(database: Any) -> str:
    """Return the ids of all tasks in a ring, as SQL has them behind IN, ready for a text: NULL where there are none."""
    return ", ".join(map(str, sorted(closed(dict(database.streamed(BETWEEN)))))) or "NULL"


def closed(parents: Mapping[Any, Hashable]) -> set[Any]:
    """Return the ids, of these with the parent of each, from which the parents lead back to themselves."""
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
