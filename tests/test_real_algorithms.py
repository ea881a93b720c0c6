"""Algorithms written with vantage6's own tools, unmodified, in runs of ours: only with VSERVER_VANTAGE6_CLIENT."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import our_node, our_server, real_client
from helpers.our_node import IMAGE, Federation
from helpers.runs import IDENTITY, Bench, bench

from vserverlib.nodes.jobs import Algorithm, Database

pytestmark = pytest.mark.vantage6_client
SHAPES = real_client.PROGRAMS / "public_shapes.py"
ROWS = "age,sex\n10,f\n20,m\n30,f\n"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A workshop whose algorithm is the file of shapes, and whose Python has the tools."""
    with bench(tmp_path_factory.mktemp("tools"), SHAPES.read_text(), python=real_client.PYTHON) as made:
        made.csv("default", ROWS)
        made.csv("second", "code\n1\n")
        yield made


def returned(tools: Bench, method: str, *args: Any, **kwargs: Any) -> Any:
    outcome = tools.run(method, *args, **kwargs)
    assert outcome.status == "completed", outcome.log
    return json.loads(outcome.result or b"")


def test_decorators_give_data_client_and_metadata(tools: Bench) -> None:
    assert returned(tools, "partial", column="age", at_least=1) == {"sum": 60.0, "count": 3}
    assert sorted(returned(tools, "two")) == [["age", "sex"], ["code"]]
    assert returned(tools, "both", factor=2) == [IDENTITY["node_id"], 6]
    about = returned(tools, "about", "kept")
    assert about["organization_id"] == "2" and about["output_file"].endswith("/output")
    outcome = tools.run("partial", column="age", at_least=1)
    assert "info > 3 rows\n" in outcome.log and "info > wrapper for algorithm" in outcome.log


def test_failures_are_crashes_with_the_tools_own_log(tools: Bench) -> None:
    expected = {"connected": "OHDSI/DatabaseConnector is not available", "not_json": "not JSON serializable"}
    for method, text in {**expected, "leave": "enough", "nothing": "Method 'nothing' not found"}.items():
        outcome = tools.run(method)
        assert outcome.status == "crashed" and outcome.result is None and text in outcome.log, outcome
    assert "error > too few rows" in tools.run("partial", column="age", at_least=9).log


def test_a_database_is_queried_and_prepared_as_the_task_asks(tools: Bench) -> None:
    path = tools.folder / "site.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE patients (age)")
        database.executemany("INSERT INTO patients VALUES (?)", [(1,), (2,), (30,)])
    database.close()
    given = json.dumps({"method": "partial", "kwargs": {"column": "age", "at_least": 0}}).encode()
    asked = {"query": "SELECT age FROM patients WHERE age < 10"}
    steps = [{"function": "filter_range", "parameters": {"column": "age", "min_": 1}}]
    requested = [{"label": "default", "parameters": json.dumps({**asked, "preprocessing": steps})}]
    databases = {"default": Database(f"sqlite:///{path}", "sql")}
    job = tools.job(input=given, requested=requested, databases=databases)
    outcome = tools.start_job(job).outcome()
    assert outcome.status == "completed", outcome.log
    assert json.loads(outcome.result or b"") == {"sum": 2.0, "count": 1}


def test_a_setting_that_looks_encoded_arrives_as_it_is(tools: Bench) -> None:
    tools.environment = {"LOOKS_ENCODED": "MFRGGZDF", "PLAIN": "a=b\n'é"}
    assert returned(tools, "setting", "LOOKS_ENCODED") == "MFRGGZDF"
    assert returned(tools, "setting", "PLAIN") == "a=b\n'é"


def test_forks_of_one_interpreter_draw_different_numbers(tools: Bench) -> None:
    assert len({returned(tools, "noise") for _ in range(3)}) == 3


def test_a_function_that_names_its_parameters_for_our_wrapper_runs_beside_the_tools(tmp_path: Path) -> None:
    code = "def mean(data, column):\n    return float(data[column].mean())\ndef same(data): return data\n"
    with bench(tmp_path, code, python=real_client.PYTHON) as made:
        made.csv("default", ROWS)
        assert returned(made, "mean", column="age") == 20.0
        assert returned(made, "same", data=[1]) == [1]
        assert returned(made, "same", 2) == 2


def test_a_prefix_starts_the_tools_anew(tmp_path: Path) -> None:
    with bench(tmp_path, SHAPES.read_text(), python=real_client.PYTHON, run_with=("nice",)) as made:
        made.csv("default", ROWS)
        assert returned(made, "partial", column="age", at_least=1)["count"] == 3


def test_a_package_with_the_tools_is_imported_by_name(tmp_path: Path) -> None:
    package = tmp_path / "v6-shapes-py"
    package.mkdir()
    (package / "__init__.py").write_text("from .central import *\n")
    (package / "central.py").write_text(SHAPES.read_text())
    with bench(tmp_path, python=real_client.PYTHON) as made:
        made.csv("default", ROWS)
        made.environment = {"PYTHONPATH": str(tmp_path)}
        given = json.dumps({"method": "partial", "args": ["age", 1]}).encode()
        job = made.job(input=given, algorithm=Algorithm(real_client.PYTHON, package=package.name))
        outcome = made.start_job(job).outcome()
        assert json.loads(outcome.result or b"")["sum"] == 60.0, outcome.log
        assert "info > Module 'v6-shapes-py' imported!" in outcome.log


WORKFLOW = """
import sys
from vantage6.client import UserClient
client = UserClient("http://127.0.0.1", int(sys.argv[1]), "/api", log_level="error")
client.authenticate("root", "root")
client.setup_encryption(None)
for at_least in 0, 3:
    input_ = {"method": "central", "kwargs": {"column": "age", "at_least": at_least}}
    task = client.task.create(collaboration=1, organizations=[1], name="average", image="demo/test:1", description="",
        input_=input_, databases=[{"label": "default"}])
    (result,) = client.wait_for_results(task["id"], interval=0.1)["data"]
    print("got", result["result"], [each["status"] for each in client.run.from_task(task["id"])["data"]], flush=True)
"""


def test_the_real_client_gets_an_average_over_three_sites_also_if_one_fails(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    federation = Federation(path, 3)
    with our_server.running(path, tmp_path, "-q") as server:
        algorithms = {IMAGE: {"file": str(SHAPES), "python": real_client.PYTHON}}
        file = federation.write(tmp_path / "sites", server.port, algorithms=algorithms)
        (tmp_path / "sites" / "site2.csv").write_text("age\n1\n2\n3\n")
        with our_node.running(file) as node:
            node.until("3 nodes online")
            printed = real_client.run_code(WORKFLOW, server.port)
    everybody, one = (line for line in printed.splitlines() if line.startswith("got"))
    sites = [(1, 10), (1, 2, 3), (3, 30)]
    assert json.dumps({"average": sum(map(sum, sites)) / 7, "count": 7, "answers": 3}) in everybody
    assert json.dumps({"average": 2.0, "count": 3, "answers": 1}) in one and "completed" in one
