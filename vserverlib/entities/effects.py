"""Changes that can make other rows than the written one break a rule: which rows checks.py checks after a save."""

from __future__ import annotations

from typing import NamedTuple


class FieldEffect(NamedTuple):
    """A changed field can make other rows break a rule: the rows that match `scope`, where ? is the entity's id."""

    entity: str
    changed: str
    code: str
    scope: str


_OF_COLLABORATION = "this.task_id IN (SELECT t.id FROM task t WHERE t.collaboration_id = ?)"
FIELD_EFFECTS = (
    FieldEffect("organization", "public_key", "RES006", "this.organization_id = ?"),
    FieldEffect("collaboration", "encrypted", "RES006", _OF_COLLABORATION),
    FieldEffect("task", "collaboration", "RES002", "this.task_id = ?"),
    FieldEffect("task", "collaboration", "RES006", "this.task_id = ?"),
    FieldEffect("task", "collaboration", "TSK004", "this.parent_id = ?"),
    FieldEffect("task", "run_id", "TSK004", "this.parent_id = ?"),
)


class RemovalEffect(NamedTuple):
    """A removed membership can make other rows break a rule: the rows that match `scope`.

    by: the link of the membership whose id each ? in `scope` stands for.
    """

    code: str
    scope: str
    by: tuple[str, ...] = ("organization", "collaboration")


_OF_TASK = "EXISTS (SELECT 1 FROM task of WHERE of.id = this.task_id AND of.collaboration_id = ?)"
REMOVAL_EFFECTS = (
    RemovalEffect("COL002", "this.id = ?", ("collaboration",)),
    RemovalEffect("NOD002", "this.organization_id = ? AND this.collaboration_id = ?"),
    RemovalEffect("TSK003", "this.initiator_id = ? AND this.collaboration_id = ?"),
    RemovalEffect("RES002", f"this.organization_id = ? AND {_OF_TASK}"),
)
