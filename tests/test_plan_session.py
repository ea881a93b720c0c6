"""--write and --dry-run as a person types them: each test starts the program on a copy of a server's database."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from helpers import vantage6_servers
from helpers.process import PROGRAM, Ended, vserver
from helpers.terminal import Terminal, environment
from helpers.vantage6_servers import Server

DATA = Path(__file__).parent / "data"
PLANS = DATA / "plans"
PASSWORD = "Some-thing-7"  # no secret
RELEASES = ("3.11.1", "4.15.2", "5.0.3")
HOSPITAL = """
hospital = db.Organization(name="Nieuwe Kliniek", country="NL")
hospital.save()
kyoto = db.Collaboration.get_by_name("KYOTO")
kyoto.organizations = [*kyoto.organizations, hospital]
kyoto.save()
db.Organization.get_by_name("Lab [beta]").delete(dependents=True)
db.Collaboration.get_by_name("lonely").delete(dependents=True)
run = db.Result.get(5)
run.status, run.started_at, run.finished_at = "killed by user", "2026-11-28 09:00", "2026-11-28 10:00"
run.save()
db.Task.get(3).delete(dependents=True)
"""
OWN = """
user = db.User.get_by_username("user10")
user.password, user.roles = "Some-thing-7", "root"
user.save()
db.User.get_by_username("user11").unlock()
for name in "one", "two":
    db.User(username=name, password="Some-thing-7", firstname=name, lastname="New", email=f"{name}@new.example",
            roles="root", organization=hospital).save()
db.Node(name="Nieuwe Kliniek at KYOTO", organization=hospital, collaboration=kyoto,
        api_key="a2c3d4e5-1111-4222-8333-444455556666").save()
"""
IN_FIVE = """
user = db.User.get_by_username("user10")
user.roles = "Root"
user.save()
"""
SESSIONS = {"3.11.1": HOSPITAL + OWN, "4.15.2": HOSPITAL + OWN, "5.0.3": HOSPITAL + IN_FIVE}


@pytest.fixture
def theirs(tmp_path: Path) -> Server:
    """The file of a server of release 4, which the tests of all verbs change."""
    return vantage6_servers.of_release("4.15.2", tmp_path)


def run(server: Server, *words: str | Path, given: str | None = "", **env: str) -> Ended:
    """Run `vserver -d SERVER --write WORDS`."""
    return vserver("-d", server.target, "--write", *words, given=given, **env)


def said(ended: Ended) -> str:
    """Return the messages in one line, however they were wrapped."""
    return " ".join(ended.err.split())


# What a plan looks like


def steady(text: str) -> str:
    """Return a plan without what is another one each time."""
    text = "\n".join(line.rstrip() for line in text.splitlines())
    text = re.sub(r"as of\s+[\d:]+\s+UTC", "as of TIME UTC", text)
    return re.sub(r"backup and record:.*", "backup and record: FOLDER\n", text, flags=re.DOTALL)


@pytest.mark.parametrize("width", ["80", "pipe"])
@pytest.mark.parametrize("release", RELEASES)
def test_the_plan_of_a_session_in_each_release(release: str, width: str, tmp_path: Path) -> None:
    server = vantage6_servers.of_release(release, tmp_path)
    if release != "5.0.3":
        server.run("UPDATE user SET failed_login_attempts = 5 WHERE username = 'user11'")
    env = {"VSERVER_HOME": "home"} | ({"COLUMNS": width} if width != "pipe" else {})
    words = ("-d", f"server-{release}.sqlite", "--write", "--dry-run", "shell", "-c", SESSIONS[release])
    done = vserver(*words, cwd=tmp_path, **env)
    golden = PLANS / f"{release}-{width}.txt"
    if os.environ.get("VSERVER_GOLDEN"):
        golden.write_text(steady(done.out))
    assert done.status == 0, done.err
    assert steady(done.out) == golden.read_text()
    assert width == "pipe" or all(len(line) <= 80 for line in done.out.splitlines())
    assert PASSWORD not in done.out + done.err


def test_a_plan_for_programs_is_one_document(theirs: Server) -> None:
    before = theirs.tables()
    done = run(theirs, "--dry-run", "-o", "json", "delete", "task", "3", "--dependents")
    plan = json.loads(done.out)
    assert plan["counts"]["deleted"] == {"task": 2, "run": 6} and plan["theirs"] == {"taskdatabase": 2}
    assert "dry run" in done.err and theirs.tables() == before


def test_what_a_script_prints_is_not_mixed_with_its_plan(theirs: Server) -> None:
    done = run(theirs, "--dry-run", "-o", "json", "shell", "-c", "print(1); db.Task.get(1).delete(dependents=True)")
    assert json.loads(done.out)["counts"]["deleted"]["task"] == 1 and done.err.startswith("1\n")


@pytest.mark.parametrize("words", [("--dry-run", "delete", "task", "3"), ("delete", "task", "3", "--dry-run")])
def test_a_dry_run_before_or_behind_the_command_shows_the_plan(theirs: Server, words: tuple[str, ...]) -> None:
    done = run(theirs, *words, "--dependents")
    assert done.status == 0 and "- task 3" in done.out and "nothing was written" in done.err


# The verbs


def test_an_id_is_printed_as_the_server_gave_it(theirs: Server) -> None:
    words = ("create", "user", "kari", "organization=1", "--no-password")
    assert run(theirs, "--dry-run", *words).out.startswith("Plan for")
    named = run(theirs, "--yes", *words, "-o", "name")
    id = theirs.value("SELECT id FROM \"user\" WHERE username = 'kari'")
    assert named.out == f"user/{id}\n", named.err
    made = json.loads(
        run(theirs, "--yes", "create", "node", "N", "organization=1", "collaboration=2", "-o", "json").out
    )
    assert made["id"] == theirs.value("SELECT id FROM node WHERE name = 'N'") and made["api_key"]


def test_a_key_that_is_not_applied_is_not_printed(theirs: Server) -> None:
    before = theirs.tables()
    assert re.search("[0-9a-f]{8}-[0-9a-f]{4}-", run(theirs, "--dry-run", "apikey", "node/8").out) is None
    refused = run(theirs, "apikey", "node/8")
    assert (refused.status, refused.out) == (1, "") and theirs.tables() == before


def test_a_status_that_the_times_contradict_is_refused_and_no_other_is_written(theirs: Server) -> None:
    before = theirs.tables()
    done = run(theirs, "--yes", "set", "result", "16", "status=pending")
    assert done.status == 1 and 'status "pending" was given' in said(done) and theirs.tables() == before
    done = run(theirs, "--yes", "set", "result", "17", "log=note")
    assert done.status == 0 and theirs.value("SELECT status FROM run WHERE id = 17") == "initializing"


def test_a_new_password_replaces_the_old_one(theirs: Server) -> None:
    done = run(theirs, "--yes", "passwd", "user10", "--stdin", given=PASSWORD)
    stored = theirs.value("SELECT password FROM \"user\" WHERE username = 'user10'")
    assert done.status == 0 and bcrypt.checkpw(PASSWORD.encode(), stored.encode())
    assert re.search(r"planned: .*new password.*applied in .* --write undo", said(done))


def test_a_new_api_key_is_printed_once_and_stored(theirs: Server) -> None:
    done = run(theirs, "--yes", "apikey", "node/8")
    stored = theirs.value("SELECT api_key FROM node WHERE id = 8")
    assert done.status == 0 and bcrypt.checkpw(done.out.strip().encode(), stored.encode())


def test_unlocking_lifts_the_lock_out_and_two_factor(theirs: Server) -> None:
    theirs.run("UPDATE \"user\" SET failed_login_attempts = 6, otp_secret = 'ABC' WHERE username = 'user10'")
    asked = "SELECT failed_login_attempts, otp_secret FROM \"user\" WHERE username = 'user10'"
    assert run(theirs, "--yes", "unlock", "user10").status == 0
    assert theirs.run(asked) == [(0, "ABC")]
    assert run(theirs, "--yes", "unlock", "user10", "--two-factor").status == 0
    assert theirs.run(asked) == [(0, None)]


def test_a_check_of_a_server_names_the_command_that_changes_it(theirs: Server) -> None:
    done = vserver("-d", theirs.target, "check")
    assert done.status == 1 and re.search(r"vserver -d \S+ --write set user 4 ", " ".join(done.out.split()))


def test_a_plan_names_all_that_unlock_changes_and_nothing_else(theirs: Server) -> None:
    assert "No changes" in run(theirs, "--yes", "unlock", "user10", "--two-factor").err
    theirs.run("UPDATE \"user\" SET failed_login_attempts = 6, otp_secret = 'ABC' WHERE username = 'user10'")
    plan = run(theirs, "--dry-run", "unlock", "user10", "--two-factor").out
    assert "lock-out" in plan and "two-factor" in plan
    theirs.run('ALTER TABLE "user" DROP COLUMN otp_secret')
    done = run(theirs, "--yes", "unlock", "user10", "--two-factor")
    assert done.status == 1 and "the server has no user.otp_secret" in said(done)


@pytest.mark.parametrize(("more", "status"), [((), "failed"), (("--killed",), "killed by user")])
def test_a_run_that_hangs_is_ended(theirs: Server, more: tuple[str, ...], status: str) -> None:
    done = run(theirs, "--yes", "fail", "5", "10", *more)
    assert "warning" not in done.err
    rows = theirs.run("SELECT status, finished_at IS NULL, started_at IS NULL FROM run WHERE id IN (5, 10)")
    assert done.status == 0 and rows == [(status, 0, 0)] * 2


def test_a_run_that_has_finished_is_not_ended_again(theirs: Server) -> None:
    before = theirs.tables()
    done = run(theirs, "--yes", "fail", "5", "1")
    assert done.status == 1 and "result 1" in done.err and "finished" in done.err and theirs.tables() == before


def test_a_fixture_is_merged_into_a_server(theirs: Server, tmp_path: Path) -> None:
    fixture = tmp_path / "new.yaml"
    fixture.write_text("organizations: [{name: Nieuwe Kliniek, country: NL}]\n")
    done = run(theirs, "--yes", "import", fixture, "--merge")
    assert done.status == 0, done.err
    assert theirs.value("SELECT country FROM organization WHERE name = 'Nieuwe Kliniek'") == "NL"


def test_generated_credentials_are_shown_or_stored_once_they_are_applied(theirs: Server, tmp_path: Path) -> None:
    fixture, secrets = tmp_path / "new.yaml", tmp_path / "secrets.json"
    fixture.write_text("organizations: [{name: Hosp, users: [{username: ann}]}]")
    merge = ("import", fixture, "--merge")
    assert "user ann" not in run(theirs, "--dry-run", *merge).err
    refused = run(theirs, "--dry-run", *merge, "--secrets", secrets)
    assert refused.status == 2 and "dry run" in refused.err and not secrets.exists()
    done = run(theirs, "--yes", *merge, "--secrets", secrets)
    assert done.status == 0 and "applied" in done.err
    ((hashed,),) = theirs.run("SELECT password FROM user WHERE username = 'ann'")
    assert bcrypt.checkpw(json.loads(secrets.read_text())[0]["secret"].encode(), hashed.encode())
    assert run(theirs, "--yes", "undo").status == 0
    shown = run(theirs, "--yes", *merge).err
    assert shown.index("applied in") < shown.index("user ann")


def test_a_script_is_applied_as_one_plan(theirs: Server) -> None:
    done = run(theirs, "--yes", "shell", "-c", SESSIONS["4.15.2"])
    assert done.status == 0, done.err
    assert theirs.value("SELECT COUNT(*) FROM \"user\" WHERE username IN ('one', 'two')") == 2
    assert theirs.value("SELECT COUNT(*) FROM collaboration WHERE name = 'lonely'") == 0
    again = vserver("-d", theirs.target, "check", "-o", "json")
    assert "one@new.example" not in again.out


@pytest.mark.parametrize("code", ["1 / 0", "raise SystemExit(3)", "import sys; sys.exit('no')"])
def test_a_script_that_fails_applies_nothing(theirs: Server, code: str) -> None:
    before = theirs.tables()
    done = run(theirs, "--yes", "shell", "-c", f"db.Task.get(3).delete(dependents=True)\n{code}")
    assert done.status == (3 if "Exit(3)" in code else 1)
    assert "its changes were not written" in done.err and theirs.tables() == before


def test_a_script_may_apply_in_between(theirs: Server) -> None:
    code = "db.Task.get(3).delete(dependents=True); db.apply(); db.Task.get(1).delete(dependents=True)"
    done = run(theirs, "--yes", "shell", "-c", code)
    assert done.err.count("applied in") == 2 and theirs.value("SELECT COUNT(*) FROM task WHERE id IN (1, 3)") == 0


def test_undoing_what_was_applied_is_a_new_plan_and_says_so(theirs: Server) -> None:
    code = "o = db.Organization.get(1); o.country = 'X'; o.save(); db.apply(); db.undo(); db.log(); 1 / 0"
    done = run(theirs, "--yes", "shell", "-c", code)
    assert done.status == 1 and theirs.value("SELECT country FROM organization WHERE id = 1") == "X"
    assert re.search(r"reverse is planned .*--write undo.*numbers of its own.*had applied before stays", said(done))


def test_without_a_change_nothing_is_applied(theirs: Server) -> None:
    done = run(theirs, "--yes", "shell", "-c", "print(len(db.User.get()))")
    assert done.status == 0 and done.out == "6\n" and "No changes" in done.err and "applied" not in done.err


# What was applied, and taking it back


def test_the_log_shows_what_was_applied_and_undo_takes_it_back(theirs: Server) -> None:
    before = theirs.tables()
    run(theirs, "--yes", "delete", "task", "3", "--dependents", VSERVER_ACTOR="maria")
    run(theirs, "--yes", "fail", "5", VSERVER_ACTOR="ole")
    log = json.loads(vserver("-d", theirs.target, "log", "-o", "json").out)
    assert [(each["number"], each["actor"]) for each in log] == [(2, "ole"), (1, "maria")]
    assert json.loads(vserver("-d", theirs.target, "log", "--actor", "ole", "-o", "json").out) == log[:1]
    shown = vserver("-d", theirs.target, "log", "--change", "1").out
    assert "maria" in shown and "- task 3" in shown
    shown = vserver("-d", theirs.target, "log").out
    assert '- task 3 "task 2"' in shown and "~ run 5 of task 2: started, finished, status" in shown
    assert run(theirs, "--yes", "undo").status == 0
    assert run(theirs, "--yes", "undo", "--change", "1").status == 0
    assert theirs.tables() == before
    log = json.loads(vserver("-d", theirs.target, "log", "-o", "json").out)
    assert [(each["reverts"], each["reverted_by"]) for each in log] == [(1, None), (2, None), (None, 3), (None, 4)]


def test_an_undo_is_refused_if_a_row_was_changed_since(theirs: Server) -> None:
    run(theirs, "--yes", "fail", "5")
    theirs.run("UPDATE run SET status = 'completed' WHERE id = 5")
    done = run(theirs, "--yes", "undo")
    assert done.status == 1 and "run 5" in done.err and "completed" in done.err
    assert "Traceback" not in done.err


def test_a_server_that_was_never_changed_has_an_empty_log(theirs: Server) -> None:
    done = vserver("-d", theirs.target, "log")
    assert (done.status, done.out) == (0, "") and "this account's records have nothing" in said(done)
    done = vserver("-d", theirs.target, "log", "--entity", "task")
    assert done.status == 2 and "--entity" in done.err


# Refusals


@pytest.mark.parametrize(
    "words",
    [
        ("passwd", "user10", "--stdin"),
        ("apikey", "node/8"),
        ("delete", "task", "3", "--dependents"),
        ("undo",),
        ("unlock", "user10"),
        ("fail", "5"),
        ("import", str(DATA / "fixture.yaml"), "--merge", "--yes"),
    ],
)
def test_without_write_the_line_to_type_is_printed(theirs: Server, words: tuple[str, ...]) -> None:
    before = theirs.tables()
    done = vserver("-d", theirs.target, *words, given=PASSWORD)
    assert done.status == 1 and f"--write {words[0]}" in said(done), done.err
    assert len(done.err.splitlines()) <= 2 and theirs.tables() == before


def test_the_shell_without_write_names_the_line_that_changes(theirs: Server) -> None:
    done = vserver("-d", theirs.target, "shell", "-c", "db.Task.get(3).delete(dependents=True)")
    assert done.status == 1 and "--write shell" in said(done)


@pytest.mark.parametrize(
    "words",
    [
        ("init",),
        ("demo", "--tasks", "3"),
        ("restore", "monday.db"),
        ("upgrade",),
        ("copy", "a.db", "b.db"),
        ("import", str(DATA / "fixture.yaml")),
        ("import", str(DATA / "fixture.yaml"), "--replace"),
    ],
)
def test_what_replaces_a_database_is_refused(theirs: Server, words: tuple[str, ...]) -> None:
    before = theirs.tables()
    done = run(theirs, "--yes", *words)
    assert done.status == 1 and words[0] in done.err and "nothing was changed" in done.err, done.err
    assert len(done.err.splitlines()) == 1 and theirs.tables() == before


@pytest.mark.parametrize("option", ["--read-only", "--sandbox"])
def test_the_shell_has_one_way_to_be_opened(theirs: Server, option: str) -> None:
    done = run(theirs, "shell", option, "-c", "1")
    assert done.status == 2 and "--write" in done.err and option in done.err


@pytest.mark.parametrize("option", ["--write", "--no-backup", "--yes"])
def test_an_option_behind_the_command_is_answered_with_the_line(theirs: Server, option: str) -> None:
    done = vserver("-d", theirs.target, "fail", "5", option)
    assert done.status == 2 and f"{option} fail 5" in said(done)
    done = vserver("-d", theirs.target, "shell", "-c", "1", option)
    assert done.status == 2 and f"{option} shell -c 1" in said(done)


def test_without_a_terminal_yes_is_needed(theirs: Server) -> None:
    before = theirs.tables()
    done = run(theirs, "fail", "5")
    assert done.status == 1 and "--yes" in done.err and "--dry-run" in done.err and theirs.tables() == before
    assert vserver("--no-backup", "list", "tasks").status == 2
    assert vserver("-o", "json", "list", "tasks").status == 2


def test_root_is_neither_deleted_nor_renamed(theirs: Server) -> None:
    theirs.run("UPDATE \"user\" SET username = 'root' WHERE username = 'user10'")
    done = run(theirs, "--yes", "delete", "user", "root")
    assert done.status == 1 and '"root"' in done.err and theirs.value('SELECT COUNT(*) FROM "user"') == 6
    theirs.run("UPDATE \"user\" SET username = 'user10' WHERE username = 'root'")
    done = run(theirs, "--yes", "create", "user", "root", "organization=1", "--no-password")
    assert done.status == 1 and 'user "root"' in done.err and "choose another name" in done.err


def test_what_is_refused_is_not_announced_as_done(theirs: Server) -> None:
    theirs.run("CREATE TABLE audit (id INTEGER PRIMARY KEY, task INTEGER REFERENCES task (id))")
    theirs.run("INSERT INTO audit (task) VALUES (3)")
    done = run(theirs, "--yes", "delete", "task", "3", "--dependents")
    assert done.status == 1 and "audit" in done.err and "deleted" not in done.err


def test_keycloak_keeps_passwords(tmp_path: Path) -> None:
    five = vantage6_servers.of_release("5.0.3", tmp_path)
    created = ("create", "user", "x", "organization=2")  # refused before a password is asked for
    for words in (("passwd", "user10", "--stdin"), ("unlock", "user10"), ("apikey", "node/9"), created):
        done = run(five, "--yes", *words, given=PASSWORD)
        assert done.status == 1 and "Keycloak" in done.err and "planned" not in done.err, done.err


@pytest.mark.parametrize("release", ["1.2.3", "2.3.5"])
def test_old_releases_are_only_viewed(release: str, tmp_path: Path) -> None:
    old = vantage6_servers.of_release(release, tmp_path)
    for done in (run(old, "--yes", "fail", "5"), vserver("-d", old.target, "fail", "5")):
        assert done.status == 1 and f"release {release[0]}" in done.err and "upgrade" in done.err
        assert "--write" not in done.err


# Databases of ours


def test_a_refused_plan_in_a_script_shows_the_frames_of_the_script_only(theirs: Server) -> None:
    done = run(theirs, "--dry-run", "shell", "-c", "db.Organization(name='東京病院').save()\ndb.plan()")
    assert done.status == 1 and "is taken by organization 4" in done.err
    assert done.err.count("  File ") == 1 and 'File "<command line>", line 2' in done.err


def test_write_means_nothing_more_on_a_database_of_ours(example: Path) -> None:
    done = vserver("-d", example, "--write", "--yes", "delete", "task", "24", "--dependents")
    assert done.status == 0 and "undo --change" in done.err and "planned" not in done.err
    assert vserver("-d", example, "list", "tasks", "--where", "id=24", "-o", "json").out.strip() == "[]"


@pytest.mark.parametrize(
    "words", [("fail", "80"), ("shell", "-c", "db.Task.get(24).delete(dependents=True)"), ("delete", "task", "24")]
)
def test_a_dry_run_changes_nothing_in_a_database_of_ours(example: Path, words: tuple[str, ...]) -> None:
    before = example.read_bytes()
    pending = vserver("-d", example, "list", "results", "--where", "state=pending", "-o", "name", "--limit", "1").out
    words = tuple(pending.strip().rpartition("/")[2] if word == "80" else word for word in words)
    done = vserver("-d", example, "--dry-run", *words)
    assert done.status == 0, done.err
    assert ("would have" in done.err) != (words[0] == "delete") and example.read_bytes() == before


def test_a_dry_run_of_an_undo_asks_nothing_in_a_database_of_ours(example: Path) -> None:
    assert vserver("-d", example, "set", "organization", "1", "country=NL").status == 0
    before = example.read_bytes()
    done = vserver("-d", example, "--dry-run", "undo", given="")
    assert done.status == 0 and "would have changed 1 organization" in done.err and example.read_bytes() == before


@pytest.mark.parametrize("words", [("init",), ("demo",), ("restore", "x"), ("backup",), ("export", "x.json")])
def test_what_has_no_dry_run_says_so(example: Path, words: tuple[str, ...]) -> None:
    done = vserver("-d", example, "--dry-run", *words)
    assert done.status == 1 and words[0] in done.err and "--dry-run" in done.err


def test_unlock_says_that_a_user_was_not_locked_out(example: Path) -> None:
    done = vserver("-d", example, "unlock", "anna.devries")
    assert done.status == 0 and 'user 1 "anna.devries" was not locked out' in said(done)


def test_a_view_shows_who_is_locked_out(theirs: Server) -> None:
    locked = "failed_login_attempts = 6, last_login_attempt = '2026-11-28 09:00:00.000000', otp_secret = 'ABC'"
    theirs.run(f"UPDATE \"user\" SET {locked} WHERE username = 'user10'")
    shown = vserver("-d", theirs.target, "show", "user", "user10").out
    assert "locked out: 6 wrong passwords, the last at 2026-11-28 09:00 UTC" in shown and "ABC" not in shown
    assert re.search(r"two-factor +on", shown)
    shown = vserver("-d", theirs.target, "show", "user", "user11").out
    assert re.search(r"no wrong password .*two-factor +off", shown, re.DOTALL)


def test_failing_a_result_of_ours_can_be_undone(example: Path) -> None:
    name = vserver(
        "-d", example, "list", "results", "--where", "state=pending", "-o", "name", "--limit", "1"
    ).out.strip()
    assert vserver("-d", example, "fail", name).status == 0
    shown = json.loads(vserver("-d", example, "show", *name.split("/"), "-o", "json").out)
    assert shown["status"] == "failed"
    assert vserver("-d", example, "undo", "--yes").status == 0


def test_an_imported_database_says_twice_that_the_server_is_not_changed(theirs: Server, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    line = f"-d {theirs.target} --write"
    assert line in said(vserver("-d", copy, "import", theirs.target))
    assert line not in said(vserver("-d", copy, "list", "tasks"))
    assert line in said(vserver("-d", copy, "passwd", "user10", "--stdin", given=PASSWORD))
    assert line not in said(vserver("-d", copy, "passwd", "user10", "--stdin", given=PASSWORD))


# At the terminal


@contextlib.contextmanager
def at_terminal(server: Server, *words: str) -> Iterator[Terminal]:
    command = [*PROGRAM, "-d", str(server.target), "--write", *words]
    terminal = Terminal(command, environment(Path(os.environ["HOME"])), columns=200)
    try:
        yield terminal
    finally:
        terminal.child.close(force=True)


def test_the_plan_is_shown_and_asked_for(theirs: Server) -> None:
    before = theirs.tables()
    for answer, status in (("n\r", 1), ("\r", 1), ("\x03", 130), ("\x04", 130)):
        with at_terminal(theirs, "fail", "5") as terminal:
            shown = terminal.wait_for(r"Apply this to .*\? \[y/N\]")
            assert "run 5" in shown and "pending → failed" in shown
            terminal.interrupt() if answer == "\x03" else terminal.send(answer)
            assert terminal.wait_for_end() == status and "nothing was written" in terminal.text
        assert theirs.tables() == before
    with at_terminal(theirs, "fail", "5") as terminal:
        terminal.wait_for(r"\[y/N\]")
        terminal.send("y\r")
        assert terminal.wait_for_end() == 0 and "applied in" in terminal.text
    assert theirs.value("SELECT status FROM run WHERE id = 5") == "failed"


def test_ctrl_c_at_the_question_about_a_fixture_writes_nothing(theirs: Server, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text("organizations: [{name: Nieuwe Kliniek}]")
    before = theirs.tables()
    with at_terminal(theirs, "import", str(tmp_path / "new.yaml"), "--merge") as terminal:
        terminal.wait_for(r"\[y/N\]")
        terminal.interrupt()
        assert terminal.wait_for_end() == 130 and "nothing was written" in terminal.text
    assert theirs.tables() == before


def test_ctrl_c_after_the_commit_does_not_hide_that_the_plan_was_applied(theirs: Server) -> None:
    code = """
from vserverlib.plans import applying
import os, signal
note = applying._note_applied
applying._note_applied = lambda *given: os.kill(os.getpid(), signal.SIGINT) or note(*given)
db.Organization(name="new").save()
"""
    done = run(theirs, "--yes", "--no-backup", "shell", "-c", code)
    assert done.status == 130 and "applied in" in done.err and "nothing was written" not in done.err
    assert theirs.value("SELECT COUNT(*) FROM organization WHERE name = 'new'") == 1


def test_a_session_at_the_prompt(theirs: Server) -> None:
    with at_terminal(theirs, "--yes", "shell") as terminal:  # a prompt asks all the same
        shown = terminal.wait_for_prompt()
        assert "db.apply()" in terminal.enter("help") and "database.execute_sql" in terminal.enter("select * from task")
        assert 'planned: unlocked user 2 "user10"' in terminal.enter("db.User.get(2).unlock()")
        assert "nothing changes" in shown and "db.apply()" in shown and ".sqlite [plan] [1]:" in shown
        assert "No changes" in terminal.enter("db.plan()")
        terminal.enter('new = db.Organization(name="A")')
        assert 'never saved: organization "A"' in terminal.enter("exit")
        shown = terminal.enter("db.Task.get(3).delete(dependents=True); db.Nope")
        assert shown.index("planned: deleted task 3") < shown.index("error: ")
        assert "- task 3" in " ".join(terminal.enter("db.plan()").replace("│", " ").split())
        assert theirs.value("SELECT COUNT(*) FROM task WHERE id = 3") == 1
        terminal.wait_for_prompt()
        terminal.send("db.apply()\r")
        terminal.wait_for(r"Apply this to .*\[y/N\]")
        terminal.send("y\r")
        assert "applied in" in terminal.answer()
        assert theirs.value("SELECT COUNT(*) FROM task WHERE id = 3") == 0
        terminal.enter("db.Task.get(1).delete(dependents=True)")
        terminal.send("\x04")
        assert "- task 1" in " ".join(terminal.wait_for(r"Apply this to .*\[y/N\]", times=2).split())
        terminal.send("y\r")
        assert terminal.wait_for_end() == 0
    assert theirs.value("SELECT COUNT(*) FROM task WHERE id = 1") == 0


def test_leaving_twice_writes_nothing(theirs: Server) -> None:
    before = theirs.tables()
    with at_terminal(theirs, "shell", "-q") as terminal:
        terminal.enter("db.Task.get(3).delete(dependents=True)")
        terminal.send("\x04")
        terminal.wait_for(r"Apply this to .*\[y/N\]")
        terminal.send("\x04")
        assert terminal.wait_for_end() == 0 and "nothing was written" in terminal.text
    assert theirs.tables() == before


def test_a_plan_that_is_refused_leads_back_to_the_prompt(theirs: Server) -> None:
    with at_terminal(theirs, "shell", "-q") as terminal:
        terminal.enter('user = db.User.get(2); user.email = "new@org1.example"; user.save()')
        theirs.run("UPDATE \"user\" SET email = 'else@org1.example' WHERE id = 2")
        terminal.send("\x04")
        terminal.wait_for(r"give the plan up\? \[y/N\]")
        assert "else@org1.example" in terminal.text
        terminal.send("n\r")
        terminal.wait_for(r"\[plan\] \[\d+\]: *\Z")
        terminal.send("\x04")
        terminal.wait_for(r"give the plan up\? \[y/N\]", times=2)
        terminal.send("y\r")
        assert terminal.wait_for_end() == 0
    assert theirs.value('SELECT email FROM "user" WHERE id = 2') == "else@org1.example"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_writes_nothing(theirs: Server, number: signal.Signals) -> None:
    before = theirs.tables()
    with at_terminal(theirs, "shell", "-q") as terminal:
        terminal.enter("db.Task.get(3).delete(dependents=True)")
        terminal.wait_for_prompt()
        os.kill(terminal.child.pid, number)
        assert terminal.wait_for_end() == -number
    assert theirs.tables() == before


# Two at once, and what a killed session leaves


def test_two_sessions_do_not_overwrite_each_other(theirs: Server) -> None:
    with at_terminal(theirs, "fail", "5") as terminal:
        terminal.wait_for(r"\[y/N\]")
        assert run(theirs, "--yes", "fail", "5", "--killed").status == 0
        terminal.send("y\r")
        assert terminal.wait_for_end() == 1
        assert "killed by user" in terminal.text or "meanwhile" in terminal.text
    assert theirs.value("SELECT status FROM run WHERE id = 5") == "killed by user"


def test_what_a_killed_session_left_is_removed(theirs: Server, tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = "import os, signal; db.Task.get(3).delete(dependents=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = run(theirs, "--yes", "shell", "-c", code, VSERVER_HOME=str(home))
    assert done.status == -signal.SIGKILL
    (left,) = (home / "working").iterdir()
    done = run(theirs, "--yes", "--no-backup", "fail", "5", VSERVER_HOME=str(home))
    assert done.status == 0 and "record, without a backup: " in said(done)
    assert not left.exists() and not list((home / "working").iterdir())
    assert theirs.value("SELECT COUNT(*) FROM task WHERE id = 3") == 1


# PostgreSQL


def test_a_database_on_postgresql(server: object, tmp_path: Path, programs: Path) -> None:
    with vantage6_servers.on_postgres(server, "4.15.2") as theirs:
        done = run(theirs, "--yes", "passwd", "user10", "--stdin", given=PASSWORD)
        assert done.status == 0, done.err
        stored = theirs.value("SELECT password FROM \"user\" WHERE username = 'user10'")
        assert bcrypt.checkpw(PASSWORD.encode(), stored.encode())
        assert json.loads(vserver("-d", theirs.target, "log", "-o", "json").out)[0]["number"] == 1
        assert run(theirs, "--yes", "undo").status == 0
        assert "--write fail 5" in said(vserver("-d", theirs.target, "fail", "5"))
        assert run(theirs, "--yes", "upgrade").status == 1


def test_two_factor_is_not_reset_where_there_is_none(example: Path) -> None:
    done = vserver("-d", example, "unlock", "anna.devries", "--two-factor")
    assert done.status == 1 and "has no two-factor authentication here" in said(done)
