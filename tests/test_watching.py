"""Waiting and watching: real processes that look on while the test writes, at a real terminal where that matters."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.process import PROGRAM, SECONDS, start
from helpers.terminal import Terminal, environment

import models
import shell
from vserverlib import Error
from vserverlib.entities.fields import now
from vserverlib.terminal import watching

VSERVER = [*PROGRAM, "-d"]


@contextmanager
def running(path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command on a database, whose stdout and stderr are pipes."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with start([*VSERVER, path, *words], env=environment(path.parent), **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


def ran(path: Path, *words: str) -> tuple[int, str]:
    """Return the exit status of a command, and its stderr."""
    with running(path, *words) as ended:
        _, printed = ended.communicate()
        return ended.returncode, printed


@contextmanager
def watching_at(path: Path, *words: str, lines: int = 24, **env: str) -> Iterator[Terminal]:
    terminal = Terminal([*VSERVER, str(path), "watch", *words], environment(path.parent, **env), 80, lines)
    try:
        yield terminal
    finally:
        terminal.child.close(force=True)


def deliver(*results: Any, status: str = "completed") -> None:
    for result in results:
        result.started_at = result.finished_at = now()
        if status != "completed":
            result.status = status
        result.save()


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, printed = process.communicate(timeout=SECONDS)
    return process.returncode, printed


# wait


def test_waiting_for_completed_tasks_ends_at_once_with_0(path: Path, story: SimpleNamespace) -> None:
    deliver(*story.results)
    assert ran(path, "wait", "average") == (0, "")


def test_waiting_ends_when_the_last_result_comes(path: Path, story: SimpleNamespace) -> None:
    with running(path, "watch", "1") as watcher, running(path, "wait", "1") as process:
        line(watcher)
        deliver(story.results[0])
        assert line(watcher)["done"] == 1
        assert process.poll() is None
        deliver(story.results[1])
        assert ended(process) == (0, "")


def test_a_failed_task_ends_with_1(path: Path, story: SimpleNamespace) -> None:
    deliver(story.results[0])
    deliver(story.results[1], status="crashed")
    assert ran(path, "wait", "1") == (1, 'failed: task 1 "average" (2/2)\n')


def test_a_task_that_has_failed_in_part_is_still_waited_for(path: Path, story: SimpleNamespace) -> None:
    deliver(story.results[0], status="crashed")
    printed = 'not finished after 0 s: task 1 "average" (1/2, one has failed)\n'
    assert ran(path, "wait", "1", "--timeout", "0") == (3, printed)


def test_all_tasks_are_waited_for(path: Path, story: SimpleNamespace) -> None:
    deliver(*story.results)
    other = models.Task(name="other")
    other.save()
    models.Result(task=other, organization=story.oslo).save()
    status, printed = ran(path, "wait", "1", "other", "--timeout", "0")
    assert (status, printed) == (3, 'not finished after 0 s: task 2 "other" (0/1)\n')


def test_the_time_limit_is_not_shorter_than_asked_for(database: Any, story: SimpleNamespace) -> None:
    began = time.monotonic()
    assert watching.wait(database, [1], 0.2).status == watching.TIMED_OUT
    assert time.monotonic() - began >= 0.2


def test_a_task_without_results_is_an_error_at_once(path: Path, database: Any) -> None:
    models.Task(name="bare").save()
    assert ran(path, "wait", "bare") == (4, 'Error: task 1 "bare" has no results: it would never finish\n')


def test_no_time_to_wait_is_a_usage_error(path: Path, story: SimpleNamespace) -> None:
    assert ran(path, "wait", "1", "--timeout", "nan")[0] == 2
    assert ran(path, "wait", "1", "--timeout", "-1")[0] == 2


def test_a_task_that_is_deleted_ends_the_wait(
    path: Path, database: Any, story: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: _delete(path))  # once the wait has begun
    with pytest.raises(Error, match="task 1 was deleted: it will never finish"):
        watching.wait(database, [1])


def _delete(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM result")
        conn.execute("DELETE FROM task")


def test_a_database_that_is_removed_ends_the_wait_with_one_line(path: Path, story: SimpleNamespace) -> None:
    with running(path, "watch") as process:
        line(process)
        path.rename(path.with_name("elsewhere.db"))
        status, printed = ended(process)
    assert status == 1
    assert re.fullmatch("Error: vserver.db was removed or moved: .*\n", printed)


def test_ctrl_c_ends_the_wait_with_130(path: Path, story: SimpleNamespace) -> None:
    with running(path, "watch") as process:
        line(process)
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130


def test_waiting_holds_no_writer_up_and_costs_next_to_nothing(database: Any, story: SimpleNamespace) -> None:
    signs, before = watching.ChangeDetector(database), time.process_time()
    for _ in range(100):
        signs.has_changed()
    assert not database.in_transaction()
    assert (time.process_time() - before) / 100 < 0.01 * watching.POLL


def test_inside_a_transaction_nothing_can_be_seen(database: Any, story: SimpleNamespace) -> None:
    with database.atomic(), pytest.raises(Error, match="open transaction"):
        watching.wait(database, [1])


# watch


def test_a_pipe_gets_the_state_of_each_task_then_each_change(path: Path, story: SimpleNamespace) -> None:
    with running(path, "watch") as process:
        first = line(process)
        assert first.pop("at").endswith("Z")
        assert first == {"id": 1, "name": "average", "status": "pending", "done": 0, "total": 2}
        deliver(story.results[0])
        assert line(process)["done"] == 1
        deliver(story.results[1])
        assert line(process)["status"] == "completed"
        assert ended(process) == (0, "")


def test_a_new_task_appears(path: Path, story: SimpleNamespace) -> None:
    with running(path, "watch") as process:
        line(process)
        task = models.Task(name="another")
        with models.database.atomic():
            task.save()
            models.Result(task=task, organization=story.oslo).save()
        assert line(process)["name"] == "another"
        deliver(story.results[0])
        found = line(process)  # and of the other one, which has not changed, nothing
        assert (found["name"], found["done"]) == ("average", 1)


def test_nothing_to_watch_is_reported(path: Path, database: Any) -> None:
    status, printed = ran(path, "watch")
    assert status == 0 and re.fullmatch("no unfinished tasks: .*\n", printed)


def test_a_reader_that_has_left_ends_it(path: Path, story: SimpleNamespace) -> None:
    with running(path, "watch") as process:
        line(process)
        assert process.stdout and process.stderr
        process.stdout.close()
        process.wait(timeout=SECONDS)
        assert process.stderr.read() == ""


def test_at_a_terminal_bars_are_redrawn_in_place(path: Path, story: SimpleNamespace) -> None:
    with watching_at(path) as terminal:
        assert "average" in terminal.wait_for(r"0/2 +○ pending")
        deliver(story.results[0])
        assert terminal.wait_for(r"1/2").count("average") == 1
        terminal.send("\r\r")  # somebody leans on Enter
        deliver(story.results[1])
        assert terminal.wait_for(r"2/2 +✓ completed").count("average") == 1 == terminal.text.count("progress")
        assert terminal.leave() == 0


def test_no_more_tasks_are_drawn_than_there_are_lines(path: Path, story: SimpleNamespace) -> None:
    for _ in range(30):
        task = models.Task(name="many")
        task.save()
        models.Result(task=task, organization=story.oslo).save()
    with watching_at(path, NO_COLOR="1") as terminal:
        shown = terminal.wait_for("12 more")
        assert "31  many" in shown and "of 31 tasks" in shown and "average" not in shown
        terminal.child.setwinsize(12, 80)
        terminal.screen.resize(12, 80)
        assert terminal.wait_for("24 more").count("many") == 7


def test_a_dumb_terminal_gets_readable_lines(path: Path, story: SimpleNamespace) -> None:
    with watching_at(path, TERM="dumb") as terminal:
        terminal.wait_for(r'task 1 "average": pending, 0/2')
        deliver(*story.results)
        terminal.wait_for(r'task 1 "average": completed, 2/2')
        assert "\x1b" not in terminal.raw


def test_ctrl_c_at_a_terminal_ends_it_with_130(path: Path, story: SimpleNamespace) -> None:
    with watching_at(path) as terminal:
        terminal.wait_for("0/2")
        terminal.interrupt()
        assert terminal.leave() == 130


def test_the_shell_has_watch(database: Any, story: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(*story.results)
    shell.namespace(database)["watch"]([story.task])
    assert json.loads(capsys.readouterr().out)["status"] == "completed"


def test_a_task_that_cannot_finish_is_reported(path: Path, database: Any) -> None:
    models.Task(name="by hand").save()
    with running(path, "watch", "1") as process:
        assert line(process)["status"] == "empty"
        process.send_signal(signal.SIGINT)
        assert 'task 1 "by hand" has no results' in process.communicate()[1]
