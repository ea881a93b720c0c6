"""Applying plans to a server's database on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from helpers import vantage6_servers
from helpers.vantage6_servers import Server

import models
from vserverlib import Error, api
from vserverlib.plans import reverting, sqlite_server
from vserverlib.plans.plan import ChangedMeanwhile, Conflict, Refused
from vserverlib.plans.working_copy import WorkingCopy

PASSWORD = "Some-thing-7"  # no secret
KEY = "a2c3d4e5-1111-4222-8333-444455556666"
NOBODY = 65534
ROOT = os.name == "posix" and os.geteuid() == 0


PLACES = ["3.11.1 sqlite", "4.15.2 sqlite", "4.15.2 postgres"]
in_files = pytest.mark.parametrize("place", PLACES[:2], indirect=True)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    """A supported release, on SQLite or PostgreSQL."""
    return str(request.param)


@pytest.fixture
def release(place: str) -> str:
    """The release."""
    return place.split()[0]


@pytest.fixture
def is_file(place: str) -> bool:
    """Whether the database is an SQLite file."""
    return place.endswith("sqlite")


@pytest.fixture
def theirs(
    release: str, is_file: bool, tmp_path: Path, quick_hashes: None, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """The database of a server: a file, or on PostgreSQL."""
    if is_file:
        yield vantage6_servers.of_release(release, tmp_path)
        return
    with vantage6_servers.on_postgres(request.getfixturevalue("server"), release) as made:
        yield made


@pytest.fixture
def results(release: str) -> str:
    """The table of results in the release."""
    return "run" if release.startswith("4") else "result"


def changed(name: str = "Another") -> models.Organization:
    """Change the name of an organization."""
    organization = models.Organization.get(1)
    organization.name = name
    organization.save()
    return organization


# What an administrator comes for


def test_a_new_password_unlocks_the_user(copy: WorkingCopy, theirs: Server) -> None:
    theirs.run("""UPDATE "user" SET failed_login_attempts = 6, last_login_attempt = '2026-11-28 10:00:00.000000'""")
    user = models.User.get(2)
    user.password = PASSWORD
    user.save()
    copy.apply(backup=False)
    columns = "password, failed_login_attempts, last_login_attempt"
    stored, attempts, last = theirs.run(f'SELECT {columns} FROM "user" WHERE id = 2')[0]
    assert bcrypt.checkpw(PASSWORD.encode(), stored.encode()) and (attempts, last) == (0, None)
    assert theirs.value('SELECT failed_login_attempts FROM "user" WHERE id = 1') == 6


def test_a_user_is_unlocked_and_two_factor_is_reset(copy: WorkingCopy, theirs: Server) -> None:
    theirs.run("UPDATE \"user\" SET failed_login_attempts = 6, otp_secret = 'ABC'")
    models.User.get(1).unlock()
    models.User.get(2).unlock(two_factor=True)
    lines = str(copy.plan())
    assert '~ user 1 "user00"' in lines and "lock-out" in lines and "two-factor" in lines
    copy.apply(backup=False)
    rows = theirs.run('SELECT failed_login_attempts, otp_secret FROM "user" WHERE id IN (1, 2, 3) ORDER BY id')
    assert rows == [(0, "ABC"), (0, None), (6, "ABC")] and not copy.plan()


def test_a_new_api_key_is_stored_as_its_hash(copy: WorkingCopy, theirs: Server) -> None:
    node = models.Node.get(7)
    node.api_key = KEY
    node.save()
    copy.apply(backup=False)
    assert bcrypt.checkpw(KEY.encode(), theirs.value("SELECT api_key FROM node WHERE id = 7").encode())


def test_roles_are_granted_and_revoked_by_name(copy: WorkingCopy, theirs: Server) -> None:
    one, other = models.User.get(1), models.User.get(2)
    one.roles, other.roles = "researcher", "root"
    one.save()
    other.save()
    copy.apply(backup=False)
    held = """SELECT p.user_id, r.name FROM "Permission" p JOIN role r ON r.id = p.role_id WHERE p.user_id < 3"""
    assert sorted(theirs.run(held)) == [(1, "researcher"), (2, "root")]


def test_a_new_hospital_has_ids_and_rows_like_those_of_the_server(
    copy: WorkingCopy, theirs: Server, is_file: bool
) -> None:
    hospital = models.Organization(name="Nieuwe Kliniek", country="NL", public_key="-----BEGIN x")
    hospital.save()
    kyoto = models.Collaboration.get_by_name("KYOTO")
    kyoto.organizations = [*kyoto.organizations, hospital]
    kyoto.save()
    models.Collaboration(name="OSLO", encrypted=True, organizations=[hospital]).save()
    node = models.Node(name="node", organization=hospital, collaboration=kyoto, api_key=KEY)
    node.save()
    user = models.User(username="nieuw", password=PASSWORD, roles="root", organization=hospital)
    user.save()
    copy.apply(backup=False)
    place = theirs.value("SELECT id FROM organization WHERE name = 'Nieuwe Kliniek'")
    ids = {entity: copy.session.ids.theirs(entity, row.id) for entity, row in (("user", user), ("node", node))}
    assert sorted(theirs.run("SELECT id, type, status FROM authenticatable ORDER BY id DESC LIMIT 2")) == [
        (ids["user"], "user", None),
        (ids["node"], "node", "offline"),
    ]
    assert theirs.run(f'SELECT organization_id, failed_login_attempts FROM "user" WHERE id = {ids["user"]}') == [
        (place, 0)
    ]
    assert theirs.value(f'SELECT COUNT(*) FROM "Member" WHERE organization_id = {place}') == 2
    assert bytes(theirs.value(f"SELECT _public_key FROM organization WHERE id = {place}")) == b"-----BEGIN x"
    if is_file:
        assert theirs.odd_values() == []
    else:  # the server's next rows get other ids
        theirs.run("INSERT INTO organization (name) VALUES ('next')")
        theirs.run("INSERT INTO authenticatable (type) VALUES ('user')")


def test_a_hanging_run_is_marked_as_killed(copy: WorkingCopy, theirs: Server, results: str, is_file: bool) -> None:
    result = models.Result.get(5)
    result.finished_at, result.status = "2026-11-28 10:00", "killed by user"
    result.save()
    plan = copy.plan()
    copy.apply(plan, backup=False)
    text = "CAST(finished_at AS VARCHAR)"
    finished = theirs.run(f"SELECT status, {text} FROM {results} WHERE id = 5")
    moment = "2026-11-28 10:00:00" + (".000000" if is_file else "")
    assert finished == [("killed by user", moment)]
    assert any("nodes are not notified" in note for note in plan.notes)


def test_a_run_that_starts_again_has_no_end_on_the_server(copy: WorkingCopy, theirs: Server, results: str) -> None:
    if results == "run":
        theirs.run("UPDATE run SET cleanup_at = finished_at WHERE id = 1")
    result = models.Result.get(1)
    result.started_at = result.finished_at = None
    result.save()
    copy.apply(backup=False)
    ends = "finished_at, cleanup_at" if results == "run" else "finished_at, started_at"
    assert theirs.run(f"SELECT status, {ends} FROM {results} WHERE id = 1") == [("pending", None, None)]


def test_the_databases_of_a_task_are_changed_by_name(copy: WorkingCopy, theirs: Server, results: str) -> None:
    task = models.Task.get(1)
    task.database = "omop, more"
    task.save()
    copy.apply(backup=False)
    if results == "result":
        assert theirs.value('SELECT "database" FROM task WHERE id = 1') == "omop, more"
    else:
        assert theirs.run('SELECT id, "database" FROM taskdatabase WHERE task_id = 1 ORDER BY id') == [
            (1, "omop"),
            (13, "more"),
        ]


DELETED: dict[str, tuple[Callable[[], Any], str]] = {
    "organization": (lambda: models.Organization.get(5), "organization"),
    "collaboration": (lambda: models.Collaboration.get_by_name("KYOTO"), "collaboration"),
    "user": (lambda: models.User.get(2), "user"),
    "node": (lambda: models.Node.get(7), "node"),
    "task": (lambda: models.Task.get(3), "task"),
}


@pytest.mark.parametrize("what", DELETED)
def test_a_row_is_deleted_with_its_dependents(
    what: str, theirs: Server, results: str, is_file: bool, tmp_path: Path
) -> None:
    theirs.run(f"INSERT INTO algorithmport (id, port, {results}_id) SELECT id, 80, id FROM {results}")
    theirs.run("INSERT INTO nodeconfig (id, node_id) SELECT id, id FROM node")
    copy = vantage6_servers.opened(theirs)
    before, dangling = theirs.tables(), theirs.dangling() if is_file else 0
    row = DELETED[what][0]()
    row.delete(dependents=True)
    copy.apply(backup=False)
    expected = vantage6_servers.rows_here(copy)
    assert vantage6_servers.rows_there(theirs, tmp_path) == expected
    after = theirs.tables()
    assert theirs.value(f'SELECT COUNT(*) FROM "{DELETED[what][1]}" WHERE id = {row.id}') == 0
    assert {id for id, *_ in after["nodeconfig"]} == {id for id, *_ in after["node"]}
    assert len(after["algorithmport"]) == len(after[results])
    assert len(after["authenticatable"]) == len(after["user"]) + len(after["node"])
    assert (after["rule"] == before["rule"] and not is_file) or theirs.dangling() <= dangling
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == before


def test_studies_and_stores_are_deleted_with_their_collaboration(tmp_path: Path) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    theirs.run("INSERT INTO study (id, name, collaboration_id) VALUES (1, 'north', 2)")
    theirs.run('INSERT INTO "StudyMember" VALUES (1, 1)')
    theirs.run("INSERT INTO algorithmstore (id, name, collaboration_id) VALUES (1, 'own', 2)")
    theirs.run("UPDATE task SET study_id = 1, algorithm_store_id = 1 WHERE id = 1")  # of another collaboration
    copy, before = vantage6_servers.opened(theirs), theirs.tables()
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    plan = copy.plan()
    assert plan.theirs["study"] == 1 and dict(plan.changes[0].emptied) == {
        "task.study_id": 1,
        "task.algorithm_store_id": 1,
    }
    copy.apply(backup=False)
    after = theirs.tables()
    assert after["study"] == after["StudyMember"] == after["algorithmstore"] == []
    assert theirs.run("SELECT study_id, algorithm_store_id FROM task WHERE id = 1") == [(None, None)]
    copy.close()
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == before


# All or nothing, once


def test_tables_outside_of_the_plan_stay_as_they_are(copy: WorkingCopy, theirs: Server) -> None:
    before = theirs.tables()
    changed()
    copy.apply(backup=False)
    after = theirs.tables()
    assert {name for name in before if before[name] != after[name]} == {"organization"}
    assert before.keys() == after.keys()


@in_files
def test_the_schema_stays_as_it_is(copy: WorkingCopy, theirs: Server) -> None:
    before = theirs.run("SELECT type, name, sql FROM sqlite_master")
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    models.Organization(name="new").save()
    copy.apply(backup=False)
    assert theirs.run("SELECT type, name, sql FROM sqlite_master") == before


def test_two_at_once_both_apply_or_one_is_a_conflict(copy: WorkingCopy, theirs: Server) -> None:
    changed("first")
    first = copy.plan()
    theirs.run("UPDATE organization SET country = 'XX' WHERE id = 2")  # another administrator, another row
    copy.apply(first, backup=False)
    changed("second")
    theirs.run("UPDATE organization SET name = 'third' WHERE id = 1")
    with pytest.raises(Refused, match='name is "third" on the server now, and was "first"'):
        copy.apply(backup=False)
    assert theirs.run("SELECT name FROM organization WHERE id = 1") == [("third",)]


def test_a_membership_without_organization_is_deleted_with_its_collaboration(theirs: Server, is_file: bool) -> None:
    if not is_file:
        theirs.run('ALTER TABLE "Member" DROP CONSTRAINT "Member_organization_id_fkey"')
    theirs.run('INSERT INTO "Member" VALUES (99, 2)')
    copy = vantage6_servers.opened(theirs)
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    copy.apply(backup=False)
    copy.close()
    assert theirs.value('SELECT COUNT(*) FROM "Member" WHERE collaboration_id = 2') == 0


@in_files
def test_a_file_in_wal_mode_is_changed_and_stays_in_it(theirs: Server) -> None:
    theirs.run("PRAGMA journal_mode = WAL")
    with theirs.open() as server:  # keeps it open, as a server does
        server.execute("SELECT 1 FROM organization").fetchall()
        copy = vantage6_servers.opened(theirs)
        changed()
        assert copy.apply().backup is not None
        copy.close()
        assert server.execute("SELECT name FROM organization WHERE id = 1").fetchone() == ("Another",)
    assert theirs.value("PRAGMA journal_mode") == "wal"


def test_applying_twice_creates_no_row_twice(copy: WorkingCopy, theirs: Server) -> None:
    hospital = models.Organization(name="new")
    hospital.save()
    copy.apply(backup=False)
    with pytest.raises(Error, match="nothing to apply"):
        copy.apply(backup=False)
    hospital.country = "NL"
    hospital.save()
    models.User(username="of new", organization=hospital).save()
    copy.apply(backup=False)
    rows = theirs.run("SELECT id, country FROM organization WHERE name = 'new'")
    assert [country for _, country in rows] == ["NL"]
    assert theirs.value("SELECT organization_id FROM \"user\" WHERE username = 'of new'") == rows[0][0]
    hospital.delete(dependents=True)
    copy.apply(backup=False)
    assert theirs.value("SELECT COUNT(*) FROM organization WHERE name = 'new'") == 0


def test_an_id_in_the_copy_may_be_another_row_on_the_server(copy: WorkingCopy, theirs: Server) -> None:
    hospital = models.Organization(name="ours")
    hospital.save()
    theirs.run(f"INSERT INTO organization (id, name) VALUES ({hospital.id}, 'theirs')")
    if not isinstance(theirs.target, Path):
        theirs.run(f"SELECT setval('organization_id_seq', {hospital.id})")
    copy.apply(backup=False)
    hospital.country = "NL"
    hospital.save()
    copy.apply(backup=False)
    names = "SELECT name, country FROM organization WHERE name IN ('ours', 'theirs') ORDER BY name"
    assert theirs.run(names) == [("ours", "NL"), ("theirs", None)]


def test_a_row_that_was_changed_on_the_server_is_a_conflict_with_both_values(copy: WorkingCopy, theirs: Server) -> None:
    changed()
    models.User.get(2).delete()
    theirs.run("UPDATE organization SET domain = 'else.example' WHERE id = 1")
    theirs.run("UPDATE \"user\" SET email = 'else@x.example' WHERE id = 2")
    before = theirs.tables()
    with pytest.raises(Refused) as caught:
        copy.apply(backup=False)
    said = str(caught.value)
    assert (
        'organization 1 "Noordzee Kliniek": domain is "else.example" on the server now, and was "org0.example"' in said
    )
    assert 'user 2 "user10": email is "else@x.example" on the server now, and was "user10@org1.example"' in said
    assert len(caught.value.reasons) == 2 and theirs.tables() == before


def test_columns_that_the_server_updates_are_no_conflict(copy: WorkingCopy, theirs: Server) -> None:
    node = models.Node.get(7)
    node.name = "renamed"
    node.save()
    theirs.run("UPDATE authenticatable SET status = 'online', ip = '10.0.0.1' WHERE id = 7")
    copy.apply(backup=False)
    assert theirs.run("SELECT name, status FROM node JOIN authenticatable USING (id) WHERE id = 7") == [
        ("renamed", "online")
    ]


def test_a_row_that_was_deleted_on_the_server_is_a_conflict(copy: WorkingCopy, theirs: Server) -> None:
    theirs.run('DELETE FROM "Permission" WHERE user_id = 2')
    theirs.run('DELETE FROM "user" WHERE id = 2')
    user = models.User.get(2)
    user.firstname = "Else"
    user.save()
    with pytest.raises(
        Refused, match="user 2 .* no longer exists on the server; nothing was written: to start from a new copy"
    ):
        copy.apply(backup=False)


def test_a_row_that_was_added_to_a_deleted_row_is_a_conflict(copy: WorkingCopy, theirs: Server, results: str) -> None:
    models.Task.get(3).delete(dependents=True)
    theirs.run(f"INSERT INTO {results} (id, task_id, organization_id) VALUES (900, 3, 1)")
    with pytest.raises(
        Refused,
        match=r"task 3 .*: (run|result) 900 was added to it meanwhile; nothing was written: to start from a new copy",
    ):
        copy.apply(backup=False)


def test_a_plan_that_differs_from_the_confirmed_one_is_refused(copy: WorkingCopy, theirs: Server) -> None:
    models.User.get(2).delete()
    seen = copy.plan()
    theirs.run("INSERT INTO rule (id, name) VALUES (1, 'run')")
    theirs.run('INSERT INTO "UserPermission" VALUES (1, 2)')
    with pytest.raises(ChangedMeanwhile, match="review the new plan"):
        copy.apply(seen, backup=False)
    assert theirs.value('SELECT COUNT(*) FROM "user" WHERE id = 2') == 1
    copy.apply(copy.plan(), backup=False)


def test_a_duplicate_membership_is_deleted_completely(copy: WorkingCopy, theirs: Server) -> None:
    theirs.run('INSERT INTO "Member" VALUES (1, 1)')
    rotterdam = models.Collaboration.get(1)
    rotterdam.organizations = [each for each in rotterdam.organizations if each.id != 1]
    rotterdam.save()
    copy.apply(backup=False)
    assert theirs.value('SELECT COUNT(*) FROM "Member" WHERE organization_id = 1 AND collaboration_id = 1') == 0


# Backup and record


@in_files
def test_the_backup_and_the_record_are_private(copy: WorkingCopy, theirs: Server) -> None:
    before = theirs.tables()
    changed()
    applied = copy.apply()
    assert applied.backup is not None and Server(applied.backup).tables() == before
    for path in (applied.backup, applied.record):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(applied.record.parent.stat().st_mode) == 0o700
    rows = [json.loads(line) for line in applied.record.read_text().splitlines()[1:]]
    assert rows == [["update", "organization", 1, {"name": "Noordzee Kliniek"}, {"name": "Another"}]]


def test_a_backup_on_postgresql_is_a_dump(request: pytest.FixtureRequest, programs: Path) -> None:
    with vantage6_servers.on_postgres(request.getfixturevalue("server"), "4.15.2") as there:
        copy = vantage6_servers.opened(there)
        changed()
        applied = copy.apply()
        assert applied.backup is not None and applied.backup.read_bytes()[:5] == b"PGDMP"
        copy.close()


def test_without_pg_dump_nothing_is_applied_but_without_a_backup(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vantage6_servers.on_postgres(request.getfixturevalue("server"), "4.15.2") as there:
        copy = vantage6_servers.opened(there)
        changed()
        monkeypatch.setenv("PATH", "")
        with pytest.raises(Error, match="pg_dump is not on PATH.*nothing was written; --no-backup before"):
            copy.apply()
        assert there.value("SELECT name FROM organization WHERE id = 1") == "Noordzee Kliniek"
        assert copy.apply(backup=False).backup is None
        copy.close()


@in_files
def test_the_last_five_backups_are_kept_and_every_record(copy: WorkingCopy) -> None:
    for number in range(7):
        changed(f"name {number}")
        folder = copy.apply().record.parent
    assert sorted(path.name for path in folder.glob("*.db")) == [f"000{number}.db" for number in range(3, 8)]
    assert len(list(folder.glob("*.json"))) == 7


# Who may, and when


@in_files
def test_a_lock_of_another_program_is_waited_for_and_then_reported(
    copy: WorkingCopy, theirs: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_server, "LOCK_WAIT", 0.1)
    changed()
    before = Path(theirs.target).read_bytes()
    with contextlib.closing(sqlite3.connect(theirs.target, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Error, match=r"is locked by another program.*nothing was changed"):
            copy.apply(backup=False)
    assert Path(theirs.target).read_bytes() == before and not reverting.log(theirs.target)


@in_files
@pytest.mark.skipif(not ROOT, reason="another user's file needs root")
def test_another_users_file_is_refused_and_a_read_only_one(theirs: Server) -> None:
    place = Path(theirs.target)
    place.chmod(0o666)
    assert "belongs to another user" in as_nobody(place)
    os.chown(place, NOBODY, NOBODY)
    place.chmod(0o444)
    assert "is read-only" in as_nobody(place)


@in_files
def test_a_file_without_permission_to_write_is_refused_to_root_too(theirs: Server) -> None:
    copy = vantage6_servers.opened(theirs)
    changed()
    Path(theirs.target).chmod(0o444)
    with pytest.raises(Error, match="is read-only: nothing was changed; make it writable"):
        copy.apply(backup=False)
    Path(theirs.target).chmod(0o600)
    copy.close()


def test_two_conflicts_have_one_remedy(copy: WorkingCopy, theirs: Server) -> None:
    changed()
    models.User.get(2).delete()
    theirs.run("UPDATE organization SET domain = 'else.example' WHERE id = 1")
    theirs.run("UPDATE \"user\" SET email = 'else@x.example' WHERE id = 2")
    with pytest.raises(Conflict) as caught:
        copy.plan()
    said = str(caught.value)
    assert len(caught.value.reasons) == 2 and said.count("new copy") == said.count("nothing was written") == 1


def as_nobody(place: Path) -> str:
    """Return the error of another user who writes to a file."""
    for folder in place.parents[:4]:
        folder.chmod(folder.stat().st_mode | 0o011)
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        os.setuid(NOBODY)
        try:
            sqlite_server.refuse_unwritable(place, place)
        except Error as error:
            os.write(into, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(into)
    with open(out, "rb") as file:
        return file.read().decode()


def test_the_api_opens_plans_and_applies(theirs: Server) -> None:
    database: Any = api.connect(str(theirs.target), write=True)
    changed()
    assert database.mode == "plan" and database.apply(database.plan(), backup=False).number == 1
    database.close()
    assert theirs.value("SELECT name FROM organization WHERE id = 1") == "Another"


@in_files
def test_a_transaction_that_is_open_is_refused(copy: WorkingCopy) -> None:
    with pytest.raises(Error, match="open transaction: commit"), copy.atomic():
        copy.plan()
