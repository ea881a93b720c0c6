"""The views of our objects: as text at a prompt, as HTML in a notebook.

An entity is a panel and a list of entities a table; objects of other types are drawn by the function registered for
their type. views.py and panels.py own the appearance. A notebook shows the same drawing in a monospaced font.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import Any

from models import ENTITIES
from vserverlib.entities.entity import Entity
from vserverlib.entities.lists import EntityList
from vserverlib.entities.relations import MemberList

IN_A_NOTEBOOK = 100  # columns
FONT = "Menlo, 'DejaVu Sans Mono', Consolas, 'Courier New', monospace"
TEXT = re.compile(r"(?<=>)[^<]+")  # between two tags
HTML = f'<pre style="white-space: pre; overflow-x: auto; line-height: normal; font-family: {FONT}">{{code}}</pre>'
# The results of functions, by name: their modules and views are imported with the first object that is displayed.
RESULTS = (
    "vserverlib.entities.checks.Findings",
    "vserverlib.entities.deleting.Plan",
    "vserverlib.entities.journal.Log",
    "vserverlib.entities.undoing.Undone",
    "vserverlib.queries.outcomes.Outcome",
    "vserverlib.queries.why.Why",
)

_drawn: dict[type, Callable[[Any], Any]] = {}


def register(kind: type, draw: Callable[[Any], Any]) -> None:
    """Have objects of a type drawn by a function, which returns a rich renderable."""
    _drawn[kind] = draw


def _draw(obj: Any) -> Callable[[Any], Any] | None:
    """Return the function that draws an object; None for entities, their lists and objects without a view."""
    return _drawn.get(type(obj)) or _draw_results().get(type(obj))


@functools.cache
def _draw_results() -> dict[type, Callable[[Any], Any]]:
    from vserverlib.entities.checks import Findings
    from vserverlib.entities.deleting import Plan
    from vserverlib.entities.journal import Log
    from vserverlib.entities.undoing import Undone
    from vserverlib.queries.outcomes import Outcome
    from vserverlib.queries.why import Why
    from vserverlib.terminal import check_report, journal_screen, outcome_view, why_report

    return {
        Findings: check_report.Report,
        Log: journal_screen.of,
        Outcome: outcome_view.OutcomeView,
        Plan: repr,
        Undone: Undone.summary,
        Why: why_report.WhyView,
    }


def is_viewed(obj: Any) -> bool:
    """Whether an object has a view: an entity, a list of entities of one type, or an object of a registered type."""
    if _draw(obj) is not None:
        return True
    if isinstance(obj, EntityList):
        return obj._row_type is None  # else its rows are tuples or dicts
    if isinstance(obj, list | tuple):
        return bool(obj) and isinstance(obj[0], Entity) and all(type(entity) is type(obj[0]) for entity in obj)
    return isinstance(obj, Entity | MemberList)


def renderable(obj: Any) -> Any:
    """Return the rich renderable of an object that is_viewed."""
    from vserverlib.terminal import panels, views

    if draw := _draw(obj):
        return draw(obj)
    return panels.entity_panel(obj) if isinstance(obj, Entity) else views.entity_table(obj)


def text(obj: Any, *, color: bool, width: int | None = None) -> str:
    """Return an object that is_viewed as text for a terminal, by default as wide as stdout."""
    from vserverlib.terminal import views

    return views.render(renderable(obj), width=width, color=color).rstrip("\n")


def html(obj: Any) -> str:
    """Return an object that is_viewed as HTML for a notebook."""
    from vserverlib.terminal import views

    console = views.target(io.StringIO(), IN_A_NOTEBOOK, color=True, record=True)
    console.print(renderable(obj))
    page = console.export_html(inline_styles=True, code_format=HTML)
    return TEXT.sub(lambda found: _in_columns(found[0]), page)


def _in_columns(text: str) -> str:
    """Return a text with each wide character in a box of two columns: its width depends on the font."""
    return text if text.isascii() else "".join(map(_in_its_columns, text))


def _in_its_columns(char: str) -> str:
    from rich.cells import cell_len

    columns = cell_len(char)
    style = f"display: inline-block; width: {columns}ch; overflow: hidden; vertical-align: bottom"
    return char if columns == 1 or char.isascii() else f'<span style="{style}">{char}</span>'


# In IPython


def show_in(formatter: Any, text: Callable[[Any], str]) -> Callable[[], None]:
    """Have a display formatter of IPython show our views; return a function that undoes it.

    text: returns an object that is_viewed as text.
    """
    undo = [_print_in(formatter.formatters["text/plain"], kind, text) for kind in _kinds()]
    pages = formatter.formatters["text/html"]
    for kind in _kinds():
        pages.for_type(kind, _as_html)
    undo += [functools.partial(pages.pop, kind, None) for kind in _kinds()]

    def undo_all() -> None:
        for each in undo:
            each()

    return undo_all


def _kinds() -> tuple[Any, ...]:
    return (*ENTITIES, EntityList, MemberList, list, tuple, *RESULTS, *_drawn)


def _print_in(plain: Any, kind: Any, text: Callable[[Any], str]) -> Callable[[], object]:
    def print_view(obj: Any, printer: Any, is_cycle: bool) -> None:
        """Print a view, unless the object is inside another one, such as a dict."""
        if len(printer.stack) == 1 and is_viewed(obj):
            printer.text(text(obj))
        else:
            before(obj, printer, is_cycle)

    is_builtin = kind in plain.type_printers
    before = plain.for_type(kind, print_view) or (lambda obj, printer, is_cycle: printer.text(repr(obj)))
    return functools.partial(plain.for_type, kind, before) if is_builtin else functools.partial(plain.pop, kind, None)


def _as_html(obj: Any) -> Any:
    own = getattr(obj, "_repr_html_", lambda: None)  # of another library's kind of list
    return html(obj) if is_viewed(obj) else own()
