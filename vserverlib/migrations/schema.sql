-- Made by `make schema` from the migrations up to 4: change those.
BEGIN;
CREATE TABLE "schema_migration" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, "applied" DATETIME NOT NULL);
CREATE UNIQUE INDEX "schema_migration_name" ON "schema_migration" ("name");
CREATE TABLE "collaboration" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "name" TEXT, "encrypted" INTEGER);
CREATE UNIQUE INDEX "collaboration_name" ON "collaboration" ("name");
CREATE TABLE "counter" ("name" TEXT NOT NULL PRIMARY KEY, "value" INTEGER NOT NULL);
CREATE TABLE "organization" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "name" TEXT, "domain" TEXT, "address1" TEXT, "address2" TEXT, "zipcode" TEXT, "country" TEXT, "public_key" TEXT);
CREATE INDEX "organization_name" ON "organization" ("name");
CREATE TABLE "member" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "organization_id" INTEGER, "collaboration_id" INTEGER, FOREIGN KEY ("organization_id") REFERENCES "organization" ("id"), FOREIGN KEY ("collaboration_id") REFERENCES "collaboration" ("id"));
CREATE INDEX "member_collaboration_id" ON "member" ("collaboration_id");
CREATE UNIQUE INDEX "member_organization_id_collaboration_id" ON "member" ("organization_id", "collaboration_id");
CREATE TABLE "node" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "name" TEXT, "api_key" TEXT, "collaboration_id" INTEGER, "organization_id" INTEGER, "ip" TEXT, "last_seen" TEXT, "status" TEXT, FOREIGN KEY ("collaboration_id") REFERENCES "collaboration" ("id"), FOREIGN KEY ("organization_id") REFERENCES "organization" ("id"));
CREATE INDEX "node_name" ON "node" ("name");
CREATE INDEX "node_api_key" ON "node" ("api_key");
CREATE INDEX "node_collaboration_id" ON "node" ("collaboration_id");
CREATE INDEX "node_organization_id" ON "node" ("organization_id");
CREATE TABLE "task" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "name" TEXT, "description" TEXT, "image" TEXT, "collaboration_id" INTEGER, "run_id" INTEGER, "parent_id" INTEGER, "database" TEXT, "initiator_id" INTEGER, "created_at" TEXT, "init_user_id" BIGINT, "databases" TEXT, FOREIGN KEY ("collaboration_id") REFERENCES "collaboration" ("id"), FOREIGN KEY ("parent_id") REFERENCES "task" ("id"), FOREIGN KEY ("initiator_id") REFERENCES "organization" ("id"));
CREATE INDEX "task_name" ON "task" ("name");
CREATE INDEX "task_collaboration_id" ON "task" ("collaboration_id");
CREATE INDEX "task_run_id" ON "task" ("run_id");
CREATE INDEX "task_parent_id" ON "task" ("parent_id");
CREATE INDEX "task_initiator_id" ON "task" ("initiator_id");
CREATE INDEX "task_created_at" ON "task" ("created_at");
CREATE TABLE "result" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "input" TEXT, "task_id" INTEGER, "organization_id" INTEGER, "result" TEXT, "assigned_at" TEXT, "started_at" TEXT, "finished_at" TEXT, "log" TEXT, "status" TEXT, "state" TEXT GENERATED ALWAYS AS (CASE
    WHEN status IN ('failed', 'start failed', 'non-existing Docker image', 'crashed', 'killed by user', 'not allowed', 'unknown error', 'dataframe not found', 'depended on failed task', 'unexpected output') THEN 'failed'
    WHEN typeof(finished_at) = 'text' AND (finished_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]*' AND finished_at NOT GLOB '*C'
        AND finished_at >= '0001' AND substr(finished_at, 6, 2) BETWEEN '01' AND '12' AND substr(finished_at, 9, 2) BETWEEN '01' AND '31'
        OR status = 'completed' AND trim(finished_at, char(9, 10, 11, 12, 13, 32)) <> '') THEN 'completed'
    WHEN typeof(started_at) = 'text' AND (started_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]*' AND started_at NOT GLOB '*C'
        AND started_at >= '0001' AND substr(started_at, 6, 2) BETWEEN '01' AND '12' AND substr(started_at, 9, 2) BETWEEN '01' AND '31'
        OR status = 'active' AND trim(started_at, char(9, 10, 11, 12, 13, 32)) <> '') THEN 'active'
    ELSE 'pending' END) STORED, "logged_at" TEXT, FOREIGN KEY ("task_id") REFERENCES "task" ("id"), FOREIGN KEY ("organization_id") REFERENCES "organization" ("id"));
CREATE INDEX "result_task_id_state" ON "result" ("task_id", "state");
CREATE INDEX "result_organization_id_state" ON "result" ("organization_id", "state");
CREATE INDEX "result_unfinished" ON "result" ("organization_id", "assigned_at") WHERE state IN ('pending', 'active');
CREATE TABLE "setting" ("name" TEXT NOT NULL PRIMARY KEY, "value" TEXT NOT NULL);
CREATE TABLE "user" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "username" TEXT, "password" TEXT, "firstname" TEXT, "lastname" TEXT, "email" TEXT, "roles" TEXT, "organization_id" INTEGER, "ip" TEXT, "last_seen" TEXT, "status" TEXT, FOREIGN KEY ("organization_id") REFERENCES "organization" ("id"));
CREATE UNIQUE INDEX "user_username" ON "user" ("username");
CREATE UNIQUE INDEX "user_email" ON "user" ("email");
CREATE INDEX "user_organization_id" ON "user" ("organization_id");
CREATE TABLE "change" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "at" TEXT NOT NULL, "actor" TEXT, "session" TEXT, "kind" TEXT, "about" TEXT, "backup" TEXT, "open" INTEGER, "counted" INTEGER);
CREATE TABLE "record" ("id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "change_id" INTEGER NOT NULL, "entity" TEXT NOT NULL, "entity_id" INTEGER, "op" TEXT NOT NULL, "changes" TEXT NOT NULL, "secrets" TEXT, FOREIGN KEY ("change_id") REFERENCES "change" ("id"));
CREATE INDEX "record_change_id" ON "record" ("change_id");
CREATE INDEX "record_entity_entity_id" ON "record" ("entity", "entity_id");
CREATE TABLE "undoing" ("change_id" INTEGER NOT NULL, "undone_id" INTEGER NOT NULL, PRIMARY KEY ("change_id", "undone_id"), FOREIGN KEY ("change_id") REFERENCES "change" ("id"), FOREIGN KEY ("undone_id") REFERENCES "change" ("id"));
CREATE INDEX "undoing_undone_id" ON "undoing" ("undone_id");
CREATE INDEX "task_init_user_id" ON "task" ("init_user_id") WHERE "init_user_id" IS NOT NULL;
CREATE TABLE "lock_out" (
    "user_id" INTEGER NOT NULL PRIMARY KEY REFERENCES "user" ("id") ON DELETE CASCADE,
    "failures" INTEGER NOT NULL,
    "last_at" TEXT NOT NULL
);
INSERT INTO schema_migration (name, applied) VALUES ('0001_initial', strftime('%Y-%m-%d %H:%M:%f', 'now'));
INSERT INTO schema_migration (name, applied) VALUES ('0002_journal', strftime('%Y-%m-%d %H:%M:%f', 'now'));
INSERT INTO schema_migration (name, applied) VALUES ('0003_states', strftime('%Y-%m-%d %H:%M:%f', 'now'));
INSERT INTO schema_migration (name, applied) VALUES ('0004_server', strftime('%Y-%m-%d %H:%M:%f', 'now'));
INSERT INTO counter (name, value) VALUES ('run_id', 0);
COMMIT;
-- The triggers of the journal, after the first rows of a new database.
BEGIN;
CREATE TRIGGER "journal_organization_insert" AFTER INSERT ON "organization"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'organization', NEW.id, 'insert', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, NULL AS o, NEW."name" AS n
        UNION ALL SELECT 'domain' AS k, NULL AS o, NEW."domain" AS n
        UNION ALL SELECT 'address1' AS k, NULL AS o, NEW."address1" AS n
        UNION ALL SELECT 'address2' AS k, NULL AS o, NEW."address2" AS n
        UNION ALL SELECT 'zipcode' AS k, NULL AS o, NEW."zipcode" AS n
        UNION ALL SELECT 'country' AS k, NULL AS o, NEW."country" AS n
        UNION ALL SELECT 'public_key' AS k, NULL AS o, NEW."public_key" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_organization_update" AFTER UPDATE ON "organization"
WHEN (OLD."id", OLD."name", OLD."domain", OLD."address1", OLD."address2", OLD."zipcode", OLD."country", OLD."public_key") IS NOT (NEW."id", NEW."name", NEW."domain", NEW."address1", NEW."address2", NEW."zipcode", NEW."country", NEW."public_key")
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'organization', OLD.id, 'update', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NEW."name" AS n
        UNION ALL SELECT 'domain' AS k, OLD."domain" AS o, NEW."domain" AS n
        UNION ALL SELECT 'address1' AS k, OLD."address1" AS o, NEW."address1" AS n
        UNION ALL SELECT 'address2' AS k, OLD."address2" AS o, NEW."address2" AS n
        UNION ALL SELECT 'zipcode' AS k, OLD."zipcode" AS o, NEW."zipcode" AS n
        UNION ALL SELECT 'country' AS k, OLD."country" AS o, NEW."country" AS n
        UNION ALL SELECT 'public_key' AS k, OLD."public_key" AS o, NEW."public_key" AS n
        UNION ALL SELECT 'id' AS k, OLD."id" AS o, NEW."id" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_organization_delete" AFTER DELETE ON "organization"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'organization', OLD.id, 'delete', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NULL AS n
        UNION ALL SELECT 'domain' AS k, OLD."domain" AS o, NULL AS n
        UNION ALL SELECT 'address1' AS k, OLD."address1" AS o, NULL AS n
        UNION ALL SELECT 'address2' AS k, OLD."address2" AS o, NULL AS n
        UNION ALL SELECT 'zipcode' AS k, OLD."zipcode" AS o, NULL AS n
        UNION ALL SELECT 'country' AS k, OLD."country" AS o, NULL AS n
        UNION ALL SELECT 'public_key' AS k, OLD."public_key" AS o, NULL AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_user_insert" AFTER INSERT ON "user"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'user', NEW.id, 'insert', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'username' AS k, NULL AS o, NEW."username" AS n
        UNION ALL SELECT 'firstname' AS k, NULL AS o, NEW."firstname" AS n
        UNION ALL SELECT 'lastname' AS k, NULL AS o, NEW."lastname" AS n
        UNION ALL SELECT 'email' AS k, NULL AS o, NEW."email" AS n
        UNION ALL SELECT 'roles' AS k, NULL AS o, NEW."roles" AS n
        UNION ALL SELECT 'organization_id' AS k, NULL AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'ip' AS k, NULL AS o, NEW."ip" AS n
        UNION ALL SELECT 'last_seen' AS k, NULL AS o, NEW."last_seen" AS n
        UNION ALL SELECT 'status' AS k, NULL AS o, NEW."status" AS n) WHERE o IS NOT n), '') || CASE WHEN NULL IS NOT NEW."password" THEN ',"password":[' || CASE WHEN NULL IS NULL THEN 'null' ELSE '"changed"' END || ',' || CASE WHEN NEW."password" IS NULL THEN 'null' ELSE '"changed"' END || ']' ELSE '' END, 2) || '}', CASE WHEN NULL IS NOT NEW."password" THEN '{"password":[' || CASE typeof(NULL) WHEN 'blob' THEN '{"blob":"' || hex(NULL) || '"}' WHEN 'real' THEN '{"real":"' || quote(NULL) || '"}' ELSE json_quote(NULL) END || ',' || CASE typeof(NEW."password") WHEN 'blob' THEN '{"blob":"' || hex(NEW."password") || '"}' WHEN 'real' THEN '{"real":"' || quote(NEW."password") || '"}' ELSE json_quote(NEW."password") END || ']}' END);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_user_delete" AFTER DELETE ON "user"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'user', OLD.id, 'delete', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'username' AS k, OLD."username" AS o, NULL AS n
        UNION ALL SELECT 'firstname' AS k, OLD."firstname" AS o, NULL AS n
        UNION ALL SELECT 'lastname' AS k, OLD."lastname" AS o, NULL AS n
        UNION ALL SELECT 'email' AS k, OLD."email" AS o, NULL AS n
        UNION ALL SELECT 'roles' AS k, OLD."roles" AS o, NULL AS n
        UNION ALL SELECT 'organization_id' AS k, OLD."organization_id" AS o, NULL AS n
        UNION ALL SELECT 'ip' AS k, OLD."ip" AS o, NULL AS n
        UNION ALL SELECT 'last_seen' AS k, OLD."last_seen" AS o, NULL AS n
        UNION ALL SELECT 'status' AS k, OLD."status" AS o, NULL AS n) WHERE o IS NOT n), '') || CASE WHEN OLD."password" IS NOT NULL THEN ',"password":[' || CASE WHEN OLD."password" IS NULL THEN 'null' ELSE '"changed"' END || ',' || CASE WHEN NULL IS NULL THEN 'null' ELSE '"changed"' END || ']' ELSE '' END, 2) || '}', CASE WHEN OLD."password" IS NOT NULL THEN '{"password":[' || CASE typeof(OLD."password") WHEN 'blob' THEN '{"blob":"' || hex(OLD."password") || '"}' WHEN 'real' THEN '{"real":"' || quote(OLD."password") || '"}' ELSE json_quote(OLD."password") END || ',' || CASE typeof(NULL) WHEN 'blob' THEN '{"blob":"' || hex(NULL) || '"}' WHEN 'real' THEN '{"real":"' || quote(NULL) || '"}' ELSE json_quote(NULL) END || ']}' END);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_collaboration_insert" AFTER INSERT ON "collaboration"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'collaboration', NEW.id, 'insert', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, NULL AS o, NEW."name" AS n
        UNION ALL SELECT 'encrypted' AS k, NULL AS o, NEW."encrypted" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_collaboration_update" AFTER UPDATE ON "collaboration"
WHEN (OLD."id", OLD."name", OLD."encrypted") IS NOT (NEW."id", NEW."name", NEW."encrypted")
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'collaboration', OLD.id, 'update', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NEW."name" AS n
        UNION ALL SELECT 'encrypted' AS k, OLD."encrypted" AS o, NEW."encrypted" AS n
        UNION ALL SELECT 'id' AS k, OLD."id" AS o, NEW."id" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_collaboration_delete" AFTER DELETE ON "collaboration"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'collaboration', OLD.id, 'delete', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NULL AS n
        UNION ALL SELECT 'encrypted' AS k, OLD."encrypted" AS o, NULL AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_member_insert" AFTER INSERT ON "member"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'member', NEW.id, 'insert', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'organization_id' AS k, NULL AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'collaboration_id' AS k, NULL AS o, NEW."collaboration_id" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_member_update" AFTER UPDATE ON "member"
WHEN (OLD."id", OLD."organization_id", OLD."collaboration_id") IS NOT (NEW."id", NEW."organization_id", NEW."collaboration_id")
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'member', OLD.id, 'update', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'organization_id' AS k, OLD."organization_id" AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'collaboration_id' AS k, OLD."collaboration_id" AS o, NEW."collaboration_id" AS n
        UNION ALL SELECT 'id' AS k, OLD."id" AS o, NEW."id" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_member_delete" AFTER DELETE ON "member"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'member', OLD.id, 'delete', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'organization_id' AS k, OLD."organization_id" AS o, NULL AS n
        UNION ALL SELECT 'collaboration_id' AS k, OLD."collaboration_id" AS o, NULL AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_node_insert" AFTER INSERT ON "node"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'node', NEW.id, 'insert', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, NULL AS o, NEW."name" AS n
        UNION ALL SELECT 'collaboration_id' AS k, NULL AS o, NEW."collaboration_id" AS n
        UNION ALL SELECT 'organization_id' AS k, NULL AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'ip' AS k, NULL AS o, NEW."ip" AS n
        UNION ALL SELECT 'last_seen' AS k, NULL AS o, NEW."last_seen" AS n
        UNION ALL SELECT 'status' AS k, NULL AS o, NEW."status" AS n) WHERE o IS NOT n), '') || CASE WHEN NULL IS NOT NEW."api_key" THEN ',"api_key":[' || CASE WHEN NULL IS NULL THEN 'null' ELSE '"changed"' END || ',' || CASE WHEN NEW."api_key" IS NULL THEN 'null' ELSE '"changed"' END || ']' ELSE '' END, 2) || '}', CASE WHEN NULL IS NOT NEW."api_key" THEN '{"api_key":[' || CASE typeof(NULL) WHEN 'blob' THEN '{"blob":"' || hex(NULL) || '"}' WHEN 'real' THEN '{"real":"' || quote(NULL) || '"}' ELSE json_quote(NULL) END || ',' || CASE typeof(NEW."api_key") WHEN 'blob' THEN '{"blob":"' || hex(NEW."api_key") || '"}' WHEN 'real' THEN '{"real":"' || quote(NEW."api_key") || '"}' ELSE json_quote(NEW."api_key") END || ']}' END);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_node_delete" AFTER DELETE ON "node"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'node', OLD.id, 'delete', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NULL AS n
        UNION ALL SELECT 'collaboration_id' AS k, OLD."collaboration_id" AS o, NULL AS n
        UNION ALL SELECT 'organization_id' AS k, OLD."organization_id" AS o, NULL AS n
        UNION ALL SELECT 'ip' AS k, OLD."ip" AS o, NULL AS n
        UNION ALL SELECT 'last_seen' AS k, OLD."last_seen" AS o, NULL AS n
        UNION ALL SELECT 'status' AS k, OLD."status" AS o, NULL AS n) WHERE o IS NOT n), '') || CASE WHEN OLD."api_key" IS NOT NULL THEN ',"api_key":[' || CASE WHEN OLD."api_key" IS NULL THEN 'null' ELSE '"changed"' END || ',' || CASE WHEN NULL IS NULL THEN 'null' ELSE '"changed"' END || ']' ELSE '' END, 2) || '}', CASE WHEN OLD."api_key" IS NOT NULL THEN '{"api_key":[' || CASE typeof(OLD."api_key") WHEN 'blob' THEN '{"blob":"' || hex(OLD."api_key") || '"}' WHEN 'real' THEN '{"real":"' || quote(OLD."api_key") || '"}' ELSE json_quote(OLD."api_key") END || ',' || CASE typeof(NULL) WHEN 'blob' THEN '{"blob":"' || hex(NULL) || '"}' WHEN 'real' THEN '{"real":"' || quote(NULL) || '"}' ELSE json_quote(NULL) END || ']}' END);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_result_insert" AFTER INSERT ON "result"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'result', NEW.id, 'insert', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'input' AS k, NULL AS o, NEW."input" AS n
        UNION ALL SELECT 'task_id' AS k, NULL AS o, NEW."task_id" AS n
        UNION ALL SELECT 'organization_id' AS k, NULL AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'result' AS k, NULL AS o, NEW."result" AS n
        UNION ALL SELECT 'assigned_at' AS k, NULL AS o, NEW."assigned_at" AS n
        UNION ALL SELECT 'started_at' AS k, NULL AS o, NEW."started_at" AS n
        UNION ALL SELECT 'finished_at' AS k, NULL AS o, NEW."finished_at" AS n
        UNION ALL SELECT 'log' AS k, NULL AS o, NEW."log" AS n
        UNION ALL SELECT 'status' AS k, NULL AS o, NEW."status" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_result_delete" AFTER DELETE ON "result"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'result', OLD.id, 'delete', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'input' AS k, OLD."input" AS o, NULL AS n
        UNION ALL SELECT 'task_id' AS k, OLD."task_id" AS o, NULL AS n
        UNION ALL SELECT 'organization_id' AS k, OLD."organization_id" AS o, NULL AS n
        UNION ALL SELECT 'result' AS k, OLD."result" AS o, NULL AS n
        UNION ALL SELECT 'assigned_at' AS k, OLD."assigned_at" AS o, NULL AS n
        UNION ALL SELECT 'started_at' AS k, OLD."started_at" AS o, NULL AS n
        UNION ALL SELECT 'finished_at' AS k, OLD."finished_at" AS o, NULL AS n
        UNION ALL SELECT 'log' AS k, OLD."log" AS o, NULL AS n
        UNION ALL SELECT 'status' AS k, OLD."status" AS o, NULL AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_task_insert" AFTER INSERT ON "task"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'task', NEW.id, 'insert', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, NULL AS o, NEW."name" AS n
        UNION ALL SELECT 'description' AS k, NULL AS o, NEW."description" AS n
        UNION ALL SELECT 'image' AS k, NULL AS o, NEW."image" AS n
        UNION ALL SELECT 'collaboration_id' AS k, NULL AS o, NEW."collaboration_id" AS n
        UNION ALL SELECT 'run_id' AS k, NULL AS o, NEW."run_id" AS n
        UNION ALL SELECT 'parent_id' AS k, NULL AS o, NEW."parent_id" AS n
        UNION ALL SELECT 'database' AS k, NULL AS o, NEW."database" AS n
        UNION ALL SELECT 'initiator_id' AS k, NULL AS o, NEW."initiator_id" AS n
        UNION ALL SELECT 'created_at' AS k, NULL AS o, NEW."created_at" AS n
        UNION ALL SELECT 'init_user_id' AS k, NULL AS o, NEW."init_user_id" AS n
        UNION ALL SELECT 'databases' AS k, NULL AS o, NEW."databases" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_task_update" AFTER UPDATE ON "task"
WHEN (OLD."id", OLD."name", OLD."description", OLD."image", OLD."collaboration_id", OLD."run_id", OLD."parent_id", OLD."database", OLD."initiator_id", OLD."created_at", OLD."init_user_id", OLD."databases") IS NOT (NEW."id", NEW."name", NEW."description", NEW."image", NEW."collaboration_id", NEW."run_id", NEW."parent_id", NEW."database", NEW."initiator_id", NEW."created_at", NEW."init_user_id", NEW."databases")
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'task', OLD.id, 'update', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NEW."name" AS n
        UNION ALL SELECT 'description' AS k, OLD."description" AS o, NEW."description" AS n
        UNION ALL SELECT 'image' AS k, OLD."image" AS o, NEW."image" AS n
        UNION ALL SELECT 'collaboration_id' AS k, OLD."collaboration_id" AS o, NEW."collaboration_id" AS n
        UNION ALL SELECT 'run_id' AS k, OLD."run_id" AS o, NEW."run_id" AS n
        UNION ALL SELECT 'parent_id' AS k, OLD."parent_id" AS o, NEW."parent_id" AS n
        UNION ALL SELECT 'database' AS k, OLD."database" AS o, NEW."database" AS n
        UNION ALL SELECT 'initiator_id' AS k, OLD."initiator_id" AS o, NEW."initiator_id" AS n
        UNION ALL SELECT 'created_at' AS k, OLD."created_at" AS o, NEW."created_at" AS n
        UNION ALL SELECT 'init_user_id' AS k, OLD."init_user_id" AS o, NEW."init_user_id" AS n
        UNION ALL SELECT 'databases' AS k, OLD."databases" AS o, NEW."databases" AS n
        UNION ALL SELECT 'id' AS k, OLD."id" AS o, NEW."id" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_task_delete" AFTER DELETE ON "task"
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'task', OLD.id, 'delete', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NULL AS n
        UNION ALL SELECT 'description' AS k, OLD."description" AS o, NULL AS n
        UNION ALL SELECT 'image' AS k, OLD."image" AS o, NULL AS n
        UNION ALL SELECT 'collaboration_id' AS k, OLD."collaboration_id" AS o, NULL AS n
        UNION ALL SELECT 'run_id' AS k, OLD."run_id" AS o, NULL AS n
        UNION ALL SELECT 'parent_id' AS k, OLD."parent_id" AS o, NULL AS n
        UNION ALL SELECT 'database' AS k, OLD."database" AS o, NULL AS n
        UNION ALL SELECT 'initiator_id' AS k, OLD."initiator_id" AS o, NULL AS n
        UNION ALL SELECT 'created_at' AS k, OLD."created_at" AS o, NULL AS n
        UNION ALL SELECT 'init_user_id' AS k, OLD."init_user_id" AS o, NULL AS n
        UNION ALL SELECT 'databases' AS k, OLD."databases" AS o, NULL AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_node_update" AFTER UPDATE ON "node"
WHEN (OLD."id", OLD."name", OLD."api_key", OLD."collaboration_id", OLD."organization_id", OLD."ip", OLD."last_seen", OLD."status") IS NOT (NEW."id", NEW."name", NEW."api_key", NEW."collaboration_id", NEW."organization_id", NEW."ip", NEW."last_seen", NEW."status") AND NOT ((OLD.last_seen IS NOT NEW.last_seen OR NEW.status = 'offline') AND NOT (OLD."id", OLD."name", OLD."api_key", OLD."collaboration_id", OLD."organization_id") IS NOT (NEW."id", NEW."name", NEW."api_key", NEW."collaboration_id", NEW."organization_id"))
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'node', OLD.id, 'update', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'name' AS k, OLD."name" AS o, NEW."name" AS n
        UNION ALL SELECT 'collaboration_id' AS k, OLD."collaboration_id" AS o, NEW."collaboration_id" AS n
        UNION ALL SELECT 'organization_id' AS k, OLD."organization_id" AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'ip' AS k, OLD."ip" AS o, NEW."ip" AS n
        UNION ALL SELECT 'last_seen' AS k, OLD."last_seen" AS o, NEW."last_seen" AS n
        UNION ALL SELECT 'status' AS k, OLD."status" AS o, NEW."status" AS n
        UNION ALL SELECT 'id' AS k, OLD."id" AS o, NEW."id" AS n) WHERE o IS NOT n), '') || CASE WHEN OLD."api_key" IS NOT NEW."api_key" THEN ',"api_key":[' || CASE WHEN OLD."api_key" IS NULL THEN 'null' ELSE '"changed"' END || ',' || CASE WHEN NEW."api_key" IS NULL THEN 'null' ELSE '"changed"' END || ']' ELSE '' END, 2) || '}', CASE WHEN OLD."api_key" IS NOT NEW."api_key" THEN '{"api_key":[' || CASE typeof(OLD."api_key") WHEN 'blob' THEN '{"blob":"' || hex(OLD."api_key") || '"}' WHEN 'real' THEN '{"real":"' || quote(OLD."api_key") || '"}' ELSE json_quote(OLD."api_key") END || ',' || CASE typeof(NEW."api_key") WHEN 'blob' THEN '{"blob":"' || hex(NEW."api_key") || '"}' WHEN 'real' THEN '{"real":"' || quote(NEW."api_key") || '"}' ELSE json_quote(NEW."api_key") END || ']}' END);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_user_update" AFTER UPDATE ON "user"
WHEN (OLD."id", OLD."username", OLD."password", OLD."firstname", OLD."lastname", OLD."email", OLD."roles", OLD."organization_id", OLD."ip", OLD."last_seen", OLD."status") IS NOT (NEW."id", NEW."username", NEW."password", NEW."firstname", NEW."lastname", NEW."email", NEW."roles", NEW."organization_id", NEW."ip", NEW."last_seen", NEW."status") AND NOT ((OLD.last_seen IS NOT NEW.last_seen OR NEW.status = 'offline') AND NOT (OLD."id", OLD."username", OLD."password", OLD."firstname", OLD."lastname", OLD."email", OLD."roles", OLD."organization_id") IS NOT (NEW."id", NEW."username", NEW."password", NEW."firstname", NEW."lastname", NEW."email", NEW."roles", NEW."organization_id"))
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'user', OLD.id, 'update', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'username' AS k, OLD."username" AS o, NEW."username" AS n
        UNION ALL SELECT 'firstname' AS k, OLD."firstname" AS o, NEW."firstname" AS n
        UNION ALL SELECT 'lastname' AS k, OLD."lastname" AS o, NEW."lastname" AS n
        UNION ALL SELECT 'email' AS k, OLD."email" AS o, NEW."email" AS n
        UNION ALL SELECT 'roles' AS k, OLD."roles" AS o, NEW."roles" AS n
        UNION ALL SELECT 'organization_id' AS k, OLD."organization_id" AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'ip' AS k, OLD."ip" AS o, NEW."ip" AS n
        UNION ALL SELECT 'last_seen' AS k, OLD."last_seen" AS o, NEW."last_seen" AS n
        UNION ALL SELECT 'status' AS k, OLD."status" AS o, NEW."status" AS n
        UNION ALL SELECT 'id' AS k, OLD."id" AS o, NEW."id" AS n) WHERE o IS NOT n), '') || CASE WHEN OLD."password" IS NOT NEW."password" THEN ',"password":[' || CASE WHEN OLD."password" IS NULL THEN 'null' ELSE '"changed"' END || ',' || CASE WHEN NEW."password" IS NULL THEN 'null' ELSE '"changed"' END || ']' ELSE '' END, 2) || '}', CASE WHEN OLD."password" IS NOT NEW."password" THEN '{"password":[' || CASE typeof(OLD."password") WHEN 'blob' THEN '{"blob":"' || hex(OLD."password") || '"}' WHEN 'real' THEN '{"real":"' || quote(OLD."password") || '"}' ELSE json_quote(OLD."password") END || ',' || CASE typeof(NEW."password") WHEN 'blob' THEN '{"blob":"' || hex(NEW."password") || '"}' WHEN 'real' THEN '{"real":"' || quote(NEW."password") || '"}' ELSE json_quote(NEW."password") END || ']}' END);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
CREATE TRIGGER "journal_result_update" AFTER UPDATE ON "result"
WHEN (OLD."id", OLD."input", OLD."task_id", OLD."organization_id", OLD."result", OLD."assigned_at", OLD."started_at", OLD."finished_at", OLD."log", OLD."status") IS NOT (NEW."id", NEW."input", NEW."task_id", NEW."organization_id", NEW."result", NEW."assigned_at", NEW."started_at", NEW."finished_at", NEW."log", NEW."status") AND NOT ((OLD.logged_at IS NOT NEW.logged_at) AND NOT (OLD."id", OLD."input", OLD."task_id", OLD."organization_id", OLD."result", OLD."assigned_at", OLD."started_at", OLD."finished_at", OLD."status") IS NOT (NEW."id", NEW."input", NEW."task_id", NEW."organization_id", NEW."result", NEW."assigned_at", NEW."started_at", NEW."finished_at", NEW."status"))
BEGIN
    INSERT INTO change (at) SELECT strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') WHERE NOT EXISTS (
        SELECT 1 FROM change WHERE id = (SELECT MAX(id) FROM change)
        AND (open = 1 OR (open IS NULL AND at = strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now') AND counted = total_changes())));
    INSERT INTO record (change_id, entity, entity_id, op, changes, secrets)
    VALUES ((SELECT MAX(id) FROM change), 'result', OLD.id, 'update', '{' || substr(coalesce((SELECT group_concat(',"' || k || '":[' || CASE typeof(o) WHEN 'blob' THEN '{"blob":"' || hex(o) || '"}' WHEN 'real' THEN '{"real":"' || quote(o) || '"}' ELSE json_quote(o) END || ',' || CASE typeof(n) WHEN 'blob' THEN '{"blob":"' || hex(n) || '"}' WHEN 'real' THEN '{"real":"' || quote(n) || '"}' ELSE json_quote(n) END || ']', '')
        FROM (SELECT 'input' AS k, OLD."input" AS o, NEW."input" AS n
        UNION ALL SELECT 'task_id' AS k, OLD."task_id" AS o, NEW."task_id" AS n
        UNION ALL SELECT 'organization_id' AS k, OLD."organization_id" AS o, NEW."organization_id" AS n
        UNION ALL SELECT 'result' AS k, OLD."result" AS o, NEW."result" AS n
        UNION ALL SELECT 'assigned_at' AS k, OLD."assigned_at" AS o, NEW."assigned_at" AS n
        UNION ALL SELECT 'started_at' AS k, OLD."started_at" AS o, NEW."started_at" AS n
        UNION ALL SELECT 'finished_at' AS k, OLD."finished_at" AS o, NEW."finished_at" AS n
        UNION ALL SELECT 'log' AS k, OLD."log" AS o, NEW."log" AS n
        UNION ALL SELECT 'status' AS k, OLD."status" AS o, NEW."status" AS n
        UNION ALL SELECT 'id' AS k, OLD."id" AS o, NEW."id" AS n) WHERE o IS NOT n), ''), 2) || '}', NULL);
    UPDATE change SET counted = total_changes() + 1 WHERE id = (SELECT MAX(id) FROM change) AND open IS NULL;
END;
COMMIT;
