"""An algorithm in the shapes that public algorithms of the 4.x line have. Module of VSERVER_VANTAGE6_CLIENT."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from vantage6.algorithm.client import AlgorithmClient
from vantage6.algorithm.tools.decorators import (
    RunMetaData,
    algorithm_client,
    data,
    database_connection,
    metadata,
)
from vantage6.algorithm.tools.exceptions import InputError
from vantage6.algorithm.tools.util import error, info, warn


@algorithm_client
def central(client: AlgorithmClient, column: str, at_least: int = 0) -> dict[str, Any]:
    """The average of a column; organizations with fewer rows than `at_least` fail."""
    organizations = [each["id"] for each in client.organization.list()]
    info("Defining input parameters")
    input_ = {"method": "partial", "kwargs": {"column": column, "at_least": at_least}}
    info("Creating subtask for all organizations in the collaboration")
    task = client.task.create(input_=input_, organizations=organizations, name="partial", description="of central")
    info("Waiting for results")
    results = client.wait_for_results(task_id=task["id"])
    warn(f"{len(results)} of {len(organizations)} answered")
    count = sum(each["count"] for each in results)
    return {"average": sum(each["sum"] for each in results) / count, "count": count, "answers": len(results)}


@data(1)
def partial(df: pd.DataFrame, column: str, at_least: int) -> dict[str, float]:
    info(f"{len(df)} rows")
    if len(df) < at_least:
        error("too few rows")
        raise InputError(f"there are fewer than {at_least} rows")
    return {"sum": float(df[column].sum()), "count": int(df[column].count())}


@data(2)
def two(first: pd.DataFrame, second: pd.DataFrame) -> list[list[str]]:
    return [list(first.columns), list(second.columns)]


@algorithm_client
@data(1)
def both(df: pd.DataFrame, client: AlgorithmClient, factor: int) -> list[Any]:
    return [client.node_id, len(df) * factor]


@metadata
def about(found: RunMetaData, text: str) -> dict[str, Any]:
    (found.temporary_directory / "state").write_text(text)
    return {key: str(value) for key, value in asdict(found).items()}


@database_connection(types=["OMOP"])
def connected(connection: Any, meta: Any) -> int:
    return 1


def setting(name: str) -> str | None:
    return os.environ.get(name)


def noise() -> float:
    return float(np.random.normal())


def leave() -> None:
    sys.exit("enough")


def not_json() -> Any:
    return np.int64(1)


def files() -> list[str]:
    return sorted(each.name for each in Path().iterdir())
