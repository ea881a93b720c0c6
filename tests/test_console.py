"""The shell at a real terminal: prompt, display, completion, history, errors. Screens are read as a person would."""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.terminal import Terminal, shell_at

import models
from vserverlib.databases import connecting, storage
from vserverlib.terminal import console

SECRET = "hunter2-is-secret"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of two organizations, a user and a task, and a home."""
    folder = tmp_path_factory.mktemp("place")
    database = models.connect(storage.create(folder / "vserver.db"))
    for name in ("IKNL", "Oslo\x1b[31m"):
        models.Organization(name=name).save()
    models.User(username="root", organization=1).save()
    models.Task(name="average", initiator=1).save()
    database.close()
    (folder / "home").mkdir()
    return folder


@pytest.fixture(scope="module")
def session(place: Path) -> Iterator[Terminal]:
    """One shell for the tests that leave nothing behind but a number in the prompt."""
    with shell_at(place / "vserver.db", place / "home") as terminal:
        yield terminal


@pytest.fixture
def at_prompt(session: Terminal) -> Terminal:
    session.wait_for_prompt()
    return session


def history(home: Path) -> list[str]:
    """Return the lines that the history file of a person holds."""
    connection = sqlite3.connect(home / ".local" / "share" / "vserver" / "history.sqlite")
    lines = [line for (line,) in connection.execute("SELECT source_raw FROM history ORDER BY session, line")]
    connection.close()
    return lines


# Prompt and banner


def test_the_prompt_names_the_database_and_the_cell(at_prompt: Terminal) -> None:
    assert re.search(r"^vserver\.db \[\d+\]:$", at_prompt.text.splitlines()[-1])


def test_the_prompt_names_a_mode_in_which_nothing_is_written(place: Path) -> None:
    with shell_at(place / "vserver.db", place / "home", read_only=True) as terminal:
        assert "vserver.db (read-only) [1]:" in terminal.wait_for_prompt()
    with shell_at(place / "vserver.db", place / "home", sandbox=True) as terminal:
        assert "vserver.db (sandbox) [1]:" in terminal.wait_for_prompt()


def test_the_prompt_is_red_where_others_are_at_work_in_the_database(url: str) -> None:
    class Shell:
        pt_app = None
        execution_count = 7
        database = connecting.connect(url)

    tokens = console.Prompt(Shell()).in_prompt_tokens()
    Shell.database.close()
    where = url.partition("@")[2].partition("?")[0]
    assert "".join(text for _, text in tokens) == f"postgres@{where} [7]: "
    assert {token for token, _ in tokens} == {console.ATTENTION}


def test_the_session_of_a_terminal_without_colours_or_movement_is_readable(place: Path) -> None:
    with shell_at(place / "vserver.db", place / "home", TERM="dumb") as terminal:
        terminal.send("1 + 1\r")  # ahead of the prompt
        terminal.wait_for(r"Out\[1\]: 2$")
        assert terminal.text.count("1 + 1") == 1
        terminal.wait_for_prompt(2)
        assert "no user" in terminal.enter('db.User.getByUsername("rot")')
        assert "ZeroDivisionError" in terminal.enter("1 / 0")
        assert "\x1b" not in terminal.raw


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"VSERVER_THEME": "none"}])
def test_colours_are_left_out_when_they_are_not_wanted(place: Path, env: dict[str, str]) -> None:
    with shell_at(place / "vserver.db", place / "home", **env) as terminal:
        terminal.enter("db.nonsense")
        assert not re.search(r"\x1b\[[\d;]*3\d[\d;]*m", terminal.raw)


def test_an_unknown_theme_is_reported(place: Path) -> None:
    with shell_at(place / "vserver.db", place / "home", VSERVER_THEME="pink") as terminal:
        assert 'VSERVER_THEME is "pink": it can be light, dark or none' in terminal.wait_for_prompt()


def test_colours_are_shown_otherwise(at_prompt: Terminal) -> None:
    at_prompt.enter("db.nonsense")
    assert re.search(r"\x1b\[[\d;]*3\d[\d;]*m", at_prompt.raw)


# The user's own IPython


def test_the_users_ipython_is_neither_read_nor_written(place: Path, tmp_path: Path) -> None:
    startup = tmp_path / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("leaked = 1")
    (startup.parent / "ipython_config.py").write_text(
        "c.InteractiveShell.xmode = 'Verbose'\nc.InteractiveShell.colors='linux'"
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / ".ipython").rglob("*")}
    with shell_at(place / "vserver.db", tmp_path, PYTHONSTARTUP=str(startup / "00.py")) as terminal:
        assert "NameError" in terminal.enter("leaked")
        terminal.enter("%cd .")
        terminal.enter("%colors")
        terminal.leave()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".ipython").rglob("*")} == before


def test_a_home_without_ipython_gets_none(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        terminal.enter("1 / 0")
        terminal.send("%debug\r")
        terminal.wait_for(r"^ipdb> *\Z")
        terminal.send("quit\r")
        terminal.answer()
        terminal.leave()
    assert [path.name for path in tmp_path.iterdir()] == [".local"]


# Display


def test_an_entity_is_shown_as_a_panel_below_its_line(at_prompt: Terminal) -> None:
    shown = at_prompt.enter("db.Organization.get(1)")
    assert shown.splitlines()[0].startswith("╭")
    assert re.search(r"name +IKNL", shown)
    assert "Out[" not in shown


@pytest.mark.parametrize("source", ["db.Organization.get()", "[each for each in db.Organization.get()]"])
def test_a_list_of_entities_is_shown_as_a_table(at_prompt: Terminal, source: str) -> None:
    shown = at_prompt.enter(source)
    assert re.search(r"^ *1  IKNL", shown, re.MULTILINE)
    assert re.search(r"^ *2  Oslo\\x1b\[31m", shown, re.MULTILINE)
    assert shown.splitlines()[-1].startswith("2 organizations")
    assert "Out[" not in shown


def test_a_displayed_value_is_kept_under_its_number(at_prompt: Terminal) -> None:
    number = at_prompt.number
    at_prompt.enter("db.Organization.get(1)")
    assert at_prompt.enter(f"Out[{number}].name, _.name").endswith("('IKNL', 'IKNL')")


def test_db_is_shown_as_an_overview(at_prompt: Terminal) -> None:
    shown = at_prompt.enter("db")
    assert re.search(r"db\.Organization +2 ", shown)
    assert "getByUsername()" in shown


def test_a_list_of_tuples_and_an_empty_list_are_shown_as_lists(at_prompt: Terminal) -> None:
    assert at_prompt.enter("db.Organization.select(db.Organization.id).tuples()").endswith("[(1,), (2,)]")
    assert at_prompt.enter("[]").endswith("[]")


def test_a_table_is_fitted_to_the_terminal(place: Path) -> None:
    for columns in (80, 200):
        with shell_at(place / "vserver.db", place / "home", columns=columns) as terminal:
            shown = terminal.enter("[db.Organization(id=7, name='long ' * 50)]")
            assert columns - 10 < max(len(line) for line in shown.splitlines()) <= columns


def test_a_value_is_shown_with_its_number(at_prompt: Terminal) -> None:
    number = at_prompt.number
    assert at_prompt.enter("[1, 'x']") == f"Out[{number}]: [1, 'x']"


def test_an_entity_among_other_things_is_shown_in_short(at_prompt: Terminal) -> None:
    assert at_prompt.enter("{1: db.Organization.get(1)}").endswith('{1: <Organization 1 "IKNL">}')


def test_a_failed_display_is_one_line(at_prompt: Terminal) -> None:
    at_prompt.enter("from vserverlib.terminal import display")
    at_prompt.enter("before = display._drawn[type(db)]; display.register(type(db), lambda obj: 1 / 0)")
    assert at_prompt.enter("db") == "(Db cannot be shown: ZeroDivisionError: division by zero)"
    at_prompt.enter("display.register(type(db), before)")


def test_a_semicolon_keeps_a_value_from_being_shown(at_prompt: Terminal) -> None:
    assert at_prompt.enter("1 + 1;") == ""


# Completion


def test_tab_completes_a_field_in_a_constructor(at_prompt: Terminal) -> None:
    at_prompt.send("db.Organization(na\t")
    at_prompt.wait_for(r"db\.Organization\(name=$")
    at_prompt.send('"Tab").name')
    assert at_prompt.enter().endswith("'Tab'")


def test_tab_completes_a_name_of_the_database(at_prompt: Terminal) -> None:
    at_prompt.send('db.Organization.get_by_name("ik\t')
    at_prompt.wait_for(r'get_by_name\("IKNL$')
    at_prompt.send('").id')
    assert at_prompt.enter().endswith(": 1")


def test_tab_shows_a_hostile_name_inert(at_prompt: Terminal) -> None:
    at_prompt.send('db.Organization.get_by_name("o\t')
    at_prompt.wait_for(r'get_by_name\("Oslo\\x1b\[31m$')
    at_prompt.send('").id')
    assert at_prompt.enter().endswith(": 2")


def test_tab_in_a_lookup_offers_nothing_else_if_no_name_matches(at_prompt: Terminal) -> None:
    at_prompt.send('db.Organization.get_by_name("pri\t')
    at_prompt.send('") is None')
    assert at_prompt.enter().splitlines()[0].endswith(": True")
    assert 'get_by_name("pri") is None' in at_prompt.text


def test_tab_completes_other_names_as_ipython_does(at_prompt: Terminal) -> None:
    at_prompt.enter("import collections")
    at_prompt.send("collections.OrderedD\t")
    at_prompt.wait_for(r"collections\.OrderedDict$")
    at_prompt.send(".__name__")
    assert at_prompt.enter().endswith("'OrderedDict'")


def test_completing_an_attribute_asks_the_database_nothing(place: Path) -> None:
    with shell_at(place / "vserver.db", place / "home", options=", print_sql=True") as terminal:
        terminal.enter("class Holder: task = db.Task.get(1)")
        for source in ("Holder.task.initiator.na", "Holder().task.initiator.na", "db.Task.get(1).initiator.na"):
            terminal.send(f"{source}\t")
            terminal.wait_for(re.escape(source))
            terminal.send("\x15")  # Ctrl-U: the line is emptied
        terminal.enter("'done'")
        assert terminal.text.count("SELECT") == 1


def test_print_sql_leaves_out_the_queries_of_completion(place: Path) -> None:
    with shell_at(place / "vserver.db", place / "home", options=", print_sql=True") as terminal:
        terminal.wait_for_prompt()
        terminal.send('db.Organization.get_by_name("ik\t')
        terminal.wait_for(r'get_by_name\("IKNL$')
        assert "SELECT" not in terminal.text


# History


def test_what_is_typed_is_kept_for_the_next_session_without_its_secrets(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        terminal.enter("x = 1")
        terminal.enter(f'user = db.User(username="a", password="{SECRET}", roles="b")')
        terminal.enter(" secretly = 2")
        terminal.send(f'db.User.get(1).set_password("{SECRET}"\r')  # a bracket is open: given up
        terminal.wait_for(r"\.\.\.: *\Z")
        terminal.send("\x03")
        terminal.enter("del user")  # else leaving asks
        assert terminal.leave() == 0
    assert history(tmp_path) == ["x = 1", 'user = db.User(username="a", password="********", roles="b")', "del user"]
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept
    assert b"secretly" not in kept
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        terminal.wait_for_prompt()
        terminal.send("\x1b[A\x1b[A")
        terminal.wait_for(re.escape('password="********"'))
        terminal.send("\x1b[A")
        terminal.wait_for(r"x = 1$")


def test_a_masked_line_that_is_run_again_is_refused(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        terminal.enter(f'db.User(username="a", password="{SECRET}");')
        terminal.leave()
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        terminal.wait_for_prompt()
        terminal.send("\x1b[A")
        terminal.wait_for(re.escape("********"))
        assert "is a mask, not a secret" in terminal.enter()


def test_the_arrow_key_brings_back_a_line_of_this_session_as_it_was_typed(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        assert "no field" in terminal.enter(f'db.User(nam="a", password="{SECRET}")')
        terminal.send("\x1b[A")
        terminal.wait_for(re.escape(SECRET), times=2)


def test_a_line_with_a_mistake_in_it_is_kept_without_its_secrets(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        assert "SyntaxError" in terminal.enter(f'password = "{SECRET}" x')
        assert "NameError" in terminal.enter("user.password = hunter2")
        terminal.leave()
    assert history(tmp_path) == ['password = "********" "********"', 'user.password = "********"']


VALUES = {  # input and output
    "%pwd": "Out[1]: '",
    "%env HOME": "Out[2]: '",
    'db.Organization.get(1).name.startswith("-----BEGIN PRIVATE KEY-----")': "Out[3]: False",
    "import os; os.environ['PGPASSWORD'] = 'x'; os.environ['PGPASSWORD']": "Out[4]: 'x'",
    "%env PGPASSWORD": "Out[5]: 'x'",
    "1 + 1; 'password: x'": "Out[6]: 'password: x'",
    "f'password: {1}' '''x'''": "Out[7]: 'password: 1x'",
    "%time 'password: x'": "Out[8]: 'password: x'",
    "password = 'a;'; password": "Out[9]: 'a;'",
}


def test_a_masked_line_gives_its_value_all_the_same(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path, columns=120, lines=100) as terminal:
        for line, shown in VALUES.items():
            assert shown in terminal.enter(line), line
        assert terminal.enter("password = 'x'; password;") == ""
        assert terminal.enter(" 1 + 1") == "Out[11]: 2"
        assert terminal.enter(" 1 + 1;") == ""


FOR_OTHERS = [
    "!echo SECRET! | cat - passwd anna --stdin",
    "x = !PGPASSWORD=SECRET true",
    "!!true -pSECRET",
    "%sx echo SECRET",
    "%env PGPASSWORD=SECRET",
    "%alias login echo SECRET",
    "echo SECRET | vserver passwd anna --stdin",
    "import os; os.system('echo SECRET')",
    "%%bash\necho SECRET | cat - passwd",
    "%%writefile /dev/null\nSECRET",
    "%%python\nx = 'SECRET'; 1 / 0",
    "%time db.User(username='x', password='SECRET');",
]


def test_a_line_for_another_program_is_nowhere_when_in_doubt(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with shell_at(place / "vserver.db", tmp_path, columns=200, lines=200, TMPDIR=str(tmp_path / "tmp")) as terminal:
        for line in FOR_OTHERS:
            terminal.wait_for_prompt()
            terminal.paste(line.replace("SECRET", SECRET))
            terminal.send("\x1b\r")
            terminal.answer()
        terminal.enter(f"open({str(tmp_path / 'memory')!r}, 'w').write(repr((In, _ih, _i, _ii, _iii, _i1, _i9)));")
        terminal.enter(f"%save {tmp_path / 'saved.py'} 1-12")
        terminal.enter("%macro again 1-12")
        terminal.enter(f"open({str(tmp_path / 'macro')!r}, 'w').write(again.value);")
        terminal.enter("!ls -d .")
        terminal.leave()
    assert "left out: a line for another program" in (tmp_path / "memory").read_text()
    assert history(tmp_path)[-1] == "!ls -d ."
    assert len(history(tmp_path)) == 5
    assert leaking(tmp_path) == []


def leaking(folder: Path) -> list[str]:
    """Return the files below a folder that hold the secret."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


OFF = {
    "%logstart -o -r -t log.py": "%logstart is off",
    "get_ipython().logger.logstart('log.py')": "%logstart is off",
    "%notebook lines.ipynb": "%notebook is off",
    "%pastebin 1": "%pastebin is off",
    "%history -o -f outputs.txt": "%history -o with -f is off",
    "%hist -of outputs.txt": "%history -o with -f is off",
}


def test_no_magic_writes_what_was_typed_or_what_came_out(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    env = {"TMPDIR": str(tmp_path / "tmp"), "EDITOR": "true"}
    with shell_at(place / "vserver.db", tmp_path, columns=200, lines=200, **env) as terminal:
        terminal.enter(f"import os; os.chdir({str(tmp_path)!r})")
        terminal.enter(f"password = '{SECRET}'")
        terminal.enter("password")
        for line, printed in OFF.items():
            assert terminal.enter(line).startswith(f"error: {printed}"), line
        terminal.enter("%config HistoryManager.db_log_output = True")
        terminal.enter("password")
        assert "password = '********'" in terminal.enter("%history 2")
        assert SECRET in terminal.enter("%history -o 3")
        for line in ("%edit -x 2", "%edit -x 2", "%save lines 2", "%save -r raw 1-3", "%history -f lines.txt", "%tb"):
            terminal.enter(line)
        assert len(list((tmp_path / "tmp").iterdir())) == 2
        terminal.leave()
    assert "password = '********'" in (tmp_path / "lines.py").read_text()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert leaking(tmp_path) == []


def test_the_traceback_of_a_file_that_was_run_shows_no_secret(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "given.py"
    file.write_text(f"password = '{SECRET}'; 1 / 0\n")
    with shell_at(place / "vserver.db", tmp_path, columns=200) as terminal:
        printed = terminal.enter(f"%run {file}")
    assert "ZeroDivisionError" in printed and "password = '********'; 1 / 0" in printed and SECRET not in printed


def test_a_cell_of_another_language_that_fails_is_not_shown(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path, columns=200) as terminal:
        terminal.wait_for_prompt()
        terminal.paste(f"%%bash\nword={SECRET}; false")
        terminal.send("\x1b\r")
        assert terminal.answer().count(SECRET) == 1  # where it was typed
        assert "CalledProcessError: Command '********'" in terminal.text


@pytest.mark.parametrize("debug", [False, True])
def test_no_traceback_shows_the_secret_of_its_line(place: Path, tmp_path: Path, debug: bool) -> None:
    with shell_at(place / "vserver.db", tmp_path, options=f", debug={debug}", lines=200) as terminal:
        for mistake in ("1 / 0", "nowhere", "db.User(nam=1)", "= ="):
            printed = terminal.enter(f'password = "{SECRET}"; {mistake}')
            assert "Error" in printed or "no field" in printed, mistake
            assert SECRET not in printed and 'password = "********"' in printed, mistake
        terminal.enter("import linecache")
        assert terminal.enter(f'"{SECRET[:7]}" "{SECRET[7:]}" in str(linecache.cache)').endswith("False")


def test_lines_saved_from_the_history_have_no_secret(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        terminal.enter(f'password = "{SECRET}"')
        terminal.enter(f"%save {tmp_path / 'saved.py'} 1")
        terminal.enter(f"%history -f {tmp_path / 'saved.txt'}")
    assert SECRET not in (tmp_path / "saved.py").read_text() + (tmp_path / "saved.txt").read_text()
    assert "********" in (tmp_path / "saved.py").read_text()
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("saved.py", "saved.txt")} == {0o600}


def test_the_history_is_readable_by_its_owner_alone(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path, XDG_DATA_HOME=str(tmp_path / "data")) as terminal:
        terminal.enter("1")
        folder = tmp_path / "data" / "vserver"
        assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "history.sqlite")] == [0o700, 0o600]


def test_two_shells_at_once_keep_the_lines_of_both(place: Path, tmp_path: Path) -> None:
    path = place / "vserver.db"
    with shell_at(path, tmp_path) as one, shell_at(path, tmp_path) as other:
        for number in range(3):
            one.enter(f"'one {number}'")
            other.enter(f"'other {number}'")
        one.leave()
        other.leave()
    assert sorted(history(tmp_path)) == sorted(f"'{name} {number}'" for name in ("one", "other") for number in range(3))


def test_a_shell_that_is_left_at_once_writes_no_history(place: Path, tmp_path: Path) -> None:
    with shell_at(place / "vserver.db", tmp_path) as terminal:
        terminal.wait_for_prompt()
        assert terminal.leave() == 0
    assert history(tmp_path) == []


@pytest.mark.parametrize("obstacle", ["a file", "a damaged history"])
def test_a_history_that_cannot_be_kept_is_reported_and_switched_off(place: Path, tmp_path: Path, obstacle: str) -> None:
    home = tmp_path / "application"
    if obstacle == "a file":
        home.write_text("")
    else:
        home.mkdir()
        (home / "history.sqlite").write_text("this is no database, but long enough to be looked at as one" * 20)
    with shell_at(place / "vserver.db", tmp_path, VSERVER_HOME=str(home), columns=200) as terminal:
        assert terminal.wait_for_prompt().count("history is off") == 1
        assert terminal.enter("1 + 1") == "Out[1]: 2"
        terminal.send("\x1b[A")
        terminal.wait_for(r"\[2\]: 1 \+ 1$")
        assert terminal.enter() == "Out[2]: 2"
        assert terminal.leave() == 0


# Errors


def test_an_error_of_ours_is_its_message_and_the_line_typed(at_prompt: Terminal) -> None:
    printed = at_prompt.enter('x = db.User.getByUsername("rot")')
    assert printed.splitlines() == ['error: no user "rot"; did you mean "root"?', '  x = db.User.getByUsername("rot")']


def test_the_line_of_a_longer_cell_has_its_number(at_prompt: Terminal) -> None:
    at_prompt.paste('# a comment\nuser = db.User.get(1)\nuser.nonsense = "x"')
    printed = at_prompt.enter().splitlines()
    assert printed[-2].startswith('error: User has no field "nonsense"')
    assert printed[-1] == '  line 3: user.nonsense = "x"'


def test_the_line_typed_is_shown_without_its_secret(at_prompt: Terminal) -> None:
    printed = at_prompt.enter(f'db.User(username="root", password="{SECRET}", foo=1)')
    assert printed.splitlines()[-1] == '  db.User(username="root", password="********", foo=1)'


def test_a_missing_attribute_is_reported_without_our_frames(at_prompt: Terminal) -> None:
    printed = at_prompt.enter("db.organisation").splitlines()
    assert printed[0] == 'error: db has no "organisation"; did you mean "Organization"?'
    assert "File" not in at_prompt.enter("db.Organization.get(1).nonsense")


def test_the_session_continues_after_a_failed_save(at_prompt: Terminal) -> None:
    at_prompt.enter('again = db.User(username="root")')
    assert 'error: the username "root" is taken' in at_prompt.enter("again.save()")
    at_prompt.enter('again.username = "other"; again.organization = 1')
    at_prompt.enter('again.password = "Sup3r-secret!"')
    done = at_prompt.enter("again.save(); again.delete()")
    assert re.fullmatch(r'saved user 2 "other"\ndeleted user 2 "other"; undo it with: db\.undo\(change=\d+\)', done)


def test_any_other_exception_has_a_short_traceback(at_prompt: Terminal) -> None:
    printed = at_prompt.enter("1 / 0")
    assert "ZeroDivisionError: division by zero" in printed
    assert len(printed.splitlines()) < 8


def test_with_debug_an_error_has_all_its_frames(place: Path) -> None:
    with shell_at(place / "vserver.db", place / "home", options=", debug=True") as terminal:
        printed = terminal.enter('db.User.getByUsername("rot")')
        assert "models.py" in printed
        assert "did you mean" in printed


def test_ctrl_c_is_one_line_and_ends_a_running_query_at_once(at_prompt: Terminal) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n"
    at_prompt.send(f'print("counting", 1); database.execute_sql("{endless}")\r')
    at_prompt.wait_for(r"^counting 1$")
    at_prompt.send("\x03")
    assert at_prompt.answer().splitlines()[-1] == "interrupted"


def test_ctrl_c_ends_a_wait_for_a_lock(at_prompt: Terminal, place: Path) -> None:
    other = sqlite3.connect(place / "vserver.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    at_prompt.send('print("waiting", 1); db.Organization(name="waits").save()\r')
    at_prompt.wait_for(r"^waiting 1$")
    at_prompt.send("\x03")
    assert at_prompt.answer().splitlines()[-1] == "interrupted"
    other.close()
    assert at_prompt.enter('db.Organization.exists("name", "waits")').endswith(": False")


def test_a_warning_of_ours_is_one_line_each_time(at_prompt: Terminal) -> None:
    at_prompt.enter("import warnings; from vserverlib import NotObeyed")
    for _ in range(2):
        assert at_prompt.enter('warnings.warn(NotObeyed("take care"))') == "warning: take care"


def test_a_broken_rule_is_one_yellow_line_and_findings_are_a_table(at_prompt: Terminal) -> None:
    assert "warning: ORG001 organization" in at_prompt.enter('db.Organization(name="12").save()')
    assert "\x1b[33mwarning: ORG001" in at_prompt.raw
    assert at_prompt.enter('db.check(rule="ORG001")').startswith("ORG001 error 1 \u2013 no name")
    assert "error: not saved: ORG001" in at_prompt.enter('db.strict(); db.Organization(name="13").save()')


# SQL


def test_print_sql_prints_each_statement_with_its_secrets_masked(place: Path) -> None:
    with shell_at(
        place / "vserver.db", place / "home", options=", print_sql=True", sandbox=True, columns=200
    ) as terminal:
        assert "SELECT" not in terminal.wait_for_prompt()
        printed = terminal.enter(f'db.User(username="sql", password="{SECRET}").save()')
        assert re.search(r'INSERT INTO "user" .*"password".*\[\'\*{8}\'', printed.replace("\n", ""))
        assert "'sql'" not in printed
        assert "$2b$" not in terminal.raw
        asked = terminal.enter("database.execute_sql('SELECT 1 FROM user WHERE password = ?', ['plain text']);")
        assert "['********']" in asked


# Pasting


def test_a_pasted_block_runs_as_typed_one_that_begins_with_a_comment_too(at_prompt: Terminal) -> None:
    block = """# create new organiztion
organization = db.Organization(
name="Pasted",
domain="iknl.nl",
)
# Note: organizations have a public key
organization.save()
for each in [organization]:
    print("made", each.name)

    organization.delete()
"""
    at_prompt.paste(block)
    saved, made, deleted = at_prompt.enter().splitlines()[-3:]
    assert re.fullmatch(r'saved organization \d "Pasted"', saved) and made == "made Pasted"
    assert re.match(r'deleted organization \d "Pasted"; undo it with', deleted)


def test_a_block_typed_line_by_line_runs_as_typed(at_prompt: Terminal) -> None:
    at_prompt.enter("# a comment")
    at_prompt.send("typed = db.Organization(\r")
    at_prompt.wait_for(r"\.\.\.:\s*$")
    at_prompt.send('name="Typed",\rdomain="iknl.nl"\r)\r')
    at_prompt.answer()
    assert at_prompt.enter("typed.name, typed.domain").endswith("('Typed', 'iknl.nl')")
