"""Times `vserver start`: its first answer, lists of tasks, reads while users log in, and its memory.

    VSERVER_VANTAGE6=PYTHON python benchmarks/server.py

PYTHON is the interpreter of an environment with vantage6-server 4.15.2. That server then runs beside ours on the same
tasks, in turns in one run; without it, there is no comparison. Clients are threads of this process on loopback.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import PROJECT, Goal, clock, heading, in_turns, ratio, report, verdict

sys.path.insert(0, str(PROJECT / "tests"))
from helpers import our_server, vantage6_server

import models
from vserverlib.databases import storage

TASKS, RUNS = 1000, 3
STARTS, ROUNDS, SECONDS = 11, 4, 2.0
CONNECTIONS = 8
USERS, PASSWORD = 6, "Log-in-pass-1"
REQUESTS = 10_000
MOST_MILLISECONDS, MOST_MEGABYTES = 10, 60
LIST = "/api/task?page=1&per_page=10"
NAMES = [f"user{number}" for number in range(USERS)]


# Data: the same tasks for both servers


def fill_ours(path: Path) -> None:
    """Fill a new database of ours."""
    storage.create(path)
    our_server.fill_with_root(path)
    with contextlib.closing(models.connect(str(path))) as database, database.rule_checks(False):
        organization = models.Organization.by_id(1)
        for name in NAMES:
            email = f"{name}@x.example"
            user = models.User(username=name, email=email, roles="Researcher", organization=organization)
            user.set_password(PASSWORD)
            user.save()
        collaboration = models.Collaboration(name="trial", encrypted=False, organizations=[organization])
        collaboration.save()
        with database.atomic():
            for number in range(TASKS):
                place = {"collaboration": collaboration, "initiator": organization}
                task = models.Task(name=f"task {number}", image="registry.example/average:1", **place)
                task.save()
                for _ in range(RUNS):
                    moment = datetime.datetime.now(datetime.UTC)
                    times = {"started_at": moment, "finished_at": moment, "status": "completed"}
                    models.Result(task=task, organization=organization, input="e30=", result="e30=", **times).save()


def fill_theirs(path: Path) -> None:
    """Fill the tables that a vantage6 server has created."""
    moment = "2026-11-28 06:07:52.291918"
    ids = range(1, TASKS + 1)
    runs = ("e30=", "e30=", moment, moment, moment, "completed")
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as conn, conn:
        conn.execute("INSERT INTO collaboration (id, name, encrypted) VALUES (1, 'trial', 0)")
        conn.execute('INSERT INTO "Member" (organization_id, collaboration_id) VALUES (1, 1)')
        conn.executemany(
            "INSERT INTO task (id, name, image, collaboration_id, job_id, init_org_id, init_user_id, created_at)"
            " VALUES (?, ?, 'registry.example/average:1', 1, ?, 1, 1, ?)",
            [(id, f"task {id}", id, moment) for id in ids],
        )
        conn.executemany(
            "INSERT INTO run (task_id, organization_id, input, result, assigned_at, started_at, finished_at, status)"
            " VALUES (?, 1, ?, ?, ?, ?, ?, ?)",
            [(id, *runs) for id in ids for _ in range(RUNS)],
        )


# Clients


def token(port: int, username: str, password: str) -> str:
    """Log in, and return the access token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"username": username, "password": password})
    connection.request("POST", "/api/token/user", body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer["access_token"])


def reads(port: int, bearer: str, goes_on: Callable[[], bool]) -> list[float]:
    """List tasks over one connection, and return the seconds that each answer took."""
    connection, headers = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=60),
        {"Authorization": f"Bearer {bearer}"},
    )
    took = []
    while goes_on():
        began = time.perf_counter()
        connection.request("GET", LIST, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        took.append(time.perf_counter() - began)
    connection.close()
    return took


def in_threads(number: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(number)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def rate(port: int, bearer: str, connections: int) -> float:
    """Return the lists of tasks a second."""
    end, took = time.perf_counter() + SECONDS, list[float]()
    began = time.perf_counter()
    in_threads(connections, lambda: took.extend(reads(port, bearer, lambda: time.perf_counter() < end)))
    return len(took) / (time.perf_counter() - began)


# Goals


def first_answer(path: Path, folder: Path) -> Goal:
    """Compare the time from a start to the first answer with that of a list."""

    def started() -> float:
        began = time.perf_counter()
        with our_server.running(path, folder, "-q") as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("GET", "/api/version")
            assert connection.getresponse().status == 200
            connection.close()
            return time.perf_counter() - began

    command = [sys.executable, "-m", "vserver", "-d", str(path), "list", "tasks"]

    def listed() -> float:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": PROJECT}
        return clock(lambda: subprocess.run(command, check=True, **quiet))

    starts, lists = in_turns(STARTS, started, listed)
    report("vserver start, to its first answer", starts)
    report("vserver list tasks", lists)
    return Goal("vserver start to its first answer, to vserver list tasks", ratio(starts, lists), 2.5)


def rates(ours: int, theirs: int) -> Iterator[Goal]:
    """Compare the lists a second with those of the real server, in turns. ours, theirs: the ports."""
    bearers = token(ours, our_server.ROOT_NAME, our_server.ROOT_PASSWORD), token(theirs, "root", "root")
    for connections in (1, CONNECTIONS):
        rounds = [(rate(ours, bearers[0], connections), rate(theirs, bearers[1], connections)) for _ in range(ROUNDS)]
        best = [max(column) for column in zip(*rounds, strict=True)]
        of = "connection" if connections == 1 else "connections"
        print(f"  GET /task, {connections} {of}, a second: {best[0]:.0f}; the real server: {best[1]:.1f}")
        yield Goal(f"GET /task a second, {connections} {of}, to the real server", best[0] / best[1], 8, least=True)


def reads_beside_log_ins(port: int) -> Goal:
    """Compare the median of a read with its limit, while users log in without a pause."""
    bearer, ended = token(port, our_server.ROOT_NAME, our_server.ROOT_PASSWORD), threading.Event()
    counted: list[str] = []

    def log_in(name: str) -> None:
        while not ended.is_set():
            counted.append(token(port, name, PASSWORD))

    threads = [threading.Thread(target=log_in, args=(name,)) for name in NAMES]
    for each in threads:
        each.start()
    end = time.perf_counter() + 3 * SECONDS
    took = reads(port, bearer, lambda: time.perf_counter() < end)
    ended.set()
    for each in threads:
        each.join()
    median = statistics.median(took) * 1000
    print(f"  a read while {USERS} users log in ({len(counted)} times): median {median:.1f} ms, of {len(took)}")
    return Goal(f"a read while {USERS} users log in, to {MOST_MILLISECONDS} ms", median / MOST_MILLISECONDS, 1)


def memory(server: our_server.OurServer) -> Goal:
    """Compare the memory after many requests with its limit."""
    bearer = token(server.port, our_server.ROOT_NAME, our_server.ROOT_PASSWORD)
    left = iter(range(REQUESTS))
    reads(server.port, bearer, lambda: next(left, None) is not None)
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    megabytes = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    print(f"  memory after {REQUESTS:,} requests: {megabytes:.1f} MB")
    return Goal(f"memory after {REQUESTS:,} requests, to {MOST_MEGABYTES} MB", megabytes / MOST_MEGABYTES, 1)


@contextlib.contextmanager
def real_server(folder: Path) -> Iterator[int]:
    """Run the real server on the tasks, and give its port."""
    file = folder / "theirs.sqlite"
    uri = f"sqlite:///{file}"
    with vantage6_server.running(uri, folder):
        pass  # it creates its tables, and the user root
    fill_theirs(file)
    with vantage6_server.running(uri, folder) as started:
        yield int(started.base.rpartition(":")[2].partition("/")[0])


def goals(folder: Path) -> Iterator[Goal]:
    """Measure and yield the goals."""
    path = folder / "vserver.db"
    fill_ours(path)
    yield first_answer(path, folder)
    with our_server.running(path, folder, "-q") as server:
        yield memory(server)
    with our_server.running(path, folder, "-q") as server:
        yield reads_beside_log_ins(server.port)
        if vantage6_server.PYTHON:
            with real_server(folder) as theirs:
                yield from rates(server.port, theirs)
        else:
            bearer = token(server.port, our_server.ROOT_NAME, our_server.ROOT_PASSWORD)
            found = [f"{rate(server.port, bearer, number):.0f}" for number in (1, CONNECTIONS)]
            print(f"  GET /task a second, with 1 and {CONNECTIONS} connections: {', '.join(found)}; no real server")


def main() -> int:
    heading(f"vserver start, {TASKS:,} tasks with {RUNS} results each")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HOME": folder, "VSERVER_HOME": str(Path(folder, "home"))}
        return verdict(list(goals(Path(folder))))


if __name__ == "__main__":
    sys.exit(main())
