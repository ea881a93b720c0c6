"""Our completions as a matcher of IPython's completer.

completion.py and value_completion.py find them; IPython displays them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from vserverlib.databases import current
from vserverlib.terminal import completion, value_completion


def matcher(names: Mapping[str, Any]) -> Callable[[CompletionContext], Any]:
    """Return a matcher for a namespace. It offers nothing while no database is open."""

    @context_matcher(identifier="vserver", priority=100)  # type: ignore[untyped-decorator]
    def ours(context: CompletionContext) -> Any:
        database = current.database.obj
        if database is None or database.is_closed():
            return SimpleMatcherResult(completions=[])
        lines = context.full_text.split("\n")
        before = "\n".join([*lines[: context.cursor_line], context.text_until_cursor])
        with _without_hooks(database):
            found = completion.complete(before, names) or value_completion.complete(before, names)
        return SimpleMatcherResult(completions=[]) if found is None else _result(found.typed, found.offers)

    return ours  # type: ignore[no-any-return]


@contextlib.contextmanager
def _without_hooks(database: Any) -> Iterator[None]:
    """Keep the queries of a completion out of --print-sql: the user did not ask for them."""
    hooks, database.query_hooks = database.query_hooks, []
    try:
        yield
    finally:
        database.query_hooks = hooks


def _result(typed: str, offers: Iterable[completion.Offer]) -> SimpleMatcherResult:
    """Return offers for IPython's completer, which takes an empty list as a reason to ask its other matchers."""
    found = [SimpleCompletion(text=offer.text, type=offer.kind) for offer in offers]
    nothing_else = found or [SimpleCompletion(text=typed)]
    return SimpleMatcherResult(completions=nothing_else, matched_fragment=typed, suppress=True, ordered=True)
