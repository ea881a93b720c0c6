"""Whole documents around the main part of a page: as the server sends them, and as one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from markupsafe import Markup

from vserverlib.pages import entity_page, overview_page, rendering
from vserverlib.pages.entity_page import EntityFigures
from vserverlib.queries.dashboard import Dashboard

static = rendering.static
Figures = Dashboard | EntityFigures


class Frame(NamedTuple):
    """What the server adds to a page. user: who has logged in. events: the address of the event stream.

    big: in large type. other: the address of this page in the other size. onward: the address to go to at once.
    """

    user: str = ""
    events: str = ""
    big: bool = False
    other: str = ""
    onward: str = ""


def main_part(figures: Figures, title: str, link: str | None = None, query: str = "") -> Markup:
    """Return the main part of a page.

    title: of the database. link: the address before the id of a task; None: tasks are no links. query: after the id.
    """
    if isinstance(figures, Dashboard):
        return overview_page.main(figures, title, link, query)
    return entity_page.main(figures, title, link, query)


def name(figures: Figures, title: str) -> str:
    """Return the name of a page, for the tab of a browser."""
    return overview_page.name(figures, title) if isinstance(figures, Dashboard) else entity_page.name(figures)


def served(main: Markup, called: str, frame: Frame) -> str:
    """Return a page that the server sends, with links to its style sheet and script. called: its name."""
    return rendering.main_part("page.html", main=main, name=called, frame=frame, style=None, policy=None)


def standalone(figures: Figures, title: str) -> str:
    """Return a page as one file. It allows nothing but its own style sheet, which it names by a hash."""
    main, called = main_part(figures, title), name(figures, title)
    style = rendering.static("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    return rendering.main_part("page.html", main=main, name=called, frame=Frame(), style=Markup(style), policy=policy)


def log_in(wanted: str, message: str = "", username: str = "", big: bool = False) -> str:
    """Return the log-in page. wanted: the address to go to afterwards. message: why the last attempt failed."""
    main = rendering.main_part("log_in.html", wanted=wanted, message=message, username=username)
    return rendering.main_part("page.html", main=main, name="log in", frame=Frame(big=big), style=None, policy=None)


def notice(heading: str, text: str, big: bool = False, onward: str = "") -> str:
    """Return a page that says one thing, such as that a task does not exist. onward: the address to go to at once."""
    main = rendering.main_part("notice.html", heading=heading, text=text, onward=onward or "/")
    frame = Frame(big=big, onward=onward)
    return rendering.main_part("page.html", main=main, name=heading, frame=frame, style=None, policy=None)
