"""The shell: predefined names, the banner, and source that runs as plain Python."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.process import PROGRAM, python, vserver
from helpers.terminal import ROOT, Terminal, environment, shell_at

import models
import shell
from vserverlib import UsageError
from vserverlib.databases import storage

Printed = pytest.CaptureFixture[str]
SECRET = "hunter2-is-secret"


def plainly(code: str, path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with our modules, as a script would, in a process of its own."""
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment(home), check=False)


# Predefined names


def test_db_has_the_six_models_and_the_database(database: Any) -> None:
    db = shell.namespace(database)["db"]
    assert [getattr(db, model.__name__) for model in models.ENTITIES] == list(models.ENTITIES)
    assert db.database is database


def test_models_and_names_for_dates_are_predefined(database: Any) -> None:
    names = shell.namespace(database)
    assert all(names[model.__name__] is model for model in models.ENTITIES)
    assert names["datetime"].now(names["UTC"]).tzinfo is datetime.UTC
    assert names["datetime"].now(names["UTC"]) - names["timedelta"](days=1) < names["datetime"].now(names["UTC"])


def test_a_name_that_db_does_not_have_is_an_error_that_suggests_one(database: Any) -> None:
    db = shell.namespace(database)["db"]
    with pytest.raises(UsageError, match='db has no "Organisation"; did you mean "Organization"?'):
        db.Organisation  # noqa: B018
    assert not hasattr(db, "Organisation")


def test_the_console_prints_text_as_text(database: Any, capsys: Printed) -> None:
    shell.namespace(database)["console"].print("[bold]IKNL[/bold]")
    assert capsys.readouterr().out == "[bold]IKNL[/bold]\n"


def test_the_overview_counts_and_describes_each_entity_in_one_query(
    story: SimpleNamespace, database: Any, count_queries: list[str]
) -> None:
    rows = {row.name: row for row in shell.summary(database)}
    assert len(count_queries) == 1
    assert [(row.name, row.count) for row in rows.values()] == [
        ("Organization", 2), ("User", 0), ("Collaboration", 1), ("Node", 1), ("Task", 1), ("Result", 2),
    ]  # fmt: skip
    assert {"get", "get_by_name", "next_run_id", "results_for_node", "save"} < set(rows["Task"].methods)
    assert all(row.about for row in rows.values())


# The banner


def test_the_banner_names_the_database_its_mode_and_the_counts(story: SimpleNamespace, database: Any) -> None:
    text = " ".join(shell.banner(database).split())
    assert f"{database.title}, read-write" in text
    assert "2 organizations, 0 users, 1 collaboration, 1 node, 1 task, 2 results" in text


@pytest.mark.parametrize("mode", ["read_only", "sandbox"])
def test_the_banner_says_what_a_mode_means(path: Path, mode: str) -> None:
    text = " ".join(shell.banner(models.connect(path, **{mode: True})).split())
    assert {"read_only": "nothing can be changed", "sandbox": "private copy"}[mode] in text


def test_the_banner_of_an_empty_database_says_how_to_begin(database: Any) -> None:
    assert "db.Organization(name=" in shell.banner(database)


def test_the_banner_fits_on_the_screen(tmp_path: Path, quick_hashes: None) -> None:
    folder = tmp_path / ("a long name of a folder " * 8)
    folder.mkdir()
    database = models.connect(storage.create(folder / ("x" * 200 + ".db")), sandbox=True)
    lines = shell.banner(database).splitlines()
    database.close()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 80


def test_the_banner_costs_one_query(database: Any, count_queries: list[str]) -> None:
    shell.banner(database)
    assert len(count_queries) == 1


def test_a_quiet_shell_has_no_banner(path: Path, tmp_path: Path) -> None:
    with shell_at(path, tmp_path, options=", quiet=True") as terminal:
        assert terminal.wait_for_prompt().strip() == "vserver.db [1]:"


# Source that runs as plain Python


def test_source_runs_with_the_predefined_names(database: Any, capsys: Printed) -> None:
    source = 'Organization(name="IKNL").save()\ndb.Organization.get(1)\nprint(db.Organization.get(1).name, __name__)'
    assert shell.run(source, "<string>", database) == 0
    assert capsys.readouterr() == ("IKNL __main__\n", "")


def test_functions_and_comprehensions_see_what_the_source_defined(database: Any, capsys: Printed) -> None:
    source = "x = 2\ndef double(): return [x * y for y in (1, 2) if x]\nprint(double(), [n for n in [x] if n == x])"
    assert shell.run(source, "<stdin>", database) == 0
    assert capsys.readouterr().out == "[2, 4] [2]\n"


def test_an_exception_ends_the_source_with_a_traceback_and_status_1(database: Any, capsys: Printed) -> None:
    source = "def half():\n    return 1 / 0\nprint('before')\nhalf()\nprint('after')"
    assert shell.run(source, "<string>", database) == 1
    printed = capsys.readouterr()
    assert printed.out == "before\n"
    assert [line.strip() for line in printed.err.splitlines() if "~" not in line] == [
        "Traceback (most recent call last):",
        'File "<string>", line 4, in <module>',
        "half()",
        'File "<string>", line 2, in half',
        "return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_an_error_of_ours_has_no_frames_of_ours(database: Any, capsys: Printed) -> None:
    source = 'user = Collaboration(name="root")\nwith db.checks(False): user.save()\nCollaboration(name="root").save()'
    assert shell.run(source, "<string>", database) == 1
    printed = [line for line in capsys.readouterr().err.splitlines() if "~" not in line]
    assert printed[1:3] == ['  File "<string>", line 3, in <module>', '    Collaboration(name="root").save()']
    assert len(printed) == 4
    assert 'the name "root" is taken' in printed[-1]


def test_with_debug_an_error_of_ours_has_all_frames(database: Any, capsys: Printed) -> None:
    assert shell.run('db.User.getByUsername("root")', "<string>", database, debug=True) == 1
    printed = capsys.readouterr().err
    assert "models.py" in printed
    assert "shell.py" not in printed


def test_a_traceback_shows_no_secret(database: Any, capsys: Printed) -> None:
    source = f'print("on")\nUser(\n    password="{SECRET}", nam="x",\n)\n'
    assert shell.run(source, "<stdin>", database) == 1
    assert shell.run(f'User(password="{SECRET}" x', "<stdin>", database) == 1
    assert shell.run(f'{{"password": "{SECRET}"}}["x"]', "<stdin>", database) == 1
    printed = capsys.readouterr().err
    assert SECRET not in printed
    assert printed.count("********") >= 2


def test_a_syntax_error_is_shown_as_python_shows_it(database: Any, tmp_path: Path, capsys: Printed) -> None:
    file = tmp_path / "wrong.py"
    file.write_text("x = 1\nfor in x:\n")
    assert shell.run(file.read_bytes(), str(file), database) == 1
    python = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert capsys.readouterr().err == python.stderr


@pytest.mark.parametrize("source", [b"\xff\xfe\x00binary", b"x = '\xe9'", b"\x00", "x = '\0'"])
def test_invalid_python_is_reported_as_an_error(source: bytes | str, database: Any, capsys: Printed) -> None:
    assert shell.run(source, "given.py", database) == 1
    printed = capsys.readouterr().err
    assert re.search(r"Error: ", printed.splitlines()[-1])
    assert "Traceback" not in printed


def test_source_may_say_its_encoding(database: Any, capsys: Printed) -> None:
    assert shell.run("# coding: latin-1\nprint('é')".encode("latin-1"), "given.py", database) == 0
    assert capsys.readouterr().out == "é\n"


@pytest.mark.parametrize(
    ("leaving", "status"), [("raise SystemExit", 0), ("raise SystemExit(3)", 3), ("import sys; sys.exit('no more')", 1)]
)
def test_leaving_gives_the_status_that_is_asked_for(leaving: str, status: int, database: Any, capsys: Printed) -> None:
    assert shell.run(f"{leaving}\nprint('after')", "<string>", database) == status
    assert capsys.readouterr() == ("", "no more\n" if status == 1 else "")


def test_a_file_may_import_modules_beside_it(database: Any, tmp_path: Path, capsys: Printed) -> None:
    (tmp_path / "beside_it.py").write_text("answer = 42")
    file = tmp_path / "given.py"
    assert shell.run("import beside_it; print(beside_it.answer, __file__)", str(file), database) == 0
    assert capsys.readouterr().out == f"42 {file}\n"
    assert str(tmp_path) not in sys.path


def test_classes_of_the_source_can_be_pickled(database: Any) -> None:
    source = "import pickle\nclass Point: pass\nassert type(pickle.loads(pickle.dumps(Point()))) is Point"
    main = sys.modules["__main__"]
    assert shell.run(source, "<string>", database) == 0
    assert sys.modules["__main__"] is main


def test_our_future_imports_are_not_those_of_the_source(database: Any) -> None:
    assert shell.run("def f(x: int): pass\nassert f.__annotations__ == {'x': int}", "<string>", database) == 0


def test_a_warning_of_ours_is_one_line_each_time(database: Any, capsys: Printed) -> None:
    source = "import warnings\nfrom vserverlib import NotObeyed\nfor _ in 'ab': warnings.warn(NotObeyed('take care'))"
    assert shell.run(source, "<string>", database) == 0
    assert capsys.readouterr().err == "warning: take care\n" * 2


def test_neither_ipython_nor_rich_is_imported_for_plain_source(path: Path, tmp_path: Path) -> None:
    code = """import sys, models, shell
status = shell.run("import sys; print(len(db.Organization.get()))", "<string>", models.connect(sys.argv[1]))
print(status, [name for name in ("IPython", "rich", "prompt_toolkit", "pygments") if name in sys.modules])"""
    assert plainly(code, path, tmp_path).stdout == "0\n0 []\n"


def test_importing_the_shell_does_not_import_ipython(path: Path, tmp_path: Path) -> None:
    done = plainly("import sys, shell; print('IPython' in sys.modules, 'rich' in sys.modules)", path, tmp_path)
    assert done.stdout == "False False\n"


def test_ctrl_c_ends_source_with_the_status_of_an_interrupted_program(database: Any, capsys: Printed) -> None:
    assert shell.run("raise KeyboardInterrupt", "<string>", database) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "KeyboardInterrupt"


# SQL


def test_queries_are_printed_with_their_secrets_masked(database: Any, capsys: Printed) -> None:
    shell.print_queries(database)
    user = models.User(username="root", password=SECRET)
    user.save()
    models.User(username="other").save()
    models.User.update(password=user._stored["password"]).where(models.User.username == "other").execute()
    printed = capsys.readouterr().err
    assert "['********', '********']" in printed
    assert "root" not in printed and "other" not in printed
    assert "$2b$" not in printed


@pytest.mark.parametrize(
    ("sql", "parameters", "shown"),
    [
        (
            "SELECT ? FROM user WHERE password = ? AND username = ?",
            ["a", "b", "c"],
            "'********', '********', '********'",
        ),
        (
            'SELECT 1 FROM node AS "t1" WHERE "t1"."api_key" IN (?, ?) AND name = ?',
            ["a", "b", "c"],
            "'********', '********', '********'",
        ),
        (
            "INSERT INTO user (username, password) VALUES (?, ?), (?, ?)",
            list("abcd"),
            "'********', '********', '********', '********'",
        ),
        ("SELECT '?' , ?", ["a"], "'a'"),
        ("SELECT name FROM task WHERE id = ?", [5], "5"),
        ("SELECT ?", ["x" * 100], f"'{'x' * 58}…"),
        ("SELECT ?", ["$2b$12$abcdefghijklmnopqrstuv"], "'********'"),
        ("SELECT ?", ["red\x1b[31m"], "'red\\x1b[31m'"),
    ],
)
def test_a_parameter_is_masked_by_the_column_it_is_for(
    sql: str, parameters: list[str], shown: str, path: Path, database: Any, capsys: Printed
) -> None:
    shell.print_queries(database)
    sql = sql if sql.startswith("SELECT") else sql + " ON CONFLICT DO NOTHING"
    database.execute_sql(sql, parameters)
    assert capsys.readouterr().err.rstrip().endswith(f"  [{shown}]")


def test_no_module_of_the_working_directory_stands_in_for_another(path: Path, tmp_path: Path) -> None:
    (tmp_path / "getpass.py").write_text("print('hijacked')")
    code = f"""import sys; sys.path[0] = {str(ROOT)!r}
import models, shell
shell.run("import getpass", "<string>", models.connect(sys.argv[1]))"""
    assert plainly(code, path, tmp_path).stdout == ""


# The arguments of a script


SHOW_ARGV = "import sys; print(sys.argv)"
PARSES = """import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--days", type=int, default=1)
parser.add_argument("names", nargs="*")
print(parser.parse_args(), __name__, __file__)
import beside
"""


def test_a_script_has_its_own_arguments(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(PARSES)
    (tmp_path / "beside.py").write_text("import sys; print(sys.argv)")
    demo = ("shell", "--demo", "-q")
    for given in ([], ["--days", "7", "a b", "--", "-x"]):
        ended = vserver(*demo, "r.py", *(["--", *given] if given else []), cwd=tmp_path)
        plain = python("r.py", *given, cwd=tmp_path)
        assert ended == plain and ended.status == 0
    asked = vserver(*demo, "r.py", "--", "--help", cwd=tmp_path)
    assert asked.out.startswith("usage: r.py [-h] [--days DAYS]") and asked.status == 0
    wrong = vserver(*demo, "r.py", "--", "--days", "x", cwd=tmp_path)
    assert wrong.status == 2 and "r.py: error: argument --days" in wrong.err


def test_each_way_to_run_a_script_has_the_arguments_of_that_way(tmp_path: Path) -> None:
    demo = ("shell", "--demo", "-q")
    assert vserver(*demo, "-c", SHOW_ARGV, "--", "-c", "--demo").out == "['-c', '-c', '--demo']\n"
    assert vserver(*demo, given=SHOW_ARGV).out == "['-']\n"
    assert vserver(*demo, "-", "--", "a", given=SHOW_ARGV).out == "['-', 'a']\n"
    terminal = Terminal([*PROGRAM, *demo], environment(tmp_path))
    assert terminal.enter("import sys; sys.argv") == "Out[1]: ['']"
    terminal.leave()


def test_arguments_that_are_not_behind_dashes_are_refused_with_the_line_to_type() -> None:
    lines = {
        ("r.py", "--days", "7"): "vserver shell r.py -- --days 7",
        ("r.py", "-q", "a b"): "vserver shell r.py -q -- 'a b'",
    }
    for words, line in lines.items():
        ended = vserver("shell", *words)
        assert ended.status == 2 and ended.err.splitlines()[-1].endswith(f"go after --: {line}"), ended
    assert "arguments of CODE go after --" in vserver("shell", "-c", "pass", "x").err
    assert "put one of them before --" in vserver("shell", "--", "r.py").err
    assert "No such option '--days'" in vserver("shell", "--days").err
    assert "-d goes before the command" in vserver("shell", "r.py", "-d", "x.db").err


def test_the_arguments_of_the_program_are_back_afterwards(database: Any, capsys: Printed) -> None:
    before = sys.argv
    assert shell.run("import sys; sys.argv.append('x'); print(sys.argv)", "r.py", database, arguments=["a"]) == 0
    assert capsys.readouterr().out == "['r.py', 'a', 'x']\n"
    assert sys.argv is before
