"""A read-only session shows no hash, whichever way it is asked: in a process of its own, in each way of running.

Each question is asked without --read-only too, where it has to show a hash: so that it is one that could.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bcrypt
import psycopg
import pytest
from helpers import process

import models
from vserverlib.entities.fields import Secret
from vserverlib.secret_columns import JOURNAL, SECRET_COLUMNS, is_secret

# What tells a hash, also in hexadecimal digits, in base64, backwards, or from its second letter on.
HASH = re.compile(r"2[aby]\$\d\d\$|24326[12]24|JDJ[ab]|\$\d\d\$[aby]2", re.IGNORECASE)

VIEWS = (  # of another program
    'CREATE VIEW seen AS SELECT id, username, password FROM "user"',
    'CREATE VIEW called AS SELECT id, password AS p FROM "user"',
    "CREATE VIEW joined AS SELECT s.username, s.password, n.api_key FROM seen s LEFT JOIN node n ON n.id = s.id",
    'CREATE TABLE copied AS SELECT * FROM "user"',
)
AS_IT_IS = (
    'SELECT password FROM "user"',
    'SELECT u.password AS name FROM "user" AS u',
    'SELECT * FROM "user"',
    'SELECT u.* FROM "user" u, organization o',
    'SELECT PASSWORD FROM "user" ORDER BY password DESC LIMIT 1',
    "SELECT api_key FROM node",
    'SELECT n.api_key, u.password FROM node n LEFT JOIN "user" u ON u.id = n.id',
    'SELECT s.* FROM (SELECT id, password FROM "user") s',
    'WITH c AS (SELECT password AS p FROM "user") SELECT p FROM c',
    "SELECT secrets FROM record WHERE secrets IS NOT NULL OR id > 0",
    "SELECT r.* FROM record r",
)
OF_VIEWS = (
    "SELECT * FROM seen",
    "SELECT password AS x FROM seen",
    "SELECT * FROM called",
    "SELECT p FROM called",
    "SELECT api_key FROM joined",
    "SELECT * FROM copied",
)
CHANGED = (  # of SQLite; in PostgreSQL the role's rights are what holds, see docs/security.md
    "SELECT hex(password) FROM user",
    "SELECT substr(password, 2) FROM user",
    "SELECT printf('%s', password) FROM user",
    "SELECT quote(password) FROM user",
    "SELECT CAST(password AS BLOB) FROM user",
    "SELECT first_value(password) OVER (ORDER BY id) FROM user",
    "SELECT json_object('p', password) FROM user",
    "SELECT json_group_array(password) FROM user",
    "SELECT group_concat(password) FROM user",
    "SELECT group_concat(secrets) FROM record",
    "WITH RECURSIVE r(p, n) AS (SELECT password, 0 FROM user UNION ALL SELECT p, n + 1 FROM r WHERE n < 2) "
    "SELECT p FROM r",
    "SELECT m.password FROM main.user AS m",
    "SELECT [password] FROM [user]",
    "SELECT `password` FROM `user`",
)
OF_POSTGRES = (
    "SELECT string_agg(secrets, ' ') FROM record",
    'SELECT array_agg(password) FROM "user"',
    'SELECT u FROM "user" u',
    'SELECT row(u.id, u.password) FROM "user" u',
    'SELECT to_jsonb(u) FROM "user" u',
    'SELECT json_agg(u)::text FROM "user" u',
    'SELECT password::bytea FROM "user"',
    'SELECT * FROM "user" CROSS JOIN LATERAL (SELECT password AS p) AS l',
    'TABLE "user"',
)
EXPRESSIONS = (
    'SELECT min(password) FROM "user"',
    "SELECT password || '' FROM \"user\"",
    'SELECT CASE WHEN id > 0 THEN password END FROM "user"',
    'SELECT coalesce(NULL, password) FROM "user"',
    "SELECT lag(api_key, 0) OVER (ORDER BY id) FROM node",
    'SELECT (SELECT password FROM "user" u WHERE u.id = o.id) FROM "user" o',
    'SELECT password FROM "user" UNION SELECT api_key FROM node',
    'SELECT p FROM (SELECT max(password) AS p FROM "user" GROUP BY id) s',
)
PYTHON = {
    "entity": "e = db.User.get(1); print(e, e.password, e.__data__, vars(e), [*db.User.get()])",
    "table": "from peewee import Table; print([*Table('user', _database=database).select().tuples()])",
    "stored": "print(db.User.get(1)._stored, [each._stored for each in db.Node.get()])",
    "links": "print([vars(e) for e in db.Organization.get(1).users], [vars(e) for e in db.Organization.get(1).nodes])",
    "cursor": "print(database.cursor().execute('SELECT password FROM \"user\"').fetchall())",
    "connection": "print(database.connection().execute('SELECT password FROM \"user\"').fetchall())",
}
MASKED = {  # in each session: what Peewee is asked for in the place of entities, and what the journal shows
    "dict": "from playhouse.shortcuts import model_to_dict as d; print(d(db.User.get(1)), d(db.Node.get(1)))",
    "pickle": "import pickle; print(pickle.dumps([*db.User.get(), *db.Node.get()]))",
    "copy": "import copy; print(vars(copy.copy(db.User.get(1))), db.User.get(1).__data__)",
    "dicts": "print([*db.User.select().dicts(), *db.Node.select().dicts()])",
    "rows of dicts": "print([row for row in db.User.select(db.User.password.alias('x')).dicts()])",
    "tuples": "print([*db.User.select(db.User.password).tuples(), *db.User.select(db.User.password).namedtuples()])",
    "objects": "print([vars(e) for e in db.User.select().objects()])",
    "scalars": "q = db.User.select(db.User.password); print(q.scalar(), [*q.scalars()])",
    "iterator": "print([vars(e) for e in db.User.select().iterator()])",
    "join": "q = db.User.select(db.User, db.Organization).join(db.Organization)\n"
    "print([vars(e) for e in q], [*q.dicts()])",
    "raw": "print([vars(e) for e in db.User.raw('SELECT * FROM \"user\"')])",
    "subquery": "s = db.User.select(db.User.password).alias('s')\n"
    "print([*db.User.select(s.c.password).from_(s).tuples()])",
    "cte": "c = db.User.select(db.User.password).cte('c'); print([*c.select_from(c.c.password).tuples()])",
    "log": "from vserverlib.entities import journal; print(journal.log(database), [*journal.log(database)])",
    "history": "print(db.User.get(1).history(), [r._asdict() for r in db.User.get(1).history()])",
}
PYTHON_OF_SQLITE = {
    "row factory": "import sqlite3; c = database.connection(); c.row_factory = sqlite3.Row\n"
    "print([dict(row) for row in c.execute('SELECT * FROM user')]); c.row_factory = None",
}
REFUSED = {  # in a read-only session of SQLite
    "iterdump": "print('\\n'.join(line for line in database.connection().iterdump() if 'key_salt' not in line))",
    "json_each": "print(database.execute_sql('SELECT value FROM user, json_each(json_array(password))').fetchall())",
    "ATTACH": "database.execute_sql(\"ATTACH '{path}' AS other\"); "
    "print(database.execute_sql('SELECT password FROM other.user').fetchall())",
    "RETURNING": "print(database.execute_sql('UPDATE user SET ip = 1 RETURNING password').fetchall())",
    "copy": "database.execute_sql('CREATE TEMP TABLE mine AS SELECT password AS p FROM user'); "
    "print(database.execute_sql('SELECT p FROM mine').fetchall())",
    "blob": "print(database.connection().blobopen('user', 'password', 1, readonly=True).read())",
    "serialize": "print(database.connection().serialize())",
    "backup": "import sqlite3; c = sqlite3.connect(':memory:'); database.connection().backup(c); "
    "print(c.execute('SELECT password FROM user').fetchall())",
}


MAY_BE_ALLOWED = {"iterdump", "json_each"}
ANEW = (
    'ALTER TABLE "user" RENAME TO earlier',
    'CREATE TABLE "user" (LIKE earlier INCLUDING DEFAULTS)',
    'INSERT INTO "user" SELECT * FROM earlier',
    "DROP TABLE earlier CASCADE",
)


def by_sql(statements: tuple[str, ...]) -> dict[str, str]:
    """Return snippets that print what each statement gives."""
    return {sql: f"print(database.execute_sql({sql!r}).fetchall())" for sql in statements}


def fill(database: Any) -> None:
    """Write two hashes, one that the journal keeps after it was replaced, and views of another program."""
    old, new, key = (bcrypt.hashpw(text, bcrypt.gensalt(4)).decode() for text in (b"old", b"new", b"key"))
    models.Organization(name="IKNL").save()
    models.Collaboration(name="ROTTERDAM").save()
    with database.rule_checks(False):
        user = models.User(username="root", password=old, organization=1)
        user.save()
        user.password = new
        user.save()
        models.Node(name="node", api_key=key, organization=1, collaboration=1).save()
    for statement in VIEWS:
        database.execute_sql(statement)


@pytest.fixture
def kept(database: Any, address: str) -> str:
    """The name of a database with hashes."""
    fill(database)
    database.close()
    return address


def questions(kind: str, way: str) -> dict[str, str]:
    """Return what is asked on a kind of database; the example data has no views."""
    statements = AS_IT_IS + EXPRESSIONS + (() if way == "demo" else OF_VIEWS)
    if kind == "postgres":
        return {**by_sql(statements + OF_POSTGRES), **PYTHON, **MASKED}
    return {**by_sql(statements + CHANGED), **PYTHON, **MASKED, **PYTHON_OF_SQLITE}


def those_with_hashes(answers: Mapping[str, str]) -> list[str]:
    """Return the questions whose answers show a hash."""
    return [name for name, text in answers.items() if HASH.search(text)]


def those_without_answer(answers: Mapping[str, str]) -> list[str]:
    """Return the questions that were not answered but by an error."""
    return [name for name, text in answers.items() if "Error" in text or "ReadOnly" in text or not text.strip()]


def test_what_is_asked_shows_a_hash_in_a_session_that_writes(kept: str, tmp_path: Path, kind: str) -> None:
    asked = questions(kind, "file")
    assert set(asked) - set(those_with_hashes(process.answers(asked, kept, tmp_path))) <= set(MASKED)


@pytest.mark.parametrize("way", process.WAYS)
def test_a_read_only_session_shows_no_hash(kept: str, tmp_path: Path, way: str, kind: str) -> None:
    if (kind, way) == ("postgres", "demo"):
        pytest.skip("the example data is a SQLite file")
    found = process.answers(questions(kind, way), kept, tmp_path, "--read-only", way=way)
    assert those_with_hashes(found) == []
    assert those_without_answer(found) == []


@pytest.mark.sqlite
def test_what_a_read_only_session_refuses_shows_no_hash_either(kept: str, tmp_path: Path) -> None:
    asked = {name: code.replace("{path}", kept) for name, code in REFUSED.items()}
    assert those_with_hashes(process.answers(asked, kept, tmp_path)) == list(asked)
    found = process.answers(asked, kept, tmp_path, "--read-only")
    assert those_with_hashes(found) == []
    assert set(found) - set(those_without_answer(found)) <= MAY_BE_ALLOWED


def test_a_table_that_is_created_anew_is_hidden_in_a_session_that_is_open(url: str) -> None:
    """As a restore does where a dump is of an older release. Without a process: it is about what happens meanwhile."""
    with contextlib.closing(models.connect(url)) as database:
        fill(database)
    with contextlib.closing(models.connect(url, read_only=True)), psycopg.connect(url, autocommit=True) as other:
        assert [*models.User.select(models.User.password).tuples()] == [(None,)]
        for statement in ANEW:
            other.execute(statement)
        assert [*models.User.select(models.User.password).tuples()] == [(None,)]
        assert [user.username for user in models.User.get()] == ["root"]


@pytest.mark.sqlite
def test_a_statement_that_was_prepared_where_hashes_are_shown_hides_them_later(kept: str) -> None:
    with contextlib.closing(models.connect(kept, read_only=True)) as database:
        for _ in range(2):
            assert database.execute_sql(AS_IT_IS[0]).fetchone() == (None,)
            with database.hashes_visible():
                assert HASH.search(str(database.execute_sql(AS_IT_IS[0]).fetchone()))


# The definition


def test_the_definition_names_the_secrets_of_the_models() -> None:
    fields = [field for model in (*models.ENTITIES, models.Member) for field in model._meta.sorted_fields]
    secrets = {(field.model._meta.table_name, field.column_name) for field in fields if isinstance(field, Secret)}
    assert secrets == SECRET_COLUMNS - {JOURNAL} and len(secrets) == 2


def test_a_secret_field_that_is_not_in_the_definition_is_refused() -> None:
    with pytest.raises(RuntimeError, match="token.*not in SECRET_COLUMNS"):

        class Visitor(models.Organization):
            token = Secret()


def test_what_gives_the_bytes_of_other_tables_is_secret_too() -> None:
    assert is_secret("SQLITE_dbpage", "Data") and is_secret("sqlite_stat4", "sample") and is_secret("any", "Password")
    assert (
        not is_secret("organization", "name") and not is_secret(None, None) and not is_secret("sqlite_dbpage", "pgno")
    )
