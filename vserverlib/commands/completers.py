"""What Tab offers on a command line: entities, fields, filters, ids, names, files.

Each function here is what click calls a `shell_complete`: given the context, the parameter and what is typed of it, it
returns what that may become. The kinds of entities are known without Peewee, fields without a database; ids and names
are read from it by an index, 50 at most. Nobody can read an error while typing: where something is amiss, nothing is
offered.

shell_completion.py owns how a shell asks and how text is escaped for it; completion.py what Tab offers in Python.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vserverlib import Error, addresses

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

ENTITIES = ("organization", "user", "collaboration", "node", "task", "result")  # models.ENTITIES, without Peewee

Offers = list["CompletionItem[str]"]
Completer = Callable[[click.Context, click.Parameter, str], Offers]


class Command(click.Command):
    """A command whose options may have a value that begins with a minus: to click alone, --sort -name is an option."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> Offers:
        """Return what an option that has no value yet offers, else the options. ctx.obj: the words before, if known."""
        last = ctx.obj[-1] if ctx.obj else ""
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and last in param.opts and not (param.is_flag or param.count):
                return param.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)


def silent(complete: Callable[[click.Context, str], Iterable[CompletionItem[str]]]) -> Completer:
    """Make a completer of a function that may fail because of what was typed, or of the database: it offers nothing."""

    @functools.wraps(complete)
    def quiet(ctx: click.Context, param: click.Parameter, incomplete: str) -> Offers:
        try:
            return list(complete(ctx, incomplete))
        except Exception as error:
            if not _is_foreseen(error):
                raise
            return []

    return quiet


def _is_foreseen(error: Exception) -> bool:
    import sqlite3

    from vserverlib.drivers import peewee

    return isinstance(error, Error | OSError | sqlite3.Error | peewee.PeeweeException)


def _items(texts: Iterable[str], typed: str, start: str = "", **more: Any) -> Offers:
    """Return those of some texts that begin with what is typed, `start` before each. texts: a dict tells of each."""
    from click.shell_completion import CompletionItem

    message = texts if isinstance(texts, dict) else dict.fromkeys(texts)
    return [CompletionItem(start + text, help=message[text], **more) for text in message if text.startswith(typed)]


# Entities, and files


@silent
def plurals(ctx: click.Context, typed: str) -> Offers:
    """Offer the kinds of entities, as `list` takes them."""
    return _items([f"{noun}s" for noun in ENTITIES], typed)


@silent
def nouns(ctx: click.Context, typed: str) -> Offers:
    """Offer the kinds of entities, as `show` takes them, and after a slash their ids: task/12."""
    noun, slash, _ = typed.partition("/")
    return _labels(ctx, noun, typed) if slash else _items(ENTITIES, typed)


@silent
def files(ctx: click.Context, typed: str) -> Offers:
    """Have the shell offer files."""
    return _items([typed], typed, type="file")


# Fields


def _model(ctx: click.Context) -> Any:
    """Return the model of the ENTITY of a command. click does not tell it apart while an option has no value yet."""
    from vserverlib.queries import kinds

    return kinds.kind(ctx.params.get("entity") or next(iter(ctx.args), ""))


@silent
def fields(ctx: click.Context, typed: str) -> Offers:
    """Offer the next field of a list of them, a,b: those to be shown."""
    from vserverlib.terminal import filter_completion

    before, comma, path = typed.rpartition(",")
    more = {} if comma else {"help": "tells which fields there are"}
    found = {**filter_completion.fields(_model(ctx), path), **more}
    return _items({name: found[name] for name in found if name not in before.split(",")}, path, before + comma)


@silent
def order(ctx: click.Context, typed: str) -> Offers:
    """Offer the next field of a list of them, a,-b: those to sort by, downwards after a minus."""
    from vserverlib.terminal import filter_completion

    before, words = filter_completion.in_order(_model(ctx), typed)
    return _items(words, typed[len(before) :], before)


# Filters


@silent
def where(ctx: click.Context, typed: str) -> Offers:
    """Offer a field with = behind it, the operators of one that is typed in full, or the values that it may have."""
    from vserverlib.terminal import completion, filter_completion

    def stored(field: Any, start: str) -> list[str]:
        with _database(ctx):
            return completion.stored(field, start, exact=True)

    before, words = filter_completion.in_filter(_model(ctx), typed, stored)
    return _items(words, typed[len(before) :], before, **({} if before else {"open": True}))


# Ids and names


@contextmanager
def _database(ctx: click.Context) -> Iterator[None]:
    """Open the database that the command line names so far. The shell has not put in what ~ and $HOME stand for."""
    from vserverlib.opening import opener

    named = ctx.find_root().params.get("database")
    database = opener.open_without_waiting(
        os.path.expanduser(os.path.expandvars(named)) if named else addresses.DEFAULT
    )
    try:
        yield
    finally:
        database.close()


def _labels(ctx: click.Context, noun: str, typed: str) -> Offers:
    """Offer names and ids that begin so. A name that would be taken for an option is left out."""
    from vserverlib.queries import kinds
    from vserverlib.terminal import completion

    model = kinds.kind(noun)
    reference = next((f"{word}/" for word in (model.noun, model.plural) if typed.startswith(f"{word}/")), "")
    with _database(ctx):
        field = None if reference else model.name_field()
        names = [] if field is None else completion.stored(field, typed, exact=True)
        ids = completion.ids(model, typed.removeprefix(reference))
    plain = [name for name in names if not name.startswith("-")]
    found = [*_items(plain, typed), *_items({str(id): name for id, name in ids.items()}, "", reference)]
    return found[: completion.MOST_NAMES]


@silent
def labels(ctx: click.Context, typed: str) -> Offers:
    """Offer ids and names of the ENTITY of the command."""
    return _labels(ctx, _model(ctx).noun, typed)


@silent
def tasks(ctx: click.Context, typed: str) -> Offers:
    """Offer ids and names of tasks."""
    return _labels(ctx, "task", typed)


@silent
def nodes(ctx: click.Context, typed: str) -> Offers:
    """Offer ids and names of nodes."""
    return _labels(ctx, "node", typed)


@silent
def usernames(ctx: click.Context, typed: str) -> Offers:
    """Offer the names of users."""
    import models
    from vserverlib.terminal import completion

    with _database(ctx):
        return _items(completion.stored(models.User.username, typed, exact=True), typed)
