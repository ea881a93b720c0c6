"""Our objects in a notebook: the same views as at the prompt, as HTML that runs nothing."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.formatters import DisplayFormatter

from models import Organization, Task
from vserverlib.terminal import display

KINDS = ["sqlite"]  # display does not depend on the database


def text_of(page: str) -> str:
    """Return the text that a browser shows of a <pre>."""
    return html.unescape(re.sub(r"<[^>]*>", "", page))


@pytest.mark.parametrize("what", ["entity", "list", "members", "unsaved"])
def test_a_notebook_shows_what_the_prompt_shows(what: str, story: SimpleNamespace) -> None:
    for result in story.results:  # what still waits takes a moment longer each time
        result.started_at = result.finished_at = result.assigned_at
        result.save()
    objects = {
        "entity": story.task,
        "list": Task.get(),
        "members": story.collaboration.organizations,
        "unsaved": Organization(name="new"),
    }
    page = display.html(objects[what])
    assert text_of(page).rstrip("\n") == display.text(objects[what], color=False, width=display.IN_A_NOTEBOOK)
    assert page.startswith("<pre style=")


@pytest.fixture
def formatter() -> Iterator[DisplayFormatter]:
    """A display formatter as a notebook has it, with our views until the end of the test."""
    found = DisplayFormatter()
    undo = display.show_in(found, functools.partial(display.text, color=False))
    yield found
    undo()
    assert sorted(found.format(Organization.get())[0]) == ["text/plain"]
    assert found.format([1, (2, 3)])[0] == {"text/plain": "[1, (2, 3)]"}


def test_ipython_shows_our_objects_as_text_and_html(formatter: DisplayFormatter, story: SimpleNamespace) -> None:
    for viewed in (Task.get(), [Task.get(1)], story.iknl, story.collaboration.organizations, story.task.check()):
        shown, _ = formatter.format(viewed)
        assert shown["text/html"].startswith("<pre style="), viewed
        assert shown["text/plain"] == display.text(viewed, color=False), viewed


def test_ipython_shows_an_entity_inside_another_object_in_one_line(formatter: Any, story: SimpleNamespace) -> None:
    shown, _ = formatter.format({1: Task.get(1), 2: [Task.get(1)]})
    assert list(shown) == ["text/plain"] and shown["text/plain"].count("<Task 1") == 2


def test_lists_of_other_libraries_keep_their_html(formatter: DisplayFormatter) -> None:
    class Theirs(list[int]):
        def _repr_html_(self) -> str:
            return "<b>theirs</b>"

    assert formatter.format(Theirs([1]))[0]["text/html"] == "<b>theirs</b>"


def test_nothing_of_a_name_is_html(database: Any) -> None:
    Organization(name="<script>alert(1)</script><b>&amp;", domain="[red]x[/]").save()
    page = display.html(Organization.get())
    assert set(re.findall(r"<(\w+)", page)) <= {"pre", "span"}
    assert "<script>alert(1)</script><b>&amp;" in text_of(page)
    assert "[red]x[/]" in page


def test_rows_that_are_not_entities_are_left_to_ipython(formatter: DisplayFormatter, story: SimpleNamespace) -> None:
    assert list(formatter.format(Task.select(Task.id).tuples())[0]) == ["text/plain"]
