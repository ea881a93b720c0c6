"""`vserver run` and post(): a server, its nodes and the command as processes, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import our_server
from helpers.our_node import IMAGE, Federation
from helpers.our_server import OurServer
from helpers.process import PROGRAM, vserver
from helpers.terminal import Terminal, environment

import models
from vserverlib import Error, UsageError, running_servers
from vserverlib.examples import patients
from vserverlib.pages import documents, entity_page
from vserverlib.posting import choosing, method_arguments
from vserverlib.posting.choosing import Wanted
from vserverlib.queries import outcomes, why
from vserverlib.serving import callers, runs
from vserverlib.terminal import views, why_report

SECONDS = 60.0


def until(server: OurServer, text: str) -> str:
    """Wait until the server or its nodes have printed a text, and return all that they have printed."""
    end = time.monotonic() + SECONDS
    while text not in server.err:
        assert time.monotonic() < end, f"{text!r} was not printed: {server.err}"
        time.sleep(0.02)
    return server.err


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def until_gone(processes: list[int]) -> None:
    end = time.monotonic() + SECONDS
    while alive := [each for each in processes if is_alive(each)]:
        assert time.monotonic() < end, alive
        time.sleep(0.02)


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    every = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(each) for each in every]


def state_files() -> list[Path]:
    return list(Path(os.environ["HOME"]).rglob("running-*.json"))


@pytest.fixture
def federation(address: str) -> Federation:
    our_server.fill_with_root(address)
    return Federation(Path(address) if "://" not in address else address, 3)  # type: ignore[arg-type]


@contextlib.contextmanager
def served(address: str, federation: Federation, folder: Path, **more: Any) -> Iterator[OurServer]:
    """Serve a database with nodes beside the server, and wait until they are online."""
    file = federation.write(folder / "nodes", 0, **more)
    with our_server.running(address, folder, "--nodes", str(file)) as server:
        until(server, "3 nodes online")
        yield server


def test_a_task_is_posted_computed_and_shown(address: str, federation: Federation, tmp_path: Path) -> None:
    with served(address, federation, tmp_path) as server:
        (file,) = state_files()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        run = ("-d", address, "run", IMAGE)
        done = vserver(*run, "add", "first=[1]", "second=[2.5]", VSERVER_ACTOR="kari")
        assert (done.status, done.err) == (0, "") and "completed" in done.out and "[1, 2.5]" in done.out, done
        log = json.loads(vserver("-d", address, "log", "--entity", "tasks", "--id", "1", "-o", "json").out)
        assert {each["actor"] for each in log} == {"root (vserver run by kari)"}

        (row,) = json.loads(vserver(*run, "central", "-o", "json").out)
        assert (row["result"], row["status"], row["organization"]) == (6, "completed", "root")
        code = (
            f'print(post("{IMAGE}", "add", {{"first": 1, "second": 2}}, organizations=[2, "site 3"], user=1).results)'
        )
        done = vserver("-d", address, "shell", "-c", code)
        assert (done.status, done.out) == (0, "[3, 3]\n"), done
        begun = children(server.process.pid)
        assert len(begun) == 1 and server.stop() == 0
        until_gone(begun)
    assert state_files() == [] and "Traceback" not in server.err and "api_key" not in server.err


def test_run_takes_words_files_and_choices(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    with served(str(path), Federation(path, 3), tmp_path):
        run = ("-d", path, "run", IMAGE)
        rows = vserver(*run, "part", "--all", "-o", "jsonl").out.splitlines()
        assert [json.loads(each)["result"] for each in rows] == [2, 2, 2]
        few = vserver(*run, "part", "--organization", "site 3", "--organization", "2", "-o", "json")
        assert [each["organization"] for each in json.loads(few.out)] == ["site 3", "site 2"]

        (tmp_path / "second.json").write_text('{"b": "ü"}\n')
        done = vserver(*run, "add", 'first="x"', "second=@second.json", cwd=tmp_path)
        assert done.status == 1 and "crashed" in done.out and "TypeError" in done.out and "vserver -d" in done.err, done
        stdin = vserver(*run, "add", "-", given='{"first": "a", "second": "b"}', o="x")
        assert stdin.status == 0 and '"ab"' in stdin.out
        assert vserver(*run, "other").status == 1
        done = vserver("-d", path, "run", "demo/unknown:1", "add")
        assert done.status == 1 and "not allowed" in done.out, done

        name = vserver(*run, "part", "--no-wait", "--name", "mine")
        assert (name.status, name.err) == (0, "") and name.out.startswith("task/")
        assert vserver("-d", path, "wait", name.out.strip()).status == 0
        assert vserver("-d", path, "list", "tasks", "--where", "name=mine", "-o", "name").out == name.out

        code = f'print(len(post("{IMAGE}", "part", wait=False).runs), post("{IMAGE}", "fail").results)'
        assert vserver("-d", path, "shell", "-c", code).out == "1 [None]\n"


def test_it_waits_for_a_node_that_is_not_online_and_ctrl_c_leaves_the_task(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    Federation(path, 2)
    with our_server.running(path, tmp_path):
        for words, said in (
            (["run", IMAGE, "part", "--all"], "task 1 goes on; wait for it with: vserver -d .* wait 1"),
            (["shell", "-c", f'post("{IMAGE}", "part", everywhere=True)'], "task 2 goes on"),
        ):
            terminal = Terminal([*PROGRAM, "-d", str(path), *words], environment(Path(os.environ["HOME"])), 100)
            try:
                terminal.wait_for("organization 1 .* has no node online: the task waits for node 1")
                terminal.wait_for("0/2")
                terminal.interrupt()
                assert terminal.wait_for_end() == 130 and re.search(said, terminal.text.replace("\n ", ""))
            finally:
                terminal.child.close(force=True)
        assert json.loads(vserver("-d", path, "show", "task/1", "-o", "json").out)["status"] == "pending"
        assert "not posted" not in vserver("-d", path, "show", "task/1").out


@pytest.fixture
def no_interrupts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start programs with SIGINT ignored, as a script starts them with &."""
    monkeypatch.setenv("VSERVER_PLAIN_STARTS", "1")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("no_interrupts")
def test_a_killed_server_is_noticed_and_leaves_no_nodes(path: Path, tmp_path: Path) -> None:
    our_server.fill_with_root(path)
    file = Federation(path, 3).write(tmp_path / "nodes", 0)
    with our_server.running(path, tmp_path, "--nodes", str(file), PGPASSWORD="SECRET") as server:
        until(server, "3 nodes online")
        begun = children(server.process.pid)
        assert begun and not any(b"SECRET" in Path(f"/proc/{each}/environ").read_bytes() for each in begun)
        server.kill()
        until_gone(begun)
    assert len(state_files()) == 1
    done = vserver("-d", path, "run", IMAGE, "part")
    assert done.status == 4 and done.err.count("\n") == 1 and "no server" in done.err and " start" in done.err
    assert state_files() == []


def test_the_demo_computes_with_its_own_nodes_and_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with our_server.running(None, tmp_path, "--demo", TMPDIR=str(temporary)) as server:
        said = until(server, "vserver run --demo")
        assert "with your rights" in said
        (line,) = [each for each in said.splitlines() if "vserver run --demo" in each]
        done = vserver(*line.partition("vserver ")[2].split(), "-o", "json")
        assert done.status == 0 and done.err == "", done
        ages = [row[0] for organization in patients.PATIENTS for row in patients.rows(organization)]
        (row,) = json.loads(done.out)
        assert row["result"] == {"average": sum(map(int, ages)) / len(ages), "count": len(ages), "organizations": 4}  # type: ignore[call-overload]
        table = vserver("run", "--demo", "demo/crosstab:1", "central_crosstab", "results_col=stage", "group_cols=sex")
        assert table.status == 0 and "III" in table.out.splitlines()[1] and len(table.out.splitlines()) == 4, table
        done = vserver("run", "demo/average:1", "central_average", cwd=tmp_path)
        assert done.status == 4 and "add --demo" in done.err
        begun = children(server.process.pid)
        assert server.stop() == 0
        until_gone(begun)
    assert list(temporary.iterdir()) == [] and state_files() == []
    done = vserver("run", "--demo", IMAGE, "x")
    assert done.status == 4 and "vserver start --demo" in done.err


def test_a_log_is_followed_until_the_run_ends(address: str, federation: Federation, tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    algorithm = tmp_path / "nodes" / "slow.py"
    algorithm.write_text(
        "import os, time\n"
        "def slow(file):\n"
        "    print('first \\x1b[2J', flush=True)\n"
        "    while not os.path.exists(file):\n"
        "        time.sleep(0.01)\n"
        "    print('last', flush=True)\n"
    )
    images = {"demo/slow:1": {"file": "slow.py"}}
    with served(address, federation, tmp_path, algorithms=images):
        end = tmp_path / "end"
        assert vserver("-d", address, "run", "demo/slow:1", "slow", f"file={end}", "--no-wait").status == 0
        command = [*PROGRAM, "-d", address, "show", "result", "1", "--follow"]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(Path(os.environ["HOME"])),
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "first \\x1b[2J\n"
            end.touch()
            out, err = process.communicate(timeout=SECONDS)
        assert (out, process.returncode) == ("last\n", 0) and "result 1 has ended: completed" in err
    done = vserver("-d", address, "show", "task", "1", "--follow")
    assert done.status == 2 and "--follow" in done.err


def test_a_nodes_file_with_a_fault_is_refused_and_another_is_run_beside_the_server(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    our_server.fill_with_root(path)
    federation = Federation(path, 3)
    file = federation.write(tmp_path / "nodes", 0, algorithm={})
    done = vserver("-d", path, "start", "--port", "0", "--nodes", file)
    assert (
        done.status == 1
        and "algorithm" in done.err
        and "serving" not in done.err
        and federation.keys[1] not in done.err
    )
    missing = vserver("-d", path, "start", "--port", "0", "--nodes", tmp_path / "none.yaml")
    assert missing.status == 1 and "none.yaml" in missing.err and missing.err.count("\n") == 1
    file = federation.write(tmp_path / "nodes", 0)
    file.chmod(0o644)
    (tmp_path / "requests.py").write_text("raise SystemExit('a module of the current folder was imported')\n")
    monkeypatch.chdir(tmp_path)
    with our_server.running(path, tmp_path, "--nodes", str(file)) as server:
        said = until(server, "3 nodes online")
        assert said.count("chmod 600") == 1 and federation.keys[1] not in said
        (nodes,) = children(server.process.pid)
        os.kill(nodes, signal.SIGKILL)
        until(server, "status -9")
        assert server.client().ask("GET", "health").status == 200
        assert server.stop() == 0


# What is refused


def test_what_does_not_fit_is_one_line(example: Path, tmp_path: Path) -> None:
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        ("run", "a", "b"): (4, "start"),
        ("run", "a"): (2, "METHOD"),
        ("run", "a", "b", "c"): (2, "KEY=VALUE"),
        ("run", "a", "b", "x=1", "x=2"): (2, "x is given twice"),
        ("run", "a", "b", "x=@none"): (4, "none"),
        ("run", "a", "b", "--all", "--organization", "1"): (2, "--all and --organization"),
        ("-d", "x.db", "run", "--demo", "a", "b"): (2, "--demo and -d"),
        ("-d", "none.db", "run", "a", "b"): (4, "no database"),
        ("--dry-run", "run", "a", "b"): (4, "dry run"),
    }
    for words, (status, text) in cases.items():
        done = vserver(*words, cwd=tmp_path)
        assert (done.status, done.out) == (status, "") and text in done.err and "Traceback" not in done.err, (
            words,
            done,
        )
    for given in ("[1]", "{", "NaN"):
        assert vserver("run", "a", "b", "-", given=given).status == 2


def test_post_is_refused_where_no_server_can_serve(example: Path) -> None:
    code = 'post("a", "b")'
    for words in (("shell", "--demo"), ("shell", "--sandbox"), ("shell",)):
        done = vserver(*words, "-c", code)
        assert done.status == 1 and "serve" in done.err, (words, done)
    code = 'with database.atomic(): post("a", "b")'
    assert "open transaction" in vserver("shell", "-c", code).err


def test_a_file_that_others_can_read_names_no_server(tmp_path: Path) -> None:
    server = running_servers.RunningServer("http://127.0.0.1:1/api", os.getpid(), "x.db", "secret")
    with running_servers.announced("abc", server):
        assert running_servers.of_database("abc") == server and running_servers.demos() == []
        (file,) = state_files()
        file.chmod(0o640)
        assert running_servers.of_database("abc") is None and file.exists()
        file.chmod(0o600)
        for text in ("", "[]", '{"url": 3', '{"other": 1}'):
            with open(file, "w") as damaged:
                damaged.write(text)
            assert running_servers.of_database("abc") is None
    assert not file.exists() and running_servers.of_database("abc") is None


# Choosing


def refused(**wanted: Any) -> str:
    with pytest.raises(Error) as caught:
        choosing.choose(Wanted(**wanted))
    return str(caught.value)


def test_what_is_not_named_has_to_be_unique(consortium: Any) -> None:
    assert '"Colorectal cancer survival", "Rare tumours [pilot]"' in refused()
    said = refused(collaboration="1")
    assert '"anna.devries", "bram.hofstra"' in said and "juergen" not in said
    assert choosing.choose(Wanted(user="anna.devries")).collaboration.id == 1
    chosen = choosing.choose(Wanted(user="bram.hofstra", everywhere=True))
    assert [each.id for each in chosen.organizations] == [1, 2, 3, 5]
    assert [each.organization_id for each in chosen.nodes] == [1, 2, 3, 5]
    models.Node.update(status="offline").where(models.Node.id > 0).execute()
    models.Node.update(status="online").where(models.Node.id == 10).execute()
    chosen = choosing.choose(Wanted(user="inigo.etxeberria"))
    assert (chosen.collaboration.id, chosen.organizations[0].id) == (3, 5)  # the only one whose node is online


def test_what_cannot_be_posted_is_refused_with_a_remedy(consortium: Any) -> None:
    assert "may not post" in refused(user="theo.lefevre") and "Researcher" in refused(user="theo.lefevre")
    assert "encrypted" in refused(collaboration="2", user="anna.devries")
    assert "does not belong" in refused(collaboration="3", user="anna.devries")
    assert 'did you mean "anna.devries"' in refused(user="anna.devrie")
    said = refused(user="anna.devries", organizations=("4",))
    assert "no node" in said and "Kankerregister Noord" in said
    models.Node.get(1).delete_instance()
    said = refused(user="anna.devries")
    assert "no node" in said and "Klinikum" in said


# Arguments and results


def test_a_value_is_json_or_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("[1, 2]\n")
    words = ["a=1", "b=age", 'c="1"', "d=null", 'e={"x": [1]}', "f=NaN", "g=", "h=a=b", f"i=@{tmp_path}/text", "j=@@x"]
    assert method_arguments.parse(words) == {
        "a": 1,
        "b": "age",
        "c": "1",
        "d": None,
        "e": {"x": [1]},
        "f": "NaN",
        "g": "",
        "h": "a=b",
        "i": [1, 2],
        "j": "@x",
    }
    assert method_arguments.parse(["x=" + "[" * 100_000]) == {"x": "[" * 100_000}
    for word in ("a b=1", "=1", "1=2", "\x1b=1"):
        with pytest.raises(UsageError) as caught:
            method_arguments.parse([word])
        assert "KEY=VALUE" in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_result_is_decoded_if_it_can_be(consortium: Any) -> None:
    assert outcomes.of_task(1).results == [{"n": 1204, "average": 66.8}] * 4
    assert outcomes.decoded("a$b$c") == "a$b$c" and outcomes.decoded("") is None and outcomes.decoded(None) is None
    assert outcomes.decoded("bnVsbA==") is None
    with pytest.raises(Error):
        outcomes.of_task(99)


def test_pieces_of_a_log_are_lines(consortium: Any) -> None:
    result, node = models.Task.get(14).results[0], callers.of_node(models.Node.get(1))
    runs.append_log(result.id, "of a task that was not posted", node)
    consortium.execute_sql("UPDATE task SET init_user_id = 1 WHERE id = 14")
    for text in ("a", "b\n", "c"):
        runs.append_log(result.id, text, node)
    assert models.Result.get(result.id).log == "a\nb\nc"


def test_a_saved_task_is_said_to_be_left_alone(consortium: Any) -> None:
    shown = vserver("show", "task", "14").out
    assert "hands it to no node" in shown and "vserver run" in shown
    for task in ("1", "9"):  # completed; active
        assert "hands it to no node" not in vserver("show", "task", task).out
    for id, is_left in ((14, True), (1, False), (9, False)):
        found = why.why(consortium, id)
        page = documents.standalone(entity_page.read(models.Task.by_id(id)), "x")
        explained = views.render(why_report.WhyView(found), width=120, color=False)
        assert found.left_alone == ("hands it to no node" in explained) == ("hands it to no node" in page) == is_left


def test_without_the_libraries_of_nodes_the_demo_is_served_and_says_what_to_install(example: Path) -> None:
    for words, status in ((["start", "--demo", "--port", "0"], 0), (["start", "--nodes", "none.yaml"], 1)):
        code = f"import sys; sys.modules['requests'] = None; import vserver; vserver.main({words})"
        home = environment(Path(os.environ["HOME"]))
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=home) as process:
            assert process.stderr is not None and "python-socketio, requests" in process.stderr.readline()
            if status == 0:
                while "client.task.list()" not in process.stderr.readline():
                    pass
                process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(SECONDS) == status and "Traceback" not in said and "vserver run" not in said


def test_without_a_place_for_its_file_a_server_still_serves(tmp_path: Path) -> None:
    with our_server.running(None, tmp_path, "--demo", VSERVER_HOME="/dev/null/x") as server:
        assert "vserver run will not find this server" in server.err
        assert server.client().ask("GET", "health").status == 200
