"""Any sequence of operations on the models, held against a model of them in plain Python (plain.py)."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.plain_model import LINKS, NAMES, STATES, Plain, Refused, Row
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import models as db
from vserverlib import Error

MODELS: dict[str, Any] = {model.noun: model for model in db.ENTITIES}
KINDS = st.sampled_from(list(MODELS))
WHICH = st.integers(0, 11)
THREE = st.lists(WHICH, min_size=3, max_size=3)
SOME_NAMES = st.sampled_from([None, "a", "b", "c", "d", ""])  # few, so that some are taken
NOWHERE = 999  # an id that is not there


class Machine(RuleBasedStateMachine):
    """Does the same to a database and to plain Python. Blocks are open from one rule to the next, one in the other."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = db.connect(shutil.copy(self.template, self.folder.name))
        self.database.execute_sql("PRAGMA synchronous = OFF")
        self.plain = Plain()
        self.made: list[tuple[Any, str, Row]] = []  # the entities that were saved, in their order
        self.lost: list[tuple[Any, str, Row]] = []  # those whose save was rolled back, or refused
        self.blocks: list[tuple[Any, Plain, int]] = []
        self.tasks: list[Any] = []  # read at some time, and kept

    def teardown(self) -> None:
        while self.blocks:
            self.roll_back()
        self.compare()
        self.database.close()
        self.folder.cleanup()

    def some(self, kind: str, which: int, *, there: bool = False) -> int | None:
        """Return an id: one of those there; unless one that is there is asked for, also none, or one that is not."""
        ids = list(self.plain.rows[kind])
        if not there and which in (0, 1):
            return NOWHERE if which else None
        return ids[which % len(ids)] if ids else None

    def links(self, kind: str, which: list[int]) -> Row:
        return {field: self.some(to, at) for (field, to), at in zip(LINKS[kind].items(), which, strict=False)}

    def both(self, real: Any, plain: Any) -> bool:
        """Do something to both: they do it, or both refuse, and then nothing has changed."""
        before = copy.deepcopy(self.plain)
        try:
            plain()
        except Refused:
            self.plain = before
            with pytest.raises(Error):
                real()
            return False
        real()
        return True

    @initialize()
    def begin_with_some(self) -> None:
        """So that there is much to be done from the first step on."""
        for name in "ab":
            self.make("organization", name, [], None)
        self.make("collaboration", "a", [], None)
        self.assign_members(0, [0, 1])
        for at in (2, 3):
            self.make("task", "a", [at, 0, at], None)
            self.make("result", None, [2, at], None)
        self.read_tasks()

    # Saving

    @rule(kind=KINDS, name=SOME_NAMES, which=THREE, run_id=st.sampled_from([None, 30]))
    def make(self, kind: str, name: str | None, which: list[int], run_id: int | None) -> None:
        row = {NAMES.get(kind, "name"): name, **self.links(kind, which)}
        row |= {"run_id": run_id} if kind == "task" else STATES["pending"] if kind == "result" else {}
        self.save(MODELS[kind](**row), kind, row)

    def save(self, entity: Any, kind: str, row: Row) -> None:
        ids: list[int] = []
        done = self.both(entity.save, lambda: ids.append(self.plain.make(kind, row)))
        assert ([entity.id] if done else []) == ids and entity.is_saved == done
        (self.made if done else self.lost).append((entity, kind, row))

    @precondition(lambda self: self.lost)
    @rule()
    def save_again_what_was_lost(self) -> None:
        self.save(*self.lost.pop(0))

    @rule(kind=KINDS, at=WHICH, name=SOME_NAMES, which=THREE)
    def change(self, kind: str, at: int, name: str | None, which: list[int]) -> None:
        id = self.some(kind, at, there=True)
        if id is not None:
            changes = {NAMES.get(kind, "name"): name, **self.links(kind, which)}
            self.change_to(kind, id, changes)

    @rule(at=WHICH, state=st.sampled_from(list(STATES)))
    def deliver(self, at: int, state: str) -> None:
        id = self.some("result", at, there=True)
        if id is not None:
            self.change_to("result", id, STATES[state])

    def change_to(self, kind: str, id: int, changes: Row) -> None:
        entity = MODELS[kind].get(id)
        for name, value in changes.items():
            setattr(entity, name, value)
        self.both(entity.save, lambda: self.plain.change(kind, id, changes))

    @rule(at=WHICH, which=st.lists(WHICH, max_size=3))
    def assign_members(self, at: int, which: list[int]) -> None:
        id = self.some("collaboration", at, there=True)
        wanted = [self.some("organization", each, there=True) for each in which]
        if id is not None and None not in wanted:
            collaboration = db.Collaboration.get(id)
            collaboration.organizations = [db.Organization.get(each) for each in wanted]
            self.both(collaboration.save, lambda: self.plain.assign(id, wanted))

    @rule(at=WHICH, which=WHICH)
    def join(self, at: int, which: int) -> None:
        ids = self.some("collaboration", at, there=True), self.some("organization", which, there=True)
        if None not in ids:
            organization = db.Organization.get(ids[1])
            organization.collaborations.append(db.Collaboration.get(ids[0]))
            self.both(organization.save, lambda: self.plain.join(*ids))

    @rule()
    def draw_a_run_id(self) -> None:
        assert db.Task.next_run_id() == self.plain.next_run()

    # Deleting

    @rule(kind=KINDS, at=WHICH, along=st.booleans())
    def delete(self, kind: str, at: int, along: bool) -> None:
        id = self.some(kind, at, there=True)
        if id is not None:
            entity = MODELS[kind].get(id)
            self.both(lambda: entity.delete(dependents=along), lambda: self.plain.delete(kind, id, along))

    # Blocks, one in the other

    @precondition(lambda self: len(self.blocks) < 3)
    @rule()
    def begin(self) -> None:
        block = self.database.atomic()
        block.__enter__()
        self.blocks.append((block, copy.deepcopy(self.plain), len(self.made)))

    @precondition(lambda self: self.blocks)
    @rule()
    def end(self) -> None:
        self.blocks.pop()[0].__exit__(None, None, None)

    @precondition(lambda self: self.blocks)
    @rule()
    def roll_back(self) -> None:
        block, self.plain, count = self.blocks.pop()
        block.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
        lost, self.made = self.made[count:], self.made[:count]
        assert all(entity.id is None and not entity.is_saved for entity, *_ in lost)
        self.lost += lost

    # What must hold

    @rule()
    def read_tasks(self) -> None:
        self.tasks = list(db.Task.get())

    @invariant()
    def compare(self) -> None:
        for kind, rows in self.plain.rows.items():
            model = MODELS.get(kind, db.Member)
            assert len(model.get()) == len(rows)
            assert {entity.id: as_row(entity, rows[entity.id]) for entity in model.get()} == rows
        self.compare_tasks([*db.Task.get(), *self.tasks])
        self.compare_relations()

    def compare_tasks(self, tasks: list[Any]) -> None:
        for task in tasks:
            if task.id in self.plain.rows["task"]:
                states = self.plain.states(task.id)
                assert task.status == self.plain.status(task.id)
                assert task.progress == (states.count("completed") + states.count("failed"), len(states))
                assert task.complete == (task.progress[0] == task.progress[1] > 0)

    def compare_relations(self) -> None:
        for collaboration in db.Collaboration.get():
            members = self.plain.members(collaboration.id)
            assert collaboration.get_organization_ids() == members and len(collaboration.organizations) == len(members)
        for organization in db.Organization.get():
            for kind in ("user", "node", "result"):
                linked = [row for row in self.plain.rows[kind].values() if row["organization"] == organization.id]
                assert len(getattr(organization, f"{kind}s")) == len(linked)


def as_row(entity: Any, like: Row) -> Row:
    """Return what an entity says of the columns that the plain row has; times as they were given."""
    ids = LINKS[entity.noun if entity.noun in MODELS else "member"]
    found = {name: getattr(entity, f"{name}_id" if name in ids else name) for name in like}
    return {
        name: value.date().isoformat() if name.endswith("_at") and value else value for name, value in found.items()
    }


@pytest.mark.parametrize(
    ("examples", "steps"), [(10, 30), pytest.param(500, 80, marks=pytest.mark.long)], ids=["some", "many"]
)
def test_any_sequence_of_operations_leads_to_what_must_hold(path: Path, examples: int, steps: int) -> None:
    Machine.template = path
    few = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=few)
