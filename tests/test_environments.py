"""The environment with vantage6's tools: created once, whole or not at all. Packages are wheels made here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import process
from helpers.terminal import environment

from vserverlib import Error
from vserverlib.nodes import environments

VERSION = "1.0"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheel `tiny`, in which alone pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"tiny-{VERSION}-py3-none-any.whl", "w") as wheel:
        information = f"tiny-{VERSION}.dist-info"
        wheel.writestr("tiny.py", "value = 42\n")
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {VERSION}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.long
def test_a_failure_is_one_line_and_leaves_nothing(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(Error, match="pip could not install no-such-package") as failed:
        environments.make_environment(tmp_path / "tools", list[str]().append, ["no-such-package"])
    assert "\n" not in str(failed.value) and "No matching distribution" in str(failed.value)
    assert not (tmp_path / "tools").exists()


@pytest.mark.parametrize("there", ["folder", "file", "link", "below a file"])
def test_what_is_there_stays(tmp_path: Path, there: str) -> None:
    place, other = tmp_path / "tools", tmp_path / "other"
    other.mkdir()
    if there == "folder":
        place.mkdir()
        (place / "own.txt").touch()
    elif there == "link":
        place.symlink_to(other)
    else:
        place.touch()
    with pytest.raises(Error, match="tools"):
        environments.make_environment(place / "x" if there == "below a file" else place, print, ["tiny"])
    assert os.path.lexists(place) and (there != "folder" or (place / "own.txt").exists())


CODE = """
import sys
from pathlib import Path
from vserverlib.nodes import environments
environments.make_environment(Path(sys.argv[1]), lambda line: print(line, flush=True), ["tiny"])
"""


@pytest.mark.long
def test_it_is_created_once_also_after_a_process_that_was_killed(tmp_path: Path, wheels: Path) -> None:
    place, lines = tmp_path / "new" / "tools", list[str]()
    env = environment(tmp_path, PYTHONPATH=str(process.ROOT))
    command = [sys.executable, "-c", CODE, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as creating:
        assert creating.stdout is not None and creating.stdout.readline().startswith(b"creating")
        creating.send_signal(signal.SIGKILL)
    assert (place / environments.MARK).read_text() == ""
    python = environments.make_environment(place, lines.append, ["tiny"])
    done = subprocess.run([python, "-c", "import tiny; print(tiny.value)"], capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"
    assert lines[0].startswith("creating ") and lines[-1] == "installing 1 package"
    before, lines[:] = place.stat().st_mtime_ns, []
    assert environments.make_environment(place, lines.append, ["other"]) == python
    assert "exists already" in lines[0] and place.stat().st_mtime_ns == before
    assert environments.default_python() == sys.executable
    environments.default_folder().parent.mkdir(parents=True)
    environments.default_folder().symlink_to(place)
    assert environments.default_python() == str(environments.default_folder() / "bin" / "python")


@pytest.mark.vantage6_client
def test_the_tools_of_vantage6_can_be_installed(tmp_path: Path) -> None:
    python = environments.make_environment(tmp_path / "tools", print)
    code = "import pandas, vantage6.algorithm.tools.wrap; assert int(pandas.__version__[0]) < 3"
    subprocess.run([python, "-c", code], check=True)
