"""The pages as HTML: valid, text whatever is in it, the figures of the terminal, readable in any colour."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import html5lib
import pytest
from helpers import hostile, process

from models import Collaboration, Node, Organization, Result, Task, User
from vserverlib import printable
from vserverlib.entities.fields import now
from vserverlib.entities.progress import TASK_STATUSES
from vserverlib.pages import documents, drawing, entity_page, rendering
from vserverlib.queries import dashboard, details
from vserverlib.queries.details import Lane
from vserverlib.queries.sights import Sight
from vserverlib.terminal import views
from vserverlib.terminal.views import LONGEST

XHTML = "{http://www.w3.org/1999/xhtml}"
STYLE = rendering.static("page.css")


def parsed(text: str) -> Any:
    """Return the tree of a page. Any error of HTML is raised."""
    return html5lib.HTMLParser(strict=True).parse(text)


def elements(tree: Any, name: str) -> list[Any]:
    return list(tree.iter(f"{XHTML}{name}"))


def words(element: Any) -> str:
    """Return the text in an element, with single spaces."""
    return " ".join(" ".join(each for each in element.itertext()).split())


def whole_overview(database: Any) -> str:
    found = dashboard.dashboard(database)
    main = documents.main_part(found, database.title, "/page/task/", "?big")
    return documents.served(main, documents.name(found, database.title), documents.Frame("anna", "/page/events"))


def page_of(entity: Any) -> str:
    return documents.standalone(entity_page.read(entity), "vserver.db")


def every_page(database: Any) -> dict[str, str]:
    """Return each kind of page that there is, of all entities."""
    found = {"overview": whole_overview(database)}
    for model in (Organization, User, Collaboration, Node, Task, Result):
        found |= {f"{model.noun} {each.id}": page_of(each) for each in model.get()}
    return found


def test_every_page_is_valid_and_has_no_style_or_script_of_its_own(consortium: Any) -> None:
    pages = every_page(consortium) | {
        "log-in": documents.log_in("/page/task/3?big", "wrong", 'an"na'),
        "notice": documents.notice("no task 3", "<b>"),
    }
    assert len(pages) > 100
    for name, text in pages.items():
        tree = parsed(text)
        assert not [each for each in tree.iter() if "style" in each.attrib or any(a[:2] == "on" for a in each.attrib)]
        assert len(elements(tree, "h1")) == len(elements(tree, "main")) == 1, name
        assert all(words(each) for each in elements(tree, "title") + elements(tree, "h2")), name
        assert all(each.get("scope") for each in elements(tree, "th")), name
        ids = Counter(each.get("id") for each in tree.iter() if each.get("id"))
        assert not [id for id, count in ids.items() if count > 1], name
        labels = {each.get("aria-labelledby") for each in tree.iter() if each.get("aria-labelledby")}
        assert labels <= set(ids) and all(each.get("aria-labelledby") for each in elements(tree, "table")), name
        assert all(not each.text for each in elements(tree, "script")), name


def test_the_overview_has_the_figures_of_the_terminal(consortium: Any) -> None:
    tree, found = parsed(whole_overview(consortium)), dashboard.dashboard(consortium)
    text = words(tree)
    for status in TASK_STATUSES:
        assert f"{found.overview.tasks[status]} {views.Look().sign(status)} {status}" in text.replace("\xa0", " ")
    shares = [("organization", each) for each in found.overview.organizations]
    for kind, share in shares + [("collaboration", each) for each in found.overview.collaborations]:
        (row,) = [each for each in elements(tree, "tr") if each.get("data-key") == f"{kind}-{share.id}"]
        assert words(row).startswith(" ".join(printable(share.name).split()))
        assert f"{share.done}/{share.total}" in words(row) and f" {share.failed}" in words(row)
        if share.since:
            assert views.as_text(share.since, "minutes") in words(row)
    running = [each.id for each in Task.get() if not each.complete and each.counts.total]
    assert [row["id"] for row in found.unfinished.rows] == sorted(running, reverse=True)
    assert found.unfinished.total == len(running) and found.nodes.total == len(Node.get())
    finished = [each.id for each in Task.get() if each.complete]
    assert found.finished.total == len(finished)
    assert [row["id"] for row in found.finished.rows] == sorted(finished, reverse=True)[: dashboard.FINISHED]
    for node in Node.get():
        (row,) = [each for each in elements(tree, "tr") if f"node {node.id} " in words(each)]
        assert views.ago(node.last_seen, found.moment, views.Look()) in words(row)


def test_a_task_has_its_lanes_family_logs_and_who_is_waited_for(consortium: Any) -> None:
    tree = parsed(page_of(Task.by_id(11)))
    text = words(tree).replace("\xa0", " ")
    assert "not finished: 2 of 4 results, 2 awaited, 0 failed" in text
    assert "Kankerregister Noord running since 2026-03-13 15:33" in text and "node 1: last seen " in text
    assert "Cox regression, again 9 ▶ active 0/1" in text and "info > data read, 1204 rows info > done" in text
    lines = [each for each in tree.iter() if each.get("class") == "line active"]
    assert len(lines) == 2 and "ran" in [each.get("class") for each in lines[0]]
    assert "✗ crashed" in words(parsed(page_of(Task.by_id(8)))).replace("\xa0", " ")


@pytest.mark.sqlite("about HTML")
def test_names_are_text_whatever_is_in_them(database: Any, story: SimpleNamespace) -> None:
    with database.rule_checks(False):
        for name in hostile.NAMES:
            organization = Organization(name=name)
            organization.save()
            together = Collaboration(name=name, organizations=[organization])
            together.save()
            Node(name=name, organization=organization, collaboration=together).save()
            task = Task(name=name, image=name, description=name, collaboration=together, initiator=organization)
            task.save()
            Task(name=name, parent=task, collaboration=together).save()
            Result(task=task, organization=organization, log=name, status="failed", input=name).save()
    for name, text in every_page(database).items():
        tree = parsed(text)
        assert len(elements(tree, "script")) == (1 if name == "overview" else 0), name
        assert not elements(tree, "img") and not elements(tree, "b") and not elements(tree, "i"), name
        assert all(each == "\n" or each.isprintable() for each in text.replace("\xa0", " ")), name
    for name in filter(str.strip, hostile.NAMES):
        (task,) = [each for each in Task.get() if each.name == name and each.parent is None]
        assert printable(name, LONGEST - 20)[:60] in "".join(parsed(page_of(task)).itertext())


def test_values_of_other_programs_do_no_harm(path: Path, database: Any, story: SimpleNamespace) -> None:
    for odd in ("no time", "<b>", b"\xff\xfe", 7, "9999-99-99 00:00:00.000000+00:00"):
        for sql in (
            "UPDATE node SET status = ?, last_seen = ?",
            "UPDATE result SET status = ?, assigned_at = ?, started_at = ?1, log = ?1",
            "UPDATE task SET created_at = ?, image = ?",
        ):
            database.execute_sql(sql, [odd, odd])
        for name, text in every_page(database).items():
            assert parsed(text) is not None and "<b>" not in text, (name, odd)


def test_a_file_needs_nothing_else_and_allows_nothing_else(example: Path) -> None:
    done = process.vserver("-d", example, "overview", "-o", "html", "page.html")
    assert (done.status, done.out) == (0, "") and "created page.html" in done.err
    text = Path("page.html").read_text()
    tree = parsed(text)
    (policy,) = [each.get("content") for each in elements(tree, "meta") if each.get("http-equiv")]
    (style,) = elements(tree, "style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert not elements(tree, "script") and not elements(tree, "link") and not elements(tree, "a")
    assert "url(" not in style.text and "@import" not in style.text and "http" not in style.text
    assert Path("page.html").stat().st_mode & 0o777 == 0o600
    again = process.vserver("-d", example, "overview", "-o", "html", "page.html")
    assert again.status == 1 and "page.html exists already" in again.err and Path("page.html").read_text() == text
    usage = process.vserver("-d", example, "overview", "page.txt")
    assert usage.status == 2 and "-o html" in usage.err and not Path("page.txt").exists()
    shown = process.vserver("-d", example, "show", "task", "8", "-o", "html", PYTHONIOENCODING="ascii")
    assert shown.status == 0 and "H&#244;pital" in shown.out and words(parsed(shown.out)).count("Hôpital") >= 2


def test_without_jinja2_there_is_one_line(example: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['jinja2'] = None; import vserver; sys.argv[0] = 'vserver'; vserver.main()"
    for words_ in (["overview", "-o", "html"], ["show", "task", "8", "-o", "html"], ["start", "--port", "0"]):
        done = process.python("-c", code, "-d", example, *words_)
        assert done.status == 1 and done.out == "" and done.err.count("\n") == 1 and "jinja2" in done.err, words_
    assert process.python("-c", code, "-d", example, "overview").status == 0


def test_the_same_number_of_queries_reads_any_number_of_rows(database: Any, count_queries: list[str]) -> None:
    numbers = []
    for size in (2, 40):
        together = Collaboration(name=f"of {size}", organizations=Organization.get())
        together.save()
        for number in range(size):
            organization = Organization(name=f"{size} {number}", country="NL")
            organization.save()
            Node(name=f"{size} {number}", organization=organization, collaboration=together).save()
            task = Task(name="t", image="i", collaboration=together, initiator=organization)
            task.save()
            Result(task=task, organization=organization).save()
        count_queries.clear()
        dashboard.dashboard(database)
        numbers.append(len(count_queries))
    assert numbers[0] == numbers[1]


# What is seen


def test_a_sight_narrows_every_figure(consortium: Any) -> None:
    mine = 3
    tasks, nodes = Task.collaboration == mine, Node.collaboration == mine
    members = Collaboration.by_id(mine).get_organization_ids()
    results = Result.task.in_(Task.select(Task.id).where(tasks))
    sight = Sight(
        {
            Task: tasks,
            Node: nodes,
            Result: results,
            Collaboration: Collaboration.id == mine,
            Organization: Organization.id.in_(members),
            User: User.id == -1,
        }
    )
    found = dashboard.dashboard(consortium, sight)
    own = [each for each in Task.get() if each.collaboration_id == mine]
    assert found.overview.entities == {
        "organizations": len(members),
        "users": 0,
        "collaborations": 1,
        "nodes": len(Collaboration.by_id(mine).nodes),
        "tasks": len(own),
        "results": sum(len(each.results) for each in own),
    }
    assert sum(found.overview.tasks.values()) == len(own)
    assert [share.id for share in found.overview.collaborations] == [mine]
    assert {share.id: share.total for share in found.overview.organizations} == {
        id: sum(result.organization_id == id for each in own for result in each.results) for id in members
    }
    assert {row["id"] for row in (*found.unfinished.rows, *found.finished.rows)} <= {each.id for each in own}
    assert found.nodes.total == len(Collaboration.by_id(mine).nodes)
    text = documents.main_part(found, "x")
    assert not [
        each.name
        for each in Task.get()
        if each not in own and printable(each.name) in text and "Missing" not in each.name
    ]


def test_the_names_of_what_is_not_seen_are_ids(consortium: Any) -> None:
    sight = Sight({Task: Task.id == 8, Organization: Organization.id == 1, Node: Node.id == -1})
    with consortium.reading():
        found = entity_page.read_task(Task.by_id(8), sight)
    text = words(parsed(documents.standalone(found, "x")))
    assert "Kankerregister Noord" in text and "Hôpital" not in text and "(2)" in text
    assert "Registro" not in text and "initiator (5)" in text
    assert "parent (5)" in text and "Family" not in text


def test_what_is_not_seen_is_not_counted_and_has_no_words(consortium: Any) -> None:
    parent = Task.by_id(11)
    unseen, seen = parent.results[0], parent.results[-1]
    other = Collaboration(name="Secret", organizations=[Organization.by_id(seen.organization_id)])
    other.save()
    with consortium.rule_checks(False):
        for number in range(3):
            Task(name=f"child {number}", image="i", parent=parent, collaboration=other, initiator=1).save()
        for result in parent.results:
            result.started_at = result.finished_at = result.status = None
            result.save()
        parent.collaboration.encrypted = True
        parent.collaboration.organizations = []
        parent.collaboration.save()
        for organization in Organization.get():
            organization.public_key = None
            organization.save()

    def text(conditions: dict[Any, Any]) -> str:
        with consortium.reading():
            return words(parsed(documents.standalone(entity_page.read_task(Task.by_id(11), Sight(conditions)), "x")))

    whole = text({})
    assert re.search(r"children [1-9]", whole) and "results 4" in whole and "no public key" in whole
    some = text({Task: Task.id == 11, Result: Result.id == seen.id, Node: Node.id == -1})
    assert "children 0" in some and "results 1" in some and "0 of 1 result, 1 awaited" in some and "0/1" in some
    assert "no public key" not in some
    for model in (Organization, Node):
        assert "no public key" not in text({model: model.id == -1}), model
    assert "no public key" in text({Organization: Organization.id == unseen.organization_id})
    no_names = Sight({Collaboration: Collaboration.id == -1, Node: Node.id == -1})
    tasks = documents.main_part(dashboard.dashboard(consortium, no_names), "x")
    assert f"(collaboration {parent.collaboration_id})" in tasks
    assert not [each.name for each in Collaboration.get() if printable(each.name) in tasks]


# Drawing


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 0, 0), ("0%", "0%")),
        ((0, 4, 0), ("0%", "0%")),
        ((1, 4, 0), ("25%", "0%")),
        ((4, 4, 1), ("75%", "25%")),
        ((1, 1_000_000, 0), ("2%", "0%")),
        ((999_999, 1_000_000, 0), ("98%", "0%")),
    ],
)
def test_a_bar_is_full_only_when_all_is_finished(numbers: tuple[int, int, int], expected: tuple[str, str]) -> None:
    assert drawing.bar(*numbers) == expected


def test_a_time_line_has_one_scale() -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def after(minutes: int) -> datetime.datetime:
        return start + datetime.timedelta(minutes=minutes)

    lanes = [
        Lane(1, "a", 1, "completed", True, start, after(10), after(60)),
        Lane(2, "b", 2, "active", False, start, after(50), None),
        Lane(3, "c", 3, "pending", False, after(20), None, None),
        Lane(4, "d", 4, "completed", True, after(100), after(100), after(100)),
        Lane(5, "e", 5, None, False, None, None, None),
    ]
    found = drawing.time_line(lanes, after(100))
    assert found is not None and (found.first, found.length) == (start, datetime.timedelta(minutes=100))
    assert found.lines == [
        ("0%", "10%", "10%", "50%"),
        ("0%", "50%", "50%", "50%"),
        ("20%", "80%", "100%", "0%"),
        ("100%", "0%", "98%", "2%"),
        ("0%", "100%", "100%", "0%"),
    ]
    assert drawing.time_line(lanes[-1:], now()) is None


def test_only_the_ends_of_logs_are_read(database: Any, story: SimpleNamespace) -> None:
    for result, log in zip(
        story.results, ("x" * 5000 + "\n" + "\n".join(map(str, range(9))) + "\n\n", ""), strict=True
    ):
        result.log = log
        result.save()
    assert details.log_ends([each.id for each in story.results]) == {story.results[0].id: ["4", "5", "6", "7", "8"]}


# Colours


def colours(scheme: str) -> dict[str, str]:
    """Return the colours of a scheme: light, dark or print."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    light, dark, paper = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks)
    return {"light": light, "dark": light | dark, "print": light | paper}[scheme]


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_the_contrast_is_enough_for_text_and_for_bars(scheme: str) -> None:
    found = colours(scheme)
    states = [*TASK_STATUSES, "unknown", "late"]
    for text in ("ink", "faint", "link", *states):
        for ground in ("paper", "sheet"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    for drawn in ("completed", "active", "failed", "pending"):
        assert contrast(found[drawn], found["sheet"]) >= 3, drawn
        assert drawn == "pending" or contrast(found[drawn], found["rest"]) >= 3, drawn
    assert contrast(found["focus"], found["paper"]) >= 3 and contrast(found["faint"], found["sheet"]) >= 3


def test_every_colour_is_named_once_and_every_state_has_one() -> None:
    assert STYLE.isascii()  # so that a file in ASCII keeps its hash
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{}]*\{)", re.sub(r"/\*.*?\*/", "", rules, flags=re.DOTALL))
    assert set(re.findall(r"var\(--([\w-]+)\)", rules)) <= colours("light").keys()
    for state in (*TASK_STATUSES, "unknown"):
        assert f".state.{state} {{ color: var(--{state}); }}" in STYLE
