"""What a node has to compute: jobs, their algorithms, data and limits, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Algorithm(NamedTuple):
    """A program: a `package` that this `python` can import, or the path of a `file`."""

    python: str
    package: str = ""
    file: str = ""


class Database(NamedTuple):
    """Data of a node. type: csv, excel, parquet, sql or sparql."""

    uri: str
    type: str


class Limits(NamedTuple):
    """Limits of a run: seconds, and bytes of memory of each of its processes (0: none); parallel is for the node."""

    seconds: float
    memory: int
    parallel: int


class Job(NamedTuple):
    """A run to compute.

    input: JSON text. server: its host with http://, its port, and the path of its API. requested: the task's databases,
    as the API gives them. environment: variables for the algorithm. node_id: runs of a job at a node share a folder.
    """

    run_id: int
    task_id: int
    job_id: int
    algorithm: Algorithm
    input: bytes
    token: str
    server: tuple[str, int, str]
    requested: list[dict[str, Any]]
    databases: Mapping[str, Database]
    environment: Mapping[str, str]
    node_id: int = 0


class Outcome(NamedTuple):
    """How a run ended. status: a word of the API. result: JSON text, None without one."""

    status: str
    result: bytes | None
    log: str
