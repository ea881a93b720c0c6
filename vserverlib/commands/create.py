"""The commands that assign fields: create and set.

assignments.py reads FIELD=VALUE, json_lines.py reads JSON lines; editor.py has `edit`. Each command is one transaction,
and so one change in the journal.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import click

from vserverlib import NotObeyed, printable, with_article
from vserverlib.commands import completers, passwords, printing
from vserverlib.commands.options import Target, command, several
from vserverlib.messages import few_warnings, notify

STDIN = "-"  # in place of NAME and fields: JSON lines
PASSWORD_STDIN = "--password-stdin"

DRY_RUN = click.option("--dry-run", is_flag=True, help="Only show what would change.")
OUTPUT = several(
    DRY_RUN,
    click.option("-o", "--output", type=click.Choice(["name", "json"]), help="Print the entity: its name, or JSON."),
)


class Options(NamedTuple):
    """The options of create. password: text from stdin; no_password: whether to ask for none."""

    if_not_exists: bool
    no_password: bool
    dry_run: bool
    output: str | None
    password: str | None = None


@command()
@click.argument("entity", shell_complete=completers.entities)
@click.argument(
    "words",
    metavar="[NAME] FIELD=VALUE...",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=completers.assignments,
)
@click.option("--if-not-exists", is_flag=True, help="Do nothing if it exists, so that a script can be repeated.")
@click.option(PASSWORD_STDIN, "piped", is_flag=True, help="Read the password of a user from stdin, as one line.")
@click.option("--no-password", is_flag=True, help="Create a user without a password, who cannot log in.")
@OUTPUT
@click.pass_obj
def create(
    target: Target,
    /,
    entity: str,
    words: tuple[str, ...],
    piped: bool,
    **options: Any,
) -> None:
    """Create an entity.

    NAME is its name, or a user's user name. VALUE is a text, number or time, null for none, @FILE for the text of a
    file (@@ for text that begins with @), or a link's id or name. `vserver list ENTITY --fields
    help` lists the fields.

    A user needs an organization, a node also a collaboration, a task a collaboration, a result a task and an
    organization: null stands for none.

    Asks for the password of a user, without showing it. Generates the API key of a node and prints it, once: alone on
    stdout, with -o json as api_key, with -o name on stderr. A node without NAME is named after its organization and
    collaboration.

    With - in place of NAME, reads JSON objects from stdin, one on each line, and creates all or none.

    ENTITY is organization, user, collaboration, node, task or result.

    $ vserver create organization Oslo country=Norway domain=oslo.example
    $ vserver create user kari organization=1 roles=Researcher --no-password
    $ vserver create node organization=1 collaboration=2 -o json
    """
    from vserverlib.entities import assignments
    from vserverlib.queries import kinds

    model, is_many = kinds.kind(entity), words == (STDIN,)
    how = Options(**options)
    _refuse_contradictions(model, how, piped, is_many)
    if is_many:
        return _create_many(target, model, how)
    asked = assignments.named(model, words)
    password = passwords.require(passwords.piped(PASSWORD_STDIN), PASSWORD_STDIN) if piped else None
    return _create_one(target, model, asked, how._replace(password=password))


def _refuse_contradictions(model: Any, how: Options, piped: bool, is_many: bool) -> None:
    if (piped or how.no_password) and model.noun != "user":
        raise click.UsageError(f"only users have passwords: leave out the option for {with_article(model.noun)}")
    if piped and (how.no_password or is_many):
        other = '"password" in each line' if is_many else "--no-password"
        raise click.UsageError(f"{PASSWORD_STDIN} and {other} exclude each other: choose one")
    _refuse_name_of_dry_run(how.dry_run, how.output)
    if is_many and model.noun == "node" and how.output is None and not how.dry_run:
        raise click.UsageError("several API keys on stdout would have no names: -o json prints each with its node")


def _refuse_name_of_dry_run(dry_run: bool, output: str | None) -> None:
    if dry_run and output == "name":
        raise click.UsageError("--dry-run shows changes: leave out -o, or use -o json")


# One entity


def _create_one(target: Target, model: Any, asked: Sequence[Any], how: Options) -> None:
    from vserverlib.entities import assignments

    with target.open(dry_run=how.dry_run) as database:
        entity = model()
        assignments.fill(entity, asked)
        assignments.link_new(entity, asked)
        found = assignments.existing(entity) if how.if_not_exists else None
        key = None
        if found is None:
            database.refuse_unplannable(entity)
            assignments.require_unique(entity)
            key = _secret(entity, asked, how)  # before the transaction: it waits for a person
        with transaction(database, how.dry_run) as changes:
            assignments.link_new(entity, asked)
            found = found or (assignments.existing(entity) if how.if_not_exists else None)
            if found is None:
                entity.save()
            shown = partial(_print, found or entity, None if found else key, how.output, how.dry_run, changes)
            target.once_written(database, shown)
        change = database.last_change
    if found is not None:
        _report_existing(target, found, assignments.differing(found, entity, asked))
    else:
        shown_once = ", whose API key is not shown again" if key else ""
        named = entity.named().removesuffix(" (not saved)")  # after a dry run
        report(target, f"created {named}{shown_once}", change, how.dry_run)


def _secret(entity: Any, asked: Sequence[Any], how: Options) -> str | None:
    """Assign the password of a user or the API key of a node; return the key."""
    from vserverlib import hashing
    from vserverlib.transfer import generated_credentials, json_lines

    if entity.noun == "user" and not how.no_password and "password" not in (each.name for each in asked):
        if how.dry_run:  # stands for the one that would be typed
            entity.password = generated_credentials.new_password()
        elif how.password is not None:
            entity.password = how.password
        else:
            remedy = f"{PASSWORD_STDIN}, or create the user with --no-password"
            entity.password = passwords.typed(f'Password for user "{printable(entity.username)}"', remedy)
    return json_lines.keyed(entity, asked, hashing.new_key)


def _report_existing(target: Target, found: Any, differing: Sequence[Any]) -> None:
    from vserverlib.entities import assignments

    words = [assignments.as_word(each) for each in differing]
    but = f"; what differs is set by: {target.command('set', f'{found.noun}/{found.id}', *words)}" if words else ""
    notify(f"{found.named()} exists: nothing was created{but}", "yellow" if words else "dim")


def listed(names: Sequence[str]) -> str:
    """Return names as words: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


# JSON lines


def _create_many(target: Target, model: Any, how: Options) -> None:
    from vserverlib import hashing
    from vserverlib.queries import listing
    from vserverlib.terminal import live_display
    from vserverlib.transfer import json_lines

    if sys.stdin.isatty():
        notify("type one JSON object on each line; Ctrl-D ends them")
    lines = json_lines.read(model, sys.stdin.buffer, how.no_password)
    with target.open(dry_run=how.dry_run) as database:
        with live_display.progress_bar(model.plural, len(lines)) as advance:
            filled = json_lines.hash_secrets(lines, hashing.new_key, advance)
        with transaction(database, how.dry_run) as changes:
            with few_warnings():
                done = list(json_lines.save(filled, how.if_not_exists))
            target.once_written(database, partial(_print_many, model, done, how, changes))
        change = database.last_change
    number = sum(entity is line.entity for line, (entity, _) in zip(filled, done, strict=True))
    existing = f"; {listing.pluralize(len(done) - number, model)} existed" if number < len(done) else ""
    if number:
        report(target, f"created {listing.pluralize(number, model)}{existing}", change, how.dry_run)
    else:
        notify(f"nothing was created{existing or ': stdin has no lines'}")


def _print_many(model: Any, done: Sequence[tuple[Any, str | None]], how: Options, changes: Callable[[], Any]) -> None:
    from vserverlib.queries import formats

    if how.dry_run:
        print_changes(changes(), how.output)
    elif how.output == "json":
        printing.write(formats.WRITERS["json"], (row(entity, key) for entity, key in done))
    elif how.output == "name":
        for entity, key in done:
            _print(entity, key, "name", False, changes)
    sys.stdout.flush()


# Changing


@command("set")
@click.argument("entity", shell_complete=completers.nouns)
@click.argument(
    "words",
    metavar="ID|NAME FIELD=VALUE...",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=completers.label_and_assignments,
)
@OUTPUT
@click.pass_obj
def set_command(target: Target, entity: str, words: tuple[str, ...], dry_run: bool, output: str | None) -> None:
    """Change fields of an entity.

    VALUE is a text, number or time, null for none, @FILE for the text of a file (@@ for text that begins with @), or a
    link's id or name. A list takes += and -= too:
    organizations+=Oslo adds to the organizations of a collaboration, roles-=Researcher removes a role from a user.
    `vserver passwd` and `vserver apikey` set secrets.

    ENTITY is organization, user, collaboration, node, task or result. ENTITY and ID can be one word: task/12.

    $ vserver set user anna.devries email=anna@kr-noord.example roles+=Researcher
    $ vserver set collaboration 1 organizations+=2 --dry-run
    $ vserver set task/12 description=null
    """
    from vserverlib.entities import assignments

    model, word, rest = chosen(target, entity, words)
    asked = assignments.assignments(model, rest)
    if not asked:
        raise click.UsageError(f"nothing to set: give FIELD=VALUE, such as {model.first_field()}=…")
    _refuse_name_of_dry_run(dry_run, output)
    with target.open(dry_run=dry_run) as database:
        with transaction(database, dry_run) as changes:
            found, names = _updated(model, word, asked)
            target.once_written(database, partial(_print, found, None, output, dry_run, changes))
        change = database.last_change
    report_update(target, found, names, change, dry_run)


def chosen(target: Target, entity: str, words: Sequence[str]) -> tuple[Any, str, Sequence[str]]:
    """Return the model, the id or name, and the other words of `ENTITY ID|NAME WORD…` or `ENTITY/ID WORD…`."""
    from vserverlib.entities.typed_values import encodable
    from vserverlib.queries import kinds

    if "/" in entity:
        return kinds.kind(entity.partition("/")[0]), encodable(entity), words
    model = kinds.kind(entity)
    if not words:
        raise target.which(model)
    return model, encodable(words[0]), words[1:]


def _updated(model: Any, word: str, asked: Sequence[Any]) -> tuple[Any, list[str]]:
    """Change an entity in the open transaction. Return it, and the names of what was changed."""
    from vserverlib.entities import assignments, finding

    found = finding.one(model, word, to_change=True)
    names = assignments.update(found, asked)
    if names:
        found.save()
    return found, names


def report_update(target: Target, found: Any, names: Sequence[str], change: int | None, dry_run: bool) -> None:
    """Say what was changed. names: of what was changed; change: its number in the journal."""
    if names:
        report(target, f"changed {listed(names)} of {found.named()}", change, dry_run)
    else:
        notify(f"nothing to change: {found.named()} has these values")


# Shared


def report(target: Target, done: str, change: int | None, dry_run: bool) -> None:
    """Say what was done, and how to undo it."""
    notify(f"dry run: would have {done}; nothing was written" if dry_run else f"{done}; {target.undo_hint(change)}")


@contextmanager
def transaction(database: Any, dry_run: bool) -> Iterator[Callable[[], Any]]:
    """One transaction, which a dry run rolls back. Yields a function that returns the rows changed so far.

    A value that a save would replace by another is an error: it was asked for, field by field.
    """
    from vserverlib.entities import journal

    with warnings.catch_warnings(), database.atomic() as opened:
        warnings.simplefilter("error", NotObeyed)
        start = journal.newest(database)
        yield lambda: journal.since(database, start)
        if dry_run:
            opened.rollback()


def _print(entity: Any, key: str | None, output: str | None, dry_run: bool, changes: Callable[[], Any]) -> None:
    """Print an entity, or its new key."""
    if dry_run:
        print_changes(changes(), output)
    elif output == "json":
        printing.document(row(entity, key), "json")
    elif output == "name":
        name = f"{entity.noun}/{_id(entity)}"
        if key:
            click.echo(f"API key of {name}: {key}", err=True)
        click.echo(name)
    elif key:
        click.echo(key)
    sys.stdout.flush()


def row(entity: Any, key: str | None) -> dict[str, Any]:
    """Return an entity as `show -o json` prints it, with the API key that was generated for it."""
    from vserverlib.queries import columns, listing

    (found,) = listing.of_entities([entity], columns.COLUMNS[type(entity)])
    return {**found, "id": _id(entity), **({"api_key": key} if key else {})}


def _id(entity: Any) -> int:
    """Return the id of an entity in the database that it is written to, which a plan gives at the end."""
    found: int = entity._meta.database.written_id(entity)
    return found


def print_changes(entries: Sequence[Any], output: str | None) -> None:
    """Print changed rows, field by field."""
    from vserverlib.entities import journal
    from vserverlib.terminal import journal_screen, views

    if output == "json":
        names = ("entity", "entity_id", "op", "changes")
        printing.document([{name: getattr(each, name) for name in names} for each in entries], "json")
    elif entries:
        views.console().print(journal_screen.DryRun([journal.with_names(each) for each in entries]))


COMMANDS = (create, set_command)
