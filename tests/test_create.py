"""create and set, as processes of their own: what they print, what they write, and what they never write."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.process import PROGRAM, ROOT, Ended, start
from helpers.process import vserver as started
from helpers.terminal import Terminal, environment

import models

Run = Callable[..., Ended]
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
PASSWORD = "Geheim-1234!"


@pytest.fixture
def vserver(address: str, story: Any, database: Any) -> Run:
    """Run vserver on the database of the story, which is closed here."""
    database.close()
    return lambda *words, **options: started("-d", address, *words, **options)


def rows(vserver: Run, entity: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(vserver("list", entity, "--all", "-o", "json").out)
    return found


def failed(done: Ended, status: int, expected: str) -> None:
    """Assert that a command ended with this status, a last line on stderr that matches, and nothing on stdout."""
    assert (done.status, done.out) == (status, ""), done
    assert re.search(expected, done.err.splitlines()[-1]), done.err
    assert "Traceback" not in done.err and "\x1b" not in done.err


# Creating


def test_an_organization_is_created_and_undone_by_the_line_that_is_printed(vserver: Run) -> None:
    done = vserver("create", "organization", "Third  [x]", "country=Norway", 'domain="null"', "address1=null")
    assert (done.status, done.out) == (0, "")
    found = rows(vserver, "organizations")[-1]
    assert (found["name"], found["country"], found["domain"], found["address1"]) == (
        "Third  [x]",
        "Norway",
        "null",
        None,
    )
    hint = re.fullmatch(r'created organization 3 "Third  \[x\]"; undo it with: vserver -d \S+ (undo .*)\n', done.err)
    assert hint is not None, done.err
    assert vserver(*hint[1].split(), "--yes").status == 0
    assert len(rows(vserver, "organizations")) == 2


def test_a_collaboration_with_its_organizations_is_one_change(vserver: Run) -> None:
    done = vserver("create", "collaboration", "Pilot", "organizations=IKNL,Oslo", "encrypted=no", "-o", "name")
    assert (done.status, done.out) == (0, "collaboration/2\n")
    changes = {entry["change"] for entry in json.loads(vserver("log", "-o", "json", "--entity", "memberships").out)}
    assert vserver("undo", "--yes").status == 0
    assert [each["name"] for each in rows(vserver, "collaborations")] == ["ROTTERDAM"]
    assert len(changes) == 2  # the story's, and this one


def test_the_password_of_a_user_is_read_from_stdin(vserver: Run, address: str) -> None:
    words = ("create", "user", "kari", "organization=Oslo", "roles=Researcher", "--password-stdin", "-o", "json")
    done = vserver(*words, given=f"{PASSWORD}\n")
    assert done.status == 0 and PASSWORD not in done.out + done.err
    assert json.loads(done.out)["username"] == "kari" and "password" not in json.loads(done.out)
    with closing(models.connect(address)):
        assert models.User.get_by_username("kari").check_password(PASSWORD)


def test_a_user_can_be_created_without_a_password(vserver: Run) -> None:
    done = vserver("create", "user", "kari", "organization=2", "--no-password")
    assert done.status == 0 and "USR004" in done.err
    assert "--password-stdin" in done.err or "vserver passwd" in done.err


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("words", "given", "status", "expected"),
    [
        (["--password-stdin"], "one\ntwo\n", 1, "--password-stdin takes one line, not 2"),
        (["--password-stdin"], "", 1, "User.password is empty: --password-stdin takes one line"),
        (["--password-stdin"], "é" * 37, 1, "74 bytes long"),
        ([], "x\nx\n", 1, "no terminal to type the password: pipe it in with --password-stdin.*--no-password"),
        (["--password-stdin", "--no-password"], "", 2, "exclude each other"),
        (["password=abc"], "", 2, "password is a secret"),
        ([], "", 2, "a new user needs an organization: give organization=…, or null for none"),
        (["organization=Olso", "--password-stdin"], PASSWORD, 1, 'no organization "Olso"; did you mean "Oslo"'),
    ],
)
def test_an_invalid_password_creates_nobody(
    words: list[str], given: str, status: int, expected: str, vserver: Run
) -> None:
    needed = [] if (status == 2 and not words) or "organization=Olso" in words else ["organization=1"]
    failed(vserver("create", "user", "kari", *needed, *words, given=given), status, expected)
    assert rows(vserver, "users") == []


def test_the_key_of_a_node_is_printed_once_and_alone(vserver: Run, address: str) -> None:
    done = vserver("create", "node", "organization=Oslo", "collaboration=ROTTERDAM")
    key = done.out.removesuffix("\n")
    assert done.status == 0 and re.fullmatch(UUID, key) and key not in done.err
    assert 'created node 2 "Oslo - ROTTERDAM Node", whose API key is not shown again; undo' in done.err
    with closing(models.connect(address)):
        assert models.Node.get_by_api_key(key).id == 2


def test_json_has_the_key_and_a_name_has_it_beside_it(vserver: Run) -> None:
    done = vserver("create", "node", "a", "organization=Oslo", "collaboration=ROTTERDAM", "-o", "json")
    assert re.fullmatch(UUID, json.loads(done.out)["api_key"]) and "api_key" not in vserver("show", "node", "a").out
    done = vserver("create", "node", "b", "organization=IKNL", "collaboration=ROTTERDAM", "-o", "name")
    assert done.out == "node/3\n" and re.search(rf"^API key of node/3: {UUID}$", done.err, re.MULTILINE)
    assert vserver("create", "node", "c", "organization=1", "collaboration=null", "api_key=null").out == ""


def test_a_key_that_could_not_be_printed_creates_no_node(vserver: Run, address: str) -> None:
    with open("/dev/full", "w") as full:
        words = ["-d", address, "create", "node", "organization=Oslo", "collaboration=ROTTERDAM"]
        env = environment(Path(os.environ["HOME"]))
        done = subprocess.run([*PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False)
    assert done.returncode == 1 and "No space left" in done.stderr
    assert len(rows(vserver, "nodes")) == 1


def test_strict_refuses_what_breaks_a_rule(vserver: Run) -> None:
    words = ("create", "node", "organization=Oslo", "collaboration=1")
    assert vserver("set", "collaboration", "1", "organizations-=Oslo").status == 0
    failed(vserver("--strict", *words), 1, "not saved: NOD002")
    assert len(rows(vserver, "nodes")) == 1
    done = vserver(*words)
    assert done.status == 0 and "warning: NOD002" in done.err


def test_if_not_exists_makes_it_repeatable(vserver: Run) -> None:
    for words in (
        ("organization", "Third", "country=Norway"),
        ("node", "organization=Oslo", "collaboration=1"),
        ("user", "kari", "organization=Oslo", "password=null"),
        ("result", "task=1", "organization=1"),
    ):
        first = vserver("create", *words, "--if-not-exists", "-o", "name")
        again = vserver("create", *words, "--if-not-exists", "-o", "name")
        assert (again.status, again.out) == (0, first.out), again
        assert re.search(r"exists: nothing was created$", again.err.strip()), again.err
    done = vserver("create", "organization", "Third", "country=it's", "--if-not-exists")
    assert done.status == 0 and rows(vserver, "organizations")[-1]["country"] == "Norway"
    assert "vserver -d" in done.err and """set organization/3 'country=it'"'"'s'""" in done.err


def test_if_not_exists_asks_for_no_password_of_a_user_who_exists(vserver: Run) -> None:
    words = ("create", "user", "kari", "organization=Oslo", "--if-not-exists")
    assert vserver(*words, "--no-password").status == 0
    assert vserver(*words).status == 0  # without a terminal, the question would fail


def test_two_at_once_create_one(vserver: Run, address: str) -> None:
    words = [*PROGRAM, "-d", address, "create", "organization", "Third", "--if-not-exists", "-o", "name"]
    several = [start(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {each.communicate()[0] for each in several} == {"organization/3\n"}
    assert len(rows(vserver, "organizations")) == 3


def test_a_dry_run_shows_the_change_and_writes_nothing(vserver: Run) -> None:
    done = vserver("create", "user", "kari", "organization=Oslo", "--dry-run")
    assert done.status == 0 and "dry run: would have created user" in done.err and "USR004" not in done.err
    assert re.search(r"would create user \d+\n", done.out) and re.search(r"organization +2 \"Oslo\"\n", done.out)
    assert re.search(r"password +changed, not shown\n", done.out)
    done = vserver("set", "organization", "1", "country=NL", "collaborations-=ROTTERDAM", "--dry-run")
    assert "would change organization 1\n    country  Netherlands → NL\n" in done.out
    assert "would delete membership 1\n" in done.out
    done = vserver("set", "organization", "1", "country=NL", "--dry-run", "-o", "json")
    (change,) = json.loads(done.out)
    assert change == {
        "entity": "organization",
        "entity_id": 1,
        "op": "update",
        "changes": {"country": ["Netherlands", "NL"]},
    }
    assert rows(vserver, "users") == [] and rows(vserver, "organizations")[0]["country"] == "Netherlands"
    assert len(rows(vserver, "collaborations")) == 1 and "dry" not in vserver("log").out
    failed(vserver("create", "organization", "x", "--dry-run", "-o", "name"), 2, "leave out -o, or use -o json")


def test_a_dry_run_leaves_a_file_and_its_folder_as_they_were(path: Path, tmp_path: Path) -> None:
    before, names = path.read_bytes(), sorted(os.listdir(tmp_path))
    assert started("-d", path, "create", "organization", "x", "--dry-run").status == 0
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == names


@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["\x1b[2J\x07", "a\nb", "\u202eevil", "'; DROP TABLE user", "$(id)", "x" * 100_000])
def test_any_name_is_stored_and_never_acts(name: str, vserver: Run) -> None:
    done = vserver("create", "organization", name, "-o", "json")
    assert done.status == 0 and json.loads(done.out)["name"] == name
    assert "\x1b" not in done.err and "\x1b" not in done.out and "\u202e" not in done.err
    assert len(done.err) < 3000


@pytest.mark.sqlite
def test_a_value_that_looks_like_a_connection_string_is_stored_whole(vserver: Run) -> None:
    value = "see postgresql://anna:pw@db/x, or host=db password=pw \uff1d"
    done = vserver("create", "task", value, f"description={value}", f"image={value}", "collaboration=1")
    assert done.status == 0
    found = rows(vserver, "tasks")[-1]
    assert (found["name"], found["description"], found["image"]) == (value, value, value)
    assert vserver("set", "task", value, f"description={value} 2").status == 0
    assert rows(vserver, "tasks")[-1]["description"] == f"{value} 2"


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["create", "organization", ""], 2, "the NAME is empty"),
        (["create", "orgnization", "x"], 2, 'no entity "orgnization"; did you mean "organization"'),
        (["create", "organization", "x", "--no-password"], 2, "only users have passwords"),
        (["create", "node", "-"], 2, "-o json prints each with its node"),
        (["create", "collaboration", "ROTTERDAM"], 1, 'name "ROTTERDAM" is taken by collaboration 1'),
        (
            ["create", "user", "kim", "organization=Oslo", "email=kim@x.example"],
            1,
            'name "kim" is taken by user 1 "kim"',
        ),
        (["create", "user", "k2", "organization=Oslo", "email=kim@x.example"], 1, "email .* is taken by user 1"),
        (["create", "node", "organization=1", "api_key=x"], 2, "api_key is a secret.*vserver apikey"),
        (["create", "organization", b"\xff"], 2, "not text in the encoding"),
        (["set", "organization"], 2, "which organization"),
        (["set", "organization", "1"], 2, "nothing to set: give FIELD=VALUE"),
        (["set", "organization", "9", "country=x"], 1, "no organization 9"),
        (["set", "organization", "IKLN", "country=x"], 1, 'did you mean "IKNL"'),
        (["set", "organization", b"\xff", "country=x"], 2, "not text in the encoding"),
        (["set", "user/1", "emial=x"], 2, 'did you mean "email"'),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(words: list[Any], status: int, expected: str, vserver: Run) -> None:
    assert vserver("create", "user", "kim", "organization=1", "email=kim@x.example", "password=null").status == 0
    before = json.loads(vserver("log", "-o", "json").out)
    failed(vserver(*map(os.fsdecode, words)), status, expected)
    assert json.loads(vserver("log", "-o", "json").out) == before


# Setting


def test_fields_and_lists_are_set_in_one_change(vserver: Run) -> None:
    done = vserver("set", "organization", "IKNL", "country=NL", "collaborations-=ROTTERDAM", "domain=iknl.nl")
    assert done.status == 0 and done.out == ""
    assert 'changed country, domain and collaborations of organization 1 "IKNL"; undo it with' in done.err
    found = rows(vserver, "organizations")[0]
    assert (found["country"], found["domain"], found["collaborations"]) == ("NL", "iknl.nl", 0)
    assert vserver("undo", "--yes").status == 0
    found = rows(vserver, "organizations")[0]
    assert (found["country"], found["domain"], found["collaborations"]) == ("Netherlands", None, 1)


def test_setting_what_is_set_writes_nothing(vserver: Run) -> None:
    before = vserver("log", "-o", "json").out
    done = vserver("set", "organization/1", "country=Netherlands", "-o", "name")
    assert (done.status, done.out) == (0, "organization/1\n") and "nothing to change" in done.err
    assert vserver("log", "-o", "json").out == before


def test_roles_that_several_add_at_once_are_all_added(vserver: Run, address: str) -> None:
    assert vserver("create", "user", "kari", "organization=Oslo", "--no-password").status == 0
    command = [*PROGRAM, "-d", address, "set", "user", "kari"]
    several = [start([*command, f"roles+=r{number}"]) for number in range(4)]
    assert [each.wait() for each in several] == [0] * 4
    assert sorted(rows(vserver, "users")[0]["roles"].split(", ")) == ["r0", "r1", "r2", "r3"]


def test_a_word_that_is_an_id_and_a_name_is_refused(vserver: Run) -> None:
    assert vserver("create", "organization", "1").status == 0
    failed(vserver("set", "organization", "1", "country=x"), 1, "write organization/1 or organization/3")
    failed(vserver("create", "user", "u", "organization=1", "--no-password"), 1, "write organization/1 or")
    assert vserver("set", "organization", "organization/3", "name=One").status == 0


def test_a_server_s_database_is_not_written_to(tmp_path: Path) -> None:
    sample = ROOT / "tests" / "data" / "v4.15.2.sqlite"
    for words in (("create", "organization", "x"), ("set", "organization", "1", "country=x")):
        failed(started("-d", sample, *words), 1, "vantage6")


# JSON lines


def test_json_lines_are_created_in_one_change(vserver: Run) -> None:
    lines = [
        {"name": "Third", "country": None, "collaborations": ["ROTTERDAM", 1]},
        {"name": "Fourth", "zipcode": "0123"},
    ]
    done = vserver("create", "organization", "-", given="\n\n".join(map(json.dumps, lines)))
    assert done.status == 0 and "created 2 organizations; undo it with" in done.err, done
    assert [each["name"] for each in rows(vserver, "organizations")[2:]] == ["Third", "Fourth"]
    assert vserver("undo", "--yes").status == 0 and len(rows(vserver, "organizations")) == 2


def test_a_line_can_link_to_an_earlier_one(vserver: Run) -> None:
    lines = [{"name": "p", "collaboration": 1}, {"name": "c", "collaboration": 1, "parent": "p"}]
    assert vserver("create", "task", "-", given="\n".join(map(json.dumps, lines))).status == 0
    parent, child = rows(vserver, "tasks")[-2:]
    assert (child["parent_id"], child["run_id"]) == (parent["id"], parent["run_id"])


@pytest.mark.sqlite
def test_all_lines_or_none(vserver: Run) -> None:
    lines = ['{"name": "A"}', "[1]", '{"nam": 1}', '{"name": 2}', '{"x', '{"name": "A", "name": "b"}', '"x"']
    lines += ['{"name": "q", "id": 3}', '{"country": "x"}', '{"name": NaN}', "[" * 100_000]
    done = vserver("create", "organization", "-", given="\n".join(lines))
    failed(done, 1, "line 11: it is not JSON")
    assert done.err.startswith("Error: stdin has 10 faults, nothing was created:\nline 2: it is a list")
    assert re.findall(r"^line (\d+):", done.err, re.MULTILINE) == [str(number) for number in range(2, 12)]
    assert len(rows(vserver, "organizations")) == 2


def test_a_fault_that_only_the_database_finds_names_its_line(vserver: Run) -> None:
    lines = ['{"username": "a", "organization": 1}', '{"username": "b", "organization": "Olso"}']
    lines += ['{"username": "a", "organization": 1}', '{"username": "c", "organization": 9}']
    done = vserver("create", "user", "-", "--no-password", given="\n".join(lines))
    assert done.status == 1 and re.findall(r"^line (\d+):", done.err, re.MULTILINE) == ["2", "3", "4"]
    assert 'did you mean "Oslo"' in done.err and 'the username "a" is taken' in done.err
    assert rows(vserver, "users") == []
    many = "\n".join(json.dumps({"username": f"u{number}", "organization": 9}) for number in range(30))
    done = vserver("create", "user", "-", "--no-password", given=many)
    assert "30 faults" in done.err and done.err.endswith("and 10 more\n")


@pytest.mark.sqlite
def test_the_same_warning_of_many_lines_is_printed_a_few_times(vserver: Run) -> None:
    lines = "\n".join(json.dumps({"username": f"u{number}", "organization": 1}) for number in range(20))
    done = vserver("create", "user", "-", "--no-password", given=lines)
    assert done.status == 0 and done.err.count("can never log in") == 3
    assert "warning: USR004 and 17 more of the same\n" in done.err


def test_passwords_and_keys_of_json_lines(vserver: Run, address: str) -> None:
    users = [
        json.dumps({"username": "a", "organization": 1, "password": PASSWORD}),
        '{"username": "b", "organization": 1}',
    ]
    failed(vserver("create", "user", "-", given="\n".join(users)), 1, "line 2: .*password.*--no-password")
    done = vserver("create", "user", "-", "--no-password", given="\n".join(users))
    assert done.status == 0 and PASSWORD not in done.err
    nodes = [
        '{"organization": 2, "collaboration": 1}',
        '{"name": "x", "organization": 1, "collaboration": null, "api_key": null}',
    ]
    done = vserver("create", "node", "-", "-o", "json", given="\n".join(nodes))
    first, second = json.loads(done.out)
    assert "api_key" not in second and (first["name"], second["name"]) == ("Oslo - ROTTERDAM Node", "x")
    with closing(models.connect(address)):
        assert models.User.get_by_username("a").check_password(PASSWORD)
        assert models.Node.get_by_api_key(first["api_key"]).id == first["id"]


def test_json_lines_can_be_repeated_and_tried(vserver: Run) -> None:
    lines = '{"name": "IKNL"}\n{"name": "Third"}'
    done = vserver("create", "organization", "-", "--dry-run", given=lines)
    assert (
        "dry run: would have created 2 organizations; nothing was written" in done.err
        and len(rows(vserver, "organizations")) == 2
    )
    done = vserver("create", "organization", "-", "--if-not-exists", "-o", "name", given=lines)
    assert re.fullmatch(r"organization/1\norganization/\d\n", done.out)
    assert "created 1 organization; 1 organization existed" in done.err
    assert "nothing was created" in vserver("create", "organization", "-", "--if-not-exists", given=lines).err


@pytest.mark.sqlite
@pytest.mark.parametrize("given", ["", "\n \n"])
def test_no_lines_create_nothing(given: str, vserver: Run) -> None:
    done = vserver("create", "organization", "-", given=given)
    assert (done.status, done.out) == (0, "") and "nothing was created: stdin has no lines" in done.err


def test_a_closed_stdin_is_one_line(vserver: Run, address: str) -> None:
    for words in ("create organization -", "create user x organization=1 --password-stdin"):
        command = f"{sys.executable} -m vserver -d '{address}' {words} <&-"
        env = environment(Path(os.environ["HOME"]))
        done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and re.fullmatch("Error: stdin is closed.*\n", done.stderr), done.stderr


# The terminal


def terminal(path: Path, *words: str, columns: int = 80) -> Terminal:
    return Terminal([*PROGRAM, "-d", str(path), *words], environment(Path(os.environ["HOME"])), columns, 40)


def test_the_password_is_asked_twice_and_not_shown(path: Path, database: Any, story: Any) -> None:
    database.close()
    screen = terminal(path, "create", "user", "kari", "organization=Oslo")
    for times, typed in enumerate((PASSWORD, "another-one", PASSWORD, PASSWORD), 1):
        screen.wait_for_secret(r"(Password for user \"kari\"|Repeat the password):", times)
        screen.send(f"{typed}\r")
    assert screen.wait_for_end() == 0
    assert 'created user 1 "kari"' in screen.text and "Geheim" not in screen.raw
    with closing(models.connect(path)):
        assert models.User.get_by_username("kari").check_password(PASSWORD)


def test_ctrl_c_at_the_password_creates_nobody(path: Path, database: Any, story: Any) -> None:
    database.close()
    screen = terminal(path, "create", "user", "kari", "organization=Oslo")
    screen.wait_for_secret("Password for user")
    assert started("-d", path, "set", "organization", "1", "country=x").status == 0  # nothing is locked meanwhile
    screen.interrupt()
    assert screen.wait_for_end() == 130
    assert started("-d", path, "list", "users").out == ""


def test_json_lines_can_be_typed(path: Path) -> None:
    screen = terminal(path, "create", "organization", "-")
    screen.wait_for("Ctrl-D")
    screen.send('{"name": "Third"}\r\x04')
    assert screen.wait_for_end() == 0 and "created 1 organization" in screen.text
