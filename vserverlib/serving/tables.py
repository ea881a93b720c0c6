"""Tables in queries that the models would not do: for ids alone, and with the columns that models do not have."""

from __future__ import annotations

from vserverlib.databases import server_columns
from vserverlib.drivers import peewee

TASK = peewee.Table("task", ("id", "collaboration_id", "parent_id", "run_id", *server_columns.COLUMNS["task"]))
RESULT = peewee.Table(
    "result",
    (
        *("id", "task_id", "organization_id", "status", "state", "finished_at", "input", "result", "log"),
        *server_columns.COLUMNS["result"],
    ),
)
MEMBER = peewee.Table("member", ("organization_id", "collaboration_id"))
