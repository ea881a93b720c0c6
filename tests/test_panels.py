"""One entity in full: the timeline of a task, the tasks around it, participants, awaited results."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import other_program
from rich.cells import cell_len

import models
from models import Collaboration, Node, Organization, Result, Task
from vserverlib import payloads
from vserverlib.entities.fields import now
from vserverlib.queries import details
from vserverlib.terminal import panels, views

KINDS = ["sqlite"]  # display does not depend on the database

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


def panel(entity: Any, width: int = 80) -> str:
    return views.render(panels.entity_panel(entity), width=width, color=False)


def lines_with(text: str, *words: str) -> list[str]:
    return [line.strip("│ ") for line in text.splitlines() if all(word in line for word in words)]


def raw(sql: str, *values: Any) -> None:
    """Write as another program would: by SQL, with no foreign keys, nothing checked."""
    other_program.raw(models.database, sql, *values)


def deliver(result: Result, wait: int, run: int, begin: datetime = START, **more: Any) -> None:
    """Have a result be assigned at a time, wait and run for so many minutes."""
    result.assigned_at = begin
    result.started_at = begin + timedelta(minutes=wait)
    result.finished_at = begin + timedelta(minutes=wait + run) if run else None
    for name, value in more.items():
        setattr(result, name, value)
    result.save()


# The lanes of a task


def test_a_wide_panel_shows_long_names_whole(story: SimpleNamespace) -> None:
    story.iknl.name = "Public Health Service of the North"
    story.iknl.save()
    for entity in (story.task, story.collaboration):
        found = type(entity).get(entity.id)
        wide, narrow = (lines_with(panel(found, width), "Public Health Service of")[-1] for width in (200, 80))
        assert "of the North" in wide and "of the North" not in narrow


def test_each_organization_of_a_task_has_a_line_with_its_state_and_times(story: SimpleNamespace) -> None:
    deliver(story.results[0], 5, 25)
    deliver(story.results[1], 0, 60, status="crashed")
    text = panel(story.task)
    (iknl,), (oslo,) = lines_with(text, "IKNL", "completed"), lines_with(text, "Oslo", "crashed")
    assert re.search(r"IKNL +✓ completed +5 min +25 min", iknl)
    assert re.search(r"Oslo +✗ crashed +0 s +1 h", oslo)
    assert "2026-03-01 09:00 UTC + 1 h" in text


def test_the_line_of_time_is_drawn_to_scale(story: SimpleNamespace) -> None:
    deliver(story.results[0], 30, 30)
    deliver(story.results[1], 90, 30)
    text = panel(story.task, 140)
    (iknl,), (oslo,) = lines_with(text, "IKNL", "━━━", "completed"), lines_with(text, "Oslo", "completed")
    line = re.compile(r"(┄+)(━+)$")
    for drawn, waited, ran in ((iknl, 15, 15), (oslo, 45, 15)):
        found = line.search(drawn)
        assert found and (len(found[1]), len(found[2])) == (waited, ran), drawn


def test_an_unfinished_result_is_timed_until_now(story: SimpleNamespace) -> None:
    deliver(story.results[0], 60, 0, begin=now() - timedelta(hours=3))
    raw("UPDATE result SET assigned_at = ? WHERE id = 2", f"{now() - timedelta(hours=3):%Y-%m-%d %H:%M:%S.%f}+00:00")
    text = panel(story.task)
    assert re.search(r"IKNL +▶ active +1 h +2 h …", text) and re.search(r"Oslo +○ pending +3 h … +—", text)
    assert lines_with(text, "IKNL", "active")[0].endswith("▶") and lines_with(text, "Oslo", "pending")[0].endswith("○")


def test_a_failure_that_never_ran_has_waited(story: SimpleNamespace) -> None:
    deliver(story.results[0], 0, 10)
    deliver(story.results[1], 0, 1, status="not allowed")
    raw("UPDATE result SET started_at = NULL WHERE id = 2")
    assert re.search(r"Oslo +✗ not allowed +1 min +—", panel(story.task))


def test_a_long_list_of_results_begins_with_those_that_are_waited_for(story: SimpleNamespace) -> None:
    Result.insert_many(
        [{"task": story.task.id, "assigned_at": START, "finished_at": START}] * 30
        + [{"task": story.task.id, "organization": story.oslo.id, "assigned_at": START}] * 3
    ).execute()
    text = panel(Task.get(1))
    lanes = lines_with(text, "completed") + lines_with(text, "pending")
    assert "15 more, unfinished ones come first" in text
    assert len(lines_with(text, "○ pending")) == 1 + 5 and len(lanes) < 30


@pytest.mark.parametrize("width", [40, 200])
def test_a_panel_fits_its_width(width: int, consortium: Any) -> None:
    for model in models.ENTITIES:
        for entity in model.get():
            assert max(map(cell_len, panel(entity, width).splitlines())) <= width


def test_odd_times_do_not_break_the_line(path: Path, story: SimpleNamespace) -> None:
    raw("UPDATE result SET assigned_at = 'long ago', started_at = 5 WHERE id = 1")
    raw("UPDATE result SET started_at = '2026-03-02', finished_at = '2026-03-01' WHERE id = 2")
    assert "IKNL" in panel(Task.get(1), 120)
    raw("UPDATE result SET assigned_at = NULL, started_at = NULL, finished_at = NULL")
    assert "IKNL" in panel(Task.get(1), 120)


def test_a_task_without_results_has_no_lanes(story: SimpleNamespace) -> None:
    Task(name="by hand").save()
    assert "organization  " not in panel(Task.get(2)) and "organization  " not in panel(Task(name="new"))


# The tasks around a task


def test_a_task_is_shown_between_its_parents_and_children(story: SimpleNamespace) -> None:
    parent = story.task
    for name in ("step", "step of the step", "leaf"):
        child = Task(name=name, parent=parent)
        child.save()
        parent = child
    text = panel(Task.get(3))
    tree = [line for line in text.splitlines() if re.search(r"[└├]─|task 1 ", line)]
    assert [re.sub(r"[│ ]+$", "", line[2:]) for line in tree] == [
        'task 1 "average" ○ pending 0/2',
        '└─ task 2 "step" · empty 0/0',
        '   └─ task 3 "step of the step" (this one)',
        '      └─ task 4 "leaf" · empty 0/0',
    ]


def test_many_children_are_counted(story: SimpleNamespace, count_queries: list[str]) -> None:
    Task.insert_many([{"name": f"step {n}", "parent": 1} for n in range(30)]).execute()
    text = panel(Task.get(1))
    assert len(lines_with(text, "├─", "step")) == details.CHILDREN and "20 more" in text


def test_parents_that_lead_around_in_a_ring_end(story: SimpleNamespace) -> None:
    Task(name="other", parent=story.task).save()
    raw("UPDATE task SET parent_id = 2 WHERE id = 1")
    assert 'task 2 "other"' in panel(Task.get(1))
    raw("UPDATE task SET parent_id = 1 WHERE id = 1")
    assert "(this one)" in panel(Task.get(1))


# Participants, and awaited results


def test_a_collaboration_shows_its_organizations_nodes_and_tasks(story: SimpleNamespace) -> None:
    story.node.status, story.node.last_seen = "online", now() - timedelta(minutes=5)
    story.node.save()
    text = panel(story.collaboration)
    assert re.search(r"IKNL +1 IKNL node +online +5 min ago", text)
    assert re.search(r"Oslo +no node to run tasks", text)
    assert re.search(r"tasks +○ pending 1", text)


def test_an_organization_and_a_node_show_the_awaited_results_and_their_age(story: SimpleNamespace) -> None:
    raw("UPDATE result SET assigned_at = ? WHERE id = 1", f"{now() - timedelta(days=3):%Y-%m-%d %H:%M:%S.%f}+00:00")
    assert re.search(r"1 result awaited, the oldest for 3 d", panel(story.iknl))
    assert re.search(r"1 result awaited, the oldest for 3 d", panel(story.node))
    deliver(Result.get(1), 1, 1)
    assert "no results awaited" in panel(story.iknl) and "no results awaited" in panel(story.node)
    assert "no results awaited" in panel(Organization(name="new")) and "no results awaited" in panel(Node(name="new"))


def test_no_results_of_other_collaborations_are_awaited_from_a_node(story: SimpleNamespace) -> None:
    other = Collaboration(name="other", organizations=[story.iknl])
    other.save()
    node = Node(name="other node", organization=story.iknl, collaboration=other)
    node.save()
    assert "no results awaited" in panel(node)
    assert "1 result awaited" in panel(story.node)


def test_nothing_of_a_name_leaves_its_place_in_a_section(path: Path, story: SimpleNamespace) -> None:
    hostile = "\x1b[2J[red]x\r\n│ 99  Fake ✓ completed\u202e" + "y" * 300
    for entity in (story.oslo, story.task, story.node):
        entity.name = hostile
        entity.save()
    Task(name=hostile, parent=story.task).save()
    raw("UPDATE node SET status = ?, last_seen = ? WHERE id = 1", hostile, hostile)
    raw("UPDATE result SET status = ?, assigned_at = ? WHERE id = 1", hostile, hostile)
    for entity in (Organization.get(1), Collaboration.get(1), Node.get(1), Task.get(1), Task.get(2)):
        text = panel(entity)
        assert all(line.isprintable() for line in text.splitlines())
        assert {cell_len(line) for line in text.splitlines()} == {80}
        assert not re.search(r"^│ 99  Fake", text, re.MULTILINE)


def test_inputs_and_results_are_shown_decoded_unless_they_are_encrypted(story: SimpleNamespace) -> None:
    encoded, sealed, odd = payloads.encoded('{"n": 1204}'), "a2V5$aXY=$dGV4dA==", payloads.encoded("no JSON")
    for given, shown in ((encoded, '{"n": 1204}'), (sealed, sealed), (odd, odd), ("{}", "{}"), ("é", "é")):
        result = story.results[0]
        result.input = result.result = given
        result.save()
        assert len(lines_with(panel(result), shown)) == 2, given
