"""A real vantage6 4.15.2 server beside vserver, on the same database: only with VSERVER_VANTAGE6, which CI sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import postgres, vantage6_server
from helpers.process import Ended, vserver
from helpers.vantage6_server import Vantage6Server

pytestmark = pytest.mark.vantage6
DATA = Path(__file__).parent / "data"
ROOT = ("root", "root")  # the server creates this user at its first start
OLD, NEW, WRONG = "Old-pass-word-1", "New-pass-word-2", "Wrong-pass-word-3"  # no secrets
HOSPITAL = f"""
hospital = db.Organization(name="Nieuwe Kliniek", country="NL")
hospital.save()
trial = db.Collaboration.get_by_name("trial")
trial.organizations = [*trial.organizations, hospital]
trial.save()
for name in "anna", "bram":
    db.User(username=name, password={OLD!r}, firstname=name, lastname="New", email=f"{{name}}@new.example",
            roles="Root", organization=hospital).save()
db.Node(name="Nieuwe Kliniek at trial", organization=hospital, collaboration=trial,
        api_key="a2c3d4e5-1111-4222-8333-444455556666").save()
db.Collaboration.get_by_name("pilot").delete(dependents=True)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "v4.15.2.sqlite", tmp_path / "server.sqlite"))


@pytest.fixture
def server(file: Path) -> Iterator[Vantage6Server]:
    """A server that runs on the sample."""
    with vantage6_server.running(f"sqlite:///{file}", file.parent) as started:
        yield started


def test_a_database_is_viewed_while_its_server_runs(server: Vantage6Server, file: Path) -> None:
    assert server.log_in(*ROOT).status == 200
    shown = json.loads(vserver("-d", file, "list", "organizations", "-o", "json", "--all").out)
    answer = server.get("organization?per_page=100")
    assert answer.status == 200, answer
    theirs = answer.body["data"]
    assert {each["name"] for each in shown} >= {each["name"] for each in theirs} != set()


@pytest.fixture(params=["sqlite", "postgres"])
def changed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Vantage6Server, str]]:
    """A server that runs on the sample, or on a new database on PostgreSQL; and what `-d` is given for it."""
    if request.param == "sqlite":
        file = Path(shutil.copy(DATA / "v4.15.2.sqlite", tmp_path / "server.sqlite"))
        file.chmod(0o600)
        with vantage6_server.running(f"sqlite:///{file}", tmp_path) as started:
            yield started, str(file)
    else:
        databases: postgres.Server = request.getfixturevalue("server_of_databases")
        with databases.bare() as url, vantage6_server.running(url, tmp_path) as started:
            yield started, url


@pytest.fixture(scope="session")
def server_of_databases() -> Iterator[postgres.Server]:
    with postgres.running() as started:
        yield started


def write(target: str, *words: str, given: str = "") -> Ended:
    """Run `vserver -d TARGET --write --yes WORDS`, which must be applied."""
    done = vserver("-d", target, "--write", "--yes", "--no-backup", *words, given=given)
    assert done.status == 0 and "applied in" in done.err, done.err
    return done


def test_a_running_server_goes_on_with_what_was_applied(changed: tuple[Vantage6Server, str]) -> None:
    server, target = changed
    assert server.log_in(*ROOT).status == 200
    first = server.ask("POST", "organization", {"name": "Old Hospital"})
    assert first.status in (200, 201), first
    made = {}
    for name in "trial", "pilot":
        body = {"name": name, "organization_ids": [first.body["id"]], "encrypted": False}
        answer = server.ask("POST", "collaboration", body)
        assert answer.status in (200, 201), answer
        made[name] = answer.body["id"]
    write(target, "shell", "-c", HOSPITAL)

    assert server.log_in("anna", OLD).status == server.log_in("bram", OLD).status == 200
    names = {each["name"] for each in server.get("organization?per_page=100").body["data"]}
    assert {"Nieuwe Kliniek", "Old Hospital"} <= names
    assert server.get(f"collaboration/{made['pilot']}").status == 404
    assert server.get(f"collaboration/{made['trial']}").status == 200

    write(target, "passwd", "anna", "--stdin", given=NEW)
    assert server.log_in("anna", OLD).status == 401 and server.log_in("anna", NEW).status == 200
    for _ in range(6):
        server.log_in("anna", WRONG)
    assert server.log_in("anna", NEW).status == 401
    write(target, "unlock", "anna")
    assert server.log_in("anna", NEW).status == 200

    there = {each["id"] for each in server.get("organization?per_page=100").body["data"]}
    last = server.ask("POST", "organization", {"name": "The next one"})
    assert last.status in (200, 201) and last.body["id"] == max(there) + 1
    write(target, "undo", "--change", "2")
    assert server.log_in("anna", OLD).status == 200
