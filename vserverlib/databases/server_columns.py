"""Columns and tables that only `vserver start` uses: models do not have them, so save() and imports never set them.

`task.init_user_id` is the user who posted a task over the API; `task.databases` its databases with their parameters,
as JSON: [{"label": "default", "parameters": {...}}]. `lock_out` counts the failed log-ins of a user.
"""

COLUMNS = {"task": ("init_user_id", "databases")}
TABLES = {"lock_out": ("user_id", "failures", "last_at")}
