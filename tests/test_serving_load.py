"""The server under load, on loopback: many clients at once, a large result, and an end in the middle of posts.

`pytest -m long` runs them, for VSERVER_LOAD_SECONDS and as often as VSERVER_REPETITIONS says.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import our_server, process
from helpers.our_server import Client, OurServer
from helpers.terminal import environment
from helpers.visitor import Visitor

import models
from vserverlib import hashing

pytestmark = pytest.mark.long

SECONDS = float(os.environ.get("VSERVER_LOAD_SECONDS", "60"))
REPETITIONS = int(os.environ.get("VSERVER_REPETITIONS", "5"))
ROUNDS = hashing.ROUNDS  # of real hashes
READERS, WRITERS, LOG_INS = 8, 4, 100
PAGES, TASKS = 50, 200
RESULT_BYTES = 50 << 20
KEY = "00000000-0000-4000-8000-000000000001"
INPUT = base64.b64encode(b"{}").decode()
LISTS = ("task", "run", "node", "organization", "user?per_page=100", "task?include=results", "collaboration/1")
SHELL = """
import time
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    organization = db.Organization(name=f"of the shell {{time.monotonic()}}", country="NL")
    organization.save()
    time.sleep(0.1)
print("done")
"""


@pytest.fixture
def database(path: Path) -> Path:
    """A database with the user `root`, and a node of that organization in a collaboration."""
    our_server.fill_with_root(path)
    with contextlib.closing(models.connect(str(path))) as opened, opened.rule_checks(False):
        organization = models.Organization.by_id(1)
        trial = models.Collaboration(name="trial", encrypted=False, organizations=[organization])
        trial.save()
        models.Node(name="node", organization=organization, collaboration=trial, api_key=KEY).save()
    return path


@pytest.fixture
def serving(database: Path, tmp_path: Path) -> Iterator[OurServer]:
    with our_server.running(database, tmp_path, "-q") as started:
        yield started


def post(client: Client, name: str) -> our_server.Answer:
    """Post a task for the node."""
    body = {"name": name, "image": "i", "collaboration_id": 1, "organizations": [{"id": 1, "input": INPUT}]}
    return client.ask("POST", "task", body | {"databases": [{"label": "default"}]})


def in_threads(*work: Callable[[], object]) -> None:
    """Do all at once. The first failure is raised at the end."""
    failures: list[BaseException] = []

    def guarded(each: Callable[[], object]) -> None:
        try:
            each()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(each,)) for each in work]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]


def logged_in(server: OurServer, token: str) -> Client:
    client = server.client()
    client.token = token
    return client


def token_of_root(server: OurServer) -> str:
    return str(server.client().log_in().body["access_token"])


@contextlib.contextmanager
def beside(database: Path, out: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on the database beside the block. out: a file for what it prints."""
    command = [*process.PROGRAM, "-d", str(database), *words]
    env = environment(Path(os.environ["HOME"]))
    with out.open("wb") as file, subprocess.Popen(command, env=env, stdout=file, stderr=file) as started:
        try:
            yield started
        finally:
            started.kill()


def test_clients_read_and_write_beside_a_watch_a_shell_and_checks(
    serving: OurServer, database: Path, tmp_path: Path
) -> None:
    token, statuses, posted = token_of_root(serving), Counter[tuple[str, int]](), list[str]()
    end = time.monotonic() + SECONDS

    def read(number: int) -> None:
        client, randomly = logged_in(serving, token), random.Random(number)
        while time.monotonic() < end:
            answer = client.ask("GET", randomly.choice(LISTS))
            statuses["GET", answer.status] += 1

    def write(number: int) -> None:
        client = logged_in(serving, token)
        for count in range(1_000_000):
            if time.monotonic() > end:
                return
            name = f"{number}/{count}"
            answer = post(client, name)
            statuses["POST", answer.status] += 1
            posted.extend([name] if answer.status == 201 else [])

    def check() -> None:
        while time.monotonic() < end:
            done = process.vserver("-d", database, "check")
            assert done.status == 0, done

    shell = SHELL.format(seconds=SECONDS - 2)
    watched, said = tmp_path / "watched", tmp_path / "said"
    with beside(database, watched, "watch") as watch, beside(database, said, "shell", "-c", shell) as session:
        readers, writers = range(READERS), range(WRITERS)
        in_threads(
            *(lambda number=each: read(number) for each in readers),  # type: ignore[misc]
            *(lambda number=each: write(number) for each in writers),  # type: ignore[misc]
            check,
        )
        assert watch.poll() is None
        session.wait(60)
    assert said.read_text().strip() == "done"
    assert '"pending"' in watched.read_text()
    assert set(statuses) == {("GET", 200), ("POST", 201)}, statuses
    assert serving.err.strip().count("\n") == 0, serving.err
    with contextlib.closing(models.connect(str(database))):
        assert Counter(task.name for task in models.Task.get()) == Counter(posted)
        assert all(task.progress == (0, 1) for task in models.Task.get())
    sys.stdout.write(f"{SECONDS:.0f} s: {dict(statuses)}\n")


def test_a_hundred_log_ins_at_once_are_answered_while_others_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "ROUNDS", ROUNDS)
    our_server.fill_with_root(path)
    with our_server.running(path, tmp_path, "-q") as serving:
        log_in_and_read(serving)


def log_in_and_read(serving: OurServer) -> None:
    reader, statuses, ended = logged_in(serving, token_of_root(serving)), Counter[int](), threading.Event()
    body = {"username": our_server.ROOT_NAME, "password": our_server.ROOT_PASSWORD}

    def log_in() -> None:
        statuses[serving.client().ask("POST", "token/user", body, token="").status] += 1

    def read() -> None:
        while not ended.is_set():
            assert reader.ask("GET", "task").status == 200

    def log_in_all() -> None:
        try:
            in_threads(*[log_in] * LOG_INS)
        finally:
            ended.set()

    in_threads(read, log_in_all)
    assert statuses.total() == LOG_INS and statuses[200] >= 10 and set(statuses) <= {200, 429}, statuses
    assert serving.client().log_in().status == 200


def test_a_result_of_50_megabytes_comes_back_as_it_was(serving: OurServer) -> None:
    root, node = serving.client(), serving.client()
    root.log_in()
    node.log_in_node(KEY)
    task = post(root, "large").body["id"]
    (run,) = node.ask("GET", "run", query={"state": "open", "include": "task"}).body["data"]
    result = base64.b64encode(random.Random(1).randbytes(RESULT_BYTES // 4 * 3)).decode()
    done = {"result": result, "status": "completed", "finished_at": "2026-11-28T06:07:52+00:00", "log": "l"}
    answer = node.ask("PATCH", f"run/{run['id']}", done)
    assert answer.status == 200, str(answer)[:500]
    (found,) = root.ask("GET", "result", query={"task_id": task}).body["data"]
    assert found["result"] == result
    assert root.ask("GET", f"task/{task}/status").body == {"status": "completed"}
    too_long = {**done, "result": result + "A" * (16 << 20)}
    with contextlib.suppress(ConnectionError):  # refused early: the rest of the body finds no reader
        assert node.ask("PATCH", f"run/{run['id']}", too_long).status == 413
    assert serving.client().ask("GET", "version").status == 200


def test_an_end_in_the_middle_of_posts_leaves_nothing_half(database: Path, tmp_path: Path) -> None:
    chance, confirmed = random.Random(1), list[str]()
    for repetition in range(REPETITIONS):
        with our_server.running(database, tmp_path, "-q") as server:
            token = token_of_root(server)

            def write(number: int, server: OurServer = server, token: str = token, round: int = repetition) -> None:
                client = logged_in(server, token)
                with contextlib.suppress(OSError, http.client.HTTPException):  # the server is gone
                    for count in range(1_000_000):
                        name = f"{round}/{number}/{count}"
                        answer = post(client, name)
                        assert answer.status == 201, answer
                        confirmed.append(name)

            timer = threading.Timer(chance.uniform(0.2, 1.0), server.kill)
            timer.start()
            in_threads(*(lambda number=each: write(number) for each in range(WRITERS)))  # type: ignore[misc]
            timer.join()
        with contextlib.closing(models.connect(str(database))):
            tasks = list(models.Task.get())
            assert {task.name for task in tasks} >= set(confirmed)
            assert all(task.progress == (0, 1) for task in tasks)
            columns = models.database.execute_sql("SELECT init_user_id, databases FROM task").fetchall()
            assert set(columns) == {(1, json.dumps([{"label": "default", "parameters": {}}]))}
        assert process.vserver("-d", database, "check").status == 0
    assert len(confirmed) > REPETITIONS


def test_fifty_open_pages_follow_and_leave_the_server_free(serving: OurServer) -> None:
    token, last = token_of_root(serving), "the last of all"
    visitor = Visitor(serving.port)
    assert visitor.log_in(our_server.ROOT_NAME, our_server.ROOT_PASSWORD).status == 303
    opened = threading.Barrier(PAGES + 1, timeout=our_server.ANSWER_SECONDS)  # one that fails ends all

    def watch() -> None:
        own = Visitor(serving.port)
        own.cookie = visitor.cookie
        events = own.events()
        next(events)
        opened.wait()
        assert any(last in data for _, data in events)

    def write() -> None:
        client = logged_in(serving, token)
        opened.wait()
        for number in range(TASKS):
            assert post(client, f"{number}").status == 201
            assert client.ask("GET", "task").status == visitor.get("/").status == 200
        assert post(client, last).status == 201

    in_threads(write, *[watch] * PAGES)
    assert serving.stop() == 0 and "Traceback" not in serving.err
