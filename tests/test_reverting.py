"""Undoing applied plans, and the log of them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import vantage6_servers
from helpers.terminal import environment
from helpers.vantage6_servers import Server

import models
from vserverlib import Error
from vserverlib.plans import records, reverting, sessions
from vserverlib.plans.plan import ChangedMeanwhile, Refused

REPETITIONS = int(os.environ.get("VSERVER_REPETITIONS", "20"))


@pytest.fixture(params=["3.11.1", "4.15.2", "5.0.3"])
def release(request: pytest.FixtureRequest) -> str:
    """A release whose database can be changed."""
    return str(request.param)


@pytest.fixture
def theirs(release: str, tmp_path: Path, quick_hashes: None) -> Server:
    """The file of a server."""
    return vantage6_servers.of_release(release, tmp_path)


def applied(theirs: Server, name: str = "Another") -> None:
    """Rename an organization, create one, delete a task, and apply it."""
    copy = vantage6_servers.opened(theirs)
    organization = models.Organization.get(2)
    organization.name = name
    organization.save()
    models.Organization(name=f"new {name}").save()
    models.Task.get(3).delete(dependents=True)
    copy.apply(backup=False)
    copy.close()


def test_the_log_says_what_was_applied_when_and_by_whom(theirs: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSERVER_ACTOR", "anna")
    assert reverting.log(theirs.target) == []
    applied(theirs)
    (record,) = reverting.log(theirs.target)
    assert (record.number, record.actor, record.reverts, record.reverted_by) == (1, "anna", None, None)
    assert "1 organization new; 1 organization changed; 2 tasks" in record.summary
    assert json.loads(json.dumps(record.plan))["changes"][0]["title"].startswith("organization 2")


def test_an_undo_restores_every_byte_and_can_be_undone(theirs: Server) -> None:
    before = theirs.tables()
    applied(theirs)
    after = theirs.tables()
    plan = reverting.plan(theirs.target)
    assert plan.reverts == 1 and "- organization" in str(plan) and "+ task 3" in str(plan)
    undone = reverting.apply(theirs.target, expected=plan)
    assert theirs.tables() == before and undone.backup is not None
    assert [record.reverted_by for record in reverting.log(theirs.target)] == [None, 2]
    reverting.apply(theirs.target, 2, backup=False)
    assert theirs.tables() == after
    with pytest.raises(Error, match="nothing to undo"):
        reverting.plan(theirs.target)


def test_the_newest_that_was_not_undone_is_undone_first(theirs: Server) -> None:
    applied(theirs)
    copy = vantage6_servers.opened(theirs)
    organization = models.Organization.get(2)
    organization.country = "XX"
    organization.save()
    copy.apply(backup=False)
    copy.close()
    assert [reverting.apply(theirs.target, backup=False).plan.reverts for _ in range(2)] == [2, 1]


CHANGED_SINCE = {
    "a value": ("UPDATE organization SET name = 'else' WHERE id = 2", 'name is "else" now'),
    "a deleted row": ("DELETE FROM organization WHERE name = 'new Another'", "no longer exists"),
    "an id that is taken": ("INSERT INTO task (id, init_org_id) VALUES (3, 1)", "task 3 exists again: delete it"),
    "a row that refers to a new one": (
        "INSERT INTO role (organization_id) SELECT id FROM organization WHERE name = 'new Another'",
        "refers to it: delete that first",
    ),
    "a row that is needed": ("DELETE FROM collaboration WHERE id = 1", "collaboration 1 no longer exists"),
}


@pytest.mark.parametrize("case", CHANGED_SINCE)
def test_a_change_whose_rows_were_changed_since_is_not_undone(case: str, theirs: Server) -> None:
    sql, said = CHANGED_SINCE[case]
    applied(theirs)
    theirs.run(sql if theirs.run("PRAGMA table_info(run)") else sql.replace("init_org_id", "initiator_id"))
    before = theirs.tables()
    with pytest.raises(Refused) as caught:
        reverting.apply(theirs.target, backup=False)
    assert said in str(caught.value) and theirs.tables() == before


def test_columns_that_the_server_updates_do_not_prevent_an_undo(tmp_path: Path, quick_hashes: None) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    before, copy = theirs.tables(), vantage6_servers.opened(theirs)
    user = models.User.get(2)
    user.password = "Some-thing-7"  # no secret
    user.save()
    copy.apply(backup=False)
    copy.close()
    theirs.run("UPDATE user SET last_login_attempt = '2026-11-28 10:00:00.000000' WHERE id = 2")
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == before


def test_swapped_names_are_swapped_back(theirs: Server) -> None:
    before, copy = theirs.tables(), vantage6_servers.opened(theirs)
    one, other = models.Collaboration.get(1), models.Collaboration.get(2)
    names = one.name, other.name
    for entity, name in ((one, "between"), (other, names[0]), (one, names[1])):
        entity.name = name
        entity.save()
    users = models.User.get(2), models.User.get(3)
    usernames = [user.username for user in users]
    for user, username in ((users[0], "between"), (users[1], usernames[0]), (users[0], usernames[1])):
        user.username = username
        user.save()
    copy.apply(backup=False)
    copy.close()
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == before


def test_orphan_links_are_restored_as_they_were(tmp_path: Path) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    theirs.run("UPDATE run SET organization_id = 99 WHERE task_id = 3")
    before = theirs.tables()
    applied(theirs)
    reverting.apply(theirs.target, backup=False)
    assert theirs.tables() == before


def test_a_number_that_is_not_on_record_is_refused(theirs: Server) -> None:
    applied(theirs)
    with pytest.raises(Error, match=r"no change 7 .*choose one of 1"):
        reverting.plan(theirs.target, 7)


def test_a_change_that_was_not_confirmed_is_not_undone(theirs: Server) -> None:
    applied(theirs)
    seen = reverting.plan(theirs.target)
    applied_later = vantage6_servers.opened(theirs)
    models.Organization(name="later").save()
    applied_later.apply(backup=False)
    applied_later.close()
    with pytest.raises(ChangedMeanwhile, match="review the new plan"):
        reverting.apply(theirs.target, expected=seen, backup=False)


def test_a_file_that_was_restored_no_longer_shows_what_was_applied(theirs: Server) -> None:
    before = Path(theirs.target).read_bytes()
    applied(theirs)
    (record,) = reverting.log(theirs.target)
    assert not reverting.marked(theirs.target, [record])[0].gone
    Path(theirs.target).write_bytes(before)
    assert reverting.marked(theirs.target, [record])[0].gone
    with pytest.raises(Error, match=r"no longer shows change 1.*restoring a backup.*--change N"):
        reverting.plan(theirs.target)


def test_a_renamed_file_keeps_its_records_and_a_copy_does_not(theirs: Server, tmp_path: Path) -> None:
    before = theirs.tables()
    applied(theirs)
    copy, renamed = tmp_path / "copy.sqlite", tmp_path / "renamed.sqlite"
    shutil.copy(theirs.target, copy)
    assert reverting.log(copy) == [] and reverting.copied_from(copy) == theirs.target
    with pytest.raises(Error, match="each account keeps its own records"):
        reverting.plan(copy)
    Path(theirs.target).rename(renamed)
    assert [record.number for record in reverting.log(renamed)] == [1]
    reverting.apply(renamed, backup=False)
    assert Server(renamed).tables() == before and reverting.log(renamed)[1].reverted_by == 2


def test_another_file_does_not_get_the_records_of_a_deleted_one(theirs: Server, release: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = vantage6_servers.of_release(release, tmp_path / "other")
    applied(theirs)
    Path(theirs.target).unlink()
    assert reverting.log(other.target) == []


def test_a_server_can_write_while_an_undo_reads_its_record(theirs: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    newest_first, which = records.newest_first, "WHERE name = '東京病院'"

    def slowly(record: records.Record) -> Iterator[records.Row]:
        for row in newest_first(record):
            theirs.run(f"UPDATE organization SET domain = 'else.example' {which}")
            yield row

    before = theirs.tables()
    applied(theirs)
    monkeypatch.setattr(records, "newest_first", slowly)
    reverting.apply(theirs.target, backup=False)
    assert theirs.value(f"SELECT domain FROM organization {which}") == "else.example"
    theirs.run(f"UPDATE organization SET domain = 'org3.example' {which}")
    assert theirs.tables() == before


def test_a_damaged_record_is_one_line(theirs: Server) -> None:
    applied(theirs)
    reverting.log(theirs.target)[0].path.write_text("{}\n")
    with pytest.raises(Error, match="move it away"):
        reverting.log(theirs.target)


def test_a_record_that_is_cut_off_is_one_line(theirs: Server) -> None:
    applied(theirs)
    path = reverting.log(theirs.target)[0].path
    path.write_text(path.read_text()[:-20])
    with pytest.raises(Error, match="0001.json is not a valid record.*move it away"):
        reverting.plan(theirs.target)


def test_the_plan_of_an_undo_has_the_ids_of_the_server_and_says_what_nodes_do_not_notice(
    tmp_path: Path, quick_hashes: None
) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    copy = vantage6_servers.opened(theirs)
    lab, kyoto = models.Organization.get(5), models.Collaboration.get_by_name("KYOTO")
    models.User(username="new", password="Some-thing-7", organization=lab).save()  # 7 here, 12 there
    kyoto.organizations = [*kyoto.organizations, lab]
    kyoto.save()
    models.Result.get(5).fail()
    copy.apply(backup=False)
    copy.close()
    undo = reverting.plan(theirs.target)
    assert [(change.title, change.id) for change in undo.changes if change.entity == "user"] == [('user 12 "new"', 12)]
    said = ["a run without finished_at", "deleted users stay logged in", "new and deleted memberships"]
    assert len(undo.notes) == len(said) and all(a in b for a, b in zip(said, undo.notes, strict=True))
    number = reverting.apply(theirs.target, backup=False).number
    again = reverting.plan(theirs.target, number)
    assert [change.server_id for change in again.changes if change.entity == "user"] == [12]
    assert "kill it with the server's API" in again.notes[0]


def test_undoing_an_undo_says_what_nodes_do_not_notice(tmp_path: Path, quick_hashes: None) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    copy = vantage6_servers.opened(theirs)
    models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
    said = copy.apply(backup=False).plan.notes
    copy.close()
    number = reverting.apply(theirs.target, backup=False).number
    assert reverting.plan(theirs.target, number).notes == said


def test_a_record_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    before = theirs.tables()
    copy = vantage6_servers.opened(theirs)
    models.Task.get(3).delete(dependents=True)
    copy.plan()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limit[1]))
    try:
        with pytest.raises(Error, match=r"0001.json cannot be written: .*nothing was changed"):
            copy.apply(backup=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert theirs.tables() == before and reverting.log(theirs.target) == []
    copy.close()


def test_a_working_copy_that_fails_after_its_plan_was_applied_plans_nothing_more(tmp_path: Path) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    copy = vantage6_servers.opened(theirs)
    models.Organization(name="new").save()
    with contextlib.closing(sqlite3.connect(copy.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM organization").fetchall()  # so that the copy's log cannot be emptied
        applied = copy.apply(backup=False)
    assert "cannot plan more after change 1" in applied.notes[0]
    assert [record.number for record in reverting.log(theirs.target)] == [1]
    for call in copy.plan, copy.apply:
        with pytest.raises(Error, match=r"after change 1 .*start from a new copy"):
            call()
    copy.close()


def test_a_row_that_a_later_plan_changed_names_that_plan(tmp_path: Path, quick_hashes: None) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    for name in "one", "two":
        copy = vantage6_servers.opened(theirs)
        organization = models.Organization.get(2)
        organization.name = name
        organization.save()
        copy.apply(backup=False)
        copy.close()
    with pytest.raises(Refused, match='organization 2: name is "two" now, and was "one".*: undo change 2 first'):
        reverting.plan(theirs.target, 1)
    reverting.apply(theirs.target, 2, backup=False)
    reverting.apply(theirs.target, 1, backup=False)
    theirs.run("UPDATE organization SET name = 'else' WHERE id = 2")
    with pytest.raises(Refused, match='name is "else" now.*: change it by hand'):
        reverting.plan(theirs.target, 4)


# Two sessions at once


def test_a_record_is_in_place_only_when_it_is_complete(tmp_path: Path, quick_hashes: None) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    identity = sessions.identity(theirs.target)
    applied(theirs)
    plan = reverting.plan(theirs.target)
    with pytest.raises(ZeroDivisionError), records.writing(identity, 2, None) as writer:
        writer.begin(plan, {})
        assert [record.number for record in reverting.log(theirs.target)] == [1]
        writer.finish()
        assert [record.number for record in reverting.log(theirs.target)] == [2, 1]
        1 / 0  # noqa: B018  # the commit fails
    assert [file.name for file in records.folder(identity).iterdir()] == ["0001.json"]


def test_another_session_waits_until_a_plan_is_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, seen = vantage6_servers.of_release("4.15.2", tmp_path), list[int]()
    identity = sessions.identity(theirs.target)

    def other() -> None:
        with records.numbered(identity, "s.sqlite") as number:
            seen.append(number)

    with records.numbered(identity, "s.sqlite") as number:
        thread = threading.Thread(target=other)
        thread.start()
        while "waiting" not in capsys.readouterr().err:
            assert thread.is_alive()
        assert (number, seen) == (1, [])
        (records.folder(identity) / "0001.json").touch()
    thread.join()
    assert seen == [2]


# Killed


def test_what_a_killed_session_left_is_no_record_and_does_not_stop_the_next_plan(
    tmp_path: Path, quick_hashes: None
) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    folder = records.create_folder(sessions.identity(theirs.target))
    (folder / "0003.db").touch()  # killed between the backup and the record
    (folder / ".0004.json.abcd1234.new").write_text("{")  # within the transaction
    (folder / ".0004.db.abcd_234.new-journal").touch()  # within the backup
    assert reverting.log(theirs.target) == []
    copy = vantage6_servers.opened(theirs)
    models.Organization(name="new").save()
    assert copy.apply().number == 4
    copy.close()
    assert sorted(file.name for file in folder.iterdir()) == ["0003.db", "0004.db", "0004.json"]


KILLED = """
import sys
from pathlib import Path
import models
from vserverlib.plans import working_copy
copy = working_copy.opened(Path(sys.argv[1]))
models.Collaboration.get_by_name("KYOTO").delete(dependents=True)
models.Organization(name="new").save()
print("ready", flush=True)
copy.apply(backup=False)
print("done", flush=True)
"""


@pytest.mark.long
def test_whoever_is_killed_leaves_the_database_as_before_or_all_done(tmp_path: Path) -> None:
    outcomes = set()
    for number in range(REPETITIONS):
        (tmp_path / str(number)).mkdir()
        theirs = vantage6_servers.of_release("4.15.2", tmp_path / str(number))
        before, where = (
            theirs.tables(),
            environment(Path(os.environ["HOME"]), XDG_DATA_HOME=os.environ["XDG_DATA_HOME"]),
        )
        words = [sys.executable, "-c", KILLED, str(theirs.target)]
        with subprocess.Popen(words, env=where, cwd=Path(models.__file__).parent, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
            time.sleep(0.15 * number / REPETITIONS)  # somewhere in what takes about as long
            child.send_signal(signal.SIGKILL)
            child.wait()
        after = theirs.tables()
        is_done = after != before
        outcomes.add(is_done)
        if is_done:
            assert len(after["collaboration"]) == len(before["collaboration"]) - 1
            assert "new" in [row[1] for row in after["organization"]]
            reverting.apply(theirs.target, backup=False)  # it is on record
            assert theirs.tables() == before
    assert outcomes == {True, False}


def test_a_killed_session_leaves_a_copy_that_the_next_one_removes(tmp_path: Path, quick_hashes: None) -> None:
    theirs = vantage6_servers.of_release("4.15.2", tmp_path)
    words = [sys.executable, "-c", KILLED.replace("copy.apply(backup=False)", "input()"), str(theirs.target)]
    where = environment(Path(os.environ["HOME"]), XDG_DATA_HOME=os.environ["XDG_DATA_HOME"])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, env=where, cwd=Path(models.__file__).parent, **pipes) as child:  # type: ignore[call-overload]
        child.stdout.readline()
        copy = vantage6_servers.opened(theirs)
        parent = Path(copy.database).parent.parent
        assert len(list(parent.iterdir())) == 2
        child.kill()
        child.wait()
    copy.close()
    vantage6_servers.opened(theirs).close()
    assert list(parent.iterdir()) == []
