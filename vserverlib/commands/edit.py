"""The commands that change entities, and those for what was changed: passwd, apikey, delete, log, undo.

Each parses, asks where that is due, calls one function, and tells what it did; vserver.py puts them into the program.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import click

from vserverlib import Error, pluralize, printable
from vserverlib.commands import completers, printing
from vserverlib.commands.options import JSON_OUTPUT, YES, Ordinal, Paging, Target, command, paging, require_yes
from vserverlib.messages import notify

SHOWN = 20  # rows of a page of the journal, and of those that are shown before they are taken back


class Id(click.ParamType[int]):
    """An id, as a list prints it."""

    name = "id"
    form = re.compile("-?[1-9][0-9]{0,18}")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a usage error where it is written in another way (003, +3, 1_000), or beyond 64 bits."""
        text = str(value)
        if not self.form.fullmatch(text) or abs(int(text)) >= 2**63:
            self.fail(f'"{printable(value)}" is not an id: write a whole number as lists do, such as 12', param, ctx)
        return int(text)


# Secrets


@command()
@click.argument("username", shell_complete=completers.usernames)
@click.option("--stdin", "piped", is_flag=True, help="Take the password from stdin: one line.")
@click.pass_obj
def passwd(target: Target, username: str, piped: bool) -> None:
    """Give a user a new password.

    It is typed twice and not shown, or piped in.
    """
    password = _piped_password() if piped else None
    with target.open():
        import models

        user = models.User.get_by_username(username)
        is_in_keycloak = _is_in_keycloak(user, "password")
        user.password = _typed_password(user) if password is None else password
        user.save()
        notify(f"{user.named()} has a new password")
        if is_in_keycloak:
            notify(f"the server that {user.named()} came from keeps passwords in Keycloak: set it there, too", "yellow")


def _is_in_keycloak(entity: Any, secret: str) -> bool:
    """Whether an entity was imported from a server of release 5, and its secret was not set since."""
    from vserverlib import hashing

    return bool(entity.stored_hash(secret) == hashing.KEYCLOAK)


def _typed_password(user: Any) -> str:
    if not sys.stdin.isatty():
        raise Error("there is no terminal to type the password at: pipe it in, with --stdin")
    prompt = f"New password of {user.named()}"
    typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt="The same again", err=True)
    return typed


def _piped_password() -> str:
    try:
        line, *more = sys.stdin.buffer.read().decode().splitlines() or [""]
    except UnicodeDecodeError:
        raise Error("what was piped in is not UTF-8 text: no password was set") from None
    if more:
        raise Error(f"--stdin takes one line, {len(more) + 1} were piped in: no password was set")
    return line


@command()
@click.argument("node", metavar="ID|NAME", shell_complete=completers.nodes)
@click.pass_obj
def apikey(target: Target, node: str) -> None:
    """Make a new API key for a node.

    It is printed this once. The old key is of no use any more. If a word is the id of one node and the name of another,
    write node/12 for the id.
    """
    with target.open() as database, database.atomic():
        import models
        from vserverlib import hashing
        from vserverlib.entities import finding

        found = finding.one(models.Node, node, to_change=True)
        is_in_keycloak = _is_in_keycloak(found, "api_key")
        found.api_key = key = hashing.new_key()
        found.save()
        click.echo(key)  # before the transaction ends: a key that nobody got to see is not stored
        sys.stdout.flush()
    notify(f"{found.named()} has a new API key, which is not shown again")
    if is_in_keycloak:
        notify(
            f"the server that {found.named()} came from keeps keys in Keycloak: this one does not work there", "yellow"
        )


# Deleting


@command("delete")
@click.argument("entity", shell_complete=completers.nouns)
@click.argument("words", metavar="ID|NAME...", nargs=-1, shell_complete=completers.labels)
@click.option("--dependents", is_flag=True, help="Take along all that hangs on them, after asking.")
@click.option("--dry-run", is_flag=True, help="Only show what would go along.")
@YES
@click.pass_obj
def delete_command(
    target: Target, entity: str, words: tuple[str, ...], dependents: bool, dry_run: bool, yes: bool
) -> None:
    """Delete one ENTITY, or several of a kind.

    Refused while something hangs on them: the users and nodes of an organization, the results of a task. All of it goes
    in one transaction, or nothing does. What was named, and takes nothing along, goes without a question: what is
    printed says how it is taken back. A word that is the id of one and the name of another is refused: write task/12.

    ENTITY is organization, user, collaboration, node, task or result.
    """
    from vserverlib.entities import deleting, finding
    from vserverlib.queries import kinds

    if not words and "/" not in entity:
        raise click.UsageError(f"which {printable(entity)}? Give ids or names, or both words as one: task/12")
    model, words = kinds.kind(entity.partition("/")[0] if not words else entity), words or (entity,)
    with target.open(read_only=dry_run):
        found = [finding.one(model, word, to_change=not dry_run) for word in words]
        plan = deleting.planned(found)
        if dry_run:
            _show_plan(plan, sys.stdout)
            return
        if dependents:
            require_yes("Delete all of this?", yes, lambda: _show_plan(plan, sys.stderr))
        done = deleting.delete(found, dependents, remedy="--dependents takes them along", expected=plan)
    notify(f"{done.summary()}; {target.take_back(done.change)}")


def _show_plan(plan: Any, stream: TextIO) -> None:
    from vserverlib.terminal import trees, views

    views.console(stream).print(trees.PlanTree(plan))


# The journal


@command("log")
@click.option("--entity", metavar="ENTITY", help="Only changes of this kind: tasks, users, memberships.")
@click.option("--id", metavar="N", type=Id(), help="Only those of one entity; with --entity.")
@click.option("--actor", metavar="NAME", help="Only those that this user has made.")
@click.option("--since", metavar="AGE|TIME", help="Only later ones: 2d (s, m, h, d, w), 2026-03-01.")
@click.option("--session", metavar="NAME", help="Only those of one session, as the log names it.")
@click.option("--change", "changes", metavar="N", type=Id(), multiple=True, help="Only this change. Repeatable.")
@paging(SHOWN, f"{SHOWN} in a table, else all", whole=True)
@JSON_OUTPUT
@click.option(
    "--prune", metavar="AGE|TIME", help="Forget what is older: 90d, 2026-03-01. It cannot be undone any more."
)
@click.option("--yes", is_flag=True, help="With --prune: do not ask.")
@click.pass_obj
def log_command(target: Target, /, output: str, paging: Paging, prune: str | None, yes: bool, **asked: Any) -> None:
    """Show who changed what, and when, field by field, the newest first.

    Changes by other programs are on record too, without a name. Secrets are told as changed, never shown.
    """
    if prune is not None:
        if paging != Paging(1, SHOWN, False) or output != "table" or _is_asked(asked):
            raise click.UsageError("--prune forgets all that is older, whatever it is: leave out the other options")
        _prune(target, prune, yes)
        return
    if yes:
        raise click.UsageError("--yes goes with --prune")
    with target.open(read_only=True) as database:
        from vserverlib.entities import journal

        _print_page(database, journal.conditions(**asked), output, paging)


def _print_page(database: Any, asked: list[Any], output: str, paging: Paging) -> None:
    """Print one page of the entries that fit, or all of them; tell how many there are beside those."""
    from vserverlib.entities import journal

    end = None if paging.everything else paging.first + paging.size
    found = journal.entries(database, asked)
    number = _print_entries(itertools.islice(found, paging.first, end), output)
    if number and not next(found, None):
        return
    total = journal.total(database, asked)
    if total:
        printing.tell_of_pages(paging.first + number if number else 0, total, paging)
    elif output == "table":
        notify("nothing is on record")


def _is_asked(asked: dict[str, Any]) -> bool:
    return any(value not in (None, ()) for value in asked.values())


def _print_entries(entries: Iterator[Any], output: str) -> int:
    """Print entries, and return how many they were."""
    counter = itertools.count()
    passing = (entry for entry, _ in zip(entries, counter, strict=False))
    if output != "table":
        from vserverlib.entities import journal
        from vserverlib.queries import formats

        printing.write(formats.WRITERS[output], journal.as_rows(passing))
    else:
        from vserverlib.terminal import journal_screen, views

        console = views.console()
        for page in journal_screen.pages(passing):
            console.print(page)
    return next(counter)


def _prune(target: Target, older: str, yes: bool) -> None:
    from vserverlib.entities import journal

    journal.stored(older)  # what is no time is refused before the database is opened, and perhaps upgraded
    with target.open() as database:
        number = journal.count_before(database, older)
        if number:
            message = pluralize(number, "change")
            require_yes(f"Forget {message}, which cannot be undone any more?", yes)
            number = journal.prune(database, older)
        notify(f"forgot {pluralize(number, 'change')}")


@command("undo")
@click.argument("count", metavar="[N]", required=False, type=Ordinal())
@click.option("--change", metavar="ID", type=Id(), help="Take back this change, as the log numbers it.")
@click.option("--session", metavar="ID", help="Take back all of a session, as the log names it.")
@click.option("--force", is_flag=True, help="Take back also what was changed since.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def undo_command(
    target: Target, count: int | None, change: int | None, session: str | None, force: bool, yes: bool
) -> None:
    """Take back the last N changes, one without N.

    A change is all that one transaction did. What has changed since is refused. An undo is a change on record, too:
    --change takes it back; without a number, undo goes further back.
    """
    from vserverlib.entities import undoing

    undoing.require_one(count, change, session)
    with target.open() as database:
        ids = undoing.plan(database, count, change=change, session=session)
        require_yes(f"Take back {undoing.numbered(ids)}?", yes, lambda: _show_changes(target, database, ids))
        done = undoing.take_back(database, ids, force)
    notify(f"{done}; {target.take_back(done.change)}")
    for line in done.left_out.summary():
        notify(line, "yellow")


def _show_changes(target: Target, database: Any, ids: list[int]) -> None:
    """Show the first rows of changes on stderr, where somebody is asked about them, and how the others are seen."""
    from vserverlib.entities import journal, undoing
    from vserverlib.terminal import journal_screen, views

    asked = journal.conditions(changes=ids)
    shown = list(itertools.islice(journal.entries(database, asked), SHOWN))
    views.console(sys.stderr).print(journal_screen.Logbook(shown))
    more = journal.total(database, asked) - len(shown)
    if more:
        words = [word for id in ids[: undoing.MOST_TOLD] for word in ("--change", str(id))]
        notify(f"{pluralize(more, 'more row')}, to be seen by: {target.command('log', *words, '--page', '2')}")


COMMANDS = (passwd, apikey, delete_command, log_command, undo_command)
