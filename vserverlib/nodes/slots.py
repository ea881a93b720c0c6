"""Admits runs: at most `parallel` compute at once in a node's file, the others wait.

A run whose task has subtasks does not count, because it waits for them; and subtasks are admitted first. So a central
task never blocks its partial ones, however few slots there are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

Start = Callable[[], object]


class Waiting(NamedTuple):
    """A run that waits. start: is called when it is admitted."""

    run_id: int
    task_id: int
    start: Start


class Slots:
    """The slots of a node's file. Used by the threads of all its nodes."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._lock = threading.Lock()
        self._subtasks: deque[Waiting] = deque()
        self._others: deque[Waiting] = deque()
        self._admitted: dict[int, int] = {}  # runs, with their tasks
        self._parents: set[int] = set()  # tasks of admitted runs that have subtasks

    def enter(self, run_id: int, task_id: int, parent_id: int | None, start: Start) -> None:
        """Have a run admitted now or later."""
        with self._lock:
            (self._others if parent_id is None else self._subtasks).append(Waiting(run_id, task_id, start))
        if parent_id is not None:
            self.note_subtasks(parent_id)
        self._admit()

    def note_subtasks(self, task_id: int) -> None:
        """Note that a task has subtasks: its runs do not count any more."""
        with self._lock:
            if task_id in self._admitted.values():
                self._parents.add(task_id)
        self._admit()

    def leave(self, run_id: int) -> bool:
        """Give up the slot of a run, or its place among those that wait. Return whether it was waiting."""
        with self._lock:
            task_id = self._admitted.pop(run_id, None)
            if task_id is not None and task_id not in self._admitted.values():
                self._parents.discard(task_id)
            was_waiting = any(_remove(run_id, each) for each in (self._subtasks, self._others))
        self._admit()
        return was_waiting

    def _admit(self) -> None:
        admitted = []
        with self._lock:
            while self._has_room() and (waiting := self._subtasks or self._others):
                admitted.append(waiting.popleft())
                self._admitted[admitted[-1].run_id] = admitted[-1].task_id
        for each in admitted:
            each.start()

    def _has_room(self) -> bool:
        return sum(task not in self._parents for task in self._admitted.values()) < self._parallel


def _remove(run_id: int, waiting: deque[Waiting]) -> bool:
    found = [each for each in waiting if each.run_id == run_id]
    for each in found:
        waiting.remove(each)
    return bool(found)
