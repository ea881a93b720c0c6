"""Completions on a command line, requested as click's scripts do: by environment variables."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers import process
from helpers.file_rights import as_nobody, close_folder
from helpers.terminal import environment

import models
import vserver
from vserverlib import UsageError
from vserverlib.commands import completers, shell_completion
from vserverlib.commands.help_page import TOPICS
from vserverlib.databases import storage
from vserverlib.entities import filters
from vserverlib.opening import opener

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
def names(quick_hashes: None) -> Path:
    """A database with many names."""
    path = storage.create("vserver.db")
    models.connect(path)
    rows = [{"name": f"org {number:03}"} for number in range(100)] + [{"name": "same"}] * 100
    models.Organization.insert_many([*rows, {"name": "-rf"}, {"name": "null"}, {"name": '"x"'}]).execute()
    models.database.close()
    return path


def asked(line: str, shell: str = "bash", **env: str) -> process.Ended:
    """Request completions as a shell does, in a new process; COMP_CWORD is the index of the incomplete word."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - (not line.endswith(" ")))}
    if shell == "fish":
        words["COMP_CWORD"] = "" if line.endswith(" ") else line.split()[-1]
    return process.vserver(**{"_VSERVER_COMPLETE": f"{shell}_complete", **words, **env})


def offered(*words: str) -> list[str]:
    """Return the completions of the last word, in this process."""
    shell = shell_completion.Zsh(vserver.main, {}, "vserver", "_VSERVER_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1]) if item.type == "plain"]


# The protocol


def test_bash_gets_a_line_for_each_completion() -> None:
    done = asked("vserver list ta")
    assert (done.out, done.err, done.status) == ("plain,tasks\n", "", 0)


def test_zsh_and_fish_get_a_description_of_each_completion(example: Path) -> None:
    assert "plain\n--sort\nSort by these fields" in asked("vserver list tasks --so", "zsh").out
    assert asked("vserver overv", "fish").out == "plain,overview\tShow a status overview.\n"
    assert asked("vserver list tas", "fish").out == "plain,tasks\n"
    assert asked("vserver list ", "fish").out.splitlines()[0] == "plain,organizations"


def test_files_are_left_to_the_shell() -> None:
    assert asked("vserver -d ").out == "file,\n"
    assert asked("vserver shell scr").out == "file,scr\n"


def test_a_word_in_the_middle_is_completed_too() -> None:
    assert asked("vserver list ta --all", COMP_CWORD="2").out == "plain,tasks\n"


# Completions


def test_commands_and_options_are_completed() -> None:
    assert {"list", "show", "completion", "shell"} <= set(offered(""))
    assert offered("list", "tasks", "--wh") == ["--where"]
    assert offered("completion", "") == ["bash", "zsh", "fish"]


def test_topics_and_commands_are_completed_after_help() -> None:
    assert offered("help", "fi") == ["filters"] and offered("help", "li") == ["list"]
    assert offered("help", "")[: len(TOPICS)] == list(TOPICS) and "overview" in offered("help", "")
    assert "plain,rules\tThe rules that saving" in asked("vserver help ru", "fish").out


def test_entities_are_completed_as_each_command_takes_them() -> None:
    assert offered("list", "") == [model.plural for model in models.ENTITIES]
    assert offered("show", "") == [model.noun for model in models.ENTITIES]


def test_what_a_command_cannot_take_is_not_offered() -> None:
    assert offered("prune", "") == ["tasks"] and "nodes" in offered("check", "")
    assert offered("log", "--entity", "m") == ["memberships"]


def test_rules_are_completed_with_their_texts() -> None:
    assert offered("check", "--rule", "nod00")[:2] == ["NOD001", "NOD002"] and offered("check", "--explain", "DBF")
    assert offered("check", "--rule", "USR003") == [] and offered("check", "--explain", "USR003") == ["USR003"]
    for shell in ("zsh", "fish"):
        assert "no organization, or no collaboration" in asked("vserver check --rule NOD001", shell).out


def test_formats_are_completed() -> None:
    assert {"table", "json", "csv"} <= set(offered("list", "tasks", "-o", ""))


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.noun)
def test_every_completed_field_can_be_queried(model: type[models.Task], example: Path) -> None:
    models.connect(example)
    for name in offered("list", model.plural, "--sort", ""):
        filters.order(model, name)
    for name in offered("list", model.plural, "--where", ""):
        assert name.endswith("=")
        filters.condition(model, f"{name}null")
    assert set(offered("list", model.plural, "--fields", "")) >= {*filters.names(model), "help"}


def test_a_secret_is_not_completed() -> None:
    assert not [name for name in offered("list", "users", "--where", "") if "password" in name]
    assert not [name for name in offered("list", "nodes", "--fields", "") if "api" in name]


def test_lists_of_fields_are_completed_word_by_word() -> None:
    assert offered("list", "tasks", "--sort", "-crea") == ["-created_at"]
    assert offered("list", "tasks", "--sort", "name,-crea") == ["name,-created_at"]
    assert offered("list", "tasks", "--sort=-crea") == ["-created_at"]
    assert offered("list", "tasks", "--fields", "id,initiator.cou") == ["id,initiator.country"]
    assert "id,id" not in offered("list", "tasks", "--fields", "id,")


def test_options_are_completed_after_an_option_with_its_value() -> None:
    assert offered("list", "tasks", "--all", "--so") == ["--sort"]
    assert offered("list", "tasks", "--sort", "-name", "--al") == ["--all"]


def test_a_whole_field_is_completed_with_its_operators() -> None:
    assert offered("list", "tasks", "--where", "stat") == ["status="]
    assert offered("list", "tasks", "--where", "complete") == ["complete=", "complete!="]
    assert offered("list", "tasks", "--where", "initiator")[:3] == ["initiator=", "initiator!=", "initiator~"]
    assert offered("list", "tasks", "--where", "initiator.cou") == ["initiator.country="]
    assert offered("list", "results", "--where", "task.collaboration.enc") == ["task.collaboration.encrypted="]


@pytest.mark.parametrize("asked_for", ["id", "name", "progress", "complete", "created_at", "collaboration"])
def test_the_completed_operators_are_the_accepted_ones(asked_for: str, database: object) -> None:
    models.Collaboration(name="1", encrypted=False).save()
    kind = {"progress": "0.5", "complete": "true", "created_at": "2026-03-01"}.get(asked_for, "1")
    for operator in ("=", "!=", *filters.ORDERED, "~"):
        if operator in filters.operators(models.Task, asked_for):
            filters.condition(models.Task, f"{asked_for}{operator}{kind}")
        else:
            with pytest.raises(UsageError):
                filters.condition(models.Task, f"{asked_for}{operator}{kind}")


def test_values_are_completed_if_there_are_few() -> None:
    statuses = ["empty", "pending", "active", "completed", "failed"]
    assert offered("list", "tasks", "--where", "status=") == [f"status={status}" for status in statuses]
    assert offered("list", "tasks", "--where", "status!=fa") == ["status!=failed"]
    assert offered("list", "tasks", "--where", "complete=") == ["complete=true", "complete=false"]
    assert offered("list", "results", "--where", "status=cra") == ["status=crashed"]
    assert offered("list", "nodes", "--where", "collaboration.encrypted=t") == ["collaboration.encrypted=true"]
    assert offered("list", "tasks", "--where", "created_at>") == []


def test_names_are_completed_after_a_link_and_a_name(example: Path) -> None:
    assert offered("list", "tasks", "--where", "collaboration=R") == ["collaboration=Rare tumours [pilot]"]
    assert offered("list", "nodes", "--where", "collaboration.name=R") == ["collaboration.name=Rare tumours [pilot]"]
    assert offered("list", "tasks", "--where", 'collaboration="R') == ['collaboration="Rare tumours [pilot]"']
    assert offered("list", "tasks", "--where", "description=") == []


def test_a_name_that_a_filter_would_misread_is_completed_in_quotes(names: Path) -> None:
    assert offered("list", "users", "--where", "organization=nu") == []
    assert offered("list", "users", "--where", 'organization="nu') == ['organization="null"']


def test_ids_and_names_are_completed(example: Path) -> None:
    assert offered("show", "organization", "Kan") == ["Kankerregister Noord"]
    assert {"1", "Kankerregister Noord"} <= set(offered("show", "organization", ""))
    assert offered("show", "result", "1")[:2] == ["1", "10"]
    assert offered("show", "task/1")[:2] == ["task/1", "task/10"]
    assert offered("wait", "1", "2")[:2] == ["2", "20"] and offered("watch", "task/1")[0] == "task/1"
    assert offered("passwd", "anna") == ["anna.devries"]
    assert "Klinikum Grünwalde - Rare tumours [pilot] Node" in offered("apikey", "Klin")


def test_there_are_fifty_completions_at_most_without_duplicates_and_options(names: Path) -> None:
    assert len(offered("show", "organization", "org")) == 50
    assert offered("show", "organization", "same") == ["same"]
    assert len(offered("show", "organization", "1")) == 50
    assert "-rf" not in offered("show", "organization", "")


def test_the_database_of_the_command_line_is_read(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example.rename("other.db")
    assert offered("show", "organization", "Kan") == []
    assert offered("-d", "other.db", "show", "organization", "Kan") == ["Kankerregister Noord"]
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert offered("-d", "~/other.db", "passwd", "anna") == ["anna.devries"]
    monkeypatch.setenv("VSERVER_DATABASE", "other.db")
    assert offered("passwd", "anna") == ["anna.devries"]


def test_an_unknown_entity_or_field_has_no_completions() -> None:
    assert offered("list", "nonsense", "--where", "") == []
    assert offered("list", "tasks", "--where", "nonsense.") == []
    assert offered("list", "tasks", "--where", "nonsense=") == []
    assert offered("show", "nonsense/") == [] and offered("show", "nonsense", "") == []


# Quick, and silent


def test_the_words_for_entities_are_those_of_the_models() -> None:
    assert [(noun, f"{noun}s") for noun in completers.ENTITIES] == [
        (each.noun, each.plural) for each in models.ENTITIES
    ]


def test_completing_an_entity_imports_neither_peewee_nor_the_models() -> None:
    code = "import sys, atexit; atexit.register(lambda: print({'peewee', 'models'} & set(sys.modules)))\n"
    env = {
        **environment(Path.cwd()),
        "_VSERVER_COMPLETE": "bash_complete",
        "COMP_WORDS": "vserver list ",
        "COMP_CWORD": "2",
    }
    command = [sys.executable, "-c", f"{code}import vserver; vserver.main(prog_name='vserver')"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("plain,results\nset()\n")


# Assignments


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("create", "us"), ["user"]),
        (("create", "node", "co"), ["collaboration="]),
        (("create", "collaboration", "x", "org"), ["organizations=", "organizations+="]),
        (("set", "collaboration", "1", "org"), ["organizations=", "organizations+=", "organizations-="]),
        (("set", "user", "anna.devries", "rol"), ["roles=", "roles+=", "roles-="]),
        (("set", "user/1", "user"), ["username="]),
        (("create", "user", "x", "pass"), []),
        (("create", "collaboration", "encrypted="), ["encrypted=true", "encrypted=false"]),
        (("set", "result/1", "status=kil"), ["status=killed by user"]),
        (("create", "user", "x", "organization=Kl"), ["organization=Klinikum Grünwalde"]),
        (("set", "user", "1", "organization_id=Kl"), ["organization_id=Klinikum Grünwalde"]),
        (("set", "collaboration", "1", "organizations-=Kl"), ["organizations-=Klinikum Grünwalde"]),
        (
            ("set", "collaboration", "1", "organizations=Kl,Kan"),
            ["organizations=Kl,Kankerregister Noord"],
        ),
        (("set", "user", "1", "roles+=re"), ["roles+=researcher"]),
        (("set", "user", "an"), ["anna.devries"]),
        (("edit", "user", "an"), ["anna.devries"]),
        (("set", "node", "1", "organization=x", "name="), []),
        (("set", "node", "1", "nonsense="), []),
        (("set", "nonsense", "1", "n"), []),
        (
            ("set", "task", "1", "parent=Cox regression, s"),
            [f"parent=Cox regression, step {number}" for number in (1, 2, 3)],
        ),
    ],
)
def test_fields_and_values_are_offered(words: tuple[str, ...], expected: list[str], example: Path) -> None:
    assert offered(*words) == expected


def test_bash_gets_the_part_after_the_sign(example: Path) -> None:
    done = asked("vserver create user x organization=Kl", COMP_TAIL="Kl")
    assert done.out == "plain,Klinikum\\ Grünwalde\n"
    assert asked("vserver create user x organiz").out == "open,\nplain,organization=\n"


def test_a_name_that_would_be_read_as_null_is_quoted(names: Path) -> None:
    assert offered("create", "node", 'organization="nul') == ['organization="null"']
    assert 'organization="null"' in offered("create", "node", "organization=")


def test_fields_are_offered_without_a_database() -> None:
    assert offered("create", "organization", "x", "cou") == ["country="]


def test_names_are_found_by_an_index(names: Path) -> None:
    database = opener.open_without_waiting(names)
    plans: list[str] = []
    with closing(sqlite3.connect(names)) as conn:
        database.query_hooks.append(
            lambda event: plans.extend(row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {event.sql}", event.params))
        )
        from vserverlib.terminal import completion

        assert completion.stored(models.Organization.name, "sam", exact=True) == ["same"]
        assert list(completion.ids(models.Organization, "12")) == [12, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129]
    assert plans and not [plan for plan in plans if plan.startswith("SCAN") and "found" not in plan]


def silent(line: str = "vserver show organization ") -> None:
    before = sorted(os.listdir())
    done = asked(line)
    assert (done.out.strip(), done.err, done.status) == ("", "", 0)
    assert sorted(os.listdir()) == before


def test_without_a_database_there_are_no_completions_and_no_file() -> None:
    silent()
    silent("vserver -d postgresql://x/y show organization ")
    silent("vserver -d / passwd ")


def test_a_file_that_is_not_our_database_has_no_completions() -> None:
    Path("vserver.db").write_bytes(b"nonsense" * 1000)
    silent()
    Path("vserver.db").write_bytes(b"")
    silent()
    Path("vserver.db").unlink()
    with closing(sqlite3.connect("vserver.db")) as conn:
        conn.execute("CREATE TABLE organization (name)")
    silent()


def test_a_damaged_database_has_no_completions(example: Path) -> None:
    size = example.stat().st_size
    with example.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (size - 100))
    silent()


def test_a_locked_database_has_no_completions_at_once(example: Path) -> None:
    with closing(sqlite3.connect(example, isolation_level=None)) as conn:
        conn.execute("PRAGMA locking_mode = EXCLUSIVE")
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("UPDATE organization SET country = 'x'")
        silent()


@pytest.fixture
def open_to_all(_example: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the example data that any user may enter; pytest's own are closed. Completion is imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(_example, folder / "vserver.db").chmod(0o644)
        monkeypatch.chdir(folder)
        assert "Kankerregister Noord" in offered("show", "organization", "")
        yield folder


def test_a_database_that_may_not_be_read_offers_nothing(open_to_all: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (open_to_all / "vserver.db").chmod(0)
    with as_nobody():
        assert offered("show", "organization", "") == []
    assert capfd.readouterr() == ("", "")


def test_completion_leaves_no_file_beside_the_database(example: Path) -> None:
    assert "Kankerregister Noord" in asked("vserver show organization ").out
    assert os.listdir() == ["vserver.db"]


def test_a_database_that_is_being_written_is_read_as_last_committed(example: Path) -> None:
    with closing(sqlite3.connect(example, isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("UPDATE organization SET name = 'x'")
        assert "Kankerregister Noord" in asked("vserver show organization ").out


def test_a_terminal_without_unicode_gets_only_ascii(example: Path) -> None:
    done = asked("vserver show organization ", PYTHONUTF8="0", PYTHONIOENCODING="latin-1")
    assert "Kankerregister Noord" in done.out and done.out.isascii()


def test_a_database_that_would_have_to_be_copied_offers_nothing(
    open_to_all: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    close_folder(open_to_all)
    with as_nobody():
        assert offered("show", "organization", "") == []
    assert capfd.readouterr() == ("", "")
    assert os.listdir(open_to_all) == ["vserver.db"]


# Case


def test_case_is_ignored_as_at_the_prompt() -> None:
    models.connect(storage.create("vserver.db"))
    models.Organization.insert_many([{"name": "IKNL"}, {"name": "Oslo"}]).execute()
    models.database.close()
    assert offered("show", "organization", "ik") == ["IKNL"]
    assert offered("show", "Org") == ["organization"] and offered("list", "TAS") == ["tasks"]
    assert offered("list", "nodes", "--where", "Stat") == ["status="]
    assert offered("list", "tasks", "--where", "status=FAI") == ["status=failed"]
    assert offered("list", "users", "--where", "organization=os") == ["organization=Oslo"]
    assert offered("create", "user", "x", "organization=os") == ["organization=Oslo"]
    assert offered("set", "collaboration", "1", "organizations+=ik") == ["organizations+=IKNL"]
    assert offered("set", "user", "1", 'organization="os') == ['organization="Oslo"']


def test_a_name_in_the_case_that_was_typed_is_preferred(names: Path) -> None:
    models.connect(names)
    models.Organization.insert_many([{"name": "SAME too"}, {"name": "Same again"}]).execute()
    models.database.close()
    assert offered("show", "organization", "SA") == ["SAME too"]
    assert len(offered("show", "organization", "sAM")) == 3
