"""Completions of the source before the cursor, as IPython requests them."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest

import models
import shell
from vserverlib.terminal.completion import complete

KINDS = ["sqlite"]  # display does not depend on the database

HOSTILE = [
    "O'Brien",
    'say "hi"',
    "back\\slash",
    "50 %",
    "under_score",
    "red\x1b[31m",
    "two\nlines",
    "[bold]x",
    "\u202edesrever",
]


@pytest.fixture
def names(database: Any, story: SimpleNamespace) -> dict[str, Any]:
    """The names at the prompt: a few entities and lists."""
    found = {
        "org": story.iknl,
        "task": models.Task.get(1),
        "tasks": list(models.Task.get()),
        "all_tasks": models.Task.get(),
    }
    return {**shell.namespace(database), **found, "by_name": {"x": story.collaboration}, "other": object()}


def offered(source: str, names: dict[str, Any]) -> list[str]:
    found = complete(source, names)
    assert found is not None
    assert source.endswith(found.typed)
    return [offer.text for offer in found.offers]


def test_a_constructor_offers_its_fields(names: dict[str, Any]) -> None:
    assert offered("db.Organization(na", names) == ["name="]
    assert offered('Organization(name="IKNL",\n    do', names) == ["domain="]


def test_a_constructor_offers_no_field_twice_and_no_id(names: dict[str, Any]) -> None:
    left = offered('db.Collaboration(name="a (b", ', names)
    assert left == ["encrypted=", "organizations="]


def test_other_calls_offer_no_fields(names: dict[str, Any]) -> None:
    assert complete("print(na", names) is None
    assert complete('db.Organization(name="x").save(na', names) is None


@pytest.mark.parametrize(
    "source",
    [
        "org.",
        "db.Organization.get(1).",
        "db.Organization.get()[0].",
        'db.Organization.get_by_name("IKNL").',
        "task.initiator.",
        "tasks[0].initiator.",
        "all_tasks[-1].collaboration.organizations[0].",
        "by_name['x'].organizations[1].",
        "org.collaborations[0].tasks.where(True)[0].initiator.",
        "print(org.",
        "[o for o in db.Organization.get() if o.",
        "for o in task.collaboration.organizations:\n    o.",
        'db.Organization(name="new").',
    ],
)
def test_an_entity_offers_its_fields_relations_and_methods(
    source: str, names: dict[str, Any], count_queries: list[str]
) -> None:
    found = offered(source, names)
    assert found[:3] == ["id", "name", "domain"]
    assert {"collaborations", "users", "nodes", "created_tasks", "results", "save", "delete"} < set(found)
    assert not [name for name in found if name.startswith("_") or name in ("dirty_fields", "select", "DoesNotExist")]
    assert count_queries == []


def test_computed_fields_are_offered_without_computing_them(names: dict[str, Any], count_queries: list[str]) -> None:
    assert {"complete", "status", "progress", "finished_at"} < set(offered("task.", names))
    assert offered("task.prog", names) == ["progress"]
    assert count_queries == []


def test_what_only_our_own_code_calls_is_not_offered(names: dict[str, Any]) -> None:
    found = [name for kind in ("User", "Task", "Result") for name in offered(f"db.{kind}.get(1).", names)]
    assert not {"label", "noun", "affected_tasks", "fill_in_fields", "compute"} & set(found)


def test_a_model_offers_what_finds_entities(names: dict[str, Any]) -> None:
    found = offered("db.User.", names)
    assert {"get", "getByUsername", "get_by_username", "exists", "help", "username"} < set(found)
    assert not {"save", "delete", "check_password", "create", "insert"} & set(found)


LISTS = ["where('x')", "search('x')", "sort('id')", "get().search('x')", "where('x').sort('id')"]


@pytest.mark.parametrize("asked", LISTS)
def test_what_gives_a_list_is_completed_as_one(names: dict[str, Any], asked: str) -> None:
    assert "order_by" in offered(f"db.Task.{asked}.", names) and "status" in offered(f"db.Task.{asked}[0].", names)


def test_db_offers_the_models(names: dict[str, Any]) -> None:
    assert offered("db.", names)[:6] == [model.__name__ for model in models.ENTITIES]
    assert offered("db.Coll", names) == ["Collaboration"]


def test_what_asks_the_rules_is_offered(names: dict[str, Any]) -> None:
    assert offered("db.ch", names) == ["check", "checks"] and offered("db.str", names) == ["strict"]
    assert "check" in offered("org.", names) and "check" not in offered("db.User.", names)


def test_a_list_that_can_be_edited_says_so(names: dict[str, Any]) -> None:
    assert {"append", "extend", "remove"} < set(offered("org.collaborations.", names))
    assert "append" not in offered("org.users.", names)
    assert {"where", "order_by"} < set(offered("org.users.", names))


def test_a_field_offers_what_its_values_do(names: dict[str, Any]) -> None:
    assert offered("org.name.upp", names) == ["upper"]
    assert offered("task.created_at.isof", names) == ["isoformat"]


def test_what_does_not_exist_offers_nothing(names: dict[str, Any]) -> None:
    assert offered("task.initiator.nonsense.", names) == []


@pytest.mark.parametrize(
    "source", ["other.", "os.path.", "# org.", '"org.', "1.", "unknown.", "", "x = 3", "org.name = 'a', "]
)
def test_all_else_is_left_to_ipython(source: str, names: dict[str, Any]) -> None:
    assert complete(source, names) is None


def test_a_lookup_offers_the_names_that_are_stored(names: dict[str, Any]) -> None:
    models.User(username="root").save()
    assert offered('db.Organization.get_by_name("', names) == ["IKNL", "Oslo"]
    assert offered("db.Organization.find_by_name('ik", names) == ["IKNL"]
    assert offered('db.User.getByUsername("r', names) == ["root"]
    assert offered('User.get_by_username( "', names) == ["root"]
    assert offered('db.Node(organization=db.Organization.get_by_name("O', names) == ["Oslo"]


@pytest.mark.parametrize("quote", ["'", '"', "'''"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_offered_inert_and_reads_back_as_it_is(name: str, quote: str, names: dict[str, Any]) -> None:
    models.Organization(name=name).save()
    texts = offered(f"db.Organization.get_by_name({quote}", names)
    assert all(text.isprintable() for text in texts)
    assert name in [ast.literal_eval(quote + text + quote) for text in texts]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_can_be_completed_from_its_beginning(name: str, names: dict[str, Any]) -> None:
    models.Organization(name=name).save()
    (whole,) = [
        text for text in offered('db.Organization.get_by_name("', names) if ast.literal_eval(f'"{text}"') == name
    ]
    assert whole in offered(f'db.Organization.get_by_name("{whole[:-1].rstrip(chr(92))}', names)


@pytest.mark.parametrize("wildcard", ["%", "_", "*", "[", "?"])
def test_a_wildcard_stands_for_itself(wildcard: str, names: dict[str, Any]) -> None:
    assert offered(f'db.Organization.get_by_name("{wildcard}', names) == []


def test_fifty_names_are_offered_at_most(names: dict[str, Any], count_queries: list[str]) -> None:
    models.Organization.insert_many([{"name": f"org {number:03}"} for number in range(100)]).execute()
    count_queries.clear()
    assert len(offered('db.Organization.get_by_name("org', names)) == 50
    assert len(count_queries) == 1


def test_exists_offers_the_fields_but_no_secret(names: dict[str, Any]) -> None:
    assert offered('db.User.exists("use', names) == ["username"]
    assert offered('db.User.exists("pass', names) == []


def test_a_secret_is_never_looked_up(names: dict[str, Any]) -> None:
    assert complete('db.Node.get_by_api_key("', names) is None


# Filters


@pytest.mark.parametrize("asked", ["db.Task.", "db.Task.get().", "org.created_tasks."])
def test_where_offers_fields_operators_and_states(asked: str, names: dict[str, Any]) -> None:
    assert offered(f"{asked}where(sta", names) == ["status="]
    assert offered(f'{asked}where("sta', names) == ["status="]
    assert "initiator.country=" in offered(f'{asked}where("status=failed", "initiator.', names)
    assert {"status=", "status!="} <= set(offered(f'{asked}where("status', names))
    states = ["failed"]
    assert offered(f'{asked}where(name="x", status="f', names) == states
    assert offered(f'{asked}where("status=f', names) == ["status=failed"]
    assert offered(f'{asked}where(db.Task.status == "f', names) == states


def test_where_offers_the_names_that_a_link_may_have(names: dict[str, Any]) -> None:
    assert offered('db.Task.where("initiator=IK', names) == ["initiator=IKNL"]
    assert offered('db.Task.where(initiator="IK', names) == ["IKNL"]


def test_sort_offers_fields_that_are_not_given_yet(names: dict[str, Any]) -> None:
    assert offered('db.Task.sort("name,-na', names) == []
    assert offered('db.Task.sort("name,-created', names) == ["name,-created_at"]


@pytest.mark.parametrize("source", ['db.User.where(password="', 'db.User.where("pass', 'db.Task.where(wrong="'])
def test_where_offers_no_secret_and_nothing_for_an_unknown_field(source: str, names: dict[str, Any]) -> None:
    assert offered(source, names) == []


def test_where_leaves_a_name_that_is_not_a_field_to_ipython(names: dict[str, Any]) -> None:
    assert complete("db.Task.where(db", names) is None


def test_post_offers_images_and_who_runs_and_posts(names: dict[str, Any]) -> None:
    assert offered('post("har', names) == ["harbor/average"]
    assert offered('post("x", "y", organizations=["', names) == ["IKNL", "Oslo"]
    assert offered('post("x", "y", organizations="o', names) == ["Oslo"]
    assert offered('post("x", "y", collaboration="', names) == ["ROTTERDAM"]
    assert offered('post("x", "y", name="', names) == offered('post("x", "', names) == []
