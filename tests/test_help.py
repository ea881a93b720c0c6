"""The help: every command has examples that work, topics fit a screen, and both say what the code does."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers import pages
from helpers.process import python
from helpers.process import vserver as started
from helpers.terminal import PATIENCE, ROOT

import vserver
from vserverlib.commands import help_page, topics
from vserverlib.entities import ages, filters, rules
from vserverlib.queries import formats

PROGRAMS: dict[str, click.Command] = {"vserver": vserver.main, **vserver.main.commands}
EXAMPLES = [(name, line) for name in PROGRAMS for line in getattr(PROGRAMS[name], "examples", ())]
# Examples that are only parsed, and why.
NOT_RUN = {
    r"\bpostgresql://": "needs a server",
    r"^vserver watch\b": "runs until the tasks have finished",
    r"demo .*--live": "runs until Ctrl-C",
    r"^vserver passwd \S+$": "asks for a password",
    r"undo --session": "names a session of another database",
    r"^vserver undo$": "asks for a confirmation",
    r"^vserver edit\b": "opens an editor",
    r"\bstart\b": "runs until Ctrl-C",
    r"^vserver node nodes": "runs until Ctrl-C",
    r"^vserver run\b": "needs a running server",
}
SERVER = f"cp {ROOT}/tests/data/v4.15.2.sqlite server.sqlite"
# What an example needs beside the example data, as typed before it.
BEFORE = {
    "init": "rm vserver.db",
    "import": f"cp {ROOT}/tests/data/v4.15.2.sqlite server.sqlite; cp {ROOT}/tests/data/fixture.yaml fixtures.yaml",
    "passwd": "echo 'Geheim-1234!' > password.txt",
    "restore": "vserver backup monday.db",
    "undo": "vserver delete task 24",
    "unlock": SERVER,
    "fail": SERVER,
    "completion": "mkdir -p ~/.config/fish/completions",
}
LINES = 67  # of a screen: the rules are one each


def help_of(*words: str) -> str:
    """Return what --help prints at a terminal of 80 columns."""
    return CliRunner().invoke(vserver.main, [*words, "--help"], prog_name="vserver", env={"COLUMNS": "80"}).stdout


def test_every_command_ends_its_help_with_two_or_three_examples() -> None:
    for name, command in PROGRAMS.items():
        body, _, examples = help_of(*([name] if name != "vserver" else [])).partition("\nExamples:\n")
        lines = [line.removeprefix("  ") for line in examples.splitlines()]
        assert "Options:" in body and lines == getattr(command, "examples", None), name
        assert 2 <= len(lines) <= 3 and all("vserver " in line and len(line) <= 78 for line in lines), name
        assert all(re.search(rf"vserver (-d \S+ )?(--[a-z-]+ )*{name}\b", line) for line in lines) or name == "vserver"


def is_run(line: str) -> bool:
    return not any(re.search(form, line) for form in NOT_RUN)


@pytest.mark.parametrize(("name", "line"), [each for each in EXAMPLES if is_run(each[1])])
def test_an_example_works_on_the_example_data(name: str, line: str, example: Path, tmp_path: Path) -> None:
    env = pages.prepared_home(tmp_path)
    before = BEFORE["init"] if "init" in line else BEFORE.get(name, "")
    command = ["bash", "-e", "-o", "pipefail", "-c", f"{before}\n{line}"]
    done = subprocess.run(
        command, cwd=example.parent, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE, input=""
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert done.stdout or ".html" in line or name not in ("list", "show", "overview"), f"{line} prints nothing"


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES if not is_run(line)])
def test_an_example_that_is_not_run_is_understood(line: str) -> None:
    words = shlex.split(line)[1:]
    at = next(at for at, word in enumerate(words) if word in vserver.main.commands)
    with vserver.main.make_context("vserver", words[: at + 1]) as context:
        vserver.main.commands[words[at]].make_context(words[at], words[at + 1 :], parent=context)


def test_the_help_of_each_command_fits_a_terminal_of_80_columns() -> None:
    for name in vserver.main.commands:
        assert max(map(len, help_of(name).splitlines())) <= 80, name
    assert started("help", "undo").out == started("undo", "--help").out


def test_help_texts_are_sentences_in_plain_words() -> None:
    old = re.compile(r"\b(tells?|told|telling|is none|whoever|at hand|take along|behind)\b", re.IGNORECASE)
    for name, command in PROGRAMS.items():
        about = (command.help or "").partition(help_page.CUT)[0].strip()
        options = [getattr(param, "help", "") for param in command.params if isinstance(param, click.Option)]
        for text in [about, *options]:
            assert not old.search(text), f"{name}: {text}"
            assert text[0].isupper() and re.search(r"[.\])\w]$", text), f"{name}: {text}"


# Topics


@pytest.mark.parametrize("topic", help_page.TOPICS)
def test_a_topic_is_a_screen_of_80_columns(topic: str, tmp_path: Path) -> None:
    done = started("help", topic, cwd=tmp_path)
    lines = done.out.splitlines()
    assert (done.status, done.err) == (0, "") and 5 < len(lines) <= LINES and max(map(len, lines)) <= 80
    assert lines[0] == f"{topic.replace('-', ' ').capitalize()}:" and not list(tmp_path.iterdir())


def test_help_lists_the_topics_and_is_the_help_of_the_program() -> None:
    page = started("help").out
    assert page == started("--help").out
    for topic, summary in help_page.TOPICS.items():
        assert re.search(rf"^  help {topic} +{re.escape(summary)}$", page, re.MULTILINE)
        assert topic in (vserver.main.commands["help"].help or "")


@pytest.mark.parametrize(
    ("word", "remedy"),
    [("flters", 'did you mean "filters"'), ("lst", 'did you mean "list"'), ("\x1b[2J", "see vserver help")],
)
def test_an_unknown_topic_is_one_line_that_says_what_there_is(word: str, remedy: str) -> None:
    done = started("help", word)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert remedy in done.err and "\x1b" not in done.err and 'no help topic or command "' in done.err


def test_each_topic_has_a_text_and_each_text_a_topic() -> None:
    assert topics.TEXTS.keys() == help_page.TOPICS.keys()


def test_what_messages_point_to_is_installed() -> None:
    code = "".join(path.read_text() for path in [ROOT / "vserver.py", *(ROOT / "vserverlib").rglob("*.py")])
    named = set(re.findall(r"vserver help ([a-z-]+)", code)) - {"list"}
    assert {"rules", "filters"} <= named <= help_page.TOPICS.keys()
    assert not re.search(r"see docs/[\w.]+\"|see docs/[\w.]+[`')]", code)


def test_the_filters_have_every_operator_and_unit() -> None:
    text = topics.markdown("filters", vserver.main)
    operators = re.findall(r"^\| (`[=<>!~` ]+) \|", text, re.MULTILINE)
    assert sorted(" ".join(operators).replace("`", "").split()) == sorted(filters.OPERATORS["any"])
    assert re.findall("`([a-z])`", text.partition("units: ")[2]) == list(ages.UNITS)


def test_the_formats_are_those_of_the_commands() -> None:
    assert topics.FORMATS.keys() == {"table", "html", *formats.WRITERS}
    text = topics.markdown("formats", vserver.main)
    assert "In `check`, `list`, `log`, `run`." in text and "In all commands with `-o`." in text


def test_the_rules_are_all_there() -> None:
    text = started("help", "rules").out
    assert re.findall(r"^  ([A-Z]{3}\d{3})  (\w+)", text, re.MULTILINE) == [
        (rule.code, rule.level) for rule in rules.RULES
    ]


def test_every_variable_that_the_code_reads_is_listed() -> None:
    code = "".join(path.read_text() for path in [ROOT / "vserver.py", *(ROOT / "vserverlib").rglob("*.py")])
    read = set(re.findall(r"[\"']((?:VSERVER_[A-Z]+|NO_COLOR|COLUMNS|TERM))[\"']", code))
    assert read - {"VSERVER_URLS"} <= topics.ENVIRONMENT.keys()  # VSERVER_URLS: from the program to itself
    assert {name for name in topics.ENVIRONMENT if name.startswith("VSERVER_")} <= read


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("list tasks", "0"),
        ("check", "0"),
        ("show task 99", "1"),
        ("-d gone.db list tasks", "1"),
        ("wait 8", "1"),
        ("list taks", "2"),
        ("check --rule X", "2"),
        ("wait 9 --timeout x", "2"),
        ("wait 9 --timeout 0", "3"),
        ("wait 99", "4"),
        ("wait 24", "4"),  # it has no results
        ("-d gone.db wait 1", "4"),
        ("-d gone.db check", "4"),
        ("-d . check", "4"),
        ("-d postgresql://me@/db?host=/nowhere check -o json", "4"),
    ],
)
def test_the_exit_statuses_are_those_of_the_program(words: str, status: str, example: Path) -> None:
    done = started(*words.split(), cwd=example.parent)
    assert str(done.status) == status and status in topics.EXIT_STATUSES


def test_the_texts_are_loaded_only_when_they_are_printed() -> None:
    code = "import sys, vserver\ntry: vserver.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    loaded = python("-c", code, "--help").err.split()
    assert "vserverlib.commands.help_page" in loaded and "vserverlib.commands.topics" not in loaded
