"""A read-only session on a PostgreSQL server: the server holds it, whatever SQL is run, and however it is spelled.

As real processes. After each attack the rows are looked at by another connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from helpers.process import answers

from vserverlib.databases.postgresql import sessions

HASH = "$2b$04$abcdefghijklmnopqrstuuP1dRLzWmNMh3wBv9gZLRz5pXzqVU5lO"
TAKE = "WITH d AS (DELETE FROM organization RETURNING *) SELECT count(*) FROM d"
MADE = f"""
INSERT INTO organization (name) VALUES ('IKNL'), ('Oslo');
INSERT INTO "user" (username, password) VALUES ('root', '{HASH}');
CREATE FUNCTION take() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('transaction_read_only', 'off', true); DELETE FROM organization; RETURN 1; END $$;
CREATE PROCEDURE take_all() LANGUAGE plpgsql AS $$ BEGIN COMMIT; DELETE FROM organization; COMMIT; END $$;
CREATE VIEW look AS SELECT id, password AS word FROM "user";
CREATE VIEW look_again AS SELECT word AS other FROM look;
"""
LINES = {  # each line is run by itself
    "of the issue": [
        r"""SELECT U&"set\005Fconfig"(U&'default\005Ftransaction\005Fread\005Fonly', 'off', false)""",
        TAKE,
    ],
    "settings": [
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET TRANSACTION READ WRITE",
        "BEGIN READ WRITE",
        "START TRANSACTION READ WRITE",
        TAKE,
    ],
    "several in one": [
        f"COMMIT; {TAKE}",
        f"SELECT 1; {TAKE}",
        "ROLLBACK; DELETE FROM organization",
        f"; COMMIT; {TAKE}",
    ],
    "comments": ["/* /* SELECT */ SELECT */ DELETE FROM organization", "-- x\rDELETE FROM organization\n--\nSELECT 1"],
    "functions": ["SELECT take()", "CALL take_all()", "DO $$ BEGIN DELETE FROM organization; END $$"],
    "others": [
        f"EXPLAIN ANALYZE {TAKE}",
        "SELECT 1 INTO noted",
        "SELECT * FROM organization FOR UPDATE",
        "PREPARE x AS DELETE FROM organization",
        "EXECUTE x",
        "DECLARE c CURSOR WITH HOLD FOR SELECT take()",
        "SELECT nextval('organization_id_seq')",
        "SELECT setval('organization_id_seq', 99)",
        "TRUNCATE organization",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY organization (name) FROM PROGRAM 'echo x'",
        "LISTEN x",
        "VACUUM",
        "ALTER SYSTEM SET work_mem = 64",
    ],
}
CHAINED = ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SET TRANSACTION READ WRITE", *LINES["settings"], "COMMIT"]
RUN = "try:\n    print(list({by}({sql!r})))\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
CURSORS = """
conn = database.connection()
def copied():
    with database.cursor().copy("COPY organization (name) FROM STDIN") as copy:
        copy.write_row(["x"])
def transaction():
    with conn.transaction():
        conn.execute("DELETE FROM organization")
for attack in (
    lambda: database.cursor().execute("DELETE FROM organization"),
    lambda: database.cursor().executemany("DELETE FROM organization WHERE id = %s", [(1,), (2,)]),
    lambda: list(database.cursor().stream("DELETE FROM organization RETURNING 1")),
    lambda: conn.cursor("name", withhold=True).execute("SELECT take()"),
    lambda: conn.execute("BEGIN READ WRITE"),
    copied,
    transaction,
):
    try:
        print(attack())
    except Exception as error:
        print(type(error).__name__, error)
"""


def run_by(by: str, lines: list[str]) -> str:
    """Return a program that runs each line by itself, and prints what came of it."""
    return "".join(RUN.format(by=by, sql=sql) for sql in lines)


@pytest.fixture
def held(url: str) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """The URL of a database with rows that an attack is after, and another connection to it."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(MADE)  # type: ignore[call-overload]  # texts of ours
        yield url, conn


def test_no_sql_writes(held: tuple[str, psycopg.Connection[Any]], tmp_path: Path) -> None:
    url, conn = held
    before = conn.execute("SELECT count(*), (SELECT count(*) FROM change) FROM organization").fetchone()
    attacks = {name: run_by("database.execute_sql", lines) for name, lines in LINES.items()}
    attacks |= {f"raw {name}": run_by("database.connection().execute", lines) for name, lines in LINES.items()}
    within = "".join(f"    {line}\n" for line in run_by("database.execute_sql", CHAINED).splitlines())
    attacks["within a transaction"] = f"with database.atomic():\n{within}"
    attacks["cursors"] = CURSORS
    output = answers({**attacks, "still": "print(len(db.Organization.get()))"}, url, tmp_path, "--read-only")
    assert output["still"] == "2\n"
    assert conn.execute("SELECT count(*), (SELECT count(*) FROM change) FROM organization").fetchone() == before
    assert "is open read-only" in output["of the issue"] and "open it without --read-only" in output["settings"]
    assert output["several in one"].count("cannot insert multiple commands") >= 1


def test_the_server_says_that_it_is_read_only_and_nothing_of_it_lasts(
    held: tuple[str, psycopg.Connection[Any]], tmp_path: Path
) -> None:
    url, _ = held
    asked = {
        "alone": "print(*database.execute_sql('SHOW transaction_read_only'))",
        "within": "with database.atomic():\n    print(*database.execute_sql('SHOW transaction_read_only'))",
        "gone": "database.execute_sql(\"SELECT set_config('work_mem', '1MB', false)\")\n"
        "print(*database.execute_sql(\"SELECT current_setting('work_mem') <> '1MB'\"))",
        "lines": "print(*database.execute_sql('-- a comment\\nSELECT 1'), *database.execute_sql('(VALUES (2))'))",
    }
    output = answers(asked, url, tmp_path, "--read-only")
    assert output == {"alone": "('on',)\n", "within": "('on',)\n", "gone": "(True,)\n", "lines": "(1,) (2,)\n"}


@pytest.mark.parametrize("way", ["script"])
def test_hashes_are_not_shown_where_a_query_gives_their_column(
    held: tuple[str, psycopg.Connection[Any]], tmp_path: Path, way: str
) -> None:
    url, conn = held
    conn.execute("CREATE SCHEMA own")
    queries = (
        'SELECT password FROM "user"',
        'SELECT * FROM public."user"',
        'SELECT x.password AS y FROM (SELECT * FROM "user") x',
        'WITH q AS (SELECT password p FROM "user") SELECT p FROM q',
        'SELECT u.password FROM "user" u JOIN organization o ON true',
        "SELECT word FROM look",
        "SELECT * FROM look_again",
        "SELECT secrets FROM record",
    )
    asked = {sql: f"print(list(database.execute_sql({sql!r})))" for sql in queries}
    asked["dicts"] = "print(list(User.select().dicts()), list(User.select(User.password).tuples()))"
    asked["data"] = "print(User.get()[0].__data__, [each.__data__ for each in User.select().iterator()])"
    asked["rows"] = "print(list(database.rows(User.select())))"
    for searched in ("", "&options=-csearch_path%3Down,public"):  # the tables need not be where new ones would be
        for name, output in answers(asked, f"{url}{searched}", tmp_path, "--read-only", way=way).items():
            assert HASH not in output and "None" in output, name
    made = 'CREATE TABLE kept AS TABLE "user"; ALTER TABLE "user" RENAME TO gone; ALTER TABLE kept RENAME TO "user"'
    anew = f"import psycopg\npsycopg.connect({url!r}, autocommit=True).execute({made!r})\n"
    first = "print(list(database.execute_sql('SELECT password FROM \"user\"')))\n"
    assert HASH not in answers({"anew": first + anew + first}, url, tmp_path, "--read-only", way=way)["anew"]


def test_a_mistake_in_sql_is_a_syntax_error_and_not_a_refused_write(
    held: tuple[str, psycopg.Connection[Any]], tmp_path: Path
) -> None:
    asked = {sql: f"db.database.execute_sql({sql!r})" for sql in ("SELEC 1", "; SELEC 1", "", "1 + 1", "VACUUM")}
    found = answers(asked, held[0], tmp_path, "--read-only")
    assert found["SELEC 1"] == 'ProgrammingError: syntax error at or near "SELEC"\n'
    assert [name for name, text in found.items() if "--read-only" in text] == ["VACUUM"]


def test_every_command_of_the_server_is_known(held: tuple[str, psycopg.Connection[Any]]) -> None:
    """A word begins a statement if the server complains of the word that follows it."""
    conn, commands = psycopg.connect(held[0], autocommit=True), set[str]()
    for (word,) in conn.execute("SELECT upper(word) FROM pg_get_keywords()").fetchall():
        try:
            conn.execute(f"{word} missing")
        except psycopg.Error as error:
            said = (error.diag.message_primary or "").upper()
            commands |= set() if f'AT OR NEAR "{word}"' in said else {word}
    conn.close()
    assert len(commands) > 40 and commands <= sessions.COMMANDS | {*sessions.READING}
