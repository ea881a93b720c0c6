"""The links between tables of a server's database, and the rule for each if the target row is deleted.

Foreign keys in the database are not enough: upgraded databases lack the keys of columns that a release added. A foreign
key that is not in this list prevents a deletion if rows use it.
"""

from __future__ import annotations

from typing import NamedTuple

CASCADE = "the row is deleted too"
SET_NULL = "the link is set to NULL"
RESTRICT = "the deletion is refused"
PLANNED = "the row has to be in the plan"  # a row of our entities


class Link(NamedTuple):
    """A column of a table whose values are ids of another table."""

    table: str
    column: str
    to: str


RULES: dict[Link, str] = {
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
    Link("role", "organization_id", "organization"): CASCADE,
    Link("study", "collaboration_id", "collaboration"): CASCADE,
    Link("algorithmstore", "collaboration_id", "collaboration"): CASCADE,
    Link("session", "collaboration_id", "collaboration"): CASCADE,
    Link("dataframe", "session_id", "session"): CASCADE,
    Link("dataframetobedeletedatnode", "session_id", "session"): CASCADE,
    Link("dataframetobedeletedatnode", "node_id", "node"): CASCADE,
    Link("column", "dataframe_id", "dataframe"): CASCADE,
    Link("column", "node_id", "node"): CASCADE,
    Link("StudyMember", "organization_id", "organization"): CASCADE,
    Link("StudyMember", "study_id", "study"): CASCADE,
    Link("role_rule_association", "role_id", "role"): CASCADE,
    Link("Permission", "role_id", "role"): CASCADE,
    Link("Permission", "user_id", "user"): CASCADE,
    Link("UserPermission", "user_id", "user"): CASCADE,
    Link("nodeconfig", "node_id", "node"): CASCADE,
    Link("taskdatabase", "task_id", "task"): CASCADE,
    Link("task_depends_on", "task_id", "task"): CASCADE,
    Link("task_depends_on", "depends_on_id", "task"): CASCADE,
    Link("algorithmport", "result_id", "result"): CASCADE,
    Link("algorithmport", "run_id", "run"): CASCADE,
    Link("session", "user_id", "user"): RESTRICT,
    Link("dataframe", "last_session_task_id", "task"): RESTRICT,
    Link("session", "study_id", "study"): SET_NULL,
    Link("task", "study_id", "study"): SET_NULL,
    Link("task", "algorithm_store_id", "algorithmstore"): SET_NULL,
    Link("task", "session_id", "session"): SET_NULL,
    Link("task", "dataframe_id", "dataframe"): SET_NULL,
    Link("task", "init_user_id", "user"): SET_NULL,
    Link("taskdatabase", "dataframe_id", "dataframe"): SET_NULL,
}
# Tables, parents first: rows are inserted in this order, and deleted in the reverse order.
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
SERVER_UPDATED = {  # columns that a server updates all the time, by table
    "authenticatable": {"ip", "last_seen", "status"},
    "user": {
        "failed_login_attempts",
        "last_login_attempt",
        "last_email_failed_login_sent",
        "last_email_recover_password_sent",
    },
}
# Circular links: they are set to NULL before the rows are deleted.
CIRCULAR = (Link("task", "parent_id", "task"), Link("dataframe", "last_session_task_id", "task"))


def with_rule(table: str, rule: str) -> list[Link]:
    """Return the links to a table that have this rule."""
    return [link for link, known in RULES.items() if link.to == table and known == rule]


def member_links() -> list[Link]:
    """Return the two links of a membership."""
    return [link for link in RULES if link.table == "Member"]


def cascade_order() -> list[Link]:
    """Return the links that delete rows with their target, ordered so that the rows of each target are complete."""
    found = [link for link, known in RULES.items() if known == CASCADE]
    return sorted(found, key=lambda link: ORDER.index(link.to))
