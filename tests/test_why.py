"""Why a task is not finished: whom it waits for, since when, what keeps that from ending, and what failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.other_program import raw
from helpers.process import Ended, python, vserver
from helpers.terminal import shell_at

import models as db
from vserverlib import Error, NotFound
from vserverlib.queries import why
from vserverlib.terminal import views, why_report


@pytest.fixture
def run(address: str, tmp_path: Path) -> Callable[..., Ended]:
    """Run a command on the database of the test, as a process of its own."""
    return lambda *words, **env: vserver("-d", address, *words, cwd=tmp_path, **env)


def obstacles(database: Any, task: Any) -> dict[str | None, list[str]]:
    """Return the obstacles of each organization that is waited for."""
    return {each.organization: each.obstacles for each in why.why(database, task).awaited}


def drawn(found: Any, width: int = 80) -> str:
    return views.render(why_report.WhyView(found), width=width, color=False)


def test_each_organization_is_named_with_its_node_and_when_that_was_last_seen(story: Any, run: Any) -> None:
    story.node.last_seen = "2026-02-01"
    story.node.save()
    oslo = db.Node(name="Oslo node", organization=story.oslo, collaboration=story.collaboration)
    oslo.save()
    done = run("why", "average")
    assert done.status == 0 and done.err == ""
    assert "waiting for IKNL" in done.out and "waiting for Oslo" in done.out
    assert f"node {story.node.id} last seen " in done.out and f"node {oslo.id} was never seen" in done.out
    assert " d ago" in done.out and "0 of 2 results, 2 awaited" in done.out


def test_an_organization_without_a_node_a_membership_or_a_key_is_named(story: Any, database: Any) -> None:
    assert obstacles(database, story.task) == {
        "IKNL": [],
        "Oslo": ["the organization has no node in the collaboration"],
    }
    story.collaboration.encrypted = True
    story.collaboration.organizations = [story.oslo]
    story.collaboration.save()
    found = obstacles(database, story.task.id)
    assert found["IKNL"] == [
        "the organization is not in the collaboration",
        "the collaboration is encrypted, but the organization has no public key",
    ]


def test_odd_rows_of_other_programs_are_answered_too(story: Any, run: Any, database: Any) -> None:
    raw(database, "UPDATE result SET organization_id = NULL WHERE id = ?", story.results[0].id)
    raw(database, "UPDATE result SET organization_id = ? WHERE id = ?", 77, story.results[1].id)
    assert [each.obstacles for each in why.why(database, story.task).awaited] == [
        ["the result has no organization"],
        ["the organization does not exist"],
    ]
    raw(database, "UPDATE task SET collaboration_id = NULL WHERE id = ?", story.task.id)
    done = run("why", "task/1")
    assert done.status == 0 and "has no collaboration" in done.out and "waiting for (77)" in done.out


def test_times_that_are_texts_are_shown_as_they_are(path: Path, story: Any, database: Any) -> None:
    raw(database, "UPDATE result SET assigned_at = ?", "yesterday\x1b[2J")
    raw(database, "UPDATE node SET last_seen = ?", "never ever")
    raw(database, "UPDATE task SET created_at = ?", b"\xff")
    done = vserver("-d", path, "why", "1")
    assert done.status == 0 and "yesterday" in done.out and "never ever" in done.out and "\x1b" not in done.out
    assert vserver("-d", path, "why", "1", "-o", "json").status == 0


def test_failed_results_show_the_end_of_their_logs(story: Any, run: Any, database: Any) -> None:
    result = story.results[0]
    result.status, result.finished_at = "crashed", "2026-02-01"
    result.log = "\n".join(f"line {number}" for number in range(100)) + "\n\x1b[31mMemoryError\n"
    result.save()
    found = why.why(database, story.task)
    assert found.failed[0].log == ["line 96", "line 97", "line 98", "line 99", "\x1b[31mMemoryError"]
    done = run("why", "1")
    assert "failed at IKNL" in done.out and "crashed 2026-02-01" in done.out and "line 99" in done.out
    assert "line 95" not in done.out and "\x1b" not in done.out and "MemoryError" in done.out


def test_a_finished_task_and_an_empty_one_are_answered(story: Any, run: Any) -> None:
    for result in story.results:
        result.started_at = result.finished_at = "2026-02-01"
        result.save()
    db.Task(name="empty", collaboration=story.collaboration, image="i").save()
    done = run("why", "1")
    assert done.status == 0 and "finished: 2 of 2 results, 0 failed" in done.out and "waiting" not in done.out
    done = run("why", "empty")
    assert done.status == 0 and "has no results" in done.out


def test_unfinished_children_are_named(story: Any, run: Any) -> None:
    child = db.Task(name="child", parent=story.task, collaboration=story.collaboration)
    child.save()
    assert f'its child task {child.id} "child" is empty' in run("why", "1").out


def test_json_has_the_same(story: Any, run: Any) -> None:
    data = json.loads(run("why", "1", "-o", "json").out)
    assert list(data) == list(why.Why._fields) and data["total"] == 2 and data["complete"] is False
    assert [list(each) for each in data["awaited"]] == [list(why.Awaited._fields)] * 2
    assert data["awaited"][0]["last_seen"] is None and data["awaited"][0]["since"].endswith("Z")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_names_are_text_and_lines_fit(width: int, story: SimpleNamespace, database: Any) -> None:
    for entity in (story.iknl, story.task, story.collaboration, story.node):
        entity.name = "[red]\x1b[2J\u202e肺" + "x" * 100
        entity.save()
    text = drawn(why.why(database, story.task), width)
    assert "\x1b" not in text and "\u202e" not in text and "[red]" in text
    assert max(map(len, text.splitlines())) <= width


def test_a_task_with_many_results_takes_no_query_for_each(story: Any, database: Any, count_queries: list[str]) -> None:
    def asked() -> int:
        count_queries.clear()
        why.why(database, story.task)
        return len(count_queries)

    few = asked()
    for number in range(30):
        organization = db.Organization(name=f"organization {number}")
        organization.save()
        db.Result(task=story.task, organization=organization).save()
    assert asked() == few < 20
    text = drawn(why.why(database, story.task))
    assert text.count("waiting for") == why_report.SHOWN + 1 and "12 more" in text


@pytest.mark.parametrize("word", ["nope", "task/77", "node/1", "", "\x1b[2J"])
def test_a_task_that_does_not_exist_is_one_line(word: str, story: Any, run: Any) -> None:
    done = run("why", word)
    assert done.status in (1, 2) and done.out == "" and len(done.err.splitlines()) == 1 and "\x1b" not in done.err


def test_at_the_prompt_and_in_a_program(path: Path, story: Any, database: Any) -> None:
    database.close()
    done = vserver("-d", path, "shell", "-c", "print(db.why(db.Task[1]).awaited[1].obstacles, db.why('average').id)")
    assert done.status == 0 and "no node" in done.out and done.out.endswith(" 1\n")
    code = f"from vserverlib import api; api.connect({str(path)!r}, read_only=True); print(api.why(1).status)"
    assert python("-c", code).out == "pending\n"


@pytest.mark.parametrize("columns", [80, 200])
def test_the_prompt_shows_it_as_the_command_does(columns: int, path: Path, story: Any, database: Any) -> None:
    database.close()
    with shell_at(path, path.parent, columns=columns) as at_prompt:
        shown = at_prompt.enter("db.why(1)")
        assert "waiting for IKNL (result 1)" in shown and "node 1 was never seen" in shown


def test_an_unsaved_task_and_a_missing_one_are_refused(story: Any, database: Any) -> None:
    with pytest.raises(Error, match="was never saved"):
        why.why(database, db.Task(name="new"))
    with pytest.raises(NotFound):
        why.why(database, 77)
