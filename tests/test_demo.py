"""The example data: what it has to show, that it is the same each time, and that the example file holds the same."""

from __future__ import annotations

import base64
import contextlib
import datetime
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import postgres
from helpers.terminal import ROOT, environment

import models
from vserverlib import Error, hashing, payloads
from vserverlib.entities import journal, progress
from vserverlib.entities.fields import Secret
from vserverlib.examples import demo
from vserverlib.opening import opener

EXAMPLE = ROOT / "vserver.db.example"
REMAKE = "to make it anew: rm vserver.db.example && vserver -d vserver.db.example init --demo"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a database with the example data, which no test here changes."""
    return demo.create(tmp_path_factory.mktemp("demo") / "demo.db")


@pytest.fixture
def consortium(filled: Path) -> Iterator[Any]:
    """The example data, open."""
    with contextlib.closing(models.connect(filled)) as database:
        yield database


def content(path: Path) -> dict[str, list[Any]]:
    """Return what is in a database: the schema, and the rows of each table but for when it was made."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as conn:  # leaves no log behind
        tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = {name: conn.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}
        rows["schema_migration"] = [row[:2] for row in rows["schema_migration"]]
        return {"schema": conn.execute("SELECT name, sql FROM sqlite_schema").fetchall(), **rows}


# What it has to show


def test_it_is_a_consortium(consortium: Any) -> None:
    assert len({organization.country for organization in models.Organization.get()}) >= 4
    assert len(models.User.get()) >= 8
    assert [collaboration.encrypted for collaboration in models.Collaboration.get()].count(True) == 1
    assert len(models.Collaboration.get()) == 3
    assert len(models.Task.get()) == 24


def test_its_tasks_are_in_every_state(consortium: Any) -> None:
    assert {task.status for task in models.Task.get()} == set(progress.TASK_STATUSES)
    assert 0 < sum(task.complete for task in models.Task.get()) < 24


def test_its_results_are_in_every_state_and_fail_in_many_ways(consortium: Any) -> None:
    found = {result.status for result in models.Result.get()}
    assert {"pending", "active", "completed", "failed", "crashed", "killed by user"} < found
    assert found <= set(progress.STATUSES)


def test_subtasks_share_the_run_and_the_collaboration_of_their_parent(consortium: Any) -> None:
    children = [task for task in models.Task.get() if task.parent]
    assert len(children) >= 8
    assert all(child.run_id == child.parent.run_id for child in children)
    assert len({task.run_id for task in models.Task.get() if not task.parent}) == 24 - len(children)


def test_the_next_run_is_one_that_no_task_has(filled: Path) -> None:
    with contextlib.closing(models.connect(filled, sandbox=True)):
        assert models.Task.next_run_id() == max(task.run_id for task in models.Task.get()) + 1


def test_nodes_are_online_offline_or_have_never_run(consortium: Any) -> None:
    assert {node.status for node in models.Node.get()} == {"online", "offline", None}
    assert all((node.last_seen is None) == (node.ip is None) == (node.status is None) for node in models.Node.get())


def test_names_are_in_several_scripts_and_hold_what_could_be_taken_for_markup(consortium: Any) -> None:
    names = "".join(entity.name for model in (models.Organization, models.Task) for entity in model.get())
    assert "É" in names and "ü" in names and "青" in names and "[draft]" in names


def test_public_keys_are_well_formed_and_say_that_they_are_samples(consortium: Any) -> None:
    for organization in models.Organization.get().where(models.Organization.public_key.is_null(False)):
        head, *lines, tail = organization.public_key.splitlines()
        assert (head, tail) == ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
        assert "sample/key/of/organization" in "".join(lines)
        key = base64.b64decode("".join(lines), validate=True)
        assert key[:4] == b"\x30\x82\x01\x22" and len(key) == 0x122 + 4 and key[-5:] == b"\x02\x03\x01\x00\x01"


# How to log in


# Real hashes, of 0.2 s each: some of them, and all where there is time.
SOME_AND_ALL = pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])


@SOME_AND_ALL
def test_every_password_is_as_documented(consortium: Any, step: int) -> None:
    users = list(models.User.get())[::step]
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(lambda user: user.check_password(demo.password_of(user.username)), users))


@SOME_AND_ALL
def test_every_api_key_is_as_documented(consortium: Any, step: int) -> None:
    nodes = list(models.Node.get())[::step]
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(lambda node: node.check_key(demo.key_of(node.id)), nodes))


def test_a_node_is_found_by_its_documented_key(consortium: Any) -> None:
    assert models.Node.get_by_api_key("00000000-0000-4000-8000-000000000007").id == 7


def test_the_documentation_names_a_password_and_a_key_that_are_so() -> None:
    for text in (demo.log_ins(), demo.__doc__ or ""):
        assert demo.password_of("anna.devries") in text
        assert demo.key_of(1)[:-12] in text


# That it is sound


def test_each_value_is_stored_as_a_save_would_store_it(consortium: Any) -> None:
    for model in (*models.ENTITIES, models.Member):
        for entity in model.get():
            for field in model.stored_fields():
                stored = entity._stored[field.name]
                assert field.clean(stored) == stored, f"{entity.named()}, {field}"


# The rules of the server's API, by the codes that they have there: what breaks one.
MEMBER = "SELECT 1 FROM member AS m WHERE m.organization_id = {} AND m.collaboration_id = {}"
RULES = {
    "ORG001": "SELECT id FROM organization WHERE trim(coalesce(name, '')) = '' OR length(name) > 128",
    "ORG002": "SELECT id FROM organization GROUP BY name HAVING COUNT(*) > 1",
    "USR001": "SELECT id FROM user WHERE organization_id IS NULL",
    "USR002": "SELECT id FROM user WHERE username NOT GLOB '[a-z]*' OR username GLOB '*[^a-z.]*'",
    "USR004": "SELECT id FROM user WHERE password IS NULL",
    "USR005": "SELECT id FROM user WHERE email NOT LIKE '%_@_%._%'",
    "COL001": "SELECT id FROM collaboration WHERE trim(coalesce(name, '')) = '' OR length(name) > 128",
    "COL002": "SELECT id FROM collaboration AS c WHERE NOT EXISTS (SELECT 1 FROM member WHERE collaboration_id = c.id)",
    "COL003": "SELECT organization_id, collaboration_id FROM member EXCEPT "
    "SELECT organization_id, collaboration_id FROM node",
    "NOD001": "SELECT id FROM node WHERE organization_id IS NULL OR collaboration_id IS NULL",
    "NOD002": f"SELECT id FROM node AS n WHERE NOT EXISTS ({MEMBER.format('n.organization_id', 'n.collaboration_id')})",
    "NOD003": "SELECT id FROM node GROUP BY organization_id, collaboration_id HAVING COUNT(*) > 1",
    "NOD004": "SELECT id FROM node GROUP BY name HAVING COUNT(*) > 1",
    "TSK001": "SELECT id FROM task WHERE collaboration_id IS NULL",
    "TSK002": "SELECT id FROM task WHERE image IS NULL",
    "TSK003": f"SELECT id FROM task AS t WHERE NOT EXISTS ({MEMBER.format('t.initiator_id', 't.collaboration_id')})",
    "TSK004": "SELECT t.id FROM task AS t JOIN task AS p ON p.id = t.parent_id "
    "WHERE (t.run_id, t.collaboration_id) IS NOT (p.run_id, p.collaboration_id) OR p.id >= t.id",
    "RES001": "SELECT id FROM result WHERE task_id IS NULL",
    "RES002": "SELECT r.id FROM result AS r JOIN task AS t ON t.id = r.task_id "
    f"WHERE NOT EXISTS ({MEMBER.format('r.organization_id', 't.collaboration_id')})",
    "RES003": "SELECT id FROM result GROUP BY task_id, organization_id HAVING COUNT(*) > 1",
    "RES004": "SELECT id FROM result WHERE finished_at < started_at OR started_at < assigned_at "
    "OR (finished_at IS NOT NULL AND started_at IS NULL)",
    "RES005": "SELECT r.id FROM result AS r JOIN task AS t ON t.id = r.task_id WHERE NOT EXISTS "
    "(SELECT 1 FROM node AS n WHERE n.organization_id = r.organization_id AND n.collaboration_id = t.collaboration_id)",
    "RES006": "SELECT r.id FROM result AS r JOIN task AS t ON t.id = r.task_id JOIN collaboration AS c "
    "ON c.id = t.collaboration_id JOIN organization AS o ON o.id = r.organization_id "
    "WHERE c.encrypted AND o.public_key IS NULL",
}  # fmt: skip


@pytest.mark.parametrize("code", RULES)
def test_no_rule_of_the_api_is_broken(consortium: Any, code: str) -> None:
    assert consortium.execute_sql(RULES[code]).fetchall() == []


def test_the_passwords_and_keys_break_no_rule_either() -> None:
    for row in demo.USERS:
        password = demo.password_of(row[1])
        assert len(password) >= 8 and password != password.lower() and "-" in password and "1" in password
    assert demo.key_of(1)[14] == "4"  # a version 4 UUID: NOD005 is about those of version 1


def test_inputs_and_results_are_base64_of_json_unless_their_collaboration_is_encrypted(consortium: Any) -> None:
    for result in models.Result.get():
        for text in filter(None, (result.input, result.result)):
            is_sealed = result.task.collaboration.encrypted
            assert (payloads.readable(text) == text) == is_sealed and (text == demo.SEALED) == is_sealed


def test_only_the_task_made_by_hand_has_no_results(consortium: Any) -> None:
    assert [task.name for task in models.Task.get() if task.status == "empty"] == ["Missing values, by hand"]


def test_no_subtask_is_older_than_its_parent_or_ends_after_it(consortium: Any) -> None:
    for task in models.Task.get():
        if task.parent:
            assert task.created_at > task.parent.created_at
            assert not task.parent.complete or task.finished_at < task.parent.finished_at


def test_the_references_hold(consortium: Any) -> None:
    assert consortium.execute_sql("PRAGMA foreign_key_check").fetchall() == []
    assert consortium.execute_sql("PRAGMA integrity_check").fetchall() == [("ok",)]


# How it is made


def test_it_is_the_same_each_time(filled: Path, tmp_path: Path) -> None:
    assert content(demo.create(tmp_path / "again.db")) == content(filled)


def test_it_is_the_same_on_a_server(filled: Path, server: postgres.Server) -> None:
    with server.bare() as url:
        demo.make(url)
        found = []
        for target in (url, filled):
            with contextlib.closing(models.connect(target)) as database:
                found.append([list(model.select().order_by(model.id).dicts()) for model in models.ENTITIES])
                found[-1].append(list(database.execute_sql("SELECT name, value FROM counter").fetchall()))
                assert len(journal.log(database)) == 0
        assert found[0] == found[1] and len(found[0][-2]) > 20


def test_it_is_the_same_on_another_day(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls(2031, 1, 1, tzinfo=tz)

    monkeypatch.setattr(demo, "datetime", SimpleNamespace(datetime=Later, timedelta=datetime.timedelta))
    assert content(demo.create(tmp_path / "later.db")) == content(filled)


def test_making_it_hashes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(hashing, "make_hash")
    monkeypatch.delattr(hashing, "new_salt")
    demo.create(tmp_path / "demo.db")


def test_a_file_that_exists_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "demo.db").write_bytes(b"mine")
    with pytest.raises(Error, match="exists already"):
        demo.create(tmp_path / "demo.db")
    assert (tmp_path / "demo.db").read_bytes() == b"mine"


def test_what_cannot_be_filled_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "content", lambda: {"organization": [{"nmae": "IKNL"}]})
    with pytest.raises((Error, sqlite3.OperationalError)):
        demo.create(tmp_path / "demo.db")
    assert list(tmp_path.iterdir()) == []


def test_only_its_owner_can_read_it(filled: Path) -> None:
    assert filled.stat().st_mode & 0o777 == 0o600


def test_making_it_leaves_the_open_database_open(database: Any, tmp_path: Path) -> None:
    demo.create(tmp_path / "demo.db")
    assert models.database.obj is database and not database.is_closed()


def test_a_private_copy_is_gone_with_its_folder_when_it_is_closed() -> None:
    database = opener.demo()
    folder = Path(database.database).parent
    models.Task.get(1).delete(dependents=True)
    database.close()
    assert not folder.exists()
    with contextlib.closing(opener.demo()):
        assert len(models.Task.get()) == 24


# The example file


def test_the_example_file_holds_what_is_made_today(filled: Path) -> None:
    assert content(EXAMPLE) == content(filled), REMAKE


def test_no_secret_of_the_example_is_stored_plainly() -> None:
    stored = content(EXAMPLE)
    for model in models.ENTITIES:
        for at, field in enumerate(model._meta.sorted_fields):
            if isinstance(field, Secret):
                assert all(hashing.is_hash(row[at]) for row in stored[model._meta.table_name])


LOOKS = (
    ("list", "tasks"),
    ("show", "organization", "1"),
    ("shell", "-c", "len(db.Task.get())"),
    ("shell", "--read-only", "-c", "db.Task.get()[3].complete"),
    ("shell", "--sandbox", "-c", "db.Task(name='x').save()"),
)


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_looking_at_the_example_file_does_not_change_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    copy = Path(shutil.copy(EXAMPLE, tmp_path))
    command = [sys.executable, "-c", "import vserver; vserver.main()", "-d", copy.name, *words]
    subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), check=True, capture_output=True)
    assert copy.read_bytes() == EXAMPLE.read_bytes()
    assert [path.name for path in tmp_path.glob("vserver.db*")] == [copy.name]
