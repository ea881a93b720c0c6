"""The made-up consortium: what is in it, that it is right, how it is filled and played."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result as Ran
from helpers import dangling_links
from helpers.typed import run

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib import Error
from vserverlib.databases import storage
from vserverlib.entities import progress
from vserverlib.entities.fields import now
from vserverlib.examples import simulation


def vserver(folder: Path, *words: str) -> Ran:
    """Run a command in a folder."""
    with contextlib.chdir(folder):
        return run(None, *words)


def values(database: Any, sql: str) -> list[Any]:
    return list(database.execute_sql(sql).fetchall())


@pytest.fixture
def filled(database: Any) -> Any:
    simulation.fill(database, 1000)
    return database


def test_it_has_as_many_tasks_and_organizations_as_were_asked_for(database: Any) -> None:
    simulation.fill(database, 50, 7)
    assert (len(Task.get()), len(Organization.get())) == (50, 7)


def test_no_link_leads_nowhere(filled: Any) -> None:
    assert dangling_links.broken(filled) == []


def test_results_and_initiators_are_of_members_of_the_collaboration(filled: Any) -> None:
    members = "SELECT organization_id FROM member WHERE collaboration_id = task.collaboration_id"
    asked = f"SELECT * FROM result JOIN task ON task.id = task_id WHERE organization_id NOT IN ({members})"
    assert values(filled, asked) == []
    assert values(filled, f"SELECT * FROM task WHERE initiator_id NOT IN ({members})") == []


def test_tasks_are_in_all_states(filled: Any) -> None:
    assert {task.status for task in Task.get()} == set(progress.TASK_STATUSES)


def test_the_status_of_each_result_follows_its_times(filled: Any) -> None:
    rows = values(filled, "SELECT status, started_at, finished_at FROM result")
    assert [row for row in rows if progress.follow(*row) != row[0]] == []


def test_times_are_stored_as_the_models_store_them_and_none_is_of_the_future(filled: Any) -> None:
    times = [time for row in values(filled, "SELECT assigned_at, started_at, finished_at FROM result") for time in row]
    assert {
        time for time in times if time and Result.assigned_at.clean(Result.assigned_at.decode(time)) != time
    } == set()
    assert max(filter(None, times)) <= Result.assigned_at.clean(simulation.now())


def test_what_a_task_delivered_came_after_it_was_made(filled: Any) -> None:
    sql = (
        "SELECT * FROM result JOIN task ON task.id = task_id WHERE started_at < created_at OR finished_at < started_at"
    )
    assert values(filled, sql) == []


def test_tasks_are_spread_over_months(filled: Any) -> None:
    first, last = (
        models.Task.created_at.decode(each)
        for each in values(filled, "SELECT MIN(created_at), MAX(created_at) FROM task")[0]
    )
    assert (last - first).days > 150


def test_the_next_run_is_a_new_one(filled: Any) -> None:
    runs = 1000 // simulation.FAMILY
    assert values(filled, "SELECT value FROM counter WHERE name = 'run_id'") == [(runs,)]
    assert Task.next_run_id() == runs + 1


def test_a_step_is_of_the_run_of_its_parent(filled: Any) -> None:
    assert (
        values(filled, "SELECT * FROM task JOIN task AS p ON p.id = task.parent_id WHERE p.run_id != task.run_id") == []
    )


def test_every_organization_collaborates_and_has_users(filled: Any) -> None:
    assert all(each.collaborations and each.users and each.nodes for each in Organization.get())


def test_many_organizations_have_a_name_of_their_own_each(database: Any) -> None:
    simulation.fill(database, 4, 500)
    assert len({each.name for each in Organization.get()}) == 500
    assert len({each.name for each in Collaboration.get()}) == 125


def test_nobody_can_log_in(filled: Any) -> None:
    assert User.select().where(User.password.is_null(False)).count() == 0
    assert Node.select().where(Node.api_key.is_null(False)).count() == 0


def test_ids_that_were_given_once_are_not_given_again(database: Any) -> None:
    task = Task(name="first")
    task.save()
    task.delete()
    simulation.fill(database, 10)
    assert min(each.id for each in Task.get()) == task.id + 1


def test_chunks_join_without_a_seam(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "TASKS_PER_CHANGE", 8)
    output: list[int] = []
    simulation.fill(database, 20, advance=output.append)
    assert output == [8, 16, 20]
    assert [task.id for task in Task.get()] == list(range(1, 21))


def test_a_database_with_entities_is_refused(story: Any, database: Any) -> None:
    with pytest.raises(Error, match="has entities already"):
        simulation.fill(database, 5)
    assert len(Task.get()) == 1


def test_nodes_take_up_all_results_and_deliver_them(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "MOVE_SECONDS", 0)
    simulation.fill(database, 100)
    assert Result.where(progress.UNFINISHED_RESULTS).count()
    begun = now()
    simulation.play(until_done=True)
    delivering = {result.node for result in Result.where(Result.finished_at >= begun)} - {None}
    assert delivering and all(node.last_seen >= begun and node.status == "online" for node in delivering)
    assert Result.where(progress.UNFINISHED_RESULTS).count() == 0
    assert len(Task.get()) == 100


def test_a_new_task_asks_all_members(database: Any) -> None:
    simulation.fill(database, 4)
    simulation._create_task(random.Random(1))
    task = Task.get()[-1]
    assert [each.organization for each in task.results] == list(task.collaboration.organizations)


def test_who_watches_a_live_play_always_has_something_to_see(database: Any) -> None:
    simulation.fill(database, 1)
    chance = random.Random(1)
    chance.random = lambda: 0.2  # type: ignore[method-assign]  # every node is quick, none fails, nobody asks anything
    for _ in range(5):
        simulation.move(chance)
        assert Result.where(progress.UNFINISHED_RESULTS).exists()


def test_organizations_that_may_be_real_are_not_played_unless_that_is_meant(story: Any) -> None:
    with pytest.raises(Error, match="IKNL.*--yes"):
        simulation.refuse_real()
    simulation.refuse_real(is_meant=True)


def test_the_command_makes_a_database_and_fills_it(tmp_path: Path) -> None:
    done = vserver(tmp_path, "demo", "--tasks", "30")
    assert done.exit_code == 0 and done.stdout == ""
    assert "created a new database, vserver.db" in done.stderr and "30 tasks" in done.stderr
    assert done.stderr.endswith("simulate its nodes with: vserver demo --live\n")


def test_the_command_fills_no_database_twice(tmp_path: Path) -> None:
    vserver(tmp_path, "demo", "--tasks", "30")
    again = vserver(tmp_path, "demo", "--tasks", "30", "--live")
    assert again.exit_code == 1
    assert again.stderr.count("\n") == 1 and "has entities already" in again.stderr


def test_the_live_play_says_that_it_is_one_and_ends_when_all_is_done(tmp_path: Path) -> None:
    vserver(tmp_path, "demo", "--tasks", "1")
    done = vserver(tmp_path, "demo", "--live", "--until-done")
    assert done.exit_code == 0 and "this is a simulation" in done.stderr
    assert "watch it in another terminal with: vserver watch " in done.stderr


def test_a_database_of_real_organizations_is_left_alone(tmp_path: Path) -> None:
    storage.create(tmp_path / "vserver.db")
    vserver(tmp_path, "shell", "-c", 'Organization(name="IKNL").save()')
    done = vserver(tmp_path, "demo", "--live")
    assert done.exit_code == 1 and "may be real" in done.stderr
