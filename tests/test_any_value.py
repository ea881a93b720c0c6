"""Every value that another program, or an import, may leave in any column is listed, shown, filtered and checked.

One database for each kind has a row for each column and value: what each type of SQLite can hold there; and what the
types of PostgreSQL's columns can. No command may end in a traceback, and one row must not hide the others.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner, Result
from helpers.process import vserver as process

import models as db
import vserver
from vserverlib import Error
from vserverlib.databases import storage
from vserverlib.entities import fields, filters, journal, relations
from vserverlib.queries import listing
from vserverlib.terminal import display, panels, views, watching

MODELS = (*db.ENTITIES, db.Member)
EDGES = ("0", "-1", "9223372036854775807", "-9223372036854775808")
TIMES = ("'9999-12-31 23:59:59.999999+00:00'", "'0001-01-01 00:00:00+00:00'", "'2026-03-01T09:00:00Z'")
TEXTS = (
    *("''", "' '", "'null'", "'None'", "'yesterday'", "'0'", "'true'", "'=1+1'", "'[red]x[/]'", "'2026-03-01'"),
    *("repeat('9', 30)", "repeat('9', 5000)", "repeat('x', 140000)"),
    "'\x1b[31m\u202e\x07\x9b\u2028\r\n\t'",
    "'\u05e2\u0301\u0301\u0301\u0301\u0301'",
)
ANYTHING = (  # what SQLite takes in any column
    *EDGES,
    *TIMES,
    *(text for text in TEXTS if "repeat" not in text),
    *("1.5", "1e30", "9e999", "-9e999", "x''", "x'ff00'", "x'323032362d30332d3031'"),
    *("'9999-12-31 23:59:59-12:00'", "'0001-01-01 00:00:00+14:00'", "'0000-00-00 00:00:00'", "'2026-13-45 99:99'"),
    "replace(hex(zeroblob(15)), '0', '9')",
    "replace(hex(zeroblob(2500)), '0', '9')",
    "replace(hex(zeroblob(70000)), '0', 'x')",
    "CAST(x'c328ff41' AS TEXT)",  # no UTF-8
    "CAST(x'eda08041' AS TEXT)",  # half a character
    "CAST(x'61006200' AS TEXT)",  # NUL
)
OF_POSTGRES = {  # what the types of PostgreSQL's columns take
    fields.UTCDateTimeField: (
        *TIMES,
        "'infinity'",
        "'-infinity'",
        "'0044-03-15 00:00+00 BC'",
        "'294276-12-31 23:59:59+00'",
    ),
    fields.BooleanField: ("TRUE", "FALSE"),
    fields.IntegerField: EDGES,
    relations.Link: EDGES,
    fields.Text: TEXTS,
}
FORMATS = ("table", "json", "jsonl", "csv", "yaml", "name")
COMPARED = {
    "time": ("2026", "2026-03-01 10:02", "9999-12-31", "0001-01-01", "-2d", "null"),
    "number": ("1", "9223372036854775807", "-9223372036854775808", "1e30", "null"),
    "share": ("0.5", "null"),
    "flag": ("true", "null"),
    "text": ("x", "", "null"),
}
STEP = 7  # of the rows, that many are not shown one by one


def rows(kind: str) -> Iterator[tuple[str, str, str]]:
    """Return the table, the column and the SQL of each value."""
    for model in MODELS:
        for field in model.stored_fields()[1:]:
            of_kind = next(values for type_, values in OF_POSTGRES.items() if isinstance(field, type_))
            unique = {"'0'"} if field.unique and kind == "sqlite" else set()  # the number 0 is the same there
            for value in ANYTHING if kind == "sqlite" else of_kind:
                if value not in unique:
                    yield model._meta.table_name, field.column_name, value


def statements(kind: str) -> Iterator[str]:
    yield "INSERT INTO organization (id, name) VALUES (900001, 'A')"
    yield "INSERT INTO collaboration (id, name) VALUES (900001, 'C')"
    yield "INSERT INTO task (id, name, collaboration_id, initiator_id, run_id) VALUES (900001, 'T', 900001, 900001, 1)"
    for table, column, value in rows(kind):
        more, of = (", task_id", ", 900001") if table == "result" and column != "task_id" else ("", "")
        yield f'INSERT INTO "{table}" ("{column}"{more}) VALUES ({value}{of})'


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What -d is given for the database that has all of it."""
    if request.param == "sqlite":
        path = storage.create(tmp_path_factory.mktemp("any") / "vserver.db")
        with contextlib.closing(sqlite3.connect(path)) as conn, conn:
            for statement in statements("sqlite"):
                conn.execute(statement)
        yield str(path)
    else:
        with request.getfixturevalue("server").database() as url:
            with psycopg.connect(url) as conn:
                conn.execute("SET session_replication_role = replica")  # links that lead nowhere
                for statement in statements("postgres"):
                    conn.execute(statement)  # type: ignore[call-overload]  # texts of ours
            yield url


@pytest.fixture
def opened(kept: str) -> Iterator[Any]:
    database = db.connect(kept, read_only=True)
    yield database
    database.close()


def run(kept: str, *words: str) -> Result:
    done = CliRunner().invoke(vserver.main, ["-d", kept, *words], prog_name="vserver")
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exc_info)
    return done


def parsed(form: str, text: str) -> list[Any]:
    read = {
        "json": json.loads,
        "jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
        "csv": lambda text: list(csv.DictReader(text.splitlines(keepends=True))),
        "yaml": lambda text: yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)),
        "name": str.splitlines,
    }
    found: list[Any] = read[form](text)
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_every_row_is_listed(kept: str, form: str, opened: Any) -> None:
    csv.field_size_limit(10**6)
    for model in db.ENTITIES:
        done = run(kept, "list", model.plural, "--all", "-o", form)
        assert done.exit_code == 0, done.stderr
        assert form == "table" or len(parsed(form, done.stdout)) == model.select().count()
        assert all(line.replace("\t", "").isprintable() for line in done.stdout.splitlines())


@pytest.mark.long
def test_every_row_is_shown(kept: str, opened: Any) -> None:
    for model in db.ENTITIES:
        for entity in list(model.get())[::STEP]:
            assert views.render(panels.entity_panel(entity), width=100, color=False)
            assert str(entity) and repr(entity)
        assert len(listing.of_entities(list(model.get()))) == model.select().count()
        reference = f"{model.noun}/{model.select(model.id).order_by(model.id.desc()).scalar()}"
        for form in ("table", "json"):
            assert run(kept, "show", *reference.split("/"), "-o", form).exit_code == 0


@pytest.mark.long
def test_every_field_is_filtered_and_sorted_by(opened: Any) -> None:
    for model in MODELS:
        total = model.select().count()
        for name in filters.names(model):
            assert len(list(model.sort(name))) == len(list(model.sort(f"-{name}"))) == total
            for operator, given in conditions(model, name):
                found = len(list(model.where(f"{name}{operator}{given}")))
                opposite = len(model.where(f"{name}!={given}")) if operator == "=" else total - found
                assert found + opposite == total, (name, operator, given)


def conditions(model: Any, name: str) -> Iterator[tuple[str, str]]:
    """Return operators and values that a field is compared with."""
    value = filters.value(model, name)
    is_link = filters._led_to(model, name) is not None
    for operator in filters.operators(model, name):
        of_link = ("A",) if operator == "~" else ("1", "null")
        for given in of_link if is_link else value.choices or COMPARED[value.kind]:
            if given != "null" or operator in filters.EQUAL:
                yield operator, given


@pytest.mark.parametrize("text", ["a", "\u00e9", "\u202e", "9"])
def test_every_text_is_searched(opened: Any, text: str) -> None:
    for model in MODELS:
        list(model.search(text))


@pytest.mark.parametrize(
    "words",
    [
        *[("overview",), ("overview", "-o", "json"), ("overview", "-o", "yaml"), ("check",), ("check", "-o", "json")],
        *[("log", "--all"), ("log", "--all", "-o", "json"), ("list", "tasks", "--fields", "id,parent.name,run_id")],
        *[("list", "results", "--sort", "-finished_at", "--where", "finished_at<2027", "--all")],
        *[("export", "all.json"), ("export", "all.yaml")],
    ],
    ids=" ".join,
)
def test_every_command_that_reads_comes_to_its_end(
    kept: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(kept, *words)
    assert done.exit_code == (1 if words[0] == "check" else 0), done.stderr


def test_tasks_are_watched_and_waited_for(kept: str, opened: Any) -> None:
    assert watching.Watch().look() and watching.Watch([900001]).look(5)
    assert run(kept, "wait", "task/900001", "--timeout", "0").exit_code == 3


def test_entities_read_as_they_are(opened: Any) -> None:
    for model in MODELS:
        assert len(list(model.select().dicts())) == len(list(model.select().tuples())) == len(model.get())
        assert len(list(model.select().iterator())) == len(model.get())
        for entity in model.get():
            for field in model._meta.sorted_fields:
                with contextlib.suppress(Error):  # a link that leads nowhere says so
                    getattr(entity, field.name)
            assert model.get(entity.id).id == entity.id


def test_the_state_of_a_result_is_what_the_database_says(opened: Any) -> None:
    states = dict(db.Result.select(db.Result.id, db.Result.state).tuples())
    complete = dict(db.Result.select(db.Result.id, db.Result.complete).tuples())
    for result in db.Result.get():
        assert (result.state, result.complete) == (states[result.id], complete[result.id]), result.__data__
    for task in db.Task.where("results>0"):
        computed = db.Task.select(db.Task.status, db.Task.complete, db.Task.finished_at).where(db.Task.id == task.id)
        assert computed.tuples()[0] == (task.status, task.complete, task.finished_at)


def test_a_check_finds_values_of_another_type(kept: str) -> None:
    found = json.loads(run(kept, "check", "--rule", "DBF004", "-o", "json").stdout)
    output = " ".join(finding["message"] for finding in found["findings"]) if isinstance(found, dict) else str(found)
    if kept.startswith("postgresql"):
        assert all(f'created_at is "{value}' in output for value in ("infinity", "-infinity", "0044-03-15", "294276"))
    else:
        for column in ("created_at", "last_seen", "started_at"):
            for value in ("9999-12-31 23:59:59-12:00", "", "yesterday", "0", "2026-13-45 99:99"):
                assert f'its {column} is "{value}", which is not a time' in output
        assert 'its run_id is "yesterday", which is not a whole number' in output


@pytest.mark.parametrize("kept", ["sqlite"], indirect=True)
def test_rows_are_changed_and_undone(kept: str, tmp_path: Path) -> None:
    """On a copy of the file. Only the changed field is written, so odd values beside it stay as they are."""
    copy = tmp_path / "copy.db"
    with contextlib.closing(sqlite3.connect(kept)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    with contextlib.closing(db.connect(copy)) as database, database.rule_checks(False):
        for model in db.ENTITIES:
            field = model.name_field() or model.log
            for entity in list(model.get())[::STEP]:
                setattr(entity, field.name, f"changed {entity.id}")
                entity.save()
                assert display.text(entity.history(), color=False)
        assert display.text(journal.log(database, limit=1000), color=False)
    assert run(str(copy), "undo", "5", "--yes").exit_code == 0


def test_the_program_lists_them_too(kept: str) -> None:
    for words in (("list", "tasks", "--all", "-o", "json"), ("overview",)):
        done = process("-d", kept, *words)
        assert done.status == 0 and "Traceback" not in done.err
