"""A contingency table over all organizations: how many rows have each combination of values.

No node shows a small count: below CROSSTAB_PRIVACY_THRESHOLD in the environment of the node's file, or 5, it answers
with the range from 0, such as "0-4". The counts of all organizations are then a range too, such as "12-20".
"""

from __future__ import annotations

import collections
import os
from typing import Any

DEFAULT_THRESHOLD = 5
Key = tuple[str, ...]  # the values of the groups


def central_crosstab(
    client: Any,
    results_col: str,
    group_cols: list[str] | str,
    organizations_to_include: list[int] | None = None,
) -> list[dict[str, Any]]:
    """Return a row for each combination of the groups' values, with a count or range for each value of results_col.

    organizations_to_include: ids; all members of the collaboration without them.
    """
    organizations = organizations_to_include or [each["id"] for each in client.organization.list()]
    groups = _listed(group_cols)
    print(f"info > asking {len(organizations)} organizations for {results_col} by {', '.join(groups)}")  # noqa: T201
    subtask = {"method": "partial_crosstab", "kwargs": {"results_col": results_col, "group_cols": groups}}
    task = client.task.create(input_=subtask, organizations=organizations, name="partial crosstab")
    parts = client.wait_for_results(task["id"])
    print(f"info > {len(parts)} of {len(organizations)} organizations answered")  # noqa: T201  # the log
    if not parts:
        raise ValueError("no organization answered: see the logs of the subtask's runs")
    return _table(groups, parts)


def partial_crosstab(rows: list[dict[str, Any]], results_col: str, group_cols: list[str] | str) -> dict[str, Any]:
    """Return the counts of this node by groups and value: pairs, each with a number, or None if it is too small."""
    groups = _listed(group_cols)
    missing = [name for name in (*groups, results_col) if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"the data has no column {', '.join(missing)}")
    threshold = int(os.environ.get("CROSSTAB_PRIVACY_THRESHOLD", DEFAULT_THRESHOLD))
    if len(rows) < threshold:
        raise ValueError(f"privacy: there are fewer than {threshold} rows here, so none is counted")
    counts = collections.Counter(tuple(_text(row[name]) for name in (*groups, results_col)) for row in rows)
    cells = [[list(key), count if count >= threshold else None] for key, count in sorted(counts.items())]
    print(f"info > counted {results_col}")  # noqa: T201  # the log
    return {"threshold": threshold, "cells": cells}


def _listed(names: list[str] | str) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _text(value: Any) -> str:
    return "N/A" if value is None else str(value)


def _table(groups: list[str], parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table of all organizations."""
    found = [{tuple(key): count for key, count in part["cells"]} for part in parts]
    keys = sorted({key for part in found for key in part})
    values = sorted({key[-1] for key in keys})
    table = []
    for group in sorted({key[:-1] for key in keys}):
        cells = [_total((*group, value), found, parts) for value in values]
        table.append({**dict(zip(groups, group, strict=True)), **dict(zip(values, cells, strict=True))})
    return table


def _total(key: Key, found: list[dict[Key, int | None]], parts: list[dict[str, Any]]) -> int | str:
    """Return the count of a cell, or its range. A cell that an organization does not have is a small count there."""
    least = greatest = 0
    for cells, part in zip(found, parts, strict=True):
        count = cells.get(key)
        least += count or 0
        greatest += part["threshold"] - 1 if count is None else count
    return least if least == greatest else f"{least}-{greatest}"
