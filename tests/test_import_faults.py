"""Imports that end before their end: a process that is killed, a full disk. The target is as before, or as after."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_faults import chance, full_disk, killed, sound  # noqa: F401  # fixtures
from test_undoing import tables

import models as db
from vserverlib import Error
from vserverlib.databases import recording
from vserverlib.drivers import peewee
from vserverlib.transfer import detection, importer

DATA = Path(__file__).parent / "data"
IMPORT = """
from vserverlib.transfer import detection, importer
with detection.opened("server.sqlite") as source:
    importer.{act}(source, path, **{options})
print("done", flush=True)
"""
WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "new": (importer.run, {}),
    "empty": (importer.run, {}),
    "merge": (importer.merge, {}),
    "replace": (importer.run, {"replace": True}),
}


@pytest.fixture
def server(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "v4.15.2.sqlite", tmp_path / "server.sqlite"))


def content(path: Path) -> Any:
    with closing(db.connect(path)) as database:
        return tables(database)


def fill(path: Path) -> None:
    with closing(db.connect(path)):
        for name in ("IKNL", "Noordzee Kliniek"):
            db.Organization(name=name, domain="ours.example").save()


def after_all(server: Path, path: Path, way: str) -> Any:
    """Return what a database holds after an import that nobody ends, done in a copy of it."""
    copy = path.with_name("copy.db")
    if path.exists():
        shutil.copy(path, copy)
    act, options = WAYS[way]
    with detection.opened(str(server)) as source:
        act(source, copy, **options)
    return content(copy)


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_killed_while_importing(path: Path, server: Path, way: str, chance: random.Random) -> None:  # noqa: F811
    if way == "new":
        path.unlink()
    elif way != "empty":
        fill(path)
    before, after = content(path) if path.exists() else None, after_all(server, path, way)
    act, options = WAYS[way]
    done = killed(IMPORT.format(act=act.__name__, options=options), path.parent, chance)
    if not path.exists():
        assert before is None and not done
        return
    with sound(path) as database:
        assert tables(database) in ([after] if done or before is None else [before, after])


@pytest.mark.parametrize("way", WAYS)
def test_an_import_that_finds_the_disk_full_changes_nothing(
    path: Path,
    server: Path,
    full_disk: Callable[[int], None],  # noqa: F811
    way: str,
) -> None:
    if way in ("replace", "merge"):
        fill(path)
    target = path.with_name("new.db") if way == "new" else path
    before, names = content(path), {each.name for each in path.parent.iterdir()}
    act, options = WAYS[way]
    with closing(sqlite3.connect(server)) as conn:
        conn.execute("UPDATE run SET log = printf('%09000d', id)")
        conn.commit()
    with detection.opened(str(server)) as source:
        full_disk(path.stat().st_size + 20_000)
        with pytest.raises((Error, peewee.PeeweeException), match="full|written"):
            act(source, target, **options)
        full_disk(0)
    assert content(path) == before and {each.name for each in path.parent.iterdir()} == names


def test_a_copy_of_a_source_that_finds_the_disk_full_is_one_line(
    path: Path,
    server: Path,
    full_disk: Callable[[int], None],  # noqa: F811
) -> None:
    full_disk(server.stat().st_size // 2)
    with (
        pytest.raises(Error, match=r"server\.sqlite cannot be copied to .*(full|large)"),
        detection.opened(str(server)),
    ):
        pass
    full_disk(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_import_that_a_signal_ends_leaves_nothing_and_says_so(
    path: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with closing(db.connect(path)) as database:
        rows = [(f"n{number}", "d" * 100) for number in range(100_000)]
        with recording.bulk_change(database, "made for this"):
            database.insert_many("organization", ("name", "domain"), rows)
        database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    words = [sys.executable, "-m", "vserver", "-d", "new.db", "import", path.name]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob(".new.db.*-wal")):
            time.sleep(0.001)
        process.send_signal(number)
        output = process.communicate()[1]
    assert process.returncode == (130 if number == signal.SIGINT else -number) and "nothing was imported\n" in output
    assert not [file.name for file in tmp_path.iterdir() if "new" in file.name]


def test_an_import_is_reported_even_if_its_table_cannot_be_written(server: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "vserver", "-d", "new.db", "import", server.name]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "imported into the new new.db" in done.stderr
    assert done.stderr.endswith("No space left on device: the output is incomplete\n")
    assert (tmp_path / "new.db").exists()
