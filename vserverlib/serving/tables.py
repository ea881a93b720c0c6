"""Columns that only the server uses: the models do not have them, so save() never sets them.

`task.init_user_id` is the user who posted a task; `task.databases` its databases with their parameters, as JSON:
[{"label": "default", "parameters": {...}}].
"""

from __future__ import annotations

from vserverlib.drivers import peewee

TASK = peewee.Table("task", ("id", "collaboration_id", "parent_id", "run_id", "init_user_id", "databases"))
RESULT = peewee.Table("result", ("id", "task_id", "organization_id", "status", "state", "finished_at", "log"))
MEMBER = peewee.Table("member", ("organization_id", "collaboration_id"))
