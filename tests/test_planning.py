"""Plans of each release: their text, changes that cancel out, and changes that are refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers import vantage6_databases, vantage6_servers
from helpers.vantage6_servers import Server

import models
from vserverlib import Error, UsageError, api
from vserverlib.plans.plan import Plan, Refused
from vserverlib.plans.working_copy import WorkingCopy

RELEASES = ["3.11.1", "4.15.2"]
PASSWORD = "Some-thing-7"  # no secret


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """A release whose database can be changed."""
    return str(request.param)


@pytest.fixture
def theirs(release: str, tmp_path: Path, quick_hashes: None) -> Server:
    """The database of a server, in a file."""
    return vantage6_servers.of_release(release, tmp_path)


def tidied(plan: Plan) -> list[str]:
    """Return the lines of a plan between its title and its last line, which have times and paths."""
    return [" ".join(line.split()) for line in str(plan).splitlines()[2:-1] if line.strip()]


def new_hospital() -> models.Organization:
    """Make an organization with a user and a node in a collaboration."""
    hospital = models.Organization(name="Nieuwe Kliniek", country="NL")
    hospital.save()
    kyoto = models.Collaboration.get_by_name("KYOTO")
    kyoto.organizations = [*kyoto.organizations, hospital]
    kyoto.save()
    key = "a2c3d4e5-1111-4222-8333-444455556666"
    models.Node(name="Nieuwe Kliniek at KYOTO", organization=hospital, collaboration=kyoto, api_key=key).save()
    values = {"firstname": "A", "lastname": "B", "email": "a@b.example"}
    models.User(username="nieuw", password=PASSWORD, roles="root", organization=hospital, **values).save()
    return hospital


GOLDEN = {
    "3.11.1": [
        '~ user 2 "user10"',
        "password replaced; unlocks the user",
        "roles researcher → researcher, root",
        "~ result 5 of task 2",
        "finished \u2013 → 2026-11-28 10:00:00Z",
        "status pending → killed by user",
        '+ organization 6 "Nieuwe Kliniek"',
        "country NL",
        '+ user 12 "nieuw"',
        "id 12 (7 here)",
        "password set",
        "firstname A",
        "lastname B",
        "email a@b.example",
        'organization "Nieuwe Kliniek" (new)',
        "roles root",
        '+ membership of "Nieuwe Kliniek" in "KYOTO"',
        '+ node 13 "Nieuwe Kliniek at KYOTO"',
        "id 13 (12 here)",
        "API key set",
        'collaboration "KYOTO" (2)',
        'organization "Nieuwe Kliniek" (new)',
        '- task 3 "task 2"',
        "with 1 task, 6 results",
        "1 organization, 1 user, 1 membership, 1 node new; 1 user, 1 result changed; 2 tasks, 6 results deleted",
        "note: nodes are not notified: 1 result marked as finished may still execute on a node; "
        "kill it with the server's API",
        "note: nodes notice new and deleted memberships when they reconnect",
    ],
}
GOLDEN["4.15.2"] = [line.replace(" result ", " run ").replace("results", "runs") for line in GOLDEN["3.11.1"]]
at = GOLDEN["4.15.2"].index("with 1 task, 6 runs")
GOLDEN["4.15.2"][at + 1] += " (and server-only rows: 2 taskdatabase)"
GOLDEN["4.15.2"].insert(at + 1, "server-only 2 taskdatabase")


def test_a_plan_has_a_line_for_each_row_and_field_in_the_terms_of_the_release(copy: WorkingCopy, release: str) -> None:
    user, result = models.User.get(2), models.Result.get(5)
    user.password, user.roles = PASSWORD, "researcher, root"
    user.save()
    new_hospital()
    result.finished_at, result.status = "2026-11-28 10:00", "killed by user"
    result.save()
    models.Task.get(3).delete(dependents=True)
    assert tidied(copy.plan()) == GOLDEN[release]


def test_a_plan_is_data_without_a_hash(copy: WorkingCopy) -> None:
    user = models.User.get(2)
    user.password = PASSWORD
    user.save()
    new_hospital()
    found = copy.plan().as_json()
    assert found["counts"]["changed"] == {"user": 1} and found["counts"]["new"]["node"] == 1
    assert "$2" not in str(found) and PASSWORD not in str(copy.plan())


def test_what_is_undone_in_the_end_is_no_change(copy: WorkingCopy) -> None:
    hospital = new_hospital()
    hospital.delete(dependents=True)
    kliniek = models.Organization.get(1)
    before, kliniek.name = kliniek.name, "Another"
    kliniek.save()
    kliniek.name = before
    kliniek.save()
    models.Task.get(3).delete(dependents=True)
    api.undo()
    assert not copy.plan() and "No changes" in str(copy.plan())


def test_a_plan_writes_nothing(copy: WorkingCopy, theirs: Server) -> None:
    before = Path(theirs.target).read_bytes()
    new_hospital()
    models.Task.get(3).delete(dependents=True)
    copy.plan()
    assert Path(theirs.target).read_bytes() == before


def test_over_twenty_rows_of_a_kind_are_the_first_and_how_many(copy: WorkingCopy) -> None:
    for number in range(25):
        models.Organization(name=f"hospital {number}").save()
    lines = tidied(copy.plan())
    assert '+ organization 25 "hospital 19"' in lines
    assert "+ and 5 more organizations; --dry-run -o json lists all" in lines and "25 organizations new" in lines[-1]


def notes(copy: WorkingCopy) -> str:
    return " ".join(copy.plan().notes)


def test_notes_only_say_what_applies(copy: WorkingCopy, theirs: Server) -> None:
    models.Task.get(3).delete(dependents=True)  # whose results have finished
    assert notes(copy) == ""
    models.Result.get(5).delete()
    assert "continues on its node" in notes(copy)
    models.Node.get(8).delete()
    assert "memberships" not in notes(copy)
    models.User.get(3).delete()
    assert "deleted users stay logged in" in notes(copy)


# What is refused


def rename_root() -> None:
    root = models.User.get_by_username("root")
    root.username = "boss"
    root.save()


def fail_without_an_end() -> None:
    result = models.Result.get(5)
    result.status = "failed"
    result.save()


def give_role(name: str) -> None:
    user = models.User.get(2)
    user.roles = name
    user.save()


def new_task() -> None:
    models.Task(name="new", collaboration=models.Collaboration.get(1), initiator=models.Organization.get(1)).save()


def raw(sql: str) -> None:
    models.database.execute_sql(sql)


REFUSED: dict[str, tuple[list[str], Callable[[], Any], list[str]]] = {  # what is there, what is done, what is said
    "the user root is renamed": (
        ["UPDATE user SET username = 'root' WHERE id = 1"],
        rename_root,
        ['user 1 "root"', "does not start", "change its password"],
    ),
    "the user root is deleted": (
        ["UPDATE user SET username = 'root' WHERE id = 1"],
        lambda: models.User.get(1).delete(),
        ['user 1 "root"', "known password"],
    ),
    "a failed result has no end": ([], fail_without_an_end, ["5 of task 2", "set finished_at"]),
    "a task is new": ([], new_task, ['"new" is new', "create it with the server's API"]),
    "a result is new": (
        [],
        lambda: models.Result(task=models.Task.get(1), organization=models.Organization.get(1)).save(),
        ["is new", "server's API"],
    ),
    "a role is not there": ([], lambda: give_role("rooot"), ["user 2", '"rooot"', '"root"']),
    "there are no roles": (
        ['DELETE FROM "Permission"', "DELETE FROM role_rule_association", "DELETE FROM role"],
        lambda: give_role("root"),
        ["user 2", '"root"', "it has no roles"],
    ),
    "a role is there twice": (
        ["INSERT INTO role (name) VALUES ('root')"],
        lambda: give_role("root"),
        ["several roles", '"root"'],
    ),
    "a role is the server's own": (
        ["INSERT INTO role (name) VALUES ('container')"],
        lambda: give_role("container"),
        ['"container"', "reserved", "choose another"],
    ),
    "a role has a comma": (
        [
            "INSERT INTO role (id, name) VALUES (90, 'a, b')",
            'INSERT INTO "Permission" (role_id, user_id) VALUES (90, 2)',
        ],
        lambda: give_role("root"),
        ['"a, b"', "comma"],
    ),
    "a role is another organization's": (
        ["INSERT INTO role (name, organization_id) VALUES ('steward', 1)"],
        lambda: give_role("steward"),
        ["user 2", '"steward"', "belongs to organization 1", "choose a role"],
    ),
    "a user root is made": (
        [],
        lambda: models.User(username="root").save(),
        ['"root"', "server creates this user itself", "choose another name"],
    ),
    "users of others have a role of an organization": (
        ['INSERT INTO "Permission" (role_id, user_id) VALUES (1, 2)'],
        lambda: models.Organization.get(1).delete(dependents=True),
        ['"researcher"', "remove the role"],
    ),
    "a table that is not known refers to a row": (
        [
            "CREATE TABLE audit (id INTEGER PRIMARY KEY, task INTEGER REFERENCES task (id))",
            "INSERT INTO audit (task) VALUES (3), (3)",
        ],
        lambda: models.Task.get(3).delete(dependents=True),
        ["2 rows", 'unknown table "audit"', "task 3", "delete those rows"],
    ),
    "a number is too large": (
        [],
        lambda: raw("UPDATE task SET run_id = 3000000000 WHERE id = 1"),
        ["task 1", "run_id", "3000000000", "2147483647"],
    ),
    "a text has a NUL": ([], lambda: raw("UPDATE task SET name = 'a' || char(0) WHERE id = 1"), ["task 1", "NUL"]),
    "a text is broken": (
        [],
        lambda: raw("UPDATE task SET name = CAST(x'ff' AS TEXT) WHERE id = 1"),
        ["task 1", "name"],
    ),
    "a time is not valid": (
        [],
        lambda: raw("UPDATE result SET started_at = 'soon' WHERE id = 1"),
        ['"soon"', "not a valid time"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_change_that_would_break_the_server_is_refused(case: str, theirs: Server) -> None:
    statements, change, said = REFUSED[case]
    for sql in statements:
        theirs.run(sql)
    before = theirs.tables()
    copy = vantage6_servers.opened(theirs)
    with pytest.raises(Refused) as caught:
        change()
        copy.plan()
    assert [part for part in said if part not in str(caught.value)] == []
    with pytest.raises(Error):
        copy.apply(backup=False)
    assert theirs.tables() == before
    copy.close()


def test_bulk_work_is_refused(copy: WorkingCopy) -> None:
    from vserverlib.databases import recording

    with recording.bulk_change(copy, "imported x"):
        copy.execute_sql("UPDATE task SET name = 'x'")
    with pytest.raises(Refused, match="imported x"):
        copy.plan()


def test_a_forgotten_journal_is_refused(copy: WorkingCopy) -> None:
    from vserverlib.entities import journal

    new_hospital()
    journal.prune(copy, "0s")
    with pytest.raises(Refused, match="pruned"):
        copy.plan()


TAKEN = {
    "organization": ("4.15.2", "INSERT INTO organization (id, name) VALUES (90, 'Nieuwe Kliniek')", "organization 90"),
    "user": ("4.15.2", "INSERT INTO user (id, username) VALUES (90, 'nieuw')", "user 90"),
    "email": ("3.11.1", "INSERT INTO user (id, email) VALUES (90, 'a@b.example')", "user 90"),
    "node": ("4.15.2", "INSERT INTO node (id, name) VALUES (90, 'Nieuwe Kliniek at KYOTO')", "node 90"),
}


@pytest.mark.parametrize("what", TAKEN)
def test_a_name_that_is_taken_on_the_server_is_refused(what: str, tmp_path: Path, quick_hashes: None) -> None:
    release, sql, holder = TAKEN[what]
    theirs = vantage6_servers.of_release(release, tmp_path)
    copy = vantage6_servers.opened(theirs)
    new_hospital()
    theirs.run(sql)
    with pytest.raises(Refused, match=f"taken by {holder} .*choose another"):
        copy.plan()
    copy.close()


def test_two_rows_that_get_one_name_are_refused(tmp_path: Path) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    copy = vantage6_servers.opened(theirs)
    for _ in range(2):
        models.Organization(name="twice").save()
    with pytest.raises(Refused, match="twice"):
        copy.plan()
    copy.close()


def test_names_that_are_swapped_are_not_taken(copy: WorkingCopy, theirs: Server) -> None:
    one, other = models.User.get(1), models.User.get(2)
    one.username, other.username = "x", one.username
    one.save()
    other.save()
    one.username = "user10"
    one.save()
    copy.apply(backup=False)
    assert theirs.run("SELECT username FROM user WHERE id IN (1, 2) ORDER BY id") == [("user10",), ("user00",)]


# Releases that are only looked at


@pytest.mark.parametrize("release", ["1.2.3", "2.3.5"])
def test_old_releases_are_only_looked_at(release: str, tmp_path: Path) -> None:
    theirs = vantage6_servers.of_release(release, tmp_path)
    with pytest.raises(Refused, match=f"release {release[0]}"):
        vantage6_servers.opened(theirs)


def test_a_release_before_3_11_is_refused_by_the_column_that_it_lacks(tmp_path: Path) -> None:
    statements = ["ALTER TABLE task DROP COLUMN created_at"]
    file = vantage6_databases.copied("3.11.1", tmp_path / "old.sqlite", statements)
    with pytest.raises(Refused, match=r"task\.created_at"):
        vantage6_servers.opened(Server(file))


def test_a_database_without_a_table_of_every_server_is_refused(tmp_path: Path) -> None:
    file = vantage6_databases.copied("4.15.2", tmp_path / "less.sqlite", ["DROP TABLE role"])
    with pytest.raises(Refused, match=r"less.sqlite has no table role: .*restore a backup"):
        vantage6_servers.opened(Server(file))


@pytest.mark.parametrize("table", ["role", "Member", "the runs"])
def test_a_table_that_is_dropped_meanwhile_is_named(table: str, theirs: Server, copy: WorkingCopy) -> None:
    table = table.replace("the runs", "run" if "run" in theirs.names() else "result")
    models.Task.get(3).delete(dependents=True)
    theirs.run(f'DROP TABLE "{table}"')
    with pytest.raises(Refused, match=f"no longer has the table {table}"):
        copy.apply()


def test_a_database_with_results_and_runs_is_refused(tmp_path: Path) -> None:
    file = vantage6_databases.copied("4.15.2", tmp_path / "both.sqlite", ["CREATE TABLE result AS SELECT * FROM run"])
    with pytest.raises(Refused, match=r"results .*and runs .*remove the rows"):
        vantage6_servers.opened(Server(file))


def test_a_database_of_ours_needs_no_plan(path: Path) -> None:
    with pytest.raises(Error, match="not a vantage6 server"):
        vantage6_servers.opened(Server(path))


# The working copy


def test_a_working_copy_is_private_and_removed_at_the_end(copy: WorkingCopy, tmp_path: Path) -> None:
    folder = Path(copy.database).parent
    assert folder.stat().st_mode & 0o077 == 0 and Path(copy.database).stat().st_mode & 0o077 == 0
    copy.close()
    assert not folder.exists()


def test_the_copy_of_a_killed_session_is_removed_and_one_in_use_is_not(theirs: Server) -> None:
    copy = vantage6_servers.opened(theirs)
    parent = Path(copy.database).parent.parent
    left = parent / "copy-aaaaaaaa"
    left.mkdir(mode=0o700)
    (left / "lock").touch()
    (left / "copy.db").touch()
    other = vantage6_servers.opened(theirs)  # closes the first
    assert sorted(parent.iterdir()) == [Path(other.database).parent]
    other.close()


def test_closing_without_applying_changes_nothing(theirs: Server) -> None:
    before = Path(theirs.target).read_bytes()
    database = api.connect(str(theirs.target), write=True)
    models.User.get(2).delete(dependents=True)
    assert isinstance(database, WorkingCopy) and database.plan()
    database.close()
    assert Path(theirs.target).read_bytes() == before


def test_a_working_copy_keeps_the_hashes(copy: WorkingCopy, theirs: Server) -> None:
    with closing(sqlite3.connect(theirs.target)) as conn:
        theirs = conn.execute("SELECT id, password FROM user ORDER BY id").fetchall()
    assert copy.execute_sql('SELECT id, password FROM "user" ORDER BY id').fetchall() == theirs


def test_a_server_that_was_upgraded_meanwhile_is_refused(theirs: Server, copy: WorkingCopy, release: str) -> None:
    new_hospital()
    theirs.run("ALTER TABLE authenticatable ADD COLUMN keycloak_id VARCHAR")
    theirs.run("UPDATE authenticatable SET keycloak_id = 'x'")
    theirs.run("ALTER TABLE user DROP COLUMN password")
    with pytest.raises(Refused, match=f"release 5 now, and was one of release {release[0]}; .*start from a new copy"):
        copy.plan()


def test_a_deleted_user_is_not_unlocked(copy: WorkingCopy, theirs: Server) -> None:
    theirs.run("UPDATE user SET failed_login_attempts = 6 WHERE id = 2")
    user = models.User.get(2)
    user.unlock()
    assert "lock-out" in str(copy.plan())
    user.delete()
    assert "lock-out" not in str(copy.plan()) and '- user 2 "user10"' in str(copy.plan())


def test_a_new_user_is_not_unlocked(copy: WorkingCopy) -> None:
    user = models.User(username="new")
    user.save()
    user.unlock()
    with pytest.raises(Refused, match='"new" is new'):
        copy.plan()


def test_when_a_node_or_user_was_seen_can_be_changed(theirs: Server, copy: WorkingCopy) -> None:
    node, user = models.Node.get(7), models.User.get(2)
    node.status, node.last_seen, user.ip = "offline", "2026-11-28 09:00", "10.0.0.9"
    node.save()
    user.save()
    assert {(change.entity, field.name) for change in copy.plan().changes for field in change.fields} == {
        ("node", "status"), ("node", "last_seen"), ("user", "ip")
    }  # fmt: skip
    copy.apply(backup=False)
    assert theirs.value("SELECT status FROM authenticatable WHERE id = 7") == "offline"


def test_a_closed_working_copy_says_so(theirs: Server) -> None:
    copy = vantage6_servers.opened(theirs)
    copy.close()
    for call in copy.plan, copy.apply:
        with pytest.raises(Error, match=r"closed.*connect again"):
            call()


def test_an_undo_before_any_change_names_the_undo_of_applied_plans(copy: WorkingCopy) -> None:
    with pytest.raises(Error, match=r"no more changes to undo.*--write undo"):
        api.undo()


def test_write_and_the_other_ways_to_open_exclude_each_other(theirs: Server) -> None:
    for other in "read_only", "sandbox":
        with pytest.raises(UsageError, match=f"write and {other} exclude each other"):
            api.connect(str(theirs.target), write=True, **{other: True})
