"""Runs of algorithms: their surroundings, how they end, and that nothing remains. This Python has no pandas."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import runs
from helpers.runs import Bench, Started, bench
from helpers.terminal import environment as terminal_environment

from vserverlib.nodes.jobs import Algorithm, Database
from vserverlib.nodes.run_folders import MAX_RESULT
from vserverlib.nodes.run_logs import MAX_HEAD, MAX_TAIL

CODE = '''
import json, logging, os, resource, signal, subprocess, sys, time

ENVIRONMENT_OF_IMPORT = dict(os.environ)

def add(a, b=1):
    print("adding")
    logging.info("as a log")
    print("to stderr", file=sys.stderr)
    return {"sum": a + b}

def rows_of(rows, rows2, column):
    return [[row[column] for row in rows], rows2]

def first_then_path(path1, path2):
    return [path1, path2]

def frame(data):
    return len(data)

def given(data, rows):
    return [data, rows]

def who(client, rows, *, least):
    return [client.node_id, client.organization_id, client.image, len(rows), least]

def crash():
    raise ValueError("as it is meant to")

def text(): return object()
def leave(code): sys.exit(code)
def stop(): os._exit(0)
def signalled(): os.kill(os.getpid(), signal.SIGSEGV)
def _private(): return 1

def surroundings():
    fds = [int(each) for each in os.listdir("/dev/fd")]
    def is_open(fd):
        try:
            os.fstat(fd)
        except OSError:
            return False
        return True
    return {
        "environment": dict(os.environ), "import": ENVIRONMENT_OF_IMPORT, "fds": [fd for fd in fds if is_open(fd)],
        "stdin": sys.stdin.read(), "cwd": os.getcwd(), "session": os.getsid(0) == os.getpid() == os.getpgid(0),
        "modes": {each: os.stat(each).st_mode & 0o777 for each in (".", "input", "token", "output")},
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0], "umask": oct(os.umask(0)),
        "path": sys.path, "modules": sorted(sys.modules), "argv": sys.argv, "listed": os.listdir("."),
    }

def sleep():
    print("sleeping")
    time.sleep(1000)

def allocate():
    kept = [bytearray(1 << 24) for _ in range(1 << 12)]
    return len(kept)

def flood(megabytes):
    line = "x" * 1023 + "\\n"
    print("the beginning")
    for _ in range(megabytes):
        sys.stdout.write(line * 1024)
    print("the end")
    return megabytes

def large(size):
    return "x" * size

def families(ways):
    """Children that ignore signals and leave the process group or not, and a grandchild whose parent has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for way in ways:
        if os.fork() == 0:
            if way != "child":
                os.setsid()
            if way == "grandchild" and os.fork():
                os._exit(0)
            time.sleep(1000)
    print("there are", len(ways), flush=True)
    if "leave" not in ways:
        time.sleep(1000)

def bomb(depth, leaves=False):
    """Processes that double, and leave the process group or not."""
    print("starting")
    for _ in range(depth):
        if os.fork() == 0 and leaves:
            os.setsid()
    time.sleep(1000)

def hide_result():
    os.unlink(os.environ["OUTPUT_FILE"])
    os.mkfifo(os.environ["OUTPUT_FILE"])
    os._exit(0)

def many(number):
    return os.getpid()
'''


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A workshop whose interpreter is kept for all tests that do not change it."""
    with bench(tmp_path_factory.mktemp("shared"), CODE, memory=1 << 30) as made:
        yield made


# What a run gets


def test_a_method_is_called_with_its_arguments_and_what_it_prints_is_the_log(shared: Bench) -> None:
    started = shared.start("add", 3, b=4)
    outcome = started.outcome()
    assert outcome.status == "completed" and json.loads(outcome.result or b"") == {"sum": 7}
    assert sorted(outcome.log.splitlines()) == ["INFO > as a log", "adding", "to stderr"]
    assert "".join(started.pieces) == outcome.log


def test_parameters_are_filled_in_by_their_names(tmp_path: Path) -> None:
    with bench(tmp_path, CODE) as made:
        made.csv("default", "age,name,weight\n1,a,1.5\n,b,\n3,,2\n")
        made.csv("second", "\ufeffcode\n007x\n")
        outcome = made.run("rows_of", column="age")
        assert json.loads(outcome.result or b"") == [[1, None, 3], [{"code": "007x"}]]
        assert json.loads(made.run("rows_of", column="weight").result or b"")[0] == [1.5, None, 2]
        paths = json.loads(made.run("first_then_path").result or b"")
        assert paths == [made.databases["default"].uri, made.databases["second"].uri]
        assert json.loads(made.run("given", data=1, rows=2).result or b"") == [1, 2]
        assert json.loads(made.run("who", least=5).result or b"") == [7, 2, "demo/own:1", 3, 5]


def test_a_database_that_cannot_be_given_is_a_crash_that_says_why(tmp_path: Path) -> None:
    with bench(tmp_path, CODE) as made:
        made.csv("default", "age\n1\n")
        assert "pandas" in made.run("frame").log
        assert "needs 2 databases" in made.run("first_then_path").log
        add = {"input": b'{"method": "first_then_path"}'}
        unknown = made.start_job(made.job(requested=[{"label": "default"}, {"label": "other"}], **add)).outcome()
        assert unknown.status == "crashed" and 'no database "other"; it has: default' in unknown.log
        made.csv("default", "age,name\n1\n")
        assert "more or fewer cells" in made.start_job(made.job(input=b'{"method": "who"}')).outcome().log
        for uri in (tmp_path / "gone.csv", tmp_path / "latin.csv", tmp_path):
            (tmp_path / "latin.csv").write_bytes(b"age\n\xff\n")
            made.databases["default"] = Database(str(uri), "csv")
            assert made.run("who", least=1).log.startswith('error > the database "default" cannot be read: ')
        made.databases["default"] = Database("sqlite:///x", "sql")
        assert "not for sql" in made.run("who", least=1).log
        prepared = [{"label": "default", "parameters": '{"preprocessing": [{"function": "f"}]}'}]
        assert "preprocessing needs" in made.start_job(
            made.job(input=b'{"method": "who"}', requested=prepared)
        ).outcome().log  # fmt: skip


def test_a_run_gets_a_clean_environment_its_own_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSERVER_SECRET_OF_NODE", "s3cret")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with bench(tmp_path, CODE) as made:
        made.environment = {"AVERAGE_MINIMUM_RECORDS": "3", "ODD": "AAAAAAAA", "HTTP_PROXY": "x y\n'z'"}
        made.csv("default", "age\n1\n")
        outcome = made.start_job(
            made.job(
                input=b'{"method": "surroundings"}',
                requested=[{"label": "default", "parameters": '{"query": "SELECT 1", "sheet_name": "a"}'}],
            )
        ).outcome()
        found = json.loads(outcome.result or b"")
    env = found["environment"]
    assert env == found["import"] and "VSERVER_SECRET_OF_NODE" not in env
    assert env["TZ"] == "Asia/Tokyo" and made.environment.items() <= env.items()
    folder = Path(found["cwd"])
    assert env["HOME"] == str(folder) and env["INPUT_FILE"] == str(folder / "input")
    assert env["DEFAULT_QUERY"] == "SELECT 1" and env["DEFAULT_SHEET_NAME"] == "a" and env["DB_LABELS"] == "default"
    assert set(env) <= {
        *("PATH", "HOME", "LANG", "TZ", "TMPDIR", "PYTHONIOENCODING", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
        *("INPUT_FILE", "OUTPUT_FILE", "TOKEN_FILE", "TEMPORARY_FOLDER", "HOST", "PORT", "API_PATH", "DB_LABELS"),
        *("USER_REQUESTED_DATABASE_LABELS", "DEFAULT_DATABASE_URI", "DEFAULT_DATABASE_TYPE", "DEFAULT_QUERY"),
        *("DEFAULT_SHEET_NAME", *made.environment),
    }
    assert found["fds"] == [0, 1, 2] and found["stdin"] == "" and found["session"] and found["core"] == 0
    assert found["modes"] == {".": 0o700, "input": 0o600, "token": 0o600, "output": 0o600}
    assert not folder.exists() and not folder.parent.exists()
    assert not [each for each in found["modules"] if each.partition(".")[0] in ("vserverlib", "peewee", "click")]
    assert found["path"][0] == str(tmp_path) and not [each for each in found["path"] if "vserverlib" in each]


def test_a_job_shares_a_folder_at_one_node_only(tmp_path: Path) -> None:
    code = "import os\ndef add(text):\n    path = os.environ['TEMPORARY_FOLDER'] + '/kept'\n" + textwrap.indent(
        "with open(path, 'a') as file: file.write(text)\nreturn open(path).read()\n", "    "
    )
    with bench(tmp_path, code) as made:
        given = b'{"method": "add", "args": ["x"]}'
        answers = [
            made.start_job(made.job(input=given, job_id=job, node_id=node)).outcome().result
            for job, node in ((1, 1), (1, 1), (1, 2), (2, 1))
        ]
    assert answers == [b'"x"', b'"xx"', b'"x"', b'"x"']


def test_an_edit_of_the_code_of_a_module_beside_it_and_of_the_data_counts_at_the_next_run(tmp_path: Path) -> None:
    code = "import beside\ndef answer(rows):\n    return [1, beside.value, len(rows)]\n"
    beside = tmp_path / "beside.py"
    beside.write_text("value = 1\n")
    with bench(tmp_path, code) as made:
        made.csv("default", "age\n1\n")
        assert made.run("answer").result == b"[1, 1, 1]"
        made.file.write_text(code.replace("[1, ", "[2, "))  # within a second, and as long as before
        beside.write_text("value = 2\n")
        made.csv("default", "age\n1\n2\n")
        assert made.run("answer").result == b"[2, 2, 2]"
    assert not (tmp_path / "__pycache__").exists()


def test_each_run_is_a_fork_of_one_kept_interpreter_which_a_prefix_does_without(tmp_path: Path) -> None:
    code = "import os, sys\ndef parents():\n    return [sys.orig_argv[1], os.nice(0)]\n"
    with bench(tmp_path, code) as kept:
        assert "fork_server.py" in kept.run("parents").result.decode()  # type: ignore[union-attr]
    with bench(tmp_path, code, run_with=("nice", "-n", "3")) as prefixed:
        result = json.loads(prefixed.run("parents").result or b"")
        assert result[0].endswith("wrapper.py") and result[1] == os.nice(0) + 3
    with bench(tmp_path, code, run_with=("no-such-program",)) as missing:
        outcome = missing.run("parents")
        assert outcome.status == "crashed" and "no-such-program" in outcome.log


def test_installed_libraries_are_imported_once_until_something_is_installed(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    library = installed / "slow_library.py"
    library.write_text("import os\nowner, value = os.getpid(), 1\n")
    (installed / "shadowed.py").write_text("import os\nowner, value = os.getpid(), 1\n")
    code = "import os, slow_library as found\ndef answer():\n    return [found.owner == os.getpid(), found.value]\n"
    with bench(tmp_path, code.replace("slow_library", "shadowed")) as made:
        made.environment = {"PYTHONPATH": str(installed)}
        (tmp_path / "shadowed.py").write_text("import os\nowner, value = os.getpid(), 2\n")
        assert made.run("answer").result == b"[true, 2]"  # the module beside it counts
    with bench(tmp_path, code) as made:
        made.environment = {"PYTHONPATH": str(installed)}
        assert made.run("answer").result == b"[false, 1]"
        library.write_text("import os\nowner, value = os.getpid(), 20\n")
        (installed / "slow_library.dist-info").mkdir()  # as each installation does
        assert made.run("answer").result == b"[false, 20]"
        library.unlink()
        (installed / "slow_library.dist-info").rmdir()
        assert "No module named 'slow_library'" in made.run("answer").log


def test_a_library_whose_import_does_not_end_keeps_nothing_from_ending(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "endless.py").write_text("import time\nopen(__file__ + '.began', 'w').close()\ntime.sleep(1000)\n")
    with bench(tmp_path, "import endless\ndef answer(): return 1\n") as made:
        made.environment = {"PYTHONPATH": str(installed)}
        started, other = made.start("answer"), made.start("answer")
        runs.until((installed / "endless.py.began").exists)
        started.running.kill()
        assert started.outcome().status == "killed by user"
    assert other.outcome().status == "killed by user"
    assert runs.processes_with(str(tmp_path)) == []


def test_a_package_is_imported_by_its_name_also_with_a_dash(tmp_path: Path) -> None:
    for name in ("v6-own-py", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("from .inner import *\nfrom json import dumps\n")
        (tmp_path / name / "inner.py").write_text("def answer(): return 42\n")
    with bench(tmp_path) as made:
        made.environment = {"PYTHONPATH": str(tmp_path)}
        for name in ("v6-own-py", "own"):
            job = made.job(algorithm=Algorithm(sys.executable, package=name), input=b'{"method": "answer"}')
            assert made.start_job(job).outcome().result == b"42"
        other = made.start_job(job._replace(input=b'{"method": "dumps", "args": [1]}')).outcome()
        assert other.status == "crashed" and 'no method "dumps"' in other.log
        gone = made.start_job(job._replace(algorithm=Algorithm(sys.executable, package="no-such"))).outcome()
        assert gone.status == "crashed" and "No module named 'no-such'" in gone.log


# How it ends


def test_what_goes_wrong_is_in_the_status_and_in_the_log(shared: Bench) -> None:
    expected = {
        "crash": ("crashed", "ValueError: as it is meant to"),
        "text": ("crashed", "cannot be written as JSON"),
        "_private": ("crashed", 'no method "_private"'),
        "dumps": ("crashed", 'no method "dumps"'),
        "json": ("crashed", 'no method "json"'),
        "signalled": ("crashed", "signal 11 (SIGSEGV)"),
        "stop": ("completed", ""),
        "hide_result": ("completed", ""),
    }
    for method, (status, text) in expected.items():
        outcome = shared.run(method)
        assert (outcome.status, outcome.result) == (status, None) and text in outcome.log, (method, outcome)
        assert "wrapper.py" not in outcome.log
    assert [shared.run("leave", code).status for code in (0, 3, "no")] == ["completed", "crashed", "crashed"]


@pytest.mark.parametrize(
    "given", [b"", b"\xff\xfe", b"[1, 2]", b'{"method": 1}', b'{"method": "add", "args": {}}', b"[" * 100_000]
)
def test_an_input_that_is_no_input_is_a_crash_in_one_line(shared: Bench, given: bytes) -> None:
    outcome = shared.start_job(shared.job(input=given)).outcome()
    assert outcome.status == "crashed" and outcome.log.startswith("error > ") and outcome.log.count("\n") == 1, outcome


def test_megabytes_come_and_go(shared: Bench) -> None:
    outcome = shared.run("add", "x" * 5_000_000, b="y")
    assert len(outcome.result or b"") == 5_000_000 + len('{"sum": "y"}')
    refused = shared.run("large", MAX_RESULT)
    assert refused.status == "failed" and refused.result is None and f"{MAX_RESULT:,}" in refused.log


def test_a_run_that_exceeds_its_memory_says_so(shared: Bench) -> None:
    outcome = shared.run("allocate")
    assert outcome.status == "crashed" and outcome.log.endswith("the run exceeded 1.0 GiB of memory\n")


def test_a_run_that_exceeds_its_time_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    with bench(tmp_path, CODE, seconds=1) as made:
        outcome = made.run("families", ["child", "session", "grandchild"])
        assert outcome.status == "failed" and outcome.log.endswith("it exceeded 1 s\n")
        runs.until(lambda: len(runs.processes_with(str(tmp_path))) == 1)  # the fork server


@pytest.mark.parametrize("leaves", [False, True])
def test_a_kill_ends_families_and_processes_that_double(shared: Bench, leaves: bool) -> None:
    family = shared.start("families", ["child", "session", "grandchild"])
    family.until_logged("there are 3")
    bomb = shared.start("bomb", 7, leaves=leaves)
    bomb.until_logged("starting")
    for each in (family, bomb):
        each.running.kill()
        assert each.outcome().status == "killed by user"
    runs.until(lambda: len(runs.processes_with(str(shared.folder))) == 1)  # the fork server


def test_what_a_run_leaves_running_ends_with_it(shared: Bench) -> None:
    outcome = shared.run("families", ["child", "session", "grandchild", "leave"])
    assert outcome.status == "completed" and outcome.log == "there are 4\n"
    runs.until(lambda: len(runs.processes_with(str(shared.folder))) == 1)  # the fork server


def test_a_run_is_killed_before_it_has_begun_while_it_runs_and_after_its_end(shared: Bench) -> None:
    early = shared.start("sleep")
    early.running.kill()
    assert early.outcome().status == "killed by user"
    late = shared.start("sleep")
    late.until_logged("sleeping")
    assert runs.processes_with(runs.token(runs.IDENTITY)) == []  # neither in a command nor in an environment
    late.running.kill()
    late.running.kill()
    assert late.outcome().status == "killed by user" and "sleeping" in late.outcome().log
    ended = shared.start("add", 1)
    assert ended.outcome().status == "completed"
    ended.running.kill()
    assert [len(each.outcomes) for each in (early, late, ended)] == [1, 1, 1]


@pytest.mark.parametrize("megabytes", [100, pytest.param(4096, marks=pytest.mark.long)])
def test_a_log_of_gigabytes_keeps_its_beginning_and_its_end(shared: Bench, megabytes: int) -> None:
    started = shared.start("flood", megabytes)
    outcome = started.outcome()
    assert outcome.result == str(megabytes).encode()
    assert outcome.log.startswith("the beginning\nxxx") and outcome.log.endswith("xxx\nthe end\n")
    assert "characters are left out" in outcome.log and len(outcome.log) < MAX_HEAD + MAX_TAIL + 100
    assert len(live := "".join(started.pieces)) < MAX_HEAD + 200 and live.count("more is not shown") == 1


def test_a_log_comes_as_text_that_can_be_stored(tmp_path: Path) -> None:
    code = (
        'import os\ndef odd():\n    os.write(1, b"\\xe2\\x82"); os.write(1, b"\\xac\\0\\xff")\n    print("\\udc80€")\n'
    )
    with bench(tmp_path, code) as made:
        assert made.run("odd").log == "€��\\udc80€\n"


# What a user could try


@pytest.mark.parametrize("label", ["../../etc", "a=b", "x\ny", "ÅÄÖ", "", "default,default", "$(touch x)", "é" * 9000])
def test_a_strange_label_changes_nothing(shared: Bench, label: str) -> None:
    requested = [{"label": label, "parameters": '{"query": "q"}', "query": "x"}, {"parameters": "no JSON"}, {}]
    job = shared.job(input=b'{"method": "add", "args": [1]}', requested=requested)
    assert shared.start_job(job).outcome().result == b'{"sum": 2}'


def test_a_null_character_is_refused_in_one_line(shared: Bench) -> None:
    job = shared.job(input=b'{"method": "add", "args": [1]}', requested=[{"label": "a\0b"}])
    outcome = shared.start_job(job).outcome()
    assert outcome.status == "start failed" and "null character" in outcome.log


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/true", "/etc/passwd", "/"])
def test_a_python_that_does_not_start_is_named(tmp_path: Path, python: str) -> None:
    with bench(tmp_path, CODE, python=python) as made:
        outcome = made.run("add", 1)
        assert outcome.status == "start failed" and python in outcome.log and outcome.log.count("\n") == 1


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with bench(tmp_path, CODE) as made:
        made.file.unlink()
        outcome = made.run("add", 1)
        assert outcome.status == "crashed" and f"{made.file} cannot be read" in outcome.log
        made.file.write_text("from vantage6.algorithm.tools.util import info\n")
        assert "--make-environment" in made.run("add", 1).log
        made.file.write_text("def broken(:\n")
        assert "SyntaxError" in made.run("add", 1).log


# Many, and what remains


@pytest.mark.long
def test_eighty_runs_at_once_are_all_right(shared: Bench) -> None:
    started = [shared.start("many", number) for number in range(80)]
    results = {each.outcome().result for each in started}
    assert len(results) == 80 and None not in results


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_fails_ends_the_run(shared: Bench) -> None:
    class Failing(Started):
        def on_log(self, piece: str) -> None:
            raise ValueError(piece)

    started = Failing()
    job = shared.job(input=b'{"method": "sleep"}')
    running = shared.workshop.start(job, started.on_log, started.on_end)
    assert started.outcome().status == "unknown error"
    running.thread.join()  # its exception is this test's
    runs.until(lambda: len(runs.processes_with(str(shared.folder))) == 1)


def test_closing_kills_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    with bench(tmp_path, CODE) as made:
        started = made.start("families", ["session"])
        started.until_logged("there are 1")
        made.workshop.close()
        assert started.outcomes[0].status == "killed by user"
        assert runs.processes_with(str(tmp_path)) == []
        assert made.start("add", 1).outcome().status in ("killed by user", "start failed")


def test_keeping_leaves_the_folder_of_a_run(tmp_path: Path) -> None:
    with bench(tmp_path, CODE, keep=True) as made:
        made.run("add", 1)
    (folder,) = made.workshop.root.glob("run-1-*")
    assert (folder / "output").read_bytes() == b'{"sum": 2}'
    assert stat.S_IMODE(made.workshop.root.stat().st_mode) == 0o700


def test_a_fork_server_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with bench(tmp_path, CODE) as made:
        assert made.run("add", 1).status == "completed"
        runs.until(lambda: len(runs.processes_with(str(tmp_path))) == 1)
        (server,) = runs.processes_with(str(tmp_path))
        sleeping = made.start("sleep")
        sleeping.until_logged("sleeping")
        os.kill(server, signal.SIGKILL)
        assert made.run("add", 1).status == "completed"
        sleeping.running.kill()
        assert sleeping.outcome().status == "killed by user"


def test_a_run_whose_supervisor_is_killed_ends_as_failed(tmp_path: Path) -> None:
    code = "import os, signal, time\ndef orphan():\n    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(1000)\n"
    with bench(tmp_path, code) as made:
        outcome = made.run("orphan")
        assert outcome.status == "failed" and "killed from outside" in outcome.log
        runs.until(lambda: len(runs.processes_with(str(tmp_path))) == 1)  # the fork server


NODE = """
import sys, threading
sys.path[:0] = {path!r}
from pathlib import Path
from helpers.runs import Bench, Started
from vserverlib.nodes.jobs import Limits
from vserverlib.nodes.workshop import Workshop
folder = Path({folder!r})
for run_with in ((), ("nice",)):
    made = Bench(folder, Workshop(folder / "workshop", Limits(600, 0, 4), run_with))
    started = made.start("families", ["child", "session", "grandchild"])
    started.until_logged("there are 3")
print("ready", flush=True)
threading.Event().wait()
"""


def test_no_process_and_no_folder_remains_of_a_node_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "workshop").mkdir()
    (tmp_path / "algorithm.py").write_text(CODE)
    code = NODE.format(path=sys.path, folder=str(tmp_path))
    env = terminal_environment(tmp_path)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as node:
        assert node.stdout is not None and node.stdout.readline() == b"ready\n"
        assert len(runs.processes_with(str(tmp_path / "workshop"))) >= 8
        node.kill()
    runs.until(lambda: not runs.processes_with(str(tmp_path / "workshop")))
    assert not any((tmp_path / "workshop").iterdir())


@pytest.mark.parametrize("release", ["3.10", "3.12", "3.13"])
def test_other_pythons_run_an_algorithm(tmp_path: Path, release: str) -> None:
    python = next(Path(sys.base_prefix).parent.glob(f"{release}*/bin/python{release}"), None)
    if python is None:
        pytest.skip(f"there is no Python {release} here")
    with bench(tmp_path, CODE, python=str(python)) as made:
        assert made.run("add", 1).result == b'{"sum": 2}'
        assert "ValueError" in made.run("crash").log
