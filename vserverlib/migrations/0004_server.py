"""Adds what a server needs: who posted a task, its databases with their parameters, and users' failed log-ins.

Frozen: it does not use the models, and never changes.

It also has the journal leave out presence: an update of a node or a user that changes last_seen, and at most ip and
status besides, is not recorded. Such updates come once a minute for each node, and nobody wants to undo one.
"""

from importlib import import_module

PRESENCE = ("ip", "last_seen", "status")
SEEN = ("node", "user")

COLUMNS = (
    'ALTER TABLE "task" ADD COLUMN "init_user_id" BIGINT',
    'ALTER TABLE "task" ADD COLUMN "databases" TEXT',
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


def without_presence(db, table):
    """Replace the condition of the update trigger of a table."""
    sql, journal = trigger_of(db, table), import_module("vserverlib.migrations.0002_journal")
    names = [column.name for column in db.get_columns(table) if column.name != "id"]
    others = [name for name in names if name not in PRESENCE]
    condition = f"\nWHEN {journal.is_changed(names)}"
    presence = f"(OLD.last_seen IS NOT NEW.last_seen AND NOT {journal.is_changed(others)})"
    db.execute_sql(f'DROP TRIGGER "journal_{table}_update"')
    db.execute_sql(sql.replace(condition, f"{condition} AND NOT {presence}"))


# As in migration 0002, but for the second condition.
LEFT_OUT = "    IF told IS NULL AND TG_OP = 'UPDATE' THEN RETURN NULL; END IF;\n"
LEFT_OUT_NOW = f"""{LEFT_OUT}    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME IN ('node', 'user') AND told ? 'last_seen'
        AND told - 'last_seen' - 'ip' - 'status' = '{{}}'::jsonb THEN RETURN NULL; END IF;
"""


def up(migrator, db):
    journal = import_module("vserverlib.migrations.0002_journal")
    for statement in COLUMNS:
        db.execute_sql(statement)
    if db.is_sqlite:
        db.execute_sql(LOCK_OUT.format(id="INTEGER", moment="TEXT"))
        journal.record_anew(db, "task")
        for table in SEEN:
            without_presence(db, table)
    else:
        db.execute_sql(LOCK_OUT.format(id="BIGINT", moment="TIMESTAMPTZ"))
        create = journal.RECORD.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
        db.execute_sql(create.replace(LEFT_OUT, LEFT_OUT_NOW))
