"""What a notebook shows of an object: the same as the prompt, as HTML that runs nothing."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import process
from IPython.core.interactiveshell import InteractiveShell

from models import Organization, Task
from vserverlib.terminal import display

KINDS = ["sqlite"]  # what is shown of an entity has nothing to do with where it is kept


def text_of(page: str) -> str:
    """Return what a browser shows of HTML that is one <pre>."""
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
    bundle = objects[what]._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == display.text(objects[what], color=False, width=display.IN_A_NOTEBOOK)
    assert text_of(bundle["text/html"]).rstrip("\n") == bundle["text/plain"]
    assert bundle["text/html"].startswith("<pre style=")


def test_ipython_takes_it(story: SimpleNamespace) -> None:
    shown, _ = InteractiveShell().display_formatter.format(Task.get())
    assert "average" in shown["text/html"] and "average" in shown["text/plain"]


def test_nothing_of_a_name_is_html(database: Any) -> None:
    Organization(name="<script>alert(1)</script><b>&amp;", domain="[red]x[/]").save()
    bundle = display.bundle(Organization.get())
    assert set(re.findall(r"<(\w+)", bundle["text/html"])) <= {"pre", "span"}
    assert "<script>alert(1)</script><b>&amp;" in text_of(bundle["text/html"])
    assert "[red]x[/]" in bundle["text/plain"]


def test_rows_that_are_no_entities_are_left_to_ipython(story: SimpleNamespace) -> None:
    assert Task.select(Task.id).tuples()._repr_mimebundle_() is None


def test_a_notebook_that_loads_the_extension_shows_tables(example: Path) -> None:
    code = """
from IPython.core.interactiveshell import InteractiveShell
from models import Organization, connect
connect("vserver.db")
notebook = InteractiveShell.instance()
shown = lambda: sorted(notebook.display_formatter.format(Organization.get())[0])
print(shown())
notebook.run_line_magic("load_ext", "vserver")
print(shown())
"""
    done = process.python("-c", code)
    assert done.out.splitlines() == ["['text/plain']", "['text/html', 'text/plain']"], done.err
