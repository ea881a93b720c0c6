"""The databases of servers of release 5: what is read, what has no place, and whose passwords Keycloak keeps."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers import postgres, vantage6_databases
from helpers.typed import run

import models as db
from vserverlib import api, hashing
from vserverlib.entities import progress

NAME, OURS = "server.sqlite", "ours.db"
Source = Callable[..., str]
UNMAPPED = {
    "session": 3,
    "dataframe": 5,
    "column": 18,
    "dataframetobedeletedatnode": 1,
    "task_depends_on": 4,
    "study": 1,
    "StudyMember": 2,
    "algorithmstore": 2,
    "nodeconfig": 8,
    "rule": 96,
    "role": 4,
    "role_rule_association": 231,
    "UserPermission": 2,
}
LOST = {
    "task.method": 16,
    "task.session_id": 16,
    "task.dataframe_id": 8,
    "task.study_id": 2,
    "task.algorithm_store_id": 8,
    "task.init_user_id": 15,
    "run.action": 37,
    "run.blob_storage_used": 3,
    "run.cleanup_at": 3,
    "collaboration.session_restrict_to_same_image": 1,
    "user.is_service_account": 1,
    "authenticatable.keycloak_id": 12,
    "authenticatable.keycloak_client_id": 6,
    "taskdatabase.type": 27,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_hashes: None) -> Iterator[None]:
    """A working directory with the file of a server of 5.0.3."""
    monkeypatch.chdir(tmp_path)
    vantage6_databases.copied("5.0.3", Path(NAME))
    yield
    if db.database.obj is not None and not db.database.is_closed():
        db.database.close()


@pytest.fixture(params=["file", "server"])
def source(request: pytest.FixtureRequest) -> Iterator[Source]:
    """What names the database of a server, after these statements were run on it: its file, and the same by a URL."""
    if request.param == "file":
        yield lambda *statements: str(vantage6_databases.copied("5.0.3", Path(NAME), statements))
        return
    with request.getfixturevalue("server").bare() as url:

        def filled(*statements: str) -> str:
            vantage6_databases.fill(url, vantage6_databases.copied("5.0.3", Path(NAME), statements))
            return str(url)

        yield filled


def rows(sql: str, file: str = NAME) -> list[Any]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as conn:
        return conn.execute(sql).fetchall()


def codes(*words: str) -> Counter[str]:
    """Return how often `check` finds which rule broken."""
    return Counter(rule["code"] for rule in json.loads(run(*words, "check", "-o", "json").stdout))


def passwords(file: str = OURS) -> set[Any]:
    return {value for (value,) in rows("SELECT password FROM user UNION ALL SELECT api_key FROM node", file)}


# What is read


def test_every_row_is_kept_under_our_names(source: Source) -> None:
    done = run(OURS, "import", source(), "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert rows("SELECT id, input, task_id, organization_id, status FROM result ORDER BY id", OURS) == rows(
        "SELECT id, arguments, task_id, organization_id, COALESCE(status, 'completed') FROM run ORDER BY id"
    )
    assert rows("SELECT id, name, run_id, initiator_id, parent_id FROM task ORDER BY id", OURS) == rows(
        "SELECT id, name, job_id, init_org_id, parent_id FROM task ORDER BY id"
    )
    assert rows("SELECT id, username, organization_id, email FROM user ORDER BY id", OURS) == rows(
        "SELECT id, username, organization_id, NULL FROM user ORDER BY id"
    )
    roles = ["Root", "Root", "Researcher", "Researcher", "Researcher, steward", None, None, "Viewer"]
    assert [role for (role,) in rows("SELECT roles FROM user ORDER BY id", OURS)] == roles
    seen = "SELECT id, status, REPLACE(last_seen, '+00:00', '') FROM {} WHERE {} ORDER BY id"
    for table in ("user", "node"):
        theirs = seen.format("authenticatable", f"type = '{table}'")
        assert rows(seen.format(table, "1"), OURS) == rows(theirs)


def test_the_databases_of_a_task_are_labels_and_names_of_dataframes_in_their_order(source: Source) -> None:
    named = source("UPDATE taskdatabase SET position = 1 - position WHERE task_id = 4")
    run(OURS, "import", named)
    names = dict(rows("SELECT id, database FROM task WHERE id < 8", OURS))
    assert names == {
        1: "default",
        2: "omop",
        3: "frame 00, frame 01",
        4: "frame 21, frame 20",
        5: "frame 00, frame 01, frame 00",
        6: "frame 20, frame 21",
        7: "frame 10",
    }


def test_what_has_no_place_is_counted_and_named(source: Source) -> None:
    done = run(OURS, "import", source(), "-o", "json")
    found = json.loads(done.stdout)
    assert found["unmapped_tables"] == UNMAPPED and LOST.items() <= found["lost"].items()
    assert not found["left_out"] and not found["links"] and not found["lost_values"]
    assert "dataframe (5)" in done.stderr and "task.session_id (16)" in done.stderr


def test_a_database_of_a_task_that_names_nothing_is_reported(source: Source) -> None:
    named = source("UPDATE taskdatabase SET dataframe_id = 99 WHERE task_id = 7")
    done = run(OURS, "import", named)
    assert "taskdatabase of task 7 is left out: it names no database" in done.stderr
    assert rows("SELECT database FROM task WHERE id = 7", OURS) == [(None,)]


def test_its_new_failures_are_failures(source: Source) -> None:
    new = ("dataframe not found", "depended on failed task", "unexpected output")
    named = source("UPDATE run SET status = 'dataframe not found' WHERE id = 30")
    failed = json.loads(run(named, "list", "results", "--where", "state=failed", "-o", "json", "--all").stdout)
    assert {*new} <= {result["status"] for result in failed} <= {*progress.FAILED}
    assert json.loads(run(named, "show", "task", "13", "-o", "json").stdout)["status"] == "failed"
    overview = json.loads(run(named, "overview", "-o", "json").stdout)
    assert overview["tasks"]["failed"] == 5
    assert "RES007" not in codes(named) and run(named, "wait", "13").exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("list", "tasks"),
        ("show", "task", "1"),
        ("overview",),
        ("watch",),
        ("check",),
        ("export", "look.json"),
        ("shell", "-c", "print(db.User.get(2).roles)"),
        ("import", OURS, "--dry-run"),
    ],
    ids=" ".join,
)
def test_every_command_that_reads_takes_it(source: Source, words: tuple[str, ...]) -> None:
    named = source()
    before = Path(NAME).read_bytes()
    if words[0] == "import":
        done = run(OURS, "import", named, "--dry-run")
        assert "database of a vantage6 server, release 5" in done.stderr and not Path(OURS).exists()
    else:
        done = run(named, *words)
        assert "is the database of a vantage6 server, release 5: this is a read-only view" in done.stderr
    assert done.exit_code == (words[0] == "check") and Path(NAME).read_bytes() == before


# Whose passwords Keycloak keeps


def test_no_user_of_it_is_said_to_lack_a_password_and_others_are(source: Source) -> None:
    named = source()
    assert "USR004" not in codes(named)
    run(OURS, "import", named)
    assert "USR004" not in codes(OURS) and passwords() == {hashing.KEYCLOAK}
    with api.connect(OURS):
        db.User(username="local", organization=2).save()
    assert codes(OURS)["USR004"] == 1


def test_a_password_in_keycloak_does_not_work_here() -> None:
    run(OURS, "import", NAME)
    with api.connect(OURS):
        for plain in (hashing.KEYCLOAK, hashing.MASK, "Geheim-01!"):
            assert not db.User.get(2).check_password(plain) and not db.Node.get(9).check_key(plain)
        with pytest.raises(db.Error, match="is a mask, not a secret"):
            db.User.get(2).password = hashing.KEYCLOAK
        assert db.User.get(2).password == hashing.MASK


def test_a_new_password_and_key_say_once_that_the_server_does_not_have_them() -> None:
    run(OURS, "import", NAME)
    for words in (("passwd", "user00", "--stdin"), ("apikey", "9")):
        done, again = (run(OURS, *words, input="Geheim-01!x\n") for _ in range(2))
        assert done.exit_code == again.exit_code == 0
        assert done.stderr.count("Keycloak") == 1 and "Keycloak" not in again.stderr
        assert len(done.stderr.splitlines()) <= 3


def test_undo_gives_it_back_to_keycloak() -> None:
    run(OURS, "import", NAME)
    run(OURS, "passwd", "user00", "--stdin", input="Geheim-01!x\n")
    assert passwords() != {hashing.KEYCLOAK}
    assert run(OURS, "undo", "--yes").exit_code == 0 and passwords() == {hashing.KEYCLOAK}


@pytest.mark.parametrize("way", ["export", "export --with-hashes", "import", "copy", "merge"])
def test_other_databases_of_ours_know_it_too(way: str) -> None:
    run(OURS, "import", NAME)
    if way.startswith("export"):
        assert run(OURS, "export", "ours.json", *way.split()[1:]).exit_code == 0
        done = run("other.db", "import", "ours.json")
    elif way == "copy":
        done = run(None, "copy", OURS, "other.db")
    else:
        if way == "merge":
            run("other.db", "init", "--demo")
        done = run("other.db", "import", OURS, *(("--merge", "--yes") if way == "merge" else ()))
    assert done.exit_code == 0, done.stderr
    marked = (
        "SELECT COUNT(*) FROM user WHERE password = '{0}' UNION ALL SELECT COUNT(*) FROM node WHERE api_key = '{0}'"
    )
    assert rows(marked.format(hashing.KEYCLOAK), "other.db") == [(8,), (5,)]


def test_an_export_without_hashes_holds_no_hash_of_others() -> None:
    run(OURS, "import", NAME)
    run(OURS, "passwd", "user00", "--stdin", input="Geheim-01!x\n")
    run(OURS, "export", "ours.json")
    lines = [json.loads(line) for line in Path("ours.json").read_text().splitlines()]
    users = [line["user"] for line in lines if "user" in line]
    assert [user["id"] for user in users if "password" not in user] == [2]
    assert {user["password"] for user in users if "password" in user} == {hashing.KEYCLOAK}


def test_a_merge_keeps_the_passwords_that_are_here() -> None:
    run(OURS, "import", NAME)
    run(OURS, "passwd", "user00", "--stdin", input="Geheim-01!x\n")
    with api.connect(OURS):
        db.User.get(3).password = None
        db.User.update(password=None).where(db.User.id == 3).execute()
    before = dict(rows("SELECT id, password FROM user", OURS))
    done = run(OURS, "import", NAME, "--merge", "--yes", "-o", "json")
    assert json.loads(done.stdout)["replaced"] == {"user.password": 1}
    assert dict(rows("SELECT id, password FROM user", OURS)) == before | {3: hashing.KEYCLOAK}


# A server of release 5 opened the database of an earlier one


@pytest.mark.parametrize("place", ["file", "server"])
def test_what_it_only_opened_is_still_of_release_4(place: str, request: pytest.FixtureRequest) -> None:
    file = vantage6_databases.copied("4.15.2", Path("four.sqlite"))
    run("four.db", "import", "four.sqlite")
    vantage6_databases.open_by_release_5(file)
    named = str(file)
    if place == "server":
        named = request.getfixturevalue("empty_server")
        vantage6_databases.fill(named, file)
    done = run(OURS, "import", named)
    assert done.exit_code == 0
    assert "release 4, which a server of release 5 has opened" in done.stderr and "rule (96)" in done.stderr
    for table in ("user", "node", "task", "result"):
        everything = f"SELECT * FROM {table} ORDER BY id"
        assert rows(everything, OURS) == rows(everything, "four.db")


@pytest.fixture
def empty_server(server: postgres.Server) -> Iterator[str]:
    """The URL of an empty database."""
    with server.bare() as url:
        yield url


def test_what_it_opened_and_uses_is_of_release_5_and_old_passwords_are_kept() -> None:
    file = vantage6_databases.open_by_release_5(vantage6_databases.copied("4.15.2", Path("four.sqlite")))
    with closing(sqlite3.connect(file)) as conn, conn:
        conn.execute("UPDATE authenticatable SET keycloak_id = 'x' WHERE id = 1")
        conn.execute("UPDATE user SET password = NULL WHERE id = 1")
        conn.execute("UPDATE run SET input = NULL, arguments = 'new' WHERE id = 1")
    done = run(OURS, "import", str(file))
    assert "is the database of a vantage6 server, release 5\n" in done.stderr
    found = dict(rows("SELECT id, password FROM user", OURS))
    assert found.pop(1) == hashing.KEYCLOAK and all(map(hashing.is_hash, found.values()))
    (first, second) = rows("SELECT input FROM result WHERE id < 3 ORDER BY id", OURS)
    assert first == ("new",) and second == rows("SELECT input FROM run WHERE id = 2", str(file))[0]


def test_runs_whose_ids_results_have_get_new_ones() -> None:
    shutil.copy(NAME, "both.sqlite")
    with closing(sqlite3.connect("both.sqlite")) as conn, conn:
        conn.execute("CREATE TABLE result AS SELECT * FROM run WHERE id = 0")
        conn.execute("INSERT INTO result (id, arguments, task_id, organization_id) VALUES (1, 'old', 1, 2)")
    done = run(OURS, "import", "both.sqlite")
    assert "run 1 is result 38 here: there is a result 1 too" in done.stderr
    assert rows("SELECT input FROM result WHERE id = 1", OURS) == [("old",)]
    assert rows("SELECT input FROM result WHERE id = 38", OURS) == rows("SELECT arguments FROM run WHERE id = 1")
