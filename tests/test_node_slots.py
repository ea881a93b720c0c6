"""How many runs of a node's file compute at once, and which come first."""

from __future__ import annotations

from collections.abc import Callable

from vserverlib.nodes.slots import Slots


class Started:
    """Slots, and the runs that they have admitted, in order."""

    def __init__(self, parallel: int) -> None:
        self.slots, self.runs = Slots(parallel), list[int]()

    def enter(self, run: int, task: int, parent: int | None = None) -> None:
        start: Callable[[], None] = lambda: self.runs.append(run)  # noqa: E731
        self.slots.enter(run, task, parent, start)


def test_runs_wait_for_a_slot_in_their_order() -> None:
    found = Started(2)
    for run in range(5):
        found.enter(run, task=run)
    assert found.runs == [0, 1]
    assert found.slots.leave(1) is False
    assert found.slots.leave(3) is True  # it was waiting, and is dropped
    found.slots.leave(0)
    assert found.runs == [0, 1, 2, 4]


def test_a_run_with_subtasks_gives_up_its_slot_and_they_come_first() -> None:
    found = Started(1)
    found.enter(1, task=1)
    found.enter(2, task=2)
    found.enter(3, task=3, parent=1)
    found.enter(4, task=3, parent=1)
    assert found.runs == [1, 3]
    found.slots.leave(3)
    assert found.runs == [1, 3, 4]
    found.enter(5, task=4, parent=3)  # a subtask of the subtask
    assert found.runs == [1, 3, 4, 5]
    found.slots.leave(5)
    found.slots.leave(4)
    assert found.runs == [1, 3, 4, 5, 2]


def test_subtasks_that_are_only_known_to_exist_count_too() -> None:
    found = Started(1)
    found.enter(1, task=1)
    found.enter(2, task=2)
    found.slots.note_subtasks(7)  # of a task that other nodes compute
    assert found.runs == [1]
    found.slots.note_subtasks(1)
    assert found.runs == [1, 2]


def test_central_runs_are_bounded_and_their_subtasks_are_not() -> None:
    found = Started(1)
    for run in range(1, 10):
        found.enter(run, task=run)
        found.slots.note_subtasks(run)
    assert found.runs == [1, 2, 3, 4]
    found.enter(10, task=10, parent=1)
    assert found.runs == [1, 2, 3, 4, 10]
    found.slots.leave(10)
    found.slots.leave(2)
    assert found.runs == [1, 2, 3, 4, 10, 5]
