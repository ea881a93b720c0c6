"""The templates, and what they may call. Every value that a template prints is text, whatever is in it.

Jinja2 escapes markup; before that, control characters, invisible ones and marks that turn the direction of a text
become visible escapes, as in the terminal.
"""

from __future__ import annotations

import datetime
import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vserverlib import pluralize, printable
from vserverlib.pages import drawing
from vserverlib.terminal import views
from vserverlib.terminal.views import LONGEST, Look

FOLDER = Path(__file__).parent
LOOK = Look()
LONGEST_NAME = 100  # columns of a name in a list


def main_part(template: str, **values: Any) -> Markup:
    """Return the main part of a page: all that differs after a change."""
    return Markup(_environment().get_template(template).render(**values))


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_as_text,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(
        ago=lambda last, moment: views.ago(last, moment, LOOK),
        bar=drawing.bar,
        is_time=lambda value: isinstance(value, datetime.datetime),
        minutes=lambda moment: views.as_text(moment, "minutes"),
        pluralize=pluralize,
        short=lambda value: LOOK.cut(LOOK.value(value), LONGEST_NAME),
        sign=LOOK.sign,
        span=views.span,
        state_of=lambda status: views.state_of(status) or "unknown",
        value=LOOK.value,
    )
    return made


def _as_text(value: Any) -> Any:
    return value if isinstance(value, Markup) else printable(value, LONGEST)


@functools.cache
def static(name: str) -> str:
    """Return the text of a file in static/."""
    return (FOLDER / "static" / name).read_text(encoding="utf-8")
