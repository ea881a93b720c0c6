"""Tasks whose parents lead back to themselves: found whatever their number, without a walk for each."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.steps import count_steps

from models import Task
from vserverlib import CheckWarning
from vserverlib.databases import recording
from vserverlib.entities import checks, rules

RULE = rules.BY_CODE["TSK004"]


def _chain(database: Any, parents: list[int | None]) -> None:
    """Have tasks with ids from 1 on, each with its parent, whatever their order."""
    rows = [(id, parent) for id, parent in enumerate(parents, 1)]
    with database.atomic():
        recording.defer_links(database)
        database.insert_many("task", ("id", "parent_id"), rows)


def test_rings_of_parents_of_any_length_are_found(database: Any) -> None:
    ring, tail = [2, 3, 4, 5, 6, 7, 1], [1, 8, 9]  # 1 to 7, and 8 to 10 that hang on it
    itself, pair, chain = [11], [13, 12], [None, 14, 15]
    _chain(database, [*ring, *tail, *itself, *pair, *chain])
    found = {each.id for each in checks.of_tables(database, [RULE])}
    assert found == {1, 2, 3, 4, 5, 6, 7, 11, 12, 13}
    assert checks.count(database, [RULE], checks.everywhere) == {"TSK004": 10}
    assert {id for id in range(1, 17) if any(each.code == "TSK004" for each in Task.get(id).check())} == found


@pytest.mark.parametrize("parents", [[None, *range(1, 8_000)], [8_000, *range(1, 8_000)], [*range(2, 8_001), 1]])
def test_a_check_of_parents_walks_up_from_none_of_them(parents: list[int | None], database: Any) -> None:
    _chain(database, parents)
    sql = checks.table_query(database, RULE, checks.everywhere)
    assert "RECURSIVE" not in sql, "a walk for each would be quadratic"
    assert checks.count(database, [RULE], checks.everywhere) == ({} if parents[0] is None else {"TSK004": 8_000})


def test_the_save_of_a_task_without_children_walks_up_to_nobody(database: Any) -> None:
    _chain(database, [None, *range(1, 8_000)])
    steps = count_steps(database, 100)
    with pytest.warns(CheckWarning):
        Task(name="last", parent=8_000).save()
    assert steps() < 100, "not a step for each of those above it"
