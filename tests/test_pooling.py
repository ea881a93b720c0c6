"""Behind PgBouncer, which gives each transaction any session of the server's: nothing is left in it for its next user.

Another client writes through the same pool, which has one session, before, during and after each command.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from helpers import pooler, postgres, vantage6_databases
from helpers.process import answers, vserver
from helpers.typed import run

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(pooler.program() is None, reason="PgBouncer is not installed (apt install pgbouncer)"),
]


ROLLED_BACK = """
with database.atomic() as transaction:
    db.Organization(name='x').save()
    transaction.rollback()
print(len(db.Organization.get()))
"""


@pytest.fixture(scope="module")
def pool(server: postgres.Server) -> Iterator[pooler.Pooler]:
    """A pooler that hands a session on after each transaction."""
    with pooler.running(server.url) as started:
        yield started


@pytest.fixture
def pooled(server: postgres.Server, pool: pooler.Pooler, quick_hashes: None) -> Iterator[str]:
    """The URL of a database without any tables, by way of the pooler."""
    with server.bare() as bare:
        yield pool.url(bare)


@pytest.fixture
def witness(pooled: str) -> Iterator[pooler.Witness]:
    """Another client of the pool, which is at work."""
    with pooler.Witness(pooled) as started:
        yield started


def test_commands_on_a_database_of_ours_leave_nothing_behind(
    pooled: str, witness: pooler.Witness, example: Path, tmp_path: Path
) -> None:
    (tmp_path / "add.yaml").write_text("organizations:\n  - name: Oslo\n    country: Norway\n")
    assert run(pooled, "init").exit_code == 0
    assert run(pooled, "import", str(example)).exit_code == 0
    for words in (
        ["list", "tasks", "--all", "-o", "json"],
        ["list", "tasks", "--search", "é"],
        ["show", "task/1"],
        ["overview"],
        ["check"],
        ["log", "-o", "json"],
        ["export", str(tmp_path / "out.jsonl"), "--format", "json"],
        ["upgrade"],
        ["delete", "result/1", "--yes"],
        ["undo", "--yes"],
        ["import", str(tmp_path / "add.yaml"), "--merge", "--dry-run"],
        ["import", str(tmp_path / "add.yaml"), "--merge", "--yes"],
        ["wait", "task/1", "--timeout", "1"],
        ["apikey", "node/1"],
        ["passwd", "anna.devries", "--stdin"],
        ["log", "--prune", "9999d", "--yes"],
        ["backup", str(tmp_path / "kept.json")],
    ):
        written, done = witness.written, run(pooled, *words, input="A long passw0rd!\n")
        assert done.exit_code in (0, 1) and "Error" not in done.output, (words, done.output)
        witness.write()
        assert not witness.found and witness.written > written, words
    assert run(None, "copy", pooled, str(tmp_path / "copy.db")).exit_code == 0
    assert not witness.found


def test_a_made_up_consortium_leaves_nothing_behind(pooled: str, witness: pooler.Witness) -> None:
    assert run(pooled, "init").exit_code == 0
    done = run(pooled, "demo", "--tasks", "20", "--organizations", "3")
    assert done.exit_code == 0, done.output
    witness.write()
    assert not witness.found


def test_a_session_of_the_shell_leaves_nothing_behind(pooled: str, witness: pooler.Witness, tmp_path: Path) -> None:
    assert vserver("-d", pooled, "init").status == 0
    snippets = {
        "save": "db.Organization(name='IKNL').save(); print(len(db.Organization.get()))",
        "many": "for n in range(8): list(db.Organization.get())\nprint(len(db.Organization.get()))",
        "stream": "rows = db.Organization.get().iterator(); db.Organization(name='Oslo').save(); print(next(rows))",
        "rolled": ROLLED_BACK,
    }
    output = answers(snippets, pooled, tmp_path)
    assert output["save"] == "1\n" and output["many"] == "1\n" and "IKNL" in output["stream"], output
    assert output["rolled"] == "2\n", output
    looked = {
        "list": "print(len(db.Organization.get()))",
        "mode": "print(*database.execute_sql('SHOW transaction_read_only'))",
    }
    assert answers(looked, pooled, tmp_path, "--read-only") == {"list": "2\n", "mode": "('on',)\n"}
    assert not witness.found


def test_viewing_a_vantage6_server_leaves_nothing_behind(pooled: str, witness: pooler.Witness, tmp_path: Path) -> None:
    vantage6_databases.fill(pooled, vantage6_databases.copied("4.15.2", tmp_path / "server.sqlite"))
    for words in (
        ["list", "tasks"],
        ["overview"],
        ["show", "task/1"],
        ["check"],
        ["shell", "-c", "print(len(db.Task.get()))"],
    ):
        written, done = witness.written, vserver("-d", pooled, *words)
        assert "Error" not in done.err and "Traceback" not in done.err, (words, done)
        assert not witness.found and witness.written > written, words
    assert vserver("-d", tmp_path / "ours.db", "import", pooled).status == 0
    assert not witness.found


def test_what_pg_dump_is_needed_for_is_refused_in_a_line_and_says_the_way(
    pooled: str, witness: pooler.Witness, programs: Path, tmp_path: Path
) -> None:
    assert run(pooled, "init").exit_code == 0
    done = run(pooled, "backup", str(tmp_path / "b.json"))
    assert done.exit_code == 0 and "needs its own session on the server" in done.stderr and "JSON" in done.stderr
    for words in (["import", str(tmp_path / "b.json"), "--replace", "--yes"],):
        done = run(pooled, *words)
        assert done.exit_code == 1 and "name the server itself in the URL" in done.stderr, done.output
        assert done.stderr.count("\n") == 2
    assert not witness.found


def test_an_older_database_is_upgraded_behind_a_pooler_without_a_backup(
    older_url: str, pool: pooler.Pooler, programs: Path
) -> None:
    pooled = pool.url(older_url)
    done = run(pooled, "upgrade")
    assert done.exit_code == 1 and "name the server itself" in done.stderr and "--no-backup" in done.stderr
    assert run(pooled, "upgrade", "--no-backup").exit_code == 0
    assert run(pooled, "list", "tasks").exit_code == 0


def test_options_of_a_url_hold_behind_a_pooler_that_refuses_them(pooled: str, witness: pooler.Witness) -> None:
    with psycopg.connect(pooled, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA ours")
    there = f"{pooled}?options=-csearch_path%3Dours"
    assert run(there, "init").exit_code == 0 and run(there, "list", "tasks").exit_code == 0
    assert "has no tables of vserver" in run(pooled, "list", "tasks").stderr
    assert not witness.found
    refused = run(f"{pooled}?options=-E", "list", "tasks").stderr
    assert "a pooler refuses this option" in refused and refused.count("\n") == 1
