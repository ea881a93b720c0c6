"""The documentation: its examples run, its tables are complete, its generated pages are up to date, its links work."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import pages

import models
import shell
import vserver
from vserverlib import api
from vserverlib.databases import storage
from vserverlib.entities import relations
from vserverlib.examples import demo
from vserverlib.opening import opener

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
ANSWER = "  # → "


def examples(page: Path) -> list[str]:
    """Return the Python of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def section(page: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"{page} has no section {title}"
    return found[1]


def summary(table: str, text: str) -> list[str]:
    """Return the names in backquotes in the first column of a table."""
    found = re.search(rf"^\| {table} \|.*\n\|[-|]+\|\n((?:\|.*\n?)*)", text, re.MULTILINE)
    rows = found[1].splitlines() if found else []
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def answer(code: str, names: dict[str, Any]) -> str:
    try:
        return repr(eval(code, names))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_the_examples_of_the_guide_have_the_printed_answers(database: Any) -> None:
    names = shell.namespace(database)
    for example in examples(DOCS / "guide.md"):
        for statement in ast.parse(example).body:
            code = ast.get_source_segment(example, statement)
            line = example.splitlines()[(statement.end_lineno or 1) - 1]
            _, has_answer, expected = line.partition(ANSWER)
            if has_answer:
                assert answer(str(code), names) == expected, code
            else:
                exec(str(code), names)


def test_the_tour_of_the_readme_runs(database: Any) -> None:
    names = shell.namespace(database)
    for example in examples(ROOT / "README.md"):
        exec(example, names)
    assert names["task"].progress == (0, 2) and not names["task"].complete


@pytest.mark.parametrize("page", ["demo.md", "filters.md"])
def test_the_examples_on_the_example_data_run(page: str) -> None:
    database = opener.demo()
    for example in examples(DOCS / page):
        exec(example, shell.namespace(database))
    database.close()


def test_the_log_ins_of_the_example_data_work() -> None:
    log_ins = re.findall(r"\| `([a-z.]+)` \|[^|]*\| `(.+?)` \|", (DOCS / "demo.md").read_text())
    assert len(log_ins) == 4 and all(demo.password_of(username) == password for username, password in log_ins)


def test_the_scripts_run_one_after_the_other(tmp_path: Path, quick_hashes: None, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    storage.create(Path("vserver.db"))
    for number, example in enumerate(examples(DOCS / "scripts.md")):
        script = tmp_path / f"script{number}.py"
        script.write_text(example)
        runpy.run_path(str(script))
    models.database.close()
    printed = capsys.readouterr().out
    assert "1 IKNL" in printed and "open read-only" in printed
    assert "1000 tasks of ['Bergen', 'IKNL', 'Oslo']" in printed


def typed(line: str) -> Any:
    """Run a vserver command in this process."""
    return CliRunner().invoke(vserver.main, shlex.split(line)[1:], prog_name="vserver")


def test_the_commands_of_the_page_on_scripts_print_its_output(example: Path) -> None:
    pages.walk(DOCS / "automation.md", example.parent)


def test_the_way_to_a_real_server_and_back_runs(tmp_path: Path, quick_hashes: None, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests" / "data" / "v4.15.2.sqlite", "server.sqlite")
    lines = re.findall(
        r"^(vserver .*)$", section("fixtures.md", "From a laptop to a real server, and back"), re.MULTILINE
    )
    for line in lines:
        done = typed(line)
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert len(lines) == 7 and {"secrets.yaml", "copy.db", "other.db", "back.db"} <= {
        file.name for file in tmp_path.iterdir()
    }


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_the_guide_has_every_field_and_relation(model: Any) -> None:
    text = section("guide.md", model.plural.capitalize())
    assert summary("field", text) == model._meta.sorted_field_names
    assert sorted(summary("relation", text)) == [relation.name for relation in relations.relations(model)]


def test_the_example_of_the_page_of_rules_runs(database: Any) -> None:
    (example,) = examples(DOCS / "checks.md")
    block, question = ast.parse(example).body
    exec(ast.get_source_segment(example, block) or "", names := shell.namespace(database))
    assert answer(ast.get_source_segment(example, question) or "", names) == example.strip().rpartition(ANSWER)[2]


@pytest.mark.parametrize("name", ["commands.md", "topics.md", "filters.md"])
def test_a_page_of_help_texts_is_up_to_date(name: str) -> None:
    generated = runpy.run_path(str(DOCS / "make_commands.py"))["pages"]()
    text = (DOCS / name).read_text()
    assert text == generated[name], "run: make docs"
    assert "Generated from" in text[:400]


def test_the_page_of_the_servers_calls_is_up_to_date() -> None:
    page, made = (DOCS / "calls.md").read_text(encoding="utf-8"), runpy.run_path(str(DOCS / "make_server.py"))["page"]()
    assert page == made, "run: make docs"


def test_the_python_reference_is_what_the_docstrings_say() -> None:
    page, made = (DOCS / "api.md").read_text(encoding="utf-8"), runpy.run_path(str(DOCS / "make_api.py"))["page"]()
    assert page == made, "run: make docs"
    assert "Generated from" in page[:400]


@pytest.mark.parametrize("name", [*api.__all__, *(model.__name__ for model in models.ENTITIES)])
def test_the_python_reference_has_what_programs_use(name: str) -> None:
    found = re.search(rf"^##+ `?{name}\b.*\n\n(.+)", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert found and found[1].endswith((".", "…")), f"{name} has no docstring"


def test_every_command_and_option_has_a_help_text() -> None:
    for name, command in {"vserver": vserver.main, **vserver.main.commands}.items():
        assert command.help, name
        for option in command.params:
            assert getattr(option, "help", "") or option.param_type_name == "argument", f"{name} {option.name}"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first and first[1] == vserver.__version__


@pytest.mark.parametrize("name", ["shell", "list", "show", "overview", "watch", "run"])
def test_a_picture_is_complete_in_itself(name: str) -> None:
    picture = (DOCS / f"{name}.svg").read_text()
    assert f"docs/{name}.svg" in (ROOT / "README.md").read_text()
    assert set(re.findall(r"https?://[^\"' )]+", picture)) <= {"http://www.w3.org/2000/svg"}
    assert "vserver" in picture and "<script" not in picture
