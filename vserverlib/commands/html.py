"""Pages as one file, for `-o html`: rendered by pages/, which needs jinja2."""

from __future__ import annotations

import sys
from typing import Any

from vserverlib import Error
from vserverlib.commands import printing
from vserverlib.messages import notify

NO_LIBRARY = "-o html needs jinja2, which is not installed: pip install jinja2, in vserver's environment"


def overview(database: Any, place: Any = None) -> None:
    """Print the overview of an open database as a page, or write it to a new file."""
    documents, pages = _pages()
    from vserverlib.queries import dashboard

    found = dashboard.dashboard(database)
    text = documents.standalone(pages.main(found, database.title), pages.name(found, database.title))
    _print(text) if place is None else _write(text, place)


def entity(database: Any, found: Any) -> None:
    """Print an entity of an open database as a page."""
    documents, _ = _pages()
    from vserverlib.pages import entity_page

    figures = entity_page.read(found)
    _print(documents.standalone(entity_page.main(figures, database.title), entity_page.name(figures)))


def _pages() -> tuple[Any, Any]:
    try:
        from vserverlib.pages import documents, overview_page
    except ImportError as error:
        if error.name not in ("jinja2", "markupsafe"):
            raise
        raise Error(NO_LIBRARY) from None
    return documents, overview_page


def _print(text: str) -> None:
    """Print a page. Characters that stdout lacks are written as HTML has them."""
    if not printing.is_unicode(sys.stdout):
        text = text.encode("ascii", "xmlcharrefreplace").decode()
    sys.stdout.write(text)


def _write(text: str, place: Any) -> None:
    from vserverlib import files

    files.refuse_taken(place)
    with files.new_text_file(place) as file:
        file.write(text)
    notify(f"created {files.shown(place)}, which only you can read; it needs no server, and no other file")
