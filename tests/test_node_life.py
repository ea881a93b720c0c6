"""The life of a node: real processes of `vserver node` and `vserver start`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import our_server
from helpers.our_node import Federation
from helpers.our_server import Client, OurServer


@pytest.fixture
def federation(path: Path) -> Federation:
    our_server.fill_with_root(path)
    return Federation(path, 3)


@pytest.fixture
def serving(federation: Federation, path: Path, tmp_path: Path) -> Iterator[OurServer]:
    with our_server.running(path, tmp_path, "-q") as started:
        yield started


@pytest.fixture
def client(serving: OurServer) -> Client:
    found = serving.client()
    found.log_in()
    return found
