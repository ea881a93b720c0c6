"""Pages as one file, for `-o html`: rendered by pages/, which needs jinja2."""

from __future__ import annotations

import sys
from typing import Any

from vserverlib import Error
from vserverlib.commands import options, printing
from vserverlib.messages import notify

NO_LIBRARY = "-o html needs jinja2, which is not installed: pip install jinja2, in vserver's environment"


OUTPUT = options.output("json", "yaml", "html")


def overview(database: Any, place: Any = None) -> None:
    """Print the overview of an open database as a page, or write it to a new file."""
    documents = _documents()
    from vserverlib.queries import dashboard

    text = documents.standalone(dashboard.dashboard(database), database.title)
    _print(text) if place is None else _write(text, place)


def entity(database: Any, found: Any) -> None:
    """Print an entity of an open database as a page."""
    documents = _documents()
    from vserverlib.pages import entity_page

    _print(documents.standalone(entity_page.read(found), database.title))


def _documents() -> Any:
    try:
        from vserverlib.pages import documents
    except ImportError as error:
        if error.name not in ("jinja2", "markupsafe"):
            raise
        raise Error(NO_LIBRARY) from None
    return documents


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
