"""Changing the database of a release 5 server, where Keycloak manages accounts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import vantage6_databases, vantage6_servers
from helpers.vantage6_servers import Server

import models
from vserverlib.plans import reverting
from vserverlib.plans.plan import Refused
from vserverlib.plans.working_copy import WorkingCopy


@pytest.fixture
def theirs(tmp_path: Path, quick_hashes: None) -> Server:
    """The file of a server of release 5."""
    return vantage6_servers.of_release("5.0.3", tmp_path)


def lines(copy: WorkingCopy) -> list[str]:
    return [" ".join(line.split()) for line in str(copy.plan()).splitlines()[2:-1] if line.strip()]


def test_a_collaboration_is_deleted_with_its_sessions_and_dataframes(copy: WorkingCopy, theirs: Server) -> None:
    before = theirs.tables()
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    own = "1 session, 2 nodeconfig, 2 dataframe, 14 taskdatabase, 2 task_depends_on"
    assert lines(copy) == [
        '- collaboration 2 "KYOTO"',
        "with 2 memberships, 2 nodes, 8 tasks, 16 runs",
        f"server-only {own}",
        f"1 collaboration, 2 memberships, 2 nodes, 8 tasks, 16 runs deleted (and server-only rows: {own})",
        "note: nodes are not notified: a deleted task that is running continues on its node, "
        "and its output is rejected",
        "note: nodes notice new and deleted memberships when they reconnect",
        "note: the Keycloak accounts of deleted nodes are not deleted: "
        "Noordzee-Kliniek-KYOTO-node, 東京病院-KYOTO-node",
    ]
    dangling = theirs.dangling()
    copy.apply(backup=False)
    assert theirs.value("SELECT COUNT(*) FROM session WHERE collaboration_id = 2") == 0
    assert theirs.dangling() <= dangling
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == before


def test_a_user_is_renamed_moved_and_given_a_role_with_notes_on_keycloak(copy: WorkingCopy, theirs: Server) -> None:
    user = models.User.get(3)
    user.username, user.organization, user.roles = "renamed", models.Organization.get(2), "Viewer"
    user.save()
    found = lines(copy)
    assert "note: the Keycloak account of user 3 is not renamed" in found
    assert "note: the Keycloak account of user 3 keeps its organization" in found
    copy.apply(backup=False)
    assert theirs.run("SELECT username, organization_id FROM user WHERE id = 3") == [("renamed", 2)]
    assert theirs.run('SELECT role_id FROM "Permission" WHERE user_id = 3') == [(4,)]


def test_new_organizations_collaborations_and_memberships_are_like_the_servers_own(
    copy: WorkingCopy, theirs: Server
) -> None:
    hospital = models.Organization(name="new")
    hospital.save()
    models.Collaboration(name="NEW", organizations=[hospital]).save()
    copy.apply(backup=False)
    assert theirs.run("SELECT encrypted, session_restrict_to_same_image FROM collaboration WHERE name = 'NEW'") == [
        (1, 0)
    ]
    assert theirs.odd_values() == []


def set_field(model: Any, id: int, name: str, value: Any) -> Callable[[], None]:
    """Return a function that sets a field of a row."""

    def change() -> None:
        row = model.get(id)
        setattr(row, name, value)
        row.save()

    return change


KEYCLOAK = {
    "password": set_field(models.User, 2, "password", "Some-thing-7"),
    "email": set_field(models.User, 2, "email", "a@b.example"),
    "firstname": set_field(models.User, 2, "firstname", "Anna"),
    "api_key": set_field(models.Node, 9, "api_key", "a2c3d4e5-1111-4222-8333-444455556666"),
    "new user": lambda: models.User(username="new").save(),
    "new node": lambda: models.Node(name="new").save(),
}


@pytest.mark.parametrize("what", KEYCLOAK)
def test_a_value_that_keycloak_manages_is_refused(what: str, copy: WorkingCopy) -> None:
    with pytest.raises(Refused, match=r"Keycloak manages .*release 5: (change|create) it"):
        KEYCLOAK[what]()


def test_an_address_has_no_column(copy: WorkingCopy) -> None:
    set_field(models.User, 2, "ip", "10.0.0.1")()
    with pytest.raises(Refused, match=r"release 5 has no column for user\.ip"):
        copy.plan()


def test_keycloak_manages_lock_outs_and_two_factor(copy: WorkingCopy) -> None:
    for two_factor in (False, True):
        with pytest.raises(Refused, match='user 2 "user00".*Keycloak'):
            models.User.get(2).unlock(two_factor=two_factor)


def test_a_user_without_an_account_gets_no_note_on_it(theirs: Server) -> None:
    theirs.run("UPDATE authenticatable SET keycloak_id = NULL WHERE id IN (2, 9)")
    copy = vantage6_servers.opened(theirs)
    user = models.User.get(2)
    user.username = "renamed"
    user.save()
    models.Node.get(9).delete()
    assert "Keycloak" not in str(copy.plan())
    copy.close()


@pytest.mark.parametrize("noun", ["user", "organization"])
def test_the_administrator_that_the_server_creates_gets_a_note(noun: str, copy: WorkingCopy) -> None:
    if noun == "user":
        models.User.get_by_username("admin").delete()
    else:
        root = models.Organization.get_by_name("root")
        root.name = "other"
        root.save()
    assert "KEYCLOAK_ADMIN_USERNAME" in str(copy.plan())


REFUSED = {
    "a user who owns sessions": (lambda: models.User.get(3).delete(), ['user 3 "user10"', "1 session", "API"]),
    "a task that made a dataframe of a session that stays": (
        lambda: models.Task.get(13).delete(dependents=True),
        ["task 13", "1 dataframe", "API"],
    ),
    "the databases of a task": (set_field(models.Task, 1, "database", "x"), ["task 1", "session"]),
    "a task without an initiator": (set_field(models.Task, 1, "initiator", None), ["task 1", "initiator", "set one"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_change_that_would_break_release_5_is_refused(case: str, copy: WorkingCopy) -> None:
    change, said = REFUSED[case]
    with pytest.raises(Refused) as caught:
        change()
        copy.plan()
    assert [part for part in said if part not in str(caught.value)] == []


def test_a_database_of_release_4_that_release_5_has_opened_is_changed_as_one_of_4(
    tmp_path: Path, quick_hashes: None
) -> None:
    file = vantage6_databases.copied("4.15.2", tmp_path / "opened.sqlite")
    file.chmod(0o600)
    theirs = Server(vantage6_databases.open_by_release_5(file))
    before, copy = theirs.tables(), vantage6_servers.opened(theirs)
    set_field(models.User, 2, "password", "Some-thing-7")()
    set_field(models.Task, 1, "database", "omop, more")()
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    copy.apply(backup=False)
    expected = vantage6_servers.rows_here(copy)
    copy.close()
    assert copy.session.release == 4 and vantage6_servers.rows_there(theirs, tmp_path) == expected
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == before


def test_release_5_on_postgresql(server: Any, tmp_path: Path, quick_hashes: None) -> None:
    with vantage6_servers.on_postgres(server, "5.0.3") as theirs:
        before, copy = theirs.tables(), vantage6_servers.opened(theirs)
        models.Organization(name="new").save()
        models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
        copy.apply(backup=False)
        expected = vantage6_servers.rows_here(copy)
        copy.close()
        assert vantage6_servers.rows_there(theirs, tmp_path) == expected
        reverting.apply(theirs.target, backup=False)
        assert theirs.tables() == before
