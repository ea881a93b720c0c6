"""`show -o json`: the row of the list, and under `related` what the panel shows, all of it, as the schema says."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from helpers.process import vserver
from helpers.terminal import environment

import models as db
from vserverlib.entities.fields import now
from vserverlib.queries import related

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "schema.json").read_text())


def shown(address: str, reference: str) -> Any:
    """Return what `show` prints of an entity, which matches its schema and begins with its row of `list`."""
    done = vserver("-d", address, "show", reference, "-o", "json")
    assert (done.status, done.err) == (0, "")
    found, noun = json.loads(done.out), reference.partition("/")[0]
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{noun}_shown", **SCHEMA}, format_checker=checker).validate(found)
    rows = json.loads(vserver("-d", address, "list", f"{noun}s", "-o", "json").out)
    assert {**found, "related": None} in [{**row, "related": None} for row in rows]
    return found["related"]


def matching(name: str, value: Any) -> None:
    """Assert that a value matches a schema, and that the schema refuses it with another key or without one."""
    checker = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", **SCHEMA})
    checker.validate(value)
    assert not checker.is_valid({**value, "other": 1}) and not checker.is_valid(dict([*value.items()][1:]))


def test_why_and_check_match_their_schemas(story: SimpleNamespace, address: str) -> None:
    failed = story.results[0]
    failed.status, failed.log = "failed", "one\ntwo"
    failed.save()
    db.Task(name="child", parent=story.task, collaboration=story.collaboration).save()
    found = json.loads(vserver("-d", address, "why", "1", "-o", "json").out)
    assert found["awaited"] and found["failed"][0]["log"] == ["one", "two"] and found["children"]
    matching("why", found)
    with db.database.rule_checks(False):
        db.User(username="9").save()
    findings = json.loads(vserver("-d", address, "check", "-o", "json").out)
    assert {"USR001", "COL003"} <= {finding["code"] for finding in findings}
    for finding in findings:
        matching("finding", finding)


def test_a_task_has_its_results_nodes_parents_and_children(story: SimpleNamespace, address: str) -> None:
    first, second = story.task.results.order_by(db.Result.id)
    first.started_at, first.finished_at = first.assigned_at, now()
    first.save()
    story.node.last_seen = "2026-03-01 09:30"
    story.node.save()
    for parent in (story.task, None):
        db.Task(name="step", parent=parent, collaboration=story.collaboration).save()
    found = shown(address, "task/1")
    one, two = found["results"]
    assert (one["organization"], one["status"], one["waited"]) == ("IKNL", "completed", 0.0)
    assert one["ran"] >= 0 and (one["node_id"], one["node"]) == (story.node.id, "IKNL node")
    assert one["node_last_seen"] == "2026-03-01T09:30:00Z"
    assert (two["organization"], two["status"], two["ran"], two["node_id"]) == ("Oslo", "pending", None, None)
    assert two["waited"] > 0 and found["parents"] == []
    assert [(row["id"], row["status"], row["total"]) for row in found["children"]] == [(2, "empty", 0)]
    assert [row["id"] for row in shown(address, "task/2")["parents"]] == [1]
    assert second.id == two["id"]


def test_a_collaboration_has_its_organizations_nodes_and_tasks(story: SimpleNamespace, address: str) -> None:
    found = shown(address, "collaboration/1")
    assert [(row["name"], row["node"]) for row in found["organizations"]] == [("IKNL", "IKNL node"), ("Oslo", None)]
    assert [(row["name"], row["organization"]) for row in found["nodes"]] == [("IKNL node", "IKNL")]
    assert found["tasks"]["pending"] == 1 and sum(found["tasks"].values()) == 1


def test_an_organization_and_a_node_have_what_they_owe(story: SimpleNamespace, address: str) -> None:
    db.User(username="anna", organization=story.iknl, email="a@b.nl").save()
    found = shown(address, "organization/1")
    assert [(row["task"], row["status"]) for row in found["awaited"]] == [("average", "pending")]
    assert [row["username"] for row in found["users"]] == ["anna"]
    assert [row["name"] for row in found["collaborations"]] == ["ROTTERDAM"]
    assert [row["collaboration"] for row in found["nodes"]] == ["ROTTERDAM"]
    assert shown(address, "node/1")["awaited"] == found["awaited"]
    assert shown(address, "user/1") == shown(address, "result/1") == {}


def test_all_rows_are_there_in_a_fixed_number_of_queries(
    story: SimpleNamespace, database: Any, count_queries: list[str]
) -> None:
    entities = (story.task, story.collaboration, story.iknl)
    numbers = []
    for _ in range(2):
        del count_queries[:]
        found = [related.document(type(each).get(each.id))["related"] for each in entities]
        numbers.append(len(count_queries))
        with database.atomic():
            for number in range(30):
                organization = db.Organization(name=f"more {number}", country="Norway")
                organization.save()
                story.collaboration.organizations.append(organization)
                db.Result(task=story.task, organization=story.iknl).save()
                db.Task(name="child", parent=story.task).save()
            story.collaboration.save()
    assert numbers[0] == numbers[1]
    found = [related.document(type(each).get(each.id))["related"] for each in entities]
    assert len(found[0]["results"]) == 62 and len(found[0]["children"]) == 60
    assert len(found[1]["organizations"]) == 62 and len(found[2]["awaited"]) == 61


@pytest.mark.sqlite
def test_values_of_other_programs_are_printed(story: SimpleNamespace, address: str, database: Any) -> None:
    database.close()
    with closing(sqlite3.connect(address)) as conn, conn:
        conn.execute("UPDATE node SET last_seen = 'soon', organization_id = 'x', status = X'ff'")
        conn.execute("UPDATE result SET organization_id = NULL, assigned_at = 'then' WHERE id = 1")
        conn.execute("UPDATE task SET parent_id = 1")
        conn.execute("UPDATE result SET organization_id = 'x' WHERE id = 2")
    for reference in ("task/1", "collaboration/1", "organization/1", "node/1", "result/1"):
        for output in ("json", "yaml"):
            done = vserver("-d", address, "show", reference, "-o", output)
            assert (done.status, done.err) == (0, ""), done


# All rows for programs


@pytest.mark.parametrize("output", ["json", "jsonl", "csv", "yaml", "name"])
def test_programs_get_all_rows_unless_they_ask_for_a_page(output: str, example: Path) -> None:
    def rows(*words: str) -> tuple[int, str]:
        done = vserver("list", "results", "-o", output, *words, cwd=example.parent)
        assert done.status == 0
        marks = {"json": '{"id"', "jsonl": '{"id"', "yaml": "- id:", "name": "result/", "csv": ",2026-"}
        lines = [line for line in done.out.splitlines() if marks[output] in line]
        return len(lines), done.err

    assert rows() == rows("--all") == (69, "")
    assert rows("--limit", "5") == (5, "64 more: --page 2, or --all; --newest begins with the newest\n")
    assert rows("--limit", "60", "--page", "2") == (9, "")
    assert rows("--page", "1")[0] == 50


def test_the_newest_come_first(example: Path) -> None:
    done = vserver("list", "tasks", "--newest", "--limit", "2", "-o", "name", cwd=example.parent)
    assert (done.out, done.err) == ("task/24\ntask/23\n", "22 more: --page 2, or --all\n")
    refused = vserver("list", "tasks", "--newest", "--sort", "name", cwd=example.parent)
    assert refused.status == 2 and "leave out --sort" in refused.err


@pytest.mark.long
def test_a_long_list_takes_constant_memory_and_ends_with_its_reader(address: str, database: Any) -> None:
    """In fifty megabytes of results, which each has a log."""
    long = "x" * 5_000
    with database.atomic():
        for _ in range(10):
            db.Result.insert_many([{"log": long} for _ in range(1000)]).execute()
    database.close()
    measured = "import resource, sys, vserver\ntry: vserver.main(prog_name='vserver')\nfinally: print("
    measured += "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"

    def run(*words: str, end: str = "wc -c") -> tuple[int, int]:
        line = f'"$0" -c "$1" -d "$2" {" ".join(words)} | {end}'
        command = ["sh", "-c", line, sys.executable, measured, address]
        env = environment(Path(os.environ["HOME"]))
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        *messages, kilobytes = done.stderr.splitlines()
        assert all("more:" in line for line in messages), done.stderr
        return len(done.stdout), int(kilobytes)

    (_, small), (_, large) = run("list results -o jsonl --limit 1"), run("list results -o jsonl")
    assert run("list results -o jsonl", end="head -c 1000")[0] == 1000
    assert large - small < 25_000  # kilobytes
