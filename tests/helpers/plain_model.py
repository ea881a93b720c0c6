"""The expected behaviour of the entities in plain Python: rows as dicts, without SQL and the models.

tests/test_model_based.py applies the same operations to it and to a database, and compares.
"""

from __future__ import annotations

from typing import Any

LINKS: dict[str, dict[str, str]] = {
    "organization": {},
    "collaboration": {},
    "member": {"collaboration": "collaboration", "organization": "organization"},
    "user": {"organization": "organization"},
    "node": {"collaboration": "collaboration", "organization": "organization"},
    "task": {"collaboration": "collaboration", "parent": "task", "initiator": "organization"},
    "result": {"task": "task", "organization": "organization"},
}
NAMES = {"user": "username", "result": "input"}  # the field that identifies an entity; "name" in all others
UNIQUE = ("user", "collaboration")  # kinds with unique names
LATER, EARLIER = "2026-03-02", "2026-03-01"
STATES: dict[str, dict[str, Any]] = {  # the fields of a result in a state
    "pending": {"started_at": None, "finished_at": None, "status": "pending"},
    "active": {"started_at": EARLIER, "finished_at": None, "status": "active"},
    "completed": {"started_at": EARLIER, "finished_at": LATER, "status": "completed"},
    "failed": {"started_at": EARLIER, "finished_at": None, "status": "crashed"},
}

Row = dict[str, Any]


class Refused(Exception):
    """The database must refuse this operation."""


class Plain:
    """All rows, by kind and id; the highest id that each kind ever had; the last run id."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[int, Row]] = {kind: {} for kind in LINKS}
        self.highest = dict.fromkeys(LINKS, 0)
        self.run = 0

    # Writing

    def make(self, kind: str, row: Row) -> int:
        self.require(kind, row)
        if kind == "task" and row["run_id"] is None:
            parent = self.rows["task"].get(row["parent"])
            row = {**row, "run_id": parent["run_id"] if parent else self.next_run()}
        self.highest[kind] += 1
        self.rows[kind][self.highest[kind]] = row
        return self.highest[kind]

    def change(self, kind: str, id: int, changes: Row) -> None:
        self.require(kind, changes, id)
        self.rows[kind][id] = {**self.rows[kind][id], **changes}

    def require(self, kind: str, row: Row, id: int | None = None) -> None:
        """Refuse a link to a missing row, and a name that is taken."""
        for field, target in LINKS[kind].items():
            if row.get(field) is not None and row[field] not in self.rows[target]:
                raise Refused
        if kind in UNIQUE:
            name = NAMES.get(kind, "name")
            taken = [other[name] for at, other in self.rows[kind].items() if at != id]
            if row.get(name) is not None and row[name] in taken:
                raise Refused

    def next_run(self) -> int:
        self.run = 1 + max([self.run, *(task["run_id"] for task in self.rows["task"].values())])
        return self.run

    def assign(self, collaboration: int, organizations: list[int]) -> None:
        """Replace the members: those that stay keep their places, new ones come last."""
        members = self.rows["member"]
        for id, member in list(members.items()):
            if member["collaboration"] == collaboration and member["organization"] not in organizations:
                del members[id]
        for organization in organizations:
            self.join(collaboration, organization)

    def join(self, collaboration: int, organization: int) -> None:
        if organization not in self.members(collaboration):
            self.make("member", {"collaboration": collaboration, "organization": organization})

    def delete(self, kind: str, id: int, along: bool) -> None:
        gone = self.hanging(kind, id)
        if len(gone) > 1 and not along:
            raise Refused
        for other, at in gone:
            del self.rows[other][at]

    # Reading

    def hanging(self, kind: str, id: int) -> set[tuple[str, int]]:
        """Return an entity and all its dependents, and theirs."""
        found, new = {(kind, id)}, [(kind, id)]
        while new:
            target, to = new.pop()
            for other, links in LINKS.items():
                for field in (field for field, leads in links.items() if leads == target):
                    linked = {(other, at) for at, row in self.rows[other].items() if row[field] == to} - found
                    found |= linked
                    new.extend(linked)
        return found

    def members(self, collaboration: int) -> list[int]:
        rows = self.rows["member"].values()
        return [row["organization"] for row in rows if row["collaboration"] == collaboration]

    def states(self, task: int) -> list[str]:
        """Return the state of each result of a task."""
        rows = [row for row in self.rows["result"].values() if row["task"] == task]
        return [next(state for state, has in STATES.items() if has["status"] == row["status"]) for row in rows]

    def status(self, task: int) -> str:
        states = self.states(task)
        return next((state for state in ("failed", "active", "pending", "completed") if state in states), "empty")
