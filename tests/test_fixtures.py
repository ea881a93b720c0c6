"""Fixture files: what vantage6 servers read is read as typed; all errors are reported at once, with their positions."""

from __future__ import annotations

import contextlib
import json
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from helpers.process import vserver as process
from hypothesis import given
from hypothesis import strategies as st

import models as db
import vserver
from vserverlib import Error, hashing
from vserverlib.documents import FAULTS_SHOWN
from vserverlib.transfer import detection, fixtures
from vserverlib.transfer.sources import ImportNotes

EXAMPLE = Path(__file__).parent / "data" / "fixture.yaml"
KEY = "123e4567-e89b-12d3-a456-426614174001"
ORGANIZATION = "organizations: [{name: A}, {name: B}]\n"
Import = Callable[..., Result]


@pytest.fixture
def target(tmp_path: Path, quick_hashes: None) -> Iterator[Path]:
    """Where an import goes to: nothing is there yet."""
    yield tmp_path / "ours.db"
    if db.database.obj is not None and not db.database.is_closed():
        db.database.close()


@pytest.fixture
def load(tmp_path: Path, target: Path) -> Import:
    """What imports a fixture file of this text, by the command."""

    def run(content: str | bytes, *words: str) -> Result:
        file = tmp_path / "fixture.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        words = ("-d", str(target), "import", str(file), *words)
        return CliRunner().invoke(vserver.main, words, prog_name="vserver")

    return run


@pytest.fixture
def faults(load: Import, tmp_path: Path, target: Path) -> Callable[[str | bytes], list[str]]:
    """What an import of this text tells, less the name of the file; it has to fail, and to leave nothing behind."""

    def run(content: str | bytes) -> list[str]:
        done = load(content)
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit) and done.stdout == ""
        assert not target.exists() and [file.name for file in tmp_path.iterdir()] == ["fixture.yaml"]
        lines = done.stderr.removeprefix("Error: ").replace(f"{tmp_path}/fixture.yaml", "FILE").splitlines()
        return [line.removeprefix("FILE:") for line in lines]

    return run


def stored(target: Path, sql: str) -> list[Any]:
    db.connect(target)
    found: list[Any] = db.database.execute_sql(sql).fetchall()
    return found


def rows(file: Path) -> dict[str, list[Any]]:
    with detection.opened(str(file)) as source:
        return {origin.table: list(source.rows(origin, ImportNotes())) for origin in source.origins}


# What is read


def test_the_example_is_imported_as_it_was_typed(load: Import, target: Path) -> None:
    done = load(EXAMPLE.read_bytes())
    assert done.exit_code == 0, done.output
    assert stored(target, "SELECT name, address2, zipcode, country FROM organization ORDER BY id") == [
        ("IKNL", None, "3511DT", "NL"),
        ("Oslo [beta]", None, "0123", "NO"),
        ("2026-03-01", None, "0980021", "日本"),
    ]
    assert stored(target, "SELECT username, lastname, roles, organization_id FROM user ORDER BY id") == [
        ("anna", "de Vries", "researcher, root", 1),
        ("bram", None, None, 1),
        ("ingrid", "Sørensen", None, 2),
    ]
    assert stored(target, "SELECT name, encrypted FROM collaboration") == [("ZEPPELIN", 0), ("SCREENING", 1)]
    assert stored(target, "SELECT collaboration_id, organization_id, name FROM node ORDER BY id") == [
        (1, 2, "Oslo [beta] - ZEPPELIN Node"),
        (1, 1, "IKNL - ZEPPELIN Node"),
        (1, 3, "2026-03-01 - ZEPPELIN Node"),
        (2, 1, "IKNL - SCREENING Node"),
        (2, 2, "Oslo [beta] - SCREENING Node"),
    ]
    assert stored(target, "SELECT name, image, run_id, initiator_id FROM task") == [
        ("Example task", "hello-world", 1, 2),
        ("Example task", "harbor.example/average:1.0", 2, 2),
    ]
    assert stored(target, "SELECT task_id, organization_id, status FROM result") == [
        (task, organization, "pending") for task in (1, 2) for organization in (2, 1, 3)
    ]


def test_a_public_key_in_base64_reads_back_as_a_pem(load: Import, target: Path) -> None:
    load(EXAMPLE.read_bytes())
    keys = [key for (key,) in stored(target, "SELECT public_key FROM organization")]
    assert keys[0].startswith("-----BEGIN PUBLIC KEY-----\n") and keys[1:] == [None, None]


def test_given_secrets_are_hashed_and_match_and_are_never_shown(load: Import, target: Path) -> None:
    done = load(EXAMPLE.read_bytes())
    db.connect(target)
    anna, ingrid = db.User.get_by_username("anna"), db.User.get_by_username("ingrid")
    assert anna.check_password("Geheim-01!") and ingrid.check_password("12345678")
    assert db.Node.get_by_api_key(KEY).name == "IKNL - ZEPPELIN Node"
    assert "Geheim-01!" not in done.output and "12345678" not in done.output and KEY not in done.output


def test_secrets_that_lack_are_made_shown_once_on_stderr_and_fit(load: Import, target: Path) -> None:
    done = load(EXAMPLE.read_bytes())
    password = re.search(r"^user bram +(\S+) *$", done.stderr, re.MULTILINE)
    key = re.search(r"^node IKNL - SCREENING Node +(\S+) *$", done.stderr, re.MULTILINE)
    assert password and key and password[1] not in done.stdout
    db.connect(target)
    assert db.User.get_by_username("bram").check_password(password[1])
    assert db.Node.get_by_api_key(key[1]).name == "IKNL - SCREENING Node"
    assert hashing.weakness_of_password(password[1]) == "" and str(uuid.UUID(key[1])) == key[1]


@pytest.mark.parametrize(("name", "parse"), [("made.json", json.loads), ("made.yaml", yaml.safe_load)])
def test_secrets_are_written_to_a_file_of_ones_own(
    load: Import, target: Path, tmp_path: Path, name: str, parse: Callable[[str], Any]
) -> None:
    done = load(EXAMPLE.read_bytes(), "--secrets", str(tmp_path / name), "-o", "json")
    made = parse((tmp_path / name).read_text())
    assert [(each["entity"], each["name"], each["kind"]) for each in made][:2] == [
        ("user", "bram", "password"),
        ("node", "2026-03-01 - ZEPPELIN Node", "API key"),
    ]
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert json.loads(done.stdout) and not any(each["secret"] in done.output for each in made)


def test_a_file_for_secrets_that_is_there_already_is_refused_before_anything_is_made(
    load: Import, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "made.yaml").write_text("mine")
    done = load(EXAMPLE.read_bytes(), "--secrets", str(tmp_path / "made.yaml"))
    assert done.exit_code == 1 and "exists already: choose another name" in done.stderr
    assert (tmp_path / "made.yaml").read_text() == "mine" and not target.exists()


def test_no_file_of_secrets_is_made_where_none_lack_nor_left_where_the_import_fails(
    load: Import, target: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.yaml"
    assert load(ORGANIZATION, "--secrets", str(made)).exit_code == 0 and not made.exists()
    assert load(EXAMPLE.read_bytes(), "--secrets", str(made)).exit_code == 1 and not made.exists()


def test_a_file_for_secrets_goes_with_no_dry_run_and_no_database(load: Import, tmp_path: Path) -> None:
    done = load(EXAMPLE.read_bytes(), "--secrets", "x", "--dry-run")
    assert done.exit_code == 2 and "a dry run generates none" in done.stderr
    server = str(Path(__file__).parent / "data" / "v1.2.3.sqlite")
    done = CliRunner().invoke(vserver.main, ["-d", str(tmp_path / "x.db"), "import", server, "--secrets", "x"])
    assert done.exit_code == 2 and "this source has its own" in done.stderr


def test_a_secret_that_nobody_gets_to_see_is_not_stored(tmp_path: Path, target: Path) -> None:
    from vserverlib.transfer import importer

    def fail(made: list[Any]) -> None:
        raise BrokenPipeError

    with detection.opened(str(EXAMPLE)) as source:
        assert isinstance(source, fixtures.FixtureSource)
        source.deliver_to = fail
        with pytest.raises(BrokenPipeError):
            importer.run(source, target)
    assert not target.exists()


def test_secrets_that_a_database_has_already_are_not_generated_again(load: Import, target: Path) -> None:
    load(EXAMPLE.read_bytes())
    db.connect(target)
    db.Node.get(4).delete()
    with fixtures.opened(EXAMPLE) as source:
        source.generate_credentials(db.database)
    assert [(each.entity, each.name) for each in source.generated] == [("node", "IKNL - SCREENING Node")]
    assert [row[2] for row in source.tables["user"]] == ["Geheim-01!", None, "12345678"]


def test_a_dry_run_reports_what_would_be_made_and_makes_nothing(load: Import, target: Path) -> None:
    done = load(EXAMPLE.read_bytes(), "--dry-run")
    assert "1 password and 3 API keys missing" in done.stderr and not target.exists()
    assert "not shown again" not in done.stderr


def test_a_bcrypt_hash_is_kept_and_what_only_begins_like_one_is_hashed(load: Import, target: Path) -> None:
    ready = hashing.make_hash("Geheim-01!")
    users = f"[{{username: a, password: {ready}}}, {{username: b, password: $2secret}}]"
    load(f"organizations: [{{name: A, users: {users}}}]")
    db.connect(target)
    assert db.User.get_by_username("a").check_password("Geheim-01!")
    assert db.User.get_by_username("b").check_password("$2secret")


@pytest.mark.parametrize(
    "text", ["0123", "NO", "no", "1e3", "2026-03-01", "12:30:00", "0x1F", "1_000", ".inf", "True", "007", "=", "<<"]
)
def test_a_text_is_what_was_typed(tmp_path: Path, text: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        f"organizations:\n- name: {text}\n  zipcode: {text}\ncollaborations:\n- name: C\n  participants: [{text}]"
    )
    assert rows(file)["organization"][0][1] == text and rows(file)["organization"][0][5] == text


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_nothing_is_nothing_unless_it_is_in_quotes(tmp_path: Path, text: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(f'organizations:\n- name: A\n  domain: {text}\n  country: "{text}"\n')
    assert rows(file)["organization"][0][2] is None and rows(file)["organization"][0][6] == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", 1), ("True", 1), ("yes", 1), ("ON", 1), ("1", 1), ("false", 0), ("FALSE", 0), ("No", 0), ("off", 0)],
)
def test_encrypted_is_every_plain_yes_or_no_of_yaml(tmp_path: Path, text: str, value: bool) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(f"{ORGANIZATION}collaborations: [{{name: C, encrypted: {text}}}]")
    assert rows(file)["collaboration"] == [(1, "C", value)]


@pytest.mark.parametrize(
    "content",
    [
        "organizations: null",
        "organizations: {}\ncollaborations: []",
        "collaborations:",
        ORGANIZATION + "collaborations: [{name: C, participants: , tasks: null}]",
        ORGANIZATION + "collaborations: [{name: C, participants: [A, {name: B, api_key: null}], tasks: [x, x]}]",
        "organizations: [{name: A, users: null}]",
        "organizations: [{name: A, users: [{username: u, password: 12345}]}]",
        "organizations: [{name: A, users: [{username: u, email: ''}, {username: v, email: ''}]}]",
        "organizations: [{name: A}, {name: A}]\ncollaborations: [{name: C, participants: [A]}]",
        ORGANIZATION + "collaborations: [{name: C, participants: [{name: A, api-key: any text at all}]}]",
        ORGANIZATION + f"collaborations: [{{name: C, participants: [{{name: A, api-key: {KEY}, api_key: {KEY}}}]}}]",
        "--- # a comment\n" + ORGANIZATION + "...\n",
        "%YAML 1.2\n---\n" + ORGANIZATION,
        "\ufeff" + ORGANIZATION,
        ORGANIZATION.replace("\n", "\r\n"),
        "organizations: [{name: !!str A}]",
    ],
)
def test_what_is_not_ambiguous_is_read(load: Import, content: str) -> None:
    done = load(content)
    assert done.exit_code == 0 and "left out:" not in done.stderr, done.stderr


def test_of_two_organizations_with_one_name_a_participant_is_the_first(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("organizations: [{name: A}, {name: A}]\ncollaborations: [{name: C, participants: [A]}]")
    assert rows(file)["member"] == [(1, 1)]


def test_aliases_and_merge_keys_are_followed(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(
        "common: &common {domain: d.example, country: NO}\n"
        "organizations:\n- {<<: *common, name: A, country: &country SE}\n"
        "- {<<: [*common], name: B, address1: *country}\n"
    )
    found = [row[1:4] + row[6:7] for row in rows(file)["organization"]]
    assert found == [("A", "d.example", None, "SE"), ("B", "d.example", "SE", "NO")]


def test_keys_without_a_place_are_reported_and_passed_over(load: Import) -> None:
    done = load(
        "studies: []\norganizations: [{name: A, note: x, users: [{username: u, otp_secret: x}]}]\n"
        "collaborations: [{name: C, session_restrict: true, participants: [{name: A, port: 1}]}]"
    )
    lost = {"file.studies": 1, "organization.note": 2, "user.otp_secret": 2, "collaboration.session_restrict": 3}
    named = ", ".join(f"{name}, first in line {line} (1)" for name, line in (lost | {"participant.port": 3}).items())
    assert done.exit_code == 0 and f"columns or keys that have no place here (rows): {named}" in done.stderr


# Faults with their places: " … " stands for any text

USER = "organizations:\n- name: A\n  users:\n  - "
TASK = "organizations: [{name: A}]\ncollaborations:\n- name: C\n  "
FAULTS = {
    "an empty document": ("# x\n", "1:1: … empty … organizations or collaborations"),
    "a list at the top": (
        "- a\n",
        "1:1: the file is a list … mapping … organizations: or collaborations:",
    ),
    "another YAML": ("a: b\n", "1:1: not a fixture file … organizations … collaborations"),
    "a key that is near": (
        "organisations: []\n",
        '1:1: the file: … "organisations" … did you mean "organizations"?',
    ),
    "an organization without a name": (
        "organizations:\n- domain: d\n",
        "2:3: organization 1 has no name: … name:",
    ),
    "a key of an organization that is near": (
        "organizations:\n- name: A\n  adress1: x\n",
        '3:3: organization "A": … "adress1" … did you mean "address1"?',
    ),
    "a public key that is none": (
        "organizations:\n- name: A\n  public_key: abcde\n",
        '3:15: organization "A": public_key "abcde" is not base64 … leave it empty',
    ),
    "an unknown key of a user": (
        USER + "username: u\n    shoe: 43\n",
        '5:5: user "u": … "shoe" … username, password, firstname, lastname, email, roles',
    ),
    "a masked password": (
        USER + 'username: u\n    password: "********"\n',
        '5:15: user "u": password is a mask',
    ),
    "a long password": (
        USER + f"username: u\n    password: {'x' * 73}\n",
        '5:15: user "u": password … 73 bytes … 72 … shorten it',
    ),
    "a doubled user name": (
        USER + "username: u\n  - username: u\n",
        '5:15: user "u": the username "u" … line 4 … unique',
    ),
    "a doubled e-mail": (
        USER + "{username: u, email: e}\n  - {username: v, email: e}\n",
        '5:26: user "v": the email "e" … line 4 … unique',
    ),
    "a text that is a list": (
        USER + "username: u\n    roles: [root]\n",
        '5:12: user "u": roles is a list … researcher … or leave it out',
    ),
    "rules of a user": (
        USER + "username: u\n    rules: [1]\n",
        '5:12: user "u": rules is a list … write [], or leave it out',
    ),
    "an organization of a user": (
        USER + "username: u\n    organization: A\n",
        '5:19: user "u": organization is "A" … write [], or leave it out',
    ),
    "nodes that would have one name": (
        TASK.replace("name: C", "participants: [A]") + "tasks: []\n- participants: [A]\n",
        '5:18: collaboration 2: organization "A" … without a name … line 3 … name the collaborations',
    ),
    "users that are a mapping": (
        "organizations:\n- name: A\n  users: {username: u}\n",
        '3:10: organization "A": users is a mapping, not a list: … dash',
    ),
    "a user that is a text": (
        USER + "anna\n",
        '4:5: user 1 of organization "A" is "anna", not a mapping: … username:',
    ),
    "a doubled collaboration": (
        TASK + "encrypted: no\n- name: C\n",
        '5:9: collaboration "C": the name "C" … line 3 … unique',
    ),
    "an encryption in quotes": (
        TASK + 'encrypted: "false"\n',
        '4:14: collaboration "C": encrypted is "false" in quotes … true or false, without quotes',
    ),
    "an unknown participant": (
        TASK + "participants:\n  - D\n",
        '5:5: collaboration "C": no organization "D" … add it to organizations',
    ),
    "a participant that is near": (
        "organizations: [{name: IKNL}]\ncollaborations:\n- name: C\n  participants: [IKLN]\n",
        '4:18: collaboration "C": no organization "IKLN" … did you mean "IKNL"?',
    ),
    "a participant twice": (
        TASK + "participants: [A, A]\n",
        '4:21: collaboration "C": organization "A" … twice: remove one',
    ),
    "a participant without a name": (
        TASK + f"participants: [{{api_key: {KEY}}}]\n",
        '4:18: collaboration "C": a participant has no name: … name:',
    ),
    "participants that are a text": (
        TASK + "participants: A\n",
        '4:17: collaboration "C": participants is "A", not a list: … dash',
    ),
    "a key that is no UUID": (
        TASK + "participants: [{name: A, api_key: secret-key}]\n",
        '4:37: collaboration "C": participant "A": api_key … UUID in lower case … leave it out to get a new one',
    ),
    "two keys": (
        TASK + f"participants: [{{name: A, api_key: {KEY}, api-key: x}}]\n",
        '4:18: collaboration "C": participant "A": api-key and api_key differ: remove one',
    ),
    "tasks without participants": (
        TASK + "tasks: [x]\n",
        '4:3: collaboration "C" has tasks, but no participants: add',
    ),
    "tasks with an empty list of participants": (
        TASK + "participants: []\n  tasks: [x]\n",
        '5:3: collaboration "C" has tasks, but no participants: add',
    ),
    "tasks that are a text": (
        TASK + "participants: [A]\n  tasks: ab\n",
        '5:10: collaboration "C": tasks is "ab", not a list: … dash',
    ),
    "a task that is a list": (
        TASK + "participants: [A]\n  tasks: [[x]]\n",
        '5:11: collaboration "C": a task is a list: … image',
    ),
    "a NUL": (
        'organizations: [{name: "a\\0"}]\n',
        '1:24: organization "a\\x00": name … NUL … remove it',
    ),
}


def fits(line: str, pattern: str) -> bool:
    """Whether a line has the parts of a pattern in their order, the first one at its beginning."""
    return re.match(".*".join(map(re.escape, pattern.split(" … "))), line) is not None


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_reported_with_its_place_and_a_remedy(faults: Callable[[str], list[str]], what: str) -> None:
    content, expected = FAULTS[what]
    (fault,) = faults(content)
    assert fits(fault, expected), fault


def test_all_faults_are_reported_at_once_in_the_order_of_the_file(faults: Callable[[str], list[str]]) -> None:
    head, *output = faults(USER + "username: u\n    shoe: 43\ncollaborations: [{name: C, encrypted: maybe}, *x]\n")
    assert head == "FILE has 3 faults, nothing was imported:"
    assert [line.split(": ")[0] for line in output] == ["5:5", "6:39", "6:47"]


def test_keys_that_are_misspelt_are_all_reported_and_counted(faults: Callable[[str], list[str]]) -> None:
    head, *output = faults("organizations:\n" + "- {name: A, adress1: x}\n" * 120)
    assert head == "FILE has 120 faults, nothing was imported:"
    assert len(output) == 120 and all('did you mean "address1"?' in line for line in output)


def test_only_the_first_faults_are_reported_and_all_are_counted(faults: Callable[[str], list[str]]) -> None:
    head, *output = faults("organizations:\n" + "- x\n" * 5000)
    assert head == "FILE has 5,000 faults, nothing was imported:"
    assert len(output) == FAULTS_SHOWN + 1 and output[-1] == f"and {5000 - FAULTS_SHOWN:,} more"


# What release 4.15.2 imports, which was tried, and the warnings of ours.
TAKEN = {
    "one key for two nodes": (
        f"{ORGANIZATION}collaborations:\n- name: C\n  participants:\n  - {{name: A, api_key: {KEY}}}\n"
        f"  - {{name: B, api_key: {KEY}}}\n",
        '6:24: collaboration "C": participant "B": api_key is the same as in line 5 … vserver apikey',
    ),
    "lists of a user without entries": (
        USER + "{username: u, password: Abcd-1234, roles: [], rules: [], created_tasks: [], organization: }\n",
        "",
    ),
    "a collaboration without a name": (TASK.replace("name: C", "participants: [A]") + "tasks: [x]\n", "COL001 (1)"),
    "a collaboration of an empty name": (TASK.replace("name: C", 'name: ""') + "participants: [A]\n", "COL001 (1)"),
    "a key twice, of one value": (
        'organizations:\n- name: A\n  public_key: ""\n  public_key: ""\n',
        '4:3: the key "public_key" … line 3, with the same value',
    ),
    "a key twice, of other values": (
        "organizations:\n- name: A\n  country: NL\n  country: NO\n",
        '4:3: the key "country" … line 3: this value is imported',
    ),
    "an organization without a name": ("organizations:\n- name:\n  country: NL\n", "ORG001 (1)"),
    "users without names": (USER + "firstname: x\n  - {username: , password: Abcd-1234}\n", "USR002 (2)"),
    "an empty password": (
        USER + 'username: u\n    password: ""\n',
        '5:15: user "u": password is empty … generated',
    ),
    "an encryption that is nothing": (
        TASK + "encrypted:\n",
        '4:13: collaboration "C": encrypted is empty … a new collaboration is encrypted',
    ),
    "tasks without an image": (TASK + "participants: [A]\n  tasks: [null, '']\n", "TSK002 (2)"),
    "empty texts for lists": (TASK.replace("name: A", "name: A, users: ''") + "participants: ''\n  tasks: ''\n", ""),
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_a_server_imports_is_imported_with_a_warning(what: str, load: Import, tmp_path: Path) -> None:
    content, expected = TAKEN[what]
    done = load(content)
    assert done.exit_code == 0, done.stderr
    lines = done.stderr.replace(f"{tmp_path}/fixture.yaml:", "").splitlines()
    assert any(fits(line, f" … {expected}") for line in lines) and KEY not in done.stderr, done.stderr


def test_a_strict_import_refuses_what_is_passed_over(load: Import, target: Path) -> None:
    done = load(TAKEN["a key twice, of other values"][0], "--strict")
    assert done.exit_code == 1 and "1 value would be lost" in done.stderr and not target.exists()


@pytest.mark.parametrize("name", ["same-key", "no-name", "twice"])
def test_the_fixtures_that_release_4_took_are_imported(name: str, tmp_path: Path) -> None:
    done = process("-d", tmp_path / "a.db", "import", Path(__file__).parent / "data" / f"fixture-{name}.yaml")
    assert done.status == 0 and "warning" not in done.err.lower(), done


def test_nobody_without_a_name_gets_a_password(load: Import, target: Path) -> None:
    assert "made these" not in load(USER + "firstname: x\n").stderr
    assert stored(target, "SELECT username, password FROM user") == [(None, None)]


def test_a_name_in_a_fault_moves_no_cursor(faults: Callable[[str], list[str]]) -> None:
    (output,) = faults('organizations: [{name: "\\e[2J\\u202e", zipcode: [x]}]\n')
    assert output.startswith('1:48: organization "\\x1b[2J\\u202e": zipcode is a list, not a text: ')


# Few lines that stand for much

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)
TASKS = "".join(f"- {{name: {n}, participants: [A, B], tasks: *t}}\n" for n in range(12))
MUCH = {
    "lists of lists": (BOMB + "organizations: *k\n", "10:4: organization 1 is a list, not a mapping"),
    "a long text": (
        f"a: &a {'x' * 1024}\norganizations:\n" + "- {name: x, domain: *a}\n" * 1100,
        "FILE has more than 1 MiB of text, with aliases: import it in parts",
    ),
    "many results": (
        f"{ORGANIZATION}t: &t [{'a,' * 1000}]\ncollaborations:\n{TASKS}",
        "FILE has more than 10,000 entries and results: import it in parts",
    ),
}


@pytest.mark.parametrize("what", MUCH)
def test_aliases_that_stand_for_too_much_are_refused(
    faults: Callable[[str], list[str]], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (fixtures.MAX_CHARACTERS, fixtures.MAX_ENTRIES) == (64 * 1024**2, 1_000_000)
    monkeypatch.setattr(fixtures, "MAX_CHARACTERS", 1024**2)  # less is refused sooner
    monkeypatch.setattr(fixtures, "MAX_ENTRIES", 10_000)
    content, expected = MUCH[what]
    assert expected in " ".join(faults(content))


def test_invalid_yaml_is_one_line_and_nothing_is_created(faults: Callable[[str], list[str]]) -> None:
    (output,) = faults('organizations:\n- name: "x\n')
    assert output.startswith("3:1: invalid YAML: found unexpected end of stream")


# Anything at all

texts = st.sampled_from(["A", "B", "", "null", "x", "no", '"', "\0", "\ud800", "🎈", "\x85", KEY]) | st.text(max_size=5)
keys = (
    st.sampled_from(
        [*fixtures.TOP_KEYS, *fixtures.ORGANIZATION_KEYS, "users", *fixtures.USER_KEYS, *fixtures.COLLABORATION_KEYS]
    )
    | texts
)
leaves = texts | st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.binary(max_size=4)
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


def near_to(value: Any, **pairs: Any) -> Any:
    """Return mappings of these keys, some of which are left out or hold anything."""
    return st.fixed_dictionaries({}, optional={key: pair | anything for key, pair in pairs.items()}) | value


user = near_to(anything, username=texts, password=texts, firstname=texts, lastname=texts, email=texts, roles=texts)
organization = near_to(anything, name=texts, domain=texts, public_key=texts, users=st.lists(user, max_size=3))
participant = texts | near_to(anything, name=texts, api_key=texts, **{"api-key": texts})
collaboration = near_to(
    anything,
    name=texts,
    encrypted=st.booleans(),
    participants=st.lists(participant, max_size=3),
    tasks=st.lists(texts, max_size=3),
)
fixture = near_to(
    anything, organizations=st.lists(organization, max_size=3), collaborations=st.lists(collaboration, max_size=3)
)


def read_or_refused(file: Path) -> None:
    """Read a file and give all its rows, or raise nothing but what a person can act on."""
    with contextlib.suppress(Error), fixtures.opened(file) as source:
        for origin in source.origins:
            given_rows = list(source.rows(origin, ImportNotes()))
            assert len(given_rows) == source.count(origin.table)
            assert {len(row) for row in given_rows} == {len(origin.columns)}


@given(value=fixture)
def test_whatever_is_like_a_fixture_is_read_or_refused(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(yaml.dump(value, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    read_or_refused(file)


@given(data=st.data())
def test_a_fixture_with_bytes_that_fell_out_or_in_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = EXAMPLE.read_bytes()
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    file = tmp_path / "f.yaml"
    file.write_bytes(whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:])
    read_or_refused(file)
