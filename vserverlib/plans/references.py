"""The links to a deleted row of a server's database, and the fate of the rows that have them.

Foreign keys alone do not say: a database that was upgraded lacks those of columns that a release added. So this list is
united with the keys that there are. A key that is not on the list refuses the deletion if rows use it.
"""

from __future__ import annotations

from typing import NamedTuple

DELETED = "deleted with it"
EMPTIED = "the link is emptied"
REFUSED = "the deletion is refused"
PLANNED = "it has to be in the plan itself"  # one of our entities


class Link(NamedTuple):
    """A column of a table whose values are ids of another table."""

    table: str
    column: str
    to: str


FATES: dict[Link, str] = {
    Link("Member", "organization_id", "organization"): PLANNED,
    Link("Member", "collaboration_id", "collaboration"): PLANNED,
    Link("user", "organization_id", "organization"): PLANNED,
    Link("node", "organization_id", "organization"): PLANNED,
    Link("node", "collaboration_id", "collaboration"): PLANNED,
    Link("task", "collaboration_id", "collaboration"): PLANNED,
    Link("task", "init_org_id", "organization"): PLANNED,
    Link("task", "initiator_id", "organization"): PLANNED,
    Link("task", "parent_id", "task"): PLANNED,
    Link("result", "organization_id", "organization"): PLANNED,
    Link("result", "task_id", "task"): PLANNED,
    Link("run", "organization_id", "organization"): PLANNED,
    Link("run", "task_id", "task"): PLANNED,
    Link("user", "id", "authenticatable"): PLANNED,
    Link("node", "id", "authenticatable"): PLANNED,
    Link("role", "organization_id", "organization"): DELETED,
    Link("study", "collaboration_id", "collaboration"): DELETED,
    Link("algorithmstore", "collaboration_id", "collaboration"): DELETED,
    Link("session", "collaboration_id", "collaboration"): DELETED,
    Link("dataframe", "session_id", "session"): DELETED,
    Link("dataframetobedeletedatnode", "session_id", "session"): DELETED,
    Link("dataframetobedeletedatnode", "node_id", "node"): DELETED,
    Link("column", "dataframe_id", "dataframe"): DELETED,
    Link("column", "node_id", "node"): DELETED,
    Link("StudyMember", "organization_id", "organization"): DELETED,
    Link("StudyMember", "study_id", "study"): DELETED,
    Link("role_rule_association", "role_id", "role"): DELETED,
    Link("Permission", "role_id", "role"): DELETED,
    Link("Permission", "user_id", "user"): DELETED,
    Link("UserPermission", "user_id", "user"): DELETED,
    Link("nodeconfig", "node_id", "node"): DELETED,
    Link("taskdatabase", "task_id", "task"): DELETED,
    Link("task_depends_on", "task_id", "task"): DELETED,
    Link("task_depends_on", "depends_on_id", "task"): DELETED,
    Link("algorithmport", "result_id", "result"): DELETED,
    Link("algorithmport", "run_id", "run"): DELETED,
    Link("session", "user_id", "user"): REFUSED,
    Link("dataframe", "last_session_task_id", "task"): REFUSED,
    Link("session", "study_id", "study"): EMPTIED,
    Link("task", "study_id", "study"): EMPTIED,
    Link("task", "algorithm_store_id", "algorithmstore"): EMPTIED,
    Link("task", "session_id", "session"): EMPTIED,
    Link("task", "dataframe_id", "dataframe"): EMPTIED,
    Link("task", "init_user_id", "user"): EMPTIED,
    Link("taskdatabase", "dataframe_id", "dataframe"): EMPTIED,
}
# Rows are inserted in this order, and deleted in the reverse one: parents come first.
ORDER = (
    "authenticatable",
    "organization",
    "collaboration",
    "algorithmstore",
    "user",
    "node",
    "Member",
    "role",
    "study",
    "StudyMember",
    "role_rule_association",
    "Permission",
    "UserPermission",
    "nodeconfig",
    "session",
    "dataframe",
    "dataframetobedeletedatnode",
    "column",
    "task",
    "taskdatabase",
    "task_depends_on",
    "result",
    "run",
    "algorithmport",
)
# Links that go round in a circle: rows that are deleted have them emptied first.
CIRCULAR = (Link("task", "parent_id", "task"), Link("dataframe", "last_session_task_id", "task"))


def of(table: str, fate: str) -> list[Link]:
    """Return the links of rows that are deleted, emptied, … with a row of this table."""
    return [link for link, become in FATES.items() if link.to == table and become == fate]


def of_members() -> list[Link]:
    """Return the two links of a membership."""
    return [link for link in FATES if link.table == "Member"]


def closure_order() -> list[Link]:
    """Return the links by which rows are deleted with others, so that each table is complete before it is followed."""
    found = [link for link, become in FATES.items() if become == DELETED]
    return sorted(found, key=lambda link: ORDER.index(link.to))
