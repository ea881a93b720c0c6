"""The rules that the API of a vantage6 server applies, or should apply, as data.

The shell accepts everything that the tables can hold; a server does not. The rules come from its resource and schema
code (releases 2.3.5 and 4.15.2) and from bug reports of its users. A code never changes. checks.py checks the rules at
each save and for whole tables.

`where` is the condition that matches a row, `this`, if it breaks the rule. It is the same for one row and for a whole
table: one scan or index look-up, never a query for each row. It is SQL for both SQLite and PostgreSQL.
"""

from __future__ import annotations

import string

from vserverlib.entities.roles import USER_ROLES
from vserverlib.entities.rule import AT_CHECK as AT_CHECK
from vserverlib.entities.rule import AT_SAVE as AT_SAVE
from vserverlib.entities.rule import BOTH as BOTH
from vserverlib.entities.rule import ERROR as ERROR
from vserverlib.entities.rule import INFO as INFO
from vserverlib.entities.rule import LEVELS as LEVELS
from vserverlib.entities.rule import WARNING as WARNING
from vserverlib.entities.rule import Fix
from vserverlib.entities.rule import Rule as Rule
from vserverlib.entities.rule import TableQuery as TableQuery
from vserverlib.entities.rule_sql import (
    ADDRESS,
    BLANK,
    IN_CYCLE,
    LOCK_OUT,
    LONGEST_EMAIL,
    LONGEST_NAME,
    OTHER_COLLABORATION,
    OTHER_PARENT,
    OTHER_RUN,
    SAME_NODE,
    SAME_RESULT,
    USERNAME_CHARACTERS,
    WITH_DUPLICATES,
    before,
    first_other,
    first_too_long,
    missing,
    named,
    no_member,
    no_name,
    no_node,
    no_text,
    other_words,
    start,
    time,
    why_no_name,
)

DELETE_RESULT = Fix("delete it", "DELETE FROM result WHERE id IN ({rows})", ("task",))
DELETE_MEMBERSHIP = Fix("delete it", "DELETE FROM member WHERE id IN ({rows})", ("organization", "collaboration"))
FOLLOW_TIMES = Fix("set its status to what its times say", "UPDATE result SET status = state WHERE id IN ({rows})")

RULES = (
    Rule(
        "ORG001", "organization", ERROR, BOTH,
        f"no name, or only white space, or only digits, or over {LONGEST_NAME} characters",
        "it {detail}",
        f"give it a name with a letter in it, of {LONGEST_NAME} characters at most",
        "the API refuses such a name, and get_by_name cannot find it or takes it for an id",
        no_name("this.name"), why_no_name("this.name"),
        command="set organization {id} name=…",
    ),
    Rule(
        "ORG002", "organization", WARNING, BOTH,
        "another organization has the same name (`get_by_name` returns the oldest)",
        "organization {detail} has the same name",
        "rename one of them, or delete the duplicate",
        "get_by_name returns the oldest, so users and nodes easily end up in the wrong organization; vantage6 4.x "
        "refuses a second one",
        f"{first_other('organization', 'o.name = this.name')} IS NOT NULL",
        first_other("organization", "o.name = this.name"),
        command="set organization {id} name=…",
    ),
    Rule(
        "ORG003", "organization", ERROR, BOTH,
        f"domain, address, zip code or country over {LONGEST_NAME} characters",
        f"its {{detail}} has over {LONGEST_NAME} characters",
        "shorten it",
        "the API refuses it",
        " OR ".join(f"LENGTH(this.{column}) > {LONGEST_NAME}" for column in ADDRESS), first_too_long(*ADDRESS),
        command="edit organization {id}",
    ),
    Rule(
        "ORG004", "organization", ERROR, BOTH,
        "a public key that is neither PEM nor base64 of PEM",
        "its public key is neither PEM nor base64 of PEM",
        "assign the text of the key's PEM file, or None, so that its node generates one",
        "nobody can encrypt for this organization with such a key: tasks of encrypted collaborations fail",
        f"TRIM(this.public_key, '{BLANK}') <> '' AND TRIM(this.public_key, '{BLANK}') NOT LIKE "
        "'-----BEGIN %-----%-----END %-----' AND this.public_key NOT LIKE 'LS0tLS1CRUdJTi%'",
        command="set organization {id} public_key=null",
    ),
    Rule(
        "USR001", "user", ERROR, BOTH,
        "no organization: users always belong to one",
        "it has no organization",
        "set its organization",
        "the server reads the organization of a user in nearly every request, and fails without one",
        "this.organization_id IS NULL",
        command="set user {id} organization=…",
    ),
    Rule(
        "USR002", "user", ERROR, BOTH,
        "a user name that is not a letter followed by letters, digits, `.`, `_`, `-` (or `@`, as in e-mail addresses)",
        "its user name is not a letter followed by letters, digits, and . _ - @",
        "give it such a user name",
        "the API refuses it, and some of its web pages cannot show it",
        f"this.username IS NULL OR this.username = '' OR TRIM(this.username, '{USERNAME_CHARACTERS}') <> '' OR "
        f"TRIM(SUBSTR(this.username, 1, 1), '{string.ascii_letters}') <> ''",
        command="set user {id} username=…",
    ),
    Rule(
        "USR003", "user", WARNING, AT_SAVE,
        "a password under 8 characters, or without upper case, lower case, digit or special character",
        "its password is weak ({detail})",
        "choose a longer or more varied one",
        "the API refuses it. It is checked only when it is set, because only its hash is stored",
        secret="password",
        command="passwd {name}",
    ),
    Rule(
        "USR004", "user", WARNING, BOTH,
        "no password: can never log in",
        "it has no password, and can never log in",
        "set one, or with: vserver passwd",
        "a user without a password is refused at each log-in",
        "this.password IS NULL OR this.password = ''",
        command="passwd {name}",
    ),
    Rule(
        "USR005", "user", WARNING, BOTH,
        "an invalid e-mail address",
        "its e-mail address is invalid",
        "correct it, or set it to None",
        "the API refuses it, and messages to reset a password never arrive",
        "this.email NOT LIKE '_%@_%' OR LENGTH(this.email) - LENGTH(REPLACE(this.email, '@', '')) <> 1 OR "
        f"LENGTH(this.email) > {LONGEST_EMAIL} OR "
        + " OR ".join(f"this.email LIKE '%{blank}%'" for blank in " \t\n\r"),
        command="set user {id} email=…",
    ),
    Rule(
        "USR006", "user", INFO, AT_CHECK,
        "a role that `vserver start` does not know",
        "its roles, {detail}, have one that vserver start does not know",
        f"use {', '.join(USER_ROLES)}, in any case, or leave it if the database is for another server",
        "such a role grants nothing: the API of vserver start refuses what the user asks for",
        other_words("this.roles", USER_ROLES),
        "this.roles",
        command="set user {id} roles=…",
    ),
    Rule(
        "USR007", "user", INFO, AT_CHECK,
        "locked out by `vserver start` after five wrong passwords",
        "it was locked out at {detail} UTC, after five wrong passwords in a row",
        "wait for 15 minutes, or unlock it",
        "its user has forgotten the password, or somebody guesses",
        f"EXISTS ({LOCK_OUT})", f"(SELECT SUBSTR(CAST(l.last_at AS TEXT), 1, 16) FROM ({LOCK_OUT}) l)",
        command="unlock {name}",
    ),
    Rule(
        "COL001", "collaboration", ERROR, BOTH,
        f"no name, only digits, or over {LONGEST_NAME} characters",
        "it {detail}",
        f"give it a name with a letter in it, of {LONGEST_NAME} characters at most",
        "the API refuses such a name, and get_by_name cannot find it or takes it for an id",
        no_name("this.name"), why_no_name("this.name"),
        command="set collaboration {id} name=…",
    ),
    Rule(
        "COL002", "collaboration", WARNING, BOTH,
        "no organization",
        "no organization takes part in it",
        "add one to its organizations, or delete it",
        "no task can run in it",
        "NOT EXISTS (SELECT 1 FROM member m WHERE m.collaboration_id = this.id)",
        command="set collaboration {id} organizations+=…",
    ),
    Rule(
        "COL003", "collaboration", WARNING, AT_CHECK,
        "one of its organizations has no node in it: no task can run there",
        "organization {detail} has no node in it",
        "create a node for that organization, or remove the organization",
        "a task that is sent to an organization without a node waits forever",
        "EXISTS (SELECT 1 FROM member m WHERE m.collaboration_id = this.id AND "
        f"{no_node('m.organization_id', 'this.id')})",
        f"(SELECT {named('organization', 'first.id')} FROM (SELECT MIN(m.organization_id) AS id FROM member m "
        f"WHERE m.collaboration_id = this.id AND {no_node('m.organization_id', 'this.id')}) first)",
        command="create node organization=… collaboration={id}",
    ),
    Rule(
        "NOD001", "node", ERROR, BOTH,
        "no organization, or no collaboration: nodes always belong to both",
        "it has no {detail}",
        "set it",
        "the server does not know which tasks are for such a node, and its log-in fails",
        "this.organization_id IS NULL OR this.collaboration_id IS NULL",
        "CASE WHEN this.collaboration_id IS NOT NULL THEN 'organization' WHEN this.organization_id IS NOT NULL THEN "
        "'collaboration' ELSE 'organization and no collaboration' END",
        command="set node {id} organization=… collaboration=…",
    ),
    Rule(
        "NOD002", "node", ERROR, BOTH,
        "its organization is not in its collaboration",
        "its organization is not in its collaboration {detail}",
        "add the organization to the collaboration, or delete the node",
        "it would receive tasks that its organization did not agree to",
        f"this.organization_id IS NOT NULL AND this.collaboration_id IS NOT NULL AND "
        f"{no_member('this.organization_id', 'this.collaboration_id')}",
        named("collaboration", "this.collaboration_id"),
        command="delete node {id}",
    ),
    Rule(
        "NOD003", "node", ERROR, BOTH,
        "a second node of the same organization in the same collaboration",
        "node {detail} has the same organization and collaboration",
        "delete the unused one",
        "the server expects one node of an organization; with two, it fails or picks either",
        f"{first_other('node', SAME_NODE)} IS NOT NULL",
        first_other("node", SAME_NODE),
        command="delete node {id}",
    ),
    Rule(
        "NOD004", "node", WARNING, BOTH,
        "another node has the same name",
        "node {detail} has the same name",
        "rename one of them",
        "nobody can tell them apart in a log; vantage6 4.x refuses a second one",
        f"{first_other('node', 'o.name = this.name')} IS NOT NULL",
        first_other("node", "o.name = this.name"),
        command="set node {id} name=…",
    ),
    Rule(
        "NOD005", "node", WARNING, AT_SAVE,
        "an API key that can be guessed: a version 1 UUID (time and network address), or under 16 characters",
        "its API key can be guessed ({detail})",
        "use a random one, such as str(uuid4()), or run: vserver apikey",
        "anyone with the key receives the organization's tasks. It is checked only when it is set, because only its "
        "hash is stored",
        secret="api_key",
        command="apikey {id}",
    ),
    Rule(
        "TSK001", "task", ERROR, BOTH,
        "no collaboration",
        "it has no collaboration",
        "set its collaboration",
        "nobody can see it through the API: the collaboration decides who may",
        "this.collaboration_id IS NULL",
        command="set task {id} collaboration=…",
    ),
    Rule(
        "TSK002", "task", ERROR, BOTH,
        "no image",
        "it has no image",
        "set its image",
        "a node has nothing to run",
        no_text("this.image"),
        command="set task {id} image=…",
    ),
    Rule(
        "TSK003", "task", ERROR, BOTH,
        "its initiator is not in its collaboration",
        "its initiator, organization {detail}, is not in its collaboration",
        "set the initiator to an organization of the collaboration",
        "the API refuses tasks of other organizations",
        "this.initiator_id IS NOT NULL AND this.collaboration_id IS NOT NULL AND "
        f"{no_member('this.initiator_id', 'this.collaboration_id')}",
        named("organization", "this.initiator_id"),
        command="set task {id} initiator=…",
    ),
    Rule(
        "TSK004", "task", ERROR, BOTH,
        "its parent is in another collaboration, or has another run_id, or its parents form a cycle",
        "its parent {detail}",
        "set the parent to a task of the same collaboration and run, or to None",
        "parent and child share the volumes of a run; a program that follows a cycle of parents never ends",
        f"this.parent_id IS NOT NULL AND ({OTHER_PARENT} OR {IN_CYCLE})",
        f"(SELECT CASE WHEN {OTHER_COLLABORATION} THEN 'is in another collaboration' WHEN {OTHER_RUN} THEN "
        "'has another run_id' ELSE 'descends from it: the parents form a cycle' END "
        "FROM task p WHERE p.id = this.parent_id)",
        for_table=TableQuery(f"this.parent_id IS NOT NULL AND ({OTHER_PARENT} OR this.id IN ({{cycles}}))"),
        command="set task {id} parent=null",
    ),
    Rule(
        "TSK005", "task", INFO, AT_CHECK,
        "no results: it was created by hand, and no node will run it",
        "it has no results, so no node will run it",
        "post the task to the server, which creates the results, or delete it",
        "a server creates a result for each organization when a task is posted, and notifies the nodes",
        "NOT EXISTS (SELECT 1 FROM result r WHERE r.task_id = this.id)",
        command="delete task {id}",
    ),
    Rule(
        "RES001", "result", ERROR, BOTH,
        "no task, or one that does not exist",
        "{detail}",
        "set its task, or delete it",
        "nobody can find it: results are requested by task",
        "this.task_id IS NULL",
        "'it has no task'",
        for_table=TableQuery(
            f"this.task_id IS NULL OR {missing('task', 'this.task_id')}",
            "CASE WHEN this.task_id IS NULL THEN 'it has no task' ELSE "
            "'its task ' || this.task_id || ' does not exist' END",
        ),
        fix=DELETE_RESULT,
    ),
    Rule(
        "RES002", "result", ERROR, BOTH,
        "its organization is missing, or not in the task's collaboration",
        "{detail}",
        "set its organization to one of the task's collaboration, or delete it",
        "no node can run it, so its task never finishes",
        "this.organization_id IS NULL OR EXISTS (SELECT 1 FROM task t WHERE t.id = this.task_id AND "
        f"t.collaboration_id IS NOT NULL AND {no_member('this.organization_id', 't.collaboration_id')})",
        "CASE WHEN this.organization_id IS NULL THEN 'it has no organization' ELSE "
        f"'its organization ' || {named('organization', 'this.organization_id')} || "
        "' is not in the collaboration of its task' END",
        command="delete result {id}",
    ),
    Rule(
        "RES003", "result", ERROR, BOTH,
        "a second result of the same organization for the same task",
        "result {detail} has the same organization and task",
        "delete the duplicate",
        "the task waits for both, and a node returns only one",
        f"EXISTS (SELECT 1 FROM result o WHERE {SAME_RESULT} AND o.id <> this.id)",
        first_other("result", SAME_RESULT),
        for_table=TableQuery(
            "this.first_id <> this.id OR this.next_id IS NOT NULL",
            "CASE WHEN this.first_id = this.id THEN this.next_id ELSE this.first_id END",
            f"({WITH_DUPLICATES})",
        ),
        command="delete result {id}",
    ),
    Rule(
        "RES004", "result", WARNING, BOTH,
        "finished before it started, started before it was assigned, or finished without having started",
        "it {detail}",
        "correct its times",
        "its duration is computed from its times; the clock of a node may be wrong",
        f"{before('finished_at', 'started_at')} OR {before('started_at', 'assigned_at')} OR "
        f"({time('finished_at')} AND NOT COALESCE({time('started_at')}, FALSE))",
        f"CASE WHEN {before('finished_at', 'started_at')} THEN 'finished before it started' WHEN "
        f"{before('started_at', 'assigned_at')} THEN 'started before it was assigned' ELSE "
        "'finished without having started' END",
        command="edit result {id}",
    ),
    Rule(
        "RES005", "result", WARNING, AT_CHECK,
        "its organization has no node in its collaboration: it can never finish",
        "organization {detail} has no node in its collaboration, so it can never finish",
        "create that node, or delete the result",
        "a task finishes when all of its results have finished, so this task never does",
        "this.state IN ('pending', 'active') AND this.organization_id IS NOT NULL AND EXISTS (SELECT 1 FROM task t "
        "WHERE t.id = this.task_id AND t.collaboration_id IS NOT NULL AND "
        f"{no_node('this.organization_id', 't.collaboration_id')})",
        named("organization", "this.organization_id"),
        command="delete result {id}",
    ),
    Rule(
        "RES006", "result", ERROR, BOTH,
        "the collaboration is encrypted but the organization has no public key",
        "its collaboration is encrypted, but organization {detail} has no public key",
        "start the organization's node once, which generates the key, or set its public_key",
        "its input cannot be encrypted for that organization",
        "EXISTS (SELECT 1 FROM task t JOIN collaboration c ON c.id = t.collaboration_id WHERE t.id = this.task_id AND "
        "c.encrypted) AND EXISTS (SELECT 1 FROM organization o WHERE o.id = this.organization_id AND "
        "COALESCE(o.public_key, '') = '')",
        named("organization", "this.organization_id"),
        command="show result {id}",
    ),
    Rule(
        "RES007", "result", WARNING, AT_CHECK,
        "a status that no server writes, or that its times contradict",
        "its status is {detail}",
        "correct its status, or its times",
        "lists show the status that the times say, so nobody sees the stored one; a save replaces it",
        "this.state <> 'failed' AND this.status <> this.state AND NOT (this.status = 'initializing' AND "
        "this.state IN ('pending', 'active'))",
        f"'\"' || {start('this.status')} || '\", but its times say ' || this.state",
        fix=FOLLOW_TIMES,
    ),
    Rule(
        "RES008", "result", INFO, AT_CHECK,
        "no status",
        "it has no status",
        "set its status to what its times say",
        "lists show the status that the times say; programs that read the stored one find none",
        "this.status IS NULL",
        fix=FOLLOW_TIMES,
    ),
    Rule(
        "MEM001", "member", ERROR, AT_CHECK,
        "half a membership: without an organization or a collaboration, or of one that does not exist",
        "{detail}",
        "delete it",
        "it says nothing, and programs that follow its links fail",
        f"this.organization_id IS NULL OR this.collaboration_id IS NULL OR "
        f"{missing('organization', 'this.organization_id')} OR {missing('collaboration', 'this.collaboration_id')}",
        "CASE WHEN this.organization_id IS NULL THEN 'it has no organization' WHEN this.collaboration_id IS NULL THEN "
        f"'it has no collaboration' WHEN {missing('organization', 'this.organization_id')} THEN 'its organization ' || "
        "this.organization_id || ' does not exist' ELSE 'its collaboration ' || this.collaboration_id || "
        "' does not exist' END",
        fix=DELETE_MEMBERSHIP,
    ),
    Rule(
        "MEM002", "member", ERROR, AT_CHECK,
        "a second membership of the same organization in the same collaboration",
        "membership {detail} is the same",
        "delete the duplicate",
        "lists show the organization twice, and a task may be sent to it twice",
        f"EXISTS (SELECT 1 FROM member o WHERE {SAME_NODE} AND o.id < this.id)",
        f"(SELECT MIN(o.id) FROM member o WHERE {SAME_NODE})",
        fix=DELETE_MEMBERSHIP,
    ),
    # Rules of the whole database, which inspection.py checks without a condition.
    Rule(
        "DBF001", "", ERROR, AT_CHECK,
        "the file is damaged: SQLite's integrity_check finds a fault",
        "{detail}",
        "stop using it, and restore a backup",
        "a disk fault, or a program that copied the file while it was being written, has changed it",
        command="restore …",
    ),
    Rule(
        "DBF002", "", ERROR, AT_CHECK,
        "an orphan: a link to a row that does not exist",
        "{detail}",
        "set the link to a row that exists, or to None; memberships and results without a task are deleted by --fix",
        "another program wrote it with foreign keys switched off: following the link fails",
        command="shell",
    ),
    Rule(
        "DBF003", "", WARNING, AT_CHECK,
        "a missing, additional or different table, column, index or trigger, compared with a new database",
        "{detail}",
        "revert the changes to the tables, or restore a backup",
        "somebody changed the tables by hand: queries may fail or be slow, and triggers may be missing",
        command="restore …",
    ),
    Rule(
        "DBF004", "", ERROR, AT_CHECK,
        "a value of the wrong type: not a time, a boolean or a whole number, or bytes in place of a text",
        "{detail}",
        "set it to a value of the right type, or to None",
        "another program wrote it, because SQLite accepts any value in any column: sorting, filtering and exporting go "
        "wrong, and PostgreSQL cannot hold it",
        command="shell",
    ),
    Rule(
        "DBF005", "", WARNING, AT_CHECK,
        "a sequence of a PostgreSQL database that is behind the ids of its table",
        "{detail}",
        "save anything with vserver, which sets it, or have the owner of the table call setval()",
        "another program inserted ids by hand, or a replica took over: the next new row gets an id that is taken, and "
        "is refused",
        command="shell",
    ),
)  # fmt: skip

BY_CODE = {rule.code: rule for rule in RULES}
