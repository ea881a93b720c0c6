"""The average of a column over all organizations: of each, only the sum and the number of values leave its node.

A node answers only if it has enough values: AVERAGE_MINIMUM_RECORDS in the environment of the node's file, or 5.
"""

from __future__ import annotations

import os
from typing import Any

DEFAULT_MINIMUM = 5


def central_average(client: Any, column_name: str, organizations_to_include: list[int] | None = None) -> dict[str, Any]:
    """Return the average of a column, over how many values, and of how many organizations.

    organizations_to_include: ids; all members of the collaboration without them.
    """
    organizations = organizations_to_include or [each["id"] for each in client.organization.list()]
    print(f"info > asking {len(organizations)} organizations for the sum of {column_name}")  # noqa: T201  # the log
    subtask = {"method": "partial_average", "kwargs": {"column_name": column_name}}
    task = client.task.create(input_=subtask, organizations=organizations, name="partial average")
    parts = client.wait_for_results(task["id"])
    print(f"info > {len(parts)} of {len(organizations)} organizations answered")  # noqa: T201
    count = sum(part["count"] for part in parts)
    if not count:
        raise ValueError("no organization answered: see the logs of the subtask's runs")
    return {"average": sum(part["sum"] for part in parts) / count, "count": count, "organizations": len(parts)}


def partial_average(rows: list[dict[str, Any]], column_name: str) -> dict[str, float]:
    """Return the sum and the number of the values in a column. Empty cells do not count."""
    if not rows or column_name not in rows[0]:
        raise ValueError(f"the data has no column {column_name}; it has: {', '.join(rows[0]) if rows else 'no rows'}")
    values = [row[column_name] for row in rows if row[column_name] is not None]
    if any(isinstance(value, str) for value in values):
        raise ValueError(f"the column {column_name} has texts, and no average")
    minimum = int(os.environ.get("AVERAGE_MINIMUM_RECORDS", DEFAULT_MINIMUM))
    if len(values) < minimum:
        raise ValueError(f"privacy: the column {column_name} has fewer than {minimum} values here, so none is counted")
    print(f"info > summing {column_name}")  # noqa: T201  # the log
    return {"sum": sum(values), "count": len(values)}
