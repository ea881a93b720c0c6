"""FIELD=VALUE: what each kind of field takes, links and lists, and what is refused before anything is changed."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

import models
from vserverlib import Error, NotFound, UsageError
from vserverlib.entities import assignments
from vserverlib.entities.assignments import Assignment
from vserverlib.entities.fields import now


def updated(entity: Any, *words: str) -> list[str]:
    """Assign words to an entity, save it, and return the names of what was changed."""
    names = assignments.update(entity, assignments.assignments(type(entity), words))
    entity.save()
    return names


def created(model: Any, *words: str) -> Any:
    """Return a new entity of these words, saved."""
    asked, entity = assignments.named(model, words), model()
    assignments.fill(entity, asked)
    assignments.link_new(entity, asked)
    entity.save()
    return model.get(entity.id)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("country=Norway", "Norway"),
        ("country=", ""),
        ("country=null", None),
        ('country="null"', "null"),
        ("country='null'", "null"),
        ("country=a=b", "a=b"),
        ("country= x ", " x "),
        ('country="', '"'),
        ("country=a\nb", "a\nb"),
        ("country=\x1b[2J", "\x1b[2J"),
        ("country=Ünïcode ☃", "Ünïcode ☃"),
        ("country=" + "x" * 200_000, "x" * 200_000),
    ],
)
def test_a_text_is_stored_as_it_was_typed(word: str, value: str | None, story: Any) -> None:
    updated(story.iknl, word)
    assert models.Organization.get(story.iknl.id).country == value


def test_a_text_can_come_from_a_file(tmp_path: Path, story: Any) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PUBLIC KEY-----\nÅ\n-----END PUBLIC KEY-----\n")
    iknl = models.Organization.get(1)
    updated(iknl, f"public_key=@{key}", "country=@@home", 'domain="@x"')
    read = models.Organization.get(1)
    assert read.public_key == key.read_text().rstrip() and (read.country, read.domain) == ("@home", "@x")
    word = assignments.as_word(Assignment("country", "=", "@home"))
    assert assignments.parse(models.Organization, word).value == "@home"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("no-file", None, ["country=@", "no-file", "No such file", "country=@@…"]),
        (".", None, ["country=@", "s a directory"]),
        ("latin", b"\xff", ["country=@", "latin", "UTF-8"]),
        ("large", b"x" * (assignments.LONGEST_FILE + 1), ["country=@", "large", "16 MB"]),
    ],
)
def test_a_file_that_is_no_text_is_refused(
    name: str, content: bytes | None, expected: list[str], tmp_path: Path
) -> None:
    place = tmp_path / name
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(Error) as caught:
        assignments.parse(models.Organization, f"country=@{place}")
    assert [part for part in expected if part not in str(caught.value)] == []


@pytest.mark.parametrize(("word", "value"), [("TRUE", True), ("yes", True), ("1", True), ("no", False), ("0", False)])
def test_true_and_false_are_written_as_in_filters(word: str, value: bool, story: Any) -> None:
    assert created(models.Collaboration, "x", f"encrypted={word}").encrypted is value


@pytest.mark.parametrize("text", ["2026-03-01 09:30", "2026-03-01T09:30:00Z", "2026-03-01 10:30 +01:00"])
def test_a_time_is_written_as_in_filters(text: str, story: Any) -> None:
    updated(story.node, f"last_seen={text}")
    found = models.Node.get(story.node.id).last_seen
    assert found == datetime.datetime(2026, 3, 1, 9, 30, tzinfo=datetime.UTC)


@pytest.mark.parametrize("age", ["-2d", "2d"])
def test_an_age_is_a_time_before_now(age: str, story: Any) -> None:
    updated(story.node, f"last_seen={age}")
    found = now() - models.Node.get(story.node.id).last_seen
    assert datetime.timedelta(days=2) <= found < datetime.timedelta(days=2, minutes=5)


@pytest.mark.parametrize("word", ["Oslo", "2", "organization/2"])
def test_a_link_takes_a_name_an_id_or_a_reference(word: str, story: Any) -> None:
    updated(story.node, f"organization={word}")
    assert models.Node.get(story.node.id).organization == story.oslo
    updated(story.node, "organization=null")
    assert models.Node.get(story.node.id).organization is None


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("organization=Olso", 'no organization "Olso"; did you mean "Oslo"'),
        ("organization=99", "no organization 99"),
        ("organization=", "organization is empty: give the id or name of an organization, or null"),
        ("organization=99999999999999999999", "organization"),
        ("last_seen=soon", '"soon" is not a time'),
        ("collaboration=\x1b[2J", r"\\x1b"),
    ],
)
def test_a_value_that_a_field_cannot_hold_is_refused(word: str, expected: str, story: Any) -> None:
    with pytest.raises(Error, match=expected) as raised:
        updated(story.node, word)
    assert "\x1b" not in str(raised.value)


def test_an_ambiguous_name_is_refused_with_the_ids(story: Any) -> None:
    twin = created(models.Organization, "Oslo")
    with pytest.raises(Error, match=f'several organizations are called "Oslo": give the id, one of 2, {twin.id}'):
        updated(story.node, "organization=Oslo")


# Lists


def test_a_list_of_entities_grows_and_shrinks(story: Any) -> None:
    collaboration = models.Collaboration.get(story.collaboration.id)
    assert updated(collaboration, "organizations-=Oslo") == ["organizations"]
    assert [each.name for each in models.Collaboration.get(1).organizations] == ["IKNL"]
    assert updated(collaboration, "organizations+=Oslo", "organizations-=1") == ["organizations"]
    assert [each.name for each in models.Collaboration.get(1).organizations] == ["Oslo"]
    assert updated(collaboration, "organizations+=Oslo") == []
    updated(collaboration, "organizations=IKNL, Oslo")
    assert {each.name for each in models.Collaboration.get(1).organizations} == {"IKNL", "Oslo"}
    updated(collaboration, "organizations=null")
    assert not models.Collaboration.get(1).organizations


def test_a_name_with_a_comma_is_one_name(story: Any) -> None:
    created(models.Organization, "Rare, pilot")
    updated(story.collaboration, "organizations=Rare, pilot")
    assert [each.name for each in models.Collaboration.get(1).organizations] == ["Rare, pilot"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("organizations-=Third", 'organization 3 "Third" is not among the organizations of collaboration 1'),
        ("organizations+=", "names no organization"),
        ("organizations+=IKLN", 'did you mean "IKNL"'),
    ],
)
def test_a_list_refuses_what_is_not_in_it(word: str, expected: str, story: Any) -> None:
    created(models.Organization, "Third")
    with pytest.raises(Error, match=expected):
        updated(story.collaboration, word)


def test_roles_are_added_and_removed_by_name(story: Any) -> None:
    user = created(models.User, "kari", "organization=Oslo", "password=null")
    for word, roles in (
        ("roles+=Researcher", "Researcher"),
        ("roles+=root,viewer", "Researcher, root, viewer"),
        ("roles+=root", "Researcher, root, viewer"),
        ("roles-=root", "Researcher, viewer"),
        ("roles-=Researcher,viewer", None),
    ):
        updated(user, word)
        assert models.User.get(user.id).roles == roles
    with pytest.raises(Error, match='"root" is not among the roles of user 1 "kari": it has none'):
        updated(user, "roles-=root")


# What changes


def test_only_what_differs_is_a_change(story: Any) -> None:
    iknl = models.Organization.get(1)
    assert assignments.update(iknl, assignments.assignments(type(iknl), ["country=Netherlands", "name=IKNL"])) == []
    words = assignments.assignments(type(iknl), ["country=NL", "name=IKNL"])
    assert assignments.update(iknl, words) == ["country"]


def test_a_second_update_keeps_the_first(story: Any) -> None:
    iknl = models.Organization.get(1)
    for word in ("country=NL", "domain=iknl.nl"):
        assert assignments.update(iknl, assignments.assignments(type(iknl), [word])) == [word.partition("=")[0]]
    iknl.save()
    assert (models.Organization.get(1).country, models.Organization.get(1).domain) == ("NL", "iknl.nl")


# New entities


def test_a_node_without_a_name_is_called_after_its_organization_and_collaboration(story: Any) -> None:
    words = ("organization=Oslo", "collaboration=ROTTERDAM")
    assert created(models.Node, *words).name == "Oslo - ROTTERDAM Node"
    assert created(models.Node, "mine", *words).name == "mine"
    assert created(models.Node, "name=null", *words).name is None
    assert created(models.Node, "organization=null", "collaboration=null").name is None


@pytest.mark.parametrize(
    ("model", "words", "expected"),
    [
        ("Node", ["x"], "needs an organization and a collaboration: give organization=… collaboration=…, or null"),
        ("Node", ["organization=Oslo"], "a new node needs a collaboration: give collaboration=…, or null for none"),
        ("Task", ["x"], "a new task needs a collaboration"),
        ("Result", ["task_id=1"], "a new result needs an organization"),
        ("User", ["kari"], "a new user needs an organization"),
        ("User", ["null", "organization=1"], "the NAME is null, which means no value: give a name, or '\"null\"'"),
    ],
)
def test_a_new_entity_needs_the_links_without_which_a_server_fails(
    model: str, words: list[str], expected: str, story: Any
) -> None:
    with pytest.raises(UsageError, match=re.escape(expected)):
        assignments.named(getattr(models, model), words)


def test_a_quoted_null_is_a_name(story: Any) -> None:
    assert created(models.Organization, '"null"').name == "null"


@pytest.mark.parametrize(
    ("model", "words", "key"),
    [
        ("Organization", ["IKNL", "country=x"], 1),
        ("Organization", ["Third"], None),
        ("Node", ["other name", "organization=1", "collaboration=1"], 1),
        ("Node", ["IKNL node", "organization=2", "collaboration=1"], None),
        ("Task", ["average", "collaboration=null"], 1),
        ("Result", ["task=1", "organization=2"], 2),
    ],
)
def test_what_exists_is_found_by_its_name_or_its_links(
    model: str, words: list[str], key: int | None, story: Any
) -> None:
    kind = getattr(models, model)
    asked, entity = assignments.named(kind, words), kind()
    assignments.fill(entity, asked)
    assignments.link_new(entity, asked)
    found = assignments.existing(entity)
    assert (None if found is None else found.id) == key


def test_what_identifies_an_entity_has_to_be_given(story: Any) -> None:
    with pytest.raises(UsageError, match="finds a node by its organization and collaboration: give organization"):
        assignments.existing(models.Node())


def test_what_differs_from_an_existing_entity_can_be_typed(story: Any) -> None:
    asked = assignments.assignments(models.Organization, ["name=IKNL", 'country="null"', "domain=null"])
    entity = models.Organization()
    assignments.fill(entity, asked)
    found = assignments.existing(entity)
    assert [assignments.as_word(each) for each in assignments.differing(found, entity, asked)] == ['country="null"']


# Without a database


@pytest.mark.parametrize(
    ("model", "word", "expected"),
    [
        ("User", "emial=x", 'user has no field "emial"; did you mean "email"'),
        ("Organization", "x=1", "the fields are name, domain"),
        ("Task", "job_id=1", "job_id of vantage6 4 is run_id here"),
        ("Task", "status=failed", "status of a task cannot be set: it is computed from"),
        ("Result", "state=failed", "state of a result cannot be set: it is computed"),
        ("Organization", "id=3", "the id of an organization cannot be set"),
        ("User", "id=3", "the id of a user cannot be set"),
        ("Organization", "users+=kari", "set the organization of each user, with: vserver set user ID organization="),
        ("Organization", "country+=x", r"country is not a list: write country=VALUE \(\+= is for collaborations\)"),
        ("Task", "name+=x", "name is not a list: write name=VALUE$"),
        ("Organization", "country", "not an assignment: write FIELD=VALUE, such as country="),
        ("Organization", "coun try=x", "not an assignment"),
        ("Organization", "country=\udcff", "not text in the encoding"),
        ("Organization", "save=1", "save of an organization cannot be set: it is a method"),
    ],
)
def test_a_word_that_assigns_nothing_is_a_usage_error(model: str, word: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        assignments.parse(getattr(models, model), word)


@pytest.mark.parametrize(("model", "name"), [("User", "password"), ("Node", "api_key")])
def test_a_secret_is_refused_unquoted_and_can_be_removed(model: str, name: str) -> None:
    kind = getattr(models, model)
    with pytest.raises(UsageError, match="secret") as raised:
        assignments.parse(kind, f"{name}=Geheim-1234!")
    assert "Geheim" not in str(raised.value)
    assert assignments.parse(kind, f"{name}=null") == Assignment(name, "=", None)
    assert name not in assignments.settable(kind) and name in assignments.SECRETS


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "a new organization needs a name"),
        (["country=NL"], "a new organization needs a name"),
        ([""], "the NAME is empty"),
        (["a", "b"], '"b" is a second NAME'),
        (["country=NL", "a"], '"a" has no ='),
        (["a", "name=b"], "name is given twice"),
        (["name=a", "country=b", "country=c"], "country is given twice"),
        (["A=B"], "write name=… for a NAME with = in it"),
        (["naem=B"], 'did you mean "name"'),
    ],
)
def test_the_words_of_a_new_entity_are_checked(words: list[str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        assignments.named(models.Organization, words)


def test_a_result_has_no_name() -> None:
    with pytest.raises(UsageError, match="results have no names"):
        assignments.named(models.Result, ["x"])


def test_every_field_can_be_set_or_is_the_id_or_a_secret() -> None:
    for model in models.ENTITIES:
        left_out = {field.name for field in model.stored_fields()} - set(assignments.settable(model))
        assert left_out == {"id"} | ({"password"} if model is models.User else set()) | (
            {"api_key"} if model is models.Node else set()
        )


# Values of JSON


def test_json_keeps_its_types(story: Any) -> None:
    task = models.Task()
    values = {"name": "x", "run_id": 7, "collaboration": 1, "initiator": "Oslo", "created_at": "2026-03-01"}
    asked = assignments.of_mapping(models.Task, values)
    assignments.fill(task, asked)
    assignments.link(task, asked)
    task.save()
    assert (task.run_id, task.collaboration.id, task.initiator.name) == (7, 1, "Oslo")


@pytest.mark.parametrize(
    ("model", "name", "value", "expected"),
    [
        ("Organization", "zipcode", 5612, 'takes text, not 5612: write "5612"'),
        ("Collaboration", "encrypted", "maybe", 'encrypted takes true or false, not "maybe"'),
        ("Collaboration", "organizations", 1, "takes a list"),
        ("Collaboration", "organizations", [True], "takes ids and names"),
        ("Collaboration", "organizations", [["IKNL"]], "takes ids and names"),
        ("Node", "organization", {"id": 1}, "takes an Organization"),
        ("Node", "organization", True, "takes an Organization"),
        ("Node", "organization", 99, "no organization 99"),
        ("Task", "run_id", 1.5, "takes a whole number"),
        ("Task", "run_id", 2**64, "64 bits"),
        ("Task", "created_at", 7, "takes a time"),
    ],
)
def test_json_of_another_type_is_refused(model: str, name: str, value: Any, expected: str, story: Any) -> None:
    kind = getattr(models, model)
    asked, entity = assignments.of_mapping(kind, {name: value}), kind()
    with pytest.raises((Error, NotFound), match=expected):
        assignments.fill(entity, asked)
        assignments.link(entity, asked)


# Completion


def test_roles_of_all_users_are_offered(story: Any) -> None:
    for number, roles in enumerate(("root", "viewer, root", None)):
        models.User(username=f"u{number}", roles=roles, organization=story.iknl).save()
    assert assignments.stored_names(models.User, "roles") == ["root", "viewer"]
