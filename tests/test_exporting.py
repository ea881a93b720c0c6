"""Fixture files for real servers: what each release would take, read as its importer reads it.

`taken()` is written from what the importers of the releases do, and from nothing of ours: it fails where they would.
"""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers.typed import done, run
from hypothesis import given
from hypothesis import strategies as st
from test_exchange import LINKS

import models as db
from vserverlib import hashing
from vserverlib.databases import connecting, storage
from vserverlib.transfer import detection, exporting, importer, vserver_source

DATA = Path(__file__).parent / "data"
SAMPLES = sorted(DATA.glob("v*.sqlite"))
RELEASES = (1, 2, 3, 4)
SEVEN = {"name", "domain", "address1", "address2", "zipcode", "country", "public_key"}
PERSON = {"username", "password", "firstname", "lastname", "email"}


@pytest.fixture(autouse=True)
def _nothing_stays_open(quick_hashes: None) -> Iterator[None]:
    yield
    if db.database.obj is not None and not db.database.is_closed():
        db.database.close()


# What a server makes of a file


def taken(text: str, release: int) -> SimpleNamespace:
    """Return what a server of a release has after importing a file; fail where it would fail, or do half of it."""
    found = yaml.safe_load(text)
    assert isinstance(found, dict) and found.keys() <= {"organizations", "collaborations"}
    server = SimpleNamespace(organizations={}, users={}, collaborations={}, nodes=[], tasks=[])
    for organization in found.get("organizations", {}):
        take_organization(server, organization, release)
    for collaboration in found.get("collaborations", {}):
        take_collaboration(server, collaboration, release)
    if release == 4:
        assert len(server.nodes) == len(set(server.nodes))
    return server


def take_organization(server: SimpleNamespace, organization: dict[str, Any], release: int) -> None:
    row = {key: organization[key] for key in SEVEN}
    assert organization.keys() <= SEVEN | {"users"}
    assert all(value is None or isinstance(value, str) for value in row.values())
    assert row["name"] and row["name"] not in server.organizations  # participants are found by it
    row["public_key"] = base64.b64decode(row["public_key"].encode("ascii"), validate=True)
    server.organizations[row["name"]] = row
    for user in organization.get("users", {}):
        assert user.keys() <= PERSON | ({"roles"} if release == 1 else set())
        assert all(isinstance(value, str) for value in user.values())
        assert user["username"] and user["username"] not in server.users
        assert user.get("email") is None or user["email"] not in {each.get("email") for each in server.users.values()}
        assert 8 <= len(user["password"].encode()) <= 72 and not hashing.weakness_of_password(user["password"])
        server.users[user["username"]] = {**user, "organization": row["name"]}


def take_collaboration(server: SimpleNamespace, collaboration: dict[str, Any], release: int) -> None:
    name = collaboration["name"]
    assert collaboration.keys() <= {"name", "encrypted", "participants", "tasks"}
    assert isinstance(name, str) and name and name not in server.collaborations
    assert collaboration.get("encrypted", True) in (True, False) and type(collaboration.get("encrypted", True)) is bool
    key = "api-key" if release < 3 else "api_key"
    members = []
    for participant in collaboration.get("participants", {}):
        assert participant.keys() == {"name", key}
        assert str(uuid.UUID(participant[key])) == participant[key] and uuid.UUID(participant[key]).version == 4
        assert participant["name"] in server.organizations and participant["name"] not in members
        members.append(participant["name"])
        server.nodes.append(f"{participant['name']} - {name} Node")
    server.collaborations[name] = {"encrypted": collaboration.get("encrypted", True), "members": members}
    assert isinstance(collaboration.get("tasks", []), list)
    for image in collaboration.get("tasks", {}):
        assert isinstance(image, str) and image and members and (release < 3 or server.users)
        server.tasks.append((image, name, members[0]))


# Helpers


def exported(file: Path, release: int) -> tuple[SimpleNamespace, exporting.FixtureExport]:
    with contextlib.closing(connecting.connect(file, read_only=True)):
        fixture = exporting.FixtureExport(release)
        return taken("".join(fixture.lines()), release), fixture


def made(file: Path, *statements: str) -> Path:
    """Make a database in which another program has written."""
    storage.create(file)
    with contextlib.closing(sqlite3.connect(file)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()
    return file


ORGANIZATIONS = "INSERT INTO organization (id, name) VALUES (1, 'A'), (2, 'B'), (3, 'C')"
USER = "INSERT INTO user (id, username, organization_id) VALUES (1, 'root', 1)"
COLLABORATION = "INSERT INTO collaboration (id, name) VALUES (1, 'X')"
MEMBERS = "INSERT INTO member (organization_id, collaboration_id) VALUES (1, 1), (2, 1)"
STORY = (ORGANIZATIONS, USER, COLLABORATION, MEMBERS)


# What is in the file


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda file: file.stem)
def test_a_server_of_any_release_takes_what_one_of_any_release_left_behind(
    sample: Path, release: int, tmp_path: Path
) -> None:
    file = tmp_path / "ours.db"
    with detection.opened(str(sample)) as source:
        importer.run(source, file)
    server, _ = exported(file, release)
    db.connect(file, read_only=True)
    for organization in db.Organization.get():
        there = server.organizations.pop(organization.name)
        assert {key: there[key] for key in SEVEN - {"public_key"}} == {
            key: getattr(organization, key) for key in SEVEN - {"public_key"}
        }
        assert there["public_key"].decode() == (organization.public_key or "")
    assert not server.organizations
    with_home = [user for user in db.User.get() if user.organization_id is not None]
    assert {
        name: (user["organization"], *map(user.get, ("firstname", "email"))) for name, user in server.users.items()
    } == {user.username: (user.organization.name, user.firstname, user.email) for user in with_home}
    assert {name: sorted(each["members"]) for name, each in server.collaborations.items()} == {
        each.name: sorted(organization.name for organization in each.organizations) for each in db.Collaboration.get()
    }
    assert [image for image, *_ in server.tasks] == [
        task.image for collaboration in db.Collaboration.get() for task in collaboration.tasks
    ]
    assert all(initiator == "Noordzee Kliniek" for *_, initiator in server.tasks)


def test_a_zip_code_and_a_country_are_the_text_that_they_are_here(tmp_path: Path) -> None:
    texts = [
        "0123",
        "NO",
        "1:30",
        "~",
        "null",
        "=",
        "<<",
        "0x1F",
        "1e3",
        "2026-03-01",
        "",
        " a",
        "#",
        "'",
        '"',
        "a: b",
        "\n",
        "a\n\n",
    ]
    rows = ", ".join(f"({number}, 'name {number}', ?)" for number in range(len(texts)))
    file = storage.create(tmp_path / "ours.db")
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.execute(f"INSERT INTO organization (id, name, zipcode) VALUES {rows}", texts)
        conn.commit()
    server, _ = exported(file, 4)
    assert [each["zipcode"] for each in server.organizations.values()] == texts


@pytest.mark.parametrize("release", RELEASES)
def test_roles_are_in_the_file_for_the_one_release_that_reads_them(release: int, tmp_path: Path) -> None:
    file = made(tmp_path / "ours.db", *STORY, "UPDATE user SET roles = 'root, viewer'")
    server, fixture = exported(file, release)
    assert server.users["root"].get("roles") == ("root,viewer" if release == 1 else None)
    assert any("every user has all rights" in line for line in fixture.messages) is (release > 1)


def test_that_release_1_always_encrypts_is_reported(tmp_path: Path) -> None:
    file = made(tmp_path / "ours.db", *STORY, "UPDATE collaboration SET encrypted = 0")
    server, fixture = exported(file, 1)
    assert server.collaborations["X"]["encrypted"] is False
    assert any('collaboration 1 "X" is encrypted on the server: release 1' in line for line in fixture.messages)
    assert not [line for line in exported(file, 2)[1].messages if "encrypted" in line]


@pytest.mark.parametrize(("stored", "shown"), [("NULL", "nothing"), ("'false'", '"false"'), ("2", '"2"')])
def test_a_collaboration_that_does_not_say_whether_it_is_encrypted_is_reported(
    tmp_path: Path, stored: str, shown: str
) -> None:
    fixture = exported(made(tmp_path / "ours.db", *STORY, f"UPDATE collaboration SET encrypted = {stored}"), 4)[1]
    output = f'collaboration 1 "X" has {shown} in encrypted, so it is encrypted on the server'
    assert output in fixture.messages


def test_who_initiated_most_of_the_tasks_is_the_first_participant_and_the_tasks_of_others_are_left_out(
    tmp_path: Path,
) -> None:
    tasks = "INSERT INTO task (image, collaboration_id, initiator_id) VALUES ('a', 1, 1), ('b', 1, 2), ('c', 1, 2)"
    others = "INSERT INTO task (image, collaboration_id) VALUES ('d', 1), ('e', NULL)"
    no_image = "INSERT INTO task (image, collaboration_id, initiator_id) VALUES (NULL, 1, 2)"
    server, fixture = exported(made(tmp_path / "ours.db", *STORY, tasks, others, no_image), 4)
    assert server.tasks == [("b", "X", "B"), ("c", "X", "B")]
    assert server.collaborations["X"]["members"] == ["B", "A"]
    output = "\n".join(fixture.messages)
    assert "2 tasks are left out: a fixture file has only tasks of the first participant" in output
    assert "1 task is left out: no image" in output
    assert "1 task is left out: collaboration not in the file" in output
    assert "2 tasks are in the file, with the image only" in output


def test_what_tasks_have_that_no_file_holds_is_counted(tmp_path: Path) -> None:
    tasks = (
        "INSERT INTO task (id, name, description, parent_id, collaboration_id) VALUES (1, 'x', 'y', NULL, 1)",
        "INSERT INTO task (id, name, database, parent_id) VALUES (2, 'Example task', 'omop', 1)",
        "INSERT INTO result (task_id) VALUES (1), (1), (2)",
    )
    _, fixture = exported(made(tmp_path / "ours.db", *STORY, *tasks), 4)
    counted = "1 names, 1 descriptions, 1 databases, 1 parents, 3 results with their inputs, times, statuses and logs"
    assert f"not in the file: {counted}" in fixture.messages


def test_many_tasks_are_all_in_the_file(tmp_path: Path) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)"
    tasks = f"INSERT INTO task (image, collaboration_id, initiator_id) {many} SELECT 'image ' || i, 1, 1 FROM n"
    server, _ = exported(made(tmp_path / "ours.db", *STORY, tasks), 4)
    assert [image for image, *_ in server.tasks] == [f"image {number}" for number in range(1, 2501)]


# What cannot be in it


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INSERT INTO organization (id, name) VALUES (9, NULL)", "organization 9 is left out: it has no name"),
        ("INSERT INTO organization (id, name) VALUES (9, 'A')", 'organization 9 "A" is named "A (2)" in the file'),
        ("INSERT INTO user (id, organization_id) VALUES (9, 1)", "user 9 is left out: it has no username"),
        ("INSERT INTO user (id, username) VALUES (9, 'x')", 'user 9 "x" is left out: its organization'),
        ("INSERT INTO collaboration (id) VALUES (9)", "collaboration 9 is left out: it has no name"),
        ("INSERT INTO node (id, name) VALUES (9, 'n')", 'node 9 "n" is left out: its collaboration'),
        (
            "INSERT INTO node (id, name, organization_id, collaboration_id) VALUES (9, 'n', 3, 1)",
            'node 9 "n" is left out: its organization does not participate in its collaboration',
        ),
        (
            "INSERT INTO node (id, organization_id, collaboration_id) VALUES (8, 1, 1), (9, 1, 1)",
            "node 9 is left out: its organization has another node in the same collaboration",
        ),
        ("DELETE FROM node", 'the node "A - X Node" is new on the server'),
        (
            "INSERT INTO node (id, name, organization_id, collaboration_id) VALUES (9, 'n', 1, 1)",
            'node 9 "n" is named "A - X Node" on the server',
        ),
        (
            "INSERT INTO member (id, organization_id, collaboration_id) VALUES (9, NULL, 1)",
            "membership 9 of organization None in collaboration 1 is left out: its organization is not in the file",
        ),
    ],
)
@pytest.mark.parametrize("release", RELEASES)
def test_values_that_the_format_cannot_hold_are_reported(
    release: int, statement: str, message: str, tmp_path: Path
) -> None:
    _, fixture = exported(made(tmp_path / "ours.db", *STORY, statement), release)
    assert [line for line in fixture.messages if line.startswith(message)], fixture.messages


@pytest.mark.parametrize("release", RELEASES)
def test_two_nodes_that_would_have_one_name_are_kept_apart_where_names_are_unique(release: int, tmp_path: Path) -> None:
    file = made(
        tmp_path / "ours.db",
        "INSERT INTO organization (id, name) VALUES (1, 'A'), (2, 'A - B')",
        "INSERT INTO collaboration (id, name) VALUES (1, 'B - C'), (2, 'C')",
        "INSERT INTO member (organization_id, collaboration_id) VALUES (1, 1), (2, 2)",
    )
    server, fixture = exported(file, release)
    assert len(server.nodes) == (1 if release == 4 else 2)
    doubled = 'another node would be named "A - B - C Node" too'
    assert any(doubled in line for line in fixture.messages) is (release == 4)


@pytest.mark.parametrize("release", RELEASES)
def test_tasks_are_left_out_where_a_release_needs_a_user_and_there_is_none(release: int, tmp_path: Path) -> None:
    task = "INSERT INTO task (image, collaboration_id, initiator_id) VALUES ('a', 1, 1)"
    file = made(tmp_path / "ours.db", ORGANIZATIONS, COLLABORATION, MEMBERS, task)
    server, fixture = exported(file, release)
    assert len(server.tasks) == (0 if release > 2 else 1)
    assert any(f"release {release} gives each task a user" in line for line in fixture.messages) is (release > 2)


def test_an_empty_database_gives_a_file_that_is_taken(tmp_path: Path) -> None:
    server, fixture = exported(storage.create(tmp_path / "ours.db"), 4)
    assert not server.organizations and not fixture.messages


def test_terminal_escapes_in_names_are_shown_as_text(tmp_path: Path) -> None:
    file = made(tmp_path / "ours.db", "INSERT INTO organization (name) VALUES (char(27) || 'x'), (char(27) || 'x')")
    result = done(file, "export", str(tmp_path / "made.yaml"))
    assert "\x1b" not in result.output + (tmp_path / "made.yaml").read_text() and "\\x1bx (2)" in result.stderr


# Any database

NAMES = st.one_of(
    st.sampled_from(
        ["A", "B", "A - B", "B - A", "A (2)", "NO", "0123", "~", "", None, "a\nb", "a\n \n", "\ufeff", "\x85"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.binary(max_size=3),
)


@st.composite
def databases(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """Rows with few names, so that they meet, and links that lead anywhere."""
    ids = {origin.table: sorted(draw(st.sets(st.integers(1, 9), max_size=4))) for origin in vserver_source.ORIGINS}
    found = []
    for origin in vserver_source.ORIGINS:
        for id in ids[origin.table]:
            row: dict[str, Any] = {"id": id}
            for name in origin.columns[1:]:
                to = LINKS.get(origin.table, {}).get(name)
                texts = NAMES if name not in ("run_id", "parent_id", "encrypted", "password", "api_key") else st.none()
                row[name] = draw(st.sampled_from([None, *ids[to]]) if to else texts)
            found.append((origin.table, row))
    return found


@given(databases(), st.sampled_from(RELEASES))
def test_whatever_there_is_becomes_a_file_that_its_release_takes(
    rows: list[tuple[str, dict[str, Any]]], release: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = storage.create(Path(folder) / "ours.db")
        with contextlib.closing(sqlite3.connect(file)) as conn:
            for table, row in rows:
                names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
                conn.execute(f'INSERT OR IGNORE INTO "{table}" ({names}) VALUES ({marks})', list(row.values()))
            conn.commit()
        server, fixture = exported(file, release)
        assert sorted(each.secret for each in fixture.generated_credentials if each.entity == "user") == sorted(
            user["password"] for user in server.users.values()
        )
        assert sorted(each.name for each in fixture.generated_credentials if each.entity == "node") == sorted(
            server.nodes
        )
        names = {row["name"] for table, row in rows if table == "organization" and isinstance(row["name"], str)}
        assert {name.replace("\0", "\ufffd") for name in names if name} <= server.organizations.keys()


# A fixture file, here, and a fixture file again

SOME = st.one_of(
    st.sampled_from(["A", "B", "NO", "0123", "~", "a\nb", " ", "1:30", "\x85", "\ufeff"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
)
KEYS = st.sampled_from(["", "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KYQo=", "bm8ga2V5"])


@st.composite
def documents(draw: st.DrawFn, release: int) -> dict[str, Any]:
    """A fixture file of a release, as its keys and values."""
    names = draw(st.lists(SOME, min_size=1, max_size=4, unique=True))
    usernames = draw(st.lists(SOME, max_size=4, unique=True))
    emails = draw(st.lists(SOME, min_size=len(usernames), max_size=len(usernames), unique=True))
    organizations: list[dict[str, Any]] = []
    for name in names:
        rest = {key: draw(st.one_of(st.none(), SOME)) for key in SEVEN - {"name", "public_key"}}
        organizations.append({"name": name, **rest, "public_key": draw(KEYS), "users": []})
    for username, email in zip(usernames, emails, strict=True):
        user = {"username": username, "password": "Geheim-1!", "lastname": draw(SOME), "email": email}
        draw(st.sampled_from(organizations))["users"].append(user | ({"roles": "root,viewer"} if release == 1 else {}))
    return {
        "organizations": organizations,
        "collaborations": [draw(collaborations(name, names, release, bool(usernames))) for name in draw(FEW)],
    }


FEW = st.lists(SOME, max_size=3, unique=True)


@st.composite
def collaborations(draw: st.DrawFn, name: str, organizations: list[str], release: int, has_users: bool) -> Any:
    key = "api-key" if release < 3 else "api_key"
    members = draw(st.lists(st.sampled_from(organizations), unique=True))
    row: dict[str, Any] = {"name": name, "participants": [{"name": each, key: str(uuid.uuid4())} for each in members]}
    if members and (release < 3 or has_users):
        row["tasks"] = draw(st.lists(SOME, max_size=3))
    return row | draw(st.sampled_from([{}, {"encrypted": True}, {"encrypted": False}]))


def without_secrets(server: SimpleNamespace) -> dict[str, Any]:
    users = {name: {**user, "password": "", "email": user.get("email")} for name, user in server.users.items()}
    return {**vars(server), "users": users, "nodes": sorted(server.nodes)}


def there_and_back(text: str, release: int, folder: Path) -> SimpleNamespace:
    """Return what a server makes of a fixture file that was imported here, and exported again."""
    (folder / "fixture.yaml").write_text(text, encoding="utf-8")
    with detection.opened(str(folder / "fixture.yaml")) as source:
        outcome = importer.run(source, folder / "ours.db")
    assert not outcome.left_out and not outcome.lost and not outcome.values
    return exported(folder / "ours.db", release)[0]


@given(st.sampled_from(RELEASES).flatmap(lambda release: st.tuples(st.just(release), documents(release))))
def test_a_fixture_file_that_is_imported_and_exported_again_loses_nothing(found: tuple[int, dict[str, Any]]) -> None:
    release, document = found
    text = yaml.safe_dump(document, sort_keys=False)  # PyYAML reads its own \x85 as a space
    nodes = [f"{p['name']} - {c['name']} Node" for c in document["collaborations"] for p in c["participants"]]
    if release == 4 and len(nodes) > len(set(nodes)):
        return  # which that release does not take
    with tempfile.TemporaryDirectory() as folder:
        again = there_and_back(text, release, Path(folder))
    assert without_secrets(again) == without_secrets(taken(text, release))


def test_the_names_of_a_file_are_in_its_order(tmp_path: Path) -> None:
    text = (DATA / "fixture.yaml").read_text()
    again = there_and_back(text, 4, tmp_path)
    written = yaml.load(text, yaml.BaseLoader)  # texts, as they were typed
    assert list(again.organizations) == [each["name"] for each in written["organizations"]]
    assert [each["members"] for each in again.collaborations.values()] == [
        [each if isinstance(each, str) else each["name"] for each in collaboration.get("participants") or []]
        for collaboration in written["collaborations"]
    ]


# The command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return made(tmp_path / "ours.db", *STORY)


def test_the_file_says_what_is_in_it_and_is_its_owners_alone(file: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        result = done(file, "export", str(tmp_path / "made.yml"), "--secrets", str(tmp_path / "secrets.yaml"))
    finally:
        os.umask(before)
    text, listed = (tmp_path / "made.yml").read_text(), (tmp_path / "secrets.yaml").read_text()
    assert text.startswith("# A fixture file for a vantage6 server of release 4") and "in plain text" in text[:200]
    assert "new passwords and API keys" in result.stderr and result.stdout == ""
    for name in ("made.yml", "secrets.yaml"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    secrets = {each["secret"]: each["name"] for each in yaml.safe_load(listed)}
    assert sorted(secrets.values()) == ["A - X Node", "B - X Node", "root"]
    assert all(secret in text and secret not in result.output for secret in secrets)


def test_each_export_makes_new_secrets(file: Path) -> None:
    first, second = ({each.secret for each in exported(file, 4)[1].generated_credentials} for _ in range(2))
    assert len(first) == len(second) == 3 and not first & second


@pytest.mark.parametrize("release", RELEASES)
def test_the_release_is_chosen_by_an_option(file: Path, tmp_path: Path, release: int) -> None:
    done(file, "export", str(tmp_path / "made"), "--format", "fixture", "--for", str(release))
    assert len(taken((tmp_path / "made").read_text(), release).nodes) == 2


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["made"], 2, "does not end in .json or .yaml: add --format json or --format fixture"),
        (["made.yaml", "--with-hashes"], 2, "a fixture file cannot hold a hash"),
        (["made.json", "--for", "4"], 2, "--for and --secrets need a fixture file"),
        (["made.json", "--secrets", "x"], 2, "--for and --secrets need a fixture file"),
        (["made.yaml", "--for", "5"], 2, "'5' is not one of"),
        (["-", "--format", "fixture"], 1, "name a file, which only you can then read"),
        (["there.yaml"], 1, "there.yaml exists already"),
        (["made.yaml", "--secrets", "there.yaml"], 1, "there.yaml exists already"),
        (["made.yaml", "--secrets", "made.yaml"], 1, "made.yaml is named twice"),
        (["nowhere/made.yaml"], 1, "the folder nowhere does not exist"),
        (["nowhere/made.yaml", "--force"], 1, "the folder nowhere does not exist"),
        (["ours.db", "--format", "fixture", "--force"], 1, "is the database itself"),
    ],
)
def test_what_cannot_be_exported_is_a_line_and_no_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, message: str
) -> None:
    monkeypatch.chdir(file.parent)
    Path("there.yaml").write_text("mine")
    before = file.read_bytes()
    refused = run(Path("ours.db"), "export", *words)
    assert refused.exit_code == status and message in refused.stderr
    assert {each.name for each in file.parent.iterdir()} == {"ours.db", "there.yaml"}
    assert Path("there.yaml").read_text() == "mine" and file.read_bytes() == before


def test_a_list_of_secrets_that_cannot_be_written_leaves_no_file(file: Path, tmp_path: Path) -> None:
    refused = run(file, "export", str(tmp_path / "made.yaml"), "--secrets", str(tmp_path / "nowhere" / "s"))
    assert refused.exit_code == 1 and not (tmp_path / "made.yaml").exists()
