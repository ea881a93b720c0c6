"""Lists of entities: what they ask of the database, and that what they know is never stale."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import models as db
from vserverlib import Error, NotFound
from vserverlib.entities.fields import now


def make_tasks(count: int, results: int = 2, finished: bool = True) -> None:
    """Make tasks with results: those of every second task have finished."""
    db.Organization.insert_many([{"name": f"organization {n}"} for n in range(results)]).execute()
    db.Task.insert_many([{"name": f"task {n}"} for n in range(count)]).execute()
    rows = [
        {"task": task, "organization": organization, "finished_at": now() if finished and task % 2 == 0 else None}
        for task in range(1, count + 1)
        for organization in range(1, results + 1)
    ]
    db.Result.insert_many(rows).execute()


def test_an_unread_list_asks_only_what_it_is_asked(database: Any, count_queries: list[str]) -> None:
    make_tasks(250)
    count_queries.clear()
    tasks = db.Task.get()
    assert count_queries == []
    assert len(tasks) == 250 and bool(tasks)
    assert tasks[0].id == 1 and tasks[3].id == 4 and tasks[-1].id == 250
    assert [task.id for task in tasks[10:12]] == [11, 12] and tasks[300:] == []
    assert not tasks.is_read and all(re.search("LIMIT|OFFSET|COUNT", sql) for sql in count_queries)


def test_a_list_is_read_once_and_closes_its_cursor(database: Any, count_queries: list[str]) -> None:
    make_tasks(3)
    tasks = db.Task.get()
    count_queries.clear()
    for task in tasks:
        task.name = "renamed"
        task.save()  # "database is locked", were the cursor still open
        break
    assert [task.id for task in tasks] == [1, 2, 3] and len(tasks) == 3 and tasks[1:] == list(tasks)[1:]
    assert len([sql for sql in count_queries if sql.startswith('SELECT "t1"')]) == 1


def test_a_list_compares_and_adds_like_a_list(story: SimpleNamespace) -> None:
    everyone = db.Organization.get()
    assert everyone == [story.iknl, story.oslo] and everyone != [story.iknl]
    assert everyone == db.Organization.get() and everyone == story.collaboration.organizations
    assert everyone + [story.iknl] == [story.iknl, story.oslo, story.iknl]
    assert [story.oslo] + everyone == [story.oslo, story.iknl, story.oslo]
    assert everyone.index(story.oslo) == 1 and list(reversed(everyone)) == [story.oslo, story.iknl]


def test_in_asks_for_one_row(story: SimpleNamespace, count_queries: list[str]) -> None:
    assert story.iknl in db.Organization.get() and db.Organization(id=9) not in db.Organization.get()
    assert story.task not in db.Organization.get()
    asked = [sql for sql in count_queries if "LIMIT" in sql]
    assert len(asked) == len(count_queries) == 2


def test_an_index_past_the_end_says_how_many_there_are(story: SimpleNamespace) -> None:
    read = db.Organization.get()
    assert len(list(read)) == 2
    for found in (db.Organization.get(), read, story.collaboration.organizations):
        for index in (2, -3, 10**30):
            with pytest.raises(IndexError, match=f"^there are 2 organizations: no index {index}$") as raised:
                found[index]
            assert isinstance(raised.value, NotFound)
    with pytest.raises(IndexError, match="there is 1 node: no index 1"):
        db.Node.get()[1]


def test_peewee_queries_give_the_same_kind_of_list(story: SimpleNamespace) -> None:
    found = db.Organization.get().where(db.Organization.name.startswith("O"))
    assert found == [story.oslo] and len(found) == 1
    assert db.Organization.select().order_by(db.Organization.id.desc()) == [story.oslo, story.iknl]
    limited = db.Organization.get().limit(1)
    assert limited == [story.iknl] and limited[5:] == []
    assert db.Organization.get().limit(1)[:5] == [story.iknl]


def test_an_iterator_streams_the_same_entities(database: Any) -> None:
    make_tasks(300)
    streamed = db.Task.get().iterator()
    assert next(streamed) == db.Task.get(1) and [task.id for task in streamed] == list(range(2, 301))


def test_joins_aliases_and_dicts_work_as_in_peewee(story: SimpleNamespace) -> None:
    joined = db.Node.select(db.Node, db.Organization).join(db.Organization)
    assert [node.organization.name for node in joined] == ["IKNL"]
    counted = db.Task.select(db.Task, db.Task.id.alias("twice"))
    assert counted[0].twice == 1 and counted[0].name == "average"
    rows = list(db.Result.select(db.Result.assigned_at, db.Result.status).dicts())
    assert rows[0]["assigned_at"].tzinfo is not None and rows[0]["status"] == "pending"


def test_a_repr_shows_the_first_and_counts_the_rest(database: Any, count_queries: list[str]) -> None:
    make_tasks(30)
    count_queries.clear()
    shown = repr(db.Task.get())
    assert shown.startswith('[<Task 1 "task 0">, <Task 2 "task 1">') and shown.endswith(", … 10 more]")
    assert len(count_queries) <= 2


def test_links_of_a_list_are_read_by_one_query(story: SimpleNamespace, count_queries: list[str]) -> None:
    for number in range(30):
        db.Task(name=f"task {number}", collaboration=story.collaboration, initiator=story.oslo).save()
    count_queries.clear()
    assert {task.collaboration.name for task in db.Task.get()} == {"ROTTERDAM"}
    assert {task.initiator and task.initiator.name for task in db.Task.get()} == {"IKNL", "Oslo"}
    assert len(count_queries) == 4


# Completeness


@pytest.mark.parametrize("count", [5, 500])
def test_complete_over_a_list_costs_two_queries(database: Any, count_queries: list[str], count: int) -> None:
    make_tasks(count)
    count_queries.clear()
    complete = [task for task in db.Task.get() if task.complete]
    assert len(complete) == count // 2 and len(count_queries) == 2
    assert {task.status for task in complete} == {"completed"} and len(count_queries) == 2


def test_complete_over_a_copied_or_filtered_list_costs_two_queries(database: Any, count_queries: list[str]) -> None:
    make_tasks(100)
    count_queries.clear()
    tasks = list(db.Task.get().where(db.Task.id > 50))
    gc.collect()
    assert sum(task.complete for task in tasks) == 25 and len(count_queries) == 2


def test_more_tasks_than_fit_one_in_list_cost_two_queries(path: Path, database: Any, count_queries: list[str]) -> None:
    with database.atomic():
        database.execute_sql("INSERT INTO organization (name) VALUES ('one')")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) "
        database.execute_sql("INSERT INTO task (id, name) " + numbers + "SELECT i, 'task' FROM n")
        database.execute_sql("INSERT INTO result (task_id, organization_id) " + numbers + "SELECT i, 1 FROM n")
        database.execute_sql("UPDATE result SET finished_at = '2026-03-01 00:00:00.000000+00:00' WHERE task_id % 3 = 0")
    count_queries.clear()
    assert len([task for task in db.Task.get() if task.complete]) == 4000 and len(count_queries) == 2


def test_a_task_without_results_is_empty_and_not_complete(story: SimpleNamespace) -> None:
    empty = db.Task(name="empty")
    empty.save()
    assert (empty.status, empty.complete, empty.progress, empty.finished_at) == ("empty", False, (0, 0), None)


def test_the_status_of_a_task_is_the_first_that_holds(story: SimpleNamespace) -> None:
    first, second = story.results
    assert story.task.status == "pending"
    first.started_at = now()
    first.save()
    assert story.task.status == "active"
    first.finished_at = now()
    first.save()
    assert story.task.status == "pending" and story.task.progress == (1, 2)
    second.status = "unknown error"
    second.save()
    assert story.task.status == "failed" and story.task.complete
    assert story.task.finished_at == first.finished_at


@pytest.mark.parametrize("how", ["save", "delete", "bulk", "sql", "relink", "new"])
def test_completeness_is_never_stale_after_a_write(story: SimpleNamespace, database: Any, how: str) -> None:
    tasks = list(db.Task.get()) + list(db.Task.get())
    other = db.Task(name="other", collaboration=story.collaboration)
    other.save()
    tasks += list(db.Task.get())
    assert [task.complete for task in tasks] == [False] * 4
    first, second = story.results
    first.finished_at = now()
    first.save()
    if how == "save":
        second.finished_at = now()
        second.save()
    elif how == "delete":
        second.delete()
    elif how == "bulk":
        db.Result.update(finished_at=now()).where(db.Result.id == second.id).execute()
    elif how == "sql":
        database.execute_sql("UPDATE result SET finished_at = '2026-03-01 00:00:00.000000+00:00'")
    elif how == "relink":
        second.task = other
        second.save()
    else:
        second.delete()
        assert tasks[0].complete
        db.Result(task=story.task, organization=story.oslo).save()
    expected = how != "new"
    assert [task.complete for task in tasks if task == story.task] == [expected] * 3


def test_a_rollback_takes_back_what_was_read_in_the_transaction(story: SimpleNamespace, database: Any) -> None:
    tasks = list(db.Task.get()) + list(db.Task.get())
    with pytest.raises(ZeroDivisionError), database.atomic():
        for result in story.results:
            result.finished_at = now()
            result.save()
        assert all(task.complete for task in tasks)
        raise ZeroDivisionError
    assert not any(task.complete for task in tasks)


def test_saving_a_result_takes_back_what_was_read_of_its_task_only(database: Any, count_queries: list[str]) -> None:
    make_tasks(50)
    tasks = list(db.Task.get())
    assert sum(task.complete for task in tasks) == 25
    result = db.Result.get(1)
    result.finished_at = now()
    result.save()
    count_queries.clear()
    assert sum(task.complete for task in tasks) == 25 and tasks[0].progress == (1, 2)
    assert len(count_queries) == 1 and f"IN ({database.param})" in count_queries[0]


def test_many_saves_between_two_looks_cost_one_query(database: Any, count_queries: list[str]) -> None:
    make_tasks(20)
    tasks = list(db.Task.get())
    assert sum(task.complete for task in tasks) == 10
    for result in db.Result.get():
        result.finished_at = now()
        result.save()
    count_queries.clear()
    assert all(task.complete for task in tasks) and len(count_queries) == 1


def test_a_task_that_came_alone_is_asked_anew_each_time(story: SimpleNamespace, path: Any) -> None:
    import sqlite3

    task = db.Task.get(1)
    assert not task.complete
    with sqlite3.connect(path) as other:
        other.execute("UPDATE result SET finished_at = '2026-03-01 00:00:00.000000+00:00'")
    other.close()
    assert task.complete


def uses_an_index(database: Any, sql: str, params: Any) -> bool:
    if database.is_sqlite:
        plan = " ".join(row[3] for row in database.execute_sql("EXPLAIN QUERY PLAN " + sql, params))
        return "USING" in plan and "INDEX" in plan
    with database.atomic():  # so few rows are read one by one, and in order, if they may be
        database.execute_sql("SET LOCAL enable_seqscan = off")
        database.execute_sql("SET LOCAL enable_indexscan = off")
        return "Index Cond" in " ".join(row[0] for row in database.execute_sql("EXPLAIN " + sql, params))


def test_what_the_guide_looks_up_is_indexed(database: Any) -> None:
    make_tasks(10)
    for query in (
        db.Organization.get().where(db.Organization.name == "x"),
        db.User.get().where(db.User.username == "x"),
        db.User.get().where(db.User.organization == 1),
        db.Task.get().where(db.Task.collaboration == 1),
        db.Task.get().where(db.Task.parent == 1),
        db.Task.get().where(db.Task.initiator == 1),
        db.Result.get().where(db.Result.task == 1),
        db.Result.get().where(db.Result.organization == 1),
        db.Node.get().where(db.Node.collaboration == 1),
        db.Member.select().where(db.Member.collaboration == 1),
        db.Member.select().where(db.Member.organization == 1),
    ):
        assert uses_an_index(database, *query.sql()), query.sql()


def test_a_link_to_a_row_that_does_not_exist_says_so(story: SimpleNamespace) -> None:
    story.node.organization = 55
    with pytest.raises(Error, match='node 1 "IKNL node" is linked to organization 55, which does not exist'):
        _ = story.node.organization
