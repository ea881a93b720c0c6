"""The question before a command deletes or replaces data. commands/plan_session.py asks for plans."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from vserverlib import Error


class NotConfirmed(Error):
    """The answer to the question was not yes: nothing was changed."""


def require_yes(question: str, yes: bool, show: Callable[[], object] = lambda: None) -> None:
    """Ask at the terminal; an empty answer means no. Raises NotConfirmed after a no, or without a terminal.

    show: called first, to show details.
    """
    ctx = click.get_current_context(silent=True)
    target = None if ctx is None else ctx.obj
    if yes or (target and (target.yes or target.write or target.dry_run)):  # a plan has a question of its own
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NotConfirmed("no terminal for the confirmation: nothing was changed; --yes skips the question")
    show()
    if not click.confirm(question, default=False, err=True):
        raise NotConfirmed("nothing was changed")
