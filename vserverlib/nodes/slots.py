"""Admits runs: at most `parallel` compute at once in a node's file, the others wait.

A run whose task has subtasks does not count, because it waits for them; and subtasks are admitted first. So a central
task never blocks its partial ones, however few slots there are. Of runs that are no subtasks, CENTRAL times as many are
admitted at most: each is a process, whether it waits or not.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

CENTRAL = 4
Start = Callable[[], object]


class Waiting(NamedTuple):
    """A run that waits. start: is called when it is admitted."""

    run_id: int
    task_id: int
    is_subtask: bool
    start: Start


class Slots:
    """The slots of a node's file. Used by the threads of all its nodes."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._lock = threading.Lock()
        self._subtasks: deque[Waiting] = deque()
        self._others: deque[Waiting] = deque()
        self._admitted: dict[int, Waiting] = {}
        self._parents: set[int] = set()  # tasks of admitted runs that have subtasks

    def enter(self, run_id: int, task_id: int, parent_id: int | None, start: Start) -> None:
        """Have a run admitted now or later."""
        with self._lock:
            waiting = self._others if parent_id is None else self._subtasks
            waiting.append(Waiting(run_id, task_id, parent_id is not None, start))
        if parent_id is not None:
            self.note_subtasks(parent_id)
        self._admit()

    def note_subtasks(self, task_id: int) -> None:
        """Note that a task has subtasks: its runs do not count any more."""
        with self._lock:
            if self._computes(task_id):
                self._parents.add(task_id)
        self._admit()

    def leave(self, run_id: int) -> bool:
        """Give up the slot of a run, or its place among those that wait. Return whether it was waiting."""
        with self._lock:
            left = self._admitted.pop(run_id, None)
            if left is not None and not self._computes(left.task_id):
                self._parents.discard(left.task_id)
            was_waiting = any(_remove(run_id, each) for each in (self._subtasks, self._others))
        self._admit()
        return was_waiting

    def _admit(self) -> None:
        admitted = []
        with self._lock:
            while (waiting := self._with_room()) is not None:
                admitted.append(waiting.popleft())
                self._admitted[admitted[-1].run_id] = admitted[-1]
        for each in admitted:
            each.start()

    def _with_room(self) -> deque[Waiting] | None:
        """Return the runs of which the first can be admitted now; None if there are none."""
        if sum(each.task_id not in self._parents for each in self._admitted.values()) >= self._parallel:
            return None
        if self._subtasks:
            return self._subtasks
        has_room = sum(not each.is_subtask for each in self._admitted.values()) < CENTRAL * self._parallel
        return self._others if self._others and has_room else None

    def _computes(self, task_id: int) -> bool:
        return any(each.task_id == task_id for each in self._admitted.values())


def _remove(run_id: int, waiting: deque[Waiting]) -> bool:
    found = [each for each in waiting if each.run_id == run_id]
    for each in found:
        waiting.remove(each)
    return bool(found)
