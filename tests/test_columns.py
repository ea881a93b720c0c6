"""What there is to say of each entity, which columns somebody asks for, and the schema of their JSON."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

import models
import vserver
from models import MODELS, Organization, Result, Task, User
from vserverlib import UsageError
from vserverlib.entities.fields import Secret
from vserverlib.queries import columns, json_schema, listing, related

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "schema.json").read_text())


def names(model: Any, text: str) -> list[str]:
    return [column.name for column in columns.chosen(model, text)]


def said(query: Any, text: str) -> list[dict[str, Any]]:
    return list(listing.rows(query, columns.chosen(query.model, text)))


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_every_field_is_said_and_no_secret_is(model: Any) -> None:
    output = {column.name for column in columns.COLUMNS[model]}
    for field in model.stored_fields():
        assert (field.name in output) is not isinstance(field, Secret), field
    assert {field.object_id_name for field in model._meta.refs} <= output


def test_every_entity_and_the_membership_have_columns() -> None:
    assert set(columns.COLUMNS) == set(MODELS.values())


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_all_that_can_be_named_has_a_meaning_and_a_value(model: Any, consortium: Any) -> None:
    known = columns.known(model)
    assert all(column.about for column in columns.COLUMNS[model])
    assert [column.name for column in known] == list(dict.fromkeys(column.name for column in known))
    (row,) = listing.rows(model.get().limit(1), columns.chosen(model, ",".join(column.name for column in known)))
    assert list(row) == [column.name for column in known]


def test_columns_come_in_the_order_in_which_they_are_asked_for(consortium: Any) -> None:
    assert names(Task, "status, name,id,name") == ["status", "name", "id"]
    assert said(Task.get().limit(1), "complete,total,id") == [{"complete": True, "total": 4, "id": 1}]


def test_a_path_leads_over_links(story: SimpleNamespace) -> None:
    Task(name="step", parent=story.task).save()
    (row, _) = said(Result.get(), "task.collaboration.name,organization.country,task.complete,task.progress")
    assert list(row.values()) == ["ROTTERDAM", "Netherlands", False, 0.0]
    (_, step) = said(Task.get(), "parent.status,parent.created_at,initiator.name,results,parent.results,children")
    assert list(step.values()) == ["pending", story.task.created_at, None, 0, 2, 0]
    assert said(Task.get(), "collaboration.encrypted")[0] == {"collaboration.encrypted": False}


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        (Task, "nmae", 'task has no field "nmae"; did you mean "name"?'),
        (Task, "initiator.cuntry", 'organization has no field "cuntry"; did you mean "country"?'),
        (Task, "intiator.country", 'task has no link "intiator"; did you mean "initiator"?'),
        (Task, "name.id", 'task has no link "name"'),
        (User, "username,password", "User.password is a secret: it cannot be shown or searched for"),
        (Organization, "nodes.id", "organization has many nodes: compare their number, nodes>0"),
        (Result, "task.", 'task has no field ""'),
        (Task, " , ,", '" , ," names no field: write such as --fields id,name'),
        (Task, "id;\x1b[31m", r'task has no field "id;\x1b[31m"'),
    ],
)
def test_the_error_for_an_unknown_field_suggests_one(model: Any, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        columns.chosen(model, text)
    assert str(caught.value).startswith(message)


# The schema of the JSON


def valid(model: Any, row: Any, kind: str = "") -> None:
    jsonschema.Draft202012Validator(
        {"$ref": f"#/$defs/{model.noun}{kind}", **SCHEMA}, format_checker=jsonschema.FormatChecker()
    ).validate(row)


def printed(*words: str) -> Any:
    done = CliRunner().invoke(vserver.main, words, prog_name="vserver")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_the_schema_that_is_published_is_that_of_the_columns() -> None:
    made = {model.noun: columns.schema(model) for model in models.ENTITIES}
    shown = {f"{model.noun}_shown": related.schema(model) for model in models.ENTITIES}
    assert SCHEMA["$defs"] == made | shown | json_schema.answers(), "run: make docs"


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_json_of_a_list_and_of_one_entity_are_as_the_schema_says(model: Any, example: Path) -> None:
    with closing(sqlite3.connect(example)) as conn, conn:
        conn.execute(f'INSERT INTO "{model._meta.table_name}" (id) VALUES (999)')
    rows = printed("list", model.plural, "--all", "-o", "json")
    assert len(rows) > 3 and rows[-1]["id"] == 999
    for row in rows:
        valid(model, row)
        shown = printed("show", model.noun, str(row["id"]), "-o", "json")
        valid(model, shown, "_shown")
        assert {name: value for name, value in shown.items() if name != "related"} == row


def test_the_schema_refuses_what_it_should() -> None:
    with pytest.raises(jsonschema.ValidationError):
        valid(Task, {"id": "1"})
