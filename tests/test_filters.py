"""Filters: what is typed finds what is meant, and what means nothing says so."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import models as db
import vserver
from vserverlib import Error, NotFound, UsageError
from vserverlib.databases import case_folding
from vserverlib.drivers import peewee
from vserverlib.entities import filters
from vserverlib.entities.fields import now
from vserverlib.queries import listing


@pytest.fixture
def tasks(story: SimpleNamespace) -> SimpleNamespace:
    """Five tasks: pending (average), failed, completed, empty, active; the last of another collaboration."""
    kyoto = db.Collaboration(name="KYOTO", organizations=[story.oslo])
    kyoto.save()
    for name in ("failed", "completed", "empty", "active"):
        task = db.Task(name=name, parent=story.task if name == "failed" else None, initiator=story.oslo)
        task.collaboration = kyoto if name == "active" else story.collaboration
        task.save()
    ids = {task.name: task.id for task in db.Task.get()}
    db.Result(task=ids["failed"], organization=story.iknl, status="crashed").save()
    db.Result(task=ids["failed"], organization=story.oslo).save()
    db.Result(task=ids["completed"], organization=story.iknl, started_at=now(), finished_at=now()).save()
    db.Result(task=ids["active"], organization=story.oslo, started_at=now()).save()
    return story


FOUND: dict[str, list[str]] = {
    "status=failed": ["failed"],
    "status=pending": ["average"],
    "status=active": ["active"],
    "status=empty": ["empty"],
    "status!=completed": ["average", "failed", "empty", "active"],
    "complete=true": ["completed"],
    "complete=no": ["average", "failed", "empty", "active"],
    "complete!=true": ["average", "failed", "empty", "active"],
    "progress<0.6": ["average", "failed", "active"],
    "progress=null": ["empty"],
    "total=2": ["average", "failed"],
    "done>=1": ["failed", "completed"],
    "finished_at!=null": ["completed"],
    "collaboration=KYOTO": ["active"],
    "collaboration!=KYOTO": ["average", "failed", "completed", "empty"],
    "collaboration=1": ["average", "failed", "completed", "empty"],
    "collaboration_id=2": ["active"],
    "collaboration~yot": ["active"],
    "initiator.country=Netherlands": ["average"],
    "initiator.country!=Netherlands": ["failed", "completed", "empty", "active"],
    "collaboration.encrypted=true": ["active"],
    "parent=null": ["average", "completed", "empty", "active"],
    "parent.status=pending": ["failed"],
    "results=0": ["empty"],
    "children>0": ["average"],
    "name~VER": ["average"],
    "name = average": ["average"],
    "name='average'": ["average"],
    "id<=2": ["average", "failed"],
    "created_at>-1h": ["average", "failed", "completed", "empty", "active"],
    "created_at<-1h": [],
    "image=null": ["failed", "completed", "empty", "active"],
    "image!=null": ["average"],
}


def test_a_filter_finds_what_it_says(tasks: SimpleNamespace) -> None:
    assert {text: [task.name for task in db.Task.where(text)] for text in FOUND} == FOUND


def test_what_is_worked_out_is_compared_as_a_field_is(tasks: SimpleNamespace, database: Any) -> None:
    assert [task.name for task in db.Task.where(db.Task.status == "failed")] == FOUND["status=failed"]
    assert [task.name for task in db.Task.where(db.Task.status != "completed")] == FOUND["status!=completed"]
    assert [task.name for task in db.Task.where(~db.Task.complete)] == FOUND["complete=no"]
    assert [task.name for task in db.Task.where(db.Task.finished_at.is_null(False))] == FOUND["finished_at!=null"]
    assert db.Task.get(status="failed").name == "failed" and len(db.Result.where(db.Result.complete)) == 2
    assert db.Task.update(description="again").where(db.Task.status == "failed").execute() == 1
    assert [task.description for task in db.Task.where("status=failed")] == ["again"]
    assert db.Task.get(1).status == "pending" and db.Task.get(1).progress == (0, 2)


def test_values_are_given_by_name(tasks: SimpleNamespace) -> None:
    assert [task.name for task in db.Task.where(status="failed")] == FOUND["status=failed"]
    assert [task.name for task in db.Task.where(complete=False)] == FOUND["complete=no"]
    assert [task.name for task in db.Task.get().where(collaboration="KYOTO")] == FOUND["collaboration=KYOTO"]
    assert [task.name for task in db.Task.where(initiator=tasks.iknl, image=None)] == []
    assert [task.name for task in db.Task.where("complete=no", initiator=tasks.iknl, parent=None)] == ["average"]
    assert len(db.Task.where(created_at=tasks.task.created_at)) == 1
    assert [task.name for task in db.Task.where(id=1)] == ["average"] == [task.name for task in db.Task.where(id=1.0)]
    assert len(db.Task.where(run_id=0)) == 0 and len(db.Task.where(created_at=now().date())) == 5
    assert len(db.Collaboration.where(encrypted=True)) == 1 and len(db.Collaboration.where(encrypted=False)) == 1
    with pytest.raises(NotFound, match='no organization "task/1"'):
        db.Task.where(initiator=tasks.task)
    with pytest.raises(Error, match="the initiator, was never saved"):
        db.Task.where(initiator=db.Organization(name="new"))
    with pytest.raises(UsageError, match=r"id is compared with one value, not \[1, 2\]"):
        db.Task.where(id=[1, 2])
    db.Organization(name='"a" = b').save()
    assert len(db.Organization.where(name='"a" = b')) == 1
    with pytest.raises(UsageError, match="is not text: name fields to sort by"):
        db.Task.sort(db.Task.name)
    for ask in (db.Task.where, db.Task.get):
        with pytest.raises(UsageError, match='has no field "staus"; did you mean "status"'):
            ask(staus="failed")


@pytest.mark.parametrize("given", [True, False])
def test_a_condition_that_is_not_an_expression_matches_no_row_and_not_all(tasks: SimpleNamespace, given: bool) -> None:
    with pytest.raises(UsageError, match=f"{given} is not a filter: the compared attribute is not a field"):
        db.Task.where(given)
    with pytest.raises(Error, match="this would change every task"):
        db.Task.update(name="x").where(given).execute()
    with pytest.raises(Error, match="this would delete every row"):
        peewee.Delete(db.Task._meta.table, given).execute(db.database)
    assert len(db.Task.where(name="x")) == 0 and len(db.Task.get()) == 5


def test_derived_filters_agree_with_what_the_models_say(tasks: SimpleNamespace) -> None:
    for status in {task.status for task in db.Task.get()}:
        assert db.Task.where(f"status={status}") == [task for task in db.Task.get() if task.status == status]
    assert db.Task.where("complete=true") == [task for task in db.Task.get() if task.complete]


COUNTED = {
    "state=failed": 1,
    "status=crashed": 1,
    "complete=true": 2,
    "task=failed": 2,
    "task.name~a": 5,
    "task.collaboration=KYOTO": 1,
    "organization=IKNL": 3,
    "started_at=null": 4,
}


def test_results_can_be_filtered_too(tasks: SimpleNamespace) -> None:
    assert {text: len(db.Result.where(text)) for text in COUNTED} == COUNTED


def test_filters_add_up_and_mix_with_conditions_of_peewee(tasks: SimpleNamespace) -> None:
    found = db.Task.where("initiator=Oslo", "complete=false").where(db.Task.name != "empty")
    assert [task.name for task in found] == ["failed", "active"]


def test_null_empty_text_and_the_word_null_are_three_things(database: Any) -> None:
    for name in (None, "", "null"):
        db.Organization(name=name).save()
    assert [each.id for each in db.Organization.where("name=null")] == [1]
    assert [each.id for each in db.Organization.where("name=")] == [2]
    assert [each.id for each in db.Organization.where('name="null"')] == [3]
    assert [each.id for each in db.Organization.where("name!=null")] == [2, 3]


def test_a_day_is_equal_to_all_of_it(story: SimpleNamespace) -> None:
    for hour in (0, 12, 24):
        moment = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC) + datetime.timedelta(hours=hour)
        db.Node(name=f"{hour}", last_seen=moment).save()
    assert [node.name for node in db.Node.where("last_seen=2026-03-01")] == ["0", "12"]
    assert [node.name for node in db.Node.where("last_seen>=2026-03-01T13:00+01:00")] == ["12", "24"]


@pytest.mark.parametrize("wild", ["%", "_", "\\", "'", '"', "[beta]"])
def test_wild_cards_and_quotes_are_text(database: Any, wild: str) -> None:
    db.Organization(name=f"a{wild}b").save()
    db.Organization(name="axb").save()
    assert [each.id for each in db.Organization.where(f"name~a{wild}b")] == [1]
    assert [each.id for each in db.Organization.where(f"name=a{wild}b")] == [1]
    assert [each.id for each in db.Organization.search(wild)] == [1]


def test_search_refuses_another_value_than_a_text() -> None:
    for wrong in (3, None, b"x"):
        with pytest.raises(UsageError, match="search takes a text, not"):
            db.Task.search(wrong)


def test_search_looks_into_texts_and_the_names_of_links(tasks: SimpleNamespace) -> None:
    assert [task.name for task in db.Task.search("kyoto")] == ["active"]
    assert [task.name for task in db.Task.search("HARBOR")] == ["average"]
    db.User(username="root", password="Geheim-123!").save()
    assert db.User.search("$2b$") == []


def test_sort_goes_up_and_down_by_fields_links_and_what_is_worked_out(tasks: SimpleNamespace) -> None:
    assert [task.name for task in db.Task.sort("collaboration,-name")][:2] == ["active", "failed"]
    assert db.Task.sort("-progress")[0].name == "completed"
    assert [task.id for task in db.Task.sort("-id")] == [5, 4, 3, 2, 1]


@pytest.mark.sqlite("it is refused before anything is asked")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("status", '"status" is not a filter: write FIELD OPERATOR VALUE'),
        ("", "is not a filter"),
        ("status==failed", r'"==" is not an operator: use one of = != < <= > >= ~'),
        ("id<>5", '"<>" is not an operator'),
        ("status>failed", "status is one of .*: compare it with = !=, not >"),
        ("complete>false", "complete is true or false: compare it with = !=, not >"),
        ("id=1_0", 'id is a number, not "1_0"'),
        ("id=\u0663", "id is a number"),
        ("progress=nan", 'progress is a number, not "nan"'),
        ("name~\udcff", "is not text in the encoding of this terminal"),
        ("name=" + "x" * 1000, "1,005 characters are too many"),
        ("parent.parent.parent.parent.parent.parent.name=x", "follows 6 links: use 5 at most"),
        ("results.status=failed", "task has many results: compare their number, results>0"),
        ("status=faild", 'not "faild"; did you mean "failed"'),
        ("naam=x", 'task has no field "naam"; did you mean "name"'),
        ("password=x", 'task has no field "password"'),
        ("colaboration.name=x", 'task has no link "colaboration"; did you mean "collaboration"'),
        ("name.x=1", 'task has no link "name"'),
        ("run_id=many", 'run_id is a number, not "many"'),
        ("complete=maybe", "complete is true or false"),
        ("complete<true", "complete is true or false"),
        ("created_at>soon", 'created_at is a time, not "soon": write 2026-03-01'),
        ("created_at>-999999w", "created_at is a time"),
        ("created_at~2026", "created_at is a time: compare it with .*, not ~"),
        ("collaboration<KYOTO", "is a link: compare it with"),
        ("name<null", "name<null matches nothing"),
        ("run_id=99999999999999999999", "64 bits"),
    ],
)
def test_what_means_nothing_is_refused_with_a_remedy(tasks: SimpleNamespace, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        db.Task.where(text)
    assert "\n" not in str(raised.value)


def test_a_name_that_nobody_has_suggests_a_near_one(tasks: SimpleNamespace) -> None:
    with pytest.raises(NotFound, match='no collaboration "KYOTTO"; did you mean "KYOTO"'):
        db.Task.where("collaboration=KYOTTO")
    with pytest.raises(UsageError, match="has many results"):
        db.Task.where("results.name=x")


def test_secrets_cannot_be_asked_for(tasks: SimpleNamespace) -> None:
    for model, field in ((db.User, "password"), (db.Node, "api_key")):
        assert field not in filters.names(model)
        for ask in (lambda m=model, f=field: m.where(f"{f}~2b"), lambda m=model, f=field: m.sort(f)):
            with pytest.raises(UsageError, match="is a secret"):
                ask()


def test_an_unknown_field_to_sort_by_names_the_near_one(tasks: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match='no field "creatd_at"; did you mean "created_at"'):
        db.Task.sort("-creatd_at")


# On the command line


def listed(*words: str) -> Result:
    return CliRunner().invoke(vserver.main, ["list", *words], prog_name="vserver")


def test_list_takes_filters_that_add_up(example: Path) -> None:
    done = listed("tasks", "--where", "status=failed", "--where", "name~risk", "-o", "json")
    assert [task["name"] for task in json.loads(done.stdout)] == ["Risk model", "Risk model, step 2"]
    assert (done.exit_code, done.stderr) == (0, "")


def test_list_searches_sorts_and_pages_what_is_left(example: Path) -> None:
    done = listed("tasks", "--search", "COX", "--sort", "-id", "--limit", "2", "-o", "json")
    assert [task["id"] for task in json.loads(done.stdout)] == [18, 17]
    assert done.stderr == "8 more: --page 2, or --all\n"
    done = listed("tasks", "--search", "COX", "--sort", "-id", "--all", "-o", "json")
    assert len(json.loads(done.stdout)) == 10


def test_list_suggests_the_state_of_results_if_no_status_matches(example: Path) -> None:
    done = listed("results", "--where", "status=faild", "-o", "json")
    assert (done.stdout.strip(), done.exit_code) == ("[]", 0)
    assert "no results match" in done.stderr and "state=failed" in done.stderr
    assert "state=" not in listed("results", "--where", "id=0").stderr


def test_list_says_when_nothing_fits(example: Path) -> None:
    done = listed("tasks", "--where", "name=nobody", "-o", "json")
    assert (json.loads(done.stdout), done.stderr, done.exit_code) == ([], "no tasks match\n", 0)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--where", "stat=x"], 2, 'task has no field "stat"'),
        (["--where", "status"], 2, "is not a filter"),
        (["--where", "collaboration=Rare tumors [pilot]"], 1, 'did you mean "Rare tumours [pilot]"'),
        (["--sort", "naam"], 2, 'task has no field "naam"; did you mean "name"'),
    ],
)
def test_list_refuses_what_means_nothing(example: Path, words: list[str], status: int, message: str) -> None:
    done = listed("tasks", *words)
    assert done.exit_code == status and done.stdout == "" and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_filtered_page_is_one_query_and_its_total_another(story: SimpleNamespace, count_queries: list[str]) -> None:
    for number in range(30):
        db.Task(name=f"task {number}", collaboration=story.collaboration).save()
    count_queries.clear()
    found = listing.page(listing.query(db.Task, ["complete=false"], "task", "-name"), 0, 10)
    assert len(found.rows) == 10 and found.total == 30 and len(count_queries) == 2


def test_what_is_new_or_waited_for_is_found_without_looking_at_all(
    path: Path, story: SimpleNamespace, database: Any
) -> None:
    """What SQLite says that it does: it begins with an index, and scans neither tasks nor results from the first on."""
    for model, text in ((db.Task, "created_at>-2d"), (db.Task, "status=active"), (db.Result, "state=pending")):
        sql, values = model.where(text).limit(5).sql()
        plan = [row[3] for row in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert not [step for step in plan if step in ("SCAN t1", "SCAN t2", "SCAN task", "SCAN result")], (text, plan)


def test_sorting_goes_by_fields_of_links_too(tasks: SimpleNamespace) -> None:
    by_country = db.Task.sort("initiator.country,-name")
    assert [task.name for task in by_country] == ["average", "failed", "empty", "completed", "active"]


def test_where_takes_filters_only(tasks: SimpleNamespace) -> None:
    for odd in (5, None, ["status=failed"], b"x"):
        with pytest.raises(UsageError, match="is not a filter: write a text"):
            db.Task.where(odd)
    with pytest.raises(UsageError, match="51 filters are too many"):
        db.Task.where(*["id=1"] * 51)
    assert len(db.Task.where(*["id=1"] * 50)) == 1
    with pytest.raises(UsageError, match="names no field to sort by"):
        db.Task.sort(" ,")


def test_nothing_on_the_way_of_a_path_is_nothing_at_its_end(tasks: SimpleNamespace) -> None:
    """`failed` has a parent, which has none."""
    everybody = [task.name for task in db.Task.get()]
    assert [task.name for task in db.Task.where("parent.name!=null")] == ["failed"]
    assert [task.name for task in db.Task.where("parent.parent=null")] == everybody
    assert list(db.Task.where("parent.parent!=null")) == []
    db.Task(name="leaf", parent=db.Task.get_by_name("failed")).save()
    assert [task.name for task in db.Task.where("parent.parent!=null")] == ["leaf"]
    assert [task.name for task in db.Task.where("parent.parent=average")] == ["leaf"]


def test_the_last_day_there_is_can_be_asked_for(tasks: SimpleNamespace) -> None:
    db.Task(name="end", created_at="9999-12-31 23:59:59").save()
    assert [task.name for task in db.Task.where("created_at=9999-12-31")] == ["end"]
    assert len(db.Task.where("created_at!=9999-12-31")) == 5


def test_the_case_of_no_letter_matters(database: Any) -> None:
    for name in ("Hôpital Sainte-ÉLODIE", "Straße 100%", None):
        db.Organization(name=name).save()
    assert [o.id for o in db.Organization.search("élodie")] == [1]
    assert [o.id for o in db.Organization.where("name~sainte-Élo")] == [1]
    assert [o.id for o in db.Organization.where("name~STRASSE")] == []
    assert [o.id for o in db.Organization.where("name~ße 100%")] == [2]
    db.Task(name="t", initiator=1).save()
    assert len(db.Task.where("initiator~élodie")) == len(db.Task.search("ÉLODIE")) == 1


def test_a_link_takes_what_list_prints_as_a_name(tasks: SimpleNamespace) -> None:
    assert [task.name for task in db.Task.where("collaboration=collaboration/2")] == ["active"]
    assert [result.id for result in db.Result.where("task=task/1")] == [1, 2]


FOLDED = (
    "STRASSE",
    "Straße",
    "ÉLODIE",
    "élodie",
    "İstanbul",
    "istanbul",
    "ﬁn",
    "FIN",
    "ΑΣ σας",
    "K",
    "Kelvin \u212a",
    "ŉ",
    "ᾳ",
)


ASKED = ("straße", "ß", "É", "İ", "i̇s", "ﬁ", "fi", "ς", "ΣΑΣ", "k", "\u212a", "\u02bcn", "\u03b1\u03b9", "s", "n")


def test_both_kinds_of_databases_find_a_text_by_one_rule(database: Any) -> None:
    for name in FOLDED:
        db.Organization(name=name).save()
    for asked in ASKED:
        fold = str.lower if asked.isascii() else str.casefold
        read = (lambda text: "".join(c.lower() if c.isascii() else c for c in text)) if asked.isascii() else fold
        expected = [name for name in FOLDED if fold(asked) in read(name)]
        assert [each.name for each in db.Organization.where(f"name~{asked}")] == expected
        assert [each.name for each in db.Organization.search(asked)] == expected


def test_no_letter_that_has_a_case_is_beyond_those_that_are_looked_at() -> None:
    assert all(chr(code).casefold() == chr(code) for code in range(case_folding.LAST_LETTER, sys.maxunicode + 1))
