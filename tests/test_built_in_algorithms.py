"""The algorithms that are built in: their results, against the CSV files, and their thresholds."""

from __future__ import annotations

import collections
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import our_node, our_server
from helpers.our_node import Federation
from helpers.our_server import Client
from helpers.runs import Bench, bench

from vserverlib.nodes.algorithms import average, crosstab

AVERAGE, CROSSTAB = "vserver/average", "vserver/crosstab"
HEADER = ("age", "sex", "stage")
SITES = {
    1: [(40, "f", "I")] * 7 + [(50, "m", "II")] * 9 + [("", "f", "II")] * 2,
    2: [(61, "f", "I")] * 5 + [(63, "m", "III")] * 6 + [(64, "m", "")] * 5,
    3: [(70, "f", "I")] * 6 + [(71, "m", "II")] * 4,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A user at a server, with three nodes that have the built-in algorithms and no pandas."""
    folder = tmp_path_factory.mktemp("federation")
    from vserverlib.databases import storage

    path = storage.create(folder / "vserver.db")
    our_server.fill_with_root(path)
    federation = Federation(path, len(SITES))
    with our_server.running(path, folder, "-q") as server:
        algorithms = {AVERAGE: {"file": average.__file__}, CROSSTAB: {"file": crosstab.__file__}}
        file = federation.write(folder / "sites", server.port, algorithms=algorithms)
        for site, rows in SITES.items():
            with (folder / "sites" / f"site{site}.csv").open("w", newline="") as table:
                csv.writer(table).writerows([HEADER, *rows])
        with our_node.running(file) as node:
            node.until("3 nodes online")
            found = server.client()
            found.log_in()
            yield found


def answer(client: Client, image: str, method: str, **kwargs: Any) -> Any:
    task = our_node.post(client, method, sites=(1,), image=image, **kwargs)
    (run,) = our_node.until(client, task)
    assert run["status"] == "completed", run["log"]
    return our_node.results_of(client, task)[0]


def test_the_average_is_that_of_all_values(client: Client) -> None:
    ages = [age for rows in SITES.values() for age, _, _ in rows if age != ""]
    found = answer(client, AVERAGE, "central_average", column_name="age")
    assert found == {"average": sum(ages) / len(ages), "count": len(ages), "organizations": 3}
    first = [age for age, _, _ in SITES[1] if age != ""]
    found = answer(client, AVERAGE, "central_average", column_name="age", organizations_to_include=[1])
    assert found == {"average": sum(first) / len(first), "count": len(first), "organizations": 1}


def test_an_average_that_no_organization_answers_says_where_to_look(client: Client) -> None:
    for column, reason in (("weight", "no column weight; it has: age, sex, stage"), ("sex", "has texts")):
        task = our_node.post(client, "central_average", image=AVERAGE, column_name=column)
        (run,) = our_node.until(client, task)
        assert run["status"] == "crashed" and "see the logs of the subtask's runs" in run["log"]
        partial = our_node.until(client, task + 1)
        assert all(reason in each["log"] for each in partial)


def test_a_crosstab_adds_counts_and_shows_small_ones_as_ranges(client: Client) -> None:
    table = answer(client, CROSSTAB, "central_crosstab", results_col="stage", group_cols=["sex"])
    expected = []
    counts = {site: collections.Counter((sex, stage or "N/A") for _, sex, stage in SITES[site]) for site in SITES}
    for sex in "fm":
        row: dict[str, Any] = {"sex": sex}
        for stage in ("I", "II", "III", "N/A"):
            cells = [counts[site][sex, stage] for site in SITES]
            least = sum(cell for cell in cells if cell >= 5)
            greatest = sum(cell if cell >= 5 else 4 for cell in cells)
            row[stage] = least if least == greatest else f"{least}-{greatest}"
        expected.append(row)
    assert table == expected and table[0]["I"] == 18 and table[0]["II"] == "0-12"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("site"), python=sys.executable) as made:
        made.csv("default", "age,sex\n1,f\n2,f\n,m\n4,\n5,f\n")
        yield made


def test_a_node_with_few_values_answers_only_if_its_file_says_so(site: Bench) -> None:
    site.file.write_text(Path(average.__file__).read_text())
    refused = site.run("partial_average", column_name="age")
    assert refused.status == "crashed" and "privacy" in refused.log and "fewer than 5" in refused.log
    site.environment = {"AVERAGE_MINIMUM_RECORDS": "4", "CROSSTAB_PRIVACY_THRESHOLD": "2"}
    assert json.loads(site.run("partial_average", column_name="age").result or b"") == {"sum": 12, "count": 4}
    site.file.write_text(Path(crosstab.__file__).read_text())
    found = json.loads(site.run("partial_crosstab", results_col="sex", group_cols="sex").result or b"")
    cells = [[["N/A", "N/A"], None], [["f", "f"], 3], [["m", "m"], None]]
    assert found == {"threshold": 2, "cells": cells}
    site.environment = {}
    site.csv("default", "sex\nf\n")
    few = site.run("partial_crosstab", results_col="sex", group_cols="sex")
    assert few.status == "crashed" and "privacy" in few.log
