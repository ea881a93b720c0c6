"""A signal at any moment of any command: exit 130 or the signal's, old or new, never half, and no word of damage.

The tests marked `long` send SIGINT, SIGTERM and SIGHUP at random moments of each command, as often as
VSERVER_REPETITIONS says, on databases of VSERVER_MEGABYTES. The others stop a program at a place that is known, by a
pipe that nobody fills or a lock that somebody holds.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Container
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from click.testing import CliRunner
from helpers import vantage6_databases
from helpers.postgres import Server
from helpers.terminal import Terminal, environment
from test_connection import process_that_writes

import vserver
from vserverlib import Error
from vserverlib.examples import demo
from vserverlib.opening import opener

KINDS = ["sqlite"]

REPETITIONS = int(os.environ.get("VSERVER_REPETITIONS", "6"))
MEGABYTES = int(os.environ.get("VSERVER_MEGABYTES", "12"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PROGRAM = (sys.executable, "-m", "vserver")
LONGEST = 180.0  # seconds for what takes two on an idle machine
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
TASKS = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO task (name, image, collaboration_id, initiator_id) SELECT 'task ' || i, 'harbor/a', 1, 1 FROM n
"""
RESULTS = """
INSERT INTO result (task_id, organization_id, status, result, finished_at)
SELECT task.id, organization.id, 'completed', hex(randomblob(500)), '2026-03-01 10:00:00.000000+00:00'
FROM task JOIN organization ON organization.id < 3 WHERE task.image = 'harbor/a'
"""
# Rows of these differ each time by their times and sessions: they are counted.
COUNTED = ("change", "record", "undoing", "schema_migration", "sqlite_sequence")
SECRETS = ("password", "api_key", "value")  # columns whose hashes, or salts, differ each time


def status(number: signal.Signals) -> int:
    """Return how a process ends by a signal, as subprocess tells it."""
    return 130 if number == signal.SIGINT else -number


# What is there before and after


def digest(file: Path, counted: Container[str] = COUNTED) -> str:
    """Return what stands for all that a sound database holds; "nothing" where it is not there.

    counted: the tables of which the number of rows is all that stays the same.
    """
    if not file.exists():
        return "nothing"
    found = hashlib.sha256()
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        for (table,) in tables:
            for row in conn.execute(_all_of(conn, table, counted)):
                found.update(repr(row).encode())
        return f"{found.hexdigest()[:16]}, schema {conn.execute('PRAGMA user_version').fetchone()[0]}"


def _all_of(conn: sqlite3.Connection, table: str, counted: Container[str]) -> str:
    if table in counted:
        return f'SELECT COUNT(*) FROM "{table}"'
    columns = [name for _, name, *_ in conn.execute(f'PRAGMA table_info("{table}")')]
    listed = ", ".join(f'"{name}" IS NULL' if name in SECRETS else f'"{name}"' for name in columns)
    return f'SELECT {listed} FROM "{table}" ORDER BY 1'


def digest_there(url: str) -> str:
    """Return what stands for what a database on a server holds: the rows of all of its tables, counted."""
    query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
    with psycopg.connect(url) as conn:
        tables = [name for (name,) in conn.execute(query).fetchall()]
        counts = [conn.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone() for table in tables]  # type: ignore[call-overload]
        domains = conn.execute("SELECT domain FROM organization ORDER BY id").fetchall() if tables else []
    return f"{list(zip(tables, counts, strict=True))} {domains}"


# Databases that take a while, made once


class Fleet(NamedTuple):
    """The folder with these databases, and the server with another."""

    folder: Path
    server: Server

    def of(self, name: str) -> Path:
        return self.folder / f"{name}.db"


def widen(file: Path) -> Path:
    """Add tasks with results to a database until it has about MEGABYTES."""
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        conn.execute("BEGIN")
        kept = conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in kept:
            conn.execute(f'DROP TRIGGER "{name}"')
        conn.execute(TASKS, [MEGABYTES * 400])
        conn.execute(RESULTS)
        for _, sql in kept:
            conn.execute(sql)
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


def run(folder: Path, *words: str, given: str = "", ends: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    home, options = environment(folder, **env), {"capture_output": True, "text": True}
    done = subprocess.run([*PROGRAM, *words], cwd=folder, env=home, input=given, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == ends, done
    return done


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Fleet:
    folder = tmp_path_factory.mktemp("signals")
    made = Fleet(folder, server)
    widen(demo.create(made.of("big")))
    shutil.copy(made.of("big"), made.of("other"))
    with closing(sqlite3.connect(made.of("other"))) as conn:
        conn.execute("UPDATE organization SET domain = 'other.example'")
        conn.execute("UPDATE result SET log = 'other' WHERE id % 2")
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    old = Path(__file__).parent / "data" / "schema-1.sqlite"
    widen(Path(shutil.copy(old, made.of("older"))))
    made.of("older").chmod(0o600)
    deleted = Path(shutil.copy(made.of("big"), made.of("deleted")))
    run(folder, "-d", deleted.name, "delete", "organization", "2", "--dependents", "--yes")
    vantage6_databases.copied(
        "4.15.2",
        folder / "server.sqlite",
        [
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
            "INSERT INTO run (task_id, organization_id, status, log) "
            "SELECT 1, 1, 'completed', hex(randomblob(100)) FROM n",
        ],
    )
    entries = (f"  - name: o{number}\n    country: NL\n" for number in range(4000))
    (folder / "fixture.yaml").write_text(f"organizations:\n{''.join(entries)}collaborations: []\n")
    run(folder, "-d", "other.db", "export", "other.json")
    server.run("CREATE DATABASE vserver_big TEMPLATE template0")
    run(folder, "copy", "big.db", server.url_of("vserver_big"))
    run(folder, "-d", "other.db", "backup", "other-backup.db")
    return made


class Act(NamedTuple):
    """A command. base: of which database work.db is a copy; result: the file that is old or new in the end.

    made: a file that is whole or not there. endless: whether it never ends. between: a command that it does first, and
    reports. pg: which database on the server it works on, a copy of "big" or one that is "bare". counted: the tables
    whose rows are others at another time.
    """

    words: str
    base: str = "big"
    result: str = "work.db"
    made: str = ""
    given: str = ""
    endless: bool = False
    between: str = ""
    pg: str = ""
    counted: tuple[str, ...] = ()


ACTS = {
    "backup": Act("-d work.db backup made.db", made="made.db"),
    "backup -": Act("-d work.db backup -", made="stdout"),
    "restore": Act("-d work.db restore other-backup.db --yes"),
    "restore new": Act("-d new.db restore other-backup.db", result="new.db"),
    "import new": Act("-d new.db import other.json", result="new.db"),
    "import server": Act("-d new.db import server.sqlite", result="new.db"),
    "import merge": Act("-d work.db import --merge --yes other.db"),
    "import replace": Act("-d work.db import --replace --yes other.db"),
    "import fixture": Act("-d new.db import fixture.yaml --secrets secrets.json", result="new.db"),
    "export json": Act("-d work.db export made.json", made="made.json"),
    "export fixture": Act("-d work.db export made.yaml --secrets made-secrets.json", made="made.yaml"),
    "upgrade": Act("-d work.db upgrade", base="older"),
    "passwd, upgrade": Act("-d work.db passwd root --stdin", "older", given="Geheim-999!\n", between="upgrade"),
    "overview, older": Act("-d work.db overview", base="older"),
    "check": Act("-d work.db check -o json"),
    "delete": Act("-d work.db delete organization 2 --dependents --yes"),
    "undo": Act("-d work.db undo --yes", base="deleted"),
    "log prune": Act("-d work.db log --prune 0d --yes", base="deleted"),
    "demo": Act("-d new.db demo --tasks 5000", result="new.db", counted=("task", "result", "node", "user")),
    "init demo": Act("-d new.db init --demo", result="new.db"),
    "list": Act("-d work.db list results --all -o json"),
    "overview": Act("-d work.db overview -o json"),
    "shell save": Act("-d work.db shell save.py"),
    "shell sandbox": Act("-d work.db shell --sandbox save.py"),
    "server overview": Act("-d server.sqlite overview"),
    "wait": Act("-d work.db wait waiting", endless=True),
    "watch": Act("-d work.db watch waiting", endless=True),
    "copy to server": Act("copy work.db {url}", pg="bare"),
    "copy from server": Act("copy {url} new.db", result="new.db", pg="big"),
    "import replace there": Act("-d {url} import --replace --yes other.db", pg="big"),
    "backup there": Act("-d {url} backup made.dump", made="made.dump", pg="big"),
}
SAVE = """
with database.atomic():
    for number in range(3000):
        db.Organization(name=f"organization {number}", domain=f"o{number}.example").save()
"""
LARGE = ("copy to server", "import replace there")


class Place:
    """A folder in which a command is run again and again, each time on a fresh copy."""

    def __init__(self, act: Act, folder: Path, databases: Fleet) -> None:
        self.act, self.folder, self.databases = act, folder, databases
        self.tmp, self.home = folder / "tmp", folder / "home"
        for each in (self.tmp, self.home):
            each.mkdir()
        self.url = self.name = ""

    def prepare(self) -> None:
        """Have all be as it was."""
        for file in self.folder.iterdir():
            if file.is_file():
                file.unlink()
        shutil.rmtree(self.home)
        self.home.mkdir()
        given = {word for word in self.act.words.split() if (self.databases.folder / word).is_file()}
        for name in given:
            shutil.copy(self.databases.folder / name, self.folder / name)
        shutil.copy(self.databases.of(self.act.base), self.folder / "work.db")
        (self.folder / "save.py").write_text(SAVE)
        if "waiting" in self.act.words:
            with closing(sqlite3.connect(self.folder / "work.db")) as conn:
                conn.execute("INSERT INTO task (name) VALUES ('waiting')")
                conn.execute("INSERT INTO result (task_id) SELECT MAX(id) FROM task")
                conn.commit()
        if self.act.pg:
            self._prepare_there()

    def _prepare_there(self) -> None:
        server = self.databases.server
        if self.url:
            server.run(f"DROP DATABASE {self.name} WITH (FORCE)")
        self.name = name = f"signals{os.getpid()}_{time.monotonic_ns()}"
        template = "vserver_big STRATEGY file_copy" if self.act.pg == "big" else "template0"
        server.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        self.url = server.url_of(name)

    def start(self) -> subprocess.Popen[str]:
        """Start the command, and return it when it has come so far that signals are its own."""
        words = [word.format(url=self.url) for word in self.act.words.split()]
        env = environment(self.home, TMPDIR=str(self.tmp))
        (self.folder / "given").write_text(self.act.given)
        with open(self.folder / "given") as given, open(self.folder / "stdout", "w") as out:
            process = subprocess.Popen(
                [*PROGRAM, *words], cwd=self.folder, env=env, stdin=given, stdout=out, stderr=subprocess.PIPE, text=True
            )
        wait_until_handled(process)
        return process

    def state(self) -> str:
        """Return what stands for what the command works on."""
        if self.act.pg and self.act.result != "new.db":
            return digest_there(self.url)
        return digest(self.folder / self.act.result, (*COUNTED, *self.act.counted))


def wait_until_handled(process: subprocess.Popen[Any]) -> None:
    """Return when a process handles SIGTERM itself: before that, it is Python that is starting."""
    while process.poll() is None:
        caught = Path(f"/proc/{process.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells when a process handles signals")
@pytest.mark.parametrize("name", ACTS)
def test_a_signal_at_a_random_moment(
    name: str, databases: Fleet, tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    chance = random.Random()
    place = Place(ACTS[name], tmp_path / "place", databases) if (tmp_path / "place").mkdir() is None else None
    assert place is not None
    place.prepare()
    before, seconds, after = _uninterrupted(place)
    between = _between(place)
    for number, _ in zip(itertools.cycle(SIGNALS), range(REPETITIONS), strict=False):
        place.prepare()
        process, waited = place.start(), chance.uniform(0, seconds)
        time.sleep(waited)
        process.send_signal(number)
        output = process.communicate(timeout=LONGEST)[1]
        context = f"{name}, {number.name} after {waited:.3f} of {seconds:.3f} s: {process.returncode} {output[-2000:]}"
        _check(place, process.returncode, output, (before, between, after), number, context)


def _uninterrupted(place: Place) -> tuple[str, float, str]:
    """Return what there is before and after a command, and how many seconds it takes."""
    before, process, began = place.state(), place.start(), time.monotonic()
    if place.act.endless:
        process.kill()
        process.communicate()
        return before, 1.5, before
    output = process.communicate(timeout=LONGEST)[1]
    assert process.returncode in (0, 1), output
    return before, time.monotonic() - began, place.state()


def _between(place: Place) -> str:
    """Return what there is once a command has done what it does first; where it does no such thing, what there was."""
    place.prepare()
    if place.act.between:
        run(place.folder, "-d", "work.db", place.act.between)
    return place.state()


def _check(
    place: Place, ended: int, message: str, states: tuple[str, str, str], number: signal.Signals, context: str
) -> None:
    before, _, after = states
    assert ended in (status(number), 0, 1 if place.act.words.endswith("check -o json") else 0), context
    assert "Traceback" not in message and "damaged" not in message and "Exception ignored" not in message, context
    state = place.state()
    assert state in states, context
    if ended == 0:
        assert state == after and not place.act.endless, context
    if "nothing was imported" in message:
        assert state == before, context
    assert list(place.tmp.iterdir()) == [], context
    drafts = [file.name for file in place.folder.iterdir() if file.name.endswith(".new")]
    assert drafts == [] and not list(place.home.rglob(".making-*")), context
    _check_made(place, ended, context)
    _check_kept(place, state, before, context)


def _check_made(place: Place, ended: int, context: str) -> None:
    """A file that is made is whole where it is there: what came through stdout, where the command says so."""
    name = place.act.made
    if not name or (name == "stdout" and ended != 0) or not (place.folder / name).exists():
        assert not name or ended != 0, context
        return
    made = place.folder / name
    if name in ("made.db", "stdout"):
        assert digest(made) == digest(place.folder / "work.db"), context
    elif name == "made.json":
        assert run(place.folder, "-d", "again.db", "import", name).returncode == 0, context
    elif name == "made.yaml":
        assert (place.folder / "made-secrets.json").exists(), context
    else:
        assert made.read_bytes()[:5] == b"PGDMP", context


def _check_kept(place: Place, state: str, before: str, context: str) -> None:
    """A backup of what was replaced is there, and sound, where it was replaced, and else not."""
    kept = [file for file in place.folder.glob("work-*.db") if not file.name.endswith(("-wal", "-shm"))]
    if "restore" in context or "upgrade" in context or "replace," in context:
        is_replaced = state != before
        assert len(kept) == (is_replaced and place.act.result == "work.db" and not place.act.pg), context
        assert all(digest(file) == before for file in kept), context
    if "secrets.json" in place.act.words and place.act.result == "new.db":
        assert (place.folder / "secrets.json").exists() <= (state != before), context


# At places that are known: each script is the program, in which a signal is sent by what it calls

STRIKE = """
import os, signal, sys
from vserverlib import signals
signals.watch()
import vserver
from vserverlib import files
from vserverlib.databases import backups, sqlite_connections, schemas
NUMBER, TIMES = signal.Signals({number}), {times}
def strike():
    os.kill(os.getpid(), NUMBER)
def struck(function, before=True):
    def call(*args, **options):
        global TIMES
        TIMES -= 1
        if before and TIMES == 0:
            strike()
        done = function(*args, **options)
        if not before and TIMES == 0:
            strike()
        return done
    return call
{code}
vserver.main(prog_name="vserver")
"""
# A signal that comes while SQLite runs the check: its exception is lost in a callback, and SQLite says "interrupted".
AMID_A_CHECK = """
def amid(fault):
    def call(conn):
        global TIMES
        TIMES -= 1
        conn.set_progress_handler(strike if TIMES == 0 else None, 1)
        return fault(conn)
    return call
backups._fault = amid(backups._fault)
"""


def strike(folder: Path, number: signal.Signals, code: str, *words: str, times: int = 1, given: str = "") -> Any:
    """Run a command of the program in a folder, in which `code` has a signal come, and return how it ended."""
    program = folder / "strike.py"
    program.write_text(STRIKE.format(number=int(number), times=times, code=code))
    env = environment(folder, TMPDIR=str(folder / "tmp"))
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, program.name, *words],
        cwd=folder,
        env={**env, "PYTHONPATH": str(Path(__file__).parent.parent)},
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def is_clean(folder: Path) -> bool:
    """Whether neither a draft nor a private folder is left."""
    return not list(folder.glob(".*.new*")) and not list((folder / "tmp").iterdir())


@pytest.fixture
def place(example: Path) -> Path:
    """A folder with vserver.db, other.db (the same with other domains), a backup of that, and older.db."""
    folder = example.parent
    shutil.copy(example, folder / "other.db")
    with closing(sqlite3.connect(folder / "other.db")) as conn:
        conn.execute("UPDATE organization SET domain = 'other.example'")
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(Path(__file__).parent / "data" / "schema-1.sqlite", folder / "older.db").chmod(0o600)
    return folder


CHECKING = {
    "backup": ("backup b.db", "vserver.db", 1),
    "backup -": ("backup -", "vserver.db", 1),
    "restore, what is restored": ("restore other.db --yes", "vserver.db", 1),
    "restore, what is kept": ("restore other.db --yes", "vserver.db", 2),
    "import": ("import --replace --yes other.db", "vserver.db", 1),
    "upgrade": ("-d older.db upgrade", "older.db", 1),
    "passwd": ("-d older.db passwd root --stdin", "older.db", 1),
}


@pytest.mark.parametrize("name", CHECKING)
def test_a_signal_during_a_check_is_not_damage_and_nothing_is_replaced(name: str, place: Path) -> None:
    words, file, times = CHECKING[name]
    before, number = digest(place / file), SIGNALS[len(name) % 3]
    done = strike(place, number, AMID_A_CHECK, *words.split(), times=times, given="Geheim-999!\n")
    assert done.returncode == status(number) and "damaged" not in done.stderr and "Traceback" not in done.stderr
    assert digest(place / file) == before and is_clean(place)
    assert [each.name for each in place.glob("*-2*.db")] == [] and not (place / "b.db").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("restore other.db --yes", "backups.write_back = struck(backups.write_back)"),
        ("import --replace --yes other.db", "Sqlite.commit = committing(Sqlite.commit)"),
        ("-d older.db upgrade", "backups.write_back = struck(backups.write_back)"),
    ],
)
def test_finished_work_is_reported_before_a_signal_ends_it(words: str, code: str, place: Path) -> None:
    committing = (
        "from pathlib import Path\nfrom vserverlib.databases.sqlite import Sqlite\n"
        "def committing(commit):\n"
        "    return lambda self: (commit(self), list(Path().glob('vserver-2*.db')) and strike())[0]\n"
    )
    file = place / ("older.db" if "older" in words else "vserver.db")
    before = digest(file)
    done = strike(place, signal.SIGTERM, committing + code, *words.split())
    (kept,) = list(place.glob("*-2*.db"))
    assert done.returncode == -signal.SIGTERM and kept.name in done.stderr
    assert digest(file) != before == digest(kept) and is_clean(place)


def test_secrets_that_are_stored_are_not_lost_by_a_signal(place: Path) -> None:
    (place / "f.yaml").write_text(
        "organizations:\n  - name: a\n    users:\n      - username: anna\ncollaborations: []\n"
    )
    for times, is_there in ((2, False), (3, True)):  # as the list is put in its place, and as the database is
        code = "files.move_into_place = struck(files.move_into_place)"
        words = ("-d", "new.db", "import", "f.yaml", "--secrets", "secrets.json")
        done = strike(place, signal.SIGINT, code, *words, times=times)
        assert done.returncode == 130
        assert (place / "secrets.json").exists() == (place / "new.db").exists() == is_there, done.stderr
        assert ("nothing was imported" in done.stderr) != is_there and is_clean(place)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_not_break_into_cleaning_up(number: signal.Signals, place: Path) -> None:
    code = (
        "from pathlib import Path\nimport shutil\n"
        "backups._fault = struck(backups._fault)\n"
        "def again(function):\n"
        "    def call(*a, **o):\n        strike()\n        return function(*a, **o)\n    return call\n"
        "Path.unlink, shutil.rmtree = again(Path.unlink), again(shutil.rmtree)\n"
    )
    done = strike(place, number, code, "backup", "-")
    assert done.returncode == status(number) and "Traceback" not in done.stderr and is_clean(place)


SWALLOWED = {
    "a finalizer": "class A:\n    def __del__(self): strike()\nA()",
    "a weak reference": "import weakref\nclass A: pass\na = A(); r = weakref.ref(a, lambda _: strike()); del a",
}


@pytest.mark.parametrize("where", SWALLOWED)
def test_a_signal_that_python_swallows_is_raised_at_the_next_statement(where: str, place: Path) -> None:
    head = "import os, signal\ndef strike(): os.kill(os.getpid(), signal.SIGTERM)\n"
    code = f"{head}{SWALLOWED[where]}\ndb.Organization(name='lost').save()\nprint('it went on')"
    done = run(place, "shell", "-c", code, ends=-signal.SIGTERM)
    assert (done.stdout, done.stderr) == ("", "")
    with closing(sqlite3.connect(place / "vserver.db")) as conn:
        assert conn.execute("SELECT COUNT(*) FROM organization WHERE name = 'lost'").fetchone() == (0,)


# From outside


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("words", ["restore other.db --yes", "delete task 1 --dependents --yes", "check"])
def test_a_signal_ends_a_wait_and_a_query(words: str, number: signal.Signals, place: Path) -> None:
    before, env = digest(place / "vserver.db"), environment(place, TMPDIR=str(place / "tmp"))
    (place / "tmp").mkdir()
    command = [*PROGRAM, *words.split()]
    if words == "check":
        command = [*PROGRAM, "shell", "-c", f"database.execute_sql('{ENDLESS}')"]
    with process_that_writes(place / "vserver.db"):
        process = subprocess.Popen(command, cwd=place, env=env, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        if words == "check":
            wait_until_handled(process)
            time.sleep(0.5)
        else:
            assert "waiting for" in process.stderr.readline()
        process.send_signal(number)
        output = process.communicate(timeout=LONGEST)[1]
    assert process.returncode == status(number) and "Traceback" not in output and "damaged" not in output
    assert digest(place / "vserver.db") == before and is_clean(place)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_when_the_program_starts_stays_ignored(number: signal.Signals, place: Path) -> None:
    """As by nohup, and of a job in the background."""
    code = "import os, signal; [os.kill(os.getpid(), n) for n in ({0}, {0})]; print('went on')".format(int(number))
    command = [*PROGRAM, "shell", "-c", code]
    ignoring = f"import signal, os; signal.signal({int(number)}, signal.SIG_IGN); os.execv({command[0]!r}, {command!r})"
    done = subprocess.run(
        [sys.executable, "-c", ignoring], cwd=place, env=environment(place), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"went on\n", b"")


def test_a_pipe_that_nobody_reads_does_not_keep_a_signal_from_ending_it(place: Path) -> None:
    reading, writing = os.pipe()
    command = [*PROGRAM, "shell", "-c", "print('x' * 10_000_000)"]
    with subprocess.Popen(
        command, cwd=place, env=environment(place), stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.read(reading, 1)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=LONGEST)[1] == b"" and process.returncode == -signal.SIGTERM
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["prompt", "cell", "query"])
def test_a_signal_ends_the_shell_and_leaves_the_terminal_as_it_was(
    where: str, number: signal.Signals, place: Path
) -> None:
    """What was typed is kept, and what was private is gone."""
    (place / "tmp").mkdir()
    env = environment(place, TMPDIR=str(place / "tmp"))
    line = f"{sys.executable} -m vserver shell --demo -q & echo $! > pid; fg > /dev/null; echo ended $?; stty -a"
    terminal = Terminal(["bash", "--norc", "-mc", line], env, 120, 40)
    terminal.wait_for_prompt(1)
    terminal.enter("known = 41")
    if where == "cell":
        terminal.send("import time; print('begun'); time.sleep(100)\r")
    elif where == "query":
        terminal.send(f"print('begun'); database.execute_sql('{ENDLESS}')\r")
    if where != "prompt":
        terminal.wait_for("^begun")
    os.kill(int((place / "pid").read_text()), number)
    shown = terminal.wait_for(r"extproc")
    terminal.child.close(force=True)
    assert f"ended {128 + number}" in shown and " icanon " in shown and " echo " in shown
    assert "Traceback" not in shown and "escaped" not in shown and is_clean(place)
    (history,) = place.rglob("history.sqlite")
    with closing(sqlite3.connect(history)) as conn:
        assert conn.execute("SELECT source FROM history").fetchall()[0] == ("known = 41",)
        assert conn.execute("SELECT COUNT(*) FROM sessions WHERE end IS NOT NULL").fetchone() == (1,)


def test_ctrl_c_at_the_prompt_ends_what_runs_and_no_more(place: Path) -> None:
    terminal = Terminal([*PROGRAM, "shell", "-q"], environment(place), 120, 40)
    terminal.wait_for_prompt(1)
    terminal.send(f"print('begun'); database.execute_sql('{ENDLESS}')\r")
    terminal.wait_for("^begun")
    terminal.send("\x03")
    assert "interrupted" in terminal.answer()
    assert terminal.enter("len(db.Task.get())").endswith("24")
    assert terminal.leave() == 0


def test_an_error_in_cleaning_up_after_a_signal_ends_as_the_signal_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_and_lost(*words: Any, **options: Any) -> Any:
        try:
            raise KeyboardInterrupt
        finally:
            raise Error("failed to enter pipeline mode")

    monkeypatch.setattr(opener, "connect", interrupted_and_lost)
    done = CliRunner().invoke(vserver.main, ["-d", str(path), "overview"], prog_name="vserver")
    assert done.exit_code == 130 and "pipeline" not in done.output
