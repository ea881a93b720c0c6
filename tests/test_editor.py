"""edit: an entity as YAML in an editor, which here is a script; what it refuses, and that no text is lost."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.process import PROGRAM, ROOT, Ended
from helpers.process import vserver as started
from helpers.terminal import Terminal, environment

import models
from vserverlib.transfer import entity_text

Edit = Callable[..., Ended]
SAYS_KEPT = re.compile(r"your text is kept in (\S+)")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files are in a folder of the test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


@pytest.fixture
def editor(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that makes an editor of Python code, in which `text` is the text and `path` the file."""

    def make(code: str) -> str:
        program = tmp_path / "an editor.py"
        begin = "import os, sys\npath = sys.argv[-1]\ntext = open(path).read()\n"
        program.write_text(f"{begin}{code}\nif os.path.exists(path): open(path, 'w').write(text)\n")
        return shlex.join([sys.executable, "-IS", str(program)])

    return make


@pytest.fixture
def edit(address: str, story: Any, database: Any, editor: Any, tmp_path: Path) -> Edit:
    """Return a function that edits an entity of the story, whose database is closed, with an editor of this code."""
    database.close()

    def run(code: str, *words: str, **options: Any) -> Ended:
        more = {"EDITOR": editor(code), "TMPDIR": str(tmp_path / "tmp"), **options}
        return started("-d", address, "edit", *words, **more)

    return run


def shown(address: str, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(started("-d", address, "show", *words, "-o", "json").out)
    return found


def kept(done: Ended) -> Path:
    """Return the file that a message names, in a folder that only its owner can read."""
    found = SAYS_KEPT.search(done.err)
    assert found is not None and done.status == 1, done
    path = Path(found[1])
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == [path.name]
    return path


def test_what_was_changed_is_saved_in_one_change(edit: Edit, address: str, tmp_path: Path) -> None:
    code = "text = text.replace('Netherlands', '\"null\"').replace('domain: null', 'domain: NO')\n"
    code += "text = text.replace('- ROTTERDAM', '')"
    done = edit(code, "organization", "IKNL")
    assert (done.status, done.out) == (0, ""), done
    assert 'changed country, domain and collaborations of organization 1 "IKNL"; undo it with' in done.err or (
        'changed domain, country and collaborations of organization 1 "IKNL"; undo it with' in done.err
    )
    found = shown(address, "organization", "1")
    assert (found["country"], found["domain"], found["collaborations"]) == ("null", "NO", 0)
    assert started("-d", address, "undo", "--yes").status == 0
    found = shown(address, "organization", "1")
    assert (found["country"], found["domain"], found["collaborations"]) == ("Netherlands", None, 1)
    assert os.listdir(tmp_path / "tmp") == []


def test_links_and_lists_are_names(edit: Edit, address: str) -> None:
    done = edit("text = text.replace('organization: IKNL', 'organization: Oslo')", "node/1")
    assert done.status == 0 and shown(address, "node", "1")["organization"] == "Oslo"
    done = edit("text = text.replace('- Oslo', '- 2\\n- IKNL').replace('- IKNL\\n', '', 1)", "collaboration", "1")
    assert done.status == 0 and "nothing to change" in done.err


@pytest.mark.parametrize(
    "code",
    [
        "",
        "text = ''",
        "text = '# nothing'",
        "text = text + '# a comment'",
        "text = text.replace('country', '# country')",
    ],
)
def test_without_a_change_nothing_is_written(code: str, edit: Edit, address: str, tmp_path: Path) -> None:
    before = started("-d", address, "log", "-o", "json").out
    done = edit(code, "organization", "1")
    assert (done.status, done.out) == (0, "") and "nothing to change" in done.err
    assert started("-d", address, "log", "-o", "json").out == before and os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "text = text.replace('country', 'coutry')",
            r':\d+:1: organization has no field "coutry"; did you mean "country"',
        ),
        ("text += 'id: 7'", r"the id of an organization cannot be set"),
        ("text += 'users: [kari]'", r"users cannot be set here: set the organization of each user"),
        (
            "text = text.replace('- ROTTERDAM', '- RTTERDAM')",
            r':\d+:1: no collaboration "RTTERDAM"; did you mean "ROTT',
        ),
        ("text = text.replace('- ROTTERDAM', '- {a: b}')", r"collaborations is neither a text nor a list of texts"),
        ("text += 'x: \"'", r":1[23]:\d+: invalid YAML"),
        ("text = text + '\\tx: y'", r"invalid YAML"),
        ("text = '- a'", r":1:1: it is not a mapping"),
        ("text += 'name: Other'", r'the key "name" is already in line'),
        ("text = text.replace('IKNL', 'a\\x1b[2Jb')", r"invalid YAML: control character \\x1b"),
        ("text = text.replace('IKNL', '\"a\\\\0b\"')", r"NUL character"),
        ("text += '---\\nname: x'", r"a second document"),
    ],
)
@pytest.mark.sqlite
def test_a_fault_names_its_line_and_the_text_is_kept(code: str, expected: str, edit: Edit, address: str) -> None:
    before = started("-d", address, "log", "-o", "json").out
    done = edit(f"{code}\nmine = text", "organization", "1")
    path = kept(done)
    assert re.search(expected, done.err), done.err
    assert done.err.endswith("Error: nothing was changed\n") and "Traceback" not in done.err and "\x1b" not in done.err
    assert path.read_text() and started("-d", address, "log", "-o", "json").out == before


@pytest.mark.sqlite
def test_all_faults_are_shown_at_once(edit: Edit) -> None:
    done = edit("text = text.replace('encrypted: false', 'encrypted: maybe\\nx: 1')", "collaboration", "1")
    assert re.search(r":5:1: encrypted takes true or false", done.err)
    assert re.search(r':6:1: collaboration has no field "x"', done.err)


def test_a_value_that_the_database_refuses_keeps_the_text(edit: Edit, address: str) -> None:
    assert started("-d", address, "create", "collaboration", "Second").status == 0
    done = edit("text = text.replace('name: ROTTERDAM', 'name: Second')", "collaboration", "1")
    assert 'the name "Second" is taken by collaboration 2' in done.err and "name: Second" in kept(done).read_text()


@pytest.mark.sqlite
def test_strict_refuses_and_keeps_the_text(edit: Edit, address: str) -> None:
    done = edit("text = text.replace('IKNL', '\"123\"')", "organization", "1", VSERVER_STRICT="1")
    assert "not saved: ORG001" in done.err and '"123"' in kept(done).read_text()
    assert shown(address, "organization", "1")["name"] == "IKNL"


@pytest.mark.parametrize(
    ("code", "expected", "is_kept"),
    [
        ("os.remove(path)", "the editor deleted", False),
        ("sys.exit(3)", "ended with status 3: nothing was changed", False),
        ("open(path, 'w').write(text + 'x'); sys.exit(3)", "ended with status 3", True),
        ("open(path, 'w').write(text + 'x'); os.kill(os.getpid(), 9)", "ended by signal 9", True),
        ("os.kill(os.getpid(), 9)", "ended by signal 9", False),
    ],
)
@pytest.mark.sqlite
def test_an_editor_that_fails_changes_nothing(
    code: str, expected: str, is_kept: bool, edit: Edit, tmp_path: Path
) -> None:
    done = edit(code, "organization", "1")
    assert done.status == 1 and re.search(expected, done.err) and "Traceback" not in done.err
    if is_kept:
        assert kept(done).read_text().endswith("x")
    else:
        assert not SAYS_KEPT.search(done.err) and os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"EDITOR": "/nonexistent/editor -x"}, 'the editor "/nonexistent/editor -x" cannot be run: No such file'),
        ({"EDITOR": "vi 'x"}, "its quotes do not match: set VISUAL or EDITOR"),
        ({"VISUAL": "/nonexistent", "EDITOR": "true"}, '"/nonexistent" cannot be run'),
        ({"EDITOR": ""}, "no terminal for an editor: use vserver set, or name a program with EDITOR"),
    ],
)
@pytest.mark.sqlite
def test_without_an_editor_it_says_what_to_do(env: dict[str, str], expected: str, edit: Edit, tmp_path: Path) -> None:
    done = edit("", "organization", "1", **env)
    assert done.status == 1 and expected in done.err and done.err.count("\n") == 1
    assert os.listdir(tmp_path / "tmp") == []


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(edit: Edit, address: str) -> None:
    other = [sys.executable, "-m", "vserver", "-d", address, "set", "organization", "1"]
    run = f"import subprocess; subprocess.run([*{other!r}, WORD], check=True, capture_output=True)\n"
    mine = "text = text.replace('Netherlands', 'NL')"
    done = edit(run.replace("WORD", "'country=Nederland'") + mine, "organization", "1")
    assert 'country was changed to "Nederland" by somebody else' in done.err and "NL" in kept(done).read_text()
    assert shown(address, "organization", "1")["country"] == "Nederland"
    done = edit(run.replace("WORD", "'domain=iknl.nl'") + mine.replace("Netherlands", "Nederland"), "organization", "1")
    assert done.status == 0
    found = shown(address, "organization", "1")
    assert (found["country"], found["domain"]) == ("NL", "iknl.nl")


@pytest.mark.sqlite
def test_an_entity_that_was_deleted_meanwhile_keeps_the_text(edit: Edit, address: str) -> None:
    other = [sys.executable, "-m", "vserver", "-d", address, "delete", "result", "1"]
    run = f"import subprocess; subprocess.run({other!r}, check=True, capture_output=True)\n"
    done = edit(f"{run}text = text.replace('log: null', 'log: mine')", "result", "1")
    assert "deleted meanwhile" in done.err and "log: mine" in kept(done).read_text()


@pytest.mark.sqlite
def test_a_dry_run_shows_the_change(edit: Edit, address: str) -> None:
    done = edit("text = text.replace('Netherlands', 'NL')", "organization", "1", "--dry-run")
    assert "country  Netherlands → NL" in done.out and "nothing was written" in done.err
    assert shown(address, "organization", "1")["country"] == "Netherlands"


@pytest.mark.sqlite
def test_secrets_and_huge_values_are_not_in_the_text(edit: Edit, address: str) -> None:
    long = "x" * (entity_text.LONGEST + 1)
    assert (
        started(
            "-d", address, "create", "result", "-", given=json.dumps({"task": 1, "organization": 1, "log": long})
        ).status
        == 0
    )
    seen = "print(text, file=sys.stderr)\n"
    done = edit(f"{seen}text = text.replace('input: null', 'input: x')", "result", "3")
    assert done.status == 0 and "# log has 100,001 characters" in done.err and "xxx" not in done.err
    assert shown(address, "result", "3")["log"] == long
    assert "api_key" not in edit(seen, "node", "1").err and "$2b$" not in edit(seen, "node", "1").err


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["organization"], 2, "which organization"),
        (["organization", "IKNL", "Oslo"], 2, "edit takes one entity"),
        (["organization", "IKLN"], 1, 'did you mean "IKNL"'),
        (["org", "1"], 2, "no entity"),
    ],
)
@pytest.mark.sqlite
def test_a_mistake_starts_no_editor(words: list[str], status: int, expected: str, edit: Edit) -> None:
    done = edit("print('STARTED', file=sys.stderr)", *words)
    assert done.status == status and expected in done.err and "STARTED" not in done.err


# Text and values


def test_every_entity_of_the_example_reads_back_unchanged(consortium: Any, tmp_path: Path) -> None:
    for model in models.ENTITIES:
        for entity in model.get():
            for name in ("before", "after"):
                (tmp_path / name).write_text(entity_text.write(entity, entity_text.values(entity)))
            assert entity_text.changes(model, tmp_path / "after", tmp_path / "before") == []


def test_names_that_would_not_be_found_again_are_references(database: Any) -> None:
    names = ["same", "same", "12", "organization/1", "a,b", "null", "- x", "", None, "plain"]
    for name in names:
        models.Organization(name=name).save()
    collaboration = models.Collaboration(name="c", organizations=list(models.Organization.get()))
    collaboration.save()
    words = entity_text.values(collaboration)["organizations"]
    assert words[:4] == ["organization/1", "organization/2", "organization/3", "organization/4"]
    assert words[4:] == ["a,b", "null", "- x", "organization/8", "organization/9", "plain"]


# At a terminal


def test_the_editor_opens_again_after_a_fault(
    path: Path, database: Any, story: Any, editor: Any, tmp_path: Path
) -> None:
    database.close()
    code = """
if '#!' in text:
    print('FAULTS', [line for line in text.splitlines() if line.startswith('#!')], file=sys.stderr)
    text = text.replace('Olso', 'Oslo')
else:
    text = text.replace('organization: IKNL', 'organization: Olso')
"""
    home = Path(os.environ["HOME"])
    env = environment(home, VISUAL=editor(code), TMPDIR=str(tmp_path / "tmp"))
    screen = Terminal([*PROGRAM, "-d", str(path), "edit", "node/1"], env, 200, 40)
    screen.wait_for(r"no organization \"Olso\"; did you mean \"Oslo\"")
    screen.wait_for(r"Edit again\? \[Y/n\]:")
    screen.send("\r")
    assert screen.wait_for_end() == 0, screen.text
    assert "FAULTS ['#! " in screen.text and "changed organization of node 1" in screen.text
    assert shown(str(path), "node", "1")["organization"] == "Oslo" and os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize(("keys", "status"), [("n\r", 1), ("\x03", 130), ("\x04", 130)])
def test_a_no_keeps_the_text(
    keys: str, status: int, path: Path, database: Any, story: Any, editor: Any, tmp_path: Path
) -> None:
    database.close()
    env = environment(Path(os.environ["HOME"]), EDITOR=editor("text += 'x: mine\\n'"), TMPDIR=str(tmp_path / "tmp"))
    screen = Terminal([*PROGRAM, "-d", str(path), "edit", "organization", "1"], env, 200, 40)
    screen.wait_for(r"Edit again\? \[Y/n\]:")
    screen.interrupt() if keys == "\x03" else screen.send(keys)
    assert screen.wait_for_end() == status, screen.text
    found = SAYS_KEPT.search(screen.text)
    assert found is not None and Path(found[1]).read_text().endswith("x: mine\n")


def test_ctrl_c_belongs_to_the_editor(path: Path, database: Any, story: Any, editor: Any, tmp_path: Path) -> None:
    database.close()
    code = f"import signal\nsignal.signal({int(signal.SIGINT)}, signal.SIG_IGN)\nprint('READY', flush=True)\ninput()\n"
    code += "text = text.replace('Netherlands', 'NL')"
    env = environment(Path(os.environ["HOME"]), EDITOR=editor(code), TMPDIR=str(tmp_path / "tmp"))
    screen = Terminal([*PROGRAM, "-d", str(path), "edit", "organization", "1"], env, 200, 40)
    screen.wait_for("READY")
    screen.send("\x03\r")
    assert screen.wait_for_end() == 0, screen.text
    assert shown(str(path), "organization", "1")["country"] == "NL"


def test_sigterm_ends_the_editor_and_keeps_the_text(
    path: Path, database: Any, story: Any, editor: Any, tmp_path: Path
) -> None:
    database.close()
    code = "open(path, 'w').write(text + 'mine')\nprint('READY', flush=True)\ninput()"
    env = environment(Path(os.environ["HOME"]), EDITOR=editor(code), TMPDIR=str(tmp_path / "tmp"))
    screen = Terminal([*PROGRAM, "-d", str(path), "edit", "organization", "1"], env, 200, 40)
    screen.wait_for("READY")
    os.kill(screen.child.pid, signal.SIGTERM)
    assert screen.wait_for_end() == -signal.SIGTERM
    found = SAYS_KEPT.search(screen.text)
    assert found is not None and Path(found[1]).read_text().endswith("mine")


def test_a_server_s_database_is_not_edited(editor: Any) -> None:
    sample = ROOT / "tests" / "data" / "v4.15.2.sqlite"
    done = started("-d", sample, "edit", "organization", "1", EDITOR=editor("print('STARTED', file=sys.stderr)"))
    assert done.status == 1 and "vantage6" in done.err and "STARTED" not in done.err
