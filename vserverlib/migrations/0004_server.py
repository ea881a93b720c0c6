"""Adds what a server needs: who posted a task, its databases with their parameters, and users' failed log-ins.

Frozen: it does not use the models, and never changes.

It also has the journal leave out presence: an update of a node or a user that changes last_seen, or sets the status
offline, and at most ip and status besides, is not recorded. Such updates come once a minute for each node, and nobody
wants to undo one. Neither is an update of a result that changes its log and logged_at alone: nodes send a log line by
line, and all of it at the end. (A condition that reads the task would stand in the way of rebuilding that table.)
"""

from importlib import import_module

PRESENCE = ("ip", "last_seen", "status")
SEEN = ("node", "user")

COLUMNS = (
    'ALTER TABLE "task" ADD COLUMN "init_user_id" BIGINT',
    'ALTER TABLE "task" ADD COLUMN "databases" TEXT',
    'ALTER TABLE "result" ADD COLUMN "logged_at" {moment}',
    'CREATE INDEX "task_init_user_id" ON "task" ("init_user_id") WHERE "init_user_id" IS NOT NULL',
)
LOCK_OUT = """
CREATE TABLE "lock_out" (
    "user_id" {id} NOT NULL PRIMARY KEY REFERENCES "user" ("id") ON DELETE CASCADE,
    "failures" INTEGER NOT NULL,
    "last_at" {moment} NOT NULL
)
"""


def trigger_of(db, table):
    query = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?"
    return db.execute_sql(query, [f"journal_{table}_update"]).fetchone()[0]


def leave_out(db, table, but, condition):
    """Have the update trigger of a table ignore updates of some columns alone that fulfil a condition."""
    sql, journal = trigger_of(db, table), import_module("vserverlib.migrations.0002_journal")
    names = [column.name for column in db.get_columns(table) if column.name not in ("id", "logged_at")]
    others = [name for name in names if name not in but]
    before = f"\nWHEN {journal.is_changed(names)}"
    db.execute_sql(f'DROP TRIGGER "journal_{table}_update"')
    ignored = f"(({condition}) AND NOT {journal.is_changed(others)})"
    db.execute_sql(sql.replace(before, f"{before} AND NOT {ignored}"))


SEEN_NOW = "OLD.last_seen IS NOT NEW.last_seen OR NEW.status = 'offline'"
LOGGED_NOW = "OLD.logged_at IS NOT NEW.logged_at"

# As in migration 0002, but for the second condition.
LEFT_OUT = "    IF told IS NULL AND TG_OP = 'UPDATE' THEN RETURN NULL; END IF;\n"
LEFT_OUT_NOW = f"""{LEFT_OUT}    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('node', 'user')
        AND (told ? 'last_seen' OR new_row ->> 'status' = 'offline')
        AND told - 'last_seen' - 'ip' - 'status' = '{{}}'::jsonb THEN RETURN NULL; END IF;
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'result' AND told ? 'logged_at'
        AND told - 'log' - 'logged_at' = '{{}}'::jsonb THEN RETURN NULL; END IF;
"""


def up(migrator, db):
    journal = import_module("vserverlib.migrations.0002_journal")
    types = {"id": "INTEGER", "moment": "TEXT"} if db.is_sqlite else {"id": "BIGINT", "moment": "TIMESTAMPTZ"}
    for statement in (*COLUMNS, LOCK_OUT):
        db.execute_sql(statement.format(**types))
    if db.is_sqlite:
        journal.record_anew(db, "task")
        for table in SEEN:
            leave_out(db, table, PRESENCE, SEEN_NOW)
        leave_out(db, "result", ("log",), LOGGED_NOW)
    else:
        create = journal.RECORD.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
        db.execute_sql(create.replace(LEFT_OUT, LEFT_OUT_NOW))
