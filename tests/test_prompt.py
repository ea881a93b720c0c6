"""The manners of the prompt, at a real terminal: what it says after saves and mistakes, its help, and leaving."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.process import vserver
from helpers.terminal import Terminal, shell_at

import models
from vserverlib.databases import storage

WIDTHS = (80, 200)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of two organizations, a user and a task."""
    folder = tmp_path_factory.mktemp("made")
    database = models.connect(storage.create(folder / "vserver.db"))
    for name in ("IKNL", "Oslo"):
        models.Organization(name=name).save()
    models.User(username="root", email="root@iknl.example", organization=1).save()
    models.Task(name="average", initiator=1).save()
    database.close()
    return folder / "vserver.db"


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "vserver.db"))


@pytest.fixture(scope="module", params=WIDTHS)
def session(made: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """One shell for the tests that leave nothing behind, at each width."""
    with shell_at(made, tmp_path_factory.mktemp("home"), columns=request.param, lines=200) as terminal:
        yield terminal


@pytest.fixture
def at_prompt(session: Terminal) -> Terminal:
    session.wait_for_prompt()
    return session


def plainly(shown: str) -> str:
    """Return what was shown as one line, however it was folded."""
    return " ".join(shown.split())


# Saved and deleted


def test_save_and_delete_say_what_they_did_and_how_to_undo_it(file: Path) -> None:
    with shell_at(file, file.parent) as at_prompt:
        at_prompt.enter('organization = db.Organization(name="New")')
        assert at_prompt.enter("organization.save()") == 'saved organization 3 "New"'
        assert at_prompt.enter("organization.save()") == 'organization 3 "New" has no changes to save'
        (undo,) = re.findall(
            r'deleted organization 3 "New"; undo it with: (db\.undo.*)', at_prompt.enter("organization.delete()")
        )
        assert "deleted: it is not in the database any more" in at_prompt.enter("organization")
        at_prompt.enter(undo)
        assert at_prompt.enter("db.Organization.get(3).name").endswith("'New'")


def test_what_is_printed_after_a_save_follows_its_notice(file: Path) -> None:
    with shell_at(file, file.parent) as at_prompt:
        shown = at_prompt.enter('db.Organization(name="A").save(); print("after")')
        assert shown.splitlines() == ['saved organization 3 "A"', "after"]


def test_many_saves_and_deletes_are_counted(file: Path) -> None:
    with shell_at(file, file.parent, lines=120) as at_prompt:
        at_prompt.send("for i in range(12): db.Organization(name=f'N{i}').save()\r\r")
        at_prompt.wait_for("saved 7 more organizations")
        at_prompt.wait_for_prompt(2)
        assert at_prompt.text.count("saved organization") == 5
        shown = at_prompt.enter("[each.delete() for each in db.Organization.where('name~N', 'id>2')];")
        assert "deleted 12 organizations; db.log() lists the changes" in shown


def test_nothing_is_said_of_a_save_that_was_rolled_back(file: Path) -> None:
    with shell_at(file, file.parent) as at_prompt:
        at_prompt.enter('a = db.Organization(name="A"); b = db.User(username="root")')
        shown = at_prompt.enter("exec('with database.atomic():\\n a.save(); b.save()')")
        assert "is taken" in shown and "saved" not in shown
        shown = at_prompt.enter("exec('with database.atomic():\\n a.save()')")
        assert shown == 'saved organization 3 "A"'


def test_nothing_is_said_of_many_saves_that_were_rolled_back(file: Path) -> None:
    with shell_at(file, file.parent) as at_prompt:
        at_prompt.enter("made = [db.Organization(name=f'N{i}') for i in range(9)]")
        shown = at_prompt.enter("exec('with database.atomic():\\n [each.save() for each in made]; 1/0')")
        assert "ZeroDivisionError" in shown and "saved" not in shown
        assert at_prompt.enter("exec('with database.atomic():\\n [each.save() for each in made]')").endswith(
            "saved 9 organizations"
        )


def test_a_quiet_shell_and_scripts_say_nothing(file: Path) -> None:
    code = 'a = db.Organization(name="A"); a.save(); a.save(); a.delete(); print(db.Organization.get_by_name("IKLN"))'
    with shell_at(file, file.parent, options=", quiet=True", columns=200) as at_prompt:
        assert at_prompt.enter(code).splitlines()[0] == "None"
        assert "saved" not in at_prompt.text and "deleted" not in at_prompt.text
    for words in (("-c", code), ("-",)):
        ended = vserver("-d", file, "shell", *words, given=code)
        assert ended == (0, "None\n", "")


# Leaving


def test_leaving_with_new_entities_names_them_and_stays_once(file: Path) -> None:
    with shell_at(file, file.parent) as terminal:
        terminal.enter('a = db.Organization(name="A"); more = [db.Task(name="t")]; kept = db.Organization.get(1)')
        terminal.enter('kept.country = "Norway"')
        terminal.wait_for_prompt()
        terminal.send("\x04")
        terminal.wait_for('never saved: organization "A", task "t"; save\\(\\) each, or leave again')
        terminal.enter("1 + 1")
        assert terminal.leave() == 0
        assert 'discarded the unsaved changes of organization 1 "IKNL"' in terminal.text


@pytest.mark.parametrize("word", ["exit", "quit()"])
def test_exit_and_quit_stay_once_too_and_saving_lets_go(file: Path, word: str) -> None:
    with shell_at(file, file.parent) as terminal:
        terminal.enter('a = db.Organization(name="A")')
        assert 'never saved: organization "A"' in terminal.enter(word)
        terminal.enter("a.save()")
        terminal.wait_for_prompt()
        terminal.send(f"{word}\r")
        assert terminal.wait_for_end() == 0


def test_an_entity_that_was_only_shown_counts_unless_it_was_typed_again(file: Path) -> None:
    with shell_at(file, file.parent) as terminal:
        terminal.enter('db.Organization(name="A")')
        terminal.enter('db.Organization(name="B")')
        terminal.enter('a = db.Organization(name="A"); a.save()')
        shown = terminal.enter("exit")
        assert 'organization "B"' in shown and '"A"' not in shown


@pytest.mark.parametrize("mode", ["read_only", "sandbox"])
def test_nothing_holds_where_nothing_can_be_kept(file: Path, mode: str) -> None:
    options: dict[str, Any] = {mode: True}
    with shell_at(file, file.parent, **options) as terminal:
        terminal.enter('a = db.Organization(name="A")')
        terminal.wait_for_prompt()
        assert terminal.leave() == 0


# Mistakes


MISTAKES = {
    "save()": r"error: save\(\) belongs to one entity: organization\.save\(\)",
    "save": r"error: save\(\) belongs to one entity: organization\.save\(\)",
    "save organization": r"error: save\(\) belongs to one entity: organization\.save\(\)",
    "delete()": r"error: name 'delete' is not defined: delete\(\) belongs to one entity: organization\.delete\(\)",
    "why(1)": r"call db\.why\(\)",
    "db.session.commit()": r'db has no "session": save\(\) of an entity commits it',
    "commit": r"save\(\) of an entity commits it",
    "undo()": r"call db\.undo\(\)",
    "organization.save": r"nothing was done: organization\.save is a .* brackets call it: organization\.save\(\)",
    "db.Task.get": r"nothing was done: .* brackets call it: db\.Task\.get\(\)",
    "overview": r"nothing was done: .* brackets call it: overview\(\)",
    "vserver overview": r"error: vserver overview is a command for the terminal: here, overview\(\)",
    "vserver list users": r"here, db\.User\.get\(\) lists them",
    "vserver": r"error: vserver is a command for the terminal",
    "vserver backup x.db": r"vserver backup is a command for the terminal: leave with Ctrl-D",
    "db.Task.all()": r'no attribute "all": db\.Task\.get\(\) returns all',
    "db.Task.objects": r'no attribute "objects": db\.Task\.get\(\) returns all, db\.Task\.where',
    "db.Task.first()": r'no attribute "first": db\.Task\.get\(\)\[0\]',
    'db.Task.filter("status=failed")': r'filter\(\) takes field=value, not a text: write where\("status=failed"\)',
    "organization.users.append(1)": r'a list of users has no "append": set the organization of a user',
    "organization.users.all()": r'a list of users has no "all": it is the whole list already',
    "db.Task.get().delete()": r'a list of tasks has no "delete": for task in …: task\.delete\(\)',
    "db.Task.get().name": r'a list of tasks has no "name": each task has one, such as \[task\.name for task in …\]',
    'db.Organization.get_by_name("IKLN")': r'\Ano organization "IKLN"; did you mean "IKNL"\?\Z',
    'db.Organization.get_by_name("IKLN").users': r'this is None: no organization "IKLN"; did you mean "IKNL"\?',
    "db.Organization.get(99)": r"\Ano organization 99\Z",
    'database.execute_sql("selec 1")': r'error: near "selec": syntax error database\.execute_sql\("selec 1"\) correct',
    'database.connection().execute("selec 1")': r"syntax error .*correct the SQL",
    "list(db.Task.select().join(db.User))": r"error: no link leads from Task to User",
    "db.Task.select().scalar(nope=1)": r"error: .*nope.* Peewee refuses this query",
    "db.Task.bulk_create([1])": r"error: bulk_create\(\) takes a list of tasks, not 1",
    "Organisation": r"error: name 'Organisation' is not defined; did you mean db\.Organization\?",
    "organizations": r"did you mean db\.Organization\.get\(\), which returns all organizations\?",
    "organisation": r"error: name 'organisation' is not defined; did you mean organization\?",
    "taks": r"error: name 'taks' is not defined; did you mean db\.Task",
    "db.Organization.noum": r'error: Organization has no attribute "noum"(?!; did you mean "noun")',
    'db.User.get_by_email("root@inkl.example")': r'\Ano user "root@inkl\.example"; did you mean "root@iknl\.example"\?',
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_common_mistake_gets_the_line_that_helps(at_prompt: Terminal, typed: str) -> None:
    at_prompt.enter("organization = db.Organization.get(1)")
    shown = at_prompt.enter(typed)
    assert re.search(MISTAKES[typed], plainly(shown)), shown
    assert "Traceback" not in shown and len(shown.splitlines()) <= 6
    assert max(map(len, shown.splitlines())) <= at_prompt.screen.columns
    assert not {"wi", "th:", "lin", "es"} & set(plainly(shown).split()), "a word is broken"
    assert not list(Path.cwd().glob("*organization*"))  # of %save


def test_an_error_in_a_file_that_is_run_names_its_line(file: Path) -> None:
    (file.parent / "work.py").write_text("def work():\n    db.database.execute_sql('SELEC 1')\n\nwork()\n")
    with shell_at(file, file.parent) as terminal:
        shown = terminal.enter(f"%run -i {file.parent}/work.py")
        assert "work.py, line 2: db.database.execute_sql('SELEC 1')" in plainly(shown) and "correct the SQL" in shown
        assert "Traceback" not in shown


def test_a_file_that_runs_without_the_names_of_the_shell_names_the_option(file: Path) -> None:
    (file.parent / "work.py").write_text("print(len(db.Task.get()))\n")
    with shell_at(file, file.parent) as terminal:
        assert "%run -i runs a file with the names" in plainly(terminal.enter(f"%run {file.parent}/work.py"))


def test_a_variable_that_a_lookup_left_empty_is_explained_later(at_prompt: Terminal) -> None:
    at_prompt.enter('org = db.Organization.get_by_name("IKLN")')
    assert 'error: org is None: no organization "IKLN"; did you mean "IKNL"?' in at_prompt.enter("org.users")
    assert "Traceback" in at_prompt.enter("nothing = None; nothing.users")  # anybody else's None


# Help


@pytest.mark.parametrize("typed", ["help", "help()", "?"])
def test_help_alone_is_ours(at_prompt: Terminal, typed: str) -> None:
    shown = at_prompt.enter(typed)
    assert 'db.Organization.get_by_name("IKNL")' in shown and "db.undo()" in shown and "vserver help" in shown
    assert max(map(len, shown.splitlines())) <= 80 and len(shown.splitlines()) <= 24


@pytest.mark.parametrize("typed", ["db.Task", "help(db.Task)", "db.Task?", "help(db.Task.get(1))"])
def test_an_entity_is_helped_with_its_fields(at_prompt: Terminal, typed: str) -> None:
    shown = at_prompt.enter(typed)
    assert "Task: a computation" in shown and re.search(r"^  initiator +an Organization$", shown, re.MULTILINE)


def test_other_objects_are_helped_as_python_does(at_prompt: Terminal) -> None:
    assert "Return the number of items in a container" in at_prompt.enter("len?")
    assert "db.Organization" in at_prompt.enter("db?")


# Tab


TABS = {
    "db.Task.where(sta\t": r"where\(status=$",
    'db.Task.where(status="fai\t': r'where\(status="failed$',
    "db.Task.where(status=fai\t": r'where\(status="failed"$',
    'db.Task.sort("ini\t': r'sort\("initiator',
    "db.Task.sort(sta\t": r'sort\("status"$',
    'db.Task.search("AVE\t': r'search\("average$',
    "db.Task.search(ave\t": r'search\("average"$',
    "db.Node(organization=ikn\t": r"organization=iknl$",
    'db.Node(organization=db.Organization.get_by_name("os\t': r'get_by_name\("Oslo$',
    "db.Collaboration(organizations=[ikn\t": r"organizations=\[iknl$",
}


@pytest.mark.parametrize("keys", TABS)
def test_tab_completes_fields_states_and_names(at_prompt: Terminal, keys: str) -> None:
    at_prompt.enter("iknl = db.Organization.get(1)")
    at_prompt.send(keys)
    at_prompt.wait_for(TABS[keys])
    at_prompt.send("\x03\x03")  # the first closes the menu
    at_prompt.wait_for_prompt()


def test_tab_offers_no_builtins_in_a_text(at_prompt: Terminal) -> None:
    at_prompt.send('db.User(roles="Arithmet\t!')
    at_prompt.wait_for('roles="Arithmet!$')
    at_prompt.send("\x03\x03")
    at_prompt.wait_for_prompt()


def test_tab_offers_no_builtins_in_a_search(at_prompt: Terminal) -> None:
    at_prompt.send("db.Task.search(pri\t")
    at_prompt.send("nt)\x01len\x05 ")
    at_prompt.wait_for(r"\[\d+\]: lendb\.Task\.search\(print\) *$")
    at_prompt.send("\x03\x03")  # the first closes the menu
    at_prompt.wait_for_prompt()
