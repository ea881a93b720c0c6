"""How the commands print data to stdout: rows as they come, one thing, pages of a list.

What rows look like as text is formats.py's, as tables, views.py's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from vserverlib.commands.options import Paging
from vserverlib.messages import notify


def pages(found: Iterator[Any], output: str, wide: bool = False) -> Any:
    """Print pages one after the other, and return the last one."""
    last: Any = None

    def each() -> Iterator[Any]:
        nonlocal last
        for last in found:  # noqa: UP028  # which one was the last is what this is for
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
    """Print rows as one of formats.WRITERS writes them, as they come."""
    sys.stdout.writelines(writer(rows, plain_ascii=not is_unicode(sys.stdout)))


def counts(rows: list[dict[str, Any]], output: str) -> None:
    """Print rows of a name and numbers: as a table, or for programs."""
    from vserverlib.queries import formats
    from vserverlib.terminal import views

    if output == "table":
        if rows:
            views.console().print(views.figures(rows))
    else:
        write(formats.WRITERS[output], rows)


def handouts(made: list[Any]) -> None:
    """Show secrets that were made, on stderr: what is on stdout is kept in files and logs."""
    if made:
        from vserverlib.terminal import views

        notify("made these passwords and API keys, which are not shown again:", "yellow")
        views.console(sys.stderr).print(views.credentials_table(made))
        sys.stderr.flush()


def document(value: Any, output: str) -> None:
    """Print one thing for programs."""
    from vserverlib.queries import formats

    text = formats.DOCUMENTS[output](value, plain_ascii=not is_unicode(sys.stdout))
    sys.stdout.write(text.rstrip("\n") + "\n")


def tell_of_more(page: Any, paging: Paging, where: Sequence[str], search: str | None) -> None:
    """Tell how to see the next page of a list, or that there is none of that number. where, search: what it asked."""
    if page.total:
        tell_of_pages(page.first + len(page.rows) if page.rows else 0, page.total, paging)
    else:
        _tell_of_none(page.model, where, search)


def _tell_of_none(model: Any, where: Sequence[str], search: str | None) -> None:
    notify(f"there are no {model.plural}{' that fit' if where or search else ''}")
    if model.noun == "result" and any(text.strip().startswith("status") for text in where):
        notify("the status of a result is what a server wrote; what it comes to is its state, such as state=failed")


def tell_of_pages(end: int, total: int, paging: Paging) -> None:
    """Tell how to see the next page, or that there is none of that number. end: of what was printed, 0: nothing was."""
    if not end:
        notify(f"there is no page {paging.page:,}: the last one is {-(-total // paging.size):,}")
    elif end < total:
        notify(f"{total - end:,} more: --page {paging.page + 1}, or --all")


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream can show any character."""
    return str(stream.encoding or "").lower().startswith("utf")
