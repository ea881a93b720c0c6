"""Tables that fit, complete panels, text that stays text, odd data, colours and widths."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import other_program
from rich.cells import cell_len

import models
from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib.entities import relations
from vserverlib.terminal import panels, views

KINDS = ["sqlite"]  # display does not depend on the database

HOSTILE = {
    "escapes": "evil\x1b[2J\x1b[31m\x1b]0;title\x07\x9b1m",
    "line breaks": "evil\n  9  Fake\r\n\t\x0b\x0c\x85\u2028\u2029",
    "markup": "[bold red]evil[/] [link=http://x]:smile: \\[",
    "directions": "evil\u202etxt\u202c\u2066x\u2069\u200e\u200f\u061c",
    "invisible": "e\u200bv\u200ci\u200dl\ufeff\u2060\u00ad\u3164\u2800\u115f\U000e0041\ufe0f",
    "marks": "e" + "\u0301" * 500,
    "wide": "\u6f22\u5b57\U0001f916" * 100,
    "flags and skins": "\U0001f1f3\U0001f1f1\U0001f44d\U0001f3fd",
    "long": "x" * 10_000,
    "nothing but blanks": "     ",
}

# Printable by name, but invisible or of no certain width.
UNSURE = "\u3164\u2800\u115f\ufe0f\U0001f1f3\U0001f1f1\U0001f3fd"


def raw(sql: str, *values: Any) -> None:
    """Write as another program would: by SQL, with no foreign keys, nothing checked."""
    other_program.raw(models.database, sql, *values)


def shown(renderable: Any, width: int = 80) -> list[str]:
    """Return the visible lines, without colours."""
    return views.render(renderable, width=width, color=False).splitlines()


def table(entities: Any, width: int = 80, **part: int) -> list[str]:
    return shown(views.entity_table(entities, **part), width)


def panel(entity: Any, width: int = 80) -> str:
    return "\n".join(shown(panels.entity_panel(entity), width))


def line_of(text: str, name: str) -> str:
    """Return the value that a panel has beside a name."""
    found = re.search(rf"^[│|] {name} +(.*?) *[│|]$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return found[1]


# Tables


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_a_table_fits_its_width(model: Any, width: int, consortium: Any) -> None:
    lines = table(model.get(), width)
    assert max(map(cell_len, lines)) <= width
    assert lines[0].split()[0] == "id" and len(lines) == 3 + min(20, len(model.get()))


def test_a_wide_terminal_shows_more_columns_and_longer_names(consortium: Any) -> None:
    narrow, wide = table(Task.get(), 80), table(Task.get(), 200)
    assert narrow[0].split() == ["id", "name", "progress", "status", "collaboration"]
    assert {"initiator", "created_at", "run_id"} <= set(wide[0].split())
    assert "Colorectal cancer survival" in wide[2] and "Colorectal cancer survival" not in narrow[2]


def test_an_id_is_never_cut(database: Any) -> None:
    raw("INSERT INTO task (id, name) VALUES (9007199254740993, ?)", "x" * 300)
    for width in (40, 60, 80):
        assert table(Task.get(), width)[2].startswith("9007199254740993  ")


def test_a_cut_text_says_so(database: Any) -> None:
    Organization(name="n" * 100).save()
    assert "nnn…" in table(Organization.get(), 60)[2]


def test_columns_without_any_value_are_left_out(story: SimpleNamespace) -> None:
    assert "last_seen" not in table(Node.get(), 200)[0]
    story.node.last_seen = "2026-03-01 09:30:15"
    story.node.save()
    lines = table(Node.get(), 200)
    assert "last_seen" in lines[0] and "2026-03-01 09:30" in lines[2] and "times are in UTC" in lines[-1]


def test_a_list_shows_its_first_20_the_total_and_how_to_see_more(database: Any) -> None:
    Task.insert_many([{"name": f"task {number}"} for number in range(1, 46)]).execute()
    lines = table(Task.get())
    assert len(lines) == 23 and "task 20" in lines[-2]
    assert lines[-1] == "1–20 of 45 tasks · next: [20:40]"  # noqa: RUF001  # a dash, as it is shown
    assert table(Task.get(), first=40)[-1].startswith("41–45 of 45 tasks")  # noqa: RUF001
    assert table(Task.get()[20:40])[-1] == "20 tasks"


def test_an_empty_list_says_so(database: Any) -> None:
    assert table(Task.get()) == ["0 tasks"]
    assert table(Collaboration().organizations) == ["0 organizations"]
    assert table([]) == ["0 entities"]


def test_null_empty_and_blank_look_different(database: Any) -> None:
    for name in (None, "", "  ", "—", " padded"):
        Organization(name=name).save()
    names = [line.split("  ", 1)[1].strip() for line in table(Organization.get())[2:-1]]
    assert [re.match(r'"[^"]*"|\S+', name)[0] for name in names] == ["—", '""', '"  "', '"—"', '" padded"']  # type: ignore[index]


def test_a_list_of_several_kinds_names_them(story: SimpleNamespace) -> None:
    lines = table([story.iknl, story.task, story.results[0], User(username="new")])
    assert [line.split()[0] for line in lines[2:-1]] == ["organization", "task", "result", "user"]
    assert "not saved" not in lines[2] and '"IKNL"' in lines[2] and lines[-1] == "4 entities"


def test_a_link_that_leads_nowhere_shows_its_id(database: Any) -> None:
    raw("INSERT INTO node (name, organization_id) VALUES ('n', 55)")
    assert "(55)" in table(Node.get())[2]


# How far a task is


def bar_of(done: int, total: int) -> str:
    task = Task(name=f"{done} of {total}")
    task.save()
    times = [{"task": task.id, "finished_at": "2026-03-01" if number < done else None} for number in range(total)]
    if times:
        Result.insert_many(times).execute()
    return table(Task.get().where(Task.id == task.id))[2]


def test_a_bar_is_full_when_all_is_done_and_only_then(database: Any) -> None:
    assert "━━━━━━━━━━ 5/5  ✓ completed" in bar_of(5, 5)
    assert "━━━━━━━━━┄ 999/1000  ○ pending" in bar_of(999, 1000)
    assert "━┄┄┄┄┄┄┄┄┄ 1/1000  ○ pending" in bar_of(1, 1000)
    assert "┄┄┄┄┄┄┄┄┄┄ 0/3  ○ pending" in bar_of(0, 3)
    assert "┄┄┄┄┄┄┄┄┄┄ 0/0  · empty" in bar_of(0, 0)


def test_each_state_has_a_word_and_a_sign_of_its_own(consortium: Any) -> None:
    lines = "\n".join(table(Task.get(), limit=30))
    assert {*re.findall(r"(\S) (completed|active|pending|failed|empty)", lines)} == {
        ("✓", "completed"),
        ("▶", "active"),
        ("○", "pending"),
        ("✗", "failed"),
        ("·", "empty"),
    }


# Text is text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("width", [60, 120])
def test_a_hostile_name_keeps_to_its_row(name: str, width: int, database: Any) -> None:
    for each in ("before", name, "after"):
        Organization(name=each, country="NL").save()
    lines = table(Organization.get(), width)
    assert [line.split()[0] for line in lines[2:-1]] == ["1", "2", "3"]
    assert len({cell_len(line.rstrip()) for line in lines[2:-1]}) == 1, "what stands behind the name is out of line"
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_nothing_of_a_hostile_text_reaches_the_terminal_as_an_order(name: str, database: Any) -> None:
    organization = Organization(name=name, public_key=name)
    organization.save()
    task = Task(name=name, description=name, image=name, initiator=organization)
    task.save()
    Result(task=task, organization=organization, log=name, result=name).save()
    for renderable in (
        *(views.entity_table(model.get()) for model in models.ENTITIES),
        *(panels.entity_panel(model.get(1)) for model in (Organization, Task, Result)),
        views.entity_table([organization, task]),
    ):
        text = views.render(renderable, width=80, color=False)
        seen = [char for char in text if not (char.isprintable() or char == "\n") or char in UNSURE]
        assert not seen, [unicodedata.name(char, hex(ord(char))) for char in seen]
        assert not re.search("\u0301{4}", text), "marks that reach into other lines"
        assert max(map(cell_len, text.splitlines())) <= 80


def test_invisible_characters_are_shown_as_escapes(database: Any) -> None:
    for name in ("a\x1b[1mb", "a\nb", "a\u202eb", "a\u200bb", "[red]a[/]", "e\u0301"):
        Organization(name=name).save()
    names = [line.split()[1] for line in table(Organization.get())[2:-1]]
    assert names == [r"a\x1b[1mb", r"a\nb", r"a\u202eb", r"a\u200bb", "[red]a[/]", "e\u0301"]


def test_a_description_cannot_fake_a_line_of_its_panel(database: Any) -> None:
    task = Task(name="t", description="first\n│ status         ✓ completed\r\nlast")
    task.save()
    text = panel(task)
    assert line_of(text, "status") == "· empty" and line_of(text, "description") == "first"
    assert "│                │ status" in text


def test_a_member_cannot_fake_another(story: SimpleNamespace) -> None:
    story.task.name = "mean, 99 Fake\n99 Fake"
    story.task.save()
    Task(name="other", collaboration=story.collaboration).save()
    lines = panel(story.collaboration).splitlines()
    first = next(at for at, line in enumerate(lines) if " tasks " in line)
    assert [line.strip("│ ").split()[:2] for line in lines[first : first + 2]] == [["tasks", "2"], ["2", "other"]]
    story.task.name = "mean" + " 99 Fake" * 20
    story.task.save()
    assert len(panel(story.collaboration).splitlines()) == len(lines), "a long name goes on in the next line"


# Panels


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_a_panel_shows_every_field_and_relation(model: Any, consortium: Any) -> None:
    text = panel(model.get(1))
    for field in model.stored_fields():
        line_of(text, field.name)
    for relation in relations.relations(model):
        assert re.match(r"\d+", line_of(text, relation.name))


def test_a_panel_names_the_first_members_of_a_relation(consortium: Any) -> None:
    text = panel(Collaboration.get(1), 100)
    assert line_of(text, "tasks").startswith("14  1 Age at diagnosis")
    assert "Cox regression" in text and "step 1" not in text
    assert line_of(panel(Organization.get(1), 100), "results") == "17  1 Age at diagnosis ✓ completed"


@pytest.mark.parametrize("model", models.ENTITIES, ids=lambda model: model.__name__)
def test_a_panel_takes_no_more_queries_for_more_members(model: Any, database: Any, count_queries: list[str]) -> None:
    organization = Organization(name="o")
    organization.save()
    collaboration = Collaboration(name="c", organizations=[organization])
    collaboration.save()
    User(username="u", organization=organization).save()
    Node(name="n", organization=organization, collaboration=collaboration).save()
    task = Task(name="t", collaboration=collaboration, initiator=organization)
    task.save()
    panel(User.get(1))  # reads what is read once per database
    needed = []
    for number in (30, 300):
        links = {"collaboration": collaboration.id, "initiator": organization.id}
        Task.insert_many([{"name": "t", "parent": task.id, **links}] * number).execute()
        Result.insert_many([{"task": task.id, "organization": organization.id}] * number).execute()
        entity = model.get(1)
        count_queries.clear()
        panel(entity)
        needed.append(len(count_queries))
    assert needed[0] == needed[1] <= 13


def test_a_panel_never_shows_a_secret(database: Any) -> None:
    user, node = User(username="u", password="Geheim-1234"), Node(name="n", api_key="key-1234-key")
    user.save()
    node.save()
    for text in (panel(user), panel(node), panel(User.get(1)), panel(Node.get(1)), *table([user]), *table([node])):
        assert "Geheim" not in text and "key-1234" not in text and "$2b$" not in text
    assert line_of(panel(user), "password") == "set, not shown" == line_of(panel(Node.get(1)), "api_key")
    assert line_of(panel(User(username="v")), "password") == "not set"


def test_a_read_only_session_does_not_say_that_a_secret_is_not_set(path: Path) -> None:
    with closing(models.connect(path)):
        User(username="u", password="Geheim-1234").save()
    with closing(models.connect(path, read_only=True)):
        assert "password" not in panel(User.get(1))


def test_a_panel_names_the_fields_that_are_not_saved(story: SimpleNamespace) -> None:
    assert "not saved" not in panel(story.iknl)
    story.iknl.country = "Belgium"
    story.collaboration.organizations.remove(story.oslo)
    assert "not saved yet: country" in panel(story.iknl)
    assert "not saved yet: organizations" in panel(story.collaboration)
    new = panel(Task(name="new"))
    assert 'task "new" (not saved)' in new and "not saved yet" not in new
    assert "result (not saved)" in panel(Result())


def test_a_long_text_is_shown_in_part_with_its_length(database: Any) -> None:
    organization = Organization(name="o", public_key="\n".join(f"line {number}" for number in range(1, 101)))
    organization.save()
    text = panel(organization)
    assert "line 8" in text and "line 9 " not in text and "… 791 characters in all" in text
    Result(result="y" * 5000).save()
    assert "… 5,000 characters in all" in panel(Result.get(1))


def test_times_in_a_panel_are_to_the_second_and_in_utc(story: SimpleNamespace) -> None:
    story.task.created_at = "2026-03-01 10:00:07+02:00"
    assert line_of(panel(story.task), "created_at") == "2026-03-01 08:00:07 UTC"


@pytest.mark.parametrize("model", [*models.ENTITIES, models.Member], ids=lambda model: model.__name__)
def test_rows_that_other_programs_wrote_are_shown(model: Any, path: Path, story: SimpleNamespace) -> None:
    long = "odd" * 1000
    raw("INSERT INTO organization (id, name, country) VALUES (90, ?, 2.5)", b"\xff\x00")
    raw("INSERT INTO collaboration (id, name, encrypted) VALUES (90, 'c', ?)", long)
    raw("INSERT INTO user (id, organization_id, last_seen, status) VALUES (90, 55, ?, 5)", long)
    raw("INSERT INTO node (id, organization_id, collaboration_id, last_seen) VALUES (90, 55, 'abc', -1)")
    raw("INSERT INTO task (id, collaboration_id, parent_id, run_id, created_at) VALUES (90, 77, 66, ?, 'x')", long)
    raw("INSERT INTO result (id, task_id, organization_id, finished_at, status) VALUES (90, 90, 55, ?, ?)", long, long)
    raw("INSERT INTO member (id, organization_id, collaboration_id) VALUES (90, 55, NULL)")
    for width in (60, 80, 200):
        lines = table(model.get(), width)
        assert lines[-2].lstrip().startswith("90  ") and max(map(cell_len, lines)) <= width
        assert all(cell_len(line) <= width for line in panel(model.get(90), width).splitlines())
    assert table(Collaboration.get())[0].split() == ["id", "name", "encrypted", "organizations", "nodes", "tasks"]


# Overview


def test_the_summary_shows_counts_and_methods_and_common_ones_once() -> None:
    task = SimpleNamespace(name="Task", count=1_234, about="a computation", methods=["next_run_id", "get", "save"])
    result = SimpleNamespace(name="Result", count=7, about="a computed part", methods=["get", "save"])
    lines = shown(views.summary([task, result]))
    assert re.match(r"db\.Task +1,234 +a computation$", lines[0].rstrip())
    assert lines[1].strip() == "next_run_id()"
    assert re.match(r"db\.Result +7 +a computed part$", lines[2].rstrip())
    assert lines[3].split() == ["all", "get(),", "save()"]


# Where it goes


class Tty(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def printed(entity: Any, monkeypatch: pytest.MonkeyPatch, **env: str) -> str:
    for name, value in {"TERM": "xterm-256color", **env}.items():
        monkeypatch.setenv(name, value)
    stream = Tty()
    views.console(stream).print(views.entity_table(entity))
    views.console(stream).print(panels.entity_panel(entity[0]))
    return stream.getvalue()


def test_colours_are_the_terminals_own_with_its_background(consortium: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = set(re.findall(r"\x1b\[([\d;]*)m", printed(Task.get(), monkeypatch)))
    assert codes, "no colours at a terminal"
    assert codes <= {"0", "1", "2", "31", "32", "36", "39"}


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"VSERVER_THEME": "none"}], ids=str)
def test_colours_can_be_declined(env: dict[str, str], consortium: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(Task.get(), monkeypatch, **env)
    assert "\x1b" not in text and "✓ completed" in text


def test_a_pipe_has_the_width_of_columns_else_120(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert views.console(io.StringIO()).width == 120
    monkeypatch.setenv("COLUMNS", "77")
    assert views.console(io.StringIO()).width == 77
    for odd in ("", "0", "-5", "wide", "\u0665"):
        monkeypatch.setenv("COLUMNS", odd)
        assert views.console(io.StringIO()).width == 120


def test_a_terminal_of_unknown_width_is_taken_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views.os, "get_terminal_size", lambda descriptor: os.terminal_size((0, 0)))
    with open(os.devnull, "w") as stream:
        assert views.console(stream).width == 120


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_output_that_knows_no_unicode_gets_signs_that_it_knows(encoding: str, consortium: Any) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    for renderable in (
        *(views.entity_table(model.get()) for model in models.ENTITIES),
        *(panels.entity_panel(model.get(1)) for model in models.ENTITIES),
    ):
        views.console(stream).print(renderable)
    stream.seek(0)
    text = stream.read()
    assert f"{'#' * 20} 4/4  + completed" in text
    assert r"\u9752" in text and "1-20 of 24 tasks" in text
    assert max(map(len, text.splitlines())) <= 120


# Names that begin alike


@pytest.mark.parametrize("width", [30, 36])
def test_names_that_begin_alike_are_cut_so_that_they_differ(database: Any, width: int) -> None:
    for study in ("Colorectal cancer survival", "Lung cancer screening", "Rare tumours [pilot]"):
        Node(name=f"Kankerregister Noord - {study} Node", status="online").save()
    names = [line.split("  ")[1].strip() for line in shown_in(width).splitlines()[2:5]]
    assert len(set(names)) == 3 and all(name.startswith("Kan") and name.endswith(" Node") for name in names)


def test_names_that_differ_at_once_are_cut_at_their_end(database: Any) -> None:
    for number in range(3):
        Node(name=f"{number} " + "x" * 100 + str(number)).save()
    assert shown_in(40).splitlines()[2].endswith("x…")


@pytest.mark.parametrize("text", ["abcdefghij", "青葉がんセンター", "e\u0301" * 9, "", "a"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_text_that_is_cut_within_fits(text: str, encoding: str) -> None:
    look = views.Look(encoding)
    for width in range(12):
        assert cell_len(look.cut_within(text, width)) <= width or not text


def shown_in(width: int) -> str:
    return views.render(views.entity_table(Node.get()), width=width, color=False)
