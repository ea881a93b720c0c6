"""The life of one node: it receives runs, has them computed, and delivers their results.

One thread asks the server, one request after the other, so no status overtakes another. If the server is away, it
waits, and results wait with it. A run is computed at most once: the server first accepts that it begins, and a run that
began before this process is ended as failed.
"""

from __future__ import annotations

import base64
import datetime
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from vserverlib import Error, printable
from vserverlib.nodes import databases, runs
from vserverlib.nodes.client import NOT_FOUND, Away, Client, Identity, Refused
from vserverlib.nodes.events import FIRST_PAUSE, Events, pauses
from vserverlib.nodes.jobs import Job, Outcome
from vserverlib.nodes.runs import Run
from vserverlib.nodes.settings import NodeSettings
from vserverlib.nodes.team import Team

ACTIVE, COMPLETED, FAILED, KILLED = "active", "completed", "failed", "killed by user"  # statuses of a run
NOT_ALLOWED, NOT_STARTED = "not allowed", "start failed"
STOPPED = "the node was stopped while it computed this run\n"
UNREADABLE = "this node does not read the input of this run: it is encrypted, or in blob storage\n"
LAST_SECONDS = 5.0  # in which a node that closes delivers what its runs left
LAST_ANSWER_SECONDS = 2.0
SERVER_ERROR = 500  # the first status that says so
TRIES_AFTER_ERRORS = 5  # of a request that the server answers with its own error
DELIVERIES = 5  # of a result, one at each sync, after which a server with errors is asked to store the failure only
Value = TypeVar("Value")


class _Closed(Exception):
    """The node closes, and the server is still away."""


class Node:
    """A node of a file. is_ready: is set once it is connected, or cannot be: failure says why."""

    def __init__(self, team: Team, own: NodeSettings) -> None:
        self._team, self._own, self._settings = team, own, team.settings
        self._report, self._slots = team.report, team.slots
        self._client = Client(team.settings.server, own)
        self._events = Events(self._client, self._received, team.report.away)
        self._runs: dict[int, Run] = {}  # that wait or compute, or whose result is not delivered
        self._ended: set[int] = set()
        self._is_new = True  # until it has taken what was open when it connected first
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._nudge, self._closing = threading.Event(), threading.Event()
        self._deadline = 0.0
        self._identity: Identity | None = None
        self._thread = threading.Thread(target=self._live, name=own.title, daemon=True)
        self.is_ready = threading.Event()
        self.failure: Error | None = None

    def start(self) -> None:
        """Log in and work, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more runs, and have those that compute end as failed once the workshop ends them."""
        self._deadline = time.monotonic() + LAST_SECONDS
        self._client.seconds = LAST_ANSWER_SECONDS
        self._closing.set()
        self._nudge.set()
        for run in list(self._runs.values()):
            run.is_stopped = True
        self._work.put(self._drop_waiting)

    def join(self) -> None:
        """Wait until the node has delivered what its runs left, or has given up. After stop()."""
        self._thread.join(max(self._deadline - time.monotonic(), 0) + LAST_ANSWER_SECONDS)

    @property
    def who(self) -> Identity:
        """Which node this is; known once it is ready."""
        assert self._identity is not None
        return self._identity

    # Its thread

    def _live(self) -> None:
        try:
            self._log_in()
            self._events.start()
            while (work := self._work.get()) is not None:
                self._guarded(work)
        except _Closed:
            pass
        except Error as error:
            self.failure = error
        finally:
            self.is_ready.set()
            self._events.close()
            self._client.close()

    def _log_in(self) -> None:
        self._asked(self._client.log_in)
        who = self._asked(self._client.identity)
        if who.is_encrypted:
            what = f'collaboration {who.collaboration_id} "{printable(who.collaboration, 60)}" is encrypted'
            raise Error(f"{self._own.title}: {what}, which these nodes do not support: use one that is not")
        self._identity = who
        self._team.join(who, lambda row: self._work.put(partial(self._take, row)))

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do some work whose errors must end nothing but the work."""
        try:
            work()
        except _Closed:
            raise
        except Error as error:
            self._report.line(f"{self.who.title}: {error}", "yellow")
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def _asked(self, ask: Callable[[], Value]) -> Value:
        """Ask the server until it answers. Raises Refused, or _Closed if the node closes meanwhile."""
        pause, errors = pauses(), 0
        while True:
            try:
                return ask()
            except Away as error:
                self._report.away(error)
            except Refused as error:
                errors += 1
                if error.status < SERVER_ERROR or errors == TRIES_AFTER_ERRORS:
                    raise
            if self._closing.is_set() and (not self._runs or time.monotonic() > self._deadline):
                raise _Closed
            self._nudge.clear()
            self._nudge.wait(FIRST_PAUSE if self._closing.is_set() else next(pause))

    # Events

    def _received(self, name: str, data: Any) -> None:
        """Take an event, from any thread."""
        if name == "sync":
            self._report.back()
            self._nudge.set()
            self._work.put(self._sync)
        elif name == "new_task" and isinstance(data, dict) and isinstance(data.get("id"), int):
            if isinstance(data.get("parent_id"), int):
                self._slots.note_subtasks(data["parent_id"])
            self._work.put(partial(self._ask_for, data["id"]))
        elif name == "kill_containers" and isinstance(data, dict):
            self._kill_listed(data)

    def _sync(self) -> None:
        """Take all open runs, and end those that have ended at the server."""
        self._events.emit("node_info_update", self._info())
        rows = self._asked(lambda: self._client.open_runs(node_id=self.who.id))
        self.is_ready.set()
        self._deliver_again()
        for row in rows:
            self._take(row)
        self._is_new = False
        found = {row["id"] for row in rows}
        for run in [each for each in self._runs.values() if each.id not in found and each.undelivered is None]:
            if not self._is_open(run.id):
                self._kill(run)

    def _info(self) -> dict[str, Any]:
        own = self._own.databases
        return {
            "encryption": False,
            "allowed_algorithms": list(self._settings.algorithms),
            "database_labels": list(own),
            "database_types": {f"db_type_{label}": each.type for label, each in own.items()},
            "database_columns": {f"columns_{label}": databases.columns(each) for label, each in own.items()},
        }

    def _kill_listed(self, data: dict[str, Any]) -> None:
        if data.get("collaboration_id") != self.who.collaboration_id:
            return
        if data.get("node_id", self.who.id) != self.who.id:
            return
        listed = data.get("kill_list")
        ids = {each.get("run_id") for each in listed if isinstance(each, dict)} if isinstance(listed, list) else None
        for run in list(self._runs.values()):
            if ids is None or run.id in ids:
                self._kill(run)

    def _kill(self, run: Run) -> None:
        """End a run, from any thread."""
        run.is_killed = True
        if run.running is not None:
            run.running.kill()
        elif self._slots.leave(run.id):
            self._work.put(partial(self._deliver, run, Outcome(KILLED, None, "")))

    # A run

    def _ask_for(self, task_id: int) -> None:
        """Ask for the runs of a new task, unless another node of the file does."""
        if self._team.has_to_ask(task_id):
            rows = self._asked(lambda: self._client.open_runs(task_id=task_id))
            self._team.share(self.who, rows)

    def _take(self, row: dict[str, Any]) -> None:
        """Have a run begin when there is room, unless it is known; end one that must not begin."""
        try:
            run = runs.of_answer(row)
        except (KeyError, TypeError, ValueError, AttributeError):
            self._report.detail(f"{self.who.title}: the server has a run that cannot be read")
            return
        is_elsewhere = run.has_begun and not self._is_new  # another process with this key computes it
        if is_elsewhere or run.id in self._runs or run.id in self._ended or self._closing.is_set():
            return
        self._runs[run.id] = run
        if run.has_begun:
            self._deliver(run, Outcome(FAILED, None, run.log + STOPPED))
        elif run.image not in self._settings.algorithms:
            allowed = ", ".join(self._settings.algorithms)
            log = f'the image "{run.image}" is not listed in algorithms of this node, which has {allowed}\n'
            self._deliver(run, Outcome(NOT_ALLOWED, None, log))
        elif not run.is_readable:
            self._deliver(run, Outcome(NOT_STARTED, None, UNREADABLE))
        else:
            start = partial(self._work.put, partial(self._begin, run))
            self._slots.enter(run.id, run.task_id, run.parent_id, start)

    def _begin(self, run: Run) -> None:
        if self._closing.is_set():
            return
        if run.is_killed:
            self._deliver(run, Outcome(KILLED, None, ""))
            return
        try:
            started = _now()  # the same at each try, so that a server knows it from another process's
            self._asked(lambda: self._client.write_run(run.id, started_at=started, status=ACTIVE))
            run.has_begun = True
            token = self._asked(lambda: self._client.container_token(run.task_id, run.image))
        except Refused as error:
            self._refused(run, error)
            return
        run.began = time.monotonic()
        self._report.line(f"{run.title} begins at {printable(self.who.organization, 60)}")
        job, on_log, on_end = self._job(run, token), partial(self._log, run), partial(self._end, run)
        try:
            run.running = self._team.workshop.start(job, on_log, on_end)
        except (Error, OSError, RuntimeError) as error:  # RuntimeError: no more threads
            self._deliver(run, Outcome(NOT_STARTED, None, f"{error}\n"))
            return
        self._announce(run, ACTIVE)
        if run.is_unwanted:
            run.running.kill()

    def _refused(self, run: Run, error: Refused) -> None:
        """End a run that the server does not let begin, unless it has ended, or another process computes it."""
        found = self._found(run.id)
        is_elsewhere = error.status < SERVER_ERROR and not run.has_begun and found.get("started_at") is not None
        if found["status"] in runs.OPEN and not is_elsewhere:
            self._deliver(run, Outcome(NOT_STARTED, None, f"{error}\n"))
        else:
            self._report.detail(f"{run.title} does not begin: {error}")
            self._forget(run)

    def _job(self, run: Run, token: str) -> Job:
        return Job(
            run.id,
            run.task_id,
            run.job_id,
            self._settings.algorithms[run.image],
            run.input,
            token,
            self._settings.server[:3],
            run.requested,
            self._own.databases,
            self._settings.environment,
            self.who.id,
        )

    def _log(self, run: Run, text: str) -> None:
        about = {"run_id": run.id, "task_id": run.task_id, "collaboration_id": self.who.collaboration_id}
        self._events.log(about, text)

    def _end(self, run: Run, outcome: Outcome) -> None:
        """Take the outcome of a run, from any thread."""
        self._slots.leave(run.id)
        if run.is_stopped and outcome.status != COMPLETED:
            outcome = Outcome(FAILED, None, outcome.log + STOPPED)
        self._work.put(partial(self._deliver, run, outcome))

    def _deliver(self, run: Run, outcome: Outcome) -> None:
        """Have the server know how a run ended. While it answers with its own errors, the outcome waits."""
        run.undelivered, run.deliveries = None, run.deliveries + 1
        try:
            self._write_end(run, outcome)
        except Refused as error:
            if error.status >= SERVER_ERROR and not self._closing.is_set():
                run.undelivered = outcome
            raise Error(f"the server did not store that {run.title} {outcome.status}: {error}") from None
        finally:
            if run.undelivered is None:
                self._forget(run)
            else:
                self._slots.leave(run.id)
        self._announce(run, outcome.status)

    def _deliver_again(self) -> None:
        for run in list(self._runs.values()):
            if run.undelivered is not None:
                self._guarded(partial(self._deliver, run, run.undelivered))

    def _write_end(self, run: Run, outcome: Outcome) -> None:
        fields = {"status": outcome.status, "log": _sendable(outcome.log), "finished_at": _now()}
        result = base64.b64encode(outcome.result or b"").decode()
        try:
            self._asked(lambda: self._client.write_run(run.id, result=result, **fields))
        except Refused as error:
            if error.status >= SERVER_ERROR and run.deliveries < DELIVERIES:
                raise
            status = self._found(run.id)["status"]  # it may have been killed, or an answer was lost
            if status in runs.OPEN:
                log = _sendable(f"{outcome.log}the server refused the result: {error}\n")
                self._asked(lambda: self._client.write_run(run.id, **{**fields, "status": FAILED, "log": log}))
                self._report.line(f"{run.title} {FAILED}: the server refused the result: {error}", "yellow")
                return
            if status not in ("", outcome.status):
                at_server = f"the server has it as {printable(status, 60)}"
                self._report.line(f"{run.title} {outcome.status}, which is dropped: {at_server}", "yellow")
                return
        self._report_end(run, outcome)

    def _report_end(self, run: Run, outcome: Outcome) -> None:
        took = f" in {run.seconds:.1f} s" if run.began else ""
        line = f"{run.title} {outcome.status}{took} at {printable(self.who.organization, 60)}"
        if outcome.status == COMPLETED:
            self._report.line(line)
        else:
            last = next((each for each in reversed(outcome.log.splitlines()) if each.strip()), "")
            self._report.line(f"{line}: {printable(last, 200)}" if last else line, "yellow")

    def _announce(self, run: Run, status: str) -> None:
        about = {
            "node_id": self.who.id,
            "status": status,
            "run_id": run.id,
            "task_id": run.task_id,
            "collaboration_id": self.who.collaboration_id,
            "organization_id": self.who.organization_id,
            "parent_id": run.parent_id,
        }
        self._events.emit("algorithm_status_change", about)

    def _found(self, id: int) -> dict[str, Any]:
        """Return a run as the server has it. Its status is "" if there is none, and an open one if nothing is known."""
        try:
            return self._asked(lambda: self._client.run(id))
        except Refused as error:
            return {"status": "" if error.status == NOT_FOUND else ACTIVE}

    def _is_open(self, id: int) -> bool:
        """Whether the server waits for a run."""
        return self._found(id)["status"] in runs.OPEN

    def _forget(self, run: Run) -> None:
        self._slots.leave(run.id)
        self._runs.pop(run.id, None)
        self._ended.add(run.id)
        self._end_if_idle()

    # The end

    def _drop_waiting(self) -> None:
        """Leave runs that have not begun to the next start of this node."""
        for run in [each for each in self._runs.values() if each.running is None]:
            self._slots.leave(run.id)
            self._runs.pop(run.id)
        self._deliver_again()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._closing.is_set() and not self._runs:
            self._work.put(None)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def _sendable(text: str) -> str:
    """Return a log without what no server stores: NUL, and bytes that are not UTF-8."""
    return text.replace("\0", "").encode(errors="replace").decode()
