"""Privileges of roles on a server: the SQL of docs/scale.md is run; a missing privilege is reported with its GRANT."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from helpers import postgres
from helpers.typed import run

import models
from vserverlib.databases import connecting

KINDS = ["postgres"]
PAGE = (Path(__file__).parent.parent / "docs" / "scale.md").read_text()
SECRET = "a long password 1"


@contextlib.contextmanager
def role(server: postgres.Server, url: str, name: str, sql: str = "") -> Iterator[str]:
    """Make a role by the lines of docs/scale.md, or others, and give its URL."""
    found = re.search(rf"<!-- {name} -->\n```sql\n(.*?)```", PAGE, re.DOTALL)
    lines = sql or (found[1] if found else "")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(lines)  # type: ignore[call-overload]  # texts of ours
        try:
            yield url.replace("postgres@", f"{name}@")
        finally:
            conn.execute("DROP SCHEMA IF EXISTS look CASCADE")
            conn.execute(f"DROP OWNED BY {name}")  # type: ignore[call-overload]
            conn.execute(f"DROP ROLE {name}")  # type: ignore[call-overload]


@pytest.fixture
def filled(url: str) -> str:
    """A database with an entity of each kind, and secrets."""
    with contextlib.closing(connecting.connect(url)) as database, database.rule_checks(False):
        iknl = models.Organization(name="IKNL")
        iknl.save()
        models.User(username="root", password=SECRET, organization=iknl).save()
        rotterdam = models.Collaboration(name="ROTTERDAM", organizations=[iknl])
        rotterdam.save()
        models.Node(name="IKNL node", organization=iknl, collaboration=rotterdam, api_key="a long api key 1").save()
        task = models.Task(name="average", collaboration=rotterdam, initiator=iknl)
        task.save()
        models.Result(task=task, organization=iknl).save()
    return url


LOOKS = (
    ["overview"],
    ["list", "users", "--wide"],
    ["list", "nodes"],
    ["list", "tasks", "--where", "initiator=IKNL"],
    ["show", "user/1"],
    ["show", "organization/1"],
    ["log"],
    ["check", "--rule", "DBF002"],
    ["shell", "--read-only", "-c", "print(db.User.get()[0].history())"],
)


@pytest.mark.parametrize("name", ["reader", "looker"])
def test_a_role_that_only_looks_can_do_so(name: str, server: postgres.Server, filled: str) -> None:
    with role(server, filled, name) as url:
        for words in LOOKS:
            assert run(url, *words).exit_code == 0, (words, run(url, *words).output)
        output = run(url, "shell", "-c", "db.Organization(name='x').save()").stderr
        assert f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{name}"' in output


def test_one_that_is_to_see_no_hashes_can_get_at_none(server: postgres.Server, filled: str) -> None:
    with role(server, filled, "looker") as url, psycopg.connect(url, autocommit=True) as conn:
        for table, column in (('"user"', "password"), ("node", "api_key"), ("record", "secrets")):
            assert conn.execute(f"SELECT COUNT({column}) FROM {table}").fetchone() == (0,)  # type: ignore[call-overload]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(f"SELECT COUNT({column}) FROM public.{table}")  # type: ignore[call-overload]


def test_a_role_that_reads_copies_and_backs_up_but_not_without_the_sequences(
    server: postgres.Server, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs,) = server.run("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    monkeypatch.setenv("PATH", programs)
    with role(server, filled, "reader") as url:
        assert run(None, "copy", url, str(tmp_path / "copy.db")).exit_code == 0
        assert run(url, "backup", str(tmp_path / "a.dump")).exit_code == 0
    sql = "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"
    with role(server, filled, "reader", sql) as url, server.bare() as bare:
        output = run(None, "copy", url, bare).stderr
        assert 'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO "reader"' in output


def test_a_role_that_writes_can_do_all_but_change_the_tables(
    server: postgres.Server, filled: str, tmp_path: Path
) -> None:
    assert run(filled, "export", str(tmp_path / "all.json"), "--with-hashes").exit_code == 0
    with role(server, filled, "writer") as url:
        assert run(url, "shell", "-c", "db.Organization(name='Oslo', country='Norway').save()").exit_code == 0
        assert run(url, "delete", "task/1", "--dependents", "--yes").exit_code == 0
        assert run(url, "undo", "--yes").exit_code == 0, run(url, "undo").output
        done = run(url, "import", str(tmp_path / "all.json"), "--merge", "--yes")
        assert done.exit_code == 0, done.output


def test_the_error_for_a_missing_privilege_has_the_line_that_grants_it(server: postgres.Server, url: str) -> None:
    with role(server, url, "nobody1", "CREATE ROLE nobody1 LOGIN") as there:
        output = run(there, "list", "tasks").stderr
        assert output.count("\n") == 1
        assert 'have its owner run: GRANT SELECT ON ALL TABLES IN SCHEMA public TO "nobody1"' in output
