"""What is shown of an object: which have a view of ours, as text at a prompt, as HTML in a notebook.

An entity is a panel, a list of entities a table; other objects of ours have a `_view_`. How these look is views.py's
and panels.py's. In a notebook it is the same drawing, in a font whose letters are of one width.
"""

from __future__ import annotations

import io
import re
from typing import Any

from vserverlib.entities.lists import EntityList
from vserverlib.entities.orm import Entity
from vserverlib.entities.relations import MemberList

IN_A_NOTEBOOK = 100  # columns
FONT = "Menlo, 'DejaVu Sans Mono', Consolas, 'Courier New', monospace"
TEXT = re.compile(r"(?<=>)[^<]+")  # what is not a tag
HTML = f'<pre style="white-space: pre; overflow-x: auto; line-height: normal; font-family: {FONT}">{{code}}</pre>'


def is_viewed(obj: Any) -> bool:
    """Whether an object has a view of ours: an entity, a list of entities of one kind, or what has a `_view_`."""
    if hasattr(type(obj), "_view_"):
        return True
    if isinstance(obj, EntityList):
        return obj._row_type is None  # else it gives tuples or dicts
    if isinstance(obj, list | tuple):
        return bool(obj) and isinstance(obj[0], Entity) and all(type(entity) is type(obj[0]) for entity in obj)
    return isinstance(obj, Entity | MemberList)


def renderable(obj: Any) -> Any:
    """Return what rich draws of an object that is_viewed."""
    from vserverlib.terminal import panels, views

    if hasattr(type(obj), "_view_"):
        return obj._view_()
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
