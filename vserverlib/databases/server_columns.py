"""Columns and tables that only `vserver start` uses: models do not have them, so save() and imports never set them.

`task.init_user_id` is the user who posted a task over the API; `task.databases` its databases with their parameters,
as JSON: [{"label": "default", "parameters": {...}}]. `result.logged_at` is when its node last sent lines of its log,
which the journal does not record. `lock_out` counts the failed log-ins of a user.
"""

COLUMNS = {"task": ("init_user_id", "databases"), "result": ("logged_at",)}
MOST_FAILURES = 5  # in a row: after these, a user is locked out
TABLES = {"lock_out": ("user_id", "failures", "last_at")}
