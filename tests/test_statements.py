"""SQL as a person is shown it: what meets a secret column is masked, all else is there."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.process import vserver
from hypothesis import given
from hypothesis import strategies as st

import models as db
import shell
from vserverlib.secret_columns import SECRET_COLUMNS
from vserverlib.statements import masked

MASK = "********"

# Statements that may hold a secret
HIDDEN = [
    "UPDATE user SET password = ? WHERE id = ?",
    "UPDATE user SET username = ?, password = ?, email = ? WHERE id = ? RETURNING username",
    "UPDATE user SET password = CASE WHEN id = ? AND ip = ? THEN ? ELSE ? END, ip = ?",
    "UPDATE user SET (username, password) = (?, ?) WHERE id = ?",
    "UPDATE user SET password = lower(? || ?), ip = ?",
    "UPDATE user SET password = v.column2 FROM (VALUES (?, ?)) AS v WHERE v.column1 = id",
    "INSERT INTO user (username, password) VALUES (?, ?), (?, ?) RETURNING id",
    'INSERT INTO "user" ("password", "username") VALUES (lower(?), ?)',
    "INSERT OR REPLACE INTO user (username, password) SELECT ?, ? UNION ALL SELECT ?, ?",
    "REPLACE INTO user VALUES (?, ?, ?)",
    "INSERT INTO user VALUES (?, ?)",
    "INSERT INTO user (username) VALUES (?) ON CONFLICT (username) DO UPDATE SET password = ?, ip = ?",
    "WITH new AS (SELECT ?) INSERT INTO node (name, api_key) VALUES (?, ?)",
    "SELECT id, password FROM user WHERE username = ?",
    "SELECT 1 FROM user WHERE ? = password AND username = ?",
    "SELECT 1 FROM user WHERE password NOT IN (?, ?) OR ip = ?",
    "SELECT 1 FROM user WHERE password BETWEEN ? AND ? AND ip = ?",
    "SELECT 1 FROM user WHERE (username, password) = (?, ?)",
    "SELECT 1 FROM user WHERE coalesce(password, ?) = ? AND ip = ?",
    "SELECT 1 FROM user WHERE password = (SELECT ? UNION SELECT ?)",
    "SELECT 1 FROM user WHERE ? IN (SELECT password FROM user)",
    "SELECT 1 FROM user WHERE ip = ? AND NOT EXISTS (SELECT 1 FROM user WHERE password = ?)",
    "SELECT 1 FROM (SELECT password AS p FROM user WHERE ip = ?) WHERE p = ?",
    "SELECT 1 FROM record WHERE secrets LIKE ? AND entity = ?",
    "SELECT 1 FROM node WHERE [api_key] = ? OR `api_key` = ? OR name = ?",
    "SELECT 1 FROM user WHERE password = ?2 AND username = ?1",
    "SELECT 1 FROM user WHERE password = %s AND username = %s",
    "SELECT 1 FROM user WHERE a = '?' -- ?\n AND password = ? AND b = ?",
    "SELECT json_set(x, '$.password', ?), ?",
    "UPDATE user SET pasword = ?, ip = ?",
    "DELETE FROM user WHERE password GLOB ? OR ip = ?",
    "WITH p(x) AS (VALUES (?)) UPDATE user SET email = (SELECT x FROM p)",
    "INSERT INTO main.user VALUES (?, ?)",
    'insert into "main"."USER" values (?)',
    "REPLACE INTO node SELECT ?, ?",
    "INSERT INTO record VALUES (?, ?)",
    "DELETE FROM node WHERE name = ?",
    "SELECT * FROM user INTERSECT VALUES (?, ?)",
    "SELECT name FROM view_of_users WHERE p = ?",
    "SELECT 1 FROM task JOIN view_of_users ON p = ?",
    "EXPLAIN UPDATE user SET email = ?",
    'SELECT U&"p\\0061ssword" FROM "user" WHERE ip = ?',
    "CREATE ROLE me PASSWORD ?",
    "PRAGMA key = ?",
    "SELECT value FROM setting WHERE name = 'api_key_salt' AND value = ?",
    "INSERT INTO t VALUES (?)",
    "INSERT OR IGNORE INTO temp.[a b] VALUES (?)",
    "REPLACE /* x */ INTO name SELECT ?",
    "INSERT INTO t (SELECT ?)",
]

# Statements that can hold none.
SHOWN = [
    "INSERT INTO organization VALUES (?, ?)",
    "INSERT INTO organization (name) SELECT ?",
    "INSERT INTO main.organization VALUES (?)",
    "INSERT INTO t (name) VALUES (?)",
    "SELECT COUNT(*) FROM user WHERE username = ?",
    'SELECT "t1"."id", "t1"."name" FROM "task" AS "t1" WHERE "t1"."id" = ? LIMIT ?',
    "UPDATE task SET name = ? WHERE id = ?",
    "DELETE FROM task WHERE id = ?",
    "WITH x AS (SELECT ?) SELECT * FROM x",
    "SELECT name FROM sqlite_master WHERE type = ?",
    "SELECT value FROM json_each(?)",
]

LITERALS = {
    "UPDATE user SET password = 'S', ip = 'x'": "UPDATE user SET password = '********', ip = '********'",
    "UPDATE user SET password = 'it''s S', ip = 'x'": "UPDATE user SET password = '********', ip = '********'",
    'UPDATE user SET password = "S", ip = "x"': "UPDATE user SET password = '********', ip = '********'",
    "UPDATE user SET password = x'S'": "UPDATE user SET password = '********'",
    "INSERT INTO t VALUES ('S')": "INSERT INTO '********' VALUES ('********')",
    "UPDATE user SET password = S'": "UPDATE user SET password = '********''********'",
    "UPDATE user SET password = 4711": "UPDATE user SET password = '********'",
    "INSERT INTO user VALUES (1, 'x', 'S')": "INSERT INTO user VALUES (1, '********', '********')",
    "with p(x) as (values('S')) update user set password=x": (
        "with '********'('********') as (values('********')) update user set password='********'"
    ),
    "SELECT 1 FROM user WHERE 'S' = password": "SELECT 1 FROM user WHERE '********' = password",
    "SELECT 1 /* password S' */": "SELECT 1 /* ******** */",
    "UPDATE user SET password = 'S": "UPDATE user SET password = '********'",
    "UPDATE user SET email = E'\\'S'": "UPDATE user SET email = '********''********''********''********'",
    "UPDATE user SET email = $a$S'$a$": "UPDATE user SET email = '********''********''********'",
    "SELECT password FROM user WHERE password = ''": "SELECT password FROM user WHERE password = ''",
    'SELECT "t1"."password" FROM "user" AS "t1"': 'SELECT "t1"."password" FROM "user" AS "t1"',
    "SELECT name FROM task WHERE name = 'x' LIMIT 50": "SELECT name FROM task WHERE name = 'x' LIMIT 50",
}


def values_for(sql: str) -> list[str]:
    number = max(sql.count(mark) for mark in ("?", "%s")) - sql.count("'?'") - sql.count("-- ?")
    return [f"value {at}" for at in range(1, number + 1)]


@pytest.mark.parametrize("sql", HIDDEN)
def test_a_statement_that_may_hold_a_secret_shows_no_value(sql: str) -> None:
    parameters = values_for(sql)
    assert parameters and masked(sql, parameters, SECRET_COLUMNS)[1] == [MASK] * len(parameters)
    assert masked(sql.lower(), parameters, SECRET_COLUMNS)[1] == [MASK] * len(parameters)


@pytest.mark.parametrize("sql", SHOWN)
def test_a_statement_that_can_hold_no_secret_is_shown_as_it_is(sql: str) -> None:
    parameters = values_for(sql)
    assert masked(sql, parameters, SECRET_COLUMNS) == (sql, parameters)


@pytest.mark.parametrize("sql", LITERALS)
def test_a_text_in_the_statement_is_masked_too(sql: str) -> None:
    shown = masked(sql.replace("S'", "hunter2'"), (), SECRET_COLUMNS)[0]
    assert shown == LITERALS[sql]
    assert "hunter2" not in shown


def test_parameters_with_names_are_masked() -> None:
    sql = "UPDATE user SET password = :new WHERE username = :name AND password = :new"
    assert masked(sql, {"name": "root", "new": "S"}, SECRET_COLUMNS)[1] == [MASK, MASK]
    assert masked("SELECT :name", {"name": "root"}, SECRET_COLUMNS)[1] == ["root"]


def test_bytes_and_numbers_are_masked_and_nothing_stays_nothing() -> None:
    sql = "UPDATE user SET password = ?, password = ?, password = ?"
    assert masked(sql, [b"S", 4711, None], SECRET_COLUMNS)[1] == [MASK, MASK, None]


def test_where_marks_and_parameters_do_not_agree_all_are_masked() -> None:
    assert masked("SELECT ?", ["a", "b"], SECRET_COLUMNS)[1] == [MASK, MASK]


@given(st.text(alphabet="ab'\"`[]()?,;:- \n*/$%") | st.text(), st.lists(st.text()))
def test_any_text_can_be_shown(sql: str, parameters: list[str]) -> None:
    assert len(masked(sql, parameters, SECRET_COLUMNS)[1]) == len(parameters)


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=6))
def test_no_secret_survives_in_a_statement(secret: str) -> None:
    literal = "<" + secret.replace("'", "''") + ">"
    for sql in (
        f"UPDATE user SET ip = '', password = '{literal}' WHERE id = 1",
        f"INSERT INTO user (username, password) VALUES ('root', '{literal}')",
        f"SELECT 1 FROM user WHERE ip = 1 AND '{literal}' <> password",
        f"INSERT INTO user VALUES (1, 'root', '{literal}')",
        f"WITH p(x) AS (VALUES ('{literal}')) UPDATE user SET email = (SELECT x FROM p)",
        f"REPLACE INTO node SELECT 1, '{literal}'",
    ):
        assert literal not in masked(sql, (), SECRET_COLUMNS)[0]


def test_the_statements_of_rules_journal_and_bulk_work_show_no_hash(
    story: Any, database: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.print_queries(database)
    user = db.User(username="root", password="Ab1!defgh")
    user.save()
    user.password = "Another-1!"
    user.save()
    db.User.insert_many([{"username": name, "password": "Bulk-123!"} for name in "ab"]).returning(db.User.id).execute()
    shell.Db(database).undo(2)
    shell.Db(database).log()
    shell.Db(database).check()
    output = capsys.readouterr().err
    assert "$2b$" not in output and "Bulk" not in output and "Another" not in output
    assert 'INSERT INTO "user" ("username", "password") VALUES' in output
    for values in re.findall(r'INTO "user".*  \[(.*)\]', output):
        assert set(values.split(", ")) <= {"'********'", "None"}


WRITES = """
for sql in (
    "INSERT INTO user VALUES (99, 'x', 'hunter2', NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL)",
    "with p(x) as (values('hunter2')) update user set password=(select x from p) where id=99",
    "update node set api_key='hunter2' where id=0",
    "select name from task where name='shown'",
):
    database.execute_sql(sql)
database.execute_sql("insert or replace into user (id, password) values (?, ?)", [98, "hunter2"])
"""


def test_print_sql_shows_no_secret_in_a_process_of_its_own() -> None:
    ended = vserver("shell", "--demo", "--print-sql", "-q", "-c", WRITES)
    assert ended.status == 0, ended.err
    assert "hunter2" not in ended.out + ended.err
    assert "INSERT INTO user VALUES ('********', " in ended.err
    assert "select name from task where name='shown'" in ended.err
