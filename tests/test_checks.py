"""Asking the rules: one statement a save, warnings or one error, rows of others, and the last check."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sqlite3
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid1

import pytest
from helpers.steps import count_steps

import models as db
from vserverlib import CheckError, CheckWarning, Error, NotObeyed, hashing, home
from vserverlib.entities import checks, rules
from vserverlib.entities.fields import now

pytestmark = pytest.mark.filterwarnings("error::vserverlib.CheckWarning")

HOSTILE = "\x1b[31m[red]\r\n\u202e{detail}" + "x" * 10_000


def summary(call: Any) -> list[str]:
    """Return what a call warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught]


def codes(call: Any) -> list[str]:
    return [text.partition(" ")[0] for text in summary(call)]


# At a save


def test_a_warning_names_code_row_fault_and_remedy(story: SimpleNamespace) -> None:
    (text,) = summary(db.Organization(name="Oslo").save)
    assert text.startswith('ORG002 organization 3 "Oslo": organization 2 has the same name: rename one')


def test_a_warning_points_to_the_line_that_saved_and_does_not_show_it(story: SimpleNamespace) -> None:
    with pytest.warns(CheckWarning) as caught:
        line, _ = inspect.currentframe().f_lineno, db.Organization(name="Oslo").save()  # type: ignore[union-attr]
    assert (caught[0].filename, caught[0].lineno) == (f"{__file__}:{line}", 0)
    assert str(caught[0].message) in str(caught[0]) and "Organization(name=" not in str(caught[0])


@pytest.mark.parametrize("model", db.ENTITIES, ids=lambda model: model.noun)
def test_a_save_asks_all_its_rules_by_one_statement(model: Any, story: Any, count_queries: list[str]) -> None:
    count_queries.clear()
    summary(model().save)
    asked = [sql for sql in count_queries if "AS this" in sql]
    assert len(asked) == 1 and asked[0].count("AS this") >= len(
        [rule for rule in rules.RULES if rule.entity == model.noun and rule.when == rules.BOTH]
    )


def test_a_save_warns_only_of_rules_that_its_changed_fields_concern(story: SimpleNamespace) -> None:
    user = db.User(username="9", email="none")
    assert codes(user.save) == ["USR001", "USR002", "USR004", "USR005"]
    user.firstname = "Anna"
    assert codes(user.save) == []
    user.email = "still none"
    assert codes(user.save) == ["USR005"]
    user.organization = story.iknl
    assert codes(user.save) == []
    story.collaboration.organizations = []
    assert "COL002" in codes(story.collaboration.save)
    story.collaboration.name = "KYOTO"
    assert codes(story.collaboration.save) == []
    assert story.node.check()[0].code == "NOD002"


def test_the_statement_is_made_once(story: SimpleNamespace, database: Any) -> None:
    made = set()
    for name in ("a", "b", "c"):
        story.task.name = name
        story.task.save()
        made.add(id(database.cached["rules"]["task", frozenset({"name"})]))
    assert len(made) == 1


def test_a_warning_as_an_error_rolls_back(story: SimpleNamespace) -> None:
    twin = db.Organization(name="Oslo")
    with pytest.raises(CheckWarning):
        twin.save()
    assert not twin.is_saved and len(db.Organization.get()) == 2


def test_hostile_names_do_no_harm_in_a_sentence(story: SimpleNamespace, database: Any) -> None:
    texts = summary(db.Organization(name=HOSTILE).save) + summary(db.Node(name=HOSTILE).save)
    texts += [finding.text for finding in db.Organization.get(3).check()]
    assert len(texts) >= 3
    assert all(text.isprintable() and len(text) < 400 for text in texts)


def test_a_name_that_is_not_text_does_not_keep_a_row_from_being_saved(story: Any, database: Any, path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("UPDATE organization SET name = CAST(x'41ff' AS TEXT)")
    other.close()
    story.iknl.country = "NL"
    assert codes(story.iknl.save) == [] and [each.code for each in story.iknl.check()] == ["ORG002"]


def test_weak_secrets_are_reported_once_and_never_shown(story: SimpleNamespace, database: Any) -> None:
    plain = "hunter"
    user = db.User(username="root", password=plain, organization=story.iknl)
    (text,) = summary(user.save)
    assert "under 8 characters, no upper case, no digit, no special character" in text and plain not in text
    assert plain not in repr(vars(user))
    user.firstname = "John"
    assert summary(user.save) == []
    assert [finding.code for finding in user.check()] == ["USR003"]
    assert db.User.get(1).check() == []
    key = str(uuid1())
    story.node.api_key = key
    (text,) = summary(story.node.save)
    assert text.startswith("NOD005") and key not in text


def test_a_weak_secret_is_reported_again_when_it_could_not_be_saved(story: SimpleNamespace, database: Any) -> None:
    user = db.User(username="root", password="hunter", organization=story.iknl)
    database.strict = True
    for _ in range(2):
        with pytest.raises(CheckError, match="USR003"):
            user.save()


def test_a_ready_hash_is_not_judged(story: SimpleNamespace) -> None:
    story.node.api_key = "$2b$12$" + "a" * 53
    assert summary(story.node.save) == []


def test_finding_a_node_by_a_key_of_another_server_asks_no_rules(story: SimpleNamespace, database: Any) -> None:
    key = str(uuid1())
    story.node.api_key = hashing.make_hash(key, hashing.new_salt())
    story.node.save()
    database.strict = True
    assert db.Node.get_by_api_key(key) == story.node


# Rows of others


def test_removing_an_organization_reports_what_it_leaves_behind(story: SimpleNamespace) -> None:
    story.collaboration.organizations.remove(story.iknl)
    assert codes(story.collaboration.save) == ["NOD002", "TSK003", "RES002"]


def test_leaving_a_collaboration_reports_what_is_left_behind(story: SimpleNamespace) -> None:
    story.iknl.collaborations = []
    assert codes(story.iknl.save) == ["NOD002", "TSK003", "RES002"]


def test_leaving_as_the_last_reports_that_nobody_takes_part_any_more(story: SimpleNamespace) -> None:
    alone = db.Collaboration(name="KYOTO", encrypted=False, organizations=[story.oslo])
    alone.save()
    story.oslo.collaborations.remove(alone)
    assert [text[:32] for text in summary(story.oslo.save)] == ['COL002 collaboration 2 "KYOTO": ']
    alone.organizations.append(story.oslo)
    assert summary(alone.save) == []
    alone.organizations.remove(story.oslo)
    assert codes(alone.save) == ["COL002"]


def test_joining_from_the_side_of_the_organization_breaks_nothing(story: SimpleNamespace) -> None:
    with story.task._meta.database.rule_checks(False):
        alone = db.Collaboration(name="KYOTO", encrypted=False)
        alone.save()
    story.oslo.collaborations.append(alone)
    assert summary(story.oslo.save) == [] and [finding.code for finding in alone.check()] == ["COL003"]


@pytest.mark.parametrize("moved", ["organization", "collaboration", "both"])
def test_a_membership_that_becomes_another_reports_what_it_leaves_behind(moved: str, story: SimpleNamespace) -> None:
    bergen = db.Organization(name="Bergen")
    bergen.save()
    other = db.Collaboration(name="KYOTO", encrypted=False, organizations=[story.oslo])
    other.save()
    member = db.Member.get(1)
    member.organization = story.iknl if moved == "collaboration" else bergen
    member.collaboration = story.collaboration if moved == "organization" else other
    assert codes(member.save) == ["NOD002", "TSK003", "RES002"]


def test_the_last_membership_that_moves_away_leaves_nobody(story: SimpleNamespace) -> None:
    db.Collaboration(name="KYOTO", encrypted=False, organizations=[story.oslo]).save()
    member = db.Member.get(3)
    member.collaboration = None
    assert codes(member.save) == ["COL002"]


def test_a_new_membership_breaks_nothing_and_a_strict_session_keeps_the_old_one(
    story: SimpleNamespace, database: Any
) -> None:
    bergen = db.Organization(name="Bergen")
    bergen.save()
    assert summary(db.Member(organization=bergen, collaboration=story.collaboration).save) == []
    database.strict = True
    member = db.Member.get(1)
    member.organization = None
    with pytest.raises(CheckError, match="NOD002"):
        member.save()
    assert db.Member.get(1).organization == story.iknl


def test_moving_a_task_reports_its_results_and_children(story: SimpleNamespace) -> None:
    db.Task(name="child", image="i", parent=story.task, collaboration=story.collaboration).save()
    alone = db.Collaboration(name="KYOTO", encrypted=False, organizations=[story.iknl])
    alone.save()
    story.task.collaboration = alone
    found = summary(story.task.save)
    assert [text[:17] for text in found] == ["RES002 result 2: ", 'TSK004 task 2 "ch']


def test_encrypting_and_taking_a_key_away_tell_of_results(story: SimpleNamespace) -> None:
    story.collaboration.encrypted = True
    assert codes(story.collaboration.save) == ["RES006", "RES006"]
    story.iknl.public_key = None
    assert codes(story.iknl.save) == ["RES006"]


def test_a_few_rows_of_others_are_reported_not_thousands(story: SimpleNamespace) -> None:
    for number in range(10):
        db.Task(name=f"t{number}", image="i", collaboration=story.collaboration, initiator=story.oslo).save()
    story.collaboration.organizations.remove(story.oslo)
    assert codes(story.collaboration.save).count("TSK003") == checks.MOST_AFFECTED


def test_adding_an_organization_asks_nothing_of_others(story: SimpleNamespace, count_queries: list[str]) -> None:
    bergen = db.Organization(name="Bergen")
    bergen.save()
    story.collaboration.organizations.append(bergen)
    count_queries.clear()
    story.collaboration.save()
    assert not [sql for sql in count_queries if 'FROM "result" AS this' in sql]


# Strict, and suspended


def test_strict_reports_all_breaches_and_of_what_is_not_obeyed(story: SimpleNamespace, database: Any) -> None:
    database.strict = True
    with pytest.raises(CheckError) as refused:
        db.Result(status="completed").save()
    kinds = [type(breach) for breach in refused.value.breaches]
    assert kinds == [NotObeyed, CheckWarning, CheckWarning]
    assert str(refused.value).startswith("not saved: result") and "\n" not in str(refused.value)
    assert len(db.Result.get()) == 2


def test_strict_rolls_back_what_was_made_before_in_one_transaction(story: SimpleNamespace, database: Any) -> None:
    first = db.Organization(name="Bergen")
    database.strict = True
    with pytest.raises(CheckError), database.atomic():
        first.save()
        db.Organization(name="Oslo").save()
    assert not first.is_saved and len(db.Organization.get()) == 2


def test_memberships_are_restored_when_strict_refuses(story: SimpleNamespace, database: Any) -> None:
    database.strict = True
    story.collaboration.organizations.remove(story.oslo)
    with pytest.raises(CheckError, match="RES002"):
        story.collaboration.save()
    assert story.collaboration.organizations == [story.iknl]
    assert len(db.Collaboration.get(1).organizations) == 2


def test_rules_can_be_suspended_for_a_block(story: SimpleNamespace, database: Any) -> None:
    with database.rule_checks(False):
        assert summary(db.Organization(name="Oslo").save) == []
        with database.rule_checks():
            assert codes(db.Organization(name="Oslo").save) == ["ORG002"]
    with pytest.raises(ValueError), database.rule_checks(False):  # noqa: PT011  # any exception will do
        raise ValueError
    assert codes(db.Organization(name="Oslo").save) == ["ORG002"]


# Of one entity


def test_an_entity_reports_what_it_breaks_itself(story: SimpleNamespace) -> None:
    assert [finding.code for finding in story.collaboration.check()] == ["COL003"]
    assert [finding.id for finding in story.results[1].check()] == [2]
    assert story.task.check() == [] and story.task.check().levels == {"error": 0, "warning": 0, "info": 0}


def test_an_entity_that_was_never_saved_cannot_be_checked(database: Any) -> None:
    with pytest.raises(Error, match="was never saved: call its save"):
        db.Organization(name="IKNL").check()
    with pytest.raises(Error, match=r"check\(\) belongs to one Organization"):
        db.Organization.check()  # type: ignore[misc]


def test_a_read_only_session_knows_who_has_a_password(story: SimpleNamespace, path: Path) -> None:
    db.User(username="root", password="Sup3r-secret!", organization=story.iknl).save()
    opened = db.connect(path, read_only=True)
    assert db.User.get(1).check() == []
    assert opened.execute_sql("SELECT password FROM user").fetchall() == [(None,)]
    opened.close()


# The last check

FOUND = {"error": 2, "warning": 1, "info": 0}


def test_the_last_check_is_remembered_for_a_database(database: Any, path: Path) -> None:
    assert checks.last(database) is None
    checks.remember(database, FOUND)
    last = checks.last(database)
    assert last is not None and last[1:] == (2, 1, 0) and 0 <= (now() - last.at).total_seconds() < 3600
    (kept,) = home.folder().iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_copy_a_restored_file_and_a_sandbox_have_no_last_check(database: Any, path: Path) -> None:
    checks.remember(database, FOUND)
    database.close()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    assert checks.last(db.connect(copy)) is None
    sandbox = db.connect(path, sandbox=True)
    assert checks.last(sandbox) is None
    checks.remember(sandbox, FOUND)
    os.replace(copy, path)
    assert checks.last(db.connect(path)) is None
    db.database.close()


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"at": "soon", **FOUND}), '{"at": 3}', "\x00"])
def test_a_damaged_summary_of_a_check_is_ignored(database: Any, path: Path, text: str) -> None:
    checks.remember(database, FOUND)
    (kept,) = home.folder().iterdir()
    kept.write_text(text)
    assert checks.last(database) is None


# Speed


def test_many_results_of_one_organization_are_checked_without_comparing_each_with_all(
    story: SimpleNamespace, database: Any
) -> None:
    rows = [(id, story.task.id, story.iknl.id) for id in range(1_000, 5_000)]
    database.insert_many("result", ("id", "task_id", "organization_id"), rows)
    database.insert_many("result", ("id", "task_id"), [(9_000, story.task.id), (9_001, story.task.id)])
    steps = count_steps(database, 1_000)
    found = {each.id: each.message for each in checks.of_tables(database, [rules.BY_CODE["RES003"]])}
    assert steps() < 2_000, "quadratic"
    first, *others = sorted(found)
    assert first == story.results[0].id and others == [id for id, _, _ in rows]
    assert "result 1000 has the same organization and task" in found[first]
    assert f"result {first} has the same" in found[1_000] and f"result {first} has the same" in found[4_999]
    assert {each.message for each in db.Result.get(1_000).check() if each.code == "RES003"} == {found[1_000]}
