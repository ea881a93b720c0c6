"""Fixtures of all tests: each test has its own home and its own new database."""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bcrypt
import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside the tests

from helpers import postgres, promises

import models
from vserverlib import hashing
from vserverlib.databases import storage
from vserverlib.examples import demo

KINDS = ["sqlite", "postgres"]
TAKE_SECONDS = ("test_walks", "test_userguide", "test_shell_completion", "test_console", "test_disks", "test_many")

# Examples of each property; --hypothesis-profile many tries more.
SLOW_AT_TIMES = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("few", max_examples=15, deadline=None, suppress_health_check=SLOW_AT_TIMES)
settings.register_profile("many", settings.get_profile("few"), max_examples=200)
settings.load_profile("few")


# Ignored in a background job or under nohup, and so in all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New folders, numbered: mktemp() would list all existing ones each time."""
    parent = tmp_path_factory.mktemp("homes")
    return (parent / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _home_of_its_own(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the data of the user who runs it."""
    home = next(_homes)
    home.mkdir()
    for name in (
        "VSERVER_ACTOR",
        "VSERVER_DATABASE",
        "VSERVER_STRICT",
        "VSERVER_THEME",
        "VSERVER_HOME",
        "NO_COLOR",
        "COLUMNS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))


@pytest.fixture(autouse=True)
def _promises_start_anew(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that docs/reliability.md names for a promise starts a new Python each time, with nothing imported."""
    if promises.is_held_by(request.node):
        monkeypatch.setenv("VSERVER_PLAIN_STARTS", "1")


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real bcrypt with the fewest rounds: 2 ms a hash in place of 0.3 s."""
    monkeypatch.setattr(hashing, "ROUNDS", 4)


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, whose API keys are hashed with the fewest rounds."""
    return storage.create(tmp_path_factory.mktemp("made") / "vserver.db", bcrypt.gensalt(4).decode())


@pytest.fixture
def path(tmp_path: Path, _made: Path, quick_hashes: None) -> Path:
    """The path of a new, empty database: a copy, five times as fast as creating one."""
    return Path(shutil.copy(_made, tmp_path / "vserver.db"))


@pytest.fixture(scope="session")
def _example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.create(tmp_path_factory.mktemp("example") / "vserver.db")


@pytest.fixture
def example(tmp_path: Path, _example: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example data, in vserver.db of the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(_example, tmp_path / "vserver.db"))


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_hashes: None) -> Iterator[None]:
    """An empty current folder; a database that the test leaves open is closed."""
    monkeypatch.chdir(tmp_path)
    yield
    if models.database.obj is not None and not models.database.is_closed():
        models.database.close()


@pytest.fixture
def consortium(example: Path) -> Iterator[Any]:
    """The example data, open."""
    opened = models.connect(example)
    yield opened
    opened.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import all modules, each worker beginning with others, so that it finds most of them rewritten by another.

    Otherwise each worker rewrites the asserts of all, which takes 6 seconds of a processor.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source != pytest.Config.ArgsSource.TESTPATHS:
        return
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    first = len(names) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    for name in names[first:] + names[:first]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # reported when the module is collected
            importlib.import_module(name)
    sys.dont_write_bytecode = before


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through all collected tests again and again."""
    gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of -n auto: one more than processors, because some wait for a terminal or a lock."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow modules first, so that short tests are left for all workers at the end."""
    items.sort(key=lambda item: item.path.stem not in TAKE_SECONDS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have each test with a database run on a file of SQLite and on a server of PostgreSQL.

    Tests that also take its path, modules with `KINDS = ["sqlite"]` and tests marked `sqlite` run on a file only.
    """
    if "kind" in metafunc.fixturenames:
        is_about_sqlite = "path" in metafunc.fixturenames or metafunc.definition.get_closest_marker("sqlite")
        kinds = ["sqlite"] if is_about_sqlite else KINDS
        metafunc.parametrize("kind", getattr(metafunc.module, "KINDS", kinds))


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL server of this run's own."""
    with postgres.running() as started:
        yield started


@pytest.fixture
def copy(theirs: Any) -> Iterator[Any]:
    """A working copy of the server's database that a module calls `theirs`."""
    from helpers import vantage6_servers

    opened = vantage6_servers.opened(theirs)
    yield opened
    opened.close()


@pytest.fixture
def url(server: postgres.Server, quick_hashes: None) -> Iterator[str]:
    """The URL of a new, empty database on a PostgreSQL server."""
    with server.database() as made:
        yield made


@pytest.fixture
def bare(server: postgres.Server) -> Iterator[str]:
    """The URL of a database without any tables."""
    with server.bare() as made:
        yield made


@pytest.fixture
def older_url(bare: str) -> str:
    """The URL of a database of schema 1, with rows as its release wrote them."""
    return postgres.made_older(bare)


@pytest.fixture
def programs(server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the server's own pg_dump and pg_restore, which are on PATH; the current folder is the test's."""
    (folder,) = server.run("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    monkeypatch.setenv("PATH", folder)
    monkeypatch.chdir(tmp_path)
    return Path(folder)


@pytest.fixture
def address(kind: str, request: pytest.FixtureRequest) -> str:
    """The argument of -d for a new, empty database."""
    return str(request.getfixturevalue("path" if kind == "sqlite" else "url"))


@pytest.fixture
def database(address: str) -> Iterator[Any]:
    """A new, empty database that the models are bound to."""
    opened = models.connect(address)
    yield opened
    if not opened.is_closed():
        opened.close()


@pytest.fixture
def story(database: Any) -> SimpleNamespace:
    """Two organizations in a collaboration, a node, and a task with a result of each organization."""
    iknl = models.Organization(name="IKNL", country="Netherlands")
    oslo = models.Organization(name="Oslo", country="Norway")
    iknl.save()
    oslo.save()
    collaboration = models.Collaboration(name="ROTTERDAM", encrypted=False, organizations=[iknl, oslo])
    collaboration.save()
    node = models.Node(name="IKNL node", organization=iknl, collaboration=collaboration)
    node.save()
    task = models.Task(name="average", image="harbor/average", collaboration=collaboration, initiator=iknl)
    task.save()
    results = [models.Result(task=task, organization=each) for each in (iknl, oslo)]
    for result in results:
        result.save()
    return SimpleNamespace(iknl=iknl, oslo=oslo, collaboration=collaboration, node=node, task=task, results=results)


@pytest.fixture
def count_queries(database: Any) -> Iterator[list[str]]:
    """The statements that were run since the fixture began."""
    seen: list[str] = []
    database.query_hooks.append(lambda event: seen.append(event.sql))
    yield seen
    database.query_hooks.clear()


@pytest.fixture
def closed_folder(path: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody can read and nobody can write to."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    folder = tmp_path / "closed"
    folder.mkdir()
    yield folder
    folder.chmod(0o755)
