"""Tab in real shells at a real terminal, with names that a shell could misread or run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import starter
from helpers.terminal import Terminal, environment

import models
import vserver
from vserverlib.commands import shell_completion
from vserverlib.databases import storage

HOSTILE = [
    "Rare tumours [pilot]",
    "a\"b it's",
    "$(touch x) `touch x`; touch x",
    "back\\slash a:b=c,d ",
    "Élodie & co* wow! {a,b} ~ #5 $HOME",
]
LEFT_OUT = ["line\nbreak", "title\x1b]0;owned\x07", "\u202ereversed", "n" * 1000]

# How each shell starts: without the user's settings, with a function that prints its arguments, and with our script.
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        """args() { printf '<%s>' "$@"; echo; }; eval "$(vserver completion bash)"; PS1='ready''> '""",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        """args() { printf '<%s>' "$@"; echo; }; autoload -U compinit; compinit -D -u; """
        """eval "$(vserver completion zsh)"; setopt no_prompt_sp; PS1='ready''> '""",
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        """function args; printf '<%s>' $argv; echo; end; set -g fish_autosuggestion_enabled 0; """
        """vserver completion fish | source; function fish_prompt; echo -n 'ready''> '; end""",
    ),
}


def named(number: int) -> str:
    """Return a name whose beginning is typed."""
    return f"n{number:02}{HOSTILE[number]}"


@pytest.fixture
def folder(tmp_path: Path, quick_hashes: None) -> Path:
    """A folder with a program `vserver`, and a database of names."""
    (tmp_path / "bin").mkdir()
    starter.write_program(tmp_path / "bin" / "vserver")
    models.connect(storage.create(tmp_path / "vserver.db"))
    names = [*map(named, range(len(HOSTILE))), *(f"m{name}" for name in LEFT_OUT)]
    models.Organization.insert_many([{"name": name} for name in names]).execute()
    models.Task(name="average").save()
    models.database.close()
    return tmp_path


class Session:
    """A shell at a terminal that completes lines and splits them instead of running them."""

    def __init__(self, shell: str, folder: Path) -> None:
        command, setup = SHELLS[shell]
        if shutil.which(command[0]) is None:
            pytest.skip(f"{shell} is not installed here")
        env = environment(folder)
        env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
        self.terminal = Terminal(["sh", "-c", f"cd {folder} && exec {' '.join(command)}"], env, 600, 200)
        self.terminal.send(setup + "\r")
        self.terminal.wait_for(r"^ready>")
        self.seen = 0

    def complete(self, typed: str, keys: str = "\t") -> list[str]:
        """Type a text, press Tab, and return the words of the line."""
        self.terminal.send(f"{typed}{keys}")
        self.terminal.send("\x01args \r")
        self.seen += 1
        self.terminal.wait_for(r"^ready>", self.seen + 1)  # a shell that is typed ahead of runs no Tab
        shown = self.terminal.wait_for(r"^<[^<>]*vserver>.*>$", self.seen)
        return re.findall(r"^<([^<>]*vserver>.*)>$", shown, re.MULTILINE)[-1].split("><")[1:]


@pytest.fixture(params=SHELLS)
def session(request: pytest.FixtureRequest, folder: Path) -> Iterator[Session]:
    opened = Session(request.param, folder)
    yield opened
    opened.terminal.child.close(force=True)


@pytest.fixture
def bash(folder: Path) -> Iterator[Session]:
    opened = Session("bash", folder)
    yield opened
    opened.terminal.child.close(force=True)


def test_a_name_is_completed_literally_and_never_run(session: Session, folder: Path) -> None:
    for number in range(len(HOSTILE)):
        assert session.complete(f"vserver show organization n{number:02}")[2:] == [named(number)]
    assert not (folder / "x").exists()


def test_a_name_is_completed_after_an_equals_sign(session: Session) -> None:
    assert session.complete("vserver list users --where organization=n03")[3:] == [f"organization={named(3)}"]
    assert session.complete("vserver list users --where=organization=n00")[2:] == [f"--where=organization={named(0)}"]


def test_terminal_escapes_are_not_completed(session: Session) -> None:
    assert session.complete("vserver show organization m", keys="\t\t")[2:] == ["m"]
    assert "owned" not in session.terminal.raw and "\u202e" not in session.terminal.raw


def test_commands_fields_and_files_are_completed(session: Session) -> None:
    assert session.complete("vserver lis") == ["list"]
    assert session.complete("vserver list tasks --where stat", keys="\tfai\t")[2:] == ["--where", "status=failed"]
    assert session.complete("vserver list tasks --sort name,-crea")[3:] == ["name,-created_at"]
    assert session.complete("vserver -d vserver.")[1:] == ["vserver.db"]
    assert session.complete("vserver --database=vserver.")[0:] == ["--database=vserver.db"]


def test_case_is_ignored(session: Session) -> None:
    assert session.complete("vserver show task AVE")[2:] == ["average"]
    assert session.complete("vserver list tasks --where status=FAI")[3:] == ["status=failed"]
    assert session.complete("vserver list TAS")[1:] == ["tasks"]


def test_completion_asks_the_program_that_was_typed(session: Session, folder: Path) -> None:
    (folder / "bin").rename(folder / "elsewhere")
    assert session.complete("vserver list tas")[1:] == ["tas"]
    assert session.complete("elsewhere/vserver list tas")[1:] == ["tasks"]
    assert session.complete("~/elsewhere/vserver list tas")[1:] == ["tasks"]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_bash_completes_inside_open_quotes(bash: Session, quote: str) -> None:
    for number in range(1, len(HOSTILE)):
        assert bash.complete(f"vserver show organization {quote}n{number:02}")[2:] == [named(number)]
    assert bash.complete(f"vserver list users --where {quote}organization=n01")[3:] == [f"organization={named(1)}"]
    assert bash.complete(f"vserver list users --where organization={quote}n01")[3:] == [f"organization={named(1)}"]


def test_bash_completes_the_rest_of_a_name(bash: Session) -> None:
    assert bash.complete("vserver show organization n00Rare\\ tu")[2:] == [named(0)]
    assert bash.complete("vserver show organization n03back\\\\slash\\ a:b=")[2:] == [named(3)]


def test_bash_shows_names_with_a_colon_whole(bash: Session, folder: Path) -> None:
    models.connect(folder / "vserver.db")
    models.Organization.insert_many([{"name": name} for name in ("Study A: colon", "Study A: lung = 2")]).execute()
    models.database.close()
    bash.terminal.send("vserver set user 1 organization=Stu\t")
    bash.terminal.wait_for(r"Study\\ A\\:\\ ?$")
    bash.terminal.send("\t\t")
    bash.terminal.wait_for(r"^Study\\ A\\:\\ colon +Study\\ A\\:\\ lung\\ \\=\\ 2$")
    bash.terminal.send("\x15")
    assert bash.complete("vserver set user 1 organization=Stu", keys="\tl\t")[3:] == ["organization=Study A: lung = 2"]


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_quoted_text_reads_back_in_bash_and_here(quote: str, tmp_path: Path) -> None:
    texts = [*HOSTILE, *(char for char in map(chr, range(32, 127)) if quote or char != " "), "é漢"]
    words = [quote + shell_completion.quoted(text, quote) + quote for text in texts]
    command = ["bash", "-c", f"printf '%s\\n' {' '.join(words)}"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines() == texts
    assert [word.text for word in shell_completion.split(" ".join(words))] == texts


def test_an_incomplete_line_is_split() -> None:
    assert [word.text for word in shell_completion.split("vserver show ")] == ["vserver", "show", ""]
    assert [word.text for word in shell_completion.split("a 'b c")] == ["a", "b c"]
    assert shell_completion.split("x=\"it's")[-1] == ("x=\"it's", "x=it's", '"')
    assert shell_completion.split(r"'it\'s'", fish=True)[-1].text == "it's"
    assert shell_completion.split("trailing\\")[-1].text == "trailing"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script_that_click_would_print(shell: str, folder: Path) -> None:
    printed = CliRunner().invoke(vserver.main, ["completion", shell])
    env = {**environment(folder), "_VSERVER_COMPLETE": f"{shell}_source"}
    asked = subprocess.run([sys.executable, "-m", "vserver"], env=env, capture_output=True, text=True, check=True)
    assert printed.exit_code == 0 and printed.stdout == asked.stdout and "_vserver_completion" in printed.stdout


def test_the_help_has_a_line_for_each_shell() -> None:
    printed = CliRunner().invoke(vserver.main, ["completion", "--help"]).stdout
    assert "~/.bashrc" in printed and "~/.zshrc" in printed and "~/.config/fish" in printed
