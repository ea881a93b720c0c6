"""A script that fails halfway: what it had saved and how to undo it, `--atomic`, and whose frames are shown."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import pytest
from helpers import process
from helpers.process import vserver

import models

SAVES = 'for name in ("Oslo", "Bergen"): Organization(name=name, country="Norway").save()\n'
ENDINGS = {
    "an exception": ("1 / 0", 1),
    "an error of ours": ("db.User.get_by_username('x').id", 1),
    "a status": ("import sys; sys.exit(5)", 5),
    "a message": ("import sys; sys.exit('enough')", 1),
    "Ctrl-C": ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 130),
    "SIGTERM": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
}


def names() -> list[str]:
    return [each.name for each in models.Organization.get()]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_script_says_how_to_undo_what_it_saved(ending: str, address: str, database: object) -> None:
    code, status = ENDINGS[ending]
    done = vserver("-d", address, "shell", "-c", SAVES + code)
    assert done.status == status and names() == ["Oslo", "Bergen"]
    found = re.search(r"saved 2 changes before it failed; undo with: vserver (-d .* undo --session \w+)\n", done.err)
    assert found, done.err
    assert vserver(*shlex.split(found[1]), "--yes").status == 0
    assert names() == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_atomic_script_that_fails_has_saved_nothing(ending: str, address: str, database: object) -> None:
    code, status = ENDINGS[ending]
    done = vserver("-d", address, "shell", "--atomic", "-c", SAVES + code)
    assert done.status == status and names() == []
    assert done.err.count("nothing was saved") == 1 and "undo" not in done.err


def test_an_atomic_script_that_succeeds_is_one_change(address: str, database: object) -> None:
    nested = "with database.atomic(): Organization(name='Tromsø', country='Norway').save()"
    done = vserver("-d", address, "shell", "--atomic", "-c", SAVES + nested)
    assert (done.status, done.err) == (0, "") and len(names()) == 3
    assert vserver("-d", address, "undo", "--yes").status == 0 and names() == []


@pytest.mark.parametrize("own", ["commit", "rollback"])
def test_an_atomic_script_that_ends_the_transaction_is_reported(own: str, address: str, database: object) -> None:
    done = vserver("-d", address, "shell", "--atomic", "-c", f"{SAVES}database.{own}()")
    assert done.status == 1 and "ended the transaction of --atomic" in done.err and "Traceback" not in done.err


def test_an_open_transaction_does_not_count_as_saved(address: str, database: object) -> None:
    done = vserver("-d", address, "shell", "-c", f"with database.atomic():\n {SAVES} 1 / 0")
    assert done.status == 1 and "saved" not in done.err and names() == []


@pytest.mark.parametrize("option", ["--sandbox", "--demo"])
def test_a_private_copy_has_nothing_to_undo(option: str, path: Path) -> None:
    where = () if option == "--demo" else ("-d", str(path))
    done = vserver(*where, "shell", option, "-c", SAVES + "1 / 0")
    assert done.status == 1 and "undo" not in done.err and "before it failed" not in done.err


def test_a_script_that_saved_nothing_or_succeeded_says_nothing(path: Path) -> None:
    assert "saved" not in vserver("-d", path, "shell", "-c", "1 / 0").err
    assert vserver("-d", path, "shell", "-c", SAVES).err == ""


@pytest.mark.parametrize("words", [("--atomic", "--read-only", "-c", "1"), ("--atomic",)])
def test_atomic_needs_a_script_that_saves(words: tuple[str, ...], path: Path, tmp_path: Path) -> None:
    done = vserver("-d", path, "shell", *words, given=None if words == ("--atomic",) else "")
    assert done.status in (0, 2)  # without a terminal, stdin is the script
    assert words == ("--atomic",) or "--atomic is for" in done.err


# Frames

SCRIPT = """
import models as db
def work():
    {line}
{connect}
work()
"""


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("db.connect('gone.db')", "vserverlib.NotFound: there is no database gone.db"),
        ("db.User(usrname='x', password='Geheim-123!')", 'vserverlib.UsageError: User has no field "usrname"'),
        ("db.Task.where('nmae=x')", 'vserverlib.UsageError: task has no field "nmae"'),
        ("db.Organization.get_by_name('Oslo').id", None),
        ("db.User.get_by_username('x').save()", 'vserverlib.NotFound: no user "x"'),
        ("db.database.execute_sql('SELEC 1')", "correct the SQL"),
        ("db.User.insert(username='x', organization=99).execute()", "the database refused"),
        ("db.Task.select().join(db.User)", "vserverlib.UsageError: no link leads from Task to User"),
        ("db.Task.select().scalar(nope=1)", "Peewee refuses this query; python -X dev prints the whole traceback"),
        ("db.Task.filter(nope=1)", 'AttributeError: Task has no attribute "nope"'),
    ],
)
def test_a_mistake_in_a_plain_script_shows_its_own_frames_and_one_line(
    line: str, error: str | None, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "work.py"
    file.write_text(SCRIPT.format(line=line, connect="" if "gone" in line else f"db.connect({str(path)!r})"))
    done = process.python(file, cwd=tmp_path)
    assert done.status == 1 and "Geheim" not in done.err
    frames = re.findall(r'File "(.*?)", line (\d+)', done.err)
    assert frames == [(str(file), "6"), (str(file), "4")], done.err
    if error:
        assert done.err.splitlines()[-1].startswith(error) and "During handling" not in done.err


def test_a_mistake_in_sql_is_as_short_in_the_shell(address: str, database: object, tmp_path: Path) -> None:
    file = tmp_path / "work.py"
    file.write_text("def work():\n    database.execute_sql('SELEC 1')\nwork()\n")
    done = vserver("-d", address, "shell", file)
    assert done.status == 1 and done.err.splitlines()[-1].startswith("correct the SQL")
    assert re.findall(r'File "(.*?)", line (\d+)', done.err) == [(str(file), "3"), (str(file), "2")]
    assert "peewee.py" in vserver("-d", address, "--debug", "shell", file).err


def test_other_errors_in_a_plain_script_keep_all_frames(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "work.py"
    broken = "db.Task.get().sort = None\nfrom vserverlib.entities import finding\nfinding.one(None, 'x')\n"
    file.write_text(f"import models as db\ndb.connect({str(path)!r})\n{broken}")
    done = process.python(file)
    assert done.status == 1 and "finding.py" in done.err and "vserverlib.Error" not in done.err


def test_all_frames_of_a_mistake_are_printed_on_demand(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "work.py"
    file.write_text(f"import models as db\ndb.connect({str(path)!r})\ndb.database.execute_sql('SELEC 1')\n")
    assert "peewee.py" in process.python("-X", "dev", file).err


def test_an_undefined_name_in_a_script_says_what_it_may_mean(path: Path) -> None:
    done = vserver("-d", path, "shell", "-c", "Organisation.get()")
    assert done.status == 1 and done.err.splitlines()[-1] == "did you mean db.Organization?"
