"""What is released: sdist and wheel are built, looked at, and the wheel is run from where pip puts it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import vserver

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {"models.py", "shell.py", "vserver.py"}
DATA = ("*.py", "*.sql", "*.html", "*.css", "*.js", "*.svg")  # files of the package
README_LINE = re.compile(r"^<!-- (\w+) -->\n```\w*\n(.*)\n```$", re.MULTILINE)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist of this checkout and the wheel that is made of it, both without a network.

    It is built from a copy, in which nothing lies about.
    """
    copy, made = tmp_path_factory.mktemp("copy") / "vserver", tmp_path_factory.mktemp("built")
    lies_about = (".git", ".venv*", ".*_cache", ".hypothesis", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*lies_about))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(copy))
    return made


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    """The wheel of this checkout."""
    return next(built.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has put the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(folder))
    run(sys.executable, "-m", "pip", "install", *options, str(wheel))
    return folder


def run(*words: str, cwd: Path | None = None, **variables: str) -> str:
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


@pytest.mark.long
def test_the_wheel_holds_the_program_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for pattern in DATA for path in (ROOT / "vserverlib").rglob(pattern)]
    library = {str(path.relative_to(ROOT)) for path in files}
    assert held == TOP_LEVEL | library
    assert "vserverlib/migrations/0001_initial.py" in held


@pytest.mark.long
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone: nothing tells what belongs to it")
def test_the_sdist_holds_the_whole_project(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert [name for name in run("git", "ls-files", cwd=ROOT).splitlines() if name not in held] == []


@pytest.mark.long
def test_the_wheel_has_its_metadata(wheel: Path) -> None:
    output = metadata(wheel)
    assert (output["Name"], output["Version"]) == ("vserver", vserver.__version__)
    assert output["License-Expression"] == "MIT" and output["Requires-Python"] == ">=3.11"
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(
        output.get_all("Classifier")
    )
    assert {"postgres", "test"} <= set(output.get_all("Provides-Extra"))


@pytest.mark.long
def test_what_is_installed_runs(installed: Path, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "vserver")
    assert vserver.__version__ in run(*command, "--version", cwd=tmp_path, PYTHONPATH=str(installed))
    run(*command, "init", "--demo", cwd=tmp_path, PYTHONPATH=str(installed))
    where = (
        "import models, vserverlib.databases.storage as storage\n"
        "print(models.__file__, storage.__file__, len(db.Task.get()))"
    )
    printed = run(*command, "shell", "-c", where, cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert printed[0].startswith(str(installed)) and printed[1].startswith(str(installed)) and int(printed[2]) >= 24


@pytest.mark.long
def test_installing_gives_a_command_called_vserver(installed: Path) -> None:
    entry_points = ConfigParser()
    entry_points.read(next(installed.glob("*.dist-info")) / "entry_points.txt")
    assert dict(entry_points["console_scripts"]) == {"vserver": "vserverlib.__main__:main"}


def test_the_version_is_written_once() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: vserver.__version__"


def test_the_readme_has_one_line_to_try_it_and_one_to_test_it() -> None:
    lines = dict(README_LINE.findall((ROOT / "README.md").read_text()))
    assert set(lines) == {"try", "tests"}
    assert lines["try"].endswith("vserver shell --demo") and lines["tests"].endswith("pytest")
    assert all(line.startswith("python3 -m venv ") for line in lines.values())
