"""Printing data to stdout: rows, one document, pages of a list.

formats.py owns the formats for programs, views.py the tables.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, TextIO

import click

from vserverlib.messages import notify


class Paging(NamedTuple):
    """The rows to print: a page, counted from 1, of `size` rows, or all."""

    page: int
    size: int
    everything: bool

    @property
    def first(self) -> int:
        """Return the index of the first row, counted from 0."""
        return (self.page - 1) * self.size


def paged() -> Any:
    """Return a block whose output goes through a pager if it is longer than the screen: see terminal/pager.py."""
    if not sys.stdout.isatty() or click.get_current_context().find_root().params["no_pager"]:
        return contextlib.nullcontext(SimpleNamespace(has_quit=False))
    from vserverlib.terminal import pager

    return pager.paged()


def pages(found: Iterator[Any], output: str, wide: bool = False) -> Any:
    """Print pages one after another, and return the last one."""
    last: Any = None

    def each() -> Iterator[Any]:
        nonlocal last
        for last in found:  # noqa: UP028  # keeps the last one
            yield last

    if output != "table":
        from vserverlib.queries import formats

        write(formats.WRITERS[output], (row for page in each() for row in page.rows))
    else:
        from vserverlib.terminal import views

        console = views.console(width=views.UNLIMITED if wide else None)
        for page in each():
            if page.rows:
                console.print(views.Listing(page, every_column=wide))
    return last


def write(writer: Any, rows: Iterable[Any]) -> None:
    """Print rows one by one with a writer of formats.WRITERS."""
    sys.stdout.writelines(writer(rows, plain_ascii=not is_unicode(sys.stdout)))


def counts(rows: list[dict[str, Any]], output: str) -> None:
    """Print rows of a name and numbers."""
    from vserverlib.queries import formats
    from vserverlib.terminal import views

    if output == "table":
        if rows:
            views.console().print(views.figures(rows))
    else:
        write(formats.WRITERS[output], rows)


def credentials(generated: list[Any]) -> None:
    """Show generated passwords and keys on stderr, because stdout often goes to files and logs."""
    if generated:
        from vserverlib.terminal import views

        notify("generated these passwords and API keys, which are not shown again:", "yellow")
        views.console(sys.stderr).print(views.credentials_table(generated))
        sys.stderr.flush()


def document(value: Any, output: str) -> None:
    """Print one document for programs."""
    from vserverlib.queries import formats

    text = formats.DOCUMENTS[output](value, plain_ascii=not is_unicode(sys.stdout))
    sys.stdout.write(text.rstrip("\n") + "\n")


def hint_at_more(page: Any, paging: Paging, where: Sequence[str], search: str | None, sort: str | None) -> None:
    """Say how to see the next page of a list, or why this one is empty. where, search, sort: the query's."""
    if page.total:
        newest = "" if sort or page.first else "; --newest begins with the newest"
        hint_at_pages(page.first + len(page.rows) if page.rows else 0, page.total, paging, newest)
    else:
        _notify_empty(page.model, where, search)


def _notify_empty(model: Any, where: Sequence[str], search: str | None) -> None:
    notify(f"no {model.plural}{' match' if where or search else ''}")
    if model.noun == "result" and any(text.strip().startswith("status") for text in where):
        notify("a result's status is the text that the server stored; filter by its state, as in state=failed")


def hint_at_pages(end: int, total: int, paging: Paging, more: str = "") -> None:
    """Say how to see the next page, or that this one is empty. end: the number of its last row, 0 if empty."""
    if not end:
        notify(f"there is no page {paging.page:,}: the last page is {-(-total // paging.size):,}")
    elif end < total:
        notify(f"{total - end:,} more: --page {paging.page + 1}, or --all{more}")


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream can show any character."""
    return str(stream.encoding or "").lower().startswith("utf")
