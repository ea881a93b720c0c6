"""SQL as a person is shown it: what meets a secret column is masked, all else is there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import models as db
import shell
from vserverlib.databases.secret_columns import SECRET_COLUMNS
from vserverlib.databases.statements import masked

MASK = "********"

# A statement, and the numbers of its parameters that are secret.
PARAMETERS = {
    "UPDATE user SET password = ? WHERE id = ?": {1},
    "UPDATE user SET username = ?, password = ?, email = ? WHERE id = ? RETURNING username": {2},
    "UPDATE user SET password = CASE WHEN id = ? AND ip = ? THEN ? ELSE ? END, ip = ?": {1, 2, 3, 4},
    "UPDATE user SET (username, password) = (?, ?) WHERE id = ?": {1, 2},
    "UPDATE user SET password = lower(? || ?), ip = ?": {1, 2},
    "UPDATE user SET password = v.column2 FROM (VALUES (?, ?)) AS v WHERE v.column1 = id": set(),
    "INSERT INTO user (username, password) VALUES (?, ?), (?, ?) RETURNING id": {2, 4},
    'INSERT INTO "user" ("password", "username") VALUES (lower(?), ?)': {1},
    "INSERT OR REPLACE INTO user (username, password) SELECT ?, ? UNION ALL SELECT ?, ?": {1, 2, 3, 4},
    "REPLACE INTO user VALUES (?, ?, ?)": {1, 2, 3},
    "INSERT INTO user VALUES (?, ?)": {1, 2},
    "INSERT INTO organization VALUES (?, ?)": set(),
    "INSERT INTO organization (name) SELECT ?": set(),
    "INSERT INTO user (username) VALUES (?) ON CONFLICT (username) DO UPDATE SET password = ?, ip = ?": {2},
    "WITH new AS (SELECT ?) INSERT INTO node (name, api_key) VALUES (?, ?)": {3},
    "SELECT id, password FROM user WHERE username = ?": set(),
    "SELECT 1 FROM user WHERE ? = password AND username = ?": {1},
    "SELECT 1 FROM user WHERE password NOT IN (?, ?) OR ip = ?": {1, 2},
    "SELECT 1 FROM user WHERE password BETWEEN ? AND ? AND ip = ?": {1, 2},
    "SELECT 1 FROM user WHERE (username, password) = (?, ?)": {1, 2},
    "SELECT 1 FROM user WHERE coalesce(password, ?) = ? AND ip = ?": {1, 2},
    "SELECT 1 FROM user WHERE password = (SELECT ? UNION SELECT ?)": {1, 2},
    "SELECT 1 FROM user WHERE ? IN (SELECT password FROM user)": {1},
    "SELECT 1 FROM user WHERE ip = ? AND NOT EXISTS (SELECT 1 FROM user WHERE password = ?)": {2},
    "SELECT 1 FROM (SELECT password AS p FROM user WHERE ip = ?) WHERE p = ?": {2},
    "SELECT 1 FROM record WHERE secrets LIKE ? AND entity = ?": {1},
    "SELECT 1 FROM node WHERE [api_key] = ? OR `api_key` = ? OR name = ?": {1, 2},
    "SELECT 1 FROM user WHERE password = ?2 AND username = ?1": {2},
    "SELECT 1 FROM user WHERE password = %s AND username = %s": {1},
    "SELECT 1 FROM user WHERE a = '?' -- ?\n AND password = ? AND b = ?": {1},
    "SELECT json_set(x, '$.password', ?), ?": {1},
    "UPDATE user SET pasword = ?, ip = ?": {1},
    "DELETE FROM user WHERE password GLOB ? OR ip = ?": {1},
}

LITERALS = {
    "UPDATE user SET password = 'S', ip = 'x'": "UPDATE user SET password = '********', ip = 'x'",
    "UPDATE user SET password = 'it''s S', ip = 'x'": "UPDATE user SET password = '********', ip = 'x'",
    'UPDATE user SET password = "S", ip = "x"': "UPDATE user SET password = '********', ip = \"x\"",
    "UPDATE user SET password = x'S'": "UPDATE user SET password = '********'",
    "UPDATE user SET password = 4711": "UPDATE user SET password = '********'",
    "INSERT INTO user (ip, password) VALUES ('x', 'S')": "INSERT INTO user (ip, password) VALUES ('x', '********')",
    "SELECT 1 FROM user WHERE 'S' = password": "SELECT 1 FROM user WHERE '********' = password",
    "SELECT 1 /* password S */": "SELECT 1 /* ******** */",
    "UPDATE user SET password = 'S": "UPDATE user SET password = '********'",
    "SELECT password FROM user WHERE password = ''": "SELECT password FROM user WHERE password = ''",
    'SELECT "t1"."password" FROM "user" AS "t1"': 'SELECT "t1"."password" FROM "user" AS "t1"',
}


@pytest.mark.parametrize("sql", PARAMETERS)
def test_a_parameter_is_masked_where_it_meets_a_secret_column(sql: str) -> None:
    number = max(sql.count(mark) for mark in ("?", "%s")) - sql.count("'?'") - sql.count("-- ?")
    parameters = [f"value {at}" for at in range(1, number + 1)]
    shown = masked(sql, parameters, SECRET_COLUMNS)[1]
    assert {at for at, value in enumerate(shown, start=1) if value == MASK} == PARAMETERS[sql]
    assert [value for value in shown if value != MASK] == [value for value in parameters if value in shown]


@pytest.mark.parametrize("sql", LITERALS)
def test_a_text_in_the_statement_is_masked_too(sql: str) -> None:
    assert masked(sql.replace("S'", "hunter2'"), (), SECRET_COLUMNS)[0] == LITERALS[sql]


def test_parameters_with_names_are_masked_by_them() -> None:
    sql = "UPDATE user SET password = :new WHERE username = :name AND password = :new"
    assert masked(sql, {"name": "root", "new": "S"}, SECRET_COLUMNS)[1] == ["root", MASK]
    assert masked(sql, ["S", "root"], SECRET_COLUMNS)[1] == [MASK, "root"]


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
    told = capsys.readouterr().err
    assert "$2b$" not in told and "Bulk" not in told and "Another" not in told
    assert "'a', '********'" in told
