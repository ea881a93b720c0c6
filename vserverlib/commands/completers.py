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
from vserverlib.databases.registry import ENTITIES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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


def _fields(model: Any, path: str) -> dict[str, str]:
    """Return what can be asked for where this path ends, and what each is: of a model, or of what its links lead to."""
    from vserverlib.queries import columns

    links, _, _ = path.rpartition(".")
    for name in links.split(".") if links else ():
        model = {link.name: link.rel_model for link in model._meta.refs}.get(name)
        if model is None:
            return {}
    start = f"{links}." if links else ""
    return {start + column.name: column.about for column in columns.known(model)}


@silent
def fields(ctx: click.Context, typed: str) -> Offers:
    """Offer the next field of a list of them, a,b: those to be shown."""
    before, comma, path = typed.rpartition(",")
    more = {} if comma else {"help": "tells which fields there are"}
    return _listed({**_fields(_model(ctx), path), **more}, before + comma, path)


@silent
def order(ctx: click.Context, typed: str) -> Offers:
    """Offer the next field of a list of them, a,-b: those to sort by, downwards after a minus."""
    before, comma, path = typed.rpartition(",")
    minus = "-" if path.startswith("-") else ""
    return _listed(_fields(_model(ctx), path.removeprefix("-")), before + comma + minus, path.removeprefix("-"))


def _listed(fields: dict[str, str], before: str, typed: str) -> Offers:
    """Offer fields that are not in a list yet."""
    given = {word.strip(" -") for word in before.split(",")}
    return _items({name: about for name, about in fields.items() if name not in given}, typed, before)


# Filters


@silent
def where(ctx: click.Context, typed: str) -> Offers:
    """Offer a field with = behind it, the operators of one that is typed in full, or the values that it may have."""
    from vserverlib.entities import filters

    model, found = _model(ctx), filters.FORM.fullmatch(typed)
    if found:
        return _items(_values(ctx, model, found[1], found[3]), found[3], typed[: found.start(3)])
    known = _fields(model, typed)
    ends = filters.operators(model, typed) if typed in known else ()
    longer = {f"{name}=": about for name, about in known.items() if name != typed}
    return _items({**{typed + end: "" for end in ends}, **longer}, typed, open=True)


def _values(ctx: click.Context, model: Any, path: str, typed: str) -> list[str]:
    """Return values to compare with: all of them where they are few, names where an index has them."""
    from vserverlib.entities import filters
    from vserverlib.terminal import completion

    choices = filters.choices(model, path)
    if choices:
        return list(choices)
    field = filters.indexed(model, path)
    if field is None:
        return []
    quote = typed[:1] if typed[:1] in ("'", '"') else ""
    with _database(ctx):
        names = completion.stored(field, typed.removeprefix(quote), exact=True)
    return [f"{quote}{name}{quote}" if quote else filters.written(name) for name in names]


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
