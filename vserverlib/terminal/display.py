"""What is shown of an object: which have a view of ours, as text at a prompt, as HTML in a notebook.

An entity is a panel, a list of entities a table; other objects are drawn by the function that is registered for their
type. How these look is views.py's and panels.py's. In a notebook it is the same drawing, in a font whose letters are of
one width.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import Any

from vserverlib.entities import sequences
from vserverlib.entities.entity import Entity
from vserverlib.entities.lists import EntityList
from vserverlib.entities.relations import MemberList

IN_A_NOTEBOOK = 100  # columns
FONT = "Menlo, 'DejaVu Sans Mono', Consolas, 'Courier New', monospace"
TEXT = re.compile(r"(?<=>)[^<]+")  # what is not a tag
HTML = f'<pre style="white-space: pre; overflow-x: auto; line-height: normal; font-family: {FONT}">{{code}}</pre>'


_drawn: dict[type, Callable[[Any], Any]] = {}


def register(kind: type, draw: Callable[[Any], Any]) -> None:
    """Have the objects of a type be drawn by a function, which returns what rich draws."""
    _drawn[kind] = draw


def _draw(obj: Any) -> Callable[[Any], Any] | None:
    """Return what draws an object that is neither an entity nor a list of entities; None if nothing does."""
    return _drawn.get(type(obj)) or _of_entities().get(type(obj))


@functools.cache
def _of_entities() -> dict[type, Callable[[Any], Any]]:
    """Return what draws the answers of `entities/`. Imported with the first object that is shown, not at the start."""
    from vserverlib.entities.checks import Findings
    from vserverlib.entities.journal import Log
    from vserverlib.entities.undoing import Undone
    from vserverlib.terminal import check_report, journal_screen

    return {Findings: check_report.Report, Log: journal_screen.of, Undone: Undone.summary}


def is_viewed(obj: Any) -> bool:
    """Whether an object has a view of ours: an entity, a list of entities of one kind, or a type that has one."""
    if _draw(obj) is not None:
        return True
    if isinstance(obj, EntityList):
        return obj._row_type is None  # else it gives tuples or dicts
    if isinstance(obj, list | tuple):
        return bool(obj) and isinstance(obj[0], Entity) and all(type(entity) is type(obj[0]) for entity in obj)
    return isinstance(obj, Entity | MemberList)


def renderable(obj: Any) -> Any:
    """Return what rich draws of an object that is_viewed."""
    from vserverlib.terminal import panels, views

    if draw := _draw(obj):
        return draw(obj)
    return panels.entity_panel(obj) if isinstance(obj, Entity) else views.entity_table(obj)


def text(obj: Any, *, color: bool, width: int | None = None) -> str:
    """Return what a terminal shows of an object that is_viewed, in the width of stdout unless one is given."""
    from vserverlib.terminal import views

    return views.render(renderable(obj), width=width, color=color).rstrip("\n")


def bundle(obj: Any) -> dict[str, str]:
    """Return an object that is_viewed as a notebook shows it: MIME types, and the text of each."""
    from vserverlib.terminal import views

    console = views.target(io.StringIO(), IN_A_NOTEBOOK, color=True, record=True)
    console.print(renderable(obj))
    plain = console.export_text(clear=False).rstrip("\n")
    page = console.export_html(inline_styles=True, code_format=HTML)
    return {"text/plain": plain, "text/html": TEXT.sub(lambda found: _in_columns(found[0]), page)}


def _in_columns(text: str) -> str:
    """Return a text whose wide letters are given two columns each: another font has them in another width."""
    return text if text.isascii() else "".join(map(_in_its_columns, text))


def _in_its_columns(char: str) -> str:
    from rich.cells import cell_len

    columns = cell_len(char)
    style = f"display: inline-block; width: {columns}ch; overflow: hidden; vertical-align: bottom"
    return char if columns == 1 or char.isascii() else f'<span style="{style}">{char}</span>'


sequences.notebook_views.append(lambda obj: bundle(obj) if is_viewed(obj) else None)
