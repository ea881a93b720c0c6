"""Each command with each of its standard streams closed: a line or its data, the same exit status, no traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.process import SECONDS, vserver
from helpers.terminal import environment

KINDS = ["sqlite"]  # it is about files

ASKING = [  # what reads stdin, or asks
    "shell",
    "shell -",
    "shell --read-only -q asks.py",
    "import -",
    "import export.json --merge",
    "passwd first",
    "passwd first --stdin",
    "apikey 1",
    "delete organization 1",
    "delete organization 1 --dependents",
    "restore backup.db",
    "undo",
    "log --prune 90d",
]
OTHERS = [
    "",
    "--help",
    "--version",
    "check",
    "completion bash",
    "demo --tasks 2",
    "delete task 1 --dry-run",
    "export -",
    "export new.json",
    "import export.json --dry-run",
    "import export.json --replace --yes",
    "init",
    "list tasks -o json",
    "log",
    "nonsense",
    "overview",
    "restore backup.db --yes",
    "shell -c print(len(db.Task.get()))",
    "show task 1",
    "upgrade",
    "wait 1 --timeout 0",
    "watch 1",
]
READ = ("shell", "shell -", "import -", "passwd first --stdin")  # these cannot do without stdin


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database, an export and a backup of it, and a script that asks."""
    folder = tmp_path_factory.mktemp("closed")
    named = ("-d", folder / "vserver.db")
    vserver(*named, "init", "--demo")
    vserver(*named, "shell", "-c", "user = db.User.get(1); user.username = 'first'; user.save()")
    vserver(*named, "export", folder / "export.json")
    vserver(*named, "backup", folder / "backup.db")
    (folder / "asks.py").write_text("print('asked'); input()")
    return folder


def run(command: str, closed: str, place: Path, folder: Path) -> Done:
    """Run a command on a copy of the database, without a terminal, with some streams closed as a shell does it."""
    for path in place.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    words = command.split(" ") if command else []
    program = shlex.join([sys.executable, "-m", "vserver", "-d", "vserver.db", *words])
    done = subprocess.run(
        ["sh", "-c", f"{program} {closed}"],
        cwd=folder,
        env=environment(Path(os.environ["HOME"])),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def check_closed(command: str, place: Path, tmp_path: Path) -> None:
    done = {}
    for at, closed in enumerate(("", "<&-", "2>&-", ">&-", "<&- >&- 2>&-")):
        (tmp_path / str(at)).mkdir()
        done[closed] = run(command, closed, place, tmp_path / str(at))
        assert "Traceback" not in done[closed].err + done[closed].out.replace("asked", ""), done[closed]
    without_stdin, without_stderr, without_stdout, without = list(done.values())[1:]
    if command in READ:
        assert without_stdin.status == 1 and "Error: stdin is closed" in without_stdin.err
        assert without_stdin.err.count("\n") == 1 and without_stdin.out == ""
    else:
        assert without_stdin.status == done[""].status
    assert without_stderr.status == done[""].status and len(without_stderr.out) == len(done[""].out)
    assert without_stdout.status == 1 and "Error: stdout is closed" in without_stdout.err
    assert (without.status, without.out, without.err) == (1, "", "")


@pytest.mark.parametrize("command", [*READ, "restore backup.db --yes", "apikey 1"])
def test_a_command_without_its_streams_says_so_or_does_its_work(command: str, place: Path, tmp_path: Path) -> None:
    check_closed(command, place, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("command", [*ASKING, *OTHERS])
def test_every_command_without_its_streams(command: str, place: Path, tmp_path: Path) -> None:
    if "asks.py" in command:
        done = run(command, "<&-", place, tmp_path)
        assert (done.status, done.out) == (1, "asked\n") and "Error: stdin is closed" in done.err.splitlines()[-1]
    else:
        check_closed(command, place, tmp_path)


def test_no_file_takes_the_place_of_a_closed_stream(place: Path, tmp_path: Path) -> None:
    code = "import os; open('x.txt', 'w').close(); print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 2)])"
    (tmp_path / "code.py").write_text(code)
    assert run("shell code.py", "<&- 2>&-", place, tmp_path).out == "['/dev/null', '/dev/null']\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_script_whose_output_is_not_read_to_its_end_ends_quietly_as_a_list_does(unbuffered: str) -> None:
    words = [sys.executable, "-m", "vserver", "shell", "--demo", "-q", "-c", "for i in range(100000): print(i)"]
    env = environment(Path(os.environ["HOME"]), PYTHONUNBUFFERED=unbuffered)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as script:
        assert script.stdout is not None and script.stderr is not None
        assert script.stdout.readline() == b"0\n"
        script.stdout.close()
        assert script.stderr.read() == b""
    assert script.returncode == 1


def test_a_source_that_is_piped_in_is_called_stdin_in_messages(tmp_path: Path) -> None:
    for given in ("", "[1]", "nonsense", "organizations: 5"):
        ended = vserver("-d", tmp_path / "p.db", "import", "-", given=given)
        assert ended.status == 1 and "stdin" in ended.err and "/stdin" not in ended.err, ended.err
