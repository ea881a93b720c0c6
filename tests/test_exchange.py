"""Our own export, and databases of ours as sources: everything there and back, exactly, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.terminal import environment
from helpers.typed import done, run
from hypothesis import given
from hypothesis import strategies as st

import models as db
import vserver
from vserverlib import Error, hashing, progress_callback
from vserverlib.databases import connecting, storage
from vserverlib.transfer import detection, exchange, import_report, importer, sources, vserver_source

DATA = Path(__file__).parent / "data"
SAMPLES = sorted(DATA.glob("v*.sqlite"))
HASH = "$2b$04$" + "a" * 53


@pytest.fixture(autouse=True)
def _nothing_stays_open(quick_hashes: None) -> Iterator[None]:
    yield
    if db.database.obj is not None and not db.database.is_closed():
        db.database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "exchange"
    made.mkdir()
    return made


def imported(source: Path, target: Path) -> import_report.ImportReport:
    with detection.opened(str(source)) as found:
        return importer.run(found, target)


def exported(file: Path, target: Path, with_hashes: bool = True) -> Path:
    database = connecting.connect(file, read_only=True)
    with contextlib.closing(database), vserver_source.reading(database, with_hashes=with_hashes) as source:
        exchange.export(source, target, with_hashes=with_hashes)
    return target


def content(file: Path, but: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """Return all that a database holds, each value with its type, by table."""
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.text_factory = bytes
        found = {
            origin.table: stored(conn, origin.table, [n for n in origin.columns if n not in but])
            for origin in vserver_source.ORIGINS
        }
        found["counter"] = conn.execute("SELECT name, value FROM counter").fetchall()
        found["ids"] = conn.execute(
            "SELECT name, seq FROM sqlite_sequence WHERE name <> 'change' AND name <> 'record'"
        ).fetchall()
        found["ids"].sort()
        return found


def stored(conn: sqlite3.Connection, table: str, columns: list[str]) -> list[Any]:
    values = ", ".join(f'typeof("{name}"), quote("{name}")' for name in columns)
    return conn.execute(f'SELECT {values} FROM "{table}" ORDER BY id').fetchall()


def added_since(older: Path) -> tuple[str, ...]:
    """Return the columns that an older database does not have yet."""
    with contextlib.closing(sqlite3.connect(older)) as conn:
        there = {
            name: conn.execute(f'SELECT * FROM "{name}"').description
            for name in (o.table for o in vserver_source.ORIGINS)
        }
    has = {table: {column[0] for column in columns} for table, columns in there.items()}
    return tuple(name for origin in vserver_source.ORIGINS for name in origin.columns if name not in has[origin.table])


def salt(file: Path) -> Any:
    with contextlib.closing(sqlite3.connect(file)) as conn:
        return conn.execute("SELECT value FROM setting WHERE name = 'key_salt'").fetchone()[0]


def lost(outcome: import_report.ImportReport) -> list[Any]:
    """Return what an import did not keep as it was."""
    lines = [*outcome.left_out, *outcome.doubled, *outcome.renumbered]
    return [*lines, *outcome.links, *outcome.values, *outcome.unmapped_tables, *outcome.lost]


def there_and_back(file: Path, folder: Path) -> Path:
    """Return the database that an export of a database is imported into."""
    back = folder / "back.db"
    outcome = imported(exported(file, folder / "export.json"), back)
    assert lost(outcome) == []
    return back


# There and back


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda file: file.stem)
def test_what_a_server_left_behind_survives_the_way_out_and_in(sample: Path, folder: Path) -> None:
    imported(sample, folder / "first.db")
    back = there_and_back(folder / "first.db", folder)
    assert content(back) == content(folder / "first.db") and salt(back) == salt(folder / "first.db")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda file: file.stem)
def test_a_database_of_ours_is_imported_as_it_is(sample: Path, folder: Path) -> None:
    imported(sample, folder / "first.db")
    outcome = imported(folder / "first.db", folder / "second.db")
    assert lost(outcome) == []
    assert content(folder / "second.db") == content(folder / "first.db")
    assert salt(folder / "second.db") == salt(folder / "first.db")
    assert {file.name for file in folder.iterdir()} == {"first.db", "second.db"}


def test_a_database_of_an_older_schema_is_imported_and_stays_what_it_is(folder: Path) -> None:
    old = folder / "old.db"
    old.write_bytes((DATA / "schema-1.sqlite").read_bytes())
    old.chmod(0o600)
    imported(old, folder / "new.db")
    assert old.read_bytes() == (DATA / "schema-1.sqlite").read_bytes()
    assert content(folder / "new.db", but=added_since(old)) == content(old, but=added_since(old))


@pytest.mark.parametrize("piped", [True, False])
def test_an_upgrade_is_advised_only_for_a_source_that_is_a_file(piped: bool, folder: Path) -> None:
    old = folder / "old.db"
    old.write_bytes((DATA / "schema-1.sqlite").read_bytes())
    words, input = (["-"], old.read_bytes()) if piped else ([str(old)], None)
    command = [sys.executable, "-m", "vserver", "-d", str(folder / "new.db"), "import", *words]
    done = subprocess.run(command, input=input, capture_output=True, check=True, env=environment(folder))
    assert b"older schema" in done.stderr and (b"vserver upgrade" in done.stderr) != piped


def test_a_database_that_is_open_and_written_to_is_imported_as_it_is_then(folder: Path) -> None:
    storage.create(folder / "first.db")
    with contextlib.closing(sqlite3.connect(folder / "first.db")) as writer:
        writer.execute("INSERT INTO organization (name) VALUES ('in the log')")
        writer.commit()
        imported(folder / "first.db", folder / "second.db")
    assert content(folder / "second.db")["organization"] == content(folder / "first.db")["organization"]


def test_a_log_in_and_a_key_work_after_the_way_out_and_in(folder: Path) -> None:
    imported(DATA / "v1.2.3.sqlite", folder / "first.db")
    db.connect(there_and_back(folder / "first.db", folder))
    assert db.User.get_by_username("user00").check_password("Geheim-00!")
    assert db.Node.get_by_api_key("00000000-0000-4000-8000-000000000001").id == 7


def test_ids_and_run_ids_are_not_given_again_after_the_way_out_and_in(folder: Path) -> None:
    storage.create(folder / "first.db")
    db.connect(folder / "first.db")
    organization = db.Organization(name="gone")
    organization.save()
    organization.delete()
    db.Task.next_run_id()
    db.database.close()
    db.connect(there_and_back(folder / "first.db", folder))
    again = db.Organization(name="next")
    again.save()
    assert again.id == 2 and db.Task.next_run_id() == 2


# Any database

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ODD = st.one_of(TEXT, st.none(), st.binary(max_size=6), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))


def value(table: str, column: str, ids: dict[str, list[int]]) -> st.SearchStrategy[Any]:
    """Return what may stand in a column, links aside: whatever a program can write there."""
    if column in ("password", "api_key"):
        return st.sampled_from([None, HASH])
    links = {"parent_id": "task", "initiator_id": "organization"}
    if column.endswith("_id") and column != "run_id":
        return st.sampled_from([None, *ids.get(links.get(column, column.removesuffix("_id")), [])])
    return ODD


@st.composite
def rows(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """Rows of every table, as another program may have written them: their links lead somewhere, or are empty."""
    ids = {origin.table: sorted(draw(st.sets(st.integers(-5, 2**40), max_size=4))) for origin in vserver_source.ORIGINS}
    return [
        (origin.table, {"id": id, **{name: draw(value(origin.table, name, ids)) for name in origin.columns[1:]}})
        for origin in vserver_source.ORIGINS
        for id in ids[origin.table]
    ]


def written(file: Path, found: list[tuple[str, dict[str, Any]]]) -> None:
    with contextlib.closing(sqlite3.connect(file)) as conn:
        for table, row in found:
            names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
            conn.execute(f'INSERT OR IGNORE INTO "{table}" ({names}) VALUES ({marks})', list(row.values()))
        conn.execute("UPDATE task SET parent_id = NULL WHERE parent_id NOT IN (SELECT id FROM task)")
        for table, names in LINKS.items():
            for name, to in names.items():
                conn.execute(f'UPDATE "{table}" SET {name} = NULL WHERE {name} NOT IN (SELECT id FROM {to})')
        conn.commit()


LINKS = {
    "member": {"organization_id": "organization", "collaboration_id": "collaboration"},
    "user": {"organization_id": "organization"},
    "node": {"organization_id": "organization", "collaboration_id": "collaboration"},
    "task": {"collaboration_id": "collaboration", "initiator_id": "organization"},
    "result": {"task_id": "task", "organization_id": "organization"},
}


@given(rows())
def test_whatever_rows_there_are_come_back_equal(found: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = storage.create(Path(name) / "first.db")
        written(file, found)
        assert content(there_and_back(file, Path(name))) == content(file)


@given(st.lists(TEXT.filter(lambda text: "\0" not in text), min_size=1, max_size=5, unique=True), st.booleans())
def test_what_is_made_through_the_models_comes_back_equal(names: list[str], encrypted: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = storage.create(Path(folder) / "first.db")
        db.connect(file)
        organizations = [db.Organization(name=name, public_key=name) for name in names]
        for each in organizations:
            each.save()
        collaboration = db.Collaboration(name=names[0], encrypted=encrypted, organizations=organizations)
        collaboration.save()
        parent = None
        for each in organizations:
            db.User(username=each.name, password="Geheim-1!", organization=each).save()
            db.Node(
                name=each.name, api_key="a key of some length", organization=each, collaboration=collaboration
            ).save()
            parent = db.Task(name=each.name, image="i", collaboration=collaboration, parent=parent, initiator=each)
            parent.save()
            db.Result(task=parent, organization=each, result=each.name, log=each.name).save()
        db.database.close()
        assert content(there_and_back(file, Path(folder))) == content(file)


def test_invalid_utf8_is_in_the_export_and_fixed_by_the_import(folder: Path) -> None:
    file = storage.create(folder / "first.db")
    with contextlib.closing(sqlite3.connect(file)) as conn:
        conn.execute("INSERT INTO organization (name, domain) VALUES (CAST(x'c328' AS TEXT), x'00')")
        conn.execute("INSERT INTO result (assigned_at) VALUES (CAST(x'c328' AS TEXT))")
        conn.commit()
    made = exported(file, folder / "export.json")
    assert '{"organization": {"id": 1, "name": {"text": "c328"}, "domain": {"blob": "00"}}}' in made.read_text()
    outcome = imported(made, folder / "back.db")
    assert outcome.values == {
        "organization.name, characters that cannot be stored became \ufffd": 1,
        "result.assigned_at, not a time, kept as it is": 1,
    }


# What is in the file


def test_without_hashes_there_are_none(folder: Path) -> None:
    imported(DATA / "v4.15.2.sqlite", folder / "first.db")
    result = done(folder / "first.db", "export", str(folder / "plain.json"))
    text = (folder / "plain.json").read_text()
    assert "$2" not in text and '"password"' not in text and '"api_key"' not in text and "key_salt" not in text
    output = done(folder / "back.db", "import", str(folder / "plain.json")).stderr
    assert "plain.json is an export of vserver without hashes: its users have no passwords" in output
    secret = ("password", "api_key")
    assert content(folder / "back.db", but=secret) == content(folder / "first.db", but=secret)
    assert "without passwords and keys" in result.stderr


def test_with_hashes_it_says_so(folder: Path) -> None:
    imported(DATA / "v4.15.2.sqlite", folder / "first.db")
    result = done(folder / "first.db", "export", str(folder / "all.json"), "--with-hashes")
    assert "hashes" in result.stderr and "only you" in result.stderr and "$2" not in result.output
    assert (folder / "all.json").read_text().count('"password": "$2b$') == 6


def test_an_export_is_readable_by_its_owner_alone(folder: Path) -> None:
    storage.create(folder / "first.db")
    before = os.umask(0)
    try:
        done(folder / "first.db", "export", str(folder / "made.json"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "made.json").stat().st_mode) == 0o600


def test_no_untrusted_text_reaches_the_terminal_as_more_than_text(folder: Path) -> None:
    storage.create(folder / "first.db")
    db.connect(folder / "first.db")
    db.Organization(name="\x1b[31m\x9bred\u202e\u2028").save()
    db.database.close()
    text = done(folder / "first.db", "export", "-").stdout
    assert text.replace("\n", "").isprintable() and json.loads(text.splitlines()[1])["organization"]["id"] == 1


def test_an_export_goes_to_stdout_too(folder: Path) -> None:
    imported(DATA / "v4.15.2.sqlite", folder / "first.db")
    exported(folder / "first.db", folder / "made.json", with_hashes=False)
    sent = done(folder / "first.db", "export", "-").stdout.splitlines()
    assert sent[1:] == (folder / "made.json").read_text().splitlines()[1:] and len(sent) == 63
    assert all(isinstance(json.loads(line), dict) for line in sent)


# Whole, or not at all


def test_anything_but_a_file_is_not_replaced_by_force_either(url: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    refused = run(url, "export", "--force", "--format", "json", str(folder / "pipe"))
    assert refused.exit_code == 1 and "not a regular file" in refused.stderr
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)


def test_a_file_that_is_there_is_replaced_only_by_force(folder: Path) -> None:
    file = storage.create(folder / "first.db")
    (folder / "made.json").write_text("mine")
    refused = run(file, "export", str(folder / "made.json"))
    assert refused.exit_code == 1 and "exists already" in refused.stderr
    assert (folder / "made.json").read_text() == "mine"
    done(file, "export", str(folder / "made.json"), "--force")
    assert (folder / "made.json").read_text().startswith('{"vserver": "export", "version": 1')


def test_an_export_never_replaces_the_database(folder: Path) -> None:
    file = storage.create(folder / "first.json")
    (folder / "link.json").symlink_to(file)
    before = file.read_bytes()
    for name in ("first.json", "link.json"):
        refused = run(file, "export", str(folder / name), "--force")
        assert refused.exit_code == 1 and "is the database itself" in refused.stderr
    assert file.read_bytes() == before


def test_what_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(DATA / "v4.15.2.sqlite", folder / "first.db")
    monkeypatch.setattr(progress_callback, "TICK", -1)

    def interrupted(done: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with detection.opened(str(folder / "first.db")) as source, pytest.raises(KeyboardInterrupt):
        exchange.export(source, folder / "made.json", with_hashes=False, advance=interrupted)
    assert [file.name for file in folder.iterdir()] == ["first.db"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_line(folder: Path) -> None:
    imported(DATA / "v4.15.2.sqlite", folder / "first.db")
    command = [sys.executable, "-m", "vserver", "-d", str(folder / "first.db"), "export", "-"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "Error: stdout: No space left on device: the output is incomplete\n"


# What is no export


def head(**changed: Any) -> str:
    rows = dict.fromkeys(vserver_source.IN_ORDER, 0)
    return json.dumps({"vserver": "export", "version": 1, "hashes": False, "rows": rows, **changed})


def one(row: str) -> str:
    """Return an export of one organization, given as the line of its row."""
    return head(rows={**dict.fromkeys(vserver_source.IN_ORDER, 0), "organization": 1}) + "\n" + row + "\n"


def organization(**values: str) -> str:
    return one('{"organization": {"id": 1, ' + ", ".join(f'"{name}": {text}' for name, text in values.items()) + "}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (head(version=2), "was exported by a newer vserver .format 2, this release reads 1.: upgrade vserver"),
        (head(version="1"), "line 1: not the head of a vserver export"),
        (head(rows={}), "line 1: not the head of a vserver export"),
        (
            head(rows={**dict.fromkeys(vserver_source.IN_ORDER, 0), "task": -1}),
            "line 1: not the head of a vserver export",
        ),
        ('{"vserver": "export", ', "line 1: invalid JSON"),
        ('{\n  "vserver": "export"\n}', "line 1: invalid JSON .*one object on each line, as jq -c writes"),
        (one(""), "line 2: invalid JSON"),
        (one("")[:-2], "is truncated.*1 of organization.*export it again"),
        (one('{"organization": {"id": 1, "nam'), "line 2: invalid JSON"),
        (one("[1]"), "line 2: not a JSON object"),
        (one('{"task": {"id": 1}}'), "line 2: not a row of organization"),
        (one('{"organization": {"id": 1}}\n{"organization": {"id": 2}}'), "line 3: the head counts no more rows"),
        (organization(nam='"IKNL"'), 'line 2: organization has no column "nam"'),
        (organization(name='["IKNL"]'), 'line 2: "name" has a value that a database cannot store: export it again'),
        (organization(name='{"blob": "x"}'), 'line 2: "name" has a value'),
        (organization(name='{"blob": "00", "text": "00"}'), 'line 2: "name" has a value'),
        (organization(name='"\\ud800"'), 'line 2: "name" has a value'),
        (organization(name="NaN"), "line 2: invalid JSON"),
        (organization(name="9223372036854775808"), "line 2: invalid JSON"),
        (organization(name="[" * 100_000), "line 2: invalid JSON"),
        (organization(name="1" * 5000), "line 2: invalid JSON"),
    ],
    ids=range(21),
)
def test_an_invalid_export_is_one_line_and_nothing_is_imported(folder: Path, text: str, message: str) -> None:
    (folder / "bad.json").write_text(text)
    with pytest.raises(Error, match=message):
        imported(folder / "bad.json", folder / "new.db")
    refused = run(folder / "new.db", "import", str(folder / "bad.json"))
    assert refused.exit_code == 1 and "Traceback" not in refused.output
    assert [file.name for file in folder.iterdir()] == ["bad.json"]


def test_a_line_that_is_too_long_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_LINE_BYTES", 100)
    (folder / "long.json").write_text(organization(name=f'"{"x" * 200}"'))
    with pytest.raises(Error, match="line 2 is longer than 100 bytes"):
        imported(folder / "long.json", folder / "new.db")


def test_an_export_that_is_written_to_meanwhile_is_not_imported(folder: Path) -> None:
    (folder / "made.json").write_text(organization(name='"IKNL"'))
    with (
        pytest.raises(Error, match="was written to while it was read"),
        detection.opened(str(folder / "made.json")) as found,
    ):
        os.utime(folder / "made.json", (1, 1))
        importer.run(found, folder / "new.db")
    assert not (folder / "new.db").exists()


def test_a_plain_secret_that_was_written_into_an_export_is_hashed(folder: Path) -> None:
    text = head(rows={**dict.fromkeys(vserver_source.IN_ORDER, 0), "user": 1})
    (folder / "made.json").write_text(text + '\n{"user": {"id": 1, "username": "root", "password": "Geheim-1!"}}\n')
    imported(folder / "made.json", folder / "new.db")
    assert b"Geheim-1!" not in (folder / "new.db").read_bytes()
    db.connect(folder / "new.db")
    assert db.User.get(1).check_password("Geheim-1!")


def test_a_value_that_does_not_fit_its_column_is_reported_and_refused_if_strict(folder: Path) -> None:
    text = head(rows={**dict.fromkeys(vserver_source.IN_ORDER, 0), "task": 1})
    (folder / "made.json").write_text(text + '\n{"task": {"id": 1, "run_id": "abc", "created_at": "yesterday"}}\n')
    output = done(folder / "new.db", "import", str(folder / "made.json")).stderr
    assert "DBF004 (2)" in output
    refused = run(folder / "strict.db", "import", str(folder / "made.json"), "--strict")
    assert refused.exit_code == 1 and 'task 1: its run_id is "abc"' in refused.stderr
    assert not (folder / "strict.db").exists()


def test_dangling_links_are_emptied_and_reported(folder: Path) -> None:
    text = head(rows={**dict.fromkeys(vserver_source.IN_ORDER, 0), "task": 1})
    (folder / "made.json").write_text(text + '\n{"task": {"id": 1, "collaboration_id": 7}}\n')
    outcome = imported(folder / "made.json", folder / "new.db")
    assert outcome.links == {"task.collaboration_id": 1}


def test_the_rows_of_any_table_can_be_asked_for_first_and_again(folder: Path) -> None:
    imported(DATA / "v4.15.2.sqlite", folder / "first.db")
    with detection.opened(str(exported(folder / "first.db", folder / "made.json"))) as found:
        by_table: dict[str, Callable[[], int]] = {
            origin.table: (lambda origin=origin: len(list(found.rows(origin, sources.ImportNotes()))))
            for origin in found.origins
        }
        assert [by_table[name]() for name in ("result", "user", "result", "organization")] == [27, 6, 27, 4]


def test_an_invalid_salt_is_ignored(folder: Path) -> None:
    (folder / "made.json").write_text(head(key_salt="salt", counters={"run_id": "x"}, last_ids={"setting": 3}))
    imported(folder / "made.json", folder / "new.db")
    assert hashing.is_hash(salt(folder / "new.db") + "." * 31)


def test_a_truth_is_one_in_an_export_of_either_kind_of_database(path: Path, url: str, folder: Path) -> None:
    names = []
    for address in (str(path), url):
        with contextlib.closing(db.connect(address)):
            db.Collaboration(name="ENCRYPTED").save()
            db.Collaboration(name="PLAIN", encrypted=False).save()
        file = folder / f"{len(names)}.json"
        assert CliRunner().invoke(vserver.main, ["-d", address, "export", str(file)]).exit_code == 0
        names.append(file.read_text().splitlines()[1:])
    assert names[0] == names[1] and '"encrypted": true' in names[0][0] and '"encrypted": false' in names[0][1]


def test_what_comes_through_a_pipe_is_imported_and_leaves_nothing(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with contextlib.closing(db.connect(path)):
        db.Organization(name="IKNL").save()
    text = done(path, "export", "-").stdout
    words = ["-d", str(path.with_name("stdin.db")), "import", "-"]
    assert CliRunner().invoke(vserver.main, words, input=text).exit_code == 0
    for name, data in (("fifo", text.encode()), ("database", path.read_bytes())):
        path.with_name(f"{name}.data").write_bytes(data)
        command = f"{sys.executable} -m vserver -d {name}.db import <(cat {name}.data)"
        words = ["bash", "-c", command]
        subprocess.run(words, cwd=path.parent, env=environment(folder), check=True, capture_output=True)
    for made in ("stdin.db", "fifo.db", "database.db"):
        assert content(path.with_name(made))["organization"] == content(path)["organization"]
    assert not list(folder.glob("vserver-*"))


@pytest.mark.parametrize("words", [("import", str(DATA / "fixture.yaml")), ("export", "new.yaml")])
def test_secrets_do_not_go_to_a_file_called_stdout(path: Path, words: tuple[str, ...]) -> None:
    refused = run(path, *words, "--secrets", "-")
    assert refused.exit_code == 2 and "--secrets takes the name of a new file" in refused.stderr


def test_a_merge_of_what_comes_through_stdin_cannot_ask(path: Path) -> None:
    with contextlib.closing(db.connect(path)):
        db.Organization(name="IKNL").save()
    text = done(path, "export", "-").stdout.replace("IKNL", "Oslo")
    words = ["-d", str(path), "import", "-", "--merge"]
    refused = CliRunner().invoke(vserver.main, words, input=text)
    assert refused.exit_code == 1 and "no terminal for the confirmation" in refused.stderr
    assert CliRunner().invoke(vserver.main, [*words, "--yes"], input=text).exit_code == 0
