"""Importing the databases of vantage6 servers: what they hold, what they may hold, and what is none.

`tests/data/v*.sqlite` were written by the releases that they are named after, with the same story in each. What a
server may have left behind is made of them here, by SQL.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers import vantage6_databases

import models as db
import vserver
from vserverlib import Error, hashing, progress_callback
from vserverlib.databases import snapshots, storage
from vserverlib.entities import progress
from vserverlib.transfer import detection, import_report, importer, sources

DATA = Path(__file__).parent / "data"
RELEASES = ("1.2.3", "2.3.5", "3.11.1", "4.15.2")
ALL_RELEASES = (*RELEASES, "5.0.3")
PASSWORD = "Geheim-NK!"
KEY = "00000000-0000-4000-8000-00000000000{}"
HYBRID = (  # what an upgrade from release 3 to 4 adds, and what the server then wrote
    "ALTER TABLE task ADD COLUMN job_id INTEGER",
    "ALTER TABLE task ADD COLUMN init_org_id INTEGER",
    "CREATE TABLE run (id INTEGER PRIMARY KEY, input TEXT, task_id INTEGER, organization_id INTEGER, result TEXT,"
    " assigned_at DATETIME, started_at DATETIME, finished_at DATETIME, status TEXT, log TEXT)",
    "CREATE TABLE taskdatabase (id INTEGER PRIMARY KEY, task_id INTEGER, database VARCHAR, parameters VARCHAR)",
    "INSERT INTO task (id, name, collaboration_id, job_id, init_org_id, run_id, initiator_id, database)"
    " VALUES (50, 'newer', 1, 99, 2, 5, 1, 'older')",
    "INSERT INTO taskdatabase VALUES (1, 50, 'omop', NULL), (2, 50, 'lab', 'x')",
    "INSERT INTO run (id, task_id, organization_id, log) VALUES (1, 50, 1, 'of run 1'), (2, 50, 2, 'of run 2')",
    "INSERT INTO run (id, task_id, organization_id, log) VALUES (90, 50, 2, 'of run 90')",
)
LOOSE_USERS = (  # without the UNIQUE that every release has
    "ALTER TABLE user RENAME TO old",
    "CREATE TABLE user AS SELECT * FROM old",
    "DROP TABLE old",
)
Server = Callable[..., Path]


@pytest.fixture
def server(tmp_path: Path, quick_hashes: None) -> Server:
    """What makes the database of a server in a folder of its own, of a release, with these statements run on it."""

    def make(release: str, *statements: str) -> Path:
        folder = tmp_path / "server"
        folder.mkdir()
        return vantage6_databases.copied(release, folder / "server.sqlite", statements)

    return make


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where an import goes to: nothing is there yet."""
    yield tmp_path / "ours.db"
    if db.database.obj is not None and not db.database.is_closed():
        db.database.close()


def imported(file: Path, target: Path) -> import_report.ImportReport:
    """Import a source, and open what it became."""
    with detection.opened(str(file)) as source:
        outcome = importer.run(source, target)
    db.connect(target)
    return outcome


def run(target: Path, *words: str) -> Result:
    return CliRunner().invoke(vserver.main, ["-d", str(target), "import", *words], prog_name="vserver")


def ask(file: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)) as conn:
        return conn.execute(sql).fetchall()


def stored(sql: str) -> list[Any]:
    found: list[Any] = db.database.execute_sql(sql).fetchall()
    return found


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def in_utc(times: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(time and f"{time}+00:00" for time in times)


def results_table(release: str) -> str:
    return "run" if release.startswith("4") else "result"


# What the releases wrote


@pytest.mark.parametrize("release", RELEASES)
def test_every_row_of_a_release_is_kept_with_its_id_and_its_links(server: Server, target: Path, release: str) -> None:
    file = server(release)
    outcome = imported(file, target)
    results = results_table(release)
    assert {count.table: tuple(count)[1:] for count in outcome.tables} == {
        "organization": (4, 4, 0),
        "collaboration": (3, 3, 0),
        "Member": (5, 5, 0),
        "user": (6, 6, 0),
        "node": (5, 5, 0),
        "task": (12, 12, 0),
        results: (27, 27, 0),
    }
    assert not outcome.left_out and not outcome.links and not outcome.values and not outcome.renumbered
    for columns in (
        "id, name, domain, address1, address2, zipcode, country FROM organization ORDER BY id",
        "id, name, encrypted FROM collaboration ORDER BY id",
        "organization_id, collaboration_id FROM member ORDER BY 1, 2",
        "id, username, password, firstname, lastname, email, organization_id FROM user ORDER BY id",
        "id, name, collaboration_id, organization_id FROM node ORDER BY id",
        "id, name, description, image, collaboration_id, parent_id FROM task ORDER BY id",
    ):
        assert stored(f"SELECT {columns}") == ask(file, f"SELECT {columns}")
    both = "id, input, task_id, organization_id, result, log FROM {} ORDER BY id"
    assert stored(f"SELECT {both.format('result')}") == ask(file, f"SELECT {both.format(results)}")


@pytest.mark.parametrize("release", RELEASES)
def test_the_run_id_the_initiator_and_the_database_of_a_task_are_found_by_either_name(
    server: Server, target: Path, release: str
) -> None:
    file = server(release)
    imported(file, target)
    names = "job_id, init_org_id" if release.startswith("4") else "run_id, initiator_id"
    assert stored("SELECT id, run_id, initiator_id FROM task") == ask(file, f"SELECT id, {names} FROM task ORDER BY id")
    databases = ["omop" if id % 3 == 1 else "default" for id in range(1, 13)]
    assert [task.database for task in db.Task.get()] == databases


@pytest.mark.parametrize("release", RELEASES)
def test_times_are_stored_in_utc(server: Server, target: Path, release: str) -> None:
    file = server(release)
    imported(file, target)
    times = "SELECT assigned_at, started_at, finished_at FROM {} ORDER BY id"
    expected = [in_utc(row) for row in ask(file, times.format(results_table(release)))]
    assert stored(times.format("result")) == expected
    seen = "SELECT last_seen FROM authenticatable WHERE type = 'node' ORDER BY id"
    assert stored("SELECT last_seen FROM node ORDER BY id") == [in_utc(row) for row in ask(file, seen)]
    assert [node.status for node in db.Node.get()] == ["online", "offline", "online", "offline", "online"]


@pytest.mark.parametrize("release", RELEASES)
def test_texts_are_what_they_were(server: Server, target: Path, release: str) -> None:
    imported(server(release), target)
    names = ["Noordzee Kliniek", "Klinikum Süd", "東京病院", "Lab [beta]"]
    assert [each.name for each in db.Organization.get()] == names
    assert (db.Organization.get(2).zipcode, db.Organization.get(2).country) == ("0123", "NO")
    pem = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqsample0\n-----END PUBLIC KEY-----\n"
    assert db.Organization.get(1).public_key == pem and db.Organization.get(4).public_key is None
    assert db.Node.get(9).name == "Hôpital de l'Île at ROTTERDAM" and db.Node.get(9).organization is None
    assert db.Task.get(8).name is None


@pytest.mark.parametrize("release", RELEASES)
def test_tasks_are_complete_where_all_results_of_the_source_have_finished(
    server: Server, target: Path, release: str
) -> None:
    file = server(release)
    imported(file, target)
    has_status = release[0] in "34"
    ended = f"finished_at IS NOT NULL OR {'status' if has_status else 'NULL'} IN {progress.FAILED}"
    query = f"SELECT task_id, MIN(COALESCE({ended}, 0)) FROM {results_table(release)} GROUP BY task_id"
    expected = {task for task, complete in ask(file, query) if complete}
    assert {task.id for task in db.Task.get() if task.complete} == expected and 0 < len(expected) < 12
    if has_status:
        statuses = f"SELECT status FROM {results_table(release)} ORDER BY id"
        assert stored("SELECT status FROM result ORDER BY id") == ask(file, statuses)


def test_a_result_of_a_release_that_kept_no_status_has_the_one_of_its_times(server: Server, target: Path) -> None:
    imported(server("1.2.3"), target)
    assert stored("SELECT DISTINCT status FROM result WHERE finished_at IS NOT NULL") == [("completed",)]
    assert [db.Result.get(id).status for id in (5, 10)] == ["pending", "active"]


@pytest.mark.parametrize("release", RELEASES)
def test_who_could_log_in_still_can(server: Server, target: Path, release: str) -> None:
    imported(server(release), target)
    assert db.User.get_by_username("user31").check_password("Geheim-31!")
    assert db.Node.get_by_api_key(KEY.format(1)).id == 7


def test_plain_secrets_are_hashed_and_no_hash_is_touched(server: Server, target: Path) -> None:
    file = server("1.2.3", "UPDATE user SET password = 'in plain text' WHERE id = 2")
    imported(file, target)
    assert db.User.get(2).check_password("in plain text")
    salt = stored("SELECT value FROM setting WHERE name = 'key_salt'")[0][0]
    assert all(key.startswith(salt) for (key,) in stored("SELECT api_key FROM node"))
    assert b"in plain text" not in target.read_bytes() and KEY.format(1).encode() not in target.read_bytes()


def test_plain_secrets_are_hashed_several_at_once_and_stay_with_their_rows(server: Server, target: Path) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)"
    imported(server("1.2.3", f"INSERT INTO node (id, api_key) {many} SELECT 100 + i, 'key ' || i FROM n"), target)
    assert [node.id for node in db.Node.get() if node.id > 100] == list(range(101, 161))
    assert all(db.Node.get(100 + i).check_key(f"key {i}") for i in range(1, 61))


def test_ctrl_c_while_secrets_are_hashed_leaves_nothing(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plain: str, salt: str | None = None) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(hashing, "make_hash", interrupted)
    with detection.opened(str(server("1.2.3"))) as source, pytest.raises(KeyboardInterrupt):
        importer.run(source, target)
    assert [each.name for each in target.parent.iterdir()] == ["server"]


@pytest.mark.parametrize("release", RELEASES)
def test_roles_become_the_text_of_their_names(server: Server, target: Path, release: str) -> None:
    imported(server(release), target)
    of_tables = ["root", "researcher", "researcher", "researcher, root", None, None]
    expected = of_tables if release != "1.2.3" else ["root", *["researcher, viewer"] * 5]
    assert [user.roles for user in db.User.get()] == expected


def test_new_rows_get_ids_and_run_ids_that_nobody_has(server: Server, target: Path) -> None:
    imported(server("4.15.2"), target)
    task = db.Task(name="next", collaboration=1, initiator=1)
    task.save()
    assert (task.id, task.run_id) == (13, 13)


def test_the_run_id_of_a_task_that_is_deleted_after_the_import_is_not_given_again(server: Server, target: Path) -> None:
    imported(server("4.15.2"), target)
    db.Task.get(12).delete(dependents=True)
    assert db.Task.next_run_id() == 13


# What servers may have left behind


def test_a_hybrid_of_two_releases_is_read_row_by_row(server: Server, target: Path) -> None:
    file = server("3.11.1", *HYBRID)
    outcome = imported(file, target)
    with detection.opened(str(file)) as source:
        assert source.release == 4 and source.remains == ("result", "task.run_id")
    newer = db.Task.get(50)
    assert (newer.run_id, newer.initiator_id, newer.database) == (99, 2, "omop, lab")
    assert (db.Task.get(6).run_id, db.Task.get(1).database) == (4, "omop")
    assert {result.id: result.log for result in newer.results} == {90: "of run 90", 91: "of run 1", 92: "of run 2"}
    assert db.Result.get(1).task_id == 1 and len(db.Result.get()) == 30
    assert list(outcome.renumbered) == [
        "run 1 is result 91 here: there is a result 1 too",
        "run 2 is result 92 here: there is a result 2 too",
    ]
    assert outcome.lost["taskdatabase.parameters"] == 1


COPIED = (  # by hand, from result to run: as the server left them, and one that was another since
    "INSERT INTO run (id, input, task_id, organization_id, result, assigned_at, started_at, finished_at, status, log)"
    " SELECT id, input, task_id, organization_id, result, assigned_at, started_at, finished_at, status, 'in the run'"
    " FROM result WHERE id BETWEEN 10 AND 13",
    "UPDATE run SET finished_at = '2026-04-01 10:00:00' WHERE id = 13",
)


def test_a_result_that_was_copied_into_run_by_hand_is_kept_once(server: Server, target: Path) -> None:
    outcome = imported(server("3.11.1", *HYBRID, *COPIED), target)
    expected = "result {0} is run {0}: somebody copied it, and it is kept once"
    assert list(outcome.doubled) == [expected.format(id) for id in (10, 11, 12)] and not outcome.left_out
    assert len(db.Result.get()) == 27 + 3 + 1 and db.Result.get(10).log == "in the run"
    assert [line for line in outcome.renumbered if "run 13" in line] == [
        "run 13 is result 93 here: there is a result 13 too"
    ]
    assert next(tuple(count) for count in outcome.tables if count.table == "result") == ("result", 27, 24, 3)


def test_the_roles_of_a_hybrid_are_the_newest_that_there_are(server: Server, target: Path) -> None:
    file = server(
        "2.3.5",
        "ALTER TABLE user ADD COLUMN roles VARCHAR",
        "UPDATE user SET roles = 'viewer, researcher'",
        'INSERT INTO "Permission" VALUES (2, 1)',
    )
    imported(file, target)
    assert db.User.get(1).roles == "root" and db.User.get(6).roles == "viewer, researcher"


def test_a_membership_is_kept_once_and_one_without_a_side_is_left_out(server: Server, target: Path) -> None:
    file = server("4.15.2", 'INSERT INTO "Member" VALUES (1, 1), (1, 1), (99, 1), (NULL, 2)')
    outcome = imported(file, target)
    assert next(tuple(count) for count in outcome.tables if count.table == "Member") == ("Member", 9, 5, 4)
    assert Counter(line.rpartition(": ")[2] for line in outcome.left_out) == {
        "it exists already": 2,
        "there is no organization 99": 1,
        "it has no organization": 1,
    }
    assert db.Collaboration.get(1).get_organization_ids() == [1, 2]


def test_links_that_lead_nowhere_are_emptied_and_counted(server: Server, target: Path) -> None:
    file = server(
        "3.11.1",
        "UPDATE result SET task_id = 77 WHERE id IN (1, 2)",
        "UPDATE task SET parent_id = 77, initiator_id = 78 WHERE id = 3",
        "DELETE FROM collaboration WHERE id = 2",
        "DELETE FROM \"Member\" WHERE collaboration_id = 2",
    )  # fmt: skip
    outcome = imported(file, target)
    assert outcome.links == {
        "node.collaboration_id": 2,
        "task.collaboration_id": 6,
        "task.parent_id": 1,
        "task.initiator_id": 1,
        "result.task_id": 2,
    }
    assert db.Result.get(1).task is None and db.Task.get(3).parent is None and len(db.Result.get()) == 27
    assert stored("PRAGMA foreign_key_check") == []


def test_a_parent_may_be_younger_than_its_child(server: Server, target: Path) -> None:
    imported(server("4.15.2", "UPDATE task SET parent_id = 12 WHERE id = 1"), target)
    assert db.Task.get(1).parent.id == 12


def test_names_may_be_missing(server: Server, target: Path) -> None:
    tables = ("organization", "collaboration", "node", "task")
    outcome = imported(server("1.2.3", *(f"UPDATE {table} SET name = NULL" for table in tables)), target)
    assert not outcome.left_out and {each.name for each in db.Organization.get()} == {None}
    assert stored("SELECT COUNT(*) FROM collaboration WHERE name IS NULL") == [(3,)]


def test_odd_values_are_kept_as_far_as_they_go_and_counted(server: Server, target: Path) -> None:
    file = server(
        "4.15.2",
        "UPDATE organization SET zipcode = x'ff41', _public_key = x'' WHERE id = 1",
        "UPDATE organization SET _public_key = 'not a key', domain = 'a' || char(0) || 'b' WHERE id = 2",
        "UPDATE run SET finished_at = 'yesterday', log = x'6c6f67' WHERE id = 1",
        "UPDATE run SET assigned_at = '2026-03-01T09:00:00+02:00' WHERE id = 2",
        "UPDATE task SET job_id = 'seven', init_org_id = 'IKNL' WHERE id = 1",
        "UPDATE user SET password = printf('%080d', 0) WHERE id = 1",
        "UPDATE user SET password = '' WHERE id = 2",
        "UPDATE collaboration SET name = CAST(x'c328' AS TEXT) WHERE id = 1",
    )
    outcome = imported(file, target)
    assert outcome.values == {
        "organization.zipcode, characters that cannot be stored became \ufffd": 1,
        "organization.domain, characters that cannot be stored became \ufffd": 1,
        "collaboration.name, characters that cannot be stored became \ufffd": 1,
        "run.finished_at, not a time, kept as it is": 1,
        "run.log, converted to text": 1,
        "task.run_id, not a whole number, it is empty now": 1,
        "task.initiator_id, not a whole number, it is empty now": 1,
        "user.password, it cannot be hashed, it is empty now": 1,
    }
    first = db.Organization.get(1)
    assert first.zipcode == "\ufffdA" and first.public_key is None
    assert db.Organization.get(2).public_key == "not a key" and db.Organization.get(2).domain == "a\ufffdb"
    assert db.Result.get(1).complete and db.Result.get(1).log == "log"
    assert db.Result.get(2).assigned_at.hour == 7
    assert db.Task.get(1).run_id is None and db.User.get(1).password is None and db.User.get(2).password is None


def test_a_user_whose_name_is_taken_is_left_out_and_reported(server: Server, target: Path) -> None:
    taken = "INSERT INTO user (id, username, email) VALUES (20, 'user10', 'other'), (21, 'new', 'user10@org1.example')"
    ids = "INSERT INTO user (id, username) VALUES (1, 'again'), (NULL, 'nobody'), (22, 'kept')"
    outcome = imported(server("4.15.2", *LOOSE_USERS, taken, ids), target)
    assert sorted(outcome.left_out) == [
        "user 1 is left out: another user has its id",
        'user 20 is left out: its username "user10" is taken',
        'user 21 is left out: its email "user10@org1.example" is taken',
        "user without an id is left out: it has no id",
    ]
    assert [user.id for user in db.User.get()] == [1, 2, 3, 4, 5, 6, 22]


def test_the_first_rows_that_are_left_out_are_reported_and_all_are_counted(server: Server, target: Path) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)"
    file = server("4.15.2", *LOOSE_USERS, f"INSERT INTO user (id, username) {many} SELECT 100 + i, 'same' FROM n")
    done = run(target, str(file))
    assert done.exit_code == 0
    assert done.stderr.count('"same" is taken') == sources.FIRST_LINES and "and 2,479 more left out" in done.stderr
    assert ["user", "2,506", "7", "2,499"] in [line.split() for line in done.stdout.splitlines()]


def test_what_has_no_place_is_counted_and_named(server: Server, target: Path) -> None:
    file = server(
        "4.15.2",
        "INSERT INTO study (id, name) VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO rule (id, name) VALUES (1, 'r')",
        "UPDATE run SET blob_storage_used = 1 WHERE id < 4",
        "CREATE TABLE \"od\x1bd\" (x)",
        "INSERT INTO \"od\x1bd\" VALUES (1)",
    )  # fmt: skip
    done = run(target, str(file), "-o", "json")
    rows = {row["table"]: row for row in json.loads(done.stdout)["tables"]}
    assert rows["study"] == {"table": "study", "read": 2, "kept": 0, "left_out": 2} and rows["rule"]["left_out"] == 1
    assert "od\\x1bd (1), rule (1), study (2)" in done.stderr
    assert "task.init_user_id (12)" in done.stderr and "run.blob_storage_used (3)" in done.stderr
    assert "\x1b" not in done.output


# What is not touched


@pytest.mark.parametrize("release", ALL_RELEASES)
def test_the_source_is_not_touched(server: Server, target: Path, release: str) -> None:
    file = server(release)
    before, at = digests(file.parent), file.stat().st_mtime_ns
    imported(file, target)
    assert digests(file.parent) == before and file.stat().st_mtime_ns == at


def test_what_is_in_the_log_of_a_source_is_read_and_the_log_is_not_touched(server: Server, target: Path) -> None:
    file = server("4.15.2", "PRAGMA journal_mode = WAL")
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("INSERT INTO organization (id, name) VALUES (9, 'in the log')")
        conn.commit()
        before = digests(file.parent)
        assert set(before) == {"server.sqlite", "server.sqlite-wal", "server.sqlite-shm"}
        imported(file, target)
        assert digests(file.parent) == before
    assert db.Organization.get(9).name == "in the log"


def test_a_source_in_wal_mode_without_a_log_gets_none(server: Server, target: Path) -> None:
    file = server("4.15.2", "PRAGMA journal_mode = WAL")
    imported(file, target)
    assert [each.name for each in file.parent.iterdir()] == ["server.sqlite"]


def test_a_change_that_was_cut_short_is_not_read_and_its_journal_is_not_touched(server: Server, target: Path) -> None:
    file = server("4.15.2")
    killed = target.parent / "killed"
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("PRAGMA cache_size = 1")  # so that pages are written before the end
        conn.execute("UPDATE run SET log = printf('%09000d', 0)")
        shutil.copytree(file.parent, killed)
    before = digests(killed)
    assert set(before) == {"server.sqlite", "server.sqlite-journal"}
    imported(killed / "server.sqlite", target)
    assert digests(killed) == before and db.Result.get(1).log == "log line\n"


def test_ctrl_c_leaves_nothing_half_imported(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_callback, "TICK", 0)  # report the first row at once

    def interrupted(done: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with detection.opened(str(server("4.15.2"))) as source, pytest.raises(KeyboardInterrupt):
        importer.run(source, target, interrupted)
    assert [each.name for each in target.parent.iterdir()] == ["server"]


def test_a_dry_run_reports_the_same_and_writes_nothing(server: Server, target: Path, path: Path) -> None:
    file = server("1.2.3", 'INSERT INTO "Member" VALUES (1, 1)')
    dry = run(target, str(file), "--dry-run", "-o", "json")
    assert dry.exit_code == 0 and not target.exists() and "nothing was imported" in dry.stderr
    before = path.read_bytes()
    assert run(path, str(file), "--dry-run").exit_code == 0 and path.read_bytes() == before
    expected = json.loads(dry.stdout) | {"created": True}
    assert json.loads(run(target, str(file), "-o", "json").stdout) == expected and expected["breaches"]


def test_a_database_that_has_entities_is_refused_as_it_is(server: Server, story: Any, path: Path) -> None:
    db.database.close()
    file = server("4.15.2")
    before = ask(path, "SELECT * FROM organization")
    for options in ((), ("--dry-run",)):
        done = run(path, str(file), *options)
        assert done.exit_code == 1 and "vserver.db has entities already" in done.stderr
    assert ask(path, "SELECT * FROM organization") == before and ask(path, "SELECT COUNT(*) FROM node") == [(1,)]


def test_an_empty_database_that_is_there_is_filled_by_one_change(server: Server, path: Path) -> None:
    outcome = imported(server("4.15.2"), path)
    assert not outcome.created
    assert stored("SELECT about FROM change") == [("imported server.sqlite, of a vantage6 server of release 4",)]
    assert stored("SELECT COUNT(*) FROM record") == [(0,)]
    db.database.close()


# What cannot be imported


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def garbled(file: Path) -> None:
    """Overwrite the page that the results begin at."""
    ((page,),) = ask(file, "SELECT rootpage FROM sqlite_master WHERE name = 'run'")
    ((size,),) = ask(file, "PRAGMA page_size")
    with open(file, "r+b") as opened:
        opened.seek((page - 1) * size)
        opened.write(b"\xff" * size)


@pytest.mark.parametrize(("spoil", "message"), [(cut_off, "is cut off"), (garbled, "is damaged.*nothing was imported")])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_damaged_source_leaves_nothing_half_imported(
    server: Server, target: Path, spoil: Callable[[Path], None], message: str, is_there: bool
) -> None:
    file = server("4.15.2")
    spoil(file)
    if is_there:
        storage.create(target)
    with pytest.raises(Error, match=message):
        imported(file, target)
    assert target.exists() is is_there and (is_there or not list(target.parent.glob("ours*")))
    if is_there:
        db.connect(target)
        assert not db.is_filled() and stored("SELECT COUNT(*) FROM change") == [(0,)]


def test_a_source_that_is_written_to_meanwhile_is_imported_as_it_was(server: Server, target: Path) -> None:
    file = server("4.15.2")
    with detection.opened(str(file)) as source:
        with closing(sqlite3.connect(file)) as conn:
            conn.execute("DELETE FROM run")
            conn.commit()
        importer.run(source, target)
    db.connect(target)
    assert db.Result.get().count() == 27


def test_a_locked_source_is_reported(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "TIMEOUT", 0.1)
    file = server("4.15.2")
    hold = f"import sqlite3; c = sqlite3.connect({str(file)!r}); c.execute('BEGIN EXCLUSIVE'); print('held'); input()"
    with subprocess.Popen(
        [sys.executable, "-uc", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        done = run(target, str(file))
        holder.communicate("\n")
    assert done.exit_code == 1 and "is locked by a program that" in done.stderr and not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG", "is not a SQLite database"),
    ],
)
def test_a_file_that_is_not_a_database_is_one_line(tmp_path: Path, target: Path, content: bytes, message: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    done = run(target, str(file))
    assert done.exit_code == 1 and message in done.stderr and done.stderr.count("\n") == 1 and not target.exists()


def test_other_sources_are_reported_in_a_line(tmp_path: Path, target: Path) -> None:
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as conn:
        conn.execute("CREATE TABLE place (id)")
    for source, expected in (
        (str(other), "of another program than a vantage6 server"),
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "nowhere"), "there is no file"),
        ("postgresql://me:secret@/db?host=/nowhere", "me@/db?host=/nowhere cannot be reached"),
    ):
        done = run(target, source)
        assert done.exit_code == 1 and expected in done.stderr and done.stderr.count("\n") == 1, source
        assert "secret" not in done.stderr and not target.exists()


@pytest.mark.parametrize("release", ALL_RELEASES)
def test_what_a_source_is_is_said(server: Server, target: Path, release: str) -> None:
    done = run(target, str(server(release)))
    assert f"is the database of a vantage6 server, release {release[0]}\n" in done.stderr
    assert "imported into the new" in done.stderr and "release" not in done.stdout


def test_no_row_of_a_table_that_is_read_with_others_is_dropped_in_silence(server: Server, target: Path) -> None:
    file = server(
        "4.15.2",
        "INSERT INTO role (id, name) VALUES (7, NULL), (8, 'nobody')",
        'INSERT INTO "Permission" (role_id, user_id) VALUES (1, 77), (99, 1), (7, 1), (NULL, 1)',
        "INSERT INTO taskdatabase (task_id, database) VALUES (4444, 'x'), (1, NULL)",
        "INSERT INTO authenticatable (id, ip) VALUES (500, '10.0.0.1')",
    )
    outcome = imported(file, target)
    assert sorted(outcome.left_out) == [
        "Permission of user 1 in role 7 is left out: that role has no name",
        "Permission of user 1 in role 99 is left out: there is no such role",
        "Permission of user 1 in role none is left out: there is no such role",
        "Permission of user 77 in role 1 is left out: there is no such user",
        "authenticatable 500 is left out: there is no such user or node",
        "taskdatabase of task 1 is left out: it names no database",
        "taskdatabase of task 4444 is left out: there is no such task",
    ]
    counts = {count.table: count for count in outcome.tables}
    assert [
        (counts[table].read - counts[table].kept, counts[table].left_out) for table in ("Permission", "taskdatabase")
    ] == [
        (4, 4),
        (2, 2),
    ]
    assert outcome.unmapped_tables["role"] == 1
    done = run(target.with_name("strict.db"), str(file), "--strict")
    assert done.exit_code == 1 and "taskdatabase of task 4444 is left out" in done.stderr
    assert "7 rows cannot be kept" in done.stderr


def test_a_full_text_table_of_another_program_is_left_out_without_its_storage(server: Server, target: Path) -> None:
    file = server(
        "4.15.2", "CREATE VIRTUAL TABLE note USING fts5(text)", "CREATE TABLE memo (x)", "INSERT INTO memo VALUES (1)"
    )
    unmapped = imported(file, target).unmapped_tables
    assert unmapped["memo"] == 1 and not any(name.startswith("note") for name in unmapped)


def test_permissions_without_any_role_are_reported(server: Server, target: Path) -> None:
    file = server("4.15.2", "DROP TABLE role")
    outcome = imported(file, target)
    assert len(outcome.left_out) == 5 and all("there is no such role" in line for line in outcome.left_out)


def test_a_new_database_in_the_place_of_a_servers_is_refused_without_telling_to_remove_that(server: Server) -> None:
    file = server("4.15.2")
    done = CliRunner().invoke(vserver.main, ["-d", str(file), "init"], prog_name="vserver")
    assert done.exit_code == 1 and "is the database of a vantage6 server, not of vserver" in done.stderr
    assert "remove" not in done.stderr


def test_the_highest_possible_id_is_reported_at_the_import_and_at_the_next_save(server: Server, target: Path) -> None:
    done = run(target, str(server("4.15.2", f"UPDATE task SET id = {2**63 - 1} WHERE id = 12")))
    assert "task.id, the highest possible number, so no row can be added: 1" in done.stderr
    db.connect(target)
    with pytest.raises(Error, match="no id is left for a new task") as refused:
        db.Task(name="next", image="i", collaboration=1, initiator=1).save()
    assert "disk space" not in str(refused.value)


def test_a_membership_that_lacks_a_side_is_named_by_what_it_has(server: Server, target: Path) -> None:
    outcome = imported(server("4.15.2", 'INSERT INTO "Member" VALUES (NULL, 1), (1, NULL)'), target)
    assert [line.partition(" is left out")[0] for line in outcome.left_out] == [
        "Member of no organization in collaboration 1",
        "Member of organization 1 in no collaboration",
    ]


def test_a_run_that_was_cleaned_up_has_finished(server: Server, target: Path) -> None:
    cleaned = "finished_at = NULL, started_at = '2026-03-01 08:00:00', cleanup_at = '2026-03-01 09:00:00'"
    outcome = imported(server("4.15.2", f"UPDATE run SET status = 'completed', {cleaned} WHERE id = 1"), target)
    result = db.Result.get(1)
    assert (result.state, str(result.finished_at)) == ("completed", "2026-03-01 09:00:00+00:00")
    assert outcome.values == {"run.finished_at, it had none and got its cleanup_at": 1}
    assert outcome.lost["run.cleanup_at"] == 1
