"""How things stand: every figure agrees with what the entities say one by one."""

from __future__ import annotations

import datetime
import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import process
from helpers.terminal import Terminal, environment

import models as db
import vserver
from vserverlib.entities.fields import now
from vserverlib.queries import overview
from vserverlib.terminal import overview_screen, views


def test_the_figures_agree_with_the_entities(consortium: Any) -> None:
    found = overview.overview(consortium)
    assert found.entities == {model.plural: len(model.get()) for model in db.ENTITIES}
    assert {status: count for status, count in found.tasks.items() if count} == Counter(t.status for t in db.Task.get())
    for share in found.collaborations:
        tasks = db.Collaboration.get(share.id).tasks
        assert (share.total, share.done) == (len(tasks), sum(task.complete for task in tasks))
        assert share.failed == sum(task.status == "failed" for task in tasks)
    for share in found.organizations:
        results = db.Organization.get(share.id).results
        assert (share.total, share.done) == (len(results), sum(result.complete for result in results))
        assert share.since == min((r.assigned_at for r in results if not r.complete), default=None)


def test_who_is_waited_for_longest_comes_first(consortium: Any) -> None:
    since = [share.since for share in overview.overview(consortium).organizations if share.since]
    assert len(since) > 1 and since == sorted(since)


def test_a_failed_task_that_awaits_a_result_is_not_finished(story: SimpleNamespace, database: Any) -> None:
    first, second = story.results
    first.status, first.finished_at = "failed", now()
    first.save()
    (share,) = overview.overview(database).collaborations
    assert (share.total, share.done, share.failed) == (1, 0, 1)
    second.started_at = second.finished_at = now()
    second.save()
    (share,) = overview.overview(database).collaborations
    assert (share.total, share.done, share.failed) == (1, 1, 1)
    text = shown(database)
    assert "tasks finished" in text and "results finished" in text and "ended" not in text


def test_what_belongs_to_nobody_is_counted_too(database: Any) -> None:
    db.Task(name="orphan").save()
    db.Result(task=1).save()
    db.Result(organization=None).save()
    found = overview.overview(database)
    assert found.tasks["pending"] == 1
    assert [(share.id, share.total) for share in found.collaborations] == [(None, 1)]
    assert [(share.id, share.total, share.done) for share in found.organizations] == [(None, 2, 0)]


def test_nodes_that_were_not_seen_for_a_day_are_reported(database: Any) -> None:
    for name, seen in (("never", None), ("just now", now()), ("long ago", now() - datetime.timedelta(days=3))):
        db.Node(name=name, last_seen=seen).save()
    assert [node.name for node in overview.overview(database).unseen] == ["never", "long ago"]


def test_an_empty_database_has_an_overview(database: Any, count_queries: list[str]) -> None:
    found = overview.overview(database)
    assert found.collaborations == [] and set(found.tasks.values()) == {0}
    assert len(count_queries) <= 9


def test_the_number_of_queries_does_not_grow(consortium: Any, count_queries: list[str]) -> None:
    consortium.query_hooks.append(lambda event: count_queries.append(event.sql))
    count_queries.clear()
    overview.overview(consortium)
    assert 0 < len(count_queries) <= 9


def test_the_figures_are_of_one_moment(consortium: Any, example: Path) -> None:
    with closing(sqlite3.connect(example)) as other:

        def delete_the_empty_one(event: Any) -> None:
            if "GROUP BY" in event.sql:  # it is under way: figures have been read
                other.execute("DELETE FROM task WHERE id = 24")
                other.commit()

        consortium.query_hooks.append(delete_the_empty_one)
        found = overview.overview(consortium)
        consortium.query_hooks.clear()
    assert (found.entities["tasks"], found.tasks["empty"], sum(found.tasks.values())) == (24, 1, 24)
    assert overview.overview(consortium).tasks["empty"] == 0


def test_the_command_prints_a_screen_or_json(example: Path) -> None:
    done = CliRunner().invoke(vserver.main, ["overview", "-o", "json"], prog_name="vserver")
    output = json.loads(done.stdout)
    assert (done.exit_code, done.stderr, output["tasks"]["failed"]) == (0, "", 6)
    assert output["organizations"][0]["since"].endswith("Z") and output["unseen"][0]["last_seen"] is None
    done = CliRunner().invoke(vserver.main, ["overview"], prog_name="vserver")
    assert done.exit_code == 0 and "✗ failed 6" in done.stdout


def test_vserver_alone_shows_it_at_a_terminal(example: Path) -> None:
    env = environment(example.parent, VSERVER_DATABASE=str(example))
    terminal = Terminal([sys.executable, "-m", "vserver"], env, 80, 24)
    terminal.wait_for("not seen for a day")
    assert "24 tasks" in terminal.text and "Traceback" not in terminal.text


def shown(database: Any, width: int = 80, everything: bool = False) -> str:
    found = overview.overview(database)
    return views.render(
        overview_screen.OverviewView(found, database.title, now(), everything), width=width, color=False
    )


def test_a_long_name_takes_one_line_beside_a_long_age(consortium: Any) -> None:
    with consortium.atomic():
        for result in db.Result.where(complete=False):
            result.assigned_at = now() - datetime.timedelta(minutes=59)
            result.organization.name = "Public Health Service of the North"
            result.organization.save()
            result.save()
    lines = shown(consortium, everything=True).splitlines()
    assert max(map(views.cell_len, lines)) <= 80 and "(59 min)" in "".join(lines)
    assert all("/" in line for line in lines if line.startswith("Public"))


def test_it_fits_a_screen_of_80_columns_and_24_lines(consortium: Any) -> None:
    text = shown(consortium)
    assert len(text.splitlines()) <= 24 and max(views.cell_len(line) for line in text.splitlines()) <= 80
    for part in ("24 tasks", "✓ completed 11", "✗ failed 6", "Colorectal cancer survival", "11/14", "waiting since"):
        assert part in text


def test_many_of_everything_fit_the_screen_and_are_counted(database: Any) -> None:
    for number in range(30):
        organization = db.Organization(name=f"organization {number}")
        organization.save()
        collaboration = db.Collaboration(name=f"collaboration {number}")
        collaboration.save()
        db.Node(name=f"node {number}").save()
        task = db.Task(name=f"task {number}", collaboration=collaboration)
        task.save()
        db.Result(task=task, organization=organization).save()
    text = shown(database)
    assert len(text.splitlines()) <= 24 and "26 more: vserver overview --all" in text
    assert "28 more nodes not seen for a day: vserver overview --all" in text
    text = shown(database, everything=True)
    assert " more" not in text and "organization 29" in text and "collaboration 29" in text
    assert text.count("was never seen") == 30


def test_a_wide_terminal_has_room_for_whole_names(consortium: Any, example: Path) -> None:
    name = "Registro Oncológico del Ebro - Rare tumours [pilot] Node"
    for width in (80, 120, 200):
        lines = shown(consortium, width).splitlines()
        assert max(map(views.cell_len, lines)) <= width and any(name in line for line in lines) == (width > 80)
    done = process.vserver("overview", "--all", COLUMNS="200", cwd=example.parent)
    assert done.status == 0 and done.out.count(" Node ") == 10 and "Klinikum Grünwalde" in done.out


def test_large_numbers_of_tasks_take_a_line_more_and_break_no_state() -> None:
    counts = {"empty": 1_000, "pending": 12_345, "active": 12_345, "completed": 1_234_567, "failed": 123_456}
    first, second = str(views.Look().statuses(counts, 80)).splitlines()
    assert first == "tasks    · empty 1,000    ○ pending 12,345    ▶ active 12,345"
    assert second == "         ✓ completed 1,234,567    ✗ failed 123,456"


def test_hostile_names_and_odd_times_do_no_harm(database: Any, path: Path) -> None:
    hostile = "\x1b[31m[red]\r\n\u202e" + "x" * 10_000
    organization = db.Organization(name=hostile)
    organization.save()
    db.Node(name=hostile).save()
    collaboration = db.Collaboration(name=hostile)
    collaboration.save()
    db.Task(name="t", collaboration=collaboration).save()
    db.Result(task=1, organization=organization).save()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE result SET assigned_at = 'long ago'")
        other.execute("UPDATE node SET last_seen = 'never'")
    other.close()
    text = shown(database)
    assert all(line.isprintable() for line in text.splitlines())
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (86400 * 3000, "3,000 d")]
)
def test_ages_are_shown_in_their_largest_unit(seconds: int, text: str) -> None:
    assert views.span(datetime.timedelta(seconds=seconds), units=1) == text
