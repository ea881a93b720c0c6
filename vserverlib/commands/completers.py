"""Completions for a command line: entities, fields, filters, ids, names, files.

Each function is a `shell_complete` of click: it takes the context, the parameter and the incomplete word, and returns
completions. Entities are completed without Peewee, fields without a database, ids and names by an index, at most 50.
Case is ignored: a name in another case is found by reading the table.
After an error there are no completions, because a message would break into the line that is being typed.

shell_completion.py owns how a shell asks and how text is escaped for it; completion.py owns completion in Python.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vserverlib import Error, addresses
from vserverlib.commands.help_page import TOPICS, HelpPage
from vserverlib.databases.registry import ENTITIES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

TYPED = "vserver.typed"  # in the meta of a context: the words after the command
Completions = list["CompletionItem[str]"]
Completer = Callable[[click.Context, click.Parameter, str], Completions]


class Command(HelpPage):
    """A command whose options take values that begin with a minus: click alone reads --sort -name as two options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> Completions:
        """Return the completions of an option that still needs its value, else the options.

        ctx.obj: the words before, if known.
        """
        last = ctx.obj[-1] if ctx.obj else ""
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and last in param.opts and not (param.is_flag or param.count):
                return param.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)


def silent(complete: Callable[[click.Context, str], Iterable[CompletionItem[str]]]) -> Completer:
    """Return a completer that has no completions when the function fails on its input or on the database."""

    @functools.wraps(complete)
    def quiet(ctx: click.Context, param: click.Parameter, incomplete: str) -> Completions:
        try:
            return list(complete(ctx, incomplete))
        except Exception as error:
            if not _is_expected(error):
                raise
            return []

    return quiet


def _is_expected(error: Exception) -> bool:
    import sqlite3

    from vserverlib.drivers import peewee

    return isinstance(error, Error | OSError | sqlite3.Error | peewee.PeeweeException)


def _items(texts: Iterable[str], typed: str, start: str = "", **more: Any) -> Completions:
    """Return the texts that begin with `typed`, ignoring case, each after `start`.

    texts: a dict has a description for each.
    """
    from click.shell_completion import CompletionItem

    about = texts if isinstance(texts, dict) else dict.fromkeys(texts)
    folded = typed.casefold()
    return [
        CompletionItem(start + text, help=about[text], **more) for text in about if text.casefold().startswith(folded)
    ]


# Entities, and files


@silent
def plurals(ctx: click.Context, typed: str) -> Completions:
    """Complete an entity in the plural, for `list`."""
    return _items([f"{noun}s" for noun in ENTITIES], typed)


@silent
def nouns(ctx: click.Context, typed: str) -> Completions:
    """Complete an entity in the singular, for `show`; after a slash, its ids: task/12."""
    noun, slash, _ = typed.partition("/")
    return _labels(ctx, noun, typed) if slash else _items(ENTITIES, typed)


@silent
def entities(ctx: click.Context, typed: str) -> Completions:
    """Complete an entity in the singular, for `create`."""
    return _items(ENTITIES, typed)


@silent
def prunable(ctx: click.Context, typed: str) -> Completions:
    """Complete what `prune` takes."""
    return _items(["tasks"], typed)


@silent
def recorded(ctx: click.Context, typed: str) -> Completions:
    """Complete an entity in the plural, or the memberships, for `log`."""
    return _items([*(f"{noun}s" for noun in ENTITIES), "memberships"], typed)


@silent
def rules(ctx: click.Context, typed: str) -> Completions:
    """Complete the code of a rule that a check can apply, with a description."""
    return _items(_rules(at_save=False), typed)


@silent
def explained(ctx: click.Context, typed: str) -> Completions:
    """Complete the code of any rule."""
    return _items(_rules(at_save=True), typed)


def _rules(*, at_save: bool) -> dict[str, str]:
    from vserverlib.entities import rules

    found = (rule for rule in rules.RULES if at_save or rule.when != rules.AT_SAVE)
    return {rule.code: rule.breaks.replace("`", "") for rule in found}


@silent
def files(ctx: click.Context, typed: str) -> Completions:
    """Let the shell complete files."""
    return _items([typed], typed, type="file")


@silent
def topics(ctx: click.Context, typed: str) -> Completions:
    """Complete a topic of `vserver help`, or a command."""
    program = ctx.find_root().command
    commands = program.commands if isinstance(program, click.Group) else {}
    about = {name: commands[name].get_short_help_str() for name in sorted(commands)}
    return _items({**TOPICS, **about}, typed)


# Fields


def _model(ctx: click.Context) -> Any:
    """Return the model of ENTITY, which click keeps in ctx.args while an option still needs its value."""
    from vserverlib.queries import kinds

    return kinds.kind(ctx.params.get("entity") or next(iter(ctx.args), ""))


@silent
def fields(ctx: click.Context, typed: str) -> Completions:
    """Complete the next of the fields to show: a,b."""
    from vserverlib.terminal import filter_completion

    before, comma, path = typed.rpartition(",")
    more = {} if comma else {"help": "list all fields"}
    found = {**filter_completion.fields(_model(ctx), path), **more}
    return _items({name: found[name] for name in found if name not in before.split(",")}, path, before + comma)


@silent
def order(ctx: click.Context, typed: str) -> Completions:
    """Complete the next of the fields to sort by, descending after a minus: a,-b."""
    from vserverlib.terminal import filter_completion

    before, words = filter_completion.in_order(_model(ctx), typed)
    return _items(words, typed[len(before) :], before)


# Filters


def _stored(field: Any, start: str) -> list[str]:
    """Return the values of a field that begin so; in another case, if none do in this one."""
    from vserverlib.terminal import completion

    return completion.exact(field, start) or completion.stored(field, start)


@silent
def where(ctx: click.Context, typed: str) -> Completions:
    """Complete a filter: a field and =, the operators of a whole field, or its values."""
    from vserverlib.terminal import filter_completion

    def stored(field: Any, start: str) -> list[str]:
        with _database(ctx):
            return _stored(field, start)

    before, words = filter_completion.in_filter(_model(ctx), typed, stored)
    return _items(words, typed[len(before) :], before, **({} if before else {"open": True}))


# Assignments


@silent
def assignments(ctx: click.Context, typed: str) -> Completions:
    """Complete FIELD=VALUE of a new entity: a field, or its values."""
    return _assignments(ctx, typed, ("=", "+="))


@silent
def label_and_assignments(ctx: click.Context, typed: str) -> Completions:
    """Complete an id or a name of the ENTITY, and then FIELD=VALUE."""
    entity = ctx.params.get("entity") or ""
    if "/" in entity or ctx.params.get("words"):
        return _assignments(ctx, typed, ("=", "+=", "-="))
    return _labels(ctx, _model(ctx).noun, typed)


def _assignments(ctx: click.Context, typed: str, signs: tuple[str, ...]) -> Completions:
    from vserverlib.queries import kinds
    from vserverlib.terminal import filter_completion

    model = kinds.kind(str(ctx.params.get("entity") or "").partition("/")[0])
    if "=" not in typed:
        return _items(filter_completion.in_assignment(model, typed, _stored, signs)[1], typed, open=True)
    with _database(ctx):
        before, words = filter_completion.in_assignment(model, typed, _stored, signs)
    return _items(words, typed[len(before) :], before)


# Ids and names


@contextmanager
def _database(ctx: click.Context) -> Iterator[None]:
    """Open the database of the command line. The shell has not expanded ~ and $HOME yet."""
    from vserverlib.opening import opener

    named = ctx.find_root().params.get("database")
    database = opener.open_without_waiting(
        os.path.expanduser(os.path.expandvars(named)) if named else addresses.DEFAULT
    )
    try:
        yield
    finally:
        database.close()


def _labels(ctx: click.Context, noun: str, typed: str) -> Completions:
    """Complete names and ids. Names that look like options are left out."""
    from vserverlib.queries import kinds
    from vserverlib.terminal import completion

    model = kinds.kind(noun)
    reference = next((f"{word}/" for word in (model.noun, model.plural) if typed.startswith(f"{word}/")), "")
    with _database(ctx):
        field = None if reference else model.name_field()
        names = [] if field is None else _stored(field, typed)
        ids = completion.ids(model, typed.removeprefix(reference))
    plain = [name for name in names if not name.startswith("-")]
    found = [*_items(plain, typed), *_items({str(id): name for id, name in ids.items()}, "", reference)]
    return found[: completion.MOST_NAMES]


@silent
def labels(ctx: click.Context, typed: str) -> Completions:
    """Complete an id or a name of the ENTITY of the command."""
    return _labels(ctx, _model(ctx).noun, typed)


@silent
def tasks(ctx: click.Context, typed: str) -> Completions:
    """Complete an id or a name of a task."""
    return _labels(ctx, "task", typed)


@silent
def results(ctx: click.Context, typed: str) -> Completions:
    """Complete an id of a result."""
    return _labels(ctx, "result", typed)


@silent
def nodes(ctx: click.Context, typed: str) -> Completions:
    """Complete an id or a name of a node."""
    return _labels(ctx, "node", typed)


@silent
def organizations(ctx: click.Context, typed: str) -> Completions:
    """Complete an id or a name of an organization."""
    return _labels(ctx, "organization", typed)


@silent
def collaborations(ctx: click.Context, typed: str) -> Completions:
    """Complete an id or a name of a collaboration."""
    return _labels(ctx, "collaboration", typed)


@silent
def images(ctx: click.Context, typed: str) -> Completions:
    """Complete the image of a task."""
    import models

    with _database(ctx):
        return _items(_stored(models.Task.image, typed), typed)


@silent
def usernames(ctx: click.Context, typed: str) -> Completions:
    """Complete a user name."""
    import models

    with _database(ctx):
        return _items(_stored(models.User.username, typed), typed)
